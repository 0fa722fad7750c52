"""Small pictures of many maps, on one colour scale: plain images, which a page shows by the dozen."""

import anndata
import numpy as np
from PIL import Image
from plotly.colors import get_colorscale, hex_to_rgb

from nsl.result import Provenance, SlidePicture, map_of

SIDE_PX = 320
"""Of a thumbnail's longer side."""
_BAR_PX = (240, 12)


def map_thumbnail(
    result: anndata.AnnData,
    gene: str,
    limits: tuple[float, float],
    palette: str,
    opacity: float,
    side_px: int = SIDE_PX,
) -> np.ndarray:
    """The slide's picture with a gene's tiles over it, uint8 RGB, its longer side at most `side_px`.

    Colour scale and opacity are those of `nsl.figures.maps.expression_map`; tiles that overlap are drawn as wide as the
    step between them.
    """
    picture, known = SlidePicture.of(result), Provenance.of(result)
    small = Image.fromarray(picture.rgb)
    small.thumbnail((side_px, side_px))
    drawn = np.asarray(small).astype(float)
    px_per_um = drawn.shape[1] / picture.size_um[0]
    half = min(known.tile_um, known.stride_um) / 2
    centers = result.obs[["x_um", "y_um"]].to_numpy(float)
    low, high = (np.rint((centers + side) * px_per_um).astype(int) for side in (-half, half))
    for (x0, y0), (x1, y1), color in zip(low, high, _colors(map_of(result, gene), limits, palette), strict=True):
        # A tile of a large slide is less than a pixel, and is still one.
        part = drawn[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        part += opacity * (color - part)
    return np.rint(drawn).astype(np.uint8)


def with_small_picture(result: anndata.AnnData, side_px: int = SIDE_PX) -> anndata.AnnData:
    """The result with a picture of its slide that is no larger than a thumbnail needs; it is changed in place."""
    picture = SlidePicture.of(result)
    small = Image.fromarray(picture.rgb)
    small.thumbnail((side_px, side_px))
    ratio = small.width / picture.rgb.shape[1]
    spot_px = Provenance.of(result).tile_um / Provenance.of(result).mpp
    result.uns["spatial"] = SlidePicture(np.asarray(small), picture.scale * ratio, picture.mpp / ratio).as_uns(spot_px)
    return result


def scale_bar(palette: str) -> np.ndarray:
    """The colour scale from its low to its high end, uint8 RGB."""
    width, height = _BAR_PX
    colors = _colors(np.linspace(0, 1, width), (0, 1), palette)
    return np.rint(np.repeat(colors[None], height, axis=0)).astype(np.uint8)


def _colors(values: np.ndarray, limits: tuple[float, float], palette: str) -> np.ndarray:
    """(N, 3) RGB from 0 to 255; beyond the limits the end colours are kept."""
    places, colors = zip(*get_colorscale(palette), strict=True)
    rgb = np.array([hex_to_rgb(color) for color in colors], float)
    share = np.clip((np.asarray(values, float) - limits[0]) / (limits[1] - limits[0]), 0, 1)
    return np.column_stack([np.interp(share, places, channel) for channel in rgb.T])
