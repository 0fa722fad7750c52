"""What `nsl.tiles` promises: whole tiles in reading order, every pixel in exactly one, no padding taken for tissue."""

import math

import numpy as np
import pytest
from PIL import Image

from nsl.errors import ScaleError, SlideError
from nsl.slides.slide import open_slide
from nsl.tiles import TileGrid, grid_over, may_hold_tissue, overview_tissue, pixel_bounds, tile_grid, tissue_fraction

WHITE_POINT = np.array([240.0, 236.0, 240.0])
GLASS, TISSUE, BLACK = (240, 236, 240), (150, 90, 160), (0, 0, 0)
AWKWARD_MPP = [0.2527, 1 / 3, 0.499, 0.69, 0.7, 1.37]


@pytest.fixture
def make_slide(tmp_path):
    """Opens a black slide of a given size and µm/px."""
    slides = []

    def make(width: int, height: int, mpp: float | None):
        path = tmp_path / f"{len(slides)}.png"
        Image.new("RGB", (width, height)).save(path)
        slides.append(open_slide(path, mpp))
        return slides[-1]

    yield make
    for slide in slides:
        slide.close()


def times_covered(bounds: np.ndarray) -> np.ndarray:
    """How many windows hold each pixel, from pixel (0, 0) to the farthest bound."""
    assert bounds.min() >= 0
    covered = np.zeros(bounds[:, :1:-1].max(axis=0), int)
    for x0, y0, x1, y1 in bounds:
        covered[y0:y1, x0:x1] += 1
    return covered


# The grid


def test_only_whole_tiles_in_reading_order(make_slide):
    grid = tile_grid(make_slide(470, 320, 1.0), 150)
    assert len(grid) == 6
    assert grid.array_row.tolist() == [0, 0, 0, 1, 1, 1]
    assert grid.array_col.tolist() == [0, 1, 2, 0, 1, 2]


def test_centres_are_told_in_micrometres_and_in_level_0_pixels(make_slide):
    grid = tile_grid(make_slide(800, 400, 0.5), 150)
    np.testing.assert_allclose(grid.centers_um, [[75, 75], [225, 75]])
    np.testing.assert_allclose(grid.centers_px, [[150, 150], [450, 150]])


def test_stride_shorter_than_the_tile_overlaps_them(make_slide):
    grid = tile_grid(make_slide(400, 300, 1.0), 150, 50)
    assert (grid.array_row.max(), grid.array_col.max()) == (3, 5)
    np.testing.assert_allclose(grid.centers_um[:2], [[75, 75], [125, 75]])
    np.testing.assert_allclose(grid.centers_um[-1], [325, 225])
    covered = times_covered(pixel_bounds(grid.centers_px, 150, 1.0, 1.0))
    assert covered[150, 200] == 9
    assert covered[0, 0] == 1


def test_stride_longer_than_the_tile_leaves_gaps_between_them(make_slide):
    grid = tile_grid(make_slide(400, 100, 1.0), 100, 150)
    np.testing.assert_allclose(grid.centers_um, [[50, 50], [200, 50], [350, 50]])


@pytest.mark.parametrize("mpp", AWKWARD_MPP)
def test_an_image_that_holds_whole_tiles_exactly_loses_none(make_slide, mpp):
    tile_um = 70 * mpp
    assert len(tile_grid(make_slide(700, 490, mpp), tile_um)) == 10 * 7


@pytest.mark.parametrize(("side_px", "mpp", "tile_um"), [(500, 0.3, 150), (700, 0.7, 490), (300, 1.1, 330)])
def test_an_image_of_exactly_one_tile_has_one_tile(make_slide, side_px, mpp, tile_um):
    assert len(tile_grid(make_slide(side_px, side_px, mpp), tile_um)) == 1


def test_tiles_picked_from_a_grid_keep_their_places(make_slide):
    grid = tile_grid(make_slide(450, 300, 1.0), 150)
    picked = grid[np.array([False, True, False, False, False, True])]
    np.testing.assert_array_equal(picked.centers_um, grid.centers_um[[1, 5]])
    assert len(picked) == 2


@pytest.mark.parametrize("size", [(100, 400), (400, 100), (100, 100)])
def test_image_smaller_than_a_tile_is_refused_with_both_sizes(make_slide, size):
    with pytest.raises(SlideError, match=rf"{size[0]} × {size[1]} µm, smaller than one tile of 150 µm"):
        tile_grid(make_slide(*size, 1.0), 150)


def test_unknown_scale_is_refused_with_the_remedy(make_slide):
    with pytest.raises(ScaleError, match=r"no µm/px.*--mpp"):
        tile_grid(make_slide(400, 400, None), 150)


@pytest.mark.parametrize("length", [0.0, -150.0, math.nan, math.inf, -math.inf])
def test_impossible_tile_or_stride_is_refused_with_the_value(make_slide, length):
    slide = make_slide(400, 400, 1.0)
    with pytest.raises(ScaleError, match=rf"tile must be a positive number of µm, got {length:g}"):
        tile_grid(slide, length)
    with pytest.raises(ScaleError, match=rf"step between tiles must be a positive number of µm, got {length:g}"):
        tile_grid(slide, 150, length)


# Their pixels


@pytest.mark.parametrize("image_mpp", [2.0, 3.0, 3.2, 2.9999])
@pytest.mark.parametrize("tile_um", [150.0, 77.0, 151.5])
@pytest.mark.parametrize("slide_mpp", AWKWARD_MPP)
def test_every_pixel_of_the_covered_area_belongs_to_exactly_one_tile(slide_mpp, tile_um, image_mpp):
    row, column = np.divmod(np.arange(5 * 40), 40)
    grid = TileGrid(tile_um, tile_um, slide_mpp, row, column)
    bounds = pixel_bounds(grid.centers_px, tile_um, slide_mpp, image_mpp)
    covered = times_covered(bounds)
    assert (covered == 1).all()
    np.testing.assert_allclose(covered.shape, np.array([5, 40]) * tile_um / image_mpp, atol=0.5 + 1e-6)


def test_windows_hold_the_pixels_whose_centres_they_cover():
    centre = np.array([[10.0, 20.0]])
    np.testing.assert_array_equal(pixel_bounds(centre, 8, 1.0, 1.0), [[6, 16, 14, 24]])
    np.testing.assert_array_equal(pixel_bounds(centre, 8, 1.0, 2.0), [[3, 8, 7, 12]])
    np.testing.assert_array_equal(pixel_bounds(centre, 8.8, 1.0, 1.0), [[6, 16, 14, 24]])
    np.testing.assert_array_equal(pixel_bounds(centre, 9.2, 1.0, 1.0), [[5, 15, 15, 25]])


def test_bounds_of_a_window_over_the_edge_reach_over_it_too():
    np.testing.assert_array_equal(pixel_bounds(np.array([[2.0, 3.0]]), 10, 1.0, 1.0), [[-3, -2, 7, 8]])


# Tissue


def test_tissue_fraction_is_the_share_of_stained_pixels():
    is_tissue = np.random.default_rng(0).random((90, 120)) < 0.4
    image = np.where(is_tissue[..., None], TISSUE, GLASS).astype(np.uint8)
    bounds = np.array([[0, 0, 30, 30], [17, 5, 101, 88], [119, 89, 120, 90]])
    expected = [is_tissue[y0:y1, x0:x1].mean() for x0, y0, x1, y1 in bounds]
    np.testing.assert_allclose(tissue_fraction(image, bounds, WHITE_POINT), expected, atol=1e-6)


def test_black_padding_is_never_tissue():
    image = np.full((40, 40, 3), BLACK, np.uint8)
    image[:, :10] = TISSUE
    np.testing.assert_allclose(tissue_fraction(image, np.array([[0, 0, 40, 40]]), WHITE_POINT), 0.25)


def test_white_padding_and_glass_are_never_tissue():
    image = np.concatenate([np.full((20, 40, 3), 255, np.uint8), np.full((20, 40, 3), GLASS, np.uint8)])
    assert tissue_fraction(image, np.array([[0, 0, 40, 40]]), WHITE_POINT) == 0


def test_pale_but_stained_pixels_are_tissue_and_tinted_glass_is_not():
    stained = np.full((10, 10, 3), (215, 190, 214), np.uint8)
    tinted = np.full((10, 10, 3), (230, 226, 232), np.uint8)
    window = np.array([[0, 0, 10, 10]])
    assert tissue_fraction(stained, window, WHITE_POINT) == 1
    assert tissue_fraction(tinted, window, WHITE_POINT) == 0


def test_what_a_window_reaches_beyond_the_image_is_not_tissue():
    image = np.full((50, 50, 3), TISSUE, np.uint8)
    bounds = np.array([[-10, 0, 10, 20], [40, 40, 60, 60], [-30, -30, -5, -5], [60, 0, 80, 20], [0, 0, 0, 0]])
    np.testing.assert_allclose(tissue_fraction(image, bounds, WHITE_POINT), [0.5, 0.25, 0, 0, 0])


def test_no_window_gives_no_fraction():
    image = np.full((50, 50, 3), TISSUE, np.uint8)
    assert tissue_fraction(image, np.zeros((0, 4), np.int64), WHITE_POINT).shape == (0,)


# What need not be read


def seen_from_afar(image: np.ndarray, factor: int) -> np.ndarray:
    """An image as a picture of it that is so many times coarser shows it."""
    height, width = (side // factor for side in image.shape[:2])
    return image.reshape(height, factor, width, factor, 3).mean(axis=(1, 3)).round().astype(np.uint8)


@pytest.mark.parametrize("size_px", [1, 3, 20])
@pytest.mark.parametrize("tissue", [(228, 190, 228), (150, 90, 160), (240, 173, 240)])
def test_a_tile_of_scattered_or_pale_tissue_is_not_passed_over(size_px, tissue):
    rng, image = np.random.default_rng(0), np.full((1200, 1200, 3), GLASS, np.uint8)
    specks = rng.random((1200 // size_px, 1200 // size_px)) < 0.33
    image[specks.repeat(size_px, 0).repeat(size_px, 1)] = tissue
    grid = grid_over((1200, 1200), 1.0, 100)
    fraction = tissue_fraction(image, pixel_bounds(grid.centers_px, 100, 1.0, 1.0), WHITE_POINT)
    assert np.median(fraction) > 0.3
    may = may_hold_tissue(grid, seen_from_afar(image, 20), 20.0, WHITE_POINT, 0.3)
    assert may[fraction >= 0.3].all()


def test_glass_and_padding_are_passed_over_and_the_edge_of_tissue_is_not():
    image = np.full((1200, 1200, 3), GLASS, np.uint8)
    image[:, :300], image[400:800, 650:900] = BLACK, TISSUE
    grid = grid_over((1200, 1200), 1.0, 100)
    may = may_hold_tissue(grid, seen_from_afar(image, 20), 20.0, WHITE_POINT, 0.3).reshape(12, 12)
    assert may[4:8, 6:9].all()
    # Of the tiles around, those may hold tissue whose neighbouring pixels of the overview show it.
    assert not may[:3].any()
    assert not may[9:].any()
    assert not may[:, :5].any()
    assert may_hold_tissue(grid, seen_from_afar(image, 20), 20.0, WHITE_POINT, 0).all()


def test_the_share_of_tissue_of_overlapping_tiles_is_that_of_each_alone():
    image = np.full((90, 120, 3), GLASS, np.uint8)
    image[20:70, 30:95] = TISSUE
    image[:10] = BLACK
    grid = grid_over((120, 90), 1.0, 30, 7)
    bounds = pixel_bounds(grid.centers_px, 30, 1.0, 1.0)
    edges = np.unique(bounds[:, ::2]), np.unique(bounds[:, 1::2])
    alone = tissue_fraction(image, bounds, WHITE_POINT)
    np.testing.assert_array_equal(tissue_fraction(image, bounds, WHITE_POINT, edges), alone)
    assert overview_tissue(grid, image, 1.0, WHITE_POINT) == pytest.approx(alone)
