"""How groups of slides differ, gene by gene: a slide is one observation, however many tiles it has."""

from collections.abc import Sequence

import anndata
import numpy as np
import pandas as pd

from nsl.errors import NslError
from nsl.result import require_genes, values_of
from nsl.stats.pearson import pearson_matrix
from nsl.stats.regions import difference_table

LEAST_SLIDES = 3
"""The fewest slides on each side of a comparison."""
GROUP_CAVEAT = (
    "Each slide counts once, whatever its size. Groups that were stained or scanned in different runs differ in colour "
    "for that reason too, and slides of one patient are no independent observations: neither is allowed for here."
)
"""Belongs wherever the p-values of `compare_groups` are shown."""


def compare_groups(cohort: anndata.AnnData, inside: np.ndarray, genes: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare the means of one group of slides with those of the others, gene by gene.

    The effect size is Cohen's d, the difference in standard deviations between slides within the two groups (pooled);
    p-value and interval are those of the correlation of the slides' means with being in the group, as in
    `nsl.stats.regions.compare_region`, whose effective sample size is here the number of slides.

    cohort : slides × genes, means over each slide's tiles.
    inside : (N,) bool, which of the slides are in the group.
    genes : all if not given.

    Returns the columns of `compare_region`, the largest effect first.

    Raises NslError: fewer than three slides on a side, or a gene that the cohort does not hold.
    """
    inside = np.asarray(inside, bool)
    sides = int(inside.sum()), int((~inside).sum())
    if min(sides) < LEAST_SLIDES:
        raise NslError(
            f"the groups have {sides[0]} and {sides[1]} slides, and a comparison needs {LEAST_SLIDES} in each; choose "
            "others, or add slides"
        )
    genes = require_genes(cohort, genes)
    values = values_of(cohort, genes)
    r = pearson_matrix(values, inside[:, None].astype(float))[:, 0]
    table = difference_table(values, inside, r, np.full(len(genes), float(len(inside))))
    table["r_heldout"] = cohort.var["r_heldout"].reindex(genes).to_numpy()
    return table.set_axis(pd.Index(genes, name="gene")).sort_values(
        "effect_size", key=lambda effect: -effect.abs(), kind="stable"
    )
