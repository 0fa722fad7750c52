"""The Correlations page: genes with each other, and predictions against what was measured, in each of their states."""

import io
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import anndata
import matplotlib
import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
import streamlit as st
from scipy import stats

from nsl.errors import SlideError, SpotsError
from nsl.export.files import h5ad_bytes
from nsl.figures.correlations import correlation_heatmap
from nsl.numerals import six_digits
from nsl.stats.correlation import GeneCorrelations, gene_correlations_over_tiles
from nsl.web.correlations import gene_pairs, measurements
from nsl.web.correlations.gene_pairs import ChosenPair
from nsl.web.session import uploads
from nsl.web.session.state import SessionState
from tests.app_driver import (
    chart,
    charts,
    click,
    finish,
    metrics,
    predict_demo,
    predict_section,
    said,
    session_held,
    slide,
    type_gene,
    upload,
)
from tests.made_maps import smooth_map

PAGE = "pages/correlations.py"
GENES = ["ERBB2", "CD24", "COX6C", "KRT19", "EPCAM", "GAPDH", "ACTB", "SCD", "IGKC", "COL1A1", "TMSB4X", "CDH1"]


@pytest.fixture
def page(app, section):
    """The page with a small section predicted for twelve genes, alike or not."""
    app.session_state["every_gene"] = True
    predict_section(app, "my section.png", section.png, " ".join(GENES))
    return app.switch_page(PAGE).run()


@pytest.fixture
def against(page):
    """The half of the page that compares with measurement."""
    return _turn_to(page, "Against measurement")


@pytest.fixture
def counts(page):
    """Raw counts at the tiles' centres: ERBB2 follows its prediction, CD24 runs against its own, ACTB follows none."""
    return _counts(slide(page).result)


@pytest.fixture
def spots(page):
    """Where those spots are."""
    return _positions(slide(page).result)


@pytest.fixture
def compared(against, counts, spots):
    """The page with those counts compared."""
    return _compare(_bring(against, ("counts.csv", counts), ("spots.csv", spots)))


def _turn_to(app, half):
    app.button_group(key="correlated_with").set_value(half)
    return app.run()


def _counts(result) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    erbb2, cd24 = (result[:, gene].X.ravel().astype(float) for gene in ("ERBB2", "CD24"))
    per_10_000 = {
        "ERBB2": np.expm1(3 + 2 * _scores(erbb2)),
        "CD24": np.expm1(3 - 2 * _scores(cd24)),
        "ACTB": rng.lognormal(3, 0.5, len(erbb2)),
    }
    per_10_000["OTHER"] = 10_000 - sum(per_10_000.values())
    table = pd.DataFrame({gene: rng.poisson(5 * mean) for gene, mean in per_10_000.items()})
    return table.set_axis(pd.Index([f"s{i}" for i in range(len(table))], name="spot"))


def _scores(values: np.ndarray) -> np.ndarray:
    """From 0 to 1."""
    return (values - values.min()) / np.ptp(values)


def _positions(result) -> pd.DataFrame:
    xy = result.obsm["spatial"]
    return pd.DataFrame({"spot": [f"s{i}" for i in range(len(xy))], "x_px": xy[:, 0], "y_px": xy[:, 1]})


def _bring(app, *files):
    """Put files, of bytes or tables by their names, in the uploader."""
    uploader = app.main.get("file_uploader")[0].clear()
    for name, content in files:
        if isinstance(content, pd.DataFrame):
            content = content.to_csv(index=content.index.name is not None).encode()
        uploader.upload(name, content)
    return app.run()


def _compare(app):
    click(app, "Compare")
    job = _brought(app).job
    if job is not None:
        job.thread.join(60)
    return app.run()


def _brought(app) -> measurements.MeasuredData:
    return slide(app).of_slide(measurements.MeasuredData)


def _labels(app) -> list[str]:
    return [button.label for button in [*app.button, *app.get("download_button")]]


def _table(app, column: str) -> pd.DataFrame:
    return next(element.value for element in app.dataframe if column in element.value)


# Before there is anything to correlate


def test_without_a_slide_the_page_offers_the_demo(app):
    app.switch_page(PAGE).run()
    assert not app.exception
    assert "There is no slide yet" in said(app)
    assert charts(app) == 0


def test_with_a_slide_not_predicted_the_page_shows_the_way(app, section):
    upload(app, "a.png", section.png)
    app.switch_page(PAGE).run()
    assert "There is no prediction yet" in said(app)


# Genes with each other


def test_the_heat_map_has_one_gene_a_pattern_the_most_reliable_of_each(app):
    predict_demo(app, genes=None)
    app.switch_page(PAGE).run()
    assert not app.exception
    result = slide(app).result
    ranked = result.var.sort_values("r_heldout", ascending=False)
    reliable = list(ranked.index[(ranked.r_low > 0) & (ranked.q_value < 0.05)])
    shown = set(chart(app)["data"][0]["x"])
    assert reliable[0] in shown
    assert f"different pictures, which {len(reliable):,} reliable and weak genes draw" in said(app)
    r = np.abs(np.corrcoef(result[:, reliable].X.astype(float).T))
    is_shown = np.isin(reliable, list(shown))
    assert (r[np.ix_(is_shown, is_shown)] - np.eye(len(shown)) < 0.95).all()
    # What is left out is drawn by a gene that is shown and no less reliable.
    for place in np.flatnonzero(~is_shown):
        assert r[place, :place][is_shown[:place]].max() > 0.9499


def test_the_fifty_most_reliable_genes_are_correlated_where_patterns_do_not_matter(app):
    predict_demo(app, genes=None)
    app.session_state["every_gene"] = True
    app.switch_page(PAGE).run()
    assert not app.exception
    ranked = slide(app).result.var.sort_values("r_heldout", ascending=False)
    reliable = pd.concat([ranked[ranked.trust == word] for word in ("reliable", "weak")])
    assert sorted(chart(app)["data"][0]["x"]) == sorted(reliable.index[:50])
    assert "Synthetic: made by this program" in said(app)
    app.slider(key="correlated_number").set_value(120).run()
    assert len(chart(app)["data"][0]["x"]) == 120
    table = _table(app, "gene_a")
    assert len(table) == 2_000
    assert table.r.abs().is_monotonic_decreasing
    assert "2,000 pairs, the largest |r| first; the CSV holds all 7,140" in said(app)


def test_the_table_and_the_heat_map_hold_the_correlation_over_tiles(page):
    result, table = slide(page).result, _table(page, "gene_a")
    expected = np.corrcoef(result.X.astype(float).T)
    where = {gene: i for i, gene in enumerate(result.var_names)}
    assert len(table) == len(table.drop_duplicates(["gene_a", "gene_b"])) > 20
    for row in table.itertuples():
        assert row.r == pytest.approx(expected[where[row.gene_a], where[row.gene_b]], abs=1e-4)
        assert 0 <= row.q_value <= 1
        for gene, sign in ((row.gene_a, row.trust_a), (row.gene_b, row.trust_b)):
            assert sign == {"reliable": "●", "weak": "◐", "unreliable": "○"}[result.var.trust[gene]]
    # What the CSV says of the same pairs.
    shown = sorted({*table.gene_a, *table.gene_b})
    assert gene_correlations_over_tiles(result, shown).pairs_table().effective_n.between(4, result.n_obs).all()


def test_spearman_is_of_ranks(page):
    page.button_group(key="correlation_method").set_value("Spearman")
    page.run()
    result, row = slide(page).result, _table(page, "gene_a").iloc[-1]
    ranks = pd.DataFrame(result[:, [row.gene_a, row.gene_b]].X).rank()
    assert row.r == pytest.approx(np.corrcoef(ranks.to_numpy().T)[0, 1], abs=1e-4)
    assert chart(page)["layout"]["coloraxis"]["colorbar"]["title"]["text"] == "Spearman r"


def test_a_pasted_list_is_correlated_common_names_too(page):
    page.button_group(key="correlated_which").set_value("A list")
    page.run()
    assert "Name two genes or more" in said(page)
    assert charts(page) == 0
    page.text_area(key="correlated_list").set_value("HER2, cox6c\nSCD").run()
    assert sorted(chart(page)["data"][0]["x"]) == ["COX6C", "ERBB2", "SCD"]


@pytest.mark.parametrize(
    ("pasted", "told"),
    [
        ("ERBB2", "Name two genes or more that were predicted here"),
        ("ERBB2, ERBB22", "Left out, because they were not predicted on this slide: ERBB22."),
        ("ERBB2, AGR2", "Left out, because they were not predicted on this slide: AGR2."),
        ("1, 2, 3", "The list holds no gene names"),
    ],
)
def test_a_list_that_cannot_be_correlated_is_told_in_a_sentence(page, pasted, told):
    page.button_group(key="correlated_which").set_value("A list")
    page.run()
    page.text_area(key="correlated_list").set_value(pasted).run()
    assert not page.exception
    assert told in said(page)
    assert charts(page) == 0


def test_genes_of_a_list_that_were_predicted_are_correlated_and_the_others_named(page):
    page.button_group(key="correlated_which").set_value("A list")
    page.run()
    page.text_area(key="correlated_list").set_value("ERBB2, ERBB22, SCD, AGR2").run()
    assert sorted(chart(page)["data"][0]["x"]) == ["ERBB2", "SCD"]
    assert "not predicted on this slide: ERBB22, AGR2" in said(page)


def test_a_pair_whose_genes_are_no_longer_correlated_is_let_go(page):
    slide(page).of_result(ChosenPair).genes = ("CD24", "SCD")
    page.button_group(key="correlated_which").set_value("A list")
    page.run()
    page.text_area(key="correlated_list").set_value("ERBB2, COX6C").run()
    assert page.query_params["genes"] in ("ERBB2,COX6C", "COX6C,ERBB2")


def test_the_r_of_a_scatter_is_of_the_kind_chosen(page):
    page.button_group(key="correlation_method").set_value("Spearman")
    page.run()
    a, b = page.query_params["genes"].split(",")
    result = slide(page).result
    r = stats.spearmanr(result[:, a].X.ravel(), result[:, b].X.ravel()).statistic
    assert f"Spearman r {r:.2f}" in json.dumps(chart(page, 1), ensure_ascii=False)


def test_pairs_of_one_gene_are_found_among_all(page):
    page.selectbox(key="pairs_with").select("SCD").run()
    table = _table(page, "gene_a")
    assert ((table.gene_a == "SCD") | (table.gene_b == "SCD")).all()


def test_pairs_of_a_gene_that_is_not_correlated_are_told_of_and_none_left_out(page):
    type_gene(page, "KRT8", "pairs_with")
    assert "KRT8 is not among the genes correlated here" in said(page)
    type_gene(page, "ER", "pairs_with")
    assert "ER is ESR1, which is not in these weights" in said(page)
    assert page.selectbox(key="pairs_with").value is None
    type_gene(page, "HER2", "pairs_with")
    table = _table(page, "gene_a")
    assert ((table.gene_a == "ERBB2") | (table.gene_b == "ERBB2")).all()
    page.selectbox(key="pairs_with").select(None).run()
    assert len(_table(page, "gene_a")) > len(table)


def test_a_clicked_cell_chooses_the_two_genes_of_the_scatter(page, monkeypatch):
    looked_at, state = slide(page), {"cells": {"clicked": {"x": "SCD", "y": "CD24"}}}
    monkeypatch.setattr(st, "session_state", state)
    gene_pairs._take_cell(looked_at, "cells", "rows")
    assert looked_at.of_result(ChosenPair).genes == ("CD24", "SCD")
    assert state["rows"] == {"selection": {"rows": []}}
    state["cells"] = {"clicked": {"x": "SCD", "y": "SCD"}}  # a gene with itself
    gene_pairs._take_cell(looked_at, "cells", "rows")
    assert looked_at.of_result(ChosenPair).genes == ("CD24", "SCD")
    monkeypatch.undo()
    page.run()
    assert "CD24 and SCD" in json.dumps(chart(page, 1), ensure_ascii=False)
    assert page.query_params["genes"] == "CD24,SCD"


@pytest.fixture
def marking(monkeypatch):
    """Tables of which a row can be marked, as they are shown, and what answers."""
    shown = []
    monkeypatch.setattr(
        "nsl.web.controls.table_to_mark", lambda table, columns, **options: shown.append((table, options["on_mark"]))
    )
    return shown


def test_a_marked_row_chooses_the_two_genes_of_the_scatter(page, marking):
    page.run()
    table, mark = marking[-1]
    mark(table.iloc[3])
    page.run()
    first, second = table.gene_a[3], table.gene_b[3]
    assert f"{first} and {second}" in json.dumps(chart(page, 1), ensure_ascii=False)
    assert page.query_params["genes"] == f"{first},{second}"


def test_a_clicked_cell_gives_the_names_back_that_it_shows_letter_by_letter(monkeypatch):
    genes = ["SCD", "<i>A</i> & B"]
    result = smooth_map(9, 9, 2, tiles=60, sigma=1, seed=0)
    result.var_names = genes
    (heat,) = correlation_heatmap(gene_correlations_over_tiles(result)).data
    assert heat.x[1] != genes[1]
    pair = ChosenPair()
    looked_at = SimpleNamespace(of_result=lambda kind: pair)
    monkeypatch.setattr(st, "session_state", {"cells": {"clicked": {"x": heat.x[1], "y": heat.y[0]}}})
    gene_pairs._take_cell(looked_at, "cells", "rows")
    assert pair.genes == tuple(genes)


def test_a_link_to_two_genes_shows_them(app, section):
    app.query_params["genes"] = "CD24,SCD"
    app.switch_page(PAGE).run()
    predict_demo(app, "CD24 SCD COX6C").run()
    assert slide(app).of_result(ChosenPair).genes == ("CD24", "SCD")
    assert not app.exception


def test_zoom_starts_anew_with_other_genes_and_not_with_another_pair(page):
    before = chart(page)["layout"]["uirevision"]
    slide(page).of_result(ChosenPair).genes = ("CD24", "SCD")
    assert chart(page.run())["layout"]["uirevision"] == before
    page.button_group(key="correlated_which").set_value("A list")
    page.run()
    page.text_area(key="correlated_list").set_value("CD24 SCD").run()
    assert chart(page)["layout"]["uirevision"] != before


def _found(maps: np.ndarray) -> gene_pairs.PairsOfGenes:
    r = np.corrcoef(maps.T)
    unknown = np.full_like(r, np.nan)
    genes = [f"G{i}" for i in range(len(r))]
    patterns = len(r) ** 2 / (r**2).sum()
    return gene_pairs.PairsOfGenes(
        GeneCorrelations(genes, r, unknown, unknown, unknown, "pearson"), np.arange(len(r))[::-1], patterns
    )


def test_the_sentence_on_patterns_follows_the_maps():
    rng = np.random.default_rng(1)
    one, noise = rng.normal(size=(400, 1)), rng.normal(size=(400, 6))
    alike = gene_pairs.patterns_in_words(_found(one + 0.05 * noise))
    assert "These 6 genes show about 1.0 independent patterns" in alike
    assert "nearly alike, because all read the same two stains" in alike
    reverse = gene_pairs.patterns_in_words(_found(one * [1, 1, 1, -1, -1, -1] + 0.05 * noise))
    assert "nearly alike or each other's reverse, because" in reverse
    unrelated = gene_pairs.patterns_in_words(_found(noise))
    assert "about 5.9 independent patterns" in unrelated
    assert "little alike." in unrelated
    assert "because" not in unrelated
    assert "None of these 6 genes varies" in gene_pairs.patterns_in_words(_found(noise)._replace(patterns=0.0))


def test_the_csv_hold_every_pair_and_the_matrix_in_the_order_of_the_heat_map():
    found = _found(np.random.default_rng(2).normal(size=(50, 4)))
    pairs = pd.read_csv(io.StringIO(six_digits(found.correlations.pairs_table(), index=False)))
    assert len(pairs) == 6
    assert list(pairs.columns) == ["gene_a", "gene_b", "r", "effective_n", "p_value", "q_value"]
    matrix = pd.read_csv(io.StringIO(gene_pairs.matrix_csv(found)), index_col="gene")
    assert list(matrix.index) == list(matrix.columns) == ["G3", "G2", "G1", "G0"]
    pair = pairs.iloc[0]
    assert matrix.loc[pair.gene_a, pair.gene_b] == pytest.approx(pair.r) == matrix.loc[pair.gene_b, pair.gene_a]


# Against measurement: bringing data


def test_what_is_needed_is_said_before_anything_is_brought(against):
    assert not against.exception
    assert "counts and spot positions" in said(against)
    assert "Compare" not in _labels(against)


def test_the_address_holds_no_pair_of_genes_beside_what_is_to_be_compared_with_measurement(page):
    assert len(page.query_params["genes"].split(",")) == 2
    assert dict(_turn_to(page, "Against measurement").query_params) == {}


def test_what_was_read_is_told_before_it_is_compared(against, counts, spots):
    _bring(against, ("counts.csv", counts), ("spots.csv", spots))
    assert not against.exception
    assert not against.error
    assert metrics(against) == {
        "Spots": f"{len(counts):,}",
        "Genes": "4",
        "Median counts": f"{counts.sum(axis=1).median():,.0f}",
    }
    assert f"All {len(counts)} spots lie on the slide, and they take part." in said(against)
    assert "**3 of 12** predicted genes are among the 4 measured" in said(against)
    assert "counts.csv and spots.csv" in said(against)
    assert "Compare" in _labels(against)


def test_spots_beside_the_tissue_take_no_part(against, counts, spots):
    glass = pd.DataFrame({"spot": [f"glass{i}" for i in range(4)], "x_px": 3.0, "y_px": [3.0, 5.0, 7.0, 9.0]})
    usual = counts.median().astype(int).to_dict()
    empty = pd.DataFrame(usual, index=pd.Index(glass.spot, name=counts.index.name))
    _compare(_bring(against, ("counts.csv", pd.concat([counts, empty])), ("spots.csv", pd.concat([spots, glass]))))
    told = f"All {len(counts) + 4} spots lie on the slide, and {len(counts)} of them, on predicted tissue, take part."
    assert told in said(against)
    assert (_brought(against).compared.table.n_spots == len(counts)).all()


def test_spots_are_not_placed_on_a_slide_that_is_shown_turned(against, counts, spots):
    own = slide(against)
    own.seen = replace(own.seen, is_turned=True)
    _bring(against, ("counts.csv", counts), ("spots.csv", spots))
    assert "is stored turned or mirrored" in against.error[0].value
    assert "Compare" not in _labels(against)


def test_the_first_of_two_tables_waits_for_the_second(against, counts, spots):
    _bring(against, ("counts.csv", counts))
    assert "counts.csv is one of two: add the other" in said(against)
    assert not against.error
    _bring(against, ("counts.csv", counts), ("spots.csv", spots))
    assert "Compare" in _labels(against)


def test_a_table_brought_again_stands_for_the_one_before_of_its_name(against, counts, spots):
    _bring(against, ("counts.csv", 10 * counts), ("counts.csv", counts))
    assert "counts.csv is one of two: add the other" in said(against)
    _bring(against, ("counts.csv", 10 * counts), ("counts.csv", counts), ("spots.csv", spots))
    assert "**counts.csv and spots.csv**" in said(against)
    assert metrics(against)["Median counts"] == f"{counts.sum(axis=1).median():,.0f}"


def test_an_h5ad_is_a_section_by_itself(against, counts, spots):
    section = anndata.AnnData(counts.to_numpy(np.float32), obsm={"spatial": spots[["x_px", "y_px"]].to_numpy()})
    section.obs_names, section.var_names = counts.index, counts.columns
    _bring(against, ("section.h5ad", h5ad_bytes(section)))
    assert not against.error
    assert metrics(against)["Spots"] == f"{len(counts):,}"


WRONG = {
    "outside": lambda counts, spots: (counts, spots.assign(x_px=spots.x_px * 10)),
    "not on tissue": lambda counts, spots: (counts, spots.assign(x_px=spots.x_px / 60, y_px=spots.y_px / 60)),
    "spot twice": lambda counts, spots: (counts, pd.concat([spots, spots[:1]])),
    "counts twice": lambda counts, spots: (pd.concat([counts, counts[:1]]), spots),
    "negative": lambda counts, spots: (counts.assign(ACTB=-1), spots),
    "normalised": lambda counts, spots: (counts.assign(ACTB=0.5), spots),
    "ensembl": lambda counts, spots: (counts.set_axis([f"ENSG0000000000{i}" for i in range(4)], axis=1), spots),
    "other genes": lambda counts, spots: (counts.set_axis(list("ABCD"), axis=1), spots),
    "other spots": lambda counts, spots: (counts.set_axis(counts.index + "-1"), spots),
    "two positions": lambda counts, spots: (spots, spots),
}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("outside", "spots lie outside the slide"),
        ("not on tissue", "lies on the slide's predicted tissue"),
        ("spot twice", "spots.csv: spot s0 occurs twice; keep one of the two"),
        ("counts twice", "counts.csv: spot s0 occurs twice; keep one of the two"),
        ("negative", "gene ACTB is -1; raw counts are whole numbers"),
        ("normalised", "gene ACTB is 0.5; raw counts are whole numbers"),
        ("ensembl", "the table names genes by Ensembl id"),
        ("other genes", "None of the 12 predicted genes was measured"),
        ("other spots", "counts.csv and spots.csv share no spot"),
        ("two positions", "of counts.csv and spots.csv both can be the table of positions"),
    ],
)
def test_data_that_cannot_be_compared_are_told_which_and_what_to_do(against, counts, spots, wrong, told):
    counts, spots = WRONG[wrong](counts, spots)
    _bring(against, ("counts.csv", counts), ("spots.csv", spots))
    assert not against.exception
    assert told in against.error[0].value.replace("\\", "")
    assert "Compare" not in _labels(against)


def test_positions_of_a_larger_image_are_scaled(against, counts, spots):
    spots = spots.assign(x_px=spots.x_px * 4, y_px=spots.y_px * 4)
    _bring(against, ("counts.csv", counts), ("spots.csv", spots))
    assert "scale them by" in against.error[0].value
    against.number_input[0].set_value(0.25).run()
    assert not against.error
    _compare(against)
    assert _table(against, "pearson_r").set_index("gene").pearson_r["ERBB2"] > 0.9


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("noise.h5ad", b"\x89HDF\r\n\x1a\n" + bytes(range(256))),
        ("noise.zip", b"PK\x03\x04" + bytes(100)),
        ("empty.zip", b""),
        ("../../evil.h5ad", b"nothing"),
        ("noise.txt", bytes(range(256))),
    ],
)
def test_hostile_files_are_refused_by_the_users_name_for_them_and_leave_nothing_behind(against, name, content):
    files = [(name, content)] if name.endswith(("zip", "h5ad")) else [(name, content), ("b.csv", content)]
    _bring(against, *files)
    assert not against.exception
    assert name in against.error[0].value.replace("\\", "")
    assert "measured-1" not in against.error[0].value
    folders = uploads._folders().values()
    assert len(folders) == 1  # of the slide, nothing is in it
    left = [path.name for folder in folders for path in uploads.Path(folder.name).rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (RecursionError("too deep in measured-1.csv"), r"too deep in a\[1\].csv"),
        (MemoryError(), "need more memory than this computer has"),
    ],
)
def test_faults_of_the_readers_become_a_sentence(against, counts, monkeypatch, fault, told):
    def fail(paths):
        raise fault

    monkeypatch.setattr("nsl.system.confinement._IS_HELD", False)
    monkeypatch.setattr("nsl.spots.measured.read_measured", fail)
    _bring(against, ("a[1].csv", counts), ("b.csv", counts))
    assert not against.exception
    assert told.replace("\\", "") in against.error[0].value.replace("\\", "")


def test_a_file_that_cannot_be_read_leaves_the_data_before_in_use(compared, counts, spots):
    before = _table(compared, "pearson_r")
    _bring(compared, ("broken.zip", b"PK"))
    assert "broken.zip" in compared.error[0].value
    assert "The measured data you had stay in use" in said(compared)
    pd.testing.assert_frame_equal(_table(compared, "pearson_r"), before)
    # What was refused is not read again with what comes in its place.
    assert not compared.main.get("file_uploader")[0].value
    _bring(compared, ("counts.csv", counts), ("spots.csv", spots))
    assert not compared.error


def test_removed_data_are_gone_and_others_may_come(compared, counts, spots):
    click(compared, "Remove the measured data")
    assert _brought(compared).data is None
    assert _brought(compared).compared is None
    assert "counts and spot positions" in said(compared)
    _bring(compared, ("counts.csv", counts), ("spots.csv", spots))
    assert "Compare" in _labels(compared)


def test_readers_get_no_name_of_a_users_making(tmp_path, monkeypatch):
    seen = []

    def note(paths):
        seen.extend(paths)
        raise SpotsError(f"{paths[0].name} and {paths[1].name} are odd")

    monkeypatch.setattr("nsl.system.confinement._IS_HELD", False)
    monkeypatch.setattr("nsl.spots.measured.read_measured", note)
    monkeypatch.setattr(uploads, "session_folder", lambda: tmp_path)
    names = ["measured-2.tsv", "/etc/pass wd;rm.TSV.GZ"]
    files = [SimpleNamespace(name=name, size=1, getbuffer=lambda: b"x") for name in names]
    with pytest.raises(SpotsError, match=r"measured-2\.tsv and /etc/pass wd;rm\.TSV\.GZ are odd"):
        uploads.read_measured_uploads(files)
    assert [path.name for path in seen] == ["measured-1.tsv", "measured-2.tsv.gz"]
    assert all(path.is_relative_to(tmp_path) and not path.exists() for path in seen)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "session_folder", lambda: tmp_path)

    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(SpotsError, match=r"my\.h5ad cannot be stored \(No space left on device\); make room"):
        uploads.read_measured_uploads([SimpleNamespace(name="my.h5ad", size=9, getbuffer=full)])
    assert list(tmp_path.iterdir()) == []


# Against measurement: the comparison


def test_planted_genes_come_out_as_planted(compared, counts):
    assert not compared.exception
    assert not compared.error
    result, table = slide(compared).result, _table(compared, "pearson_r").set_index("gene")
    assert (table.index[0], table.index[-1]) == ("ERBB2", "CD24")
    assert table.pearson_r["ERBB2"] > 0.9
    assert table.q_value["ERBB2"] < 0.05
    assert table.pearson_r["CD24"] < -0.9
    assert abs(table.pearson_r["ACTB"]) < 0.5
    measured = np.log1p(counts.div(counts.sum(axis=1), axis=0) * 10_000)
    for gene, r in table.pearson_r.items():  # spots are where tiles are, so they are predicted as tiles are
        assert r == pytest.approx(np.corrcoef(result[:, gene].X.ravel(), measured[gene])[0, 1], abs=1e-3)
    pd.testing.assert_series_equal(
        table.r_heldout, result.var.r_heldout[table.index], check_names=False, check_dtype=False, check_index_type=False
    )
    assert (table.r_low <= table.pearson_r).all()
    assert (table.pearson_r <= table.r_high).all()


def test_the_summary_says_what_was_found_and_when_it_is_no_test(compared, counts):
    assert f"**3 genes compared at {len(counts)} spots: median r" in said(compared)
    assert "1 has r above 0 with q < 0.05" in said(compared)
    assert "If these weights learned from this section, this is no test" in said(compared)
    assert "her2-breast learned from A1, A2, B4, C2, C3, C4, C5" in said(compared)


def test_the_chart_counts_the_genes_that_the_summary_counts_and_no_set(compared):
    held = _brought(compared)
    table = held.compared.table
    held.compared = replace(
        held.compared, table=pd.concat([table, table[:1].set_axis(["signature:growth"])]).rename_axis("gene")
    )
    compared.run()
    assert not compared.exception
    assert "growth" in set(_table(compared, "pearson_r").gene)
    assert "**3 genes compared" in said(compared)
    assert "1 has r above 0 with q < 0.05" in said(compared)
    drawn = chart(compared)
    assert drawn["layout"]["title"]["subtitle"]["text"].endswith("over 3 genes")
    assert [trace["name"].partition(": ")[2] for trace in drawn["data"][1:]] == ["2 genes", "1 gene"]


def test_spots_on_tiles_erased_by_hand_take_no_part(compared, counts):
    slide(compared).erase(slide(compared).result.obs_names[:5])
    compared.run()
    assert "have changed since the comparison" in said(compared)
    assert "5 of them lie on tiles erased by hand" in said(compared)
    click(compared, "Compare again")
    _brought(compared).job.thread.join(60)
    compared.run()
    assert f"**3 genes compared at {len(counts) - 5} spots: median r" in said(compared)
    assert list(_brought(compared).compared.measured.obs_names) == list(counts.index[5:])


def test_one_gene_is_shown_at_the_spots_and_its_choice_kept(compared, counts):
    figure = chart(compared, 1)
    assert [trace["name"] for trace in figure["data"]] == ["Measured", "Predicted"]
    assert "ERBB2" in figure["layout"]["annotations"][0]["text"]
    assert compared.query_params["gene"] == "ERBB2"
    box, trust = compared.selectbox(key="measured_gene"), slide(compared).result.var.trust
    signs = {"reliable": "●", "weak": "◐", "unreliable": "○"}
    for option in box.options:
        assert option.split(" ")[-1] == signs[trust[option.split(" ")[0]]]
    compared.selectbox(key="measured_gene").select("CD24").run()
    compared.switch_page("pages/predict.py").run()
    compared.switch_page(PAGE).run()
    assert "CD24" in chart(compared, 1)["layout"]["annotations"][0]["text"]
    assert "**CD24**: r −0.9" in said(compared)


def test_a_gene_typed_at_the_spots_is_that_gene_or_none(compared):
    compared.selectbox(key="measured_gene").select("CD24").run()
    type_gene(compared, "COX6C", "measured_gene")
    assert "COX6C was not compared" in said(compared)
    type_gene(compared, "ER", "measured_gene")
    assert "ER is ESR1, which is not in these weights" in said(compared)
    assert compared.selectbox(key="measured_gene").value == "CD24"
    type_gene(compared, "HER2", "measured_gene")
    assert "ERBB2" in chart(compared, 1)["layout"]["annotations"][0]["text"]


def test_a_marked_row_of_the_agreement_chooses_the_gene(monkeypatch, marking):
    from nsl.web.correlations import measured_agreement

    genes = pd.DataFrame({"pearson_r": [0.2, 0.1], "detected": 0.5}, pd.Index(["ERBB2", "CD24"], name="gene"))
    measured_agreement._show_table(SimpleNamespace(table=genes))
    (table, mark) = marking[0]
    state = {}
    monkeypatch.setattr(st, "session_state", state)
    mark(table.iloc[1])
    assert state["measured_gene"] == "CD24"


@pytest.mark.evaluation
@pytest.mark.filterwarnings("ignore")  # those of squidpy's own dependencies
def test_spots_with_measured_and_predicted_open_in_squidpy(compared, spots, tmp_path):
    matplotlib.use("Agg")
    import squidpy

    path = tmp_path / "spots.h5ad"
    path.write_bytes(h5ad_bytes(_brought(compared).compared.as_anndata(slide(compared).result)))
    squidpy.pl.spatial_scatter(anndata.read_h5ad(path), color="ERBB2")
    drawn = matplotlib.pyplot.gca()
    assert len(drawn.images) == 1
    assert len(drawn.collections[0].get_paths()) == len(spots)
    matplotlib.pyplot.close("all")


def test_tables_of_the_spots_hold_measured_and_predicted(compared, counts, spots, tmp_path):
    found, result = _brought(compared).compared, slide(compared).result
    table = pd.read_csv(io.StringIO(found.spots_csv("ERBB2")), index_col="spot")
    assert list(table.columns) == ["x_px", "y_px", "measured", "predicted"]
    assert table.x_px.to_numpy() == pytest.approx(spots.x_px.to_numpy())
    assert table.predicted.to_numpy() == pytest.approx(result[:, "ERBB2"].X.ravel(), abs=2e-3)
    assert table.measured["s3"] == pytest.approx(np.log1p(counts.ERBB2["s3"] / counts.loc["s3"].sum() * 1e4), abs=1e-3)
    path = tmp_path / "spots.h5ad"
    path.write_bytes(h5ad_bytes(found.as_anndata(result)))
    data = anndata.read_h5ad(path)
    assert data[:, "ERBB2"].layers["measured"].ravel() == pytest.approx(table.measured.to_numpy(), abs=1e-4)
    assert data.uns["spatial"]["slide"]["scalefactors"]["spot_diameter_fullres"] == 150
    assert {
        *("Download the agreement (CSV)", "The spots, ERBB2 (CSV)", "The spots, all genes (h5ad)"),
    } <= set(_labels(compared))


def test_while_it_runs_there_is_progress_and_cancel_ends_it(against, counts, spots, monkeypatch):
    begun = threading.Event()

    def endless(*_, progress, **__):
        while True:
            progress.check(3, 10, "predicting the spots")
            begun.set()
            threading.Event().wait(0.01)

    monkeypatch.setattr(measurements, "predict_spots", endless)
    _bring(against, ("counts.csv", counts), ("spots.csv", spots))
    click(against, "Compare")
    assert begun.wait(20)
    against.run()
    assert "Predicting the spots, 3 of 10" in against.get("progress")[0].proto.text
    click(against, "Cancel")
    if _brought(against).job:
        _brought(against).job.thread.join(20)
    against.run()
    assert "The comparison was cancelled" in said(against)
    assert "Compare" in _labels(against)
    assert not against.error


@pytest.mark.parametrize(
    ("fault", "told"),
    [(SlideError("measured.png is damaged"), "is damaged"), (ZeroDivisionError("x"), "fault of the program")],
)
def test_a_comparison_that_fails_is_told_and_the_one_before_stays(compared, monkeypatch, fault, told):
    def fail(*_, **__):
        raise fault

    before = _table(compared, "pearson_r")
    monkeypatch.setattr(measurements, "predict_spots", fail)
    click(compared, "Compare again")
    if _brought(compared).job:
        _brought(compared).job.thread.join(20)
    compared.run()
    assert not compared.exception
    assert told in compared.error[0].value
    pd.testing.assert_frame_equal(_table(compared, "pearson_r"), before)


def test_a_new_prediction_keeps_the_measured_data_and_says_the_comparison_is_older(compared):
    compared.switch_page("pages/predict.py").run()
    compared.text_area[0].set_value("ERBB2 ACTB").run()
    finish(click(compared, "Run"))
    compared.switch_page(PAGE).run()
    assert "have changed since the comparison" in said(compared)
    assert len(_table(compared, "pearson_r")) == 3
    click(compared, "Compare again")
    if _brought(compared).job:
        _brought(compared).job.thread.join(20)
    compared.run()
    assert "have changed since" not in said(compared)
    assert len(_table(compared, "pearson_r")) == 2


def test_measured_data_belong_to_their_slide_and_go_with_it(compared, section):
    first = slide(compared)
    predict_demo(compared).run()
    assert _brought(compared).data is None
    assert first.of_slide(measurements.MeasuredData).data is not None
    session_held(compared, SessionState).current = first.key
    compared.run()
    assert len(_table(compared, "pearson_r")) == 3
    click(compared, "Remove this slide")
    compared.run()
    assert first.of_slide(measurements.MeasuredData).data is None


def test_a_slide_that_comes_back_has_nothing_measured(app, section):
    predict_demo(app)
    _turn_to(app.switch_page(PAGE).run(), "Against measurement")
    result = slide(app).result
    _bring(app, ("counts.csv", _counts(result)), ("spots.csv", _positions(result)))
    assert _brought(app).data is not None
    click(app, "Remove this slide")
    app.switch_page("pages/predict.py").run()
    predict_demo(app)
    app.switch_page(PAGE).run()
    assert _brought(app).data is None
    assert "counts and spot positions" in said(app)


def test_real_counts_of_a_section_it_learned_from_agree_as_they_did_in_training(app, data_folder):
    her2st = data_folder / "her2st"
    upload(app, "C5_full.jpg", (her2st / "images/C5_full.jpg").read_bytes())
    app.number_input[0].set_value(0.69).run()
    app.radio(key="which_genes").set_value("A list").run()
    app.text_area[0].set_value(" ".join(GENES)).run()
    finish(click(app, "Run"))
    _turn_to(app.switch_page(PAGE).run(), "Against measurement")
    _bring(
        app,
        *((path.name, path.read_bytes()) for path in (her2st / "counts/C5.tsv.gz", her2st / "spots/C5_selection.tsv")),
    )
    assert metrics(app) == {"Spots": "179", "Genes": "15,721", "Median counts": "10,041"}
    _compare(app)
    table = _table(app, "pearson_r").set_index("gene")
    assert len(table) == 12
    assert (table.pearson_r > 0).sum() >= 9
    assert table.pearson_r.median() > 0.1
