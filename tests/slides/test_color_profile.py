"""Colours by a file's profile, and in sRGB."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from nsl.prediction import predict
from nsl.result import Provenance
from nsl.slides.color_profile import MAX_BYTES, ColorProfile
from nsl.slides.slide import open_slide
from nsl.weights.folder import load_weights
from tests.made_profiles import SRGB_PRIMARIES, made_profile

WIDE = made_profile("Made, wide gamut")
COLORS = np.array([[255, 255, 255], [128, 128, 128], [200, 100, 180], [90, 60, 140]], np.uint8)
# By hand: (v / 255) ** 1.8 through the primaries to XYZ (D50), by the inverse of sRGB's, and sRGB's own curve.
IN_SRGB = np.array([[255, 255, 255], [146, 146, 146], [235, 119, 196], [119, 77, 160]])


def _stored_by_profile(path, profile: bytes) -> None:
    image = np.repeat(np.repeat(COLORS[None], 40, axis=0), 40, axis=1)
    if path.suffix == ".tif":
        tag = (34675, "B", len(profile), profile, True)
        tifffile.imwrite(path, image, photometric="rgb", extratags=[tag])
    else:
        Image.fromarray(image).save(path, icc_profile=profile)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_colours_are_brought_to_srgb_only_where_that_is_asked_for(tmp_path, ending):
    path = tmp_path / f"slide.{ending}"
    _stored_by_profile(path, WIDE)
    with open_slide(path) as slide:
        assert slide.color_profile.name == "Made, wide gamut"
        assert not slide.is_converted
        assert (slide.read(0, 0, 160, 40)[20, 20::40] == COLORS).all()
        assert slide.notices == (
            f"Colours of slide.{ending} are stored by the profile “Made, wide gamut”, not sRGB, and are read as they "
            "stand; they can be brought to sRGB.",
        )
    with open_slide(path, to_srgb=True) as slide:
        assert slide.is_converted
        assert slide.read(0, 0, 160, 40)[20, 20::40].astype(int) == pytest.approx(IN_SRGB, abs=1)
        assert slide.thumbnail(16)[2, 2::4].astype(int) == pytest.approx(IN_SRGB, abs=1)
        assert "were brought to sRGB" in slide.notices[0]


@pytest.mark.parametrize(
    "content",
    [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), made_profile("near", SRGB_PRIMARIES, 2.2)],
    ids=["sRGB", "its primaries, gamma 2.2"],
)
def test_a_profile_that_changes_nothing_seen_is_srgb_whatever_its_name(content):
    assert ColorProfile.read(content).is_srgb


def test_a_slide_in_srgb_has_nothing_said_of_its_colours(tmp_path):
    path = tmp_path / "slide.png"
    _stored_by_profile(path, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    with open_slide(path, to_srgb=True) as slide:
        assert not slide.is_converted
        assert slide.notices == ()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no profile",
        WIDE[:200],
        WIDE.replace(b"RGB XYZ ", b"GRAYXYZ "),
        WIDE.replace(b"RGB XYZ ", b"CMYKXYZ "),
        WIDE + bytes(MAX_BYTES),
    ],
    ids=["none", "empty", "text", "cut short", "grey", "inks", "larger than any"],
)
def test_what_is_no_profile_of_rgb_is_as_if_there_were_none(content):
    assert ColorProfile.read(content) is None


def test_a_profile_cut_anywhere_or_changed_opens_the_slide_all_the_same(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(60):
        content = bytearray(WIDE[: len(WIDE) * (number % 10 + 1) // 10])
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path = tmp_path / f"{number}.png"
        _stored_by_profile(path, bytes(content))
        with open_slide(path, to_srgb=True) as slide:
            assert slide.read(0, 0, 160, 40).shape == (40, 160, 3)


def test_a_result_says_what_was_done_with_its_colours(section, tmp_path):
    path, stored = tmp_path / "section.png", io.BytesIO()
    Image.fromarray(section.pixels).save(stored, "PNG", icc_profile=WIDE)
    path.write_bytes(stored.getvalue())
    weights = load_weights()
    for to_srgb in (False, True):
        with open_slide(path, 1.0, to_srgb=to_srgb) as slide:
            known = Provenance.of(predict(slide, weights, genes=["ERBB2"], quality=False))
        assert (known.color_profile, known.brought_to_srgb) == ("Made, wide gamut", to_srgb)
