"""What `nsl.stains` promises: Beer–Lambert both ways, and stain vectors found again."""

import numpy as np
import pytest
from skimage.color import rgb_from_hed

from nsl.stains import (
    HED_VECTORS,
    angle_degrees,
    estimate_stains,
    optical_density,
    transmitted,
)

GLASS = (240, 236, 240)


# Optical density


def test_every_intensity_up_to_the_white_point_comes_back_from_its_optical_density():
    white_point = np.array([240.0, 236.0, 225.0])
    ramp = np.arange(256)[:, None].repeat(3, axis=1)
    image = np.minimum(ramp, white_point).astype(np.uint8)
    np.testing.assert_array_equal(transmitted(optical_density(image, white_point), white_point), image)


def test_optical_density_is_zero_at_and_above_the_white_point_and_positive_below():
    white_point = np.array([240.0, 236.0, 225.0])
    od = optical_density(np.array([[240, 236, 225], [255, 255, 255], [239, 235, 224]], np.uint8), white_point)
    np.testing.assert_array_equal(od[:2], 0)
    assert (od[2] > 0).all()


def test_optical_density_is_the_natural_logarithm():
    od = optical_density(np.array([[[127, 63, 0]]], np.uint8), np.array([255.0, 255.0, 255.0]))
    np.testing.assert_allclose(od, [[[0.693147, 1.386294, 5.545177]]], atol=1e-6)
    assert od.dtype == np.float32


def test_black_has_a_finite_optical_density():
    assert np.isfinite(optical_density(np.zeros((1, 1, 3), np.uint8), np.array(GLASS, float))).all()


def test_a_colour_no_dye_can_make_is_clipped_to_a_byte():
    od = np.array([[-5.0, 0.0, 50.0]])
    np.testing.assert_array_equal(transmitted(od, np.array(GLASS)), [[255, 236, 0]])


def test_hed_vectors_are_those_of_ruifrok_and_johnston():
    np.testing.assert_array_equal(HED_VECTORS, rgb_from_hed)


# Stain vectors


def test_stain_vectors_of_an_image_are_found_again_hematoxylin_first(section):
    od = optical_density(section.pixels, section.white_point).reshape(-1, 3)
    found = estimate_stains(od)
    assert angle_degrees(found.vectors, section.stain_vectors).max() <= 3
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1)
    assert found.residual < 0.05
    # The strongest hundredth of the stained pixels, of which there are about a third.
    strong = np.percentile(section.stain[section.stain.sum(axis=-1) > 0], 99, axis=0)
    np.testing.assert_allclose(found.strengths, strong, rtol=0.1)


@pytest.mark.parametrize("share_of_eosin", [0.1, 0.9])
def test_hematoxylin_comes_first_whichever_is_the_more(section, share_of_eosin):
    rng = np.random.default_rng(0)
    is_eosin = rng.random((20_000, 1)) < share_of_eosin
    od = np.where(is_eosin, *section.stain_vectors[::-1, None]) * rng.uniform(0.6, 1.5, is_eosin.shape)
    assert angle_degrees(estimate_stains(od).vectors, section.stain_vectors).max() <= 3


def test_no_stain_vectors_are_told_from_a_few_stained_pixels(section):
    stained = optical_density(section.pixels[300, 230:470], section.white_point)
    assert estimate_stains(stained) is None
    assert estimate_stains(np.tile(stained, (100, 1))) is not None


@pytest.mark.parametrize(
    ("a", "b", "degrees"),
    [([1, 0, 0], [0, 2, 0], 90), ([1, 1, 0], [3, 0, 0], 45), ([0.3, 0.6, 0.7], [0.6, 1.2, 1.4], 0)],
)
def test_angle_between_vectors_ignores_their_lengths(a, b, degrees):
    assert angle_degrees(np.array(a, float), np.array(b, float)) == pytest.approx(degrees, abs=1e-5)
