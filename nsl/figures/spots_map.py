"""Measured beside predicted expression at the spots of a slide, as a Plotly figure."""

from collections.abc import Sequence

import anndata
import numpy as np
import plotly.graph_objects as go
from scipy.spatial import KDTree

from nsl.figures.maps import lay_slide_under, percentile_limits
from nsl.figures.panels import ON_PAPER, scale_over
from nsl.figures.style import MARGIN_PX, gene_text, literal, plain, points
from nsl.result import Provenance
from nsl.signatures import unit_of

# A panel this wide is what two have on a laptop; its height follows the shape of the array within these.
_PANEL_WIDTH_PX, _LEAST_PANEL_PX, _MOST_PANEL_PX = 390, 240, 520
_LEAST_SPOT_PX = 3.0
_TITLE_PX, _BAR_PX, _AXIS_PX, _FOOT_PX, _LEFT_PX = 22, 40, 30, 24, 56
# Above all: whoever shows the figure may put buttons there.
_HEAD_PX = 34
_GAP = 0.06
_PICTURE_PX = 900
_DECIMALS = 3
_ON_PAPER = {"xanchor": "left", "borderpad": 0, **ON_PAPER}


def spots_map(
    result: anndata.AnnData,
    centers_px: np.ndarray,
    measured: np.ndarray,
    predicted: np.ndarray,
    gene: str,
    *,
    spot_um: float,
    names: Sequence[str],
    palette: str = "Viridis",
    opacity: float = 0.9,
) -> go.Figure:
    """Two maps that zoom together, what was measured and what was predicted, over the H&E, in millimetres.

    Each has a colour scale of its own, from its 2nd to its 98th percentile: predictions spread less than measurements.
    Spots are as wide as `spot_um`, or as their distance where they lie closer, on the map as it is first drawn.

    result : of `nsl.predict`, whose slide is drawn.
    centers_px : (S, 2) x, y of the spots in level-0 pixels.
    measured, predicted : (S,) of one gene; spots where either is NaN are left out.
    spot_um : how wide a spot is, or the window it was predicted from.
    names : (S,) of the spots, to hover with.
    palette : one of `nsl.figures.maps.PALETTES`.
    opacity : of the spots over the slide, 0 to 1.
    """
    known = np.isfinite(measured) & np.isfinite(predicted)
    values = np.column_stack([measured, predicted])[known].astype(float)
    centers_mm = np.asarray(centers_px, float)[known] * Provenance.of(result).mpp / 1000
    window = _window(centers_mm, spot_um / 1000)
    panel_px, size_px = _sizes_px(centers_mm, window, spot_um / 1000)
    height_px = _TITLE_PX + _BAR_PX + panel_px + _AXIS_PX + _FOOT_PX
    bottom_to_top = [(_AXIS_PX + _FOOT_PX) / height_px, 1 - (_TITLE_PX + _BAR_PX) / height_px]
    figure = go.Figure()
    for number, what in enumerate(("Measured", "Predicted")):
        x, y = ("x2", "y2") if number else ("x", "y")
        color = "coloraxis2" if number else "coloraxis"
        figure.add_trace(
            _spots(centers_mm, values, number, np.asarray(names, str)[known], gene).update(
                marker={"coloraxis": color, "size": size_px, "opacity": opacity}, xaxis=x, yaxis=y, name=what
            )
        )
        lay_slide_under(figure, result, x=x, y=y, longest_px=_PICTURE_PX)
        left = number * (1 + _GAP) / 2
        right = left + (1 - _GAP) / 2
        figure.layout[f"xaxis{x[1:]}"].update(range=window[0], domain=[left, right], anchor=y, constraintoward="left")
        figure.layout[f"yaxis{y[1:]}"].update(range=window[1], domain=bottom_to_top, anchor=x, constraintoward="top")
        limits = percentile_limits(values[:, number]) if len(values) else (0.0, 1.0)
        figure.layout[color] = scale_over(limits, palette, (left, right), 1 - _TITLE_PX / height_px)
        figure.add_annotation(text=f"<b>{what}</b> {gene_text(gene)}", x=left, y=1, yanchor="top", **_ON_PAPER)
    figure.add_annotation(text=f"{unit_of(gene)}; each map has its own scale", x=0, y=0, yanchor="bottom", **_ON_PAPER)
    figure.update_xaxes(automargin=False, nticks=4, tickangle=0)
    figure.update_yaxes(automargin=False, nticks=5)
    # Its shape follows from that of the first, whose ranges it has.
    figure.layout.xaxis2.matches, figure.layout.yaxis2.matches, figure.layout.yaxis2.scaleanchor = "x", "y", None
    figure.layout.yaxis2.showticklabels = False
    plain(figure, _HEAD_PX + height_px + MARGIN_PX)
    # Nothing may push the panels from their places.
    margin = {"l": _LEFT_PX, "r": 2 * MARGIN_PX, "t": _HEAD_PX, "b": MARGIN_PX, "autoexpand": False}
    figure.update_layout(margin=margin, showlegend=False, uirevision=Provenance.of(result).slide_sha256)
    return figure


def _spots(centers_mm: np.ndarray, values: np.ndarray, shown: int, names: np.ndarray, gene: str) -> go.Scatter:
    """Markers coloured by one column of the values (S, 2); hovering says both."""
    return points(len(values))(
        x=centers_mm[:, 0].round(_DECIMALS),
        y=centers_mm[:, 1].round(_DECIMALS),
        mode="markers",
        marker_color=values[:, shown].round(_DECIMALS),
        marker_line_width=0,
        text=[literal(name) for name in names],
        customdata=values.round(_DECIMALS),
        hovertemplate=f"<b>%{{text}}</b><br>{gene_text(gene)} measured %{{customdata[0]:.2f}}"
        "<br>predicted %{customdata[1]:.2f}<br>x %{x:.2f} mm, y %{y:.2f} mm<extra></extra>",
    )


def _window(centers_mm: np.ndarray, spot_mm: float) -> tuple[list[float], list[float]]:
    """Ranges of x and y, the second downwards, that hold all spots with their neighbourhood."""
    if not len(centers_mm):
        return [0.0, 1.0], [1.0, 0.0]
    low, high = centers_mm.min(axis=0) - 1.5 * spot_mm, centers_mm.max(axis=0) + 1.5 * spot_mm
    return [float(low[0]), float(high[0])], [float(high[1]), float(low[1])]


def _sizes_px(centers_mm: np.ndarray, window: tuple[list[float], list[float]], spot_mm: float) -> tuple[int, float]:
    width_mm, height_mm = (abs(end - start) for start, end in window)
    panel_px = round(np.clip(_PANEL_WIDTH_PX * height_mm / width_mm, _LEAST_PANEL_PX, _MOST_PANEL_PX))
    if len(centers_mm) > 1:
        # Of a spot to its nearest other.
        spot_mm = min(spot_mm, float(np.median(KDTree(centers_mm).query(centers_mm, k=2)[0][:, 1])))
    px_per_mm = min(_PANEL_WIDTH_PX / width_mm, panel_px / height_mm)
    return panel_px, max(spot_mm * px_per_mm, _LEAST_SPOT_PX)
