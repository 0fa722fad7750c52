"""Area averaging, compiled: apart from `nsl.slides.slide`, so that opening a file does not wait for the compiler."""

import math

import numpy as np

from nsl.system.parallel import kernel


@kernel
def average_rows(start, stop, pixels, tops, bottoms, lefts, rights, out):
    """Rows `start` to `stop` of `out` (m, n, 3): means over boxes of `pixels` (h, 3 w), fractions included."""
    width = pixels.shape[1]
    line = np.empty(width, np.float32)
    first, last = np.floor(lefts).astype(np.int64), np.ceil(rights).astype(np.int64)
    for i in range(start, stop):
        line[:] = 0
        for y in range(math.floor(tops[i]), math.ceil(bottoms[i])):
            inside = np.float32(min(bottoms[i], y + 1) - max(tops[i], y))
            # Red, green and blue in one run, which the processor takes many at a time.
            for x in range(width):
                line[x] += inside * pixels[y, x]
        for j in range(len(lefts)):
            area = np.float32((bottoms[i] - tops[i]) * (rights[j] - lefts[j]))
            r = g = b = np.float32(0)
            for x in range(first[j], last[j]):
                inside = np.float32(min(rights[j], x + 1) - max(lefts[j], x))
                r += inside * line[3 * x]
                g += inside * line[3 * x + 1]
                b += inside * line[3 * x + 2]
            out[i, j, 0] = np.uint8(np.rint(r / area))
            out[i, j, 1] = np.uint8(np.rint(g / area))
            out[i, j, 2] = np.uint8(np.rint(b / area))
