"""What the model learned of a gene, as Plotly figures: its stains, their effects, what it makes of each colour."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nsl.figures import images
from nsl.figures.style import (
    BAR_PX,
    MARGIN_PX,
    SELECTED_COLOR,
    STAIN_COLORS,
    UNRELIABLE_COLOR,
    color_bar,
    literal,
    plain,
)
from nsl.numerals import minus, signed
from nsl.signatures import EXPRESSION_UNIT
from nsl.stains import PAPER_WHITE
from nsl.weights.interpretation import CHANNELS, STAINS, ResponseSurface, display_colors, onset_in_words, stain_amounts

# Darkest amount shown of a stain: about what the darkest nuclei and red cells absorb.
SWATCH_OD = 2.0
_RAMP_STEPS = 129
# Share of the stained pixels that the outlines on a response surface hold.
_HELD_SHARES = (0.5, 0.95)
_DENSITY_BIN_OD, _SMOOTHING_BINS = 0.04, 1.5


def effects_bars(genes: pd.DataFrame) -> go.Figure:
    """What expression changes by per OD of each learned stain: two bars a gene, with their sign, values written.

    genes are rows of `nsl.weights.interpretation.vector_table`.
    """
    figure = go.Figure()
    for stain, prefix, color in zip(STAINS, "he", STAIN_COLORS, strict=True):
        effect = genes[f"{prefix}_effect_per_od"].astype(float)
        figure.add_bar(
            orientation="h",
            x=effect,
            y=[f"{literal(gene)}, {stain}" for gene in genes.index],
            name=stain,
            marker_color=color,
            text=[signed(value, plus=True) for value in effect],
            textposition="outside",
            cliponaxis=False,
            customdata=[onset_in_words(od) for od in genes[f"{prefix}_onset_od"]],
            hovertemplate="%{y}<br>%{x:+.2f} per OD, %{customdata}<extra></extra>",
            showlegend=False,
        )
    plain(figure, 70 + 56 * len(genes))
    order = [f"{literal(gene)}, {stain}" for gene in genes.index for stain in STAINS]
    reach = 1.25 * max(genes[["h_effect_per_od", "e_effect_per_od"]].abs().to_numpy(float).max(), 0.01)
    # Nothing stands above, and the axis needs the room: Plotly lays its title on its numbers where there is too little.
    figure.update_layout(bargap=0.3, margin_t=MARGIN_PX)
    axis = {"range": [-reach, reach], "zeroline": True, "zerolinecolor": UNRELIABLE_COLOR, "automargin": True}
    figure.update_xaxes(title_text=f"change per OD, {EXPRESSION_UNIT}", **axis)
    figure.update_yaxes(categoryorder="array", categoryarray=order[::-1], automargin=True, showgrid=False)
    return figure


def swatches(vectors: Mapping[str, np.ndarray | None], white_point: np.ndarray = PAPER_WHITE) -> go.Figure:
    """Stain vectors as colours over glass, a row each: a ramp from 0 to 2 OD, and the OD triplet beside it.

    vectors maps a name to a unit vector (3,), or to None or NaN where it is not known, which is then said. A
    negative component is named, since the colour cannot show it.
    """
    names = [literal(name) for name in vectors]
    amounts = np.linspace(0, SWATCH_OD, _RAMP_STEPS)
    step = amounts[1]
    figure = go.Figure()
    texts = []
    for row, (name, vector) in enumerate(zip(names, vectors.values(), strict=True)):
        vector = np.full(3, np.nan) if vector is None else np.asarray(vector, float)
        texts.append(_triplet(vector))
        if np.isfinite(vector).all():
            figure.add_image(
                source=images.png(display_colors(vector, white_point, amounts)[None]),
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
    axis = {"showgrid": False, "zeroline": False, "fixedrange": True, "automargin": True}
    rows = {"range": [len(names) - 0.5, -0.5], "tickvals": list(range(len(names)))} | axis
    rows |= {"ticks": "", "ticklabelstandoff": 8}
    figure.update_layout(
        yaxis={"ticktext": names, "scaleanchor": False, **rows},
        yaxis2={"ticktext": texts, "overlaying": "y", "side": "right", **rows},
    )
    figure.update_xaxes(
        title_text="optical density (natural logarithm)", range=[-step / 2, SWATCH_OD + step / 2], **axis
    )
    return figure


def response_surface_figure(surface: ResponseSurface, pixels_od: np.ndarray | None = None) -> go.Figure:
    """From colour to expression: mixtures of hematoxylin and eosin, and what is predicted for each.

    Left, the colour of each mixture; right, the expression predicted for a tile of that colour, with contour lines.
    They zoom together.

    surface : of `nsl.weights.interpretation.response_surface`.
    pixels_od : (N, 3) optical densities of a slide's stained pixels (`nsl.stains.tissue_colors`); outlines then hold
        half of them and 95 %, those with the most pixels around.
    """
    amounts = surface.amounts_od
    step = amounts[1] - amounts[0]
    figure = make_subplots(
        cols=2, horizontal_spacing=0.12, subplot_titles=["colour mixed", f"{literal(surface.gene)}, predicted"]
    )
    figure.add_image(
        source=images.png(surface.colors),
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
    plain(figure, 460 + BAR_PX)
    axis = {"range": [0, amounts[-1]], "showgrid": False, "zeroline": False, "constrain": "domain", "automargin": True}
    figure.update_xaxes(title_text="hematoxylin, OD", matches="x", **axis)
    figure.update_yaxes(matches="y", constraintoward="top", **axis)
    figure.update_yaxes(title_text="eosin, OD", scaleanchor="x", col=1)
    left, right = figure.layout.xaxis2.domain
    figure.update_annotations(yshift=BAR_PX)
    figure.update_layout(
        margin_t=figure.layout.margin.t + BAR_PX,
        coloraxis={"colorscale": "Viridis", "colorbar": color_bar(EXPRESSION_UNIT, left, right - left)},
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


def _triplet(vector: np.ndarray) -> str:
    """OD of red, green and blue as a label, and a remark where one is negative or nothing is known."""
    if not np.isfinite(vector).all():
        return "not known: too little is stained"
    text = "  ".join(signed(value, 3) for value in vector)
    below = [f"{channel} {minus(f'{v:.2g}')}" for channel, v in zip(CHANNELS, vector, strict=True) if v < 0]
    return text + (f"<br>{', '.join(below)}:<br>no dye absorbs negatively" if below else "")
