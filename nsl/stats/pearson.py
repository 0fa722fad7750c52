"""Pearson's r between maps, how far it can be trusted, and false discoveries among many tests.

A map is a column of values at tiles or spots. One that is the same everywhere has no r; what varies by less than the
rounding of 32-bit floats counts as the same.
"""

from collections.abc import Iterator

import numpy as np
from scipy import stats

LEAST_EFFECTIVE = 4.0
"""Independent tiles or spots, of fewer of which an r has no p-value and no interval."""
_FLAT_SD = 1e-6
# Values worked on at once: 32 MB, and twice that in between.
_BATCH_VALUES = 4_000_000


def pearson_r(a: np.ndarray, b: np.ndarray, *, flat_r: float = np.nan) -> np.ndarray:
    """Correlate each column of (S, G) with the same column of (S, G): (G,); of two maps (S,), a single number.

    NaN where a value is missing or b is the same everywhere, and `flat_r` where only a is: a prediction that is the
    same everywhere is worth 0, since it says nothing of what was measured.
    """
    x, y = unit_columns(a), unit_columns(b)
    r = np.where(y.any(axis=0), (x * y).sum(axis=0), np.nan)
    return np.where(x.any(axis=0) | np.isnan(r), r, flat_r)


def pearson_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate each column of (S, G) with each of (S, H): (G, H); NaN where one is the same everywhere."""
    (mean_a, sd_a), (mean_b, sd_b) = mean_and_sd(a), mean_and_sd(b)
    products = np.zeros((a.shape[1], b.shape[1]))
    for block in blocks(len(a), a.shape[1] + b.shape[1]):
        products += (a[block] - mean_a).T @ (b[block] - mean_b)
    return np.clip(products / len(a) / np.outer(sd_a, sd_b), -1, 1)


def unit_columns(values: np.ndarray) -> np.ndarray:
    """Centre columns and bring them to length 1, in double precision; 0 where a column is the same everywhere."""
    values = np.asarray(values, float)
    mean = values.mean(axis=0)
    centred = values - mean
    length = np.sqrt((centred**2).sum(axis=0))
    flat = length <= _FLAT_SD * np.maximum(np.abs(mean), 1) * np.sqrt(len(values))
    return np.where(flat, 0, centred / np.where(flat, 1, length))


def mean_and_sd(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd of each column, in double precision; sd is NaN where a column is the same everywhere."""
    mean = values.mean(axis=0, dtype=np.float64)
    squares = np.zeros(values.shape[1])
    for block in blocks(*values.shape):
        squares += ((values[block] - mean) ** 2).sum(axis=0)
    sd = np.sqrt(squares / len(values))
    return mean, np.where(sd <= _FLAT_SD * np.maximum(np.abs(mean), 1), np.nan, sd)


def is_flat(values: np.ndarray) -> np.ndarray:
    """Find the columns of (S, G) that are the same everywhere, and so have no r: (G,) bool."""
    return np.isnan(mean_and_sd(values)[1])


def fisher_z(r: np.ndarray) -> np.ndarray:
    """Return Fisher's z, artanh r; it is finite for r of ±1 too."""
    return np.arctanh(_inside(r))


def fisher_half_width(effective_n: np.ndarray) -> np.ndarray:
    """Return half of the 95 % interval of Fisher's z, where r is known from `effective_n` independent tiles.

    NaN for fewer than `LEAST_EFFECTIVE`.
    """
    return stats.norm.ppf(0.975) * fisher_error(effective_n)


def fisher_error(effective_n: np.ndarray) -> np.ndarray:
    """Return the standard error of Fisher's z; NaN for fewer than `LEAST_EFFECTIVE` independent tiles."""
    return 1 / np.sqrt(np.where(effective_n < LEAST_EFFECTIVE, np.nan, effective_n) - 3)


def two_sided_p(r: np.ndarray, effective_n: np.ndarray) -> np.ndarray:
    """Return the p-value of an r known from `effective_n` independent tiles, by t with n − 2 degrees of freedom.

    NaN for fewer than `LEAST_EFFECTIVE`.
    """
    inside, effective_n = _inside(r), np.where(effective_n < LEAST_EFFECTIVE, np.nan, effective_n)
    t = inside * np.sqrt((effective_n - 2) / (1 - inside**2))
    return 2 * stats.t.sf(np.abs(t), effective_n - 2)


def _inside(r: np.ndarray) -> np.ndarray:
    # Maps that match without error have r = 1, of which z and t are infinite.
    return np.clip(r, -1 + 1e-12, 1 - 1e-12)


def q_values(p_values: np.ndarray) -> np.ndarray:
    """Return Benjamini and Hochberg's false discovery rate of each p-value; NaN stays NaN and does not count."""
    q = np.full(len(p_values), np.nan)
    known = np.isfinite(p_values)
    if known.any():
        q[known] = stats.false_discovery_control(p_values[known])
    return q


def blocks(number: int, size: int) -> Iterator[slice]:
    """Divide `number` things of `size` values each into slices that memory can hold."""
    step = max(_BATCH_VALUES // size, 1)
    for start in range(0, number, step):
        yield slice(start, start + step)
