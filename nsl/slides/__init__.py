"""Slides: any H&E image or whole-slide file, read by its colour at a resolution in µm/px."""
