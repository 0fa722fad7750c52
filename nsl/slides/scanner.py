"""Scanner formats, through OpenSlide."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from nsl.errors import SlideError
from nsl.slides.companions import file_named_outside, other_files
from nsl.slides.declared_sizes import require_level, require_tile
from nsl.slides.reader import Level, Reader, damaged, on_white, positive, positive_scale, resolution_scale
from nsl.slides.trial import require_openable

VENDORS = {
    "aperio": "Aperio SVS",
    "dicom": "DICOM",
    "generic-tiff": "TIFF",
    "hamamatsu": "Hamamatsu",
    "leica": "Leica SCN",
    "mirax": "3DHISTECH MIRAX",
    "philips": "Philips TIFF",
    "sakura": "Sakura SVSlide",
    "trestle": "Trestle TIFF",
    "ventana": "Ventana BIF",
    "zeiss": "Zeiss CZI",
}
# Where scanners write which one they are; Aperio gives the name of the single device.
_MODELS = ("leica.device-model", "ventana.ScannerModel", "dicom.ManufacturerModelName", "tiff.Model")
_APERIO_DEVICE = "aperio.ScanScope ID"
# Properties of a level's tiles, from OpenSlide and from MIRAX.
_TILE_SIDES = ((".tile-width", ".tile-height"), (".DIGITIZER_WIDTH", ".DIGITIZER_HEIGHT"))


class OpenSlideReader(Reader):
    """Scanner formats and tiled 8-bit RGB TIFFs."""

    def __init__(self, path: Path, vendor: str) -> None:
        import openslide

        self._path, self._vendor = path, vendor
        if outside := file_named_outside(path, vendor):
            raise SlideError(f"{path.name} names a file outside its folder, {outside}; export the slide again")
        if vendor != "generic-tiff":  # of which all that can end the process was looked at
            require_openable(path)
        self._errors = (openslide.OpenSlideError, OSError)
        with self._told():
            self._slide = openslide.OpenSlide(path)
        self.format = VENDORS.get(vendor, vendor)
        facts = self._slide.properties
        self.scanner = _scanner(facts)
        self.objective_power = positive(facts.get("openslide.objective-power"))
        self.levels = tuple(
            Level(downsample, *size)
            for downsample, size in zip(self._slide.level_downsamples, self._slide.level_dimensions, strict=True)
        )
        self._require_plausible(facts)
        if positive(facts.get("openslide.icc-size")):
            with self._told():
                self.icc_profile = self._slide.color_profile.tobytes()
        # OpenSlide makes generic TIFF tags into µm/px without asking whether they are believable.
        if vendor != "generic-tiff":
            self.scale = positive_scale(facts.get("openslide.mpp-x"), facts.get("openslide.mpp-y"))
        self.scale = self.scale or resolution_scale(
            facts.get("tiff.XResolution"), facts.get("tiff.YResolution"), facts.get("tiff.ResolutionUnit")
        )

    def _require_plausible(self, facts: Mapping[str, str]) -> None:
        """SlideError where levels, or tiles of them, are larger than any slide's: to read them may end the process."""
        for level in self.levels:
            require_level(self._path.name, level.width, level.height)
        for key in facts:
            for width, height in _TILE_SIDES:
                if key.endswith(width):
                    sides = (_leading_number(facts.get(key.removesuffix(width) + side, "")) for side in (width, height))
                    require_tile(self._path.name, *sides)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            # OpenSlide's reasons can hold the folder, which can name a patient.
            reason = str(error).replace(str(self._path), self._path.name)
            reason = reason.replace(f"{self._path.parent}{os.sep}", "")
            raise damaged(self._path.name, f": {reason}") from error

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        # OpenSlide takes places in whole pixels of level 0. Where a level is not a whole number of times as coarse,
        # these lie between the level's pixels, and what comes is resampled, by at most half a pixel of level 0: only
        # tiles that are decoded without OpenSlide (`nsl.slides.stored_tiles`) are as the file has them.
        downsample = self.levels[level].downsample
        with self._told():
            region = self._slide.read_region((round(x * downsample), round(y * downsample)), level, (width, height))
        return np.asarray(on_white(region))

    def other_files(self) -> list[tuple[str, Path]]:
        return other_files(self._path, self._vendor)

    def close(self) -> None:
        self._slide.close()


def _scanner(facts: Mapping[str, str]) -> str | None:
    """Make and model in one line; None where the file says neither."""
    told = [facts.get("dicom.Manufacturer") or facts.get("tiff.Make")]
    told.append(next((facts[key] for key in _MODELS if facts.get(key)), None))
    if facts.get(_APERIO_DEVICE):
        told = ["ScanScope", facts[_APERIO_DEVICE]]
    return " ".join(" ".join(part.split()) for part in told if part)[:80] or None


def _leading_number(text: str) -> int:
    """As GLib reads it, which lets words follow."""
    found = re.match(r"\s*\+?(\d+)", text)
    return int(found[1]) if found else 0
