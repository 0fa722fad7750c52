"""What in a tile is no tissue to predict from: ink, pigment, folds, blur, and the black or grey around a section.

Tiles are judged from their own pixels at the analysis resolution, so that no result depends on how a slide was cut into
strips. What is measured follows HistoQC (Janowczyk et al. 2019, JCO Clin Cancer Inform 3:1) and GrandQC (Weng et al.
2024, Nat Commun 15:10685); how often it is right, `benchmarks/quality.py` says.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter

from nsl.errors import SlideError
from nsl.slides.resampling import reduced
from nsl.stains import TISSUE_OD, SlideStains, completed, od_table, optical_density
from nsl.system.parallel import kernel, over_rows, read_only
from nsl.tiles import box_sums, summed_from_corner

LIMITS = {"ink": 0.1, "pigment": 0.25, "blur": 0.5, "fold": 0.25, "surround": 0.1}
"""Of each kind, the share of what a tile shows beside glass up to which it is predicted."""
KINDS = tuple(LIMITS)
"""The columns of `tile_quality`: pen ink; brown or yellow pigment, or ink of that colour; out of focus; folded; and
black or grey, of no stain: a frame, the edge of the cover glass, the rim of a bubble."""

_GLASS, _TISSUE, _INK, _PIGMENT, _SURROUND = range(5)
# Colours are judged as they are rounded to 6 bits a channel.
_BITS = 6
_SHIFT = 8 - _BITS
# Of paler pixels the noise of a scan and of JPEG hides the hue; grey is told a little sooner.
_HUE_OD, _LEAST_GREY_OD = 0.2, 0.14
# Of an overview: a grey still paler is a frame where so much is of the very same colour, which no scan of tissue is.
_DRAWN_SHARE = 0.03
# Ratios of optical densities of H&E, by ten published sources (benchmarks/robustness.py) and nine scans of five
# scanners: red to green 0.04 (eosin) to 1.43 (hematoxylin), blue to green 0.1 to 0.8. Pens are outside on glass.
_MOST_RED = 1.6
_BLUE_INK_RED, _BLUE_INK_BLUE = 0.85, 0.28
_RED_INK_RED, _RED_INK_BLUE, _RED_INK_OD = 0.2, 0.8, 0.6
# Over tissue a blue pen's dye takes as much red as hematoxylin and less blue, a red pen's as little red as eosin and
# more blue: times the median of the slide's own tissue, for laboratories differ by more than that.
_BLUE_DYE_RED, _BLUE_DYE_BLUE_TIMES = 0.8, 0.7
_RED_DYE_RED, _RED_DYE_BLUE, _RED_DYE_BLUE_TIMES = 0.4, 0.74, 1.25
_NEUTRAL_RED, _NEUTRAL_BLUE = (0.75, 1.33), 0.87
_BROWN_BLUE = 1.05
# What is darker is black, and no pen; a grey darker than the second is a black pen's, and a paler one a frame's.
_BLACK_OD, _GREY_OD = 2.8, 1.2

# Of the tissue of unmarked sections up to 0.6 % has the colours of ink.
_MISTAKEN_INK = 0.01
# Blur and folds are told of squares about so wide, which a fold fills and in which texture can be measured.
_BLOCK_UM = 50.0
_LEAST_BLOCK_UM = 30.0
# In focus, optical density differs over 3 µm about a third as much as over 12 µm (mean squares), and never less than a
# sixteenth, as on a slope. With a σ of 6 µm and more it is under 0.11 in 95 of 100 squares, as stained and as bright
# as may be; in focus under that in 1 of 100.
_FINE_UM, _COARSE = 3.0, 4
_MOST_BLURRED = 0.115
# What differs less over 12 µm, as a share of its optical density, is too even to be called blurred.
_LEAST_CONTRAST = 0.02
# At coarser resolutions a blur of 6 µm is hardly wider than a pixel.
_COARSEST_BLUR_MPP = 6.0
# Times the amount of both stains together in three quarters of the slide's squares: what is clean lies under that in
# 99.5 of 100, tissue of three layers over it in 80 to 99, of two layers in 40 to 60.
_FOLD_PERCENTILE, _FOLD_TIMES = 75.0, 1.7
# A fold is also a band that holds more than the tissue on both its sides, over 1.25 times as much, and of each stain
# over 1.15 times: a strand of tumour has no more eosin than the stroma beside it. Seen on the overview: means over
# squares of 90 µm, compared with those 120 µm to either side, at four places 150 µm apart along the band, of which one
# may be bare. Rims of glands hold more than one side, and are bent within half a mm.
_BAND_UM, _BAND_SQUARE_UM, _BAND_AWAY_UM, _BAND_STEP_UM = 15.0, 90.0, 120.0, 150.0
_BAND_PLACES, _BAND_MISSES, _BAND_DIRECTIONS = 4, 1, 8
_BAND_TIMES, _BAND_TIMES_OF_EACH = np.float32(1.25), np.float32(1.15)
# In strengths of the stains. What holds less is glass, and what has glass on one side is an edge.
_LEAST_AMOUNT, _LEAST_BESIDE = 0.2, 0.3
# Of an overview, beyond which a band is too few pixels wide.
_COARSEST_BAND_MPP = 25.0

# Every fifth pixel of every fifth row of an overview tells as much. What is darker than the second is a black frame, or
# the ground of a fluorescence scan.
_EVERY = 5
_BLACK_INTENSITY = 12
# The lightest and the darkest channel of the median pixel: light on a dark ground lies below either.
_DARK_INTENSITY, _DARK_CHANNEL = 80, 8
_GREY_SPREAD, _LEAST_COLORED = 4, 0.01
# Of what is not black: less than that between frames is no slide.
_LEAST_FRAMED = 0.05
_NO_GLASS, _LEAST_TISSUE = 0.99, 0.3
# Red to green below which tissue is pink. Shares of brown: in doubt and refused where there is less pink, and in doubt
# with any. On the nine scans it is at most 0.1 %, of hematoxylin and DAB on a tenth of the tissue 1 to 10 %.
_PINK_RED = 0.7
_BROWN = (0.01, 0.05, 0.1)


class OwnTissue(NamedTuple):
    """What a slide's own tissue is like, beside which its tiles are judged."""

    kinds: np.ndarray
    """(64, 64, 64) uint8, what each colour is."""
    per_od: np.ndarray
    """(3,) float64: its scalar product with an optical density is the amount of both stains, in their strengths."""
    fold_amount: float
    """From which the mean of a square of 50 µm is folded; infinite where the slide's stains are not known."""
    band_sums: np.ndarray
    """`nsl.tiles.summed_from_corner` of where the slide has the bands of a fold; of no pixel where that is unknown."""
    band_um: float
    """µm per pixel of that."""


def color_kinds(thumbnail: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """(64, 64, 64) uint8, what each colour is on a slide, beside the hue of its own tissue.

    thumbnail : (H, W, 3) uint8 RGB of the whole.
    white_point : (3,) intensity of the background.
    """
    step = 1 << _SHIFT
    middle = np.arange(0, 256, step, dtype=np.float32) + (step - 1) / 2
    white = np.asarray(white_point, np.float32)[:, None]
    od = np.maximum(-np.log((middle + 1) / (white + 1)), np.float32(1e-6))
    seen = np.ascontiguousarray(thumbnail[::_EVERY, ::_EVERY].reshape(-1, 3))
    # Of 24 bits, which single precision holds.
    colours, counts = np.unique(seen @ np.array([1 << 16, 1 << 8, 1], np.float32), return_counts=True)
    drawn = colours[counts > _DRAWN_SHARE * len(seen)].astype(int)
    is_drawn = np.zeros((len(middle),) * 3, bool)
    is_drawn[tuple((drawn >> shift & 255) >> _SHIFT for shift in (16, 8, 0))] = True
    kinds = np.empty(is_drawn.shape, np.uint8)
    over_rows(_judge_colors, len(kinds), od, is_drawn, kinds)
    if (surround := _surround(thumbnail, seen, white_point, kinds)) is not None:
        kinds[tuple(surround >> _SHIFT)] = _SURROUND
    red, green, blue = (own[level] for own, level in zip(od, np.ascontiguousarray(seen.T) >> _SHIFT, strict=True))
    own = (blue / green)[(_looked_up(seen, kinds) == _TISSUE) & (red + green + blue > 3 * _HUE_OD)]
    if len(own):
        over_rows(_judge_dyes, len(kinds), od, np.median(own), kinds)
    return kinds


def _surround(thumbnail: np.ndarray, seen: np.ndarray, white_point: np.ndarray, kinds: np.ndarray) -> np.ndarray | None:
    """(3,) uint8, the very colour that fills all corners of a slide with glass further in; None where it is glass.

    seen : (N, 3), some of its pixels.
    """
    colour, *others = np.unique(thumbnail[[0, 0, -1, -1], [0, -1, 0, -1]], axis=0)
    if others or optical_density(colour, white_point).mean() <= TISSUE_OD:
        return None
    is_own = (seen == colour).all(axis=-1)
    glass = (kinds[tuple((seen[~is_own] >> _SHIFT).T)] == _GLASS).sum()
    return colour if is_own.mean() > _DRAWN_SHARE and glass > (1 - _NO_GLASS) * len(seen) else None


def tissue_pixels(image: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """(N, 3) uint8, the pixels of an image (..., 3) that are neither glass nor ink, pigment, frame or padding."""
    return image[_looked_up(image, kinds) == _TISSUE]


def unmarked_pixels(image: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """(N, 3) uint8, the pixels of an image (..., 3): all, or `tissue_pixels` where a pen has been on the slide."""
    found = _looked_up(image, kinds)
    ink, tissue = np.count_nonzero(found == _INK), np.count_nonzero(found == _TISSUE)
    return image.reshape(-1, 3) if ink <= _MISTAKEN_INK * tissue else image[found == _TISSUE]


def without_surround(image: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """A copy of an image (..., 3) uint8 whose frames, rims and other black or grey are pure black padding."""
    without = np.array(image, order="C")
    over_rows(_blacken, without.size // 3, without.reshape(-1, 3), kinds)
    return without


def own_tissue(
    thumbnail: np.ndarray, mpp: float, white_point: np.ndarray, kinds: np.ndarray, stains: SlideStains | None
) -> OwnTissue:
    """Tell a slide's tissue from a picture of the whole, (H, W, 3) uint8 RGB of `mpp` µm/px.

    white_point : (3,) intensity of the background.
    kinds : of `color_kinds`.
    stains : of the slide (`nsl.prediction.slide_stains`), None where they are not known.
    """
    block = max(round(_BLOCK_UM / mpp), 1)
    width, height = (max(side // block, 1) for side in thumbnail.shape[1::-1])
    blocks = tissue_pixels(reduced(thumbnail[: height * block, : width * block], (width, height)), kinds)
    if stains is None or not len(blocks):
        return OwnTissue(kinds, np.zeros(3), np.inf, np.zeros((1, 1), np.int32), _BAND_UM)
    per_stain = np.linalg.inv(completed(stains.vectors))[:, :2] / stains.strengths
    per_od = per_stain.sum(axis=1)
    amounts = optical_density(blocks, white_point) @ per_od
    most = _FOLD_TIMES * float(np.percentile(amounts, _FOLD_PERCENTILE))
    bands, band_um = _fold_bands(thumbnail, mpp, white_point, per_stain)
    return OwnTissue(kinds, per_od, most, summed_from_corner(bands, np.int32), band_um)


def _fold_bands(
    thumbnail: np.ndarray, mpp: float, white_point: np.ndarray, per_stain: np.ndarray
) -> tuple[np.ndarray, float]:
    """(H, W) bool, where a slide has straight bands of more tissue than on both their sides, and the µm per pixel.

    per_stain : (3, 2), its product with an optical density is the amount of each stain, in its strength.
    """
    pixel_um = max(_BAND_UM, mpp)
    if mpp > _COARSEST_BAND_MPP:
        return np.zeros((0, 0), bool), pixel_um
    width, height = (max(round(side * mpp / pixel_um), 1) for side in thumbnail.shape[1::-1])
    small = reduced(thumbnail, (width, height))
    amounts = np.zeros((2, height, width), np.float32)
    over_rows(_weigh_stains, height, read_only(small), od_table(white_point), per_stain, amounts)
    amount = amounts[0] + amounts[1]
    stained = amount[amount > _LEAST_AMOUNT]
    least = _LEAST_BESIDE * float(np.median(stained)) if len(stained) else np.inf
    square, each = max(round(_BAND_SQUARE_UM / pixel_um), 1), np.empty_like(amounts)

    def smooth(start: int, stop: int) -> None:
        uniform_filter(amounts[start:stop], (1, square, square), each[start:stop], mode="constant")

    over_rows(smooth, len(each))
    both = each[0] + each[1]
    angles = np.arange(_BAND_DIRECTIONS) * np.pi / _BAND_DIRECTIONS
    across = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    beside, beyond = (_pixels(times * _BAND_AWAY_UM / pixel_um * across) for times in (1, 2))
    is_band = np.zeros(both.shape, np.uint8)  # a bit for each direction
    over_rows(_mark_bands, len(both), both, each, np.float32(least), beside, beyond, is_band)
    far = (np.arange(_BAND_PLACES) - (_BAND_PLACES - 1) / 2) * _BAND_STEP_UM / pixel_um
    along = _pixels(far[:, None] * np.stack([across[:, 1], -across[:, 0]], axis=1)[:, None])
    found = np.zeros(both.shape, bool)
    over_rows(_join_bands, len(found), is_band, along, found)
    return found, pixel_um


def _pixels(way: np.ndarray) -> np.ndarray:
    return np.rint(way).astype(np.int64)


def tile_quality(
    image: np.ndarray,
    bounds: np.ndarray,
    white_point: np.ndarray,
    mpp: float,
    tissue: OwnTissue,
    corner: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Share of each kind in what a tile shows beside glass and pure black padding.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB.
    bounds : (T, 4) from `nsl.tiles.pixel_bounds`; what lies outside the image takes no part.
    white_point : (3,) intensity of the background.
    mpp : µm/px of the image.
    tissue : of the slide (`own_tissue`).
    corner : x and y of the image on the slide, in its own pixels.

    Returns
    -------
    (T, K) float32 between 0 and 1, K the KINDS. NaN in what cannot be told: blur at more than 6 µm/px, and blur and
    folds of tiles under 30 µm.
    """
    shares = np.zeros((len(bounds), len(KINDS)), np.float32)
    if not len(bounds):
        return shares
    tiles, lag = (read_only(image), np.ascontiguousarray(bounds)), max(round(_FINE_UM / mpp), 1)
    colors = tissue.kinds, od_table(white_point), np.asarray(white_point, float) + 1
    over_rows(_add_shares, len(bounds), *tiles, *colors, tissue.per_od, tissue.fold_amount, lag, mpp, shares)
    in_bands = _band_shares(tissue, (bounds + np.tile(corner, 2)) * mpp)
    shares[:, KINDS.index("fold")] = np.maximum(shares[:, KINDS.index("fold")], in_bands)
    if mpp > _COARSEST_BLUR_MPP:
        shares[:, KINDS.index("blur")] = np.nan
    small = (bounds[:, 2:] - bounds[:, :2]).min(axis=1) * mpp < _LEAST_BLOCK_UM
    shares[np.ix_(small, [KINDS.index("blur"), KINDS.index("fold")])] = np.nan
    return shares


def _band_shares(tissue: OwnTissue, bounds_um: np.ndarray) -> np.ndarray:
    """(T,) share of each tile, (T, 4) in µm of the slide, that lies in bands of folds."""
    height, width = tissue.band_sums.shape
    bounds = np.clip(np.rint(bounds_um / tissue.band_um).astype(int), 0, [width - 1, height - 1] * 2)
    return box_sums(tissue.band_sums, bounds) / np.maximum((bounds[:, 2:] - bounds[:, :2]).prod(axis=1), 1)


def left_out_counts(shares: np.ndarray) -> dict[str, int]:
    """By kind, how many tiles are left out for their shares (T, K): each once, for the first kind it is over in."""
    over = over_limits(shares)
    first = over.argmax(axis=1)[over.any(axis=1)]
    return dict(zip(KINDS, np.bincount(first, minlength=len(KINDS)).tolist(), strict=True))


def over_limits(shares: np.ndarray) -> np.ndarray:
    """(T, K) bool: of which kinds a tile holds too much, from its shares of `tile_quality`; of NaN never."""
    return shares > np.array([LIMITS[kind] for kind in KINDS], np.float32)


def slide_doubt(thumbnail: np.ndarray, white_point: np.ndarray, kinds: np.ndarray) -> str | None:
    """A sentence on a slide that may be no H&E; None where nothing speaks against it.

    thumbnail : (H, W, 3) uint8 RGB of the whole.
    white_point : (3,) intensity of the background.
    kinds : of `color_kinds`.

    Raises
    ------
    SlideError : the slide is black, is grey, is dark with light on it as fluorescence is, has no colour of H&E, or
        is brown without pink, as with hematoxylin and DAB.
    """
    counts = np.zeros((5, 5), np.int64)
    _count_colors(read_only(thumbnail), kinds, od_table(white_point), counts)
    seen, colored, dim, dark, pink = counts.T
    glass, tissue, pigment = seen[[_GLASS, _TISSUE, _PIGMENT]]
    shown = seen.sum() - glass
    if not seen.any():
        raise _no_h_and_e("the image shows nothing but black")
    if not shown:  # whoever looks for tissue says how much there is
        return None
    if colored.sum() <= _LEAST_COLORED * seen.sum():
        raise _no_h_and_e("the image is grey, and stains are told by their colour")
    # A dark frame, of one grey or with noise, is no ground that light was seen on.
    framed = [_GLASS, _TISSUE, _PIGMENT]
    framed = framed if seen[framed].sum() > _LEAST_FRAMED * seen.sum() else slice(None)
    if max(dim[framed].sum(), dark[framed].sum()) > seen[framed].sum() / 2:
        raise _no_h_and_e("the image is light on a dark ground, as fluorescence is")
    tissue, brown, pink = (float(one / shown) for one in (tissue, pigment, pink[_TISSUE]))
    if glass < (1 - _NO_GLASS) * seen.sum() and tissue < _LEAST_TISSUE:
        raise _no_h_and_e(f"the image shows no glass, and {1 - tissue:.0%} of it in colours that H&E has not")
    if brown > _BROWN[1] and brown > pink:
        raise _no_h_and_e(f"{brown:.0%} of what the image shows is brown and {pink:.0%} pink, as with DAB")
    if brown > _BROWN[2] or (brown > _BROWN[0] and brown > pink):
        return f"{brown:.0%} of what this slide shows is brown: pigment, or another stain than hematoxylin and eosin."
    return None


def _no_h_and_e(reason: str) -> SlideError:
    return SlideError(f"{reason}; open a scan of an H&E section, or leave the checks of quality out")


def _looked_up(image: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """(...) uint8, what each pixel of an image (..., 3) is; pure black padding is `_GLASS`."""
    found = np.empty(image.shape[:-1], np.uint8)
    over_rows(_look_up, found.size, read_only(image).reshape(-1, 3), kinds, found.reshape(-1))
    return found


@kernel
def _judge_colors(start, stop, od, is_drawn, kinds):
    """Write what each colour is by itself, by the optical densities of its levels, (3, 64)."""
    levels = len(kinds)
    for r in range(start, stop):
        for g in range(levels):
            for b in range(levels):
                red, green, blue = od[0, r], od[1, g], od[2, b]
                mean, to_red, to_blue = (red + green + blue) / np.float32(3), red / green, blue / green
                neutral = _NEUTRAL_RED[0] < to_red < _NEUTRAL_RED[1] and to_blue > _NEUTRAL_BLUE
                # A frame that a program drew is grey as it is stored, and not beside tinted glass.
                neutral |= max(r, g, b) - min(r, g, b) <= 1
                is_grey = neutral and (is_drawn[r, g, b] or _LEAST_GREY_OD < mean <= _GREY_OD)
                blue_ink = to_red > _BLUE_INK_RED and to_blue < _BLUE_INK_BLUE
                red_ink = to_red < _RED_INK_RED and to_blue > _RED_INK_BLUE and mean > _RED_INK_OD
                if mean <= TISSUE_OD:
                    kind = _GLASS
                elif is_grey or min(red, green, blue) > _BLACK_OD:
                    kind = _SURROUND
                elif mean <= _HUE_OD:
                    kind = _TISSUE
                elif to_blue > _BROWN_BLUE and to_red < _NEUTRAL_RED[0]:
                    kind = _PIGMENT
                elif to_red > _MOST_RED or blue_ink or red_ink or (neutral and mean > _GREY_OD):
                    kind = _INK
                else:
                    kind = _TISSUE
                kinds[r, g, b] = kind


@kernel
def _judge_dyes(start, stop, od, own_blue, kinds):
    """Write ink over tissue where a dye makes it, beside the blue to green of the slide's own tissue."""
    levels = len(kinds)
    most_blue, least_blue = _BLUE_DYE_BLUE_TIMES * own_blue, max(_RED_DYE_BLUE, _RED_DYE_BLUE_TIMES * own_blue)
    for r in range(start, stop):
        for g in range(levels):
            for b in range(levels):
                red, green, blue = od[0, r], od[1, g], od[2, b]
                mean, to_red, to_blue = (red + green + blue) / np.float32(3), red / green, blue / green
                blue_dye = to_red > _BLUE_DYE_RED and to_blue < most_blue
                red_dye = to_red < _RED_DYE_RED and to_blue > least_blue and mean > _RED_INK_OD
                if kinds[r, g, b] == _TISSUE and mean > _HUE_OD and (blue_dye or red_dye):
                    kinds[r, g, b] = _INK


@kernel
def _count_colors(image, lookup, table, counts):
    """Count pixels that are not black, a row for each kind, and of them those coloured, dim, dark and pink."""
    for y in range(0, image.shape[0], _EVERY):
        for x in range(0, image.shape[1], _EVERY):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            lightest, darkest = max(r, g, b), min(r, g, b)
            if lightest <= _BLACK_INTENSITY:
                continue
            red, green, blue = table[0, r], table[1, g], table[2, b]
            own = counts[lookup[r >> _SHIFT, g >> _SHIFT, b >> _SHIFT]]
            own[0] += 1
            own[1] += lightest - darkest > _GREY_SPREAD
            own[2] += lightest < _DARK_INTENSITY
            own[3] += darkest < _DARK_CHANNEL
            own[4] += red + green + blue > 3 * _HUE_OD and red < _PINK_RED * green


@kernel
def _blacken(start, stop, pixels, lookup):
    for i in range(start, stop):
        r, g, b = pixels[i, 0], pixels[i, 1], pixels[i, 2]
        if lookup[r >> _SHIFT, g >> _SHIFT, b >> _SHIFT] == _SURROUND:
            pixels[i] = 0


@kernel
def _look_up(start, stop, pixels, lookup, found):
    for i in range(start, stop):
        r, g, b = pixels[i, 0], pixels[i, 1], pixels[i, 2]
        found[i] = lookup[r >> _SHIFT, g >> _SHIFT, b >> _SHIFT] if r | g | b else _GLASS


@kernel
def _classify(tile, lookup, table, kinds, od):
    for y in range(tile.shape[0]):
        for x in range(tile.shape[1]):
            r, g, b = tile[y, x, 0], tile[y, x, 1], tile[y, x, 2]
            if r | g | b:
                kinds[y, x] = lookup[r >> _SHIFT, g >> _SHIFT, b >> _SHIFT]
                od[y, x] = table[0, r] + table[1, g] + table[2, b]
            else:
                kinds[y, x] = _GLASS
                od[y, x] = -1


@kernel
def _add_shares(start, stop, image, bounds, lookup, table, white, per_od, most, lag, mpp, shares):
    far = _COARSE * lag
    for t in range(start, stop):
        x0, y0, x1, y1 = bounds[t]
        left, top = max(x0, 0), max(y0, 0)
        tile = image[top : max(y1, top), left : max(x1, left)]
        height, width = tile.shape[:2]
        kinds, od = np.empty((height, width), np.uint8), np.empty((height, width), np.float32)
        _classify(tile, lookup, table, kinds, od)
        # From here on in pixels of what of the tile lies on the image.
        x0, y0, x1, y1 = x0 - left, y0 - top, x1 - left, y1 - top
        blocks = max(int((x1 - x0) * mpp / _BLOCK_UM + 0.5), 1)
        counts = np.zeros(5, np.int64)
        blurred, folded = 0, 0
        for block in range(blocks * blocks):
            row, column = block // blocks, block % blocks
            left, right = x0 + (x1 - x0) * column // blocks, x0 + (x1 - x0) * (column + 1) // blocks
            top, bottom = y0 + (y1 - y0) * row // blocks, y0 + (y1 - y0) * (row + 1) // blocks
            tissue, seen = 0, 0
            pairs, near_squares, far_squares = 0, 0.0, 0.0
            red, green, blue, amount = 0.0, 0.0, 0.0, 0.0
            for y in range(max(top, 0), min(bottom, height)):
                for x in range(max(left, 0), min(right, width)):
                    here = od[y, x]
                    if here < 0:
                        continue
                    kind = kinds[y, x]
                    counts[kind] += 1
                    if kind == _SURROUND:
                        continue
                    tissue += kind == _TISSUE
                    seen += 1
                    red += tile[y, x, 0]
                    green += tile[y, x, 1]
                    blue += tile[y, x, 2]
                    amount += here
                    # Every fourth pixel has texture enough to tell.
                    if (x - x0 | y - y0) & 1:
                        continue
                    if x + far < width and od[y, x + far] >= 0 and od[y, x + lag] >= 0:
                        near_squares += (od[y, x + lag] - here) ** 2
                        far_squares += (od[y, x + far] - here) ** 2
                        pairs += 1
                    if y + far < height and od[y + far, x] >= 0 and od[y + lag, x] >= 0:
                        near_squares += (od[y + lag, x] - here) ** 2
                        far_squares += (od[y + far, x] - here) ** 2
                        pairs += 1
            if 2 * tissue < seen or not tissue:
                continue
            least = pairs * (_LEAST_CONTRAST * amount / seen) ** 2
            if far_squares > least and near_squares < _MOST_BLURRED * far_squares:
                blurred += tissue
            if (
                per_od[0] * np.log(white[0] / (red / seen + 1))
                + per_od[1] * np.log(white[1] / (green / seen + 1))
                + per_od[2] * np.log(white[2] / (blue / seen + 1))
                > most
            ):
                folded += tissue
        shown = counts[1:].sum()
        if shown:
            shares[t, 0] = counts[_INK] / shown
            shares[t, 1] = counts[_PIGMENT] / shown
            shares[t, 2] = blurred / shown
            shares[t, 3] = folded / shown
            shares[t, 4] = counts[_SURROUND] / shown


@kernel
def _weigh_stains(start, stop, image, table, per_stain, amounts):
    """Write the amount of each stain, (2, H, W), of an image whose padding holds none."""
    for y in range(start, stop):
        for x in range(image.shape[1]):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            if r | g | b:
                for stain in range(2):
                    red, green, blue = per_stain[0, stain], per_stain[1, stain], per_stain[2, stain]
                    amount = table[0, r] * red + table[1, g] * green + table[2, b] * blue
                    amounts[stain, y, x] = max(amount, 0.0)


@kernel
def _mark_bands(start, stop, both, each, least, beside, beyond, is_band):
    """Set a bit of `is_band` where there is more than on both sides of a line through the pixel, one a direction.

    both, each : (H, W) and (2, H, W) amounts of both stains, and of each.
    beside, beyond : (directions, 2) pixels down and right to what lies beside the pixel on one side, and to what lies
        beyond that.
    """
    height, width = both.shape
    for y in range(start, stop):
        for x in range(width):
            here = both[y, x]
            if here <= least:
                continue
            for direction in range(len(beside)):
                down, right = beside[direction]
                if not (abs(down) <= y < height - abs(down) and abs(right) <= x < width - abs(right)):
                    continue
                one, other = both[y + down, x + right], both[y - down, x - right]
                if min(one, other) < least or here <= _BAND_TIMES * max(one, other):
                    continue
                holds_more = True
                for k in range(len(each)):
                    most = max(each[k, y + down, x + right], each[k, y - down, x - right])
                    holds_more &= each[k, y, x] > _BAND_TIMES_OF_EACH * most
                # A fold ends beside itself; where a small piece is only thicker in its middle, it goes on thinning.
                ends = False
                down, right = beyond[direction]
                if 0 <= y + down < height and 0 <= x + right < width:
                    ends |= here * both[y + down, x + right] > one * one
                if 0 <= y - down < height and 0 <= x - right < width:
                    ends |= here * both[y - down, x - right] > other * other
                if holds_more and ends:
                    is_band[y, x] |= 1 << direction


@kernel
def _join_bands(start, stop, is_band, along, found):
    """Set `found` where enough places along a band of a direction (directions, places, 2) have its bit."""
    height, width = is_band.shape
    held = np.empty(width, np.uint8)
    for y in range(start, stop):
        for direction in range(len(along)):
            held[:] = 0
            bit = np.uint8(1 << direction)
            for down, right in along[direction]:
                if 0 <= y + down < height:
                    begin = max(right, 0)
                    own = is_band[y + down, begin : max(width + min(right, 0), begin)]
                    here = held[begin - right :]
                    for x in range(len(own)):
                        here[x] += (own[x] & bit) > 0
            for x in range(width):
                found[y, x] |= held[x] >= _BAND_PLACES - _BAND_MISSES
