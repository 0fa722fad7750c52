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

from nsl.errors import NslError

if TYPE_CHECKING:
    import anndata
    import numpy as np

    from nsl.slide import Slide
    from nsl.weights import Weights

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


@dataclass
class Job:
    """A prediction in a thread of its own, which calls nothing of Streamlit; a fragment looks in on it."""

    total: int = 0
    done: int = 0
    result: "anndata.AnnData | None" = None
    error: str | None = None
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    thread: threading.Thread | None = None

    def start(self, work: Callable[[Callable[[int, int], None]], "anndata.AnnData"]) -> None:
        """Run `work`, giving it the function that takes tiles done and tiles in all."""
        self.thread = threading.Thread(target=self._run, args=[work], daemon=True)
        self.thread.start()

    @property
    def is_running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def _run(self, work: Callable) -> None:
        try:
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


def get(key: str) -> Any:
    """A value of this session, None if not there yet."""
    return st.session_state.get(f"nsl.{key}")


def put(key: str, value: Any) -> None:
    """Keep a value for this session."""
    st.session_state[f"nsl.{key}"] = value


def collect_result() -> None:
    """Keep the job that ended well, on whichever page the user is by then; an earlier result stays till then."""
    job = get("job")
    if job is not None and not job.is_running and job.result is not None:
        put("finished", job)


def take_upload(upload) -> None:
    """Spool an uploaded file once and open it; the earlier slide stays if the new one cannot be opened.

    Raises
    ------
    NslError : the file cannot be opened as a slide; again at every call while it is the one uploaded.
    """
    if get("upload_id") != upload.file_id:
        put("upload_id", upload.file_id)
        path = _folder() / f"{upload.file_id}{_suffix(upload.name)}"
        path.write_bytes(upload.getbuffer())
        try:
            _adopt(upload.name, path, synthetic=False)
            put("upload_error", None)
        except NslError as error:
            put("upload_error", error)
    if get("upload_error"):
        raise get("upload_error")


def take_demo() -> None:
    """Make the synthetic slide and open it."""
    from nsl.demo import demo_slide

    path = _folder() / "demo.tif"
    if not path.exists():
        demo_slide().save(path)
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
            opened = OpenSlide(
                name=name,
                path=path,
                synthetic=synthetic,
                size=slide.size,
                format=slide.format,
                metadata_mpp=slide.mpp,
                notices=slide.notices,
                thumbnail=slide.thumbnail(),
            )
    except NslError as error:
        path.unlink(missing_ok=True)
        raise type(error)(str(error).replace(path.name, name)) from None
    before = get("slide")
    if before and before.path != path:
        before.path.unlink(missing_ok=True)
    put("slide", opened)
    put("job", None)
    put("finished", None)


def _folder() -> Path:
    """A folder that goes when the session does."""
    if get("folder") is None:
        put("folder", tempfile.TemporaryDirectory(prefix="nsl-"))
    return Path(get("folder").name)


def _suffix(name: str) -> str:
    """The ending of an uploaded name where it is a plain one: OpenSlide tells some formats apart by it."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix[1:].isalnum() and len(suffix) <= 6 else ""
