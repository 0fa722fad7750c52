"""What `effective_size` promises: on a grid what the dense formulas give, fast, wherever the tissue lies."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform

from nsl.errors import NslError
from nsl.stats import effective_size, pearson
from nsl.stats.correlation import gene_correlations_over_tiles
from nsl.stats.effective_size import effective_size_at_spots, effective_sizes_on_grid
from nsl.stats.regions import compare_region
from nsl.tiles import TileGrid
from tests.made_maps import GRIDS, STRIDE_UM, TILE_UM, smooth_map, tiles_in_box


@pytest.fixture(params=GRIDS.values(), ids=GRIDS.keys())
def small(request) -> anndata.AnnData:
    return smooth_map(**request.param, genes=5, sigma=1.5, seed=3)


def autocovariance(place: anndata.AnnData | TileGrid, values: np.ndarray) -> np.ndarray:
    return effective_size._autocovariance(effective_size._lags(place), values)


def test_effective_sample_sizes_are_those_of_the_dense_distances(small):
    centers = small.obs[["array_col", "array_row"]].to_numpy(float)
    ours = effective_sizes_on_grid(small, small.X)
    for i in range(5):
        dense = effective_size_at_spots(small.X, np.roll(small.X, i, axis=1), centers)
        np.testing.assert_allclose(ours[np.arange(5), np.arange(5) - i], dense, rtol=1e-6)


def test_autocovariance_is_the_mean_product_of_the_pairs_in_each_class_of_distance(small):
    x = small.X.astype(float) - small.X.mean(axis=0, dtype=float)
    distance = squareform(pdist(small.obs[["array_col", "array_row"]].to_numpy(float)))
    ours = autocovariance(small, small.X)
    # To neighbours, across the corner, two steps, and wider by 1.3 each time.
    edges = [-1, 0, 1.2, 1.56, 2.028, 2.6364, 3.42732, 4.455516, 5.7921708, 7.529822]
    edges += [edges[-1] * 1.3**k for k in range(1, 12)]
    assert edges[ours.shape[1] - 1] < distance.max() <= edges[ours.shape[1]]
    for k in range(ours.shape[1]):
        low, high = edges[k : k + 2]
        i, j = np.nonzero((distance > low) & (distance <= high))
        mean = (x[i] * x[j]).mean(axis=0) if len(i) else np.zeros(5)
        np.testing.assert_allclose(ours[:, k], mean, atol=1e-9)


@pytest.mark.parametrize("side", [30, 120])
def test_maps_that_share_nothing_are_rarely_called_alike_however_large_the_slide(side):
    maps = smooth_map(side, side, genes=60, tiles=side * side, sigma=2, seed=11)
    found = gene_correlations_over_tiles(maps)
    pair = np.triu_indices(60, 1)
    true = 1 + 1 / np.var(found.r[pair])
    assert np.median(found.effective_n[pair]) == pytest.approx(true, rel=0.15)
    assert (found.p_value[pair] < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert (found.p_value[pair] < 0.001).mean() < 0.004


def test_spots_of_a_large_section_count_for_what_they_tell_too():
    maps = smooth_map(50, 50, genes=40, tiles=2_500, sigma=2, seed=12)
    centers = maps.obs[["array_col", "array_row"]].to_numpy(float) * 138.6
    a, b = maps.X[:, :20], maps.X[:, 20:]
    r = pearson.pearson_matrix(a, b)
    sizes = effective_size_at_spots(a, b, centers)
    assert np.median(sizes) == pytest.approx(1 + 1 / np.var(r), rel=0.12)


def test_two_pieces_of_tissue_far_apart_count_as_they_do_side_by_side():
    one, other = (smooth_map(20, 20, genes=40, tiles=400, sigma=2, seed=seed) for seed in (1, 2))
    place = one.obs[["array_col", "array_row"]].to_numpy(float)
    a, b = np.vstack([one.X[:, :20], other.X[:, :20]]), np.vstack([one.X[:, 20:], other.X[:, 20:]])
    r = pearson.pearson_matrix(a, b)
    sizes = effective_size_at_spots(a, b, np.vstack([place, place + np.array([700, 0])]))
    assert np.median(sizes) == pytest.approx(1 + 1 / np.var(r), rel=0.2)


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
    monkeypatch.setattr(pearson, "_BATCH_VALUES", 30)
    parts = gene_correlations_over_tiles(small), compare_region(small, inside)
    for name in ("r", "effective_n", "p_value", "q_value"):
        np.testing.assert_allclose(getattr(parts[0], name), getattr(whole[0], name), rtol=1e-9)
    pd.testing.assert_frame_equal(parts[1], whole[1], rtol=1e-9)


def test_two_tiles_at_one_place_are_refused():
    one = smooth_map(6, 6, 3, tiles=20, sigma=1, seed=0)
    with pytest.raises(NslError, match="one slide at a time"):
        gene_correlations_over_tiles(anndata.concat([one, one], index_unique="-"))
