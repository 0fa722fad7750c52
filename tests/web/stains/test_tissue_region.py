"""The region of the Stains page: which tissue it shows, what its stains add up to, and what is told when it cannot."""

import re

import numpy as np
import pytest

from tests.app_driver import chart, charts, open_stains, predict_section, said, seen, slide

STAINS, TILE_UM = "pages/stains.py", 150.0


@pytest.fixture
def page(app, section):
    """The page with a section of 1 µm/px predicted: a blob of hematoxylin beside one of eosin."""
    predict_section(app, "section.png", section.png, "ERBB2 COX6C")
    return app.switch_page(STAINS).run()


def looked_at_um(app) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the region as the small map draws it."""
    [line] = [
        trace for number in range(charts(app)) for trace in chart(app, number)["data"] if trace["type"] == "scatter"
    ]
    x, y = (1000 * np.array(line[axis], float) for axis in "xy")
    return x.min(), y.min(), x.max(), y.max()


def predicted_here(app) -> float:
    return float(re.search(r"\*\*Predicted here\*\* \| \| \*\*([−\d.]+)\*\*", said(app))[1].replace("−", "-"))


def in_place(app, label: str):
    """Choose a region by what it is called."""
    box = app.selectbox(key="stain_place")
    return box.select(next(option for option in box.options if label in option)).run()


def test_the_tile_richest_in_hematoxylin_lies_on_hematoxylin(page, section):
    left, top, right, bottom = looked_at_um(page)
    assert (right - left, bottom - top) == pytest.approx((TILE_UM, TILE_UM))
    of_tiles = section.stain_under(slide(page).result.obsm["spatial"], TILE_UM)
    [here] = section.stain_under([[(left + right) / 2, (top + bottom) / 2]], TILE_UM)
    assert here[0] > np.percentile(of_tiles[:, 0], 90)
    assert here[1] < np.median(of_tiles[:, 1])


def test_what_the_stains_of_a_tile_add_up_to_is_its_prediction(page):
    in_place(page, "predicted highest")
    values = slide(page).result[:, "ERBB2"].X
    assert predicted_here(page) == pytest.approx(values.max(), abs=0.006)  # two decimals are shown
    page.selectbox(key="gene").select("COX6C").run()
    assert predicted_here(page) == pytest.approx(slide(page).result[:, "COX6C"].X.max(), abs=0.006)


@pytest.mark.parametrize("width_um", [300.0, 600.0])
def test_a_wider_region_shows_the_surroundings_of_the_same_tile(page, width_um):
    left, top, right, bottom = looked_at_um(page)
    middle = (left + right) / 2, (top + bottom) / 2
    width = next(group for group in page.button_group if group.label == "Width, µm")
    width.set_value(width_um)
    page.run()
    wide = looked_at_um(page)
    # As far as the slide reaches.
    expected = [max(at - width_um / 2, 0) for at in middle]
    expected += [min(at + width_um / 2, end) for at, end in zip(middle, (700, 600), strict=True)]
    assert wide == pytest.approx(expected)
    axis = chart(page)["layout"]["xaxis"]["range"]
    assert axis == pytest.approx([0, wide[2] - wide[0]], abs=2)


def test_a_region_drawn_over_the_edge_is_shown_as_far_as_the_slide_reaches(page):
    slide(page).marks.region = {"kind": "box", "x": [-1.0, 0.3], "y": [0.5, 9.0], "axis": "x"}
    page.run()
    assert not page.exception
    assert "The region drawn on the map" in page.selectbox(key="stain_place").options
    assert looked_at_um(page) == pytest.approx((0, 500, 300, 600))


def test_a_large_region_is_drawn_coarser_and_keeps_its_place(page):
    slide(page).marks.region = {"kind": "box", "x": [-1.0, 9.0], "y": [-1.0, 9.0], "axis": "x"}
    page.run()
    assert looked_at_um(page) == pytest.approx((0, 0, 700, 600))
    heat = next(trace for trace in chart(page)["data"] if trace["type"] == "heatmap")
    assert heat["z"]["shape"] == "549, 640"
    assert (heat["dx"], heat["dy"]) == pytest.approx((700 / 640, 700 / 640))
    assert heat["x0"] == pytest.approx(heat["dx"] / 2)


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        ([0.1, 0.101], [0.1, 0.2], "The region drawn holds 1 × 100 µm of the slide"),
        ([0.1, 0.2], [0.1, 0.105], "The region drawn holds 100 × 5 µm of the slide"),
        ([3.0, 4.0], [3.0, 4.0], "The region drawn holds 0 × 0 µm of the slide"),
    ],
    ids=["narrow", "low", "off the slide"],
)
def test_a_region_too_small_to_read_is_told_and_another_can_be_chosen(page, x, y, told):
    slide(page).marks.region = {"kind": "box", "x": x, "y": y, "axis": "x"}
    page.run()
    assert not page.exception
    assert told in page.error[0].value
    assert "draw one of at least 10 µm on the map, or choose a tile" in page.error[0].value
    assert "All genes" in seen(page)
    in_place(page, "richest")
    assert not page.error
    assert charts(page) == 3


def test_a_slide_that_is_gone_is_told_by_the_users_name_and_the_rest_of_the_page_stays(page):
    slide(page).path.unlink()
    slide(page).marks.region = {"kind": "box", "x": [0.1, 0.2], "y": [0.1, 0.2], "axis": "x"}
    open_stains(page.run())
    assert not page.exception
    assert page.error[0].value.startswith("section.png ")
    for part in ("The 11 numbers", "From colour to expression", "All genes", "Download all vectors"):
        assert part in seen(page) + " ".join(button.label for button in page.get("download_button"))


def test_a_gene_that_was_not_predicted_has_no_map_and_its_stains_are_shown(page):
    page.selectbox(key="gene").select("CD24").run()
    assert not page.exception
    assert "CD24 was not predicted on this slide" in said(page)
    assert not any("highest" in option for option in page.selectbox(key="stain_place").options)
    assert charts(page) == 2
    assert np.isfinite(predicted_here(page))


def test_the_slides_own_stains_come_first_and_are_where_the_section_is_stained(page, section):
    """A pixel has as much of either as explains its colour, whatever the gene."""
    own, learned = (chart(page, number) for number in (0, 1))
    assert [note["text"] for note in own["layout"]["annotations"]][1:] == ["hematoxylin", "eosin"]
    assert [note["text"] for note in learned["layout"]["annotations"]][1:] == ["hematoxylin-like", "eosin-like"]
    page.selectbox(key="gene").select("COX6C").run()
    assert chart(page, 0) == own
    assert chart(page, 1) != learned


def test_numbers_are_behind_and_made_when_they_are_opened(page):
    assert not page.code
    assert "The 11 numbers" in seen(page)
    page.session_state["stains_part The 11 numbers"] = True
    page.run()
    assert "ERBB2" in page.code[0].value


def test_a_part_that_was_opened_is_open_again_when_one_comes_back(page):
    page.session_state["stains_part The 11 numbers"] = True
    page.run()
    page.switch_page("pages/about.py").run()
    page.switch_page("pages/stains.py").run()
    assert not page.exception
    assert "ERBB2" in page.code[0].value
    page.session_state["stains_part The 11 numbers"] = False
    page.run()
    page.switch_page("pages/about.py").run()
    page.switch_page("pages/stains.py").run()
    assert not page.code
