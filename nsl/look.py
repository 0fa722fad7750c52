"""A closer look at a result: which tile lies where, its tissue at full resolution, one gene on a finer grid."""

from dataclasses import dataclass

import anndata
import numpy as np

from nsl.prediction import predict
from nsl.progress import SILENT, Progress
from nsl.slides.slide import Slide
from nsl.weights.weights import Weights

# Of a patch's side: finer is not seen on a screen.
PATCH_PX = 1024
# A tile's pixels on a fine map, of which none is narrower than two pixels of the analysis.
FINE_STEPS_UM = (20.0, 15.0, 10.0)


@dataclass(frozen=True)
class Patch:
    """The tissue under one tile."""

    rgb: np.ndarray
    """(h, w, 3) uint8, as fine as the slide has it, at most 1,024 px wide."""
    mpp: float
    analysed: np.ndarray
    """(h, w, 3) uint8, at the resolution the tile was predicted from."""


def tile_at(result: anndata.AnnData, x_mm: float, y_mm: float) -> str | None:
    """Name of the tile drawn at a place of the map; None where there is none."""
    info = result.uns["nsl"]
    column, row = (
        round((mm * 1000 - info["tile_um"] / 2) / info["stride_um"])  # tiles are drawn around their centres
        for mm in (x_mm, y_mm)
    )
    name = f"r{row}c{column}"
    return name if name in result.obs_names else None


def patch(slide: Slide, result: anndata.AnnData, tile: str) -> Patch:
    """Read the tissue under a tile of a result from its slide.

    Raises
    ------
    SlideError : the slide cannot be read.
    KeyError : the result has no such tile.
    """
    info = result.uns["nsl"]
    center, half_px = result.obsm["spatial"][result.obs_names.get_loc(tile)], info["tile_um"] / info["mpp"] / 2
    # A tile may reach over the edge by a hair, as floats do.
    start, end = np.maximum(center - half_px, 0), np.minimum(center + half_px, slide.size)
    region = (*start, *(end - start))
    fine_mpp = max(slide.require_mpp(), info["tile_um"] / PATCH_PX)
    return Patch(slide.read(*region, fine_mpp), fine_mpp, slide.read(*region, info["analysis_mpp"]))


def percentile_of(result: anndata.AnnData, gene: str, tile: str) -> float:
    """Share of the slide's tiles, in %, whose value of a gene is at most that of one tile."""
    values = result[:, gene].X.ravel()
    return 100 * float((values <= values[result.obs_names.get_loc(tile)]).mean())


def fine_map(
    slide: Slide,
    weights: Weights,
    gene: str,
    step_um: float,
    *,
    min_tissue: float,
    analysis_mpp: float,
    progress: Progress = SILENT,
) -> anndata.AnnData:
    """One gene on squares of `step_um` side by side.

    A tile's prediction is the mean over its pixels, so that of its squares; where they lie higher or lower is what the
    model sees inside a tile, and finer than anything it was compared with.

    Raises what `nsl.predict` raises.
    """
    return predict(
        slide,
        weights,
        tile_um=step_um,
        genes=[gene],
        min_tissue=min_tissue,
        analysis_mpp=min(analysis_mpp, step_um / 2),
        progress=progress,
    )
