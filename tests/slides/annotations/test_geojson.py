"""What `annotations` promises of files: QuPath's regions as they were drawn, or one sentence that says why not."""

import json
import math

import numpy as np
import pytest
import shapely
from shapely.geometry import MultiPolygon, Polygon, box

from nsl.errors import AnnotationsError, NslError
from nsl.slides.annotations import geojson
from nsl.slides.annotations.geojson import Annotations, geojson_text, parse_geojson
from nsl.slides.annotations.region import Region, area_within, check_on_slide, corners_text, parse_corners, rings_of

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
TUMOR = {"objectType": "annotation", "name": "a", "classification": {"name": "Tumor", "color": [200, 0, 0]}}


def feature(coordinates=(SQUARE,), properties=None, kind="Polygon", **more):
    geometry = {"type": kind, "coordinates": coordinates, **more}
    return {"type": "Feature", "id": "1", "geometry": geometry, "properties": properties or {}}


def read(told) -> Annotations:
    return parse_geojson(json.dumps(told))


@pytest.mark.parametrize(
    "told",
    [
        {"type": "FeatureCollection", "features": [feature(properties=TUMOR)]},
        [feature(properties=TUMOR)],
        feature(properties=TUMOR),
    ],
    ids=["collection", "list", "feature"],
)
def test_a_region_is_read_however_it_is_wrapped(told):
    assert read(told) == Annotations((Region("a", "Tumor", (200, 0, 0), Polygon(SQUARE)),))


def test_bare_geometries_are_regions_without_a_class():
    [first, second] = read(
        [{"type": "Polygon", "coordinates": [SQUARE]}, {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE]]}]
    ).regions
    assert (first.name, first.class_name, first.color) == ("Region 1", "", None)
    assert second.name == "Region 2"
    assert second.geometry.area == 100 - 4


@pytest.mark.parametrize(
    ("told", "name", "color"),
    [
        ({"name": "Tumor", "color": [1, 2, 3]}, "Tumor", (1, 2, 3)),
        ({"name": "Tumor", "color": [1, 2, 3, 128]}, "Tumor", (1, 2, 3)),
        ({"name": "Tumor", "colorRGB": -3670016}, "Tumor", (200, 0, 0)),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "Tumor: Positive", (1, 2, 3)),
        ({"name": "Tumor", "color": [300, 0, "x"]}, "Tumor", None),
        ("Tumor", "Tumor", None),
        ({}, "", None),
        (None, "", None),
    ],
)
def test_classes_are_read_in_every_way_qupath_writes_them(told, name, color):
    [region] = read(feature(properties={"classification": told})).regions
    assert (region.class_name, region.color) == (name, color)
    assert region.name == f"{name or 'Region'} 1"


def test_a_color_of_the_region_itself_stands_where_its_class_has_none():
    assert read(feature(properties={"color": [9, 8, 7]})).regions[0].color == (9, 8, 7)


def test_holes_a_third_coordinate_and_open_rings_are_read():
    deep = [[x, y, 5] for x, y in SQUARE[:-1]]
    [region] = read(feature([deep, HOLE])).regions
    assert region.geometry.equals(Polygon(SQUARE, [HOLE]))
    assert not region.geometry.has_z


def test_an_ellipse_fills_its_box():
    [region] = read(feature([[[0, 5], [10, 0], [20, 5], [10, 10]]], isEllipse=True)).regions
    assert region.geometry.bounds == (0, 0, 20, 10)
    assert region.geometry.area == pytest.approx(math.pi * 10 * 5, rel=1e-3)


def test_what_holds_no_area_and_what_is_no_annotation_is_left_out_and_told():
    told = [
        feature([0, 0], kind="Point"),
        feature([[0, 0], [1, 1]], kind="LineString"),
        feature(properties={"objectType": "cell"}),
        feature([[[0, 0], [5, 0], [9, 0], [0, 0]]]),
        {"type": "Feature", "geometry": None, "properties": None},
        feature(),
    ]
    found = read(told)
    assert len(found.regions) == 1
    assert set(found.notices) == {
        "3 points, lines or objects without an area were left out",
        "1 detection, cell or tile was left out",
        "1 outline of no width was left out",
    }


def test_a_polygon_that_crosses_itself_is_mended_and_told():
    found = read(feature([[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]))
    assert found.regions[0].geometry.is_valid
    assert found.regions[0].geometry.area == 50
    assert found.notices == ("1 outline crossed itself and was mended",)


def test_parts_that_overlap_unite():
    parts = [[SQUARE], [[[x + 5, y] for x, y in SQUARE]]]
    assert read(feature(parts, kind="MultiPolygon")).regions[0].geometry.area == 150


def test_annotations_inside_annotations_are_read():
    [outer, inner] = read(feature(properties={**TUMOR, "childObjects": [feature([HOLE])]})).regions
    assert outer.geometry.contains(inner.geometry)


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "are empty"),
        (" \n", "are empty"),
        ("[]", "hold no region"),
        ('{"type": "FeatureCollection", "features": []}', "hold no region"),
        ('{"type": "FeatureCollection", "features": {}}', "their features are no list"),
        ("not json", "are not GeoJSON"),
        (b"\xff\xfe\x00", "are not GeoJSON"),
        ("1", "where a feature is due"),
        ('{"type": "Topology"}', "there is a 'Topology'"),
        ('["x"]', "where a feature is due"),
        (_nested(100_000), "are not GeoJSON"),
        ("9" * 5000, "are not GeoJSON"),
        (
            '{"type":"Polygon","coordinates":[[[0,0],[NaN,1],[1,1]]]}',
            "region 1 of the annotations cannot be read: a corner is no number",
        ),
        ('{"type":"Polygon","coordinates":[[[0,0],[1e999,1],[1,1]]]}', "a corner is no number"),
        ('{"type":"Polygon","coordinates":[[[0,0],[1e300,1],[1,1]]]}', "lies beyond 10,000,000 px"),
        ('{"type":"Polygon","coordinates":[[[0,0],[1,1]]]}', "an outline has 2 corners"),
        ('{"type":"Polygon","coordinates":[[["a",0],[1,1],[1,0]]]}', "is no polygon of numbers"),
        ('{"type":"Polygon","coordinates":[[[0],[1],[1],[0]]]}', "is no polygon of numbers"),
        ('{"type":"Polygon","coordinates":[[[0,0],[1],[1,2]]]}', "is no polygon of numbers"),
        ('{"type":"Polygon","coordinates":7}', "is no polygon of numbers"),
        ('{"type":"Polygon"}', "is no polygon of numbers"),
        ('{"type":"GeometryCollection"}', "is no polygon of numbers"),
        ('{"type":"Feature","geometry":{"type":"Circle"},"properties":{}}', "it is a 'Circle', which is no area"),
        ('{"type":"Point","coordinates":[1,2]}', "hold no region (1 point, line or object"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(text, said):
    with pytest.raises(AnnotationsError) as caught:
        parse_geojson(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("MAX_BYTES", 100, "bytes, and at most 100 are read"),
        ("_MOST_LISTS", 20, "more than 20 corners"),
        ("MAX_REGIONS", 2, "more than 2 regions"),
    ],
)
def test_files_beyond_the_limits_are_refused(monkeypatch, limit, value, said):
    monkeypatch.setattr(geojson, limit, value)
    with pytest.raises(AnnotationsError, match=said):
        read([feature(), feature(), feature()])


def test_a_scribble_that_would_take_minutes_to_mend_is_refused():
    zigzag = [[x, 10_000 * (x % 2)] for x in range(400)] + [[10_000 * (y % 2), 25 * y] for y in range(400)]
    with pytest.raises(AnnotationsError, match="an outline crosses itself too often"):
        read(feature([zigzag]))


def test_a_long_scribble_is_refused_before_it_is_looked_at_whole():
    corners = np.random.default_rng(0).uniform(0, 10_000, (30_000, 2)).round(1)
    with pytest.raises(AnnotationsError, match="an outline crosses itself too often"):
        read(feature([corners.tolist()]))


def test_a_region_off_the_slide_is_refused_without_its_name():
    here, there = Region("Doe", "", None, box(900, 900, 1100, 1100)), Region("Jane", "", None, box(1000, 0, 1010, 10))
    check_on_slide([here], (1000, 1000))
    with pytest.raises(
        NslError, match=r"region 2 lies off the slide: it spans x 1,000 to 1,010 .* has 1,000 × 1,000 px"
    ) as caught:
        check_on_slide([here, there], (1000, 1000))
    assert "Jane" not in str(caught.value)


def test_regions_written_and_read_again_are_equal():
    regions = (
        Region("a", "Tumor", (200, 0, 0), Polygon(SQUARE, [HOLE])),
        Region("b", "Stroma", None, MultiPolygon([box(20.25, 0, 30, 1 / 3), box(40, 0, 50, 10)])),
        Region('say "b"', "", (1, 2, 3), box(0, 0, 1, 1)),
        Region("plain", "", None, box(0, 0, 1, 1)),
    )
    text = geojson_text(regions)
    assert parse_geojson(text) == Annotations(regions)
    assert geojson_text(parse_geojson(text).regions) == text
    written = json.loads(text)["features"]
    assert written[0]["properties"]["classification"] == {"name": "Tumor", "color": [200, 0, 0]}
    assert {one["properties"]["objectType"] for one in written} == {"annotation"}


def test_rings_are_edited_and_come_back_as_the_same_area():
    area = MultiPolygon([Polygon(SQUARE, [HOLE]), box(20, 0, 30, 10)])
    again = area_within(rings_of(Region("a", "", None, area)))
    assert again.equals(area)
    with pytest.raises(AnnotationsError, match="outline 1 has 2 corners"):
        area_within([shapely.get_coordinates(shapely.LineString([(0, 0), (1, 1)]))])


def test_corners_as_text_come_back_as_the_same_area():
    area = MultiPolygon([Polygon(SQUARE, [HOLE]), box(20, 0, 30, 10)])
    text = corners_text(Region("a", "", None, area), mpp=0.25)
    assert text.splitlines()[:2] == ["0.0000, 0.0000", "0.0025, 0.0000"]
    assert parse_corners(text, mpp=0.25).equals(area)
    assert parse_corners("0 0\n1;0\n 1, 1 \n\n\n", mpp=0.5).area == 2000 * 2000 / 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "enclose no area"),
        ("1, 1\n2, 2", "outline 1 has 2 corners"),
        ("1, 1\n2, 2\n3, 3", "enclose no area"),
        ("1, 1\n2, b", "line 2 of the corners is '2, b'; write x and y in mm"),
        ("1, 1, 1", "line 1 of the corners"),
        ("nan, 1\n1, 1\n0, 0", "a corner is no number"),
        ("1e300, 1\n1, 1\n0, 0", "lies beyond"),
    ],
)
def test_corners_that_make_no_region_are_told(text, said):
    with pytest.raises(AnnotationsError) as caught:
        parse_corners(text, mpp=0.5)
    assert said in str(caught.value)


@pytest.mark.parametrize(("file", "regions"), [("collection_3d.geojson", 10), ("qupath_bare_multipolygon.geojson", 1)])
def test_real_files_are_read(data_folder, file, regions):
    found = parse_geojson((data_folder / "exchange/geojson" / file).read_bytes())
    assert len(found.regions) == regions
    assert all(region.geometry.is_valid and region.geometry.area > 0 for region in found.regions)
    assert parse_geojson(geojson_text(found.regions)).regions == found.regions
