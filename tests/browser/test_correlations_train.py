"""Correlations and Train in Chromium, with measured data made for the demo slide and with a real section."""

import re
import zipfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from nsl.weights.folder import load_weights
from nsl.weights.reliability import has_held_up
from nsl.weights.weights import Weights
from tests.browser.driver import (
    UPLOAD,
    button,
    download,
    go_to,
    on_map,
    open_part,
    run,
    see_charts,
    settle,
    take_demo,
    take_file,
)

GENES = ["ERBB2", "COX6C", "CD24", "GAPDH"]


def _spots() -> pd.DataFrame:
    """A grid of spots on the tissue of the demo slide, in its pixels."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(900, 2000, 150), np.arange(1000, 2300, 150)))
    return pd.DataFrame({"spot": [f"{i}" for i in range(len(x))], "x_px": x, "y_px": y})


def _scanner_spots() -> pd.DataFrame:
    """A grid of spots over the scanner's slide, in its pixels."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(250, 2000, 250), np.arange(250, 2750, 250)))
    return pd.DataFrame({"spot": [f"{i}" for i in range(len(x))], "x_px": x, "y_px": y})


def _write_measured(folder: Path, *, genes: list[str] = GENES, spots: pd.DataFrame | None = None, change=None) -> list:
    """The two tables of a measured section, the counts changed by `change` where it is given."""
    spots = _spots() if spots is None else spots
    counts = pd.DataFrame(
        np.random.default_rng(0).poisson(40, (len(spots), len(genes))), index=spots.spot, columns=genes
    ).astype(object)
    if change:
        counts = change(counts)
    paths = [folder / "counts.csv", folder / "spots.csv"]
    counts.to_csv(paths[0])
    spots.to_csv(paths[1], index=False)
    return paths


@pytest.fixture
def correlations(visit, slide) -> Page:
    """The Correlations page of a predicted slide."""
    return visit("/correlations", slide)


def test_genes_are_correlated_with_each_other_and_go_home(correlations, tmp_path):
    expect(correlations.get_by_text("independent pattern")).to_be_visible()
    settle(correlations)
    pairs = pd.read_csv(download(correlations, button(correlations, "Download the pairs (CSV)"), tmp_path))
    assert (pairs.r.abs() < 0.95).all()  # one gene a pattern
    button(correlations, "Genes listed").click()
    correlations.get_by_text("List every gene, not one a picture").click()
    expect(correlations.get_by_text(re.compile(r"These \d+ genes and \d+ signatures show"))).to_be_visible()
    settle(correlations)
    pairs = pd.read_csv(download(correlations, button(correlations, "Download the pairs (CSV)"), tmp_path))
    assert len(pairs) == 50 * 49 / 2
    assert pairs.r.between(-1, 1).all()
    matrix = pd.read_csv(
        download(correlations, button(correlations, "Download the matrix (CSV)"), tmp_path), index_col=0
    )
    assert matrix.shape == (50, 50)
    assert np.allclose(matrix, matrix.T)


def _see_pair(page: Page, pair: list[str]) -> None:
    """Wait until the address and the scatter are of two genes."""
    page.wait_for_function(
        "(genes) => new URL(location).searchParams.get('genes') === genes", arg=",".join(pair), timeout=30_000
    )
    scatter = page.get_by_role("img", name=f"Predicted {pair[1]} against predicted {pair[0]}, a point a tile")
    expect(scatter).to_be_visible()
    settle(page)


def test_a_clicked_cell_and_a_marked_row_show_their_two_genes_tile_by_tile(correlations, tmp_path):
    see_charts(correlations)
    names = correlations.evaluate("Array.from(document.querySelector('.nsl-chart')._fullData[0].x)")
    x, y = names[2], names[9]
    correlations.mouse.click(*on_map(correlations, x, y))
    _see_pair(correlations, [y, x])
    pairs = pd.read_csv(download(correlations, button(correlations, "Download the pairs (CSV)"), tmp_path))
    table = correlations.get_by_test_id("stDataFrame")
    table.scroll_into_view_if_needed()
    place, row_px, row = table.bounding_box(), 35, 3
    correlations.mouse.click(place["x"] + row_px / 2, place["y"] + row_px * (row + 1.5))
    _see_pair(correlations, list(pairs.loc[row, ["gene_a", "gene_b"]]))


@pytest.fixture
def measuring(visit) -> Page:
    """The part of the page for measured data, with the demo slide predicted."""
    page = visit("/correlations", "demo")
    page.get_by_role("radio", name="Against measurement").click()
    settle(page)
    return page


def _with(value) -> object:
    def change(counts):
        counts.iloc[2, 1] = value
        return counts

    return change


BAD = {
    "positions of another image": ({"spots": _spots().assign(x_px=lambda s: s.x_px * 20)}, "lie outside"),
    "a spot twice": ({"change": lambda counts: pd.concat([counts, counts.iloc[:1]])}, "occurs twice"),
    "negative counts": ({"change": _with(-3)}, "is -3"),
    "normalised counts": ({"change": _with(1.37)}, "is 1.37"),
    "Ensembl names": ({"genes": ["ENSG00000141736", "ENSG00000164919"]}, "Ensembl"),
    "no tissue there": ({"spots": _spots().assign(x_px=lambda s: s.x_px * 0 + 2800 + s.index % 5)}, "tissue"),
}


def test_measured_data_that_does_not_fit_is_told_which_and_what_to_do_and_read_once_mended(measuring, tmp_path):
    for number, (options, says) in enumerate(BAD.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        measuring.set_input_files(UPLOAD, _write_measured(folder, **options))
        told = measuring.get_by_test_id("stAlert").filter(has_text=says)
        expect(told.first).to_be_visible()
        expect(button(measuring, "Compare")).to_have_count(0)
        settle(measuring)
    measuring.set_input_files(UPLOAD, _write_measured(tmp_path))
    expect(measuring.get_by_text("predicted genes are among the")).to_be_visible()
    expect(button(measuring, "Compare")).to_be_enabled()


def test_spots_measured_on_a_scanner_slide_are_compared(visit, data_folder, tmp_path):
    page = visit("/correlations", "cmu_small_region.svs")
    page.get_by_role("radio", name="Against measurement").click()
    settle(page)
    spots = _scanner_spots()
    page.set_input_files(UPLOAD, _write_measured(tmp_path, spots=spots))
    expect(page.get_by_text(f"All {len(spots)} spots lie on the slide")).to_be_visible()
    button(page, "Compare").click()
    # Of a square of spots, those on glass take no part.
    told = page.get_by_text("of them, on predicted tissue, take part").inner_text()
    number = int(re.search(r"(\d+) of them", told)[1])
    assert len(spots) / 2 < number < len(spots)
    expect(page.get_by_text(f"genes compared at {number} spots")).to_be_visible()
    see_charts(page)
    table = pd.read_csv(download(page, button(page, "Download the agreement (CSV)"), tmp_path), index_col=0)
    data = anndata.read_h5ad(download(page, button(page, "The spots, all genes (h5ad)"), tmp_path))
    assert list(data.var_names) == list(table.index)
    assert sorted(data.var_names) == sorted(GENES)
    assert {"pearson_r", "r_low", "r_high", "p_value", "q_value"} <= set(table.columns)
    assert len(data) == number
    assert set(map(tuple, data.obsm["spatial"])) <= set(map(tuple, spots[["x_px", "y_px"]].to_numpy(float)))
    for gene, r in table.pearson_r.items():
        told = [np.asarray(values[:, data.var_names.get_loc(gene)]) for values in (data.X, data.layers["measured"])]
        assert r == pytest.approx(np.corrcoef(*told)[0, 1], abs=1e-3)


def test_a_published_section_is_read_as_it_is_and_compared(page, data_folder, tmp_path):
    take_file(page, data_folder / "her2st/images/C5_full.jpg", mpp=0.69)
    page.get_by_text("All but unreliable").click()
    settle(page)
    run(page)
    go_to(page, "Correlations")
    page.get_by_role("radio", name="Against measurement").click()
    settle(page)
    files = [data_folder / "her2st/counts/C5.tsv.gz", data_folder / "her2st/spots/C5_selection.tsv"]
    page.set_input_files(UPLOAD, files)
    expect(page.get_by_text("predicted genes are among the")).to_be_visible()
    button(page, "Compare").click()
    expect(page.get_by_text("genes compared at")).to_be_visible()
    table = pd.read_csv(download(page, button(page, "Download the agreement (CSV)"), tmp_path), index_col=0)
    known = load_weights().reliability
    assert set(known.index[has_held_up(known)]) <= set(table.index)
    assert table.pearson_r.median() > 0.1


def _taken_home(page: Page, folder: Path) -> Weights:
    """The weights of the zip that the Train page offers."""
    with zipfile.ZipFile(download(page, button(page, "Download the weights (zip)"), folder)) as archive:
        archive.extractall(folder)
        config = next(name for name in archive.namelist() if name.endswith("config.json"))
    return load_weights((folder / config).parent)


def test_weights_are_trained_on_an_own_section_used_and_taken_home(page, tmp_path):
    go_to(page, "Train")
    button(page, "Try it on the demo slide").click()
    expect(button(page, "Train")).to_be_enabled()
    settle(page)
    button(page, "Train").click()
    expect(button(page, "Use these weights")).to_be_visible(timeout=240_000)
    settle(page)
    weights = _taken_home(page, tmp_path)
    assert "quarter" in weights.config.reliability.left_out
    button(page, "Use these weights").click()
    expect(page.get_by_test_id("stSidebar").get_by_text(f"{len(weights.genes):,} genes")).to_be_visible()
    go_to(page, "Predict")
    if not button(page, "Run").count():
        take_demo(page)
    run(page)
    go_to(page, "Maps")
    see_charts(page)
    open_part(page, "held-out r")
    expect(page.get_by_text("of 4 quarters of the section left out")).to_be_visible()


def test_weights_are_trained_on_a_scanner_slide_used_and_taken_home(page, data_folder, tmp_path):
    take_file(page, data_folder / "slides/cmu_small_region.svs")
    go_to(page, "Train")
    page.set_input_files(UPLOAD, _write_measured(tmp_path, spots=_scanner_spots()))
    expect(button(page, "Add the section")).to_be_enabled()
    button(page, "Add the section").click()
    expect(page.get_by_alt_text(re.compile("spots on tissue"))).to_be_visible()
    expect(button(page, "Train")).to_be_enabled()
    settle(page)
    button(page, "Train").click()
    expect(page.get_by_text("Train all the same?")).to_be_visible()
    button(page, "Train all the same").click()
    expect(button(page, "Use these weights")).to_be_visible(timeout=240_000)
    settle(page)
    table = pd.read_csv(download(page, button(page, "Download the table (CSV)"), tmp_path), index_col="gene")
    weights = _taken_home(page, tmp_path)
    assert sorted(weights.genes) == sorted(table.index) == sorted(GENES)
    assert weights.reliability.r_heldout[GENES].to_numpy() == pytest.approx(table.r_heldout[GENES].to_numpy())
    button(page, "Use these weights").click()
    expect(page.get_by_test_id("stSidebar").get_by_text("4 genes")).to_be_visible()
    go_to(page, "Predict")
    tiles = run(page)
    predicted = pd.read_csv(download(page, button(page, "Download CSV"), tmp_path))
    assert len(predicted) == tiles
    assert sorted(predicted.columns[-4:]) == sorted(GENES)
