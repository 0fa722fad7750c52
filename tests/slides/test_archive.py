"""What `archive` promises: a zipped slide of several files opens, and nothing else comes out of a zip."""

import os
import resource
import stat
import struct
import uuid
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

from nsl import open_slide
from nsl.errors import SlideError
from nsl.slides import archive
from nsl.slides.archive import dicom_slides, unpack_slide

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
TILE = 64


def painted(height: int = 128, width: int = 192) -> np.ndarray:
    """Slow waves of colour, which JPEG keeps to a few grey levels, on which every 2 × 2 pixels are alike."""
    y, x = np.mgrid[: height // 2, : width // 2]
    waves = [150 + 70 * np.sin(x / 15), 140 + 60 * np.cos(y / 13), 160 + 50 * np.sin((x + y) / 17)]
    return np.stack(waves, axis=-1).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)


def tiled(pixels: np.ndarray) -> list[np.ndarray]:
    """Square tiles, row by row, the last ones filled up with their last pixels."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, [(0, -height % TILE), (0, -width % TILE), (0, 0)], mode="edge")
    return [padded[y : y + TILE, x : x + TILE] for y in range(0, height, TILE) for x in range(0, width, TILE)]


def encoded(pixels: np.ndarray, form: str, **options) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


# Slides of several files, written as their standards say


def write_dicom_level(
    path: Path, pixels: np.ndarray, mpp: float, series: str, *, flavor: str = "VOLUME", jpeg: bool = False
) -> Path:
    """One instance of VL Whole Slide Microscopy: a level of 64 px tiles, TILED_FULL, or an associated image."""
    height, width = pixels.shape[:2]
    tiles = tiled(pixels) if flavor == "VOLUME" else [pixels]
    level = Dataset()
    level.file_meta = FileMetaDataset()
    level.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    level.file_meta.MediaStorageSOPClassUID = level.SOPClassUID = WHOLE_SLIDE
    level.file_meta.MediaStorageSOPInstanceUID = level.SOPInstanceUID = generate_uid()
    level.ImageType = ["DERIVED", "PRIMARY", flavor, "NONE"]
    level.Modality = "SM"
    level.Manufacturer, level.ManufacturerModelName = "Scanners Ltd", "S 360"
    other = Dataset()
    other.SeriesInstanceUID = "1.2.3.4"
    other.is_undefined_length_sequence_item = True
    level.ReferencedSeriesSequence = [other]
    level["ReferencedSeriesSequence"].is_undefined_length = True
    level.SeriesInstanceUID = series
    level.StudyInstanceUID = "1.2.3.5"
    level.DimensionOrganizationType = "TILED_FULL"
    level.SamplesPerPixel, level.PlanarConfiguration, level.PixelRepresentation = 3, 0, 0
    level.PhotometricInterpretation = "YBR_FULL_422" if jpeg else "RGB"
    level.BitsAllocated, level.BitsStored, level.HighBit = 8, 8, 7
    level.NumberOfFrames = len(tiles)
    level.Rows, level.Columns = tiles[0].shape[:2]
    level.TotalPixelMatrixRows, level.TotalPixelMatrixColumns = height, width
    level.TotalPixelMatrixFocalPlanes = 1
    spacing, groups = Dataset(), Dataset()
    spacing.PixelSpacing = [mpp / 1000, mpp / 1000]
    spacing.SliceThickness = 0.001
    groups.PixelMeasuresSequence = [spacing]
    level.SharedFunctionalGroupsSequence = [groups]
    if jpeg:
        level.PixelData = encapsulate([encoded(tile, "JPEG", quality=95) for tile in tiles])
        level["PixelData"].is_undefined_length = True
    else:
        level.PixelData = b"".join(tile.tobytes() for tile in tiles)
    level["PixelData"].VR = "OB"
    level.save_as(path, enforce_file_format=True)
    return path


def write_dicom(folder: Path, pixels: np.ndarray, mpp: float, *, jpeg: bool = False) -> list[Path]:
    """A slide of two levels and a label; the file names say nothing of which is which."""
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    return [
        write_dicom_level(folder / "IM0001.dcm", pixels[::2, ::2], 2 * mpp, series, jpeg=jpeg),
        write_dicom_level(folder / "IM0002.dcm", pixels[:30, :40], mpp, series, flavor="LABEL"),
        write_dicom_level(folder / "IM0003.dcm", pixels, mpp, series, jpeg=jpeg),
    ]


def write_mirax(mrxs: Path, pixels: np.ndarray, mpp: float, data_file: str = "Data0000.dat") -> Path:
    """A slide of two levels of 64 px PNG images without overlap, as https://openslide.org/formats/mirax has it."""
    folder = mrxs.with_suffix("")
    folder.mkdir(parents=True)
    images, slide_id, data, pages = (len(pixels) // TILE, pixels.shape[1] // TILE), uuid.uuid4().hex, b"", []
    for level in (0, 1):
        shrunk = pixels[:: 2**level, :: 2**level]
        records = []
        for number, image in enumerate(tiled(shrunk)):
            row, column = divmod(number, -(-shrunk.shape[1] // TILE))
            png = encoded(image, "PNG")
            records.append(struct.pack("<4i", (row * images[1] + column) * 2**level, len(data), len(png), 0))
            data += png
        pages.append(struct.pack("<2i", len(records), 0) + b"".join(records))
    table = 5 + 32 + 8
    index = b"01.02" + slide_id.encode() + struct.pack("<2i", table, 0)
    starts = table + 4 * len(pages)
    offsets = [starts + sum(8 + len(page) for page in pages[:number]) for number in range(len(pages))]
    index += struct.pack(f"<{len(pages)}i", *offsets)
    for offset, page in zip(offsets, pages, strict=True):
        index += struct.pack("<2i", 0, offset + 8) + page
    sections = "".join(
        f"[LEVEL_{level}]\r\nOVERLAP_X = 0\r\nOVERLAP_Y = 0\r\nMICROMETER_PER_PIXEL_X = {mpp * 2**level}\r\n"
        f"MICROMETER_PER_PIXEL_Y = {mpp * 2**level}\r\nIMAGE_FORMAT = PNG\r\nIMAGE_FILL_COLOR_BGR = 16777215\r\n"
        f"DIGITIZER_WIDTH = {TILE}\r\nDIGITIZER_HEIGHT = {TILE}\r\nIMAGE_CONCAT_FACTOR = {level}\r\n"
        for level in (0, 1)
    )
    (folder / "Slidedat.ini").write_text(
        f"\ufeff[GENERAL]\r\nSLIDE_ID = {slide_id}\r\nSLIDE_CREATIONDATETIME = 12/03/2009 10:11:12\r\n"
        f"IMAGENUMBER_X = {images[1]}\r\nIMAGENUMBER_Y = {images[0]}\r\n"
        "[HIERARCHICAL]\r\nHIER_COUNT = 1\r\nNONHIER_COUNT = 0\r\nINDEXFILE = Index.dat\r\n"
        "HIER_0_NAME = Slide zoom level\r\nHIER_0_COUNT = 2\r\nHIER_0_VAL_0_SECTION = LEVEL_0\r\n"
        f"HIER_0_VAL_1_SECTION = LEVEL_1\r\n[DATAFILE]\r\nFILE_COUNT = 1\r\nFILE_0 = {data_file}\r\n{sections}",
        encoding="utf-8",
        newline="",
    )
    (folder / "Index.dat").write_bytes(index)
    (folder / "Data0000.dat").write_bytes(data)
    mrxs.write_bytes(encoded(pixels[::4, ::4], "JPEG"))  # a scanner's holds an overview
    return mrxs


def write_vms(vms: Path, pixels: np.ndarray, mpp: float, image_file: str | None = None) -> Path:
    """A slide of one JPEG and its map, with the restart markers by which tiles are found."""
    vms.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape[:2]
    for suffix, image in (("", pixels), ("_map2", pixels[::4, ::4])):
        vms.with_name(f"{vms.stem}{suffix}.jpg").write_bytes(
            encoded(image, "JPEG", quality=97, subsampling=0, restart_marker_rows=1)
        )
    vms.write_text(
        f"[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\n"
        f"ImageFile={image_file or vms.stem + '.jpg'}\nMapFile={vms.stem}_map2.jpg\nMacroImage=\n"
        f"PhysicalWidth={round(width * mpp * 1000)}\nPhysicalHeight={round(height * mpp * 1000)}\n"
    )
    return vms


def write_png(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(painted(), "PNG"))
    return path


def zipped(folder: Path, prefix: str = "") -> Path:
    """Everything in a folder as folder.zip beside it."""
    path = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for file in sorted(folder.rglob("*")):
            target.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


def refusal(path: Path, folder: Path, **options) -> str:
    """Why a zip is refused; nothing of it may be left, in the folder or beside it."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(SlideError) as caught:
        unpack_slide(path, folder, **options)
    assert sorted(left for left in folder.parent.rglob("*") if left != folder) == [x for x in before if x != folder]
    message = str(caught.value)
    assert message.startswith(path.name)
    assert "; " in message
    assert "\n" not in message
    return message


@pytest.fixture
def out(tmp_path) -> Path:
    """Where to unpack: a folder that is not there yet."""
    return tmp_path / "out/slides"


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


# What opens


@pytest.mark.parametrize("jpeg", [False, True], ids=["uncompressed", "jpeg"])
def test_a_zipped_dicom_slide_opens_with_its_pixels_and_scale(source, out, jpeg):
    pixels = painted()
    write_dicom(source / "series", pixels, 0.5, jpeg=jpeg)
    path = unpack_slide(zipped(source), out)
    assert path.name == "IM0003.dcm"
    with open_slide(path) as slide:
        assert (slide.format, slide.size, slide.mpp, slide.levels) == ("DICOM", (192, 128), 0.5, (1.0, 2.0))
        assert slide.scanner == "Scanners Ltd S 360"
        read = slide.read(0, 0, 192, 128)
        halved = slide.read(0, 0, 192, 128, mpp=1.0)
    tolerance = 12 if jpeg else 0
    assert np.abs(read.astype(int) - pixels).max() <= tolerance
    assert np.abs(halved.astype(int) - pixels[::2, ::2]).max() <= tolerance


def test_a_zipped_mirax_slide_opens_with_its_pixels_and_scale(source, out):
    pixels = painted()
    write_mirax(source / "Größe 1.mrxs", pixels, 0.25)
    path = unpack_slide(zipped(source, "slides/"), out)
    assert path.name == "Größe 1.mrxs"
    with open_slide(path) as slide:
        assert (slide.format, slide.size, slide.mpp) == ("3DHISTECH MIRAX", (192, 128), 0.25)
        assert slide.levels == (1.0, 2.0)
        np.testing.assert_array_equal(slide.read(0, 0, 192, 128), pixels)
        np.testing.assert_array_equal(slide.read(0, 0, 192, 128, mpp=0.5), pixels[::2, ::2])


def test_a_zipped_vms_slide_opens_with_its_pixels_and_scale(source, out):
    pixels = painted(256, 256)
    write_vms(source / "specimen.vms", pixels, 0.46)
    path = unpack_slide(zipped(source), out)
    with open_slide(path) as slide:
        assert (slide.format, slide.size) == ("Hamamatsu", (256, 256))
        assert slide.mpp == pytest.approx(0.46, rel=1e-3)
        assert np.abs(slide.read(0, 0, 256, 256).astype(int) - pixels).max() <= 6


def test_a_zipped_scanner_file_opens_and_images_beside_it_are_its_own(data_folder, source, out):
    (source / "slide.svs").write_bytes((data_folder / "slides/cmu_small_region.svs").read_bytes())
    write_png(source / "label.png")
    with open_slide(unpack_slide(zipped(source), out)) as slide:
        assert (slide.format, slide.size) == ("Aperio SVS", (2220, 2967))


def test_a_zipped_image_opens(source, out):
    write_png(source / "a/section.png")
    (source / "a/notes.txt").write_text("40x")
    with open_slide(unpack_slide(zipped(source), out)) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 192, 128), painted())


def test_what_macos_and_windows_add_is_left_out(tmp_path, out):
    image = encoded(painted(), "PNG")
    clutter = {"__MACOSX/._a.png": image, ".DS_Store": b"x", "._a.png": image, "x/Thumbs.db": b"x"}
    path = unpack_slide(zip_of(tmp_path / "a.zip", {"a.png": image, **clutter}), out)
    assert [file for file in out.rglob("*") if file.is_file()] == [path]


def test_backslashes_of_windows_are_folders(tmp_path, source, out):
    write_mirax(source / "s.mrxs", painted(), 0.25)
    files = {f"x\\{file.relative_to(source)}".replace("/", "\\"): file for file in source.rglob("*") if file.is_file()}
    path = unpack_slide(zip_of(tmp_path / "a.zip", {name: file.read_bytes() for name, file in files.items()}), out)
    with open_slide(path) as slide:
        assert slide.size == (192, 128)


def test_two_slides_unpacked_into_one_folder_stay_apart(tmp_path, out):
    paths = [
        unpack_slide(zip_of(tmp_path / "a.zip", {"a.png": encoded(painted(side, side), "PNG")}), out)
        for side in (64, 128)
    ]
    assert [Image.open(path).size for path in paths] == [(64, 64), (128, 128)]


def test_dicom_levels_in_folders_of_their_own_come_together(source, out):
    for number, path in enumerate(write_dicom(source / "all", painted(), 0.5)):
        (source / str(number)).mkdir()
        path.rename(source / str(number) / "instance.dcm")
    with open_slide(unpack_slide(zipped(source), out)) as slide:
        assert slide.levels == (1.0, 2.0)


def test_dicom_files_are_told_apart_by_series_and_their_finest_level_leads(source):
    first = write_dicom(source / "a", painted(), 0.5)
    second = write_dicom(source / "b", painted(64, 64), 0.5, jpeg=True)
    ct = source / "ct.dcm"
    ct.write_bytes(first[0].read_bytes().replace(WHOLE_SLIDE.encode(), b"1.2.840.10008.5.1.4.1.1.2\0\0\0\0\0"))
    text = source / "text.dcm"
    text.write_text("no DICOM")
    found = dicom_slides([*second, ct, text, *first])
    assert found == {first[2]: first, second[2]: second}


# What is refused


@pytest.mark.parametrize("content", [b"", b"Rar!\x1a\x07", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_zip_is_refused(tmp_path, out, content):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    assert "is no ZIP archive or was cut short; zip the slide's files as ZIP" in refusal(path, out)


def test_a_zip_that_is_not_there_is_refused(tmp_path, out):
    assert "does not exist; check the name and the folder" in refusal(tmp_path / "a.zip", out)


def test_a_damaged_zip_is_refused_whichever_byte_is_hit(source, out):
    write_mirax(source / "s.mrxs", painted(64, 64), 0.25)
    path = zipped(source)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            unpacked = unpack_slide(path, out)
        except SlideError:
            assert list(out.iterdir()) == []
        else:
            archive.shutil.rmtree(unpacked.parent)


def test_a_zip_with_a_password_is_refused(tmp_path, out):
    path = zip_of(tmp_path / "a.zip", {"a.png": b"secret"})
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(magic) + offset] |= 1
    path.write_bytes(content)
    assert "is protected by a password; zip the slide's files without one" in refusal(path, out)


def test_the_method_that_windows_takes_for_large_files_is_refused_by_name(tmp_path, out):
    path = zip_of(tmp_path / "a.zip", {"a.png": b"data"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 9
    path.write_bytes(content)
    message = refusal(path, out)
    assert "by method Deflate64, as Windows does above 2 GB, which is not read here; zip again without" in message


def test_an_empty_zip_is_refused(tmp_path, out):
    assert "is empty; zip the slide's files again" in refusal(zip_of(tmp_path / "a.zip", {}), out)
    assert "is empty" in refusal(zip_of(tmp_path / "b.zip", {"folder/": b"", "__MACOSX/x": b"x"}), out)


def test_too_many_files_are_refused(tmp_path, out):
    path = zip_of(tmp_path / "a.zip", {f"{n}.dat": b"" for n in range(archive.MAX_MEMBERS + 1)})
    assert "holds 20,001 files, and at most 20,000 are taken; zip one slide" in refusal(path, out)


def test_more_than_was_allowed_is_refused_before_it_is_written(tmp_path, out):
    path = zip_of(tmp_path / "a.zip", {"a.png": bytes(3_000_000), "b.dat": bytes(2_000_000)})
    assert path.stat().st_size < 20_000
    message = refusal(path, out, max_bytes=4_000_000)
    assert "would unpack to 5.0 MB, and at most 4.0 MB are taken; zip one slide alone" in message


def test_a_zip_that_lies_about_its_size_writes_no_more_than_it_said(tmp_path, out, monkeypatch):
    path = zip_of(tmp_path / "a.zip", {"a.png": bytes(3_000_000)})
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        struct.pack_into("<I", content, content.index(magic) + offset, 1000)
    path.write_bytes(content)
    written = []
    removed = archive.shutil.rmtree

    def look_then_remove(folder, **options):
        written.extend(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        removed(folder, **options)

    monkeypatch.setattr(archive.shutil, "rmtree", look_then_remove)
    assert "is damaged or incomplete" in refusal(path, out, max_bytes=100_000)
    assert sum(written) <= 1000


@pytest.mark.parametrize(
    "name", ["../a.png", "x/../../a.png", "/etc/a.png", "C:\\a.png", "c:a.png", "..\\a.png", "\\a.png"]
)
def test_a_name_outside_the_zip_is_refused(tmp_path, out, name):
    path = zip_of(tmp_path / "a.zip", {"b.png": encoded(painted(), "PNG"), name: b"x"})
    assert "names a file outside itself" in refusal(path, out)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_are_refused(tmp_path, out, kind):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as target:
        member = zipfile.ZipInfo("a.png")
        member.external_attr = (kind | 0o777) << 16
        target.writestr(member, "/etc/passwd")
    assert "holds a link or device, a.png; zip the slide's files themselves" in refusal(path, out)


def test_marks_that_windows_does_not_allow_are_replaced(tmp_path, out):
    path = unpack_slide(zip_of(tmp_path / "a.zip", {'x?/a:b"1.png': encoded(painted(), "PNG")}), out)
    assert path.relative_to(out).parts[1:] == ("x_", "a_b_1.png")


def test_two_files_of_one_name_are_refused(tmp_path, out):
    image = encoded(painted(), "PNG")
    path = zip_of(tmp_path / "a.zip", {"x/a?.png": image, "x/a*.png": image})
    assert "holds two files named a_.png in one folder; zip each file once" in refusal(path, out)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["a.txt", "b.csv"], "holds no slide, but a.txt, b.csv; zip a slide's files or an image"),
        (["a.txt", "b.txt", "c.txt", "d.txt"], "holds no slide, but a.txt, b.txt, c.txt, …; zip"),
        (["s.mrxs", "t/Slidedat.ini", "a.png"], "holds s.mrxs without its data; zip it together with the folder s "),
        (["s/Slidedat.ini", "s/Data0000.dat"], "holds the data of a MIRAX slide without its .mrxs file; zip that"),
        (["s.vms", "s.jpg"], "holds s.vms, which cannot be read; copy it again, with the images beside it"),
        (["a.png", "b/c.jpg"], r"holds 2 slides (a.png, b/c.jpg); zip one of them"),
        ([f"{n}.png" for n in range(7)], r"holds 7 slides (0.png, 1.png, 2.png, 3.png, 4.png and 2 more); zip one"),
    ],
)
def test_a_zip_without_one_whole_slide_is_refused_with_what_it_holds(tmp_path, out, members, message):
    assert message in refusal(zip_of(tmp_path / "a.zip", dict.fromkeys(members, b"some text")), out)


def test_dicom_that_is_no_slide_is_refused(source, out):
    path = write_dicom_level(source / "a.dcm", painted(), 0.5, "1.2.3")
    path.write_bytes(path.read_bytes().replace(WHOLE_SLIDE.encode(), b"1.2.840.10008.5.1.4.1.1.2\0\0\0\0\0"))
    assert "holds DICOM files that are no whole-slide image; export" in refusal(zipped(source), out)


def test_several_slides_are_refused_by_name(source, out):
    write_dicom(source / "x", painted(), 0.5)
    write_dicom(source / "y", painted(), 0.5)
    write_mirax(source / "s.mrxs", painted(), 0.25)
    assert "holds 3 slides (s.mrxs, x/IM0003.dcm, y/IM0003.dcm); zip one of them" in refusal(zipped(source), out)


def test_a_mirax_slide_cannot_have_files_elsewhere_read(source, out):
    write_mirax(source / "s.mrxs", painted(), 0.25, data_file="../../../other/Data0000.dat")
    assert "names a file outside its folder, ../../../other/Data0000.dat; export" in refusal(zipped(source), out)


@pytest.mark.parametrize("name", ["s.vms", "s.jpg", "s.ndpi"])
def test_a_vms_slide_cannot_have_files_elsewhere_read_whatever_it_is_called(source, out, name):
    write_vms(source / "s.vms", painted(256, 256), 0.46, image_file="../other.jpg").rename(source / name)
    (source / "s_map2.jpg").rename(source / "map.dat")
    assert "names a file outside its folder, ../other.jpg; export" in refusal(zipped(source), out)


# A disk that fills up


def test_a_slide_larger_than_the_room_left_is_refused_before_it_is_written(tmp_path, out, monkeypatch):
    path = zip_of(tmp_path / "a.zip", {"a.png": bytes(2_000_000)})
    usage = archive.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: usage._replace(free=1_500_000))
    assert "would unpack to 2.0 MB, and 1.5 MB are free; make room on the disk" in refusal(path, out)


def test_a_disk_that_fills_up_meanwhile_is_told_and_nothing_is_left(tmp_path, out):
    path = zip_of(tmp_path / "a.zip", {"a.png": os.urandom(300_000)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        message = refusal(path, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be unpacked (File too large); make room on the disk" in message
