"""Which genes of a map go together, and how a region differs from the rest, with neighbours counted for their worth.

Neighbouring tiles resemble each other, so a test that counts tiles finds everything significant. Correlations here
rest on the effective sample size of Clifford, Richardson and Hémon 1989 (Biometrics 45:123), as in `nsl.evaluate`. Its
autocorrelation comes from a Fourier transform of the grid, and that of all pairs of genes from one product.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import anndata
import numpy as np
import pandas as pd
from scipy import fft, stats
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from skimage.measure import points_in_poly

from nsl.errors import NslError
from nsl.evaluate import q_values
from nsl.tiles import TileGrid

MAX_GENES = 1_000
"""Genes correlated with each other at once; a thousand have half a million pairs."""
REGION_CAVEAT = (
    "The region was drawn by looking at the map, so its p- and q-values are smaller than those of a region chosen "
    "beforehand: use them to rank genes, not as proof."
)
"""To be said wherever the p-values of `compare_region` are shown."""
METHODS = ("pearson", "spearman")
LEAST_TILES = 3
"""On each side of a comparison."""

# As in nsl.evaluate.effective_sample_size, which this equals.
_DISTANCE_CLASSES = 15
_LEAST_EFFECTIVE = 4.0
# The best order of a thousand unrelated leaves takes seconds.
_BEST_ORDER_GENES = 500
# Values transformed at once: 32 MB, and twice that in between.
_BATCH_VALUES = 4_000_000


@dataclass(frozen=True)
class GeneCorrelations:
    """How G genes of one map go together; each array is (G, G) and symmetric."""

    genes: list[str]
    r: np.ndarray
    """Pearson's r, or Spearman's, which is Pearson's of the ranks; NaN for a gene that is the same everywhere."""
    effective_n: np.ndarray
    """Independent tiles that would know r as well."""
    p_value: np.ndarray
    """Two-sided, of t with effective_n − 2 degrees of freedom; NaN for a gene with itself."""
    q_value: np.ndarray
    """Benjamini and Hochberg's over the distinct pairs; NaN for a gene with itself."""
    method: str

    def pairs_table(self) -> pd.DataFrame:
        """A row a pair: gene_a, gene_b, r, effective_n, p_value, q_value; the largest |r| first, NaN last."""
        a, b = np.triu_indices(len(self.genes), 1)
        order = np.argsort(-np.abs(self.r[a, b]), kind="stable")
        a, b = a[order], b[order]
        genes = np.array(self.genes, object)
        numbers = {name: getattr(self, name)[a, b] for name in ("r", "effective_n", "p_value", "q_value")}
        return pd.DataFrame({"gene_a": genes[a], "gene_b": genes[b], **numbers})


def gene_correlations_over_tiles(
    result: anndata.AnnData, genes: Sequence[str] | None = None, method: str = "pearson"
) -> GeneCorrelations:
    """How predicted genes go together over the tiles of one slide.

    Predictions are made of few colour patterns, see `independent_patterns`: that two predicted genes go together
    says that their weights answer to the same colours, not that the genes are regulated together.

    Parameters
    ----------
    result : of `nsl.predict`.
    genes : two or more of its genes; all if not given.
    method : "pearson", or "spearman" for ranks.

    Raises
    ------
    NslError : fewer than two genes, more than 1,000, a gene the result does not hold, or fewer than four tiles.
    ValueError : another method.
    """
    if method not in METHODS:
        raise ValueError(f"the method must be one of {', '.join(METHODS)}, got {method}")
    genes = _require_genes(result, genes)
    if len(genes) < 2:
        raise NslError(f"correlations are between genes, and {len(genes)} is chosen; choose two or more")
    if len(genes) > MAX_GENES:
        raise NslError(
            f"{len(genes):,} genes have more pairs than are correlated at once; choose {MAX_GENES:,} genes or fewer, "
            "such as the reliable ones"
        )
    if result.n_obs < _LEAST_EFFECTIVE:
        raise NslError(f"correlations need four tiles or more, and this map has {result.n_obs}; ask for smaller tiles")
    values = _values(result, genes)
    if method == "spearman":
        values = np.stack([stats.rankdata(column).astype(np.float32) for column in values.T], axis=1)
    r, effective = _pearson_r(values, values), effective_sample_sizes(result, values)
    p_value = _two_sided_p(r, effective)
    # A gene with itself is no finding.
    np.fill_diagonal(p_value, np.nan)
    pairs = np.triu_indices(len(genes), 1)
    q_value = np.full_like(p_value, np.nan)
    q_value[pairs] = q_value.T[pairs] = q_values(p_value[pairs])
    return GeneCorrelations(genes, r, effective, p_value, q_value, method)


def _require_genes(result: anndata.AnnData, genes: Sequence[str] | None) -> list[str]:
    if genes is None:
        return list(result.var_names)
    unknown = [gene for gene in dict.fromkeys(genes) if gene not in result.var_names]
    if unknown:
        more = f" (and {len(unknown) - 1:,} more)" if len(unknown) > 1 else ""
        raise NslError(
            f"the map holds no gene {unknown[0]}{more}; choose among its {result.n_vars:,}, or predict that gene first"
        )
    return list(dict.fromkeys(genes))


def _values(result: anndata.AnnData, genes: list[str]) -> np.ndarray:
    """(S, G) predicted expression; a view of the result where all genes are wanted."""
    if genes == list(result.var_names):
        return np.asarray(result.X)
    return np.asarray(result.X[:, result.var_names.get_indexer(genes)])


def _pearson_r(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(G, H) Pearson r of each column of (S, G) with each of (S, H); NaN where one is the same everywhere."""
    (mean_a, sd_a), (mean_b, sd_b) = _mean_and_sd(a), _mean_and_sd(b)
    products = np.zeros((a.shape[1], b.shape[1]))
    for block in _blocks(len(a), a.shape[1] + b.shape[1]):
        products += (a[block] - mean_a).T @ (b[block] - mean_b)
    return np.clip(products / len(a) / np.outer(sd_a, sd_b), -1, 1)


def _mean_and_sd(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column, in double precision; sd is NaN where all that varies is the rounding of float32."""
    mean = values.mean(axis=0, dtype=np.float64)
    squares = np.zeros(values.shape[1])
    for block in _blocks(*values.shape):
        squares += ((values[block] - mean) ** 2).sum(axis=0)
    sd = np.sqrt(squares / len(values))
    return mean, np.where(sd <= 1e-6 * np.abs(mean), np.nan, sd)


def _blocks(number: int, size: int) -> Iterator[slice]:
    """Of `number` things of `size` values each, as many at once as memory allows."""
    step = max(_BATCH_VALUES // size, 1)
    for start in range(0, number, step):
        yield slice(start, start + step)


def _two_sided_p(r: np.ndarray, effective_n: np.ndarray) -> np.ndarray:
    """p-value of a correlation known as well as from `effective_n` independent tiles (t, n − 2 degrees of freedom)."""
    # r = 1 has t infinite.
    inside = np.clip(r, -1 + 1e-12, 1 - 1e-12)
    t = inside * np.sqrt((effective_n - 2) / (1 - inside**2))
    return 2 * stats.t.sf(np.abs(t), effective_n - 2)


# Autocorrelation


@dataclass(frozen=True)
class _Lags:
    """Distances between the tiles of a grid in classes, and what sums products over their pairs."""

    row: np.ndarray  # (S,) from 0
    column: np.ndarray  # (S,) from 0
    padded: tuple[int, int]  # of the Fourier transform: at least twice the grid less one, so that no lag wraps round
    pairs: np.ndarray  # (K,) ordered pairs of tiles a class
    spectra: np.ndarray  # (frequencies, K): products summed over a class = |transform of the map|² · this


def _lags(place: anndata.AnnData | TileGrid) -> _Lags:
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
    pairs = np.empty(_DISTANCE_CLASSES + 1)
    spectra = np.empty((padded[0] * len(weight), len(pairs)))
    for k in range(len(pairs)):
        member = classes == k
        pairs[k] = number[member].sum()
        spectra[:, k] = (fft.rfft2(member.astype(float)).real * weight).ravel()
    return _Lags(row, column, padded, pairs, spectra)


def _lag_classes(mask: np.ndarray, padded: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Of each lag, in the order of the transform: its class, −1 where no two tiles lie so, and its pairs of tiles."""
    number = np.rint(fft.irfft2(np.abs(fft.rfft2(mask, padded)) ** 2, padded))
    down, across = (fft.fftfreq(length, 1 / length) for length in padded)
    distance = np.hypot(down[:, None], across)
    longest = max(distance[number > 0].max(), 1)
    # Rounded, lest the last bit decide on which side of a class's edge a distance falls.
    classes = np.ceil(np.round(distance / longest * _DISTANCE_CLASSES, 9))
    return np.where(number > 0, classes, -1), number


def _frequency_weight(padded: tuple[int, int]) -> np.ndarray:
    """What each column of a real transform counts in a sum over all frequencies, of which it holds half."""
    weight = np.full(padded[1] // 2 + 1, 2.0)
    weight[0] = 1
    if padded[1] % 2 == 0:
        weight[-1] = 1
    return weight / (padded[0] * padded[1])


def autocovariance(result: anndata.AnnData | TileGrid, values: np.ndarray) -> np.ndarray:
    """Mean product of a map's deviations from its mean at two tiles, by the distance between them.

    Parameters
    ----------
    result : the result of `nsl.predict`, or the tile grid, whose tiles they are; places without a tile count nowhere.
    values : (S, G), a map a column.

    Returns
    -------
    (G, 16): of tiles with themselves, which is the variance, then of 15 equal classes up to the largest distance
    between tiles; 0 for a class that holds no pair.

    Raises
    ------
    NslError : several tiles at one place.
    """
    return _autocovariance(_lags(result), np.asarray(values))


def _autocovariance(lags: _Lags, values: np.ndarray) -> np.ndarray:
    """The autocorrelation of a map is the inverse transform of its power spectrum, so its sum over a class of lags is a
    scalar product of the power spectrum with the transform of that class (Parseval).
    """
    rows, columns = int(lags.row.max()) + 1, int(lags.column.max()) + 1
    sums = np.empty((values.shape[1], len(lags.pairs)))
    for genes in _blocks(values.shape[1], lags.padded[0] * lags.padded[1]):
        batch = values[:, genes].astype(float)
        maps = np.zeros((batch.shape[1], rows, columns))
        maps[:, lags.row, lags.column] = (batch - batch.mean(axis=0)).T
        # Along the rows first: those that are padding need no transform.
        spectrum = fft.fft(fft.rfft(maps, lags.padded[1], axis=2), lags.padded[0], axis=1, overwrite_x=True)
        power = spectrum.real**2 + spectrum.imag**2
        sums[genes] = power.reshape(len(maps), -1) @ lags.spectra
    return sums / np.maximum(lags.pairs, 1)


def effective_sample_sizes(
    result: anndata.AnnData | TileGrid, a: np.ndarray, b: np.ndarray | None = None
) -> np.ndarray:
    """Number of independent tiles that would know the correlation of each pair of maps as well.

    What `nsl.evaluate.effective_sample_size` gives for one pair, of all pairs: (S, G) and (S, H) maps make
    (G, H), or (G, G) where b is not given. At most S, at least 4; NaN where a map is the same everywhere.
    """
    lags = _lags(result)
    a = _correlogram(lags, np.asarray(a))
    b = a if b is None else _correlogram(lags, np.asarray(b))
    # Var(r) = Σ_k N_k ρ_a(k) ρ_b(k) / S², of N_k pairs in class k.
    variance = (a * lags.pairs) @ b.T / len(lags.row) ** 2
    with np.errstate(divide="ignore"):
        effective = 1 + 1 / np.maximum(variance, 0)
    return np.clip(effective, _LEAST_EFFECTIVE, max(len(lags.row), _LEAST_EFFECTIVE))


def _correlogram(lags: _Lags, values: np.ndarray) -> np.ndarray:
    _, sd = _mean_and_sd(values)
    return _autocovariance(lags, values) / sd[:, None] ** 2


# Patterns


def cluster_order(r: np.ndarray) -> np.ndarray:
    """Order that puts genes that go together side by side: average linkage on 1 − r.

    Leaves are in their best order for up to 500 genes. r is (G, G); NaN counts as 0.
    """
    if len(r) < 3:
        return np.arange(len(r))
    distance = 1 - np.nan_to_num((r + r.T) / 2)
    np.fill_diagonal(distance, 0)
    best = len(r) <= _BEST_ORDER_GENES
    return leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=best))


def independent_patterns(values: np.ndarray) -> float:
    """How many independent patterns maps (S, G) show: the participation ratio (Σλ)² / Σλ².

    λ are the eigenvalues of the maps' correlation. Maps that are all alike show 1, G unrelated ones nearly G. Maps
    that are the same everywhere do not count; 0 where all are.
    """
    r = _pearson_r(values, values)
    varied = np.isfinite(np.diag(r))
    r = r[np.ix_(varied, varied)]
    # The sum of the eigenvalues is the trace, that of their squares the sum of squares of r.
    return float(np.trace(r) ** 2 / (r**2).sum()) if len(r) else 0.0


# Regions


def tiles_in_box(result: anndata.AnnData, x0_mm: float, y0_mm: float, x1_mm: float, y1_mm: float) -> np.ndarray:
    """(S,) bool, whether a tile's centre lies in the box between two opposite corners, edges included.

    Positions are in mm from the slide's top left; NslError where one is not a number.
    """
    corners = _finite_mm([[x0_mm, y0_mm], [x1_mm, y1_mm]])
    centers = _centers_mm(result)
    return ((centers >= corners.min(axis=0)) & (centers <= corners.max(axis=0))).all(axis=1)


def tiles_in_lasso(result: anndata.AnnData, polygon_mm: np.ndarray) -> np.ndarray:
    """(S,) bool, whether a tile's centre lies in a polygon of (V, 2) x, y in mm from the slide's top left.

    The polygon need not be closed; where it crosses itself, the even-odd rule tells inside from outside. NslError
    for fewer than three corners, or one that is not a number.
    """
    polygon = _finite_mm(polygon_mm).reshape(-1, 2)
    if len(polygon) < 3:
        raise NslError(f"a lasso needs three corners or more, got {len(polygon)}; draw round the region again")
    return points_in_poly(_centers_mm(result), polygon)


def _finite_mm(positions: Sequence) -> np.ndarray:
    positions = np.asarray(positions, float)
    if not np.isfinite(positions).all():
        raise NslError("the region's corners must be numbers of mm; draw the region again")
    return positions


def _centers_mm(result: anndata.AnnData) -> np.ndarray:
    return result.obs[["x_um", "y_um"]].to_numpy(float) / 1000


def compare_region(result: anndata.AnnData, inside: np.ndarray, genes: Sequence[str] | None = None) -> pd.DataFrame:
    """How the tiles of a region differ from the rest of the slide, gene by gene.

    The effect size is Cohen's d, the difference in standard deviations within the two sides (pooled). d and the
    correlation of expression with being inside are one and the same, d = r/√(1 − r²) · √(S(S − 2)/(S₁S₀)) for S₁
    tiles inside and S₀ outside; p-value and interval are those of that correlation, whose effective sample size
    allows for neighbours that resemble each other in the map and in the region alike.

    A region that was drawn by looking at the map lies where the map is extreme, which no p-value here allows for: say
    `REGION_CAVEAT` beside it.

    Parameters
    ----------
    result : of `nsl.predict`.
    inside : (S,) bool, of `tiles_in_box` or `tiles_in_lasso`.
    genes : which to compare; all if not given.

    Returns
    -------
    A row a gene, the largest effect first: mean_inside, mean_outside and difference (in the units of the result),
    effect_size with effect_low and effect_high (95 %), effective_n, p_value (two-sided), q_value (Benjamini–Hochberg
    over the genes) and r_heldout. Effects are NaN, and last, for genes that are the same everywhere.

    Raises
    ------
    NslError : fewer than three tiles inside or outside, or a gene the result does not hold.
    ValueError : inside is not one bool a tile.
    """
    inside = np.asarray(inside)
    if inside.dtype != bool or inside.shape != (result.n_obs,):
        raise ValueError(f"a region is one bool a tile, ({result.n_obs},), got {inside.dtype} {inside.shape}")
    _check_sides(inside)
    genes = _require_genes(result, genes)
    values, indicator = _values(result, genes), inside[:, None].astype(float)
    r = _pearson_r(values, indicator)[:, 0]
    effective = effective_sample_sizes(result, values, indicator)[:, 0]
    half = stats.norm.ppf(0.975) / np.sqrt(effective - 3)
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    p_value = _two_sided_p(r, effective)
    mean_inside, mean_outside = (
        values.mean(axis=0, dtype=np.float64, where=side[:, None]) for side in (inside, ~inside)
    )
    table = pd.DataFrame(
        {
            "mean_inside": mean_inside,
            "mean_outside": mean_outside,
            "difference": mean_inside - mean_outside,
            "effect_size": _cohens_d(z, inside),
            "effect_low": _cohens_d(z - half, inside),
            "effect_high": _cohens_d(z + half, inside),
            "effective_n": effective,
            "p_value": p_value,
            "q_value": q_values(p_value),
            "r_heldout": result.var["r_heldout"].reindex(genes).to_numpy(),
        },
        index=pd.Index(genes, name="gene"),
    )
    return table.sort_values("effect_size", key=lambda effect: -effect.abs(), kind="stable")


def _check_sides(inside: np.ndarray) -> None:
    number, tiles = int(inside.sum()), len(inside)
    if number == 0:
        raise NslError("the region holds no tile's centre; draw it larger, or over the tissue")
    if number == tiles:
        raise NslError(f"the region holds all {tiles:,} tiles, so there is no rest to compare with; draw it smaller")
    if number < LEAST_TILES:
        raise NslError(f"the region holds {number} of {tiles:,} tiles, and needs {LEAST_TILES}; draw it larger")
    if tiles - number < LEAST_TILES:
        raise NslError(
            f"the region leaves {tiles - number} of {tiles:,} tiles outside, and needs {LEAST_TILES}; draw it smaller"
        )


def _cohens_d(z: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Difference of means over the pooled sd, from Fisher's z of r: r/√(1 − r²) is sinh z."""
    tiles, number = len(inside), int(inside.sum())
    return np.sinh(z) * np.sqrt(tiles * (tiles - 2) / (number * (tiles - number)))
