"""The Compare page: its states, genes against each other, tiles selected in one view and seen in all, two slides."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nsl.web.compare import gene_comparison, tile_selection
from nsl.web.compare.gene_comparison import ACROSS, BLEND, DIFFERENCE, REGIONS
from nsl.web.compare.tile_selection import Selection
from nsl.web.session.state import SessionState
from tests.app_driver import (
    chart,
    charts,
    choose_genes,
    click,
    finish,
    predict_demo,
    predict_section,
    said,
    session_held,
    slide,
    upload,
)
from tests.made_maps import half_covered

COMPARE = "pages/compare.py"


@pytest.fixture
def page(app):
    """The page with the demo slide predicted, and two genes chosen."""
    predict_demo(app)
    return choose(app.switch_page(COMPARE).run(), "ERBB2", "COX6C")


def in_mode(app, mode: str):
    next(group for group in app.button_group if ACROSS in group.options).set_value(mode)
    return app.run()


def choose(app, *genes: str):
    return choose_genes(app, "compare_genes", *genes)


def heats(figure: dict) -> list[dict]:
    return [trace for trace in figure["data"] if trace["type"] == "heatmap"]


def values(app, gene: str) -> np.ndarray:
    return np.asarray(slide(app).result[:, gene].X).ravel()


def labels(app) -> list[str]:
    return [button.label for button in app.get("download_button")]


# States


def test_the_first_two_genes_are_the_most_trusted_and_one_whose_map_is_unlike_it(app):
    predict_demo(app)
    app.switch_page(COMPARE).run()
    first, second = app.multiselect(key="compare_genes").value
    assert first == "ERBB2"
    assert abs(np.corrcoef(values(app, first), values(app, second))[0, 1]) < 0.2


def test_without_a_slide_the_page_offers_the_demo_and_comes_back_with_its_maps(app):
    app.switch_page(COMPARE).run()
    assert "There is no slide yet" in said(app)
    click(app, "Show it on the demo slide")
    assert "appears here when the run is done" in said(app)
    finish(app)
    assert charts(app) == 2
    assert not app.exception


def test_with_a_slide_not_predicted_the_page_shows_the_way(app, section):
    upload(app, "a.png", section.png)
    app.switch_page(COMPARE).run()
    assert "There is no prediction yet" in said(app)
    assert charts(app) == 0


def test_two_genes_stand_side_by_side_with_their_scatter(page):
    assert not page.exception
    figure = chart(page)
    assert len(heats(figure)) == 2
    assert len(figure["layout"]["images"]) == 2
    titles = " ".join(note["text"] for note in figure["layout"]["annotations"])
    assert "<b>ERBB2</b> · held-out r" in titles
    assert "<b>COX6C</b> · held-out r" in titles
    for axis, gene in (("coloraxis", "ERBB2"), ("coloraxis2", "COX6C")):
        scale = figure["layout"][axis]
        assert (scale["cmin"], scale["cmax"]) == pytest.approx(tuple(np.percentile(values(page, gene), [2, 98])), 1e-4)
    assert chart(page, 1)["layout"]["xaxis"]["title"]["text"].startswith("ERBB2")
    assert "not that they are regulated together" in said(page)


def test_the_demo_slide_is_marked_and_doubtful_stains_are_warned_of(page):
    assert "Synthetic: made by this program" in said(page)
    info = slide(page).result.uns["nsl"]
    info["transfer_strengths"] = np.array([0.2, 1.0])
    page.run()
    assert not page.warning  # the demo's stains are the program's own
    info["synthetic"] = False
    page.run()
    assert "unusual stains" in [part.label for part in page.expander]
    assert "its hematoxylin is 5.0 times as strong as usual" in page.warning[0].value


def test_fewer_than_two_genes_are_asked_for_more(page):
    choose(page, "ERBB2")
    assert "Choose another gene" in said(page)
    assert charts(page) == 0
    choose(page)
    assert "Choose two to four genes" in said(page)
    assert not page.exception


def test_four_genes_share_a_scale_when_wished_and_the_zoom_stays(page):
    before = chart(page)["layout"]["uirevision"]
    page.toggle(key="unreliable_genes").set_value(True).run()
    choose(page, "ERBB2", "COX6C", "CD24", "KRT19")
    next(group for group in page.button_group if "One for all" in group.options).set_value("One for all")
    page.run()
    layout = chart(page)["layout"]
    assert len(heats(chart(page))) == 4
    assert "coloraxis2" not in layout
    shown = np.concatenate([values(page, gene) for gene in ("ERBB2", "COX6C", "CD24", "KRT19")])
    scale = layout["coloraxis"]
    assert (scale["cmin"], scale["cmax"]) == pytest.approx(tuple(np.percentile(shown, [2, 98])), abs=1e-4)
    assert layout["uirevision"] == before


def test_an_unreliable_gene_is_offered_only_when_wished_for_and_marked_in_words(page):
    assert not any(option.startswith("GAPDH") for option in page.selectbox(key="compare_genes add").options)
    page.toggle(key="unreliable_genes").set_value(True).run()
    choose(page, "ERBB2", "GAPDH")
    titles = [note["text"] for note in chart(page)["layout"]["annotations"]]
    assert any("GAPDH" in title and "unreliable" in title for title in titles)
    in_mode(page, DIFFERENCE)
    assert "unreliable" in said(page)


def test_opacity_palette_and_mode_reach_the_maps_and_outlast_a_change_of_page(page):
    page.slider(key="opacity").set_value(40)
    page.selectbox(key="palette").select("Magma")
    choose(page, "CD24", "COX6C")
    page.switch_page("pages/predict.py").run()
    page.switch_page(COMPARE).run()
    figure = chart(page)
    assert heats(figure)[0]["opacity"] == pytest.approx(0.4)
    assert "CD24" in heats(figure)[0]["hovertemplate"]
    assert page.selectbox(key="palette").value == "Magma"


# Difference and blend


def test_a_difference_says_what_it_means_and_can_be_exchanged(page):
    in_mode(page, DIFFERENCE)
    title = chart(page)["layout"]["coloraxis"]["colorbar"]["title"]["text"]
    assert title.startswith("← COX6C higher")
    assert "standard deviations from its own mean over this slide" in said(page)
    click(page, "Exchange the genes")
    assert not page.exception
    assert chart(page)["layout"]["coloraxis"]["colorbar"]["title"]["text"].startswith("← ERBB2 higher")
    assert "CSV of the difference" in labels(page)


def test_a_ratio_of_counts_tells_its_median_and_its_unit(page):
    in_mode(page, DIFFERENCE)
    next(group for group in page.button_group if "Ratio of counts" in group.options).set_value("ratio of counts")
    page.run()
    assert "+1 is twice as many" in said(page)
    counts = [np.expm1(np.clip(values(page, gene), 0, None)) + 0.5 for gene in ("ERBB2", "COX6C")]
    median = np.median(np.log2(counts[0] / counts[1]))
    assert f"White is the median of this slide, {median:.2f}".replace("-", "−") in said(page)


def test_of_more_than_two_genes_a_difference_asks_which_two(page):
    choose(page, "ERBB2", "COX6C", "CD24")
    in_mode(page, DIFFERENCE)
    assert "A difference is of two genes, and 3 are chosen" in said(page)
    page.selectbox(key="compare_first").select("CD24").run()
    page.selectbox(key="compare_second").select("COX6C").run()
    assert "CD24 higher →" in chart(page)["layout"]["coloraxis"]["colorbar"]["title"]["text"]
    click(page, "Exchange the genes")
    assert "COX6C higher →" in chart(page)["layout"]["coloraxis"]["colorbar"]["title"]["text"]
    # The scatter is of the same two.
    assert chart(page, 1)["layout"]["xaxis"]["title"]["text"].startswith("COX6C")
    # A gene that is no longer among the chosen is no longer of the two.
    choose(page, "ERBB2", "CD24")
    assert not page.exception
    assert "ERBB2 higher →" in chart(page)["layout"]["coloraxis"]["colorbar"]["title"]["text"]


def test_a_gene_that_is_the_same_everywhere_is_told_and_the_scatter_stays(page):
    result = slide(page).result
    result.X[:, result.var_names.get_loc("COX6C")] = 1.0
    in_mode(page, DIFFERENCE)
    assert not page.exception
    assert "COX6C is the same on all" in page.error[0].value
    assert charts(page) == 1
    assert {"CSV of these genes", "Report (HTML)"} <= set(labels(page))
    in_mode(page, BLEND)
    assert not page.exception
    assert not page.error


def test_a_blend_has_a_picture_a_key_and_values_to_hover_on(page):
    in_mode(page, BLEND)
    figure = chart(page)
    assert [trace["type"] for trace in figure["data"]].count("image") == 2
    assert "ERBB2" in figure["layout"]["xaxis2"]["title"]["text"]
    assert "COX6C" in figure["layout"]["yaxis2"]["title"]["text"]
    low, high = np.percentile(values(page, "ERBB2"), [2, 98])
    assert figure["layout"]["xaxis2"]["ticktext"] == [f"{low:.2f}", f"{high:.2f}"]
    assert [box.key for box in page.selectbox] == ["compare_genes add"]  # no palette: the colours mean genes


# Tiles selected


def drawn(monkeypatch, area: dict | None, take, *args) -> None:
    """Let a chart tell of an area, as it does before the page runs."""
    monkeypatch.setattr("nsl.web.chart.st.session_state", {"chart": {"area": area}})
    take(*args)
    monkeypatch.undo()


@pytest.fixture
def looked_at(page):
    return slide(page)


def test_a_box_on_a_map_selects_the_tiles_in_it_whichever_panel_it_is_drawn_on(looked_at, monkeypatch):
    area = {"kind": "box", "x": [0.5, 1.5], "y": [2.0, 1.0], "axis": "x3"}
    drawn(monkeypatch, area, tile_selection.take_area, looked_at, "chart", ("x", "x2", "x3"))
    expected = half_covered(looked_at.result, (0.5, 1.5), (1.0, 2.0))
    assert 0 < expected.sum() < len(expected)
    assert tile_selection.selected_tiles(looked_at).tolist() == expected.tolist()


def test_a_box_on_the_key_of_a_blend_selects_nothing(looked_at, monkeypatch):
    area = {"kind": "box", "x": [0, 1], "y": [0, 1], "axis": "x2"}
    drawn(monkeypatch, area, tile_selection.take_area, looked_at, "chart", ("x",))
    assert not tile_selection.selected_tiles(looked_at).any()


@pytest.mark.parametrize("kind", ["box", "lasso"])
def test_an_area_in_the_scatter_selects_the_tiles_whose_values_lie_in_it(looked_at, monkeypatch, kind):
    a, b = (np.asarray(looked_at.result[:, gene].X, float).ravel() for gene in ("ERBB2", "COX6C"))
    x, y = np.percentile(a, [20, 90]), np.percentile(b, [30, 95])
    corners = {"box": (x, y), "lasso": ([x[0], x[1], x[1], x[0]], [y[0], y[0], y[1], y[1]])}[kind]
    area = {"kind": kind, "x": list(corners[0]), "y": list(corners[1]), "axis": "x"}
    drawn(monkeypatch, area, tile_selection.take_points, looked_at, ("ERBB2", "COX6C"), "chart")
    expected = (a > x[0]) & (a < x[1]) & (b > y[0]) & (b < y[1])
    assert expected.sum() > 20
    assert tile_selection.selected_tiles(looked_at).tolist() == expected.tolist()


def test_a_selection_is_seen_in_every_view_with_its_means_until_it_is_cleared(page):
    result = slide(page).result
    inside = np.arange(result.n_obs) % 5 == 0
    slide(page).of_result(Selection).tiles = list(result.obs_names[inside])
    page.run()
    assert not page.exception
    names = [trace.get("name") for trace in chart(page)["data"]]
    assert names.count("selected tiles") == 2
    points = {trace["name"]: trace for trace in chart(page, 1)["data"]}
    assert set(points["selected tiles"]["text"]) == set(result.obs_names[inside])
    assert f"{inside.sum():,} of {result.n_obs:,} tiles are selected" in said(page)
    table = page.dataframe[0].value
    assert list(table.Gene) == ["ERBB2", "COX6C"]
    erbb2 = values(page, "ERBB2").astype(float)
    assert table.Selected.iloc[0] == pytest.approx(erbb2[inside].mean())
    assert table.Rest.iloc[0] == pytest.approx(erbb2[~inside].mean())
    assert table["Difference, sd"].iloc[0] == pytest.approx(
        (erbb2[inside].mean() - erbb2[~inside].mean()) / erbb2.std()
    )
    assert "CSV of the selection" in labels(page)
    for mode in (DIFFERENCE, BLEND):
        in_mode(page, mode)
        assert [trace.get("name") for trace in chart(page)["data"]].count("selected tiles") == 1
    click(page, "Clear the selection")
    assert "selected tiles" not in [trace.get("name") for trace in chart(page)["data"]]
    assert "Draw a box or a lasso" in said(page)


def test_a_selection_of_all_tiles_does_no_harm(page):
    slide(page).of_result(Selection).tiles = list(slide(page).result.obs_names)
    page.run()
    assert not page.exception
    assert page.dataframe[0].value.Rest.isna().all()


@pytest.mark.parametrize(
    ("area", "told"),
    [
        (
            {"kind": "lasso", "x": [0.1, 0.2], "y": [0.1, 0.2], "axis": "x"},
            "What was drawn holds no area; draw the region again",
        ),
        ({"kind": "box", "x": [-2, -1], "y": [-2, -1], "axis": "x"}, "No tile lies in what was drawn; draw it larger"),
    ],
)
def test_what_is_drawn_around_no_tile_is_told_and_the_selection_before_it_stays(page, monkeypatch, area, told):
    shown = slide(page)
    names = list(shown.result.obs_names[:3])
    shown.of_result(Selection).tiles = names
    key = f"Side by side of {shown.key}"
    monkeypatch.setattr("nsl.web.chart.st.session_state", {key: {"area": area}})
    tile_selection.take_area(shown, key, ("x",))
    monkeypatch.undo()
    page.run()
    assert page.error[0].value.startswith(told)
    assert slide(page).of_result(Selection).tiles == names
    assert not page.run().error


# Files


def test_the_table_of_a_difference_holds_the_genes_and_what_is_drawn(looked_at):
    text = gene_comparison.difference_csv(looked_at.result, ("ERBB2", "COX6C"), "standard deviations")
    table = pd.read_csv(pd.io.common.StringIO(text), index_col="tile")
    assert list(table.columns[-3:]) == ["ERBB2", "COX6C", "difference_sd"]
    scores = (table[["ERBB2", "COX6C"]] - table[["ERBB2", "COX6C"]].mean()) / table[["ERBB2", "COX6C"]].std(ddof=0)
    assert table.difference_sd.to_numpy() == pytest.approx((scores.ERBB2 - scores.COX6C).to_numpy(), abs=0.01)


# Links


def open_link(app, **asked):
    for name, value in asked.items():
        app.query_params[name] = value
    app.switch_page(COMPARE)
    return app.run()


def shown_by_link(app):
    return predict_demo(app).run()


def test_the_address_says_the_genes_and_the_palette_and_never_the_slide(page):
    choose(page, "CD24", "ERBB2", "COX6C")
    shown = {"view": "side-by-side", "genes": "CD24,ERBB2,COX6C", "palette": "Viridis", "scale": "own"}
    assert dict(page.query_params) == shown
    in_mode(page, BLEND)
    assert dict(page.query_params) == {"view": "blend", "genes": "CD24,ERBB2,COX6C"}


@pytest.mark.parametrize(("mode", "view"), [(ACROSS, "across-slides"), (REGIONS, "regions")])
def test_the_address_of_what_has_nothing_to_show_holds_no_earlier_view(page, mode, view):
    assert page.query_params["view"] == "side-by-side"
    in_mode(page, mode)
    assert dict(page.query_params) == {"view": view}


def test_the_address_follows_genes_that_are_too_few_to_compare(page):
    choose(page, "CD24")
    assert dict(page.query_params) == {"view": "side-by-side", "genes": "CD24", "palette": "Viridis", "scale": "own"}


def test_a_link_to_a_gene_on_two_slides_waits_for_the_second(app, section):
    open_link(app, view="across-slides", gene="CD24", palette="Cividis")
    shown_by_link(app)
    assert dict(app.query_params) == {"view": "across-slides", "gene": "CD24", "palette": "Cividis"}
    with_second(app, section, "ERBB2 CD24")
    assert app.selectbox(key="gene").value == "CD24"
    assert dict(app.query_params) == {"view": "across-slides", "gene": "CD24", "palette": "Cividis"}


def test_a_link_to_a_kind_of_comparison_shows_it(app):
    open_link(app, view="difference", genes="CD24,KRT19")
    shown_by_link(app)
    assert chart(app)["layout"]["coloraxis"]["colorbar"]["title"]["text"].startswith("← KRT19 higher")


def test_a_link_to_one_scale_for_all_shows_it(app):
    open_link(app, view="side-by-side", genes="CD24,KRT19", scale="shared")
    shown_by_link(app)
    assert "coloraxis2" not in chart(app)["layout"]


@pytest.mark.parametrize("asked", [{"view": "upside-down", "genes": "CD24,KRT19"}, {"scale": "x", "view": "blend"}])
def test_a_link_that_makes_no_sense_does_no_harm(app, asked):
    open_link(app, **asked)
    shown_by_link(app)
    assert not app.exception
    assert charts(app) == 2


def test_a_link_shows_its_genes_in_its_colours(app):
    open_link(app, genes="CD24,KRT19,ERBB2", palette="Cividis")
    shown_by_link(app)
    assert app.multiselect(key="compare_genes").value == ["CD24", "KRT19", "ERBB2"]
    assert len(heats(chart(app))) == 3
    assert app.selectbox(key="palette").value == "Cividis"
    # What is chosen afterwards is not overruled by the link.
    choose(app, "CD24", "COX6C")
    assert app.multiselect(key="compare_genes").value == ["CD24", "COX6C"]


@pytest.mark.parametrize(
    ("asked", "first"),
    [("CD24,<b>NONE</b>", "CD24"), ("NONE1,NONE2,NONE3,NONE4,NONE5", "ERBB2"), ("CD24,CD24,,CD24", "CD24")],
)
def test_a_link_to_genes_that_are_not_there_tells_so_and_shows_two(app, asked, first):
    open_link(app, genes=asked, palette="Rainbow")
    shown_by_link(app)
    assert not app.exception
    shown = app.multiselect(key="compare_genes").value
    assert len(shown) == 2
    assert shown[0] == first
    assert ("not predicted here" in said(app)) == ("NONE" in asked)
    assert "<b>" not in said(app).replace("\\<", "")
    assert len(heats(chart(app))) == 2


def test_a_link_to_more_than_four_genes_shows_four(app):
    open_link(app, genes="CD24,KRT19,ERBB2,COX6C,GAPDH")
    shown_by_link(app)
    assert len(heats(chart(app))) == 4


# Across slides


def look_at_demo(app):
    session = session_held(app, SessionState)
    [session.current] = [slide.key for slide in session.slides.values() if slide.synthetic]


def with_second(app, section, genes: str, name: str = "S23 [left].png"):
    """Beside the demo slide another one, predicted for some genes; the demo slide is looked at."""
    predict_section(app, name, section.png, genes)
    look_at_demo(app)
    app.switch_page(COMPARE).run()
    return in_mode(app, ACROSS)


def test_one_slide_alone_is_told_how_to_come_by_another(page, section):
    in_mode(page, ACROSS)
    assert "is the only slide of this session" in said(page)
    assert charts(page) == 0
    page.switch_page("pages/predict.py").run()
    upload(page, "b.png", section.png)
    look_at_demo(page)
    page.switch_page(COMPARE).run()
    assert "is the only slide with a prediction" in said(page)
    assert not page.exception


def test_one_gene_on_two_slides_has_one_scale_and_the_numbers_of_each(page, section):
    with_second(page, section, "ERBB2 COX6C CD24")
    assert not page.exception
    figure = chart(page)
    both = session_held(page, SessionState).slides.values()
    each = [one.result[:, "ERBB2"].X.ravel() for one in both]
    scale = figure["layout"]["coloraxis"]
    assert (scale["cmin"], scale["cmax"]) == pytest.approx(tuple(np.percentile(np.concatenate(each), [2, 98])), 1e-4)
    assert "matches" not in figure["layout"]["xaxis2"]
    table = page.dataframe[0].value
    assert list(table.Slide) == [one.name for one in both]
    assert table.Tiles.tolist() == [len(one) for one in each]
    for row, one in enumerate(each):
        expected = np.percentile(one, [5, 50, 95])
        assert table.iloc[row, 2:5].to_numpy(float) == pytest.approx(expected, rel=1e-5)
    assert "Synthetic: made by this program" in said(page)
    assert "different weights" not in said(page)
    assert "CSV of ERBB2 on both" in labels(page)


def test_each_slide_s_warnings_are_told_by_its_name(page, section):
    with_second(page, section, "ERBB2 COX6C CD24")
    for one in session_held(page, SessionState).slides.values():
        info = one.result.uns["nsl"]
        is_second = one.name.startswith("S23")
        info["complete"] = not is_second
        info["transfer_strengths"] = np.ones(2)
    page.run()
    assert "The run was cancelled" in said(page)
    assert r"**S23 \[left\].png**" in said(page)


def test_slides_of_different_weights_or_tiles_are_told_not_to_compare(page, section):
    with_second(page, section, "ERBB2 COX6C CD24")
    other = next(one for one in session_held(page, SessionState).slides.values() if not one.synthetic)
    # As of weights trained in the session, which are in no file: what tells them apart is the fit.
    other.finished.weights = replace(other.weights, model=other.weights.model.transferred(np.diag([1.0, 1.1, 1.0])))
    page.run()
    assert "different weights: their values may not compare" in said(page)
    other.result.uns["nsl"]["tile_um"] = 100.0
    page.run()
    assert "100 µm on the other" in said(page)


def test_a_gene_that_only_one_slide_has_is_told(page, section):
    with_second(page, section, "CD24 COX6C")
    assert "ERBB2 was predicted on Demo slide" in said(page)
    assert charts(page) == 0
    page.selectbox(key="gene").select("CD24").run()
    assert charts(page) == 1
    assert not page.exception


def test_a_slide_that_was_removed_is_compared_with_no_longer(page, section):
    with_second(page, section, "ERBB2 COX6C CD24")
    session_held(page, SessionState).slides = {
        key: one for key, one in session_held(page, SessionState).slides.items() if one.synthetic
    }
    page.run()
    assert not page.exception
    assert "is the only slide of this session" in said(page)
