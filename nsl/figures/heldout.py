"""A training, seen: spots on the slide before it, held-out r over genes after it."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image, ImageDraw
from scipy.spatial import KDTree

from nsl.figures.style import RELIABLE_COLOR, SELECTED_COLOR, UNRELIABLE_COLOR, plain
from nsl.weights import USEFUL_R, is_reliable

BIN_R = 0.05
# Drawn larger and averaged down, so that edges are smooth.
_OVERSAMPLING = 2
# Of the distance between neighbours, so that they never touch.
_RADIUS = 0.3


def spots_on_slide(
    thumbnail: np.ndarray, centers_px: np.ndarray, on_tissue: np.ndarray, slide_width_px: int
) -> np.ndarray:
    """The slide with its measured spots: rings where they lie on tissue, crosses of another colour where not.

    Parameters
    ----------
    thumbnail : (H, W, 3) uint8 RGB.
    centers_px : (S, 2) x, y in level-0 pixels.
    on_tissue : (S,) bool.
    slide_width_px : width of the slide at level 0.

    Returns
    -------
    (H, W, 3) uint8 RGB.
    """
    height, width = thumbnail.shape[:2]
    size = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    picture = Image.fromarray(thumbnail).resize(size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    centers = np.asarray(centers_px, float) * (size[0] / slide_width_px)
    radius = _radius(centers)
    stroke = max(round(radius / 2.5), 2)
    for (x, y), inside in zip(centers, on_tissue, strict=True):
        box = (x - radius, y - radius, x + radius, y + radius)
        if inside:
            draw.ellipse(box, outline=RELIABLE_COLOR, width=stroke)
        else:
            draw.line(box, fill=SELECTED_COLOR, width=stroke)
            draw.line((x - radius, y + radius, x + radius, y - radius), fill=SELECTED_COLOR, width=stroke)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX))


def _radius(centers: np.ndarray) -> float:
    """Of a ring around each of the centres (S, 2), by how far most have their nearest neighbour; at least 2."""
    if len(centers) < 2:
        return 6.0 * _OVERSAMPLING
    nearest = KDTree(centers).query(centers, k=2)[0][:, 1]
    return float(np.clip(_RADIUS * np.median(nearest), 2, 12 * _OVERSAMPLING))


def heldout_histogram(reliability: pd.DataFrame) -> go.Figure:
    """How many genes were predicted how well where they were held out, reliable and unreliable ones stacked.

    reliability is that of `nsl.evaluate.reliability`; genes without an r are left out.
    """
    known = reliability[reliability.r_heldout.notna()]
    reliable = is_reliable(known)
    lowest, highest = (known.r_heldout.min(), known.r_heldout.max()) if len(known) else (0, 0)
    edges = BIN_R * np.arange(np.floor(lowest / BIN_R), np.floor(highest / BIN_R) + 2)
    figure = go.Figure()
    for kind in (
        _Kind("reliable", reliable, RELIABLE_COLOR, ""),
        _Kind("unreliable", ~reliable, UNRELIABLE_COLOR, "/"),
    ):
        genes = np.histogram(known.r_heldout[kind.of], edges)[0]
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=genes,
            width=BIN_R,
            name=kind.name,
            marker={
                "color": kind.color,
                "pattern": {"shape": kind.pattern, "size": 5},
                "line": {"width": 0.5, "color": "rgba(255,255,255,0.6)"},
            },
            customdata=np.column_stack([edges[:-1], edges[1:]]),
            hovertemplate="%{y:,} genes "
            + kind.name
            + "<br>r %{customdata[0]:.2f} to %{customdata[1]:.2f}<extra></extra>",
        )
    figure.add_vline(x=USEFUL_R, line={"dash": "dot", "width": 1.5, "color": "grey"})
    plain(figure, 300)
    figure.update_layout(
        barmode="stack",
        bargap=0,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    )
    figure.update_xaxes(title_text="held-out Pearson r of a gene", zeroline=False)
    figure.update_yaxes(title_text="genes", rangemode="tozero")
    return figure


class _Kind(NamedTuple):
    name: str
    of: pd.Series
    color: str
    pattern: str
