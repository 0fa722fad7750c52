"""How well the genes of weights held up, as a Plotly figure."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nsl.figures.style import RELIABLE_COLOR, UNRELIABLE_COLOR, plain
from nsl.weights.reliability import USEFUL_R, has_held_up

_BIN_R = 0.02


def reliability_histogram(table: pd.DataFrame, bin_r: float = _BIN_R) -> go.Figure:
    """How many genes reached which held-out r, the unreliable ones hatched.

    table is `Weights.reliability`; genes without an r are left out. A dashed line marks `USEFUL_R`. Each bar spans
    `bin_r`.
    """
    known = table[table.r_heldout.notna()]
    reliable = has_held_up(known)
    first, last = np.floor(known.r_heldout.min() / bin_r), np.floor(known.r_heldout.max() / bin_r) + 1
    edges = np.arange(first, last + 1) * bin_r if len(known) else np.array([0, bin_r])
    figure = go.Figure()
    for name, r, color, hatching in (
        ("reliable or weak", known.r_heldout[reliable], RELIABLE_COLOR, ""),
        ("unreliable", known.r_heldout[~reliable], UNRELIABLE_COLOR, "/"),
    ):
        count, _ = np.histogram(r, edges)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=count,
            width=bin_r,
            name=name,
            customdata=np.stack([edges[:-1], edges[1:]], axis=1),
            marker={"color": color, "line_width": 0, "pattern": {"shape": hatching, "size": 6, "solidity": 0.35}},
            hovertemplate=f"%{{y:,}} {name} genes with r<br>%{{customdata[0]:.2f}} to %{{customdata[1]:.2f}}"
            "<extra></extra>",
        )
    figure.add_vline(
        x=USEFUL_R,
        line={"dash": "dash", "width": 1, "color": "grey"},
        # Below the legend, which is above the panel.
        annotation={"text": f"r {USEFUL_R}", "xanchor": "left", "yanchor": "top", "y": 1, "showarrow": False},
    )
    plain(figure, 300)
    figure.update_layout(
        barmode="stack",
        bargap=0,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "xanchor": "left"},
    )
    figure.update_xaxes(title_text="held-out Pearson r of a gene", zeroline=True)
    figure.update_yaxes(title_text="genes")
    return figure
