"""How groups of slides differ, gene by gene: a slide is one observation, however many tiles it has."""

import warnings
from collections.abc import Sequence

import anndata
import numpy as np
import pandas as pd
from scipy import stats

from nsl.errors import NslError
from nsl.result import require_genes, trust_of, values_of
from nsl.stats.pearson import q_values

LEAST_SLIDES = 3
"""The fewest slides, or patients where these are known, on each side of a comparison."""
GROUP_CAVEAT = (
    "Each slide counts once, whatever its size, and slides of one patient in one group count as one where the list of "
    "slides has a column `patient`: they are no independent observations. Where every patient has slides in both "
    "groups, each is compared with themself. Groups that were stained or scanned in different runs "
    "differ in colour for that reason too, which is not allowed for here."
)
"""Belongs wherever the p-values of `compare_groups` are shown."""


def compare_groups(cohort: anndata.AnnData, inside: np.ndarray, genes: Sequence[str] | None = None) -> pd.DataFrame:
    """Compare the means of one group of slides with those of the others, gene by gene.

    The effect size is Cohen's d, the difference in standard deviations between slides within the two groups (pooled).
    The p-value is that of Welch's t: groups of unequal size scatter unequally, too, and a pooled variance would then
    find differences where there are none. The interval takes the standard error of Welch's difference and that of the
    pooled standard deviation (Hedges and Olkin 1985, Statistical Methods for Meta-Analysis, chapter 5). A gene that is
    the same on every slide of each group has neither.

    Slides of one patient on one side are no independent observations, and count as one, their mean. Where all patients
    are on both sides, p-value and interval are those of Student's t of the differences within patients.

    cohort : slides × genes, means over each slide's tiles; obs["patient"] says whose they are, empty where unknown.
    inside : (N,) bool, which of the slides are in the group.
    genes : all if not given.

    Returns the columns of `compare_region` but for effective_n, the largest effect first.

    Raises NslError: fewer than three slides or patients on a side, or a gene that the cohort does not hold.
    """
    inside, observed = np.asarray(inside, bool), observations(cohort)
    sides = observed[inside].nunique(), observed[~inside].nunique()
    if min(sides) < LEAST_SLIDES:
        what = "slides" if observed.is_unique else "patients"
        raise NslError(
            f"the groups have {sides[0]} and {sides[1]} {what}, and a comparison needs {LEAST_SLIDES} in each; choose "
            f"others, or add {what}"
        )
    genes = require_genes(cohort, genes)
    values = pd.DataFrame(values_of(cohort, genes).astype(float))
    a, b = (values[side].groupby(observed.to_numpy()[side]).mean() for side in (inside, ~inside))
    is_paired = a.index.equals(b.index)
    a, b = a.to_numpy(), b.to_numpy()
    values = np.concatenate([a, b])
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    variance_a, variance_b = a.var(axis=0, ddof=1), b.var(axis=0, ddof=1)
    pooled_sd = np.sqrt(((sides[0] - 1) * variance_a + (sides[1] - 1) * variance_b) / (len(values) - 2))
    # What rounding leaves of the spread of copies is none.
    pooled_sd[pooled_sd <= 1e-6 * np.abs(values).max(axis=0)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of SciPy, at copies
        test = stats.ttest_rel(a, b) if is_paired else stats.ttest_ind(a, b, equal_var=False)
    effect = (mean_a - mean_b) / pooled_sd
    if is_paired:
        of_difference = (a - b).var(axis=0, ddof=1) / len(a) / pooled_sd**2
    else:
        of_difference = (variance_a / sides[0] + variance_b / sides[1]) / pooled_sd**2
    of_sd = effect**2 / (2 * (len(values) - 2))
    half = np.sqrt(stats.t.ppf(0.975, test.df) ** 2 * of_difference + stats.norm.ppf(0.975) ** 2 * of_sd)
    p_value = np.where(np.isnan(pooled_sd), np.nan, test.pvalue)
    table = pd.DataFrame(
        {
            "mean_inside": mean_a,
            "mean_outside": mean_b,
            "difference": mean_a - mean_b,
            "effect_size": effect,
            "effect_low": effect - half,
            "effect_high": effect + half,
            "p_value": p_value,
            "q_value": q_values(p_value),
        },
        index=pd.Index(genes, name="gene"),
    )
    return table.join(trust_of(cohort)).sort_values("effect_size", key=lambda effect: -effect.abs(), kind="stable")


def observations(cohort: anndata.AnnData) -> pd.Series:
    """What each slide counts as: its patient, where the cohort says it, or itself. Text, by the slides' names."""
    alone = pd.Series([f"slide {name}" for name in cohort.obs_names], cohort.obs_names)
    if "patient" not in cohort.obs:
        return alone
    patient = cohort.obs["patient"].astype(object).fillna("").astype(str)
    return ("patient " + patient).where(patient != "", alone)
