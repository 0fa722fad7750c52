"""How smooth maps are."""

import anndata
import numpy as np
import pandas as pd
import pytest

from nsl.stats.moran import morans_i


def _result(values: np.ndarray, row: np.ndarray, column: np.ndarray) -> anndata.AnnData:
    obs = pd.DataFrame({"array_row": row, "array_col": column}).set_axis([f"t{i}" for i in range(len(row))])
    spatial = np.stack([column * 100.0, row * 100.0], axis=1)
    return anndata.AnnData(np.asarray(values, np.float32), obs=obs, obsm={"spatial": spatial})


def _grid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    row, column = np.mgrid[:rows, :columns]
    return row.ravel(), column.ravel()


def test_a_chessboard_is_minus_one_halves_near_one_and_a_flat_map_nothing():
    row, column = _grid(8, 8)
    maps = np.stack([(row + column) % 2, column >= 4, np.ones(64)], axis=1)
    chessboard, halves, flat = morans_i(_result(maps, row, column))
    assert chessboard == pytest.approx(-1)
    # By hand: of 64 tiles 16 lie at the border of the halves; of these the 4 in corners of the grid's edge have one of
    # three neighbours on the other side, the other 12 one of four.
    assert halves == pytest.approx((48 + 12 * (1 / 2) + 4 * (1 / 3)) / 64)
    assert np.isnan(flat)


def test_tiles_with_no_neighbour_take_part_in_the_mean_alone():
    # Four in a row, and one far away.
    row, column = np.array([0, 0, 0, 0, 5]), np.array([0, 1, 2, 3, 9])
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    # z = -2 -1 0 1 2; neighbours' means -1, -1, 0, 0 (of ends: the one beside), weights in all 4.
    expected = 5 / 4 * ((-2) * -1 + (-1) * -1 + 0 * 0 + 1 * 0) / 10
    assert morans_i(_result(values[:, None], row, column)) == pytest.approx([expected])


def test_many_genes_come_as_each_by_itself_wherever_the_grid_begins():
    row, column = _grid(5, 7)
    maps = np.random.default_rng(0).normal(size=(35, 600)).cumsum(axis=0)
    together = morans_i(_result(maps, row, column))
    moved = morans_i(_result(maps[:, 300:301], row + 40, column + 3))
    assert together[300] == pytest.approx(moved[0])
    assert together.shape == (600,)


def test_where_no_tiles_are_neighbours_there_is_no_answer():
    assert np.isnan(morans_i(_result(np.array([[1.0], [2.0]]), np.array([0, 4]), np.array([0, 4])))).all()


@pytest.mark.evaluation
@pytest.mark.filterwarnings("ignore")  # those of squidpy's own dependencies
def test_squidpy_gives_the_same():
    import squidpy

    row, column = _grid(20, 30)
    kept = np.hypot(row - 10, (column - 15) / 1.5) < 9.5
    row, column = row[kept], column[kept]
    maps = np.random.default_rng(0).normal(size=(len(row), 4)) + np.outer(column, [0, 0.05, 0.2, 1])
    result = _result(maps, row, column)
    squidpy.gr.spatial_neighbors(result, coord_type="grid", n_neighs=4)
    squidpy.gr.spatial_autocorr(result, mode="moran", n_perms=None)
    theirs = result.uns["moranI"].loc[result.var_names, "I"].to_numpy()
    assert morans_i(result) == pytest.approx(theirs, abs=1e-5)
