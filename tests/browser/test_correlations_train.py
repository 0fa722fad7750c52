"""Correlations and Train in Chromium, with measured data made for the demo slide and with a real section."""

import json
import re
import zipfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from nsl.weights import load_weights
from tests.browser.driver import UPLOAD, button, download, go_to, run, see_charts, settle, take_demo, take_file

GENES = ["ERBB2", "COX6C", "CD24", "GAPDH"]


def _spots() -> pd.DataFrame:
    """A grid of spots on the tissue of the demo slide, in its pixels."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(900, 2000, 150), np.arange(1000, 2300, 150)))
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


@pytest.fixture(params=["demo", "svs"])
def correlations(request, page) -> Page:
    """The Correlations page of a predicted slide."""
    if request.param == "demo":
        take_demo(page)
    else:
        take_file(page, request.getfixturevalue("data_folder") / "slides/cmu_small_region.svs")
    run(page)
    go_to(page, "Correlations")
    return page


def test_genes_are_correlated_with_each_other_and_go_home(correlations, tmp_path):
    expect(correlations.get_by_text("independent pattern")).to_be_visible()
    settle(correlations)
    pairs = pd.read_csv(download(correlations, button(correlations, "Download the pairs (CSV)"), tmp_path))
    assert len(pairs) == 50 * 49 / 2
    assert pairs.r.between(-1, 1).all()
    matrix = pd.read_csv(
        download(correlations, button(correlations, "Download the matrix (CSV)"), tmp_path), index_col=0
    )
    assert matrix.shape == (50, 50)
    assert np.allclose(matrix, matrix.T)


@pytest.fixture
def measuring(page) -> Page:
    """The part of the page for measured data, with the demo slide predicted."""
    take_demo(page)
    run(page)
    go_to(page, "Correlations")
    page.get_by_role("radio", name="Against measurement").click()
    settle(page)
    return page


def test_predictions_are_compared_with_measurement_gene_by_gene(measuring, tmp_path):
    measuring.set_input_files(UPLOAD, _write_measured(tmp_path))
    expect(measuring.get_by_text("predicted genes are among the")).to_be_visible()
    button(measuring, "Compare").click()
    expect(measuring.get_by_text("genes compared at")).to_be_visible()
    see_charts(measuring)
    table = pd.read_csv(download(measuring, button(measuring, "Download the agreement (CSV)"), tmp_path), index_col=0)
    assert sorted(table.index) == sorted(GENES)
    assert {"pearson_r", "r_low", "r_high", "p_value", "q_value"} <= set(table.columns)
    spots = anndata.read_h5ad(download(measuring, button(measuring, "The spots, all genes (h5ad)"), tmp_path))
    assert spots.shape == (len(_spots()), len(GENES))


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


@pytest.mark.parametrize("case", BAD)
def test_measured_data_that_does_not_fit_is_told_which_and_what_to_do(measuring, tmp_path, case):
    options, says = BAD[case]
    measuring.set_input_files(UPLOAD, _write_measured(tmp_path, **options))
    told = measuring.get_by_test_id("stAlert").filter(has_text=says)
    expect(told.first).to_be_visible()
    expect(button(measuring, "Compare")).to_have_count(0)


def test_a_published_section_is_read_as_it_is_and_compared(page, data_folder, tmp_path):
    take_file(page, data_folder / "her2st/images/C5_full.jpg", mpp=0.69)
    page.get_by_text("Reliable only").click()
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
    assert len(table) > 1500
    assert table.pearson_r.median() > 0.1


def test_weights_are_trained_on_an_own_section_used_and_taken_home(page, tmp_path):
    go_to(page, "Train")
    button(page, "Try it on the demo slide").click()
    expect(button(page, "Train")).to_be_enabled()
    settle(page)
    button(page, "Train").click()
    expect(button(page, "Use these weights")).to_be_visible(timeout=240_000)
    settle(page)
    path = download(page, button(page, "Download the weights (zip)"), tmp_path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
        config = next(name for name in archive.namelist() if name.endswith("config.json"))
        assert "quarter" in json.loads(archive.read(config))["reliability"]["left_out"]
    weights = load_weights((tmp_path / config).parent)
    button(page, "Use these weights").click()
    expect(page.get_by_test_id("stSidebar").get_by_text(f"{len(weights.genes):,} genes")).to_be_visible()
    go_to(page, "Predict")
    if not button(page, "Run").count():
        take_demo(page)
    run(page)
    go_to(page, "Maps")
    see_charts(page)
    expect(page.get_by_text("of 4 quarters of the section left out")).to_be_visible()


def test_an_own_section_is_uploaded_checked_and_trained_on(page, data_folder, tmp_path):
    take_file(page, data_folder / "slides/cmu_small_region.svs")
    go_to(page, "Train")
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(250, 2000, 250), np.arange(250, 2750, 250)))
    spots = pd.DataFrame({"spot": [f"{i}" for i in range(len(x))], "x_px": x, "y_px": y})
    page.set_input_files(UPLOAD, _write_measured(tmp_path, spots=spots))
    expect(button(page, "Add the section")).to_be_enabled()
    button(page, "Add the section").click()
    expect(page.get_by_alt_text(re.compile("spots on tissue"))).to_be_visible()
    expect(button(page, "Train")).to_be_enabled()
    settle(page)
    button(page, "Train").click()
    expect(button(page, "Use these weights")).to_be_visible(timeout=240_000)
    settle(page)
    table = pd.read_csv(download(page, button(page, "Download the table (CSV)"), tmp_path), index_col="gene")
    assert sorted(table.index) == sorted(GENES)
    go_to(page, "About")
    expect(page.get_by_role("heading", name="How far to trust a gene").first).to_be_visible()
