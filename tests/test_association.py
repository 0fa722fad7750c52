"""What `nsl.association` promises: what the dense formulas give, fast, and no more certainty than neighbours allow."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import pdist, squareform

from nsl import association, evaluate, open_slide, predict
from nsl.association import (
    autocovariance,
    cluster_order,
    compare_region,
    effective_sample_sizes,
    gene_correlations_over_tiles,
    independent_patterns,
    tiles_in_box,
    tiles_in_lasso,
)
from nsl.errors import NslError
from nsl.evaluate import effective_sample_size
from nsl.tiles import TileGrid

TILE_UM, STRIDE_UM = 150.0, 75.0


def map_of(row: np.ndarray, column: np.ndarray, values: np.ndarray) -> anndata.AnnData:
    """A result whose tiles of 150 µm, every 75 µm, lie at these places of the grid; genes G0, G1, …"""
    x_um, y_um = (TILE_UM / 2 + axis * STRIDE_UM for axis in (column, row))
    obs = pd.DataFrame(
        {"array_row": row, "array_col": column, "x_um": x_um, "y_um": y_um},
        index=[f"r{r}c{c}" for r, c in zip(row, column, strict=True)],
    )
    genes = [f"G{i}" for i in range(values.shape[1])]
    var = pd.DataFrame({"r_heldout": np.linspace(0.5, -0.1, len(genes))}, index=genes)
    return anndata.AnnData(values.astype(np.float32), obs, var)


def smooth_map(rows: int, columns: int, genes: int, *, tiles: int, sigma: float, seed: int) -> anndata.AnnData:
    """Unrelated maps of sd 1 whose neighbours resemble each other, on a grid that lacks some tiles."""
    rng = np.random.default_rng(seed)
    fields = gaussian_filter(rng.normal(size=(genes, rows, columns)), (0, sigma, sigma))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    row, column = np.divmod(np.sort(rng.choice(rows * columns, tiles, replace=False)), columns)
    return map_of(row, column, fields[:, row, column].T)


GRIDS = {
    "with holes": {"rows": 13, "columns": 17, "tiles": 150},
    "sparse": {"rows": 19, "columns": 8, "tiles": 30},
    "one row": {"rows": 1, "columns": 60, "tiles": 41},
    "whole": {"rows": 9, "columns": 11, "tiles": 99},
}


@pytest.fixture(params=GRIDS.values(), ids=GRIDS.keys())
def small(request) -> anndata.AnnData:
    return smooth_map(**request.param, genes=5, sigma=1.5, seed=3)


# Autocorrelation


def test_effective_sample_sizes_are_those_of_the_dense_distances(small):
    x = small.X.astype(float)
    x = (x - x.mean(axis=0)) / np.sqrt(((x - x.mean(axis=0)) ** 2).sum(axis=0))
    centers = small.obs[["array_col", "array_row"]].to_numpy(float)
    ours = effective_sample_sizes(small, small.X)
    for i in range(5):
        dense = effective_sample_size(x, np.roll(x, i, axis=1), centers)
        np.testing.assert_allclose(ours[np.arange(5), np.arange(5) - i], dense, rtol=1e-6)


def test_autocovariance_is_the_mean_product_of_the_pairs_in_each_class_of_distance(small):
    x = small.X.astype(float) - small.X.mean(axis=0, dtype=float)
    distance = squareform(pdist(small.obs[["array_col", "array_row"]].to_numpy(float)))
    ours = autocovariance(small, small.X)
    assert ours.shape == (5, 16)
    for k in range(16):
        low, high = (edge * distance.max() / 15 for edge in (k - 1, k))
        i, j = np.nonzero((distance > low) & (distance <= high))
        mean = (x[i] * x[j]).mean(axis=0) if len(i) else np.zeros(5)
        np.testing.assert_allclose(ours[:, k], mean, atol=1e-9)


def test_a_tile_grid_does_as_well_as_a_result(small):
    grid = TileGrid(TILE_UM, STRIDE_UM, 0.5, small.obs.array_row.to_numpy(), small.obs.array_col.to_numpy())
    np.testing.assert_array_equal(autocovariance(grid, small.X), autocovariance(small, small.X))


def test_where_on_the_slide_the_tissue_lies_does_not_matter(small):
    moved = small.copy()
    moved.obs["array_row"] += 70
    moved.obs["array_col"] += 9
    np.testing.assert_array_equal(autocovariance(moved, small.X), autocovariance(small, small.X))


def test_batches_make_no_difference(small, monkeypatch):
    inside = tiles_in_box(small, 0, 0, 0.3, 9)
    whole = gene_correlations_over_tiles(small), compare_region(small, inside)
    monkeypatch.setattr(association, "_BATCH_VALUES", 30)
    parts = gene_correlations_over_tiles(small), compare_region(small, inside)
    for name in ("r", "effective_n", "p_value", "q_value"):
        np.testing.assert_allclose(getattr(parts[0], name), getattr(whole[0], name), rtol=1e-9)
    pd.testing.assert_frame_equal(parts[1], whole[1], rtol=1e-9)


def test_two_tiles_at_one_place_are_refused():
    one = smooth_map(6, 6, 3, tiles=20, sigma=1, seed=0)
    with pytest.raises(NslError, match="one slide at a time"):
        gene_correlations_over_tiles(anndata.concat([one, one], index_unique="-"))


# Genes with genes


def test_correlations_are_those_of_scipy(small):
    pearson, spearman = (gene_correlations_over_tiles(small, method=method) for method in ("pearson", "spearman"))
    for a in range(5):
        for b in range(5):
            x, y = small.X[:, a].astype(float), small.X[:, b].astype(float)
            assert pearson.r[a, b] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
            assert spearman.r[a, b] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


def test_p_values_are_those_of_predicted_against_measured(small):
    ours = gene_correlations_over_tiles(small)
    centers = small.obs[["array_col", "array_row"]].to_numpy(float)
    table = evaluate.gene_correlations(small.X[:, :-1], small.X[:, 1:], centers, range(4))
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


# Regions


@pytest.fixture
def square() -> anndata.AnnData:
    """10 × 10 tiles whose centres lie at 75, 150, … 750 µm."""
    row, column = np.divmod(np.arange(100), 10)
    return map_of(row, column, np.random.default_rng(0).normal(size=(100, 3)))


@pytest.mark.parametrize("corners", [(0.2, 0.1, 0.46, 0.23), (0.46, 0.23, 0.2, 0.1), (0.2, 0.23, 0.46, 0.1)])
def test_a_box_holds_the_tiles_whose_centres_lie_in_it(square, corners):
    held = square.obs_names[tiles_in_box(square, *corners)]
    assert set(held) == {f"r{row}c{column}" for row in (1, 2) for column in (2, 3, 4, 5)}


def test_a_lasso_holds_the_tiles_inside_it(square):
    triangle = [(0.1, 0.1), (0.8, 0.1), (0.1, 0.8)]
    inside = tiles_in_lasso(square, triangle)
    x, y = square.obs.x_um.to_numpy() / 1000, square.obs.y_um.to_numpy() / 1000
    on_the_edge = np.isclose(x + y, 0.9)
    expected = (x > 0.1) & (y > 0.1) & (x + y < 0.9)
    assert expected.sum() > 20
    np.testing.assert_array_equal(inside[~on_the_edge], expected[~on_the_edge])
    np.testing.assert_array_equal(tiles_in_lasso(square, [*triangle, triangle[0]]), inside)


def test_the_loop_of_a_lasso_that_crosses_itself_twice_is_outside(square):
    corner = np.arange(5) * 4 * np.pi / 5  # a five-pointed star, drawn in one stroke
    star = 0.45 + 0.35 * np.stack([np.sin(corner), -np.cos(corner)], axis=1)
    held = set(square.obs_names[tiles_in_lasso(square, star)])
    assert "r5c5" not in held  # its heart
    assert "r2c5" in held  # its upper point


@pytest.mark.parametrize("polygon", [[], [(0.1, 0.1), (0.8, 0.1)]])
def test_a_lasso_of_two_corners_is_refused(square, polygon):
    with pytest.raises(NslError, match=f"three corners or more, got {len(polygon)}"):
        tiles_in_lasso(square, polygon)


def test_corners_that_are_not_numbers_are_refused(square):
    with pytest.raises(NslError, match="draw the region again"):
        tiles_in_box(square, 0, None, 1, 1)
    with pytest.raises(NslError, match="draw the region again"):
        tiles_in_lasso(square, [(0, 0), (1, np.nan), (1, 1)])


def test_a_region_is_told_from_the_rest_by_means_and_pooled_sd(square):
    inside = tiles_in_box(square, 0, 0, 0.3, 0.5)
    square.X[inside, 1] += 2
    table = compare_region(square, inside)
    assert table.index[0] == "G1"
    assert table.effect_size.abs().is_monotonic_decreasing
    for gene, row in table.iterrows():
        x, y = (square[side, gene].X.ravel().astype(float) for side in (inside, ~inside))
        assert row.mean_inside == pytest.approx(x.mean())
        assert row.mean_outside == pytest.approx(y.mean())
        assert row.difference == pytest.approx(x.mean() - y.mean())
        pooled = ((len(x) - 1) * x.var(ddof=1) + (len(y) - 1) * y.var(ddof=1)) / (len(x) + len(y) - 2)
        assert row.effect_size == pytest.approx(row.difference / np.sqrt(pooled))
        assert row.effect_low < row.effect_size < row.effect_high
        assert row.r_heldout == square.var.r_heldout[gene]
    np.testing.assert_allclose(table.q_value, stats.false_discovery_control(table.p_value))


def test_turning_a_region_inside_out_turns_its_effects_round(square):
    inside = tiles_in_box(square, 0, 0, 0.3, 0.5)
    there, back = (compare_region(square, side, ["G2", "G0"]) for side in (inside, ~inside))
    np.testing.assert_allclose(there.effect_size, -back.effect_size)
    np.testing.assert_allclose(there.effect_low, -back.effect_high)
    np.testing.assert_allclose(there.p_value, back.p_value)


def test_tiles_that_do_not_resemble_their_neighbours_count_nearly_in_full():
    rng = np.random.default_rng(4)
    row, column = np.divmod(np.arange(400), 20)
    result = map_of(row, column, rng.normal(size=(400, 200)))
    inside = tiles_in_box(result, 0.3, 0.3, 0.8, 1.0)
    t = stats.ttest_ind(result.X[inside], result.X[~inside])
    table = compare_region(result, inside).loc[result.var_names]
    assert stats.spearmanr(table.p_value, t.pvalue).statistic > 0.97
    assert (table.p_value < 0.05).mean() == pytest.approx((t.pvalue < 0.05).mean(), abs=0.03)


@pytest.fixture(scope="module")
def nothing_there() -> anndata.AnnData:
    """400 smooth maps that know of no region."""
    return smooth_map(28, 32, 400, tiles=700, sigma=2, seed=6)


def disc(result: anndata.AnnData) -> np.ndarray:
    return ((result.obs.array_row - 12) ** 2 + (result.obs.array_col - 14) ** 2 < 36).to_numpy()


def half(result: anndata.AnnData) -> np.ndarray:
    return (result.obs.array_col < 15).to_numpy()


@pytest.mark.parametrize("region", [disc, half])
def test_a_region_that_differs_in_nothing_is_rarely_called_different(nothing_there, region):
    inside = region(nothing_there)
    naive = stats.ttest_ind(nothing_there.X[inside], nothing_there.X[~inside]).pvalue
    table = compare_region(nothing_there, inside)
    assert (naive < 0.05).mean() > 0.3
    assert (table.p_value < 0.05).mean() < 0.1
    assert (table.q_value < 0.05).mean() < 0.01


@pytest.mark.parametrize("effect", [0.5, 1.5])
def test_intervals_cover_the_effect_that_is_there(nothing_there, effect):
    inside = disc(nothing_there)
    changed = nothing_there.copy()
    changed.X[inside] += effect
    table = compare_region(changed, inside)
    assert ((table.effect_low < effect) & (table.effect_high > effect)).mean() > 0.93
    assert ((table.effect_low > 0) == (table.p_value < 0.05)).mean() > 0.95
    if effect > 1:
        assert (table.p_value < 0.05).mean() > 0.8


def test_a_gene_that_is_the_same_everywhere_has_no_effect_and_comes_last(square):
    square.X[:, 0] = 0.7
    table = compare_region(square, tiles_in_box(square, 0, 0, 0.3, 0.5))
    assert table.index[-1] == "G0"
    assert table.loc["G0", ["mean_inside", "difference"]].tolist() == pytest.approx([0.7, 0])
    assert table.loc["G0", ["effect_size", "p_value", "q_value"]].isna().all()
    assert np.isfinite(table.iloc[:2]).all(axis=None)


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        (0, "holds no tile's centre; draw it larger"),
        (2, "holds 2 of 100 tiles, and needs 3; draw it larger"),
        (98, "leaves 2 of 100 tiles outside, and needs 3; draw it smaller"),
        (100, "holds all 100 tiles, so there is no rest to compare with; draw it smaller"),
    ],
)
def test_a_region_with_too_little_on_a_side_is_refused(square, tiles, message):
    with pytest.raises(NslError, match=message):
        compare_region(square, np.arange(100) < tiles)


def test_three_tiles_on_a_side_are_enough(square):
    for inside in (np.arange(100) < 3, np.arange(100) >= 3):
        assert np.isfinite(compare_region(square, inside)).all(axis=None)


def test_a_region_must_be_one_bool_a_tile(square):
    with pytest.raises(ValueError, match="one bool a tile"):
        compare_region(square, np.array([0, 1, 2]))
