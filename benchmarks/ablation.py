"""What each choice in training is worth, one change at a time, where it is held out.

    python benchmarks/ablation.py MANIFEST [--genes 250] [--out FILE.md]

Prints a Markdown table: a row a variant of the base fit, judged with sections left out in turn within the patient who
has most of them, and with patients left out in turn. The genes are those of highest mean expression among the ones
detected in every patient, the same for all variants. The same manifest gives the same table.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.decomposition import MiniBatchDictionaryLearning
from torch.nn.functional import cosine_similarity

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl import train
from nsl.evaluate import HeldOut, Method, Predictor, Training, hidden, leave_one_group_out, shared_part
from nsl.histogram import ColorCounts, count_colors
from nsl.model import NeuralStain
from nsl.spots import measured_section
from nsl.spots.measured_section import MeasuredSection
from nsl.spots.tables import read_manifest
from nsl.stain_transfer import REFERENCE, StainTransfer
from nsl.stains import HED_VECTORS, SlideStains, completed, tissue_colors
from nsl.stats.pearson import pearson_r
from nsl.weights.reliability import USEFUL_R

BASE = train.FitSettings(patterns=10, steps=50)
SEEDS = 3
GAIN_SD = 0.2
# Of random effects, as training had them before it solved for the first ones.
START_SD = 0.01
# Summed over channels, about what the slides have: a scaled slide starts from effects of the usual size.
MEAN_OD = 1.3
MACENKO_OD = 0.15
SPARSE_PIXELS = 20_000
# Laboratories' vectors differ from the reference by some 10°, their strengths by a factor of up to two.
RESTAINED_SD = 0.1, 0.3


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    method: Method
    colors: Callable[[MeasuredSection], ColorCounts] | None = None
    """What to take from a section's image instead of its colours as measured; its expression is not shown."""


def smoothed(section: MeasuredSection) -> MeasuredSection:
    """Expression averaged over neighbours, by a Gaussian whose sd is the distance to the nearest spot."""
    distance = cdist(section.centers_px, section.centers_px)
    nearest = np.median(np.where(distance > 0, distance, np.inf).min(axis=1))
    kernel = np.exp(-((distance / nearest) ** 2) / 2).astype(np.float32)
    return replace(section, expression=kernel / kernel.sum(axis=1, keepdims=True) @ section.expression)


def equally_dark(section: MeasuredSection) -> ColorCounts:
    """A thick or dark slide is no other tissue: the same mean OD over the spots of every section."""
    own = as_scanned(section).od_sums.sum(dtype=float) / section.colors.pixels.sum(dtype=float)
    return as_scanned(section).transferred(MEAN_OD / own * np.eye(3))


def as_scanned(section: MeasuredSection) -> ColorCounts:
    """Colours of the slide's own stains."""
    return brought(section, taken_from(section))


def taken_from(section: MeasuredSection) -> SlideStains:
    """The stains that its colours were brought over from."""
    return StainTransfer.between(section.stains, REFERENCE).source


def as_told(section: MeasuredSection) -> ColorCounts:
    """Brought over from the stains as told from the slide, whatever is usual."""
    return as_scanned(section).transferred(StainTransfer(section.stains, REFERENCE).matrix)


def brought(section: MeasuredSection, target: SlideStains) -> ColorCounts:
    """Colours in other stains than those that sections are brought to."""
    return section.colors.transferred(StainTransfer(REFERENCE, target).matrix)


def published(section: MeasuredSection) -> ColorCounts:
    """In Ruifrok and Johnston's hematoxylin and eosin, as strong as in those that sections are brought to."""
    vectors = HED_VECTORS[:2] / np.linalg.norm(HED_VECTORS[:2], axis=1, keepdims=True)
    return brought(section, SlideStains(vectors, REFERENCE.strengths))


def vectors_alone(section: MeasuredSection) -> ColorCounts:
    """In the vectors that sections are brought to, and as strong as the slide is."""
    return brought(section, taken_from(section)._replace(vectors=REFERENCE.vectors))


def by_macenko(section: MeasuredSection) -> ColorCounts:
    """Brought over by what is told from pixels over a fixed optical density of 0.15, as Macenko et al. had it."""
    windows = measured_section.read_windows(
        section.image, section.centers_px, measured_section.TILE_UM, measured_section.ANALYSIS_MPP
    )
    od = tissue_colors(windows.image[::2, ::2], windows.white_point)
    od = od[od.min(axis=1) > MACENKO_OD]
    plane = np.linalg.eigh(np.cov(od.T))[1][:, :0:-1]
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)
    x, y = (od @ plane).T
    extremes = np.percentile(np.arctan2(y, x), [1, 99])
    vectors = np.stack([np.cos(extremes), np.sin(extremes)], axis=1) @ plane.T
    vectors = vectors[np.argsort(-vectors[:, 0])]
    strengths = np.percentile(od @ np.linalg.inv(completed(vectors)), 99, axis=0)[:2]
    return as_scanned(section).transferred(StainTransfer.between(SlideStains(vectors, strengths), REFERENCE).matrix)


def by_sparse_factors(section: MeasuredSection) -> ColorCounts:
    """Brought over by stains told as Vahadane et al. 2016 (IEEE Trans Med Imaging 35:1962) do.

    OD is a sparse sum of two stains that are nowhere negative; the penalty of 0.1 is theirs.
    """
    windows = measured_section.read_windows(
        section.image, section.centers_px, measured_section.TILE_UM, measured_section.ANALYSIS_MPP
    )
    od = tissue_colors(windows.image[::2, ::2], windows.white_point)
    od = od[np.random.default_rng(0).choice(len(od), min(len(od), SPARSE_PIXELS), replace=False)]
    factors = MiniBatchDictionaryLearning(
        2, alpha=0.1, positive_code=True, positive_dict=True, fit_algorithm="cd", max_iter=200, random_state=0
    )
    vectors = factors.fit(od).components_
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors[np.argsort(-vectors[:, 0])]
    strengths = np.percentile(od @ np.linalg.inv(completed(vectors)), 99, axis=0)[:2]
    return as_scanned(section).transferred(StainTransfer.between(SlideStains(vectors, strengths), REFERENCE).matrix)


def remeasured(
    section: MeasuredSection, um=measured_section.TILE_UM, mpp=measured_section.ANALYSIS_MPP, bits=measured_section.BITS
) -> ColorCounts:
    """The same spots read again; an image coarser than `mpp` is read at its own resolution."""
    windows = measured_section.read_windows(section.image, section.centers_px, um, mpp)
    colors = count_colors(windows.image, windows.bounds, windows.white_point, bits)
    return colors.transferred(windows.transfer)


@torch.no_grad()
def random_effects(model, rng, *_) -> None:
    """How training began before; from effects of 0 no other weight has a gradient."""
    model.effect.copy_(torch.from_numpy(rng.normal(0, START_SD, model.effect.shape)))


@torch.no_grad()
def one_stain(model, _rng, sections, aims, targets) -> None:
    """Least squares on one stain alone, hematoxylin or eosin, whichever explains the gene's aims better.

    The other's column is 0, so its relu passes no gradient and it stays out.
    """
    least = torch.full([len(model.genes)], torch.inf)
    for absent in (1, 0):
        alone = NeuralStain(model.genes)
        alone.deconvolution[..., absent] = 0
        train._start_effects(alone, sections, aims, targets)
        parts = zip(sections, aims, targets, strict=True)
        error = sum(squared_error(alone.from_counts(s.colors), aim) * t.measured for s, aim, t in parts)
        for kept, candidate in zip(model.parameters(), alone.parameters(), strict=True):
            kept[error < least] = candidate[error < least]
        least = torch.minimum(error, least)


def squared_error(predicted: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
    return ((predicted - aim) ** 2).mean(dim=0)


def centred_error(predicted: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
    """What is the same all over a slide, as its staining is, costs nothing."""
    return squared_error(predicted - predicted.mean(dim=0), aim)


def one_minus_r(predicted: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
    """What is judged in the end: neither level nor spread of a slide's prediction costs anything."""
    return 1 - cosine_similarity(predicted - predicted.mean(dim=0), aim, dim=0)


def patients_alike(sections: Sequence[MeasuredSection]) -> np.ndarray:
    patients = [section.patient for section in sections]
    return np.array([1 / patients.count(patient) for patient in patients])


class Linear(NeuralStain):
    """No relu: whatever its matrix and effects, a weight for the mean OD of each channel and an intercept."""

    def _unmixing(self, od):
        affine, active = super()._unmixing(od)
        return affine, torch.ones_like(active)


@dataclass(frozen=True)
class Trainer:
    """`nsl.train.fit` with its choices open, made of the same parts; as it stands, fit with BASE.

    Predictions are not brought to the units of the data, which r does not depend on.
    """

    patterns: int = BASE.patterns
    steps: int = BASE.steps
    learning_rate: float = train.LEARNING_RATE
    model: type[NeuralStain] = NeuralStain
    start: Callable[..., None] = lambda model, rng, *parts: train._start_effects(model, *parts)
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = squared_error
    """Of each gene in one section."""
    weights: Callable[[Sequence[MeasuredSection]], np.ndarray] = lambda sections: np.ones(len(sections))
    fixed: tuple[str, ...] = ()
    """Parameters that stay as they start."""
    shared: tuple[str, ...] = ()
    """Parameters that are the same for all genes."""
    gain_sd: float = 0.0
    """A section's OD is multiplied by the exponential of a normal number at every step."""
    restained: tuple[float, float] | None = None
    """A section is brought to other stains at every step: sd of the vectors' components, and of log strengths."""

    def __call__(self, training: Training, seed: int) -> Predictor:
        sections, rng = training.sections, np.random.default_rng(seed)
        targets = [train._target(section, training.genes) for section in sections]
        aims = [
            torch.from_numpy(shared_part(s, target.z.numpy(), self.patterns))
            for s, target in zip(sections, targets, strict=True)
        ]
        # Start and loss both multiply by `measured`, so a section's weight may ride on it.
        weights = self.weights(sections) / self.weights(sections).mean()
        targets = [replace(t, measured=t.measured * weight) for t, weight in zip(targets, weights, strict=True)]
        model = self.model(training.genes)
        self.start(model, rng, sections, aims, targets)
        free = [parameter for name, parameter in model.named_parameters() if name not in self.fixed]
        optimiser = torch.optim.Adam(free, lr=self.learning_rate, eps=train.ADAM_EPSILON)
        for _ in range(self.steps):
            optimiser.zero_grad()
            for section, aim, target in zip(sections, aims, targets, strict=True):
                colors = section.colors
                if self.gain_sd:
                    colors = colors.transferred(np.exp(rng.normal(0, self.gain_sd)) * np.eye(3))
                if self.restained:
                    colors = colors.transferred(restaining(rng, *self.restained))
                (self.loss(model.from_counts(colors), aim) * target.measured).sum().backward()
            for gradient in (getattr(model, name).grad for name in self.shared):
                gradient.copy_(gradient.sum(dim=0))
            optimiser.step()
        model.requires_grad_(False)
        return lambda colors: model.from_counts(colors).numpy()


def restaining(rng: np.random.Generator, vectors_sd: float, strengths_sd: float) -> np.ndarray:
    """(3, 3) from the reference to stains drawn about it."""
    vectors = np.abs(REFERENCE.vectors + rng.normal(0, vectors_sd, (2, 3)))
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    strengths = REFERENCE.strengths * np.exp(rng.normal(0, strengths_sd, 2))
    return StainTransfer(REFERENCE, SlideStains(vectors, strengths)).matrix


def fitted(name: str, colors: Callable[[MeasuredSection], ColorCounts] | None = None, **changes: int) -> Variant:
    """What `nsl.train.fit` does itself."""
    return Variant(replace(train.neural_stain([BASE._replace(**changes)]), name=name), colors)


def trained(name: str, random: bool = False, **changes) -> Variant:
    return Variant(Method(name, lambda section: section.colors, Trainer(**changes), None, random))


def fitted_to_smoothed(name: str) -> Variant:
    method = train.neural_stain([BASE._replace(patterns=0)])

    def fit(training: Training, seed: int) -> Predictor:
        return method.fit(replace(training, sections=[smoothed(section) for section in training.sections]), seed)

    return Variant(replace(method, name=name, fit=fit))


def variants(genes: int) -> dict[str, list[Variant]]:
    """Groups of rows; each differs from the base in what it names, and a number after a colon counts weights a gene."""
    before = {"start": random_effects, "random": True}
    without_offsets = {"fixed": ("offset",)}
    return {
        "Base": [fitted("least squares, 10 patterns, 50 steps at 0.02; 150 µm, 3 µm/px, 4 bits")],
        "Start of the effects": [
            *(trained(f"small random effects, {steps} steps", steps=steps, **before) for steps in (40, 150)),
            # As training was altogether.
            *(
                trained(
                    f"small random effects, {steps} steps, each gene as measured", steps=steps, patterns=0, **before
                )
                for steps in (40, 150)
            ),
            fitted("least squares alone, 0 steps", steps=0),
        ],
        "Targets": [
            fitted("each gene as measured", patterns=0),
            fitted("1 pattern", patterns=1),
            fitted("3 patterns", patterns=3),
            fitted_to_smoothed("each gene averaged over neighbouring spots"),
        ],
        "Steps and learning rate": [
            *(fitted(f"{steps} steps", steps=steps) for steps in (25, 100, 200)),
            *(trained(f"learning rate {rate}", learning_rate=rate) for rate in (0.005, 0.05)),
        ],
        "Loss": [
            trained("1 − Pearson r", loss=one_minus_r),
            trained("squared error of the prediction centred per section", loss=centred_error),
            trained("patients weigh alike", weights=patients_alike),
            trained("spots weigh alike", weights=lambda sections: np.array([len(s.colors) for s in sections])),
        ],
        "Stains": [
            fitted("colours as scanned", as_scanned),
            fitted("as scanned, OD scaled to the same mean on every slide", equally_dark),
            fitted("brought over from the stains as told", as_told),
            fitted("brought to the reference by Macenko's threshold", by_macenko),
            fitted("brought to the reference's vectors, not to its strengths", vectors_alone),
            fitted("brought to Ruifrok and Johnston's vectors", published),
            fitted("brought to the reference by sparse non-negative factors", by_sparse_factors),
            trained(f"random OD gain per step and section, sd {GAIN_SD}", gain_sd=GAIN_SD, random=True),
            *(
                trained(f"re-stained at random per step and section, {words}", restained=sd, random=True)
                for words, sd in (("mildly", tuple(s / 3 for s in RESTAINED_SD)), ("as laboratories do", RESTAINED_SD))
            ),
        ],
        "Other readings": [
            # Columns of a full matrix that are not read get no gradient: NeuralStain without offsets is that model.
            trained(
                "3×3 matrix, one stain read out, gain, bias: 9 + 2, 6 of them idle", start=one_stain, **without_offsets
            ),
            trained("3×3 matrix, two effects: 9 + 2, 3 of them idle, the intercept not counted", **without_offsets),
            trained("no relu: 4 (mean OD of each channel, intercept)", model=Linear, **without_offsets),
            trained(f"one matrix and offsets for all genes: 3 + 8/{genes}", shared=("deconvolution", "offset")),
        ],
        "Reading the image": [
            *(fitted(f"window {um} µm", partial(remeasured, um=um)) for um in (75, 100, 200, 300)),
            *(fitted(f"{mpp:g} µm/px", partial(remeasured, mpp=mpp)) for mpp in (1.5, 6, 12)),
            *(fitted(f"{bits} bits a colour channel", partial(remeasured, bits=bits)) for bits in (3, 5, 6)),
        ],
        "Published stains, fixed": [
            fitted("ridge on each gene as measured: 3", patterns=0, steps=0),
            fitted("ridge on 10 patterns: 3 (least squares alone)", steps=0),
        ],
    }


def judge(variant: Variant, sections: Sequence[MeasuredSection], genes: Sequence[str]) -> np.ndarray:
    """(2, 3): sections left out within a patient, patients left out; median r, mean r, genes above USEFUL_R."""
    if variant.colors:
        sections = [replace(section, colors=variant.colors(hidden(section))) for section in sections]
    patients = [section.patient for section in sections]
    most = [section for section in sections if section.patient == max(patients, key=patients.count)]
    settings = ((most, [section.name for section in most]), (sections, patients))

    def found(seed: int) -> list[tuple[float, float, float]]:
        runs = [leave_one_group_out(*setting, variant.method, genes, seed=seed) for setting in settings]
        return [figures(run, genes) for run in runs]

    return np.mean([found(seed) for seed in range(SEEDS if variant.method.random else 1)], axis=0)


def figures(held_out: Sequence[HeldOut], genes: Sequence[str]) -> tuple[float, float, float]:
    """Means over the groups; a group's r is the mean over its sections."""
    groups: dict = {}
    for part in held_out:
        groups.setdefault(part.group, []).append(pearson_r(part.predicted, part.section.expression_of(genes), flat_r=0))
    r = np.array([np.nanmean(parts, axis=0) for parts in groups.values()])
    return np.nanmedian(r, axis=1).mean(), np.nanmean(r, axis=1).mean(), (r > USEFUL_R).sum(axis=1).mean()


def require_same_as_fit(sections: Sequence[MeasuredSection], genes: Sequence[str]) -> None:
    """A variant is one change away from the base only while the trainer here does what fit does."""
    ours = Trainer(steps=5)(Training(list(sections), [s.colors for s in sections], list(genes)), 0)
    theirs = train.fit(sections, genes, BASE._replace(steps=5))
    r = np.min([pearson_r(ours(s.colors), theirs.from_counts(s.colors).numpy()) for s in sections])
    if r < 0.9999:
        raise SystemExit(f"the trainer of this benchmark no longer does what nsl.train.fit does (r {r:.4f})")


def as_markdown(rows: Sequence[tuple[str, Variant, np.ndarray]]) -> str:
    useful = f"genes r > {USEFUL_R}"
    lines = [
        f"| | section out: median r | mean r | {useful} | patient out: median r | mean r | {useful} |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for number, (group, variant, result) in enumerate(rows):
        if number == 0 or group != rows[number - 1][0]:
            lines.append(f"| **{group}** | | | | | | |")
        name = variant.method.name + (f" (mean of {SEEDS} seeds)" if variant.method.random else "")
        cells = [f"{median:.3f} | {mean:.3f} | {count:.1f}" for median, mean, count in result]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--genes", type=int, default=250)
    parser.add_argument("--group", help="only the rows of this group, beside the base")
    parser.add_argument("--out", type=Path, help="write the table to this file too")
    args = parser.parse_args()
    start = time.perf_counter()

    def tell(what: str) -> None:
        print(f"{time.perf_counter() - start:6.0f} s  {what}", file=sys.stderr, flush=True)

    # A variant a core: the tables are too small to share one out well.
    torch.set_num_threads(1)
    sections = [measured_section.measure_section(section) for section in read_manifest(args.manifest)]
    genes = measured_section.highest_mean(sections, measured_section.detected_genes(sections), args.genes)
    require_same_as_fit(sections, genes[:8])
    tell(f"{len(sections)} sections measured, {len(genes)} genes")

    chosen = variants(len(genes))
    if args.group:
        chosen = {group: chosen[group] for group in ("Base", args.group)}
    rows = [(group, variant) for group, members in chosen.items() for variant in members]

    def found(row: tuple[str, Variant]) -> np.ndarray:
        result = judge(row[1], sections, genes)
        tell(f"{row[0]}: {row[1].method.name}")
        return result

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The slowest, of many colours, stand near the end, and are begun first.
        results = list(pool.map(found, reversed(rows)))[::-1]
    table = as_markdown([(*row, result) for row, result in zip(rows, results, strict=True)])
    print(table, end="")
    if args.out:
        args.out.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
