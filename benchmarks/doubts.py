"""How often the warning of doubtful stains is right: false alarms and misses, where the truth is known.

    python benchmarks/doubts.py MANIFEST [SLIDE ...] [--genes 250] [--out FILE.csv]

Every patient is left out in turn. Sections of that patient are stained, lit, blurred, stored or drawn on, as in
benchmarks/robustness.py and much further, before a fit to the others predicts them, their stains transferred. A section
counts as predicted well where its mean r over the genes is at least 0.8 of that on the section as it is. The warning is
what `nsl.stain_transfer.transfer_doubts` says of it, or that no stains were told. Genes are those of highest held-out r
in the embedded weights; settings are fixed.

Prints Markdown tables of the changes, of false alarms and misses, and of the figures that the limits are on; then what
is said of whole SLIDEs.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from robustness import SOURCES, Change, coarser, compressed, mean_r, of_pixels, seen, stained
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl.errors import NslError
from nsl.evaluate import Training
from nsl.prediction import predict
from nsl.result import stain_warning
from nsl.slides.slide import open_slide
from nsl.spots.measured_section import ANALYSIS_MPP, TILE_UM, Windows, measure_section, read_windows
from nsl.spots.tables import read_manifest
from nsl.stain_transfer import REFERENCE, StainTransfer, transfer_doubts
from nsl.stains import HED_VECTORS, PAPER_WHITE, angle_degrees, optical_density, transmitted
from nsl.train import CANDIDATES, neural_stain
from nsl.weights.folder import load_weights

WELL = 0.8
# The others of patient C are much like these.
SECTIONS = ("A1", "B4", "C2", "C4")
# A section whose genes are hardly predicted as it is cannot show what a change costs.
LEAST_R = 0.1
FACTORS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.6, 2.5, 3.5)
INKS = {"blue": (0.15, 0.3, 0.8), "green": (0.1, 0.55, 0.3), "black": (0.08, 0.08, 0.08)}
STROKE_UM = 1500.0
NO_CLEAN_H_AND_E = ("grey", "no H&E", "pen")
"""Kinds of change that the warning is to speak of, or that no stain is told by, whatever is predicted."""


def changes() -> Iterator[tuple[str, str, Change]]:
    """Kind, name and what is done to the image of a section."""
    yield "as it is", "as it is", lambda windows: windows
    for name, vectors in SOURCES.items():
        unit = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
        yield "stain vectors of ten sources", name, partial(stained, vectors=unit)
    for stain, own in (("both", (1, 1)), ("hematoxylin", (1, 0)), ("eosin", (0, 1))):
        for factor in FACTORS:
            by = tuple(factor if touched else 1.0 for touched in own)
            yield f"strength of {stain}", f"{stain} × {factor:g}", partial(stained, factors=by)
    for gamma in (0.4, 0.6, 0.8, 1.25, 1.7, 2.5):
        yield "gamma", f"gamma {gamma:g}", partial(of_pixels, change=lambda image, g=gamma: 255 * (image / 255) ** g)
    for factor in (0.8, 0.9, 0.95, 1.05, None):
        name = "taken for paper white" if factor is None else f"taken for {factor:g} of what it is"
        yield "white point", f"glass {name}", partial(misjudged, factor=factor)
    yield "white point", "blue of the glass taken for 0.85", partial(misjudged, factor=np.array([1, 1, 0.85]))
    for sigma_um in (6.0, 15.0, 40.0):
        sigma = (sigma_um / ANALYSIS_MPP, sigma_um / ANALYSIS_MPP, 0)
        yield (
            "blur, pixels, JPEG",
            f"blur, σ {sigma_um:g} µm",
            partial(of_pixels, change=lambda image, s=sigma: gaussian_filter(image, s)),
        )
    for factor in (4, 8, 16):
        name = f"{factor * ANALYSIS_MPP:g} µm/px"
        yield "blur, pixels, JPEG", name, partial(of_pixels, change=partial(coarser, factor=factor))
    for quality in (5, 30):
        name = f"JPEG quality {quality}"
        yield "blur, pixels, JPEG", name, partial(of_pixels, change=partial(compressed, quality=quality))
    for left in (0.5, 0.25, 0.1, 0.0):
        yield "grey", f"{left:.0%} of its colour left", partial(of_pixels, change=partial(paler, left=left))
    yield "no H&E", "negative", partial(of_pixels, change=lambda image: 255 - image)
    yield "no H&E", "red and blue exchanged", partial(of_pixels, change=lambda image: image[..., ::-1])
    for share in (0.1, 0.3, 0.6):
        yield "no H&E", f"hematoxylin and DAB on {share:.0%} of the tissue", partial(with_dab, share=share)
    for ink, light in INKS.items():
        for share in (0.05, 0.2, 0.5):
            drawn = partial(drawn_over, light=np.array(light), share=share)
            yield "pen", f"{ink} pen over {share:.0%}", partial(of_pixels, change=drawn)


def misjudged(windows: Windows, factor: float | np.ndarray | None) -> Windows:
    """The section with its glass taken for so many times as bright as it is, or for paper white."""
    white_point = PAPER_WHITE if factor is None else np.minimum(windows.white_point * factor, 255)
    return replace(windows, white_point=white_point)


def paler(image: np.ndarray, left: float) -> np.ndarray:
    """With this much left of what sets the channels apart."""
    grey = image.mean(axis=2, keepdims=True)
    return grey + left * (image - grey)


def drawn_over(image: np.ndarray, light: np.ndarray, share: float) -> np.ndarray:
    """With parallel strokes of a pen over this share of it, through which so much light comes."""
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    period = STROKE_UM / ANALYSIS_MPP
    under = ((x + y) % period) < share * period
    return np.where(under[..., None], image * light, image)


def with_dab(windows: Windows, share: float) -> Windows:
    """Hematoxylin as it is, no eosin, and DAB on patches of 100 µm or so that know nothing of either."""
    own = windows.stains
    od = optical_density(windows.image, windows.white_point)
    hematoxylin = np.maximum(od @ np.linalg.pinv(own.vectors)[:, 0], 0)
    field = gaussian_filter(np.random.default_rng(0).normal(size=od.shape[:2]), 50 / ANALYSIS_MPP)
    tissue = od.mean(axis=-1) > 0.1
    dab = own.strengths[1] * tissue * (field > np.quantile(field, 1 - share))
    shown = hematoxylin[..., None] * own.vectors[0] + dab[..., None] * HED_VECTORS[2]
    image = np.where(windows.image.any(axis=-1, keepdims=True), transmitted(shown, windows.white_point), 0)
    return replace(windows, image=image.astype(np.uint8))


class Figures(NamedTuple):
    """What the limits of `transfer_doubts` are on, and what it says."""

    apart_degrees: float
    hematoxylin_off_degrees: float
    eosin_off_degrees: float
    green_to_red: float  # absorbed by the first stain
    blue_to_green: float  # absorbed by the second
    hematoxylin_times: float  # as strong as usual
    eosin_times: float
    residual: float
    said: str


def figures_of(windows: Windows) -> Figures:
    stains = windows.stains
    if stains is None:
        return Figures(*[np.nan] * 8, "no stains told")
    transfer = StainTransfer.between(stains, REFERENCE)
    doubts = transfer_doubts(stains.vectors, transfer.strengths, stains.residual)
    return Figures(
        float(angle_degrees(*stains.vectors)),
        *angle_degrees(stains.vectors, REFERENCE.vectors),
        stains.vectors[0, 1] / stains.vectors[0, 0],
        stains.vectors[1, 2] / stains.vectors[1, 1],
        *(1 / transfer.strengths),
        stains.residual,
        "; ".join(doubts),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("slides", nargs="*", type=Path)
    parser.add_argument("--genes", type=int, default=250)
    parser.add_argument("--out", type=Path, help="CSV: a row a section and change")
    args = parser.parse_args()
    weights = load_weights()
    table = measured_doubts(args.manifest, list(weights.reliability.r_heldout.nlargest(args.genes).index))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(args.out, index=False)
    print(by_change(table), by_kind(table), spreads(table), sep="\n\n")
    for path in args.slides:
        print(f"\n{path.name}: {said_of(path, weights)}")


def measured_doubts(manifest: Path, genes: list[str]) -> pd.DataFrame:
    """A row a section and change: kind, change, section, r, share of the r as it is, then `Figures`."""
    measured = [measure_section(section) for section in read_manifest(manifest)]
    method, rows = neural_stain(CANDIDATES[:1]), []
    for patient in dict.fromkeys(section.patient for section in measured):
        others = [section for section in measured if section.patient != patient]
        fitted = method.fit(Training(others, [method.features(section) for section in others], genes), 0)
        for section in (one for one in measured if one.patient == patient and one.name in SECTIONS):
            windows = read_windows(section.image, section.centers_px, TILE_UM, ANALYSIS_MPP)
            own_r = None
            for kind, name, change in changes():
                changed = change(windows)
                r = mean_r(method, fitted, seen(section, changed, transfer=True), genes)
                own_r = r if own_r is None else own_r
                rows.append((kind, name, section.name, r, r / own_r, *figures_of(changed)))
                print(f"{section.name}, {name}: r {r:.3f}, {rows[-1][-1] or 'no doubt'}", file=sys.stderr)
    return pd.DataFrame(rows, columns=["kind", "change", "section", "r", "share", *Figures._fields])


def by_change(table: pd.DataFrame) -> str:
    """A row a change: its share of r, and in how many sections the warning fired."""
    judged = table[table.section.isin(_told_by(table))]
    lines = ["| change | share of r, section by section | warned of | first reason |", "|:--|--:|--:|:--|"]
    for name, rows in judged.groupby("change", sort=False):
        shares = " ".join(f"{share:.2f}" for share in rows.share)
        reasons = [said.split(";")[0] for said in rows.said if said]
        lines.append(f"| {name} | {shares} | {len(reasons)} of {len(rows)} | {reasons[0] if reasons else ''} |")
    return "\n".join(lines)


def by_kind(table: pd.DataFrame) -> str:
    """False alarms and misses by kind of change, and of all that are H&E without a pen."""
    judged = table[table.section.isin(_told_by(table))]
    clean = judged[~judged.kind.isin(NO_CLEAN_H_AND_E)]
    head = "| change | predicted well | of these warned of | predicted badly | of these not warned of |"
    lines = [head, "|:--|--:|--:|--:|--:|"]
    for kind, rows in [*judged.groupby("kind", sort=False), ("**all but the last three**", clean)]:
        well, warned = rows.share >= WELL, rows.said != ""
        numbers = (well.sum(), (well & warned).sum(), (~well).sum(), (~well & ~warned).sum())
        lines.append(f"| {kind} | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines)


def _told_by(table: pd.DataFrame) -> list[str]:
    own = table[table.kind == "as it is"].set_index("section").r
    return list(own.index[own >= LEAST_R])


def spreads(table: pd.DataFrame) -> str:
    """The least, the 5th, 50th and 95th percentile and the most of every figure."""
    lines = ["| figure | predicted well | predicted badly |", "|:--|--:|--:|"]
    judged = table[table.section.isin(_told_by(table))]
    for name in Figures._fields[:-1]:
        cells = []
        for well in (True, False):
            values = judged[(judged.share >= WELL) == well][name].dropna()
            cells.append(" ".join(f"{q:.3g}" for q in values.quantile([0, 0.05, 0.5, 0.95, 1])))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def said_of(path: Path, weights) -> str:
    """The warning on a whole slide, or the error; a slide that states no µm/px is taken for one of 0.5."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for mpp in (None, 0.5):
            try:
                with open_slide(path, mpp) as slide:
                    return stain_warning(predict(slide, weights, genes=weights.genes[:1])) or "no doubt"
            except NslError as error:
                said = str(error)
    return said


if __name__ == "__main__":
    main()
