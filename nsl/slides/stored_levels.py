"""Where in a TIFF the tiles of OpenSlide's levels are stored, after what OpenSlide 4.0.1 makes of each scanner's files.

A level for which that is not certain is left to OpenSlide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from nsl.slides.reader import Level
from nsl.slides.trial import TIFF_OPTIONS

if TYPE_CHECKING:
    import tifffile

JPEG, JPEG_2000 = 7, 33005
"""TIFF's numbers for JPEG and for Aperio's JPEG 2000 in RGB."""
# Of what else OpenSlide and imagecodecs decode alike: none, LZW, both kinds of Deflate.
_LOSSLESS = (1, 5, 8, 32946)
_RGB, _YCBCR = 2, 6
# Of a tile: each core holds one.
_MOST_PIXELS = 2**22
# Of the lens and the focal plane, in NDPIs.
_LENS, _FOCUS = 65421, 65424


@dataclass(frozen=True)
class StoredLevel:
    """The directory that holds a level."""

    page: tifffile.TiffPage
    left: int = 0
    """Pixels of the level to the left of the directory's."""
    top: int = 0
    reduction: int = 1
    """Of its pixels, so many along each side make one of the level: 2, 4 and 8 are decoded so."""
    is_sparse: bool = False
    """Whether tiles may be missing, which are white."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of what is stored, in pixels of the level."""
        return self.page.imagewidth // self.reduction, self.page.imagelength // self.reduction

    @property
    def tile_sides(self) -> tuple[int, int]:
        """(width, height) of a tile, in pixels of the level."""
        return self.page.tilewidth // self.reduction, self.page.tilelength // self.reduction

    def is_usual(self) -> bool:
        """Whether the directory's tiles are there, in colours and a compression that decode as OpenSlide does it."""
        page = self.page
        is_rgb = (page.bitspersample, page.samplesperpixel, page.planarconfig, page.dtype) == (8, 3, 1, np.uint8)
        if page.photometric == _RGB:
            is_known = page.compression in (JPEG, JPEG_2000, *_LOSSLESS)
        else:
            is_known = page.photometric == _YCBCR and page.compression == JPEG
        is_upright = page.tags.valueof(274, 1) == 1 and page.fillorder == 1 and page.imagedepth == page.tiledepth == 1
        is_small = page.tilewidth * page.tilelength <= _MOST_PIXELS
        if not (is_rgb and is_known and is_upright and is_small and page.predictor in (1, 2)):
            return False
        offsets, stored = np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)
        tiles = -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength)
        if not len(offsets) == len(stored) == tiles or min(offsets.min(), stored.min()) < 0:
            return False
        is_there = (stored > 0) & (offsets > 0)
        is_complete = is_there | (stored == 0) if self.is_sparse else is_there
        return bool(is_complete.all() and (stored <= page.parent.filehandle.size - offsets).all())


Found = list[StoredLevel | None]


def open_tiff(path: Path, vendor: str) -> tifffile.TiffFile:
    """The directories of a slide; whatever tifffile lets through where it is no TIFF."""
    import tifffile

    return tifffile.TiffFile(path, **TIFF_OPTIONS | {"is_ndpi": vendor == "hamamatsu"})


def stored_levels(vendor: str, tiff: tifffile.TiffFile, levels: Sequence[Level], facts: Mapping[str, str]) -> Found:
    """For each level the directory that holds it; None where another reader must read it.

    vendor : one of `VENDORS`.
    facts : OpenSlide's properties of the slide.

    Raises whatever tifffile lets through, or the parser of XML, where a file is not as the scanner writes it.
    """
    found = _FINDERS[vendor](tiff, levels, facts)
    return [one if one is not None and one.is_usual() else None for one in found]


def _of_its_size(tiff: tifffile.TiffFile, levels: Sequence[Level], facts: Mapping[str, str]) -> Found:
    """A directory that is the only one of its size."""
    pages, found = [page for page in tiff.pages if page.is_tiled], []
    for number, level in enumerate(levels):
        same = [page for page in pages if (page.imagewidth, page.imagelength) == (level.width, level.height)]
        is_one = len(same) == 1 and (same[0].tilewidth, same[0].tilelength) == _tile_sides(facts, number)
        found.append(StoredLevel(same[0]) if is_one else None)
    return found


def _tile_sides(facts: Mapping[str, str], level: int) -> tuple[int, ...]:
    return tuple(int(facts.get(f"openslide.level[{level}].tile-{side}", 0)) for side in ("width", "height"))


def _in_order(tiff: tifffile.TiffFile, levels: Sequence[Level], facts: Mapping[str, str]) -> Found:
    """Philips: every tiled directory is a level, filled up to whole tiles on the right and below."""
    pages = [page for page in tiff.pages if page.is_tiled]
    if len(pages) != len(levels):
        return [None] * len(levels)
    return [
        StoredLevel(page, is_sparse=True)
        if page.imagewidth >= level.width
        and page.imagelength >= level.height
        and (page.tilewidth, page.tilelength) == _tile_sides(facts, number)
        else None
        for number, (page, level) in enumerate(zip(pages, levels, strict=True))
    ]


def _in_collection(tiff: tifffile.TiffFile, levels: Sequence[Level], facts: Mapping[str, str]) -> Found:
    """Leica: what was scanned lies somewhere on the glass, which is what levels are of; one scan of it, not several."""
    (collection,) = ElementTree.fromstring(tiff.pages[0].description).findall("{*}collection")
    scans = [image for image in collection.findall("{*}image") if _is_scan(image, _lengths(collection, "size"))]
    if len(scans) != 1:
        return [None] * len(levels)
    (view,) = scans[0].findall("{*}view")
    sizes = [one for one in scans[0].findall("{*}pixels/{*}dimension") if one.get("z", "0") == "0"]
    sizes.sort(key=lambda one: -int(one.get("sizeX")))
    found = []
    for level, one in zip(levels, sizes, strict=True):
        page, pixel_nm = tiff.pages[int(one.get("ifd"))], _lengths(view, "size")[0] / int(one.get("sizeX"))
        glass = tuple(-int(-length // pixel_nm) for length in _lengths(collection, "size"))
        left, top = (int(length / pixel_nm) for length in _lengths(view, "offset"))
        is_placed = page.is_tiled and glass == (level.width, level.height) and min(left, top) >= 0
        found.append(StoredLevel(page, left, top) if is_placed else None)
    return found


def _lengths(element: ElementTree.Element, what: str) -> tuple[int, int]:
    """In nm along x and y."""
    return int(element.get(f"{what}X", "0")), int(element.get(f"{what}Y", "0"))


def _is_scan(image: ElementTree.Element, glass_nm: tuple[int, int]) -> bool:
    """Whether an image is of tissue in bright field, and not the overview of the glass."""
    (view,) = image.findall("{*}view")
    is_overview = _lengths(view, "offset") == (0, 0) and _lengths(view, "size") == glass_nm
    light = image.findtext("{*}scanSettings/{*}illuminationSettings/{*}illuminationSource")
    return light == "brightfield" and not is_overview


def _in_restarts(tiff: tifffile.TiffFile, levels: Sequence[Level], facts: Mapping[str, str]) -> Found:
    """NDPI: a level is one JPEG, its tiles lie between restart markers, or it is a reduced decoding of a finer one."""
    pages = [
        page
        for page in tiff.pages
        if page.jpegheader and page.tags.valueof(_LENS, 0) > 0 and page.tags.valueof(_FOCUS, 1) == 0
    ]
    pages = [page for page in pages if page.imagewidth % page.tilewidth == page.imagelength % page.tilelength == 0]
    stored = [StoredLevel(page, reduction=reduction) for page in pages for reduction in (1, 2, 4, 8)]
    found = []
    for number, level in enumerate(levels):
        sides = (level.width, level.height), _tile_sides(facts, number)
        found.append(next((one for one in stored if (one.size, one.tile_sides) == sides), None))
    return found


_FINDERS: dict[str, Callable[[tifffile.TiffFile, Sequence[Level], Mapping[str, str]], Found]] = {
    "aperio": _of_its_size,
    "generic-tiff": _of_its_size,
    "hamamatsu": _in_restarts,
    "leica": _in_collection,
    "philips": _in_order,
}
VENDORS = tuple(_FINDERS)
"""What OpenSlide calls the formats whose tiles are decoded here; in others they overlap, or are no plain TIFF."""
