"""Regions on the pages: brought from QuPath, written down, drawn and kept; compared by class, and taken home equal."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from shapely.geometry import Polygon, box

from nsl.slides.annotations.geojson import geojson_text, parse_geojson
from nsl.slides.annotations.region import Region
from nsl.stats.regions import compare_region
from nsl.web.compare.gene_comparison import BLEND, DIFFERENCE, REGIONS, SIDE_BY_SIDE
from nsl.web.regions import SlideRegions, keep, kept
from tests.app_driver import chart, charts, click, finish, predict_demo, said, slide, told_of_pictures

COMPARE, MAPS = "pages/compare.py", "pages/maps.py"
TUMOR = Region(
    "Doe", "Tumor", (200, 0, 0), Polygon(box(300, 300, 1500, 2000).exterior, [box(600, 600, 1100, 1100).exterior])
)
STROMA = Region("Jane", "Stroma", (0, 150, 0), box(1500, 300, 2400, 2400))


@pytest.fixture
def page(app):
    """Compare's regions with the demo slide predicted."""
    predict_demo(app)
    app.session_state["compare_mode"] = REGIONS
    return app.switch_page(COMPARE).run()


def bring(app, text: str, name: str = "annotations.geojson"):
    app.main.get("file_uploader")[0].upload(name, text.encode())
    return app.run()


def table(app) -> pd.DataFrame:
    return next(element.value for element in app.dataframe if "effect_size" in element.value)


def test_regions_of_one_name_have_each_their_own_number_of_tiles(page):
    second = replace(STROMA, name=TUMOR.name)
    bring(page, geojson_text([TUMOR, second]))
    listed = next(element.value for element in page.dataframe if "Tiles" in element.value)
    classes = slide(page).result.obs.region_class
    assert listed.Tiles.tolist() == [(classes == "Tumor").sum(), (classes == "Stroma").sum()]
    slide(page).erase(list(classes.index[classes == "Stroma"][:3]))
    page.run()
    left = next(element.value for element in page.dataframe if "Tiles" in element.value)
    assert left.Tiles.tolist() == [(classes == "Tumor").sum(), (classes == "Stroma").sum() - 3]


def test_regions_are_outlined_on_the_slide_before_a_run(page):
    seen = []
    for regions in ([TUMOR, STROMA], [TUMOR, replace(STROMA, geometry=box(1600, 400, 2300, 2300))], []):
        keep(slide(page), regions)
        predict = page.switch_page("pages/predict.py").run()
        assert not predict.exception
        told = ", and 2 annotated regions" if regions else ""
        assert told_of_pictures(predict)[0].endswith(f"tissue tiles outlined{told}")
        seen.append(predict.get("image")[0].proto.imgs[0].url)
    assert len(set(seen)) == 3


def test_without_regions_the_ways_to_some_are_shown(page):
    assert not page.exception
    assert "Bring what was annotated on this slide in QuPath" in said(page)
    assert charts(page) == 0


def test_a_file_of_two_classes_is_listed_compared_and_drawn(page):
    bring(page, geojson_text([TUMOR, STROMA]))
    assert not page.exception
    assert not page.error
    listed = next(element.value for element in page.dataframe if "Tiles" in element.value)
    assert listed.Region.tolist() == ["Doe", "Jane"]
    assert listed["mm²"].tolist() == pytest.approx([1.2 * 1.7 - 0.25, 0.9 * 2.1])
    result = slide(page).result
    inside = (result.obs.region_class == "Stroma").to_numpy()
    assert listed.Tiles[1] == inside.sum() > 10
    shown = table(page)
    expected = compare_region(result, inside).loc[shown.gene]
    np.testing.assert_allclose(shown.effect_size, expected.effect_size)
    np.testing.assert_allclose(shown.q_value, expected.q_value)
    assert f"{inside.sum():,} tiles in Stroma, {(~inside).sum():,} in all other tiles" in said(page)
    assert "no independent proof" in said(page)
    boxes = chart(page)["data"]
    assert [one["y"][0].split(" · ")[0] for one in boxes] == ["Stroma", "Tumor", "no class"]
    values = result[inside, "ERBB2"].X.ravel()
    assert boxes[0]["median"] == pytest.approx([float(np.median(values))])
    assert boxes[0]["marker"]["color"] == "rgb(0, 150, 0)"


def test_two_classes_are_compared_with_each_other(page):
    bring(page, geojson_text([TUMOR, STROMA]))
    page.selectbox(key="regions_against").select("Tumor").run()
    result = slide(page).result
    either = (result.obs.region_class != "").to_numpy()
    inside = (result.obs.region_class == "Stroma").to_numpy()
    shown = table(page)
    expected = compare_region(result[either], inside[either]).loc[shown.gene]
    np.testing.assert_allclose(shown.effect_size, expected.effect_size)
    assert f"{(either & ~inside).sum():,} in Tumor" in said(page)


def test_regions_of_too_few_tiles_are_named_beside_the_comparison(page):
    tiny = Region("Tiny", "Necrosis", None, box(10, 10, 40, 40))
    bring(page, geojson_text([TUMOR, STROMA, tiny]))
    assert page.selectbox(key="regions_compared").options == ["Stroma", "Tumor"]
    assert "Not compared, with fewer than 3 tiles: Necrosis. A tile is in a region that covers half of it." in said(
        page
    )
    next(group for group in page.button_group if "Single regions" in group.options).set_value("Single regions").run()
    assert "Not compared, with fewer than 3 tiles: Tiny." in said(page)


def test_single_regions_are_compared_where_wished(page):
    bring(page, geojson_text([TUMOR, STROMA]))
    next(group for group in page.button_group if "Single regions" in group.options).set_value("Single regions")
    page.run()
    assert page.selectbox(key="regions_compared").options == ["Doe", "Jane"]


def test_names_are_in_no_address_and_in_no_provenance(page):
    bring(page, geojson_text([TUMOR, STROMA]))
    assert dict(page.query_params) == {"view": "regions", "gene": "ERBB2"}
    told = repr(slide(page).result.uns["nsl"])
    assert "Doe" not in told
    assert "Tumor" not in told


@pytest.mark.parametrize(
    ("text", "said_of_it"),
    [
        ("", "The annotations are empty"),
        ("{}", "The annotations are not GeoJSON"),
        (geojson_text([Region("Doe", "", None, box(9000, 0, 9100, 9))]), "Region 1 lies off the slide"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_the_regions_stay(page, text, said_of_it):
    bring(page, geojson_text([STROMA]))
    bring(page, text)
    assert not page.exception
    assert said_of_it in page.error[0].value
    assert kept(slide(page)) == (STROMA,)


def write(app, name="", class_name="", corners=""):
    for label, text in (("Name", name), ("Class", class_name)):
        next(one for one in app.text_input if one.label == label).set_value(text)
    next(one for one in app.text_area if one.label == "Corners, in mm").set_value(corners)
    return app


def test_a_region_is_written_down_changed_and_removed_without_a_pointer(page):
    click(
        write(page, "", "Tumor", "0.3, 0.3\n1.5, 0.3\n1.5, 2.0\n0.3, 2.0\n\n0.6 0.6\n1.1 0.6\n1.1 1.1\n0.6 1.1"),
        "Add it",
    )
    [made] = kept(slide(page))
    assert (made.name, made.class_name) == ("Tumor 1", "Tumor")
    assert made.geometry.equals(TUMOR.geometry)
    edited = next(one for one in page.selectbox if one.label == "Region")
    edited.select(0).run()
    corners = next(one for one in page.text_area if one.label == "Corners, in mm").value
    assert "1.5000, 2.0000" in corners.splitlines()
    click(write(page, "mine", "Stroma", corners), "Change it")
    [changed] = kept(slide(page))
    assert (changed.name, changed.class_name, changed.geometry) == ("mine", "Stroma", made.geometry)
    click(write(page, "", "", "1, 1\n2, 2"), "Add it")
    assert "Outline 1 has 2 corners" in page.error[0].value
    next(one for one in page.selectbox if one.label == "Region").select(0).run()
    click(page, "Remove it")
    assert kept(slide(page)) == ()
    assert "region" not in slide(page).result.obs


def test_each_class_that_is_drawn_has_a_colour_of_its_own(app):
    predict_demo(app)
    app.switch_page(MAPS).run()
    for x, class_name in ((0.5, "Tumor"), (1.0, "Stroma"), (1.5, "Tumor"), (2.0, "")):
        slide(app).marks.region = {"kind": "box", "x": [x, x + 0.4], "y": [2.0, 1.0], "axis": "x"}
        app.run()
        next(one for one in app.text_input if one.label == "Class").set_value(class_name)
        click(app, "Keep it")
    tumor, stroma, again, unnamed = (region.color for region in kept(slide(app)))
    assert tumor == again
    assert len({tumor, stroma, None}) == 3
    assert unnamed is None


def test_what_is_drawn_on_maps_is_kept_outlined_and_goes_home_equal(app):
    predict_demo(app)
    app.switch_page(MAPS).run()
    slide(app).marks.region = {"kind": "box", "x": [0.5, 1.5], "y": [2.0, 1.0], "axis": "x"}
    app.run()
    next(one for one in app.text_input if one.label == "Name").set_value("first")
    click(app, "Keep it")
    slide(app).marks.region = {"kind": "lasso", "x": [1.6, 2.2, 2.2], "y": [1.0, 1.0, 2.0], "axis": "x"}
    click(app.run(), "Keep it")
    first, second = kept(slide(app))
    assert first.geometry.equals(box(500, 1000, 1500, 2000))
    assert second.geometry.area == pytest.approx(600 * 1000 / 2)
    assert (first.name, second.name) == ("first", "Region 2")
    assert "2 regions are kept" in said(app)
    assert [trace.get("name") for trace in chart(app)["data"]].count("regions") == 2
    assert parse_geojson(geojson_text(kept(slide(app)))).regions == (first, second)


def test_regions_stay_with_the_slide_when_it_is_predicted_anew(page):
    bring(page, geojson_text([TUMOR, STROMA]))
    page.switch_page("pages/predict.py").run()
    finish(click(page, "Run"))
    assert set(slide(page).result.obs.region_class) == {"Tumor", "Stroma", ""}


def test_a_file_may_be_brought_beside_what_is_there_and_notices_are_shown(page):
    bring(page, geojson_text([STROMA]))
    told = json.loads(geojson_text([TUMOR]))
    told["features"].append({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}})
    bring(page, json.dumps(told))
    assert kept(slide(page)) == (STROMA, TUMOR)
    assert "1 point, line or object without an area was left out" in said(page)
    bring(page, geojson_text([TUMOR, STROMA]))
    assert kept(slide(page)) == (STROMA, TUMOR)
    assert "2 regions were there already" in said(page)
    click(page, "Remove all")
    assert slide(page).of_slide(SlideRegions).regions == ()


@pytest.mark.parametrize(("mode", "axes"), [(SIDE_BY_SIDE, ["x", "x2"]), (DIFFERENCE, ["x"]), (BLEND, ["x"])])
def test_regions_are_outlined_on_every_map_compared(page, mode, axes):
    bring(page, geojson_text([STROMA]))
    page.session_state["compare_mode"] = mode
    page.run()
    assert not page.exception
    drawn = [trace for trace in chart(page)["data"] if trace.get("name") == "regions"]
    assert sorted(trace.get("xaxis", "x") for trace in drawn) == sorted(2 * axes)


def test_only_tiles_inside_the_regions_are_predicted_where_wished(page):
    bring(page, geojson_text([STROMA]))
    page.switch_page("pages/predict.py").run()
    next(one for one in page.checkbox if one.label == "Predict inside them alone").check().run()
    assert "settings or the weights have changed since" in said(page)
    finish(click(page, "Run"))
    assert not page.exception
    assert "settings or the weights have changed since" not in said(page)
    result = slide(page).result
    assert set(result.obs.region_class) == {"Stroma"}
    assert slide(page).provenance.inside_only
    page.switch_page(COMPARE).run()
    assert "Only the tiles inside annotated regions were predicted" in said(page)
    assert "there is no rest to compare with" in page.error[0].value
