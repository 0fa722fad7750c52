"""Pictures as the data URIs that figures hold them in."""

import base64
import functools
import io
import weakref
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image

Made = TypeVar("Made")


def remembered(make: Callable[..., Made]) -> Callable[..., Made]:
    """`make(array, *more)`, done once for an array that nobody writes to, and forgotten with it.

    A page is drawn anew for another gene, and a slide's picture is then what it was.
    """
    made: dict[tuple, Made] = {}

    @functools.wraps(make)
    def ask(array: np.ndarray, *more) -> Made:
        key = (id(array), *more)
        if key not in made:
            made[key] = make(array, *more)
            weakref.finalize(array, made.pop, key, None).atexit = False
        return made[key]

    return ask


def png(image: np.ndarray) -> str:
    """An image (H, W, 3) or (H, W, 4) uint8, every pixel as it is."""
    return _data_uri(Image.fromarray(image), "PNG")


@remembered
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
