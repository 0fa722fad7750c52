"""Colour profiles (ICC) of slides: what colours a scanner's numbers mean, and those colours in sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

MAX_BYTES = 2**23
"""Of a profile; those of scanners take up to 1 MB."""

# Steps of red, green and blue at which a profile is compared with sRGB, and what its rounding may come to there.
_STEPS, _SAME_LEVELS = 6, 3
_NAME_CHARACTERS = 80


class ColorProfile:
    """A profile of an image in RGB; `read` makes it."""

    name: str
    """What the profile calls itself, such as "sRGB IEC61966-2.1"."""
    is_srgb: bool
    """Whether it changes nothing that can be seen."""

    def __init__(self, profile: ImageCms.ImageCmsProfile) -> None:
        name = " ".join(ImageCms.getProfileDescription(profile).split())
        self.name = name[:_NAME_CHARACTERS] or "unnamed"
        srgb = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        self._transform = ImageCms.buildTransform(profile, srgb, "RGB", "RGB", intent)
        levels = np.linspace(0, 255, _STEPS).astype(np.uint8)
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
        self.is_srgb = bool(np.abs(self.to_srgb(colors).astype(int) - colors).max() <= _SAME_LEVELS)

    @classmethod
    def read(cls, content: bytes | None) -> ColorProfile | None:
        """The profile that a file holds; None where it holds none, or none of RGB that can be read."""
        if not content or len(content) > MAX_BYTES:
            return None
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
            return cls(profile) if profile.profile.xcolor_space.strip() == "RGB" else None
        except (ImageCms.PyCMSError, OSError, ValueError):
            return None

    def to_srgb(self, rgb: np.ndarray) -> np.ndarray:
        """The same colours in sRGB, uint8 (H, W, 3); white stays white (relative colorimetric)."""
        return np.asarray(ImageCms.applyTransform(Image.fromarray(rgb), self._transform))
