"""What one user's session holds: slides, of each its running job and its result, and which one is looked at.

Everything lies under keys that no widget owns, so it outlasts a change of page. What a page keeps for itself is a
dataclass of its own: one a session (`of_session`), one a slide (`SessionSlide.of_slide`), or one a result
(`SessionSlide.of_result`).
"""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import streamlit as st

from nsl.errors import NslError
from nsl.result import Provenance, without_tiles
from nsl.slides.overview import Overview
from nsl.slides.slide import Slide, open_slide
from nsl.web.session import server
from nsl.web.session.jobs import Job
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
    seen: Overview  # when it was brought
    job: Job | None = None  # the last run
    is_running: bool = False
    """Whether the last run goes on, as `collect_results` found it: the same all through one run of the script."""
    finished: Job | None = None  # the last run that came to a result
    is_crowded_out: bool = False  # whether its result was let go to make room for others
    erased: tuple[tuple[str, ...], ...] = ()
    """Names of the tiles of the result that were erased by hand, those of each time together."""
    _erased_on: tuple[float, ...] = ()  # the grid of these tiles
    _left: "anndata.AnnData | None" = None  # the result without them; None where none is erased
    _of_slide: dict[type, Any] = field(default_factory=dict)
    _of_result: dict[type, Any] = field(default_factory=dict)

    @property
    def result(self) -> "anndata.AnnData | None":
        """What was predicted, without the tiles erased by hand."""
        return self.whole if self._left is None else self._left

    @property
    def whole(self) -> "anndata.AnnData | None":
        """What was predicted, with them."""
        return self.finished.result if self.finished else None

    def result_at_hand(self) -> "anndata.AnnData":
        """What was predicted; NslError where it is gone, as to a page that shows it still."""
        result = self.result
        if result is None:
            raise NslError(f"the result of {self.name} is no longer in memory; run it again")
        return result

    @property
    def provenance(self) -> Provenance:
        """How the result came to be."""
        return Provenance.of(self.result)

    @property
    def run(self) -> str | None:
        """Tells the result from every other of the session: what is remembered of one is of no use for another."""
        if self.finished is None:
            return None
        return f"{self.finished.key} without {hash(self.erased)}" if self.erased else self.finished.key

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

    @property
    def erased_tiles(self) -> tuple[str, ...]:
        """Names of all tiles that were erased by hand."""
        return tuple(tile for together in self.erased for tile in together)

    def take(self, job: Job) -> None:
        """Have what a run came to as the result; tiles that were erased by hand are so again on the same grid."""
        erased = self.erased if _grid(job.result) == self._erased_on else ()
        self.finished, self.is_crowded_out = job, False
        try:
            self._leave_out(erased)
        except NslError:  # of a run inside a region, say, that was erased
            self._leave_out(())

    def erase(self, tiles: Sequence[str]) -> None:
        """Leave these tiles out of the result until they are restored.

        Raises NslError: no tile would be left.
        """
        self._leave_out((*self.erased, tuple(tiles)))

    def restore(self, *, last_only: bool = False) -> None:
        """Take back the tiles that were erased, or those alone that were erased last."""
        self._leave_out(self.erased[:-1] if last_only else ())

    def _leave_out(self, erased: tuple[tuple[str, ...], ...]) -> None:
        left = without_tiles(self.whole, [tile for together in erased for tile in together]) if erased else None
        self.erased, self._erased_on, self._left = erased, _grid(self.whole), left
        self.forget()

    def let_go(self) -> None:
        """End what still runs for this slide, and free the memory of what was predicted, whoever still knows it."""
        if self.job:
            self.job.is_stopped = True
        self.job, self.finished, self._left, self.is_running = None, None, None, False
        _stop_jobs(self._of_slide)
        self.forget()
        # Streamlit keeps what a widget's callback was made with as long as the session, and so the slide it was of.
        self.seen = replace(self.seen, thumbnail=np.empty((0, 0, 3), np.uint8))

    def forget(self) -> None:
        """Drop what pages remember of a result, and end what they still make of it."""
        _stop_jobs(self._of_result)

    def crowd_out(self) -> None:
        """Free the memory of the result, for those of others; pages then say so, and how to run it again."""
        # Whoever knows the job, such as a download that is on offer, knows the result by it alone.
        self.finished.result, self.finished, self._left, self.is_crowded_out = None, None, None, True
        self.forget()

    @property
    def is_worked_on(self) -> bool:
        """Whether something runs for the slide or its result."""
        kept = [*self._of_slide.values(), *self._of_result.values()]
        jobs = [self.job, *(job for one in kept for job in vars(one).values() if isinstance(job, Job))]
        return any(job is not None and job.is_running for job in jobs)

    def by_users_name(self, text: str) -> str:
        """A sentence about the file on disk, with the name the user knows."""
        return text.replace(self.path.name, self.name)

    def open(self, mpp: float | None = None, to_srgb: bool | None = None) -> Slide:
        """A handle of its own, for one job or one look, with scale and colours as given or as it was predicted."""
        if self.result is not None:
            known = self.provenance
            mpp = known.mpp if mpp is None else mpp
            to_srgb = known.brought_to_srgb if to_srgb is None else to_srgb
        return open_slide(self.path, mpp, to_srgb=bool(to_srgb))


@dataclass
class SessionState:
    """What every page of a session shares."""

    slides: dict[str, SessionSlide] = field(default_factory=dict)  # by their keys, the first brought first
    current: str | None = None  # key of the slide looked at
    uploads: int = 0  # how many slides were uploaded; which uploader is on the page
    refused: tuple[str, NslError] | None = None  # id of the upload that could not be opened, and why
    is_inside_app: bool = False  # whether the script began with app.py
    page: str | None = None  # the page looked at
    scripts: int = 0  # how many runs of the script go on in this session
    typed: dict[str, str] = field(default_factory=dict)
    """What was last typed into a gene box of this page, by the box's key."""


def of_session(kind: type[Kept]) -> Kept:
    """What this session holds of a kind; made when it is first asked for."""
    key = f"nsl.{kind.__name__}"
    if key not in st.session_state:
        st.session_state[key] = kind()
    return st.session_state[key]


def typed_text(value: Any) -> str:
    """What a box of text holds; nothing where a browser says that it holds something else."""
    return value if isinstance(value, str) else ""


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


# Memory of results, over all sessions

_guard = threading.Lock()
_shelf: dict[str, tuple[weakref.ref[SessionState], weakref.ref[SessionSlide]]] = {}
"""Results by the keys of their runs, the one looked at longest ago first."""


@contextmanager
def looking() -> Iterator[None]:
    """A run of the script or of a fragment, during which no other run lets go of a result that it may show.

    A click starts the next run while this one still draws, and may remove what this one looks at. What such a run
    stumbles over is no fault: it ends as Streamlit has asked it to.
    """
    session = shared()
    with _guard:
        session.scripts += 1
    try:
        yield
    except Exception:
        shared()  # Streamlit ends a run that the next has overtaken where it asks for what the session holds.
        raise
    finally:
        with _guard:
            session.scripts -= 1


def fragment(run_every: float | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`st.fragment` for a part of a page, each run of which is `looking`; seconds between runs of its own."""
    return lambda draw: st.fragment(run_every=run_every)(looking()(draw))


def make_room() -> None:
    """Let results go that were looked at longest ago, until those of all sessions keep to `server.limits`.

    The one looked at now stays, and so do those of sessions that are at work.
    """
    looked_at, own = slide(), shared()
    if not any(held.run for held in own.slides.values()):
        return
    most_mb = server.limits().max_results_mb
    with _guard:
        for held in own.slides.values():
            if held.run is not None and (held is looked_at or held.run not in _shelf):
                _shelf.pop(held.run, None)
                _shelf[held.run] = weakref.ref(own), weakref.ref(held)
        kept = {run: (session(), held()) for run, (session, held) in _shelf.items()}
        kept = {run: pair for run, pair in kept.items() if None not in pair and pair[1].run == run}
        for gone in set(_shelf) - set(kept):
            del _shelf[gone]
        size = sum(_result_bytes(held) for _, held in kept.values())
        for session, held in kept.values():
            if most_mb is None or size <= most_mb * 2**20:
                return
            if held is looked_at or held.is_worked_on or session.scripts > (session is own):
                continue
            size -= _result_bytes(held)
            held.crowd_out()


def _result_bytes(held: SessionSlide) -> int:
    return int(held.whole.X.nbytes + (held.result.X.nbytes if held.erased else 0))


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
        slide.take(job)
    make_room()


def _grid(result: "anndata.AnnData") -> tuple[float, ...]:
    """What decides where the tiles of a slide lie."""
    known = Provenance.of(result)
    return known.mpp, known.tile_um, known.stride_um


def _is_whole(result: "anndata.AnnData | None") -> bool:
    return result is not None and Provenance.of(result).complete
