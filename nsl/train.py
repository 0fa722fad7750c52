"""From measured sections to weights: settings by nested validation, one fit of all genes, reliability."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from nsl import __version__
from nsl.errors import ScaleError, SpotsError
from nsl.evaluate import (
    Method,
    Predictor,
    Training,
    choose,
    group_correlations,
    leave_one_group_out,
    reliability,
    shared_part,
    standardised,
)
from nsl.measure import (
    ANALYSIS_MPP,
    TILE_UM,
    MeasuredSection,
    detected_genes,
    highest_mean,
    measure_section,
    spatial_blocks,
)
from nsl.model import NeuralStain
from nsl.spots import UNITS, read_manifest
from nsl.stains import angle_degrees
from nsl.weights import SCHEMA_VERSION, Weights

LEARNING_RATE = 0.02
# Adam divides by the size of a weight's gradient; where there is next to none it would step on rounding errors, and a
# gene's fit would depend on which others it is batched with. Held-out r is the same with torch's 1e-8.
ADAM_EPSILON = 1e-3
# Share of a concentration's variance added to itself when the first effects are solved for: hematoxylin and eosin
# rise together, and may not cancel each other.
RIDGE = 0.03
# Genes fitted together: bounds a table of colours × 4 × genes to some tens of MB.
GENES_AT_ONCE = 512
# Settings are chosen on the genes of highest mean, which are measured best.
CHOOSING_GENES = 250

Progress = Callable[[str, int, int], None]


class FitSettings(NamedTuple):
    """What nested validation chooses."""

    patterns: int
    """Patterns of a section's expression that its genes are learned from; 0 learns from each gene as measured."""
    steps: int
    """Steps of Adam away from the published stain vectors."""


CANDIDATES = tuple(FitSettings(patterns, steps) for patterns in (10, 3, 0) for steps in (50, 25, 100))


def neural_stain(candidates: Sequence[FitSettings] = CANDIDATES, chosen: list[FitSettings] | None = None) -> Method:
    """Neural Stain Learning as a method to evaluate; settings are chosen among the candidates by nested validation.

    What each fit chose is appended to `chosen`, where one is given.
    """

    def fit_chosen(training: Training, seed: int) -> Predictor:
        settings = choose_settings(training.sections, training.genes, candidates)
        if chosen is not None:
            chosen.append(settings)
        return _predictor(training, settings)

    return Method("NSL-11", lambda section: section.colors, fit_chosen, NeuralStain.trainable_per_gene)


def _predictor(training: Training, settings: FitSettings) -> Predictor:
    model = fit(training.sections, training.genes, settings)
    return lambda colors: model.from_counts(colors).numpy()


def choose_settings(
    sections: Sequence[MeasuredSection], genes: Sequence[str], candidates: Sequence[FitSettings] = CANDIDATES
) -> FitSettings:
    """The candidate that predicts the patients (or the sections of the only patient) left out in turn best.

    It is judged on those CHOOSING_GENES of the genes whose mean expression is highest.
    """
    few = highest_mean(sections, genes, CHOOSING_GENES)
    return choose(candidates, _predictor, Training(list(sections), [section.colors for section in sections], few))


def train(
    manifest: str | Path,
    *,
    name: str,
    tissue: str = "tissue that is not stated",
    source: str = "not stated",
    licence: str = "not stated",
    min_detected: float = 0.1,
    genes: Sequence[str] | None = None,
    tile_um: float = TILE_UM,
    analysis_mpp: float = ANALYSIS_MPP,
    candidates: Sequence[FitSettings] = CANDIDATES,
    command: str = "nsl.train.train",
    progress: Progress | None = None,
) -> Weights:
    """Weights from every section of a manifest, with the reliability of every gene where it was held out.

    Patients are left out in turn; where there is one patient, sections; where there is one section, its quarters.

    Parameters
    ----------
    manifest : CSV, see `nsl.spots.read_manifest`.
    name, tissue, source, licence, command : recorded in the weights.
    min_detected : keep genes counted in at least this share of the spots of every patient.
    genes : fit these instead.
    candidates : settings to choose among.
    progress : called with what is being done, how many parts of it are done, and of how many.

    Raises
    ------
    SpotsError, SlideError, ScaleError : a section cannot be used; nothing is trained.
    """
    tell = progress or (lambda *_: None)
    sections = measure_all(manifest, tile_um, analysis_mpp, tell)
    rule = (
        "as listed by the user"
        if genes is not None
        else f"detected in at least {min_detected:.0%} of spots in every patient"
    )
    genes = list(dict.fromkeys(genes)) if genes is not None else detected_genes(sections, min_detected)
    _require_measured(sections, genes)
    parts, left_out, groups = held_out_groups(sections)
    tell("choosing settings", 0, 1)
    settings = choose_settings(parts, genes, candidates)
    what = f"leaving out each {left_out}"
    labels = list(dict.fromkeys(groups))
    tell(what, 0, len(labels))
    fold_settings: list[FitSettings] = []
    method = neural_stain(candidates, fold_settings)
    held_out = leave_one_group_out(parts, groups, method, genes, progress=lambda done, total: tell(what, done, total))
    model = fit(sections, genes, settings, progress=lambda done, total: tell("fitting all sections", done, total))
    config = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "units": UNITS,
        "tile_um": tile_um,
        "analysis_mpp": analysis_mpp,
        "training_data": {
            "tissue": tissue,
            "source": source,
            "licence": licence,
            "patients": len({section.patient for section in sections}),
            "sections": [section.name for section in sections],
            "spots": sum(len(section.colors) for section in sections),
            "genes_rule": rule,
        },
        "stains": _reference_stains(sections),
        "fit": {
            **settings._asdict(),
            "learning_rate": LEARNING_RATE,
            "command": command,
            "nsl_version": __version__,
        },
        "reliability": {
            "left_out": left_out,
            "groups": len(labels),
            "settings": {label: one._asdict() for label, one in zip(labels, fold_settings, strict=True)},
        },
    }
    return Weights(
        model, config, source="trained here", sha256="", reliability=reliability(group_correlations(held_out, genes))
    )


def held_out_groups(sections: Sequence[MeasuredSection]) -> tuple[list[MeasuredSection], str, list[str]]:
    """Sections to hold out, what a group of them is in words, and the group of each.

    Groups are patients; the sections of the only patient; or the quarters of the only section.
    """
    patients = [section.patient for section in sections]
    if len(set(patients)) > 1:
        return list(sections), "patient", patients
    if len(sections) > 1:
        return list(sections), "section", [section.name for section in sections]
    blocks = spatial_blocks(sections[0])
    return blocks, "quarter of the section", [block.name for block in blocks]


def measure_all(manifest: str | Path, tile_um: float, analysis_mpp: float, tell: Progress) -> list[MeasuredSection]:
    """Every section of a manifest, read; raises what `read_manifest` and `measure_section` raise."""
    for what, length in (("window", tile_um), ("analysis resolution", analysis_mpp)):
        if not (np.isfinite(length) and length > 0):
            raise ScaleError(f"the {what} must be a positive number, got {length:g}")
    listed = read_manifest(manifest)
    sections = []
    for done, section in enumerate(listed):
        tell("reading sections", done, len(listed))
        sections.append(measure_section(section, tile_um, analysis_mpp))
    return sections


def _require_measured(sections: Sequence[MeasuredSection], genes: Sequence[str]) -> None:
    if not sections:
        raise SpotsError("no section to learn from; the manifest must list at least one")
    known = {gene for section in sections for gene in section.genes}
    unknown = [gene for gene in genes if gene not in known]
    if unknown or not genes:
        raise SpotsError(
            f"no section measured the gene {unknown[0]}; check its spelling" if unknown else "no gene to fit was left"
        )


def _reference_stains(sections: Sequence[MeasuredSection]) -> dict:
    """Mean stain vectors of the slides, and the largest angle of a slide's own vector to them."""
    vectors = np.array([section.stain_vectors for section in sections if section.stain_vectors is not None])
    if not len(vectors):
        raise SpotsError("no section is stained enough to tell its stain vectors; check that the images show H&E")
    mean = vectors.mean(axis=0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    # A single slide has no spread; one degree keeps distances finite.
    spread = np.maximum(angle_degrees(vectors, mean).max(axis=0), 1.0)
    return {"reference": mean.round(4).tolist(), "spread_degrees": spread.round(2).tolist()}


def fit(
    sections: Sequence[MeasuredSection],
    genes: Sequence[str],
    settings: FitSettings = CANDIDATES[0],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> NeuralStain:
    """Fit the 11 weights of every gene; the same sections give the same weights, and no gene depends on another chosen.

    Each gene is standardised within each section, so a section's depth and batch do not matter, and every
    section weighs alike. Of a gene, the part that follows the section's strongest patterns of expression is
    learned: the rest is mostly noise. Effects start from least squares on the hematoxylin and eosin of the
    Ruifrok–Johnston matrix, and Adam takes a few steps on all 11 weights from there. Afterwards the effects are
    scaled and the intercept set by least squares, so that predictions are in the units of the data.

    Parameters
    ----------
    sections : measured sections; a gene missing from one is learned from the others.
    genes : which to fit.
    settings : patterns to learn from, and steps to take.
    progress : called with the steps done and the steps to do.

    Raises
    ------
    SpotsError : no section, or a gene that no section measured.
    """
    _require_measured(sections, genes)
    batches = [genes[i : i + GENES_AT_ONCE] for i in range(0, len(genes), GENES_AT_ONCE)]
    fitted = []
    for number, batch in enumerate(batches):
        targets = [_target(section, batch) for section in sections]
        aims = [
            torch.from_numpy(shared_part(section, target.z.numpy(), settings.patterns))
            for section, target in zip(sections, targets, strict=True)
        ]
        model = NeuralStain(batch)
        _start_effects(model, sections, aims, targets)
        optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=ADAM_EPSILON)
        for step in range(settings.steps):
            optimiser.zero_grad()
            for section, aim, target in zip(sections, aims, targets, strict=True):
                error = (model.from_counts(section.colors) - aim) ** 2
                (error.mean(dim=0) * target.measured).sum().backward()
            optimiser.step()
            if progress:
                progress(number * settings.steps + step + 1, len(batches) * settings.steps)
        _to_units(model, sections, targets)
        fitted.append(model)
    return _joined(fitted)


@dataclass(frozen=True)
class _Target:
    z: torch.Tensor  # (S, G) standardised within the section; 0 where not measured
    mean: torch.Tensor  # (G,)
    sd: torch.Tensor  # (G,)
    measured: torch.Tensor  # (G,) 1 where the section tells the gene's spots apart, else 0


def _target(section: MeasuredSection, genes: Sequence[str]) -> _Target:
    expression = section.expression_of(genes)
    mean, sd = (torch.from_numpy(value).nan_to_num() for value in (expression.mean(axis=0), expression.std(axis=0)))
    return _Target(torch.from_numpy(standardised(expression)), mean, sd, (sd > 0).float())


@torch.no_grad()
def _start_effects(
    model: NeuralStain, sections: Sequence[MeasuredSection], aims: Sequence[torch.Tensor], targets: Sequence[_Target]
) -> None:
    """Ridge regression of the aims on the model's concentrations, sections alike."""
    concentrations = [model.concentrations(section.colors) for section in sections]  # (S, G, 2)
    measured = [target.measured[:, None] for target in targets]
    total = sum(measured).clamp_min(1)
    centre = sum(c.mean(dim=0) * m for c, m in zip(concentrations, measured, strict=True)) / total
    square, product = 0, 0
    for c, aim, m in zip(concentrations, aims, measured, strict=True):
        square = square + torch.einsum("sgi,sgj->gij", c - centre, c - centre) / len(c) * m[..., None]
        product = product + torch.einsum("sgi,sg->gi", c - centre, aim) / len(c) * m
    diagonal = torch.diagonal(square, dim1=1, dim2=2)
    square = square + torch.diag_embed(RIDGE * diagonal + 1e-9)
    model.effect.copy_(torch.linalg.solve(square, product))
    model.intercept.copy_(-(model.effect * centre).sum(dim=1))


@torch.no_grad()
def _to_units(model: NeuralStain, sections: Sequence[MeasuredSection], targets: Sequence[_Target]) -> None:
    """Least-squares slope within sections, sections alike; then the mean expression over sections."""
    predicted = [model.from_counts(section.colors) for section in sections]
    centred = [p - p.mean(dim=0) for p in predicted]
    covariance = sum((c * t.z).mean(dim=0) for c, t in zip(centred, targets, strict=True))
    variance = sum((c**2).mean(dim=0) * t.measured for c, t in zip(centred, targets, strict=True))
    slope = torch.where(variance > 0, covariance / variance.clamp_min(1e-12), 0).clamp_min(0)
    sections_measured = sum(t.measured for t in targets).clamp_min(1)
    sd = sum(t.sd * t.measured for t in targets) / sections_measured
    mean = sum(t.mean * t.measured for t in targets) / sections_measured
    centre = sum(p.mean(dim=0) * t.measured for p, t in zip(predicted, targets, strict=True)) / sections_measured
    scale = slope * sd
    model.intercept.copy_(mean + scale * (model.intercept - centre))
    model.effect.mul_(scale[:, None])


def _joined(models: Sequence[NeuralStain]) -> NeuralStain:
    joined = NeuralStain([gene for model in models for gene in model.genes])
    with torch.no_grad():
        for name, parameter in joined.named_parameters():
            parameter.copy_(torch.cat([getattr(model, name) for model in models]))
    return joined.requires_grad_(False)
