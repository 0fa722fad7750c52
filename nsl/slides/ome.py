"""What the OME-XML of a TIFF says of one of its images, and what channels are called that are no colours.

After the OME schema of June 2016, https://www.openmicroscopy.org/Schemas/Documentation/Generated/OME-2016-06/ome.html.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from nsl.errors import SlideError
from nsl.slides.reader import UNIT_UM, Scale, positive, positive_scale, spelled_unit

# Dyes and proteins of fluorescence, as people name channels after them.
_FLUORESCENT = re.compile(
    r"dapi|hoechst|draq|sytox|sybr|propidium|fitc|tritc|rhodamine|texas.?red|cy ?-?\d|alexa|\baf ?-?\d{3}|atto ?-?\d|"
    r"opal ?\d|\be?[gycrb]fp\b|mcherry|tdtomato|autofluo|fluoresc",
    re.IGNORECASE,
)

_COLOUR_NAMES = {name: name[0] for name in ("r", "g", "b", "red", "green", "blue")}
_SHOWN_IN = {0xFF0000: "r", 0x00FF00: "g", 0x0000FF: "b"}


@dataclass(frozen=True)
class OmeImage:
    """Facts of one image, each None where the XML lacks it."""

    scale: Scale | None = None
    scanner: str | None = None
    objective_power: float | None = None
    significant_bits: int | None = None
    channels: tuple[str, ...] = ()
    """Names of the channels, empty where one has none."""
    colours: tuple[str, ...] = ()
    """Of each channel "r", "g" or "b", by its name or the colour that it is shown in; empty where neither tells."""
    is_fluorescence: bool = False
    """Whether a channel says that it was taken in fluorescence, or is called after one of its dyes."""


def ome_image(xml: str | None, number: int, size: tuple[int, int]) -> OmeImage:
    """Facts of the image of this number, from 0, and (width, height) in pixels.

    Images without pixels in this file are listed too, so where the number leads to another size, the only image of
    this one is meant.
    """
    try:
        root = ElementTree.fromstring(xml or "")
    except ElementTree.ParseError:
        return OmeImage()
    images = [(image, pixels) for image in root.findall("{*}Image") if (pixels := image.find("{*}Pixels")) is not None]
    same = [at for at, (_, pixels) in enumerate(images) if _size(pixels) == size]
    at = number if number in same else same[0] if len(same) == 1 else None
    if at is None:
        return OmeImage()
    image, pixels = images[at]
    scanner, objective_power = _instrument(root, image)
    bits = positive(pixels.get("SignificantBits"))
    channels = pixels.findall("{*}Channel")
    return OmeImage(
        _scale(pixels),
        scanner,
        objective_power,
        None if bits is None else int(bits),
        channels=tuple((channel.get("Name") or "").strip() for channel in channels),
        colours=tuple(map(_colour, channels)),
        is_fluorescence=any(map(_is_fluorescent, channels)),
    )


def colour_of(name: str, shown: int) -> str:
    """One of r, g and b for a channel, by its name or the colour 0xRRGGBB that it is shown in; else nothing."""
    return _COLOUR_NAMES.get(name.strip().lower()) or _SHOWN_IN.get(shown, "")


def is_dye(name: str) -> bool:
    """Whether a channel is called after a dye or a protein of fluorescence."""
    return _FLUORESCENT.search(name) is not None


def colour_order(colours: Sequence[str]) -> list[int]:
    """Which of three channels are red, green and blue, by what `colour_of` says of them, else as they stand."""
    return [list(colours).index(one) for one in "rgb"] if sorted(colours) == ["b", "g", "r"] else [0, 1, 2]


def no_colours(image: str, channels: Sequence[str]) -> SlideError:
    """What to say of an image whose channels, by their names, are of fluorescence."""
    names = ", ".join(name for name in channels if name) or "as its metadata says"
    return SlideError(
        f"{image} holds channels of fluorescence ({names}); the model reads the colour of H&E: give a bright-field "
        "image in RGB"
    )


def _colour(channel: ElementTree.Element) -> str:
    shown = channel.get("Color") or ""
    shown = int(shown) & 0xFFFFFFFF if re.fullmatch(r"-?\d{1,10}", shown) else 0
    return colour_of(channel.get("Name") or "", shown >> 8)


def _is_fluorescent(channel: ElementTree.Element) -> bool:
    told = (
        channel.get("Fluor")
        or channel.get("EmissionWavelength")
        or channel.get("IlluminationType") == "Epifluorescence"
    )
    return bool(told) or is_dye(channel.get("Name") or "")


def _size(pixels: ElementTree.Element) -> tuple[int, int]:
    return tuple(int(positive(pixels.get(f"Size{axis}")) or 0) for axis in "XY")


def _scale(pixels: ElementTree.Element) -> Scale | None:
    """PhysicalSizeX and Y in µm; None where absent or in no unit of length."""
    try:
        sizes = [
            float(size) * UNIT_UM[spelled_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))]
            for axis in "XY"
            if (size := pixels.get(f"PhysicalSize{axis}"))
        ]
        return positive_scale(sizes[0], sizes[-1])
    except (KeyError, ValueError, IndexError):
        return None


def _instrument(root: ElementTree.Element, image: ElementTree.Element) -> tuple[str | None, float | None]:
    """Make and model of the microscope, and the magnification of the objective that an image was taken with."""
    instruments, named = root.findall("{*}Instrument"), image.find("{*}InstrumentRef")
    if named is not None:
        instruments = [one for one in instruments if one.get("ID") == named.get("ID")]
    if len(instruments) != 1:
        return None, None
    microscope, objectives = instruments[0].find("{*}Microscope"), instruments[0].findall("{*}Objective")
    used = image.find("{*}ObjectiveSettings")
    if used is not None:
        objectives = [one for one in objectives if one.get("ID") == used.get("ID")]
    power = positive(objectives[0].get("NominalMagnification")) if len(objectives) == 1 else None
    told = [] if microscope is None else [microscope.get("Manufacturer"), microscope.get("Model")]
    return " ".join(" ".join(part.split()) for part in told if part)[:80] or None, power
