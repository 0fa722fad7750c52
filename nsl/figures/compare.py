"""Maps to be compared, as Plotly figures: genes side by side, their difference, two in one map, one over two slides.

A result is of `nsl.predict`, with T tiles; palette, opacity and outline are those of `nsl.figures.maps.expression_map`;
around tiles that are selected, (T,) bool, a line is drawn.
"""

from collections.abc import Sequence

import anndata
import numpy as np
import plotly.graph_objects as go

from nsl.errors import NslError
from nsl.figures import images
from nsl.figures.maps import color_axis, heat, lay_out_single, lay_slide_under, on_grid, tissue_outline
from nsl.figures.panels import AXIS_PX, LEFT_PX, ON_PAPER, axes, in_panels
from nsl.figures.style import SELECTED_COLOR, gene_text, literal, scale_text, short_texts
from nsl.numerals import count_of, signed
from nsl.result import Provenance, map_of
from nsl.signatures import unit_of
from nsl.weights.reliability import UNRELIABLE, UNTESTED, trust_in_map

DIFFERENCES = ("standard deviations", "ratio of counts")
"""How one gene is taken from another: see `standardised_difference` and `log2_ratio`."""

# Brown through white to teal (ColorBrewer): the colour-blind tell them apart, and neither is a colour of H&E.
DIVERGING = "BrBG"
# How far its colours reach: to a percentile, but never so near that next to no difference looks like much.
_REACH_PERCENTILE, _LEAST_REACH_SD, _LEAST_REACH_LOG2 = 98, 1.0, 0.5
# Added to counts per 10,000, so that the ratio of two that are next to nothing is not a large one.
_PSEUDOCOUNT = 0.5
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

    limits : values at the ends of the colour scale: one pair, and the genes share a scale, or one for each gene.
    """
    panels = [(result, gene, panel_title(result, gene)) for gene in genes]
    look = {"palette": palette, "opacity": opacity, "outline": outline}
    figure = in_panels(panels, limits, unit=unit_of(*genes), linked=True, **look)
    if selected is not None and selected.any():
        line = around_tiles(result, selected)
        for number in range(len(genes)):
            x, y = axes(number)
            figure.add_trace(go.Scatter(line).update(xaxis=x, yaxis=y))
    figure.update_layout(uirevision=Provenance.of(result).slide_sha256)
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
    """One gene over several slides, named by `names`, on one colour scale from end to end of `limits`.

    Each zooms by itself.
    """
    panels = [
        (result, gene, f"<b>{literal(_shortened(name))}</b> · {count_of(result.n_obs, 'tile')}")
        for result, name in zip(results, names, strict=True)
    ]
    figure = in_panels(panels, [limits], palette=palette, opacity=opacity, outline=outline, unit=scale_text(gene))
    for number, result in enumerate(results):
        for axis in axes(number):
            figure.layout[f"{axis[0]}axis{axis[1:]}"].uirevision = Provenance.of(result).slide_sha256
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
) -> go.Figure:
    """Where one gene stands above another, or above its usual ratio to it: teal, and below: brown.

    Hovering says both values too. by is one of `DIFFERENCES`. Raises NslError of `standardised_difference`.
    """
    values, limits, unit = difference_of(result, gene_a, gene_b, by)
    figure = go.Figure(_heat_of_two(result, values, gene_a, gene_b, f"difference %{{z:.2f}} {unit}", opacity))
    figure.data[0].coloraxis = "coloraxis"
    _finish_single(figure, result, outline, selected)
    title = difference_title(gene_text(gene_a), gene_text(gene_b), by)
    figure.update_layout(coloraxis=color_axis(title, limits, DIVERGING))
    return figure


def difference_title(a: str, b: str, by: str) -> str:
    """What stands over the colour scale of a difference: which end is which gene's."""
    return (
        f"← {b} higher · {by} · {a} higher →" if by == DIFFERENCES[0] else f"← more {b} · log2 of the {by} · more {a} →"
    )


def difference_of(
    result: anndata.AnnData, gene_a: str, gene_b: str, by: str
) -> tuple[np.ndarray, tuple[float, float], str]:
    """Gene A less gene B over the tiles (T,), the ends of its colours, and its unit.

    The middle of the colours is 0 for a difference in standard deviations, and the slide's median for a ratio: genes
    of different levels would else differ one way on the whole slide. The colours of genes that go together stay pale.

    Raises NslError of `standardised_difference`.
    """
    if by == DIFFERENCES[0]:
        values, middle, least, unit = standardised_difference(result, gene_a, gene_b), 0.0, _LEAST_REACH_SD, "sd"
    else:
        values, least, unit = log2_ratio(result, gene_a, gene_b), _LEAST_REACH_LOG2, "log2"
        middle = float(np.median(values))
    reach = max(float(np.percentile(np.abs(values - middle), _REACH_PERCENTILE)), least)
    return values, (middle - reach, middle + reach), unit


def blend_map(
    result: anndata.AnnData,
    gene_a: str,
    gene_b: str,
    *,
    limits: Sequence[tuple[float, float]],
    opacity: float = 0.7,
    outline: bool = True,
    selected: np.ndarray | None = None,
) -> go.Figure:
    """Two genes in one map, magenta and green, which add up to white; below it the key to its colours.

    limits : of each gene, the values where its colour is dark and where it is full.
    """
    ends = np.asarray(limits, float)
    values = np.column_stack([map_of(result, gene) for gene in (gene_a, gene_b)])
    share = np.clip((values - ends[:, 0]) / (ends[:, 1] - ends[:, 0]), 0, 1)
    colors = blend_colors(share[:, 0], share[:, 1])
    # The colours are a picture; a transparent heat map over it has the values, for hovering.
    clear = _heat_of_two(result, values[:, 0], gene_a, gene_b, "", 1.0)
    clear.update(colorscale=[[0, "rgba(0,0,0,0)"], [1, "rgba(0,0,0,0)"]], showscale=False)
    place = {"x0": clear.x0, "dx": clear.dx, "y0": clear.y0, "dy": clear.dy}
    picture = go.Image(source=images.png(_tiles_picture(result, colors)), opacity=opacity, hoverinfo="skip", **place)
    figure = go.Figure([picture, clear])
    _finish_single(figure, result, outline, selected, has_scale=False)
    _add_key(figure, gene_a, gene_b, ends)
    return figure


def standardised_difference(result: anndata.AnnData, gene_a: str, gene_b: str) -> np.ndarray:
    """Gene A less gene B over the tiles, (T,), each in standard deviations from its own mean over this slide.

    Raises NslError where a gene is the same everywhere.
    """
    scores = []
    for gene in (gene_a, gene_b):
        values = map_of(result, gene).astype(float)
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
    a, b = (np.expm1(np.maximum(map_of(result, gene).astype(float), 0)) for gene in (gene_a, gene_b))
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
    known = Provenance.of(result)
    step_mm = known.stride_um / 1000
    # Of the square of row 0 or column 0, which is drawn around its centre; padding put one square before it.
    edge_mm = known.tile_um / 2000 - step_mm / 2
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
    """A gene with its held-out r and the sign of its tier, and a word below where it is unreliable."""
    r = signed(result.var.r_heldout[gene], unknown="unknown")
    trust = trust_in_map(result, gene)
    word = f"<br>{trust.word}" if trust in (UNRELIABLE, UNTESTED) else ""
    return f"<b>{gene_text(gene)}</b> · held-out r {r} {trust.sign}{word}"


def _heat_of_two(
    result: anndata.AnnData, values: np.ndarray, gene_a: str, gene_b: str, first_line: str, opacity: float
) -> go.Heatmap:
    """A heat map of values (T,); hovering shows the first line, the value of each gene, and the tissue share."""
    trace = heat(result, values, "", opacity=opacity, coloraxis=None)
    genes = [on_grid(result, map_of(result, gene)) for gene in (gene_a, gene_b)]
    trace.customdata = np.dstack([*genes, trace.customdata])
    lines = [
        *([first_line] if first_line else []),
        *(f"<b>{gene_text(gene)}</b> %{{customdata[{i}]:.2f}}" for i, gene in enumerate((gene_a, gene_b))),
        "tissue %{customdata[2]:.0%}",
        "x %{x:.2f} mm, y %{y:.2f} mm",
    ]
    trace.hovertemplate = "<br>".join(lines) + "<extra></extra>"
    return trace


def _finish_single(
    figure: go.Figure,
    result: anndata.AnnData,
    outline: bool,
    selected: np.ndarray | None,
    *,
    has_scale: bool = True,
) -> None:
    lay_slide_under(figure, result)
    if outline:
        figure.add_trace(tissue_outline(result))
    if selected is not None and selected.any():
        figure.add_trace(around_tiles(result, selected))
    lay_out_single(figure, result, has_scale=has_scale)


def _add_key(figure: go.Figure, gene_a: str, gene_b: str, ends: np.ndarray) -> None:
    """A square below the map: one gene to the right, the other up, and the colour of each pair."""
    below_px = _KEY_FOOT_PX + _KEY_PX + 2 * AXIS_PX
    figure.layout.height += below_px
    plot_px = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    key_top, map_bottom = ((_KEY_FOOT_PX + _KEY_PX) / plot_px, below_px / plot_px)
    step = 1 / _KEY_STEPS
    middle = (np.arange(_KEY_STEPS) + 0.5) * step
    colors = blend_colors(middle[None, :], middle[:, None])
    figure.add_image(
        source=images.png(colors), xaxis="x2", yaxis="y2", x0=step / 2, dx=step, y0=step / 2, dy=step, hoverinfo="skip"
    )
    usual = {"range": [0, 1], "tickvals": [0, 1], "fixedrange": True, "showgrid": False, "zeroline": False}
    a, b = short_texts([gene_a, gene_b])
    usual |= {"constrain": "domain", "automargin": False, "tickangle": 0}
    texts = [[signed(end) for end in pair] for pair in ends]
    figure.update_layout(
        margin={"l": LEFT_PX, "autoexpand": False},
        yaxis={"domain": [map_bottom, 1], "constraintoward": "top"},
        xaxis2={"domain": [0.25, 0.5], "anchor": "y2", "ticktext": texts[0], "constraintoward": "right", **usual},
        yaxis2={
            "domain": [_KEY_FOOT_PX / plot_px, key_top],
            "anchor": "x2",
            "ticktext": texts[1],
            "scaleanchor": "x2",
            "constraintoward": "top",
            **usual,
        },
        xaxis2_title={"text": f"{a}, magenta", "standoff": 4},
        yaxis2_title={"text": f"{b}, green", "standoff": 4},
    )
    figure.add_annotation(
        text=f"white: both high<br>black: both low<br>{unit_of(gene_a, gene_b)}",
        x=0.53, y=key_top, yanchor="top", xanchor="left", **ON_PAPER,
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
