"""What pictures come to that state more pixels than they have, or more than memory is worth."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from nsl.errors import SlideError
from nsl.slides.jpeg_segments import JpegStrips
from nsl.slides.slide import open_slide
from tests.slides.test_slide import noise, open_quietly, smooth
from tests.slides.test_tiff import belied


def encoded(pixels: np.ndarray, kind: str, **options) -> bytearray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return bytearray(buffer.getvalue())


def restated(picture: bytearray, width: int, height: int) -> bytes:
    """A JPEG or PNG whose header states another size."""
    if picture.startswith(b"\x89PNG"):
        picture[16:24] = struct.pack(">II", width, height)
        picture[29:33] = struct.pack(">I", zlib.crc32(picture[12:29]))
    else:
        at = next(at for mark in (b"\xff\xc0", b"\xff\xc2") if (at := picture.find(mark)) >= 0)
        picture[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(picture)


KINDS = {
    "baseline": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "restarts": ("JPEG", {"restart_marker_rows": 1}),
    "png": ("PNG", {}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(140, 240), (280, 120), (1400, 1200)])
@pytest.mark.parametrize("factor", [1, 4])
def test_a_picture_that_ends_before_its_last_row_is_refused_at_any_scale(tmp_path, kind, size, factor):
    format, options = KINDS[kind]
    (tmp_path / "a.img").write_bytes(restated(encoded(noise(120, 140), format, **options), *size))
    with open_slide(tmp_path / "a.img", mpp=0.5) as slide, pytest.raises(SlideError, match=r"a\.img is damaged"):
        slide.read(0, 0, *size, mpp=0.5 * factor)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_jpeg_too_short_for_the_size_it_states_is_refused_when_it_is_opened(tmp_path, options):
    path = tmp_path / "a.jpg"
    path.write_bytes(restated(encoded(noise(600, 700), "JPEG", **options), 24_000, 24_900))
    said = rf"a\.jpg is damaged or incomplete \({path.stat().st_size:,} bytes cannot hold the 24,000 × 24,900 px that"
    with pytest.raises(SlideError, match=said):
        open_slide(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("shade", [0, 128])
def test_a_picture_that_truly_ends_in_grey_or_black_opens(tmp_path, kind, shade):
    pixels = noise(120, 144)
    pixels[80:] = shade
    (tmp_path / "a.img").write_bytes(encoded(pixels, kind))
    with open_slide(tmp_path / "a.img") as slide:
        assert (slide.read(0, 104, 144, 16) == shade).all()


def drafted(content: bytes, factor: int) -> np.ndarray:
    """A JPEG as Pillow decodes it at a fraction of its size."""
    image = Image.open(io.BytesIO(content))
    image.draft(None, (image.width // factor, image.height // factor))
    return np.asarray(image)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("rows", [1, 2])
def test_strips_between_restart_markers_show_what_the_whole_jpeg_does(tmp_path, rows, subsampling, factor):
    content = encoded(noise(648, 304), "JPEG", restart_marker_rows=rows, subsampling=subsampling, quality=60)
    block = 16 if subsampling == 2 else 8
    strips = JpegStrips.of(content, 4096)
    assert (len(strips), strips.strip_rows) == (-(-648 // (8 * rows * block)), 8 * rows * block)
    (tmp_path / "a.jpg").write_bytes(content)
    with open_slide(tmp_path / "a.jpg", mpp=1) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 304, 648, mpp=factor), drafted(content, factor))


@pytest.mark.parametrize(
    "options",
    [{}, {"restart_marker_blocks": 7}, {"restart_marker_rows": 1, "progressive": True}],
    ids=["none", "within rows", "progressive"],
)
def test_a_jpeg_without_restarts_at_the_ends_of_its_rows_is_decoded_whole(tmp_path, options):
    content = encoded(noise(648, 304), "JPEG", **options)
    assert JpegStrips.of(content, 4096) is None
    (tmp_path / "a.jpg").write_bytes(content)
    with open_slide(tmp_path / "a.jpg", mpp=1) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 304, 648, mpp=4), drafted(content, 4))


@pytest.mark.parametrize("last", [b"\xff\xd3", b"\xff\xd7\xff\xd7"], ids=["out of order", "twice"])
def test_a_jpeg_whose_restart_markers_are_spoilt_is_read_as_far_as_pillow_can(tmp_path, last):
    content = encoded(noise(648, 304), "JPEG", restart_marker_rows=1)
    content = bytes(content[:1000] + content[1000:].replace(b"\xff\xd7", last, 1))
    (tmp_path / "a.jpg").write_bytes(content)
    with open_slide(tmp_path / "a.jpg", mpp=1) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 304, 648, mpp=4), drafted(content, 4))


@pytest.mark.parametrize("colours", [3, 6], ids=["palette", "transparency"])
def test_a_picture_whose_few_bytes_take_gigabytes_is_refused(tmp_path, colours):
    header = struct.pack(">IIBBBBB", 24_000, 24_900, 8, colours, 0, 0, 0)
    parts = [(b"IHDR", header), (b"PLTE", bytes(6)), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    (tmp_path / "a.png").write_bytes(content)
    said = r"a\.png has 598 megapixels, too many for PNG; make a pyramid \(vips tiffsave a\.png slide"
    with pytest.raises(SlideError, match=said):
        open_slide(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK"])
def test_pictures_are_converted_alike_whatever_the_band_they_lie_in(tmp_path, mode):
    image = Image.fromarray(noise(700, 40)).convert("RGBA" if mode == "RGBA" else "RGB")
    if mode == "RGBA":
        image.putalpha(Image.fromarray(noise(700, 40)[..., 0]))
    image = image.quantize(64) if mode == "P" else image.convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    page = Image.new("RGB", image.size, "white")
    page.paste(image.convert("RGB"), mask=image.getchannel("A") if mode == "RGBA" else None)
    np.testing.assert_array_equal(open_quietly(path).read(0, 0, 40, 700), np.asarray(page))


@pytest.mark.parametrize("place", ["open", "read"])
def test_too_little_memory_is_told_in_a_sentence(tmp_path, monkeypatch, place):
    def fail(*_):
        raise MemoryError

    (tmp_path / "a.png").write_bytes(encoded(noise(30, 30), "PNG"))
    monkeypatch.setattr(f"nsl.slides.picture.PillowReader.{'_describe' if place == 'open' else '_decode'}", fail)
    with pytest.raises(SlideError, match=r"a\.png takes more memory than there is"):
        open_slide(tmp_path / "a.png").thumbnail()


@pytest.mark.parametrize("kind", ["plain", "alpha", "sBIT", "all 16"])
def test_a_png_of_16_bits_uses_as_many_as_its_camera_did(tmp_path, kind):
    white = 65_535 if kind == "all 16" else 8191
    pixels = np.random.default_rng(1).integers(0, (3000 if kind == "sBIT" else white) + 1, (60, 80, 3), dtype=np.uint16)
    pixels[0, 0] = 3000 if kind == "sBIT" else white
    expected = pixels / white * 255
    if kind == "alpha":
        alpha = np.where(np.arange(80) < 40, 65_535, 13_107).astype(np.uint16)
        pixels = np.dstack([pixels, np.broadcast_to(alpha, (60, 80))])
        expected[:, 40:] = expected[:, 40:] * 0.2 + 255 * 0.8
    content = imagecodecs.png_encode(pixels)
    if kind == "sBIT":
        chunk = b"sBIT" + bytes([13] * 3)
        content = content[:33] + b"\0\0\0\3" + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    (tmp_path / "a.png").write_bytes(content)
    slide = open_quietly(tmp_path / "a.png")
    assert np.abs(slide.read(0, 0, 80, 60) - expected).max() <= 1
    assert "a.png has 16 bits a channel; as many as its values fill became 8." in slide.notices


def test_a_cut_png_of_16_bits_is_refused(tmp_path):
    content = imagecodecs.png_encode(noise(60, 80).astype(np.uint16) * 257)
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with open_quietly(tmp_path / "a.png") as slide, pytest.raises(SlideError, match=r"a\.png is damaged"):
        slide.read(0, 0, 80, 60)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_first_picture_of_an_animation_is_said_to_be_read(tmp_path, kind):
    first, *others = [Image.new("RGB", (32, 24), shade) for shade in ("red", "blue", "green")]
    first.save(tmp_path / "a.img", kind, save_all=True, append_images=others, lossless=True)
    slide = open_quietly(tmp_path / "a.img")
    assert slide.notices == ("a.img holds 3 pictures, of which the first is read.",)
    assert slide.read(0, 0, 1, 1).tolist() == [[[255, 0, 0]]]


def test_a_jpeg_whose_mark_belies_its_colours_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(belied(smooth(64, 96)))
    with pytest.raises(SlideError, match=r"a\.jpg is marked as RGB and holds colours as YCbCr does"):
        open_slide(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jpg", imagecodecs.jpeg8_encode(np.zeros((8, 8, 3), np.uint16), bitspersample=12), "is a JPEG of 12 bits"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", "looks like a JPEG 2000"),
        ("a.jxl", imagecodecs.jpegxl_encode(np.zeros((8, 8, 3), np.uint8)), "looks like a JPEG XL"),
        ("a.avif", b"\0\0\0\x20ftypavif", "looks like an HEIC or AVIF photo"),
        ("a.png", b"\x89HDF\r\n\x1a\n", "looks like an HDF5 file"),
    ],
)
def test_pictures_of_kinds_that_are_not_read_are_called_what_they_are(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=f"{name} {said}"):
        open_slide(tmp_path / name)
