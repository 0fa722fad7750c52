"""Pictures of slides and results: Plotly figures and preview images; knows nothing of the app around them.

Figures leave the colours of text and background to whoever shows them, light or dark.
"""

from nsl.figures.maps import PALETTES, expression_map, preview
from nsl.figures.methods import correlation_distributions

__all__ = ["PALETTES", "correlation_distributions", "expression_map", "preview"]
