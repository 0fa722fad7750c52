"""Compiled loops shared out over the processor's cores.

Plain threads around kernels that release the GIL, rather than numba's own parallel loops: those abort the
process when two threads enter them at once on platforms without OpenMP, as two users of the app would.
"""

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from numba import njit

kernel = njit(cache=True, nogil=True, fastmath=False)


def over_rows(run: Callable, rows: int, *arrays) -> None:
    """Call `run(start, stop, *arrays)` for shares of `range(rows)`, several a core, at the same time."""
    pool, cores = _pool()
    edges = [rows * i // (4 * cores) for i in range(4 * cores + 1)]
    shares = [pool.submit(run, a, b, *arrays) for a, b in itertools.pairwise(edges) if b > a]
    for share in shares:
        share.result()


@functools.cache
def _pool() -> tuple[ThreadPoolExecutor, int]:
    """A thread a core, started once: small reads are over sooner than threads start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, thread_name_prefix="nsl"), cores
