"""How long a whole section takes, beside decoding its JPEG and beside prediction pixel by pixel.

    python benchmarks/slide.py IMAGE --mpp F [--genes 250] [--repeat 5]

Prints medians of one run and their ratios, and how far the histogram engine is from the exact model.
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
from numba import njit
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl import NeuralStain, load_weights, open_slide, predict
from nsl.parallel import over_rows
from nsl.stains import estimate_white_point, od_table, optical_density
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
    genes = weights.genes[:: len(weights.genes) // args.genes][: args.genes]
    model = weights.model.select(genes)

    def image_to_result():
        with open_slide(args.image, args.mpp) as slide:
            return predict(slide, weights, genes=genes)

    result = image_to_result()  # compiles, and fills the file cache
    engine, load, decode = interleaved(
        args.repeat, image_to_result, lambda: decode_only(args.image), lambda: decode_to_array(args.image)
    )
    image, bounds, white = analysis_image(args.image, args.mpp)
    fused_out = np.empty((len(bounds), len(genes)), np.float32)
    fused(image, bounds, white, model, fused_out)
    (fused_s,) = interleaved(args.repeat, lambda: fused(image, bounds, white, model, fused_out))
    naive_s = naive_seconds(image, bounds, white, model)
    counted_s = engine_seconds(args.repeat, image, bounds, white, model)
    error = np.abs(result.X - fused_out).max(axis=0) / fused_out.std(axis=0)

    print(f"{args.image.name}: {result.n_obs:,} tissue tiles of {TILE_UM:g} µm, {len(genes)} genes, read at 3 µm/px")
    rows = [
        ("image file to AnnData", engine, ""),
        ("full-resolution decode into an array (Pillow)", decode, f"AnnData takes {engine / decode:.2f} of it"),
        ("  of which decode into Pillow's own memory", load, f"AnnData takes {engine / load:.2f} of it"),
        ("colours to expression, histogram engine", counted_s, ""),
        ("pixel by pixel, torch", naive_s, f"{naive_s / counted_s:,.0f} × the engine, extrapolated"),
        ("pixel by pixel, fused and compiled", fused_s, f"{fused_s / counted_s:.1f} × the engine"),
    ]
    for name, seconds, note in rows:
        print(f"  {name:<46} {seconds:8.3f} s   {note}")
    print(f"  largest error over tiles, in sd of the gene: median {np.median(error):.4f}, ", end="")
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


def analysis_image(path: Path, mpp: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The slide at the analysis resolution, bounds of its tissue tiles, and its white point."""
    with open_slide(path, mpp) as slide:
        scale = ANALYSIS_MPP / mpp
        width, height = (int(side / scale) for side in slide.size)
        image = slide.read(0, 0, width * scale, height * scale, ANALYSIS_MPP)
        grid = tile_grid(slide, TILE_UM)
        white = estimate_white_point(slide.thumbnail(1280)).rgb
    bounds = pixel_bounds(grid.centers_px, TILE_UM, mpp, ANALYSIS_MPP)
    return image, bounds[tissue_fraction(image, bounds, white) >= MIN_TISSUE], white


@torch.inference_mode()
def engine_seconds(repeat, image, bounds, white, model: NeuralStain) -> float:
    from nsl import count_colors

    return interleaved(repeat, lambda: model.from_counts(count_colors(image, bounds, white)))[0]


@torch.inference_mode()
def naive_seconds(image, bounds, white, model: NeuralStain) -> float:
    """`NeuralStain.forward` tile by tile on a few tiles, extrapolated to all."""
    start = time.perf_counter()
    for x0, y0, x1, y1 in bounds[:: max(len(bounds) // NAIVE_TILES, 1)][:NAIVE_TILES]:
        od = optical_density(image[y0:y1, x0:x1].reshape(1, -1, 3), white)
        model(torch.from_numpy(od))
    return (time.perf_counter() - start) * len(bounds) / NAIVE_TILES


def fused(image, bounds, white, model: NeuralStain, out: np.ndarray) -> None:
    """The exact model in one compiled loop over pixels and genes, as fast as such a loop gets here."""
    deconvolution = np.ascontiguousarray(model.deconvolution.numpy().transpose(2, 1, 0))  # (2, 3, G)
    offset, effect = (np.ascontiguousarray(p.numpy().T) for p in (model.offset, model.effect))
    over_rows(
        _fused, len(bounds), image, bounds, od_table(white), deconvolution, offset, effect, model.intercept.numpy(), out
    )


@njit(nogil=True, fastmath=True)
def _fused(start, stop, image, bounds, table, deconvolution, offset, effect, intercept, out):
    genes = out.shape[1]
    total = np.empty(genes, np.float32)
    for t in range(start, stop):
        total[:] = 0
        pixels = 0
        x0, y0, x1, y1 = bounds[t]
        for y in range(y0, min(y1, image.shape[0])):
            for x in range(x0, min(x1, image.shape[1])):
                red, green, blue = table[0, image[y, x, 0]], table[1, image[y, x, 1]], table[2, image[y, x, 2]]
                pixels += 1
                for s in range(2):
                    d, o, w = deconvolution[s], offset[s], effect[s]
                    for g in range(genes):
                        c = red * d[0, g] + green * d[1, g] + blue * d[2, g] + o[g]
                        total[g] += w[g] * max(c, np.float32(0))
        for g in range(genes):
            out[t, g] = intercept[g] + total[g] / pixels


if __name__ == "__main__":
    main()
