"""What is left of a prediction where the patient left out is stained, scanned or stored otherwise.

    python benchmarks/robustness.py MANIFEST [--genes 250] [--out FILE.csv]

Every patient is left out in turn. A fit to the others predicts the sections of that patient as they are, and after each
change of their images at the analysis resolution: painted in the stain vectors of ten sources, more strongly or weakly
stained, on other glass, with another gamma, compressed, blurred, coarser. Prints a Markdown table of the mean r over
the genes, averaged over sections and then patients, as a share of that of the same method on the sections as they are;
once with the transfer of stains (nsl.stain_transfer), for training and prediction alike, and once without. Genes are
those of highest mean expression among the ones detected in every patient.
"""

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageCms
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl.evaluate import Method, Training
from nsl.histogram import count_colors
from nsl.methods.baselines import baselines
from nsl.slides.color_profile import ColorProfile
from nsl.spots.measured_section import (
    ANALYSIS_MPP,
    BITS,
    TILE_UM,
    MeasuredSection,
    Windows,
    detected_genes,
    highest_mean,
    measure_section,
    read_windows,
)
from nsl.spots.tables import read_manifest
from nsl.stain_transfer import StainTransfer, paint
from nsl.stains import SlideStains
from nsl.stats.pearson import pearson_r
from nsl.train import CANDIDATES, neural_stain
from nsl.white_point import estimate_white_point
from tests.made_profiles import made_profile

SOURCES = {
    "Ruifrok and Johnston 2001": [[0.650, 0.700, 0.290], [0.070, 0.990, 0.110]],
    "Fiji, H&E": [[0.644, 0.717, 0.267], [0.093, 0.954, 0.283]],
    "Fiji, H&E 2": [[0.490, 0.769, 0.410], [0.046, 0.842, 0.537]],
    "torchstain, after Macenko 2009": [[0.563, 0.720, 0.406], [0.216, 0.801, 0.558]],
    "QuPath, default": [[0.651, 0.701, 0.290], [0.216, 0.801, 0.558]],
    "QuPath script, estimated on a slide (1)": [[0.610, 0.652, 0.450], [0.213, 0.877, 0.430]],
    "QuPath script, estimated on a slide (2)": [[0.606, 0.679, 0.415], [0.252, 0.947, 0.197]],
    "QuPath script, estimated on a slide (3)": [[0.551, 0.784, 0.287], [0.121, 0.854, 0.507]],
    "CMU-1, Aperio ScanScope": [[0.772, 0.538, 0.338], [0.165, 0.847, 0.505]],
    "TCGA, Aperio": [[0.331, 0.784, 0.525], [0.099, 0.900, 0.424]],
}
STRENGTHS = [(0.5, 0.5), (0.6, 0.6), (1.6, 1.6), (2.0, 2.0), (0.6, 1.0), (1.6, 1.0), (1.0, 0.6), (1.0, 1.6)]
STRENGTHS += [(0.6, 1.6), (1.6, 0.6)]
GLASS = {"yellowish glass": (0.97, 0.95, 0.85), "bluish glass": (0.85, 0.92, 1.0), "dim lamp": (0.8, 0.8, 0.8)}

Change = Callable[[Windows], Windows]


def changes() -> Iterator[tuple[str, Change]]:
    """What is done to the image of a section, and its name."""
    yield "as it is", lambda windows: windows
    for name, vectors in SOURCES.items():
        vectors = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
        yield f"stains of {name}", partial(stained, vectors=vectors)
    for hematoxylin, eosin in STRENGTHS:
        yield f"hematoxylin × {hematoxylin:g}, eosin × {eosin:g}", partial(stained, factors=(hematoxylin, eosin))
    for name, light in GLASS.items():
        yield name, partial(of_pixels, change=lambda image, light=light: image * np.array(light))
    for gamma in (0.8, 1.25):
        yield f"gamma {gamma:g}", partial(of_pixels, change=lambda image, g=gamma: 255 * (image / 255) ** g)
    wide = ColorProfile.read(made_profile("wide gamut, gamma 1.8"))
    yield f"{wide.name}, as stored", partial(of_pixels, change=wide_gamut)
    yield f"{wide.name}, brought to sRGB", partial(of_pixels, change=lambda image: wide.to_srgb(wide_gamut(image)))
    for quality in (30, 60, 95):
        yield f"JPEG quality {quality}", partial(of_pixels, change=partial(compressed, quality=quality))
    for sigma_um in (3.0, 6.0):
        sigma = (sigma_um / ANALYSIS_MPP, sigma_um / ANALYSIS_MPP, 0)
        yield f"blur, σ {sigma_um:g} µm", partial(of_pixels, change=lambda image, s=sigma: gaussian_filter(image, s))
    for factor in (2, 4):
        yield f"{factor * ANALYSIS_MPP:g} µm/px", partial(of_pixels, change=partial(coarser, factor=factor))


def stained(windows: Windows, vectors: np.ndarray | None = None, factors: tuple[float, float] = (1, 1)) -> Windows:
    """The section in other stain vectors, (2, 3), or some times as strongly stained; what is neither stain stays."""
    own = windows.stains
    to = SlideStains(own.vectors if vectors is None else vectors, own.strengths * factors)
    return replace(windows, image=paint(windows.image, windows.white_point, StainTransfer(own, to).matrix))


def of_pixels(windows: Windows, change: Callable[[np.ndarray], np.ndarray]) -> Windows:
    """The section after a change of its intensities, (H, W, 3) float in and out; padding stays, glass is found anew."""
    image = np.clip(np.rint(change(windows.image.astype(np.float32))), 1, 255).astype(np.uint8)
    image[~windows.image.any(axis=-1)] = 0
    return replace(windows, image=image, white_point=estimate_white_point(image).rgb)


def wide_gamut(image: np.ndarray) -> np.ndarray:
    """The same colours as a scanner would store them with a profile of primaries far apart and a gamma of 1.8."""
    profiles = ImageCms.createProfile("sRGB"), io.BytesIO(made_profile("wide gamut, gamma 1.8"))
    transform = ImageCms.buildTransform(*profiles, "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    return np.asarray(ImageCms.applyTransform(Image.fromarray(image.astype(np.uint8)), transform))


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """Through JPEG, at this resolution: coarser blocks than those of a scan."""
    file = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32)


def coarser(image: np.ndarray, factor: int) -> np.ndarray:
    """Pixels so many times as wide, drawn over the same pixels."""
    height, width = image.shape[0] // factor * factor, image.shape[1] // factor * factor
    mean = image[:height, :width].reshape(height // factor, factor, width // factor, factor, 3).mean(axis=(1, 3))
    out = image.copy()
    out[:height, :width] = mean.repeat(factor, axis=0).repeat(factor, axis=1)
    return out


def seen(section: MeasuredSection, windows: Windows, transfer: bool) -> MeasuredSection:
    """The section with the colours of its changed image."""
    colors = count_colors(windows.image, windows.bounds, windows.white_point, BITS)
    colors = replace(colors, moments=colors.moments[colors.pixels > 0])
    return replace(section, colors=colors.transferred(windows.transfer) if transfer else colors)


def mean_r(method: Method, predict: Callable, section: MeasuredSection, genes: list[str]) -> float:
    """Over the genes of one section."""
    return float(np.nanmean(pearson_r(predict(method.features(section)), section.expression_of(genes), flat_r=0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--genes", type=int, default=250)
    parser.add_argument("--out", type=Path, help="CSV: a row a patient, method, transfer and change")
    args = parser.parse_args()
    listed = read_manifest(args.manifest)
    measured = [measure_section(section) for section in listed]
    images = [read_windows(section.image, section.centers_px, TILE_UM, ANALYSIS_MPP) for section in measured]
    genes = highest_mean(measured, detected_genes(measured), args.genes)
    by_color = [method for method in baselines() if not ("nuclei" in method.name or "RGB" in method.name)]
    methods = [neural_stain(CANDIDATES[:1]), *by_color]
    rows = []
    for transfer in (True, False):
        as_is = [seen(section, windows, transfer) for section, windows in zip(measured, images, strict=True)]
        for patient in dict.fromkeys(section.patient for section in measured):
            others = [section for section in as_is if section.patient != patient]
            fits = {}
            for method in methods:
                training = Training(others, [method.features(section) for section in others], genes)
                fits[method.name] = method.fit(training, 0)
            for name, change in changes():
                print(f"{patient}, {name}, {'with' if transfer else 'without'} transfer", file=sys.stderr)
                for section, windows in zip(measured, images, strict=True):
                    if section.patient == patient:
                        changed = seen(section, change(windows), transfer)
                        rows += [
                            (
                                patient,
                                section.name,
                                method.name,
                                transfer,
                                name,
                                mean_r(method, fits[method.name], changed, genes),
                            )
                            for method in methods
                        ]
    table = pd.DataFrame(rows, columns=["patient", "section", "method", "transfer", "change", "mean_r"])
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(args.out, index=False)
    print(in_markdown(table))


def in_markdown(table: pd.DataFrame) -> str:
    """Rows of changes; columns of methods with and without transfer, as shares of the r on the sections as they are."""
    by_patient = table.groupby(["change", "method", "transfer", "patient"], sort=False).mean_r.mean()
    r = by_patient.groupby(["change", "method", "transfer"], sort=False).mean().unstack(["transfer", "method"])
    own = r.loc["as it is"]
    shares = (r / own).map("{:.2f}".format)
    shares.loc["as it is"] = own.map("r {:.3f}".format)
    shares.columns = [f"{method}, {'transfer' if transfer else 'none'}" for transfer, method in shares.columns]
    head = f"| change | {' | '.join(shares.columns)} |\n|:--|{'--:|' * shares.shape[1]}\n"
    return head + "\n".join(
        f"| {name} | {' | '.join(row)} |" for name, row in zip(shares.index, shares.to_numpy(), strict=True)
    )


if __name__ == "__main__":
    main()
