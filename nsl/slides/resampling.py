"""Area averaging, compiled: apart from `nsl.slides.slide`, so that opening a file does not wait for the compiler."""

import math

import numpy as np

from nsl.parallel import kernel


@kernel
def average_rows(start, stop, pixels, tops, bottoms, lefts, rights, out):
    """Rows `start` to `stop` of `out` (m, n, 3): means over boxes of `pixels` (h, w, 3), fractions included."""
    width = pixels.shape[1]
    line = np.empty((width, 3), np.float32)
    for i in range(start, stop):
        line[:] = 0
        for y in range(math.floor(tops[i]), math.ceil(bottoms[i])):
            inside = np.float32(min(bottoms[i], y + 1) - max(tops[i], y))
            for x in range(width):
                for c in range(3):
                    line[x, c] += inside * pixels[y, x, c]
        for j in range(len(lefts)):
            area = np.float32((bottoms[i] - tops[i]) * (rights[j] - lefts[j]))
            r = g = b = np.float32(0)
            for x in range(math.floor(lefts[j]), math.ceil(rights[j])):
                inside = np.float32(min(rights[j], x + 1) - max(lefts[j], x))
                r += inside * line[x, 0]
                g += inside * line[x, 1]
                b += inside * line[x, 2]
            out[i, j, 0] = round(r / area)
            out[i, j, 1] = round(g / area)
            out[i, j, 2] = round(b / area)
