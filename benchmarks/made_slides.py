"""Slides of any size, made of real tissue or of the demo's: its JPEG tiles again and again, as scanners write them."""

import io
import itertools
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

TILE = 256


def write(
    path: Path, tissue: Image.Image, size: tuple[int, int], factors: tuple[int, ...], description: str | None = None
) -> None:
    """A pyramid of `size` (width, height), `tissue` laid side by side to fill it; every level so many times as coarse.

    Tiles are compressed once, so that eight gigapixels take seconds.
    """
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for factor in factors:
            pattern = np.asarray(tissue.reduce(factor))
            height, width = (side // TILE * TILE for side in pattern.shape[:2])
            steps = itertools.product(range(0, height, TILE), range(0, width, TILE))
            tiles = {(y, x): jpeg(pattern[y : y + TILE, x : x + TILE]) for y, x in steps}
            columns, rows = (-(-side // factor) for side in size)
            writer.write(
                (tiles[y % height, x % width] for y in range(0, rows, TILE) for x in range(0, columns, TILE)),
                shape=(rows, columns, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                compression="jpeg",
                subsampling=(2, 2),
                subfiletype=int(factor > 1),
                description=description,
                metadata=None,
            )


def jpeg(pixels: np.ndarray) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=80, subsampling=2)
        return file.getvalue()
