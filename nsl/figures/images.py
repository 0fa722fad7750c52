"""Pictures as the data URIs that figures hold them in."""

import base64
import io

import numpy as np
from PIL import Image


def png(image: np.ndarray) -> str:
    """An image (H, W, 3) or (H, W, 4) uint8, every pixel as it is."""
    return _data_uri(Image.fromarray(image), "PNG")


def jpeg(image: np.ndarray, longest_px: int | None = None) -> str:
    """A photograph (H, W, 3) uint8; longest_px is its longer side where it is to be smaller than it is."""
    picture = Image.fromarray(image)
    if longest_px:
        picture.thumbnail((longest_px, longest_px))
    return _data_uri(picture, "JPEG", quality=88)


def _data_uri(picture: Image.Image, kind: str, **options) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
