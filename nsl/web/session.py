"""What one user's session holds: the slide, the running job, the result.

Everything lives under keys that no widget owns, so it outlasts a change of page.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from nsl.errors import NslError
from nsl.web import limits

if TYPE_CHECKING:
    import anndata
    import numpy as np

    from nsl.slide import Slide
    from nsl.weights import Weights

# A session whose page was closed keeps its slide this long: 4 looks, a minute apart.
SWEEP_SECONDS, LOOKS_BEFORE_DELETION = 60, 4
# Streamlit forgets a session that has been away this long: nobody can come back to its run.
FORGOTTEN_SECONDS = 120
DEMO_NAME = "Demo slide (synthetic)"


@dataclass
class OpenSlide:
    """The slide a session works on: its file in a folder of the session's own, and what was read of it."""

    name: str
    """As the user knows it; never part of a path."""
    path: Path
    synthetic: bool
    size: tuple[int, int]
    format: str
    metadata_mpp: float | None
    notices: tuple[str, ...]
    thumbnail: "np.ndarray"

    def told(self, text: str) -> str:
        """A sentence about the file on disk, with the name the user knows."""
        return text.replace(self.path.name, self.name)


@dataclass
class Job:
    """A prediction in a thread of its own, which draws nothing; a fragment looks in on it.

    It begins when its turn among the runs of all sessions has come.
    """

    total: int = 0
    done: int = 0
    result: "anndata.AnnData | None" = None
    error: str | None = None
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    thread: threading.Thread | None = None
    is_stopped: bool = False
    turn: limits.Turn | None = None
    session_id: str | None = None
    away_since: float | None = None

    def start(self, work: Callable[[Callable[[int, int], None]], "anndata.AnnData"]) -> None:
        """Run `work`, giving it the function that takes tiles done and tiles in all."""
        context = get_script_run_ctx(suppress_warning=True)
        self.session_id = context.session_id if context else None
        self.turn = limits.line().join()
        self.thread = threading.Thread(target=self._run, args=[work], daemon=True)
        self.thread.start()

    @property
    def is_running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    @property
    def ahead(self) -> int:
        """How many other runs must end before this one begins."""
        return self.turn.ahead if self.turn else 0

    def _run(self, work: Callable) -> None:
        try:
            with self.turn:
                self.turn.wait(self._check)
                self.started = time.perf_counter()
                self.result = work(self._progress)
        except NslError as error:
            self.error = str(error)
        except MemoryError:
            self.error = "the slide needs more memory than this computer has; ask for larger tiles or fewer genes"
        except Exception as error:
            self.error = (
                f"the run stopped on a fault of the program ({type(error).__name__}: {error}); please report it"
            )
        self.seconds = time.perf_counter() - self.started

    def _progress(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self._check()

    def _check(self) -> None:
        """End the run where nobody waits for it any more."""
        if self.is_stopped:
            raise NslError("the run was stopped")
        if self.session_id is None or _is_connected(self.session_id):
            self.away_since = None
        elif self.away_since is None:
            self.away_since = time.monotonic()
        elif time.monotonic() - self.away_since > FORGOTTEN_SECONDS:
            raise NslError("the run was stopped because its page was closed; run again")


def get(key: str) -> Any:
    """A value of this session, None if not there yet."""
    return st.session_state.get(f"nsl.{key}")


def put(key: str, value: Any) -> None:
    """Keep a value for this session."""
    st.session_state[f"nsl.{key}"] = value


def is_running() -> bool:
    """Whether a prediction is under way."""
    job = get("job")
    return job is not None and job.is_running


def collect_result() -> None:
    """Keep the job that ended well, on whichever page the user is by then; an earlier result stays till then."""
    job = get("job")
    if job is not None and not job.is_running and job.result is not None:
        put("finished", job)


def take_upload(upload) -> bool:
    """Spool an uploaded file once and open it; the earlier slide stays if the new one cannot be opened.

    Returns whether the slide is a new one.

    Raises
    ------
    NslError : the file cannot be opened as a slide; again at every call while it is the one uploaded.
    """
    is_new = get("upload_id") != upload.file_id
    if is_new:
        put("upload_id", upload.file_id)
        path = folder() / f"{upload.file_id}{_suffix(upload.name)}"
        put("upload_error", None)
        try:
            path.write_bytes(upload.getbuffer())
            _adopt(upload.name, path, synthetic=False)
        except OSError as error:
            path.unlink(missing_ok=True)
            put("upload_error", NslError(f"{upload.name} cannot be stored ({error.strerror}); make room on the disk"))
        except NslError as error:
            put("upload_error", error)
    if get("upload_error"):
        raise get("upload_error")
    return is_new


def take_demo() -> None:
    """Make the synthetic slide and open it."""
    from nsl.demo import demo_slide

    path = folder() / "demo.tif"
    if not path.exists():
        demo_slide().save(path)
    put("upload_error", None)
    _adopt(DEMO_NAME, path, synthetic=True)


@st.cache_resource(show_spinner="Loading the weights")
def load_default_weights() -> "Weights":
    """The embedded weights, shared by all sessions; they are never changed."""
    from nsl.weights import load_weights

    return load_weights()


@st.cache_resource(show_spinner=False)
def warm_up() -> None:
    """Rehearse a run on a small slide, once a server and after the first page has gone out.

    The first user then waits for no import and no compiler.
    """
    threading.Thread(target=_rehearse, daemon=True).start()


def _rehearse() -> None:
    from nsl.demo import demo_slide
    from nsl.prediction import predict
    from nsl.slide import open_slide
    from nsl.weights import load_weights

    weights = load_weights()
    with tempfile.TemporaryDirectory(prefix="nsl-") as folder:
        path = Path(folder) / "rehearsal.tif"
        demo_slide(side_px=600).save(path)
        with open_slide(path) as slide:
            predict(slide, weights, genes=weights.genes[:1])


def reopen(slide: OpenSlide, mpp: float) -> "Slide":
    """A handle of its own on the session's slide, for one job."""
    from nsl.slide import open_slide

    return open_slide(slide.path, mpp)


def _adopt(name: str, path: Path, *, synthetic: bool) -> None:
    from nsl.slide import open_slide

    try:
        with open_slide(path) as slide:
            limits.check_size(path.name, slide.size)
            opened = OpenSlide(
                name=name,
                path=path,
                synthetic=synthetic,
                size=slide.size,
                format=slide.format,
                metadata_mpp=slide.mpp,
                notices=tuple(notice.replace(path.name, name) for notice in slide.notices),
                thumbnail=slide.thumbnail(),
            )
    except NslError as error:
        path.unlink(missing_ok=True)
        raise type(error)(str(error).replace(path.name, name)) from None
    before = get("slide")
    if before and before.path != path:
        before.path.unlink(missing_ok=True)
    if get("job"):
        get("job").is_stopped = True
    put("slide", opened)
    put("job", None)
    put("finished", None)


def folder() -> Path:
    """A folder of this session's own; it goes some minutes after the session, or with the server."""
    session_id = get_script_run_ctx().session_id
    folders = _folders()
    if session_id not in folders:
        folders[session_id] = tempfile.TemporaryDirectory(prefix="nsl-")
    return Path(folders[session_id].name)


@st.cache_resource(show_spinner=False)
def _folders() -> dict[str, tempfile.TemporaryDirectory]:
    """Folder of every session; Streamlit tells nobody that a session ended, so a thread looks."""
    folders: dict[str, tempfile.TemporaryDirectory] = {}
    threading.Thread(target=_sweep, args=[folders], daemon=True).start()
    return folders


def _sweep(folders: dict[str, tempfile.TemporaryDirectory]) -> None:
    """Delete the folder of every session that was away at several looks in a row; a reload may bring it back."""
    looks: dict[str, int] = {}
    while True:
        time.sleep(SWEEP_SECONDS)
        for session_id in list(folders):
            looks[session_id] = 0 if _is_connected(session_id) else looks.get(session_id, 0) + 1
            if looks[session_id] >= LOOKS_BEFORE_DELETION:
                folders.pop(session_id).cleanup()
                del looks[session_id]


def _is_connected(session_id: str) -> bool:
    """Whether the session's page is open."""
    return runtime.exists() and runtime.get_instance().is_active_session(session_id)


def _suffix(name: str) -> str:
    """The ending of an uploaded name where it is a plain one: OpenSlide tells some formats apart by it."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix[1:].isalnum() and len(suffix) <= 6 else ""
