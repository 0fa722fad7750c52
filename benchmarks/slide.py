"""How long a whole section takes, beside decoding its JPEG and beside prediction pixel by pixel.

    python benchmarks/slide.py IMAGE --mpp F [--genes 250] [--repeat 5]

Prints medians of one run and their ratios, and how far prediction from colour counts is from the exact model.
Absolute times belong to the machine; the ratios are what is claimed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl import NeuralStain, count_colors, load_weights, open_slide, predict
from nsl.pixels import predict_pixels
from nsl.stains import estimate_white_point, optical_density
from nsl.tiles import pixel_bounds, tile_grid, tissue_fraction

TILE_UM, ANALYSIS_MPP, MIN_TISSUE = 150.0, 3.0, 0.3
NAIVE_TILES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--mpp", type=float, required=True, help="µm/px of the image")
    parser.add_argument("--genes", type=int, default=250)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None

    weights = load_weights()
    genes = weights.genes[:: max(len(weights.genes) // args.genes, 1)][: args.genes]
    model = weights.model.select(genes)

    def image_to_result():
        with open_slide(args.image, args.mpp) as slide:
            return predict(slide, weights, genes=genes)

    result = image_to_result()  # compiles, and fills the file cache
    engine, load, decode = interleaved(
        args.repeat, image_to_result, lambda: decode_only(args.image), lambda: decode_to_array(args.image)
    )
    image, bounds, white = tissue_tiles(args.image, args.mpp, ANALYSIS_MPP)
    kernel_s, counted_s = interleaved(
        args.repeat,
        lambda: predict_pixels(model, image, bounds, white),
        lambda: from_counts(image, bounds, white, model),
    )
    coarse_s = naive_seconds(image, bounds, white, model)
    full_s = naive_seconds(*tissue_tiles(args.image, args.mpp, args.mpp), model)
    error = np.abs(from_counts(image, bounds, white, model) - result.X).max(axis=0) / result.X.std(axis=0)

    print(f"{args.image.name}: {result.n_obs:,} tissue tiles of {TILE_UM:g} µm, {len(genes)} genes, read at 3 µm/px")
    rows = [
        ("image file to AnnData", engine, ""),
        ("full-resolution decode into an array (Pillow)", decode, f"AnnData takes {engine / decode:.2f} of it"),
        ("  of which decode into Pillow's own memory", load, f"AnnData takes {engine / load:.2f} of it"),
        ("pixels to expression, compiled (as predict does)", kernel_s, ""),
        ("pixels to expression, by colour counts", counted_s, f"{counted_s / kernel_s:.2f} × the compiled loop"),
        (
            "pixel by pixel, torch, at full resolution",
            full_s,
            f"{full_s / engine:,.0f} × image to AnnData, extrapolated",
        ),
        (
            "pixel by pixel, torch, at 3 µm/px",
            coarse_s,
            f"{coarse_s / kernel_s:,.0f} × the compiled loop, extrapolated",
        ),
    ]
    for name, seconds, note in rows:
        print(f"  {name:<50} {seconds:8.3f} s   {note}")
    print(f"  largest error of colour counts over tiles, in sd of the gene: median {np.median(error):.4f}, ", end="")
    print(f"95 % of genes within {np.quantile(error, 0.95):.4f}")


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


@torch.inference_mode()
def from_counts(image, bounds, white, model: NeuralStain) -> np.ndarray:
    return model.from_counts(count_colors(image, bounds, white)).numpy()


@torch.inference_mode()
def naive_seconds(image, bounds, white, model: NeuralStain) -> float:
    """`NeuralStain.forward` tile by tile on a few tiles, extrapolated to all."""
    chosen = bounds[:: max(len(bounds) // NAIVE_TILES, 1)][:NAIVE_TILES]
    start = time.perf_counter()
    for x0, y0, x1, y1 in chosen:
        od = optical_density(image[y0:y1, x0:x1].reshape(1, -1, 3), white)
        model(torch.from_numpy(od))
    return (time.perf_counter() - start) * len(bounds) / len(chosen)


if __name__ == "__main__":
    main()
