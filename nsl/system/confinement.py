"""Calls in a process of their own, for what a stranger's file may set off in the libraries that read it.

A second process, begun once, has the libraries loaded and forks for every call, which takes milliseconds; the fork has
no more memory and time than the call is given. What ends it, ends nothing else. Only Linux keeps to such limits:
elsewhere a call is made in this process.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nsl.errors import NslError

T = TypeVar("T")

_MESSAGE_BYTES = 2**17
_IS_HELD = sys.platform == "linux"
# Of one that waits for a file, against one that computes: other work may keep the processor busy.
_WALL_PER_CPU = 6
_GB = 10**9


@dataclass(frozen=True)
class Budget:
    """What a call may take, besides what the libraries take anyway."""

    memory_bytes: int
    cpu_seconds: int

    @classmethod
    def for_bytes(cls, size_bytes: int) -> Budget:
        """For reading a file of this size: a GB and 8 s, and with every MB 40 MB and half a second more.

        Images of tissue and tables of counts are packed less than 40 times as small, and 2 MB a second are slow; a few
        bytes that state a giant are told by this. At most 8 GB, three quarters of the computer's memory, and 300 s.
        """
        of_computer = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4 if _IS_HELD else 8 * _GB
        memory = min(_GB + 40 * size_bytes, 8 * _GB, max(of_computer, _GB))
        return cls(memory, min(8 + size_bytes // 2_000_000, 300))


class OverBudgetError(Exception):
    """A call took more than it was given, or ended its process; the message says so in a few words."""


def confined(work: Callable[..., T], *args: Any, budget: Budget) -> T:
    """What `work(*args)` returns or raises, from a process of its own.

    work : a function of a module; it, its arguments and its result can be pickled. Arguments are small, such as paths:
        100 kB together.

    Raises OverBudgetError: it took more memory or time than `budget`, or ended its process.
    """
    if not _IS_HELD:
        return work(*args)
    inlet, outlet = os.pipe()
    with os.fdopen(inlet, "rb") as answer:
        try:
            _server().send(pickle.dumps((work, args, budget)), outlet)
        finally:
            os.close(outlet)
        content = answer.read()
    if not content:
        raise OverBudgetError(
            f"it takes more than {budget.cpu_seconds} s or {budget.memory_bytes / _GB:.1f} GB, or ends the program"
        )
    is_result, value = pickle.loads(content)
    if is_result:
        return value
    if isinstance(value, MemoryError):
        raise OverBudgetError(f"it takes more than {budget.memory_bytes / _GB:.1f} GB of memory")
    raise value


def prepare(work: Callable[[], Any]) -> None:
    """Have the process that forks call `work`, which loads and compiles what later calls need; do not wait for it."""
    if _IS_HELD:
        _server().send(pickle.dumps((work, (), None)))


# The process that forks, seen from the program


class _Server:
    """Begun when it is first needed, and again if it is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._process: subprocess.Popen | None = None

    def send(self, message: bytes, *outlets: int) -> None:
        with self._lock:
            try:
                socket.send_fds(self._begun(), [message], outlets)
            except OSError:  # it was killed, as by a system short of memory
                self._line = None
                socket.send_fds(self._begun(), [message], outlets)

    def _begun(self) -> socket.socket:
        if self._line is None:
            self._line, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            path, number = [entry or str(Path.cwd()) for entry in sys.path], other.fileno()
            code = (
                f"import sys; sys.path[:] = {path!r}; from nsl.system import confinement; confinement.serve({number})"
            )
            # Threads of linear algebra would not live on in a fork.
            own = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            # What libraries print of a stranger's file is for no log.
            quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            self._process = subprocess.Popen([sys.executable, "-c", code], env=own, pass_fds=[number], **quiet)
            other.close()
        return self._line


_the_server, _guard = {}, threading.Lock()


def _server() -> _Server:
    """That of this process: one forked from it has none of its own yet."""
    with _guard:
        return _the_server.setdefault(os.getpid(), _Server())


# The same process, seen from inside


def serve(descriptor: int) -> None:
    """Fork for every call that comes in on a socket, until its other end is closed."""
    line = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks that ended leave nothing behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, outlets, _, _ = socket.recv_fds(line, _MESSAGE_BYTES, 1)
        if not message:
            return
        if not outlets:
            with contextlib.suppress(Exception):  # then the calls load what they need
                work, args, _ = pickle.loads(message)
                work(*args)
            continue
        with contextlib.suppress(Exception):
            pickle.loads(message)  # which loads the module that the call is of, once for all forks
        if os.fork() == 0:
            line.close()
            _answer(message, outlets[0])
        os.close(outlets[0])


def _answer(message: bytes, outlet: int) -> None:
    """Make a call within its limits and write down what came of it; the process ends here."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        work, args, budget = pickle.loads(message)
        _limit(budget)
        try:
            content = pickle.dumps((True, work(*args)), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            content = pickle.dumps((False, _kept(error)))
        with os.fdopen(outlet, "wb") as file:
            file.write(content)
    finally:
        os._exit(0)


def _kept(error: Exception) -> Exception:
    """The error as it can be pickled: without those that led to it, which may not be; or its words."""
    if isinstance(error, NslError):
        return type(error)(str(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _limit(budget: Budget) -> None:
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = taken + budget.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (budget.cpu_seconds, budget.cpu_seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(_WALL_PER_CPU * budget.cpu_seconds)
