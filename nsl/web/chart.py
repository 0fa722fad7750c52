"""Plotly charts that keep their zoom when the figure changes.

Streamlit's own chart is replaced as a whole whenever its data change, and with it zoom and pan; and it tells nothing of
a click on a heat map, nor of what is in view. This one hands each new figure to `Plotly.react`, and lays finer pictures
of a slide under what is zoomed into.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
import streamlit as st
import streamlit.components.v1

# What no chart of ours sends, and no computation should be asked to do.
_FARTHEST, _MOST_CORNERS = 1e9, 10_000
PLOTLY = Path(__file__).parent / "plotly/plotly.min.js"
_SCRIPT = (Path(__file__).parent / "chart.js").read_text(encoding="utf-8")


@functools.cache
def _plotly_url() -> str:
    """Where the server hands out plotly.js: nothing comes from elsewhere.

    It holds those charts alone that the app draws (`plotly/bundle.js`), and a browser is ready with it in a quarter of
    the time that all of plotly.js takes.
    """
    component = streamlit.components.v1.declare_component("plotly", path=str(PLOTLY.parent))
    base = (st.get_option("server.baseUrlPath") or "").strip("/")
    return f"{'/' + base if base else ''}/component/{component.name}/{PLOTLY.name}"


_STYLE = """
:has(> .nsl-chart) { position: relative; }
.nsl-chart:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
.nsl-scale { position: absolute; pointer-events: none; padding: 1px 5px 4px; border-radius: 3px; font-size: 12px;
  color: #24222b; background: rgba(255, 255, 255, 0.8); }
.nsl-scale > div { height: 4px; background: #24222b; }
"""
_mount = st.components.v2.component(
    "nsl.chart",
    html='<div class="nsl-chart"></div><div class="nsl-scales"></div>',
    css=_STYLE,
    js=_SCRIPT,
    isolate_styles=False,
)

_mount_ahead = st.components.v2.component("nsl.chart_ahead", html="<span></span>", js=_SCRIPT)


def load_ahead() -> None:
    """Have the browser fetch and compile Plotly while the user waits for something else: the first chart needs it."""
    _mount_ahead(key="plotly ahead", data={"plotly": _plotly_url()}, height="content")


class Detail(NamedTuple):
    """A picture of a part of the slide that is finer than the figure's, laid over that one."""

    source: str  # data URI
    x: float  # of its left edge, in the axes' units, as all of these
    y: float  # of its top
    width: float
    height: float


class Zoom(NamedTuple):
    """Panels of one slide that zoom together."""

    axes: tuple[str, ...]  # their x axes, as plotly calls them
    finest_mpp: float  # µm/px of the slide's scan
    detail: Detail | None = None


class View(NamedTuple):
    """What a group of panels shows, in the axes' units."""

    left: float
    top: float
    right: float
    bottom: float
    width_px: float  # on the screen


def show(
    figure: go.Figure,
    *,
    key: str,
    alt: str,
    file_name: str = "map",
    on_click: Callable[[], None] | None = None,
    on_area: Callable[[], None] | None = None,
    on_step: Callable[[], None] | None = None,
    zooms: Sequence[Zoom] = (),
    fits: bool = False,
    still: bool = False,
) -> Any:
    """Draw the figure where the chart of this key is, or redraw it there; zoom stays while `layout.uirevision` does.

    alt : what the chart shows, for those who hear the page.
    file_name : of the PNG that the camera button saves, without its ending.
    on_click, on_area, on_step : called before the page runs again; `clicked_place`, `clicked_names`, `drawn_area` or
        `step_taken` then tell where.
    zooms : panels that show a slide, of which `views` tells what is in view; they get a scale bar.
    fits : whether the figure is made less high where it would end below the screen.
    still : whether it is only looked at: the wheel scrolls the page over it, and it has no buttons.
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
            "steps": on_step is not None,
            "fits": fits,
            "still": still,
            "zooms": [zoom._asdict() | {"detail": zoom.detail and zoom.detail._asdict()} for zoom in zooms],
            "drawn": hashlib.sha256(text.encode()).hexdigest()[:12],
        },
        # A panel that is as high as it is wide is less high on a narrow page.
        height="content" if fits or figure.layout.yaxis.scaleanchor else figure.layout.height or "content",
        # Streamlit takes only events that somebody listens to.
        on_clicked_change=on_click or (lambda: None),
        on_area_change=on_area or (lambda: None),
        on_step_change=on_step or (lambda: None),
        on_views_change=lambda: None,
    )


def views(key: str) -> dict[str, View]:
    """What each group of panels of a chart of this key shows, by its first x axis, once it was zoomed or moved."""
    told = (st.session_state.get(key) or {}).get("views")
    shown = {}
    for axis, one in told.items() if isinstance(told, dict) else ():
        x, y, width_px = (one.get(name) for name in ("x", "y", "px")) if isinstance(one, dict) else (None, None, None)
        ends = [*x, *y] if isinstance(x, list) and isinstance(y, list) else []
        if len(ends) == 4 and all(map(_is_near, (*ends, width_px))) and width_px >= 1:
            left, right, bottom, top = map(float, ends)
            shown[axis] = View(min(left, right), min(bottom, top), max(left, right), max(bottom, top), width_px)
    return shown


def step_taken(key: str) -> tuple[int, int] | None:
    """Columns to the right and rows down that an arrow key has just gone in a chart of this key, one of them 0."""
    step = (st.session_state.get(key) or {}).get("step")
    way = (step.get("columns"), step.get("rows")) if isinstance(step, dict) else None
    return way if way in ((-1, 0), (1, 0), (0, -1), (0, 1)) else None


def clicked_place(key: str) -> tuple[float, float] | None:
    """x and y of the click that a chart of this key has just told of, in its axes' units; None where it told none."""
    place = _clicked(key)
    return (float(place[0]), float(place[1])) if all(map(_is_near, place)) else None


def clicked_names(key: str) -> tuple[str, str] | None:
    """The same in a chart whose axes are of names."""
    place = _clicked(key)
    return place if all(isinstance(name, str) for name in place) else None


def _clicked(key: str) -> tuple[Any, Any]:
    clicked = (st.session_state.get(key) or {}).get("clicked")
    return (clicked.get("x"), clicked.get("y")) if isinstance(clicked, dict) else (None, None)


def drawn_area(key: str) -> dict[str, Any] | None:
    """The box or lasso last drawn in a chart of this key; None where there is none.

    It has kind ("box" or "lasso"), x and y (two corners, or all), in the axes' units, and axis, the x axis's name.
    """
    area = (st.session_state.get(key) or {}).get("area")
    if not isinstance(area, dict) or area.get("kind") not in ("box", "lasso"):
        return None
    x, y = area.get("x"), area.get("y")
    if not (isinstance(x, list) and isinstance(y, list) and 2 <= len(x) == len(y) <= _MOST_CORNERS):
        return None
    if not all(map(_is_near, (*x, *y))) or (area["kind"] == "box" and len(x) > 2):
        return None
    return {"kind": area["kind"], "x": [*map(float, x)], "y": [*map(float, y)], "axis": str(area.get("axis"))}


def _is_near(number: object) -> bool:
    """Whether it is a number that can be a place; anything may come from a browser, NaN and lists too."""
    return isinstance(number, int | float) and -_FARTHEST <= number <= _FARTHEST
