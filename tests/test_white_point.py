"""What `nsl.white_point` promises: glass told from padding and tissue."""

import numpy as np
import pytest

from nsl.slides.slide import open_slide
from nsl.stains import transmitted
from nsl.white_point import estimate_white_point

GLASS = (240, 236, 240)


def flat(color: tuple[int, int, int], height: int = 100, width: int = 100) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def grainy(image: np.ndarray, sd: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sd, image.shape)
    return np.clip(np.rint(image + noise), 1, 254).astype(np.uint8)


@pytest.mark.parametrize("padding", [(0, 0, 0), (255, 255, 255)], ids=["black", "white"])
def test_padding_over_most_of_the_image_is_not_the_white_point(section, padding):
    image = np.concatenate([section.pixels, *[np.full_like(section.pixels, padding)] * 9])
    white_point = estimate_white_point(image)
    assert white_point.source == "background"
    np.testing.assert_array_equal(white_point.rgb, section.white_point)


def test_white_point_is_the_mode_of_the_glass_though_tissue_covers_most_of_the_image():
    glass, tissue = flat(GLASS, 10), grainy(flat((170, 100, 160), 90), 15)
    white_point = estimate_white_point(np.concatenate([glass, tissue]))
    assert white_point.source == "background"
    np.testing.assert_array_equal(white_point.rgb, GLASS)


def test_tinted_glass_is_found():
    glass = grainy(flat((222, 208, 225)), 1)
    np.testing.assert_allclose(estimate_white_point(glass).rgb, (222, 208, 225), atol=1)


@pytest.mark.parametrize(
    "image",
    [grainy(flat((150, 90, 150)), 15), grainy(flat((228, 165, 200)), 4), flat((0, 0, 0)), flat((255, 255, 255))],
    ids=["tissue", "eosin-pink stroma", "black", "white"],
)
def test_an_image_without_glass_gets_paper_white_and_says_so(image):
    white_point = estimate_white_point(image)
    assert white_point.source == "paper white"
    np.testing.assert_array_equal(white_point.rgb, 255)


def test_eosin_pink_stroma_does_not_outvote_a_little_glass():
    stroma, glass = flat((228, 165, 200), 95), flat(GLASS, 5)
    np.testing.assert_array_equal(estimate_white_point(np.concatenate([stroma, glass])).rgb, GLASS)


@pytest.mark.parametrize("eosin", [0.2, 0.3])
def test_pale_stroma_does_not_outvote_a_strip_of_glass(section, eosin):
    stroma = flat(tuple(transmitted(eosin * section.stain_vectors[1], section.white_point)), 90)
    image = np.concatenate([grainy(stroma, 6), grainy(flat(GLASS, 10), 1)])
    np.testing.assert_allclose(estimate_white_point(image).rgb, GLASS, atol=2)


def test_paper_white_of_one_image_cannot_be_spoilt_through_another():
    estimate_white_point(flat((0, 0, 0))).rgb[:] = 7
    np.testing.assert_array_equal(estimate_white_point(flat((0, 0, 0))).rgb, 255)


@pytest.mark.parametrize(("section_name", "expected"), [("B4", (222, 208, 225)), ("C2", (244, 240, 239))])
def test_white_point_of_real_sections(data_folder, section_name, expected):
    with open_slide(data_folder / f"her2st/images/{section_name}_full.jpg", mpp=0.69) as slide:
        white_point = estimate_white_point(slide.thumbnail(1024))
    assert white_point.source == "background"
    np.testing.assert_allclose(white_point.rgb, expected, atol=3)
