"""What `nuclei` promises: nuclei of known number and size are found, in µm, and their absence is no error."""

import numpy as np
import pytest

from nsl.methods.nuclei import FEATURES, find_nuclei, hematoxylin_threshold, measure_nuclei, nuclei_features
from nsl.slides.slide import open_slide
from nsl.spots.measured_section import Windows
from nsl.stains import HED_VECTORS, transmitted
from nsl.white_point import estimate_white_point

WHITE_POINT = np.array([240.0, 236.0, 240.0])
# Hematoxylin as on the slides of her2st.
NUCLEUS, CYTOPLASM, THRESHOLD = 2.1, 0.5, 1.5


def tissue_with(discs: list[tuple[float, float, float]], side_px: int = 150) -> np.ndarray:
    """Square RGB image of grainy tissue with dark discs of x, y and radius in pixels."""
    y, x = np.mgrid[:side_px, :side_px]
    concentration = np.full((side_px, side_px), CYTOPLASM)
    for x0, y0, radius in discs:
        concentration[(x - x0) ** 2 + (y - y0) ** 2 <= radius**2] = NUCLEUS
    concentration *= np.random.default_rng(1).normal(1, 0.1, concentration.shape)
    return transmitted(concentration[..., None] * HED_VECTORS[0] + 0.2 * HED_VECTORS[1], WHITE_POINT)


def features_of(image: np.ndarray, mpp: float = 1.0) -> dict[str, float]:
    return dict(zip(FEATURES, nuclei_features(image, WHITE_POINT, mpp, THRESHOLD).tolist(), strict=True))


def grid_of_discs(radius: float) -> list[tuple[float, float, float]]:
    return [(x, y, radius) for x in range(20, 140, 25) for y in range(20, 140, 25)]


@pytest.mark.parametrize("radius_um", [3.5, 5.0, 8.0])
def test_dark_discs_are_counted_and_measured(radius_um):
    found = features_of(tissue_with(grid_of_discs(radius_um)))
    area_um2 = np.pi * radius_um**2
    assert found["per_mm2"] == pytest.approx(25 / 0.15**2)
    assert found["area_mean_um2"] == pytest.approx(area_um2, rel=0.15)
    assert found["covered_share"] == pytest.approx(25 * area_um2 / 150**2, rel=0.15)
    assert found["eccentricity_mean"] < 0.35
    assert found["solidity_mean"] > 0.9
    assert found["hematoxylin_mean"] == pytest.approx(NUCLEUS, rel=0.15)
    assert found["neighbour_um"] == pytest.approx(25, rel=0.02)
    assert found["tissue_share"] == 1


def test_twice_the_scale_makes_areas_four_times_and_distances_twice_as_large():
    image = tissue_with(grid_of_discs(7))
    fine, coarse = features_of(image, 0.6), features_of(image, 1.2)
    assert coarse["area_mean_um2"] == pytest.approx(4 * fine["area_mean_um2"], rel=0.1)
    assert coarse["neighbour_um"] == pytest.approx(2 * fine["neighbour_um"], rel=0.02)
    assert coarse["per_mm2"] == pytest.approx(fine["per_mm2"] / 4)


def test_nuclei_are_found_alike_at_both_ends_of_the_usual_resolutions():
    fine, coarse = (features_of(tissue_with([(75 * f, 75 * f, 6 * f)], 150 * f), 1 / f) for f in (2, 1))
    assert fine["per_mm2"] == coarse["per_mm2"]
    assert fine["area_mean_um2"] == pytest.approx(coarse["area_mean_um2"], rel=0.1)


@pytest.mark.parametrize("radius_um", [3.5, 5, 7])
def test_touching_discs_are_split(radius_um):
    image = tissue_with([(70, 75, radius_um), (70 + 2 * radius_um, 75, radius_um)])
    assert features_of(image)["per_mm2"] == pytest.approx(2 / 0.15**2)


def test_a_pale_centre_is_filled():
    image = tissue_with([(75, 75, 7)])
    image[74:77, 74:77] = transmitted(0.6 * NUCLEUS * HED_VECTORS[0], WHITE_POINT)
    assert features_of(image)["area_mean_um2"] == pytest.approx(np.pi * 49, rel=0.15)


def test_kinds_of_nuclei_are_told_by_size_and_shape():
    small, large = features_of(tissue_with(grid_of_discs(3.5))), features_of(tissue_with(grid_of_discs(7)))
    assert small["small_dark_share"] > 0.8 > 0.2 > large["small_dark_share"]
    assert large["large_dark_share"] > 0.8 > 0.2 > small["large_dark_share"]
    spindle = features_of(tissue_with([(65 + x, 75, 2.5) for x in range(16)]))
    assert spindle["elongated_share"] > 0.9


def test_specks_and_clots_are_no_nuclei():
    assert features_of(tissue_with([(40, 40, 1), (90, 90, 25)]))["area_mean_um2"] < 400
    assert features_of(tissue_with([(40, 40, 1)]))["per_mm2"] == 0


@pytest.mark.parametrize("grey", [240, 255, 0])
def test_an_empty_window_gives_zeros(grey):
    """Glass, white padding and black padding alike."""
    image = np.full((40, 40, 3), grey, np.uint8)
    np.testing.assert_array_equal(nuclei_features(image, WHITE_POINT, 1.0, THRESHOLD), 0)


def test_windows_without_nuclei_or_with_one_have_finite_features():
    for discs in ([], [(75, 75, 5)]):
        found = features_of(tissue_with(discs))
        assert np.isfinite(list(found.values())).all()
        assert found["neighbour_um"] == 0
        assert found["hematoxylin_outside"] == pytest.approx(CYTOPLASM, abs=0.05)


def test_a_window_of_one_pixel_has_finite_features():
    assert np.isfinite(nuclei_features(tissue_with([])[:1, :1], WHITE_POINT, 3.2, THRESHOLD)).all()


def test_threshold_of_a_slide_lies_between_nuclei_and_cytoplasm():
    assert CYTOPLASM < hematoxylin_threshold(tissue_with(grid_of_discs(5)), WHITE_POINT) < NUCLEUS


def test_a_slide_of_glass_has_no_nuclei():
    glass = np.broadcast_to(WHITE_POINT.astype(np.uint8), (60, 60, 3))
    windows = Windows(glass, np.array([[0, 0, 30, 30]]), WHITE_POINT, 1.0)
    np.testing.assert_array_equal(measure_nuclei(windows), 0)


def test_windows_over_the_edge_are_measured_by_what_lies_inside():
    image = tissue_with(grid_of_discs(5))
    inside, over = measure_nuclei(Windows(image, np.array([[0, 0, 60, 60], [-40, -9, 60, 60]]), WHITE_POINT, 1.0))
    np.testing.assert_array_equal(inside, over)


def test_nuclei_are_numbered_without_gaps():
    hematoxylin = np.full((60, 60), CYTOPLASM, np.float32)
    hematoxylin[10:18, 10:18] = hematoxylin[40:48, 40:48] = NUCLEUS
    hematoxylin[30:32, 5:7] = NUCLEUS  # too small
    np.testing.assert_array_equal(np.unique(find_nuclei(hematoxylin, 1.0, THRESHOLD)), [0, 1, 2])


def test_nuclei_of_real_tissue_are_of_a_plausible_number_and_size(data_folder):
    with open_slide(data_folder / "slides/cmu_small_region.svs") as slide:
        image = slide.read(0, 0, *slide.size, 1.0)
    white_point = estimate_white_point(image).rgb
    threshold = hematoxylin_threshold(image, white_point)
    found = dict(zip(FEATURES, nuclei_features(image, white_point, 1.0, threshold), strict=True))
    assert 1000 < found["per_mm2"] < 8000
    assert 25 < found["area_mean_um2"] < 120
