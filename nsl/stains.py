"""Beer–Lambert optics: optical density, the white point, and the stain vectors of a slide.

Everywhere in this package an optical density (OD) is a natural logarithm, `-ln((I + 1) / (I0 + 1))` for an
8-bit intensity I and white point I0, and a stain vector is a unit vector of RGB optical densities.
"""

from typing import NamedTuple

import numpy as np

# Ruifrok & Johnston 2001 (Anal Quant Cytol Histol 23:291), Table 1: hematoxylin, eosin, DAB as rows of OD.
HED_VECTORS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])

# Otsu's threshold on log OD lay between 0.08 and 0.13 on eight sections of three scanners.
TISSUE_OD = 0.10

PAPER_WHITE = np.array([255.0, 255.0, 255.0])
# A background is bright and nearly neutral: the most tinted one seen was 222/208/225, while the palest
# eosinophilic stroma at the same brightness spreads over more than 40 grey levels between its channels.
_BACKGROUND_MIN_INTENSITY = 170
_BACKGROUND_MAX_SPREAD = 40
_BACKGROUND_MIN_FRACTION = 0.01
# Grey levels by which glass may darken over a slide; pale stroma lies farther below it.
_BACKGROUND_UNEVENNESS = 12

# Macenko et al. 2009 (ISBI, 1107): pixels under this OD are noise, and the extreme angles are percentiles.
_MACENKO_MIN_OD = 0.15
_MACENKO_PERCENTILE = 1.0
_MACENKO_MIN_PIXELS = 1000


class WhitePoint(NamedTuple):
    """Intensity of unstained glass."""

    rgb: np.ndarray
    """(3,) float64, 0–255."""
    source: str
    """`"background"` where the slide shows glass, `"paper white"` where it does not and 255 was taken."""


def od_table(white_point: np.ndarray) -> np.ndarray:
    """Optical density of every 8-bit intensity: (3, 256) float32, one row a channel, clipped below at 0."""
    intensity = np.arange(256.0)
    od = -np.log((intensity + 1) / (np.asarray(white_point, float)[:, None] + 1))
    return np.maximum(od, 0).astype(np.float32)


def optical_density(image: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """Optical density of a uint8 RGB image (..., 3): float32 of the same shape, natural log, at least 0."""
    table = od_table(white_point)
    return np.stack([table[c][image[..., c]] for c in range(3)], axis=-1)


def transmitted(od: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """Colour seen through an optical density (..., 3): uint8 RGB, the inverse of `optical_density`."""
    intensity = (np.asarray(white_point) + 1) * np.exp(-np.asarray(od, float)) - 1
    return np.clip(np.rint(intensity), 0, 255).astype(np.uint8)


def estimate_white_point(image: np.ndarray) -> WhitePoint:
    """Mode, channel by channel, of the background of a uint8 RGB image (H, W, 3).

    Pure black and pure white pixels are padding or clipping and take no part. An image that shows no
    background (bright and nearly neutral on less than 1 % of it) gets paper white.
    """
    red, green, blue = (image[..., c] for c in range(3))
    lightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    valid = (lightest > 0) & (darkest < 255)
    bright = valid & (darkest >= _BACKGROUND_MIN_INTENSITY)
    background = bright & (lightest - darkest <= _BACKGROUND_MAX_SPREAD)
    if background.sum() <= _BACKGROUND_MIN_FRACTION * valid.sum():
        return WhitePoint(PAPER_WHITE.copy(), "paper white")
    # Pale stroma may pass by its colour, and outweigh the glass; glass is the brightest of what is left.
    held = np.convolve(np.bincount(darkest[background], minlength=256), np.ones(5), "same")
    brightest = np.flatnonzero(held > _BACKGROUND_MIN_FRACTION * valid.sum()).max(initial=0)
    background &= darkest >= brightest - _BACKGROUND_UNEVENNESS
    mode = [np.bincount(channel[background], minlength=256).argmax() for channel in (red, green, blue)]
    return WhitePoint(np.array(mode, float), "background")


def stained_colors(image: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """Optical densities (N, 3) of the stained pixels among every fourth of every fourth row of a uint8 RGB image."""
    sample = image[::4, ::4].reshape(-1, 3)
    return _stained(optical_density(sample[sample.any(axis=1)], white_point))


def estimate_stain_vectors(od: np.ndarray) -> np.ndarray | None:
    """Hematoxylin and eosin vectors of a slide by the method of Macenko et al. 2009.

    Parameters
    ----------
    od : (N, 3) optical densities of pixels; those hardly stained take no part.

    Returns
    -------
    (2, 3) float64 unit rows, hematoxylin (the stronger absorber of red) first; None for fewer than a thousand
    stained pixels, from which no vector can be told.
    """
    od = _stained(np.asarray(od, float))
    if len(od) < _MACENKO_MIN_PIXELS:
        return None
    plane = np.linalg.eigh(np.cov(od.T))[1][:, :0:-1]
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)
    x, y = (od @ plane).T
    extremes = np.percentile(np.arctan2(y, x), [_MACENKO_PERCENTILE, 100 - _MACENKO_PERCENTILE])
    vectors = np.stack([np.cos(extremes), np.sin(extremes)], axis=1) @ plane.T
    vectors = vectors[np.argsort(-vectors[:, 0])]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _stained(od: np.ndarray) -> np.ndarray:
    return od[od.min(axis=1) > _MACENKO_MIN_OD]


def angle_degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in degrees between vectors (..., 3) and (..., 3)."""
    cosine = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))
