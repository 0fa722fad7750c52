"""What methods reach where they are compared, as a Plotly figure."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nsl.figures.style import literal

_OURS_COLOR, _OTHER_COLOR = "#7b3294", "#7f8c8d"


def correlation_distributions(correlations: pd.DataFrame) -> go.Figure:
    """Held-out r over genes, a box a method and a panel a setting.

    correlations has columns setting, method, gene and pearson_r; groups left out are averaged gene by gene.
    """
    settings, methods = (list(dict.fromkeys(correlations[column])) for column in ("setting", "method"))
    titles = [literal(setting) for setting in settings]  # some name a patient
    figure = make_subplots(rows=len(settings), cols=1, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=titles)
    mean = correlations.groupby(["setting", "method", "gene"], sort=False).pearson_r.mean()
    for row, setting in enumerate(settings, start=1):
        for method in reversed(methods):
            r = mean.loc[setting, method]
            figure.add_box(
                x=r,
                name=method,
                boxpoints="outliers",
                text=[literal(gene) for gene in r.index],
                hovertemplate="%{text}: r %{x:.2f}<extra>%{y}</extra>",
                marker_color=_OURS_COLOR if method.startswith("NSL") else _OTHER_COLOR,
                showlegend=False,
                row=row,
                col=1,
            )
        figure.add_vline(x=0, line_width=1, line_color="grey", row=row, col=1)
    figure.update_xaxes(title_text="held-out Pearson r of a gene, mean over the groups left out", row=len(settings))
    figure.update_layout(template="plotly_white", height=120 + 34 * len(methods) * len(settings), margin_l=230)
    return figure
