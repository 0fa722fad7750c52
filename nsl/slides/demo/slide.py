"""A synthetic H&E section with known stain concentrations and known expression; it belongs to no patient.

A fixed layout with random detail gives hematoxylin and eosin fields, and the Beer–Lambert law the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsl.errors import SlideError
from nsl.slides.demo.tissue import MPP, PLAN_PX, STAIN_VECTORS, WHITE_POINT, compose, draw, expose, populate

if TYPE_CHECKING:
    import pandas as pd

GENES = ("HEMA1", "HEMA2", "EOSI1", "EOSI2", "NOISE1", "NOISE2")
"""Made-up genes: two follow hematoxylin, two follow eosin, two follow nothing."""
EXPRESSION_NOISE_SD = 0.06
"""Measurement noise of the stain-driven genes, in log-normalised expression; their signal spans about 0 to 3."""

_LABEL = "Synthetic H&E section made by nsl; not from a patient"


@dataclass(frozen=True)
class DemoSlide:
    """A synthetic section and the concentrations it was made from."""

    image: np.ndarray  # (side, side, 3) uint8 RGB
    mpp: float  # µm per pixel
    white_point: np.ndarray  # (3,) mean intensity of empty glass
    stain_vectors: np.ndarray  # (2, 3) unit rows, hematoxylin and eosin, in natural-log optical density
    hematoxylin: np.ndarray  # (side, side) float32 concentration: optical density along the hematoxylin vector
    eosin: np.ndarray  # (side, side) float32, the same along the eosin vector

    def save(self, path: str | Path) -> None:
        """Write the pixels without loss to a .tif, .tiff or .png with their scale; a TIFF also says it is synthetic.

        Slide readers take µm/px from a TIFF; from a PNG few do. Raises SlideError for any other suffix.
        """
        from PIL import Image

        path, per_cm = Path(path), 10_000 / self.mpp
        tiff = {"resolution_unit": 3, "x_resolution": per_cm, "y_resolution": per_cm, "description": _LABEL}
        tiff |= {"compression": "tiff_lzw", "tiffinfo": {317: 2}}  # 317: differences of neighbours, which pack better
        png = {"compress_level": 1, "dpi": (2.54 * per_cm, 2.54 * per_cm)}
        options = {".tif": tiff, ".tiff": tiff, ".png": png}.get(path.suffix.lower())
        if options is None:
            raise SlideError(f"the demo slide cannot be written to {path.name}; use .tif, .tiff or .png")
        Image.fromarray(self.image).save(path, **options)


def demo_slide(seed: int = 7, side_px: int = 3000) -> DemoSlide:
    """A square section `side_px` wide at 1 µm/px; the same seed gives the same bytes.

    The layout scales with `side_px`, cells do not. Raises SlideError unless side_px is a multiple of 8, at least 400.
    """
    if side_px < 400 or side_px % PLAN_PX:
        raise SlideError(f"side_px is {side_px}; the demo slide needs a multiple of {PLAN_PX}, at least 400")
    rng = np.random.default_rng(seed)
    h, e, at = compose(rng, side_px)
    nuclei, red_cells = populate(rng, at)
    chromatin, red = np.zeros((2, side_px, side_px), np.float32)
    slender = nuclei[2] > 8
    draw(chromatin, nuclei[:, slender], 13)
    draw(chromatin, nuclei[:, ~slender], 10)
    draw(red, red_cells, 6)
    stains = np.array(STAIN_VECTORS) / np.linalg.norm(STAIN_VECTORS, axis=1, keepdims=True)
    image = expose(rng, h, e, chromatin, red, stains.astype(np.float32))
    return DemoSlide(image, MPP, np.array(WHITE_POINT), stains, hematoxylin=chromatin, eosin=red)


def demo_expression(slide: DemoSlide, centers_px: np.ndarray, window_um: float, seed: int = 0) -> pd.DataFrame:
    """Known log-normalised expression of GENES in square windows, with measurement noise.

    HEMA1 and HEMA2 rise with the window's mean hematoxylin, EOSI1 and EOSI2 with its mean eosin (the first of each
    linearly, the second levelling off), all with noise of EXPRESSION_NOISE_SD; NOISE1 and NOISE2 ignore the image.

    centers_px: (N, 2) window centres x, y in pixels. Returns N rows in the same order, never below 0.
    Raises SlideError where a window is empty, unplaced or leaves the image.
    """
    import pandas as pd

    centers, width = np.asarray(centers_px, dtype=float), round(window_um / slide.mpp)
    if centers.ndim != 2 or centers.shape[1] != 2 or not np.isfinite(centers).all() or width < 1:
        raise SlideError(f"windows of {window_um} µm at centres of shape {centers.shape}; give (N, 2) finite x, y")
    corner = np.rint(centers - width / 2).astype(int)
    outside = ((corner < 0) | (corner + width > np.array(slide.image.shape[1::-1]))).any(axis=1)
    if outside.any():
        x, y = centers[outside][0]
        raise SlideError(f"the {window_um:g} µm window at ({x:g}, {y:g}) px leaves the image; move it inside")
    windows = [(slice(y, y + width), slice(x, x + width)) for x, y in corner]
    h, e = (np.array([field[w].mean() for w in windows]) for field in (slide.hematoxylin, slide.eosin))
    rng = np.random.default_rng(seed)
    signal = np.stack([0.3 + 3 * h, np.log1p(10 * h), 0.3 + 5 * e, np.log1p(15 * e)], axis=1)
    noise = rng.normal(1.0, 0.3, (len(centers), 2))
    values = np.hstack([signal + rng.normal(0, EXPRESSION_NOISE_SD, signal.shape), noise])
    return pd.DataFrame(np.maximum(values, 0), columns=list(GENES))
