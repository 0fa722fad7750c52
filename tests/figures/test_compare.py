"""What `compare` promises: panels that zoom as one, colours that mean what is said, lines around tiles."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from nsl import load_weights, open_slide, predict
from nsl.errors import NslError
from nsl.figures.compare import (
    DIFFERENCES,
    across_slides,
    around_tiles,
    blend_colors,
    blend_map,
    difference_map,
    log2_ratio,
    side_by_side,
    standardised_difference,
)
from nsl.figures.maps import window_mm

GENES = ["ERBB2", "CD24", "COX6C"]
OWN = [(0.0, 1.0), (1.0, 2.0), (1.5, 2.5)]


@pytest.fixture
def result(section_png, tiny_weights):
    with open_slide(section_png, mpp=2.0) as slide:
        return predict(slide, load_weights(tiny_weights), stride_um=50)


def decoded(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))


def heats(figure):
    return [trace for trace in figure.data if trace.type == "heatmap"]


# Side by side


def test_each_panel_shows_its_gene_where_its_tiles_lie(result):
    figure = side_by_side(result, GENES, limits=OWN)
    for number, (gene, heat) in enumerate(zip(GENES, heats(figure), strict=True)):
        assert heat.xaxis == ("x", "x2", "x3")[number]
        assert gene in heat.hovertemplate
        for name in result.obs_names[::9]:
            tile = result.obs.loc[name]
            x_mm, y_mm = heat.x0 + tile.array_col * heat.dx, heat.y0 + tile.array_row * heat.dy
            assert (x_mm * 1000, y_mm * 1000) == pytest.approx((tile.x_um, tile.y_um))
            assert heat.z[int(tile.array_row), int(tile.array_col)] == pytest.approx(result[name, gene].X.item())


def test_panels_of_one_slide_zoom_together_and_keep_it_when_one_is_added(result):
    layout = side_by_side(result, GENES, limits=OWN).layout
    assert tuple(layout.xaxis.range) == pytest.approx(window_mm(result)[0])
    for number in (2, 3):
        for letter in "xy":
            axis = layout[f"{letter}axis{number}"]
            assert axis.matches == letter
            assert axis.range is None
    assert layout.uirevision == result.uns["nsl"]["slide_sha256"]
    assert layout.uirevision == side_by_side(result, GENES[:2], limits=OWN[:2]).layout.uirevision


def test_the_slide_lies_under_every_panel(result):
    images = side_by_side(result, GENES, limits=OWN).layout.images
    assert [(image.xref, image.yref) for image in images] == [("x", "y"), ("x2", "y2"), ("x3", "y3")]
    assert all((image.sizex, image.sizey) == pytest.approx((1.4, 1.2)) for image in images)


def test_genes_have_scales_of_their_own_or_share_one(result):
    own = side_by_side(result, GENES, limits=OWN).layout
    axes = [own.coloraxis, own.coloraxis2, own.coloraxis3]
    assert [(axis.cmin, axis.cmax) for axis in axes] == OWN
    shared = side_by_side(result, GENES, limits=[(0, 3)])
    assert {heat.coloraxis for heat in heats(shared)} == {"coloraxis"}
    assert (shared.layout.coloraxis.cmin, shared.layout.coloraxis.cmax) == (0, 3)
    assert "coloraxis2" not in shared.to_plotly_json()["layout"]
    with pytest.raises(ValueError, match="2 pairs of limits for 3 maps"):
        side_by_side(result, GENES, limits=OWN[:2])


def test_titles_say_r_and_which_gene_is_unreliable(result):
    texts = [note.text for note in side_by_side(result, GENES, limits=OWN).layout.annotations]
    titles = [text for text in texts if "held-out" in text]
    assert [title.split("r ")[1].split("<")[0] for title in titles] == ["0.41 ◐", "0.52 ●", "−0.03 ○"]
    assert ["unreliable" in title for title in titles] == [False, False, True]


@pytest.mark.parametrize("genes", [GENES[:2], GENES, [*GENES, "ERBB2"]], ids=len)
@pytest.mark.parametrize("shared", [False, True])
def test_titles_bars_and_panels_stand_apart_whatever_the_width(result, genes, shared):
    limits = [(0, 1)] if shared else [(0, 1)] * len(genes)
    layout = side_by_side(result, genes, limits=limits).layout
    plot_px = layout.height - layout.margin.t - layout.margin.b
    titles = [note for note in layout.annotations if "held-out" in note.text]
    own_bars = [layout[f"coloraxis{n + 1 if n else ''}"].colorbar for n in range(1 if shared else len(genes))]
    for number, title in enumerate(titles):
        suffix = number + 1 if number else ""
        x, y = layout[f"xaxis{suffix}"], layout[f"yaxis{suffix}"]
        assert title.x == x.domain[0]
        title_px = 19 * (title.text.count("<br>") + 1)
        above_px = (title.y - y.domain[1]) * plot_px
        if shared:
            assert above_px > title_px
        else:
            assert (title.y - own_bars[number].y) * plot_px > title_px
            # The bar, and the numbers under it.
            assert (own_bars[number].y - y.domain[1]) * plot_px > own_bars[number].thickness + 20
            assert (own_bars[number].x, own_bars[number].len) == pytest.approx((x.domain[0], x.domain[1] - x.domain[0]))
        if number > 1:
            higher = layout[f"yaxis{number - 1 if number > 2 else ''}"]
            assert (higher.domain[0] - title.y) * plot_px > 20  # the axis's numbers
        # On a narrow page a panel is less high than its place: it keeps to its title.
        assert y.constraintoward == "top"
        assert x.constraintoward == "left"
    if shared:
        assert (1 - own_bars[0].y) * plot_px > 20  # the unit stands above it
        assert (own_bars[0].y - titles[0].y) * plot_px > own_bars[0].thickness + 20
    assert layout.margin.autoexpand is False


def test_four_maps_of_a_real_slide_are_small_enough_to_send(data_folder, embedded):
    genes = ["ERBB2", "CD24", "COX6C", "GAPDH"]
    with open_slide(data_folder / "slides/cmu_small_region.svs") as slide:
        result = predict(slide, embedded, genes=genes, stride_um=50)
    figure = side_by_side(result, genes, limits=[(0, 1)] * 4, selected=np.arange(result.n_obs) % 2 == 0)
    assert len(figure.to_json()) < 1_500_000


# Lines around tiles


def lines(trace) -> set[frozenset]:
    """Each straight piece of a broken line, by its two ends in µm."""
    points = np.column_stack([trace.x, trace.y]) * 1000
    pieces = points.reshape(-1, 3, 2)
    assert np.isnan(pieces[:, 2]).any(axis=1).all()
    assert np.isfinite(pieces[:, :2]).all()
    return {frozenset(map(tuple, np.rint(piece[:2]).astype(int))) for piece in pieces}


def test_the_line_around_one_tile_is_its_square(result):
    selected = result.obs_names == result.obs_names[40]
    x, y = result.obs.loc[result.obs_names[40], ["x_um", "y_um"]]
    a, b, c, d = (x - 25, y - 25), (x + 25, y - 25), (x + 25, y + 25), (x - 25, y + 25)
    assert lines(around_tiles(result, selected)) == {frozenset(pair) for pair in ((a, b), (b, c), (c, d), (d, a))}


def test_no_line_runs_between_two_selected_tiles(result):
    selected = np.random.default_rng(3).random(result.n_obs) < 0.5
    cells = set(map(tuple, result.obs.loc[selected, ["array_row", "array_col"]].to_numpy()))
    free_sides = sum(
        (row + dr, col + dc) not in cells for row, col in cells for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))
    )
    assert len(lines(around_tiles(result, selected))) == free_sides


@pytest.mark.parametrize("draw", ["side_by_side", "difference", "blend"])
def test_selected_tiles_have_a_line_around_them_on_every_map(result, draw):
    selected = np.arange(result.n_obs) < 7
    figure = {
        "side_by_side": lambda: side_by_side(result, GENES, limits=OWN, selected=selected),
        "difference": lambda: difference_map(result, *GENES[:2], selected=selected),
        "blend": lambda: blend_map(result, *GENES[:2], limits=OWN[:2], selected=selected),
    }[draw]()
    drawn = [trace for trace in figure.data if trace.name == "selected tiles"]
    assert {trace.xaxis or "x" for trace in drawn} == ({"x", "x2", "x3"} if draw == "side_by_side" else {"x"})
    assert all(lines(trace) == lines(around_tiles(result, selected)) for trace in drawn)


# Difference and ratio


def with_values(result, **values):
    changed = result.copy()
    for gene, column in values.items():
        changed.X[:, changed.var_names.get_loc(gene)] = column
    return changed


def test_a_difference_in_standard_deviations_does_not_ask_for_level_and_spread(result):
    before = standardised_difference(result, "ERBB2", "CD24")
    other = with_values(result, ERBB2=3 * result[:, "ERBB2"].X.ravel() + 5)
    assert standardised_difference(other, "ERBB2", "CD24") == pytest.approx(before, abs=1e-3)
    assert standardised_difference(result, "CD24", "ERBB2") == pytest.approx(-before)
    ramp = np.arange(result.n_obs)
    opposite = with_values(result, ERBB2=ramp, CD24=-ramp)
    assert standardised_difference(opposite, "ERBB2", "CD24").std() == pytest.approx(2)


def test_a_gene_that_is_the_same_everywhere_has_no_standard_deviation(result):
    flat = with_values(result, CD24=np.full(result.n_obs, 1.5))
    with pytest.raises(NslError, match=f"CD24 is the same on all {result.n_obs} tiles.*choose another gene"):
        standardised_difference(flat, "ERBB2", "CD24")
    assert np.isfinite(difference_map(flat, "ERBB2", "CD24", by=DIFFERENCES[1]).layout.coloraxis.cmax)


def test_one_is_twice_as_many_counts_and_less_than_none_is_none(result):
    counts_a, counts_b = np.full(result.n_obs, 7.5), np.full(result.n_obs, 3.5)
    values = {"ERBB2": np.log1p(counts_a), "CD24": np.log1p(counts_b), "COX6C": np.full(result.n_obs, -0.4)}
    changed = with_values(result, **values)
    assert log2_ratio(changed, "ERBB2", "CD24") == pytest.approx(1)
    assert log2_ratio(changed, "CD24", "COX6C") == pytest.approx(3)
    assert log2_ratio(changed, "COX6C", "CD24") == pytest.approx(-3)


@pytest.mark.parametrize("by", DIFFERENCES)
def test_the_middle_of_a_difference_is_white_and_its_ends_say_which_gene_is_higher(result, by):
    figure = difference_map(result, "ERBB2", "CD24", by=by)
    scale = figure.layout.coloraxis
    values = [np.expm1(np.maximum(result[:, gene].X.ravel(), 0)) + 0.5 for gene in ("ERBB2", "CD24")]
    usual = 0 if by == DIFFERENCES[0] else np.median(np.log2(values[0] / values[1]))
    assert (scale.cmin + scale.cmax) / 2 == pytest.approx(usual, abs=1e-4)
    middle = scale.colorscale[len(scale.colorscale) // 2]
    assert middle[0] == 0.5
    assert min(int(part) for part in middle[1][4:-1].split(",")) > 240
    left, _, right = scale.colorbar.title.text.split(" · ")
    assert "CD24" in left
    assert "ERBB2" in right


@pytest.mark.parametrize("by", DIFFERENCES)
def test_genes_that_hardly_differ_are_drawn_pale(result, by):
    same = with_values(result, ERBB2=result[:, "CD24"].X.ravel() + 0.01 * np.arange(result.n_obs) / result.n_obs)
    figure = difference_map(same, "ERBB2", "CD24", by=by)
    z = np.asarray(heats(figure)[0].z, float)
    scale = figure.layout.coloraxis
    middle, reach = (scale.cmin + scale.cmax) / 2, (scale.cmax - scale.cmin) / 2
    assert np.nanmax(np.abs(z - middle)) < 0.2 * reach


def test_hovering_over_a_difference_or_a_blend_says_both_values(result):
    for figure in (difference_map(result, "ERBB2", "CD24"), blend_map(result, "ERBB2", "CD24", limits=OWN[:2])):
        (heat,) = heats(figure)
        name = result.obs_names[25]
        row, col = result.obs.loc[name, ["array_row", "array_col"]].astype(int)
        told = heat.customdata[row, col]
        expected = [*result[name, ["ERBB2", "CD24"]].X.ravel(), result.obs.tissue_fraction[name]]
        assert told == pytest.approx(expected, rel=1e-5)
        assert "<b>ERBB2</b> %{customdata[0]" in heat.hovertemplate
        assert "<b>CD24</b> %{customdata[1]" in heat.hovertemplate
        assert heat.hoverongaps is False


# Blend


def test_magenta_and_green_add_up_to_white_and_nothing_is_black():
    ends = blend_colors(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert ends.tolist() == [[0, 0, 0], [255, 0, 255], [0, 255, 0], [255, 255, 255]]


def test_each_tile_of_a_blend_has_the_colour_of_its_two_values(result):
    limits = [tuple(np.percentile(result[:, gene].X, [2, 98])) for gene in ("ERBB2", "CD24")]
    figure = blend_map(result, "ERBB2", "CD24", limits=limits, opacity=0.6)
    picture = decoded(figure.data[0].source)
    assert figure.data[0].opacity == 0.6
    covered = np.zeros(picture.shape[:2], bool)
    for name in result.obs_names:
        row, col = result.obs.loc[name, ["array_row", "array_col"]].astype(int)
        covered[row, col] = True
        for channel, gene, (low, high) in ((0, "ERBB2", limits[0]), (1, "CD24", limits[1])):
            value = result[name, gene].X.item()
            expected = 255 * min(max((value - low) / (high - low), 0), 1)
            assert picture[row, col, channel] == pytest.approx(expected, abs=1)
    assert (picture[..., 0] == picture[..., 2]).all()
    assert (picture[covered, 3] == 255).all()
    assert (picture[~covered, 3] == 0).all()


def test_the_key_of_a_blend_names_its_axes_and_does_not_zoom(result):
    figure = blend_map(result, "ERBB2", "CD24", limits=[(0.25, 1), (1, 2)])
    layout = figure.layout
    assert "ERBB2" in layout.xaxis2.title.text
    assert "CD24" in layout.yaxis2.title.text
    assert list(layout.xaxis2.ticktext) == ["0.25", "1.00"]
    assert layout.xaxis2.fixedrange
    assert layout.yaxis2.fixedrange
    assert layout.yaxis2.domain[1] < layout.yaxis.domain[0]
    (key,) = [trace for trace in figure.data if trace.xaxis == "x2"]
    colors = decoded(key.source).astype(int)
    # y goes up: the picture's first row lies at the bottom of the square.
    assert key.dy > 0
    assert colors[0, -1, 0] > 240 > 20 > colors[0, -1, 1]
    assert colors[-1, 0, 1] > 240 > 20 > colors[-1, 0, 0]


# Across slides


@pytest.fixture
def two(result, section, tmp_path, tiny_weights):
    path = tmp_path / "other.png"
    Image.fromarray(section.pixels[:400]).save(path)
    with open_slide(path, mpp=1.0) as slide:
        return [result, predict(slide, load_weights(tiny_weights))]


def test_two_slides_share_a_scale_and_zoom_each_by_itself(two):
    figure = across_slides(two, ["a.svs", "b.svs"], "CD24", limits=(0, 2))
    layout = figure.layout
    assert {heat.coloraxis for heat in heats(figure)} == {"coloraxis"}
    assert layout.xaxis2.matches is None
    assert layout.yaxis2.matches is None
    for result, axis in zip(two, (layout.xaxis, layout.xaxis2), strict=True):
        assert tuple(axis.range) == pytest.approx(window_mm(result)[0])
    assert layout.yaxis2.scaleanchor == "x2"
    shas = [result.uns["nsl"]["slide_sha256"] for result in two]
    assert [layout.xaxis.uirevision, layout.xaxis2.uirevision] == shas
    assert [image.xref for image in layout.images] == ["x", "x2"]
    assert any("CD24, ln(1 + counts per 10,000)" in note.text for note in layout.annotations)


def test_names_of_slides_are_shown_letter_by_letter_and_cut_in_the_middle(two):
    long = "S23-0001 <b>block 2</b> of the second biopsy, level 3.svs"
    titles = [note.text for note in across_slides(two, [long, "b.svs"], "CD24", limits=(0, 2)).layout.annotations]
    shown = next(title for title in titles if "S23" in title)
    assert "&lt;b&gt;" in shown
    assert "…" in shown
    assert shown.split("</b>")[0].endswith("level 3.svs")
    assert f"{two[0].n_obs:,} tiles" in shown


def test_figures_set_no_colour_of_text_and_no_background(two):
    result = two[0]
    for figure in (
        side_by_side(result, GENES, limits=OWN),
        across_slides(two, ["a", "b"], "CD24", limits=(0, 1)),
        difference_map(result, "ERBB2", "CD24"),
        blend_map(result, "ERBB2", "CD24", limits=OWN[:2]),
    ):
        layout = figure.to_plotly_json()["layout"]
        assert "font" not in layout
        assert not any("font" in note for note in layout.get("annotations", []))
        assert layout["plot_bgcolor"] == layout["paper_bgcolor"] == "rgba(0,0,0,0)"
