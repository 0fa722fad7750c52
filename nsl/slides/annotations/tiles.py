"""Which annotated region each tile lies in, by the share of the tile that the region covers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import shapely

from nsl.errors import AnnotationsError
from nsl.result import Provenance
from nsl.slides.annotations.region import Region

if TYPE_CHECKING:
    import anndata

LEAST_SHARE = 0.5
"""Of a tile that a region covers, for the tile to be in it."""
# Shares that differ by less are equal: areas of polygons are sums of floats.
_SLACK = 1e-6
# Boxes that are cut out of one piece of a region at once, and tiles that are looked at at once.
_BOXES, _TILES = 16, 5_000
# Of tiles and regions that meet. 500 regions of a slide seldom overlap; these would take minutes.
_MOST_MEETINGS = 20_000_000


def annotate(result: "anndata.AnnData", regions: Sequence[Region]) -> np.ndarray:
    """Give every tile of a result its region: `obs["region"]` and `obs["region_class"]`, empty where there is none.

    See `regions_of_tiles`, of which it returns what that does. A region without a class leaves the class empty.
    """
    known = Provenance.of(result)
    places = regions_of_tiles(result.obsm["spatial"], known.tile_um / known.mpp, regions)
    for column, names in (
        ("region", [region.name for region in regions]),
        ("region_class", [region.class_name for region in regions]),
    ):
        result.obs[column] = np.array([*names, ""], object)[places]
    return places


def classes_of(result: "anndata.AnnData") -> np.ndarray:
    """(T,) the class of each tile's region; where no tile has one, the region's name. Empty where there is none."""
    classes, names = (result.obs[column].to_numpy(str) for column in ("region_class", "region"))
    return classes if (classes != "").any() else names


def tiles_inside(centers_px: np.ndarray, side_px: float, regions: Sequence[Region]) -> np.ndarray:
    """Find the square tiles that lie in one of the regions, by `regions_of_tiles`: (T,) bool.

    Raises AnnotationsError: there is none.
    """
    inside = regions_of_tiles(centers_px, side_px, regions) >= 0
    if not inside.any():
        raise AnnotationsError(
            f"none of the {len(regions):,} regions covers half of a tile of {side_px:,.0f} px; draw larger regions, or "
            "ask for smaller tiles"
        )
    return inside


def regions_of_tiles(centers_px: np.ndarray, side_px: float, regions: Sequence[Region]) -> np.ndarray:
    """Find the region of each square tile: of those that cover at least half of it, the one that covers most.

    A region that lies within another goes before that one, of two that cover as much the smaller goes first, and of
    two that are equal the later.

    centers_px : (T, 2) x, y of the tiles' centres in level-0 pixels.
    side_px : how wide a tile is.

    Returns (T,) the region's place among `regions`, −1 for none.

    Raises AnnotationsError: regions overlap so much that it would take minutes.
    """
    place = np.full(len(centers_px), -1)
    if not len(regions) or not len(centers_px):
        return place
    geometries = np.array([region.geometry for region in regions])
    within = _within(geometries)
    area = shapely.area(geometries)
    meetings = 0
    for start in range(0, len(centers_px), _TILES):
        low = np.asarray(centers_px[start : start + _TILES], float) - side_px / 2
        tile, region, share = _shares(geometries, low, side_px)
        meetings += len(tile)
        if meetings > _MOST_MEETINGS:
            raise AnnotationsError("the regions overlap too much to tell which tile is in which; bring fewer of them")
        enough = share >= LEAST_SHARE - _SLACK
        tile, region, share = tile[enough], region[enough], share[enough]
        inmost = ~_holds_another(tile, region, within)
        tile, region, share = tile[inmost], region[inmost], share[inmost]
        # The last one written stays: the largest share, and of equal ones the smallest area.
        order = np.lexsort([-area[region], np.round(share / _SLACK)])
        place[start + tile[order]] = region[order]
    return place


def _within(geometries: np.ndarray) -> set[tuple[int, int]]:
    """Pairs (outer, inner) of regions of which one lies within another; of equal ones neither does."""
    tree = shapely.STRtree(geometries)
    inner, outer = tree.query(geometries, predicate="covered_by")
    pairs = set(zip(outer.tolist(), inner.tolist(), strict=True))
    return {(o, i) for o, i in pairs if (i, o) not in pairs}


def _holds_another(tile: np.ndarray, region: np.ndarray, within: set[tuple[int, int]]) -> np.ndarray:
    """(N,) bool, of pairs of a tile and a region, whether the tile is in a region within that one too."""
    holds = np.zeros(len(tile), bool)
    if not within:
        return holds
    order = np.argsort(tile, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(tile[order])) + 1):
        if len(group) > 1:
            own = region[group].tolist()
            holds[group] = [any((outer, inner) in within and inner != outer for inner in own) for outer in own]
    return holds


def _shares(geometries: np.ndarray, low: np.ndarray, side_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a tile and a region that meet, (N,) and (N,), and what share of the tile the region covers.

    low : (T, 2) the tiles' corners of least x and y.
    """
    boxes = shapely.box(*low.T, *(low + side_px).T)
    tree = shapely.STRtree(boxes)
    region, tile = tree.query(geometries, predicate="intersects")
    share = np.zeros(len(tile))
    covered = np.zeros((len(geometries), len(boxes)), bool)
    covered[tuple(tree.query(geometries, predicate="covers"))] = True
    whole = covered[region, tile]
    share[whole] = 1
    edge = np.flatnonzero(~whole)
    for group in np.split(edge, np.flatnonzero(np.diff(region[edge])) + 1):
        if len(group):
            areas = _areas(geometries[region[group[0]]], low[tile[group]], side_px)
            share[group] = areas / side_px**2
    return tile, region, share


def _areas(geometry: shapely.Geometry, low: np.ndarray, side_px: float) -> np.ndarray:
    """(N,) areas of a geometry in square boxes.

    An outline of a hundred thousand corners is halved again and again, so that no box is cut out of all of it.
    """
    if len(low) <= _BOXES:
        return shapely.area(shapely.intersection(geometry, shapely.box(*low.T, *(low + side_px).T)))
    axis = int(np.ptp(low[:, 1]) > np.ptp(low[:, 0]))
    order = np.argsort(low[:, axis], kind="stable")
    areas = np.empty(len(low))
    for half in np.array_split(order, 2):
        bounds = shapely.box(*low[half].min(axis=0), *(low[half].max(axis=0) + side_px))
        areas[half] = _areas(shapely.intersection(geometry, bounds), low[half], side_px)
    return areas
