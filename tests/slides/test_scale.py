"""What a file's µm/px comes to: read in its unit, and questioned where objective or size contradict it."""

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from nsl.errors import ScaleError
from nsl.slides.scale import Image, settled_scale
from nsl.slides.slide import open_slide
from tests.slides.test_slide import smooth


def without_unit(path):
    """The TIFF at `path` without its ResolutionUnit, whose entry gets a number that means nothing."""
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags[296].offset
    content = bytearray(path.read_bytes())
    content[at : at + 2] = (65_000).to_bytes(2, "little")
    path.write_bytes(content)
    return path


@pytest.mark.filterwarnings("ignore:a.tif holds uint16")
@pytest.mark.parametrize("kind", ["strips", "tiles", "16 bits", "palette"])
def test_a_resolution_without_a_unit_is_in_inches(tmp_path, kind):
    path, pixels = tmp_path / "a.tif", smooth(64, 96)
    options = {"resolution": (50_800, 50_800), "resolutionunit": "INCH", "metadata": None}
    if kind == "palette":
        Picture.fromarray(pixels).quantize(64).save(path, dpi=(50_800, 50_800))
    elif kind == "16 bits":
        tifffile.imwrite(path, pixels.astype(np.uint16), photometric="rgb", **options)
    else:
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(32, 32) if kind == "tiles" else None, **options)
    assert open_slide(without_unit(path), mpp=None).mpp == pytest.approx(0.5)


def test_imagej_counts_in_pixels_where_it_names_no_unit(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", smooth(20, 20), imagej=True, resolution=(50_800, 50_800))
    assert open_slide(tmp_path / "a.tif").mpp is None


@pytest.mark.parametrize(
    ("size", "unit"),
    [
        (5000, "Å"),
        (5000, "\u212b"),
        (5000, "A\u030a"),
        (0.5, "Âµm"),
        (500_000, "pm"),
        (0.5, "micrometer"),
        (0.5, "Micrometre"),
        (0.5, "\u03bcm"),
        (500, "nanometer"),
        (5e-7, "m"),
        (0.5 / 25.4, "thou"),
    ],
)
def test_units_of_ome_are_understood_as_they_are_written(tmp_path, size, unit):
    metadata = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", smooth(20, 30), photometric="rgb", metadata=metadata)
    assert open_slide(tmp_path / "a.ome.tif").mpp == pytest.approx(0.5)


def settled(mpp, size=(40_000, 30_000), power=None, given=None):
    return settled_scale(Image("a.svs", size, power), given, (mpp, mpp))


@pytest.mark.parametrize(("mpp", "power"), [(0.05, 20), (0.1, 10), (0.025, 40), (0.025, 20)])
def test_a_scale_finer_than_its_objective_sees_is_refused_with_the_usual_one(mpp, power):
    said = f"a.svs says {mpp:g} µm/px at {power:g}×, where {10 / power:g} is usual and no camera is so fine; give the"
    with pytest.raises(ScaleError) as caught:
        settled(mpp, power=power)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("mpp", "power"), [(0.05, 100), (0.1, 100), (0.1, 63), (0.23, 40), (0.5, 20), (0.25, 20), (1.0, 10), (0.345, 10)]
)
def test_a_scale_that_agrees_with_its_objective_is_taken_without_a_word(mpp, power):
    assert settled(mpp, power=power) == (mpp, ())


@pytest.mark.parametrize(("mpp", "power"), [(2.5, 40), (5.0, 20), (0.05, 50), (0.12, 20)])
def test_a_scale_unlike_its_objective_is_questioned(mpp, power):
    (doubt,) = settled(mpp, size=(4000, 3000), power=power)[1]
    assert doubt == (
        f"a.svs is of a {power}× objective, for which {10 / power:.2g} µm/px are usual, not {mpp:g}: check the scale."
    )


@pytest.mark.parametrize("mpp", [0.05, 0.1])
def test_a_scale_finer_than_slides_are_scanned_is_questioned_where_no_objective_is_told(mpp):
    (doubt,) = settled(mpp)[1]
    assert doubt == f"{mpp:g} µm/px for a.svs are finer than slides are scanned (0.25 at 40×): check the scale."
    assert settled(0.14) == (0.14, ())


def test_a_slide_longer_than_any_glass_is_refused_and_a_long_one_questioned():
    with pytest.raises(ScaleError, match=r"a\.svs says 25 µm/px, which makes its 40,000 px 1,000 mm, longer than any"):
        settled(25)
    assert settled(2.5)[1] == ("a.svs would be 100 mm long at 2.5 µm/px, and glass slides are 76: check the scale.",)
    assert settled(16.4, size=(1280, 431)) == (16.4, ())


def test_a_given_scale_that_makes_a_slide_longer_than_any_glass_is_refused():
    with pytest.raises(ScaleError, match=r"at 69 µm/px a\.svs would show 2,760 × 2,070 mm, more than any glass slide"):
        settled(0.69, given=69.0)
    assert settled(0.69, given=6.0)[0] == 6.0  # 240 mm


def test_a_scale_that_is_given_is_questioned_but_wins():
    assert settled(0.05, power=20, given=0.5) == (0.5, ("a.svs says 0.05 µm/px; the 0.5 given is used.",))
    mpp, doubts = settled(0.05, power=20, given=0.05)
    assert (mpp, len(doubts)) == (0.05, 1)
    assert len(settled_scale(Image("a.jpg", (40_000, 30_000)), 2.5, None)[1]) == 1


def test_a_file_whose_scale_its_objective_contradicts_opens_once_the_scale_is_given(tmp_path):
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="Instrument:0">'
        '<Objective ID="O:1" NominalMagnification="20"/></Instrument><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYCZT" Type="uint8" SizeX="60" SizeY="40" SizeC="3" SizeZ="1" SizeT="1" '
        'PhysicalSizeX="0.05" PhysicalSizeXUnit="µm"><Channel ID="C:0" SamplesPerPixel="3"/>'
        '<TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=False) as writer:
        writer.write(smooth(40, 60), photometric="rgb", description=xml.encode(), metadata=None)
    with pytest.raises(ScaleError, match=r"says 0\.05 µm/px at 20×, where 0\.5 is usual"):
        open_slide(tmp_path / "a.ome.tif")
    assert open_slide(tmp_path / "a.ome.tif", mpp=0.5).mpp == 0.5
