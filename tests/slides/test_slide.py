"""What `slide` promises: any image opens, in true µm, with true area averages, or says in a sentence why not."""

import hashlib
import math
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image, ImageOps

from nsl.errors import ScaleError, SlideError
from nsl.slides import slide as slide_module
from nsl.slides.resampling import reduced
from nsl.slides.slide import open_slide
from nsl.system.parallel import beside, cores, over_rows
from tests.slides.test_archive import WHOLE_SLIDE, painted, write_dicom, write_mirax, write_vms

APERIO = Path(__file__).parents[3] / "shared/data/slides/cmu_small_region.svs"
EXIF_ORIENTATION = 274


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Slow waves of colour, which JPEG keeps to a grey level or two."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [150 + 70 * np.sin(x / 90), 140 + 60 * np.cos(y / 80), 160 + 50 * np.sin((x + y) / 100)], axis=-1
    ).astype(np.uint8)


def block_means(pixels: np.ndarray, size: int) -> np.ndarray:
    """Mean of whole size × size blocks, by reshaping."""
    h, w = len(pixels) // size, pixels.shape[1] // size
    return pixels[: h * size, : w * size].reshape(h, size, w, size, -1).mean(axis=(1, 3), dtype=np.float64)


def differ(left: np.ndarray, right: np.ndarray) -> float:
    assert left.shape == right.shape
    return float(np.abs(left.astype(float) - right).max())


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def save_jpeg(path: Path, pixels: np.ndarray, **options) -> Path:
    return save(path, pixels, quality=97, subsampling=0, **options)


def open_quietly(path: Path, mpp: float | None = None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_slide(path, mpp)


# Reading at a resolution


def test_native_read_returns_the_stored_pixels(tmp_path):
    pixels = noise(37, 53)
    with open_slide(save(tmp_path / "a.png", pixels)) as slide:
        assert slide.size == (53, 37)
        assert (slide.format, slide.scanner, slide.objective_power) == ("PNG", None, None)
        np.testing.assert_array_equal(slide.read(0, 0, 53, 37), pixels)
        region = slide.read(5, 7, 11, 13)
        np.testing.assert_array_equal(region, pixels[7:20, 5:16])
        region[:] = 0
        np.testing.assert_array_equal(slide.read(5, 7, 11, 13), pixels[7:20, 5:16])


def test_coarse_read_is_the_mean_over_each_pixels_area(tmp_path):
    pixels = noise(60, 80)
    with open_slide(save(tmp_path / "a.png", pixels), mpp=0.5) as slide:
        assert differ(slide.read(0, 0, 80, 60, mpp=2.0), block_means(pixels, 4)) <= 0.501
        assert differ(slide.read(10, 5, 30, 20, mpp=2.5), block_means(pixels[5:25, 10:40], 5)) <= 0.501


def test_fractional_reduction_weighs_pixels_by_the_part_inside(tmp_path):
    pixels = noise(40, 50)
    halves = pixels.repeat(2, axis=0).repeat(2, axis=1)
    with open_slide(save(tmp_path / "a.png", pixels), mpp=1.0) as slide:
        assert differ(slide.read(0, 0, 50, 40, mpp=2.5), block_means(halves, 5)) <= 0.501
        from_half = block_means(halves[1:61, 3:83], 5)
        assert differ(slide.read(1.5, 0.5, 40, 30, mpp=2.5), from_half) <= 0.501


@pytest.mark.parametrize("mpp", [1.0, 1.3, 2.5, 3.0, 4.35])
@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
def test_band_equals_the_same_rows_of_the_whole(tmp_path, kind, mpp):
    path = tmp_path / f"a.{kind}"
    if kind == "tif":
        tifffile.imwrite(path, noise(211, 157), tile=(64, 64), photometric="rgb")
    else:
        save(path, noise(211, 157))
    with open_slide(path, mpp=0.7) as slide:
        width, height = slide.size
        whole = slide.read(0, 0, width, height, mpp=mpp)
        row = height / len(whole)
        for first, last in [(0, 1), (1, 8), (8, 30), (30, len(whole))]:
            band = slide.read(0, first * row, width, (last - first) * row, mpp=mpp)
            np.testing.assert_array_equal(band, whole[first:last])


def test_result_does_not_depend_on_the_size_of_blocks(tmp_path, monkeypatch):
    with open_slide(save(tmp_path / "a.png", noise(90, 120)), mpp=1.0) as slide:
        whole = slide.read(0, 0, 120, 90, mpp=3.7)
        monkeypatch.setattr(slide_module, "BLOCK_PIXELS", 500)
        monkeypatch.setattr(slide_module, "BLOCK_WIDTH", 25)
        np.testing.assert_array_equal(slide.read(0, 0, 120, 90, mpp=3.7), whole)


def test_output_has_the_pixels_the_micrometres_ask_for(tmp_path):
    with open_slide(save(tmp_path / "a.png", noise(100, 130)), mpp=0.69) as slide:
        assert slide.read(0, 0, 130, 100, mpp=3.0).shape == (23, 30, 3)
        assert slide.read(0, 0, 1, 1, mpp=90).shape == (1, 1, 3)
        assert slide.read(129.8, 99.8, 0.2, 0.2).shape == (1, 1, 3)
        assert slide.read(0, 0, 130, 100, mpp=0.69 * 0.9995).shape == (100, 130, 3)


def test_finer_than_the_slide_is_refused_not_invented(tmp_path):
    with (
        open_slide(save(tmp_path / "a.png", noise(20, 20)), mpp=0.5) as slide,
        pytest.raises(ScaleError, match=r"a\.png has 0\.5 µm/px at its finest, 0\.4 was asked"),
    ):
        slide.read(0, 0, 20, 20, mpp=0.4)


@pytest.mark.parametrize(
    "region",
    [(-1, 0, 5, 5), (0, 0, 31, 5), (0, 16, 5, 5), (0, 0, 0, 5), (0, 0, 5, -2), (math.nan, 0, 5, 5)],
)
def test_region_outside_the_slide_is_refused_with_both_sizes(tmp_path, region):
    with (
        open_slide(save(tmp_path / "a.png", noise(20, 30))) as slide,
        pytest.raises(SlideError, match=r"region x=.* is not inside a\.png, which is 30 × 20 px"),
    ):
        slide.read(*region)


def test_thumbnail_fits_its_side_needs_no_scale_and_never_enlarges(tmp_path):
    pixels = noise(90, 120)
    with open_slide(save(tmp_path / "a.png", pixels)) as slide:
        assert differ(slide.thumbnail(40), block_means(pixels, 3)) <= 0.501
        np.testing.assert_array_equal(slide.thumbnail(500), pixels)


# JPEG, decoded straight to a fraction


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_scaled_jpeg_decode_agrees_with_reducing_the_full_decode(tmp_path, factor):
    path = save_jpeg(tmp_path / "a.jpg", smooth(480, 640))
    full = np.asarray(Image.open(path))
    with open_slide(path, mpp=0.5) as slide:
        assert slide.levels == (1.0, 2.0, 4.0, 8.0)
        assert differ(slide.read(0, 0, 640, 480, mpp=0.5 * factor), block_means(full, factor)) <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(333, 421), (327, 428)])
def test_a_marker_keeps_its_place_at_every_scale_and_orientation(tmp_path, size, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    pixels = np.full((*size, 3), 235, np.uint8)
    pixels[101:149, 40:104] = (90, 20, 110)
    path = save_jpeg(tmp_path / "a.jpg", pixels, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path))).astype(float)
    with open_slide(path, mpp=0.5) as slide:
        assert slide.size == (upright.shape[1], upright.shape[0])
        for mpp in (0.5, 0.9, 1.0, 1.7, 2.0, 3.1, 4.0, 5.3):
            seen = slide.read(0, 0, *slide.size, mpp=mpp).astype(float)
            assert np.allclose(_centre(seen), _centre(upright), atol=0.25), mpp


def _centre(image: np.ndarray) -> tuple[float, float]:
    """Centre of what is dark, in px of a 400 × 400 frame laid over any size of the image."""
    dark = 235 - image[..., 1]
    dark[dark < 6] = 0
    y, x = np.mgrid[0 : dark.shape[0], 0 : dark.shape[1]] + 0.5
    rows, columns = dark.shape
    return float((dark * y).sum() / dark.sum() / rows * 400), float((dark * x).sum() / dark.sum() / columns * 400)


def test_bands_of_a_jpeg_are_decoded_once(tmp_path, monkeypatch):
    path = save_jpeg(tmp_path / "a.jpg", smooth(160, 160))
    decoded, decode = [], simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda *given, **kept: decoded.append(kept["buffer"].shape) or decode(*given, **kept)
    )
    with open_slide(path, mpp=1.0) as slide:
        for y in range(0, 160, 32):
            slide.read(0, y, 160, 32, mpp=4.0)
    assert decoded == [(40, 40, 3)]


def test_a_reduced_picture_has_the_means_of_equal_boxes():
    pixels = noise(60, 90)
    assert differ(reduced(pixels, (30, 20)), block_means(pixels, 3)) <= 0.5
    # In a box of 1.5 px lie all of a pixel and a half of its neighbour.
    row = np.repeat(np.array([[30, 60, 90]], np.uint8)[..., None], 3, axis=-1)
    assert reduced(row, (2, 1))[0, :, 0].tolist() == [40, 80]


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_exif_orientation_is_applied(tmp_path, orientation, turns, kind):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    pixels = smooth(120, 200)
    path = save(tmp_path / f"a.{kind}", pixels, exif=exif, **({"quality": 98} if kind == "jpg" else {}))
    with open_slide(path) as slide:
        expected = np.rot90(pixels, turns)
        assert slide.size == (expected.shape[1], expected.shape[0])
        assert np.abs(slide.read(0, 0, *slide.size).astype(float) - expected).mean() < 2


# What pixels are made of


def test_transparency_is_laid_on_white_and_said(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2] = (200, 0, 100, 255)
    pixels[2:, :2] = (200, 0, 100, 51)
    with pytest.warns(UserWarning, match=r"a\.png has transparency"):
        slide = open_slide(save(tmp_path / "a.png", pixels))
    read = slide.read(0, 0, 4, 4)
    assert read[0, 0].tolist() == [200, 0, 100]
    assert differ(read[3, 0], np.array([244, 204, 224])) <= 1
    assert read[3, 3].tolist() == [255, 255, 255]
    assert len(slide.notices) == 1


def test_palette_with_transparency_becomes_rgb_on_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50, 1, 2, 3])
    image.save(tmp_path / "a.png", transparency=2)
    assert open_quietly(tmp_path / "a.png").read(0, 0, 2, 2).tolist() == [
        [[10, 20, 30], [200, 100, 50]],
        [[200, 100, 50], [255, 255, 255]],
    ]


def test_cmyk_jpeg_is_converted_and_said(tmp_path):
    Image.new("CMYK", (32, 32), (0, 255, 0, 0)).save(tmp_path / "a.jpg")
    with pytest.warns(UserWarning, match="CMYK"):
        slide = open_slide(tmp_path / "a.jpg")
    assert differ(slide.read(0, 0, 1, 1)[0, 0], np.array([255, 0, 255])) <= 3


def test_grey_is_refused_but_grey_stored_as_rgb_opens(tmp_path):
    grey = noise(70, 70)[..., 0]
    save(tmp_path / "l.png", grey)
    save(tmp_path / "l.jpg", grey)
    Image.fromarray(grey > 100).save(tmp_path / "bit.png")
    Image.fromarray(grey.astype(np.uint16)).save(tmp_path / "i16.png")
    tifffile.imwrite(tmp_path / "l.tif", grey)
    tifffile.imwrite(tmp_path / "tiled.tif", grey, tile=(32, 32))
    for name in ("l.png", "l.jpg", "bit.png", "i16.png", "l.tif", "tiled.tif"):
        with pytest.raises(SlideError, match=f"{name} is greyscale; colour is what the model reads"):
            open_slide(tmp_path / name)
    assert open_slide(save(tmp_path / "rgb.png", np.dstack([grey] * 3))).size == (70, 70)


@pytest.mark.parametrize(("top", "white"), [(4095, 4095), (60000, 65535), (200, 255)])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_16_bit_tiff_is_rescaled_and_said(tmp_path, top, white, tile):
    pixels = np.random.default_rng(1).integers(0, top + 1, (50, 60, 3)).astype(np.uint16)
    pixels[0, 0] = top
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=tile)
    with pytest.warns(UserWarning, match=f"a.tif holds uint16 values up to {top}; 0 to {white} became 0 to 255"):
        slide = open_slide(tmp_path / "a.tif")
    assert slide.notices
    assert differ(slide.read(0, 0, 60, 50), pixels / white * 255) <= 0.51


def test_float_tiff_opens_in_0_to_1_and_is_refused_below_0(tmp_path):
    pixels = np.random.default_rng(1).random((20, 20, 3), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    assert differ(open_quietly(tmp_path / "a.tif").read(0, 0, 20, 20), pixels * 255) <= 0.51
    pixels[3, 4, 1] = -2
    tifffile.imwrite(tmp_path / "b.tif", pixels, photometric="rgb")
    with pytest.raises(SlideError, match=r"b\.tif holds float32 values from -2 to 0\.99.*; export it as 8-bit RGB"):
        open_slide(tmp_path / "b.tif")


# TIFFs


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True, "rowsperstrip": 7},
        {"tile": (64, 64)},
        {"tile": (48, 48)},
        {"tile": (64, 64), "compression": "deflate"},
        {"planarconfig": "separate"},
        {"planarconfig": "separate", "tile": (64, 64), "compression": "lzw"},
        {"planarconfig": "separate", "rowsperstrip": 40},
        {"bigtiff": True},
    ],
    ids=str,
)
def test_any_lossless_rgb_tiff_gives_its_pixels(tmp_path, options):
    pixels = noise(150, 190)
    stored = np.moveaxis(pixels, -1, 0).copy() if "planarconfig" in options else pixels
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **options)
    with open_slide(tmp_path / "a.tif", mpp=0.5) as slide:
        assert slide.format == "TIFF"
        np.testing.assert_array_equal(slide.read(30, 20, 100, 90), pixels[20:110, 30:130])
        assert differ(slide.read(0, 0, 190, 150, mpp=2.5), block_means(pixels, 5)) <= 0.501


@pytest.mark.parametrize("ome", [False, True])
def test_jpeg_compressed_tiled_tiff_opens_in_true_colour(tmp_path, ome):
    pixels = smooth(200, 260)
    path = tmp_path / ("a.ome.tif" if ome else "a.tif")
    tifffile.imwrite(path, pixels, photometric="rgb", compression="jpeg", compressionargs={"level": 95}, tile=(64, 64))
    with open_slide(path) as slide:
        assert slide.format == ("OME-TIFF" if ome else "TIFF")
        assert np.abs(slide.read(0, 0, 260, 200).astype(float) - pixels).mean() < 3


def test_the_edge_of_a_tiled_tiff_is_not_padded(tmp_path):
    pixels = np.full((101, 131, 3), 40, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(64, 64))
    with open_slide(tmp_path / "a.tif", mpp=1.0) as slide:
        assert type(slide._reader).__name__ == "StoredTilesReader"
        assert (slide.read(0, 0, 131, 101, mpp=3.0) == 40).all()


def test_palette_and_cmyk_tiffs_fall_to_pillow(tmp_path):
    image = Image.fromarray(smooth(40, 50))
    image.quantize(64).save(tmp_path / "p.tif")
    image.convert("CMYK").save(tmp_path / "c.tif")
    assert open_quietly(tmp_path / "p.tif").read(0, 0, 50, 40).std() > 5
    assert differ(open_quietly(tmp_path / "c.tif").read(0, 0, 50, 40), smooth(40, 50)) <= 2


@pytest.mark.parametrize(("extra", "expected"), [("unassalpha", [231, 204, 214]), ("assocalpha", [255, 204, 255])])
def test_alpha_of_a_tiff_is_laid_on_white(tmp_path, extra, expected):
    pixels = np.tile(np.array([137, 0, 50, 51], np.uint8), (20, 20, 1))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[extra])
    assert differ(open_quietly(tmp_path / "a.tif").read(0, 0, 1, 1)[0, 0], np.array(expected)) <= 1


def write_pyramid(path: Path, levels: list[np.ndarray], **metadata) -> Path:
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            levels[0],
            subifds=len(levels) - 1,
            tile=(64, 64),
            photometric="rgb",
            metadata={"axes": "YXS", **metadata},
        )
        for level in levels[1:]:
            writer.write(level, subfiletype=1, tile=(64, 64), photometric="rgb")
    return path


def test_pyramidal_ome_tiff_reads_the_coarsest_level_fine_enough(tmp_path):
    shades = [np.full((301 // f, 403 // f, 3), shade, np.uint8) for f, shade in [(1, 10), (2, 20), (4, 40)]]
    path = write_pyramid(tmp_path / "a.ome.tif", shades, PhysicalSizeX=0.25, PhysicalSizeXUnit="µm")
    with open_slide(path) as slide:
        assert slide.levels == (1.0, 2.0, 4.0)
        asked = {0.25: 10, 0.4: 10, 0.5: 20, 0.99: 20, 1.0: 40, 3.0: 40}
        seen = {mpp: np.unique(slide.read(0, 0, 403, 301, mpp=mpp)).tolist() for mpp in asked}
        assert seen == {mpp: [shade] for mpp, shade in asked.items()}
        assert np.unique(slide.thumbnail(50)).tolist() == [40]
        assert slide.read(402.5, 300.5, 0.5, 0.5, mpp=1.0).tolist() == [[[40, 40, 40]]]


@pytest.mark.parametrize(
    ("size", "unit", "mpp"),
    [(230, "nm", 0.23), (0.0005, "mm", 0.5), (0.25, "µm", 0.25), (0.00005, "cm", 0.5), (2, "pixel", None)],
)
def test_ome_tiff_scale_is_read_in_its_unit(tmp_path, size, unit, mpp):
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(30, 40), photometric="rgb", metadata=metadata)
    slide = open_slide(tmp_path / "a.ome.tif")
    assert slide.format == "OME-TIFF"
    assert slide.mpp == (None if mpp is None else pytest.approx(mpp))


def test_three_channel_ome_tiff_opens_and_other_stacks_are_refused(tmp_path):
    planes = noise(3, 30).repeat(20, axis=2)[..., :40]
    tifffile.imwrite(tmp_path / "c.ome.tif", planes, photometric="minisblack", metadata={"axes": "CYX"})
    np.testing.assert_array_equal(open_quietly(tmp_path / "c.ome.tif").read(0, 0, 40, 30), np.moveaxis(planes, 0, -1))
    for name, axes, shape, why in [
        ("z.ome.tif", "ZYX", (5, 30, 40), "holds 5 images"),
        ("m.ome.tif", "CYX", (4, 30, 40), "has 4 channels"),
    ]:
        tifffile.imwrite(tmp_path / name, np.zeros(shape, np.uint8), photometric="minisblack", metadata={"axes": axes})
        with pytest.raises(SlideError, match=f"{name} {why}"):
            open_slide(tmp_path / name)


# µm/px


@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize(
    ("resolution", "unit", "mpp"),
    [
        (20000, "CENTIMETER", 0.5),
        (101600, "INCH", 0.25),
        (72, "INCH", None),
        (300, "INCH", None),
        (20000, "NONE", None),
    ],
)
def test_tiff_resolution_is_a_scale_only_where_believable(tmp_path, resolution, unit, mpp, tile):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, noise(40, 50), photometric="rgb", tile=tile, resolution=(resolution,) * 2, resolutionunit=unit
    )
    assert open_slide(path).mpp == (None if mpp is None else pytest.approx(mpp))


def test_imagej_tiff_scale_is_read_in_its_unit(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(20, 20), imagej=True, resolution=(4, 4), metadata={"unit": "micron"})
    slide = open_slide(tmp_path / "a.tif")
    assert (slide.mpp, slide.format) == (pytest.approx(0.25), "ImageJ TIFF")


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_dpi_of_a_photo_never_becomes_a_scale(tmp_path, kind):
    path = save(tmp_path / f"a.{kind}", noise(20, 20), dpi=(50800, 50800))
    slide = open_slide(path)
    assert slide.mpp is None
    with pytest.raises(ScaleError, match=f"a.{kind} has no µm/px in its metadata; give it: 0.25 for a 40× scan"):
        slide.read(0, 0, 20, 20, mpp=3.0)


def test_require_mpp_says_how_to_give_it(tmp_path):
    slide = open_slide(save(tmp_path / "a.png", noise(5, 5)))
    with pytest.raises(ScaleError) as caught:
        slide.require_mpp()
    assert str(caught.value) == (
        "a.png has no µm/px in its metadata; give it: 0.25 for a 40× scan, 0.5 for 20× (--mpp on the command "
        "line, the column mpp of a list or manifest)"
    )
    assert open_slide(tmp_path / "a.png", mpp=0.5).require_mpp() == 0.5


def ome_with_scale(path: Path, x: float, y: float) -> Path:
    metadata = {"axes": "YXS", "PhysicalSizeX": x, "PhysicalSizeY": y}
    tifffile.imwrite(path, noise(20, 20), photometric="rgb", metadata=metadata)
    return path


def test_callers_scale_wins_and_the_difference_is_said(tmp_path):
    path = ome_with_scale(tmp_path / "a.ome.tif", 0.25, 0.25)
    slide = open_slide(path, mpp=0.5)
    assert slide.mpp == 0.5
    assert slide.notices == ("a.ome.tif says 0.25 µm/px; the 0.5 given is used.",)
    assert open_slide(path, mpp=0.25).notices == ()


def test_pixels_that_are_not_square_are_said_or_refused(tmp_path):
    assert open_slide(ome_with_scale(tmp_path / "a.ome.tif", 0.5, 0.505)).notices == ()
    slide = open_slide(ome_with_scale(tmp_path / "b.ome.tif", 0.5, 0.54))
    assert slide.mpp == pytest.approx(0.52)
    assert "0.5 × 0.54 µm" in slide.notices[0]
    path = ome_with_scale(tmp_path / "c.ome.tif", 0.5, 1.0)
    with pytest.raises(ScaleError, match=r"0\.5 × 1 µm, which are not square"):
        open_slide(path)
    assert open_slide(path, mpp=0.5).mpp == 0.5


@pytest.mark.parametrize("mpp", [0, -0.5, math.nan, math.inf, 1000, 0.001])
def test_impossible_scale_is_refused_with_the_value(tmp_path, mpp):
    path = save(tmp_path / "a.png", noise(5, 5))
    with pytest.raises(ScaleError, match=f"got {mpp:g}; give 0.25 for a 40× scan or 0.5 for 20×"):
        open_slide(path, mpp=mpp)
    with pytest.raises(ScaleError, match=f"got {mpp:g}"):
        open_slide(path, mpp=0.5).read(0, 0, 5, 5, mpp=mpp)


# Files that are not what they should be


def cut(path: Path, part: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def bad_files(folder: Path) -> dict[str, str]:
    """File name → the reason that must be given."""
    (folder / "folder.svs").mkdir()
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not an image\n" * 50)
    (folder / "report.tif").write_bytes(b"%PDF-1.7".ljust(600, b"\0"))
    (folder / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "noise.svs").write_bytes(bytes(range(256)) * 4)
    for name in ("cut.jpg", "cut.png", "cut.bmp", "cut.webp"):
        save(folder / name, noise(200, 200))
        cut(folder / name)
    for name, options in [
        ("cut.tif", {}),
        ("cut-lzw.tif", {"compression": "lzw", "rowsperstrip": 16}),
        ("cut-tiled.tif", {"tile": (64, 64)}),
        ("cut.ome.tif", {"tile": (64, 64)}),
    ]:
        tifffile.imwrite(folder / name, noise(200, 200), photometric="rgb", **options)
        cut(folder / name)
    tifffile.imwrite(folder / "stub.tif", noise(20, 20), photometric="rgb")
    cut(folder / "stub.tif", 0.02)
    damaged = {path.name: "damaged or incomplete" for path in folder.glob("cut*")}
    return damaged | {
        "missing.svs": "does not exist",
        "folder.svs": "is a folder",
        "empty.jpg": "is empty (0 bytes); export it again",
        "text.jpg": "looks like a text file, which is not read as a slide; open a JPEG",
        "report.tif": "looks like a PDF",
        "header.png": "damaged or incomplete",
        "noise.svs": "an unknown kind of file",
        "stub.tif": "damaged or incomplete",
    }


def test_every_bad_file_is_told_in_one_sentence_without_its_folder(tmp_path):
    folder = tmp_path / "Patient Smith"
    folder.mkdir()
    for name, reason in bad_files(folder).items():
        with pytest.raises(SlideError) as caught, open_slide(folder / name) as slide:
            slide.read(0, 0, *slide.size)
        message = str(caught.value)
        assert message.startswith(name), message
        assert reason in message, message
        assert "Smith" not in message, message
        assert "\n" not in message, message
        assert "Traceback" not in message, message
        assert "Error" not in message, message


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_a_cut_jpeg_is_never_half_grey_at_any_scale(tmp_path, factor):
    path = save_jpeg(tmp_path / "a.jpg", smooth(400, 400))
    cut(path, 0.7)
    slide = open_slide(path, mpp=0.5)
    with pytest.raises(SlideError, match=r"a\.jpg is damaged or incomplete"):
        slide.read(0, 0, 400, 400, mpp=0.5 * factor)


def test_spoilt_tiles_are_told_and_the_others_still_read(tmp_path):
    path, pixels = tmp_path / "a.ome.tif", noise(200, 200)
    tifffile.imwrite(path, pixels, photometric="rgb", compression="deflate", tile=(64, 64))
    with tifffile.TiffFile(path) as tiff:
        offsets, counts = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
    content = bytearray(path.read_bytes())
    for tile in (0, 5):
        content[offsets[tile] : offsets[tile] + counts[tile]] = bytes(counts[tile])
    path.write_bytes(content)
    with open_slide(path) as slide:
        with pytest.raises(SlideError, match=r"a\.ome\.tif is damaged"):
            slide.read(0, 0, 200, 200)
        np.testing.assert_array_equal(slide.read(130, 3, 60, 190), pixels[3:193, 130:190])


def test_large_photos_open_without_a_warning_and_huge_ones_are_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_slide(path) as slide:
            assert slide.thumbnail().shape == (30, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    header = bytearray(save(tmp_path / "small.bmp", noise(4, 4)).read_bytes())
    header[18:26] = (30000).to_bytes(4, "little") * 2
    (tmp_path / "huge.bmp").write_bytes(header)
    with pytest.raises(SlideError, match=r"huge\.bmp has 900 megapixels.*vips tiffsave huge\.bmp slide\.tif"):
        open_slide(tmp_path / "huge.bmp")


# Slides of several files


@pytest.mark.parametrize("entry", ["ImageFile=", "MapFile=", "MacroImage=", "OptimisationFile="])
@pytest.mark.parametrize("name", ["upload.jpg", "slide.svs", "s.vms"])
def test_a_vms_slide_cannot_have_a_file_of_another_folder_read_whatever_it_is_called(tmp_path, entry, name):
    write_vms(tmp_path / "other/x.vms", painted(256, 256), 0.46)
    own = write_vms(tmp_path / "own/s.vms", painted(256, 256), 0.46).rename(tmp_path / "own" / name)
    lines = [line for line in own.read_text().splitlines() if not line.startswith(entry)]
    for outside in ("../other/x.jpg", str(tmp_path / "other/x.jpg"), "..\\other\\x.jpg"):
        own.write_text("\n".join([*lines, f"{entry}{outside}"]))
        with pytest.raises(SlideError) as caught:
            open_slide(own)
        assert str(caught.value) == f"{name} names a file outside its folder, {outside}; export the slide again"


@pytest.mark.parametrize(("entry", "file"), [("FILE_0 = ", "Data0000.dat"), ("INDEXFILE = ", "Index.dat")])
@pytest.mark.parametrize("name", ["s.mrxs", ".mrxs"])
def test_a_mirax_slide_cannot_have_a_file_of_another_folder_read(tmp_path, entry, file, name):
    write_mirax(tmp_path / "other/x.mrxs", painted(), 0.25)
    own = write_mirax(tmp_path / "own/s.mrxs", painted(), 0.25)
    slidedat = tmp_path / "own/s/Slidedat.ini"
    if name == ".mrxs":  # its data lie in its own folder
        for part in slidedat.parent.iterdir():
            part.rename(tmp_path / "own" / part.name)
        own, slidedat = own.rename(tmp_path / "own/.mrxs"), tmp_path / "own/Slidedat.ini"
    with open_slide(own) as slide:
        assert slide.format == "3DHISTECH MIRAX"
    text = slidedat.read_text()
    assert entry + file in text
    for outside in (f"../../other/x/{file}", str(tmp_path / "other/x" / file)):
        slidedat.write_text(text.replace(entry + file, entry + outside))
        with pytest.raises(SlideError) as caught:
            open_slide(own)
        assert str(caught.value) == f"{name} names a file outside its folder, {outside}; export the slide again"


def test_an_ome_tiff_cannot_have_a_file_of_another_folder_read(tmp_path):
    (tmp_path / "other").mkdir()
    tifffile.imwrite(tmp_path / "other/x.ome.tif", noise(150, 190), photometric="rgb")
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="190" '
        'SizeY="150" SizeC="3" SizeZ="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="3"/>'
        '<TiffData IFD="0" PlaneCount="1"><UUID FileName="other/x.ome.tif">urn:uuid:2</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    pixels = noise(60, 70, seed=1)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, photometric="rgb", description=xml, metadata=None)
    with open_slide(tmp_path / "a.ome.tif") as slide:
        assert slide.size == (70, 60)
        np.testing.assert_array_equal(slide.read(0, 0, 70, 60), pixels)


@pytest.mark.parametrize("content", ["overview", "anything"])
def test_a_mirax_file_without_its_data_is_not_taken_for_a_picture(tmp_path, content):
    path = tmp_path / "a.mrxs"
    save(path, noise(60, 60), format="JPEG") if content == "overview" else path.write_bytes(b"anything")
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert str(caught.value) == (
        "a.mrxs is only part of its slide; zip it together with the folder of the same name beside it "
        "(on the command line: put that folder beside it)"
    )


def test_a_mirax_slide_named_in_capitals_is_told_to_be_renamed(tmp_path):
    write_mirax(tmp_path / "A.MRXS", painted(), 0.25)
    with pytest.raises(SlideError, match=r"A\.MRXS is read only under a name that ends in \.mrxs, in small letters"):
        open_slide(tmp_path / "A.MRXS")


def test_dicom_that_is_no_slide_is_told_as_such(tmp_path):
    path = write_dicom(tmp_path, painted(), 0.5)[0]
    path.write_bytes(path.read_bytes().replace(WHOLE_SLIDE.encode(), b"1.2.840.10008.5.1.4.1.1.2\0\0\0\0\0"))
    with pytest.raises(SlideError, match=r"IM0001\.dcm is DICOM, but not whole-slide microscopy; export the slide as"):
        open_slide(path)


def digest(path: Path) -> str:
    with open_slide(path) as slide:
        return slide.sha256


def change_a_byte(path: Path) -> None:
    """One bit of its middle, which is pixels or a table; the slide need not open any more."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


WRITERS = {
    "MIRAX": lambda folder: write_mirax(folder / "s.mrxs", painted(), 0.25),
    "VMS": lambda folder: write_vms(folder / "s.vms", painted(256, 256), 0.46),
    "DICOM": lambda folder: write_dicom(folder, painted(), 0.5)[2],
}


@pytest.mark.parametrize("orientation", [0, 9])
def test_a_tiff_whose_orientation_is_none_is_not_turned(tmp_path, orientation):
    path, plain = tmp_path / "a.tif", tmp_path / "plain.tif"
    Image.fromarray(noise(40, 60)).save(path, tiffinfo={EXIF_ORIENTATION: orientation})
    Image.fromarray(noise(40, 60)).save(plain)
    with open_slide(path, mpp=1.0) as slide, open_slide(plain, mpp=1.0) as as_it_is:
        assert not slide.is_turned
        assert not any("turned" in notice for notice in slide.notices)
        np.testing.assert_array_equal(slide.read(0, 0, *slide.size), as_it_is.read(0, 0, *slide.size))


def test_the_checksum_of_one_slide_holds_up_neither_anothers_nor_any_work(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        Image.fromarray(noise(40, 40)).save(path)
    one, other = (open_slide(path, mpp=1.0) for path in paths)
    is_read, may_end = threading.Event(), threading.Event()

    def wait(self, path, was_closed):
        if path == paths[0]:
            is_read.set()
            may_end.wait(60)
        return path.name

    monkeypatch.setattr(type(one), "_file_sha256", wait)
    waiting = [beside(lambda slide=slide: slide.sha256) for slide in (one, *[open_slide(paths[0], mpp=1.0)] * cores())]
    assert is_read.wait(60)
    assert beside(lambda: other.sha256).result(60) == "b.png"
    done = []
    over_rows(lambda start, stop: done.append(stop - start), 64)
    assert sum(done) == 64
    may_end.set()
    assert {first.result(60) for first in waiting} == {"a.png"}


def test_a_checksum_that_nobody_waits_for_is_given_up_when_the_slide_is_closed(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(noise(40, 40)).save(path)
    slide = open_slide(path, mpp=1.0)

    class Endless:
        left = 100

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, count: int) -> bytes:
            slide.close()
            self.left -= 1
            return bytes(min(count, 9)) if self.left else b""

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_, **__: Endless())
        with pytest.raises(SlideError, match=r"a\.png was closed before its checksum was told"):
            slide.sha256  # noqa: B018
    assert slide.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", WRITERS)
def test_every_file_of_a_slide_counts_towards_its_sha256_and_no_others(tmp_path, kind):
    path = WRITERS[kind](tmp_path / "folder")
    files = sorted(file for file in (tmp_path / "folder").rglob("*") if file.is_file())
    assert len(files) >= 3
    whole = digest(path)
    for file in files:
        content = file.read_bytes()
        with open_slide(path) as slide:  # before the change, as a damaged one may not open
            change_a_byte(file)
            assert slide.sha256 != whole, file.name
        file.write_bytes(content)
    for folder in {file.parent for file in files}:
        (folder / "Thumbs.db").write_bytes(b"of the system")
    if kind == "DICOM":
        write_dicom(tmp_path / "other series", painted(), 0.5)[0].rename(tmp_path / "folder/other.dcm")
    assert digest(path) == whole


def test_a_slide_of_several_files_keeps_its_sha256_when_it_is_renamed(tmp_path):
    mirax, vms = WRITERS["MIRAX"](tmp_path / "mirax"), WRITERS["VMS"](tmp_path / "vms")
    before = digest(mirax), digest(vms)
    (tmp_path / "mirax/s").rename(tmp_path / "mirax/renamed")
    after = digest(mirax.rename(tmp_path / "mirax/renamed.mrxs")), digest(vms.rename(tmp_path / "vms/renamed.vms"))
    assert after == before


def test_two_mirax_slides_whose_data_files_are_swapped_differ(tmp_path):
    path = WRITERS["MIRAX"](tmp_path)
    before, data, index = digest(path), tmp_path / "s/Data0000.dat", tmp_path / "s/Index.dat"
    with open_slide(path) as slide:
        contents = data.read_bytes(), index.read_bytes()
        index.write_bytes(contents[0])
        data.write_bytes(contents[1])
        assert slide.sha256 != before


def test_dicom_has_one_sha256_by_whichever_file_it_is_opened_and_however_they_are_called(tmp_path):
    files = write_dicom(tmp_path / "a", painted(), 0.5)
    (whole,) = {digest(path) for path in files}
    for number, path in enumerate(reversed(files)):
        path.rename(tmp_path / "a" / f"{number}")
    assert digest(tmp_path / "a/1") == whole


def test_one_dicom_file_alone_has_the_sha256_of_its_bytes(tmp_path):
    path = write_dicom(tmp_path / "a", painted(), 0.5)[2].rename(tmp_path / "alone.dcm")
    assert digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_sha256_of_several_files_is_made_as_it_says(tmp_path):
    path = WRITERS["MIRAX"](tmp_path)
    data = tmp_path / "s"
    told = [("", path), *((name, data / name) for name in ("Data0000.dat", "Index.dat", "Slidedat.ini"))]
    lines = sorted(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n" for name, file in told)
    assert digest(path) == hashlib.sha256("".join(lines).encode()).hexdigest()


# The handle


def test_unicode_name_and_str_path_open(tmp_path):
    for name in ("Schnitt µ 切片 é.png", "Schnitt µ 切片 é.tif"):
        save(tmp_path / name, noise(20, 20))
        assert open_slide(str(tmp_path / name)).size == (20, 20)
    tifffile.imwrite(tmp_path / "切片.tif", noise(20, 20), photometric="rgb", tile=(16, 16))
    assert open_slide(tmp_path / "切片.tif").read(0, 0, 20, 20).shape == (20, 20, 3)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "tiled.tif"])
def test_closing_twice_is_fine_and_reading_after_is_refused(tmp_path, name):
    if name == "tiled.tif":
        tifffile.imwrite(tmp_path / name, noise(20, 20), photometric="rgb", tile=(16, 16))
    else:
        save(tmp_path / name, noise(20, 20))
    with open_slide(tmp_path / name) as slide:
        slide.read(0, 0, 5, 5)
    slide.close()
    for read in (lambda: slide.read(0, 0, 5, 5), slide.thumbnail):
        with pytest.raises(SlideError, match=f"{name} is closed"):
            read()
    assert slide.size == (20, 20)


def test_sha256_is_that_of_the_bytes(tmp_path):
    path = save(tmp_path / "a.png", noise(20, 20))
    assert open_slide(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


# A scanner's own file


@pytest.mark.skipif(not APERIO.exists(), reason="the Aperio test slide is not in ../shared/data/slides")
def test_aperio_slide_has_its_scale_and_averages_its_own_pixels():
    with open_slide(APERIO) as slide:
        assert slide.size == (2220, 2967)
        assert slide.mpp == pytest.approx(0.499)
        assert (slide.format, slide.levels, slide.notices) == ("Aperio SVS", (1.0,), ())
        assert (slide.scanner, slide.objective_power) == ("ScanScope CPAPERIOCS", 20)
        stored = slide.read(200, 300, 600, 900)
        assert stored.std() > 10
        coarse = slide.read(200, 300, 600, 900, mpp=0.499 * 6)
        assert differ(coarse, block_means(stored, 6)) <= 0.501
        whole = slide.read(0, 0, 2220, 2967, mpp=3.0)
        assert whole.shape == (494, 369, 3)
        everything = slide.read(0, 0, 2220, 2967)
        assert np.abs(whole.mean((0, 1)) - everything.mean((0, 1))).max() < 0.2
        assert max(slide.thumbnail(300).shape) == 300
