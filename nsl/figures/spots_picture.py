"""Where measured spots lie on their slide, as a picture."""

import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import KDTree

from nsl.figures.style import RELIABLE_COLOR, SELECTED_COLOR

# Drawn larger and averaged down, so that edges are smooth.
_OVERSAMPLING = 2
# Of the distance between neighbours, so that they never touch.
_RADIUS = 0.3


def spots_on_slide(
    thumbnail: np.ndarray, centers_px: np.ndarray, on_tissue: np.ndarray, slide_width_px: int
) -> np.ndarray:
    """The slide with its measured spots: rings where they lie on tissue, crosses of another colour where not.

    thumbnail : (H, W, 3) uint8 RGB, and so is what is returned; slide_width_px is the slide's at level 0.
    centers_px, on_tissue : (S, 2) x, y in level-0 pixels, and (S,) bool.
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
