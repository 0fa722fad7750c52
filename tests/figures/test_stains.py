"""What figures of learned stains promise: what is drawn is what the model learned, and says its units and limits."""

import base64
import io

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image

from nsl import open_slide
from nsl.figures.angles import angle_plot
from nsl.figures.concentrations import concentration_figure
from nsl.figures.stains import effects_bars, response_surface_figure, swatches
from nsl.figures.style import STAIN_COLORS, UNRELIABLE_COLOR
from nsl.stains import estimate_stains, optical_density, tissue_colors
from nsl.weights.interpretation import concentration_images, response_surface, vector_table, vectors_of
from nsl.white_point import estimate_white_point

WHITE = np.array([244.0, 240.0, 238.0])


@pytest.fixture(scope="module")
def table(embedded):
    return vector_table(embedded)


@pytest.fixture(scope="module")
def reference(embedded):
    return embedded.config.stains.reference


def _pixels(trace: go.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(trace.source.split(",")[1]))).convert("RGB"))


def _traces(figure: go.Figure, kind: str) -> list:
    return [trace for trace in figure.data if trace.type == kind]


def _outlines(figure: go.Figure) -> list:
    return [trace for trace in _traces(figure, "contour") if trace.contours.coloring == "none"]


def _texts(figure: go.Figure) -> str:
    return " ".join(annotation.text for annotation in figure.layout.annotations)


def test_figures_leave_text_and_background_to_the_page(embedded, table, reference, section):
    images = concentration_images(embedded.model, "ERBB2", section.pixels, section.white_point)
    for figure in (
        effects_bars(table.loc[["ERBB2"]]),
        swatches({"hematoxylin": reference[0]}),
        response_surface_figure(response_surface(embedded.model, "ERBB2", vectors=reference)),
        angle_plot(table),
        concentration_figure(section.pixels, images, 1.0, vectors=reference),
    ):
        assert figure.layout.font.color is None
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"


# Effects


def test_bars_are_the_comparable_effects_with_their_sign_written(table):
    figure = effects_bars(table.loc[["ERBB2", "COX6C"]])
    hematoxylin, eosin = figure.data
    assert list(hematoxylin.x) == pytest.approx(list(table.h_effect_per_od[["ERBB2", "COX6C"]]))
    assert list(eosin.x) == pytest.approx(list(table.e_effect_per_od[["ERBB2", "COX6C"]]))
    assert (hematoxylin.marker.color, eosin.marker.color) == STAIN_COLORS
    assert hematoxylin.text[0].startswith("+")
    assert eosin.text[0].startswith("−")
    assert float(eosin.text[0].replace("−", "-")) == pytest.approx(table.e_effect_per_od["ERBB2"], abs=0.005)
    assert list(figure.layout.yaxis.categoryarray)[::-1] == [
        "ERBB2, hematoxylin-like",
        "ERBB2, eosin-like",
        "COX6C, hematoxylin-like",
        "COX6C, eosin-like",
    ]
    assert "per OD" in figure.layout.xaxis.title.text


def test_bars_tell_from_how_much_stain_on_they_hold(table):
    figure = effects_bars(table.loc[["ERBB2", "IGKC"]])
    assert table.e_onset_od["IGKC"] < 0 < table.h_onset_od["ERBB2"]
    assert figure.data[0].customdata[0] == f"from {table.h_onset_od['ERBB2']:.2f} OD on"
    assert figure.data[1].customdata[1] == "from clear glass on"


# Swatches


def test_a_swatch_runs_from_glass_to_the_stain_at_2_od(reference):
    figure = swatches({"training hematoxylin": reference[0], "training eosin": reference[1]}, WHITE)
    ramps = _traces(figure, "image")
    assert [ramp.y0 for ramp in ramps] == [0, 1]
    for ramp, vector in zip(ramps, reference, strict=True):
        (colors,) = _pixels(ramp)
        amounts = ramp.x0 + ramp.dx * np.arange(len(colors))
        assert amounts[-1] == pytest.approx(2.0)
        seen = optical_density(colors[None], WHITE)[0]
        np.testing.assert_allclose(seen, np.outer(amounts, vector), atol=0.03)
    assert list(figure.layout.yaxis.ticktext) == ["training hematoxylin", "training eosin"]


def test_the_od_triplet_stands_beside_each_swatch(reference):
    figure = swatches({"training hematoxylin": reference[0]}, WHITE)
    (text,) = figure.layout.yaxis2.ticktext
    assert [float(number) for number in text.split()] == pytest.approx(list(reference[0]), abs=5e-4)


def test_a_negative_component_is_named_in_words():
    vectors = np.array([[0.600, 0.640, 0.480], [-0.036, 0.977, 0.210]])
    figure = swatches({"hematoxylin-like": vectors[0], "eosin-like": vectors[1]}, WHITE)
    clean, marked = figure.layout.yaxis2.ticktext
    assert "negative" not in clean
    assert "red −0.036:" in marked
    assert "no dye absorbs negatively" in marked
    assert "blue" not in marked


@pytest.mark.parametrize("unknown", [None, np.full(3, np.nan)])
def test_an_unknown_vector_keeps_its_row_and_says_so(reference, unknown):
    figure = swatches({"training eosin": reference[1], "this slide's eosin": unknown}, WHITE)
    assert len(_traces(figure, "image")) == 1
    assert "not known" in figure.layout.yaxis2.ticktext[1]


# The response surface


@pytest.fixture(scope="module")
def surface(embedded, reference):
    return response_surface(embedded.model, "COX6C", vectors=reference, white_point=WHITE, max_od=1.5, steps=31)


def test_colour_and_expression_lie_at_the_same_amounts_and_zoom_together(surface):
    figure = response_surface_figure(surface)
    (colors,), (expression,) = _traces(figure, "image"), _traces(figure, "contour")
    np.testing.assert_array_equal(_pixels(colors), surface.colors)
    np.testing.assert_allclose(expression.z, surface.expression, rtol=1e-6)
    assert (colors.x0, colors.dx * 30) == pytest.approx((0, 1.5))
    assert (colors.y0, colors.dy * 30) == pytest.approx((0, 1.5))
    np.testing.assert_allclose(expression.x, surface.amounts_od)
    np.testing.assert_allclose(expression.y, surface.amounts_od)
    assert expression.contours.coloring == "heatmap"
    layout = figure.layout
    assert layout.xaxis2.matches == "x"
    assert layout.yaxis2.matches == "y"
    assert layout.yaxis.range[0] < layout.yaxis.range[1]  # images would otherwise turn it over
    assert "COX6C" in _texts(figure)


def test_outlines_hold_half_and_95_percent_of_the_slides_pixels(surface):
    rng = np.random.default_rng(0)
    amounts = rng.normal([0.7, 0.6], [0.15, 0.1], (20_000, 2))
    figure = response_surface_figure(surface, amounts @ surface.vectors)
    outlines = _outlines(figure)
    assert [trace.xaxis for trace in outlines] == ["x", "x2"]
    assert sum(bool(trace.showlegend) for trace in outlines) == 1
    outline = outlines[0]
    assert (outline.contours.start, outline.contours.end) == (0.5, 0.95)
    x, y = np.asarray(outline.x), np.asarray(outline.y)
    at = [np.abs(axis - amount[:, None]).argmin(axis=1) for axis, amount in ((x, amounts[:, 0]), (y, amounts[:, 1]))]
    held = np.asarray(outline.z)[at[1], at[0]]
    for share in (0.5, 0.95):
        assert (held <= share).mean() == pytest.approx(share, abs=0.05)
    # Of a normal distribution, half lies within 1.18 sd and 95 % within 2.45.
    row = np.abs(y - 0.6).argmin()
    for share, sd in ((0.5, 1.18), (0.95, 2.45)):
        inside = x[np.asarray(outline.z)[row] <= share]
        assert np.ptp(inside) / 2 == pytest.approx(sd * 0.15, abs=0.08)


def test_pixels_beyond_the_surface_count_as_not_held(surface):
    amounts = np.concatenate([np.full((600, 2), 0.5), np.full((400, 2), 9.0)])
    figure = response_surface_figure(surface, amounts @ surface.vectors)
    outline = _outlines(figure)[0]
    assert np.max(outline.z) == pytest.approx(0.6, abs=0.01)


def test_a_real_slides_pixels_lie_on_the_surface(embedded, data_folder):
    with open_slide(data_folder / "slides/cmu_small_region.svs") as slide:
        thumbnail = slide.thumbnail(800)
    white_point = estimate_white_point(thumbnail).rgb
    od = tissue_colors(thumbnail[::4, ::4], white_point)
    vectors = estimate_stains(od).vectors
    surface = response_surface(embedded.model, "ERBB2", vectors=vectors, white_point=white_point, max_od=2.0)
    outline = _outlines(response_surface_figure(surface, od))[0]
    assert np.min(outline.z) < 0.05
    assert np.max(outline.z) > 0.9


# All genes


def test_every_gene_is_a_point_at_its_angles_and_answers_a_click(table):
    figure = angle_plot(table)
    points = [trace for trace in figure.data if trace.customdata is not None]
    assert all(trace.type == "scattergl" for trace in points)
    drawn = pd.concat([pd.DataFrame({"x": t.x, "y": t.y}, index=t.customdata) for t in points]).loc[table.index]
    np.testing.assert_allclose(drawn.x, table.h_angle_to_hed_degrees)
    np.testing.assert_allclose(drawn.y, table.e_angle_to_hed_degrees)


def test_reliable_genes_differ_in_shape_and_not_in_colour_alone(table):
    other, reliable = angle_plot(table).data[:2]
    assert set(reliable.customdata) == set(table.index[table.trust != "unreliable"])
    assert (other.marker.symbol, other.marker.color) == ("circle-open", UNRELIABLE_COLOR)
    assert reliable.marker.symbol == "circle"
    assert reliable.marker.coloraxis == "coloraxis"
    np.testing.assert_allclose(reliable.marker.color, table.r_heldout[table.trust != "unreliable"])
    assert f"{len(reliable.x):,}" in reliable.name


def test_the_legend_names_both_kinds_once_and_hides_each_whole(table):
    figure = angle_plot(table)
    shown = [trace for trace in figure.data if trace.showlegend is not False]
    assert [trace.name.split(" (")[0] for trace in shown] == ["unreliable", "reliable or weak"]
    assert shown[1].legendgroup == figure.data[1].legendgroup


def test_the_selected_gene_is_ringed_named_and_in_view(table):
    for gene in ("ERBB2", "HDLBP"):
        figure = angle_plot(table, gene)
        ring = figure.data[-1]
        x, y = table.loc[gene, ["h_angle_to_hed_degrees", "e_angle_to_hed_degrees"]]
        assert (ring.x[0], ring.y[0], ring.customdata[0]) == (x, y, gene)
        assert ring.type == "scattergl"
        assert gene in _texts(figure)
        assert x < figure.layout.xaxis.range[1]
        assert y < figure.layout.yaxis.range[1]


def test_genes_that_did_not_turn_or_cannot_be_told_are_drawn_without_fuss(table):
    still = table[:3].copy()
    still[["h_angle_to_hed_degrees", "e_angle_to_hed_degrees"]] = 0.0
    still.loc[still.index[1], ["h_angle_to_hed_degrees", "r_heldout"]] = np.nan
    assert angle_plot(still, still.index[0]).layout.xaxis.range[1] == 1
    unknown = angle_plot(still, still.index[1])
    assert np.isfinite(unknown.layout.xaxis.range).all()
    assert still.index[1] not in _texts(unknown)
    assert "not known" in [text for trace in unknown.data[:2] for text in trace.text]


def test_genes_outside_the_first_view_are_counted_in_words(table):
    figure = angle_plot(table)
    x, y = table.h_angle_to_hed_degrees, table.e_angle_to_hed_degrees
    beyond = ((x > figure.layout.xaxis.range[1]) | (y > figure.layout.yaxis.range[1])).sum()
    assert beyond > 0
    assert f"{beyond} genes lie beyond" in _texts(figure)
    assert "beyond" not in _texts(angle_plot(table.drop(index=table.index[(x > 20) | (y > 20)])[:5]))


# Concentrations


@pytest.fixture(scope="module")
def concentrations(embedded, section):
    return concentration_images(embedded.model, "COX6C", section.pixels[:400, :300], section.white_point)


def test_region_and_concentrations_lie_side_by_side_in_micrometres(table, section, concentrations):
    vectors = vectors_of(table.loc["COX6C"])
    region = section.pixels[:400, :300]
    figure = concentration_figure(region, concentrations, 0.5, vectors=vectors, white_point=section.white_point)
    (picture,), heats = _traces(figure, "image"), _traces(figure, "heatmap")
    np.testing.assert_array_equal(_pixels(picture), region)
    for s, heat in enumerate(heats):
        np.testing.assert_array_equal(heat.z, concentrations[..., s])
    for trace in (picture, *heats):
        assert (trace.x0, trace.dx, trace.y0, trace.dy) == (0.25, 0.5, 0.25, 0.5)
    layout = figure.layout
    assert tuple(layout.xaxis.range) == (0, 150)
    assert tuple(layout.yaxis.range) == (200, 0)
    assert layout.xaxis.ticksuffix == layout.yaxis.ticksuffix == " µm"
    assert {layout.xaxis2.matches, layout.xaxis3.matches} == {"x"}
    assert {layout.yaxis2.matches, layout.yaxis3.matches} == {"y"}


def test_concentrations_run_from_glass_to_the_stains_own_colour(section, concentrations):
    vectors = np.array([[0.600, 0.640, 0.480], [0.120, 0.970, 0.210]])
    figure = concentration_figure(
        section.pixels[:400, :300], concentrations, 1.0, vectors=vectors, white_point=section.white_point
    )
    for vector, axis in zip(vectors, (figure.layout.coloraxis, figure.layout.coloraxis2), strict=True):
        colors = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for _, color in axis.colorscale])
        assert (colors[0] == section.white_point).all()
        seen = optical_density(colors[-1].astype(np.uint8)[None], section.white_point)[0]
        np.testing.assert_allclose(seen / np.linalg.norm(seen), vector, atol=0.03)
        assert axis.cmin == 0
        assert axis.colorbar.title.text == "learned stain concentration"
    assert figure.layout.coloraxis2.cmax == pytest.approx(np.percentile(concentrations[..., 1], 99.5))


def test_a_stain_that_absorbs_nothing_is_still_to_be_seen(section, concentrations):
    vectors = np.array([[-0.600, -0.640, -0.480], [-0.120, -0.970, -0.210]])
    figure = concentration_figure(section.pixels[:400, :300], concentrations, 1.0, vectors=vectors)
    assert figure.layout.coloraxis.colorscale[-1][1] == STAIN_COLORS[0]
    assert figure.layout.coloraxis2.colorscale[-1][1] == STAIN_COLORS[1]


def test_a_region_without_any_stain_has_a_scale_all_the_same(table):
    empty = np.zeros((20, 20, 2), np.float32)
    for values in (empty, np.full_like(empty, np.nan)):
        figure = concentration_figure(
            np.full((20, 20, 3), 244, np.uint8), values, 1.0, vectors=vectors_of(table.loc["ERBB2"])
        )
        assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1)
