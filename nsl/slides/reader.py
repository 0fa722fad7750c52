"""What every reader of image files shares: levels, µm/px from metadata, and the words for damage."""

from __future__ import annotations

import contextlib
import math
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nsl.errors import SlideError

Scale = tuple[float, float]
"""µm per level-0 pixel along x and along y."""

BELIEVABLE_MPP = (0.05, 20.0)
"""A TIFF resolution tag is µm/px only inside this range. Printers and cameras fill the same tag: 72 dpi
reads as 353 µm/px, 300 dpi as 85, while microscopes lie between 0.1 (63×) and 10 (an overview).
In JPEG and PNG the tag is never more than dpi, so there it is not read at all."""

_UNIT_UM_NAMES = {
    1e-6: "pm picometer picometers picometre picometres",
    1e-4: "å angstrom angstroms ångström ångströms",
    1e-3: "nm nanometer nanometers nanometre nanometres",
    1.0: "µm um micron microns micrometer micrometers micrometre micrometres",
    1e3: "mm millimeter millimeters millimetre millimetres",
    1e4: "cm centimeter centimeters centimetre centimetres",
    1e5: "dm",
    1e6: "m meter meters metre metres",
    25.4: "thou mil",
    25_400.0: "in inch inches",
}
UNIT_UM = {name: um for um, names in _UNIT_UM_NAMES.items() for name in names.split()}
"""Micrometres in a unit, in the spellings of OME-XML, ImageJ and OpenSlide, with the micro sign U+00B5."""
TIFF_UNITS, TIFF_DEFAULT_UNIT = {2: "inch", 3: "cm"}, 2


@dataclass(frozen=True)
class Level:
    """One resolution of an image: level-0 position x lies at `x / downsample + x_origin` of its pixels."""

    downsample: float
    width: int
    height: int
    x_origin: float = 0.0
    y_origin: float = 0.0


class Reader(ABC):
    """Upright 8-bit RGB pixels of one file, level by level."""

    format: str
    levels: tuple[Level, ...]
    scale: Scale | None = None
    scanner: str | None = None
    """Make and model, as far as the file says."""
    objective_power: float | None = None
    """Magnification of the objective that the scan is said to be of, such as 20."""
    icc_profile: bytes | None = None
    """The colour profile that the file holds of its pixels as they are handed out."""
    is_turned: bool = False
    """Whether the pixels handed out are turned or mirrored against those stored, as the file says they are meant."""
    is_checked: bool = True
    """Whether a checksum can be told of all that is read; not of what comes over a network, part by part."""
    altered: tuple[str, ...] = ()
    """A sentence for each way in which the pixels handed out are not all of the file, or not as they stand in it."""

    @abstractmethod
    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """uint8 (height, width, 3) of a box in this level's own pixels, which must lie inside it."""

    def examine(self) -> None:
        """Look at pixels where only they tell how the file is to be read; a reader is made from headers alone."""
        return

    def other_files(self) -> list[tuple[str, Path]]:
        """What the slide has besides the file opened, as `nsl.slides.companions.other_files`; most have nothing."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


def levels_of(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels by their width and height, the finest first."""
    (width, height), levels = sizes[0], []
    for w, h in sizes:
        factor = round(width / w)
        # Writers drop or keep the last odd pixel: the factor is the whole number they meant.
        is_whole = all(n // factor <= m <= -(-n // factor) for n, m in ((width, w), (height, h)))
        levels.append(Level(float(factor) if is_whole else (width / w + height / h) / 2, w, h))
    return tuple(levels)


def damaged(name: str, reason: str = "") -> SlideError:
    return SlideError(f"{name} is damaged or incomplete{reason}; copy or export it again")


def resolution_scale(x: Any, y: Any, unit: str | None) -> Scale | None:
    """µm/px from pixels per unit (numbers, or TIFF's pairs of them); None where absent or not believable."""
    scale = []
    for value in (x, y or x):
        try:
            per_unit = value[0] / value[1] if isinstance(value, tuple) else float(value)
            scale.append(UNIT_UM[spelled_unit(unit)] / per_unit)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None
    low, high = BELIEVABLE_MPP
    return (scale[0], scale[1]) if all(low <= mpp <= high for mpp in scale) else None


def spelled_unit(unit: str | None) -> str:
    """A unit as UNIT_UM has it; ImageJ escapes the micro sign, others write the Greek letter, or UTF-8 as Latin-1."""
    told = unicodedata.normalize("NFC", unit or "").strip()
    return told.replace("\\u00B5", "µ").replace("\u03bc", "µ").replace("Âµ", "µ").lower()


def positive_scale(x: Any, y: Any) -> Scale | None:
    """µm/px that a microscope wrote, to be believed if they are positive; x alone stands for both."""
    scale = positive(x), positive(x if y is None else y)
    return scale if all(scale) else None


def positive(value: Any) -> float | None:
    """A finite number above 0, also as text; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def greyscale(name: str) -> SlideError:
    return SlideError(f"{name} is greyscale; colour is what the model reads: give the H&E image in RGB")


@contextlib.contextmanager
def memory_told(name: str) -> Iterator[None]:
    """SlideError where memory does not suffice."""
    try:
        yield
    except MemoryError as error:
        raise SlideError(
            f"{name} takes more memory than there is for it; close other programs, or export it as a tiled, pyramidal "
            "TIFF"
        ) from error


@contextlib.contextmanager
def any_error_told(name: str) -> Iterator[None]:
    try:
        yield
    except (SlideError, MemoryError):
        raise
    except Exception as error:  # tifffile's parser and every codec have errors of their own
        raise damaged(name) from error


def on_white(image: Image.Image) -> Image.Image:
    """Any of Pillow's colour modes as RGB, what is transparent as white."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image.convert("RGB")
    page = Image.new("RGB", image.size, "white")
    page.paste(image, mask=alpha)
    return page
