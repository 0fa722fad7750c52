"""How well genes are predicted where a fit has not looked: leaving groups out, and what a gene is worth by that."""

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from nsl.spots.measured_section import MeasuredSection
from nsl.stats.agreement import gene_correlations
from nsl.stats.pearson import fisher_error, fisher_z, is_flat, pearson_r, q_values
from nsl.weights.reliability import SIGNIFICANT

LEAST_IN_COMMON = 200
"""Genes whose mean says what genes have in common; fewer may be of one kind, and it be their own."""
# See `reliability`. Of an r, how near it may come to 1 before its error by spots says nothing more.
_SHARED_BY_FITS, _LEAST_LEFT = 1.5, 1e-6

Predictor = Callable[[Any], np.ndarray]
"""From the features of a section to its predicted expression, (spots, genes)."""


@dataclass(frozen=True)
class Training:
    """What a method may learn from: sections, and for each what the method's `features` gave."""

    sections: list[MeasuredSection]
    features: list[Any]
    genes: list[str]

    @property
    def expression(self) -> list[np.ndarray]:
        """(spots, genes) log-normalised, one array a section; NaN for genes the section did not measure."""
        return [section.expression_of(self.genes) for section in self.sections]

    @property
    def groups(self) -> list[Hashable]:
        """What to leave out together in nested validation: patients, or sections where there is one patient."""
        patients = [section.patient for section in self.sections]
        return patients if len(set(patients)) > 1 else [section.name for section in self.sections]

    def only(self, keep: Sequence[int]) -> "Training":
        """The sections at these positions."""
        return Training([self.sections[i] for i in keep], [self.features[i] for i in keep], self.genes)


@dataclass(frozen=True)
class Method:
    """A way to predict expression; what it takes from images is apart from what it learns of genes."""

    name: str
    features: Callable[[MeasuredSection], Any]
    """From the image of a section alone; called once a section, with its expression hidden."""
    fit: Callable[[Training, int], Predictor]
    """From training sections and a seed."""
    weights_per_gene: int | None
    """Trainable weights each gene has of its own; None where genes share all of them."""
    random: bool = False
    """Whether another seed gives another fit."""


@dataclass(frozen=True)
class HeldOut:
    """What was predicted for a section by a fit that had not seen it."""

    section: MeasuredSection
    group: Hashable
    predicted: np.ndarray
    """(spots, genes)."""
    fit_seconds: float
    predict_seconds: float


def leave_one_group_out(
    sections: Sequence[MeasuredSection],
    groups: Sequence[Hashable],
    method: Method,
    genes: Sequence[str],
    *,
    seed: int = 0,
    features: Sequence[Any] | None = None,
) -> list[HeldOut]:
    """Predict every section by a fit to the sections of the other groups.

    Features come from images with the expression hidden, so nothing measured in the held-out group can reach
    its prediction.

    Parameters
    ----------
    sections : measured sections.
    groups : what is left out together, one label a section: patients, sections, or blocks of a section.
    method, genes, seed : what to fit, and for which genes.
    features : what `method.features` gives for each section, where it is known already.

    Raises
    ------
    ValueError : fewer than two groups.
    """
    labels = list(dict.fromkeys(groups))
    if len(labels) < 2:
        raise ValueError(f"leaving a group out needs at least two groups, got {len(labels)}")
    features = [method.features(hidden(section)) for section in sections] if features is None else features
    training = Training(list(sections), list(features), list(genes))
    held_out = []
    for label in labels:
        start = time.perf_counter()
        predict = method.fit(training.only([i for i, group in enumerate(groups) if group != label]), seed)
        fit_seconds = time.perf_counter() - start
        for i in (i for i, group in enumerate(groups) if group == label):
            start = time.perf_counter()
            predicted = predict(features[i])
            seconds = time.perf_counter() - start
            held_out.append(HeldOut(sections[i], label, predicted, fit_seconds, seconds))
    return held_out


def hidden(section: MeasuredSection) -> MeasuredSection:
    """Return the section with NaN for everything measured in it."""
    return replace(section, expression=np.full_like(section.expression, np.nan), detected=section.detected * np.nan)


def choose(candidates: Iterable[Any], fit: Callable[[Training, Any], Predictor], training: Training) -> Any:
    """Choose the candidate of highest mean r when each group of the training sections is left out in turn.

    The mean is over genes, then sections of a group, then groups; a section in which none of the genes varies counts
    nowhere. The first candidate, where the training holds a single group or no group tells anything.
    """
    candidates = list(candidates)
    groups = list(dict.fromkeys(training.groups))
    if len(groups) < 2 or len(candidates) < 2:
        return candidates[0]
    scores = np.array([[_score(fit, training, candidate, group) for group in groups] for candidate in candidates])
    mean = _mean(scores.T, np.isfinite(scores.T))
    return candidates[0] if np.isnan(mean).all() else candidates[int(np.nanargmax(mean))]


def _score(fit: Callable[[Training, Any], Predictor], training: Training, candidate: Any, group: Hashable) -> float:
    inside = [i for i, other in enumerate(training.groups) if other != group]
    predict = fit(training.only(inside), candidate)
    held_out = training.only([i for i in range(len(training.sections)) if i not in inside])
    pairs = zip(held_out.features, held_out.expression, strict=True)
    r = [pearson_r(predict(features), measured, flat_r=0) for features, measured in pairs]
    of_sections = np.array([one[np.isfinite(one)].mean() for one in r if np.isfinite(one).any()])
    return float(of_sections.mean()) if len(of_sections) else np.nan


def standardised(expression: np.ndarray) -> np.ndarray:
    """Bring each gene of one section (spots, genes) to mean 0 and sd 1; to 0 where it is constant or not measured."""
    sd, known = expression.std(axis=0), ~is_flat(expression)
    return np.where(known, (expression - expression.mean(axis=0)) / np.where(known, sd, 1), 0).astype(np.float32)


def shared_part(section: MeasuredSection, z: np.ndarray, patterns: int) -> np.ndarray:
    """Project standardised genes (spots, genes) on the section's strongest patterns; leave them whole for 0."""
    if not patterns:
        return z
    basis = section.patterns[:, :patterns]
    return basis @ (basis.T @ z)


def group_correlations(held_out: Sequence[HeldOut], genes: Sequence[str]) -> dict[Hashable, pd.DataFrame]:
    """Correlate predicted and measured expression per group held out.

    Each table has a row a gene: pearson_r, its standard_error, p_value, q_value and n_spots.

    A group's r is the mean over its sections. Sections of one patient show one tissue, so together they count for
    no more independent spots than one of them has on average. Standard error and p-value are those of Fisher's z.
    """
    tables: dict[Hashable, list[pd.DataFrame]] = {}
    for part in held_out:
        measured = part.section.expression_of(genes)
        table = gene_correlations(part.predicted, measured, part.section.centers_px, genes)
        # A section in which a gene is the same everywhere says nothing of it, and counts for nothing.
        table["n_spots"] = np.where(table.pearson_r.notna(), len(measured), 0)
        table["effective_n"] = table.effective_n.where(table.pearson_r.notna())
        tables.setdefault(part.group, []).append(table)
    return {group: _over_sections(parts) for group, parts in tables.items()}


def _over_sections(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    stacked = pd.concat(tables).groupby(level="gene", sort=False)
    r, effective = stacked.pearson_r.mean(), stacked.effective_n.mean()
    error = fisher_error(effective)
    p_value = 2 * stats.norm.sf(np.abs(fisher_z(r)) / error)
    return pd.DataFrame(
        {
            "pearson_r": r,
            "standard_error": (1 - r**2) * error,
            "p_value": p_value,
            "q_value": q_values(p_value),
            "n_spots": stacked.n_spots.sum(),
        }
    )


def reliability(groups: Mapping[Hashable, pd.DataFrame], *, of_one_patient: bool = False) -> pd.DataFrame:
    """How far each gene can be trusted in a group, as a rule a patient, that the fit has not seen.

    The interval and the p-value are of the mean over groups. A gene's r scatters between groups as the groups differ,
    and as its own spots leave it uncertain. How far groups differ is told from all genes (`scatter_between`, less the
    mean variance that spots account for): of a single gene's three patients tell little, and among thousands some would
    agree by chance. What parts of one patient show by chance they show together, so more of them make the mean no more
    certain than one.

    The interval takes the scatter by Student's t, with the degrees of freedom that it is known with (where spots add to
    it, by Satterthwaite 1946, Biometrics Bull 2:110). The p-value is of a gene that follows nothing, by Fisher's z and
    the normal distribution. Fits of such a gene share what chance made of the groups that they have in common, so that
    its r agree more than those of independent groups would: of two to eight groups 5 to 7 % would be found where 2.5 %
    are meant, and with `_SHARED_BY_FITS` times the variance 2 to 3 %. Of what q-values then find among a thousand genes
    of three patients, of which a fifth follow something, 2 to 3 % follow nothing, where none or half of the scatter is
    shared. These figures are tests.

    Parameters
    ----------
    groups : what `group_correlations` gives.
    of_one_patient : whether the groups are sections of the same patient, or parts of one section.

    Returns
    -------
    A row a gene: r_heldout (the mean of the groups' Pearson r), r_low and r_high (95 %), r_next_low and r_next_high
    (95 % of the r in one more group, `next_interval`), p_value (two-sided), q_value (Benjamini–Hochberg over the
    genes), patients_replicated (groups with r above 0 at p < 0.05) and n_spots.
    """
    tables = list(groups.values())
    r, error, p_value = (
        np.array([table[column] for table in tables]) for column in ("pearson_r", "standard_error", "p_value")
    )
    known = np.isfinite(r)
    mean, scatter = _mean(r, known), scatter_between(r)
    number, of_spots = np.maximum(known.sum(axis=0), 1), _mean(error**2, known)
    # Of Fisher's z, which is r where nothing is followed.
    of_spots_alone = _mean((error / np.maximum(1 - r**2, _LEAST_LEFT)) ** 2, known)
    if of_one_patient:
        of_scatter = np.nan_to_num(scatter.variance) / number  # a single group has none
        variance, if_nothing = of_scatter + of_spots, of_scatter + of_spots_alone
        freedom = scatter.freedom_of(variance, of_scatter, len(r))
    else:
        of_groups = _of_groups(scatter, of_spots)
        variance = (of_groups + of_spots) / number
        freedom = scatter.freedom_of(of_groups + of_spots, scatter.variance, len(r))
        if_nothing = np.maximum(of_groups + of_spots_alone, _SHARED_BY_FITS * of_spots_alone) / number
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_mean = 2 * stats.norm.sf(np.abs(fisher_z(mean)) / np.sqrt(if_nothing))
    low, high = np.maximum(mean - half, -1), np.minimum(mean + half, 1)
    next_low, next_high = next_interval(r, error, scatter)
    return pd.DataFrame(
        {
            "r_heldout": mean,
            "r_low": low,
            "r_high": high,
            # Of one more part of a patient nothing is surer than of the mean of those seen.
            "r_next_low": np.minimum(next_low, low),
            "r_next_high": np.maximum(next_high, high),
            "p_value": p_mean,
            "q_value": q_values(p_mean),
            "patients_replicated": ((p_value < SIGNIFICANT) & (r > 0)).sum(axis=0),
            "n_spots": np.sum([table.n_spots for table in tables], axis=0),
        },
        index=tables[0].index,
    )


class Scatter(NamedTuple):
    """How far r scatters between groups, the same for all genes."""

    variance: float
    degrees_of_freedom: float
    """How well the variance is known: as well as from so many independent deviations."""

    def freedom_of(self, variance: np.ndarray, of_scatter: np.ndarray | float, groups: int) -> np.ndarray:
        """(G,) degrees of freedom of variances in which that of the scatter is a part, and the rest is known.

        Never fewer than the groups alone give.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = self.degrees_of_freedom * (variance / of_scatter) ** 2
        return np.maximum(np.nan_to_num(freedom, nan=np.inf, posinf=np.inf), max(groups - 1, 1))


def _of_groups(scatter: Scatter, of_spots: np.ndarray) -> float:
    """The variance of r between groups without what their spots account for; 0 where these account for all of it."""
    return max(np.nan_to_num(scatter.variance) - np.nanmean(of_spots), 0) if np.isfinite(of_spots).any() else 0.0


def next_interval(r: np.ndarray, error: np.ndarray, scatter: Scatter | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Say within which r a gene will be predicted in one more group, 95 times in 100, from the groups seen.

    The r of one more group scatters about the mean of n as far as groups scatter among themselves, and the mean itself
    is as uncertain as they make it: variance s² (1 + 1/n), and of Student's t the degrees of freedom of s². Of s² a
    gene has what groups differ by, and what its own spots leave uncertain.

    r, error : (groups, G), with its standard error by spots; NaN where a gene was not measured.
    scatter : of `scatter_between`; that of these groups if not given.

    Returns low and high, (G,), within −1 and 1; NaN for a gene with fewer than two groups.
    """
    known = np.isfinite(r)
    number, mean = known.sum(axis=0), _mean(r, known)
    scatter = scatter_between(r) if scatter is None else scatter
    of_spots = _mean(error**2, known)
    variance = _of_groups(scatter, of_spots) + of_spots
    quantile = stats.t.ppf(0.975, scatter.freedom_of(variance, scatter.variance, len(r)))
    half = quantile * np.sqrt(variance * (1 + 1 / np.maximum(number, 1)))
    half[number < 2] = np.nan
    return np.maximum(mean - half, -1), np.minimum(mean + half, 1)


def scatter_between(r: np.ndarray) -> Scatter:
    """Estimate the variance of r between groups: over the genes the mean of each one's own.

    Three groups tell little of a gene's own scatter. Over the genes of three patients it is what chance makes of one
    scatter for all: the prior of Smyth 2004 (Stat Appl Genet Mol Biol 3:3), which would shrink each gene's variance
    towards the common one, gets infinitely many degrees of freedom.

    Yet genes are not so many witnesses as they are genes, for one patient is predicted well in all of them and the next
    badly. The variance is the sum of that of a shift shared by a group's genes, known from the groups alone, and of the
    rest, known from all genes; its degrees of freedom are those of the sum (Satterthwaite 1946, Biometrics Bull 2:110).
    Where half of the scatter is shared, as it is between the patients of the embedded weights, 94 % of the next one's
    genes fall inside, 95 % where none is; both figures are tests.

    r : (groups, G); NaN where a gene was not measured; genes with fewer than two groups take no part.
    """
    r = r[:, np.isfinite(r).sum(axis=0) > 1]
    known = np.isfinite(r)
    if not known.any():
        return Scatter(np.nan, np.nan)
    deviation, number = r - _mean(r, known), known.sum(axis=0)
    variance = float((_mean(deviation**2, known) * number / (number - 1)).mean())
    groups = known.any(axis=1)
    between = groups.sum() - 1
    shift = _mean(deviation[groups].T, known[groups].T)
    shared = min(float((shift**2).sum() / between), variance)
    within = (number - 1).sum() - between
    uncertain = shared**2 / between + (variance - shared) ** 2 / max(within, 1)
    return Scatter(variance, variance**2 / uncertain if uncertain else between)


def signature_reliability(
    held_out: Sequence[HeldOut],
    genes: Sequence[str],
    members: Mapping[str, Sequence[str]],
    *,
    of_one_patient: bool = False,
) -> pd.DataFrame:
    """How far the score of each gene set (`nsl.signatures`) can be trusted in a group that the fit has not seen.

    Measured scores are means of z-scores over the spots of a section. Predicted ones take a gene's standard deviation
    from the sections of the other groups, as the weights do.

    Most sets, and genes drawn by lot, follow how much tissue a spot holds, and are predicted for that. What a set tells
    of its own is `specific_r`.

    held_out : every section, predicted by a fit that had not seen its group, with the genes in the columns.
    members : the genes of each set, by its name; all of them in `genes`.
    of_one_patient : as of `reliability`.

    Returns a row a set: what `reliability` gives, r_specific, and r_groups, the r of each group in one text.
    """
    groups = signature_correlations(held_out, genes, members)
    table = reliability(groups, of_one_patient=of_one_patient)
    table["r_specific"] = specific_r(held_out, genes, _shares(genes, members))
    table["r_groups"] = [
        "; ".join(f"{group} {own.pearson_r[name]:.2f}" for group, own in groups.items()) for name in members
    ]
    return table


def signature_correlations(
    held_out: Sequence[HeldOut], genes: Sequence[str], members: Mapping[str, Sequence[str]]
) -> dict[Hashable, pd.DataFrame]:
    """What `group_correlations` gives, of the scores of gene sets; arguments are those of `signature_reliability`."""
    names, shares = list(members), _shares(genes, members)
    both = zip(held_out, _z_scores(held_out, genes), strict=True)
    return group_correlations([_of_sets(part, names, *(z @ shares for z in scores)) for part, scores in both], names)


def _shares(genes: Sequence[str], members: Mapping[str, Sequence[str]]) -> np.ndarray:
    """(G, sets) float32 share of each gene in each set."""
    column, shares = pd.Index(genes), np.zeros((len(genes), len(members)), np.float32)
    for number, own in enumerate(members.values()):
        shares[column.get_indexer(own), number] = 1 / len(own)
    return shares


def specific_r(held_out: Sequence[HeldOut], genes: Sequence[str], sets: np.ndarray | None = None) -> np.ndarray:
    """How each gene, or the score of each gene set, is predicted beyond what all genes have in common.

    Many genes follow how much tissue a spot holds and how many counts it has, and are predicted for that. Here the mean
    z-score of all genes is taken off prediction and measurement alike; what is left is correlated over the spots, and r
    is the mean over a group's sections, and then over groups.

    held_out, genes : as of `signature_reliability`.
    sets : (G, sets) the share of each gene in each set, where sets are asked for.

    Returns (G,) or (sets,); NaN where nothing was measured, and of fewer than `LEAST_IN_COMMON` genes.
    """
    if len(genes) < LEAST_IN_COMMON:
        return np.full(len(genes) if sets is None else sets.shape[1], np.nan)
    of_groups: dict[Hashable, list[np.ndarray]] = {}
    for part, both in zip(held_out, _z_scores(held_out, genes), strict=True):
        # The mean of prediction and measurement is of the same genes, those that the section tells something of.
        known = both[1].any(axis=0)
        own = [(z - z[:, known].mean(axis=1, keepdims=True)) * known for z in both]
        r = pearson_r(*(own if sets is None else (z @ sets for z in own)), flat_r=0)
        of_groups.setdefault(part.group, []).append(r)
    means = np.array([_mean(r, np.isfinite(r)) for r in map(np.array, of_groups.values())])
    return _mean(means, np.isfinite(means))


def _z_scores(held_out: Sequence[HeldOut], genes: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each section predicted and measured expression (spots, G) in standard deviations, 0 where there is none.

    Those of the predictions are of the sections of the other groups: of its own, a fit knows nothing.
    """
    sds = np.array([part.section.expression_of(genes).std(axis=0) for part in held_out])
    for part in held_out:
        of_others = sds[[other.group != part.group for other in held_out]]
        sd = _mean(of_others, np.isfinite(of_others))
        centred = part.predicted - part.predicted.mean(axis=0)
        predicted = np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 0)
        yield predicted, standardised(part.section.expression_of(genes))


def _of_sets(part: HeldOut, names: list[str], predicted: np.ndarray, measured: np.ndarray) -> HeldOut:
    """The held-out section with scores of sets in the place of its genes."""
    section = replace(part.section, genes=names, expression=measured.astype(np.float32), detected=np.ones(len(names)))
    return replace(part, section=section, predicted=predicted)


def expression_moments(sections: Sequence[MeasuredSection], genes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd within a section of each gene's expression, (G,) each, as means over sections.

    NaN for a gene that no section measured.
    """
    expression = [section.expression_of(genes) for section in sections]
    mean, sd = (np.array([getattr(one, what)(axis=0) for one in expression]) for what in ("mean", "std"))
    return _mean(mean, np.isfinite(mean)), _mean(sd, np.isfinite(sd))


def _mean(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is known; NaN where nothing is."""
    number = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
