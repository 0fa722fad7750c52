"""Photographs and screenshots, through Pillow."""

from __future__ import annotations

import contextlib
import os
import shlex
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImagePalette

from nsl.errors import SlideError
from nsl.slides.jpeg_segments import JpegStrips, stated_frame
from nsl.slides.reader import (
    TIFF_DEFAULT_UNIT,
    TIFF_UNITS,
    Level,
    Reader,
    any_error_told,
    damaged,
    greyscale,
    on_white,
    resolution_scale,
)
from nsl.slides.sample_depth import full_scale

PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
MAX_PIXELS = 600_000_000
"""Pillow decodes an image whole, at 4 bytes a pixel: 600 megapixels take 2.4 GB; no photograph is larger. JPEGs are
decoded smaller where that serves."""
MAX_CONVERTED_PIXELS = 300_000_000
"""Of an image with transparency, a palette or inks: a screenshot or a drawing, of which some bytes state any size."""

_PALETTE = 320  # TIFF's number of the tag

# Rows turned into RGB at once.
_BAND_ROWS = 256
# libjpeg makes grey of what is not there; zlib's reader leaves black, or a palette's first colour.
_MISSING = {"JPEG": (127, 128), "PNG": (0,)}
# Of a JPEG before its scan: photographs have previews and colour profiles there.
_USUAL_HEAD, _MOST_HEAD = 2**16, 2**22

# EXIF orientation: whether rows and columns change places, and whether x and y are reversed then.
_ORIENTATION = 274  # the tag of EXIF and TIFF
ORIENTATIONS = {
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
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
        self._kept: tuple[int, Image.Image | np.ndarray] | None = None  # a level, and its pixels as they are stored
        try:
            self._require_eight_bits(head)
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

    def _require_eight_bits(self, head: bytes) -> None:
        """SlideError at a JPEG of more bits, which Pillow takes for no image at all."""
        if not head.startswith(b"\xff\xd8"):
            return
        for most in (_USUAL_HEAD, _MOST_HEAD):
            self._file.seek(0)
            if frame := stated_frame(self._file.read(most)):
                break
        if frame and frame[0] != 8:
            raise SlideError(f"{self._name} is a JPEG of {frame[0]} bits a channel; export it with 8")

    def _describe(self, image: Image.Image, head: bytes) -> None:
        name, (width, height) = self._name, image.size
        is_deep = image.format == "PNG" and head[24] == 16 and image.mode in ("RGB", "RGBA")
        is_plain = image.mode in ("RGB", "YCbCr") and not image.has_transparency_data and not is_deep
        if width * height > (MAX_PIXELS if is_plain else MAX_CONVERTED_PIXELS):
            raise SlideError(
                f"{name} has {width * height / 1e6:.0f} megapixels, too many for {image.format}; "
                f"make a pyramid (vips tiffsave {shlex.quote(name)} slide.tif --tile --pyramid --compression jpeg "
                "--Q 90) or export it at a lower magnification"
            )
        if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;"):
            raise greyscale(name)
        if image.mode not in ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr"):
            raise SlideError(f"{name} is stored as {image.mode}; export it as RGB")
        if _belies_mark(image):
            raise SlideError(
                f"{name} is marked as RGB and holds colours as YCbCr does, two of them at less resolution; export it "
                "again as JPEG or PNG"
            )
        if image.has_transparency_data:
            self.altered += (f"{name} has transparency, which was laid on white.",)
        if image.mode != "CMYK":  # whose profile is of the inks
            self.icc_profile = image.info.get("icc_profile")
        else:
            self.altered += (f"{name} is in printing inks (CMYK) and was converted to RGB: colours are approximate.",)
        frames = 1 if image.format in ("MPO", "TIFF") else getattr(image, "n_frames", 1)
        if frames > 1:
            self.altered += (f"{name} holds {frames} pictures, of which the first is read.",)
        self._is_deep = is_deep
        if is_deep:
            self.altered += (f"{name} has 16 bits a channel; as many as its values fill became 8.",)
        if image.format == "TIFF":
            tags = image.tag_v2
            self.scale = resolution_scale(
                tags.get(282), tags.get(283), TIFF_UNITS.get(tags.get(296, TIFF_DEFAULT_UNIT))
            )
        self._require_codes(image)
        self.format = {"MPO": "JPEG", "WEBP": "WebP"}.get(image.format, image.format)
        self._stored_size = image.size
        self._is_jpeg = image.format == "JPEG"
        factors = [f for f in (1, 2, 4, 8) if f <= min(width, height)] if self._is_jpeg else [1]
        self._turn, self.levels = self._upright(image, factors)
        # Pillow turns TIFFs itself.
        if self._turn or (image.format == "TIFF" and image.tag_v2.get(_ORIENTATION) in ORIENTATIONS):
            self.is_turned = True
            self.altered += (
                f"{name} is turned upright, as its orientation says; positions are pixels of the upright image, and "
                "measured spots cannot be placed on it.",
            )

    def _require_codes(self, image: Image.Image) -> None:
        """SlideError where a JPEG has less than a bit for every block of 8 × 8 px, which no code of one takes."""
        blocks, stored = -(-image.width // 8) * -(-image.height // 8), os.fstat(self._file.fileno()).st_size
        if image.format in ("JPEG", "MPO") and blocks > 8 * stored:
            size = f"{image.width:,} × {image.height:,}"
            raise damaged(self._name, f" ({stored:,} bytes cannot hold the {size} px that it states)")

    @staticmethod
    def _upright(image: Image.Image, factors: list[int]) -> tuple[tuple[bool, bool, bool] | None, tuple[Level, ...]]:
        # Pillow turns TIFFs itself, and decodes all of a PNG to look for EXIF that may stand behind the pixels.
        is_told = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        orientation = image.getexif().get(_ORIENTATION, 1) if is_told else 1
        turn = ORIENTATIONS.get(orientation)
        is_turned, reverses_x, reverses_y = turn or (False, False, False)
        width, height = image.size[::-1] if is_turned else image.size
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
        is_turned, reverses_x, reverses_y = self._turn or (False, False, False)
        x = self.levels[level].width - x - width if reverses_x else x
        y = self.levels[level].height - y - height if reverses_y else y
        pixels = self._cropped(y, x, height, width) if is_turned else self._cropped(x, y, width, height)
        pixels = pixels.swapaxes(0, 1) if is_turned else pixels
        return pixels[:: -1 if reverses_y else 1, :: -1 if reverses_x else 1]

    def _cropped(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """RGB of a part of the level that is kept, as it is stored."""
        kept = self._kept[1]
        if isinstance(kept, np.ndarray):
            return kept[y : y + height, x : x + width]
        pixels = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, _BAND_ROWS):
            band = kept.crop((x, y + top, x + width, y + min(top + _BAND_ROWS, height)))
            pixels[top : top + band.height] = on_white(band)
        return pixels

    def _decode(self, factor: int) -> Image.Image | np.ndarray:
        if self._is_deep:
            return self._decode_deep()
        decoded = self._decode_jpeg(factor) if self._is_jpeg else None
        return self._decode_shallow(factor) if decoded is None else decoded

    def _decode_jpeg(self, factor: int) -> np.ndarray | None:
        """A JPEG without the way through Pillow's memory; None where it is in inks, or anything in it is amiss."""
        import simplejpeg

        from nsl.system.parallel import over_rows  # numba, which takes long to import

        width, height = (-(-side // factor) for side in self._stored_size)
        self._file.seek(0)
        data = self._file.read()
        strips = JpegStrips.of(data, _MOST_HEAD) if factor > 1 else None
        pixels = np.empty((height, width, 3), np.uint8)

        def decode(start: int, stop: int) -> None:
            part, rows = strips.joined(start, stop) if strips else (data, self._stored_size[1])
            top, rows = start * strips.strip_rows // factor if strips else 0, -(-rows // factor)
            strip = pixels[top : top + rows]
            if simplejpeg.decode_jpeg(part, min_height=rows, min_width=width, buffer=strip).shape != strip.shape:
                raise ValueError

        try:
            over_rows(decode, len(strips) if strips else 1)
        except ValueError:
            return None
        return pixels

    def _decode_shallow(self, factor: int) -> Image.Image:
        """The picture as Pillow has it: to make RGB of all of it takes as long again, and memory."""
        with self._told():
            image = _pillow_open(self._file)
            image.seek(self._page)
            if self._is_jpeg:
                image.draft(None, (image.width // factor, image.height // factor))
            if image.format == "TIFF" and image.mode == "P":
                _widen_palette(image)
            image.load()
            self._require_pixels(image)
        return image

    def _decode_deep(self) -> np.ndarray:
        """A PNG of 16 bits, of which Pillow hands out the upper 8, be they used or not."""
        import imagecodecs

        self._file.seek(0)
        content = self._file.read()
        with any_error_told(self._name):
            deep = imagecodecs.png_decode(content)
        colour = deep[..., :3]
        peak, _ = full_scale(deep.dtype, float(colour.min()), float(colour.max()), _significant(content))
        pixels = np.empty(colour.shape, np.uint8)
        for top in range(0, len(deep), _BAND_ROWS):
            band = np.minimum(np.rint(colour[top : top + _BAND_ROWS] * np.float32(255 / peak)), 255)
            if deep.shape[2] == 4:
                alpha = deep[top : top + _BAND_ROWS, :, 3:] * np.float32(1 / 65535)
                band = np.rint(band * alpha + 255 * (1 - alpha))
            pixels[top : top + _BAND_ROWS] = band
        return pixels

    def _require_pixels(self, image: Image.Image) -> None:
        """SlideError where the file states more rows than it has: its decoder goes on, and says nothing."""
        missing, (width, height) = _MISSING.get(self.format), image.size
        if missing is None:
            return
        corner = image.crop((width - 1, height - 1, width, height)).tobytes()
        if set(corner) <= set(missing) and not self._has_all_pixels():
            raise damaged(self._name, " (it ends before its last row)")

    def _has_all_pixels(self) -> bool:
        """Whether pixels that look like missing ones stand in the file; of odd kinds of JPEG they do not."""
        self._file.seek(0)
        if self.format == "JPEG":
            with _pillow_open(self._file) as image:
                width, height = image.size
            self._file.seek(0)
            from nsl.slides.jpeg_scan import is_whole_jpeg  # numba, which takes long to import

            return is_whole_jpeg(self._file.read(), b"", height, width, _MOST_HEAD)
        return _has_all_rows(self._file)

    def close(self) -> None:
        self._kept = None
        self._file.close()


def _widen_palette(image: Image.Image) -> None:
    """A TIFF's palette has 16 bits; where a writer filled 8, as libtiff tells it, Pillow would see black."""
    palette = image.tag_v2.get(_PALETTE, ())
    if palette and max(palette) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(palette))


def _belies_mark(image: Image.Image) -> bool:
    """Whether Adobe's mark, by which libjpeg goes, says RGB of a JPEG that cannot be: RGB is stored evenly."""
    if image.format not in ("JPEG", "MPO") or image.mode != "RGB" or "jfif" in image.info:
        return False
    return image.info.get("adobe_transform") == 0 and len({tuple(layer[1:3]) for layer in image.layer}) > 1


def _significant(png: bytes) -> list[float]:
    """The full scale that a PNG says was used (its chunk sBIT, which stands before the pixels)."""
    at = png.find(b"sBIT", 0, png.find(b"IDAT"))
    return [] if at < 0 else [2.0 ** max(png[at + 4 : at + 7]) - 1]


def _has_all_rows(file: BinaryIO) -> bool:
    """Whether the data of a PNG that is not interlaced is as long as its header says; True of one that is."""
    file.seek(16)
    width, height, depth, colours, *_, interlaced = struct.unpack(">IIBBBBB", file.read(13))
    if interlaced:
        return True
    channels = {2: 3, 4: 2, 6: 4}.get(colours, 1)
    left, inflate = height * (1 + -(-width * depth * channels // 8)), zlib.decompressobj()
    file.seek(8)
    while left > 0 and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        data = file.read(length)
        file.seek(4, 1)
        while kind == b"IDAT" and data and left > 0:
            left -= len(inflate.decompress(data, 2**24))
            data = inflate.unconsumed_tail
    return left <= 0
