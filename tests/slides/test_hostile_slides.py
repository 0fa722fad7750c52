"""Files made to harm: none ends the process or fills the memory, and giants open."""

import os
import re
import sqlite3
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pydicom import dcmread

from nsl.errors import SlideError
from nsl.slides import trial
from nsl.slides.slide import open_slide
from tests.slides.test_archive import encoded, painted, write_dicom, write_mirax, write_vms

# A process of its own: what these files set off ends it. `getrusage` would count the memory of its parent, too.
ATTEMPT = r"""
import re, resource, sys, warnings
from pathlib import Path
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (8 * 10**9, 8 * 10**9))
warnings.simplefilter("ignore")
from nsl.slides.archive import unpack_slide
from nsl.errors import SlideError
from nsl.slides.slide import open_slide
path = Path(sys.argv[1])
try:
    path = unpack_slide(path, path.parent / "unpacked") if path.suffix == ".zip" else path
    with open_slide(path) as slide:
        slide.read(0, 0, 64, 64)
        slide.thumbnail(64)
    print("read")
except SlideError as error:
    print(error)
print(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
"""
MOST_KB = 800_000
HUGE = 2**31 - 16


def attempt(path: Path) -> str:
    """What opening and reading a file, or the slide in a zip, comes to."""
    command, root = [sys.executable, "-c", ATTEMPT, path], Path(__file__).parents[2]
    # This process has imported nsl, which sets it.
    own = {name: value for name, value in os.environ.items() if name != "JPEGMEM"}
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, env=own)
    assert run.returncode == 0, run.stderr[-500:]
    said, kilobytes = run.stdout.rsplit("\n", 2)[:2]
    assert int(kilobytes) < MOST_KB
    assert "\n" not in said
    return said


# TIFFs, tag by tag

LAYOUTS = {"II": ("<", 42, "H", "I"), "MM": (">", 42, "H", "I"), "big": ("<", 43, "Q", "Q")}
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, SAMPLES, PLANES = 256, 257, 258, 259, 262, 270, 277, 284
STRIP_AT, ROWS, STRIP_BYTES = 273, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILE_AT, TILE_BYTES, TILE_DEPTH, XML = 322, 323, 324, 325, 32998, 700
NDPI, LENS, FOCUS = 65420, 65421, 65424
SIDES = (WIDTH, HEIGHT, TILE_WIDTH, TILE_HEIGHT)
JPEG, YCBCR = 7, 6


def tiff(*changes: dict, layout: str = "II", loop: bool = False, pixels: bytes = bytes(64 * 64 * 3)) -> bytes:
    """An RGB tile of 64 × 64 px in each directory, with changes to the tags of each; None leaves a tag out."""
    order, version, count, place = LAYOUTS[layout]
    room, first = struct.calcsize(place), 16 + len(pixels)
    content = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}H", version)
    content += struct.pack(f"{order}HHQ", 8, 0, first) if layout == "big" else struct.pack(f"{order}I", first)
    content = content.ljust(16, b"\0") + pixels
    for number, change in enumerate(changes, start=1):
        tags = {WIDTH: 64, HEIGHT: 64, BITS: (8, 8, 8), COMPRESSION: 1, PHOTOMETRIC: 2, SAMPLES: 3, PLANES: 1}
        tags |= {TILE_WIDTH: 64, TILE_HEIGHT: 64, TILE_AT: 16, TILE_BYTES: len(pixels)} | change
        tags = {tag: value for tag, value in sorted(tags.items()) if value is not None}
        behind = len(content) + struct.calcsize(count) + len(tags) * (4 + 2 * room) + room
        entries, values = b"", b""
        for tag, value in tags.items():
            if isinstance(value, bytes):
                kind, letter, numbers = (2 if tag == DESCRIPTION else 1), "B", value
            else:
                numbers = value if isinstance(value, tuple) else (value,)
                kind, letter = (3, "H") if max(numbers) < 2**16 else (4, "I") if max(numbers) < 2**32 else (16, "Q")
            packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
            if len(packed) > room:
                packed, values = struct.pack(order + place, behind + len(values)), values + packed
            entries += struct.pack(f"{order}HH{place}", tag, kind, len(numbers)) + packed.ljust(room, b"\0")
        following = behind + len(values) if number < len(changes) else first if loop else 0
        content += struct.pack(order + count, len(tags)) + entries + struct.pack(order + place, following) + values
    return content


STRIP = {TILE_WIDTH: None, TILE_HEIGHT: None, TILE_AT: None, TILE_BYTES: None, STRIP_AT: 16, STRIP_BYTES: 64 * 64 * 3}
APERIO = {DESCRIPTION: b"Aperio Image Library v1\nx|AppMag=20\0", COMPRESSION: JPEG, PHOTOMETRIC: YCBCR}
OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image '
    'ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="64" SizeY="64" SizeC="3" '
    'SizeZ="{planes}" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData/></Pixels></Image></OME>\0'
)


def ome(planes: int = 1) -> bytes:
    return OME.format(planes=planes).encode()


def larger(picture: bytes, side: int, marker: bytes) -> bytes:
    """A JPEG that says it is `side` px long; its pixels stay what they are."""
    at = picture.index(marker)
    return picture[: at + 5] + struct.pack(">HH", side, side) + picture[at + 9 :]


def progressive(side: int) -> bytes:
    """A flat progressive JPEG: 6 bits for every 8 × 8 px, and 384 bytes of memory while it is decoded."""
    head = larger(encoded(painted(64, 64), "JPEG", progressive=True, subsampling=0), side, b"\xff\xc2")
    lengths, values = bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, *[0] * 7]), bytes(range(12))
    tables = b"".join(bytes([number]) + lengths + values for number in (0, 1))
    scan = b"\xff\xc4" + struct.pack(">H", 2 + len(tables)) + tables
    scan += b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\0\0" + bytes((side // 8) ** 2 * 6 // 8)
    return head[: head.index(b"\xff\xda")] + scan + b"\xff\xd9"


def jpeg_xl(side: int) -> bytes:
    """The size header of a square: not small, a length of 30 bits, width as height."""
    return b"\xff\x0a" + (0b11 << 1 | (side - 1) << 3 | 1 << 33).to_bytes(16, "little")


def jpeg_2000(side: int) -> bytes:
    start = b"\xff\x4f\xff\x51" + struct.pack(">HH8IH", 47, 0, side, side, 0, 0, 64, 64, 0, 0, 3)
    return start + bytes([7, 1, 1] * 3) + bytes(100)


def overlapping(directories: int, entries: int) -> bytes:
    """A chain of directories a step of one entry apart: each has almost all entries of the one before."""
    start = 2**16
    content = bytearray(b"II*\0" + struct.pack("<I", start)).ljust(start + 12 * (directories + entries) + 6, b"\0")
    for number in range(directories + entries):
        # The value's upper half is the length of the directory that begins there.
        struct.pack_into("<HHIHH", content, start + 12 * number + 2, 300 + number % 60_000, 3, 1, 7, entries)
    struct.pack_into("<H", content, start, entries)
    for number in range(directories):
        following = start + 12 * (number + 1) if number + 1 < directories else 0
        struct.pack_into("<I", content, start + 12 * (number + entries) + 2, following)
    return bytes(content)


BIF = """<?xml version="1.0"?><EncodeInfo Ver="2"><SlideStitchInfo><ImageInfo AOIScanned="1" AOIIndex="0" Width="64"
 Height="64" NumRows="32768" NumCols="32768" Pos-X="0" Pos-Y="0"><TileJointInfo/></ImageInfo></SlideStitchInfo>
<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>\0"""
ISCAN = b'<?xml version="1.0"?><iScan ScanRes="0.25" Magnification="40" Z-layers="1"/>\0'
LEVEL = {DESCRIPTION: b"level=0 mag=40 quality=90\0", XML: BIF.encode(), COMPRESSION: JPEG, PHOTOMETRIC: YCBCR}

IN_JPEG = {COMPRESSION: JPEG, PHOTOMETRIC: YCBCR}
LARGER = larger(encoded(painted(64, 64), "JPEG"), 65_500, b"\xff\xc0")

TOO_LARGE_A_TILE = "and at most 268,435,456 are read; export it again in tiles of 256 to 4,096 px"
TOO_LARGE = "and at most 2,097,152 a side and 100,000,000,000 in all are read; export it again"
ENDS = "is damaged or incomplete: it would take all memory or end the program; copy or export it again"
ANOTHER_SIZE = "is damaged or incomplete (a tile is larger than it says); copy or export it again"
TIFFS = {
    "tile width": (tiff({TILE_WIDTH: HUGE}), "states tiles of 2,147,483,632 × 64 px"),
    "tile height": (tiff({TILE_HEIGHT: HUGE}), TOO_LARGE_A_TILE),
    "tile as large as the image": (tiff(dict.fromkeys(SIDES, 2**16)), TOO_LARGE_A_TILE),
    "tile of many samples": (tiff({SAMPLES: 65_535, TILE_WIDTH: 8192, TILE_HEIGHT: 8192}), TOO_LARGE_A_TILE),
    "tile of wide samples": (tiff({BITS: (65_528,) * 3, TILE_WIDTH: 1024}), TOO_LARGE_A_TILE),
    "deep tile": (tiff({TILE_DEPTH: 2**16, COMPRESSION: 8}), TOO_LARGE_A_TILE),
    "second directory": (tiff({}, {254: 1, TILE_WIDTH: HUGE}), TOO_LARGE_A_TILE),
    "big-endian": (tiff({TILE_WIDTH: HUGE}, layout="MM"), TOO_LARGE_A_TILE),
    "BigTIFF": (tiff({TILE_WIDTH: HUGE, TILE_HEIGHT: HUGE}, layout="big"), TOO_LARGE_A_TILE),
    "Aperio": (tiff(APERIO | {TILE_WIDTH: HUGE}), TOO_LARGE_A_TILE),
    "stored bytes": (tiff(APERIO | {TILE_BYTES: 2**62}, layout="big"), "(a tile of 4,611,686,018,427,387,904 bytes)"),
    "strip rows": (tiff(STRIP | {WIDTH: 2**18, HEIGHT: 2**18, ROWS: 2**32 - 1}), "states strips of 262,144 × 262,144"),
    "image": (tiff({WIDTH: HUGE, HEIGHT: HUGE, TILE_WIDTH: 256, TILE_HEIGHT: 256}), TOO_LARGE),
    "tiles that are not there": (tiff({WIDTH: 2**20, HEIGHT: 2**20, TILE_AT: None, TILE_BYTES: None}), TOO_LARGE),
    "wide image": (tiff({WIDTH: 2**22}), "states 4,194,304 × 64 px"),
    "tags larger than the file": (tiff({65_000: bytes(2**17)})[: -(2**16)], " tags of 131,"),
    "empty mark of an NDPI": (tiff({NDPI: b""}, {254: 1, TILE_WIDTH: HUGE}), "is damaged or incomplete; copy"),
    "overlapping directories": (overlapping(60_000, 20_000), "is damaged or incomplete (500,025 tags"),
    "circle": (tiff({}, {}, loop=True), "holds 2 images (axes IYXS)"),
    "BIF": (tiff({XML: ISCAN} | STRIP | {ROWS: 64, DESCRIPTION: b"Label Image\0"}, LEVEL), ENDS),
    "planes of an OME-TIFF": (tiff({DESCRIPTION: ome(10**9)}), ENDS),
    "JPEG in an OME-TIFF": (tiff({DESCRIPTION: ome()} | IN_JPEG, pixels=LARGER), ANOTHER_SIZE),
    "JPEG in a strip": (tiff(STRIP | IN_JPEG | {ROWS: 64, STRIP_BYTES: len(LARGER)}, pixels=LARGER), ANOTHER_SIZE),
    "JPEG 2000": (tiff({DESCRIPTION: ome(), COMPRESSION: 34712}, pixels=jpeg_2000(60_000)), ANOTHER_SIZE),
    "JPEG XL": (tiff({DESCRIPTION: ome(), COMPRESSION: 50002}, pixels=jpeg_xl(60_000)), ANOTHER_SIZE),
    "JPEG XR": (tiff({DESCRIPTION: ome(), COMPRESSION: 34934}), "is compressed by JPEGXR, which is not read"),
    "progressive JPEG": (tiff(APERIO, pixels=progressive(20_000)), "Memory limit exceeded"),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_a_tiff_that_states_what_no_slide_has_is_refused(tmp_path, kind):
    content, said = TIFFS[kind]
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    message = attempt(path)
    assert message.startswith("a.tif ")
    assert said in message


def ndpi(side: int) -> bytes:
    """One level, in places of 8 bytes as Hamamatsu writes them; more than 65,535 px do not fit its JPEG."""
    picture = larger(encoded(painted(64, 64), "JPEG", restart_marker_blocks=1), 0, b"\xff\xc0")
    tags = {WIDTH: side, HEIGHT: side, STRIP_AT: 12, STRIP_BYTES: len(picture), NDPI: 1, LENS: 20, FOCUS: 0}
    content = b"II*\0" + struct.pack("<Q", 12 + len(picture)) + picture + struct.pack("<H", len(tags))
    for tag, value in sorted(tags.items()):
        kind, letter = {LENS: (11, "f"), FOCUS: (9, "i")}.get(tag, (4, "I"))
        content += struct.pack(f"<HHI{letter}", tag, kind, 1, value)
    return content + bytes(8 + 4 * len(tags))


@pytest.mark.parametrize(("side", "said"), [(2**31 - 1, TOO_LARGE), (315_000, ENDS)])
def test_an_ndpi_that_states_what_no_slide_has_is_refused(tmp_path, side, said):
    (tmp_path / "a.ndpi").write_bytes(ndpi(side))
    assert said in attempt(tmp_path / "a.ndpi")


# Other containers


def mirax(folder: Path, **changes: int) -> Path:
    path = write_mirax(folder / "s.mrxs", painted(), 0.25)
    slidedat = path.with_suffix("") / "Slidedat.ini"
    text = slidedat.read_text(encoding="utf-8-sig")
    for key, value in changes.items():
        text, found = re.subn(rf"(?m)^{key} = \S+", f"{key} = {value}", text)
        assert found
    slidedat.write_text(text, encoding="utf-8")
    return path


def dicom(folder: Path, **changes: int) -> Path:
    paths = write_dicom(folder, painted(), 0.5)
    for path in paths[0], paths[2]:
        level = dcmread(path)
        for name, value in changes.items():
            setattr(level, name, value)
        level.save_as(path)
    return paths[2]


def nested_dicom(folder: Path) -> Path:
    """A sequence in a sequence, and so on a hundred thousand times."""
    paths = write_dicom(folder, painted(), 0.5)
    for path in paths[:2]:
        path.unlink()
    content = paths[2].read_bytes()
    at = content.index(b"\x08\0\x15\x11SQ")
    nested = content[at : at + 8] + b"\xff" * 4 + b"\xfe\xff\0\xe0" + b"\xff" * 4
    paths[2].write_bytes(content[:at] + nested * 100_000)
    return paths[2]


def vms(folder: Path) -> Path:
    path = write_vms(folder / "s.vms", painted(256, 256), 0.46)
    path.write_text(path.read_text().replace("Columns=1", "Columns=40000").replace("Rows=1", "Rows=40000"))
    return path


def vmu(folder: Path) -> Path:
    """Uncompressed, in columns as wide as the image."""
    for name in ("s.ngr", "map.ngr"):
        image = b"GN\0\0" + struct.pack("<3i8xi", 2**21, 64, 2**21, 64)
        (folder / name).write_bytes(image)
    (folder / "s.vmu").write_text(
        "[Uncompressed Virtual Microscope Specimen]\nNoLayers=1\nImageFile=s.ngr\nMapFile=map.ngr\nBitsPerPixel=36\n"
        "PixelOrder=RGB\nPhysicalWidth=2097152000\nPhysicalHeight=64000\n"
    )
    return folder / "s.vmu"


def czi(folder: Path, side: int) -> Path:
    """One tile, of which there are no pixels."""

    def segment(kind: bytes, content: bytes) -> bytes:
        return struct.pack("<16sqq", kind, len(content), len(content)) + content

    sides = b"".join(struct.pack("<4siifi", axis, 0, side, 0, side) for axis in (b"X", b"Y"))
    tile = struct.pack("<2siqi10xi", b"DV", 3, 0, 0, 2) + sides
    xml = (
        f"<ImageDocument><Metadata><Information><Image><SizeX>{side}</SizeX><SizeY>{side}</SizeY></Image></Information>"
    )
    xml = f"{xml}</Metadata></ImageDocument>".encode()
    parts = [
        segment(b"ZISRAWDIRECTORY", struct.pack("<i124x", 1) + tile),
        segment(b"ZISRAWMETADATA", struct.pack("<i252x", len(xml)) + xml),
        segment(b"ZISRAWATTDIR", bytes(256)),
    ]
    places = [512 + sum(map(len, parts[:number])) for number in range(3)]
    head = segment(b"ZISRAWFILE", struct.pack("<52xqqiq", places[0], places[1], 0, places[2])).ljust(512, b"\0")
    path = folder / "a.czi"
    path.write_bytes(head + b"".join(parts))
    return path


def sakura(folder: Path) -> Path:
    """A database without the value that OpenSlide looks at to tell it."""
    path = folder / "a.svslide"
    with sqlite3.connect(path) as file:
        file.execute("create table DataManagerSQLiteConfigXPO as select 't' as TableName")
        file.execute("create table t as select '++MagicBytes' as id, null as data")
    file.close()
    return path


CONTAINERS = {
    "MIRAX, images": (lambda folder: mirax(folder, IMAGENUMBER_X=40_000, IMAGENUMBER_Y=40_000), ENDS),
    "MIRAX, levels": (lambda folder: mirax(folder, HIER_0_COUNT=2**31 - 1), ENDS),
    "MIRAX, files": (lambda folder: mirax(folder, FILE_COUNT=2**31 - 1), ENDS),
    "MIRAX, tiles": (
        lambda folder: mirax(folder, DIGITIZER_WIDTH=65_536, DIGITIZER_HEIGHT=65_535),
        TOO_LARGE_A_TILE,
    ),
    "MIRAX, wide tiles": (lambda folder: mirax(folder, DIGITIZER_WIDTH=2**31 - 1), TOO_LARGE),
    "DICOM, tiles": (lambda folder: dicom(folder, Rows=65_535, Columns=65_535), TOO_LARGE_A_TILE),
    "DICOM, image": (
        lambda folder: dicom(folder, TotalPixelMatrixRows=2**32 - 1, TotalPixelMatrixColumns=2**32 - 1),
        "is damaged or incomplete",
    ),
    "DICOM, nested": (nested_dicom, ENDS),
    "VMS": (vms, ENDS),
    "VMU": (vmu, TOO_LARGE_A_TILE),
    "CZI": (lambda folder: czi(folder, 50_000), TOO_LARGE_A_TILE),
    "CZI, nothing": (lambda folder: czi(folder, 0), ENDS),
    "Sakura": (sakura, ENDS),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_slide_of_another_kind_that_states_what_no_slide_has_is_refused(tmp_path, kind):
    make, said = CONTAINERS[kind]
    path = make(tmp_path)
    message = attempt(path)
    assert message.startswith(f"{path.name} ")
    assert said in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.tif", TIFFS["tile width"][0]),
        ("s.tif", TIFFS["overlapping directories"][0]),
        ("s.svslide", None),
    ],
    ids=["tile width", "overlapping directories", "Sakura"],
)
def test_a_zip_of_such_a_file_is_refused(tmp_path, name, content):
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content or sakura(tmp_path).read_bytes())
        archive.writestr("overview.png", encoded(painted(), "PNG"))
    message = attempt(tmp_path / "s.zip")
    assert message.startswith(f"s.zip: {name} ")
    assert not list((tmp_path / "unpacked").iterdir())


# What stays readable


def test_a_slide_of_forty_gigapixels_opens(tmp_path):
    side, tile = 200_000, 4_096
    tiles = (-(-side // tile)) ** 2
    picture = encoded(np.full((tile, tile, 3), 90, np.uint8), "JPEG", subsampling=0)
    tags = {WIDTH: side, HEIGHT: side, TILE_WIDTH: tile, TILE_HEIGHT: tile, COMPRESSION: JPEG, PHOTOMETRIC: YCBCR}
    tags |= {TILE_AT: (16,) * tiles, TILE_BYTES: (len(picture),) * tiles}
    (tmp_path / "a.tif").write_bytes(tiff(tags, layout="big", pixels=picture))
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.size == (side, side)
        assert np.abs(slide.read(side - 50, side - 50, 50, 50).astype(int) - 90).max() <= 1


def test_a_strip_may_be_the_whole_image(tmp_path):
    pixels = np.tile(painted(400, 192), (20, 50, 1))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", rowsperstrip=len(pixels), compression="deflate")
    with open_slide(tmp_path / "a.tif") as slide:
        np.testing.assert_array_equal(slide.read(5000, 7000, 100, 100), pixels[7000:7100, 5000:5100])


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "png", "webp"])
def test_tiles_that_are_pictures_read(tmp_path, compression):
    pixels = painted(128, 192)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", compression=compression, tile=(64, 64))
    with open_slide(path) as slide:
        assert np.abs(slide.read(0, 0, 192, 128).astype(int) - pixels).mean() < 4


def test_real_slides_open(data_folder):
    sizes = {}
    for path in sorted((data_folder / "slides").glob("*.[sn]*")):
        with open_slide(path) as slide:
            sizes[path.name] = slide.format
    assert sizes == {
        "cmu_small_region.svs": "Aperio SVS",
        "fluorescence.ndpi": "Hamamatsu",
        "tcga_small.svs": "Aperio SVS",
    }


def test_a_slide_is_tried_once_until_it_changes(tmp_path, monkeypatch):
    path, asked, ask = mirax(tmp_path), [], trial._ask
    monkeypatch.setattr(trial, "_ask", lambda what, paths: asked.append(what) or ask(what, paths))
    for _ in range(3):
        open_slide(path).close()
    assert asked == ["detect", "open"]
    path.write_bytes(path.read_bytes() + b"\0")
    open_slide(path).close()
    assert asked == ["detect", "open"] * 2


def test_a_slide_that_is_not_done_with_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "_SECONDS", 0.001)
    with pytest.raises(SlideError, match=r"s\.mrxs is damaged or incomplete: to open it takes more than 0\.001 s"):
        open_slide(mirax(tmp_path))
