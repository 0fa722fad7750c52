"""Beer–Lambert optics: optical density, and the stain vectors of a slide.

Everywhere in this package an optical density (OD) is a natural logarithm, `-ln((I + 1) / (I0 + 1))` for an
8-bit intensity I and white point I0, and a stain vector is a unit vector of RGB optical densities.
"""

from typing import NamedTuple

import numpy as np

# Ruifrok & Johnston 2001 (Anal Quant Cytol Histol 23:291), Table 1: hematoxylin, eosin, DAB as rows of OD.
HED_VECTORS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])

STAIN_NAMES = ("hematoxylin", "eosin")
"""In the order of all rows of stain vectors."""

# Otsu's threshold on log OD lay between 0.08 and 0.13 on eight sections of three scanners.
TISSUE_OD = 0.10

PAPER_WHITE = np.array([255.0, 255.0, 255.0])

# Macenko et al. 2009 (ISBI, 1107): the extreme angles are percentiles, and so is what counts as strong. Of 0.3 to 5 and
# of 75 to 99.7 these served best, where patients were left out and where their images were black at the rim.
_EXTREME_PERCENTILE = 0.5
_FIRST_PERCENTILE = 5.0  # before pixels that are no mixture of two stains can be told
_STRONG_PERCENTILE = 99.0
# Of the slide's own strong pixels: a limit in OD is met by less of the tissue where the same slide is stained weakly.
_STAINED_SHARE = 0.5
_SELECTIONS = 4
# No stain takes so much of every colour from the light; the rim of black padding does.
_BLACK_OD = 2.0
# Of a pixel's OD, that neither stain explains: grey and black (folds, ink, the rim of black padding) have 0.2 or more.
_MOST_UNEXPLAINED = 0.15
_LEAST_PIXELS = 1000


def od_table(white_point: np.ndarray) -> np.ndarray:
    """Optical density of every 8-bit intensity: (3, 256) float32, one row a channel, clipped below at 0."""
    intensity = np.arange(256.0)
    od = -np.log((intensity + 1) / (np.asarray(white_point, float)[:, None] + 1))
    return np.maximum(od, 0).astype(np.float32)


def optical_density(image: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """Optical density of a uint8 RGB image (..., 3): float32 of the same shape, natural log, at least 0."""
    table = od_table(white_point)
    return np.stack([table[c][image[..., c]] for c in range(3)], axis=-1)


def is_shown(image: np.ndarray) -> np.ndarray:
    """(...) bool, which pixels of a uint8 RGB image (..., 3) are not padding, which is pure black."""
    # NumPy takes ten times as long to reduce an axis of three.
    return (image[..., 0] | image[..., 1] | image[..., 2]) > 0


def transmitted(od: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """Colour seen through an optical density (..., 3): uint8 RGB, the inverse of `optical_density`."""
    intensity = (np.asarray(white_point) + 1) * np.exp(-np.asarray(od, float)) - 1
    return np.clip(np.rint(intensity), 0, 255).astype(np.uint8)


class SlideStains(NamedTuple):
    """How a slide, or a set of slides, is stained."""

    vectors: np.ndarray
    """(2, 3) float64 unit rows, hematoxylin (the stronger absorber of red) first."""
    strengths: np.ndarray
    """(2,) float64, the 99th percentile of each stain's concentration (OD along its vector) in stained pixels."""
    residual: float = 0.0
    """Root mean square OD that neither stain explains, over that of the pixels; 0 where all mix these two."""


def completed(vectors: np.ndarray) -> np.ndarray:
    """Stain vectors (2, 3) with the unit vector at right angles to both below them: (3, 3)."""
    normal = np.cross(*vectors)
    return np.vstack([vectors, normal / np.linalg.norm(normal)])


def tissue_colors(image: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """Optical densities (N, 3) of those pixels of a uint8 RGB image (..., 3) that are tissue and not padding."""
    # A channel at a time: sums over an axis of three take many times as long.
    red, green, blue = channels = np.ascontiguousarray(image.reshape(-1, 3).T)
    od = np.stack([table[channel] for table, channel in zip(od_table(white_point), channels, strict=True)])
    is_tissue = (od[0] + od[1] + od[2] > 3 * TISSUE_OD) & ((red | green | blue) > 0)
    return od[:, is_tissue].T


def estimate_stains(od: np.ndarray) -> SlideStains | None:
    """Estimate hematoxylin and eosin of a slide, after Macenko et al. 2009.

    Their vectors are the extreme angles in the plane that holds most of the optical density. Macenko's threshold is in
    OD; here the pixels that count are those with at least half of what strong pixels hold of both stains together,
    found by going from pixels to vectors and back. So the same tissue stained by another laboratory, in other vectors
    or strengths, gives estimates that differ by just that.

    od : (N, 3) optical densities of tissue.

    None for fewer than a thousand pixels, or where they hold but one colour: no two stains can be told from these.
    """
    od = np.ascontiguousarray(np.asarray(od, float).T)
    od = stained = _columns(od, od.min(axis=0) < _BLACK_OD)
    most_unexplained = _MOST_UNEXPLAINED * np.sqrt((od**2).sum(axis=0))
    for selection in range(_SELECTIONS):
        if stained.shape[1] < _LEAST_PIXELS:
            return None
        vectors = _extreme_vectors(stained, _EXTREME_PERCENTILE if selection else _FIRST_PERCENTILE)
        if angle_degrees(*vectors) < 1:
            return None
        *amounts, neither = np.linalg.inv(completed(vectors)).T @ od
        mixes = np.abs(neither) < most_unexplained
        if not mixes.any():
            return None
        strengths = np.array([_percentile(amount[mixes], _STRONG_PERCENTILE) for amount in amounts])
        if not (strengths > 0).all():
            return None
        keep = mixes & (amounts[0] / strengths[0] + amounts[1] / strengths[1] > _STAINED_SHARE)
        stained = _columns(od, keep)
    if not stained.size:
        return None
    residual = np.sqrt((neither[keep] ** 2).mean() / (stained**2).sum(axis=0).mean())
    return SlideStains(vectors, strengths, float(residual))


def _extreme_vectors(od: np.ndarray, percentile: float) -> np.ndarray:
    """The two unit vectors (2, 3) between which nearly all optical densities (3, N) lie, the redder absorber first."""
    plane = np.linalg.eigh(od @ od.T)[1][:, :0:-1]
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)
    x, y = plane.T @ od
    # Optical densities are at least 0, so x is too, and angles have the order of their tangents.
    slopes = y / np.maximum(x, 1e-9)
    extremes = np.arctan([_percentile(slopes, percentile), _percentile(slopes, 100 - percentile)])
    vectors = np.stack([np.cos(extremes), np.sin(extremes)], axis=1) @ plane.T
    return vectors[np.argsort(-vectors[:, 0])]


def _percentile(values: np.ndarray, percentile: float) -> float:
    """The value (N,) of nearest rank: of a thousand and more as good as one between ranks, and found much faster."""
    rank = round(percentile / 100 * (len(values) - 1))
    return np.partition(values, rank)[rank]


def _columns(od: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """What `od[:, keep]` is, in a quarter of the time."""
    return np.compress(keep, od, axis=1)


def angle_degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in degrees between vectors (..., 3) and (..., 3)."""
    cosine = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))
