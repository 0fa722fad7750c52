"""Long work in threads of their own, which draw nothing; fragments of a page look in on them."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from nsl.errors import Cancelled, NslError
from nsl.system.progress import Progress
from nsl.web.session import server

_LOGGER = logging.getLogger(__name__)
# Streamlit forgets a session that has been away this long: nobody can come back to its run.
FORGOTTEN_SECONDS = 120
# Of a run, before its pace says how long the rest takes.
_LEAST_SECONDS = 1.0
# A loop that is busy for longer is not waited for.
_LOOP_SECONDS = 5.0


def fault_told(what: str, error: Exception) -> str:
    """What a user is told of work that stopped on a fault; the log has the fault, whose words may hold paths."""
    _LOGGER.exception("Work stopped on a fault of the program", exc_info=error)
    return (
        f"{what} stopped on a fault of the program ({type(error).__name__}); please report it, with what the server "
        "printed"
    )


@dataclass
class Job(Progress):
    """A prediction or a training; it begins when its turn among the runs of all sessions has come."""

    key: str = field(default_factory=lambda: uuid4().hex)  # tells it from every other
    total: int = 0
    done: int = 0
    doing: str = ""  # what it is at, in words, where it has more than one stage
    result: Any = None
    weights: Any = None  # those that a prediction was made with
    inside: tuple = ()  # the regions that a prediction was kept to; none for the whole slide
    error: str | None = None
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    thread: threading.Thread | None = None
    is_cancelled: bool = False  # the user wants no more of it, but keeps what is there
    is_stopped: bool = False  # nobody wants anything of it
    turn: server.Turn | None = None
    session_id: str | None = None
    away_since: float | None = None

    def start(self, work: Callable[["Job"], Any]) -> Self:
        """Run `work`, which reports its progress to this job; returns the job."""
        context = get_script_run_ctx(suppress_warning=True)
        self.session_id = context.session_id if context else None
        self.turn = server.line().join()
        self.thread = threading.Thread(target=self._run, args=[work], daemon=True)
        self.thread.start()
        return self

    @property
    def is_running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    @property
    def ahead(self) -> int:
        """How many other runs must end before this one begins."""
        return self.turn.ahead if self.turn else 0

    @property
    def share(self) -> float:
        """How much of its stage is done, 0 to 1."""
        return min(self.done / self.total, 1.0) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """By its pace so far; None before there is one."""
        seconds = time.perf_counter() - self.started
        if not self.done or not self.total or seconds < _LEAST_SECONDS:
            return None
        return seconds * (self.total - self.done) / self.done

    def report(self, done: int, total: int, stage: str = "") -> None:
        """Note how far the work is; Cancelled where nobody waits for it any more."""
        if stage != self.doing:
            self.started = time.perf_counter()
        self.done, self.total, self.doing = done, total, stage
        self._end_if_unwanted()

    @property
    def cancelled(self) -> bool:
        return self.is_cancelled

    def _run(self, work: Callable[["Job"], Any]) -> None:
        begun = time.perf_counter()
        try:
            with self.turn:
                self.turn.wait(self._check_in_line)
                begun = self.started = time.perf_counter()
                self.result = work(self)
        except NslError as error:
            self.error = str(error)
        except MemoryError:
            self.error = "the slide needs more memory than this computer has; ask for larger tiles or fewer genes"
        except Exception as error:
            self.error = fault_told("the run", error)
        self.seconds = time.perf_counter() - begun

    def _check_in_line(self) -> None:
        if self.is_cancelled:
            raise Cancelled("the run was cancelled before it began")
        self._end_if_unwanted()

    def _end_if_unwanted(self) -> None:
        if self.is_stopped:
            raise Cancelled("the run was stopped")
        if self.session_id is None or is_connected(self.session_id):
            self.away_since = None
        elif self.away_since is None:
            self.away_since = time.monotonic()
        elif time.monotonic() - self.away_since > FORGOTTEN_SECONDS:
            raise Cancelled("the run was stopped because its page was closed; run again")


def drop_session(session_id: str) -> None:
    """Have Streamlit let go of a session that nobody can come back to any more; returns when it has.

    Its store keeps such a one, with all its slides, results and uploads, until others leave and come to take its place
    (`streamlit.runtime.memory_session_storage`). It may be changed on the server's own loop alone.
    """
    if not runtime.exists():
        return
    running, is_done = runtime.get_instance(), threading.Event()

    def drop() -> None:
        with contextlib.suppress(KeyError):  # says the store where its time is over, and drops it
            running._session_mgr._session_storage.delete(session_id)
        is_done.set()

    running._get_async_objs().eventloop.call_soon_threadsafe(drop)
    is_done.wait(_LOOP_SECONDS)


def is_connected(session_id: str) -> bool:
    """Whether the session's page is open."""
    return runtime.exists() and runtime.get_instance().is_active_session(session_id)
