"""Annotated regions as Plotly figures: their outlines over a map, and a gene's values by class."""

from collections.abc import Iterator, Sequence

import anndata
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import shapely

from nsl.figures.style import MARGIN_PX, RELIABLE_COLOR, UNRELIABLE_COLOR, literal, plain, scale_text
from nsl.result import map_of
from nsl.signatures import short_names
from nsl.slides.annotations.region import Color, Region, rings_of

# Of regions whose class has no colour; on the slide and on maps it stands out, and is not that of a selection.
_OUTLINE_RGB = (0, 160, 255)
MOST_NAMED = 30
"""Regions whose names are drawn; those of more would hide the map."""
_NAME_PX, _NAME_COLOR, _LONGEST_NAME = 12, "#fff", 24
_NAME_HALO = ",".join(["0 0 3px #000"] * 3)
# Of the window's width; names that are nearer to its edges reach inwards.
_AT_EDGE = 0.15
# Of it too: about what a letter and a line of a name take on a map 600 px wide.
_LETTER, _LINE = 0.012, 0.03
_BESIDE = {"left": "right", "center": "center", "right": "left"}
# An outline need not be finer than a pixel of a large screen.
_STEPS = 4_000
_BREAK = np.full((1, 2), np.nan)  # where Plotly's line ends and another begins
_BOX_PX, _AXIS_PX = 40, 110
LEAST_BOXED = 10
"""Values that quartiles say something of."""
_CLEAR = "rgba(0,0,0,0)"


def region_outlines(regions: Sequence[Region], mpp: float, window_mm: np.ndarray) -> list[go.Scatter]:
    """The outlines of regions in mm, a broken line a colour, with a pale one below, so that it is seen on any map.

    Where they are few, each that the map shows has its name below its upper edge.

    window_mm : what the map first shows, (left, right) and (top, bottom).
    """
    by_color: dict[str, list[Region]] = {}
    for region in regions:
        by_color.setdefault(color_of(region), []).append(region)
    traces = []
    for color, own in by_color.items():
        parts = [part for region in own for line in lines_of(region) for part in (line, _BREAK)]
        x, y = np.concatenate(parts).T * mpp / 1000
        for tint, width_px in (("rgba(255,255,255,0.75)", 4), (color, 2)):
            line = {"color": tint, "width": width_px}
            traces.append(
                go.Scatter(
                    x=x.astype(np.float32),
                    y=y.astype(np.float32),
                    mode="lines",
                    line=line,
                    hoverinfo="skip",
                    name="regions",
                )
            )
    named = list(named_places(regions, mpp / 1000, window_mm)) if len(regions) <= MOST_NAMED else []
    if named:
        names, x, y, sides = zip(*named, strict=True)
        plainly = {"textfont": {"color": _NAME_COLOR}}  # whatever is selected beside them
        traces.append(
            go.Scatter(
                x=np.array(x, np.float32),
                y=np.array(y, np.float32),
                mode="text",
                text=list(map(literal, names)),
                # Where the text is beside its place: on the right of a place that is on the left.
                textposition=[f"bottom {_BESIDE[side]}" for side in sides],
                textfont={"size": _NAME_PX, "color": _NAME_COLOR, "shadow": _NAME_HALO},
                selected=plainly,
                unselected=plainly,
                hoverinfo="skip",
                name="names of regions",
            )
        )
    return traces


def named_places(
    regions: Sequence[Region], scale: float, window: np.ndarray
) -> Iterator[tuple[str, float, float, str]]:
    """The names of the regions that a window shows, as far as there is room, where each stands, and which side of it.

    That is x and y, below the middle of the upper edge of the largest part that the window shows, and "left", "center"
    or "right", the side of the name that is there so that it stays inside. It is lower where another name stands.

    scale : units of the window for a level-0 pixel.
    window : (left, right) and (top, bottom).
    """
    (left, right), (top, bottom) = window / scale
    letter, line = (share * (right - left) for share in (_LETTER, _LINE))
    taken: list[shapely.Polygon] = []
    for region, name in zip(regions, short_names([one.name for one in regions], _LONGEST_NAME), strict=True):
        parts = shapely.get_parts(shapely.clip_by_rect(region.geometry, left, top, right, bottom))
        part = max(parts, key=shapely.area, default=None)
        if part is None or not part.area:
            continue
        corners = shapely.get_coordinates(part)
        upper = corners[corners[:, 1] == corners[:, 1].min()]
        x, y = (upper.min(axis=0) + upper.max(axis=0)) / 2
        across = (x - left) / (right - left)
        side = "left" if across < _AT_EDGE else "right" if across > 1 - _AT_EDGE else "center"
        width = letter * len(name)
        begin = x - width * {"left": 0, "center": 0.5, "right": 1}[side]
        while any(shapely.intersects(shapely.box(begin, y, begin + width, y + line), taken)):
            y += line
        # A little less, so that the next line does not touch it.
        taken.append(shapely.box(begin, y + 0.1 * line, begin + width, y + 0.9 * line))
        yield name, float(x * scale), float(y * scale), side


def lines_of(region: Region) -> Iterator[np.ndarray]:
    """The outlines of a region, (N, 2) x and y in level-0 pixels, as fine as a screen shows them."""
    x0, y0, x1, y1 = region.geometry.bounds
    for ring in rings_of(region):
        line = shapely.simplify(shapely.LineString(ring), max(x1 - x0, y1 - y0) / _STEPS, preserve_topology=False)
        yield shapely.get_coordinates(line)


def color_of(region: Region) -> str:
    """Of its class, as CSS has it."""
    return f"rgb{rgb_of(region)}"


def rgb_of(region: Region) -> Color:
    """Of its class, or the one of regions that have none."""
    return region.color or _OUTLINE_RGB


def class_boxes(
    result: anndata.AnnData, gene: str, classes: np.ndarray, colors: dict[str, str], outside: str
) -> go.Figure:
    """A gene's values over the tiles, or slides, of each class, a box a class: quartiles, and Tukey's whiskers.

    A class of fewer than `LEAST_BOXED` is drawn as so many dots.

    classes : (T,) str, empty for none.
    colors : of classes, by name; others have one of their own.
    outside : what the tiles of no class are called.
    """
    values = pd.Series(map_of(result, gene).astype(float))
    names = sorted(set(classes) - {""})
    shown = dict(zip(names, short_names(names, _LONGEST_NAME), strict=True))
    figure = go.Figure()
    for name in (*names, ""):
        own = values[classes == name]
        if own.empty:
            continue
        label = f"{literal(shown.get(name, outside))} · {len(own):,}"
        color = colors.get(name, RELIABLE_COLOR) if name else UNRELIABLE_COLOR
        look = {"orientation": "h", "marker_color": color, "showlegend": False}
        if len(own) < LEAST_BOXED:
            hovertext = [literal(one) for one in result.obs_names[classes == name]]
            dots = {"boxpoints": "all", "pointpos": 0, "jitter": 0.3, "hoveron": "points", "line_color": _CLEAR}
            figure.add_trace(go.Box(x=own, y=[label] * len(own), hovertext=hovertext, fillcolor=_CLEAR, **dots, **look))
            continue
        low, middle, high = np.percentile(own, [25, 50, 75])
        reach = 1.5 * (high - low)
        figure.add_trace(
            go.Box(
                y=[label],
                q1=[low],
                median=[middle],
                q3=[high],
                lowerfence=[own[own >= low - reach].min()],
                upperfence=[own[own <= high + reach].max()],
                mean=[own.mean()],
                line={"width": 1.5},
                **look,
            )
        )
    plain(figure, _AXIS_PX + _BOX_PX * len(figure.data))
    figure.update_layout(margin={"t": 4 * MARGIN_PX, "b": 6 * MARGIN_PX}, boxgap=0.35, uirevision=gene)
    figure.update_xaxes(title_text=scale_text(gene), zeroline=False)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure
