"""Open any H&E image or whole-slide file, and read its colour at a resolution given in µm/px."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from nsl.errors import ScaleError, SlideError
from nsl.slides.address import Address, address_of
from nsl.slides.color_profile import ColorProfile
from nsl.slides.formats import open_reader
from nsl.slides.reader import Level, Reader, memory_told
from nsl.slides.scale import Image, checked_mpp, settled_scale

TOLERANCE = 1e-3
"""Relative: levels and metadata are rounded (a level of 4.0002 serves for 4), and no map changes for it."""

GRID = 1024
"""Pixel edges are rounded to 1/1024 of a level's pixel: a band and the whole slide then agree to the last
bit, though their floats were computed in different ways."""

BLOCK_PIXELS, BLOCK_WIDTH = 2**24, 2**15
"""Most pixels of a level held at once (16 Mpx, 0.3 GB with copies), in strips as wide as TIFFs have."""

MIN_THUMBNAIL = 16
NOT_CHECKED = "not checked"
"""In place of a checksum, of a slide that is only read in parts."""
# Between two looks at whether anybody still waits for the checksum.
_HASHED_BYTES = 2**20


def open_slide(
    path: str | os.PathLike[str] | Address,
    mpp: float | None = None,
    *,
    to_srgb: bool = False,
    most_pixels: int | None = None,
    may_lack_scale: bool = False,
) -> Slide:
    """Open an image file; a UserWarning for each way in which the pixels handed out are not those stored.

    path : a scanner's slide file, OME-TIFF, TIFF, JPEG, PNG, BMP, WebP or a folder of OME-Zarr, told by content, not
        extension; or the address of such a folder, as text that begins with http://, https:// or s3://.
    mpp : µm per pixel at full resolution; wins over the file's metadata.
    to_srgb : hand out colours in sRGB, by the file's colour profile; as they stand in the file where it has none.
    most_pixels : of level 0; a slide of more is refused before any is decoded.
    may_lack_scale : whether a slide whose metadata cannot be right is opened without a scale, and a notice says why.

    Raises SlideError: the file is missing, damaged, greyscale, a stack, not an image, or too large.
    Raises ScaleError: `mpp`, or the metadata's where `mpp` is None, cannot be the scale of a microscope image.
    """
    path = path if isinstance(path, Address) else address_of(path) or Path(path)
    given = None if mpp is None else checked_mpp(mpp)
    with memory_told(path.name):
        reader = open_reader(path)
        try:
            _require_size(path.name, reader.levels[0], most_pixels)
            reader.examine()
            slide = Slide(path, reader, given, to_srgb=to_srgb, may_lack_scale=may_lack_scale)
        except BaseException:
            reader.close()
            raise
    for notice in reader.altered:
        warnings.warn(notice, stacklevel=2)
    return slide


def open_quietly(path: Path | Address, mpp: float | None, *, to_srgb: bool = False) -> Slide:
    """`open_slide` without its warnings: the slide's notices say the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return open_slide(path, mpp, to_srgb=to_srgb)


def _require_size(name: str, finest: Level, most_pixels: int | None) -> None:
    pixels = finest.width * finest.height
    if most_pixels is not None and pixels > most_pixels:
        raise SlideError(
            f"{name} has {finest.width:,} × {finest.height:,} px, {pixels:,} in all, and at most {most_pixels:,} are "
            "taken here; crop it, export it at a coarser scale, or run NSL on your own computer"
        )


class Slide(AbstractContextManager):
    """An open image; `open_slide` makes it. One thread at a time may read from it."""

    size: tuple[int, int]
    """(width, height) in level-0 pixels, upright."""
    mpp: float | None
    """µm per level-0 pixel; None where neither caller nor file says."""
    levels: tuple[float, ...]
    """How much coarser than level 0 each resolution is that the file offers, first 1.0."""
    format: str
    """What a person would call the file, such as "Aperio SVS" or "JPEG"."""
    scanner: str | None
    """Make and model of the scanner, as far as the file says."""
    objective_power: float | None
    """Magnification that the scan is said to be of, such as 20; µm/px are never derived from it."""
    color_profile: ColorProfile | None
    """What the file says of its colours; None where it says nothing that can be read."""
    is_turned: bool
    """Whether pixels are turned or mirrored against those stored, as the file says they are meant."""
    is_checked: bool
    """Whether `sha256` can be told."""
    is_converted: bool
    """Whether colours are handed out in sRGB, by this profile, and differ from those of the file."""
    notices: tuple[str, ...]
    """What the user should know of how the file was taken, a sentence each."""

    def __init__(
        self,
        path: Path | Address,
        reader: Reader,
        mpp: float | None = None,
        *,
        to_srgb: bool = False,
        may_lack_scale: bool = False,
    ) -> None:
        self._path, self._reader, self._is_closed = path, reader, False
        self._digest, self._digesting = None, threading.Lock()
        self.size = (reader.levels[0].width, reader.levels[0].height)
        try:
            self.mpp, notices = settled_scale(Image(path.name, self.size, reader.objective_power), mpp, reader.scale)
        except ScaleError as error:
            if not may_lack_scale:
                raise
            self.mpp, notices = None, (f"{error}.",)
        self.levels = tuple(level.downsample for level in reader.levels)
        self.format = reader.format
        self.is_turned, self.is_checked = reader.is_turned, reader.is_checked
        self.scanner, self.objective_power = reader.scanner, reader.objective_power
        self.color_profile = ColorProfile.read(reader.icc_profile)
        self.is_converted = to_srgb and self.foreign_profile is not None
        self.notices = (*reader.altered, *notices, *([self._told_colors()] if self.foreign_profile else []))

    @property
    def foreign_profile(self) -> str | None:
        """What the file's colour profile calls itself, where it is not of sRGB."""
        profile = self.color_profile
        return None if profile is None or profile.is_srgb else profile.name

    def _told_colors(self) -> str:
        own = f"Colours of {self._path.name} are stored by the profile “{self.foreign_profile}”"
        if self.is_converted:
            return f"{own} and were brought to sRGB."
        return f"{own}, not sRGB, and are read as they stand; they can be brought to sRGB."

    @property
    def sha256(self) -> str:
        """Hex digest of all the slide's files, of which it reads every byte once.

        Of a slide in one file: the SHA-256 of its bytes. Of one in several (MIRAX, DICOM, OME-Zarr …): the SHA-256 of a
        sorted list with a line `<SHA-256 of a file>  <its name>` for each. The name is the one that the slide's own
        files have for it; the file opened and the files of DICOM, which are told by their content, have none. So a
        slide that is renamed keeps its digest, and so does DICOM opened by another of its files. NOT_CHECKED of a
        slide that is read over a network. A slide that is closed meanwhile is read no further.

        Raises SlideError: a file can no longer be read, or the slide was closed meanwhile.
        """
        if not self.is_checked:
            return NOT_CHECKED
        was_closed = self._is_closed
        with self._digesting:
            if self._digest is None:
                self._digest = self._told_digest(was_closed)
        return self._digest

    def _told_digest(self, was_closed: bool) -> str:
        try:
            others = self._reader.other_files()
            if not others:
                return self._file_sha256(self._path, was_closed)
            files = [*others, *([] if self._path.is_dir() else [("", self._path)])]
            lines = [f"{self._file_sha256(path, was_closed)}  {name}\n" for name, path in files]
        except OSError as error:
            raise SlideError(
                f"{self._path.name} can no longer be read ({error.strerror or error}); open it again"
            ) from error
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()

    def _file_sha256(self, path: Path, was_closed: bool) -> str:
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while part := file.read(_HASHED_BYTES):
                if self._is_closed and not was_closed:
                    raise SlideError(f"{self._path.name} was closed before its checksum was told; open it again")
                digest.update(part)
        return digest.hexdigest()

    def require_mpp(self) -> float:
        """µm per level-0 pixel, or ScaleError saying how to give it."""
        if self.mpp is None:
            raise ScaleError(
                f"{self._path.name} has no µm/px in its metadata; give it: 0.25 for a 40× scan, 0.5 for 20× "
                "(--mpp on the command line, the column mpp of a list or manifest)"
            )
        return self.mpp

    def read(self, x: float, y: float, width: float, height: float, mpp: float | None = None) -> np.ndarray:
        """Average the colour of a region over pixels of a given size.

        x, y, width, height : the region in level-0 pixels, fractions allowed, inside the slide.
        mpp : µm per pixel wanted, no finer than the slide's own; None for level-0 pixels.

        Returns uint8 RGB, (round(height * self.mpp / mpp), round(width * self.mpp / mpp), 3), at least one pixel. Every
        pixel is the mean over its own area, fractions of source pixels included, taken from the coarsest level that is
        at least as fine.

        Raises SlideError: the region is not inside the slide, the slide is closed, or its pixels are damaged.
        Raises ScaleError: `mpp` is given but the slide has none, or it is finer than the slide.
        """
        self._check_region(x, y, width, height)
        downsample = 1.0 if mpp is None else checked_mpp(mpp) / self.require_mpp()
        if downsample < 1 - TOLERANCE:
            raise ScaleError(
                f"{self._path.name} has {self.mpp:g} µm/px at its finest, {mpp:g} was asked; "
                f"ask for {self.mpp:g} or more"
            )
        shape = max(1, round(height / downsample)), max(1, round(width / downsample))
        return self._average(x, y, width, height, shape, downsample)

    def thumbnail(self, max_side: int = 1024) -> np.ndarray:
        """The whole slide, uint8 RGB (height, width, 3), its longer side at most `max_side` (16 or more)."""
        if max_side < MIN_THUMBNAIL:
            raise ValueError(f"max_side must be at least {MIN_THUMBNAIL}, got {max_side}")
        width, height = self.size
        downsample = max(1.0, max(self.size) / max_side)
        shape = max(1, round(height / downsample)), max(1, round(width / downsample))
        return self._average(0, 0, width, height, shape, downsample)

    def close(self) -> None:
        """Let go of the file; closing twice does no harm."""
        if not self._is_closed:
            self._is_closed = True
            self._reader.close()

    def __exit__(self, *_) -> None:
        self.close()

    def _check_region(self, x: float, y: float, width: float, height: float) -> None:
        slack = TOLERANCE  # of a pixel: band edges computed in floats may overshoot
        w, h = self.size
        is_inside = x >= -slack and y >= -slack and x + width <= w + slack and y + height <= h + slack
        if not (is_inside and width > 0 and height > 0):
            raise SlideError(
                f"region x={x:g}, y={y:g}, {width:g} × {height:g} px is not inside {self._path.name}, "
                f"which is {w} × {h} px; ask for less"
            )

    def _average(
        self, x: float, y: float, width: float, height: float, shape: tuple[int, int], downsample: float
    ) -> np.ndarray:
        """Mean colours of `shape` (rows, columns) equal boxes tiling a region, in bounded memory."""
        if self._is_closed:
            raise SlideError(f"{self._path.name} is closed; open it again to read from it")
        with memory_told(self._path.name):
            return self._averaged(x, y, width, height, shape, downsample)

    def _averaged(
        self, x: float, y: float, width: float, height: float, shape: tuple[int, int], downsample: float
    ) -> np.ndarray:
        number = max(i for i, d in enumerate(self.levels) if i == 0 or d <= downsample * (1 + TOLERANCE))
        level = self._reader.levels[number]
        tops, bottoms = _edges(y / level.downsample + level.y_origin, height / level.downsample, shape[0], level.height)
        lefts, rights = _edges(x / level.downsample + level.x_origin, width / level.downsample, shape[1], level.width)
        out = np.empty((*shape, 3), np.uint8)
        for columns in _blocks(lefts, rights, BLOCK_WIDTH):
            x0, x1 = math.floor(lefts[columns][0]), math.ceil(rights[columns][-1])
            for rows in _blocks(tops, bottoms, BLOCK_PIXELS // (x1 - x0)):
                y0, y1 = math.floor(tops[rows][0]), math.ceil(bottoms[rows][-1])
                pixels = self._reader.read(number, x0, y0, x1 - x0, y1 - y0)
                boxes = tops[rows] - y0, bottoms[rows] - y0, lefts[columns] - x0, rights[columns] - x0
                means = _box_means(pixels, *boxes)
                if means.shape == out.shape:
                    out = means
                else:
                    out[rows, columns] = means
        # Of means, not pixel by pixel: a small part of the work, and 99 of 100 colours of tissue come to the same.
        return self.color_profile.to_srgb(out) if self.is_converted else out


def _edges(start: float, length: float, count: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of `count` equal intervals, on the grid, inside 0 to `limit`, none of them empty."""
    edges = np.rint((start + length * np.arange(count + 1) / count) * GRID) / GRID
    starts = np.minimum(np.maximum(edges[:-1], 0), limit - 1 / GRID)
    return starts, np.minimum(np.maximum(edges[1:], starts + 1 / GRID), limit)


def _blocks(starts: np.ndarray, ends: np.ndarray, most: int) -> Iterator[slice]:
    """Runs of intervals that cover at most `most` pixels, or one where that alone covers more."""
    step = max(1, int((most - 2) / (ends - starts).max()))
    for first in range(0, len(starts), step):
        yield slice(first, first + step)


def _box_means(
    pixels: np.ndarray, tops: np.ndarray, bottoms: np.ndarray, lefts: np.ndarray, rights: np.ndarray
) -> np.ndarray:
    """The mean colour of every box of `pixels` (h, w, 3): (rows, columns, 3)."""
    shape = (len(tops), len(lefts), 3)
    if shape == pixels.shape and all((edges % 1 == 0).all() for edges in (tops, bottoms, lefts, rights)):
        return pixels.copy()  # readers keep what they decoded
    from nsl.slides.resampling import box_means

    return box_means(pixels, tops, bottoms, lefts, rights)
