"""What a slide shows before anything is predicted on it: its picture, and what its file says of itself."""

from __future__ import annotations

import io
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nsl.errors import SlideError
from nsl.slides import trial
from nsl.slides.companions import other_files
from nsl.slides.slide import Slide, open_slide
from nsl.system.confinement import Budget, OverBudgetError, confined

# Looked at of a pyramid's finest level, of which the picture shows nothing.
_REGION_PX = 512
_PLACES = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Overview:
    """As `nsl.slides.slide.Slide` has it."""

    size: tuple[int, int]
    levels: tuple[float, ...]
    format: str
    scanner: str | None
    objective_power: float | None
    mpp: float | None
    """None too where what the file says is impossible; a notice then says so."""
    foreign_profile: str | None
    """What the file's colour profile calls itself, where it is not of sRGB."""
    is_turned: bool
    notices: tuple[str, ...]
    thumbnail: np.ndarray
    seconds: float
    """What opening the slide and reading its picture took."""


def overview_of(path: Path, most_pixels: int | None = None) -> Overview:
    """Look at a slide that nobody vouches for, in a process of its own with limits (`nsl.system.confinement`).

    most_pixels : of level 0; a slide of more is refused before any is decoded.

    Raises SlideError: the slide cannot be opened or read, is too large, or takes more time and memory than reading a
        file of its size can take.
    """
    try:
        return confined(_unhindered, path, most_pixels, budget=Budget.for_bytes(_size_bytes(path)))
    except OverBudgetError as error:
        raise SlideError(
            f"{path.name} cannot be opened safely: {error}; export it again as a tiled, pyramidal TIFF"
        ) from None


def rehearse() -> None:
    """Load and compile what reading takes, without a thread, which no fork would inherit."""
    import imagecodecs  # noqa: F401
    import openslide  # noqa: F401
    import simplejpeg  # noqa: F401
    import tifffile  # noqa: F401

    from nsl.slides.jpeg_scan import is_whole_jpeg
    from nsl.slides.resampling import average_rows
    from nsl.system.parallel import read_only

    Image.init()  # of all formats
    with io.BytesIO() as file:
        Image.new("RGB", (16, 16)).save(file, "JPEG")
        is_whole_jpeg(file.getvalue(), b"", 16, 16)
    lines, edges = read_only(np.zeros((2, 6), np.uint8)), np.array([0.0])
    average_rows(0, 1, lines, edges, edges + 2, edges, edges + 2, np.empty((1, 3), np.uint8))


def _size_bytes(path: Path) -> int:
    """Of a slide's file and of those that belong to it, as far as names tell."""
    data = path.with_suffix("")
    parts = [path, *(data.iterdir() if path.suffix.lower() == ".mrxs" and data.is_dir() else ())]
    if path.suffix.lower() in (".vms", ".dcm"):
        parts += [part for _, part in other_files(path, {".vms": "hamamatsu", ".dcm": "dicom"}[path.suffix.lower()])]
    try:
        return sum(part.stat().st_size for part in parts if part.is_file())
    except OSError as error:
        raise SlideError(f"{path.name} cannot be read ({error.strerror or error}); check its permissions") from error


def _unhindered(path: Path, most_pixels: int | None) -> Overview:
    trial.confine()
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the notices say the same
        with open_slide(path, most_pixels=most_pixels, may_lack_scale=True) as slide:
            thumbnail = slide.thumbnail()
            seconds = time.perf_counter() - start
            _look_closer(slide)
            return Overview(
                slide.size,
                slide.levels,
                slide.format,
                slide.scanner,
                slide.objective_power,
                slide.mpp,
                slide.foreign_profile,
                slide.is_turned,
                slide.notices,
                thumbnail,
                seconds,
            )


def _look_closer(slide: Slide) -> None:
    """Read a little of level 0 where the picture is of another; pictures that are decoded whole have been."""
    if len(slide.levels) == 1 or slide.format == "JPEG":
        return
    width, height = (min(_REGION_PX, side) for side in slide.size)
    for place in _PLACES:
        slide.read(place * (slide.size[0] - width), place * (slide.size[1] - height), width, height)
