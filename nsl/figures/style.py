"""What all figures look alike in: margins, clear backgrounds, and a colour for each thing that keeps its colour."""

import plotly.graph_objects as go

MARGIN_PX = 8
UNIT = "ln(1 + counts per 10,000)"
HEMATOXYLIN_COLOR, EOSIN_COLOR = "#4a3f9c", "#d1457f"
RELIABLE_COLOR, UNRELIABLE_COLOR = "#2a7f9e", "#9a9aa5"
SELECTED_COLOR = "#e8710a"


def plain(figure: go.Figure, height_px: int) -> go.Figure:
    """Narrow margins and no background of its own, so that it sits on a light page and a dark one alike."""
    figure.update_layout(
        height=height_px,
        margin={"l": MARGIN_PX, "r": MARGIN_PX, "t": 4 * MARGIN_PX, "b": MARGIN_PX},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure
