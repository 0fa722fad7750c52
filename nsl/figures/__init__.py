"""Pictures of slides and results: Plotly figures and preview images; knows nothing of the app around them.

Figures leave the colours of text and background to whoever shows them, light or dark.
"""
