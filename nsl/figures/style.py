"""What all figures look alike in: margins, clear backgrounds, and a colour for each thing that keeps its colour."""

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from nsl.numerals import signed
from nsl.signatures import EXPRESSION_UNIT, SHORT_SCORE_UNIT, is_signature, short_name, short_names, spoken

MARGIN_PX = 8
STAIN_COLORS = "#6a5fc4", "#d1457f"
"""Of hematoxylin and of eosin."""
RELIABLE_COLOR, UNRELIABLE_COLOR = "#2a7f9e", "#9a9aa5"
SELECTED_COLOR = "#e8710a"
POINT_OPACITY = 0.85
"""Of points of a scatter, which overlap: what is paler is lost on a dark page."""
LETTERS, LONGEST_LETTERS = 18, 32
"""Of a name, beside an axis or in a title with another; and in a title of its own."""
BAR_PX = 60
"""Room for a colour bar with its title above a panel."""


def plain(figure: go.Figure, height_px: int) -> go.Figure:
    """Narrow margins and no background of its own, so that it sits on a light page and a dark one alike."""
    figure.update_layout(
        height=height_px,
        margin={"l": MARGIN_PX, "r": MARGIN_PX, "t": 4 * MARGIN_PX, "b": MARGIN_PX},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure


def literal(name: str) -> str:
    """The name of a gene, a spot or a slide as text of a figure, to be shown letter by letter.

    Plotly takes text for HTML, links and all, and names come from strangers' tables and weights. `html.unescape` gives
    the name back.
    """
    # Of the entities for quotes Plotly knows one, and would show the other as it is; within text neither does harm.
    return html.escape(str(name), quote=False)


def gene_text(column: str) -> str:
    """A gene's name, or "signature" and a set's, as text of a figure."""
    return literal(spoken(column))


def scale_text(column: str) -> str:
    """A gene or a set with its unit, as the title of a scale."""
    if is_signature(column):
        return f"{literal(short_name(column, LONGEST_LETTERS))}, {SHORT_SCORE_UNIT}"
    return f"{literal(column)}, {EXPRESSION_UNIT}"


def short_texts(columns: Sequence[str]) -> list[str]:
    """Names of genes and sets as text of a figure where there is room for few letters, each unlike the others."""
    return [literal(name) for name in short_names(columns, LETTERS)]


def scale_ticks(limits: tuple[float, float]) -> dict:
    """Numbers under a colour scale: at both its ends, so that they can be read off, and in the middle."""
    low, high = limits
    values = [low, (low + high) / 2, high]
    decimals = 2 if high - low >= 0.05 else 4
    return {"tickvals": values, "ticktext": [signed(value, decimals) for value in values]}


def color_bar(title: str, x: float | None, length: float | None = None) -> dict:
    """A narrow colour bar that begins at x; where it has a length, it lies above a panel under its title.

    Both are shares of the figure's width. The title of an upright bar is at its side: above it, it would reach under
    the chart's buttons.
    """
    side = "right" if length is None else "top"
    bar = {"title": {"text": title, "side": side}, "thickness": 14, "outlinewidth": 0, "x": x}
    above = {"orientation": "h", "xanchor": "left", "xpad": 0, "len": length, "y": 1, "yanchor": "bottom"}
    return bar if length is None else bar | above


# More points than this are slow as SVG.
_MAX_SVG_POINTS = 2_000


def points(number: int) -> type[go.Scatter] | type[go.Scattergl]:
    """The trace that draws so many points fast."""
    return go.Scatter if number <= _MAX_SVG_POINTS else go.Scattergl
