"""Compiled loops shared out over the processor's cores.

Plain threads around kernels that release the GIL, rather than numba's own parallel loops: those abort the
process when two threads enter them at once on platforms without OpenMP, as two users of the app would.
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numba import config, njit
from numba.core.codegen import get_host_cpu_features

from nsl.errors import NslError

T = TypeVar("T")
VARIABLE = "NSL_THREADS"

if "+avx512f" in (_features := get_host_cpu_features()) and config.CPU_FEATURES is None:
    # LLVM uses half the width of these vectors, for the first processors to have them slowed down over it.
    config.CPU_FEATURES = f"{_features},-prefer-256-bit"

# As NumPy divides: to look for a zero before each division would keep the processor from taking many at once.
kernel = njit(cache=True, nogil=True, fastmath=False, error_model="numpy")


def read_only(array: np.ndarray) -> np.ndarray:
    """The array, in one piece and not to be written to: a loop is compiled once for all that come so."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def over_rows(run: Callable, rows: int, *arrays) -> None:
    """Call `run(start, stop, *arrays)` for shares of `range(rows)`, several a core, at the same time.

    The caller takes shares too: to wait for another thread costs as much as a small one.
    """
    pool, number = _pool()
    edges = [rows * i // (4 * number) for i in range(4 * number + 1)]
    shares = iter([(start, stop) for start, stop in itertools.pairwise(edges) if stop > start])

    def take() -> None:
        for start, stop in shares:
            run(start, stop, *arrays)

    others = [pool.submit(take) for _ in range(min(number, rows) - 1)]
    take()
    for other in others:
        other.result()


def beside(call: Callable[[], T]) -> Future[T]:
    """Begin a call in a thread of its own: one that takes long would keep a core's thread from all others' work."""
    with_own_thread = ThreadPoolExecutor(1, thread_name_prefix="nsl-beside")
    begun = with_own_thread.submit(call)
    with_own_thread.shutdown(wait=False)
    return begun


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, the next one being made while the last is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="nsl-ahead") as maker:
        upcoming = maker.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = maker.submit(next, items, None)
            yield item


def cores() -> int:
    """How many cores this process may use: NSL_THREADS where it is set, as for one of several workers of a computer."""
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        if not (text.isdecimal() and int(text) > 0):
            raise NslError(f'{VARIABLE} must be a whole number above 0, got "{text}"; leave it unset for all cores')
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _pool() -> tuple[ThreadPoolExecutor, int]:
    """A thread a core, started once: small reads are over sooner than threads start."""
    number = cores()
    return ThreadPoolExecutor(number, thread_name_prefix="nsl"), number
