"""How a region of a map differs from the rest: the tiles in a box, a lasso or annotations, and their genes."""

from collections.abc import Mapping, Sequence

import anndata
import numpy as np
import pandas as pd
from skimage.measure import points_in_poly

from nsl.errors import NslError
from nsl.result import require_genes, trust_of, values_of
from nsl.stats.effective_size import effective_sizes_on_grid
from nsl.stats.pearson import fisher_half_width, fisher_z, pearson_matrix, q_values, two_sided_p

REGION_CAVEAT = (
    "The region was drawn by looking at the map, so its p- and q-values are smaller than those of a region chosen "
    "beforehand: use them to rank genes, not as proof."
)
"""Belongs wherever the p-values of `compare_region` are shown."""
ANNOTATION_CAVEAT = (
    "Regions are drawn on the H&E, and expression is predicted from its colour: that classes differ says that they are "
    "coloured differently, and is no independent proof that the genes are. Of a region that was drawn by looking at a "
    "map, p- and q-values are smaller than of one chosen beforehand, too."
)
"""Belongs wherever the p-values of `compare_classes` are shown."""
LEAST_TILES = 3
"""The fewest tiles on each side of a comparison."""


def points_inside(points: np.ndarray, area: Mapping) -> np.ndarray:
    """Find which of points (N, 2) lie in an area drawn around them: (N,) bool.

    area : its `kind`, "box" or "lasso", with the x and y of its corners in the unit of the points. A box has two
        opposite corners, and holds its edges. A lasso need not be closed; where it crosses itself, the even-odd rule
        tells inside from outside.

    NslError for a lasso of fewer than three corners, or a corner that is not a number.
    """
    corners = np.column_stack([np.asarray(area[axis], float) for axis in "xy"])
    if not np.isfinite(corners).all():
        raise NslError("the region's corners must be numbers; draw the region again")
    if area["kind"] == "box":
        return ((points >= corners.min(axis=0)) & (points <= corners.max(axis=0))).all(axis=1)
    if len(corners) < 3:
        raise NslError(f"a lasso needs three corners or more, got {len(corners)}; draw round the region again")
    return points_in_poly(points, corners)


def compare_region(result: anndata.AnnData, inside: np.ndarray, genes: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare the tiles of a region with the rest of the slide, gene by gene.

    The effect size is Cohen's d, the difference in standard deviations within the two sides (pooled). d and the
    correlation of expression with being inside are one and the same, d = r/√(1 − r²) · √(S(S − 2)/(S₁S₀)) for S₁
    tiles inside and S₀ outside; p-value and interval are those of that correlation, whose effective sample size
    allows for neighbours that resemble each other in the map and in the region alike.

    A region that was drawn by looking at the map lies where the map is extreme, which no p-value here allows for: say
    `REGION_CAVEAT` beside it.

    inside : (S,) bool, which of the tiles of a result of `nsl.predict` are in the region.
    genes : all if not given.

    Returns a row a gene, the largest effect first: mean_inside, mean_outside and difference (in the units of the
    result), effect_size with effect_low and effect_high (95 %), effective_n, p_value (two-sided), q_value
    (Benjamini–Hochberg over the genes), r_heldout and, where the result says it, trust. Effects are NaN, and last, for
    genes that are the same everywhere. Interval, p-value and q-value are NaN where the tiles count for fewer than
    `nsl.stats.pearson.LEAST_EFFECTIVE` independent ones, as of two small regions that are each alike all over.

    Raises NslError: fewer than three tiles inside or outside, or a gene the result does not hold.
    Raises ValueError: inside is not one bool a tile.
    """
    inside = np.asarray(inside)
    if inside.dtype != bool or inside.shape != (result.n_obs,):
        raise ValueError(f"a region is one bool a tile, ({result.n_obs},), got {inside.dtype} {inside.shape}")
    _check_sides(inside)
    return _compared(result, inside[:, None], genes)[0]


def compare_classes(result: anndata.AnnData, classes: np.ndarray, genes: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare each class of annotated tiles with all other tiles, gene by gene, as `compare_region` does.

    Say `ANNOTATION_CAVEAT` beside it.

    classes : (S,) str, the class of each tile, empty for none: `obs["region_class"]`, say.
    genes : all if not given.

    Returns the rows of `compare_region` by class and gene, with tiles_inside and tiles_outside before them; q-values
    are over the genes of one class. Classes of fewer than three tiles, or that leave fewer outside, are not in it.

    Raises NslError: there is no class that can be compared, or a gene the result does not hold.
    """
    classes = np.asarray(classes, str)
    counts = pd.Series(classes[classes != ""]).value_counts(sort=False).sort_index()
    names = list(counts.index[(counts >= LEAST_TILES) & (counts <= len(classes) - LEAST_TILES)])
    if not names:
        several = f"none of the {len(counts):,} classes has" if len(counts) > 1 else "what was annotated has not"
        none = several if len(counts) else "no region has"
        raise NslError(
            f"{none} {LEAST_TILES} tiles inside and {LEAST_TILES} outside to compare; bring larger regions, or predict "
            "outside of them too"
        )
    insides = classes[:, None] == np.array(names)
    tables = _compared(result, insides, genes)
    for table, number in zip(tables, insides.sum(axis=0), strict=True):
        table.insert(0, "tiles_inside", number)
        table.insert(1, "tiles_outside", len(classes) - number)
    return pd.concat(dict(zip(names, tables, strict=True)), names=["class", "gene"])


def _compared(result: anndata.AnnData, insides: np.ndarray, genes: Sequence[str] | None) -> list[pd.DataFrame]:
    """The table of `compare_region` for each column of `insides` (S, K)."""
    genes = require_genes(result, genes)
    values, indicators = values_of(result, genes), insides.astype(float)
    r = pearson_matrix(values, indicators)
    effective = effective_sizes_on_grid(result, values, indicators)
    return [
        _difference_table(values, insides[:, k], r[:, k], effective[:, k])
        .set_axis(pd.Index(genes, name="gene"))
        .join(trust_of(result))
        .sort_values("effect_size", key=lambda effect: -effect.abs(), kind="stable")
        for k in range(insides.shape[1])
    ]


def _difference_table(values: np.ndarray, inside: np.ndarray, r: np.ndarray, effective: np.ndarray) -> pd.DataFrame:
    """The figures of `compare_region`, a row a column of values (S, G).

    inside : (S,) bool, the observations that are compared with the others.
    r : (G,) of each column with being inside, and effective (G,) the independent observations that it is known from.
    """
    z, half = fisher_z(r), fisher_half_width(effective)
    p_value = two_sided_p(r, effective)
    mean_inside, mean_outside = (
        values.mean(axis=0, dtype=np.float64, where=side[:, None]) for side in (inside, ~inside)
    )
    return pd.DataFrame(
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
        }
    )


def _check_sides(inside: np.ndarray) -> None:
    number, tiles = int(inside.sum()), len(inside)
    if number == 0:
        raise NslError("the region holds no tile; draw it larger, or over the tissue")
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
