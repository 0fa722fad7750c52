"""How smooth a map is over the tissue: Moran's I."""

import anndata
import numpy as np
import pandas as pd

from nsl.stats.pearson import blocks

# Genes answered at once, so that a large result is not held in memory twice.
_GENES_AT_ONCE = 256


def morans_i(result: anndata.AnnData) -> np.ndarray:
    """Moran's I (Moran 1950) of every column of a result's X, (G,): 1 is smooth, 0 without order in space.

    Neighbours of a tile are those that share a side with its place in the grid, and weigh 1 together: what squidpy's
    `spatial_autocorr` gives after `spatial_neighbors(coord_type="grid", n_neighs=4)`. NaN for a map that is the same
    everywhere, and for all maps where no two tiles are neighbours.

    A predicted map is smooth by its making, more so where tiles overlap: compare genes of one result alone.
    """
    weights = _neighbor_weights(result.obs["array_row"].to_numpy(int), result.obs["array_col"].to_numpy(int))
    out = np.empty(result.n_vars)
    for genes in blocks(result.n_vars, _GENES_AT_ONCE):
        z = np.asarray(result.X[:, genes], np.float64)
        constant = np.ptp(z, axis=0) == 0
        z -= z.mean(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            own = len(z) / weights.sum() * (z * (weights @ z)).sum(axis=0) / (z**2).sum(axis=0)
        out[genes] = np.where(constant, np.nan, own)
    return out


def with_morans_i(result: anndata.AnnData, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """What `var` says of each gene, and Moran's I of its map as `morans_i` where the result is of tiles on a grid.

    known : what this gave of the same tiles and at least these genes.
    """
    if "array_row" not in result.obs:  # of spots, say
        return result.var
    if known is not None:
        return result.var.assign(morans_i=known.morans_i[result.var_names])
    return result.var.assign(morans_i=morans_i(result).round(4))


def _neighbor_weights(row: np.ndarray, column: np.ndarray):
    """(T, T) of each tile the weights of those beside, above and below it, 1 in all; none where it stands alone."""
    from scipy.sparse import csr_array  # not needed to start

    tiles = len(row)
    places = np.full((np.ptp(row) + 3, np.ptp(column) + 3), -1)
    row, column = row - row.min() + 1, column - column.min() + 1
    places[row, column] = np.arange(tiles)
    beside = np.stack(
        [places[row + down, column + right] for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0))], axis=1
    )
    of, at = np.nonzero(beside >= 0)
    number = np.bincount(of, minlength=tiles)
    return csr_array((1 / number[of], (of, beside[of, at])), shape=(tiles, tiles))
