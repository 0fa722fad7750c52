"""Measured beside predicted: each at its place, on its own scale, and zoomed together."""

import numpy as np
import pytest

from nsl import load_weights, open_slide, predict
from nsl.figures.spots_map import spots_map

NAMES = [f"{i}x{j}" for j in range(4) for i in range(5)]
CENTERS_PX = np.array([[100 + 60 * i, 80 + 50 * j] for j in range(4) for i in range(5)], float)


@pytest.fixture
def result(section_png, tiny_weights):
    with open_slide(section_png, mpp=2.0) as slide:
        return predict(slide, load_weights(tiny_weights), stride_um=50)


@pytest.fixture
def draw(result):
    """A map of twenty spots, measured 0 to 19 and predicted the other way round a tenth as far apart."""

    def draw(centers_px=CENTERS_PX, measured=None, predicted=None, gene="CD24", spot_um=100.0, names=None, **options):
        number = len(centers_px)
        measured = np.arange(number, dtype=float) if measured is None else measured
        predicted = 5 - np.arange(number) / 10 if predicted is None else predicted
        names = [f"s{i}" for i in range(number)] if names is None else names
        return spots_map(result, centers_px, measured, predicted, gene, spot_um=spot_um, names=names, **options)

    return draw


def test_both_maps_hold_their_own_values_at_the_spots_in_millimetres(draw):
    figure = draw(names=NAMES)
    for trace, value in zip(figure.data, (7.0, 4.3), strict=True):
        spot = list(trace.text).index("2x1")
        assert (trace.x[spot], trace.y[spot]) == pytest.approx((0.44, 0.26))  # 2 µm/px
        assert trace.marker.color[spot] == pytest.approx(value)
        assert list(trace.customdata[spot]) == pytest.approx([7.0, 4.3])


def test_the_maps_zoom_together_and_begin_where_the_spots_are(draw):
    figure = draw()
    assert (figure.layout.xaxis2.matches, figure.layout.yaxis2.matches) == ("x", "y")
    assert [trace.xaxis for trace in figure.data] == ["x", "x2"]
    for x, y in ((figure.layout.xaxis, figure.layout.yaxis), (figure.layout.xaxis2, figure.layout.yaxis2)):
        assert x.range[0] < 0.2
        assert 0.68 < x.range[1] < 1.1
        assert y.range[1] < 0.16
        assert 0.46 < y.range[0] < 0.9
    assert figure.layout.yaxis.scaleanchor == "x"


def test_the_slide_lies_under_both_maps_at_its_size(draw):
    images = draw().layout.images
    assert [(image.xref, image.yref) for image in images] == [("x", "y"), ("x2", "y2")]
    assert {(round(image.sizex, 2), round(image.sizey, 2)) for image in images} == {(1.4, 1.2)}
    assert all(image.layer == "below" for image in images)


def test_each_map_has_a_scale_of_its_own_and_the_palette_asked_for(draw):
    figure = draw(palette="Magma", opacity=0.5)
    ends = [(axis.cmin, axis.cmax) for axis in (figure.layout.coloraxis, figure.layout.coloraxis2)]
    assert ends[0] == pytest.approx((0.38, 18.62))
    assert ends[1] == pytest.approx((3.138, 4.962))
    assert figure.layout.coloraxis.colorscale == figure.layout.coloraxis2.colorscale
    assert figure.layout.coloraxis.colorscale != draw().layout.coloraxis.colorscale
    assert [trace.marker.opacity for trace in figure.data] == [0.5, 0.5]


def test_spots_that_lack_a_value_are_left_out_of_both(draw):
    predicted = np.full(20, 2.0)
    predicted[[3, 4]] = np.nan
    figure = draw(predicted=predicted, names=NAMES)
    assert [len(trace.x) for trace in figure.data] == [18, 18]
    assert not {"3x0", "4x0"} & set(figure.data[0].text)


def test_a_gene_that_is_the_same_everywhere_is_drawn_and_so_is_nothing_at_all(draw):
    axis = draw(measured=np.zeros(20)).layout.coloraxis
    assert axis.cmin < 0 < axis.cmax
    assert [len(trace.x) for trace in draw(predicted=np.full(20, np.nan)).data] == [0, 0]
    assert len(draw(centers_px=CENTERS_PX[:1]).data[0].x) == 1


def test_spots_are_as_wide_as_their_window_but_never_overlap(draw):
    def share_of_pitch(pitch_px: float, spot_um: float) -> float:
        figure = draw(centers_px=CENTERS_PX * [pitch_px / 60, pitch_px / 50], spot_um=spot_um)
        per_mm = 390 / (figure.layout.xaxis.range[1] - figure.layout.xaxis.range[0])
        return figure.data[0].marker.size / (pitch_px * 2 / 1000 * per_mm)

    assert share_of_pitch(100, 100.0) == pytest.approx(0.5, abs=0.05)
    assert share_of_pitch(100, 150.0) == pytest.approx(0.75, abs=0.05)
    assert share_of_pitch(40, 150.0) == pytest.approx(1.0, abs=0.1)


def test_many_spots_are_drawn_by_the_graphics_card(draw):
    rng = np.random.default_rng(0)
    assert draw().data[0].type == "scatter"
    assert draw(centers_px=rng.uniform(100, 500, (2_001, 2))).data[1].type == "scattergl"


def test_titles_say_which_is_which_and_show_a_name_letter_by_letter(draw):
    titles = [note.text for note in draw(gene="<b>A&B").layout.annotations]
    assert titles[:2] == ["<b>Measured</b> &lt;b&gt;A&amp;B", "<b>Predicted</b> &lt;b&gt;A&amp;B"]
    assert "ln(1 + counts per 10,000)" in titles[2]


def test_zoom_is_kept_over_genes(draw):
    assert draw(gene="CD24").layout.uirevision == draw(gene="ERBB2").layout.uirevision
