"""Tiles of other makers' files are those that OpenSlide hands out, wherever on the glass they lie."""

import contextlib
from pathlib import Path

import numpy as np
import openslide
import pytest

from nsl.errors import SlideError
from nsl.slides.formats import open_reader
from nsl.slides.scanner import OpenSlideReader
from nsl.slides.slide import open_slide
from nsl.slides.stored_tiles import StoredTilesReader
from tests.slides.made_scans import boxes, write_leica, write_ndpi, write_philips

SLIDES = Path(__file__).parents[3] / "shared/data/slides"


def require_equal(path: Path, here: int | None = None, count: int = 8) -> None:
    """Boxes of every level, of which `here` are decoded without OpenSlide: all where None."""
    vendor, random = openslide.OpenSlide.detect_format(path), np.random.default_rng(2)
    with (
        contextlib.closing(OpenSlideReader(path, vendor)) as through,
        contextlib.closing(open_reader(path)) as reader,
    ):
        assert type(reader) is StoredTilesReader
        asked = []
        for number, level in enumerate(reader.levels):
            for box in boxes(level, random, count):
                with pytest.MonkeyPatch.context() as patch:
                    read = OpenSlideReader.read
                    patch.setattr(
                        OpenSlideReader, "read", lambda *args, read=read: asked.append(args[1]) or read(*args)
                    )
                    pixels = reader.read(number, *box)
                np.testing.assert_array_equal(pixels, through.read(number, *box))
        assert len(reader.levels) - len(set(asked)) == (len(reader.levels) if here is None else here)


def test_philips_levels_without_what_fills_up_their_tiles_equal_openslides(tmp_path):
    path = write_philips(tmp_path / "a.tiff")
    require_equal(path)
    with open_slide(path) as slide:
        assert (slide.format, slide.mpp, slide.levels) == ("Philips TIFF", 0.25, (1.0, 2.0, 4.0))


def test_tiles_that_philips_left_out_are_white(tmp_path):
    path = write_philips(tmp_path / "a.tiff", missing=(1, 8))
    require_equal(path)
    with open_slide(path) as slide:
        assert (slide.read(64, 0, 64, 64) == 255).all()
        assert slide.read(0, 0, 64, 64).mean() < 200


@pytest.mark.parametrize("offset_nm", [(0, 0), (20_250, 31_100), (20_499, 31_501), (999, 4_001)], ids=str)
def test_a_leica_scan_lies_where_openslide_puts_it_on_the_glass(tmp_path, offset_nm):
    path = write_leica(tmp_path / "a.scn", (offset_nm,))
    require_equal(path)
    with open_slide(path) as slide:
        assert (slide.format, slide.mpp, slide.size) == ("Leica SCN", 0.5, (800, 1000))
        assert (slide.read(790, 990, 10, 10) == 255).all()


def test_leica_slides_of_several_scans_stay_openslides_matter(tmp_path):
    require_equal(write_leica(tmp_path / "a.scn", ((10_000, 10_000), (60_000, 200_000))), here=0)


@pytest.mark.parametrize("subsampling", [0, 1], ids=["4:4:4", "4:2:2"])
def test_ndpi_levels_and_reduced_decodings_of_them_equal_openslides(tmp_path, subsampling):
    path = write_ndpi(tmp_path / "a.ndpi", subsampling=subsampling)
    with contextlib.closing(open_reader(path)) as reader:
        assert len(reader.levels) == 5
    require_equal(path)


def test_an_ndpi_of_more_than_4_gb_is_read_at_its_places(tmp_path):
    path = write_ndpi(tmp_path / "a.ndpi", start=2**32 + 40)  # a hole, which takes no disk
    assert path.stat().st_blocks * 512 < 2**20
    require_equal(path)


def test_an_ndpi_with_a_wrong_place_in_its_table_is_told_as_damaged(tmp_path):
    path = write_ndpi(tmp_path / "a.ndpi", sizes=((384, 512),))
    with contextlib.closing(open_reader(path)) as reader:
        at = reader._stored[0].page.dataoffsets[5]
    content = path.read_bytes()
    table = content.index((at - 16).to_bytes(4, "little"))
    path.write_bytes(content[:table] + (at - 15).to_bytes(4, "little") + content[table + 4 :])
    with contextlib.closing(open_reader(path)) as reader, pytest.raises(SlideError, match="damaged or incomplete"):
        reader.read(0, 0, 0, 512, 384)


def test_a_real_ndpi_equals_openslides_pixels():
    if not (SLIDES / "fluorescence.ndpi").exists():
        pytest.skip("the slide is not in ../shared/data/slides")
    require_equal(SLIDES / "fluorescence.ndpi", count=1)
