"""What `agreement` promises: spots are predicted as tiles are, and compared with what was measured there."""

import io
import math

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse, stats

from nsl import open_slide, predict
from nsl.errors import Cancelled, ScaleError, SpotsError, WeightsError
from nsl.spots.checks import check_on_slide, match_genes
from nsl.spots.measured import read_measured
from nsl.spots.tables import log_normalised
from nsl.stats import agreement as module
from nsl.stats.agreement import agreement, agreement_csv, agreement_summary, predict_spots
from nsl.weights.folder import load_weights
from tests.recording import Recording

GENES = ["ERBB2", "CD24", "COX6C"]


@pytest.fixture
def weights(tiny_weights):
    return load_weights(tiny_weights)


@pytest.fixture
def slide(section_png):
    with open_slide(section_png, mpp=1.0) as slide:
        yield slide


# Prediction at spots


def test_a_spot_at_the_centre_of_a_tile_gets_its_value(slide, weights):
    tiles = predict(slide, weights, stride_um=37)
    spots = predict_spots(slide, weights, tiles.obsm["spatial"], genes=weights.genes)
    assert spots.dtype == np.float32
    np.testing.assert_array_equal(spots, tiles.X)


def test_a_spot_on_a_real_slide_gets_the_value_of_its_tile(data_folder, embedded):
    genes = ["ERBB2", "CD24"]
    with open_slide(data_folder / "slides/cmu_small_region.svs") as slide:
        tiles = predict(slide, embedded, genes=genes)
        spots = predict_spots(slide, embedded, tiles.obsm["spatial"], genes=genes)
    np.testing.assert_allclose(spots, tiles.X, atol=1e-5)


def test_spots_do_not_depend_on_how_the_slide_is_read_nor_on_their_order(slide, weights, monkeypatch):
    rng = np.random.default_rng(3)
    centers = rng.uniform(50, 550, (40, 2))
    whole = predict_spots(slide, weights, centers, genes=GENES)
    monkeypatch.setattr(module, "_STRIP_PIXELS", 1)
    order = rng.permutation(40)
    np.testing.assert_array_equal(predict_spots(slide, weights, centers[order], genes=GENES), whole[order])


def test_genes_come_in_the_order_asked_for(slide, weights):
    centers = np.array([[240.0, 300.0]])
    whole = predict_spots(slide, weights, centers, genes=GENES)
    np.testing.assert_array_equal(predict_spots(slide, weights, centers, genes=["COX6C", "ERBB2"]), whole[:, [2, 0]])


def test_the_window_may_be_another_than_in_training(slide, weights):
    tiles = predict(slide, weights, tile_um=60)
    spots = predict_spots(slide, weights, tiles.obsm["spatial"], genes=weights.genes, spot_window_um=60)
    np.testing.assert_array_equal(spots, tiles.X)


def test_a_given_white_point_is_used(slide, section, weights):
    centers = np.array([[240.0, 300.0]])
    found = predict_spots(slide, weights, centers, genes=GENES)
    np.testing.assert_allclose(
        predict_spots(slide, weights, centers, genes=GENES, white_point=section.white_point), found, atol=0.02
    )
    paper = predict_spots(slide, weights, centers, genes=GENES, white_point=np.full(3, 255.0))
    assert (np.abs(paper - found) > 0.02).any()


def test_windows_that_hold_nothing_are_nan_and_change_no_other(section, weights, tmp_path):
    padded = np.zeros((900, 700, 3), np.uint8)
    padded[300:] = section.pixels
    Image.fromarray(padded).save(tmp_path / "padded.png")
    with open_slide(tmp_path / "padded.png", mpp=1.0) as slide:
        centers = np.array([[240.0, 600.0], [300, 100], [5000, 5000], [-400, 300]])
        spots = predict_spots(slide, weights, centers, genes=GENES)
        alone = predict_spots(slide, weights, centers[:1], genes=GENES)
        nothing = predict_spots(slide, weights, centers[2:], genes=GENES)
    assert np.isfinite(spots).all(axis=1).tolist() == [True, False, False, False]
    np.testing.assert_array_equal(spots[:1], alone)
    assert np.isnan(nothing).all()


def test_a_window_over_the_edge_is_predicted_from_what_lies_inside(slide, weights):
    edge = predict_spots(slide, weights, np.array([[0.0, 300.0]]), genes=GENES, spot_window_um=100)
    inside = predict_spots(slide, weights, np.array([[25.0, 300.0]]), genes=GENES, spot_window_um=50)
    assert np.isfinite(edge).all()
    np.testing.assert_allclose(edge, inside, atol=0.05)


def test_progress_reaches_all_spots_and_may_end_the_run(slide, weights):
    centers, progress = np.array([[x, y] for x in (200.0, 400.0) for y in (100.0, 300.0, 500.0)]), Recording()
    predict_spots(slide, weights, centers, genes=GENES, progress=progress)
    assert progress.reports[-1] == (6, 6, "predicting the spots")
    assert len(progress.reports) > 1
    with pytest.raises(Cancelled):
        predict_spots(slide, weights, centers, genes=GENES, progress=Recording(cancel_at=1))


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"spot_window_um": 0}, ScaleError, "window around a spot must be a positive number of µm, got 0"),
        ({"analysis_mpp": float("nan")}, ScaleError, "analysis resolution must be a positive number of µm, got nan"),
        ({"spot_window_um": 3}, ScaleError, "window of 3 µm is less than two pixels wide at 2 µm/px"),
        ({"genes": ["ERBB"]}, WeightsError, "hold no gene ERBB"),
    ],
)
def test_what_cannot_be_predicted_is_said_with_the_value_seen(slide, weights, options, kind, says):
    with pytest.raises(kind, match=says):
        predict_spots(slide, weights, np.array([[240.0, 300.0]]), **({"genes": GENES} | options))


# Agreement

SPOTS = 60


@pytest.fixture
def measured() -> anndata.AnnData:
    """Counts of five genes over a 10 × 6 array of spots; C is not among the predicted, FLAT is the same everywhere."""
    rng = np.random.default_rng(5)
    counts = rng.poisson([30, 5, 100, 0.4, 0], (SPOTS, 5))
    y, x = np.divmod(np.arange(SPOTS), 10)
    return anndata.AnnData(
        X=sparse.csr_array(counts.astype(np.float32)),
        obs=pd.DataFrame(index=[f"s{i}" for i in range(SPOTS)]),
        var=pd.DataFrame(index=["A", "B", "C", "D", "FLAT"]),
        obsm={"spatial": 200.0 * np.stack([x, y], axis=1)},
        uns={"notices": [], "image_scales": {}},
    )


NAMES = ["D", "A", "UNMEASURED", "FLAT", "b"]


@pytest.fixture
def predicted(measured) -> np.ndarray:
    """A map of D that knows something, one of A that is its very expression, noise for the others."""
    rng = np.random.default_rng(6)
    expression = log_normalised(measured.X)
    maps = rng.normal(size=(SPOTS, 5))
    maps[:, 0] = expression[:, 3] + rng.normal(0, 3, SPOTS)
    maps[:, 1] = expression[:, 0]
    return maps.astype(np.float32)


def test_correlations_are_of_log_normalised_counts_over_all_genes(measured, predicted):
    table = agreement(predicted, measured, measured.obsm["spatial"], NAMES)
    assert table.index.tolist() == ["D", "A", "FLAT", "b"]
    counts = measured.X.toarray()
    expression = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    for name, column, gene in (("D", 0, 3), ("b", 4, 1)):
        r = stats.pearsonr(predicted[:, column], expression[:, gene]).statistic
        rank_r = stats.spearmanr(predicted[:, column], expression[:, gene]).statistic
        np.testing.assert_allclose(table.loc[name, ["pearson_r", "spearman_r"]].astype(float), [r, rank_r], atol=1e-5)
        assert table.r_low[name] < r < table.r_high[name]
    assert table.pearson_r["A"] == pytest.approx(1)
    assert table.detected["D"] == (counts[:, 3] > 0).mean()
    assert (table.n_spots == SPOTS).all()


def test_a_gene_measured_the_same_everywhere_has_no_correlation(measured, predicted):
    table = agreement(predicted, measured, measured.obsm["spatial"], NAMES)
    assert table.loc["FLAT", ["pearson_r", "p_value", "q_value"]].isna().all()
    assert table.detected["FLAT"] == 0


def test_genes_taken_in_parts_give_the_same_table(measured, predicted, monkeypatch):
    whole, progress = agreement(predicted, measured, measured.obsm["spatial"], NAMES), Recording()
    monkeypatch.setattr(module, "_GENES_AT_ONCE", 3)
    parts = agreement(predicted, measured, measured.obsm["spatial"], NAMES, progress=progress)
    pd.testing.assert_frame_equal(parts, whole)
    assert progress.reports == [(3, 4, "comparing the genes"), (4, 4, "comparing the genes")]
    np.testing.assert_allclose(whole.q_value.dropna(), stats.false_discovery_control(whole.p_value.dropna()), rtol=1e-9)


def test_spots_without_a_prediction_take_no_part(measured, predicted):
    holes = predicted.copy()
    holes[[3, 17]] = np.nan
    table = agreement(holes, measured, measured.obsm["spatial"], NAMES)
    keep = np.delete(np.arange(SPOTS), [3, 17])
    alone = agreement(predicted[keep], measured[keep].copy(), measured.obsm["spatial"][keep], NAMES)
    pd.testing.assert_frame_equal(table, alone)
    assert (table.n_spots == SPOTS - 2).all()


def test_too_few_predicted_spots_are_refused(measured, predicted):
    predicted[3:] = np.nan
    with pytest.raises(SpotsError, match="3 of 60 spots have a prediction, and a correlation needs 4"):
        agreement(predicted, measured, measured.obsm["spatial"], NAMES)


def test_no_shared_gene_is_refused(measured, predicted):
    with pytest.raises(SpotsError, match="none of the 2 predicted genes was measured"):
        agreement(predicted[:, :2], measured, measured.obsm["spatial"], ["X", "Y"])


def test_the_summary_counts_what_the_table_holds():
    table = pd.DataFrame(
        {"pearson_r": [0.5, 0.31, 0.1, -0.6, math.nan], "q_value": [0.001, 0.2, 0.04, 0.001, math.nan]},
        index=pd.Index(list("ABCDE"), name="gene"),
    )
    summary = agreement_summary(table)
    assert (summary.genes, summary.significant, summary.useful) == (4, 2, 2)
    assert summary.median_r == pytest.approx(0.205)
    assert math.isnan(agreement_summary(table.iloc[4:]).median_r)


def test_the_csv_reads_back_as_the_table(measured, predicted):
    table = agreement(predicted, measured, measured.obsm["spatial"], NAMES)
    back = pd.read_csv(io.StringIO(agreement_csv(table)), index_col="gene")
    pd.testing.assert_frame_equal(back, table, rtol=1e-5)


def test_a_published_section_agrees_with_its_measurement(data_folder, embedded):
    folder = data_folder / "her2st"
    measured = read_measured([folder / "counts/C5.tsv.gz", folder / "spots/C5_selection.tsv"])
    match = match_genes(measured, embedded.genes)
    assert match.predicted == embedded.genes  # fitted to genes detected in every section
    assert match.notice is None
    with open_slide(folder / "images/C5_full.jpg", mpp=0.69) as slide:
        centers = check_on_slide(measured, slide.size)
        predicted = predict_spots(slide, embedded, centers, genes=match.predicted)
    table = agreement(predicted, measured, centers, match.predicted)
    assert {"ERBB2", "CD24", "COX6C"} <= set(table.index)
    summary = agreement_summary(table)
    assert summary.genes == len(embedded.genes)
    # The section was among those fitted; where patient C is held out, the median over 250 genes is about 0.2.
    assert 0.1 < summary.median_r < 0.35
    shuffled = predicted[np.random.default_rng(0).permutation(len(predicted))]
    assert agreement_summary(agreement(shuffled, measured, centers, match.predicted)).useful < 0.05 * summary.genes
