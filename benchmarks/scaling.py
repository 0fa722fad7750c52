"""What a whole slide costs by its size, by the number of genes and by the step between tiles.

    python benchmarks/scaling.py [--tissue IMAGE] [--repeat 3] [--json FILE]

Makes pyramids of 10, 100, 900 and 8,300 megapixels out of an image (the demo slide, if none is given), as a scanner at
0.25 µm/px would write them, and takes each from file to AnnData, its checksum included, in a process of its own; beside
it tifffile decodes the level that is read, whole and on all cores. Prints medians of one run, their ratios, and the
largest memory of the process.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from made_slides import write
from PIL import Image, ImageChops

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

MPP, TILE_UM = 0.25, 150.0
SIZES = ((3_160, 3_160), (10_000, 10_000), (30_000, 30_000), (92_880, 89_163))
FACTORS = (1, 2, 4, 8, 16, 32)
LEVEL = 3  # an eighth: 2 µm/px, the coarsest that serves 3 µm/px
GENES, SCALED_GENES = 250, (10, 100, 250, 500, 1_000, 2_500, 4_822)
STEPS = (1.0, 0.5, 0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tissue", type=Path, help="an image of a section; its pixels are taken for 0.25 µm/px")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--genes", type=int, nargs="+", default=[GENES], help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=float, nargs="+", default=[1.0], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measured(args.measure, args.genes, args.steps, args.repeat)))
        return
    from nsl.slides.demo.slide import demo_slide

    Image.MAX_IMAGE_PIXELS = None
    tissue = Image.open(args.tissue).convert("RGB") if args.tissue else Image.fromarray(demo_slide(side_px=4096).image)
    tissue = from_its_tissue(tissue, SIZES[0][0])
    with tempfile.TemporaryDirectory() as folder:
        slides = [Path(folder, f"{width * height / 1e6:.0f}.tif") for width, height in SIZES]
        for slide, size in zip(slides, SIZES, strict=True):
            write(slide, tissue, size, FACTORS)
        every = max(SCALED_GENES)
        report = {
            "sizes": [
                {**in_a_process(slide, args.repeat, genes=[genes], steps=[step])[0], "decode_s": decode_s}
                for slide, decode_s in [(slide, decode_seconds(slide)) for slide in slides]
                for genes, step in ((GENES, 1.0), (GENES, 0.5), (every, 1.0), (every, 0.5))
            ],
            "genes": in_a_process(slides[2], args.repeat, genes=SCALED_GENES, steps=[1.0]),
            "steps": in_a_process(slides[2], args.repeat, genes=[GENES, every], steps=STEPS),
        }
    print_sizes(report["sizes"])
    for what in ("genes", "steps"):
        print(f"\nBy {what}, on 900 megapixels:\n\n| genes | step, µm | tiles | seconds |\n|--:|--:|--:|--:|")
        for row in report[what]:
            print(f"| {row['genes']:,} | {row['step_um']:g} | {row['tiles']:,} | {row['seconds']:.2f} |")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


def from_its_tissue(image: Image.Image, side: int) -> Image.Image:
    """The image, moved round so that its darkest square of so many pixels comes first: the smallest slide is tissue."""
    factor = 32
    dark = 255.0 - np.asarray(image.convert("L").reduce(factor), float)
    window = side // factor
    summed = np.pad(dark.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    squares = (
        summed[window:, window:] - summed[:-window, window:] - summed[window:, :-window] + summed[:-window, :-window]
    )
    y, x = np.unravel_index(squares.argmax(), squares.shape)
    return ImageChops.offset(image, -int(x) * factor, -int(y) * factor)


def print_sizes(rows: list[dict]) -> None:
    print("| megapixels | genes | step, µm | tissue tiles | seconds | tifffile's decoding, s | ratio | memory, MB |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        print(
            f"| {row['megapixels']:,.0f} | {row['genes']:,} | {row['step_um']:g} | {row['tiles']:,} "
            f"| {row['seconds']:.2f} | {row['decode_s']:.2f} | {row['seconds'] / row['decode_s']:.1f} "
            f"| {row['peak_mb']:,.0f} |",
            flush=True,
        )


def in_a_process(slide: Path, repeat: int, genes: list[int], steps: list[float]) -> list[dict]:
    """`measured` in a process of its own, whose memory is that of this run alone."""
    given = [["--genes", *map(str, genes)], ["--steps", *map(str, steps)], ["--repeat", str(repeat)]]
    command = [sys.executable, __file__, "--measure", str(slide), *(word for words in given for word in words)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measured(path: Path, genes: list[int], steps: list[float], repeat: int) -> list[dict]:
    """Median seconds from file to AnnData for each number of genes and each step, in tiles."""
    from nsl import load_weights, open_slide, predict

    weights, rows = load_weights(), []

    def run(chosen: list[str], step: float):
        with open_slide(path, MPP) as slide:
            return predict(slide, weights, genes=chosen, stride_um=step * TILE_UM).n_obs, slide.size

    for number in genes:
        chosen = weights.genes[:: max(len(weights.genes) // number, 1)][:number]
        for step in steps:
            tiles, (width, height) = run(chosen, step)  # compiles, and fills the file cache
            seconds = []
            for _ in range(repeat):
                start = time.perf_counter()
                run(chosen, step)
                seconds.append(time.perf_counter() - start)
            rows.append(
                {
                    "megapixels": width * height / 1e6,
                    "genes": len(chosen),
                    "step_um": step * TILE_UM,
                    "tiles": tiles,
                    "seconds": statistics.median(seconds),
                    "peak_mb": peak_mb(),
                }
            )
    return rows


def peak_mb() -> float:
    """The largest memory this process has had. What getrusage says may be that of the process which started it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def decode_seconds(path: Path, repeat: int = 7) -> float:
    """Median seconds in which tifffile decodes the level that a run reads, once the file is in memory."""
    import os

    import tifffile

    seconds = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        with tifffile.TiffFile(path) as file:
            file.pages[LEVEL].asarray(maxworkers=os.cpu_count())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
