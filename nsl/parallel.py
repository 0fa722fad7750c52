"""Compiled loops shared out over the processor's cores.

Plain threads around kernels that release the GIL, rather than numba's own parallel loops: those abort the
process when two threads enter them at once on platforms without OpenMP, as two users of the app would.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from numba import njit

kernel = njit(cache=True, nogil=True, fastmath=False)


def over_rows(run: Callable, rows: int, *arrays) -> None:
    """Call `run(start, stop, *arrays)` for shares of `range(rows)`, several a core, at the same time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    edges = [rows * i // (4 * cores) for i in range(4 * cores + 1)]
    with ThreadPoolExecutor(cores) as pool:
        shares = [pool.submit(run, a, b, *arrays) for a, b in itertools.pairwise(edges) if b > a]
        for share in shares:
            share.result()
