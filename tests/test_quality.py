"""What `nsl.quality` promises: ink, pigment, blur, folds and frames are told from tissue, and no H&E is refused."""

import re

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from nsl.errors import SlideError
from nsl.prediction import predict
from nsl.quality import (
    KINDS,
    OwnTissue,
    _join_bands,
    color_kinds,
    over_limits,
    own_tissue,
    slide_doubt,
    tile_quality,
    tissue_pixels,
)
from nsl.slides.demo.slide import demo_slide
from nsl.slides.slide import open_slide
from nsl.stains import HED_VECTORS, SlideStains, transmitted
from nsl.white_point import estimate_white_point
from tests.fixtures import STAIN_VECTORS, WHITE_POINT

MPP, SIDE = 3.0, 50  # pixels of a tile of 150 µm
STAINS = SlideStains(STAIN_VECTORS, np.array([1.6, 0.9]))
INKS = {"blue": (0.15, 0.3, 0.8), "green": (0.1, 0.55, 0.3), "black": (0.08, 0.08, 0.08), "red": (0.85, 0.15, 0.2)}


def concentrations(tiles: int) -> np.ndarray:
    """(SIDE, tiles * SIDE, 2) hematoxylin in nuclei of 6 µm or so on a ground of eosin."""
    rng = np.random.default_rng(0)
    nuclei = gaussian_filter(rng.normal(size=(SIDE, tiles * SIDE)), 0.8) > 0.25
    ground = 0.5 + 0.1 * rng.normal(size=nuclei.shape)
    return np.stack([0.1 + 0.9 * nuclei, np.maximum(ground, 0)], axis=-1)


def section(tiles: int = 4) -> np.ndarray:
    """(SIDE, tiles * SIDE, 3) uint8, tissue in focus."""
    return transmitted(concentrations(tiles) @ STAIN_VECTORS, WHITE_POINT)


def bounds_of(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    columns = np.arange(0, image.shape[1], side)
    return np.stack([columns, 0 * columns, columns + side, 0 * columns + side], axis=1)


def tissue_of_section(stains: SlideStains | None = STAINS) -> OwnTissue:
    return own_tissue(section(), MPP, WHITE_POINT, color_kinds(section(), WHITE_POINT), stains)


def doubt_of(image: np.ndarray, white_point: np.ndarray = WHITE_POINT) -> str | None:
    return slide_doubt(image, white_point, color_kinds(image, white_point))


def judged(image: np.ndarray, mpp: float = MPP, tissue=None, side: int = SIDE) -> dict[str, np.ndarray]:
    """Shares by kind of the tiles of an image, beside the clean section."""
    tissue = tissue_of_section() if tissue is None else tissue
    shares = tile_quality(image, bounds_of(image, side), WHITE_POINT, mpp, tissue)
    return dict(zip(KINDS, shares.T, strict=True))


def left_out(shares: dict[str, np.ndarray]) -> np.ndarray:
    return over_limits(np.stack([shares[kind] for kind in KINDS], axis=1))


def test_tissue_in_focus_is_of_no_kind():
    assert not left_out(judged(section())).any()


@pytest.mark.parametrize("ink", INKS)
@pytest.mark.parametrize("opaque", [True, False])
def test_ink_over_half_a_tile_is_half_of_it(ink, opaque):
    image = section().astype(float)
    image[:, 25:50] = (WHITE_POINT if opaque else image[:, 25:50]) * INKS[ink]
    shares = judged(image.astype(np.uint8))
    # Black ink on dark tissue is black.
    found = shares["ink"] + shares["surround"]
    # Through a dye some tissue looks like darker tissue.
    assert (0.48 if opaque else 0.3) < found[0] <= 0.5
    np.testing.assert_allclose(found[1:], 0, atol=0.01)
    assert left_out(shares).any(axis=1).tolist() == [True, False, False, False]


@pytest.mark.parametrize("mpp", [1.5, 3.0])
def test_a_blur_of_6_um_is_out_of_focus_and_the_same_tissue_sharp_is_not(mpp):
    fine = section(8).repeat(round(MPP / mpp), axis=0).repeat(round(MPP / mpp), axis=1)
    blurred = gaussian_filter(fine.astype(float), (6 / mpp, 6 / mpp, 0)).astype(np.uint8)
    side = round(SIDE * MPP / mpp)
    assert (judged(fine, mpp, side=side)["blur"] < 0.1).all()
    assert (judged(blurred, mpp, side=side)["blur"] > 0.8).all()


def test_blur_is_not_told_where_pixels_are_as_wide_and_leaves_no_tile_out():
    shares = judged(section(), mpp=12.0)
    assert np.isnan(shares["blur"]).all()
    assert not left_out(shares).any()


def test_of_tiles_smaller_than_texture_and_folds_only_colours_are_told():
    shares = judged(section(), side=5)
    assert np.isnan(shares["blur"]).all()
    assert np.isnan(shares["fold"]).all()
    assert (shares["ink"] == 0).all()


def test_three_layers_of_tissue_are_a_fold_and_one_is_not():
    layers = concentrations(4)
    layers[:, :25] += layers[:, 60:85] + layers[::-1, 100:125]
    fold = judged(transmitted(layers @ STAIN_VECTORS, WHITE_POINT))["fold"]
    assert 0.3 < fold[0] <= 0.7
    assert (fold[1:] == 0).all()


def test_no_fold_is_told_where_the_stains_of_the_slide_are_not_known():
    tissue = tissue_of_section(None)
    folded = transmitted(3 * concentrations(4) @ STAIN_VECTORS, WHITE_POINT)
    assert (judged(folded, tissue=tissue)["fold"] == 0).all()


@pytest.mark.parametrize("grey", [2, 128, 200])
def test_a_frame_that_is_not_quite_black_or_grey_is_no_tissue(grey):
    image = section()
    noise = np.random.default_rng(0).integers(-2, 3, (SIDE, 25, 1))
    image[:, :25] = np.clip(grey + noise, 1, 255)
    shares = judged(image)
    np.testing.assert_allclose(shares["surround"], [0.5, 0, 0, 0], atol=0.02)
    assert left_out(shares)[:, KINDS.index("surround")].tolist() == [True, False, False, False]


def test_pure_black_padding_and_glass_take_no_part():
    image = section()
    image[:, :20] = 0
    image[:, 20:40] = WHITE_POINT
    image[:, 45:50] = WHITE_POINT * INKS["green"]
    image[:, 50:100] = WHITE_POINT
    shares = judged(image)
    np.testing.assert_allclose(shares["ink"][:2], [0.5, 0], atol=0.02)
    assert not left_out(shares)[1].any()


def test_brown_is_pigment():
    image = section()
    image[:, :25] = transmitted(0.8 * HED_VECTORS[2] / np.linalg.norm(HED_VECTORS[2]), WHITE_POINT)
    np.testing.assert_allclose(judged(image)["pigment"], [0.5, 0, 0, 0], atol=0.01)


def test_a_tile_is_judged_from_its_own_pixels_whatever_lies_around():
    image, tissue = section(6), tissue_of_section()
    image[:, 130:170] = gaussian_filter(image[:, 130:170].astype(float), (2, 2, 0)).astype(np.uint8)
    bounds = bounds_of(image)
    alone = [
        tile_quality(np.ascontiguousarray(image[y0:y1, x0:x1]), bounds[:1], WHITE_POINT, MPP, tissue)[0]
        for x0, y0, x1, y1 in bounds
    ]
    np.testing.assert_array_equal(tile_quality(image, bounds, WHITE_POINT, MPP, tissue), alone)


def test_stains_are_told_from_tissue_that_ink_has_no_part_in():
    image = section()
    image[:, 100:] = WHITE_POINT * INKS["green"]
    image[:, :10] = WHITE_POINT
    pixels = tissue_pixels(image, color_kinds(image, WHITE_POINT))
    np.testing.assert_array_equal(pixels, image[:, 10:100].reshape(-1, 3))


# The slide as a whole


def test_the_demo_slide_is_neither_refused_nor_doubted():
    demo = demo_slide(side_px=800)
    assert doubt_of(demo.image, demo.white_point) is None


def overview(pixels: np.ndarray) -> np.ndarray:
    """Tissue on as much glass."""
    glass = np.broadcast_to(WHITE_POINT.astype(np.uint8), pixels.shape)
    return np.concatenate([glass, pixels])


def no_h_and_e() -> dict[str, np.ndarray]:
    amounts = concentrations(4)
    stained = overview(section())
    brown = transmitted(amounts @ np.stack([STAIN_VECTORS[0], HED_VECTORS[2]]), WHITE_POINT)
    light = np.zeros_like(stained)
    light[..., 2] = 5 + 200 * (np.concatenate([amounts, amounts])[..., 0] > 0.5)
    return {
        "light on a dark ground": light,
        "grey": np.repeat(stained.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8),
        "as with DAB": overview(brown),
        "nothing but black": np.zeros_like(stained),
        "colours that H&E has not": 255 - section(),
    }


@pytest.mark.parametrize("reason", no_h_and_e())
def test_what_is_no_h_and_e_is_refused_with_the_reason_and_the_remedy(reason):
    image = no_h_and_e()[reason]
    with pytest.raises(SlideError, match=f"{reason}.*; open a scan of an H&E section"):
        doubt_of(image, estimate_white_point(image).rgb)


def test_glass_alone_is_not_doubted():
    assert doubt_of(overview(section())[:SIDE]) is None


def test_a_slide_with_much_brown_and_more_pink_is_doubted():
    image = overview(section())
    image[SIDE:, :40] = transmitted(0.8 * HED_VECTORS[2], WHITE_POINT)
    assert re.match("2[01]% of what this slide shows is brown", doubt_of(image))


def test_no_real_h_and_e_is_refused_and_a_fluorescence_scan_is(data_folder):
    slides = data_folder / "slides"
    sections = data_folder / "her2st/images"
    for path in [sections / "A1_HE_image_dark.png", slides / "cmu_small_region.svs", slides / "tcga_small.svs"]:
        with open_slide(path) as slide:
            thumbnail = slide.thumbnail(1280)
        assert doubt_of(thumbnail, estimate_white_point(thumbnail).rgb) is None, path.name
    with open_slide(slides / "fluorescence.ndpi") as slide:
        thumbnail = slide.thumbnail(1280)
    with pytest.raises(SlideError, match="fluorescence"):
        doubt_of(thumbnail, estimate_white_point(thumbnail).rgb)


SURROUNDS = [*((n, n, n) for n in (2, 30, 60, 128, 215, 222)), (10, 10, 30), (30, 30, 80), (200, 205, 212)]


@pytest.mark.parametrize("colour", SURROUNDS, ids=str)
@pytest.mark.parametrize("quality", [None, 80], ids=["lossless", "JPEG"])
def test_a_drawn_surround_changes_a_map_no_more_than_padding_does(tmp_path, weights, colour, quality):
    def mapped(surround: tuple[int, int, int]):
        image = np.full((800, 800, 3), surround, np.uint8)
        image[200:600, 200:600] = demo_slide(side_px=400).image
        path = tmp_path / ("a.jpg" if quality else "a.png")
        Image.fromarray(image).save(path, **({"quality": quality} if quality else {}))
        with open_slide(path, mpp=1.0) as slide:
            return predict(slide, weights)

    padded, surrounded = mapped((0, 0, 0)), mapped(colour)
    assert surrounded.obs_names.tolist() == padded.obs_names.tolist()
    # At the edge JPEG mixes in some of its colour, of which padding has none.
    np.testing.assert_allclose(surrounded.X, padded.X, atol=0.1 * padded.X.std())


@pytest.mark.parametrize("grey", [0, 30])
def test_a_dark_surround_with_noise_is_no_ground_of_fluorescence(grey):
    noise = np.random.default_rng(0).integers(0, 12, (4 * SIDE, 4 * SIDE, 3))
    image = (grey + noise).astype(np.uint8)
    image[SIDE : 3 * SIDE, SIDE : 3 * SIDE] = overview(section())[: 2 * SIDE, : 2 * SIDE]
    assert doubt_of(image) is None


def stroma(side: int = 400) -> np.ndarray:
    """(side, side, 2) concentrations of even tissue of one layer."""
    rng = np.random.default_rng(1)
    return np.stack(
        [0.3 + 0.1 * gaussian_filter(rng.normal(size=(side, side)), 2), np.full((side, side), 0.5)], axis=-1
    )


def folded_tiles(layers: np.ndarray) -> np.ndarray:
    """(rows, columns) bool: which tiles of a slide of these concentrations are left out for folds."""
    image = transmitted(layers @ STAIN_VECTORS, WHITE_POINT)
    own = own_tissue(image, MPP, WHITE_POINT, color_kinds(image, WHITE_POINT), STAINS)
    y, x = np.mgrid[: len(image) : SIDE, : len(image) : SIDE]
    bounds = np.stack([x, y, x + SIDE, y + SIDE], axis=-1).reshape(-1, 4)
    shares = tile_quality(image, bounds, WHITE_POINT, MPP, own)
    return over_limits(shares)[:, KINDS.index("fold")].reshape(y.shape)


def test_a_straight_band_of_two_layers_is_a_fold_and_a_dense_half_or_a_strand_of_nuclei_is_not():
    layers = stroma()
    assert not folded_tiles(layers).any()
    band, half, strand = layers.copy(), layers.copy(), layers.copy()
    band[:, 205:245] *= 2  # 120 µm
    half[:, 200:] *= 1.8
    strand[:, 205:245] *= (3, 0.9)
    assert not folded_tiles(strand).any()
    found = folded_tiles(band)
    assert found[2:6, 4].all()
    assert not found[:, [0, 1, 2, 6, 7]].any()
    assert not folded_tiles(half)[:, :6].any()


@pytest.mark.parametrize("shape", [(30, 50), (40, 4), (4, 40)], ids=str)
def test_a_band_is_where_all_but_one_of_the_places_along_it_are_marked_on_slides_of_any_width(shape):
    rng = np.random.default_rng(0)
    marks, along = rng.integers(0, 256, shape).astype(np.uint8), rng.integers(-15, 16, (8, 4, 2))
    along[:4] //= 8
    padded = np.pad(marks, 15)
    held = [
        [padded[15 + y : 15 + y + shape[0], 15 + x : 15 + x + shape[1]] >> direction & 1 for y, x in along[direction]]
        for direction in range(8)
    ]
    expected = (np.sum(held, axis=1) >= 3).any(axis=0)
    assert expected.any()
    # As Python runs it, an index off the slide is an error.
    for join in (_join_bands, _join_bands.py_func):
        found = np.zeros(shape, bool)
        join(0, shape[0], marks, along, found)
        np.testing.assert_array_equal(found, expected)


def test_a_fold_is_found_where_the_strip_lies_that_is_read():
    layers = stroma()
    layers[:, 205:245] *= 2
    image = transmitted(layers @ STAIN_VECTORS, WHITE_POINT)
    own = own_tissue(image, MPP, WHITE_POINT, color_kinds(image, WHITE_POINT), STAINS)
    bounds = np.array([[0, 0, SIDE, SIDE], [200, 0, 250, SIDE]])
    shares = [
        tile_quality(image[150:200, at:], bounds - [at, 0, at, 0], WHITE_POINT, MPP, own, (at, 150)) for at in (0, 7)
    ]
    np.testing.assert_array_equal(shares[0][1], shares[1][1])
    assert shares[0][1, KINDS.index("fold")] > 0.3 > shares[0][0, KINDS.index("fold")]
