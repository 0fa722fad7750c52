"""Photographs and screenshots, through Pillow."""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from nsl.errors import SlideError
from nsl.slides.reader import (
    TIFF_DEFAULT_UNIT,
    TIFF_UNITS,
    Level,
    Reader,
    damaged,
    greyscale,
    on_white,
    resolution_scale,
)

PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
MAX_PIXELS = 600_000_000
"""Pillow decodes an image whole, at 4 bytes a pixel: 600 megapixels take 2.4 GB; no photograph is larger."""

# EXIF orientation: how Pillow turns the image upright, and whether that reverses x and y.
ORIENTATIONS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, True, False),
    3: (Image.Transpose.ROTATE_180, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, True),
    5: (Image.Transpose.TRANSPOSE, False, False),
    6: (Image.Transpose.ROTATE_270, True, False),
    7: (Image.Transpose.TRANSVERSE, True, True),
    8: (Image.Transpose.ROTATE_90, False, True),
}

_PILLOW_GUARD = threading.Lock()


def _pillow_open(file: BinaryIO, formats: tuple[str, ...] = PILLOW_FORMATS) -> Image.Image:
    """Image.open without Pillow's limit on pixels, half of what a microscope's JPEG can have.

    The limit is a global: it is lifted for the reading of a header only, and one thread at a time lifts it.
    """
    file.seek(0)
    with _PILLOW_GUARD:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


class PillowReader(Reader):
    """JPEG, at full size or decoded straight to a half, a quarter or an eighth; PNG, BMP, WebP; odd TIFFs.

    The last level decoded is kept, so a slide read in bands is decoded once.
    """

    _ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)

    def __init__(self, path: Path, head: bytes, page: int = 0) -> None:
        """Of a TIFF's directory `page`, from 0; other files have one picture, or one that stands for all."""
        self._name, self._page = path.name, page
        self._file = path.open("rb")
        self._kept: tuple[int, np.ndarray] | None = None
        try:
            with self._told(), _pillow_open(self._file) as image:
                image.seek(page)
                self._describe(image, head)
        except SlideError:
            self._file.close()
            raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._ERRORS as error:
            raise damaged(self._name) from error

    def _describe(self, image: Image.Image, head: bytes) -> None:
        name, (width, height) = self._name, image.size
        if width * height > MAX_PIXELS:
            raise SlideError(
                f"{name} has {width * height / 1e6:.0f} megapixels, too many for {image.format}; "
                "save it as a tiled, pyramidal TIFF or export it at a lower magnification"
            )
        if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;"):
            raise greyscale(name)
        if image.mode not in ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr"):
            raise SlideError(f"{name} is stored as {image.mode}; export it as RGB")
        if image.has_transparency_data:
            self.altered += (f"{name} has transparency, which was laid on white.",)
        if image.mode == "CMYK":
            self.altered += (f"{name} is in printing inks (CMYK) and was converted to RGB: colours are approximate.",)
        if image.format == "PNG" and head[24] == 16:
            self.altered += (f"{name} has 16 bits a channel, of which the upper 8 are used.",)
        if image.format == "TIFF":
            tags = image.tag_v2
            self.scale = resolution_scale(
                tags.get(282), tags.get(283), TIFF_UNITS.get(tags.get(296, TIFF_DEFAULT_UNIT))
            )
        self.format = {"MPO": "JPEG", "WEBP": "WebP"}.get(image.format, image.format)
        self._can_draft = image.format == "JPEG"
        factors = [f for f in (1, 2, 4, 8) if f <= min(width, height)] if self._can_draft else [1]
        self._turn, self.levels = self._upright(image, factors)

    @staticmethod
    def _upright(image: Image.Image, factors: list[int]) -> tuple[Image.Transpose | None, tuple[Level, ...]]:
        # Pillow turns TIFFs itself, and decodes all of a PNG to look for EXIF that may stand behind the pixels.
        is_told = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        orientation = image.getexif().get(274, 1) if is_told else 1
        turn, reverses_x, reverses_y = ORIENTATIONS.get(orientation, (None, False, False))
        width, height = image.size[::-1] if orientation in (5, 6, 7, 8) else image.size
        levels = []
        for factor in factors:
            w, h = -(-width // factor), -(-height // factor)
            # A reversed axis begins with the part-filled pixel that the stored one ends with.
            x_origin, y_origin = (w - width / factor) * reverses_x, (h - height / factor) * reverses_y
            levels.append(Level(float(factor), w, h, x_origin, y_origin))
        return turn, tuple(levels)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        if self._kept is None or self._kept[0] != level:
            self._kept = None
            self._kept = (level, self._decode(int(self.levels[level].downsample)))
        return self._kept[1][y : y + height, x : x + width]

    def _decode(self, factor: int) -> np.ndarray:
        with self._told(), _pillow_open(self._file) as image:
            image.seek(self._page)
            if self._can_draft:
                image.draft(None, (image.width // factor, image.height // factor))
            image.load()
            upright = on_white(image)
            if self._turn is not None:
                upright = upright.transpose(self._turn)
            return np.asarray(upright)

    def close(self) -> None:
        self._kept = None
        self._file.close()
