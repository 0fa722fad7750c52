"""How long a whole section takes, beside decoding its JPEG and beside other ways of looking at all of its tissue.

    python benchmarks/slide.py IMAGE --mpp F [--genes 250] [--repeat 5] [--json FILE]

Prints medians of one run and their ratios, how far thousands of genes answered together are from each by itself, and
how far prediction from colour counts is. Other ways begin with decoded pixels and are extrapolated from some tiles.
Absolute times belong to the machine; the ratios are what is claimed.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.color import rgb2hed
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl import NeuralStain, count_colors, load_weights, open_slide, predict
from nsl.methods.densenet import densenet121
from nsl.pixels import PLANES, PixelModel
from nsl.slides.resampling import average_rows
from nsl.stains import optical_density
from nsl.system.parallel import over_rows, read_only
from nsl.tiles import pixel_bounds, tile_grid, tissue_fraction
from nsl.white_point import estimate_white_point

TILE_UM, ANALYSIS_MPP, MIN_TISSUE = 150.0, 3.0, 0.3
NAIVE_TILES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--mpp", type=float, required=True, help="µm/px of the image")
    parser.add_argument("--genes", type=int, default=250)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None

    weights = load_weights()
    genes = weights.genes[:: max(len(weights.genes) // args.genes, 1)][: args.genes]
    model = weights.model.select(genes)

    def image_to_result(chosen: list[str], stride_um: float):
        with open_slide(args.image, args.mpp) as slide:
            return predict(slide, weights, genes=chosen, stride_um=stride_um)

    every = weights.genes
    usual = TILE_UM / 2  # the app's step
    runs = [(genes, TILE_UM), (genes, usual), (every, TILE_UM), (every, usual)]
    results = [image_to_result(*run) for run in runs]  # compiles, and fills the file cache
    *seconds, load, decode = interleaved(
        args.repeat,
        *(functools.partial(image_to_result, *run) for run in runs),
        lambda: decode_only(args.image),
        lambda: decode_to_array(args.image),
    )
    image, bounds, white = tissue_tiles(args.image, args.mpp, ANALYSIS_MPP)
    alone, together = PixelModel.of(model), PixelModel.of(weights.model)
    some_s, every_s, counted_s = interleaved(
        args.repeat,
        lambda: alone.predict(image, bounds, white),
        lambda: together.predict(image, bounds, white),
        lambda: from_counts(image, bounds, white, model),
    )
    coarse_s = naive_seconds(image, bounds, white, model)
    full_image, full_bounds, _ = tissue_tiles(args.image, args.mpp, args.mpp)
    full_s = naive_seconds(full_image, full_bounds, white, model)
    from_decoded = functools.partial(decoded_to_expression, full_image, full_bounds, white, alone, args.mpp)
    from_decoded()  # compiles
    (decoded_s,) = interleaved(args.repeat, from_decoded)
    stains_s = hed_seconds(full_image, full_bounds)
    normalised_s = macenko_seconds(full_image, full_bounds)
    network_s = network_seconds(full_image, full_bounds)

    tiles = results[0].n_obs
    print(f"{args.image.name}: {tiles:,} tissue tiles of {TILE_UM:g} µm, read at {ANALYSIS_MPP:g} µm/px")

    def beside(other_s: float) -> str:
        return f"{other_s / first:,.0f} × the first, {other_s / decoded_s:,.0f} × decoded tiles to expression"

    first, names = seconds[0], [f"{len(chosen):,} genes, a tile every {step:g} µm" for chosen, step in runs]
    rows = [
        *(
            (f"image file to AnnData, {name}", s, f"{s / first:.2f} × the first")
            for name, s in zip(names, seconds, strict=True)
        ),
        ("full-resolution decode into an array (Pillow)", decode, f"the first takes {first / decode:.2f} of it"),
        ("  of which decode into Pillow's own memory", load, f"the first takes {first / load:.2f} of it"),
        (f"decoded tiles to expression, {len(genes)} genes, averaging included", decoded_s, ""),
        (f"pixels to expression, {len(genes)} genes", some_s, ""),
        (f"pixels to expression, {len(every):,} genes together", every_s, f"{every_s / some_s:.1f} × the same"),
        (
            f"pixels to expression by colour counts, {len(genes)} genes",
            counted_s,
            f"{counted_s / some_s:.2f} × the same",
        ),
        (
            f"torch, pixel by pixel at {ANALYSIS_MPP:g} µm/px",
            coarse_s,
            f"{coarse_s / some_s:,.0f} × the same, extrapolated",
        ),
        ("torch, pixel by pixel at full resolution", full_s, beside(full_s)),
        ("skimage's rgb2hed and the mean of each tile", stains_s, beside(stains_s)),
        ("torchstain's normalisation of each tile, after Macenko", normalised_s, beside(normalised_s)),
        ("DenseNet-121 of each tile", network_s, beside(network_s)),
    ]
    for name, each, note in rows:
        print(f"  {name:<58} {each:8.3f} s   {note}")
    report = {name.strip(): each for name, each, _ in rows}
    groups = [every[i : i + PLANES] for i in range(0, len(every), PLANES)]
    exact = np.concatenate(
        [PixelModel.of(weights.model.select(group)).predict(image, bounds, white) for group in groups], axis=1
    )
    report |= told_error("all genes together", together.predict(image, bounds, white), exact)
    some = weights.model.select(genes)
    report |= told_error("colour counts", from_counts(image, bounds, white, some), alone.predict(image, bounds, white))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


def told_error(what: str, approximate: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Print and return how far an approximation is from the model itself, over tiles, in sd of the gene."""
    varies = np.minimum(exact.std(axis=0), approximate.std(axis=0)) > 1e-6
    error = np.abs(approximate - exact).max(axis=0)[varies] / exact.std(axis=0)[varies]
    r = min(np.corrcoef(a, b)[0, 1] for a, b in zip(approximate.T[varies], exact.T[varies], strict=True))
    print(
        f"  {what}: largest error over tiles, in sd of the gene: median {np.median(error):.4f}, 95 % of genes within "
        f"{np.quantile(error, 0.95):.4f}; smallest r {r:.6f}"
    )
    return {f"{what}: median error": float(np.median(error)), f"{what}: smallest r": float(r)}


def interleaved(repeat: int, *calls: Callable[[], object]) -> list[float]:
    """Median seconds of each call, taken in turn so that a machine's drift meets all alike."""
    seconds = [[] for _ in calls]
    for _ in range(repeat):
        for call, own in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in seconds]


def decode_only(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def decode_to_array(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def tissue_tiles(path: Path, mpp: float, image_mpp: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The slide of `mpp` µm/px read at `image_mpp`, the bounds of its tissue tiles, and its white point."""
    with open_slide(path, mpp) as slide:
        scale = image_mpp / mpp
        width, height = (int(side / scale) for side in slide.size)
        image = slide.read(0, 0, width * scale, height * scale, image_mpp)
        grid = tile_grid(slide, TILE_UM)
        white = estimate_white_point(slide.thumbnail(1280)).rgb
    bounds = pixel_bounds(grid.centers_px, TILE_UM, mpp, image_mpp)
    return image, bounds[tissue_fraction(image, bounds, white) >= MIN_TISSUE], white


def decoded_to_expression(image, bounds, white, model: PixelModel, mpp: float) -> np.ndarray:
    """Tiles of an image of `mpp` µm/px, averaged to the analysis resolution one below the other, and predicted."""
    sides_px, pixels = (bounds[:, 2:] - bounds[:, :2]).min(axis=0), round(TILE_UM / ANALYSIS_MPP)
    averaged = np.empty((len(bounds) * pixels, 3 * pixels), np.uint8)
    lines, steps = read_only(image.reshape(len(image), -1)), np.arange(pixels + 1) / pixels

    def average(start: int, stop: int) -> None:
        for tile in range(start, stop):
            x, y = bounds[tile, :2, None] + sides_px[:, None] * steps
            average_rows(0, pixels, lines, y[:-1], y[1:], x[:-1], x[1:], averaged[tile * pixels : (tile + 1) * pixels])

    over_rows(average, len(bounds))
    tops = np.arange(len(bounds)) * pixels
    boxes = np.stack([np.zeros_like(tops), tops, np.full_like(tops, pixels), tops + pixels], axis=1)
    return model.predict(averaged.reshape(-1, pixels, 3), boxes, white)


@torch.inference_mode()
def from_counts(image, bounds, white, model: NeuralStain) -> np.ndarray:
    return model.from_counts(count_colors(image, bounds, white)).numpy()


@torch.inference_mode()
def naive_seconds(image, bounds, white, model: NeuralStain) -> float:
    """`NeuralStain.forward` tile by tile on a few tiles, extrapolated to all."""

    def answer(x0, y0, x1, y1):
        model(torch.from_numpy(optical_density(image[y0:y1, x0:x1].reshape(1, -1, 3), white)))

    return extrapolated(bounds, answer, NAIVE_TILES)


def extrapolated(bounds: np.ndarray, call: Callable[..., object], tiles: int) -> float:
    """Seconds of a call for each of some tiles, as it would take for all."""
    chosen = bounds[:: max(len(bounds) // tiles, 1)][:tiles]
    start = time.perf_counter()
    for box in chosen:
        call(*box)
    return (time.perf_counter() - start) * len(bounds) / len(chosen)


def hed_seconds(image, bounds) -> float:
    """`rgb2hed` and the mean of each stain, tile by tile on a few tiles, extrapolated to all."""
    return extrapolated(bounds, lambda x0, y0, x1, y1: rgb2hed(image[y0:y1, x0:x1]).mean(axis=(0, 1)), 64)


def macenko_seconds(image, bounds) -> float:
    """torchstain's Macenko normaliser, fitted to the first tile, on a few tiles, extrapolated to all."""
    x0, y0, x1, y1 = bounds[0]
    normaliser = NumpyMacenkoNormalizer()
    normaliser.fit(image[y0:y1, x0:x1])
    return extrapolated(bounds, lambda x0, y0, x1, y1: normaliser.normalize(image[y0:y1, x0:x1], stains=False), 64)


@torch.inference_mode()
def network_seconds(image, bounds) -> float:
    """ST-Net's network on tiles as they are, in batches of 16, extrapolated to all tiles."""
    network, side = densenet121(250).eval(), min(bounds[0, 2:] - bounds[0, :2])
    chosen = bounds[:: max(len(bounds) // 16, 1)][:16]
    batch = np.stack([image[y0 : y0 + side, x0 : x0 + side] for x0, y0, _, _ in chosen])
    batch = torch.from_numpy(batch).permute(0, 3, 1, 2) / 255
    network(batch[:2])
    start = time.perf_counter()
    network(batch)
    return (time.perf_counter() - start) * len(bounds) / len(chosen)


if __name__ == "__main__":
    main()
