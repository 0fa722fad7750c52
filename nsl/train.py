"""From measured sections to weights: gather colour counts of the spots, then fit all genes at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nsl import __version__
from nsl.errors import ScaleError, SpotsError
from nsl.measure import ANALYSIS_MPP, TILE_UM, MeasuredSection, detected_genes, measure_section
from nsl.model import NeuralStain
from nsl.spots import UNITS, read_manifest
from nsl.stains import angle_degrees
from nsl.weights import SCHEMA_VERSION, Weights

# Leave-one-patient-out on her2st: starting from hematoxylin and eosin and stopping early predicts unseen
# patients better than any longer fit tried.
STEPS = 40
LEARNING_RATE = 0.02
# Genes fitted together: bounds a table of colours × 4 × genes to some tens of MB.
GENES_AT_ONCE = 512

Progress = Callable[[int, int], None]


def train(
    manifest: str | Path,
    *,
    name: str,
    source: str = "not stated",
    licence: str = "not stated",
    min_detected: float = 0.1,
    genes: Sequence[str] | None = None,
    tile_um: float = TILE_UM,
    analysis_mpp: float = ANALYSIS_MPP,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    command: str = "nsl.train.train",
    progress: Progress | None = None,
) -> Weights:
    """Weights from every section of a manifest.

    Parameters
    ----------
    manifest : CSV, see `nsl.spots.read_manifest`.
    name, source, licence, command : recorded in the weights.
    min_detected : keep genes counted in at least this share of the spots of every patient.
    genes : fit these instead.

    Raises
    ------
    SpotsError, SlideError, ScaleError : a section cannot be used; nothing is trained.
    """
    for what, length in (("window", tile_um), ("analysis resolution", analysis_mpp)):
        if not (np.isfinite(length) and length > 0):
            raise ScaleError(f"the {what} must be a positive number, got {length:g}")
    sections = [measure_section(section, tile_um, analysis_mpp) for section in read_manifest(manifest)]
    rule = (
        "as listed by the user"
        if genes is not None
        else f"detected in at least {min_detected:.0%} of spots in every patient"
    )
    chosen = list(dict.fromkeys(genes)) if genes is not None else detected_genes(sections, min_detected)
    model = fit(sections, chosen, steps=steps, learning_rate=learning_rate, seed=seed, progress=progress)
    config = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "units": UNITS,
        "tile_um": tile_um,
        "analysis_mpp": analysis_mpp,
        "training_data": {
            "source": source,
            "licence": licence,
            "patients": len({section.patient for section in sections}),
            "sections": [section.name for section in sections],
            "spots": sum(len(section.colors) for section in sections),
            "genes_rule": rule,
        },
        "stains": _reference_stains(sections),
        "fit": {
            "steps": steps,
            "learning_rate": learning_rate,
            "seed": seed,
            "command": command,
            "nsl_version": __version__,
        },
    }
    return Weights(model, config, source="trained here", sha256="")


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
    *,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
    progress: Progress | None = None,
) -> NeuralStain:
    """Fit the 11 weights of every gene; the same seed and sections give the same weights.

    Each gene is standardised within each section, so a section's depth and batch do not matter, and every
    section weighs alike. Adam starts from the Ruifrok–Johnston matrix; afterwards the effects are scaled
    and the intercept set by least squares, so that predictions are in the units of the data.

    Parameters
    ----------
    sections : measured sections; a gene missing from one is learned from the others.
    genes : which to fit.
    progress : called with the steps done and the steps to do.

    Raises
    ------
    SpotsError : no section, or a gene that no section measured.
    """
    if not sections:
        raise SpotsError("no section to learn from; the manifest must list at least one")
    known = {gene for section in sections for gene in section.genes}
    unknown = [gene for gene in genes if gene not in known]
    if unknown or not genes:
        raise SpotsError(
            f"no section measured the gene {unknown[0]}; check its spelling" if unknown else "no gene to fit was left"
        )
    generator = torch.Generator().manual_seed(seed)
    batches = [genes[i : i + GENES_AT_ONCE] for i in range(0, len(genes), GENES_AT_ONCE)]
    fitted = []
    for number, batch in enumerate(batches):
        targets = [_target(section, batch) for section in sections]
        model = NeuralStain(batch, generator)
        optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
        for step in range(steps):
            optimiser.zero_grad()
            for section, target in zip(sections, targets, strict=True):
                _loss(model.from_counts(section.colors), target).backward()
            optimiser.step()
            if progress:
                progress(number * steps + step + 1, len(batches) * steps)
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
    column = {gene: i for i, gene in enumerate(section.genes)}
    index = [column.get(gene, -1) for gene in genes]
    expression = torch.from_numpy(section.expression[:, index])
    mean, sd = expression.mean(dim=0), expression.std(dim=0, correction=0)
    measured = ((torch.tensor(index) >= 0) & (sd > 0)).float()
    z = (expression - mean) / torch.where(sd > 0, sd, 1) * measured
    return _Target(z, mean, sd, measured)


def _loss(predicted: torch.Tensor, target: _Target) -> torch.Tensor:
    return (((predicted - target.z) ** 2).mean(dim=0) * target.measured).sum()


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
