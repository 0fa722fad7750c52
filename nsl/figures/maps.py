"""Pictures of slides and results: Plotly figures and preview images; knows nothing of the app around them."""

import base64
import io

import anndata
import numpy as np
import plotly.graph_objects as go
from PIL import Image

from nsl.figures.style import plain
from nsl.tiles import TileGrid

PALETTES = ("Viridis", "Cividis", "Magma", "Inferno", "Turbo")
"""Colour scales a user may choose: all but the last are even in lightness and legible to the colour-blind."""

_GRID_RGB = (20, 110, 190)
# More lines than this would hide the slide, and take seconds to draw.
_MAX_OUTLINES = 20_000


def preview(thumbnail: np.ndarray, grid: TileGrid, keep: np.ndarray, slide_width_px: int) -> np.ndarray:
    """The slide with every tile to be predicted drawn on it.

    Parameters
    ----------
    thumbnail : (H, W, 3) uint8 RGB.
    grid : T tiles.
    keep : (T,) bool, the tiles to draw.
    slide_width_px : width of the slide at level 0.

    Returns
    -------
    (H, W, 3) uint8 RGB; what is left out is paler, and tiles kept have an outline
    unless there are more than 20,000.
    """
    scale = thumbnail.shape[1] / slide_width_px / grid.mpp
    half = grid.tile_um / 2
    corners = np.concatenate([grid.centers_um - half, grid.centers_um + half], axis=1) * scale
    boxes = np.rint(corners).astype(int)[keep]
    height, width = thumbnail.shape[:2]
    covered = _covered(boxes, height, width)
    picture = thumbnail.astype(float)
    picture[~covered] = 255 - (255 - picture[~covered]) * 0.45
    if len(boxes) <= _MAX_OUTLINES:
        outline = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in np.minimum(boxes, [width - 1, height - 1] * 2):
            outline[y0 : y1 + 1, [x0, x1]] = True
            outline[[y0, y1], x0 : x1 + 1] = True
        picture[outline] = 0.45 * picture[outline] + 0.55 * np.array(_GRID_RGB)
    return picture.astype(np.uint8)


def _covered(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) bool, whether a pixel lies in any of the boxes x0, y0, x1, y1."""
    steps = np.zeros((height + 1, width + 1), np.int32)
    x0, y0, x1, y1 = np.clip(boxes, 0, [width, height] * 2).T
    for y, x, sign in ((y0, x0, 1), (y0, x1, -1), (y1, x0, -1), (y1, x1, 1)):
        np.add.at(steps, (y, x), sign)
    return steps.cumsum(axis=0).cumsum(axis=1)[:height, :width] > 0


def expression_map(
    result: anndata.AnnData,
    gene: str,
    *,
    limits: tuple[float, float],
    palette: str = "Viridis",
    opacity: float = 0.7,
    height_px: int = 720,
) -> go.Figure:
    """Map of one gene over the slide, in millimetres.

    Parameters
    ----------
    result : of `nsl.predict`.
    gene : one of its genes.
    limits : values at the ends of the colour scale; beyond them the end colours are kept.
    palette : one of `PALETTES`.
    opacity : of the map over the slide, 0 to 1.
    """
    info = result.uns["nsl"]
    values, tissue = _on_grid(result, result[:, gene].X.ravel()), _on_grid(result, result.obs["tissue_fraction"])
    step_mm, first_mm = info["stride_um"] / 1000, info["tile_um"] / 2000
    heat = go.Heatmap(
        z=values,
        x0=first_mm,
        dx=step_mm,
        y0=first_mm,
        dy=step_mm,
        customdata=tissue,
        opacity=opacity,
        coloraxis="coloraxis",
        hoverongaps=False,
        hovertemplate=f"<b>{gene}</b> %{{z:.2f}}<br>tissue %{{customdata:.0%}}<br>x %{{x:.2f}} mm, y %{{y:.2f}} mm"
        "<extra></extra>",
    )
    figure = go.Figure(heat)
    _lay_slide_under(figure, result)
    plain(figure, height_px)
    figure.update_layout(
        coloraxis={
            "colorscale": palette,
            "cmin": limits[0],
            "cmax": limits[1],
            "colorbar": {
                "title": {"text": f"{gene}, ln(1 + counts per 10,000)", "side": "top"},
                "orientation": "h",
                "y": -0.08,
                "yanchor": "top",
                "thickness": 14,
                "len": 0.6,
                "outlinewidth": 0,
            },
        },
    )
    return figure


def _on_grid(result: anndata.AnnData, values: np.ndarray) -> np.ndarray:
    """Tiles as the picture (rows, columns) they form, NaN where there is no tile."""
    row, column = result.obs["array_row"].to_numpy(), result.obs["array_col"].to_numpy()
    picture = np.full((row.max() + 1, column.max() + 1), np.nan, np.float32)
    picture[row, column] = values
    return picture


def _lay_slide_under(figure: go.Figure, result: anndata.AnnData) -> None:
    spatial = result.uns["spatial"]["slide"]
    image = spatial["images"]["hires"]
    mm_per_px = result.uns["nsl"]["mpp"] / spatial["scalefactors"]["tissue_hires_scalef"] / 1000
    height_mm, width_mm = (side * mm_per_px for side in image.shape[:2])
    figure.add_layout_image(
        source=_data_uri(image),
        xref="x",
        yref="y",
        x=0,
        y=0,
        sizex=width_mm,
        sizey=height_mm,
        sizing="stretch",
        layer="below",
    )
    axis = {"showgrid": False, "zeroline": False, "ticksuffix": " mm", "nticks": 6, "constrain": "domain"}
    figure.update_xaxes(range=[0, width_mm], **axis)
    figure.update_yaxes(range=[height_mm, 0], scaleanchor="x", **axis)


def _data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
