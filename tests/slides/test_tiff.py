"""What TIFFs of several images, odd depths and rare containers come to: the slide, in its true colours."""

import numpy as np
import pytest
import tifffile
from PIL import Image

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
