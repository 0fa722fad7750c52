"""Zooming into a slide: what is read for a view, where it lies, and when the map keeps the picture that it has."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nsl.web import chart, zoom
from nsl.web.chart import View
from tests.app_driver import charts, predict_section, slide

WHOLE, PART = View(0, 0, 0.7, 0.6, 500), View(0.1, 0.1, 0.3, 0.25, 500)


@pytest.fixture
def maps(app, section):
    """The Maps page of a section of 1 µm/px whose result brings a picture of 8 µm/px."""
    predict_section(app, "section.png", section.png, "ERBB2 COX6C")
    brought = slide(app).result.uns["spatial"]["slide"]
    brought["images"]["hires"] = np.ascontiguousarray(brought["images"]["hires"][::8, ::8])
    brought["scalefactors"]["tissue_hires_scalef"] /= 8
    return app.switch_page("pages/maps.py").run()


def look_at(app, monkeypatch, view: View) -> dict:
    """What the first chart gets to lay under its map when this is in view."""
    monkeypatch.setattr(chart, "views", lambda key: {"x": view})
    app.run()
    assert not app.exception
    [zoomed] = json.loads(app.get("bidi_component")[0].proto.json)["zooms"]
    return zoomed


def pixels_of(detail: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(detail["source"].partition(",")[2]))), float)


def test_the_slide_itself_is_laid_under_what_is_zoomed_into(maps, section, monkeypatch):
    zoomed = look_at(maps, monkeypatch, PART)
    detail = zoomed["detail"]
    assert (zoomed["axes"], zoomed["finest_mpp"]) == (["x"], 1)
    assert [detail[side] for side in ("x", "y", "width", "height")] == pytest.approx([0.1, 0.1, 0.2, 0.15])
    seen, there = pixels_of(detail), section.pixels[100:250, 100:300].astype(float)
    assert seen.shape == there.shape
    assert np.abs(seen - there).mean() < 4  # it is a JPEG


def test_no_more_of_the_slide_is_read_than_is_in_view_and_on_it(maps, section, monkeypatch):
    detail = look_at(maps, monkeypatch, View(-0.5, 0.5, 0.1, 0.9, 800))["detail"]
    assert [detail[side] for side in ("x", "y", "width", "height")] == pytest.approx([0, 0.5, 0.1, 0.1])
    assert pixels_of(detail).shape == (100, 100, 3)
    monkeypatch.setattr(zoom, "MOST_PX", 50)
    assert max(pixels_of(look_at(maps, monkeypatch, PART)["detail"]).shape) == 50


def test_the_picture_of_the_result_serves_where_the_screen_shows_no_more(maps, monkeypatch):
    assert look_at(maps, monkeypatch, WHOLE._replace(width_px=80))["detail"] is None
    assert look_at(maps, monkeypatch, View(2, 2, 3, 3, 500))["detail"] is None
    assert look_at(maps, monkeypatch, WHOLE)["detail"] is not None


def test_a_map_whose_slide_is_gone_keeps_the_picture_it_has(maps, monkeypatch):
    slide(maps).path.unlink()
    assert look_at(maps, monkeypatch, PART)["detail"] is None
    assert charts(maps) == 1
    assert not maps.error


def test_all_maps_of_a_slide_on_compare_have_the_same_picture_under_them(maps, monkeypatch):
    maps.switch_page("pages/compare.py")
    zoomed = look_at(maps, monkeypatch, PART)
    assert zoomed["axes"] == ["x", "x2"]
    assert pixels_of(zoomed["detail"]).shape == (150, 200, 3)


@pytest.mark.parametrize(
    ("wanted_mpp", "read_mpp"), [(0.25, 0.25), (0.4, 0.4), (0.6, 1.0), (0.99, 1.0), (1.0, 1.0), (1.9, 1.9), (3.0, 4.0)]
)
def test_a_level_that_is_nearly_fine_enough_is_read_rather_than_one_far_finer(maps, wanted_mpp, read_mpp):
    one = slide(maps)
    one.seen = replace(one.seen, levels=(1.0, 4.0, 16.0))
    one.result.uns["nsl"]["mpp"] = 0.25
    assert zoom._readable_mpp(one, wanted_mpp) == read_mpp
