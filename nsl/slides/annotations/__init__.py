"""Regions that pathologists annotate: read from QuPath, written for it, and laid over tiles."""
