"""How many independent tiles or spots a map amounts to, where neighbours resemble each other.

The effective sample size is that of Clifford, Richardson and Hémon 1989 (Biometrics 45:123): the reciprocal of the
variance of r, plus one, where Var(r) = Σ_k N_k ρ_a(k) ρ_b(k) / S² for the autocorrelations ρ of two maps of S tiles,
and N_k ordered pairs of tiles whose distance is in class k. Spots that lie anywhere are compared pair by pair; on a
grid the same sums come from a Fourier transform, and those of all pairs of genes from one product.
"""

import math
from dataclasses import dataclass

import anndata
import numpy as np
from scipy import fft
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist, squareform

from nsl.errors import NslError
from nsl.stats.pearson import blocks, mean_and_sd, unit_columns
from nsl.tiles import TileGrid

# Where the first class of distances ends, in steps between neighbours, and how much further each of the next does. A
# class must be narrow beside the distance over which a map resembles itself, which is a few steps however large the
# slide; far off, where classes are wide, correlograms are flat.
_FIRST_CLASS, _CLASS_GROWTH = 1.2, 1.3


def effective_size_at_spots(a: np.ndarray, b: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Count the independent spots that would determine the correlation of two maps, column by column, as well.

    a, b : (S, G).
    centers : (S, 2) positions of the spots, in any one unit of length.

    Returns (G,) at most S, and S where a map is the same everywhere; NaN where a value is missing.
    """
    x, y = unit_columns(a), unit_columns(b)
    centers = np.asarray(centers, float)
    nearest = KDTree(centers).query(centers, [2])[0]
    # Of the spots that have neighbours on all sides; that of the two nearest of all may be an accident.
    step = np.quantile(nearest[nearest > 0], 0.1) if (nearest > 0).any() else 1.0
    distance = squareform(pdist(centers)) / step
    edges = _class_edges(distance.max())
    classes = np.searchsorted(edges, distance).astype(np.int8)
    variance = np.zeros(x.shape[1])
    for k in range(len(edges)):
        pairs = (classes == k).astype(float)
        number = pairs.sum()
        if number:
            variance += (x * (pairs @ x)).sum(axis=0) * (y * (pairs @ y)).sum(axis=0) / number
    return _size(variance, len(distance))


def effective_sizes_on_grid(
    result: anndata.AnnData | TileGrid, a: np.ndarray, b: np.ndarray | None = None
) -> np.ndarray:
    """Count the independent tiles that would determine the correlation of each pair of maps on a grid as well.

    What `effective_size_at_spots` gives for one pair, of all pairs: (S, G) and (S, H) maps make (G, H), or (G, G) where
    b is not given. At most S; NaN where a map is the same everywhere.
    """
    lags = _lags(result)
    a = _correlogram(lags, np.asarray(a))
    b = a if b is None else _correlogram(lags, np.asarray(b))
    return _size((a * lags.pairs) @ b.T / len(lags.row) ** 2, len(lags.row))


def _size(variance_of_r: np.ndarray, number: int) -> np.ndarray:
    with np.errstate(divide="ignore"):
        effective = 1 + 1 / np.maximum(variance_of_r, 0)
    return np.minimum(effective, number)


def _class_edges(longest: float) -> np.ndarray:
    """Where each class of distances ends, in steps between neighbours, up to the longest; the first holds only 0."""
    number = max(1, math.ceil(math.log(max(longest, 1) / _FIRST_CLASS, _CLASS_GROWTH)) + 2)
    return np.array([0.0, *(_FIRST_CLASS * _CLASS_GROWTH**k for k in range(number))])


@dataclass(frozen=True)
class _Lags:
    """Distances between the tiles of a grid in classes, and what sums products over their pairs."""

    row: np.ndarray  # (S,) from 0
    column: np.ndarray  # (S,) from 0
    padded: tuple[int, int]  # of the Fourier transform: at least twice the grid less one, so that no lag wraps round
    pairs: np.ndarray  # (K,) ordered pairs of tiles a class
    spectra: np.ndarray  # (frequencies, K): products summed over a class = |transform of the map|² · this


def _lags(place: anndata.AnnData | TileGrid) -> _Lags:
    """Class the distances of a result or a grid; places without a tile count nowhere. NslError for two at one place."""
    place = getattr(place, "obs", place)
    row, column = (np.asarray(axis, np.intp) for axis in (place.array_row, place.array_col))
    row, column = row - row.min(), column - column.min()
    rows, columns = int(row.max()) + 1, int(column.max()) + 1
    padded = (fft.next_fast_len(2 * rows - 1), fft.next_fast_len(2 * columns - 1, real=True))
    mask = np.zeros((rows, columns))
    np.add.at(mask, (row, column), 1)
    if mask.max() > 1:
        raise NslError("several tiles lie at one place of the grid; use the map of one slide at a time")
    classes, number = _lag_classes(mask, padded)
    weight = _frequency_weight(padded)
    pairs = np.empty(classes.max() + 1)
    spectra = np.empty((padded[0] * len(weight), len(pairs)))
    for k in range(len(pairs)):
        member = classes == k
        pairs[k] = number[member].sum()
        spectra[:, k] = (fft.rfft2(member.astype(float)).real * weight).ravel()
    return _Lags(row, column, padded, pairs, spectra)


def _lag_classes(mask: np.ndarray, padded: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each lag of the transform, −1 where no two tiles lie so, and its number of pairs."""
    number = np.rint(fft.irfft2(np.abs(fft.rfft2(mask, padded)) ** 2, padded))
    down, across = (fft.fftfreq(length, 1 / length) for length in padded)
    distance = np.hypot(down[:, None], across)
    classes = np.searchsorted(_class_edges(distance[number > 0].max()), distance)
    return np.where(number > 0, classes, -1), number


def _frequency_weight(padded: tuple[int, int]) -> np.ndarray:
    """Return the weight of each column of a real transform, which holds half of all frequencies, in a sum over all."""
    weight = np.full(padded[1] // 2 + 1, 2.0)
    weight[0] = 1
    if padded[1] % 2 == 0:
        weight[-1] = 1
    return weight / (padded[0] * padded[1])


def _autocovariance(lags: _Lags, values: np.ndarray) -> np.ndarray:
    """Average the product of a map's deviations from its mean at two tiles, by the distance between them.

    values is (S, G), a map a column. The result is (G, K): of tiles with themselves, which is the variance, then of the
    classes that `_class_edges` ends; 0 for a class that holds no pair.

    The autocorrelation of a map is the inverse transform of its power spectrum, so its sum over a class of lags is a
    scalar product of the power spectrum with the transform of that class (Parseval).
    """
    rows, columns = int(lags.row.max()) + 1, int(lags.column.max()) + 1
    sums = np.empty((values.shape[1], len(lags.pairs)))
    for genes in blocks(values.shape[1], lags.padded[0] * lags.padded[1]):
        batch = values[:, genes].astype(float)
        maps = np.zeros((batch.shape[1], rows, columns))
        maps[:, lags.row, lags.column] = (batch - batch.mean(axis=0)).T
        # Along the rows first: those that are padding need no transform.
        spectrum = fft.fft(fft.rfft(maps, lags.padded[1], axis=2), lags.padded[0], axis=1, overwrite_x=True)
        power = spectrum.real**2 + spectrum.imag**2
        sums[genes] = power.reshape(len(maps), -1) @ lags.spectra
    return sums / np.maximum(lags.pairs, 1)


def _correlogram(lags: _Lags, values: np.ndarray) -> np.ndarray:
    _, sd = mean_and_sd(values)
    return _autocovariance(lags, values) / sd[:, None] ** 2
