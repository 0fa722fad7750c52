"""How long OpenSlide takes for the pixels of a slide, and how long its tiles take when they are decoded without it.

    python benchmarks/reading.py [--side 30804] [--genes 250] [--repeat 3]

Makes two slides of JPEG tiles of 256 px in a temporary folder: a pyramid of side × side px, whose level of an eighth is
not exactly 8 times as coarse unless the side is a multiple of 8, and one of a sixteenth of its area as Aperio writes
them. Prints medians of one run and their ratios.
"""

import argparse
import contextlib
import functools
import tempfile
from pathlib import Path

import anndata
import numpy as np
from made_slides import write
from PIL import Image
from slide import interleaved

from nsl import load_weights, predict
from nsl.slides.demo.slide import demo_slide
from nsl.slides.scanner import OpenSlideReader
from nsl.slides.slide import BLOCK_PIXELS, Slide
from nsl.slides.stored_tiles import StoredTilesReader

MPP, PATTERN = 0.25, 4096
READERS = (OpenSlideReader, StoredTilesReader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=30_804, help="px of the pyramid")
    parser.add_argument("--genes", type=int, default=250)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    weights = load_weights()
    genes = weights.genes[:: max(len(weights.genes) // args.genes, 1)][: args.genes]
    with tempfile.TemporaryDirectory() as folder:
        pyramid, aperio = Path(folder, "pyramid.tif"), Path(folder, "aperio.svs")
        tissue = Image.fromarray(demo_slide(side_px=PATTERN).image)
        write(pyramid, tissue, (args.side, args.side), (1, 2, 4, 8))
        about = f"Aperio Image Library v1\nx|AppMag = 40|MPP = {MPP}"
        write(aperio, tissue, (args.side // 4, args.side // 4), (1,), about)

        def predicted(reader: type) -> anndata.AnnData:
            with Slide(pyramid, reader(pyramid, "generic-tiff"), MPP) as slide:
                return predict(slide, weights, genes=genes)

        old, new = map(predicted, READERS)  # compiles, and fills the file cache
        megabytes = pyramid.stat().st_size / 1e6
        print(f"{args.side:,} × {args.side:,} px, {megabytes:,.0f} MB; {new.n_obs:,} tissue tiles, {len(genes)} genes")
        print("                          OpenSlide   without   ratio")
        for name, call in [
            ("level of an eighth", functools.partial(read, pyramid, "generic-tiff", 3)),
            ("level 0 of the Aperio", functools.partial(read, aperio, "aperio", 0)),
            ("slide file to AnnData", predicted),
        ]:
            before, after = interleaved(args.repeat, *(functools.partial(call, reader) for reader in READERS))
            print(f"  {name:<22} {before:9.2f} s {after:7.2f} s   {before / after:5.1f}")
    both = old.obs_names.intersection(new.obs_names)
    error = abs(old[both].X - new[both].X).max(0) / new.X.std(0)
    print(f"  {len(both):,} tiles are tissue in both; they differ by {np.median(error):.3f} sd of the median gene")


def read(path: Path, vendor: str, number: int, reader_type: type) -> None:
    """A whole level, in the strips in which `Slide` reads it."""
    with contextlib.closing(reader_type(path, vendor)) as reader:
        level = reader.levels[number]
        rows = BLOCK_PIXELS // level.width
        for y in range(0, level.height, rows):
            reader.read(number, 0, y, level.width, min(rows, level.height - y))


if __name__ == "__main__":
    main()
