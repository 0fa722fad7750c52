"""What figures of regions promise: outlines where the regions lie, and boxes of what the tiles hold."""

import numpy as np
import pytest
from shapely.geometry import MultiPolygon, Polygon, box

from nsl import predict
from nsl.figures.maps import expression_map
from nsl.figures.regions import MOST_NAMED, class_boxes, region_outlines
from nsl.result import map_of
from nsl.slides.annotations.region import Region

WINDOW_MM = np.array([[0, 0.2], [0, 0.3]])
HOLED = Polygon(box(100, 100, 400, 400).exterior, [box(200, 200, 300, 300).exterior])


@pytest.fixture
def result(slide, weights):
    return predict(slide, weights)


def test_outlines_lie_where_the_regions_do_holes_and_all():
    pale, drawn, _ = region_outlines([Region("a", "Tumor", (200, 0, 0), HOLED)], 0.5, WINDOW_MM)
    assert drawn.line.color == "rgb(200, 0, 0)"
    assert pale.line.width > drawn.line.width
    x = np.array(drawn.x)
    outer, inner = x[:5], x[6:11]
    assert np.isnan(x[[5, 11]]).all()
    assert (outer.min(), outer.max()) == pytest.approx((0.05, 0.2))
    assert (inner.min(), inner.max()) == pytest.approx((0.1, 0.15))


def test_a_map_without_regions_is_as_it_was(result):
    limits = (0.0, 1.0)
    region = Region("a", "", None, HOLED)
    plain, outlined = (expression_map(result, "CD24", limits=limits, regions=own) for own in ((), (region,)))
    assert [trace.name for trace in outlined.data].count("regions") == 2
    assert len(outlined.data) == len(plain.data) + 3


def test_each_region_has_its_name_at_its_upper_edge_unless_they_are_too_many():
    named = [
        Region("<b>middle", "Tumor", None, HOLED),
        Region("reaches far beyond what is shown", "", None, box(-100, -100, 20, 900)),
        Region("at the right", "", None, box(380, 300, 400, 700)),
        Region("beside what is shown", "", None, box(500, 0, 600, 100)),
        Region("in two parts", "", None, MultiPolygon([box(100, 450, 120, 470), box(200, 450, 260, 500)])),
    ]
    names = region_outlines(named, 0.5, WINDOW_MM)[-1]
    assert list(names.text) == ["&lt;b&gt;middle", "reaches far beyond what…", "at the right", "in two parts"]
    np.testing.assert_allclose(names.x, [0.125, 0.005, 0.195, 0.115], rtol=1e-6)
    np.testing.assert_allclose(names.y, [0.05, 0, 0.15, 0.225], rtol=1e-6)
    assert list(names.textposition) == ["bottom center", "bottom right", "bottom left", "bottom center"]
    assert names.unselected.textfont.color == names.textfont.color
    many = [Region(f"R{x}", "", None, box(10 * x, 0, 10 * x + 5, 5)) for x in range(MOST_NAMED + 1)]
    assert [trace.mode for trace in region_outlines(many, 0.5, WINDOW_MM)] == ["lines", "lines"]


def test_names_of_regions_that_overlap_stand_below_each_other():
    window_mm = np.array([[0, 2.0], [0, 2.0]])
    outlines = {
        "Core": box(1000, 1000, 3000, 3000),
        "Rim": box(900, 1010, 3100, 3000),
        "Far": box(100, 1010, 300, 1500),
    }
    regions = [Region(name, "", None, outline) for name, outline in outlines.items()]
    core, rim, far = region_outlines(regions, 0.5, window_mm)[-1].y
    assert (core, far) == pytest.approx((0.5, 0.505))
    # A line of text on a map 2 mm and 600 px wide.
    assert 12 / 300 < rim - core < 2 * 14 / 300


def test_a_class_of_few_is_drawn_as_dots_that_say_what_they_are(result):
    classes = np.where(np.arange(result.n_obs) < 4, "Tumor", "")
    [tumor, none] = class_boxes(result, "CD24", classes, {}, "elsewhere").data
    np.testing.assert_allclose(np.array(tumor.x, float), map_of(result, "CD24")[:4], rtol=1e-6)
    assert (tumor.boxpoints, tumor.hoveron, set(tumor.y)) == ("all", "points", {"Tumor · 4"})
    assert list(tumor.hovertext) == list(result.obs_names[:4])
    assert none.q1 is not None


def test_classes_that_begin_alike_have_a_row_each(result):
    kinds = [f"Invasive carcinoma of no special type, grade {grade}" for grade in (2, 3)]
    classes = np.repeat([*kinds, ""], [10, 10, result.n_obs - 20])
    rows = [trace.y[0] for trace in class_boxes(result, "CD24", classes, {}, "elsewhere").data[:2]]
    assert rows == ["Invasive ca…ype, grade 2 · 10", "Invasive ca…ype, grade 3 · 10"]


def test_boxes_are_quartiles_and_whiskers_of_each_class(result):
    values = map_of(result, "CD24").astype(float)
    classes = np.where(np.arange(result.n_obs) < 10, "<b>Tumor", "")
    [tumor, none] = class_boxes(result, "CD24", classes, {"<b>Tumor": "rgb(1, 2, 3)"}, "elsewhere").data
    assert tumor.y[0] == "&lt;b&gt;Tumor · 10"
    assert none.y[0] == f"elsewhere · {result.n_obs - 10}"
    assert tumor.marker.color == "rgb(1, 2, 3)"
    assert (tumor.q1[0], tumor.median[0], tumor.q3[0]) == pytest.approx(tuple(np.percentile(values[:10], [25, 50, 75])))
    reach = 1.5 * (tumor.q3[0] - tumor.q1[0])
    within = values[:10][(values[:10] >= tumor.q1[0] - reach) & (values[:10] <= tumor.q3[0] + reach)]
    assert (tumor.lowerfence[0], tumor.upperfence[0]) == pytest.approx((within.min(), within.max()))
