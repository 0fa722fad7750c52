"""Area averaging, compiled: apart from `nsl.slides.slide`, so that opening a file does not wait for the compiler."""

import math

import numpy as np

from nsl.system.parallel import kernel


@kernel
def average_rows(start, stop, pixels, tops, bottoms, lefts, rights, out):
    """Rows `start` to `stop` of `out` (m, n, 3): means over boxes of `pixels` (h, 3 w), fractions included.

    Boxes come from left to right; what lies beside them is not looked at.
    """
    first, last = np.floor(lefts).astype(np.int64), np.ceil(rights).astype(np.int64)
    begin, end = 3 * first[0], 3 * last[-1]
    line = np.empty(end - begin, np.float32)
    for i in range(start, stop):
        line[:] = 0
        for y in range(math.floor(tops[i]), math.ceil(bottoms[i])):
            inside = np.float32(min(bottoms[i], y + 1) - max(tops[i], y))
            # Red, green and blue in one run, which the processor takes many at a time.
            own = pixels[y, begin:end]
            for x in range(len(line)):
                line[x] += inside * own[x]
        for j in range(len(lefts)):
            area = np.float32((bottoms[i] - tops[i]) * (rights[j] - lefts[j]))
            r = g = b = np.float32(0)
            for x in range(first[j], last[j]):
                inside = np.float32(min(rights[j], x + 1) - max(lefts[j], x))
                r += inside * line[3 * x - begin]
                g += inside * line[3 * x + 1 - begin]
                b += inside * line[3 * x + 2 - begin]
            out[i, j, 0] = np.uint8(np.rint(r / area))
            out[i, j, 1] = np.uint8(np.rint(g / area))
            out[i, j, 2] = np.uint8(np.rint(b / area))
