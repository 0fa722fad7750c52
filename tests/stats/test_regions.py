"""What `regions` promises: the tiles that were drawn round, and no more certainty than neighbours allow."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nsl.errors import NslError
from nsl.stats.regions import compare_classes, compare_region
from tests.made_maps import map_of, smooth_map, tiles_in_box, tiles_in_lasso


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


def test_two_small_regions_alike_all_over_are_no_finding():
    """Unrelated maps that hardly change over a region: few of two observations are no evidence."""
    maps = smooth_map(30, 30, genes=200, tiles=900, sigma=8, seed=5)
    row, column = maps.obs.array_row, maps.obs.array_col
    first, second = ((row < 3) & (column < 3)).to_numpy(), ((row > 26) & (column > 26)).to_numpy()
    table = compare_region(maps[first | second], first[first | second])
    assert np.isfinite(table.effect_size).all()
    assert (table.effective_n < 4).mean() > 0.9
    too_few = table[table.effective_n < 4]
    assert too_few[["effect_low", "effect_high", "p_value", "q_value"]].isna().all(axis=None)
    assert not (table.q_value < 0.05).any()


def test_each_row_of_a_comparison_says_how_far_the_gene_can_be_trusted(square):
    inside = tiles_in_box(square, 0, 0, 0.3, 0.5)
    assert "trust" not in compare_region(square, inside)  # a result of a version that did not tell it
    square.var["trust"] = ["reliable", "weak", "unreliable"]
    square.X[inside, 2] += 2
    table = compare_region(square, inside)
    assert table.index[0] == "G2"
    assert table.trust.to_dict() == {"G0": "reliable", "G1": "weak", "G2": "unreliable"}


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


def test_a_region_of_a_large_slide_that_differs_in_nothing_is_rarely_called_different():
    maps = smooth_map(120, 120, 200, tiles=14_400, sigma=3, seed=5)
    table = compare_region(maps, ((maps.obs.array_row - 50) ** 2 + (maps.obs.array_col - 70) ** 2 < 36).to_numpy())
    assert (table.p_value < 0.05).mean() < 0.1
    assert ((table.effect_low < 0) & (table.effect_high > 0)).mean() > 0.9


@pytest.mark.parametrize("effect", [0.5, 1.5])
def test_intervals_cover_the_effect_that_is_there(nothing_there, effect):
    inside = disc(nothing_there)
    changed = nothing_there.copy()
    changed.X[inside] += effect
    table = compare_region(changed, inside)
    assert ((table.effect_low < effect) & (table.effect_high > effect)).mean() > 0.93
    assert ((table.effect_low > 0) == (table.p_value < 0.05)).mean() > 0.95
    if effect > 1:
        assert (table.p_value < 0.05).mean() > 0.75


def test_a_gene_that_is_the_same_everywhere_has_no_effect_and_comes_last(square):
    square.X[:, 0] = 0.7
    table = compare_region(square, tiles_in_box(square, 0, 0, 0.3, 0.5))
    assert table.index[-1] == "G0"
    assert table.loc["G0", ["mean_inside", "difference"]].tolist() == pytest.approx([0.7, 0])
    assert table.loc["G0", ["effect_size", "p_value", "q_value"]].isna().all()
    assert np.isfinite(table.iloc[:2]).all(axis=None)


def test_classes_are_compared_each_as_a_region_against_the_rest(square):
    classes = np.repeat(["Tumor", "", "Stroma", "Few"], [30, 40, 28, 2])
    table = compare_classes(square, classes, ["G2", "G0"])
    assert list(table.index.unique("class")) == ["Stroma", "Tumor"]
    for one in ("Stroma", "Tumor"):
        rows = table.loc[one]
        pd.testing.assert_frame_equal(
            rows.drop(columns=["tiles_inside", "tiles_outside"]), compare_region(square, classes == one, ["G2", "G0"])
        )
        assert set(rows.tiles_inside) == {(classes == one).sum()}
        assert set(rows.tiles_outside) == {100 - (classes == one).sum()}


@pytest.mark.parametrize("classes", [[""] * 100, ["Few"] * 2 + [""] * 98, ["All"] * 100])
def test_classes_without_tiles_on_both_sides_are_refused(square, classes):
    with pytest.raises(NslError, match=r"has (not )?3 tiles inside and 3 outside to compare"):
        compare_classes(square, np.array(classes))


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        (0, "holds no tile; draw it larger"),
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
