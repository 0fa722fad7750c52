"""Which of the images in a TIFF is the slide: chosen by size and role, never because it comes first."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from nsl.errors import SlideError
from nsl.numerals import ordinal, some_of

if TYPE_CHECKING:
    import tifffile

# What scanners and converters call pictures that are not the slide: "macro", "Label Image", "a.svs - thumbnail".
_OTHER_ROLE = re.compile(r"(.*[\s:;/_.-])?(label|macro|overview|thumbnail|barcode)([\s_-]?(image|img))?", re.DOTALL)
_MASK, _PAGE_NAME = 4, 285  # a bit of NewSubfileType; TIFF's number of a tag
# Of the largest image's pixels: one in colour that has so many is taken before a larger one that is not.
_COMPARABLE = 0.5
_SIZES_TOLD = 3


def slide_series(name: str, tiff: tifffile.TiffFile) -> tuple[tifffile.TiffPageSeries, int, tuple[str, ...]]:
    """The image that is the slide, its number among those of the file, and a sentence where there are others.

    Masks, and what is called a label, macro, overview or thumbnail, are passed over; of the rest the largest is taken.
    A page is "reduced" only if another is larger, so size tells that too.
    """
    numbers = range(len(tiff.series))
    slides = [n for n in numbers if not _has_other_role(tiff.series[n])] or list(numbers)
    most = max(_area(tiff.series[n]) for n in slides)
    comparable = [n for n in slides if _area(tiff.series[n]) >= _COMPARABLE * most]
    chosen = max(comparable, key=lambda n: (_is_colour(tiff.series[n]), _area(tiff.series[n]), -n))
    return tiff.series[chosen], chosen, _told(name, tiff, chosen)


def require_one_image(name: str, series: tifffile.TiffPageSeries) -> None:
    """SlideError where several images of one size are there: layers, times, or pages that nothing tells apart."""
    count = count_of(series)
    if count > 1:
        raise SlideError(f"{name} holds {count} images (axes {series.axes}); export one of them as RGB")


def count_of(series: tifffile.TiffPageSeries) -> int:
    """How many pictures there are: channels are one where they stand alone, and each one where it has samples."""
    parts = "YXS" if "S" in series.axes else "YXC"
    return math.prod(n for axis, n in zip(series.axes, series.shape, strict=True) if axis not in parts)


def levels_of_slide(series: tifffile.TiffPageSeries) -> list[tifffile.TiffPageSeries]:
    """The image's resolutions, without reduced pages that are called a label, macro, overview or thumbnail."""
    finest, *coarser = series.levels
    return [finest, *(level for level in coarser if not is_called_otherwise(level.keyframe))]


def size_of(series: tifffile.TiffPageSeries) -> tuple[int, int]:
    """(width, height) in pixels; 0 where an image has no such axis."""
    lengths = dict(zip(series.axes, series.shape, strict=True))
    return lengths.get("X", 0), lengths.get("Y", 0)


def _area(series: tifffile.TiffPageSeries) -> int:
    width, height = size_of(series)
    return width * height


def _is_colour(series: tifffile.TiffPageSeries) -> bool:
    lengths = dict(zip(series.axes, series.shape, strict=True))
    return lengths.get("S", 1) >= 3 or lengths.get("C") == 3 or series.keyframe.photometric.name == "PALETTE"


def _has_other_role(series: tifffile.TiffPageSeries) -> bool:
    page = series.keyframe
    return bool(page.subfiletype & _MASK) or is_called_otherwise(page, series.name)


def is_called_otherwise(page: tifffile.TiffPage, name: str = "") -> bool:
    """Whether a page, or the image of this name, is called a label, macro, overview or thumbnail."""
    first_line = page.description.strip().partition("\n")[0]
    named = str(page.tags.valueof(_PAGE_NAME, ""))
    called = [text.strip("\0 ").lower() for text in (name, first_line, named) if text]
    return any(_OTHER_ROLE.fullmatch(text) for text in called)


def _told(name: str, tiff: tifffile.TiffFile, chosen: int) -> tuple[str, ...]:
    sizes = ["{:,} × {:,}".format(*size_of(series)) for series in tiff.series]
    others = [size for number, size in enumerate(sizes) if number != chosen]
    if not others:
        return ()
    return (
        f"{name} holds {len(sizes)} images: that of {sizes[chosen]} px, the {ordinal(chosen + 1)}, was taken for the "
        f"slide, and those left out are of {some_of(others, _SIZES_TOLD)} px.",
    )
