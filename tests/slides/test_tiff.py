"""What TIFFs of several images, odd depths and rare containers come to: the slide, in its true colours."""

import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from nsl.errors import SlideError
from nsl.slides import tiff
from nsl.slides.picture_sizes import stated_pixels
from nsl.slides.slide import open_slide
from tests.slides.test_slide import open_quietly, smooth

SLIDE, OTHER = (320, 480), (120, 160)


def shade(size: tuple[int, int], value: int) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


# Several images in one file


@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("is_first", [True, False])
def test_the_slide_of_an_ome_tiff_is_the_largest_image_at_its_own_scale(tmp_path, tile, is_first):
    images = [(shade(SLIDE, 200), "", 0.5), (shade(OTHER, 40), "", 16.4)]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        for pixels, name, mpp in images if is_first else images[::-1]:
            metadata = {"axes": "YXS", "Name": name, "PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm"}
            writer.write(pixels, photometric="rgb", tile=tile, metadata=metadata)
    with pytest.warns(UserWarning, match="a.ome.tif holds 2 images"):
        slide = open_slide(tmp_path / "a.ome.tif")
    assert (slide.size, slide.mpp) == ((480, 320), 0.5)
    assert np.unique(slide.read(0, 0, 480, 320)).tolist() == [200]
    place = "1st" if is_first else "2nd"
    assert slide.notices == (
        f"a.ome.tif holds 2 images: that of 480 × 320 px, the {place}, was taken for the slide, and those left out are "
        "of 160 × 120 px.",
    )


@pytest.mark.parametrize("name", ["macro", "Label Image", "case 7.svs - overview"])
def test_a_macro_is_not_the_slide_even_where_it_is_larger(tmp_path, name):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        for pixels, called in ((shade(SLIDE, 40), name), (shade(OTHER, 200), "label free, H&E")):
            writer.write(pixels, photometric="rgb", metadata={"axes": "YXS", "Name": called})
    assert open_quietly(tmp_path / "a.ome.tif").size == (160, 120)


def test_a_page_named_label_is_not_the_slide(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        page_name = [(285, "s", 0, "Label", True)]
        writer.write(shade(SLIDE, 40), photometric="rgb", extratags=page_name, metadata=None)
        writer.write(shade(OTHER, 200), photometric="rgb", metadata=None)
    assert open_quietly(tmp_path / "a.tif").size == (160, 120)


def channels_apart(path, pixels: np.ndarray, **channel) -> None:
    metadata = {"axes": "CYX", "Channel": channel}
    tifffile.imwrite(path, np.moveaxis(pixels, -1, 0), photometric="minisblack", metadata=metadata)


@pytest.mark.parametrize(
    ("names", "order"),
    [(["Blue", "Green", "Red"], [2, 1, 0]), (["g", "R", "b"], [1, 0, 2]), (["0", "1", "2"], [0, 1, 2])],
)
def test_single_channels_are_the_colours_that_they_are_called(tmp_path, names, order):
    channels_apart(tmp_path / "a.ome.tif", smooth(*OTHER), Name=names)
    np.testing.assert_array_equal(open_quietly(tmp_path / "a.ome.tif").read(0, 0, 160, 120), smooth(*OTHER)[..., order])


def test_single_channels_without_such_names_are_the_colours_that_they_are_shown_in(tmp_path):
    blue_green_red = [0x0000FFFF, 0x00FF00FF, 0xFF0000FF - 2**32]
    channels_apart(tmp_path / "a.ome.tif", smooth(*OTHER), Name=["0", "1", "2"], Color=blue_green_red)
    read = open_quietly(tmp_path / "a.ome.tif").read(0, 0, 160, 120)
    np.testing.assert_array_equal(read, smooth(*OTHER)[..., ::-1])


@pytest.mark.parametrize(
    ("channel", "told"),
    [
        ({"Name": ["DAPI", "FITC", "Cy3"]}, "DAPI, FITC, Cy3"),
        ({"Name": ["a", "b", "Alexa 488"]}, "a, b, Alexa 488"),
        ({"EmissionWavelength": [461, 519, 570]}, "as its metadata says"),
    ],
)
def test_three_channels_of_fluorescence_are_no_colours(tmp_path, channel, told):
    channels_apart(tmp_path / "a.ome.tif", smooth(*OTHER), **channel)
    with pytest.raises(SlideError, match=rf"a\.ome\.tif holds channels of fluorescence \({told}\)"):
        open_slide(tmp_path / "a.ome.tif")


def test_a_file_with_nothing_but_a_macro_opens(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.ome.tif", shade(OTHER, 9), photometric="rgb", metadata={"axes": "YXS", "Name": "macro"}
    )
    slide = open_slide(tmp_path / "a.ome.tif")
    assert (slide.size, slide.notices) == ((160, 120), ())


@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize("flags", [(0, 0), (1, 0), (0, 1)])
def test_a_reduced_page_before_the_slide_is_not_the_slide(tmp_path, tile, flags):
    pages = shade((80, 120), 40), shade(SLIDE, 200)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for pixels, flag in zip(pages, flags, strict=True):
            writer.write(pixels, photometric="rgb", tile=tile, subfiletype=flag, metadata=None)
    slide = open_quietly(tmp_path / "a.tif", mpp=1.0)
    assert (slide.size, len(slide.notices)) == ((480, 320), 1)
    assert np.unique(slide.read(0, 0, 480, 320, mpp=4.0)).tolist() == [200]


def test_a_tiled_page_said_to_be_reduced_is_no_level_where_its_shape_is_another(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(shade(SLIDE, 200), photometric="rgb", tile=(32, 32), metadata=None)
        writer.write(shade((80, 64), 40), photometric="rgb", tile=(32, 32), subfiletype=1, metadata=None)
    with open_quietly(tmp_path / "a.tif", mpp=1.0) as slide:
        assert slide.levels == (1.0,)
        assert np.unique(slide.read(0, 0, 480, 320, mpp=8.0)).tolist() == [200]


@pytest.mark.parametrize("compression", ["jpeg", "webp"])
@pytest.mark.parametrize("tag", [270, 285])
def test_a_reduced_macro_of_the_slides_shape_is_no_level(tmp_path, compression, tag):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        options = {"photometric": "rgb", "tile": (32, 32), "compression": compression, "metadata": None}
        writer.write(shade(SLIDE, 200), **options)
        called = [(tag, "s", 0, "macro", True)]
        writer.write(shade((160, 240), 40), subfiletype=1, extratags=called, **options)
    slide = open_quietly(tmp_path / "a.tif")
    assert slide.levels == (1.0,)
    assert np.abs(slide.thumbnail(64).astype(int) - 200).max() <= 1


def test_a_mask_of_the_slides_size_is_not_the_slide(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros(SLIDE, bool), photometric="minisblack", subfiletype=4, metadata=None)
        writer.write(shade(SLIDE, 200), photometric="rgb", metadata=None)
    assert np.unique(open_quietly(tmp_path / "a.tif").read(0, 0, 480, 320)).tolist() == [200]


def test_the_largest_page_of_a_tiff_that_pillow_reads_is_the_slide(tmp_path):
    pages = [Image.fromarray(smooth(*size)).quantize(64) for size in (OTHER, SLIDE)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    slide = open_quietly(tmp_path / "a.tif")
    assert slide.size == (480, 320)
    np.testing.assert_array_equal(slide.read(0, 0, 480, 320), np.asarray(pages[1].convert("RGB")))


@pytest.mark.parametrize("kind", ["strips", "tiles", "palette"])
def test_pages_that_nothing_tells_apart_are_refused_with_their_number(tmp_path, kind):
    if kind == "palette":
        pages = [Image.new("P", (64, 64)) for _ in range(3)]
        pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    else:
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            for value in (10, 20, 30):
                tile = (32, 32) if kind == "tiles" else None
                writer.write(shade((64, 64), value), photometric="rgb", tile=tile, metadata=None)
    with pytest.raises(SlideError, match=r"a\.tif holds 3 images \(axes .*\); export one of them as RGB"):
        open_slide(tmp_path / "a.tif")


def test_channels_that_are_pictures_of_their_own_are_counted(tmp_path):
    pixels = np.stack([shade(SLIDE, 200)] * 2)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, photometric="rgb", metadata={"axes": "CYXS"})
    with pytest.raises(SlideError, match=r"a\.ome\.tif holds 2 images"):
        open_slide(tmp_path / "a.ome.tif")


def test_the_facts_of_an_ome_tiff_are_those_of_the_image_taken(tmp_path):
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="Instrument:0">'
        '<Microscope Manufacturer="Maker" Model="M 1"/><Objective ID="O:1" NominalMagnification="1.25"/>'
        '<Objective ID="O:2" NominalMagnification="20"/></Instrument>'
        + "".join(
            f'<Image ID="Image:{n}"><InstrumentRef ID="Instrument:0"/><ObjectiveSettings ID="{objective}"/>'
            f'<Pixels ID="Pixels:{n}" DimensionOrder="XYCZT" Type="uint8" SizeX="{width}" SizeY="{height}" SizeC="3" '
            f'SizeZ="1" SizeT="1" PhysicalSizeX="{mpp}" PhysicalSizeXUnit="µm"><Channel ID="C:{n}" '
            f'SamplesPerPixel="3"/><TiffData IFD="{n}" PlaneCount="1"/></Pixels></Image>'
            for n, (objective, (height, width), mpp) in enumerate([("O:1", OTHER, 8), ("O:2", SLIDE, 0.5)])
        )
        + "</OME>"
    )
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=False) as writer:
        writer.write(shade(OTHER, 40), photometric="rgb", description=xml.encode(), metadata=None)
        writer.write(shade(SLIDE, 200), photometric="rgb", metadata=None)
    slide = open_quietly(tmp_path / "a.ome.tif")
    assert (slide.size, slide.mpp, slide.scanner, slide.objective_power) == ((480, 320), 0.5, "Maker M 1", 20)


# Containers

WEBP, APERIO_RGB, APERIO_YCBCR, JPEG_2000, JPEG_XL, LZMA, PNG, LERC = (
    *(50001, 33005, 33003, 34712, 50002, 34925, 34933, 34887),
)


@pytest.mark.parametrize("compression", [WEBP, APERIO_RGB, JPEG_2000, JPEG_XL, LZMA, PNG, LERC])
@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_what_a_tiff_can_be_compressed_with_opens_in_strips_and_in_tiles(tmp_path, compression, tile):
    pixels = smooth(150, 190)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=tile, compression=compression, metadata=None)
    with open_slide(tmp_path / "a.tif", mpp=0.5) as slide:
        np.testing.assert_array_equal(slide.read(30, 20, 100, 90), pixels[20:110, 30:130])


@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_differences_of_neighbours_are_summed_whatever_packs_them(tmp_path, tile):
    pixels = smooth(128, 192)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression="packbits", predictor=True, tile=tile)
    np.testing.assert_array_equal(open_quietly(tmp_path / "a.tif").read(0, 0, 192, 128), pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_that_count_from_white_are_turned(tmp_path, dtype, planar):
    pixels = smooth(128, 192)
    pixels[0, 0] = 0  # which fills all bits there are
    stored = (255 - pixels).astype(dtype) * (257 if dtype == "uint16" else 1)
    stored = np.moveaxis(stored, -1, 0) if planar == "separate" else stored
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", planarconfig=planar)
    assert np.abs(open_quietly(tmp_path / "a.tif").read(0, 0, 192, 128).astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("step", [1, 256, 257])
def test_a_palette_of_8_or_16_bits_shows_its_colours(tmp_path, step):
    colours = np.random.default_rng(0).integers(0, 256, (3, 256))
    colours[:, 0] = 255
    indices = np.arange(128 * 192, dtype=np.uint8).reshape(128, 192)
    palette = (colours * step).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=palette)
    np.testing.assert_array_equal(open_quietly(tmp_path / "a.tif").read(0, 0, 192, 128), colours.T[indices])


def test_jpeg_2000_of_aperio_in_ycbcr_comes_as_rgb(tmp_path):
    pixels = smooth(128, 128)
    ycbcr = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
    tiles = (imagecodecs.jpeg2k_encode(ycbcr[y : y + 64, x : x + 64], codecformat="j2k", mct=False, reversible=True)
             for y in (0, 64) for x in (0, 64))  # fmt: skip
    tifffile.imwrite(
        tmp_path / "a.tif", tiles, shape=pixels.shape, dtype=np.uint8, photometric="rgb", tile=(64, 64),
        compression=APERIO_YCBCR, metadata=None,
    )  # fmt: skip
    # Pillow cuts fractions off on the way to YCbCr.
    assert np.abs(open_slide(tmp_path / "a.tif").read(0, 0, 128, 128).astype(int) - pixels).max() <= 3


def jpeg_tiff(path, pixels, photometric, encoded, tile):
    height, width = tile or pixels.shape[:2]
    parts = [
        encoded(pixels[y : y + height, x : x + width])
        for y in range(0, len(pixels), height)
        for x in range(0, pixels.shape[1], width)
    ]
    tifffile.imwrite(
        path, iter(parts), shape=pixels.shape, dtype=np.uint8, photometric=photometric, compression="jpeg", tile=tile,
        rowsperstrip=None if tile else height, metadata=None, subsampling=(1, 1),
    )  # fmt: skip
    return path


def jfif(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=97, subsampling=0)
    return buffer.getvalue()


def unmarked(pixels: np.ndarray) -> bytes:
    """YCbCr told by the names of its components alone, as libtiff writes it."""
    marked = jfif(pixels)
    return marked[:2] + marked[4 + int.from_bytes(marked[4:6], "big") :]


def adobe_rgb(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=97, keep_rgb=True)
    return buffer.getvalue()


def belied(pixels: np.ndarray) -> bytes:
    """YCbCr under Adobe's mark of RGB, which the coarser colours give the lie."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=97, subsampling=2)
    marked = buffer.getvalue()
    return marked[:2] + b"\xff\xee\0\x0eAdobe\0\x64" + bytes(5) + marked[4 + int.from_bytes(marked[4:6], "big") :]


@pytest.mark.parametrize("tile", [None, (64, 64)])
@pytest.mark.parametrize("encoded", [jfif, unmarked, adobe_rgb, belied])
@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_a_jpeg_says_its_colours_itself_whatever_the_tag_says(tmp_path, tile, encoded, photometric):
    pixels = smooth(128, 192)
    with open_slide(jpeg_tiff(tmp_path / "a.tif", pixels, photometric, encoded, tile)) as slide:
        assert np.abs(slide.read(0, 0, 192, 128).astype(float) - pixels).mean() < 1.5


def test_a_jpeg_of_12_bits_in_a_tiff_reads(tmp_path):
    pixels = smooth(64, 96)
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(np.uint16) * 16, photometric="rgb", compression="jpeg")
    assert np.abs(open_quietly(tmp_path / "a.tif").read(0, 0, 96, 64) - pixels.astype(float)).mean() < 1.5


def test_a_jpeg_xl_that_says_it_is_larger_than_its_tile_is_refused(tmp_path):
    parts = iter([imagecodecs.jpegxl_encode(smooth(512, 640), lossless=True)])
    tifffile.imwrite(
        tmp_path / "a.tif", parts, shape=(64, 64, 3), dtype=np.uint8, photometric="rgb", tile=(64, 64),
        compression=JPEG_XL, metadata=None,
    )  # fmt: skip
    with open_slide(tmp_path / "a.tif") as slide, pytest.raises(SlideError, match="a tile is larger than it says"):
        slide.read(0, 0, 64, 64)


@pytest.mark.parametrize("size", [(64, 64), (8, 256), (300, 400), (301, 77), (1, 9000), (240, 320)])
def test_the_size_of_a_jpeg_xl_is_read_from_its_header(size):
    assert stated_pixels(imagecodecs.jpegxl_encode(np.zeros((*size, 3), np.uint8))) == size[0] * size[1]


# Sample depth


def deep(dtype, top: float) -> np.ndarray:
    """(60, 80, 3) values from 0 to `top`, both there."""
    values = np.random.default_rng(1).random((60, 80, 3)) * top
    values[0, 0], values[1, 1] = top, 0
    return values.astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "top", "white"),
    [
        ("uint16", 1000, 1023),
        ("uint16", 8000, 8191),
        ("uint16", 16_383, 16_383),
        ("int8", 100, 127),
        ("int16", 4000, 4095),
        ("uint32", 2**20, 2**21 - 1),
        ("float32", 254, 255),
        ("float32", 1.02, 1),
        ("float64", 65_000, 65_535),
    ],
)
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_white_is_what_the_values_fill_where_metadata_says_nothing(tmp_path, dtype, top, white, tile):
    pixels = deep(dtype, top)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=tile)
    with pytest.warns(UserWarning, match=f"0 to {white} became 0 to 255, by its values, as no metadata says it"):
        slide = open_slide(tmp_path / "a.tif")
    assert np.abs(slide.read(0, 0, 80, 60) - np.clip(pixels / white * 255, 0, 255)).max() <= 0.51


@pytest.mark.parametrize("way", ["MaxSampleValue", "SignificantBits", "float"])
def test_white_is_what_metadata_says(tmp_path, way):
    pixels, white, options = deep("uint16", 3000), 8191, {}
    if way == "SignificantBits":
        options["metadata"] = {"axes": "YXS", "SignificantBits": 13}
    elif way == "MaxSampleValue":
        options["extratags"] = [(281, "H", 3, (white,) * 3, True)]
    else:
        pixels, options["extratags"] = deep("float32", 3000), [(341, "f", 3, (float(white),) * 3, True)]
    path = tmp_path / ("a.ome.tif" if way == "SignificantBits" else "a.tif")
    tifffile.imwrite(path, pixels, photometric="rgb", **options)
    with pytest.warns(UserWarning, match="0 to 8191 became 0 to 255, as its metadata says"):
        slide = open_slide(path)
    assert np.abs(slide.read(0, 0, 80, 60) - pixels / white * 255).max() <= 0.51


@pytest.mark.parametrize("stated", [2000, 65_535])
def test_metadata_that_the_values_exceed_or_that_says_16_bits_anyway_is_not_believed(tmp_path, stated):
    tags = [(281, "H", 3, (stated,) * 3, True)]
    tifffile.imwrite(tmp_path / "a.tif", deep("uint16", 8000), photometric="rgb", extratags=tags)
    assert open_quietly(tmp_path / "a.tif").read(0, 0, 1, 1).tolist() == [[[249, 249, 249]]]


def test_alpha_of_16_bits_says_nothing_of_a_cameras_13(tmp_path):
    pixels = np.dstack([deep("uint16", 8191), np.full((60, 80), 65_535, np.uint16)])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    read = open_quietly(tmp_path / "a.tif").read(0, 0, 80, 60)
    assert np.abs(read - pixels[..., :3] / 8191 * 255).max() <= 1


@pytest.mark.parametrize("opaque", [8191, 65_535])
def test_half_transparent_is_half_white_whichever_bits_transparency_fills(tmp_path, opaque):
    alpha = np.full((60, 80), opaque, np.uint16)
    alpha[1:] = opaque // 2
    pixels = np.dstack([deep("uint16", 8191), alpha])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    read = open_quietly(tmp_path / "a.tif").read(0, 1, 80, 59)
    assert np.abs(read - (pixels[1:, :, :3] / 8191 * 127.5 + 127.5)).max() <= 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(tmp_path, value):
    pixels = deep("float32", 1)
    pixels[5, 5, 0] = value
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    with pytest.raises(SlideError, match=r"a\.tif holds float32 values .*; export it as 8-bit RGB"):
        open_slide(tmp_path / "a.tif")


def test_a_deep_slide_is_not_read_through_when_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_DEPTH_PIXELS", 4 * 32 * 32)
    decoded, decode = [], tiff._decoded
    monkeypatch.setattr(
        tiff, "_decoded", lambda page, number, data: decoded.append(number) or decode(page, number, data)
    )
    pixels = np.full((320, 320, 3), 8000, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(32, 32))
    slide = open_quietly(tmp_path / "a.tif")
    assert decoded == [0, 25, 50, 75]
    assert slide.read(0, 0, 1, 1).tolist() == [[[249, 249, 249]]]


def test_a_deep_slide_in_one_large_strip_is_not_decoded_when_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_DEPTH_PIXELS", 1000)
    decoded, decode = [], tiff._decoded
    monkeypatch.setattr(
        tiff, "_decoded", lambda page, number, data: decoded.append(number) or decode(page, number, data)
    )
    tifffile.imwrite(tmp_path / "a.tif", deep("uint16", 8191), photometric="rgb", rowsperstrip=60)
    slide = open_quietly(tmp_path / "a.tif")
    assert (decoded, slide.notices) == ([], ("a.tif holds uint16 values; as many bits as they fill became 8.",))
    assert np.abs(slide.read(0, 0, 80, 60) - deep("uint16", 8191) / 8191 * 255).max() <= 0.51


def test_a_deep_image_whose_tiles_were_all_left_out_opens_black(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", None, shape=(64, 64, 3), dtype=np.uint16, photometric="rgb", tile=(32, 32))
    assert not open_quietly(tmp_path / "a.tif").read(0, 0, 64, 64).any()


def test_a_strip_that_decodes_to_fewer_rows_than_it_says_is_refused(tmp_path):
    path = jpeg_tiff(tmp_path / "a.tif", smooth(64, 96), "rgb", jfif, None)
    with tifffile.TiffFile(path) as file:
        places = [file.pages[0].tags[tag].valueoffset for tag in (257, 278)]
    content = bytearray(path.read_bytes())
    for place in places:
        content[place : place + 4] = (128).to_bytes(4, "little")
    path.write_bytes(content)
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"a\.tif is damaged"):
        slide.read(0, 0, 96, 128)
