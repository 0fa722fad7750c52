"""What `correlations` promises: what is drawn is what the tables say, and colour alone says nothing."""

import tomllib
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from nsl.figures.correlations import (
    agreement_in_words,
    agreement_overview,
    agreement_scatter,
    correlation_heatmap,
    gene_scatter,
)
from nsl.figures.style import RELIABLE_COLOR, SELECTED_COLOR, UNRELIABLE_COLOR
from nsl.stats.agreement import gene_correlations
from nsl.stats.correlation import cluster_order, gene_correlations_over_tiles
from tests.made_maps import smooth_map, tiles_in_box


@pytest.fixture(scope="module")
def result() -> anndata.AnnData:
    return smooth_map(14, 16, 12, tiles=180, sigma=1.2, seed=0)


@pytest.fixture(scope="module")
def correlations(result):
    return gene_correlations_over_tiles(result)


def no_text_colors(figure: go.Figure) -> bool:
    layout = figure.to_plotly_json()["layout"]
    return "color" not in layout.get("font", {}) and "color" not in layout.get("title", {}).get("font", {})


# Genes with genes


def test_each_cell_of_the_heat_map_is_the_r_of_its_pair(correlations):
    order = cluster_order(correlations.r)
    (heat,) = correlation_heatmap(correlations, order).data
    assert list(heat.x) == list(heat.y) == [f"G{i}" for i in order]
    for row, gene_a in enumerate(heat.y):
        for column, gene_b in enumerate(heat.x):
            a, b = int(gene_a[1:]), int(gene_b[1:])
            if a == b:
                assert np.isnan(heat.z[row, column])
            else:
                assert heat.z[row, column] == pytest.approx(correlations.r[a, b], abs=1e-6)
                assert heat.customdata[row, column] == pytest.approx(correlations.q_value[a, b], rel=1e-5)


def test_the_colour_of_no_correlation_is_the_middle_of_a_scale_from_minus_1_to_1(correlations):
    figure = correlation_heatmap(correlations)
    scale = figure.layout.coloraxis
    assert (scale.cmin, scale.cmax) == (-1, 1)
    assert figure.data[0].coloraxis == "coloraxis"
    middle = [color for place, color in scale.colorscale if place == 0.5]
    assert middle == ["rgb(247,247,247)"]
    assert figure.layout.yaxis.scaleanchor == "x"
    assert scale.colorbar.title.text == "Pearson r"
    assert correlation_heatmap(replace(correlations, method="spearman")).layout.coloraxis.colorbar.title.text == (
        "Spearman r"
    )


@pytest.mark.parametrize(("genes", "named"), [(50, 50), (51, None)])
def test_every_gene_is_named_on_the_axes_while_names_can_be_read(genes, named):
    figure = correlation_heatmap(gene_correlations_over_tiles(smooth_map(9, 9, genes, tiles=60, sigma=1, seed=2)))
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert (axis.ticktext and len(axis.ticktext)) == named


def test_names_that_begin_alike_are_told_apart_on_the_axes():
    result = smooth_map(9, 9, 3, tiles=60, sigma=1, seed=2)
    result.var_names = ["signature:antigen presentation class I", "signature:antigen presentation class II", "CD24"]
    ticks = correlation_heatmap(gene_correlations_over_tiles(result)).layout.xaxis.ticktext
    assert list(ticks) == ["antige…class I", "antige…lass II", "CD24"]
    result.var_names = ["response to type I interferon A", "response to type II interferon A", "stroma"]
    ticks = correlation_heatmap(gene_correlations_over_tiles(result)).layout.xaxis.ticktext
    assert list(ticks) == ["respon…feron A", "respon…feron A 2", "stroma"]


def test_a_vanishing_q_is_not_drawn_as_zero(correlations):
    tiny = replace(correlations, q_value=np.full_like(correlations.q_value, 1e-80))
    assert (correlation_heatmap(tiny).data[0].customdata > 0).all()


def test_a_scatter_of_genes_holds_every_tile_once_with_the_selected_marked_by_shape_too(result):
    selected = tiles_in_box(result, 0.1, 0.1, 0.5, 0.6)
    figure = gene_scatter(result, "G3", "G7", selected)
    others, chosen = figure.data
    assert len(chosen.x) == selected.sum() > 10
    assert sorted([*others.customdata, *chosen.customdata]) == list(range(result.n_obs))
    for trace in (others, chosen):
        np.testing.assert_array_equal(trace.x, result[trace.customdata, "G3"].X.ravel())
        np.testing.assert_array_equal(trace.y, result[trace.customdata, "G7"].X.ravel())
        assert list(trace.text) == list(result.obs_names[trace.customdata])
    assert chosen.marker.color == SELECTED_COLOR
    assert chosen.marker.symbol != others.marker.symbol
    assert figure.layout.xaxis.title.text == "G3, ln(1 + counts per 10,000)"
    assert figure.layout.yaxis.title.text.startswith("G7, ln")


def _luminance(color: np.ndarray) -> float:
    """Of red, green and blue from 0 to 1, as WCAG 2.2 counts it."""
    return float(np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def _of_hex(color: str) -> np.ndarray:
    return np.array([*bytes.fromhex(color.removeprefix("#"))]) / 255


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_points_stand_out_from_the_page_as_graphics_must(result, agreement, theme):
    themes = tomllib.loads((Path(__file__).parents[2] / ".streamlit/config.toml").read_text(encoding="utf-8"))["theme"]
    page, (measured, _) = _of_hex(themes[theme]["backgroundColor"]), agreement
    scatters = (
        gene_scatter(result, "G3", "G7"),
        agreement_scatter(result.X[:, 1], measured[:, 1], "G1", result.obs_names),
    )
    for marker in (scatter.data[0].marker for scatter in scatters):
        shown = marker.opacity * _of_hex(marker.color) + (1 - marker.opacity) * page
        darker, lighter = sorted([_luminance(shown), _luminance(page)])
        assert (lighter + 0.05) / (darker + 0.05) >= 3


def test_a_scatter_of_genes_says_r_over_all_and_over_the_selected(result):
    selected = tiles_in_box(result, 0.1, 0.1, 0.5, 0.6)
    r = np.corrcoef(result.X[:, 3], result.X[:, 7])[0, 1]
    r_selected = np.corrcoef(result.X[selected, 3], result.X[selected, 7])[0, 1]
    said = gene_scatter(result, "G3", "G7", selected).layout.title.subtitle.text.replace("−", "-")
    assert said == f"r {r:.2f} over 180 tiles; r {r_selected:.2f} over the {selected.sum()} selected"
    assert gene_scatter(result, "G3", "G7").layout.title.subtitle.text.replace("−", "-") == f"r {r:.2f} over 180 tiles"


def test_few_points_are_drawn_sharp_many_fast_and_very_many_in_part():
    few, many, very_many = (
        smooth_map(side, side, 2, tiles=tiles, sigma=1, seed=0)
        for side, tiles in ((20, 300), (60, 3_000), (160, 24_000))
    )
    assert isinstance(gene_scatter(few, "G0", "G1").data[0], go.Scatter)
    assert isinstance(gene_scatter(many, "G0", "G1").data[0], go.Scattergl)
    selected = np.arange(24_000) < 6_000
    figure = gene_scatter(very_many, "G0", "G1", selected)
    drawn = [len(trace.x) for trace in figure.data]
    assert sum(drawn) == 20_000
    assert drawn[1] == pytest.approx(5_000, rel=0.05)
    r = np.corrcoef(very_many.X.T.astype(float))[0, 1]
    said = figure.layout.title.subtitle.text.replace("−", "-")
    assert said.startswith(f"r {r:.2f} over 24,000 tiles; ")
    assert said.endswith("; 20,000 tiles are drawn")
    again = gene_scatter(very_many, "G0", "G1", selected)
    np.testing.assert_array_equal(again.data[0].customdata, figure.data[0].customdata)


def test_a_gene_that_is_the_same_everywhere_has_a_scatter_but_no_r(result):
    flat = result.copy()
    flat.X[:, 3] = 0.5
    assert gene_scatter(flat, "G3", "G7").layout.title.subtitle.text == "r cannot be told over 180 tiles"


# Predicted with measured


@pytest.fixture(scope="module")
def agreement(result) -> tuple[np.ndarray, pd.DataFrame]:
    """Measured expression of which G0 follows the prediction best, G11 not at all; G5 was not measured."""
    other = smooth_map(14, 16, 12, tiles=180, sigma=0.3, seed=1)
    measured = result.X.astype(float) + other.X * np.geomspace(0.3, 20, 12)
    measured[:, 5] = 0
    centers = result.obs[["x_um", "y_um"]].to_numpy()
    return measured, gene_correlations(result.X, measured, centers, list(result.var_names))


def test_a_spot_lies_at_its_predicted_and_measured_expression(result, agreement):
    measured, _ = agreement
    figure = agreement_scatter(result.X[:, 1], measured[:, 1], "G1", result.obs_names)
    points, line = figure.data
    np.testing.assert_allclose(points.x, result.X[:, 1])
    np.testing.assert_allclose(points.y, measured[:, 1])
    assert list(points.text) == list(result.obs_names)
    slope, intercept = np.polyfit(result.X[:, 1].astype(float), measured[:, 1], 1)
    np.testing.assert_allclose(line.y, slope * np.array(line.x) + intercept)
    assert min(points.x) == pytest.approx(line.x[0])
    assert figure.layout.xaxis.title.text.startswith("predicted G1, ln")
    assert figure.layout.yaxis.title.text.startswith("measured G1, ln")


def test_a_scatter_says_r_its_interval_and_what_the_spots_count_for(result, agreement):
    _, table = agreement
    row = table.loc["G1"]
    said = agreement_in_words(row, 180)
    assert f"r {row.pearson_r:.2f}, 95 % interval {row.r_low:.2f} to {row.r_high:.2f}" in said
    assert f"the 180 spots count for {row.effective_n:.0f} independent ones" in said
    assert f"interval −{-table.r_low['G11']:.2f} to" in agreement_in_words(table.loc["G11"], 180)


def test_spots_without_a_measurement_are_left_out_and_names_still_fit(result, agreement):
    measured, _ = agreement
    holes = measured[:, 1].copy()
    holes[:10] = np.nan
    (points, _) = agreement_scatter(result.X[:, 1], holes, "G1", [f"s{i}" for i in range(180)]).data
    assert list(points.text) == [f"s{i}" for i in range(10, 180)]
    np.testing.assert_allclose(points.y, measured[10:, 1])


def test_what_cannot_be_told_is_drawn_without_a_line_and_says_so(result, agreement):
    measured, table = agreement
    figure = agreement_scatter(np.full(180, 1.5), measured[:, 5], "G5", result.obs_names)
    assert len(figure.data) == 1
    assert "cannot be told" in agreement_in_words(table.loc["G5"], 180)


def test_a_gene_counted_in_too_few_spots_for_a_q_says_so(agreement):
    table = agreement[1].copy()
    table.loc["G0", "q_value"] = np.nan
    assert "counted in too few spots for a q" in agreement_in_words(table.loc["G0"], 180)
    traces = agreement_overview(table).data[1:]
    told = {gene: list(row) for one in traces for gene, row in zip(one.text, one.customdata, strict=True)}
    low, high = table.loc["G0", ["r_low", "r_high"]]
    assert told["G0"] == [f"95 % interval {low:.2f} to {high:.2f}, ", "counted in too few spots for a q"]
    assert told["G1"][1] == f"q {table.q_value['G1']:.2g}"


def test_a_gene_known_from_too_few_independent_spots_has_an_r_alone(agreement):
    table = agreement[1].copy()
    table.loc["G0", ["r_low", "r_high", "p_value", "q_value"]] = np.nan
    table.loc["G0", "effective_n"] = 2.4
    r = f"r {table.pearson_r['G0']:.2f}"
    told = agreement_in_words(table.loc["G0"], 180)
    assert told == f"{r}, too few independent spots for a q; the 180 spots count for 2 independent ones"
    ribbon = agreement_overview(table).data[0]
    assert len(ribbon.x) == 2 * 10
    assert np.isfinite(np.array(ribbon.y, float)).all()


def test_genes_are_ranked_by_r_inside_a_ribbon_of_their_intervals(agreement):
    _, table = agreement
    ribbon, found, others = agreement_overview(table).data
    told = table.drop("G5")
    place = {}
    for trace in (found, others):
        for x, y, gene in zip(trace.x, trace.y, trace.text, strict=True):
            assert y == told.pearson_r[gene]
            place[gene] = x
    assert sorted(place.values()) == list(range(1, 12))
    assert told.pearson_r[sorted(place, key=place.get)].is_monotonic_decreasing
    low = dict(zip(ribbon.x[:11], ribbon.y[:11], strict=True))
    high = dict(zip(ribbon.x[11:], ribbon.y[11:], strict=True))
    for gene, x in place.items():
        assert (low[x], high[x]) == (told.r_low[gene], told.r_high[gene])


def test_genes_told_from_chance_differ_in_colour_and_shape_and_are_counted(agreement):
    _, table = agreement
    figure = agreement_overview(table)
    _, others, found = figure.data  # found last, on top
    significant = table.index[(table.q_value < 0.05) & (table.pearson_r > 0)]
    assert 0 < len(significant) < 11
    assert set(found.text) == set(significant)
    assert (found.marker.color, others.marker.color) == (RELIABLE_COLOR, UNRELIABLE_COLOR)
    assert found.marker.symbol != others.marker.symbol
    assert f"{len(significant)} genes" in found.name
    median = f"{table.pearson_r.median():.2f}"
    assert figure.layout.title.subtitle.text == f"median r {median} over 11 genes; 1 more cannot be told"


def test_a_gene_significantly_below_zero_is_no_success():
    table = pd.DataFrame(
        {"pearson_r": [0.6, -0.6], "r_low": [0.4, -0.8], "r_high": [0.8, -0.4], "q_value": [0.001, 0.001]},
        index=["A", "B"],
    )
    _, others, found = agreement_overview(table).data
    assert (list(found.text), list(others.text)) == (["A"], ["B"])


def test_an_overview_of_nothing_says_so():
    columns = ["pearson_r", "r_low", "r_high", "q_value"]
    table = pd.DataFrame(np.full((2, 4), np.nan), index=["A", "B"], columns=columns)
    assert agreement_overview(table).layout.title.subtitle.text == "no gene; 2 more cannot be told"


def test_figures_leave_the_colour_of_text_to_the_page(result, correlations, agreement):
    measured, table = agreement
    figures = (
        correlation_heatmap(correlations),
        gene_scatter(result, "G0", "G1"),
        agreement_overview(table),
        agreement_scatter(result.X[:, 0], measured[:, 0], "G0", result.obs_names),
    )
    for figure in figures:
        assert no_text_colors(figure)
        assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
