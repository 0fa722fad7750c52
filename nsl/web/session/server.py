"""What one server has for all its visitors: limits, a line in which runs wait, a folder, and memory that it gives back.

Limits are set in the environment; set to nothing, they limit nothing but runs.
"""

import contextlib
import ctypes
import functools
import gc
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from nsl.errors import NslError
from nsl.slides.archive import MAX_BYTES

# How often a run that waits looks whether it is still wanted.
LOOK_SECONDS = 0.5
_UNPACKED_TO_ZIPPED = 4
_FOLDER_PREFIX, _FOLDER_LOCK = "nsl-server-", "in-use"
# A server that begins has made its folder and not yet locked it.
_FOLDER_BEGINS_SECONDS = 60
# The C library's name for the size from which memory is taken of the system, and given back to it, piece by piece.
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 2**20
MAX_PIXELS = 40_000_000_000
"""Of a slide, where nothing else is set: 200,000 × 200,000, as large as scanners make them."""


@dataclass(frozen=True)
class Limits:
    """None is no limit; of runs, one a core."""

    max_pixels: int | None  # level-0 pixels of a slide: NSL_MAX_PIXELS, MAX_PIXELS where it is not set
    max_upload_mb: int | None  # of one file: NSL_MAX_UPLOAD_MB
    max_concurrent_runs: int | None  # of all sessions together: NSL_MAX_CONCURRENT_RUNS
    max_results_mb: int | None  # of all sessions together: NSL_MAX_RESULTS_MB, half of the memory where it is not set


@functools.cache
def limits() -> Limits:
    """The limits of this server, read once; NslError where one is set to no whole number above 0."""
    return Limits(
        max_pixels=_number("NSL_MAX_PIXELS", MAX_PIXELS),
        max_upload_mb=_number("NSL_MAX_UPLOAD_MB"),
        max_concurrent_runs=_number("NSL_MAX_CONCURRENT_RUNS"),
        max_results_mb=_number("NSL_MAX_RESULTS_MB", _half_of_memory_mb()),
    )


def check_upload(name: str, size_bytes: int, most_mb: int | None) -> None:
    """NslError where an upload is larger than its place on the page says, to which only an honest browser keeps."""
    if most_mb is not None and size_bytes > most_mb * 2**20:
        raise NslError(
            f"{name} has {size_bytes / 2**20:,.1f} MB, and at most {most_mb:,} MB are taken here; bring a smaller file"
        )


def max_unpacked_bytes() -> int:
    """What the slide in a zip may come to. Slides are packed already: zipped, they are hardly smaller."""
    most = limits().max_upload_mb
    return MAX_BYTES if most is None else _UNPACKED_TO_ZIPPED * most * 10**6


def _half_of_memory_mb() -> int | None:
    """Of this computer; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21
    except (AttributeError, ValueError, OSError):
        return None


def _number(variable: str, unset: int | None = None) -> int | None:
    text = os.environ.get(variable, str(unset or "")).strip()
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise NslError(f'{variable} must be a whole number above 0, got "{text}"; leave it unset for the usual limit')
    return number


# Runs in turn


class Line:
    """Runs in the order they were asked for, of which the first few go on at the same time."""

    def __init__(self, places: int | None) -> None:
        self._places = math.inf if places is None else places
        self._turns: list[Turn] = []
        self._moved = threading.Condition()

    def join(self) -> "Turn":
        """The last place of the line."""
        turn = Turn(self)
        with self._moved:
            self._turns.append(turn)
        return turn


class Turn(AbstractContextManager):
    """One run's place in the line; leave it whatever becomes of the run."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def ahead(self) -> int:
        """How many runs must end before this one begins."""
        line = self._line
        with line._moved:
            return max(0, line._turns.index(self) + 1 - line._places) if self in line._turns else 0

    def wait(self, check: Callable[[], None]) -> None:
        """Return when it is this run's turn; what `check` raises meanwhile ends the waiting."""
        with self._line._moved:
            while self.ahead:
                check()
                self._line._moved.wait(LOOK_SECONDS)

    def leave(self) -> None:
        """Make room for the next; leaving twice does no harm."""
        with self._line._moved:
            if self in self._line._turns:
                self._line._turns.remove(self)
                self._line._moved.notify_all()

    def __exit__(self, *_) -> None:
        self.leave()


@functools.cache
def line() -> Line:
    """The one line of this server; more runs at once than it has cores would only wait for each other."""
    return Line(limits().max_concurrent_runs or os.cpu_count() or 1)


# Files


def folder() -> Path:
    """Holds all that this server stores of its visitors; nobody else may read it, and it is gone once the server is."""
    return Path(_own()[0].name)


def clear_abandoned() -> None:
    """Delete the folders of servers that ended without doing so, such as killed ones."""
    for other in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        if not _may_be_abandoned(other):
            continue
        try:
            with FileLock(other / _FOLDER_LOCK, blocking=False):
                shutil.rmtree(other, ignore_errors=True)
        except (Timeout, OSError):  # it is in use, or was deleted by another server that starts
            continue


def _may_be_abandoned(other: Path) -> bool:
    try:
        told = other.lstat()
    except OSError:
        return False
    is_own = not hasattr(os, "getuid") or told.st_uid == os.getuid()
    return is_own and other.is_dir() and not other.is_symlink() and time.time() - told.st_mtime > _FOLDER_BEGINS_SECONDS


@functools.cache
def _own() -> tuple[tempfile.TemporaryDirectory, FileLock]:
    made = tempfile.TemporaryDirectory(prefix=_FOLDER_PREFIX, ignore_cleanup_errors=True)
    lock = FileLock(Path(made.name) / _FOLDER_LOCK)
    lock.acquire()
    return made, lock


# Memory


def hold_memory_in_pieces() -> None:
    """Have the C library keep no large piece of memory that was freed.

    Its own threshold grows with what is freed, up to 32 MB: after the pictures of twenty visitors it held five times
    what was in use, between small things that stay.
    """
    with contextlib.suppress(OSError, AttributeError):  # only the C library of Linux has it
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_memory_back() -> None:
    """Free what only circles of objects hold, as no rerun does, and hand to the system what the C library keeps."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
