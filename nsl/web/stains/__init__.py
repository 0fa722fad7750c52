"""The Stains page."""
