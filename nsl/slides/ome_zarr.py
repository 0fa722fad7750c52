"""OME-Zarr folders, of a disk or over a network, through zarr."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from nsl.errors import SlideError
from nsl.slides.address import Address
from nsl.slides.declared_sizes import require_level, require_tile
from nsl.slides.ome import colour_of, colour_order, is_dye, no_colours
from nsl.slides.reader import (
    UNIT_UM,
    Reader,
    any_error_told,
    damaged,
    greyscale,
    levels_of,
    positive,
    positive_scale,
    spelled_unit,
)
from nsl.slides.sample_depth import full_scale

METADATA = ("zarr.json", ".zattrs", ".zgroup")
"""Files by which a folder is known as Zarr, of version 3 and 2."""
# Where Bio-Formats' converter puts the first image of a file.
_FIRST_SERIES = "0"
_COLORS = 3
_HEX_COLOUR = re.compile(r"[0-9A-Fa-f]{6}")


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder of Zarr."""
    try:
        return path.is_dir() and any((path / name).is_file() for name in METADATA)
    except OSError:  # of a name that no disk has
        return False


def _metadata(group: Any) -> Mapping:
    """The metadata of OME-Zarr: of 0.5 under "ome", of 0.4 at the top."""
    attributes = dict(group.attrs)
    return attributes.get("ome", attributes)


class OmeZarrReader(Reader):
    """The first image of a folder of OME-Zarr 0.4 or 0.5, in RGB, chunk by chunk."""

    format = "OME-Zarr"

    def __init__(self, path: Path | Address) -> None:
        import zarr

        from nsl.slides.zarr_store import store_of  # zarr, which takes long to import

        self._path, self.is_checked = path, isinstance(path, Path)
        with self._told(), contextlib.ExitStack() as stack:
            self._store = store_of(path)
            stack.callback(self._store.close)
            group = zarr.open_group(self._store, mode="r")
            image = self._multiscales(group)
            if image is None and _FIRST_SERIES in group:
                group = group[_FIRST_SERIES]
                image = self._multiscales(group)
            if image is None:
                raise SlideError(f"{path.name} is Zarr without an image of OME-Zarr; give the folder of one image")
            self._axes = [axis["name"] for axis in image["axes"]]
            self._arrays = [group[one["path"]] for one in image["datasets"]]
            self._check_axes()
            self._order = self._order_of(_metadata(group).get("omero"))
            self._check_sizes()
            self._store.expect_blosc(self._arrays)
            at = self._axes.index
            self.levels = levels_of([(array.shape[at("x")], array.shape[at("y")]) for array in self._arrays])
            self.scale = self._stated_scale(image)
            if self._arrays[0].dtype != np.uint8:
                self.altered += (
                    f"{path.name} holds {self._arrays[0].dtype} values; 0 to {self._peak:.7g} became 0 to 255.",
                )
            stack.pop_all()

    def _told(self) -> AbstractContextManager[None]:
        return any_error_told(self._path.name) if isinstance(self._path, Path) else self._path.told()

    @staticmethod
    def _multiscales(group: Any) -> Mapping | None:
        """What the metadata says of the first image."""
        return next(iter(_metadata(group).get("multiscales", ())), None)

    def _check_axes(self) -> None:
        sides = dict(zip(self._axes, self._arrays[0].shape, strict=True))
        images = math.prod(length for axis, length in sides.items() if axis not in "xyc")
        if not {"x", "y"} <= set(sides) or images != 1:
            raise SlideError(
                f"{self._path.name} holds {images:,} images (axes {self._axes}); export one of them as RGB"
            )
        if sides.get("c", 1) == 1:
            raise greyscale(self._path.name)
        if sides["c"] != _COLORS:
            raise SlideError(
                f"{self._path.name} has {sides['c']} channels; the model reads the colour of H&E: export it as RGB"
            )

    def _order_of(self, shown: Any) -> list[int]:
        """Which channels are red, green and blue, by how the image is to be shown; which it need not say."""
        channels = shown.get("channels") if isinstance(shown, Mapping) else None
        if not isinstance(channels, list) or not all(isinstance(channel, Mapping) for channel in channels):
            return [0, 1, 2]
        names = [str(channel.get("label") or "") for channel in channels]
        if any(map(is_dye, names)):
            raise no_colours(self._path.name, names)
        colours = [str(channel.get("color") or "") for channel in channels]
        shown_in = [int(color, 16) if _HEX_COLOUR.fullmatch(color) else 0 for color in colours]
        return colour_order(list(map(colour_of, names, shown_in)))

    def _check_sizes(self) -> None:
        at = self._axes.index
        for array in self._arrays:
            require_level(self._path.name, array.shape[at("x")], array.shape[at("y")])
            chunk = math.prod(length for axis, length in zip(self._axes, array.chunks, strict=True) if axis != "x")
            require_tile(self._path.name, array.chunks[at("x")], chunk, array.dtype.itemsize)
            if array.ndim != len(self._axes) or array.dtype.kind not in "uif":
                raise damaged(self._path.name)

    def _stated_scale(self, image: Mapping) -> tuple[float, float] | None:
        """µm/px of the finest level, where axes have a unit of length."""
        scale = {}
        for axis in ("x", "y"):
            at = self._axes.index(axis)
            steps = [
                one["scale"][at]
                for one in (
                    *image["datasets"][0].get("coordinateTransformations", ()),
                    *image.get("coordinateTransformations", ()),
                )
                if one.get("type") == "scale"
            ]
            unit = UNIT_UM.get(spelled_unit(image["axes"][at].get("unit")))
            scale[axis] = math.prod(steps) * unit if steps and unit and all(map(positive, steps)) else None
        return positive_scale(scale["x"], scale["y"]) if all(scale.values()) else None

    @functools.cached_property
    def _peak(self) -> float:
        """The value that becomes 255."""
        coarsest = np.asarray(self._arrays[-1])
        dtype, (low, high) = coarsest.dtype, (float(coarsest.min()), float(coarsest.max()))
        found = full_scale(dtype, low, high, [])
        if found is None:
            raise SlideError(f"{self._path.name} holds {dtype} values from {low:g} to {high:g}; export it as 8-bit RGB")
        return found[0]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        box = {"x": slice(x, x + width), "y": slice(y, y + height), "c": slice(None)}
        with self._told():
            pixels = self._arrays[level][tuple(box.get(axis, 0) for axis in self._axes)]
        kept = [axis for axis in self._axes if axis in box]
        pixels = np.transpose(pixels, [kept.index(axis) for axis in "yxc"])[..., self._order]
        if pixels.dtype != np.uint8:
            pixels = np.clip(np.rint(pixels * (255 / self._peak)), 0, 255)
        return np.ascontiguousarray(pixels, np.uint8)

    def other_files(self) -> list[tuple[str, Path]]:
        if not self.is_checked:
            return []
        files = (path for path in sorted(self._path.rglob("*")) if path.is_file())
        return [(path.relative_to(self._path).as_posix(), path) for path in files]

    def close(self) -> None:
        self._arrays = []
        self._store.close()
