"""Area averaging, compiled: apart from `nsl.slides.slide`, so that opening a file does not wait for the compiler."""

import math

import numpy as np

from nsl.system.parallel import kernel, over_rows, read_only

# Values of a picture so small that it is averaged before threads have begun.
_SMALL = 2**17

# Of an index without a sign the compiler need not ask whether it counts from the end.
_GREEN, _BLUE, _PIXEL = np.uint64(1), np.uint64(2), np.uint64(3)


def reduced(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture (h, w, 3) uint8 at a smaller size, (width, height): means over equal boxes."""
    edges = [side * np.arange(count + 1) / count for side, count in zip(picture.shape[1::-1], size, strict=True)]
    (lefts, rights), (tops, bottoms) = ((own[:-1], own[1:]) for own in edges)
    return box_means(picture, tops, bottoms, lefts, rights)


def box_means(
    pixels: np.ndarray, tops: np.ndarray, bottoms: np.ndarray, lefts: np.ndarray, rights: np.ndarray
) -> np.ndarray:
    """The mean colour of every box of `pixels` (h, w, 3) uint8, fractions of pixels included: (rows, columns, 3)."""
    lines, means = read_only(pixels).reshape(len(pixels), -1), np.empty((len(tops), 3 * len(lefts)), np.uint8)
    arguments = (lines, tops, bottoms, lefts, rights, means)
    if lines.size > _SMALL:
        over_rows(average_rows, len(means), *arguments)
    else:
        average_rows(0, len(means), *arguments)
    return means.reshape(len(tops), len(lefts), 3)


@kernel
def average_rows(start, stop, pixels, tops, bottoms, lefts, rights, out):
    """Rows `start` to `stop` of `out` (m, 3 n): means over boxes of `pixels` (h, 3 w), fractions included.

    Boxes come from left to right; what lies beside them is not looked at.
    """
    columns = len(lefts)
    first, last = np.floor(lefts).astype(np.int64), np.ceil(rights).astype(np.int64)
    begin, end = 3 * first[0], 3 * last[-1]
    places = (3 * first - begin).astype(np.uint64)
    # As many shares for every box, the last of them nothing where a box reaches over fewer pixels.
    most = np.max(last - first)
    shares, widths = np.zeros((columns, most), np.float32), np.empty(3 * columns)
    for j in range(columns):
        for x in range(first[j], last[j]):
            shares[j, x - first[j]] = min(rights[j], x + 1) - max(lefts[j], x)
        for c in range(3):
            widths[3 * j + c] = rights[j] - lefts[j]
    line, sums = np.zeros(end - begin + 3 * most, np.float32), np.empty(3 * columns, np.float32)
    for i in range(start, stop):
        line[:] = 0
        for y in range(math.floor(tops[i]), math.ceil(bottoms[i])):
            inside = np.float32(min(bottoms[i], y + 1) - max(tops[i], y))
            # Red, green and blue in one run, which the processor takes many at a time.
            own = pixels[y, begin:end]
            for x in range(len(own)):
                line[x] += inside * own[x]
        for j in range(columns):
            place, r = places[j], np.float32(0)
            g = b = r
            for k in range(most):
                r += shares[j, k] * line[place]
                g += shares[j, k] * line[place + _GREEN]
                b += shares[j, k] * line[place + _BLUE]
                place += _PIXEL
            sums[3 * j], sums[3 * j + 1], sums[3 * j + 2] = r, g, b
        height = bottoms[i] - tops[i]
        for k in range(3 * columns):
            out[i, k] = np.uint8(np.rint(sums[k] / np.float32(height * widths[k])))
