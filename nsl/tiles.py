"""The tile grid over a slide, how much of each tile is tissue, and reading tiles in strips."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.ndimage import binary_closing

from nsl.errors import ScaleError, SlideError
from nsl.slides.slide import Slide
from nsl.stains import TISSUE_OD, od_table
from nsl.system.parallel import kernel, over_rows, read_only

MIN_TISSUE = 0.3
"""Share of a tile from which it counts as tissue, unless another is asked for."""
USUAL_STEP = 0.5
"""Step between tiles that the app and the command line propose, in tile sides: a finer map than tiles side by side."""
# A map of so many tiles is finer than any screen; more are a slip of units, and would fill the memory.
MAX_TILES = 5_000_000
# A tissue pixel takes at least this share of the light, on average over red, green and blue: all of its optical density
# in one of them. Less by a third, for what a white point is off by.
_LEAST_LOSS = (1 - math.exp(-3 * TISSUE_OD)) / 3 / 1.5
# Read at once, at the analysis resolution: bounds memory on whole slides and lets progress move.
_STRIP_PIXELS = 2_000_000
# Of a small slide, for progress; each costs another reading of the rows that neighbours share, and a pause of threads.
_LEAST_STRIPS = 5
# Of a stretch without tissue that is not read: a shorter one spares no tile of a file.
_LEAST_GAP_PIXELS = 256
# Of a length in floats: 700 px of 0.7 µm fall a hair short of 490 µm.
_SLACK = 1e-6


@dataclass(frozen=True)
class TileGrid:
    """Square tiles on a slide, in reading order; only whole tiles, so the last strip may stay bare."""

    tile_um: float
    stride_um: float
    mpp: float
    """µm per level-0 pixel of the slide."""
    array_row: np.ndarray
    """(T,) int, row of each tile in the grid."""
    array_col: np.ndarray
    """(T,) int, column of each tile in the grid."""

    def __len__(self) -> int:
        return len(self.array_row)

    def __getitem__(self, keep: np.ndarray) -> "TileGrid":
        """The tiles picked by a boolean mask, an index array or a slice."""
        return TileGrid(self.tile_um, self.stride_um, self.mpp, self.array_row[keep], self.array_col[keep])

    @property
    def centers_um(self) -> np.ndarray:
        """(T, 2) float64 x, y of the tile centres in µm from the slide's top left."""
        corner = np.stack([self.array_col, self.array_row], axis=1) * self.stride_um
        return corner + self.tile_um / 2

    @property
    def centers_px(self) -> np.ndarray:
        """(T, 2) float64 x, y of the tile centres in level-0 pixels."""
        return self.centers_um / self.mpp


def tile_grid(slide: Slide, tile_um: float, stride_um: float | None = None) -> TileGrid:
    """Tiles of `tile_um` every `stride_um` (side by side if not given) that fit wholly on the slide.

    Raises ScaleError: the slide's µm/px is unknown, or a length is not a positive number of µm.
    Raises SlideError: the slide is smaller than one tile, or the step makes more than five million tiles.
    """
    return grid_over(slide.size, slide.require_mpp(), tile_um, stride_um)


def grid_over(size: tuple[int, int], mpp: float, tile_um: float, stride_um: float | None = None) -> TileGrid:
    """The grid of `tile_grid` for a slide of `size` (width, height) pixels of `mpp` µm."""
    stride_um = tile_um if stride_um is None else stride_um
    for name, length in (("tile", tile_um), ("step between tiles", stride_um)):
        if not (math.isfinite(length) and length > 0):
            raise ScaleError(f"the {name} must be a positive number of µm, got {length:g}; 150 is usual")
    width_um, height_um = (side * mpp for side in size)
    if min(width_um, height_um) < tile_um * (1 - _SLACK):
        raise SlideError(
            f"the image is {width_um:,.0f} × {height_um:,.0f} µm, smaller than one tile of {tile_um:,g} µm; "
            "check its µm/px or ask for smaller tiles"
        )
    # The shortest steps make more tiles than a float can count.
    columns, rows = (
        1 + math.floor(min((side - tile_um) / stride_um, MAX_TILES) + _SLACK) for side in (width_um, height_um)
    )
    if rows * columns > MAX_TILES:
        raise SlideError(
            f"a step of {stride_um:g} µm makes more than {MAX_TILES:,} tiles of this slide; ask for a longer step"
        )
    row, column = np.divmod(np.arange(rows * columns), columns)
    return TileGrid(float(tile_um), float(stride_um), mpp, row, column)


def pixel_bounds(centers_px: np.ndarray, window_um: float, slide_mpp: float, image_mpp: float) -> np.ndarray:
    """Pixels of a slide's image whose centres lie in square windows.

    centers_px : (T, 2) x, y of the window centres in level-0 pixels.
    window_um : side of the windows.
    slide_mpp, image_mpp : µm/px of level 0 and of the image the bounds are for.

    Returns (T, 4) int64 x0, y0, x1, y1, half open. Adjoining windows share no pixel and leave none out. Bounds of a
    window that reaches over the edge reach over it too.
    """
    center = np.asarray(centers_px, float) * slide_mpp / image_mpp
    half = window_um / image_mpp / 2
    # Rounding to a billionth keeps windows that share an edge from disagreeing about it.
    low, high = (np.ceil(np.round(edge - 0.5, 9)) for edge in (center - half, center + half))
    return np.concatenate([low, high], axis=1).astype(np.int64)


def covered_by(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) bool, whether a place lies in any of the boxes (N, 4) x0, y0, x1, y1, half open."""
    covered = np.zeros((height, width), bool)
    _cover(read_only(np.clip(boxes, 0, [width, height] * 2)), covered)
    return covered


@kernel
def _cover(boxes, covered):
    for x0, y0, x1, y1 in boxes:
        for y in range(y0, y1):
            covered[y, x0:x1] = True


@dataclass(frozen=True)
class Blocks:
    """The blocks of pixels that windows consist of, so that what several windows share is looked at once."""

    bounds: np.ndarray
    """(B, 4) int64 x0, y0, x1, y1, half open."""
    numbers: np.ndarray
    """(rows, columns) int64: which block lies there; -1 for one in no window."""
    spans: np.ndarray
    """(T, 4) int64: first column, first row, last column + 1 and last row + 1 of each window's blocks in `numbers`."""

    @classmethod
    def of(cls, windows: np.ndarray, edges: tuple[np.ndarray, np.ndarray] | None) -> Self:
        """Of windows (T, 4), as `pixel_bounds` gives them.

        edges : sorted x and sorted y of all edges of a grid's tiles, among which those of the windows are; each window
            is a block of its own if not given.
        """
        if edges is None:
            own = np.arange(len(windows))
            return cls(np.ascontiguousarray(windows), own[None], np.stack([own, own * 0, own + 1, own * 0 + 1], axis=1))
        x, y = edges
        spans = np.stack([np.searchsorted((x, y)[side % 2], windows[:, side]) for side in range(4)], axis=1)
        first = spans.min(axis=0)[:2] if len(spans) else np.zeros(2, np.int64)
        spans -= np.tile(first, 2)
        columns, rows = spans.max(axis=0, initial=0)[2:]
        covered = covered_by(spans, rows, columns)
        row, column = np.nonzero(covered)
        numbers = np.full(covered.shape, -1)
        numbers[row, column] = np.arange(len(row))
        column, row = column + first[0], row + first[1]
        return cls(np.stack([x[column], y[row], x[column + 1], y[row + 1]], axis=1), numbers, spans)


def tissue_fraction(
    image: np.ndarray, bounds: np.ndarray, white_point: np.ndarray, edges: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """Share of each window that is tissue: a mean optical density over 0.10, and not pure black padding.

    image : (H, W, 3) uint8 RGB.
    bounds : (T, 4) from `pixel_bounds`; what lies outside the image counts as not tissue.
    white_point : (3,) intensity of the background.
    edges : of the grid that the windows are tiles of (`Blocks.of`).

    Returns (T,) float32 between 0 and 1.
    """
    blocks = Blocks.of(bounds, edges)
    tissue = np.zeros((len(blocks.bounds), 1), np.int64)
    over_rows(_count_tissue, len(tissue), read_only(image), blocks.bounds, od_table(white_point), 3 * TISSUE_OD, tissue)
    fraction = np.empty(len(bounds), np.float32)
    over_rows(_add_tissue, len(bounds), np.ascontiguousarray(bounds), blocks.spans, blocks.numbers, tissue, fraction)
    return fraction


@kernel
def _count_tissue(start, stop, image, blocks, table, threshold, tissue):
    height, width = image.shape[:2]
    for block in range(start, stop):
        x0, y0, x1, y1 = blocks[block]
        found = 0
        for y in range(max(y0, 0), min(y1, height)):
            for x in range(max(x0, 0), min(x1, width)):
                r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
                if r | g | b:
                    found += table[0, r] + table[1, g] + table[2, b] > threshold
        tissue[block, 0] = found


@kernel
def _add_tissue(start, stop, bounds, spans, numbers, tissue, fraction):
    for window in range(start, stop):
        total = 0
        x0, y0, x1, y1 = spans[window]
        for y in range(y0, y1):
            for x in range(x0, x1):
                total += tissue[numbers[y, x], 0]
        x0, y0, x1, y1 = bounds[window]
        fraction[window] = total / max((x1 - x0) * (y1 - y0), 1)


def overview_tissue(grid: TileGrid, overview: np.ndarray, overview_mpp: float, white_point: np.ndarray) -> np.ndarray:
    """(T,) about what share of each tile is tissue, from a picture of the whole slide, (H, W, 3) uint8 RGB.

    A tile smaller than two of its pixels is looked at with its surroundings. white_point is (3,), of the background.
    """
    bounds = pixel_bounds(grid.centers_px, max(grid.tile_um, 2 * overview_mpp), grid.mpp, overview_mpp)
    return tissue_fraction(overview, bounds, white_point)


def may_hold_tissue(
    grid: TileGrid, overview: np.ndarray, overview_mpp: float, white_point: np.ndarray, min_tissue: float
) -> np.ndarray:
    """(T,) whether each tile may be at least min_tissue tissue, 0 to 1; the other arguments are `overview_tissue`'s.

    So much tissue takes so much of the light, however small its pieces: what an overview shows too. Where it shows less
    in a tile and the pixels around it, the tile need not be read.
    """
    shares = (1 - np.arange(1, 257) / (np.asarray(white_point)[:, None] + 1)) / 3
    loss = np.empty(overview.shape[:2], np.float32)
    over_rows(_tell_loss, len(loss), read_only(overview), shares, loss)
    summed = summed_from_corner(loss, np.float64)
    bounds = pixel_bounds(grid.centers_px, grid.tile_um, grid.mpp, overview_mpp) + np.array([-1, -1, 1, 1])
    return box_sums(summed, bounds) >= _LEAST_LOSS * min_tissue * (grid.tile_um / overview_mpp) ** 2


def summed_from_corner(picture: np.ndarray, dtype: type[np.number]) -> np.ndarray:
    """(H + 1, W + 1), at every corner of a pixel of (H, W) the sum of all that lies above and to the left of it.

    dtype : of the sums.
    """
    height, width = picture.shape
    summed = np.zeros((height + 1, width + 1), dtype)
    over_rows(_sum_right, height, read_only(picture), summed)
    over_rows(_sum_down, width + 1, summed)
    return summed


def box_sums(summed: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """(T,) sums over boxes of a picture, from its `summed_from_corner`; what lies outside it takes no part.

    bounds : (T, 4) int, left, top, right and bottom in its pixels.
    """
    height, width = summed.shape
    x0, y0, x1, y1 = np.clip(bounds, 0, [width - 1, height - 1] * 2).T
    return summed[y1, x1] - summed[y0, x1] - summed[y1, x0] + summed[y0, x0]


@kernel
def _sum_right(start, stop, picture, summed):
    for y in range(start, stop):
        total = summed[y + 1, 0]
        for x in range(picture.shape[1]):
            total += picture[y, x]
            summed[y + 1, x + 1] = total


@kernel
def _sum_down(start, stop, summed):
    for y in range(1, len(summed)):
        for x in range(start, stop):
            summed[y, x] += summed[y - 1, x]


@kernel
def _tell_loss(start, stop, image, shares, loss):
    """Write what share of the light each pixel takes; black is padding."""
    for y in range(start, stop):
        for x in range(image.shape[1]):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            loss[y, x] = max(shares[0, r] + shares[1, g] + shares[2, b], 0.0) if r | g | b else 0.0


@dataclass(frozen=True)
class Strip:
    """A part of the slide at the analysis resolution, with the windows that lie in it."""

    windows: np.ndarray
    """(N,) positions among all windows."""
    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    bounds: np.ndarray
    """(N, 4) pixel bounds of the windows in the image."""
    edges: tuple[np.ndarray, np.ndarray] | None
    """x and y of all edges in the image, of a grid."""
    corner: tuple[int, int]
    """x and y of the image on the slide at the analysis resolution."""


def strips_of_tiles(slide: Slide, grid: TileGrid, wanted: np.ndarray, mpp: float) -> Iterator[Strip]:
    """Read the tiles of a complete grid that are wanted, (T,) bool, at `mpp` µm/px, in strips of whole rows.

    A strip is cut where a stretch of it holds none, which then is not read.
    """
    columns = int(grid.array_col.max()) + 1
    pixels_per_row = (columns * grid.stride_um / mpp) * (grid.stride_um / mpp)
    rows = int(grid.array_row.max()) + 1
    at_once = max(min(int(_STRIP_PIXELS / pixels_per_row), math.ceil(rows / _LEAST_STRIPS)), 1)
    bounds = pixel_bounds(grid.centers_px, grid.tile_um, slide.mpp, mpp)
    edges = np.unique(bounds[:, ::2]), np.unique(bounds[:, 1::2])
    strip = grid.array_row // at_once
    is_taken = np.zeros((strip.max() + 1, columns), bool)
    is_taken[strip[wanted], grid.array_col[wanted]] = True
    gap = math.ceil(max(grid.tile_um, _LEAST_GAP_PIXELS * mpp) / grid.stride_um)
    is_taken = binary_closing(np.pad(is_taken, ((0, 0), (gap, gap))), np.ones((1, gap + 1)))[:, gap:-gap]
    starts = np.diff(is_taken, axis=1, prepend=False) & is_taken
    numbers = starts.ravel().cumsum().reshape(starts.shape)[strip, grid.array_col]
    return _strips(slide, bounds, np.where(wanted, numbers, -1), mpp, edges)


def strips_of_spots(slide: Slide, bounds: np.ndarray, mpp: float) -> Iterator[Strip]:
    """Read windows at `mpp` µm/px in strips, from their pixel bounds (S, 4); windows off the slide are in none."""
    size = size_at(slide, mpp)
    on_slide = (bounds[:, 2:] > 0).all(axis=1) & (bounds[:, :2] < size).all(axis=1)
    if not on_slide.any():
        return iter(())
    tops = np.maximum(bounds[:, 1], 0)
    first, last = tops[on_slide].min(), tops[on_slide].max()
    rows = max(min(_STRIP_PIXELS // size[0], math.ceil((last - first + 1) / _LEAST_STRIPS)), 1)
    return _strips(slide, bounds, np.where(on_slide, (tops - first) // rows, -1), mpp)


def _strips(
    slide: Slide,
    bounds: np.ndarray,
    numbers: np.ndarray,
    mpp: float,
    edges: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterator[Strip]:
    """Read windows strip by strip, each as wide and high as its windows reach, in the order of their numbers.

    Strips start on whole pixels of the slide as a whole, so a window's pixels do not depend on the strip.

    bounds : (N, 4) pixel bounds of the windows on the whole slide at `mpp`.
    numbers : (N,) the strip each window is in; negative for none.
    edges : sorted x and sorted y of the windows' edges, where they are a grid.
    """
    scale, size = mpp / slide.mpp, size_at(slide, mpp)
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] >= 0]
    for windows in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []:
        left, top = np.maximum(bounds[windows, :2].min(axis=0), 0)
        right, bottom = np.minimum(bounds[windows, 2:].max(axis=0), size)
        region = np.array([left, top, right - left, bottom - top]) * scale
        inside = edges and (edges[0] - left, edges[1] - top)
        image = slide.read(*region, mpp)
        yield Strip(windows, image, bounds[windows] - [left, top, left, top], inside, (left, top))


def size_at(slide: Slide, mpp: float) -> tuple[int, int]:
    """Return width and height of the slide in whole pixels at `mpp`."""
    scale = mpp / slide.mpp
    width, height = (int(side / scale + 1e-6) for side in slide.size)
    return width, height
