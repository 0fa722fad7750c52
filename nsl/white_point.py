"""The white point of a slide: how bright its unstained glass is."""

from typing import NamedTuple

import numpy as np

from nsl.stains import PAPER_WHITE
from nsl.system.parallel import kernel, read_only

# A background is bright and nearly neutral: the most tinted one seen was 222/208/225, while the palest
# eosinophilic stroma at the same brightness spreads over more than 40 grey levels between its channels.
_MIN_INTENSITY = 170
_MAX_SPREAD = 40
_MIN_FRACTION = 0.01
# Grey levels by which glass may darken over a slide; pale stroma lies farther below it.
_UNEVENNESS = 12


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
    counts = np.zeros((3, 256, 256), np.int64)
    least = _MIN_FRACTION * _count_background(read_only(image), counts)
    by_darkest = counts[0].sum(axis=1)
    if by_darkest.sum() <= least:
        return WhitePoint(PAPER_WHITE.copy(), "paper white")
    # Pale stroma may pass by its colour, and outweigh the glass; glass is the brightest of what is left.
    held = np.convolve(by_darkest, np.ones(5), "same")
    brightest = np.flatnonzero(held > least).max(initial=0)
    own = counts[:, max(brightest - _UNEVENNESS, 0) :].sum(axis=1)
    return WhitePoint(own.argmax(axis=1).astype(float), "background")


@kernel
def _count_background(image, counts):
    """Count pixels of the background by channel, darkest channel and intensity; return how many could be of it."""
    shown = 0
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            r, g, b = image[y, x]
            lightest, darkest = max(r, g, b), min(r, g, b)
            if lightest > 0 and darkest < 255:
                shown += 1
                if darkest >= _MIN_INTENSITY and lightest - darkest <= _MAX_SPREAD:
                    counts[0, darkest, r] += 1
                    counts[1, darkest, g] += 1
                    counts[2, darkest, b] += 1
    return shown
