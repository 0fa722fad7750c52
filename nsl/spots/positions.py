"""Whether measured spots lie on the slide that they are said to be of, and what is wrong where they do not."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from nsl.errors import SpotsError
from nsl.numerals import count_of, minus

# A scale so near 1 is no other image, but spots at the very edge.
_EDGE_SCALE = 0.95


def require_on_slide(
    centers_px: np.ndarray,
    slide_size: tuple[int, int],
    image_scales: Mapping[str, float] = MappingProxyType({}),
    *,
    of: str = "",
) -> None:
    """Raise SpotsError where a spot lies outside the slide: how many do, both extents, and the likely remedy.

    centers_px : (S, 2) x, y in level-0 pixels.
    slide_size : (width, height) of the slide in these.
    image_scales : pixels of smaller images of the slide over those of the full-resolution one, by the image's name.
    of : what the spots are of, for the sentence to begin with.
    """
    size = np.asarray(slide_size)
    outside = int((~_inside(centers_px, size)).sum())
    if outside:
        raise SpotsError(
            f"{of}{outside:,} of {count_of(len(centers_px), 'spot')} {'lies' if outside == 1 else 'lie'} outside the "
            f"slide: positions reach {extent_in_words(centers_px)}, and the slide is {size[0]:,} × {size[1]:,} px; "
            f"{_remedy(centers_px, size, image_scales)}"
        )


def _remedy(centers_px: np.ndarray, size: np.ndarray, image_scales: Mapping[str, float]) -> str:
    if (centers_px < 0).any():
        return "give positions in pixels of this very image, counted from its top left corner"
    most = float((size / centers_px.max(axis=0)).min())
    if most > _EDGE_SCALE:
        return "leave out the spots beyond the edge, or check that the positions are of this very image"
    # A smaller image of the same slide is filled as far as the slide itself is.
    known = {name: factor for name, factor in image_scales.items() if most / 4 <= factor < most}
    if known:
        name = max(known, key=known.get)
        return f"they fit if the slide is the {name} image of this section: scale the positions by {known[name]:.4g}"
    if _inside(centers_px[:, ::-1], size).all():
        return "they fit with x and y exchanged, so check which column is which"
    low, high = centers_px.min(axis=0), centers_px.max(axis=0)
    if (low > high / 2).any() and (high - low < size).all():
        return "they fit but for where they are counted from: give them from the top left corner of this very image"
    return (
        "if they are of a larger original of this image, scale them by its width over the original's, "
        f"which is {most:.3g} or less"
    )


def _inside(centers_px: np.ndarray, size: np.ndarray) -> np.ndarray:
    return ((centers_px >= 0) & (centers_px < size)).all(axis=1)


def extent_in_words(centers_px: np.ndarray) -> str:
    """From where to where positions (S, 2) in pixels reach."""
    (left, top), (right, bottom) = centers_px.min(axis=0), centers_px.max(axis=0)
    return minus(f"from x {left:,.0f} to {right:,.0f} and y {top:,.0f} to {bottom:,.0f} px")
