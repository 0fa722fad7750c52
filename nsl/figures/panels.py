"""Maps in panels, two a row: where each lies on the sheet, with its title, its colour bar and its axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import anndata
import numpy as np
import plotly.graph_objects as go

from nsl.figures.maps import heat, lay_slide_under, shape_of_window, tissue_outline
from nsl.figures.style import MARGIN_PX, plain, scale_ticks
from nsl.result import map_of

ON_PAPER = {"xref": "paper", "yref": "paper", "showarrow": False, "align": "left"}
"""An annotation that stands at a place of the figure."""
AXIS_PX, LEFT_PX = 34, 52
"""Room for an axis below a panel, and for one at its left."""

_COLUMNS = 2
# As many pixels a millimetre of tissue as the picture of a single map has on the screen.
_PICTURE_PX = 900
# A panel this wide is what two have on a laptop; its height follows the slide's shape within these.
_PANEL_WIDTH_PX, _LEAST_PANEL_PX, _MOST_PANEL_PX, _MOST_IN_ROWS_PX = 440, 240, 560, 410
_HEAD_PX, _TITLE_LINE_PX, _BAR_PX = 30, 19, 36


@dataclass(frozen=True)
class _Sheet:
    """Where panels, their titles and colour bars lie: from the top down by pixels, from left to right by shares.

    What names a panel stands above it, and the panel keeps to the top of its place: on a narrow page, where it is less
    high, they stay together. At the very top is room for the unit, and for the chart's tools beside it.
    """

    panels: int
    panel_px: int
    title_px: int
    shared: bool  # whether one bar at the top is for all panels; else each has its own
    gap: float  # between columns, as a share of the width

    @property
    def head_px(self) -> int:
        return _HEAD_PX + self.shared * _BAR_PX

    @property
    def above_px(self) -> int:
        """Title and bar of a panel."""
        return self.title_px + (not self.shared) * _BAR_PX

    @property
    def row_px(self) -> int:
        return self.above_px + self.panel_px + AXIS_PX

    @property
    def height_px(self) -> int:
        return self.head_px + -(-self.panels // _COLUMNS) * self.row_px

    def column(self, number: int) -> tuple[float, float]:
        width = (1 - self.gap * (_COLUMNS - 1)) / _COLUMNS
        left = (number % _COLUMNS) * (width + self.gap)
        return left, min(left + width, 1)

    def height(self, number: int, down_px: float) -> float:
        """Share of the height, from the bottom, of what lies so far down in the row of a panel."""
        return 1 - (self.head_px + number // _COLUMNS * self.row_px + down_px) / self.height_px


def in_panels(
    panels: Sequence[tuple[anndata.AnnData, str, str]],
    limits: Sequence[tuple[float, float]],
    *,
    palette: str,
    opacity: float,
    outline: bool,
    unit: str,
    linked: bool = False,
) -> go.Figure:
    """Maps, two a row, each under its title.

    panels : of each map the result, the gene and the title.
    limits : values at the ends of the colour scale: one pair, and the maps share a scale, or one for each.
    palette, opacity, outline : see `nsl.figures.maps.expression_map`.
    unit : of the values, written above all.
    linked : whether they zoom together; they are then of one slide.

    Raises ValueError: another number of limits.
    """
    if len(limits) not in (1, len(panels)):
        raise ValueError(f"{len(limits)} pairs of limits for {len(panels)} maps")
    shared = len(limits) == 1
    tallest = max(shape_of_window(result) for result, _, _ in panels)
    most_px = _MOST_PANEL_PX if len(panels) <= _COLUMNS else _MOST_IN_ROWS_PX
    sheet = _Sheet(
        panels=len(panels),
        panel_px=round(np.clip(tallest * _PANEL_WIDTH_PX, _LEAST_PANEL_PX, most_px)),
        title_px=_TITLE_LINE_PX * max(title.count("<br>") + 1 for _, _, title in panels) + 4,
        shared=shared,
        gap=0.1 if linked else 0.12,
    )
    figure = go.Figure()
    edge = tissue_outline(panels[0][0]) if outline and linked else None
    for number, (result, gene, title) in enumerate(panels):
        x, y = axes(number)
        color = "coloraxis" if shared or not number else f"coloraxis{number + 1}"
        values = map_of(result, gene)
        drawn = [heat(result, values, gene, opacity=opacity, coloraxis=color)]
        if outline:
            drawn.append(go.Scatter(edge) if edge else tissue_outline(result))
        figure.add_traces([trace.update(xaxis=x, yaxis=y) for trace in drawn])
        lay_slide_under(figure, result, x=x, y=y, longest_px=_PICTURE_PX)
        _place(figure, sheet, number, title, linked=linked)
        if not shared:
            top = sheet.height(number, sheet.title_px)
            figure.layout[color] = scale_over(limits[number], palette, sheet.column(number), top)
    if shared:
        figure.layout.coloraxis = scale_over(limits[0], palette, sheet.column(0), 1 - _HEAD_PX / sheet.height_px)
    figure.add_annotation(text=unit, x=0, y=1, xanchor="left", yanchor="top", **ON_PAPER)
    plain(figure, sheet.height_px + 2 * MARGIN_PX)
    # Nothing may push the panels from their places.
    margin = {"l": LEFT_PX, "r": 3 * MARGIN_PX, "t": MARGIN_PX, "b": MARGIN_PX, "autoexpand": False}
    figure.update_layout(margin=margin, showlegend=False)
    return figure


def axes(number: int) -> tuple[str, str]:
    """Names of a panel's axes, as traces call them."""
    suffix = str(number + 1) if number else ""
    return f"x{suffix}", f"y{suffix}"


def _place(figure: go.Figure, sheet: _Sheet, number: int, title: str, *, linked: bool) -> None:
    x, y = (f"{axis[0]}axis{axis[1:]}" for axis in axes(number))
    left, right = sheet.column(number)
    bottom_to_top = [sheet.height(number, sheet.above_px + down_px) for down_px in (sheet.panel_px, 0)]
    usual = {"nticks": 4, "tickangle": 0, "automargin": False}
    figure.layout[x].update(domain=[left, right], anchor=axes(number)[1], constraintoward="left", **usual)
    figure.layout[y].update(domain=bottom_to_top, anchor=axes(number)[0], constraintoward="top", **usual)
    if linked and number:
        figure.layout[x].matches, figure.layout[y].matches = "x", "y"
        # It has its ranges from the first: of its own, they would end a zoom when a panel is added.
        figure.layout[x].range = figure.layout[y].range = figure.layout[y].scaleanchor = None
    if linked:
        figure.layout[y].showticklabels = number % _COLUMNS == 0
    figure.add_annotation(
        text=title, x=left, y=sheet.height(number, 0), xanchor="left", yanchor="top", borderpad=0, **ON_PAPER
    )


def scale_over(limits: tuple[float, float], palette: str, column: tuple[float, float], top: float) -> dict:
    """A colour scale whose bar lies over a column of panels, as wide as they are."""
    bar = {"x": column[0], "len": column[1] - column[0], "xanchor": "left", "y": top, "yanchor": "top"}
    bar |= {"orientation": "h", "xpad": 0, "ypad": 0, "thickness": 11, "outlinewidth": 0}
    bar |= {"tickfont": {"size": 11}, **scale_ticks(limits)}
    return {"colorscale": palette, "cmin": limits[0], "cmax": limits[1], "colorbar": bar}
