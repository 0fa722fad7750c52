"""The white point of a slide: how bright its unstained glass is."""

from typing import NamedTuple

import numpy as np

from nsl.stains import PAPER_WHITE
from nsl.system.parallel import kernel, over_rows, read_only

# A background is bright and nearly neutral: the most tinted one seen was 222/208/225, while the palest
# eosinophilic stroma at the same brightness spreads over more than 40 grey levels between its channels.
_MIN_INTENSITY = 170
_MAX_SPREAD = 40
_MIN_FRACTION = 0.01
# Grey levels by which glass may darken over a slide; pale stroma lies farther below it.
_UNEVENNESS = 12
# Of an image, counted apart.
_PARTS = 4


class WhitePoint(NamedTuple):
    """Intensity of unstained glass."""

    rgb: np.ndarray
    """(3,) float64, 0–255."""
    source: str
    """`"background"` where the slide shows glass, `"paper white"` where it does not and 255 was taken."""


def estimate_white_point(image: np.ndarray) -> WhitePoint:
    """Mode, channel by channel, of the background of a uint8 RGB image (H, W, 3).

    Pure black and pure white pixels are padding or clipping and take no part. An image that shows no
    background (bright and nearly neutral on less than 1 % of it) gets paper white.
    """
    # A row for each darkest channel that a background may have.
    counts, shown = np.zeros((_PARTS, 3, 256 - _MIN_INTENSITY, 256), np.int32), np.zeros(_PARTS, np.int64)
    over_rows(_count_background, _PARTS, read_only(image), counts, shown)
    counts, least = counts.sum(axis=0), _MIN_FRACTION * shown.sum()
    by_darkest = counts[0].sum(axis=1)
    if by_darkest.sum() <= least:
        return WhitePoint(PAPER_WHITE.copy(), "paper white")
    # Pale stroma may pass by its colour, and outweigh the glass; glass is the brightest of what is left.
    held = np.convolve(by_darkest, np.ones(5), "same")
    brightest = np.flatnonzero(held > least).max(initial=0)
    own = counts[:, max(brightest - _UNEVENNESS, 0) :].sum(axis=1)
    return WhitePoint(own.argmax(axis=1).astype(float), "background")


@kernel
def _count_background(start, stop, image, counts, shown):
    """Count pixels of the background by channel, row and intensity, and how many could be of it."""
    height, parts = image.shape[0], len(counts)
    for part in range(start, stop):
        seen = 0
        for y in range(height * part // parts, height * (part + 1) // parts):
            for x in range(image.shape[1]):
                r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
                lightest, darkest = max(r, g, b), min(r, g, b)
                if lightest > 0 and darkest < 255:
                    seen += 1
                    if darkest >= _MIN_INTENSITY and lightest - darkest <= _MAX_SPREAD:
                        row = darkest - _MIN_INTENSITY
                        counts[part, 0, row, r] += 1
                        counts[part, 1, row, g] += 1
                        counts[part, 2, row, b] += 1
        shown[part] = seen
