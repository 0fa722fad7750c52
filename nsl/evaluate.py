"""How well a gene is predicted where the fit has not looked: groups left out, correlations, their certainty."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nsl.measure import MeasuredSection

Predictor = Callable[[Any], np.ndarray]
"""From the features of a section to its predicted expression, (spots, genes)."""


@dataclass(frozen=True)
class Training:
    """What a method may learn from: one entry a section, in the same order."""

    features: list[Any]
    """What the method's `features` gave for each section."""
    expression: list[np.ndarray]
    """(spots, genes) log-normalised; NaN for genes the section did not measure."""
    groups: list[Hashable]
    """What to leave out together when settings are chosen by nested validation: patients, or else sections."""

    def __len__(self) -> int:
        return len(self.features)

    def only(self, keep: Sequence[int]) -> "Training":
        """The sections of these positions."""
        return Training(*([column[i] for i in keep] for column in (self.features, self.expression, self.groups)))


@dataclass(frozen=True)
class Method:
    """A way to predict expression. What is learned of a section's image is apart from what is learned of its genes."""

    name: str
    features: Callable[[MeasuredSection], Any]
    """From the image of a section alone; called once a section."""
    fit: Callable[[Training, int], Predictor]
    """From training sections and a seed."""
    weights_per_gene: int | None
    """Trainable weights each gene has of its own; None where they cannot be told apart."""


def standardised(expression: np.ndarray) -> np.ndarray:
    """Each gene of one section (spots, genes) at mean 0 and sd 1; 0 where it is constant or not measured."""
    sd = expression.std(axis=0)
    known = np.isfinite(sd) & (sd > 0)
    return np.where(known, (expression - expression.mean(axis=0)) / np.where(known, sd, 1), 0).astype(np.float32)


def pearson_r(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Pearson r of each column of (spots, genes) and (spots, genes); NaN where either is constant or missing."""
    x, y = (np.asarray(a, float) - np.mean(a, axis=0, dtype=float) for a in (predicted, measured))
    scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.divide((x * y).sum(axis=0), scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def choose(candidates: Iterable[Any], fit: Callable[[Training, Any], Predictor], training: Training) -> Any:
    """The candidate setting of highest mean r when each group of the training sections is left out in turn.

    The mean is over genes, then sections of a group, then groups. The first candidate, where the training holds a
    single group.
    """
    candidates = list(candidates)
    groups = list(dict.fromkeys(training.groups))
    if len(groups) < 2 or len(candidates) < 2:
        return candidates[0]
    scores = [np.mean([_score(fit, training, candidate, group) for group in groups]) for candidate in candidates]
    return candidates[int(np.nanargmax(scores))]


def _score(fit: Callable[[Training, Any], Predictor], training: Training, candidate: Any, group: Hashable) -> float:
    inside = [i for i, other in enumerate(training.groups) if other != group]
    predict = fit(training.only(inside), candidate)
    held_out = training.only([i for i in range(len(training)) if i not in inside])
    pairs = zip(held_out.features, held_out.expression, strict=True)
    return float(np.mean([np.nanmean(pearson_r(predict(features), measured)) for features, measured in pairs]))
