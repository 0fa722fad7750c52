"""Which genes of a map go together, and how many patterns they show, with neighbours counted for their worth.

Neighbouring tiles resemble each other, so a test that counts tiles finds everything significant. Correlations here
rest on the effective sample sizes of `nsl.stats.effective_size`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import anndata
import numpy as np
import pandas as pd
from scipy import stats
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from nsl.errors import NslError
from nsl.result import require_genes, values_of
from nsl.stats.effective_size import effective_sizes_on_grid
from nsl.stats.pearson import LEAST_EFFECTIVE, pearson_matrix, q_values, two_sided_p

MAX_GENES = 1_000
"""Genes correlated with each other at once; a thousand have half a million pairs."""
METHODS = ("pearson", "spearman")
SAME_R = 0.95
"""|r| of two maps from which they are one picture to the eye."""

# The best order of a thousand unrelated leaves takes seconds.
_BEST_ORDER_GENES = 500


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
    """Correlate predicted genes with each other over the tiles of one slide.

    Predictions are made of few colour patterns, see `independent_patterns`: that two predicted genes go together
    says that their weights answer to the same colours, not that the genes are regulated together.

    genes : two or more of those of a result of `nsl.predict`; all if not given.
    method : "pearson", or "spearman" for ranks.

    Raises NslError: fewer than two genes, more than 1,000, a gene the result does not hold, or fewer than four tiles.
    Raises ValueError: another method.
    """
    if method not in METHODS:
        raise ValueError(f"the method must be one of {', '.join(METHODS)}, got {method}")
    genes = require_genes(result, genes)
    if len(genes) < 2:
        raise NslError(f"correlations are between genes, and {len(genes)} is chosen; choose two or more")
    if len(genes) > MAX_GENES:
        raise NslError(
            f"{len(genes):,} genes have more pairs than are correlated at once; choose {MAX_GENES:,} genes or fewer, "
            "such as the reliable ones"
        )
    if result.n_obs < LEAST_EFFECTIVE:
        raise NslError(f"correlations need four tiles or more, and this map has {result.n_obs}; ask for smaller tiles")
    values = values_of(result, genes)
    if method == "spearman":
        values = np.stack([stats.rankdata(column).astype(np.float32) for column in values.T], axis=1)
    r, effective = pearson_matrix(values, values), effective_sizes_on_grid(result, values)
    p_value = two_sided_p(r, effective)
    # A gene with itself is no finding.
    np.fill_diagonal(p_value, np.nan)
    pairs = np.triu_indices(len(genes), 1)
    q_value = np.full_like(p_value, np.nan)
    q_value[pairs] = q_value.T[pairs] = q_values(p_value[pairs])
    return GeneCorrelations(genes, r, effective, p_value, q_value, method)


def correlations_with(result: anndata.AnnData, gene: str) -> pd.Series:
    """Pearson's r of one gene's map with that of every gene of a result; NaN where either is the same everywhere.

    Raises NslError: the result does not hold the gene.
    """
    [name] = require_genes(result, [gene])
    r = pearson_matrix(values_of(result, [name]), values_of(result, list(result.var_names)))[0]
    return pd.Series(r, result.var_names)


def standing_for(result: anndata.AnnData, genes: Sequence[str], least_r: float = SAME_R) -> pd.Series:
    """Which gene stands for each: the first of those, in the order given, whose map is the same picture or its reverse.

    least_r : |r| over the tiles from which two maps are one picture.

    Returns a series from gene to gene, in that order; a gene that is the same everywhere stands for itself.

    Raises NslError: the result does not hold a gene.
    """
    genes = require_genes(result, genes)
    values = np.asarray(values_of(result, genes), np.float32)
    values = values - values.mean(axis=0)
    norm = np.linalg.norm(values, axis=0)
    values = values / np.where(norm > 0, norm, 1)
    first, left = np.arange(len(genes)), np.ones(len(genes), bool)
    while left.any():
        leader = left.argmax()
        left[leader] = False
        alike = left & (np.abs(values[:, leader] @ values) >= least_r)
        first[alike], left[alike] = leader, False
    return pd.Series(np.array(genes, object)[first], index=pd.Index(genes, name="gene"))


def cluster_order(r: np.ndarray) -> np.ndarray:
    """Order genes so that those that go together lie side by side, by average linkage on 1 − r.

    Leaves are in their best order for up to 500 genes. r is (G, G); NaN counts as 0.
    """
    if len(r) < 3:
        return np.arange(len(r))
    distance = 1 - np.nan_to_num((r + r.T) / 2)
    np.fill_diagonal(distance, 0)
    best = len(r) <= _BEST_ORDER_GENES
    return leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=best))


def independent_patterns(values: np.ndarray) -> float:
    """Count the independent patterns that maps (S, G) show, by the participation ratio (Σλ)² / Σλ².

    λ are the eigenvalues of the maps' correlation. Maps that are all alike show 1, G unrelated ones nearly G. Maps
    that are the same everywhere do not count; 0 where all are.
    """
    r = pearson_matrix(values, values)
    varied = np.isfinite(np.diag(r))
    r = r[np.ix_(varied, varied)]
    # The sum of the eigenvalues is the trace, that of their squares the sum of squares of r.
    return float(np.trace(r) ** 2 / (r**2).sum()) if len(r) else 0.0
