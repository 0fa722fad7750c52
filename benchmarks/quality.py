"""How often tiles of ink, pigment, blur, folds and frames are found, and how many of clean tissue are lost.

    python benchmarks/quality.py SLIDE:MPP [SLIDE:MPP ...] [--analysis-mpp 3] [--manifest MANIFEST] [--out FILE.csv]

MPP are the µm/px of a slide that states none; empty for one that does. Each slide is taken for clean as it is, and
painted in the stains of ten laboratories. Then pens of several colours are drawn over it, opaque and as a dye, all of
it is put out of focus, tissue is folded over itself in strips, parts are covered by black and grey frames, by printed
dots as slides for capture have them, and by lakes of red cells; after that it goes through JPEG. Tiles are those of
150 µm in the largest piece of tissue, and the artefact's those of which it covers a third (of dots, a sixth). Stains
and limits are told from the slide as it is then, artefacts and all, as in a prediction.

Prints a Markdown table: of the tiles with an artefact, those found by any kind, and the worst slide. With MANIFEST, a
fit to the other patients predicts each section, and the table tells what leaving tiles out does to r.
"""

import argparse
import io
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from robustness import SOURCES
from scipy.ndimage import gaussian_filter, label

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl.evaluate import Training
from nsl.quality import KINDS, color_kinds, over_limits, own_tissue, tile_quality, tissue_pixels
from nsl.slides.slide import open_slide
from nsl.spots.measured_section import ANALYSIS_MPP, TILE_UM, measure_section, read_windows
from nsl.spots.tables import read_manifest
from nsl.stain_transfer import StainTransfer, paint
from nsl.stains import (
    TISSUE_OD,
    SlideStains,
    estimate_stains,
    optical_density,
    tissue_colors,
    transmitted,
)
from nsl.stats.pearson import pearson_r
from nsl.tiles import MIN_TISSUE, grid_over, pixel_bounds, tissue_fraction
from nsl.train import CANDIDATES, neural_stain
from nsl.weights.folder import load_weights
from nsl.white_point import estimate_white_point

# What comes through a stroke of pen on glass; the first three are those of benchmarks/doubts.py.
INKS = {
    "blue": (0.15, 0.3, 0.8),
    "green": (0.1, 0.55, 0.3),
    "black": (0.08, 0.08, 0.08),
    "red": (0.85, 0.15, 0.2),
}
# Pen strokes are about so wide, folds less; both so far apart that most of a slide stays as it is.
STROKE_UM, STROKES_UM = 500.0, 2500.0
FOLD_UM, FOLDS_UM = 120.0, 1800.0
# Dots that are printed on slides for capture, in rows of two.
DOT_UM, DOTS_UM, ROWS_UM = 100.0, 200.0, 2000.0
# Lakes of red cells. Of those in two vessels of cmu_small_region.svs red to green is 0.21 and 0.26, and blue to green
# 1.27 times the median of the tissue.
LAKE_UM, LAKES, CELL_UM = 70.0, 0.18, 3.0
BLOOD_RED, BLOOD_BLUE_TIMES = 0.22, (1.27, 1.6)
# Of a tile, from which it counts as one with the artefact; half a dot is a sixth.
COVERED = dict.fromkeys((*KINDS, "blood"), 1 / 3) | {"fiducial": 1 / 6}
JPEG_QUALITY = 80
THUMBNAIL_PX = 1280


class Picture(NamedTuple):
    """A slide at the analysis resolution."""

    image: np.ndarray  # (H, W, 3) uint8
    mpp: float
    white_point: np.ndarray


class Marked(NamedTuple):
    """A picture after a change, and where."""

    image: np.ndarray  # (H, W, 3) uint8
    where: np.ndarray  # (H, W) bool


def artefacts() -> Iterator[tuple[str, str, partial]]:
    """Kind, name and what is done to a picture."""
    for name, vectors in SOURCES.items():
        yield "clean", f"stains of {name}", partial(painted, vectors=np.array(vectors))
    for factor in (0.5, 2.0):
        yield "clean", f"stains × {factor:g}", partial(painted, factor=factor)
    for name, light in INKS.items():
        for how, opacity, strength in (("opaque", 0.9, 1.0), ("dye", 0.0, 1.0), ("faint dye", 0.0, 0.5)):
            drawn = partial(inked, light=np.array(light) ** strength, opacity=opacity)
            yield "ink", f"{name}, {how}", drawn
    for sigma_um in (3.0, 6.0, 10.0, 20.0):
        yield "blur", f"σ {sigma_um:g} µm", partial(blurred, sigma_um=sigma_um)
    for layers in (2, 3):
        yield "fold", f"{layers} layers", partial(folded, layers=layers)
    for name, grey in (("black with noise", 2), ("dark grey", 60), ("grey", 128), ("light grey", 180)):
        yield "surround", name, partial(framed, grey=grey)
    for name, light, opacity in (("black", 0.06, 0.85), ("brown", (0.14, 0.11, 0.1), 0.85), ("pale", 0.3, 0.4)):
        yield "fiducial", f"{name} dots", partial(dotted, light=np.broadcast_to(light, 3), opacity=opacity)
    for times in BLOOD_BLUE_TIMES:
        yield "blood", f"blue × {times:g}", partial(bled, blue_times=times)


def painted(picture: Picture, vectors: np.ndarray | None = None, factor: float = 1.0) -> Marked:
    """In other stain vectors, (2, 3), or some times as strongly stained."""
    own = estimate_stains(tissue_colors(picture.image, picture.white_point)[::5])
    to = own.vectors if vectors is None else vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    matrix = StainTransfer(own, SlideStains(to, factor * own.strengths)).matrix
    return Marked(paint(picture.image, picture.white_point, matrix), np.ones(picture.image.shape[:2], bool))


def stripes(picture: Picture, period_um: float, share: float) -> np.ndarray:
    """(H, W) bool, parallel oblique stripes over this share of a picture."""
    y, x = np.ogrid[: picture.image.shape[0], : picture.image.shape[1]]
    period = period_um / picture.mpp
    return ((x + y) % period) < share * period


def inked(picture: Picture, light: np.ndarray, opacity: float) -> Marked:
    """Strokes through which so much light comes: as much of them as is opaque hides what is below."""
    where = stripes(picture, STROKES_UM, STROKE_UM / STROKES_UM)
    edge = gaussian_filter(where.astype(np.float32), 6 / picture.mpp)[..., None]
    below = opacity * picture.white_point + (1 - opacity) * picture.image
    return Marked(_stored(picture, picture.image * (1 - edge) + below * light * edge), where)


def blurred(picture: Picture, sigma_um: float) -> Marked:
    sigma = sigma_um / picture.mpp
    image = gaussian_filter(picture.image.astype(np.float32), (sigma, sigma, 0))
    return Marked(_stored(picture, image), np.ones(image.shape[:2], bool))


def folded(picture: Picture, layers: int) -> Marked:
    """Strips in which the tissue beside them lies on top, as a mirror shows it; a true fold is of three layers."""
    od = optical_density(picture.image, picture.white_point)
    x, width, period = np.arange(od.shape[1]), round(FOLD_UM / picture.mpp), round(FOLDS_UM / picture.mpp)
    into = (x - period // 2) % period
    mirrors = [x - 2 * into - 1, x + 2 * (width - into)][: layers - 1]
    where = np.broadcast_to(into < width, od.shape[:2])
    added = sum(od[:, np.clip(mirror, 0, od.shape[1] - 1)] for mirror in mirrors)
    image = transmitted(od + np.where(where[..., None], added, 0), picture.white_point)
    is_tissue = (od.mean(axis=-1) > TISSUE_OD) & (added.mean(axis=-1) > TISSUE_OD)
    return Marked(_stored(picture, image), where & is_tissue)


def framed(picture: Picture, grey: int) -> Marked:
    where = stripes(picture, 8 * TILE_UM, 0.25)
    noise = np.random.default_rng(0).integers(-2, 4, picture.image.shape)
    return Marked(_stored(picture, np.where(where[..., None], grey + noise, picture.image)), where)


def dotted(picture: Picture, light: np.ndarray, opacity: float) -> Marked:
    """Rows of round dots with soft edges, through which so much light comes; a part of each hides what is below."""
    y, x = (np.arange(side) * picture.mpp for side in picture.image.shape[:2])
    off_y, off_x = (one % DOTS_UM - DOTS_UM / 2 for one in (y, x))
    away_um = np.hypot(off_y[:, None], off_x)
    dots = np.clip((DOT_UM / 2 - away_um) / 8 + 0.5, 0, 1) * (y % ROWS_UM < 2 * DOTS_UM)[:, None]
    below = opacity * picture.white_point + (1 - opacity) * picture.image
    image = picture.image * (1 - dots[..., None]) + below * light * dots[..., None]
    return Marked(_stored(picture, image), dots > 0.5)


def bled(picture: Picture, blue_times: float) -> Marked:
    """Lakes of red cells in the place of tissue, so many times as blue to green as that is."""
    od, random = optical_density(picture.image, picture.white_point), np.random.default_rng(0)
    noise = random.normal(size=od.shape[:2])
    lakes = gaussian_filter(noise, LAKE_UM / picture.mpp)
    where = lakes > np.quantile(lakes, 1 - LAKES)
    pixels = tissue_pixels(picture.image, color_kinds(picture.image, picture.white_point))
    tissue = optical_density(pixels, picture.white_point)
    tissue = tissue[tissue.mean(axis=1) > 2 * TISSUE_OD]
    color = np.array([BLOOD_RED, 1, blue_times * np.median(tissue[:, 2] / tissue[:, 1])])
    cells = gaussian_filter(noise, CELL_UM / picture.mpp)
    amount = np.maximum(0.9 * (1 + 0.25 * cells / cells.std()), 0.15)
    edge = gaussian_filter(where.astype(float), CELL_UM / picture.mpp)[..., None]
    blood = amount[..., None] * color / color.mean()
    return Marked(_stored(picture, transmitted(od * (1 - edge) + blood * edge, picture.white_point)), where)


def _stored(picture: Picture, image: np.ndarray) -> np.ndarray:
    """Through JPEG; padding stays black."""
    file = io.BytesIO()
    Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8)).save(file, "JPEG", quality=JPEG_QUALITY)
    stored = np.array(Image.open(file))
    stored[~picture.image.any(axis=-1)] = 0
    return stored


def picture_of(path: Path, mpp: float | None, analysis_mpp: float) -> Picture:
    with open_slide(path, mpp) as slide:
        analysis_mpp = max(analysis_mpp, slide.require_mpp())
        image = slide.read(0, 0, *slide.size, analysis_mpp)
        return Picture(image, analysis_mpp, estimate_white_point(slide.thumbnail(THUMBNAIL_PX)).rgb)


def judged(picture: Picture, marked: Marked | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Of the tiles of tissue: shares of the kinds (T, K), and how much an artefact covers of each, (T,)."""
    image = picture.image if marked is None else marked.image
    height, width = image.shape[:2]
    grid = grid_over((width, height), picture.mpp, TILE_UM)
    bounds = pixel_bounds(grid.centers_px, TILE_UM, picture.mpp, picture.mpp)
    was_tissue = tissue_fraction(picture.image, bounds, picture.white_point) >= MIN_TISSUE
    was_tissue &= largest_piece(was_tissue, int(grid.array_col.max()) + 1)
    bounds = bounds[was_tissue & (tissue_fraction(image, bounds, picture.white_point) >= MIN_TISSUE)]
    side = max(height, width)
    small = Image.fromarray(image)
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    small, thumbnail_mpp = np.asarray(small), picture.mpp * side / max(small.size)
    kinds = color_kinds(small, picture.white_point)
    stains = estimate_stains(tissue_colors(tissue_pixels(image, kinds)[::5], picture.white_point))
    tissue = own_tissue(small, thumbnail_mpp, picture.white_point, kinds, stains)
    shares = tile_quality(image, bounds, picture.white_point, picture.mpp, tissue)
    covered = np.zeros(len(bounds))
    if marked is not None:
        covered = np.array([marked.where[y0:y1, x0:x1].mean() for x0, y0, x1, y1 in bounds])
    return shares, covered


def largest_piece(is_tissue: np.ndarray, columns: int) -> np.ndarray:
    """(T,) bool: of the tiles of tissue, the section; not insets, labels and specks of dust beside it."""
    pieces, count = label(is_tissue.reshape(-1, columns), np.ones((3, 3)))
    sizes = [(pieces == piece).sum() for piece in range(1, count + 1)]
    return (pieces == 1 + np.argmax(sizes)).ravel()


def measured_quality(pictures: dict[str, Picture]) -> pd.DataFrame:
    """A row a slide and artefact: its tiles, those found by its own kind, and by any."""
    rows = []
    for name, picture in pictures.items():
        over = over_limits(judged(picture)[0])
        rows.append(("clean", "as it is", name, len(over), np.nan, over.any(axis=1).sum(), *over.sum(axis=0)))
        for kind, artefact, change in artefacts():
            shares, covered = judged(picture, change(picture))
            over = over_limits(shares[covered > COVERED.get(kind, 0)])
            own = over[:, KINDS.index(kind)].sum() if kind in KINDS else np.nan
            rows.append((kind, artefact, name, len(over), own, over.any(axis=1).sum(), *over.sum(axis=0)))
        print(f"{name}: done", file=sys.stderr)
    return pd.DataFrame(rows, columns=["kind", "artefact", "slide", "tiles", "own", "found", *KINDS])


def in_markdown(table: pd.DataFrame) -> str:
    """A row an artefact, over all slides."""
    lines = ["| artefact | tiles | left out | as that kind | worst slide |", "|:--|--:|--:|--:|:--|"]
    for (kind, artefact), rows in table.groupby(["kind", "artefact"], sort=False):
        tiles, share = rows.tiles.sum(), rows.found / rows.tiles
        worst = share.idxmax() if kind == "clean" else share.idxmin()
        own = "" if kind not in KINDS else f"{rows.own.sum() / tiles:.1%}"
        said = f"{rows.slide[worst]}, {share[worst]:.1%}"
        lines.append(f"| {kind}: {artefact} | {tiles:,} | {rows.found.sum() / tiles:.2%} | {own} | {said} |")
    clean = table[table.artefact == "as it is"]
    lost = ", ".join(f"{clean[kind].sum()} {kind}" for kind in KINDS)
    by_slide = ", ".join(f"{row.slide} {row.found / row.tiles:.2%}" for row in clean.itertuples())
    return "\n".join([*lines, "", f"Clean tiles left out: {lost}; {by_slide}."])


def measured_r(manifest: Path, count: int) -> pd.DataFrame:
    """A row a section and gene: r where the patient is held out, over all spots and over those not left out.

    Falls of r are to be seen beside those from leaving out as many other spots, drawn at random 20 times.
    """
    weights = load_weights()
    genes = list(weights.reliability.r_heldout.nlargest(count).index)
    measured = [measure_section(section) for section in read_manifest(manifest)]
    method, rows, random = neural_stain(CANDIDATES[:1]), [], np.random.default_rng(0)
    for patient in dict.fromkeys(section.patient for section in measured):
        others = [section for section in measured if section.patient != patient]
        fitted = method.fit(Training(others, [method.features(section) for section in others], genes), 0)
        for section in (one for one in measured if one.patient == patient):
            windows = read_windows(section.image, section.centers_px, TILE_UM, ANALYSIS_MPP)
            small = np.asarray(Image.fromarray(windows.image).reduce(2))
            kinds = color_kinds(small, windows.white_point)
            tissue = own_tissue(small, 2 * ANALYSIS_MPP, windows.white_point, kinds, windows.stains)
            shares = tile_quality(windows.image, windows.bounds, windows.white_point, ANALYSIS_MPP, tissue)
            keep = ~over_limits(shares).any(axis=1)
            predicted, truth = fitted(method.features(section)), section.expression_of(genes)
            chosen = [random.permutation(keep) for _ in range(20)]
            r = [pearson_r(predicted[rows_], truth[rows_], flat_r=0) for rows_ in (slice(None), keep, *chosen)]
            falls = np.array(r[2:]) - r[0]
            rows.append((section.name, len(keep), (~keep).sum(), r[0].mean(), r[1].mean(), (r[1] - r[0]).min()))
            rows[-1] += (falls.mean(), falls.min())
    names = ["section", "spots", "left_out", "r", "r_kept", "largest_fall", "random_mean", "random_largest_fall"]
    return pd.DataFrame(rows, columns=names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slides", nargs="+", help="SLIDE:MPP")
    parser.add_argument("--analysis-mpp", type=float, default=ANALYSIS_MPP)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--genes", type=int, default=250)
    parser.add_argument("--out", type=Path, help="CSV: a row a slide and artefact")
    args = parser.parse_args()
    pictures = {}
    for slide in args.slides:
        path, _, mpp = slide.rpartition(":")
        pictures[Path(path).name] = picture_of(Path(path), float(mpp) if mpp else None, args.analysis_mpp)
    table = measured_quality(pictures)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(args.out, index=False)
    print(in_markdown(table))
    if args.manifest:
        print("\n", measured_r(args.manifest, args.genes).round(4).to_string(index=False), sep="")


if __name__ == "__main__":
    main()
