"""OME-Zarr folders, made in code."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from nsl.errors import NslError, SlideError
from nsl.slides.slide import open_slide


def _pixels(section) -> np.ndarray:
    return section.pixels[:512, :640]


def _halved(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(pixels.shape[0] // 2, 2, pixels.shape[1] // 2, 2, 3).mean(axis=(1, 3)).astype(pixels.dtype)


def _write(
    folder: Path,
    pixels: np.ndarray,
    *,
    version: int = 2,
    axes: str = "tczyx",
    unit: str | None = "micrometer",
    mpp: float = 0.5,
    inside: str = "",
) -> Path:
    """Pixels (h, w, c) as two levels of OME-Zarr 0.4 (Zarr 2) or 0.5 (Zarr 3), the image in the group `inside`."""
    root = zarr.open_group(folder, mode="w", zarr_format=version)
    group = root.create_group(inside) if inside else root
    datasets = []
    for number, level in enumerate((pixels, _halved(pixels))):
        placed = np.transpose(level, ["yxc".index(axis) for axis in axes if axis in "yxc"])
        placed = np.expand_dims(placed, [i for i, axis in enumerate(axes) if axis in "tz"])
        chunks = tuple(100 if axis in "xy" else 1 for axis in axes)
        group.create_array(str(number), data=placed, chunks=chunks)
        scale = [mpp * 2**number if axis in "xy" else 1.0 for axis in axes]
        datasets.append({"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    listed = [{"name": axis, **({"unit": unit} if unit and axis in "xy" else {})} for axis in axes]
    image = {"axes": listed, "datasets": datasets}
    if version == 2:
        group.attrs["multiscales"] = [image | {"version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return folder


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["tczyx", "cyx", "yxc"])
@pytest.mark.parametrize("inside", ["", "0"], ids=["an image", "as converted by Bio-Formats"])
def test_pixels_scale_and_levels_are_those_written(section, tmp_path, version, axes, inside):
    pixels = _pixels(section)
    path = _write(tmp_path / "slide.ome.zarr", pixels, version=version, axes=axes, inside=inside)
    with open_slide(path) as slide:
        assert (slide.format, slide.size, slide.mpp, slide.levels) == ("OME-Zarr", (640, 512), 0.5, (1.0, 2.0))
        assert (slide.read(90, 50, 330, 210) == pixels[50:260, 90:420]).all()
        assert (slide.read(0, 0, 640, 512, 1.0) == _halved(pixels)).all()


def _shown(path: Path, version: int, channels: object) -> Path:
    attributes = zarr.open_group(path).attrs
    told = {"omero": {"channels": channels}}
    attributes.update(told if version == 2 else {"ome": {**attributes["ome"], **told}})
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("channels", "order"),
    [
        ([{"color": "0000FF"}, {"color": "00ff00"}, {"color": "FF0000"}], [2, 1, 0]),
        ([{"label": "green"}, {"label": "Red"}, {"label": "B"}], [1, 0, 2]),
        ([{"label": "R", "color": "FFFFFF"}, {"label": "0", "color": None}, {}], [0, 1, 2]),
        ("of no use", [0, 1, 2]),
    ],
)
def test_channels_are_the_colours_that_they_are_called_or_shown_in(section, tmp_path, version, channels, order):
    pixels = _pixels(section)
    path = _shown(_write(tmp_path / "slide.zarr", pixels, version=version), version, channels)
    with open_slide(path) as slide:
        assert (slide.read(0, 0, 640, 512) == pixels[..., order]).all()


def test_channels_called_after_dyes_of_fluorescence_are_no_colours(section, tmp_path):
    channels = [{"label": name, "color": "FF0000"} for name in ("DAPI", "FITC", "Cy3")]
    path = _shown(_write(tmp_path / "slide.zarr", _pixels(section)), 2, channels)
    with pytest.raises(SlideError, match=r"slide\.zarr holds channels of fluorescence \(DAPI, FITC, Cy3\); the model"):
        open_slide(path)


@pytest.mark.parametrize(("unit", "mpp"), [("nanometer", 0.5e-3), ("millimeter", 500.0), ("µm", 0.5), (None, None)])
def test_the_unit_of_the_axes_is_heeded_and_without_one_there_is_no_scale(section, tmp_path, unit, mpp):
    path = _write(tmp_path / "slide.zarr", _pixels(section), unit=unit, mpp=0.5 / (mpp / 0.5) if mpp else 0.5)
    with open_slide(path) as slide:
        assert slide.mpp == (pytest.approx(0.5) if unit else None)


def test_deep_images_become_8_bit_by_the_bits_they_fill(section, tmp_path):
    deep = _pixels(section).astype(np.uint16) * 16  # 12 bits
    with open_slide(_write(tmp_path / "slide.zarr", deep)) as slide:
        expected = np.rint(deep[:100, :100] * (255 / 4095))
        assert (slide.read(0, 0, 100, 100) == expected).all()
        assert "0 to 4095 became 0 to 255" in slide.notices[0]


def test_the_checksum_is_of_every_file_and_not_of_the_name(section, tmp_path):
    path = _write(tmp_path / "a.zarr", _pixels(section))
    copied = shutil.copytree(path, tmp_path / "b.zarr")
    with open_slide(path) as one, open_slide(copied) as two:
        assert one.sha256 == two.sha256
    chunk = next(file for file in sorted(copied.rglob("*")) if file.is_file() and not file.name.startswith("."))
    chunk.write_bytes(chunk.read_bytes() + b"\0")
    with open_slide(path) as one, open_slide(copied) as two:
        assert one.sha256 != two.sha256


@pytest.mark.parametrize(
    ("channels", "says"), [(1, "greyscale"), (4, "has 4 channels; the model reads the colour of H&E")]
)
def test_an_image_that_is_not_rgb_is_refused(section, tmp_path, channels, says):
    pixels = np.repeat(_pixels(section)[..., :1], channels, axis=2)
    root = _write(tmp_path / "slide.zarr", _pixels(section))
    group = zarr.open_group(root)
    del group["0"]
    group.create_array("0", data=np.transpose(pixels, (2, 0, 1))[None, :, None], chunks=(1, 1, 1, 100, 100))
    with pytest.raises(SlideError, match=says):
        open_slide(root)


def _metadata(path: Path, change) -> None:
    told = json.loads((path / ".zattrs").read_text())
    change(told["multiscales"][0])
    (path / ".zattrs").write_text(json.dumps(told))


def _shape(path: Path, **changed) -> None:
    for array in path.rglob(".zarray"):
        array.write_text(json.dumps(json.loads(array.read_text()) | changed))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: _metadata(path, lambda image: image["datasets"][0].update(path="../other.zarr/0")),
        lambda path: _metadata(path, lambda image: image["datasets"][0].update(path="/etc")),
        lambda path: _metadata(path, lambda image: image["datasets"].clear()),
        lambda path: _metadata(path, lambda image: image.pop("axes")),
        lambda path: _metadata(path, lambda image: image.update(axes=[{"name": "x"}, {"name": "y"}])),
        lambda path: _metadata(path, lambda image: image["datasets"][0].update(path=7)),
        lambda path: (path / ".zattrs").write_text("{"),
        lambda path: (path / ".zattrs").unlink(),
        lambda path: (path / "0" / ".zarray").unlink(),
        lambda path: _shape(path, shape=[1, 3, 1, 10**7, 10**7]),
        lambda path: _shape(path, chunks=[1, 3, 1, 10**6, 10**6]),
        lambda path: _shape(path, shape=[1, 3, 1, 0, 0]),
        lambda path: _shape(path, dtype="|O"),
    ],
    ids=[
        *("another folder", "an absolute path", "no level", "no axes", "too few axes", "a number for a path"),
        *("broken JSON", "no metadata", "no array", "huge", "huge chunks", "empty", "objects"),
    ],
)
def test_what_cannot_be_an_image_ends_in_one_sentence(section, tmp_path, change):
    _write(tmp_path / "other.zarr", _pixels(section))
    path = _write(tmp_path / "slide.zarr", _pixels(section))
    change(path)
    with pytest.raises(NslError) as told:
        open_slide(path)
    assert str(told.value).startswith("slide.zarr")
    assert str(tmp_path) not in str(told.value)


def test_a_damaged_chunk_is_told_when_it_is_read(section, tmp_path):
    path = _write(tmp_path / "slide.zarr", _pixels(section))
    chunk = next(file for file in (path / "0").rglob("0*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:20])
    with open_slide(path) as slide, pytest.raises(SlideError, match=r"slide.zarr is damaged or incomplete"):
        slide.read(0, 0, 640, 512)


@pytest.mark.parametrize("shards", [None, (1, 3, 1, 200, 200)])
def test_blosc_of_version_3_is_read_in_shards_or_without(section, tmp_path, shards):
    pixels = _pixels(section)
    path = _write(tmp_path / "slide.zarr", pixels, version=3)
    group, cyx = zarr.open_group(path), np.transpose(pixels, (2, 0, 1))[None, :, None]
    del group["0"]
    blosc = zarr.codecs.BloscCodec()
    group.create_array("0", data=cyx, chunks=(1, 1, 1, 100, 100), shards=shards, compressors=blosc)
    with open_slide(path) as slide:
        assert (slide.read(90, 50, 330, 210) == pixels[50:260, 90:420]).all()
