"""What `correlation` promises: genes that go together lie together, and no more certainty than neighbours allow."""

import anndata
import numpy as np
import pytest
from scipy import stats

from nsl import open_slide, predict
from nsl.errors import NslError
from nsl.stats.agreement import gene_correlations
from nsl.stats.correlation import (
    cluster_order,
    correlations_with,
    gene_correlations_over_tiles,
    independent_patterns,
    standing_for,
)
from tests.made_maps import GRIDS, map_of, smooth_map


@pytest.fixture(params=GRIDS.values(), ids=GRIDS.keys())
def small(request) -> anndata.AnnData:
    return smooth_map(**request.param, genes=5, sigma=1.5, seed=3)


# Genes with genes


def test_correlations_are_those_of_scipy(small):
    pearson, spearman = (gene_correlations_over_tiles(small, method=method) for method in ("pearson", "spearman"))
    for a in range(5):
        for b in range(5):
            x, y = small.X[:, a].astype(float), small.X[:, b].astype(float)
            assert pearson.r[a, b] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
            assert spearman.r[a, b] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


def test_one_map_with_all_is_a_row_of_the_correlations(small):
    r = correlations_with(small, small.var_names[2])
    np.testing.assert_allclose(r, gene_correlations_over_tiles(small).r[2], atol=1e-9)
    small.X[:, 4] = 1
    assert np.isnan(correlations_with(small, small.var_names[2]).iloc[4])


def test_p_values_are_those_of_predicted_against_measured(small):
    ours = gene_correlations_over_tiles(small)
    centers = small.obs[["array_col", "array_row"]].to_numpy(float)
    table = gene_correlations(small.X[:, :-1], small.X[:, 1:], centers, range(4))
    np.testing.assert_allclose(np.diag(ours.p_value, 1), table.p_value, rtol=1e-6)


def test_each_pair_is_listed_once_the_closest_first(small):
    correlations = gene_correlations_over_tiles(small, ["G3", "G0", "G4", "G3"])
    assert correlations.genes == ["G3", "G0", "G4"]
    table = correlations.pairs_table()
    assert {frozenset(pair) for pair in zip(table.gene_a, table.gene_b, strict=True)} == {
        frozenset(pair) for pair in (("G3", "G0"), ("G3", "G4"), ("G0", "G4"))
    }
    assert table.r.abs().is_monotonic_decreasing
    whole = gene_correlations_over_tiles(small)
    for row in table.itertuples():
        a, b = int(row.gene_a[1]), int(row.gene_b[1])
        assert (row.r, row.p_value) == pytest.approx((whole.r[a, b], whole.p_value[a, b]))
        assert row.effective_n == pytest.approx(whole.effective_n[b, a])


def test_false_discoveries_are_counted_over_the_distinct_pairs(small):
    correlations = gene_correlations_over_tiles(small)
    table = correlations.pairs_table()
    assert len(table) == 10
    np.testing.assert_allclose(table.q_value, stats.false_discovery_control(table.p_value))
    assert np.isnan(np.diag(correlations.q_value)).all()
    np.testing.assert_array_equal(correlations.q_value, correlations.q_value.T)


def test_unrelated_smooth_genes_are_rarely_called_related():
    result = smooth_map(30, 34, 60, tiles=800, sigma=2, seed=1)
    table = gene_correlations_over_tiles(result).pairs_table()
    naive = [stats.pearsonr(result.X[:, i], result.X[:, i + 1]).pvalue for i in range(59)]
    assert (np.array(naive) < 0.05).mean() > 0.4
    assert (table.p_value < 0.05).mean() < 0.08
    assert (table.q_value < 0.05).mean() < 0.01


def test_a_gene_that_is_the_same_everywhere_has_no_correlation_and_spoils_no_other():
    result = smooth_map(12, 12, 4, tiles=100, sigma=1, seed=5)
    without = gene_correlations_over_tiles(result, ["G0", "G1", "G3"])
    result.X[:, 2] = np.float32(1.1)
    result.X[::2, 2] = np.nextafter(np.float32(1.1), np.float32(2))  # as a model rounds a constant
    correlations = gene_correlations_over_tiles(result)
    others = np.ix_([0, 1, 3], [0, 1, 3])
    for name in ("r", "effective_n", "p_value", "q_value"):
        assert np.isnan(getattr(correlations, name)[2]).all()
        np.testing.assert_allclose(getattr(correlations, name)[others], getattr(without, name))
    assert correlations.pairs_table().r.isna().tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        (["G1"], "1 is chosen; choose two or more"),
        (["G1", "NOT", "NOR"], r"no gene NOT \(and 1 more\); choose among its 5"),
    ],
)
def test_genes_that_cannot_be_correlated_are_refused(genes, message):
    with pytest.raises(NslError, match=message):
        gene_correlations_over_tiles(smooth_map(6, 6, 5, tiles=20, sigma=1, seed=0), genes)


def test_more_genes_than_memory_should_hold_are_refused_with_the_limit():
    result = map_of(np.arange(5), np.arange(5), np.zeros((5, 1_001)))
    with pytest.raises(NslError, match=r"1,001 genes .* choose 1,000 genes or fewer"):
        gene_correlations_over_tiles(result)


def test_three_tiles_are_too_few():
    with pytest.raises(NslError, match="four tiles or more, and this map has 3"):
        gene_correlations_over_tiles(smooth_map(2, 2, 2, tiles=3, sigma=1, seed=0))


@pytest.fixture(scope="module")
def tissue(data_folder, embedded) -> dict[float, anndata.AnnData]:
    """A real section in tiles side by side and in tiles that overlap by half, by their step in µm."""
    genes = embedded.reliability.sort_values("r_heldout").index[-120:]
    with open_slide(data_folder / "her2st/images/C2_full.jpg", mpp=0.69) as slide:
        return {step: predict(slide, embedded, genes=genes, stride_um=step) for step in (150.0, 75.0)}


def test_overlapping_tiles_of_real_tissue_add_no_certainty(tissue):
    side_by_side, overlapping = (gene_correlations_over_tiles(tissue[step]) for step in (150.0, 75.0))
    assert tissue[75.0].n_obs > 3.5 * tissue[150.0].n_obs
    ratio = overlapping.effective_n / side_by_side.effective_n
    assert 0.9 < np.median(ratio) < 1.1
    assert np.median(overlapping.effective_n) < 0.1 * tissue[75.0].n_obs


def test_predicted_genes_of_real_tissue_show_few_patterns(tissue):
    for result in tissue.values():
        assert 1 < independent_patterns(result.X) < 5


# Patterns


def test_genes_that_go_together_lie_side_by_side():
    rng = np.random.default_rng(8)
    family = rng.permutation(np.repeat(np.arange(4), 10))
    values = rng.normal(size=(300, 4))[:, family] + 0.5 * rng.normal(size=(300, 40))
    order = cluster_order(np.corrcoef(values.T))
    assert sorted(order) == list(range(40))
    assert (np.diff(family[order]) != 0).sum() == 3


def test_opposite_genes_lie_at_opposite_ends():
    one = np.sin(np.arange(50))
    values = np.stack([one, -one, np.cos(np.arange(50)), one + 0.01 * np.arange(50) % 0.3], axis=1)
    order = cluster_order(np.corrcoef(values.T)).tolist()
    assert abs(order.index(0) - order.index(3)) == 1
    assert 1 in (order[0], order[-1])


@pytest.mark.parametrize("genes", [1, 2, 600])
def test_any_number_of_genes_can_be_ordered_unknown_ones_included(genes):
    r = np.corrcoef(np.random.default_rng(0).normal(size=(40, genes)).T).reshape(genes, genes)
    r[-1] = r[:, -1] = np.nan
    assert sorted(cluster_order(r)) == list(range(genes))


def test_patterns_are_counted_whatever_the_scale_and_sign_of_the_genes():
    rng = np.random.default_rng(2)
    patterns = rng.normal(size=(200, 4))
    patterns = np.linalg.qr(np.column_stack([np.ones(200), patterns]))[0][:, 1:]  # unrelated, of mean 0
    mixed = np.repeat(patterns, 5, axis=1) * rng.choice([-3, 0.2, 7], 20) + 10
    assert independent_patterns(mixed) == pytest.approx(4)
    assert independent_patterns(mixed[:, :5]) == pytest.approx(1)
    assert independent_patterns(np.column_stack([mixed, np.full(200, 3.0)])) == pytest.approx(4)
    assert independent_patterns(np.ones((200, 3))) == 0


def test_unrelated_genes_are_as_many_patterns_as_genes():
    assert independent_patterns(np.random.default_rng(3).normal(size=(5_000, 30))) == pytest.approx(30, rel=0.02)


# Genes of one pattern


def test_the_first_of_the_genes_that_draw_one_picture_or_its_reverse_stands_for_all():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200))
    noise = 0.1 * rng.normal(size=200)
    row, column = np.divmod(np.arange(200), 20)
    result = map_of(row, column, np.column_stack([a, b, 3 - 2 * a, b + noise, np.ones(200), a + 5 * noise]))
    standing = standing_for(result, ["G2", "G0", "G3", "G1", "G4", "G5"])
    assert standing.to_dict() == {"G2": "G2", "G0": "G2", "G3": "G3", "G1": "G3", "G4": "G4", "G5": "G5"}
    assert standing_for(result, ["G2", "G5"], least_r=0.5).to_dict() == {"G2": "G2", "G5": "G2"}
