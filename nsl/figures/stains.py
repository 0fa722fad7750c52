"""What the model learned of a gene, as Plotly figures: stains, effects, response to colour, angles, concentrations."""

import base64
import io
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots

from nsl.figures.style import (
    EOSIN_COLOR,
    HEMATOXYLIN_COLOR,
    MARGIN_PX,
    RELIABLE_COLOR,
    SELECTED_COLOR,
    UNIT,
    UNRELIABLE_COLOR,
    plain,
)
from nsl.learned import CHANNELS, STAINS, ResponseSurface, display_colors, stain_amounts
from nsl.stains import PAPER_WHITE

# Darkest amount shown of a stain: about what the darkest nuclei and red cells absorb.
SWATCH_OD = 2.0
_RAMP_STEPS = 129
_STAIN_COLORS = (HEMATOXYLIN_COLOR, EOSIN_COLOR)
# Held-out r from blue to yellow, even in lightness to the colour-blind as Cividis is, from where it shows on black.
_R_SCALE = ["#46618f", "#727c92", "#a2a08c", "#cfbb68", "#f2d13c"]
# Share of the stained pixels that the outlines on a response surface hold.
_HELD_SHARES = (0.5, 0.95)
_DENSITY_BIN_OD, _SMOOTHING_BINS = 0.04, 1.5
# A gene whose vector turned farther is outside the first view of the plot of all genes.
_USUAL_ANGLE_QUANTILE = 0.999
# Side of a region's picture on the screen; a larger one is averaged down before it is sent.
_MAX_SIDE_PX = 640
# Of each of three panels on a page as wide as a laptop's; and how much taller than wide one may be.
_PANEL_WIDTH_PX, _MAX_TALLNESS = 290, 1.6
# Room for an axis below a panel, and for a colour bar with its title.
_BELOW_PANEL_PX, _BAR_PX = 58, 60


def effects_bars(table: pd.DataFrame | pd.Series) -> go.Figure:
    """What expression changes by per OD of each learned stain: two bars a gene, with their sign, values written.

    table is one row of `nsl.learned.vector_table`, or some of its rows.
    """
    genes = table.to_frame().T if isinstance(table, pd.Series) else table
    figure = go.Figure()
    for stain, prefix, color in zip(STAINS, "he", _STAIN_COLORS, strict=True):
        effect = genes[f"{prefix}_effect_per_od"].astype(float)
        figure.add_bar(
            orientation="h",
            x=effect,
            y=[f"{gene}, {stain}" for gene in genes.index],
            name=stain,
            marker_color=color,
            text=[_signed(value) for value in effect],
            textposition="outside",
            cliponaxis=False,
            customdata=[_onset(od) for od in genes[f"{prefix}_onset_od"]],
            hovertemplate="%{y}<br>%{x:+.2f} per OD, %{customdata}<extra></extra>",
            showlegend=False,
        )
    plain(figure, 70 + 56 * len(genes))
    order = [f"{gene}, {stain}" for gene in genes.index for stain in STAINS]
    reach = 1.25 * max(genes[["h_effect_per_od", "e_effect_per_od"]].abs().to_numpy(float).max(), 0.01)
    figure.update_layout(bargap=0.3)
    figure.update_xaxes(
        title_text=f"change per OD, {UNIT}",
        range=[-reach, reach],
        zeroline=True,
        zerolinecolor=UNRELIABLE_COLOR,
        automargin=True,
    )
    figure.update_yaxes(categoryorder="array", categoryarray=order[::-1], automargin=True, showgrid=False)
    return figure


def swatches(vectors: Mapping[str, np.ndarray | None], white_point: np.ndarray = PAPER_WHITE) -> go.Figure:
    """Stain vectors as colours over glass, a row each: a ramp from 0 to 2 OD, and the OD triplet beside it.

    vectors maps a name to a unit vector (3,), or to None or NaN where it is not known, which is then said. A
    negative component is named, since the colour cannot show it.
    """
    names = list(vectors)
    amounts = np.linspace(0, SWATCH_OD, _RAMP_STEPS)
    step = amounts[1]
    figure = go.Figure()
    texts = []
    for row, name in enumerate(names):
        vector = np.full(3, np.nan) if vectors[name] is None else np.asarray(vectors[name], float)
        texts.append(_triplet(vector))
        if np.isfinite(vector).all():
            figure.add_image(
                source=_png(display_colors(vector, white_point, amounts)[None]),
                x0=0,
                dx=step,
                y0=row,
                dy=0.7,
                name=name,
                hovertemplate="%{x:.2f} OD, RGB %{z[0]} %{z[1]} %{z[2]}<extra>" + name + "</extra>",
            )
    # Its only use is to hold up the axis of the triplets.
    figure.add_scatter(
        x=[None], y=[None], yaxis="y2", mode="markers", showlegend=False, hoverinfo="skip", marker_opacity=0
    )
    plain(figure, 60 + 54 * len(names))
    rows = {"range": [len(names) - 0.5, -0.5], "tickvals": list(range(len(names))), "showgrid": False}
    rows |= {"zeroline": False, "automargin": True, "ticks": "", "ticklabelstandoff": 8, "fixedrange": True}
    figure.update_layout(
        yaxis={"ticktext": names, "scaleanchor": False, **rows},
        yaxis2={"ticktext": texts, "overlaying": "y", "side": "right", **rows},
    )
    figure.update_xaxes(
        title_text="optical density (natural logarithm)",
        range=[-step / 2, SWATCH_OD + step / 2],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
        automargin=True,
    )
    return figure


def response_surface_figure(surface: ResponseSurface, pixels_od: np.ndarray | None = None) -> go.Figure:
    """From colour to expression: mixtures of hematoxylin and eosin, and what is predicted for each.

    Left, the colour of each mixture; right, the expression predicted for a tile of that colour, with contour lines.
    They zoom together.

    Parameters
    ----------
    surface : of `nsl.learned.response_surface`.
    pixels_od : (N, 3) optical densities of a slide's stained pixels (`nsl.stains.stained_colors`); outlines then hold
        half of them and 95 %, those with the most pixels around.
    """
    amounts = surface.amounts_od
    step = amounts[1] - amounts[0]
    figure = make_subplots(
        cols=2, horizontal_spacing=0.12, subplot_titles=["colour mixed", f"{surface.gene}, predicted"]
    )
    figure.add_image(
        source=_png(surface.colors),
        x0=0,
        dx=step,
        y0=0,
        dy=step,
        zsmooth="fast",
        hovertemplate="hematoxylin %{x:.2f} OD, eosin %{y:.2f} OD<br>RGB %{z[0]} %{z[1]} %{z[2]}<extra></extra>",
        row=1,
        col=1,
    )
    figure.add_contour(
        z=surface.expression.astype(np.float32),
        x=amounts,
        y=amounts,
        coloraxis="coloraxis",
        contours_coloring="heatmap",
        line={"color": "rgba(255,255,255,0.75)", "width": 1},
        hovertemplate="hematoxylin %{x:.2f} OD, eosin %{y:.2f} OD<br>expression %{z:.2f}<extra></extra>",
        row=1,
        col=2,
    )
    if pixels_od is not None and len(pixels_od):
        outline = _density_outline(stain_amounts(pixels_od, surface.vectors), amounts[-1])
        for col in (1, 2):
            figure.add_trace(outline, row=1, col=col)
        figure.update_traces(selector={"type": "contour"}, col=1, showlegend=True)
    plain(figure, 460 + _BAR_PX)
    axis = {"range": [0, amounts[-1]], "showgrid": False, "zeroline": False, "constrain": "domain", "automargin": True}
    figure.update_xaxes(title_text="hematoxylin, OD", matches="x", **axis)
    figure.update_yaxes(matches="y", constraintoward="top", **axis)
    figure.update_yaxes(title_text="eosin, OD", scaleanchor="x", col=1)
    left, right = figure.layout.xaxis2.domain
    figure.update_annotations(yshift=_BAR_PX)
    figure.update_layout(
        margin_t=figure.layout.margin.t + _BAR_PX,
        coloraxis={"colorscale": "Viridis", "colorbar": _bar(UNIT, left) | _lying_above(right - left)},
        uirevision="response surface",
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
    )
    return figure


def _density_outline(amounts: np.ndarray, max_od: float) -> go.Contour:
    """Outlines of the smallest areas that hold 50 and 95 % of N pixels, (N, 2) in OD of the two stains."""
    from scipy.ndimage import gaussian_filter

    # Noise takes pixels below 0, and the darkest lie beyond the surface: they count, though the view cuts them off.
    edges = np.arange(-max_od / 2, 1.5 * max_od, _DENSITY_BIN_OD)
    middle = (edges[:-1] + edges[1:]) / 2
    counts, _, _ = np.histogram2d(amounts[:, 1], amounts[:, 0], bins=[edges, edges])
    # Smoothing says which bins come first, so that outlines do not fray; what they hold is counted.
    order = np.argsort(-gaussian_filter(counts, _SMOOTHING_BINS, mode="constant"), axis=None)
    held = np.empty(counts.size, np.float32)
    held[order] = np.cumsum(counts.ravel()[order]) / len(amounts)
    seen = (middle > -2 * _DENSITY_BIN_OD) & (middle < max_od + 2 * _DENSITY_BIN_OD)
    low, high = _HELD_SHARES
    return go.Contour(
        z=held.reshape(counts.shape)[np.ix_(seen, seen)],
        x=middle[seen],
        y=middle[seen],
        contours={"start": low, "end": high, "size": high - low, "coloring": "none", "showlabels": True},
        contours_labelformat=".0%",
        line={"color": SELECTED_COLOR, "width": 2},
        showscale=False,
        showlegend=False,
        hoverinfo="skip",
        name="half and 95 % of the slide's stained pixels",
    )


def angle_plot(table: pd.DataFrame, selected: str | None = None) -> go.Figure:
    """Every gene by how far its two stain vectors turned from Ruifrok and Johnston's, coloured by held-out r.

    Reliable genes are filled circles, the others open and grey. The few that turned much farther than the rest lie
    outside the first view, which says so. customdata of a point is its gene.

    Parameters
    ----------
    table : of `nsl.learned.angles` or `nsl.learned.vector_table`.
    selected : a gene to ring and to name.
    """
    x, y = "h_angle_to_hed_degrees", "e_angle_to_hed_degrees"
    hover = (
        "<b>%{customdata}</b><br>hematoxylin-like %{x:.1f}°, eosin-like %{y:.1f}°<br>held-out r %{text}<extra></extra>"
    )
    figure = go.Figure()
    for reliable in (False, True):
        part = table[table["reliable"].to_numpy(bool) == reliable]
        color = {"color": part["r_heldout"], "coloraxis": "coloraxis"} if reliable else {"color": UNRELIABLE_COLOR}
        figure.add_scattergl(
            x=part[x],
            y=part[y],
            mode="markers",
            marker={"symbol": "circle" if reliable else "circle-open", "size": 7 if reliable else 5} | color,
            customdata=part.index.to_numpy(object),
            text=["not known" if np.isnan(r) else _minus(f"{r:.2f}") for r in part["r_heldout"]],
            hovertemplate=hover,
            name=f"{'reliable' if reliable else 'not reliable'} ({len(part):,})",
            legendgroup=str(reliable),
            showlegend=not reliable,
        )
    # Points coloured by a scale stand black in the legend; this one stands there for them.
    figure.add_scattergl(
        x=[None],
        y=[None],
        mode="markers",
        marker={"size": 7, "color": RELIABLE_COLOR},
        name=figure.data[-1].name,
        legendgroup="True",
        hoverinfo="skip",
    )
    plain(figure, 560)
    figure.update_layout(
        coloraxis={"colorscale": _R_SCALE, "colorbar": _bar("held-out r of<br>reliable genes", 1.01)},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        uirevision="stain angles",
        hovermode="closest",
    )
    _view_usual(figure, table[[x, y]].to_numpy(), None if selected is None else table.loc[selected, [x, y]])
    if selected is not None and table.loc[selected, [x, y]].notna().all():
        _ring(figure, table.loc[selected, x], table.loc[selected, y], selected)
    figure.update_xaxes(title_text="hematoxylin-like, angle to published hematoxylin")
    figure.update_yaxes(title_text="eosin-like, angle to published eosin")
    return figure


def _view_usual(figure: go.Figure, angles: np.ndarray, selected: pd.Series | None) -> None:
    """First view of the angles (N, 2): nearly all of them and the selected; how many lie beyond is written."""
    # Weights whose stains did not turn at all leave nothing to scale by: a degree, then.
    reach = np.maximum(np.nanquantile(angles, _USUAL_ANGLE_QUANTILE, axis=0) * 1.1, 1.0)
    if selected is not None:
        reach = np.fmax(reach, selected.to_numpy(float) * 1.1)
    axis = {"ticksuffix": "°", "zeroline": False, "automargin": True}
    figure.update_xaxes(range=[-0.02 * reach[0], reach[0]], **axis)
    figure.update_yaxes(range=[-0.02 * reach[1], reach[1]], **axis)
    beyond = int((angles > reach).any(axis=1).sum())
    if beyond:
        genes = "1 gene lies" if beyond == 1 else f"{beyond:,} genes lie"
        figure.add_annotation(
            text=f"{genes} beyond, up to {np.nanmax(angles):.0f}°;<br>double-click to see all",
            x=1,
            y=1,
            xref="paper",
            yref="paper",
            xanchor="right",
            yanchor="top",
            align="right",
            showarrow=False,
        )


def _ring(figure: go.Figure, x: float, y: float, gene: str) -> None:
    # WebGL as the points are: anything else is drawn under them.
    figure.add_scattergl(
        x=[x],
        y=[y],
        mode="markers",
        marker={"symbol": "circle-open", "size": 16, "color": SELECTED_COLOR, "line": {"width": 3}},
        customdata=[gene],
        hoverinfo="skip",
        showlegend=False,
    )
    # Most genes crowd at the bottom, where a name could not be read: it goes above them.
    height = y / figure.layout.yaxis.range[1]
    above_px = max(30, round((0.5 - height) * figure.layout.height))
    figure.add_annotation(
        x=x, y=y, text=f"<b>{gene}</b>", ax=0, ay=-above_px, standoff=9, arrowcolor=SELECTED_COLOR, arrowwidth=1.5
    )


def concentration_figure(
    rgb: np.ndarray,
    concentrations: np.ndarray,
    mpp: float,
    *,
    vectors: np.ndarray,
    white_point: np.ndarray = PAPER_WHITE,
) -> go.Figure:
    """A region, and where a gene's model sees its two learned stains in it, side by side; they zoom together.

    Parameters
    ----------
    rgb : (H, W, 3) uint8, the region.
    concentrations : (H, W, 2) of `nsl.learned.concentration_images`.
    mpp : µm/px of the region; axes are in µm from its top left.
    vectors : (2, 3) the gene's learned stain vectors, whose colours the scales run to.
    white_point : (3,) intensity of the slide's background.
    """
    height_um, width_um = (side * mpp for side in rgb.shape[:2])
    panel_px = _PANEL_WIDTH_PX * min(height_um / width_um, _MAX_TALLNESS)
    factor = max(1, -(-max(rgb.shape[:2]) // _MAX_SIDE_PX))
    step = factor * mpp
    place = {"x0": step / 2, "dx": step, "y0": step / 2, "dy": step}
    figure = make_subplots(cols=3, horizontal_spacing=0.06, subplot_titles=["H&E", *STAINS])
    figure.update_annotations(yshift=_BAR_PX)
    picture = np.rint(_averaged(rgb, factor)).astype(np.uint8)
    figure.add_image(source=_png(picture), hoverinfo="skip", row=1, col=1, **place)
    for s, stain in enumerate(STAINS):
        axis = f"coloraxis{s + 1}"
        values = _averaged(concentrations[..., s], factor)
        figure.add_heatmap(
            z=values,
            coloraxis=axis,
            hoverongaps=False,
            hovertemplate=f"{stain} %{{z:.2f}}<br>x %{{x:.0f}} µm, y %{{y:.0f}} µm<extra></extra>",
            row=1,
            col=s + 2,
            **place,
        )
        left, right = figure.layout[f"xaxis{s + 2}"].domain
        bar = _bar("learned stain concentration", left) | _lying_above(right - left)
        scale = _stain_scale(vectors[s], white_point, _STAIN_COLORS[s])
        figure.layout[axis] = {"colorscale": scale, "cmin": 0, "cmax": _upper_end(values), "colorbar": bar}
    plain(figure, 4 * MARGIN_PX + _BAR_PX + round(panel_px) + _BELOW_PANEL_PX)
    figure.update_layout(margin_t=figure.layout.margin.t + _BAR_PX, margin_b=_BELOW_PANEL_PX)
    axis = {"showgrid": False, "zeroline": False, "nticks": 5, "constrain": "domain", "automargin": True}
    figure.update_xaxes(title={"text": "µm", "standoff": 4}, range=[0, width_um], matches="x", **axis)
    figure.update_yaxes(range=[height_um, 0], matches="y", constraintoward="top", **axis)
    figure.update_yaxes(title_text="µm", scaleanchor="x", col=1)
    for col in (2, 3):
        figure.update_yaxes(showticklabels=False, col=col)
    figure.update_layout(uirevision="concentrations")
    return figure


def _upper_end(values: np.ndarray) -> float:
    """Where a scale from 0 ends: few pixels lie beyond; 1 where there is nothing but 0."""
    known = values[np.isfinite(values)]
    return float(np.percentile(known, 99.5)) or 1.0 if known.size else 1.0


def _stain_scale(vector: np.ndarray, white_point: np.ndarray, otherwise: str) -> list[str]:
    """Colours from glass to a stain at 2 OD; to `otherwise` for a vector that absorbs nothing on the whole."""
    if not np.sum(vector) > 0:
        return ["#ffffff", otherwise]
    return [_hex(color) for color in display_colors(vector, white_point, np.linspace(0, SWATCH_OD, 9))]


def _averaged(values: np.ndarray, factor: int) -> np.ndarray:
    """Means over factor × factor pixels of (H, W, …), float32, without what is NaN; a partial last block is kept."""
    if factor == 1:
        return values.astype(np.float32)
    values = values.astype(np.float32)
    known = np.isfinite(values)
    total, number = np.where(known, values, 0), known.astype(np.float32)
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], factor)
        total, number = (np.add.reduceat(part, starts, axis=axis) for part in (total, number))
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)


def _bar(title: str, x: float | None) -> dict:
    return {"title": {"text": title, "side": "top"}, "thickness": 14, "outlinewidth": 0, "x": x}


def _lying_above(length: float) -> dict:
    """Where a colour bar of a panel lies that takes up such a share of the figure's width."""
    return {"orientation": "h", "xanchor": "left", "xpad": 0, "len": length, "y": 1, "yanchor": "bottom"}


def _triplet(vector: np.ndarray) -> str:
    """OD of red, green and blue as a label, and a remark where one is negative or nothing is known."""
    if not np.isfinite(vector).all():
        return "not known: too little is stained"
    text = "  ".join(_minus(f"{value:.3f}") for value in vector)
    below = [f"{channel} {_minus(f'{v:.2g}')}" for channel, v in zip(CHANNELS, vector, strict=True) if v < 0]
    return text + (f"<br>{', '.join(below)}:<br>no dye absorbs negatively" if below else "")


def _onset(od: float) -> str:
    if not np.isfinite(od):
        return "from an unknown OD on"
    return f"from {od:.2f} OD on" if od > 0 else "from clear glass on"


def _signed(value: float) -> str:
    return _minus(f"{value:+.2f}")


def _minus(number: str) -> str:
    return number.replace("-", "−")


def _hex(color: np.ndarray) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in color)


def _png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
