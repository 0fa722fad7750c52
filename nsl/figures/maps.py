"""One gene over its slide, as a Plotly map, and what all maps are made of: the slide below, tissue, axes, colours."""

from collections.abc import Sequence

import anndata
import numpy as np
import plotly.graph_objects as go
from PIL import Image, ImageDraw
from skimage.filters import gaussian
from skimage.measure import find_contours

from nsl.figures import images
from nsl.figures.regions import lines_of, region_outlines, rgb_of
from nsl.figures.style import SELECTED_COLOR, color_bar, gene_text, plain, scale_text, scale_ticks
from nsl.result import Provenance, SlidePicture, centers_mm, map_of
from nsl.slides.annotations.region import Region
from nsl.stains import TISSUE_OD, optical_density
from nsl.tiles import TileGrid, covered_by

PALETTES = ("Viridis", "Cividis", "Magma", "Inferno", "Turbo")
"""Colour scales a user may choose: all but the last are even in lightness and legible to the colour-blind."""

PERCENTILES = (2, 98)
"""Of the values, at the ends of a colour scale unless the user moves them."""

_OUTLINE_COLOR = "#3a3a46"
# The edge is found on a picture of so many pixels, smoothed; rings of fewer points are specks.
_OUTLINE_PX, _OUTLINE_SMOOTH_PX, _OUTLINE_LEAST = 400, 3.0, 50
# Above a map: the name of the colour scale, the scale. Below it: the axis.
_SCALE_PX, _AXIS_PX = 64, 30
_TOP_PX, _LEFT_PX = 8, 60
# A map this wide is what a laptop has room for beside a column; its height follows the slide's shape within these.
_WIDTH_PX, _LEAST_PX, _MOST_PX = 600, 300, 680
_MARGIN_OF_TILES = 0.04
_GRID_RGB, _LEFT_OUT_RGB = (20, 110, 190), (230, 100, 0)
# More lines than this would hide the slide, and take seconds to draw.
_MAX_OUTLINES = 20_000


def percentile_limits(values: np.ndarray, percentiles: tuple[float, float] = PERCENTILES) -> tuple[float, float]:
    """Ends of a colour scale at percentiles of the values, apart also where all are the same."""
    return apart(*np.percentile(values, percentiles))


def apart(low: float, high: float) -> tuple[float, float]:
    """The limits, or half a unit to either side where there is no distance between them."""
    return (float(low), float(high)) if high - low > 1e-6 else (float(low) - 0.5, float(low) + 0.5)


def preview(
    thumbnail: np.ndarray,
    grid: TileGrid,
    keep: np.ndarray,
    slide_width_px: int,
    left_out: np.ndarray | None = None,
    regions: Sequence[Region] = (),
) -> np.ndarray:
    """The slide with every tile to be predicted drawn on it.

    thumbnail : (H, W, 3) uint8 RGB.
    grid : T tiles.
    keep : (T,) bool, the tiles to draw.
    slide_width_px : width of the slide at level 0.
    left_out : (T,) bool, tiles of tissue that are no part of `keep`, to be marked in orange as wide as the step.
    regions : annotated ones, to outline in their colours.

    Returns (H, W, 3) uint8 RGB; what is left out is paler, and tiles kept have an outline unless there are more than
    20,000.
    """
    scale = thumbnail.shape[1] / slide_width_px / grid.mpp
    boxes = _boxes(grid, grid.tile_um, scale)[keep]
    height, width = thumbnail.shape[:2]
    picture = thumbnail.astype(float)
    paler = ~covered_by(boxes, height, width)
    picture[paler] = 255 - (255 - picture[paler]) * 0.45
    if len(boxes) <= _MAX_OUTLINES:
        outline = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in np.minimum(boxes, [width - 1, height - 1] * 2):
            outline[y0 : y1 + 1, [x0, x1]] = True
            outline[[y0, y1], x0 : x1 + 1] = True
        picture[outline] = 0.45 * picture[outline] + 0.55 * np.array(_GRID_RGB)
    if left_out is not None and left_out.any():
        marked = covered_by(_boxes(grid, min(grid.stride_um, grid.tile_um), scale)[left_out], height, width)
        picture[marked] = 0.5 * thumbnail[marked] + 0.5 * np.array(_LEFT_OUT_RGB)
    drawn = Image.fromarray(picture.astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    for region in regions:
        for line in lines_of(region):
            corners = (line * width / slide_width_px).ravel().tolist()
            for color, width_px in (("white", 5), (rgb_of(region), 3)):
                pen.line(corners, color, width_px, joint="curve")
    return np.asarray(drawn)


def _boxes(grid: TileGrid, side_um: float, scale: float) -> np.ndarray:
    """(T, 4) left, top, right, bottom of squares around the tiles' centres, in pixels of a picture."""
    corners = np.concatenate([grid.centers_um - side_um / 2, grid.centers_um + side_um / 2], axis=1)
    return np.rint(corners * scale).astype(int)


def expression_map(
    result: anndata.AnnData,
    gene: str,
    *,
    limits: tuple[float, float],
    palette: str = "Viridis",
    opacity: float = 0.7,
    outline: bool = True,
    tile: str | None = None,
    region: dict | None = None,
    regions: Sequence[Region] = (),
    width_px: int = _WIDTH_PX,
) -> go.Figure:
    """Map of one gene of a result of `nsl.predict` over its slide, in millimetres.

    limits : values at the ends of the colour scale; beyond them the end colours are kept.
    palette : one of `PALETTES`.
    opacity : of the map over the slide, 0 to 1.
    outline : whether the edge of the tissue is drawn.
    tile : name of a tile to frame.
    region : a box or lasso to draw: x and y in mm, a box by two corners.
    regions : annotated ones, to outline.
    width_px : on the screen, for which the figure is just high enough.
    """
    figure = go.Figure(heat(result, map_of(result, gene), gene, opacity=opacity, coloraxis="coloraxis"))
    lay_slide_under(figure, result)
    if outline:
        figure.add_trace(tissue_outline(result))
    figure.add_traces(region_outlines(regions, Provenance.of(result).mpp, window_mm(result)))
    if region:
        figure.add_trace(_line(*_closed(region), SELECTED_COLOR, 2))
    if tile:
        figure.add_trace(_line(*_frame(result, tile), SELECTED_COLOR, 3))
    lay_out_single(figure, result, width_px=width_px)
    figure.update_layout(coloraxis=color_axis(scale_text(gene), limits, palette))
    return figure


def lay_out_single(
    figure: go.Figure, result: anndata.AnnData, *, width_px: int = _WIDTH_PX, has_scale: bool = True
) -> None:
    """Height and margins of a figure of one map, which keeps to the top, under its colour scale if it has one."""
    map_px = round(np.clip(width_px * shape_of_window(result), _LEAST_PX, _MOST_PX))
    above_px = _SCALE_PX if has_scale else _TOP_PX
    plain(figure, above_px + map_px + _AXIS_PX)
    figure.update_layout(
        # Nothing may take of the map's height; map and colour scale begin at the same edge.
        margin={"t": above_px, "b": _AXIS_PX, "l": _LEFT_PX, "autoexpand": False},
        xaxis={"constraintoward": "left", "tickangle": 0, "nticks": 4},
        yaxis_constraintoward="top",
        showlegend=False,
        uirevision=Provenance.of(result).slide_sha256,
    )


def heat(result: anndata.AnnData, values: np.ndarray, name: str, *, opacity: float, coloraxis: str) -> go.Heatmap:
    """Values (T,) of a result's tiles as a heat map in millimetres; hovering says the value and the tissue share."""
    known = Provenance.of(result)
    # Tiles that overlap are drawn as wide as the step between them, around their centres.
    first_mm, step_mm = known.tile_um / 2000, known.stride_um / 1000
    return go.Heatmap(
        z=on_grid(result, values),
        **{"x0": first_mm, "dx": step_mm, "y0": first_mm, "dy": step_mm},
        customdata=on_grid(result, result.obs["tissue_fraction"]),
        opacity=opacity,
        coloraxis=coloraxis,
        hoverongaps=False,
        hovertemplate=f"<b>{gene_text(name)}</b> %{{z:.2f}}<br>tissue %{{customdata:.0%}}<br>x %{{x:.2f}} mm, "
        "y %{y:.2f} mm<extra></extra>",
    )


def color_axis(title: str, limits: tuple[float, float], palette: str) -> dict:
    """A colour scale above the map, its ends at `limits`."""
    bar = color_bar(title, 0, 0.6) | {"thickness": 12, "ypad": 5, **scale_ticks(limits)}
    return {"colorscale": palette, "cmin": limits[0], "cmax": limits[1], "colorbar": bar}


def on_grid(result: anndata.AnnData, values: np.ndarray) -> np.ndarray:
    """Values (T,) as the picture (rows, columns) that the tiles form, NaN where there is no tile."""
    row, column = result.obs["array_row"].to_numpy(), result.obs["array_col"].to_numpy()
    picture = np.full((row.max() + 1, column.max() + 1), np.nan, np.float32)
    picture[row, column] = values
    return picture


def lay_slide_under(
    figure: go.Figure, result: anndata.AnnData, *, x: str = "x", y: str = "y", longest_px: int | None = None
) -> None:
    """The slide's picture under the traces of the axes x and y, in millimetres; they first show `window_mm`.

    longest_px : the picture's longer side where it is to be smaller than it is kept.
    """
    image, mm_per_px = _picture(result)
    height_mm, width_mm = (side * mm_per_px for side in image.shape[:2])
    place = {"xref": x, "yref": y, "x": 0, "y": 0, "sizex": width_mm, "sizey": height_mm, "sizing": "stretch"}
    figure.add_layout_image(source=images.jpeg(image, longest_px), layer="below", **place)
    axis = {"showgrid": False, "zeroline": False, "ticksuffix": " mm", "nticks": 6, "constrain": "domain"}
    axis["automargin"] = True
    (left, right), (top, bottom) = window_mm(result)
    figure.update_layout(
        {
            f"{x[0]}axis{x[1:]}": {"range": [left, right], **axis},
            f"{y[0]}axis{y[1:]}": {"range": [bottom, top], "scaleanchor": x, **axis},
        }
    )


def window_mm(result: anndata.AnnData) -> np.ndarray:
    """What a map first shows, (left, right) and (top, bottom): all tiles with a margin, as far as the slide reaches."""
    image, mm_per_px = _picture(result)
    centers, half_mm = centers_mm(result), Provenance.of(result).tile_um / 2000
    low, high = centers.min(axis=0) - half_mm, centers.max(axis=0) + half_mm
    margin = _MARGIN_OF_TILES * (high - low).max()
    return np.clip([low - margin, high + margin], 0, mm_per_px * np.array(image.shape[1::-1])).T


def shape_of_window(result: anndata.AnnData) -> float:
    """Height over width of `window_mm`."""
    (left, right), (top, bottom) = window_mm(result)
    return (bottom - top) / (right - left)


def tissue_outline(result: anndata.AnnData) -> go.Scatter:
    """The edge of the tissue as one broken line, from the slide's picture."""
    image, mm_per_px = _picture(result)
    y, x = (_outline(image, *Provenance.of(result).white_point) * mm_per_px).astype(np.float32).T
    return _line(x, y, _OUTLINE_COLOR, 1.2)


@images.remembered
def _outline(image: np.ndarray, *white_point: float) -> np.ndarray:
    """(N, 2) rows and columns of the picture."""
    step = max(1, round(max(image.shape[:2]) / _OUTLINE_PX))
    dark = optical_density(image[::step, ::step], np.array(white_point)).mean(axis=-1)
    inside = np.pad(gaussian(dark > TISSUE_OD, _OUTLINE_SMOOTH_PX), 1)
    edges = [edge for edge in find_contours(inside, 0.5) if len(edge) > _OUTLINE_LEAST]
    gap = np.full((1, 2), np.nan)
    line = np.concatenate([part for edge in edges for part in (edge - 1, gap)]) if edges else gap
    return line * step + 0.5  # the middle of the pixel that was looked at


def _line(x: np.ndarray, y: np.ndarray, color: str, width_px: float) -> go.Scatter:
    return go.Scatter(x=x, y=y, mode="lines", line={"color": color, "width": width_px}, hoverinfo="skip")


def _frame(result: anndata.AnnData, tile: str) -> tuple[list[float], list[float]]:
    """Corners of a tile in mm, closed."""
    place, half = result.obs.loc[tile], Provenance.of(result).tile_um / 2
    return _rectangle(*((place[axis] + side) / 1000 for side in (-half, half) for axis in ("x_um", "y_um")))


def _closed(region: dict) -> tuple[list[float], list[float]]:
    """The line around a drawn region, in mm."""
    x, y = region["x"], region["y"]
    return _rectangle(x[0], y[0], x[1], y[1]) if region["kind"] == "box" else ([*x, x[0]], [*y, y[0]])


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> tuple[list[float], list[float]]:
    return [x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0]


def _picture(result: anndata.AnnData) -> tuple[np.ndarray, float]:
    """The slide's picture (H, W, 3) uint8, and its mm/px."""
    picture = SlidePicture.of(result)
    return picture.rgb, picture.mpp / 1000
