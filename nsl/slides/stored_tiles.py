"""Slides whose tiles are decoded here, on all cores, while OpenSlide tells what the slide is.

OpenSlide paints every tile on a canvas, one after the other, and resamples where a level's pixel lies at a fraction of
a level-0 pixel, which most do that are not exactly 2, 4 or 8 times as coarse. Tiles that a codec hands out as they
are need neither.
"""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsl.slides.jpeg_segments import stated_colours
from nsl.slides.picture_sizes import JPEG_2000_START
from nsl.slides.scanner import OpenSlideReader
from nsl.slides.trial import TIFF_OPTIONS

if TYPE_CHECKING:
    import tifffile

# TIFF's numbers for the compressions that OpenSlide and imagecodecs decode alike: none, LZW, JPEG, both kinds of
# Deflate, and Aperio's JPEG 2000 in RGB.
_JPEG, _JPEG_2000, _LOSSLESS = 7, 33005, (1, 5, 8, 32946)
_RGB, _YCBCR = 2, 6
# Of a tile: each core holds one.
_MOST_PIXELS = 2**22
# Of tiles kept between two reads, from the left of a level.
_KEPT_BYTES = 2**26


class StoredTilesReader(OpenSlideReader):
    """Aperio slides and tiled 8-bit RGB TIFFs: what OpenSlide knows of them, and their tiles without it.

    A level is read so where its directory has nothing unusual, and any other through OpenSlide; so is a region with a
    tile that does not decode to exactly what its directory says, and OpenSlide says what is wrong with it.
    """

    def __init__(self, path: Path, vendor: str) -> None:
        super().__init__(path, vendor)
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, int, int], np.ndarray] = {}
        self._tiff, self._pages = None, [None] * len(self.levels)
        try:
            import tifffile

            self._tiff = tifffile.TiffFile(path, **TIFF_OPTIONS)
            self._pages = self._find_pages()
        except Exception:  # tifffile's parser lets anything through, and OpenSlide has opened the file
            return

    def _find_pages(self) -> list[tifffile.TiffPage | None]:
        """The directory of each level; None where it is not the only one of its size, or an unusual one."""
        pages, facts = [page for page in self._tiff.pages if page.is_tiled], self._slide.properties
        found = []
        for number, level in enumerate(self.levels):
            tile = [int(facts.get(f"openslide.level[{number}].tile-{side}", 0)) for side in ("width", "height")]
            same = [page for page in pages if (page.imagewidth, page.imagelength) == (level.width, level.height)]
            is_usual = len(same) == 1 and [same[0].tilewidth, same[0].tilelength] == tile and self._is_usual(same[0])
            found.append(same[0] if is_usual else None)
        return found

    def _is_usual(self, page: tifffile.TiffPage) -> bool:
        """Whether a directory has all its tiles, in colours and a compression that decode as OpenSlide does it."""
        photometric, compression = page.photometric, page.compression
        is_rgb = (page.bitspersample, page.samplesperpixel, page.planarconfig, page.dtype) == (8, 3, 1, np.uint8)
        if photometric == _RGB:
            is_known = compression in (_JPEG, _JPEG_2000, *_LOSSLESS)
        else:
            is_known = photometric == _YCBCR and compression == _JPEG
        is_upright = page.tags.valueof(274, 1) == 1 and page.fillorder == 1 and page.imagedepth == page.tiledepth == 1
        is_small = page.tilewidth * page.tilelength <= _MOST_PIXELS
        if not (is_rgb and is_known and is_upright and is_small and page.predictor in (1, 2)):
            return False
        offsets, stored = np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)
        tiles = -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength)
        is_all = len(offsets) == len(stored) == tiles and min(offsets.min(), stored.min()) > 0
        return bool(is_all and (stored <= self._tiff.filehandle.size - offsets).all())

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        page = self._pages[level]
        if page is None:
            return super().read(level, x, y, width, height)
        from nsl.parallel import over_rows

        box = np.empty((height, width, 3), np.uint8)
        columns = range(x // page.tilewidth, -(-(x + width) // page.tilewidth))
        rows = range(y // page.tilelength, -(-(y + height) // page.tilelength))
        tiles = [(row, column) for row in rows for column in columns]
        # The next strip of a slide begins in the row of tiles in which this one ends, and so do the parts beside it.
        before = self._kept
        self._kept = {at: pixels for at, pixels in before.items() if at[0] == level and at[1] >= rows[0]}
        try:
            over_rows(self._paste, len(tiles), tiles, (level, page), box, (x, y), before, self._kept)
        except Exception:  # every codec has errors of its own
            pixels = super().read(level, x, y, width, height)
            # What OpenSlide reads is not damaged but unusual, and so may the other tiles be.
            self._pages[level] = None
            return pixels
        return box

    def _paste(
        self,
        start: int,
        stop: int,
        tiles: list[tuple[int, int]],
        of: tuple[int, tifffile.TiffPage],
        box: np.ndarray,
        corner: tuple[int, int],
        before: dict[tuple[int, int, int], np.ndarray],
        kept: dict[tuple[int, int, int], np.ndarray],
    ) -> None:
        """Copy the parts of tiles `start` to `stop` that lie inside a box with its corner at x, y of a level.

        Raises ValueError, or what a codec raises, where a tile is not what its directory says.
        """
        level, page = of
        for row, column in tiles[start:stop]:
            pixels = before.get((level, row, column))
            if pixels is None:
                pixels = self._decoded(page, row, column)
            if row == tiles[-1][0] and pixels.nbytes * (column + 1) <= _KEPT_BYTES:
                kept[level, row, column] = pixels
            top, left = row * page.tilelength - corner[1], column * page.tilewidth - corner[0]
            part = pixels[max(0, -top) : len(box) - top, max(0, -left) : box.shape[1] - left]
            top, left = max(0, top), max(0, left)
            box[top : top + len(part), left : left + part.shape[1]] = part

    def _decoded(self, page: tifffile.TiffPage, row: int, column: int) -> np.ndarray:
        """One tile, uint8 (height, width, 3)."""
        import imagecodecs

        from nsl.slides.jpeg_scan import is_whole_jpeg

        shape = page.tilelength, page.tilewidth, 3
        number = row * -(-page.imagewidth // page.tilewidth) + column
        with self._lock:
            self._tiff.filehandle.seek(page.dataoffsets[number])
            data = self._tiff.filehandle.read(page.databytecounts[number])
        if page.compression == _JPEG:
            # Of what a tile lacks or what is spoilt in it the codec makes grey, and says nothing.
            if not is_whole_jpeg(data, page.jpegtables or b"", *shape[:2]):
                raise ValueError
            # What the tile says of its colours is true; the directory's tag, by which OpenSlide goes, may not be.
            colours = stated_colours(data, page.jpegtables or b"") or page.photometric.name
            pixels = imagecodecs.jpeg8_decode(data, tables=page.jpegtables, colorspace=colours, outcolorspace="RGB")
        else:
            if page.compression == _JPEG_2000 and not _is_plain_jpeg_2000(data, *shape[:2]):
                raise ValueError
            pixels = page.decode(data, number)[0][0]
        if pixels.shape != shape or pixels.dtype != np.uint8:
            raise ValueError
        return pixels

    def close(self) -> None:
        super().close()
        if self._tiff is not None:
            self._tiff.close()


def _is_plain_jpeg_2000(data: bytes, height: int, width: int) -> bool:
    """Whether a codestream says that it is of a tile's size, in three components of 8 bits, all as fine."""
    is_such = data[8:24] == struct.pack(">IIII", width, height, 0, 0) and data[40:51] == b"\0\3" + b"\7\1\1" * 3
    return data.startswith(JPEG_2000_START) and is_such and data.rstrip(b"\0").endswith(b"\xff\xd9")
