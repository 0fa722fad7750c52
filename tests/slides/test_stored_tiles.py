"""Tiles decoded here are those that OpenSlide hands out, and what is wrong with one is told as it tells it."""

import contextlib
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from nsl.errors import SlideError
from nsl.slides.scanner import OpenSlideReader
from nsl.slides.slide import open_slide
from nsl.slides.stored_tiles import StoredTilesReader
from tests.slides.made_scans import tissue
from tests.slides.test_archive import encoded

JPEG = {"compression": "jpeg", "compressionargs": {"level": 80}}
RGB = {"photometric": "rgb"}
KINDS = {
    "JPEG 4:2:0": {"photometric": "ycbcr", "subsampling": (2, 2), **JPEG},
    "JPEG 4:2:2": {"photometric": "ycbcr", "subsampling": (2, 1), **JPEG},
    "JPEG 4:4:4": {"photometric": "ycbcr", "subsampling": (1, 1), **JPEG},
    "JPEG in RGB": {**RGB, "compression": "jpeg", "compressionargs": {"level": 80, "outcolorspace": "RGB"}},
    "LZW": {**RGB, "compression": "lzw"},
    "LZW of differences": {**RGB, "compression": "lzw", "predictor": True},
    "Deflate": {**RGB, "compression": "deflate", "predictor": True},
    "uncompressed": RGB,
}
SLIDES = Path(__file__).parents[3] / "shared/data/slides"


def write_pyramid(path: Path, sizes: list[tuple[int, int]], tile: int = 128, **options) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for number, (height, width) in enumerate(sizes):
            writer.write(
                tissue(height, width, number), tile=(tile, tile), metadata=None, subfiletype=int(number > 0), **options
            )
    return path


def stored_tiles(path: Path) -> list[bytes]:
    with tifffile.TiffFile(path) as tiff:
        page, content = tiff.pages[0], path.read_bytes()
    return [content[at : at + size] for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)]


def by_openslide(path: Path, level: int) -> np.ndarray:
    """All of a level: what begins at the slide's corner lies at whole pixels of every level."""
    with openslide.OpenSlide(path) as slide:
        region = slide.read_region((0, 0), level, slide.level_dimensions[level])
        return np.asarray(region.convert("RGB"))


def require_equal(path: Path, monkeypatch) -> None:
    """Whole levels and parts of them, without a pixel from OpenSlide."""
    vendor = openslide.OpenSlide.detect_format(path)
    reader, random = StoredTilesReader(path, vendor), np.random.default_rng(3)
    monkeypatch.setattr(OpenSlideReader, "read", None)
    for number, level in enumerate(reader.levels):
        expected = by_openslide(path, number)
        np.testing.assert_array_equal(reader.read(number, 0, 0, level.width, level.height), expected)
        for _ in range(20):
            left, right = np.sort(random.choice(level.width + 1, 2, replace=False)).tolist()
            top, bottom = np.sort(random.choice(level.height + 1, 2, replace=False)).tolist()
            part = reader.read(number, left, top, right - left, bottom - top)
            np.testing.assert_array_equal(part, expected[top:bottom, left:right])
    reader.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_level_equals_openslides_pixels(tmp_path, monkeypatch, kind):
    # Of 389 × 301 px a level of 97 × 75 is 4.01 times as coarse.
    path = write_pyramid(tmp_path / "a.tif", [(301, 389), (150, 194), (75, 97)], **KINDS[kind])
    with open_slide(path, mpp=0.5) as slide:
        assert type(slide._reader) is StoredTilesReader
        assert slide.levels[2] % 1 > 0.001
    require_equal(path, monkeypatch)


def test_jpeg_tiles_with_common_tables_equal_openslides_pixels(tmp_path, monkeypatch):
    whole = write_pyramid(tmp_path / "a.tif", [(256, 384)], **KINDS["JPEG 4:2:0"])
    tiles = stored_tiles(whole)
    frame, codes, scan = (tiles[0].index(marker) for marker in (b"\xff\xc0", b"\xff\xc4", b"\xff\xda"))
    tables = tiles[0][:frame] + tiles[0][codes:scan] + b"\xff\xd9"
    path, rest = tmp_path / "b.tif", (b"\xff\xd8" + tile[frame:codes] + tile[scan:] for tile in tiles)
    options = KINDS["JPEG 4:2:0"] | {"shape": (256, 384, 3), "dtype": np.uint8, "tile": (128, 128), "metadata": None}
    tifffile.imwrite(path, rest, jpegtables=tables, **options)
    np.testing.assert_array_equal(by_openslide(path, 0), by_openslide(whole, 0))
    require_equal(path, monkeypatch)


def write_tiles(path: Path, tiles: list[bytes], shape: tuple[int, int]) -> Path:
    """JPEGs as the tiles of 128 × 128 px of one level."""
    options = KINDS["JPEG 4:2:0"] | {"shape": (*shape, 3), "dtype": np.uint8, "tile": (128, 128), "metadata": None}
    tifffile.imwrite(path, iter(tiles), **options)
    return path


@pytest.mark.parametrize(
    "options", [{"restart_marker_blocks": 3}, {"restart_marker_rows": 1}, {"optimize": True}], ids=str
)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpegs_with_restarts_and_with_codes_of_their_own_equal_openslides_pixels(
    tmp_path, monkeypatch, options, subsampling
):
    tiles = [encoded(tissue(128, 128, seed), "JPEG", subsampling=subsampling, **options) for seed in range(4)]
    require_equal(write_tiles(tmp_path / "a.tif", tiles, (200, 256)), monkeypatch)


@pytest.mark.parametrize("name", ["cmu_small_region.svs", "tcga_small.svs"])
def test_aperio_slides_equal_openslides_pixels(monkeypatch, name):
    if not (SLIDES / name).exists():
        pytest.skip("the slide is not in ../shared/data/slides")
    require_equal(SLIDES / name, monkeypatch)


# What is damaged


def spoilt(tile: bytes, how: str, random: np.random.Generator) -> bytes:
    at, tile = int(random.integers(len(tile) // 4, len(tile) - 20)), bytearray(tile)
    if how == "a bit":
        tile[at] ^= 1 << int(random.integers(8))
    elif how == "some bytes":
        tile[at : at + 16] = random.bytes(16)
    elif how == "lost block":
        tile[at : at + 64] = bytes(len(tile[at : at + 64]))
    elif how == "cut":
        tile[at:] = (b"\xff\xd9" + random.bytes(len(tile)))[: len(tile) - at]
    elif how == "head":
        tile[int(random.integers(200))] = int(random.integers(256))
    else:
        tile = bytearray(len(tile))
    return bytes(tile)


def outcome(reader_type: type, path: Path) -> np.ndarray | str:
    with contextlib.closing(reader_type(path, "generic-tiff")) as reader:
        try:
            return reader.read(0, 0, 0, 128, 128)
        except SlideError as error:
            return str(error)


@pytest.mark.parametrize("how", ["a bit", "some bytes", "lost block", "cut", "head", "all"])
@pytest.mark.parametrize("kind", ["JPEG 4:2:0", "JPEG in RGB", "LZW", "Deflate"])
def test_a_spoilt_tile_comes_to_what_it_comes_to_with_openslide(tmp_path, kind, how):
    path, random = write_pyramid(tmp_path / "a.tif", [(128, 256)], **KINDS[kind]), np.random.default_rng(5)
    content, tile = path.read_bytes(), stored_tiles(path)[0]
    for _ in range(25):
        path.write_bytes(content.replace(tile, spoilt(tile, how, random)))
        here, there = outcome(StoredTilesReader, path), outcome(OpenSlideReader, path)
        assert type(here) is type(there)
        np.testing.assert_array_equal(here, there)


# What is unusual


def require_through_openslide(path: Path, monkeypatch) -> None:
    read, asked = OpenSlideReader.read, []
    monkeypatch.setattr(OpenSlideReader, "read", lambda *args: asked.append(args[1:]) or read(*args))
    with contextlib.closing(OpenSlideReader(path, "generic-tiff")) as through:
        expected = through.read(0, 0, 0, 256, 256)
    with contextlib.closing(StoredTilesReader(path, "generic-tiff")) as reader:
        for _ in range(2):
            np.testing.assert_array_equal(reader.read(0, 0, 0, 256, 256), expected)
    assert asked == [(0, 0, 0, 256, 256)] * 3


def test_a_missing_tile_stays_openslides_matter(tmp_path, monkeypatch):
    path = write_pyramid(tmp_path / "a.tif", [(256, 256)], **KINDS["LZW"])
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag in ("TileOffsets", "TileByteCounts"):
            tag = tiff.pages[0].tags[tag]
            tag.overwrite((0, *tag.value[1:]))
    require_through_openslide(path, monkeypatch)


def test_progressive_jpeg_tiles_stay_openslides_matter(tmp_path, monkeypatch):
    tiles = [encoded(tissue(128, 128, seed), "JPEG", progressive=True) for seed in range(4)]
    require_through_openslide(write_tiles(tmp_path / "a.tif", tiles, (256, 256)), monkeypatch)


def test_two_levels_of_one_size_stay_openslides_matter(tmp_path, monkeypatch):
    require_through_openslide(write_pyramid(tmp_path / "a.tif", [(256, 256)] * 2, **KINDS["LZW"]), monkeypatch)


def test_a_tile_of_another_size_is_told(tmp_path):
    tiles = [encoded(tissue(side, 128), "JPEG") for side in (128, 120)]
    with open_slide(write_tiles(tmp_path / "a.tif", tiles, (128, 256))) as slide:
        assert slide.read(0, 0, 128, 128).shape == (128, 128, 3)
        with pytest.raises(SlideError, match=r"a\.tif is damaged or incomplete: Dimensional mismatch"):
            slide.read(0, 0, 256, 128)


def test_strips_from_the_top_down_decode_every_tile_once(tmp_path, monkeypatch):
    path, decoded, decode = (
        write_pyramid(tmp_path / "a.tif", [(300, 300)], **KINDS["LZW"]),
        [],
        StoredTilesReader._decoded,
    )
    monkeypatch.setattr(StoredTilesReader, "_decoded", lambda *args: decoded.append(args[2:]) or decode(*args))
    with open_slide(path) as slide:
        for y in range(0, 300, 50):
            slide.read(0, y, 300, 50)
    assert sorted(decoded) == [(row, column) for row in range(3) for column in range(3)]


def test_every_byte_before_a_scan_comes_to_what_it_comes_to_with_openslide(tmp_path):
    tiles = [encoded(tissue(128, 128, seed), "JPEG", restart_marker_rows=1) for seed in range(2)]
    path = write_tiles(tmp_path / "a.tif", tiles, (128, 256))
    content, random = path.read_bytes(), np.random.default_rng(9)
    for at in range(tiles[0].index(b"\xff\xda") + 14):
        tile = bytearray(tiles[0])
        tile[at] = int(random.integers(256))
        path.write_bytes(content.replace(tiles[0], bytes(tile)))
        np.testing.assert_array_equal(outcome(StoredTilesReader, path), outcome(OpenSlideReader, path))
