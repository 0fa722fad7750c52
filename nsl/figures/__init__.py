"""Pictures of slides and results: Plotly figures and preview images; knows nothing of the app around them.

Figures leave the colours of text and background to whoever shows them, light or dark.
"""

from nsl.figures.angles import angle_plot
from nsl.figures.concentrations import concentration_figure
from nsl.figures.correlations import agreement_overview, agreement_scatter, correlation_heatmap, gene_scatter
from nsl.figures.maps import PALETTES, expression_map, preview
from nsl.figures.methods import correlation_distributions
from nsl.figures.stains import effects_bars, response_surface_figure, swatches

__all__ = [
    "PALETTES",
    "agreement_overview",
    "agreement_scatter",
    "angle_plot",
    "concentration_figure",
    "correlation_distributions",
    "correlation_heatmap",
    "effects_bars",
    "expression_map",
    "gene_scatter",
    "preview",
    "response_surface_figure",
    "swatches",
]
