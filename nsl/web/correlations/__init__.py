"""The Correlations page."""
