"""TIFFs without a scanner's mark, through tifffile."""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nsl.errors import SlideError
from nsl.slides.jpeg_segments import stated_colours
from nsl.slides.ome import OmeImage, colour_order, no_colours, ome_image
from nsl.slides.picture_sizes import stated_pixels
from nsl.slides.reader import (
    TIFF_DEFAULT_UNIT,
    TIFF_UNITS,
    Level,
    Reader,
    Scale,
    any_error_told,
    damaged,
    greyscale,
    levels_of,
    positive,
    resolution_scale,
)
from nsl.slides.sample_depth import full_scale
from nsl.slides.tiff_images import count_of, levels_of_slide, size_of

if TYPE_CHECKING:
    import tifffile

# TIFF's numbers for compressions into pictures of their own sizes, which need not be those of the tile.
JPEG, JPEG_2000, PNG, WEBP, JPEG_XL = (6, 7, 33007, 34892), (33003, 33004, 33005, 34712), 34933, 50001, (50002, 52546)
_APERIO_YCBCR = 33003
_ICC_PROFILE = 34675  # TIFF's number of the tag
# Looked at to learn how deep an image is: a slide is not read through for that when it is opened.
_DEPTH_PIXELS = 2**24


class TiffReader(Reader):
    """OME-TIFF, ImageJ and any RGB TIFF that is not OpenSlide's, of any depth, read tile by tile or strip by strip."""

    def __init__(self, name: str, tiff: tifffile.TiffFile, number: int = 0) -> None:
        """Of the image `number` of the file, as `nsl.slides.tiff_images.slide_series` chose it."""
        self._name, self._tiff, self._series = name, tiff, tiff.series[number]
        self._resolutions = levels_of_slide(self._series)
        self._alpha: str | None = None
        self._order = [0, 1, 2]
        self._ome = ome_image(tiff.ome_metadata, number, size_of(self._series)) if tiff.is_ome else OmeImage()
        self._check_compression()
        self._check_complete()
        self._check_axes()
        self.format = "OME-TIFF" if tiff.is_ome else "ImageJ TIFF" if tiff.is_imagej else "TIFF"
        self.levels = self._measure_levels()
        self.scanner, self.objective_power = self._ome.scanner, self._ome.objective_power
        self.scale = self._ome.scale or self._tag_scale()
        self.icc_profile = self._series.keyframe.tags.valueof(_ICC_PROFILE)

    def examine(self) -> None:
        if self._series.dtype == np.uint8:
            return
        # Of strips too large to be decoded while a file is opened, the depth is found when they are read.
        is_soon_told = math.prod(self._resolutions[-1].keyframe.chunks[:2]) <= _DEPTH_PIXELS
        later = f"{self._name} holds {self._series.dtype} values; as many bits as they fill became 8."
        with any_error_told(self._name):
            self.altered += (self._depth[1] if is_soon_told else later,)

    def _check_compression(self) -> None:
        compression = self._series.keyframe.compression
        if compression in _pictures() - {*JPEG, *JPEG_2000, PNG, WEBP, *JPEG_XL}:
            raise SlideError(
                f"{self._name} is compressed by {compression.name}, which is not read; export it with JPEG or Deflate"
            )

    def _check_complete(self) -> None:
        """A file cut short breaks late, at its missing tiles; the table of tiles tells at once."""
        size = self._tiff.filehandle.size
        for page in (page for level in self._resolutions for page in level.pages if page is not None):
            end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
            if end > size:
                raise damaged(self._name, f" ({size} of at least {end} bytes)")

    def _check_axes(self) -> None:
        axes, shape = self._series.axes, self._series.shape
        if axes == "YX" or (axes in ("YXS", "SYX") and shape[axes.index("S")] < 3):
            raise greyscale(self._name)
        channels = shape[axes.index("S" if "S" in axes else "C")] if axes in ("YXS", "SYX", "CYX") else 0
        if not channels:
            count = count_of(self._series)
            raise SlideError(f"{self._name} holds {count} images (axes {axes}); export one of them as RGB")
        if channels != 3 and (axes == "CYX" or channels > 4):
            raise SlideError(
                f"{self._name} has {channels} channels; the model reads the colour of H&E: export it as RGB"
            )
        self._channels = channels
        if axes == "CYX":
            self._order_channels()
        if channels == 4:
            extra = (*self._series.keyframe.extrasamples, 0)[0]
            self._alpha = {1: "associated", 2: "separate"}.get(int(extra))
            self.altered += (
                (f"{self._name} has transparency, which was laid on white.",)
                if self._alpha
                else (f"The fourth channel of {self._name} was left out.",)
            )

    def _order_channels(self) -> None:
        """Which of three single channels are red, green and blue: by their names or colours, else as they stand."""
        if self._ome.is_fluorescence:
            raise no_colours(self._name, self._ome.channels)
        self._order = colour_order(self._ome.colours)
        self.altered += (f"The three channels of {self._name} are read as red, green and blue.",)

    def _measure_levels(self) -> tuple[Level, ...]:
        return levels_of([size_of(one) for one in self._resolutions])

    def _tag_scale(self) -> Scale | None:
        tags = self._series.keyframe.tags
        unit = TIFF_UNITS.get(tags.valueof(296, TIFF_DEFAULT_UNIT))
        if self._tiff.is_imagej:  # which counts in pixels where it names no unit
            unit = (self._tiff.imagej_metadata or {}).get("unit", TIFF_UNITS.get(tags.valueof(296)))
        return resolution_scale(tags.valueof(282), tags.valueof(283), unit)

    @functools.cached_property
    def _depth(self) -> tuple[float, str]:
        """The value that becomes 255, and a sentence that says so."""
        dtype, (low, high) = self._series.dtype, self._value_range()
        found = full_scale(dtype, low, high, self._stated_scales())
        if found is None:
            raise SlideError(f"{self._name} holds {dtype} values from {low:g} to {high:g}; export it as 8-bit RGB")
        peak, is_stated = found
        why = "as its metadata says" if is_stated else "by its values, as no metadata says it"
        told = f"{self._name} holds {dtype} values up to {high:.7g}; 0 to {peak:.7g} became 0 to 255, {why}."
        return peak, told

    @functools.cached_property
    def _opaque(self) -> float:
        """The value of transparency that hides what is behind; a camera's bits say nothing of it."""
        found = full_scale(self._series.dtype, *self._value_range(slice(3, 4)), [])
        return found[0] if found else self._depth[0]

    def _stated_scales(self) -> list[float]:
        """From MaxSampleValue (281) and SMaxSampleValue (341), bits that are used, and bits that are stored."""
        page, bits = self._series.keyframe, [self._ome.significant_bits, self._series.keyframe.bitspersample]
        tags = [positive(value) for tag in (281, 341) for value in np.ravel(page.tags.valueof(tag, 0))]
        whole = [2.0**n - 1 for n in bits if n and n < 64] if self._series.dtype.kind in "ui" else []
        return [value for value in tags if value is not None] + whole

    def _value_range(self, channels: slice = slice(0, 3)) -> tuple[float, float]:
        """Least and greatest value of channels in the coarsest level: in some tiles all over it if it is large."""
        low, high, wanted = math.inf, -math.inf, range(self._channels)[channels]
        for page in self._resolutions[-1].pages:
            stored = np.flatnonzero(page.databytecounts)
            pixels = len(stored) * math.prod(page.keyframe.chunks[:2])
            for number in stored[:: max(1, -(-pixels // _DEPTH_PIXELS))]:
                decoded, plane, _, _ = self._chunk(page, int(number))
                held = [] if decoded is None else [n - plane for n in wanted if 0 <= n - plane < decoded.shape[-1]]
                if held:
                    values = decoded[..., held[0] : held[-1] + 1]
                    low, high = np.minimum(low, values.min()), np.maximum(high, values.max())
        return (float(low), float(high)) if high >= low or np.isnan(high) else (0.0, 0.0)

    def _raw(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """(height, width, channels) as stored, from the tiles or strips that the box touches."""
        box = np.zeros((height, width, self._channels), self._series.dtype)
        first = 0
        for page in self._resolutions[level].pages:
            axes, grid = page.keyframe.axes, page.keyframe.chunked
            chunks = (1, *page.keyframe.chunks)[-len(axes) :]  # planes stored apart are left out of it
            reach = {"Y": (y, y + height), "X": (x, x + width)}
            spans = [
                range(reach[axis][0] // chunk, -(-reach[axis][1] // chunk)) if axis in reach else range(count)
                for axis, chunk, count in zip(axes, chunks, grid, strict=True)
            ]
            for index in itertools.product(*spans):
                self._paste(page, int(np.ravel_multi_index(index, grid)), box, x, y, first)
            first += page.keyframe.samplesperpixel
        return box

    def _paste(self, page: Any, number: int, box: np.ndarray, x: int, y: int, first: int) -> None:
        """Decode one tile or strip, and copy the part inside a box that begins at x, y."""
        pixels, plane, top, left = self._chunk(page, number)
        if pixels is None:  # a sparse file leaves blank tiles out
            return
        first += plane
        above, before = max(0, y - top), max(0, x - left)
        part = pixels[above : y + len(box) - top, before : x + box.shape[1] - left]
        top, left = top + above - y, left + before - x
        box[top : top + len(part), left : left + part.shape[1], first : first + part.shape[2]] = part

    def _chunk(self, page: Any, number: int) -> tuple[np.ndarray | None, int, int, int]:
        """A tile or strip, (height, width, channels), with its plane, top and left; None where it was left out."""
        file, keyframe = self._tiff.filehandle, page.keyframe
        file.seek(page.dataoffsets[number])
        data = file.read(page.databytecounts[number]) or None
        if data and keyframe.compression in _pictures() and stated_pixels(data) > math.prod(keyframe.chunks):
            raise damaged(self._name, " (a tile is larger than it says)")
        return _decoded(page, number, data)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        with any_error_told(self._name):
            pixels = self._raw(level, x, y, width, height)
            peaks = [] if pixels.dtype == np.uint8 else [self._depth[0]] * min(3, self._channels)
            peaks += [self._opaque] if peaks and self._alpha else []
        if peaks:
            scaled = np.rint(pixels[..., : len(peaks)].astype(np.float32) * np.float32(255 / np.array(peaks)))
            pixels = np.clip(scaled, 0, 255).astype(np.uint8)
        if self._series.keyframe.photometric.name == "MINISWHITE":
            pixels[..., :3] = 255 - pixels[..., :3]
        if self._alpha is None:
            return pixels[..., :3] if self._order == [0, 1, 2] else np.ascontiguousarray(pixels[..., self._order])
        colour, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
        if self._alpha == "separate":
            colour = (colour * alpha + 127) // 255
        return np.minimum(colour + 255 - alpha, 255).astype(np.uint8)

    def close(self) -> None:
        self._tiff.close()


def _pictures() -> set[int]:
    import tifffile

    return tifffile.TIFF.IMAGE_COMPRESSIONS


def _decoded(page: Any, number: int, data: bytes | None) -> tuple[np.ndarray | None, int, int, int]:
    """What `_chunk` returns, from the bytes stored."""
    keyframe, tables = page.keyframe, {}
    if keyframe.compression in JPEG:  # other decoders refuse the argument
        tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
    colours = stated_colours(data, page.jpegtables or b"") if data and _is_jpeg_in_colour(keyframe) else None
    pixels, (plane, _, top, left, _), (_, height, width, _) = keyframe.decode(
        None if colours else data, number, **tables
    )
    if colours:
        # The tag is wrong where the tile itself says otherwise: tifffile would go by it.
        pixels = _jpeg_pixels(data, colours, tables)[None, :height, :width]
    elif pixels is not None and keyframe.compression == _APERIO_YCBCR and _has_no_transform(data):
        pixels = _rgb_of_ycbcr(pixels)
    if pixels is not None and (pixels.shape[1] < height or pixels.shape[2] < width):
        raise ValueError(f"{pixels.shape[1]} × {pixels.shape[2]} of {height} × {width} px")
    return None if pixels is None else pixels[0], plane, top, left


def _is_jpeg_in_colour(page: tifffile.TiffPage) -> bool:
    is_rgb = (page.bitspersample, page.samplesperpixel, page.planarconfig) == (8, 3, 1)
    return page.compression in JPEG and is_rgb and page.photometric.name in ("RGB", "YCBCR")


def _jpeg_pixels(data: bytes, colours: str, tables: dict[str, Any]) -> np.ndarray:
    import imagecodecs

    return imagecodecs.jpeg_decode(
        data, tables=tables["jpegtables"], header=tables["jpegheader"], colorspace=colours, outcolorspace="RGB"
    )


def _has_no_transform(codestream: bytes) -> bool:
    """Whether a JPEG 2000 codestream's components are as they were given: its coding style (COD) tells."""
    at = codestream.find(b"\xff\x52")
    return at >= 0 and codestream[at + 8 : at + 9] == b"\0"


def _rgb_of_ycbcr(pixels: np.ndarray) -> np.ndarray:
    """Full-range YCbCr of ITU-T T.871 (JFIF), in the last axis, as RGB of the same type."""
    y, cb, cr = np.moveaxis(pixels.astype(np.float32), -1, 0)
    cb, cr = cb - 128, cr - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(pixels.dtype)
