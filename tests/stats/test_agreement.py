"""What `agreement` promises: predictions around spots, compared with what was measured there."""

import io
import math

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from nsl import open_slide
from nsl.errors import SpotsError
from nsl.numerals import six_digits
from nsl.prediction import predict_spots
from nsl.spots.checks import check_on_slide, match_genes
from nsl.spots.measured import read_measured
from nsl.spots.tables import log_normalised
from nsl.stats import agreement as module
from nsl.stats.agreement import agreement, agreement_summary, gene_correlations
from tests.made_maps import square_array
from tests.recording import Recording

# Gene by gene


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(49, 3))
    predicted = measured + rng.normal(size=(49, 3)) * [0.5, 2, 8]
    table = gene_correlations(predicted, measured, square_array(7), ["A", "B", "C"])
    for i, gene in enumerate(table.index):
        assert table.pearson_r[gene] == pytest.approx(stats.pearsonr(predicted[:, i], measured[:, i]).statistic)
        assert table.spearman_r[gene] == pytest.approx(stats.spearmanr(predicted[:, i], measured[:, i]).statistic)
        assert table.r_low[gene] < table.pearson_r[gene] < table.r_high[gene]


def test_independent_spots_count_nearly_in_full():
    rng = np.random.default_rng(1)
    predicted, measured = rng.normal(size=(2, 225, 400))
    table = gene_correlations(predicted, measured, square_array(15), range(400))
    assert 0.85 * 225 < table.effective_n.median() <= 225
    assert (table.p_value < 0.05).mean() == pytest.approx(0.05, abs=0.03)


def smooth_maps(rng: np.random.Generator, side: int, number: int) -> np.ndarray:
    """(side², number) random maps whose neighbours resemble each other, each unlike any other."""
    from scipy.ndimage import gaussian_filter

    fields = gaussian_filter(rng.normal(size=(number, side, side)), (0, 1.5, 1.5))
    return fields.reshape(number, -1).T


def test_smooth_maps_that_have_nothing_to_do_with_each_other_are_rarely_called_significant():
    rng = np.random.default_rng(2)
    predicted, measured = smooth_maps(rng, 15, 400), smooth_maps(rng, 15, 400)
    table = gene_correlations(predicted, measured, square_array(15), range(400))
    naive = np.array([stats.pearsonr(predicted[:, i], measured[:, i]).pvalue for i in range(400)])
    assert (naive < 0.05).mean() > 0.4
    assert (table.p_value < 0.05).mean() < 0.1
    covered = (table.r_low < 0) & (table.r_high > 0)
    assert covered.mean() > 0.9


def test_intervals_cover_the_correlation_that_smooth_maps_share():
    rng = np.random.default_rng(3)
    shared, own, other = (smooth_maps(rng, 15, 400) for _ in range(3))
    table = gene_correlations(shared + own, shared + other, square_array(15), range(400))
    assert ((table.r_low < 0.5) & (table.r_high > 0.5)).mean() > 0.88


def test_the_unit_of_positions_does_not_matter():
    rng = np.random.default_rng(4)
    predicted, measured = smooth_maps(rng, 9, 5), smooth_maps(rng, 9, 5)
    in_um, in_px = (gene_correlations(predicted, measured, square_array(9) * k, range(5)) for k in (1.0, 0.69))
    pd.testing.assert_frame_equal(in_um, in_px)


def test_a_flat_prediction_tells_nothing_and_a_flat_measurement_cannot_be_told():
    rng = np.random.default_rng(5)
    varied = rng.normal(size=(25, 4))
    predicted, measured = varied.copy(), varied + rng.normal(size=(25, 4))
    predicted[:, 0] = 2.5
    measured[:, 1] = 0
    measured[:, 2] = np.nan
    table = gene_correlations(predicted, measured, square_array(5), list("ABCD"))
    assert table.pearson_r["A"] == 0
    assert table.p_value["A"] == 1
    assert table.loc[["B", "C"], ["pearson_r", "p_value", "q_value"]].isna().all(axis=None)
    assert np.isfinite(table.loc["D"]).all()


def test_a_perfect_prediction_has_r_1_and_finite_bounds():
    measured = smooth_maps(np.random.default_rng(6), 6, 1)
    table = gene_correlations(3 * measured + 1, measured, square_array(6), ["A"])
    assert table.pearson_r["A"] == pytest.approx(1)
    assert table.r_high["A"] <= 1
    assert 0 <= table.p_value["A"] < 1e-6


# Over the spots of a slide

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


def test_a_gene_counted_in_few_spots_has_no_p_value(measured, predicted):
    counts = measured.X.toarray()
    counts[19:, 3] = 0
    counts[:19, 3] = 1
    measured.X = sparse.csr_array(counts)
    table = agreement(predicted, measured, measured.obsm["spatial"], NAMES)
    assert table.loc["D", ["p_value", "q_value"]].isna().all()
    assert np.isfinite(table.loc["D", "pearson_r"])
    known = table.p_value.drop(["D", "FLAT"])
    np.testing.assert_allclose(table.q_value[known.index], stats.false_discovery_control(known))
    counts[19, 3] = 1
    measured.X = sparse.csr_array(counts)
    assert np.isfinite(agreement(predicted, measured, measured.obsm["spatial"], NAMES).p_value["D"])


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
    back = pd.read_csv(io.StringIO(six_digits(table)), index_col="gene")
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
