"""What goes with what, as Plotly figures: genes with genes, predicted with measured."""

from collections.abc import Sequence

import anndata
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy import stats

from nsl.figures.style import (
    MARGIN_PX,
    POINT_OPACITY,
    RELIABLE_COLOR,
    SELECTED_COLOR,
    UNRELIABLE_COLOR,
    gene_text,
    literal,
    plain,
    points,
    scale_text,
    short_texts,
)
from nsl.numerals import count_of, signed
from nsl.result import map_of
from nsl.signatures import counted, short_names
from nsl.stats.correlation import GeneCorrelations
from nsl.stats.pearson import pearson_r
from nsl.weights.reliability import SIGNIFICANT

# Blue through white to red, which the colour-blind tell apart (ColorBrewer).
_DIVERGING = "RdBu_r"
MOST_NAMED = 50
"""More names than this do not fit beside the heat map."""
# Names are smaller where they are more than this, and no more letters of one are shown.
_MANY_NAMES, _LONGEST_NAME = 40, 14
# Rounding to fewer bits, on the way to the browser, may not make it 0.
_LEAST_Q = 1e-12
# More points than this hide each other, and would only cost time to send.
_MAX_POINTS = 20_000
_TITLE_PX = 56
_HEATMAP_PX, _SCATTER_PX = 660, 400


def correlation_heatmap(correlations: GeneCorrelations, order: np.ndarray | None = None) -> go.Figure:
    """Genes by genes, coloured by r from −1 to 1; hovering says the pair, r and q (1e-12 where it is less).

    order is that of `nsl.stats.correlation.cluster_order`; as the genes come if not given. Of more than `MOST_NAMED`
    genes some are named on the axes, and more as one zooms in. A gene with itself, and one that is the same everywhere,
    is left bare. Of a cell that was clicked, x and y are names as `nsl.figures.style.literal` writes them.
    """
    order = np.arange(len(correlations.genes)) if order is None else np.asarray(order)
    square = np.ix_(order, order)
    r = correlations.r[square].astype(np.float32)
    np.fill_diagonal(r, np.nan)
    names = [literal(correlations.genes[i]) for i in order]
    sign = {"pearson": "Pearson r", "spearman": "Spearman r"}[correlations.method]
    figure = go.Figure(
        go.Heatmap(
            z=r,
            x=names,
            y=names,
            customdata=np.maximum(correlations.q_value[square], _LEAST_Q).astype(np.float32),
            coloraxis="coloraxis",
            hoverongaps=False,
            hovertemplate="<b>%{y}</b> and <b>%{x}</b><br>r %{z:.2f}, q %{customdata:.2g}<extra></extra>",
        )
    )
    plain(figure, _HEATMAP_PX)
    # The scale lies above the map, which keeps to the top.
    bar = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom", "len": 0.5, "thickness": 11}
    bar |= {"title": {"text": sign, "side": "top"}, "ypad": 0, "xpad": 0, "outlinewidth": 0}
    bar["tickvals"] = [-1, -0.5, 0, 0.5, 1]
    scale = {"colorscale": _DIVERGING, "cmin": -1, "cmax": 1, "colorbar": bar}
    figure.update_layout(coloraxis=scale, margin_t=_TITLE_PX + 14)
    axis = {"type": "category", "tickfont_size": 8 if len(names) > _MANY_NAMES else 11, "automargin": True}
    axis |= {"ticks": "", "showgrid": False, "zeroline": False, "constrain": "domain"}
    if len(names) <= MOST_NAMED:
        shown = short_names([correlations.genes[i] for i in order], _LONGEST_NAME)
        axis |= {"tickmode": "array", "tickvals": names, "ticktext": list(map(literal, shown))}
    else:
        axis |= {"tickmode": "auto", "nticks": 30}
    ends = [-0.5, len(names) - 0.5]
    figure.update_xaxes(range=ends, tickangle=-90, constraintoward="left", **axis)
    figure.update_yaxes(range=ends[::-1], scaleanchor="x", constraintoward="top", **axis)
    return figure


def agreement_scatter(predicted: np.ndarray, measured: np.ndarray, gene: str, spots: Sequence[str]) -> go.Figure:
    """Measured against predicted expression of a gene, a point a spot, with the least-squares line.

    predicted, measured : (S,) of the same spots.
    spots : their names, to hover with.
    """
    x, y = np.asarray(predicted, float), np.asarray(measured, float)
    known = np.isfinite(x) & np.isfinite(y)
    x, y, names = x[known], y[known], [literal(spot) for spot in np.asarray(spots, str)[known]]
    figure = go.Figure(
        points(len(x))(
            x=x,
            y=y,
            mode="markers",
            marker={"color": RELIABLE_COLOR, "size": 6, "opacity": POINT_OPACITY},
            text=names,
            hovertemplate="<b>%{text}</b><br>predicted %{x:.2f}<br>measured %{y:.2f}<extra></extra>",
        )
    )
    if len(x) > 1 and np.ptp(x) > 0:
        ends = np.array([x.min(), x.max()])
        slope = np.cov(x, y, bias=True)[0, 1] / x.var()
        figure.add_scatter(
            x=ends,
            y=y.mean() + slope * (ends - x.mean()),
            mode="lines",
            line={"color": "grey", "width": 2.5},
            hovertemplate=f"least-squares line, slope {signed(slope)}<extra></extra>",
        )
    plain(figure, _SCATTER_PX)
    figure.update_xaxes(title_text=f"predicted {scale_text(gene)}", automargin=True)
    figure.update_yaxes(title_text=f"measured {scale_text(gene)}", automargin=True)
    return figure.update_layout(showlegend=False, margin_t=MARGIN_PX)


def agreement_in_words(row: pd.Series, spots: int) -> str:
    """How a gene agrees over so many spots: its row of `nsl.stats.agreement.gene_correlations`."""
    if not np.isfinite(row.pearson_r):
        return f"r cannot be told: what was measured is the same at all {spots:,} spots, or missing"
    return (
        f"r {signed(row.pearson_r)}, {_interval_told(row.r_low, row.r_high)}"
        f"{_q_told(row.q_value, row.r_low)}; the {spots:,} spots count for {row.effective_n:,.0f} independent ones"
    )


def _interval_told(low: float, high: float) -> str:
    return f"95 % interval {signed(low)} to {signed(high)}, " if np.isfinite(low) else ""


def _q_told(q: float, low: float) -> str:
    """The q-value, or why there is none, which the lower end of the interval of r tells."""
    if np.isfinite(q):
        return f"q {q:.2g}"
    return "counted in too few spots for a q" if np.isfinite(low) else "too few independent spots for a q"


def agreement_overview(table: pd.DataFrame) -> go.Figure:
    """r of predicted with measured expression over genes, the highest first, with the 95 % interval as a ribbon.

    table is that of `nsl.stats.agreement.gene_correlations`; genes that cannot be told are left out. Genes of r above 0
    with q < 0.05 are filled circles, others open ones.
    """
    ranked = table[table.pearson_r.notna()].sort_values("pearson_r", ascending=False, kind="stable")
    rank = np.arange(1, len(ranked) + 1)
    found = ((ranked.pearson_r > 0) & (ranked.q_value < SIGNIFICANT)).to_numpy()
    in_ribbon = ranked.r_low.notna().to_numpy()
    low, high = ranked.r_low[in_ribbon], ranked.r_high[in_ribbon]
    figure = go.Figure(
        go.Scatter(
            x=np.concatenate([rank[in_ribbon], rank[in_ribbon][::-1]]),
            y=np.concatenate([low, high[::-1]]),
            fill="toself",
            fillcolor=UNRELIABLE_COLOR,
            opacity=0.25,
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            name="95 % interval",
        )
    )
    # What was found is drawn last: among thousands of rings it would be covered.
    for group, name, color, symbol in (
        (~found, "not told from chance, or below 0", UNRELIABLE_COLOR, "circle-open"),
        (found, f"r above 0, q < {SIGNIFICANT:g}", RELIABLE_COLOR, "circle"),
    ):
        genes = ranked[group]
        figure.add_trace(
            points(len(ranked))(
                x=rank[group],
                y=genes.pearson_r,
                mode="markers",
                marker={"color": color, "symbol": symbol, "size": 6},
                text=[gene_text(gene) for gene in genes.index],
                customdata=[
                    (_interval_told(low, high), _q_told(q, low))
                    for low, high, q in genes[["r_low", "r_high", "q_value"]].to_numpy(float)
                ],
                hovertemplate="<b>%{text}</b>, number %{x:,}<br>r %{y:.2f}<br>%{customdata[0]}%{customdata[1]}"
                "<extra></extra>",
                name=f"{name}: {counted(genes.index)}",
            )
        )
    untold = len(table) - len(ranked)
    median = f"median r {signed(ranked.pearson_r.median())} over {counted(ranked.index)}" if len(ranked) else "no gene"
    told = median + (f"; {untold:,} more cannot be told" if untold else "")
    _headed(figure, "Predicted with measured", told, 420, ("genes, the highest r first", "Pearson r"))
    _legend_below(figure)
    return figure.add_hline(y=0, line_width=1, line_color=UNRELIABLE_COLOR)


def gene_scatter(
    result: anndata.AnnData,
    gene_a: str,
    gene_b: str,
    selected: np.ndarray | None = None,
    method: str = "pearson",
) -> go.Figure:
    """One predicted gene against another, a point a tile; its customdata is the tile's position in the result.

    method is that of the r above it, "pearson" or "spearman". selected, (S,) bool, are tiles drawn as diamonds on top.
    Of more than 20,000 tiles as many are drawn, picked evenly by chance; r is always that of all of them.
    """
    x, y = (map_of(result, gene) for gene in (gene_a, gene_b))
    a, b = short_texts([gene_a, gene_b])
    selected = np.zeros(len(x), bool) if selected is None else np.asarray(selected, bool)
    drawn = _sample(len(x))
    figure = go.Figure()
    for group, name, marker in (
        (~selected, "other tiles", {"color": RELIABLE_COLOR, "symbol": "circle", "size": 5, "opacity": POINT_OPACITY}),
        (selected, "selected tiles", {"color": SELECTED_COLOR, "symbol": "diamond", "size": 8}),
    ):
        tiles = np.flatnonzero(group & drawn)
        figure.add_trace(
            points(drawn.sum())(
                x=x[tiles],
                y=y[tiles],
                mode="markers",
                marker=marker,
                text=result.obs_names[tiles],
                customdata=tiles,
                hovertemplate=f"<b>%{{text}}</b><br>{a} %{{x:.2f}}<br>{b} %{{y:.2f}}<extra></extra>",
                name=name,
            )
        )
    ranked = stats.rankdata if method == "spearman" else np.asarray
    letter = "Spearman r" if method == "spearman" else "r"
    said = [f"{letter} {_r(ranked(x), ranked(y))} over {count_of(len(x), 'tile')}"]
    if selected.any():
        said.append(f"{letter} {_r(ranked(x[selected]), ranked(y[selected]))} over the {selected.sum():,} selected")
    if not drawn.all():
        said.append(f"{drawn.sum():,} tiles are drawn")
    _headed(figure, f"{a} and {b}", "; ".join(said), 460, (scale_text(gene_a), scale_text(gene_b)))
    if selected.any():
        _legend_below(figure)
    else:
        figure.update_layout(showlegend=False)
    return figure


def _sample(number: int) -> np.ndarray:
    """(number,) bool, at most 20,000 of them; the same ones every time, so that points stay where they are."""
    drawn = np.ones(number, bool)
    if number > _MAX_POINTS:
        drawn[np.random.default_rng(0).choice(number, number - _MAX_POINTS, replace=False)] = False
    return drawn


def _r(x: np.ndarray, y: np.ndarray) -> str:
    return signed(float(pearson_r(x, y)), unknown="cannot be told")


def _headed(figure: go.Figure, title: str, subtitle: str, height_px: int, axes: tuple[str, str]) -> None:
    plain(figure, height_px)
    figure.update_xaxes(title_text=axes[0], automargin=True)
    figure.update_yaxes(title_text=axes[1], automargin=True)
    figure.update_layout(
        title={"text": title, "subtitle": {"text": subtitle}, "x": 0, "xref": "paper"},
        margin_t=_TITLE_PX + MARGIN_PX,
    )


def _legend_below(figure: go.Figure) -> None:
    figure.update_layout(
        showlegend=True, legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0}
    )
