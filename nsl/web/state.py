"""What one user's session holds: slides, of each its running job and its result, and which one is looked at.

Everything lies under keys that no widget owns, so it outlasts a change of page. What a page keeps for itself is a
dataclass of its own: one a session (`of_session`), one a slide (`SessionSlide.of_slide`), or one a result
(`SessionSlide.of_result`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import streamlit as st

from nsl.errors import NslError
from nsl.result import Provenance
from nsl.slides.slide import Slide, open_slide
from nsl.web.jobs import Job
from nsl.weights.weights import Weights

if TYPE_CHECKING:
    import anndata

Kept = TypeVar("Kept")
"""A dataclass whose fields have defaults."""


@dataclass
class Marks:
    """What is marked on the map of a result, on whichever page."""

    tile: str | None = None  # name of the tile looked at
    region: dict[str, Any] | None = None  # the box or lasso drawn, as `nsl.web.chart.drawn_area` gives it, in mm


@dataclass
class SessionSlide:
    """A slide of the session: its file, what was read of it, and what was predicted."""

    key: str  # tells it from the session's other slides
    name: str  # as the user knows it; never part of a path
    path: Path  # what `nsl.open_slide` opens
    folder: Path | None  # a folder of the session's own that goes with the slide; None where the file is the server's
    synthetic: bool
    size: tuple[int, int]
    levels: tuple[float, ...]
    format: str
    scanner: str | None
    objective_power: float | None
    metadata_mpp: float | None
    notices: tuple[str, ...]
    thumbnail: np.ndarray
    open_seconds: float  # what opening it and reading the thumbnail took
    job: Job | None = None  # the last run
    is_running: bool = False
    """Whether the last run goes on, as `collect_results` found it: the same all through one run of the script."""
    finished: Job | None = None  # the last run that came to a result
    _of_slide: dict[type, Any] = field(default_factory=dict)
    _of_result: dict[type, Any] = field(default_factory=dict)

    @property
    def result(self) -> "anndata.AnnData | None":
        """What was predicted."""
        return self.finished.result if self.finished else None

    @property
    def provenance(self) -> Provenance:
        """How the result came to be."""
        return Provenance.of(self.result)

    @property
    def run(self) -> str | None:
        """Tells the result from every other of the session: what is remembered of one is of no use for another."""
        return self.finished.key if self.finished else None

    @property
    def weights(self) -> Weights | None:
        """Those that the result was predicted with, whichever are in use now."""
        return self.finished.weights if self.finished else None

    @property
    def marks(self) -> Marks:
        """What is marked on the map of the result."""
        return self.of_result(Marks)

    def of_slide(self, kind: type[Kept]) -> Kept:
        """What a page keeps of this slide, whatever is predicted on it; made when it is first asked for."""
        return _made(self._of_slide, kind)

    def of_result(self, kind: type[Kept]) -> Kept:
        """What a page remembers of the result, gone with it; made when it is first asked for."""
        return _made(self._of_result, kind)

    def start(self, work: Callable[[Job], Any]) -> None:
        """Predict anew; what was predicted before stays until that is done."""
        self.job, self.is_running = Job().start(work), True

    def let_go(self) -> None:
        """End what still runs for this slide, and free the memory of what was predicted, whoever still knows it."""
        if self.job:
            self.job.is_stopped = True
        self.job, self.finished, self.is_running = None, None, False
        _stop_jobs(self._of_slide)
        self.forget()

    def forget(self) -> None:
        """Drop what pages remember of a result, and end what they still make of it."""
        _stop_jobs(self._of_result)

    def by_users_name(self, text: str) -> str:
        """A sentence about the file on disk, with the name the user knows."""
        return text.replace(self.path.name, self.name)

    def open(self, mpp: float | None = None) -> Slide:
        """A handle of its own, for one job or one look, at the scale given or the one it was predicted at."""
        if mpp is None and self.result is not None:
            mpp = self.provenance.mpp
        return open_slide(self.path, mpp)


@dataclass
class SessionState:
    """What every page of a session shares."""

    slides: dict[str, SessionSlide] = field(default_factory=dict)  # by their keys, the first brought first
    current: str | None = None  # key of the slide looked at
    uploads: int = 0  # how many slides were uploaded; which uploader is on the page
    refused: tuple[str, NslError] | None = None  # id of the upload that could not be opened, and why
    is_inside_app: bool = False  # whether the script began with app.py
    page: str | None = None  # the page looked at
    typed: dict[str, str] = field(default_factory=dict)
    """What was last typed into a gene box of this page, by the box's key."""


def of_session(kind: type[Kept]) -> Kept:
    """What this session holds of a kind; made when it is first asked for."""
    key = f"nsl.{kind.__name__}"
    if key not in st.session_state:
        st.session_state[key] = kind()
    return st.session_state[key]


def _made(held: dict[type, Any], kind: type[Kept]) -> Kept:
    if kind not in held:
        held[kind] = kind()
    return held[kind]


def _stop_jobs(held: dict[type, Any]) -> None:
    for kept in held.values():
        for job in vars(kept).values():
            if isinstance(job, Job):
                job.is_stopped = True
    held.clear()


def shared() -> SessionState:
    """What every page of this session shares."""
    return of_session(SessionState)


def slides() -> list[SessionSlide]:
    """The session's slides, the first brought first."""
    return list(shared().slides.values())


def slide() -> SessionSlide | None:
    """The slide that is looked at."""
    return shared().slides.get(shared().current)


def choose(key: str) -> None:
    """Look at another of the slides; a key that none of them has changes nothing."""
    if key in shared().slides:
        shared().current = key


def add(added: SessionSlide) -> None:
    """Hold one more slide, or another in the place of one with the same key, and look at it."""
    shared().slides[added.key] = added
    choose(added.key)


def drop(gone: SessionSlide) -> None:
    """Let go of a slide and its result; the one brought last takes its place."""
    gone.let_go()
    shared().slides.pop(gone.key, None)
    if shared().current == gone.key:
        shared().current = next(reversed(shared().slides), None)


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
    return result is not None and Provenance.of(result).complete
