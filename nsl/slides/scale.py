"""µm per pixel: which of the caller's and the file's holds, and whether a microscope can have it."""

from __future__ import annotations

import math
from typing import NamedTuple

from nsl.errors import ScaleError
from nsl.slides.reader import Scale

MPP_LIMITS = (0.01, 100.0)
"""No microscope image of tissue is finer or coarser; a value outside is a slip of units."""

USUAL_CAMERA_UM = 10.0
"""µm/px times magnification, which is how large a pixel of the camera is with the lenses before it: scanners have 0.25
µm/px at 40× and 0.5 at 20×."""
# Of µm/px times magnification: what no camera of a microscope has, and what few have. Sensors have pixels of 2.4 µm and
# more; a picture that was made smaller on export still says the objective.
_IMPOSSIBLE_CAMERA_UM, _USUAL_CAMERAS_UM = 2.0, (3.0, 30.0)
# Where no objective is told: finer is oil immersion, or off by a factor of ten.
_FINEST_USUAL_MPP = 0.12
# Glass slides are 76 mm long, the largest that are scanned 203 mm.
_LONG_MM, _LONGEST_MM = 80.0, 250.0


class Image(NamedTuple):
    """What of an image its scale has to agree with."""

    name: str
    size: tuple[int, int]
    """(width, height) in pixels."""
    objective_power: float | None = None


def checked_mpp(mpp: float) -> float:
    """The µm/px as a float, or ScaleError where no microscope image can have it."""
    remedy = "give 0.25 for a 40× scan or 0.5 for 20×"
    if not (math.isfinite(mpp) and mpp > 0):
        raise ScaleError(f"µm/px must be a positive number, got {mpp:g}; {remedy}")
    low, high = MPP_LIMITS
    if not low <= mpp <= high:
        raise ScaleError(f"µm/px must lie between {low:g} and {high:g}, got {mpp:g}; {remedy}")
    return float(mpp)


def settled_scale(image: Image, given: float | None, found: Scale | None) -> tuple[float | None, tuple[str, ...]]:
    """One µm/px from the caller's and the file's, and what the user should know of the choice.

    Raises ScaleError: the file's, where none is given, is not square or none of a microscope image; or the given one
    makes the image longer than any glass slide.
    """
    if given is not None:
        require_length(image.name, image.size, given)
        return given, (*_difference(image.name, given, found), *_doubts(image, given))
    if found is None:
        return None, ()
    mean, difference = sum(found) / 2, abs(found[0] - found[1]) / min(found)
    if difference > 0.2:
        raise ScaleError(
            f"{image.name} has pixels of {found[0]:.4g} × {found[1]:.4g} µm, which are not square; "
            "export it again with square pixels, or give one µm/px if its metadata is wrong"
        )
    low, high = MPP_LIMITS
    if not low <= mean <= high:
        raise ScaleError(f"{image.name} says {mean:.4g} µm/px, which no microscope image has; give the right one")
    _require_possible(image, mean)
    notices = _doubts(image, mean)
    if difference > 0.02:
        notices = (f"{image.name} has pixels of {found[0]:.4g} × {found[1]:.4g} µm; their mean is used.", *notices)
    return mean, notices


def _difference(name: str, given: float, found: Scale | None) -> tuple[str, ...]:
    if found is None or abs(given - sum(found) / 2) <= 0.02 * sum(found) / 2:
        return ()
    return (f"{name} says {sum(found) / 2:.4g} µm/px; the {given:g} given is used.",)


def require_length(name: str, size: tuple[int, int], mpp: float) -> None:
    """ScaleError where a given µm/px makes an image of `size` pixels longer than any glass slide."""
    width_mm, height_mm = (side * mpp / 1000 for side in size)
    if max(width_mm, height_mm) > _LONGEST_MM:
        raise ScaleError(
            f"at {mpp:g} µm/px {name} would show {width_mm:,.0f} × {height_mm:,.0f} mm, more than any glass slide; "
            "check the scale, which is 0.25 for a 40× scan and 0.5 for 20×"
        )


def _require_possible(image: Image, mpp: float) -> None:
    """ScaleError where a file's µm/px contradicts what else it says of itself."""
    power, long_mm = image.objective_power, _long_mm(image, mpp)
    if power and mpp * power < _IMPOSSIBLE_CAMERA_UM:
        raise ScaleError(
            f"{image.name} says {mpp:.4g} µm/px at {power:g}×, where {USUAL_CAMERA_UM / power:.2g} is usual and no "
            "camera is so fine; give the right µm/px"
        )
    if long_mm > _LONGEST_MM:
        raise ScaleError(
            f"{image.name} says {mpp:.4g} µm/px, which makes its {max(image.size):,} px {long_mm:,.0f} mm, longer than "
            "any glass slide; give the right µm/px"
        )


def _doubts(image: Image, mpp: float) -> tuple[str, ...]:
    """A sentence for each thing about a µm/px that is possible, but more often a slip."""
    power, long_mm, doubts = image.objective_power, _long_mm(image, mpp), []
    low, high = _USUAL_CAMERAS_UM
    if power and not low <= mpp * power <= high:
        doubts.append(
            f"{image.name} is of a {power:g}× objective, for which {USUAL_CAMERA_UM / power:.2g} µm/px are usual, not "
            f"{mpp:.4g}: check the scale."
        )
    elif not power and mpp < _FINEST_USUAL_MPP:
        doubts.append(
            f"{mpp:.4g} µm/px for {image.name} are finer than slides are scanned (0.25 at 40×): check the scale."
        )
    if long_mm > _LONG_MM:
        doubts.append(
            f"{image.name} would be {long_mm:,.0f} mm long at {mpp:.4g} µm/px, and glass slides are 76: "
            "check the scale."
        )
    return tuple(doubts)


def _long_mm(image: Image, mpp: float) -> float:
    return max(image.size) * mpp / 1000
