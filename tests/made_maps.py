"""Maps made in code, as `nsl.predict` would give them, of genes that resemble their neighbours or nothing."""

import anndata
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from nsl.result import Provenance, centers_mm
from nsl.stats.regions import points_inside

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


def square_array(side: int) -> np.ndarray:
    """(side², 2) positions of a square array."""
    return np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * 200.0


def tiles_in_box(result: anndata.AnnData, x0_mm: float, y0_mm: float, x1_mm: float, y1_mm: float) -> np.ndarray:
    """Which tiles' centres lie in a box between two opposite corners."""
    return points_inside(centers_mm(result), {"kind": "box", "x": [x0_mm, x1_mm], "y": [y0_mm, y1_mm]})


def tiles_in_lasso(result: anndata.AnnData, polygon_mm: list) -> np.ndarray:
    """Which tiles' centres lie in a polygon."""
    x, y = np.reshape(np.asarray(polygon_mm, float), (-1, 2)).T
    return points_inside(centers_mm(result), {"kind": "lasso", "x": x, "y": y})


def half_covered(result: anndata.AnnData, x_mm: tuple[float, float], y_mm: tuple[float, float]) -> np.ndarray:
    """Which tiles a box covers half of, (T,) bool."""
    side_mm, share = Provenance.of(result).tile_um / 1000, 1.0
    for centers, (low, high) in zip(centers_mm(result).T, (x_mm, y_mm), strict=True):
        first, last = np.maximum(centers - side_mm / 2, low), np.minimum(centers + side_mm / 2, high)
        share = share * np.clip(last - first, 0, None) / side_mm
    return share >= 0.5 - 1e-6


GRIDS = {
    "with holes": {"rows": 13, "columns": 17, "tiles": 150},
    "sparse": {"rows": 19, "columns": 8, "tiles": 30},
    "one row": {"rows": 1, "columns": 60, "tiles": 41},
    "whole": {"rows": 9, "columns": 11, "tiles": 99},
}
