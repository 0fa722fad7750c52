"""An annotated region: a name, a class, a colour and an area of the slide."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from nsl.errors import AnnotationsError

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

LONGEST_NAME = 120
# No slide is as wide: what lies farther is no pixel of one.
_FARTHEST_PX = 10_000_000
# Of a polygon that crosses itself. Mending takes a second for ten thousand crossings and minutes for a million.
_MOST_CROSSINGS = 10_000
_MOST_MENDED_CORNERS = 200_000
# Of a pixel, as QuPath writes its corners.
_DECIMALS_PX = 2
# Segments met at once by a few of them: bounds memory.
_PAIRS = 2_000_000
# Of a long outline so many segments are looked at first. Each meets itself and both neighbours, few more where traced
# pixels touch; GEOS takes minutes over one that meets thousands.
_LONG, _LOOKED_AT, _MOST_MET = 20_000, 100, 30
_TANGLED = "an outline crosses itself too often to be mended; simplify it or draw it again"


@dataclass(frozen=True)
class Region:
    """An area of a slide as a pathologist drew it."""

    name: str
    class_name: str
    """What it is of, such as "Tumor"; empty where it is not classified."""
    color: Color | None
    geometry: Polygon | MultiPolygon
    """Valid and of two dimensions, in level-0 pixels from the slide's top left."""


def plain_name(text: str) -> str:
    """A name in one line of at most 120 letters, without what cannot be printed."""
    return "".join(c if c.isprintable() else " " for c in text[:LONGEST_NAME]).strip()


def area_of(geometry: shapely.Geometry) -> Polygon | MultiPolygon | None:
    """The area of polygons, flat and mended: rings that cross themselves are taken apart, parts that overlap unite.

    Returns None where there is no area: of points, lines, and polygons of no width.

    Raises AnnotationsError: a corner is no number or lies farther than any slide reaches, or the outline crosses itself
        too often to be mended.
    """
    geometry = shapely.force_2d(geometry)
    corners = shapely.get_coordinates(geometry)
    if not (np.abs(corners) <= _FARTHEST_PX).all():
        raise AnnotationsError(
            f"a corner is no number, or lies beyond {_FARTHEST_PX:,} px; give pixels of full resolution"
        )
    if len(corners) > _LONG:
        _check_some_crossings(geometry)
    if not shapely.is_valid(geometry):
        _check_crossings(geometry, len(corners))
        geometry = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon" and part.area > 0]
    return None if not parts else parts[0] if len(parts) == 1 else MultiPolygon(parts)


def _check_some_crossings(geometry: shapely.Geometry) -> None:
    """Refuse a long outline that crosses itself wherever it is looked at."""
    segments = _segments(geometry)
    some = segments[:: max(len(segments) // _LOOKED_AT, 1)]
    _check_meetings(segments, some, 1, _MOST_MET * len(some))


def _check_crossings(geometry: shapely.Geometry, corners: int) -> None:
    """Refuse what would take minutes and gigabytes to mend."""
    if corners > _MOST_MENDED_CORNERS:
        raise AnnotationsError(_TANGLED)
    segments = _segments(geometry)
    # Each meets itself and both neighbours, and two that cross are found twice.
    most = 3 * len(segments) + 2 * _MOST_CROSSINGS
    _check_meetings(segments, segments, max(_PAIRS // len(segments), 1), most)


def _segments(geometry: shapely.Geometry) -> np.ndarray:
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(shapely.get_parts(geometry))]
    return shapely.linestrings(np.concatenate([np.stack([ring[:-1], ring[1:]], axis=1) for ring in rings]))


def _check_meetings(segments: np.ndarray, some: np.ndarray, at_once: int, most: int) -> None:
    """Refuse where some of the segments meet more than `most`; the count ends there."""
    tree, met = shapely.STRtree(segments), 0
    for start in range(0, len(some), at_once):
        met += tree.query(some[start : start + at_once], predicate="intersects").shape[1]
        if met > most:
            raise AnnotationsError(_TANGLED)


def rings_of(region: Region) -> list[np.ndarray]:
    """The outlines of its parts and of its holes, each (N, 2) level-0 pixels and closed."""
    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(shapely.get_parts(region.geometry))]


def area_within(rings: Sequence[np.ndarray]) -> Polygon | MultiPolygon | None:
    """The area of rings (N, 2) of which one that lies in another is a hole; None where they hold none.

    Raises AnnotationsError: see `area_of`, or a ring has fewer than three corners.
    """
    if not all(np.isfinite(ring).all() for ring in rings):
        raise AnnotationsError("a corner is no number; write it as in 1.25")
    for number, ring in enumerate(rings, start=1):
        if len(ring) < 3:
            raise AnnotationsError(f"outline {number} has {len(ring)} corners, and needs three or more")
    areas = [area for ring in rings if (area := area_of(Polygon(ring)))]
    return area_of(functools.reduce(shapely.symmetric_difference, areas)) if areas else None


def check_on_slide(regions: Sequence[Region], size: tuple[int, int]) -> None:
    """Raise AnnotationsError where a region lies wholly off a slide of `size` (width, height) level-0 pixels."""
    for number, region in enumerate(regions, start=1):
        x0, y0, x1, y1 = region.geometry.bounds
        if x0 >= size[0] or y0 >= size[1] or x1 <= 0 or y1 <= 0:
            raise AnnotationsError(
                f"region {number} lies off the slide: it spans x {x0:,.0f} to {x1:,.0f} and y {y0:,.0f} to {y1:,.0f} "
                f"px, and the slide has {size[0]:,} × {size[1]:,} px; bring annotations of this slide, in pixels of "
                "its full resolution"
            )


def corners_text(region: Region, mpp: float) -> str:
    """The corners of a region in mm from the slide's top left: "x, y" a line, an empty line between outlines."""
    outlines = [ring[:-1] * mpp / 1000 for ring in rings_of(region)]
    return "\n\n".join("\n".join(f"{x:.4f}, {y:.4f}" for x, y in outline) for outline in outlines)


def parse_corners(text: str, mpp: float) -> Polygon | MultiPolygon:
    """The area of corners as `corners_text` writes them; an outline that lies in another is a hole.

    Raises AnnotationsError: a line is not two numbers, an outline has fewer than three corners, or there is no area.
    """
    outlines: list[list[list[float]]] = [[]]
    for number, line in enumerate(text.strip().splitlines(), start=1):
        if not line.strip():
            outlines.append([])
            continue
        try:
            x, y = (float(part) for part in line.replace(",", " ").replace(";", " ").split())
        except ValueError:
            raise AnnotationsError(
                f"line {number} of the corners is {line.strip()[:40]!r}; write x and y in mm, as in 1.25, 0.80"
            ) from None
        outlines[-1].append([x, y])
    corners = [np.array(outline) * 1000 / mpp for outline in outlines if outline]
    area = area_within([ring.round(_DECIMALS_PX) for ring in corners])
    if area is None:
        raise AnnotationsError("the corners enclose no area; give three or more that do not lie on a line")
    return area
