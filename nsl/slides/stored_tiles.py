"""Slides whose tiles are decoded here, on all cores, while OpenSlide tells what the slide is.

OpenSlide paints every tile on a canvas, one after the other, and resamples where a level's pixel lies at a fraction of
a level-0 pixel, which most do that are not exactly 2, 4 or 8 times as coarse. Tiles that a codec hands out as they
are need neither.
"""

from __future__ import annotations

import contextlib
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsl.slides.jpeg_segments import stated_colours
from nsl.slides.picture_sizes import JPEG_2000_START
from nsl.slides.scanner import OpenSlideReader
from nsl.slides.stored_levels import JPEG, JPEG_2000, StoredLevel, open_tiff, stored_levels

if TYPE_CHECKING:
    import tifffile

# Of tiles kept between two reads, from the left of a level.
_KEPT_BYTES = 2**26


class StoredTilesReader(OpenSlideReader):
    """Slides of `stored_levels.VENDORS`: what OpenSlide knows of them, and their tiles without it.

    A level is read so where its directory has nothing unusual, and any other through OpenSlide; so is a region with a
    tile that does not decode to exactly what its directory says, and OpenSlide says what is wrong with it.
    """

    def __init__(self, path: Path, vendor: str) -> None:
        super().__init__(path, vendor)
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, int, int], np.ndarray] = {}
        self._tiff, self._stored = None, [None] * len(self.levels)
        with contextlib.suppress(Exception):  # tifffile's parser lets anything through, and OpenSlide opened the file
            self._tiff = open_tiff(path, vendor)
            self._stored = stored_levels(vendor, self._tiff, self.levels, self._slide.properties)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        stored = self._stored[level]
        if stored is None:
            return super().read(level, x, y, width, height)
        from nsl.system.parallel import over_rows

        box = np.full((height, width, 3), 255, np.uint8)
        corner = x - stored.left, y - stored.top
        columns, rows = (
            range(max(0, start) // tile, -(-min(start + length, end) // tile))
            for start, length, tile, end in zip(corner, (width, height), stored.tile_sides, stored.size, strict=True)
        )
        tiles = [(row, column) for row in rows for column in columns]
        # The next strip of a slide begins in the row of tiles in which this one ends, and so do the parts beside it.
        before = self._kept
        self._kept = {at: pixels for at, pixels in before.items() if at[0] == level and tiles and at[1] >= rows[0]}
        try:
            over_rows(self._paste, len(tiles), tiles, (level, stored), box, corner, before, self._kept)
        except Exception:  # every codec has errors of its own
            pixels = super().read(level, x, y, width, height)
            # What OpenSlide reads is not damaged but unusual, and so may the other tiles be.
            self._stored[level] = None
            return pixels
        return box

    def _paste(
        self,
        start: int,
        stop: int,
        tiles: list[tuple[int, int]],
        of: tuple[int, StoredLevel],
        box: np.ndarray,
        corner: tuple[int, int],
        before: dict[tuple[int, int, int], np.ndarray],
        kept: dict[tuple[int, int, int], np.ndarray],
    ) -> None:
        """Copy the parts of tiles `start` to `stop` that lie inside a box with its corner at x, y of what is stored.

        Raises ValueError, or what a codec raises, where a tile is not what its directory says.
        """
        level, stored = of
        (width, height), (right, bottom) = stored.tile_sides, stored.size
        for row, column in tiles[start:stop]:
            pixels = before.get((level, row, column))
            if pixels is None:
                pixels = self._decoded(stored, row, column)
            if pixels is None:
                continue
            if row == tiles[-1][0] and pixels.nbytes * (column + 1) <= _KEPT_BYTES:
                kept[level, row, column] = pixels
            pixels = pixels[: bottom - row * height, : right - column * width]
            top, left = row * height - corner[1], column * width - corner[0]
            part = pixels[max(0, -top) : len(box) - top, max(0, -left) : box.shape[1] - left]
            top, left = max(0, top), max(0, left)
            box[top : top + len(part), left : left + part.shape[1]] = part

    def _decoded(self, stored: StoredLevel, row: int, column: int) -> np.ndarray | None:
        """One tile, uint8 (height, width, 3); None where it is missing."""
        page = stored.page
        number = row * -(-page.imagewidth // page.tilewidth) + column
        with self._lock:
            self._tiff.filehandle.seek(page.dataoffsets[number])
            data = self._tiff.filehandle.read(page.databytecounts[number])
        if stored.is_sparse and not data:
            return None
        if page.jpegheader:
            pixels = _part_of_jpeg(page, data, stored.reduction)
        elif page.compression == JPEG:
            pixels = _jpeg(page, data)
        else:
            if page.compression == JPEG_2000 and not _is_plain_jpeg_2000(data, page.tilelength, page.tilewidth):
                raise ValueError
            pixels = page.decode(data, number)[0][0]
        if pixels.shape != (*stored.tile_sides[::-1], 3) or pixels.dtype != np.uint8:
            raise ValueError
        return pixels

    def close(self) -> None:
        super().close()
        if self._tiff is not None:
            self._tiff.close()


def _jpeg(page: tifffile.TiffPage, data: bytes) -> np.ndarray:
    import imagecodecs

    from nsl.slides.jpeg_scan import is_whole_jpeg  # numba, which takes long to import

    # Of what a tile lacks or what is spoilt in it the codec makes grey, and says nothing.
    if not is_whole_jpeg(data, page.jpegtables or b"", page.tilelength, page.tilewidth):
        raise ValueError
    # What the tile says of its colours is true; the directory's tag, by which OpenSlide goes, may not be.
    colours = stated_colours(data, page.jpegtables or b"") or page.photometric.name
    return imagecodecs.jpeg8_decode(data, tables=page.jpegtables, colorspace=colours, outcolorspace="RGB")


def _part_of_jpeg(page: tifffile.TiffPage, data: bytes, reduction: int) -> np.ndarray:
    """What lies between two restart markers of a JPEG, with the second of them in `data`, as a picture of its own."""
    import simplejpeg

    from nsl.slides.jpeg_scan import is_whole_jpeg

    end = data[-2:]
    if end[:1] != b"\xff" or not (0xD0 <= end[1] <= 0xD7 or end[1] == 0xD9):
        raise ValueError
    data = page.jpegheader + data[:-2] + b"\xff\xd9"
    if not is_whole_jpeg(data, b"", page.tilelength, page.tilewidth):
        raise ValueError
    height, width = page.tilelength // reduction, page.tilewidth // reduction
    return simplejpeg.decode_jpeg(data, min_height=height, min_width=width, strict=False)


def _is_plain_jpeg_2000(data: bytes, height: int, width: int) -> bool:
    """Whether a codestream says that it is of a tile's size, in three components of 8 bits, all as fine."""
    is_such = data[8:24] == struct.pack(">IIII", width, height, 0, 0) and data[40:51] == b"\0\3" + b"\7\1\1" * 3
    return data.startswith(JPEG_2000_START) and is_such and data.rstrip(b"\0").endswith(b"\xff\xd9")
