"""From measured sections to weights: settings by nested validation, one fit of all genes, reliability."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from nsl import __version__
from nsl.errors import ScaleError, SpotsError
from nsl.evaluate import (
    HeldOut,
    Method,
    Predictor,
    Training,
    choose,
    expression_moments,
    group_correlations,
    leave_one_group_out,
    reliability,
    shared_part,
    signature_reliability,
    specific_r,
    standardised,
)
from nsl.genes import by_capitals, resolve
from nsl.model import NeuralStain
from nsl.signatures import Signature, split_members
from nsl.spots.checks import report_on
from nsl.spots.measured_section import (
    ANALYSIS_MPP,
    TILE_UM,
    MeasuredSection,
    detected_genes,
    highest_mean,
    read_section,
    spatial_blocks,
)
from nsl.spots.tables import UNITS, read_manifest
from nsl.stain_transfer import REFERENCE
from nsl.stains import angle_degrees
from nsl.system.progress import SILENT, Progress
from nsl.weights.config import FitRecord, HeldOutProtocol, TrainingData, TrainingStains, WeightsConfig
from nsl.weights.weights import Weights

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
# A part held out needs so many, or how well it is predicted cannot be judged.
LEAST_SPOTS = 4


class FitSettings(NamedTuple):
    """What nested validation chooses."""

    patterns: int
    """Patterns of a section's expression that its genes are learned from; 0 learns from each gene as measured."""
    steps: int
    """Steps of Adam away from the published stain vectors."""


CANDIDATES = tuple(FitSettings(patterns, steps) for patterns in (10, 3, 0) for steps in (50, 25, 100))


def neural_stain(
    candidates: Sequence[FitSettings] = CANDIDATES,
    chosen: list[FitSettings] | None = None,
    progress: Progress = SILENT,
) -> Method:
    """Return Neural Stain Learning as a method to evaluate; nested validation chooses among the candidate settings.

    What each fit chose is appended to `chosen`, where one is given. `progress` receives the steps of every fit.
    """

    def fit_chosen(training: Training, seed: int) -> Predictor:
        settings = choose_settings(training.sections, training.genes, candidates, progress)
        if chosen is not None:
            chosen.append(settings)
        return _predictor(training, settings, progress)

    return Method("NSL-11", lambda section: section.colors, fit_chosen, NeuralStain.trainable_per_gene)


def _predictor(training: Training, settings: FitSettings, progress: Progress) -> Predictor:
    model = fit(training.sections, training.genes, settings, progress=progress)
    return lambda colors: model.from_counts(colors).numpy()


def choose_settings(
    sections: Sequence[MeasuredSection],
    genes: Sequence[str],
    candidates: Sequence[FitSettings] = CANDIDATES,
    progress: Progress = SILENT,
) -> FitSettings:
    """Choose the candidate that predicts best the patients, or the sections of the only patient, left out in turn.

    It is judged on those CHOOSING_GENES of the genes whose mean expression is highest. `progress` receives the steps of
    every fit.
    """
    few = highest_mean(sections, genes, CHOOSING_GENES)
    training = Training(list(sections), [section.colors for section in sections], few)
    return choose(candidates, lambda inside, settings: _predictor(inside, settings, progress), training)


def steps_to_choose(sections: Sequence[MeasuredSection], candidates: Sequence[FitSettings]) -> int:
    """Count the steps of all the fits that `choose_settings` makes."""
    groups = len(set(Training(list(sections), [], []).groups))
    return groups * sum(settings.steps for settings in candidates) if groups > 1 and len(candidates) > 1 else 0


def train(
    manifest: str | Path,
    *,
    tile_um: float = TILE_UM,
    analysis_mpp: float = ANALYSIS_MPP,
    progress: Progress = SILENT,
    told: Callable[[str], object] = warnings.warn,
    **options,
) -> Weights:
    """Train on every section of a manifest (`nsl.spots.tables.read_manifest`), with options of `train_sections`.

    told : called with a sentence for each thing that was left out of a section, or may spoil the fit.

    Raises
    ------
    SpotsError, SlideError, ScaleError : a section cannot be used; nothing is trained.
    """
    sections = measure_all(manifest, tile_um, analysis_mpp, progress, told)
    return train_sections(sections, tile_um=tile_um, analysis_mpp=analysis_mpp, progress=progress, **options)


def train_sections(
    sections: Sequence[MeasuredSection],
    *,
    name: str,
    tissue: str = "tissue that is not stated",
    source: str = "not stated",
    licence: str = "not stated",
    min_detected: float = 0.1,
    most_genes: int | None = None,
    genes: Sequence[str] | None = None,
    tile_um: float = TILE_UM,
    analysis_mpp: float = ANALYSIS_MPP,
    signatures: Sequence[Signature] = (),
    candidates: Sequence[FitSettings] = CANDIDATES,
    command: str = "nsl.train.train",
    failed_checks: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Weights:
    """Train on measured sections, and measure the reliability of every gene where it is held out.

    Patients are left out in turn; where there is one patient, sections; where there is one section, its quarters.

    Parameters
    ----------
    sections : of `nsl.spots.measured_section.measure_section`.
    name, tissue, source, licence, command, failed_checks : recorded in the weights.
    min_detected : keep genes counted in at least this share of the spots of every patient.
    most_genes : of these, keep so many whose mean expression is highest; all, if not given.
    genes : fit these instead, by any name that `nsl.genes.resolve` knows.
    tile_um, analysis_mpp : window and µm/px that the sections were measured with; the weights record the median of what
        their images were read at, which may be coarser.
    signatures : gene sets to judge as well, which the weights then hold; those with too few of the genes are left out.
    candidates : settings to choose among.
    progress : receives every step of the fits, and the stages between them.

    Raises
    ------
    SpotsError : no section, no gene, no stain, or too few spots to hold some out.
    WeightsError : too few genes of every signature.
    Cancelled : `progress` was cancelled.
    """
    _require_sections(sections)
    parts, left_out, groups = held_out_groups(sections)
    if genes is not None:
        rule, genes = "as listed by the user", _as_measured(sections, genes)
        _require_measured(sections, genes)
        if alone := _of_one_group(parts, groups, genes):
            raise SpotsError(
                f"the gene {alone[0]} was measured in one {left_out} alone, and is held out only where another has it "
                "too; leave it out, or bring one more"
            )
    else:
        genes = detected_genes(sections, min_detected)
        alone = set(_of_one_group(parts, groups, genes))
        genes = [gene for gene in genes if gene not in alone]
        rule = f"detected in at least {min_detected:.0%} of spots in every patient"
        rule += f", and measured in more than one {left_out}" if alone else ""
        if most_genes is not None and most_genes < len(genes):
            genes = highest_mean(sections, genes, most_genes)
            rule = f"the {most_genes:,} of highest mean expression among those {rule}"
        _require_measured(sections, genes)
    stains = _reference_stains(sections)
    _require_spots(parts)
    choosing = _OneCount(progress, "choosing settings", steps_to_choose(parts, candidates))
    settings = choose_settings(parts, genes, candidates, choosing)
    labels = list(dict.fromkeys(groups))
    inside = [[part for part, group in zip(parts, groups, strict=True) if group != label] for label in labels]
    batches = -(-len(genes) // GENES_AT_ONCE)
    steps = sum(steps_to_choose(fold, candidates) + batches * settings.steps for fold in inside)
    fold_settings: list[FitSettings] = []
    method = neural_stain(candidates, fold_settings, _OneCount(progress, f"leaving out each {left_out}", steps))
    held_out = leave_one_group_out(parts, groups, method, genes)
    of_one_patient = left_out != "patient"
    table = _reliability(held_out, genes, of_one_patient, progress)
    table["r_specific"] = specific_r(held_out, genes)
    table["expression_mean"], table["expression_sd"] = expression_moments(sections, genes)
    fitting = _OneCount(progress, "fitting all sections", batches * settings.steps)
    model = fit(sections, genes, settings, progress=fitting)
    config = WeightsConfig(
        name=name,
        units=UNITS,
        tile_um=tile_um,
        analysis_mpp=float(np.median([section.read_mpp or analysis_mpp for section in sections])),
        training_data=TrainingData(
            tissue=tissue,
            source=source,
            licence=licence,
            patients=len({section.patient for section in sections}),
            sections=tuple(section.name for section in sections),
            spots=sum(len(section.colors) for section in sections),
            genes_rule=rule,
            failed_checks=tuple(failed_checks),
        ),
        stains=stains,
        fit=FitRecord(**settings._asdict(), learning_rate=LEARNING_RATE, command=command, nsl_version=__version__),
        reliability=HeldOutProtocol(
            left_out=left_out,
            groups=len(labels),
            settings={label: one._asdict() for label, one in zip(labels, fold_settings, strict=True)},
        ),
        genes=tuple(genes),
    )
    weights = Weights(model, config, source="trained here", sha256="", reliability=table)
    if not signatures:
        return weights
    sets = weights.match_signatures(signatures)[["source", "members"]]
    members = {name: split_members(own) for name, own in sets.members.items()}
    judged = signature_reliability(held_out, genes, members, of_one_patient=of_one_patient)
    return replace(weights, signatures=sets.join(judged))


class _OneCount(Progress):
    """Reports the steps of several fits as one stage."""

    def __init__(self, whole: Progress, stage: str, total: int):
        self._whole, self._stage, self._done, self._total = whole, stage, 0, total
        if total:
            whole.check(0, total, stage)

    def report(self, done: int, total: int, stage: str = "") -> None:
        # Where a fit chooses other settings than were reckoned with, it takes more steps or fewer.
        self._done = min(self._done + 1, self._total)
        self._whole.report(self._done, self._total, self._stage)

    @property
    def cancelled(self) -> bool:
        return self._whole.cancelled


def _reliability(
    held_out: Sequence[HeldOut], genes: Sequence[str], of_one_patient: bool, progress: Progress
) -> pd.DataFrame:
    """Compute `nsl.evaluate.reliability` some genes at a time: it takes several times the memory of their maps."""
    labels = list(dict.fromkeys(part.group for part in held_out))
    batches = [slice(i, i + GENES_AT_ONCE) for i in range(0, len(genes), GENES_AT_ONCE)]
    tables = {}
    for label in labels:
        parts = [part for part in held_out if part.group == label]
        of_batches = []
        for batch in batches:
            done = len(tables) * len(batches) + len(of_batches)
            progress.check(done, len(labels) * len(batches), "comparing with what was measured")
            some = [replace(part, predicted=part.predicted[:, batch]) for part in parts]
            of_batches.append(group_correlations(some, genes[batch])[label])
        # The q-values of a batch are of that batch alone; `reliability` takes its own, over all genes.
        tables[label] = pd.concat(of_batches)
    return reliability(tables, of_one_patient=of_one_patient)


def held_out_groups(sections: Sequence[MeasuredSection]) -> tuple[list[MeasuredSection], str, list[str]]:
    """Return the sections to hold out, what a group of them is in words, and the group of each.

    Groups are patients; the sections of the only patient; or the quarters of the only section.
    """
    patients = [section.patient for section in sections]
    if len(set(patients)) > 1:
        return list(sections), "patient", patients
    if len(sections) > 1:
        return list(sections), "section", [section.name for section in sections]
    blocks = spatial_blocks(sections[0])
    return blocks, "quarter of the section", [block.name for block in blocks]


def measure_all(
    manifest: str | Path,
    tile_um: float,
    analysis_mpp: float,
    progress: Progress = SILENT,
    told: Callable[[str], object] = warnings.warn,
) -> list[MeasuredSection]:
    """Read every section of a manifest; raises what `read_manifest` and `read_section` raise.

    told : called with a sentence for each thing that was left out of a section, or may spoil a fit.
    """
    for what, length in (("window", tile_um), ("analysis resolution", analysis_mpp)):
        if not (np.isfinite(length) and length > 0):
            raise ScaleError(f"the {what} must be a positive number, got {length:g}")
    listed = read_manifest(manifest)
    sections = []
    for done, section in enumerate(listed):
        progress.check(done, len(listed), "reading sections")
        measured, seen = read_section(section, tile_um, analysis_mpp)
        report = report_on(section.name, measured, seen)
        for sentence in [*seen.notices, *(f"{section.name}: {notice}" for notice in report.notices), *report.warnings]:
            told(sentence)
        sections.append(MeasuredSection.of(measured, seen, section.patient))
    return sections


def _as_measured(sections: Sequence[MeasuredSection], genes: Sequence[str]) -> list[str]:
    """The genes as the sections spell them, once each; one that none has as it is called."""
    exact = dict.fromkeys(gene for section in sections for gene in section.genes)
    known = by_capitals(reversed(exact))
    return list(dict.fromkeys(gene if gene in exact else resolve(gene, known) or gene for gene in genes))


def _of_one_group(parts: Sequence[MeasuredSection], groups: Sequence[str], genes: Sequence[str]) -> list[str]:
    """Those of the genes that the sections of a single group measured: they cannot be held out."""
    measured = {group: set() for group in groups}
    for part, group in zip(parts, groups, strict=True):
        measured[group].update(part.genes)
    return [gene for gene in genes if sum(gene in known for known in measured.values()) < 2]


def _require_sections(sections: Sequence[MeasuredSection]) -> None:
    if not sections:
        raise SpotsError("no section to learn from; the manifest must list at least one")


def _require_measured(sections: Sequence[MeasuredSection], genes: Sequence[str]) -> None:
    known = {gene for section in sections for gene in section.genes}
    unknown = [gene for gene in genes if gene not in known]
    if unknown or not genes:
        raise SpotsError(
            f"no section measured the gene {unknown[0]}; check its spelling" if unknown else "no gene to fit was left"
        )


def _require_spots(parts: Sequence[MeasuredSection]) -> None:
    smallest = min(parts, key=lambda part: len(part.colors))
    if len(smallest.colors) < LEAST_SPOTS:
        raise SpotsError(
            f"{smallest.name} has {len(smallest.colors)} spots, and {LEAST_SPOTS} or more must be held out to tell how "
            "well genes are predicted; bring a section with more spots"
        )


def _reference_stains(sections: Sequence[MeasuredSection]) -> TrainingStains:
    """Return what all slides were brought to, their mean stain vectors, and the largest angle of one's own to these."""
    vectors = np.array([section.stains.vectors for section in sections if section.stains is not None])
    if not len(vectors):
        raise SpotsError("no section is stained enough to tell its stain vectors; check that the images show H&E")
    mean = vectors.mean(axis=0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    # A single slide has no spread; one degree keeps distances finite.
    spread = np.maximum(angle_degrees(vectors, mean).max(axis=0), 1.0)
    return TrainingStains(mean.round(4), spread.round(2), REFERENCE.vectors, REFERENCE.strengths)


def fit(
    sections: Sequence[MeasuredSection],
    genes: Sequence[str],
    settings: FitSettings = CANDIDATES[0],
    *,
    progress: Progress = SILENT,
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
    progress : receives the steps done and the steps to do.

    Raises
    ------
    SpotsError : no section, or a gene that no section measured.
    Cancelled : `progress` was cancelled.
    """
    _require_sections(sections)
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
            progress.check(number * settings.steps + step + 1, len(batches) * settings.steps, "fitting")
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
