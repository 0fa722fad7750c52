"""Plotly charts that keep their zoom when the figure changes.

Streamlit's own chart is replaced as a whole whenever its data change, and with it zoom and pan; and it tells nothing of
a click on a heat map. This one hands each new figure to `Plotly.react`.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly
import plotly.graph_objects as go
import streamlit as st
import streamlit.components.v1

_SCRIPT = (Path(__file__).parent / "chart.js").read_text(encoding="utf-8")


@functools.cache
def _plotly_url() -> str:
    """Where the server hands out the plotly.js that the plotly package holds: nothing comes from elsewhere."""
    folder = Path(plotly.__file__).parent / "package_data"
    component = streamlit.components.v1.declare_component("plotly", path=str(folder))
    base = (st.get_option("server.baseUrlPath") or "").strip("/")
    return f"{'/' + base if base else ''}/component/{component.name}/plotly.min.js"


_mount = st.components.v2.component(
    "nsl.chart", html='<div class="nsl-chart" role="img"></div>', js=_SCRIPT, isolate_styles=False
)


def show(
    figure: go.Figure,
    *,
    key: str,
    alt: str,
    file_name: str = "map",
    on_click: Callable[[], None] | None = None,
    on_area: Callable[[], None] | None = None,
) -> Any:
    """Draw the figure where the chart of this key is, or redraw it there; zoom stays while `layout.uirevision` does.

    Parameters
    ----------
    alt : what the chart shows, for those who hear the page.
    file_name : of the PNG that the camera button saves, without its ending.
    on_click, on_area : called before the page runs again; `st.session_state[key]` then has `clicked` (x, y and the x
        axis's name) or `area` (kind "box" or "lasso", x, y, axis), in the axes' units.
    """
    text = figure.to_json()
    return _mount(
        key=key,
        data={
            "figure": text,
            "plotly": _plotly_url(),
            "alt": alt,
            "fileName": file_name,
            "selectable": on_area is not None,
            "drawn": hashlib.sha256(text.encode()).hexdigest()[:12],
        },
        height=figure.layout.height or "content",
        on_clicked_change=on_click or _nothing,
        on_area_change=on_area or _nothing,
    )


def _nothing() -> None:
    """Streamlit takes only events that somebody listens to."""
