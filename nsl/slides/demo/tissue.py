"""The tissue of the demo slide: where everything lies, of which cells it is made, and how it is photographed.

Geometry is decided on a grid of 8 µm, tissue composed on one of 2 µm, and only cells and grain drawn at full
resolution: that keeps it to about a second.
"""

from __future__ import annotations

from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np

MPP = 1.0
"""µm per pixel of the demo slide."""
WHITE_POINT = (240.0, 236.0, 240.0)
"""RGB of empty glass, a little below sensor saturation."""
STAIN_VECTORS = ((0.706, 0.637, 0.297), (0.275, 0.840, 0.449))
"""H and E in optical density, scaled to unit length in use. H lies halfway between Ruifrok & Johnston's (2001) and
Macenko's estimate on HER2ST section C2; E between Macenko's estimates on C2 and on OpenSlide's CMU-1-Small-Region. The
eosin of R&J (0.072, 0.990, 0.105) absorbs almost no blue and would draw collagen in magenta."""

PLAN_PX, _TISSUE_PX = 8, 2  # pixels per cell of the two coarse grids
_STRIP_ROWS = 60  # rows per work item of the last stage: small enough to stay in cache
_SENSOR_SD = 1.0  # of 255, the same in R, G and B: a scanner's JPEG keeps little noise, and that in brightness

# Centre, half axes and wall thickness in fractions of the side, turn in radians.
_Place = namedtuple("_Place", "x y a b turn wall", defaults=[0.0])
_COMEDO, _CRIBRIFORM = _Place(0.375, 0.285, 0.060, 0.052, 0.4), _Place(0.560, 0.365, 0.060, 0.047, -0.5)
_DUCTS = (
    _Place(0.250, 0.345, 0.038, 0.018, -0.9, 0.0075),
    _Place(0.610, 0.590, 0.075, 0.020, -0.7, 0.0080),
    _Place(0.475, 0.205, 0.026, 0.016, 0.2, 0.0075),
)
_LOBULE, _ACINI = _Place(0.640, 0.235, 0.060, 0.050, 0.0, 0.0050), 22
_VESSELS = (_Place(0.545, 0.745, 0.032, 0.026, 0.6, 0.0105), _Place(0.610, 0.815, 0.036, 0.012, -0.5, 0.003))
_LYMPHOID = ((0.480, 0.530, 0.040), (0.225, 0.460, 0.022), (0.460, 0.800, 0.022))
_AGGREGATES = tuple(_Place(x, y, 1.3 * r, r, 0.7) for x, y, r in _LYMPHOID)
_TUMOUR = _Place(0.325, 0.655, 0.270, 0.200, 0.25)
# Trimmed edges of the block: direction of each outward normal (radians), distance from the centre.
_CUTS = ((3.25, 0.405), (4.30, 0.375), (5.35, 0.395), (0.25, 0.415), (1.40, 0.365), (2.30, 0.420))

# Spacing and half axes in µm, their log spread, concentration, pallor of the centre.
_Kind = namedtuple("_Kind", "spacing long short spread stain pallor")
_TUMOUR_CELL = _Kind(10.3, 5.4, 4.3, 0.17, 1.45, 0.38)
_EPITHELIAL = _Kind(7.5, 4.4, 3.1, 0.12, 1.60, 0.20)
_SPINDLE = _Kind(14.0, 6.3, 1.7, 0.28, 1.40, 0.00)
_LYMPHOCYTE = _Kind(6.8, 3.2, 2.9, 0.10, 1.90, 0.10)
_DEBRIS = _Kind(6.0, 1.6, 1.2, 0.35, 1.10, 0.00)
_RED_CELL = _Kind(6.3, 3.5, 3.2, 0.08, 0.80, 0.25)


def _resize(field: np.ndarray, side: int, box: tuple[float, ...] | None = None) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC, box=box))


def _step(depth: np.ndarray, width: float) -> np.ndarray:
    """0 where `depth` (µm) is outside, 1 inside, with a ramp `width` µm wide between: an edge without stairs."""
    return np.clip(depth / np.float32(width) + np.float32(0.5), 0, 1)


def _noise(rng: np.random.Generator, n: int, feature: float) -> np.ndarray:
    """(n, n) smooth isotropic noise of unit variance, features about `feature` cells across."""
    from scipy.ndimage import gaussian_filter

    step = max(feature / 7, 1.0)
    sigma = feature / step / 4.5
    lattice = rng.standard_normal((int(n / step) + 8,) * 2, dtype=np.float32)
    smooth = gaussian_filter(lattice, sigma, truncate=2.5) * np.float32(max(2 * sigma * np.sqrt(np.pi), 1))
    return _resize(smooth, n, box=(3, 3, 3 + n / step, 3 + n / step))


def _depth(x: np.ndarray, y: np.ndarray, *places: _Place, inset: bool = False) -> np.ndarray:
    """How deep (x, y) lies in the nearest of some ellipses, negative outside; with `inset`, inside their walls."""
    best = np.full(x.shape, -1, np.float32)
    for p in places:
        cos, sin, dx, dy = np.cos(p.turn), np.sin(p.turn), x - p.x, y - p.y
        radius = np.hypot((dx * cos + dy * sin) / p.a, (dy * cos - dx * sin) / p.b)
        np.maximum(best, (1 - radius) * p.b - inset * p.wall, out=best)
    return best


def _plan(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Where everything lies: (n, n) float32 depths in µm on the 8 µm grid, positive inside."""
    side, p = n * PLAN_PX * MPP, SimpleNamespace()
    features_um = (700, 600, 420, 380, 260, 220, 130, 90, 75, 60, 50)
    broad, broad2, p.loose, strand, bend, bend2, coarse, p.curl, pore, fine, gland = (
        _noise(rng, n, um / (PLAN_PX * MPP)) for um in features_um
    )
    row, col = np.mgrid[:n, :n].astype(np.float32) / n
    x = col + (30 * broad + 14 * bend + 5 * p.curl) / 3000
    y = row + (30 * broad2 + 14 * bend2 - 5 * p.curl) / 3000
    acini = [
        _Place(_LOBULE.x + _LOBULE.a * r * np.cos(t), _LOBULE.y + _LOBULE.b * r * np.sin(t), k * b, b, t, _LOBULE.wall)
        for r, t, k, b in rng.uniform((0.1, 0, 1, 0.0075), (1, 6.28, 1.8, 0.012), (_ACINI, 4))
    ]
    comedo = side * _depth(x, y, _COMEDO)
    p.in_situ, p.ducts = side * _depth(x, y, _COMEDO, _CRIBRIFORM), side * _depth(x, y, *_DUCTS, *acini)
    p.vessel, p.blood = side * _depth(x, y, *_VESSELS), side * _depth(x, y, *_VESSELS, inset=True) + 2 * p.curl
    p.debris = comedo - 75 + 6 * p.curl
    solid = np.maximum(np.maximum(p.ducts, p.in_situ), p.vessel)
    p.aggregate = side * _depth(x, y, *_AGGREGATES) + 12 * p.curl + 10 * bend
    p.tumour = side * _depth(x, y, _TUMOUR) + 30 * bend2
    nest = 24 * coarse + 9 * fine + 0.25 * np.minimum(p.tumour, 60) - 18
    p.nest = np.minimum(nest, np.minimum(-np.maximum(solid, p.aggregate) - 15, p.tumour + 30))
    pores = np.where(comedo > 50, -99, np.minimum(20 * pore - 14, p.in_situ - 20))
    pores = np.maximum(pores, np.minimum(12 * gland - 19, p.nest - 13))
    p.lumen = np.maximum(side * _depth(x, y, *_DUCTS, *acini, inset=True) + 3 * p.curl, pores)
    fat = side * (0.95 * (x - 0.70) + 0.25 * (y - 0.5)) + 40 * bend
    p.fat = np.minimum(np.minimum(fat, 150 * np.abs(strand) - 15), -solid - 45)
    cuts = [np.exp(((x - 0.5) * np.cos(t) + (y - 0.5) * np.sin(t) - d) / 0.012) for t, d in _CUTS]
    p.section = -0.012 * side * np.log(sum(cuts)) + 4 * p.curl
    p.thickness = 1 + 0.07 * broad + 0.04 * bend
    # Contours of psi are the collagen fibres: slanted, bent, and wrapped around ducts, vessels and nests.
    p.along = side * (0.8 * col + 0.6 * row) + 60 * broad2
    p.psi = side * (0.8 * row - 0.6 * col) + 85 * broad + 20 * bend + 2.5 * p.curl - 1.5 * np.maximum(solid, 0)
    p.psi += 90 * np.exp(np.minimum(solid, 0) / 60) + 25 * np.exp(np.minimum(p.nest, 0) / 25)
    return {name: field.astype(np.float32) for name, field in vars(p).items()}


def _vacuoles(rng: np.random.Generator, fat: np.ndarray) -> np.ndarray:
    """(n, n) depth in µm into the fat cell at each point of the 2 µm grid, at least -12: rounded Voronoi cells."""
    from scipy.spatial import cKDTree

    n, cell, spacing, corner = len(fat), _TISSUE_PX * MPP, 72.0, 6.0
    row, col = np.mgrid[: int(n * cell / spacing) + 3, : int(n * cell / spacing) + 3]
    centres = np.stack([col + 0.5 * (row % 2) - 1, row - 1], -1).reshape(-1, 2) * spacing
    centres = (centres + rng.uniform(-30, 30, centres.shape))[rng.random(len(centres)) > 0.16]
    at = np.clip(centres / cell, 0, n - 1).astype(int)
    full = fat[at[:, 1], at[:, 0]] + rng.normal(0, 20, len(centres)) > 0
    inside = np.argwhere(fat[::2, ::2] > -150)
    sway = np.stack([_noise(rng, n // 2, 18), _noise(rng, n // 2, 18)], -1)
    points = (inside[:, ::-1] * 2 + 1) * cell + 5 * sway[inside[:, 0], inside[:, 1]]
    distance, nearest = cKDTree(centres).query(points, k=4, workers=2)
    gap = np.linalg.norm(centres[nearest[:, 1:]] - centres[nearest[:, :1]], axis=-1)
    edges = (distance[:, 1:] ** 2 - distance[:, :1] ** 2) / (2 * gap)
    within = -corner * np.log(np.exp(-edges / corner).sum(1))
    beyond = -np.where(full[nearest[:, 1:]], edges, 12).min(1)
    depth = np.full(sway.shape[:2], -12, np.float32)
    depth[inside[:, 0], inside[:, 1]] = np.maximum(np.where(full[nearest[:, 0]], within, beyond), -12)
    return _resize(depth, n)


def _fibres(rng: np.random.Generator, psi: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit-variance noises drawn out along the contours of psi: fibrils about 4 µm wide, bundles about 15."""
    from scipy.ndimage import map_coordinates

    lattice = np.pad(rng.standard_normal((128, 128), dtype=np.float32), 2, mode="wrap")
    texture = _resize(lattice, 512, box=(2, 2, 130, 130)) * np.float32(1.4)

    def sample(scale: tuple[float, float]) -> np.ndarray:
        at = np.stack([psi * np.float32(scale[0]), along * np.float32(scale[1])])
        return map_coordinates(texture, at, order=1, mode="grid-wrap")

    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(sample, ((1.1, 0.15), (0.35, 0.085))))


def compose(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray, SimpleNamespace]:
    """Hematoxylin and eosin of everything but cells on the 2 µm grid, and the depths that cells are placed by."""
    n, plan = side // _TISSUE_PX, _plan(rng, side // PLAN_PX)
    with ThreadPoolExecutor(2) as pool:
        fields = pool.map(lambda field: _resize(field, n), plan.values())
    at = SimpleNamespace(**dict(zip(plan, fields, strict=True)))
    rough, grain = _noise(rng, n, 12), _noise(rng, n, 3.5)
    at.vacuole = vacuole = _vacuoles(rng, at.fat)
    at.nest = at.nest + 1.5 * rough
    loose, solid = at.loose, np.maximum(np.maximum(at.ducts, at.in_situ), at.vessel)
    crimp = 3 * np.sin(at.along / 7.5 + 1.5 * at.curl)
    fibril, bundle = _fibres(rng, at.psi + crimp, at.along)
    # Bundles part into clefts where collagen is loose, seldom beside ducts, in the tumour's own stroma or in fat.
    firm = np.exp(np.minimum(solid, 0) / 25) + 0.6 * _step(at.tumour, 100) + 1.5 * _step(vacuole + 11, 2)
    body = _step(bundle + 0.45 * fibril + 1.1 - 0.45 * loose + 0.8 * firm, 0.9)
    e = body * (0.36 + 0.06 * bundle + 0.06 * fibril - 0.07 * loose + 0.02 * grain) + 0.04
    h = body * (0.07 + 0.02 * loose) + 0.01

    def lay(cover: np.ndarray, eosin: np.ndarray | float, hematoxylin: np.ndarray | float) -> None:
        e[:] += cover * (eosin - e)
        h[:] += cover * (hematoxylin - h)

    cytoplasm = 1 + 0.12 * grain
    lay(0.8 * _step(at.aggregate, 30), 0.16, 0.20)
    e *= 1 - 0.7 * _step(loose, 0.8) * _step(at.nest + 5, 5)  # shrinkage opens clefts around nests
    lay(_step(np.maximum(at.nest, at.in_situ), 3), 0.34 * cytoplasm, 0.28 * cytoplasm)
    lay(_step(at.ducts, 3), 0.36 * cytoplasm, 0.34 * cytoplasm)
    lay(_step(at.debris, 14), 0.46 + 0.05 * grain + 0.05 * rough, 0.12 + 0.03 * grain)
    lay(_step(at.vessel, 4), 0.50 + 0.05 * fibril + 0.25 * np.exp(-(((at.blood + 2) / 2) ** 2)), 0.14)
    empty = np.maximum(_step(np.maximum(at.lumen + 2 * rough, at.blood), 3), _step(vacuole - 1.6, 2.5))
    lay(empty, 0.015, 0.005)
    section = _step(at.section + 4 * rough, 4)
    at.room, at.body = section * (1 - empty), body
    section *= at.thickness
    return np.maximum(h * section, 0), np.maximum(e * section, 0), at


def _scatter(rng: np.random.Generator, kind: _Kind, chance: np.ndarray, guide: np.ndarray | None = None) -> np.ndarray:
    """Cells on a jittered hexagonal lattice, kept with the `chance` found there; long axes follow contours of `guide`.

    Both maps are on the 2 µm grid. Returns (7, cells): x, y, half axes long and short in pixels, turn in radians,
    concentration, pallor.
    """
    n, step = len(chance), kind.spacing / (_TISSUE_PX * MPP)
    row, col = np.mgrid[: int(n / step / 0.87), : int(n / step)]
    at = np.stack([col + 0.5 * (row % 2), 0.87 * row]).reshape(2, -1) + rng.uniform(-0.42, 0.42, (2, row.size))
    x, y = at * step
    i, j = (np.clip(v.astype(int), 2, n - 3) for v in (y, x))
    keep = rng.random(x.size) < chance[i, j]
    x, y, i, j = x[keep], y[keep], i[keep], j[keep]
    if guide is None:
        turn = rng.uniform(0, np.pi, x.size)
    else:
        uphill = np.arctan2(guide[i + 2, j] - guide[i - 2, j], guide[i, j + 2] - guide[i, j - 2])
        turn = uphill + np.pi / 2 + rng.normal(0, 0.15, x.size)
    size = np.array([[kind.long / MPP], [kind.short / MPP], [kind.stain]])
    long, short, stain = size * np.exp(kind.spread * np.clip(rng.normal(size=(3, x.size)), -2.3, 2.3))
    return np.stack([x * _TISSUE_PX, y * _TISSUE_PX, long, short, turn, stain, np.full(x.size, kind.pallor)])


def _push_apart(cells: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Move overlapping nuclei away from each other, half the overlap a round: crowded, seldom on top of each other."""
    from scipy.spatial import cKDTree

    at, radius = cells[:2].copy(), 0.92 * np.sqrt(cells[2] * cells[3])
    for _ in range(rounds):
        a, b = cKDTree(at.T).query_pairs(2 * np.percentile(radius, 98), output_type="ndarray").T
        apart = at[:, b] - at[:, a]
        distance = np.maximum(np.hypot(*apart), 0.1)
        push = apart * np.maximum(radius[a] + radius[b] - distance, 0) / (2 * distance)
        for line, shift in zip(at, push, strict=True):
            line += np.bincount(b, shift, line.size) - np.bincount(a, shift, line.size)
    return np.concatenate([at, cells[2:]])


def populate(rng: np.random.Generator, at: SimpleNamespace) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei and red cells of a composed section, each as `_scatter` returns them."""
    room, inflamed, in_fat = at.room, _step(at.aggregate, 30), at.vacuole > -8
    viable = room * (1 - _step(at.debris, 8))
    carcinoma, walls = np.maximum(at.nest, at.in_situ), np.maximum(at.ducts, at.vessel)
    stroma = room * (1 - _step(np.maximum(carcinoma, at.ducts), 4))
    crowding = at.body * (0.28 + 0.06 * at.loose + 0.3 * np.exp(-np.abs(walls) / 20))
    strays = 0.05 * _step(at.tumour + 60, 120) * (at.loose > 0.2)
    columnar = _scatter(rng, _EPITHELIAL, room * _step(at.ducts - 4, 5), at.ducts)
    columnar[4] += np.pi / 2  # they stand across the wall
    spindle_chance = stroma * (1 - inflamed) * np.where(in_fat, 0.25, crowding)
    nuclei = [
        columnar,
        _scatter(rng, _TUMOUR_CELL, 0.95 * viable * _step(carcinoma - 4, 5)),
        _scatter(rng, _SPINDLE, spindle_chance, np.where(in_fat, at.vacuole, at.psi)),
        _scatter(rng, _LYMPHOCYTE, stroma * (0.95 * inflamed + strays)),
        _scatter(rng, _DEBRIS, 0.15 * _step(at.debris, 8)),
    ]
    bleeding = 0.3 * np.exp(-(((at.vessel + 25) / 18) ** 2)) * (at.loose > 0) * room
    red = _scatter(rng, _RED_CELL, 0.85 * _step(at.blood - 3, 3) * (at.curl > -0.6) + bleeding)
    return _push_apart(np.concatenate(nuclei, axis=1)), red


def draw(canvas: np.ndarray, cells: np.ndarray, reach: int) -> None:
    """Lay cells on `canvas` in place, the darker winning: soft-edged, slightly lobed, no wider than 2·reach + 1."""
    side, flat, offset = len(canvas), canvas.reshape(-1), np.arange(-reach, reach + 1)
    cells = cells[:, (cells[:2].min(0) > reach + 1) & (cells[:2].max(0) < side - reach - 2)]

    def patches(start: int) -> tuple[np.ndarray, np.ndarray]:
        x, y, long, short, turn, stain, pallor = cells[:, start : start + 400, None, None].astype(np.float32)
        col, row = np.rint(x).astype(np.int64) + offset, np.rint(y).astype(np.int64) + offset[:, None]
        dx, dy = (col - x).astype(np.float32), (row - y).astype(np.float32)
        u = dx * (np.cos(turn) / long) + dy * (np.sin(turn) / long)
        v = dy * (np.cos(turn) / short) - dx * (np.sin(turn) / short)
        square = u * u + v * v
        lobed = np.sqrt(square) + 0.12 * np.sin(7 * x + 3 * y) * u * (u * u - 3 * v * v) / (square + 0.3)
        cover = np.clip((1 - lobed) * (short / 1.8) + 0.5, 0, 1)
        value = stain * cover * (1 - pallor * np.maximum(1 - square, 0))
        return (row * side + col).ravel(), value.ravel()

    with ThreadPoolExecutor(2) as pool:
        for index, value in pool.map(patches, range(0, cells.shape[1], 400)):
            np.maximum.at(flat, index, value)


def expose(
    rng: np.random.Generator, h: np.ndarray, e: np.ndarray, chromatin: np.ndarray, red: np.ndarray, stains: np.ndarray
) -> np.ndarray:
    """Photograph the section: (side, side, 3) uint8; `chromatin` and `red` become the final concentrations, in place.

    `h` and `e` are on the 2 µm grid; strip by strip they are enlarged, grained and joined by the cells.
    """
    from PIL import Image

    side = len(chromatin)
    image = np.empty((side, side, 3), np.uint8)
    sheets = [Image.fromarray(f) for f in (h, e, rng.standard_normal(h.shape, dtype=np.float32))]
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    lamp_x, lamp_y = 1.002 - 0.006 * (ramp - 0.2) ** 2, 1.002 - 0.006 * (ramp + 0.3) ** 2

    def strip(top: int, rng: np.random.Generator) -> None:
        rows = slice(top, min(top + _STRIP_ROWS, side))
        size, box = (side, rows.stop - top), (0, top / _TISSUE_PX, len(h), rows.stop / _TISSUE_PX)
        soft_h, soft_e, grain = (np.asarray(s.resize(size, Image.Resampling.BICUBIC, box=box)) for s in sheets)
        nuclei = chromatin[rows].copy()
        hema, eosin = chromatin[rows], red[rows]
        hema[:] = np.maximum(np.maximum(soft_h * (1 + 0.08 * grain), nuclei * (1 + 0.15 * grain)), 0)
        eosin[:] = np.maximum(soft_e * (1 + 0.05 * grain) * (1 - 0.25 * np.minimum(nuclei, 1)), eosin)
        lamp = lamp_y[rows, None] * lamp_x
        noise = np.float32(_SENSOR_SD) * rng.standard_normal(hema.shape, dtype=np.float32) - 1
        for c, white in enumerate(WHITE_POINT):
            sensed = np.exp(-stains[0, c] * hema - stains[1, c] * eosin) * lamp * np.float32(white + 1)
            image[rows, :, c] = np.clip(np.rint(sensed + noise), 0, 255)

    tops = range(0, side, _STRIP_ROWS)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(strip, tops, rng.spawn(len(tops))))
    return image
