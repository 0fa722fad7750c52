"""What one user's session holds: slides, of each its running job and its result, and which one is looked at.

Everything lives under keys that no widget owns, so it outlasts a change of page.
"""

import functools
import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from nsl.errors import NslError, SlideError
from nsl.web import limits, storage
from nsl.web.jobs import Job

if TYPE_CHECKING:
    import anndata
    import numpy as np

    from nsl.slides.slide import Slide
    from nsl.weights.weights import Weights

DEMO_NAME = "Demo slide (synthetic)"
# Each keeps its picture and its result in memory.
MAX_SLIDES = 12


@dataclass
class OpenSlide:
    """A slide of the session: its file, what was read of it, and what was predicted."""

    key: str
    """Tells it from the session's other slides."""
    name: str
    """As the user knows it; never part of a path."""
    path: Path
    """What `nsl.open_slide` opens."""
    folder: Path | None
    """A folder of the session's own that goes with the slide; None where the file is the server's."""
    synthetic: bool
    size: tuple[int, int]
    levels: tuple[float, ...]
    format: str
    scanner: str | None
    objective_power: float | None
    metadata_mpp: float | None
    notices: tuple[str, ...]
    thumbnail: "np.ndarray"
    open_seconds: float
    """What opening it and reading the thumbnail took."""
    job: Job | None = None
    """The last run."""
    is_running: bool = False
    """Whether the last run goes on, as `collect_results` found it: the same all through one run of the script."""
    finished: Job | None = None
    """The last run that came to a result."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What pages remember of it: the tile clicked, the region drawn."""

    @property
    def result(self) -> "anndata.AnnData | None":
        """What was predicted."""
        return self.finished.result if self.finished else None

    @property
    def run(self) -> str | None:
        """Tells the result from every other of the session: what is remembered of one is of no use for another."""
        return self.finished.key if self.finished else None

    @property
    def weights(self) -> "Weights | None":
        """Those that the result was predicted with, whichever are in use now."""
        return self.finished.weights if self.finished else None

    def start(self, job: Job, work: Callable[[Job], Any]) -> None:
        """Predict anew; what was predicted before stays until that is done."""
        self.job, self.is_running = job, True
        job.start(work)

    def let_go(self) -> None:
        """End what still runs for this slide, and free the memory of what was predicted, whoever still knows it."""
        if self.job:
            self.job.is_stopped = True
        self.job, self.finished, self.is_running = None, None, False
        self.forget()

    def forget(self) -> None:
        """Drop what pages remember of a result, and end what they still make of it."""
        for job in self.kept.values():
            if isinstance(job, Job):
                job.is_stopped = True
        self.kept.clear()

    def told(self, text: str) -> str:
        """A sentence about the file on disk, with the name the user knows."""
        return text.replace(self.path.name, self.name)

    def open(self, mpp: float | None = None) -> "Slide":
        """A handle of its own, for one job or one look, at the scale given or the one it was predicted at."""
        from nsl.slides.slide import open_slide

        if mpp is None and self.result is not None:
            mpp = float(self.result.uns["nsl"]["mpp"])
        return open_slide(self.path, mpp)


def get(key: str) -> Any:
    """A value of this session, None if not there yet."""
    return st.session_state.get(f"nsl.{key}")


def put(key: str, value: Any) -> None:
    """Keep a value for this session."""
    st.session_state[f"nsl.{key}"] = value


def slides() -> list[OpenSlide]:
    """The session's slides, the first brought first."""
    return list((get("slides") or {}).values())


def slide() -> OpenSlide | None:
    """The slide that is looked at."""
    return (get("slides") or {}).get(get("current"))


def choose(key: str) -> None:
    """Look at another of the slides; a key that none of them has changes nothing."""
    if key in (get("slides") or {}):
        put("current", key)


def remove(gone: OpenSlide) -> None:
    """Let go of a slide, its result and its file; the one brought last takes its place."""
    gone.let_go()
    measured = (get("measured") or {}).pop(gone.key, None)
    if measured is not None and measured.job is not None:
        measured.job.is_stopped = True
    left = {slide.key: slide for slide in slides() if slide is not gone}
    put("slides", left)
    if get("current") == gone.key:
        put("current", next(reversed(left), None))
    if gone.folder:
        storage.delete(gone.folder)


def collect_results() -> None:
    """Keep the jobs that ended well, on whichever page the user is by then; an earlier result stays till then."""
    for slide in slides():
        job = slide.job
        slide.is_running = job is not None and job.is_running
        if job is None or job is slide.finished or slide.is_running or job.result is None:
            continue
        if _is_whole(slide.result) and not _is_whole(job.result):
            job.result, job.error = None, "the run was cancelled; the result from before stays"
            continue
        slide.finished = job
        slide.forget()


def _is_whole(result: "anndata.AnnData | None") -> bool:
    return result is not None and bool(result.uns["nsl"]["complete"])


def take_upload(upload) -> None:
    """Spool an uploaded file and open it, beside the slides that are there; the uploader is then a new, empty one.

    A run of the script that is interrupted on the way, as by a click, leaves the file to the next.

    Raises
    ------
    NslError : the file cannot be opened as a slide; again at every call while it is the one uploaded.
    """
    refused = get("upload_error")
    if refused and refused[0] == upload.file_id:
        raise refused[1]
    try:
        _store(upload)
    except NslError as error:
        put("upload_error", (upload.file_id, error))
        raise
    # So its bytes leave the memory, and the name of a slide that is removed later does not stand there.
    put("uploads", uploads() + 1)


def _forget_refused() -> None:
    """Take a file that could not be opened out of the uploader, and what was said of it."""
    if get("upload_error"):
        put("upload_error", None)
        put("uploads", uploads() + 1)


def uploads() -> int:
    """How many slides were uploaded; which uploader is on the page."""
    return get("uploads") or 0


def take_demo() -> None:
    """Make the synthetic slide and open it, or go back to it."""
    _forget_refused()
    demo = next((slide for slide in slides() if slide.synthetic), None)
    if demo is not None:
        choose(demo.key)
        return
    _check_room()
    with storage.new_folder() as folder:
        (folder / "demo.tif").write_bytes(_demo_file())
        _adopt("demo", DEMO_NAME, folder / "demo.tif", folder, synthetic=True)


@functools.cache
def _demo_file() -> bytes:
    """The demo slide as a TIFF, made once a server."""
    from nsl.demo.slide import demo_slide

    with tempfile.TemporaryDirectory(prefix="nsl-") as folder:
        path = Path(folder) / "demo.tif"
        demo_slide().save(path)
        return path.read_bytes()


def take_server_file(path: Path, name: str) -> None:
    """Open a slide that lies on the server, where it stays, or go back to it."""
    _forget_refused()
    # A file that was replaced is another slide.
    key = hashlib.sha256(f"{path} {path.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    if key in (get("slides") or {}):
        choose(key)
        return
    _check_room()
    _adopt(key, name, path, None, synthetic=False)


def _store(upload) -> None:
    _check_room()
    limits.check_upload(upload.name, upload.size, limits.read().max_upload_mb)
    # No sentence holds this name, so that the user's can be put in its place.
    stored = f"nsl-upload{_suffix(upload.name)}"
    try:
        with storage.new_folder() as folder:
            path = folder / stored
            path.write_bytes(upload.getbuffer())
            if path.suffix == ".zip":
                from nsl.slides.archive import unpack_slide

                archive, path = path, unpack_slide(path, folder / "unpacked", limits.max_unpacked_bytes())
                archive.unlink()
                stored = path.name
            _adopt(folder.name, upload.name, path, folder, synthetic=False)
    except OSError as error:
        raise SlideError(f"{upload.name} cannot be stored ({error.strerror}); make room on the disk") from None
    except NslError as error:
        raise type(error)(str(error).replace(stored, upload.name)) from None


def _check_room() -> None:
    if len(slides()) >= MAX_SLIDES:
        raise SlideError(f"this session holds {MAX_SLIDES} slides, as many as it can; remove one first")


def _adopt(key: str, name: str, path: Path, folder: Path | None, *, synthetic: bool) -> None:
    from nsl.slides.slide import open_slide

    start = time.perf_counter()
    with open_slide(path) as slide:
        limits.check_size(path.name, slide.size)
        opened = OpenSlide(
            key=key,
            name=_distinct(name, key),
            path=path,
            folder=folder,
            synthetic=synthetic,
            size=slide.size,
            levels=slide.levels,
            format=slide.format,
            scanner=slide.scanner,
            objective_power=slide.objective_power,
            metadata_mpp=slide.mpp,
            notices=tuple(notice.replace(path.name, name) for notice in slide.notices),
            thumbnail=slide.thumbnail(),
            open_seconds=time.perf_counter() - start,
        )
    put("slides", (get("slides") or {}) | {key: opened})
    choose(key)


def _distinct(name: str, key: str) -> str:
    """The name, numbered where another slide of the session has it too."""
    taken = {slide.name for slide in slides() if slide.key != key}
    number = 2
    distinct = name
    while distinct in taken:
        distinct, number = f"{name} ({number})", number + 1
    return distinct


def _suffix(name: str) -> str:
    """The ending of an uploaded name where it is a plain one: OpenSlide tells some formats apart by it."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix[1:].isalnum() and len(suffix) <= 8 else ""
