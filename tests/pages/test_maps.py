"""The Maps page: its states, a clicked tile, a drawn region, a finer map, and links to a view."""

import copy
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box

from nsl.export.files import csv_text
from nsl.export.report import report_html
from nsl.numerals import signed
from nsl.slides.annotations.region import Region
from nsl.web import regions
from nsl.web.maps.finer_map import FinerMap
from nsl.web.session.jobs import Job
from nsl.web.session.state import Marks
from tests.app_driver import (
    chart,
    charts,
    click,
    finish,
    metrics,
    number_box,
    predict_demo,
    said,
    slide,
    told_of_pictures,
    upload,
)
from tests.made_maps import half_covered

MAPS = "pages/maps.py"


@pytest.fixture
def maps(app):
    """The page with the demo slide predicted."""
    predict_demo(app)
    return app.switch_page(MAPS).run()


def test_without_a_slide_the_page_offers_the_demo_and_comes_back_with_its_map(app):
    app.switch_page(MAPS).run()
    assert "There is no slide yet" in said(app)
    click(app, "Show it on the demo slide")
    assert slide(app).is_running
    assert "appears here when the run is done" in said(app)
    finish(app)
    assert charts(app) == 1
    assert slide(app).synthetic


def test_with_a_slide_not_predicted_the_page_shows_the_way(app, section):
    upload(app, "a.png", section.png)
    app.switch_page(MAPS).run()
    assert "There is no prediction yet" in said(app)
    assert charts(app) == 0


def test_why_a_run_failed_is_told_here_too(app):
    click(app, "Use the demo slide")
    app.slider(key="min_tissue").set_value(100)
    number_box(app, "Tile side, µm").set_value(900.0).run()
    finish(click(app, "Run"))
    app.switch_page(MAPS).run()
    assert "No tile is at least 100% tissue" in app.error[0].value


def test_a_clicked_tile_shows_its_tissue_values_and_stains(maps):
    tile = slide(maps).result[:, "ERBB2"].to_df().idxmax().item()
    assert "Click a tile" in said(maps)
    slide(maps).marks.tile = tile
    maps.run()
    assert not maps.exception
    assert f"Tile {tile}: 150 µm wide at 1 µm/px" in said(maps)
    table = next(element.value for element in maps.dataframe if "Percentile" in element.value)
    result = slide(maps).result
    assert table.Gene.iloc[0] == "ERBB2"
    assert table.Value.iloc[0] == pytest.approx(result[tile, "ERBB2"].X.item())
    # The stains told are those that the prediction is made of: with effects and intercept they add up to it.
    concentrations = [float(metrics(maps)[name].replace("−", "-")) for name in ("Hematoxylin-like", "Eosin-like")]
    one = slide(maps).weights.model.select(["ERBB2"])
    effect, intercept = one.effect[0].tolist(), one.intercept.item()
    added_up = np.dot(effect, concentrations) + intercept
    assert added_up == pytest.approx(table.Value.iloc[0], abs=0.005 * np.abs(effect).sum() + 0.002)
    assert len(chart(maps)["data"]) == 3  # map, outline, frame


def test_one_steps_from_tile_to_tile(maps):
    result = slide(maps).result
    slide(maps).marks.tile = "r15c15"
    maps.run()
    for sign, tile in {"→": "r15c16", "↓": "r16c16", "←": "r16c15", "↑": "r15c15"}.items():
        assert tile in result.obs_names
        click(maps, sign)
        assert slide(maps).marks.tile == tile
        assert f"Tile {tile}: 150 µm wide" in said(maps)


def test_a_tile_whose_slide_has_gone_is_told_and_the_map_stays(maps):
    slide(maps).marks.tile = slide(maps).result.obs_names[0]
    slide(maps).path.unlink()
    maps.run()
    assert not maps.exception
    assert "does not exist" in maps.error[0].value
    assert charts(maps) == 1


def test_a_region_is_compared_with_the_rest_reliable_genes_first(maps):
    slide(maps).marks.region = {"kind": "box", "x": [0.5, 1.5], "y": [2.6, 1.4], "axis": "x"}
    maps.run()
    assert not maps.exception
    assert "the most reliable first" in said(maps)
    assert "drawn by looking at the map" in said(maps)
    table = next(element.value for element in maps.dataframe if "effect_size" in element.value)
    result = slide(maps).result
    inside = half_covered(result, (0.5, 1.5), (1.4, 2.6))
    gene = table.gene.iloc[0]
    assert table.mean_inside.iloc[0] == pytest.approx(result[inside, gene].X.mean(), rel=1e-4)
    trust = result.var.trust[table.gene]
    assert list(trust) == sorted(trust, key=["reliable", "weak"].index)
    assert list(table.trust) == [{"reliable": "●", "weak": "◐"}[word] for word in trust]
    for sign in "●◐":
        assert table[table.trust == sign].r_heldout.is_monotonic_decreasing
    assert (result.var.r_heldout[table.gene] > 0).all()
    # One gene stands for all that draw its picture.
    r = np.atleast_2d(np.corrcoef(result[:, table.gene].X.astype(float).T))
    assert (np.abs(r[np.triu_indices(len(table), 1)]) < 0.95).all()
    maps.toggle(key="every_gene").set_value(True).run()
    every = next(element.value for element in maps.dataframe if "effect_size" in element.value)
    assert len(every) == len(table) + table.alike.sum() > len(table)
    assert "Download the comparison (CSV)" in [button.label for button in maps.get("download_button")]
    click(maps, "Clear the region")
    assert slide(maps).marks.region is None
    assert "Choose the box or the lasso" in said(maps)


@pytest.mark.parametrize(
    "region",
    [
        {"kind": "box", "x": [9, 10], "y": [9, 10], "axis": "x"},
        {"kind": "lasso", "x": [0.1, 0.2], "y": [0.1, 0.2], "axis": "x"},
        {"kind": "box", "x": [-1, 10], "y": [-1, 10], "axis": "x"},
    ],
    ids=["nothing in it", "two corners", "everything in it"],
)
def test_a_region_that_cannot_be_compared_is_told_in_a_sentence(maps, region):
    slide(maps).marks.region = region
    maps.run()
    assert not maps.exception
    assert len(maps.error) == 1
    assert charts(maps) == 1


def _open_finer_map(maps):
    maps.session_state["fine_part"] = True
    return maps.run()


def _finer_map(maps):
    click(_open_finer_map(maps), "Draw it")
    slide(maps).of_result(FinerMap).job.thread.join(60)
    return maps.run()


def test_a_finer_map_is_drawn_when_asked_for_and_goes_home(maps):
    _finer_map(maps)
    assert not maps.exception
    assert charts(maps) == 2
    fine = chart(maps, 1)["data"][0]
    assert fine["dx"] == pytest.approx(0.02)
    assert "squares of 20 µm" in said(maps)
    offered = {button.label for button in maps.get("download_button")}
    assert {"CSV of the finer map", "AnnData of it (h5ad)", "Finer map to print (PNG)"} <= offered


def test_a_finer_map_costs_nothing_while_its_part_is_closed(maps):
    _finer_map(maps)
    maps.session_state["fine_part"] = False
    maps.run()
    assert charts(maps) == 1
    assert charts(_open_finer_map(maps)) == 2


def test_a_cancelled_finer_map_says_that_it_is_a_part(maps):
    _finer_map(maps)
    slide(maps).of_result(FinerMap).job.result.uns["nsl"]["complete"] = False
    maps.run()
    assert "the squares below the last one reached are missing" in said(maps)


def test_what_still_runs_for_a_slide_ends_with_it_and_its_result_is_let_go(maps):
    held = slide(maps)
    fine = held.of_result(FinerMap).job = Job()
    click(maps, "Remove this slide")
    assert fine.is_stopped
    # A measured section may still know the slide.
    assert held.result is None
    assert held.of_result(FinerMap).job is None


def test_a_tile_is_found_by_its_value_and_by_its_name_without_a_pointer(maps):
    click(maps, "Highest")
    result = slide(maps).result
    highest = result.obs_names[result[:, "ERBB2"].X.argmax()]
    assert f"Tile {highest}:" in said(maps)
    click(maps, "Lowest")
    assert f"Tile {result.obs_names[result[:, 'ERBB2'].X.argmin()]}:" in said(maps)
    name = f"tile of {slide(maps).run}"
    maps.text_input(key=name).set_value(result.obs_names[300]).run()
    assert f"Tile {result.obs_names[300]}:" in said(maps)
    maps.text_input(key=name).set_value("r999c999").run()
    assert "no tile r999c999" in maps.error[0].value
    assert f"Tile {result.obs_names[300]}:" in said(maps)


def test_a_gene_that_could_not_be_held_out_says_so(maps):
    slide(maps).result.var.loc["ERBB2", ["r_heldout", "r_low", "r_high", "q_value", "patients_replicated"]] = np.nan
    maps.run()
    assert not maps.exception
    assert "**ERBB2 could not be held out**" in said(maps)
    assert "nan" not in said(maps)


def test_a_gene_with_a_name_of_markdown_is_shown_letter_by_letter(app):
    predict_demo(app)
    result, name = slide(app).result, "![x](https://example.org/x.png)"
    result.var_names = [name if gene == "ERBB2" else gene for gene in result.var_names]
    slide(app).finished.weights = replace(slide(app).weights, model=_renamed(slide(app).weights.model, name))
    slide(app).marks.tile = result.obs_names[300]
    app.session_state["gene"] = name
    app.switch_page(MAPS).run()
    assert not app.exception
    assert name not in said(app)
    assert "\\[x\\](https\u2060\\://example.org/x.png)" in said(app)


def _renamed(model, name):
    renamed = copy.deepcopy(model)
    renamed.genes = [name if gene == "ERBB2" else gene for gene in model.genes]
    return renamed


def test_another_gene_keeps_the_tile_the_region_and_the_zoom(maps):
    tile = slide(maps).result.obs_names[300]
    slide(maps).marks.tile = tile
    before = chart(maps.run())["layout"]["uirevision"]
    maps.selectbox(key="gene").select("COX6C").run()
    assert slide(maps).marks.tile == tile
    assert chart(maps)["layout"]["uirevision"] == before


def test_a_new_run_forgets_what_was_chosen_on_the_old_map(maps):
    slide(maps).marks.tile = slide(maps).result.obs_names[300]
    maps.switch_page("pages/predict.py").run()
    finish(click(maps, "Run"))
    assert slide(maps).marks == Marks()


def test_the_palette_and_the_opacity_reach_the_map_and_outlast_a_change_of_page(maps):
    maps.selectbox(key="palette").select("Magma")
    maps.slider(key="opacity").set_value(40).run()
    maps.switch_page("pages/predict.py").run()
    maps.switch_page(MAPS).run()
    drawn = chart(maps)
    assert drawn["data"][0]["opacity"] == pytest.approx(0.4)
    assert maps.selectbox(key="palette").value == "Magma"


# Links


def _open_link(app, **asked):
    for name, value in asked.items():
        app.query_params[name] = value
    app.switch_page(MAPS)
    return app.run()


def test_the_address_says_what_is_shown_and_never_the_slide(maps):
    maps.selectbox(key="gene").select("COX6C").run()
    assert dict(maps.query_params) == {
        "gene": "COX6C",
        "palette": "Viridis",
        "range": "percentile:2to98",
    }


def test_a_link_shows_its_view_once_there_is_a_slide(app):
    _open_link(app, gene="CD24", palette="Cividis", range="percentile:10to90")
    assert "This address shows a view of a slide" in said(app)
    click(app, "Show it on the demo slide")
    finish(app)
    assert app.selectbox(key="gene").value == "CD24"
    assert app.selectbox(key="palette").value == "Cividis"
    assert app.slider(key="percentiles").value == (10, 90)
    axis = chart(app)["layout"]["coloraxis"]
    values = slide(app).result[:, "CD24"].X.ravel()
    assert (axis["cmin"], axis["cmax"]) == pytest.approx(tuple(np.percentile(values, [10, 90])), abs=1e-4)


def test_a_link_to_values_restores_them(app):
    _open_link(app, gene="CD24", range="value:1.0to1.1")
    predict_demo(app).run()
    axis = chart(app)["layout"]["coloraxis"]
    assert (axis["cmin"], axis["cmax"]) == pytest.approx((1.0, 1.1), abs=0.02)


def test_an_address_that_comes_back_late_does_not_undo_a_choice(maps):
    old = dict(maps.query_params)
    maps.selectbox(key="gene").select("COX6C").run()
    for name, value in old.items():
        maps.query_params[name] = value
    maps.run()
    assert maps.selectbox(key="gene").value == "COX6C"


def test_what_a_link_asked_of_another_page_is_let_go(app):
    app.query_params["gene"], app.query_params["palette"] = "CD24", "Cividis"
    app.switch_page("pages/stains.py").run()
    assert app.selectbox(key="gene").value == "CD24"
    predict_demo(app.switch_page("pages/predict.py").run())
    app.switch_page(MAPS).run()
    assert app.selectbox(key="palette").value == "Viridis"


def test_a_link_to_an_unreliable_gene_shows_it_marked(app):
    _open_link(app, gene="GAPDH")
    predict_demo(app).run()
    assert app.selectbox(key="gene").value == "GAPDH"
    assert "GAPDH is unreliable" in said(app)


@pytest.mark.parametrize("bad", ["percentile:90to10", "value:atob", "nonsense", "percentile:-5to400", "value:nantonan"])
def test_a_link_that_makes_no_sense_does_no_harm(app, bad):
    _open_link(app, gene="<script>", palette="Rainbow", range=bad)
    predict_demo(app).run()
    assert not app.exception
    assert "which was not predicted here" in said(app)
    assert app.slider(key="percentiles").value == (2, 98)


# What of a map is the gene's own


def test_the_page_says_how_many_genes_draw_the_same_picture_and_leads_to_another(app):
    predict_demo(app, genes=None)
    app.switch_page(MAPS).run()
    result, gene = slide(app).result, app.selectbox(key="gene").value
    held_up = (result.var.r_low > 0) & (result.var.q_value < 0.05) & ~result.var_names.str.startswith("signature:")
    others = [name for name in result.var_names[held_up] if name != gene]
    r = np.corrcoef(result[:, [gene, *others]].X.T)[0, 1:]
    assert f"{(abs(r) >= 0.95).sum():,} of the {len(others):,} other reliable and weak genes" in said(app)
    click(app, f"Most different: {others[np.argmin(abs(r))]}")
    assert app.selectbox(key="gene").value == others[np.argmin(abs(r))]
    assert not app.exception


@pytest.mark.parametrize("value", [1.5, 0.1])  # the mean of many of which is not 0.1 in 32 bits
def test_a_map_that_is_the_same_everywhere_is_no_prediction(maps, value):
    result = slide(maps).result
    result.X[:, list(result.var_names).index("COX6C")] = value
    maps.selectbox(key="gene").select("COX6C").run()
    assert "**No prediction**: the map is the same everywhere" in said(maps)


def test_an_erased_region_is_gone_from_numbers_and_files_until_it_is_restored(maps):
    shown = slide(maps)
    whole, shown.marks.region = shown.result, {"kind": "box", "x": [0.5, 1.5], "y": [2.6, 1.4], "axis": "x"}
    maps.run()
    inside = half_covered(whole, (0.5, 1.5), (1.4, 2.6))
    click(maps, f"Erase its {inside.sum():,} tiles")
    assert not maps.exception
    left = whole[~inside]
    assert metrics(maps)["Tiles"] == f"{left.n_obs:,}"
    assert metrics(maps)["Highest"] == signed(left[:, "ERBB2"].X.max())
    assert f"{inside.sum():,} tiles left out by hand" in said(maps)
    assert f"{left.n_obs:,} tiles" in told_of_pictures(maps)[-1]
    assert list(pd.read_csv(io.StringIO(csv_text(shown.result))).tile) == list(left.obs_names)
    assert f"{inside.sum():,} tiles left out by hand" in report_html(shown.result, "a", genes=["ERBB2"])
    assert shown.marks.region is None

    shown.marks.tile = left.obs_names[300]
    click(maps.run(), "Erase this tile")
    assert metrics(maps)["Tiles"] == f"{left.n_obs - 1:,}"
    assert shown.marks.tile == left.obs_names[301]
    click(maps, "Restore the last 1")
    assert metrics(maps)["Tiles"] == f"{left.n_obs:,}"
    click(maps, f"Restore all {inside.sum():,} erased")
    assert metrics(maps)["Tiles"] == f"{whole.n_obs:,}"
    assert shown.result is whole
    assert "by hand" not in said(maps)


def test_what_was_erased_stays_so_in_the_next_run_on_the_same_tiles_and_regions_are_laid_over_it(maps):
    shown, region = slide(maps), Region("Front", "Tumor", None, box(300, 300, 1500, 2000))
    shown.erase(shown.result.obs_names[:40])
    regions.keep(shown, [region])
    shown.restore()
    assert (shown.result.obs.region_class == "Tumor").sum() > 10
    shown.erase(shown.result.obs_names[:40])
    left = list(shown.result.obs_names)
    assert list(shown.result.obs.region[left[:300]]) == list(shown.whole.obs.region[left[:300]])
    again = replace(shown.finished, key="again", result=shown.whole.copy())
    shown.take(again)
    assert list(shown.result.obs_names) == left
    again.result.uns["nsl"]["stride_um"] = 70.0
    shown.take(again)
    assert (shown.erased, shown.result.n_obs) == ((), shown.whole.n_obs)


def test_a_finer_map_is_blank_where_tiles_are_erased(maps):
    shown = slide(maps)
    place = shown.result.obs[["x_um", "y_um"]]
    shown.erase(shown.result.obs_names[place.x_um < 1500])
    maps.session_state["fine_part"] = True
    click(maps.run(), "Draw it")
    shown.of_result(FinerMap).job.thread.join(60)
    maps.run()
    fine = shown.of_result(FinerMap).job.result
    assert fine.n_obs > 1000
    assert fine.obs.x_um.min() > 1500 - shown.provenance.stride_um
    assert "by hand" in next(caption.value for caption in maps.caption if "squares of 20 µm" in caption.value)
