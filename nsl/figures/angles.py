"""All genes by how far their learned stain vectors turned, as a Plotly figure."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nsl.figures.style import RELIABLE_COLOR, SELECTED_COLOR, UNRELIABLE_COLOR, color_bar, literal, plain
from nsl.numerals import signed
from nsl.weights.reliability import RELIABLE, WEAK

# Held-out r from blue to yellow, even in lightness to the colour-blind as Cividis is, from where it shows on black.
_R_SCALE = ["#46618f", "#727c92", "#a2a08c", "#cfbb68", "#f2d13c"]
# A gene whose vector turned farther is outside the first view of the plot of all genes.
_USUAL_ANGLE_QUANTILE = 0.995


def angle_plot(table: pd.DataFrame, selected: str | None = None) -> go.Figure:
    """Every gene by how far its two stain vectors turned from Ruifrok and Johnston's, coloured by held-out r.

    Unreliable genes are open circles and grey, the others filled. The few that turned much farther than the rest lie
    outside the first view, which says so. customdata of a point is its gene, as text to be shown.

    table : of `nsl.weights.interpretation.vector_table`.
    selected : a gene to ring and to name.
    """
    x, y = "h_angle_to_hed_degrees", "e_angle_to_hed_degrees"
    hover = (
        "<b>%{customdata}</b><br>hematoxylin-like %{x:.1f}°, eosin-like %{y:.1f}°<br>held-out r %{text}<extra></extra>"
    )
    figure = go.Figure()
    for reliable in (False, True):
        part = table[table["trust"].isin([RELIABLE.word, WEAK.word]).to_numpy() == reliable]
        color = {"color": part["r_heldout"], "coloraxis": "coloraxis"} if reliable else {"color": UNRELIABLE_COLOR}
        figure.add_scattergl(
            x=part[x].to_numpy(),
            y=part[y].to_numpy(),
            mode="markers",
            marker={"symbol": "circle" if reliable else "circle-open", "size": 7 if reliable else 5} | color,
            # Plotly looks through a list item by item, and copies it so.
            customdata=np.array([literal(gene) for gene in part.index], object),
            text=np.array([signed(r, unknown="not known") for r in part["r_heldout"]], object),
            hovertemplate=hover,
            name=f"{'reliable or weak' if reliable else 'unreliable'} ({len(part):,})",
            legendgroup=str(reliable),
            showlegend=not reliable,
        )
    # Points coloured by a scale stand black in the legend; this one stands there for them.
    sign = {"mode": "markers", "marker": {"size": 7, "color": RELIABLE_COLOR}, "hoverinfo": "skip"}
    figure.add_scattergl(x=[None], y=[None], name=figure.data[-1].name, legendgroup="True", **sign)
    plain(figure, 560)
    figure.update_layout(
        coloraxis={"colorscale": _R_SCALE, "colorbar": color_bar("held-out r", 1.01)},
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
        text = f"{genes} beyond, up to {np.nanmax(angles):.0f}°;<br>double-click to see all"
        corner = {"xref": "paper", "x": 1, "xanchor": "right", "yref": "paper", "y": 1, "yanchor": "top"}
        figure.add_annotation(text=text, align="right", showarrow=False, **corner)


def _ring(figure: go.Figure, x: float, y: float, gene: str) -> None:
    # WebGL as the points are: anything else is drawn under them.
    figure.add_scattergl(
        x=[x],
        y=[y],
        mode="markers",
        marker={"symbol": "circle-open", "size": 16, "color": SELECTED_COLOR, "line": {"width": 3}},
        customdata=[literal(gene)],
        hoverinfo="skip",
        showlegend=False,
    )
    # Most genes crowd at the bottom, where a name could not be read: it goes above them.
    height = y / figure.layout.yaxis.range[1]
    above_px = max(30, round((0.5 - height) * figure.layout.height))
    name = f"<b>{literal(gene)}</b>"
    figure.add_annotation(
        x=x, y=y, text=name, ax=0, ay=-above_px, standoff=9, arrowcolor=SELECTED_COLOR, arrowwidth=1.5
    )
