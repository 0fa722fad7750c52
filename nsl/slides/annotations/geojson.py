"""Regions from QuPath's GeoJSON, and back.

What QuPath 0.4 and newer writes is read, and the older ways it still reads: a collection or a list of features, one
feature, or geometries alone, in level-0 pixels. QuPath crops slides with empty surroundings (MIRAX, Leica SCN) to what
was scanned; there regions are off by the crop. Schema: QuPathTypeAdapters.java, ROITypeAdapters.java and GsonTools.java
of QuPath, and https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from nsl.errors import AnnotationsError
from nsl.slides.annotations.region import LONGEST_NAME, Color, Region, area_of, plain_name

MAX_BYTES = 50_000_000
MAX_REGIONS = 2_000
# Every corner is a list of its own: a million of them are more than 20 MB of text.
_MOST_LISTS = 1_500_000
_AREAS = ("Polygon", "MultiPolygon", "GeometryCollection")
_NO_AREAS = ("Point", "MultiPoint", "LineString", "MultiLineString")
# Objects that QuPath itself makes by the thousand; what a pathologist draws is an annotation.
_DETECTIONS = ("detection", "cell", "tile", "PathDetectionObject", "PathCellObject", "PathTileObject")
_ELLIPSE_CORNERS = 128


@dataclass(frozen=True)
class Annotations:
    """What a file of regions holds."""

    regions: tuple[Region, ...]
    notices: tuple[str, ...] = ()
    """Sentences on what was left out or mended."""


def read_geojson(path: Path) -> Annotations:
    """`parse_geojson` of a file; AnnotationsError also where it cannot be read."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise AnnotationsError(f"{path.name} has {size:,} bytes; a file of regions has at most {MAX_BYTES:,}")
        return parse_geojson(path.read_bytes())
    except OSError as error:
        raise AnnotationsError(
            f"{path.name} cannot be read ({error.strerror or error}); give annotations as GeoJSON"
        ) from None


def parse_geojson(text: str | bytes) -> Annotations:
    """Regions from the text of a GeoJSON file.

    A polygon that crosses itself is mended, a ring that is not closed is closed, and a third coordinate is dropped.
    Points and lines hold no area, and detections, cells and tiles are no annotations: these are left out. A region
    without a name is named after its class and its place in the file, as in "Tumor 3".

    Raises AnnotationsError: the text is empty, too large or no GeoJSON, a coordinate is no number, or no region is in
    it. What is said of a region names it by its place in the file.
    """
    regions, left_out, mended = [], Counter(), 0
    for number, feature in enumerate(_features(_loaded(text)), start=1):
        properties = _mapping(feature.get("properties"))
        geometry = feature.get("geometry")
        kind = _objects_type(feature, properties)
        if kind in _DETECTIONS:
            left_out["detection, cell or tile was", "detections, cells or tiles were"] += 1
        elif geometry is None or _mapping(geometry).get("type") in _NO_AREAS:
            left_out["point, line or object without an area was", "points, lines or objects without an area were"] += 1
        else:
            area, was_valid = _area(geometry, number)
            if area is None:
                left_out["outline of no width was", "outlines of no width were"] += 1
                continue
            mended += not was_valid
            regions.append(_region(properties, area, len(regions) + 1))
            if len(regions) > MAX_REGIONS:
                raise AnnotationsError(f"there are more than {MAX_REGIONS:,} regions; merge those of one class")
    notices = [f"{count:,} {one if count == 1 else many} left out" for (one, many), count in left_out.items()]
    if not regions:
        why = f" ({'; '.join(notices)})" if notices else ""
        raise AnnotationsError(f"the annotations hold no region{why}; export areas such as polygons as GeoJSON")
    if mended:
        notices.append(
            f"{mended:,} outline{' crossed itself and was' if mended == 1 else 's crossed themselves and were'} mended"
        )
    return Annotations(tuple(regions), tuple(notices))


def _loaded(text: str | bytes) -> Any:
    size = len(text)
    if size > MAX_BYTES:
        raise AnnotationsError(
            f"the annotations have {size:,} bytes, and at most {MAX_BYTES:,} are read; simplify them"
        )
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        if not text.strip():
            raise AnnotationsError("the annotations are empty; export them from QuPath as GeoJSON")
        if text.count("[") + text.count("{") > _MOST_LISTS:
            raise AnnotationsError(f"the annotations have more than {_MOST_LISTS:,} corners; simplify them")
        return json.loads(text)
    except (ValueError, RecursionError):  # a text that is no UTF-8, no JSON, or is nested without end
        raise AnnotationsError("the annotations are not GeoJSON; export them from QuPath as GeoJSON") from None


def _features(told: Any) -> Iterator[Mapping]:
    """Features in the order of the file, each before those that QuPath keeps inside it."""
    waiting = [told]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += reversed(one)
            continue
        kind = one.get("type") if isinstance(one, dict) else None
        if kind == "FeatureCollection":
            waiting.append(_listed(one.get("features")))
        elif kind == "Feature":
            yield one
            properties = _mapping(one.get("properties"))
            waiting += reversed(_listed(properties.get("childObjects") or properties.get("children") or []))
        elif kind in (*_AREAS, *_NO_AREAS):
            yield {"geometry": one}
        else:
            raise AnnotationsError(
                "the annotations are not GeoJSON: where a feature is due there is "
                f"{f'a {str(kind)[:20]!r}' if kind else 'something else'}; export them from QuPath as GeoJSON"
            )


def _mapping(value: Any) -> Mapping:
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list:
    if not isinstance(value, list):
        raise AnnotationsError("the annotations are not GeoJSON: their features are no list; export them from QuPath")
    return value


def _objects_type(feature: Mapping, properties: Mapping) -> Any:
    """What QuPath calls the object; before 0.3 that was its id."""
    kind = properties.get("objectType") or properties.get("object_type") or feature.get("id")
    return kind if isinstance(kind, str) else None


def _area(geometry: Any, number: int) -> tuple[Polygon | MultiPolygon | None, bool]:
    """The area of a geometry, and whether it needed no mending."""
    try:
        polygons = MultiPolygon(list(_polygons(geometry)))
        if _mapping(geometry).get("isEllipse") is True:
            return _ellipse(*polygons.bounds), True
        # Parts of a collection may overlap, and holes may touch: that is no slip of whoever drew them.
        return area_of(polygons), all(shapely.is_valid(part) for part in polygons.geoms)
    except AnnotationsError as error:
        raise AnnotationsError(f"region {number} of the annotations cannot be read: {error}") from None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, shapely.errors.ShapelyError):
        raise AnnotationsError(
            f"region {number} of the annotations is no polygon of numbers; export it from QuPath as GeoJSON"
        ) from None


def _polygons(geometry: Any) -> Iterator[Polygon]:
    kind = geometry["type"] if isinstance(geometry, dict) else None
    if kind == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _polygons(part)
    elif kind == "MultiPolygon":
        yield from map(_polygon, geometry["coordinates"])
    elif kind == "Polygon":
        yield _polygon(geometry["coordinates"])
    elif kind not in _NO_AREAS:
        raise AnnotationsError(f"it is a {str(kind)[:20]!r}, which is no area; export polygons")


def _polygon(rings: list) -> Polygon:
    """A polygon of rings of [x, y] or [x, y, z]; shapely closes them."""
    flat = [_ring(ring) for ring in rings]
    return Polygon(flat[0], flat[1:]) if flat else Polygon()


def _ring(ring: list) -> np.ndarray:
    corners = np.array([(x, y) for x, y, *_ in ring], float).reshape(-1, 2)
    if not np.isfinite(corners).all():
        raise AnnotationsError("a corner is no number; export it from QuPath again")
    if len(corners) < 3:
        raise AnnotationsError(f"an outline has {len(corners)} corners, and three are needed; draw it again")
    return corners


def _ellipse(x0: float, y0: float, x1: float, y1: float) -> Polygon | None:
    """The ellipse in a box: QuPath writes its ellipses as coarser polygons, and reads their bounds alone."""
    turn = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    middle, half = np.array([x0 + x1, y0 + y1]) / 2, np.array([x1 - x0, y1 - y0]) / 2
    return area_of(Polygon((middle + half * np.stack([np.cos(turn), np.sin(turn)], axis=1)).round(2)))


def _region(properties: Mapping, area: Polygon | MultiPolygon, number: int) -> Region:
    told = properties.get("classification")
    classified = _mapping(told)
    names = classified.get("names")  # of a class within a class
    class_name = ": ".join(map(_name, names)) if isinstance(names, list) else _name(classified.get("name") or told)
    class_name = class_name[:LONGEST_NAME]
    colors = (classified.get("color"), classified.get("colorRGB"), properties.get("color"), properties.get("colorRGB"))
    color = next((known for known in map(_color, colors) if known), None)
    return Region(_name(properties.get("name")) or f"{class_name or 'Region'} {number}", class_name, color, area)


def _name(value: Any) -> str:
    return plain_name(value) if isinstance(value, str) else ""


def _color(value: Any) -> Color | None:
    """Of [r, g, b], with or without opacity, or of one signed number, 0xAARRGGBB."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value >> 16) & 255, (value >> 8) & 255, value & 255
    if isinstance(value, list) and len(value) in (3, 4) and all(type(v) is int and 0 <= v <= 255 for v in value):
        return tuple(value[:3])
    return None


def geojson_text(regions: Sequence[Region]) -> str:
    """Regions as GeoJSON that QuPath 0.4 or newer reads as annotations, and `parse_geojson` as equal regions.

    Ids are made of the region: the same region has the same id in every export.
    """
    listed = ",\n".join(json.dumps(_feature(region, number)) for number, region in enumerate(regions))
    return f'{{"type":"FeatureCollection","features":[\n{listed}\n]}}\n'


def _feature(region: Region, number: int) -> dict:
    properties: dict[str, Any] = {"objectType": "annotation", "name": region.name}
    if region.class_name:
        properties["classification"] = classification(region.class_name, region.color)
    elif region.color:
        properties["color"] = list(region.color)
    geometry = shapely.geometry.mapping(region.geometry)
    key = f"nsl:region/{number}/{region.name}/{region.geometry.wkt}"
    return {"type": "Feature", "id": str(uuid5(NAMESPACE_URL, key)), "geometry": geometry, "properties": properties}


def classification(class_name: str, color: Color | None) -> dict | str:
    """A class as QuPath reads it: it takes an object only with a colour, and a name alone as text."""
    return {"name": class_name, "color": list(color)} if color else class_name
