"""How predicted expression agrees with what was measured on the same slide, spot by spot."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import anndata
import numpy as np
import pandas as pd
from scipy import stats

from nsl.errors import SpotsError
from nsl.spots.checks import match_genes
from nsl.spots.tables import expression_of
from nsl.stats.effective_size import effective_size_at_spots
from nsl.stats.pearson import fisher_half_width, fisher_z, pearson_r, q_values, two_sided_p, unit_columns
from nsl.system.progress import SILENT, Progress
from nsl.weights.reliability import SIGNIFICANT, USEFUL_R

LEAST_SPOTS = 4
"""The fewest spots of a correlation: Fisher's z has no interval for fewer."""
LEAST_COUNTED = 20
"""In fewer spots, a count beside a high prediction makes an r that a p-value takes for far more than it is.

Of genes that follow nothing and are counted in 5 of 2,025 spots 0.7 % get a p below 0.00001, in 20 spots 0.2 % and in
50 spots 0.03 %: a compromise, as many genes worth a look are counted in so few.
"""
# Correlated at once: bounds memory, and lets progress move, where thousands of spots have thousands of genes.
_GENES_AT_ONCE = 250


def gene_correlations(
    predicted: np.ndarray, measured: np.ndarray, centers: np.ndarray, genes: Sequence[str]
) -> pd.DataFrame:
    """Correlate predicted and measured expression of one section, gene by gene.

    Neighbouring spots resemble each other, so they count for less than their number: the interval and the p-value
    of Pearson's r rest on the effective sample size of both maps (`nsl.stats.effective_size`).

    predicted, measured : (S, G).
    centers : (S, 2) positions of the spots, in any one unit of length.

    Returns a row a gene: pearson_r, spearman_r, r_low and r_high (95 %, Fisher's z), effective_n, p_value (two-sided,
    t) and q_value (Benjamini–Hochberg over the genes). NaN where nothing was measured, or the same everywhere; r is 0
    where the prediction is the same everywhere.
    """
    r = pearson_r(predicted, measured, flat_r=0)
    effective = effective_size_at_spots(predicted, measured, centers)
    z, half = fisher_z(r), fisher_half_width(effective)
    p_value = two_sided_p(r, effective)
    ranks = [stats.rankdata(values, axis=0, nan_policy="propagate") for values in (predicted, measured)]
    return pd.DataFrame(
        {
            "pearson_r": r,
            "spearman_r": pearson_r(*ranks, flat_r=0),
            "r_low": np.tanh(z - half),
            "r_high": np.tanh(z + half),
            "effective_n": effective,
            "p_value": p_value,
            "q_value": q_values(p_value),
        },
        index=pd.Index(genes, name="gene"),
    )


def agreement(
    predicted: np.ndarray,
    measured: anndata.AnnData,
    centers_px: np.ndarray,
    genes: Sequence[str],
    *,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """Compare predictions with measured data over the spots of a slide, gene by gene.

    Takes time in proportion to genes times the square of the spots, and memory to the square of the spots.

    predicted : (S, G) from `nsl.prediction.predict_spots`; spots that are NaN take no part.
    measured : raw counts of the S spots, from `nsl.spots.measured.read_measured`; they are compared as log1p of counts
        per 10,000 of all genes measured.
    centers_px : (S, 2) positions of the spots, in any one unit of length.
    genes : names of the G columns; those that were measured are found by `nsl.spots.checks.match_genes`.
    progress : receives genes done and genes in all.

    Returns a row a gene that was both predicted and measured, in the order of `genes`: what `gene_correlations` gives
    (q_value is over all these genes), n_spots, and detected, the share of the spots with at least one count. A gene
    counted in fewer than LEAST_COUNTED spots has no p-value and no q-value, unless that is half of the spots.

    Raises SpotsError: fewer than LEAST_SPOTS spots have a prediction, or none of the genes was measured.
    Raises Cancelled: `progress` was cancelled.
    """
    known = np.isfinite(predicted).all(axis=1)
    if known.sum() < LEAST_SPOTS:
        raise SpotsError(
            f"{known.sum()} of {len(known)} spots have a prediction, and a correlation needs {LEAST_SPOTS}; "
            + ("measure more spots" if known.all() else "check the positions")
        )
    match = match_genes(measured, genes)
    column = pd.Index(genes).get_indexer(match.predicted)
    spots, predicted, centers_px = measured[known], predicted[known], np.asarray(centers_px)[known]
    parts = []
    for start in range(0, len(column), _GENES_AT_ONCE):
        chunk = slice(start, min(start + _GENES_AT_ONCE, len(column)))
        expression = expression_of(spots, match.measured[chunk])
        part = gene_correlations(predicted[:, column[chunk]], expression, centers_px, match.predicted[chunk])
        detected = (expression > 0).mean(axis=0)
        is_rare = detected < min(LEAST_COUNTED / len(expression), 0.5)
        parts.append(part.assign(detected=detected, p_value=part.p_value.mask(is_rare)))
        progress.check(chunk.stop, len(column), "comparing the genes")
    table = pd.concat(parts)
    return table.assign(q_value=q_values(table.p_value.to_numpy()), n_spots=int(known.sum()))


def signature_agreement(
    predicted: np.ndarray,
    measured: anndata.AnnData,
    centers_px: np.ndarray,
    measured_as: Mapping[str, Sequence[str]],
) -> tuple[pd.DataFrame, np.ndarray]:
    """Compare predicted scores of gene sets with measured ones over the spots of a slide.

    The measured score of a spot is the mean over the set's genes of their z-scores over the spots compared.

    predicted : (S, sets) scores; spots that are NaN take no part.
    measured, centers_px : as of `agreement`.
    measured_as : of each set the names of its genes among the measured.

    Returns a table as that of `agreement`, `detected` unknown and q_value over the sets, and the measured scores
    (S, sets), NaN where a spot takes no part.
    """
    known = np.isfinite(predicted).all(axis=1)
    spots, scores = measured[known], np.full(predicted.shape, np.nan)
    for column, names in enumerate(measured_as.values()):
        z = unit_columns(expression_of(spots, list(names))) * math.sqrt(known.sum())
        scores[known, column] = z.mean(axis=1)
    table = gene_correlations(predicted[known], scores[known], np.asarray(centers_px)[known], list(measured_as))
    return table.assign(detected=np.nan, n_spots=int(known.sum())), scores


class AgreementSummary(NamedTuple):
    """An `agreement` table in four numbers."""

    genes: int
    """Genes both predicted and measured, and not measured the same everywhere."""
    median_r: float
    """Median of Pearson's r; NaN where no gene could be compared."""
    significant: int
    """Genes with r above 0 at a false discovery rate under SIGNIFICANT."""
    useful: int
    """Genes with r above USEFUL_R."""


def agreement_summary(table: pd.DataFrame) -> AgreementSummary:
    """Summarise an `agreement` table."""
    r = table.pearson_r.dropna()
    significant = (table.pearson_r > 0) & (table.q_value < SIGNIFICANT)
    median = float(r.median()) if len(r) else math.nan
    return AgreementSummary(len(r), median, int(significant.sum()), int((r > USEFUL_R).sum()))
