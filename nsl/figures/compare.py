"""Maps to be compared, as Plotly figures: genes side by side, their difference, two in one map, one over two slides."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import anndata
import numpy as np
import plotly.graph_objects as go
from PIL import Image

from nsl.errors import NslError
from nsl.figures.maps import color_axis, heat, lay_slide_under, on_grid, tissue_outline
from nsl.figures.style import MARGIN_PX, SELECTED_COLOR, UNIT, plain
from nsl.weights import is_reliable

DIFFERENCES = ("standard deviations", "ratio of counts")
"""How one gene is taken from another: see `standardised_difference` and `log2_ratio`."""

# Brown through white to teal (ColorBrewer): the colour-blind tell them apart, and neither is a colour of H&E.
_DIVERGING = "BrBG"
_REACH_PERCENTILE = 98
# Added to counts per 10,000, so that the ratio of two that are next to nothing is not a large one.
_PSEUDOCOUNT = 0.5
_COLUMNS = 2
# As many pixels a millimetre of tissue as the picture of a single map has on the screen.
_PICTURE_PX = 900
# A panel this wide is what two have on a laptop; its height follows the slide's shape within these.
_PANEL_WIDTH_PX, _LEAST_PANEL_PX, _MOST_PANEL_PX, _MOST_IN_ROWS_PX = 440, 240, 560, 410
_HEAD_PX, _TITLE_LINE_PX, _BAR_PX, _AXIS_PX, _LEFT_PX = 30, 19, 36, 34, 52
_KEY_PX, _KEY_FOOT_PX, _KEY_STEPS = 110, 48, 24
_MAX_NAME = 30


def side_by_side(
    result: anndata.AnnData,
    genes: Sequence[str],
    *,
    limits: Sequence[tuple[float, float]],
    palette: str = "Viridis",
    opacity: float = 0.7,
    outline: bool = True,
    selected: np.ndarray | None = None,
) -> go.Figure:
    """Maps of genes over one slide, two a row; they zoom together.

    Parameters
    ----------
    result : of `nsl.predict`, with T tiles.
    genes : G of its genes.
    limits : values at the ends of the colour scale: one pair, and the genes share a scale, or G, one for each.
    palette, opacity, outline : see `nsl.figures.expression_map`.
    selected : (T,) bool, tiles to draw a line around.
    """
    panels = [(result, gene, panel_title(result, gene)) for gene in genes]
    figure = _panels(panels, limits, palette=palette, opacity=opacity, outline=outline, unit=UNIT, linked=True)
    if selected is not None and selected.any():
        line = around_tiles(result, selected)
        for number in range(len(genes)):
            x, y = _axes(number)
            figure.add_trace(go.Scatter(line).update(xaxis=x, yaxis=y))
    figure.update_layout(uirevision=result.uns["nsl"]["slide_sha256"])
    return figure


def across_slides(
    results: Sequence[anndata.AnnData],
    names: Sequence[str],
    gene: str,
    *,
    limits: tuple[float, float],
    palette: str = "Viridis",
    opacity: float = 0.7,
    outline: bool = True,
) -> go.Figure:
    """One gene over several slides on one colour scale; each zooms by itself.

    Parameters
    ----------
    results : of `nsl.predict`, each with the gene.
    names : of the slides.
    limits, palette, opacity, outline : see `nsl.figures.expression_map`.
    """
    panels = [
        (result, gene, f"<b>{html.escape(_shortened(name))}</b> · {result.n_obs:,} tiles")
        for result, name in zip(results, names, strict=True)
    ]
    figure = _panels(
        panels, [limits], palette=palette, opacity=opacity, outline=outline, unit=f"{html.escape(gene)}, {UNIT}"
    )
    for number, result in enumerate(results):
        for axis in _axes(number):
            figure.layout[f"{axis[0]}axis{axis[1:]}"].uirevision = result.uns["nsl"]["slide_sha256"]
    return figure


def difference_map(
    result: anndata.AnnData,
    gene_a: str,
    gene_b: str,
    *,
    by: str = DIFFERENCES[0],
    opacity: float = 0.7,
    outline: bool = True,
    selected: np.ndarray | None = None,
    height_px: int = 720,
) -> go.Figure:
    """Where one gene stands above another: teal, and below it: brown; hovering says both values too.

    Parameters
    ----------
    result : of `nsl.predict`, with T tiles.
    gene_a, gene_b : two of its genes.
    by : one of `DIFFERENCES`.
    opacity, outline : see `nsl.figures.expression_map`.
    selected : (T,) bool, tiles to draw a line around.

    Raises
    ------
    NslError : of `standardised_difference`.
    """
    if by == DIFFERENCES[0]:
        values, unit = standardised_difference(result, gene_a, gene_b), "sd"
    else:
        values, unit = log2_ratio(result, gene_a, gene_b), "log2"
    reach = float(np.percentile(np.abs(values), _REACH_PERCENTILE)) or 0.5
    figure = go.Figure(_heat_of_two(result, values, gene_a, gene_b, f"difference %{{z:.2f}} {unit}", opacity))
    figure.data[0].coloraxis = "coloraxis"
    a, b = html.escape(gene_a), html.escape(gene_b)
    title = f"← {b} higher · {by if unit == 'sd' else 'log2 of the ' + by} · {a} higher →"
    _finish_single(figure, result, outline, selected, height_px)
    figure.update_layout(coloraxis=color_axis(title, (-reach, reach), _DIVERGING))
    return figure


def blend_map(
    result: anndata.AnnData,
    gene_a: str,
    gene_b: str,
    *,
    limits: Sequence[tuple[float, float]],
    opacity: float = 0.7,
    outline: bool = True,
    selected: np.ndarray | None = None,
    height_px: int = 720,
) -> go.Figure:
    """Two genes in one map, magenta and green, which add up to white; below it the key to its colours.

    Parameters
    ----------
    result : of `nsl.predict`, with T tiles.
    gene_a, gene_b : two of its genes.
    limits : of each gene, the values where its colour is dark and where it is full.
    opacity, outline : see `nsl.figures.expression_map`.
    selected : (T,) bool, tiles to draw a line around.
    """
    ends = np.asarray(limits, float)
    values = np.column_stack([result[:, gene].X.ravel() for gene in (gene_a, gene_b)])
    share = np.clip((values - ends[:, 0]) / (ends[:, 1] - ends[:, 0]), 0, 1)
    colors = blend_colors(share[:, 0], share[:, 1])
    # Seen are the colours of a picture; told of are the values of a heat map that is as clear as glass.
    told = _heat_of_two(result, values[:, 0], gene_a, gene_b, "", 1.0)
    told.update(colorscale=[[0, "rgba(0,0,0,0)"], [1, "rgba(0,0,0,0)"]], showscale=False)
    place = {"x0": told.x0, "dx": told.dx, "y0": told.y0, "dy": told.dy}
    picture = go.Image(source=_png(_tiles_picture(result, colors)), opacity=opacity, hoverinfo="skip", **place)
    figure = go.Figure([picture, told])
    _finish_single(figure, result, outline, selected, height_px)
    _add_key(figure, gene_a, gene_b, ends)
    return figure


def standardised_difference(result: anndata.AnnData, gene_a: str, gene_b: str) -> np.ndarray:
    """Gene A less gene B over the tiles, (T,), each in standard deviations from its own mean over this slide.

    Raises NslError where a gene is the same everywhere.
    """
    scores = []
    for gene in (gene_a, gene_b):
        values = result[:, gene].X.ravel().astype(float)
        if np.ptp(values) < 1e-6:
            raise NslError(
                f"{gene} is the same on all {len(values):,} tiles, so it has no standard deviation; choose another gene"
            )
        scores.append((values - values.mean()) / values.std())
    return scores[0] - scores[1]


def log2_ratio(result: anndata.AnnData, gene_a: str, gene_b: str) -> np.ndarray:
    """log2 of counts per 10,000 of gene A over those of gene B, (T,), with 0.5 added to both.

    Predictions below 0 are taken for 0 counts.
    """
    a, b = (np.expm1(np.maximum(result[:, gene].X.ravel().astype(float), 0)) for gene in (gene_a, gene_b))
    return np.log2((a + _PSEUDOCOUNT) / (b + _PSEUDOCOUNT))


def blend_colors(share_a: np.ndarray, share_b: np.ndarray) -> np.ndarray:
    """Colours (…, 3) uint8 of two shares from 0 to 1: the first magenta, the second green, both white, neither black.

    Magenta and green are told apart by those who do not tell red from green (Wong 2011, Nature Methods 8:441).
    """
    a, b = np.broadcast_arrays(share_a, share_b)
    return np.rint(255 * np.stack([a, b, a], axis=-1)).astype(np.uint8)


def around_tiles(result: anndata.AnnData, selected: np.ndarray) -> go.Scatter:
    """The line around tiles, (T,) bool, as one broken line in millimetres."""
    inside = np.pad(np.nan_to_num(on_grid(result, selected)) > 0, 1)
    info = result.uns["nsl"]
    step_mm = info["stride_um"] / 1000
    # Of the square of row 0 or column 0, which is drawn around its centre; padding put one square before it.
    edge_mm = info["tile_um"] / 2000 - step_mm / 2
    parts = []
    for grid, across in ((inside, False), (inside.T, True)):
        line, start = np.nonzero(grid[1:] != grid[:-1])
        along = np.stack([start - 1, start, np.full(len(start), np.nan)], axis=-1)
        ends = np.stack([along, np.repeat(line[:, None], 3, axis=1)])
        parts.append(ends[::-1] if across else ends)
    x, y = (edge_mm + step_mm * np.concatenate(parts, axis=1)).reshape(2, -1).astype(np.float32)
    line = {"color": SELECTED_COLOR, "width": 2.5}
    return go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name="selected tiles")


def panel_title(result: anndata.AnnData, gene: str) -> str:
    """A gene with its held-out r, and a word below where it is unreliable."""
    r = result.var.r_heldout[gene]
    told = f"{r:.2f}".replace("-", "−") if np.isfinite(r) else "unknown"
    reliable = is_reliable(result.var.loc[[gene]]).all()
    return f"<b>{html.escape(gene)}</b> · held-out r {told}{'' if reliable else '<br>unreliable'}"


@dataclass(frozen=True)
class _Sheet:
    """Where panels, their titles and colour bars lie: from the top down by pixels, from left to right by shares.

    What names a panel stands above it, and the panel keeps to the top of its place: on a narrow page, where it is less
    high, they stay together. At the very top is room for the unit, and for the chart's tools beside it.
    """

    panels: int
    panel_px: int
    title_px: int
    shared: bool
    """Whether one bar at the top is for all panels; else each has its own."""
    gap: float
    """Between columns, as a share of the width."""

    @property
    def head_px(self) -> int:
        return _HEAD_PX + self.shared * _BAR_PX

    @property
    def above_px(self) -> int:
        """Title and bar of a panel."""
        return self.title_px + (not self.shared) * _BAR_PX

    @property
    def row_px(self) -> int:
        return self.above_px + self.panel_px + _AXIS_PX

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


def _panels(panels, limits, *, palette, opacity, outline, unit: str, linked: bool = False) -> go.Figure:
    """A map for each result, gene and title; they zoom together where they are linked."""
    if len(limits) not in (1, len(panels)):
        raise ValueError(f"{len(limits)} pairs of limits for {len(panels)} maps")
    shared = len(limits) == 1
    sheet = _Sheet(
        panels=len(panels),
        panel_px=_panel_px([result for result, _, _ in panels], rows=-(-len(panels) // _COLUMNS)),
        title_px=_TITLE_LINE_PX * max(title.count("<br>") + 1 for _, _, title in panels) + 4,
        shared=shared,
        gap=0.07 if linked else 0.12,
    )
    figure = go.Figure()
    edge = tissue_outline(panels[0][0]) if outline and linked else None
    for number, (result, gene, title) in enumerate(panels):
        x, y = _axes(number)
        color = "coloraxis" if shared or not number else f"coloraxis{number + 1}"
        values = result[:, gene].X.ravel()
        drawn = [heat(result, values, html.escape(gene), opacity=opacity, coloraxis=color)]
        if outline:
            drawn.append(go.Scatter(edge) if edge else tissue_outline(result))
        figure.add_traces([trace.update(xaxis=x, yaxis=y) for trace in drawn])
        lay_slide_under(figure, result, x=x, y=y, longest_px=_PICTURE_PX)
        _place(figure, sheet, number, title, linked=linked)
        if not shared:
            top = sheet.height(number, sheet.title_px)
            figure.layout[color] = _scale(limits[number], palette, sheet.column(number), top)
    if shared:
        figure.layout.coloraxis = _scale(limits[0], palette, sheet.column(0), 1 - _HEAD_PX / sheet.height_px)
    figure.add_annotation(text=unit, x=0, y=1, xanchor="left", yanchor="top", **_ON_PAPER)
    plain(figure, sheet.height_px + 2 * MARGIN_PX)
    # Nothing may push the panels from their places.
    margin = {"l": _LEFT_PX, "r": 3 * MARGIN_PX, "t": MARGIN_PX, "b": MARGIN_PX, "autoexpand": False}
    figure.update_layout(margin=margin, showlegend=False)
    return figure


_ON_PAPER = {"xref": "paper", "yref": "paper", "showarrow": False, "align": "left"}


def _panel_px(results: Sequence[anndata.AnnData], rows: int) -> int:
    shapes = [result.uns["spatial"]["slide"]["images"]["hires"].shape for result in results]
    tall = max(height / width for height, width, *_ in shapes) * _PANEL_WIDTH_PX
    return round(np.clip(tall, _LEAST_PANEL_PX, _MOST_PANEL_PX if rows == 1 else _MOST_IN_ROWS_PX))


def _axes(number: int) -> tuple[str, str]:
    suffix = str(number + 1) if number else ""
    return f"x{suffix}", f"y{suffix}"


def _place(figure: go.Figure, sheet: _Sheet, number: int, title: str, *, linked: bool) -> None:
    """Put a panel's axes and its title where they belong on the sheet."""
    x, y = (f"{axis[0]}axis{axis[1:]}" for axis in _axes(number))
    left, right = sheet.column(number)
    bottom_to_top = [sheet.height(number, sheet.above_px + down_px) for down_px in (sheet.panel_px, 0)]
    usual = {"nticks": 4, "tickangle": 0, "automargin": False}
    figure.layout[x].update(domain=[left, right], anchor=_axes(number)[1], constraintoward="left", **usual)
    figure.layout[y].update(domain=bottom_to_top, anchor=_axes(number)[0], constraintoward="top", **usual)
    if linked and number:
        figure.layout[x].matches, figure.layout[y].matches = "x", "y"
        # It has its ranges from the first: of its own, they would end a zoom when a panel is added.
        figure.layout[x].range = figure.layout[y].range = figure.layout[y].scaleanchor = None
    if linked:
        figure.layout[y].showticklabels = number % _COLUMNS == 0
    figure.add_annotation(
        text=title, x=left, y=sheet.height(number, 0), xanchor="left", yanchor="top", borderpad=0, **_ON_PAPER
    )


def _scale(limits: tuple[float, float], palette: str, column: tuple[float, float], top: float) -> dict:
    """A colour scale whose bar is as wide as a column of panels."""
    bar = {"x": column[0], "len": column[1] - column[0], "xanchor": "left", "y": top, "yanchor": "top"}
    bar |= {"orientation": "h", "xpad": 0, "ypad": 0, "thickness": 11, "outlinewidth": 0, "nticks": 5}
    bar["tickfont"] = {"size": 11}
    return {"colorscale": palette, "cmin": limits[0], "cmax": limits[1], "colorbar": bar}


def _heat_of_two(
    result: anndata.AnnData, values: np.ndarray, gene_a: str, gene_b: str, told: str, opacity: float
) -> go.Heatmap:
    """A heat map of values (T,); hovering says what is told of them, the value of each gene, and the tissue share."""
    trace = heat(result, values, "", opacity=opacity, coloraxis=None)
    genes = [on_grid(result, result[:, gene].X.ravel()) for gene in (gene_a, gene_b)]
    trace.customdata = np.dstack([*genes, trace.customdata])
    lines = [
        *([told] if told else []),
        *(f"<b>{html.escape(gene)}</b> %{{customdata[{i}]:.2f}}" for i, gene in enumerate((gene_a, gene_b))),
        "tissue %{customdata[2]:.0%}",
        "x %{x:.2f} mm, y %{y:.2f} mm",
    ]
    trace.hovertemplate = "<br>".join(lines) + "<extra></extra>"
    return trace


def _finish_single(
    figure: go.Figure, result: anndata.AnnData, outline: bool, selected: np.ndarray | None, height_px: int
) -> None:
    lay_slide_under(figure, result)
    if outline:
        figure.add_trace(tissue_outline(result))
    if selected is not None and selected.any():
        figure.add_trace(around_tiles(result, selected))
    plain(figure, height_px)
    figure.update_layout(uirevision=result.uns["nsl"]["slide_sha256"], showlegend=False)


def _add_key(figure: go.Figure, gene_a: str, gene_b: str, ends: np.ndarray) -> None:
    """A square below the map: one gene to the right, the other up, and the colour of each pair."""
    plot_px = figure.layout.height - 5 * MARGIN_PX
    key_top, map_bottom = ((_KEY_FOOT_PX + _KEY_PX + down) / plot_px for down in (0, 2 * _AXIS_PX))
    step = 1 / _KEY_STEPS
    middle = (np.arange(_KEY_STEPS) + 0.5) * step
    colors = blend_colors(middle[None, :], middle[:, None])
    figure.add_image(
        source=_png(colors), xaxis="x2", yaxis="y2", x0=step / 2, dx=step, y0=step / 2, dy=step, hoverinfo="skip"
    )
    usual = {"range": [0, 1], "tickvals": [0, 1], "fixedrange": True, "showgrid": False, "zeroline": False}
    usual |= {"constrain": "domain", "automargin": False, "tickangle": 0}
    texts = [[f"{end:.2f}".replace("-", "−") for end in pair] for pair in ends]
    figure.update_layout(
        margin={"l": _LEFT_PX, "autoexpand": False},
        yaxis={"domain": [map_bottom, 1], "constraintoward": "top"},
        xaxis2={
            "domain": [0.25, 0.5],
            "anchor": "y2",
            "ticktext": texts[0],
            "constraintoward": "right",
            "title": {"text": f"{html.escape(gene_a)}, magenta", "standoff": 4},
            **usual,
        },
        yaxis2={
            "domain": [_KEY_FOOT_PX / plot_px, key_top],
            "anchor": "x2",
            "ticktext": texts[1],
            "scaleanchor": "x2",
            "constraintoward": "top",
            "title": {"text": f"{html.escape(gene_b)}, green", "standoff": 4},
            **usual,
        },
    )
    figure.add_annotation(
        text=f"white: both high<br>black: both low<br>in {UNIT}", x=0.53, y=key_top, yanchor="top", xanchor="left",
        **_ON_PAPER,
    )  # fmt: skip


def _tiles_picture(result: anndata.AnnData, colors: np.ndarray) -> np.ndarray:
    """Colours (T, 3) as the RGBA picture that the tiles form, clear where there is no tile."""
    channels = [on_grid(result, channel) for channel in colors.T]
    opaque = np.where(np.isnan(channels[0]), 0, 255)
    return np.nan_to_num(np.dstack([*channels, opaque])).astype(np.uint8)


def _shortened(name: str) -> str:
    """A long name without its middle."""
    half = _MAX_NAME // 2
    return name if len(name) <= _MAX_NAME else f"{name[:half]}…{name[-half:]}"


def _png(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
