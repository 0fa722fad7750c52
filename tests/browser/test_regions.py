"""Annotated regions in Chromium: a QuPath file taken in, tabulated, written down, outlined, and taken home equal."""

import json
import re

import pandas as pd
import pytest
from playwright.sync_api import expect
from shapely.geometry import Polygon, box

from nsl.slides.annotations.geojson import geojson_text, parse_geojson
from nsl.slides.annotations.region import Region
from tests.browser.driver import UPLOAD, button, download, drag, go_to, middle_tile, on_map, see_charts, settle

HOLE = box(600, 600, 1100, 1100).exterior
REGIONS = (
    Region("Invasive front", "Tumor", (200, 0, 0), Polygon(box(300, 300, 1500, 2000).exterior, [HOLE])),
    Region("Right of it", "Stroma", (0, 150, 0), box(1500.25, 300, 2400, 2400)),
)


def test_a_file_of_two_classes_with_a_hole_is_tabulated_and_comes_back_equal(visit, tmp_path):
    page, file = visit("/compare", "demo"), tmp_path / "annotations.geojson"
    file.write_text(geojson_text(REGIONS), encoding="utf-8")
    page.get_by_role("radio", name="Regions").click()
    expect(page.get_by_text("Bring what was annotated on this slide")).to_be_visible()
    page.set_input_files(UPLOAD, file)
    expect(page.get_by_role("heading", name="Stroma against all other tiles")).to_be_visible()
    see_charts(page)

    home = download(page, button(page, "Regions (GeoJSON)"), tmp_path)
    assert parse_geojson(home.read_bytes()).regions == REGIONS

    compared = pd.read_csv(download(page, button(page, "Each against the rest (CSV)"), tmp_path))
    assert set(compared["class"]) == {"Tumor", "Stroma"}
    assert {"tiles_inside", "mean_inside", "mean_outside", "effect_low", "effect_high", "q_value"} <= set(compared)
    shown = pd.read_csv(download(page, button(page, "Download the comparison (CSV)"), tmp_path), index_col="gene")
    again = compared[compared["class"] == "Stroma"].set_index("gene")
    pd.testing.assert_series_equal(shown.effect_size, again.effect_size[shown.index])
    report = download(page, button(page, "Report (HTML)"), tmp_path).read_text(encoding="utf-8")
    assert "Annotated regions against all other tiles" in report
    assert "rgb(200, 0, 0)" in report
    assert {"Tumor", "Stroma"} == set(re.findall(r"(\w+)</span></th>", report))
    assert "Invasive" not in page.url
    assert "Tumor" not in page.url

    go_to(page, "Maps")
    see_charts(page)
    expect(page.get_by_text("2 regions are kept")).to_be_visible()
    names = page.evaluate("document.querySelector('.nsl-chart')._fullData.map((trace) => trace.name)")
    assert names.count("regions") == 4  # two colours, each on a pale line
    page.get_by_text("Other formats").click()
    tiles = json.loads(download(page, button(page, "QuPath (GeoJSON)"), tmp_path).read_text())["features"]
    assert {tile["properties"].get("classification") for tile in tiles} == {"Tumor", "Stroma", None}


def test_a_drawn_region_is_kept_under_its_name_and_one_is_written_down(visit, tmp_path):
    page = visit("/maps", "demo")
    see_charts(page)
    x, y = middle_tile(page)
    drag(page, "Draw a box", [on_map(page, x - 0.3, y - 0.3), on_map(page, x + 0.3, y + 0.3)])
    expect(page.get_by_text("tiles inside")).to_be_visible()
    page.get_by_role("textbox", name="Name", exact=True).fill("Drawn")
    page.get_by_role("textbox", name="Class", exact=True).fill("Tumor")
    button(page, "Keep it").click()
    expect(page.get_by_text("1 region is kept")).to_be_visible()
    settle(page)

    page.get_by_role("link", name="Compare it").click()
    settle(page)
    # And again, when it was shown before and another kind of comparison since.
    page.get_by_role("radio", name="Side by side").click()
    settle(page)
    go_to(page, "Maps")
    page.get_by_role("link", name="Compare it").click()
    settle(page)
    page.get_by_text("Edit or add a region").click()
    page.get_by_role("textbox", name="Name", exact=True).fill("Written")
    page.get_by_role("textbox", name="Corners, in mm").fill("0.5, 0.5\n1.5, 0.5\n1.5, 1.2\n0.5, 1.2")
    button(page, "Add it").click()
    expect(page.get_by_role("radio", name="Single regions")).to_be_visible()
    settle(page)
    kept = parse_geojson(download(page, button(page, "Regions (GeoJSON)"), tmp_path).read_bytes()).regions
    assert [(one.name, one.class_name) for one in kept] == [("Drawn", "Tumor"), ("Written", "")]
    assert kept[0].geometry.area == pytest.approx(600 * 600, rel=0.05)
    assert kept[1].geometry.equals(box(500, 500, 1500, 1200))
