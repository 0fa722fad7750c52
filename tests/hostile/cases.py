"""Bad files made in code, a name each: what reads them, what they hold, and what has to be said of them.

More of each reader's own stand beside its tests: `tests/slides/test_hostile_slides.py` (TIFF by its tags, containers),
`tests/slides/test_archive.py` (zips), `tests/spots/test_measured.py` (HDF5), `tests/weights` (configs).
"""

import io
import json
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from tests.slides import test_hostile_slides as tags
from tests.slides.made_scans import write_leica, write_ndpi, write_philips
from tests.spots.test_measured import POSITIONS, matrix_h5, outs, parquet

SIDE = 96


@dataclass(frozen=True)
class Case:
    kind: str  # of reader, as the runner calls it
    name: str  # of the file
    content: Callable[[], bytes]
    said: str  # part of the sentence, or "read" where a file is odd but good
    beside: tuple[tuple[str, bytes], ...] = ()  # further files that are brought with it


def write(case: Case, folder: Path) -> list[Path]:
    """The files of a case."""
    files = ((case.name, case.content()), *case.beside)
    for name, content in files:
        (folder / name).write_bytes(content)
    return [folder / name for name, _ in files]


def tissue(side: int = SIDE) -> np.ndarray:
    """Pink and violet with a grain, uint8 (side, side, 3)."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:side, :side] / side
    stain = np.stack([np.sin(9 * x) ** 2, np.cos(7 * y) ** 2], axis=-1)
    od = stain @ [[0.65, 0.70, 0.29], [0.27, 0.57, 0.30]]
    return np.clip(240 * np.exp(-od) + rng.normal(0, 3, (side, side, 1)), 0, 255).astype(np.uint8)


def picture(format: str, mode: str = "RGB", **options) -> bytes:
    image = Image.fromarray(tissue())
    image = image.quantize(32) if mode == "P" else image.convert(mode)
    with io.BytesIO() as file:
        image.save(file, format, **options)
        return file.getvalue()


def tiff(**options) -> bytes:
    with io.BytesIO() as file:
        tifffile.imwrite(file, tissue(), photometric="rgb", **options)
        return file.getvalue()


def pyramid() -> bytes:
    """Tiles of JPEG in two resolutions, as scanners write."""
    look = {"photometric": "ycbcr", "compression": "jpeg", "tile": (32, 32), "metadata": None}
    with io.BytesIO() as file:
        with tifffile.TiffWriter(file) as writer:
            writer.write(tissue(), description="Aperio Image Library v1\nx|AppMag = 20|MPP = 0.5", **look)
            writer.write(tissue()[::4, ::4], subfiletype=1, description="Aperio Image Library v1\nx", **look)
        return file.getvalue()


def scan(write: Callable[[Path], Path]) -> bytes:
    """A file of tests.slides.made_scans."""
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / "a").read_bytes()


def packed_zeros(size: int) -> bytes:
    """What zlib makes of so many bytes 0, from blocks that are packed once."""
    block, packer = 2**24, zlib.compressobj(9, wbits=-15)
    whole = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, wbits=-15)
    rest = last.compress(bytes(size % block)) + last.flush()
    checksum = struct.pack(">HH", size % 65_521, 1)  # RFC 1950: Adler-32 of zeros
    return b"\x78\xda" + whole * (size // block) + rest + checksum


def png(width: int, height: int, colours: int, depth: int = 8, *, palette: bytes = b"", stated_only: bool = False):
    """A PNG of zeros, which pack a thousandfold; `stated_only`, without any."""
    bits = {2: 3, 3: 1, 6: 4}[colours] * depth
    data = b"" if stated_only else packed_zeros(height * (1 + -(-width * bits // 8)))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))]
    chunks += [(b"PLTE", palette), (b"tRNS", b"\0")] if palette else []
    chunks += [(b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def endless_jpeg(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    with io.BytesIO() as file:
        Image.new("RGB", (side, side)).save(file, "JPEG", progressive=True)
        whole = file.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * scans + b"\xff\xd9"


def sparse_tiff(side: int, tile: int, bits: int) -> bytes:
    """Tiles that are all left out."""
    tiles = (-(-side // tile)) ** 2
    sizes = dict.fromkeys((tags.WIDTH, tags.HEIGHT), side) | dict.fromkeys((tags.TILE_WIDTH, tags.TILE_HEIGHT), tile)
    left_out = {tags.BITS: (bits,) * 3, tags.TILE_AT: (0,) * tiles, tags.TILE_BYTES: (0,) * tiles}
    return tags.tiff(sizes | left_out, layout="big")


def flat_strip(side: int) -> bytes:
    """One strip of zeros, packed."""
    data = packed_zeros(side * side * 3)
    sizes = {tags.WIDTH: side, tags.HEIGHT: side, tags.ROWS: side, tags.COMPRESSION: 8, tags.STRIP_BYTES: len(data)}
    return tags.tiff(tags.STRIP | sizes, pixels=data)


def zipped(members: dict[str, bytes], before: bytes = b"") -> bytes:
    with io.BytesIO() as file:
        file.write(before)
        with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return file.getvalue()


def resolution(x: tuple[int, int]) -> bytes:
    """A TIFF that says so many pixels an inch, as numerator and denominator."""
    content = bytearray(tiff(resolution=(300, 300), resolutionunit="INCH", metadata=None))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        for tag in (282, 283):
            struct.pack_into("<II", content, file.pages[0].tags[tag].valueoffset, *x)
    return bytes(content)


def h5ad(change: Callable[[h5py.File], None] | None = None) -> bytes:
    """A section of 60 spots and 4 genes."""
    import anndata

    counts = np.random.default_rng(1).integers(1, 40, (60, 4)).astype(np.float32)
    names = pd.DataFrame(index=[f"S{n}" for n in range(60)]), pd.DataFrame(index=["ERBB2", "CD24", "COX6C", "ACTB"])
    section = anndata.AnnData(counts, *names, obsm={"spatial": np.arange(120.0).reshape(60, 2)})
    path = Path(f"/dev/shm/nsl-{os.getpid()}.h5ad") if Path("/dev/shm").is_dir() else Path(f"nsl-{os.getpid()}.h5ad")
    try:
        section.write_h5ad(path)
        if change is not None:
            with h5py.File(path, "r+") as file:
                change(file)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def declared(file: h5py.File) -> None:
    """Ten billion counts, of which none is written."""
    del file["X"]
    file.create_dataset("X", (100_000, 100_000), np.float32, chunks=(1000, 1000))


def unknown_encoding(file: h5py.File) -> None:
    file["obsm"].create_group("spatial2").attrs["encoding-type"] = "of tomorrow"
    file["obs"].attrs["encoding-type"] = "of tomorrow"


TABLE = "spot," + ",".join(f"G{n}" for n in range(5)) + "\n" + "".join(f"S{n},1,2,3,4,5\n" for n in range(60))
PLACES = "spot,x_px,y_px\n" + "".join(f"S{n},{n},{n}\n" for n in range(60))
SPOTS = (("spots.csv", PLACES.encode()),)


def weights(**changes: bytes) -> bytes:
    """The embedded weights as a zip, some of the files changed; named by their stems."""
    folder = Path(__file__).parents[2] / "weights/her2-breast"
    members = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    stems = {Path(name).stem: name for name in members}
    return zipped(members | {stems[stem]: content for stem, content in changes.items()})


def tensors(header: dict | bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(64)


def polygon(*corners: list) -> bytes:
    return json.dumps({"type": "Polygon", "coordinates": [list(corners)]}).encode()


NO_LONGER = "cannot be opened safely: it takes more than"
NO_ROOM = "takes more memory than there is for it"
DAMAGED = "is damaged or incomplete"
HUGE = 2**31 - 1

SLIDES = {
    "nothing": ("a.svs", lambda: b"", "a.svs is empty (0 bytes)"),
    "zeros": ("a.tif", lambda: bytes(4096), "looks like an unknown kind of file"),
    "a PNG named as a slide": ("a.svs", lambda: picture("PNG"), "read"),
    "a PNG named as MIRAX": ("a.mrxs", lambda: picture("PNG"), "a.mrxs is only part of its slide"),
    "a zip named as a TIFF": ("a.tif", lambda: zipped({"a": b"b"}), "looks like a ZIP archive"),
    "SVG named as a PNG": ("a.png", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "looks like a text file"),
    "GIF that moves": ("a.png", lambda: picture("GIF", "P", save_all=True), "looks like a GIF"),
    "WebP that moves": (
        "a.webp",
        lambda: picture("WEBP", save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE))]),
        "read",
    ),
    "one pixel": ("a.png", lambda: png(1, 1, 2), "read"),
    "one bit": ("a.png", lambda: picture("PNG", "1"), "a.png is greyscale"),
    "one bit in a TIFF": ("a.tif", lambda: picture("TIFF", "1"), "a.tif is greyscale"),
    "inks": ("a.jpg", lambda: picture("JPEG", "CMYK"), "read"),
    "palette": ("a.png", lambda: picture("PNG", "P"), "read"),
    "picture and zip": ("a.png", lambda: zipped({"b": b"c"}, before=picture("PNG")), "read"),
    "zip and picture": ("a.zip", lambda: zipped({"b.txt": b"c"}, before=picture("PNG")), "a.zip holds no slide"),
    "zip in a zip": ("a.zip", lambda: zipped({"b.zip": zipped({"c.png": picture("PNG")})}), "a.zip holds no slide"),
    "PNG of 2^31 px": ("a.png", lambda: png(2**16, 2**15, 2, stated_only=True), "megapixels, too many for PNG"),
    "PNG one pixel high": ("a.png", lambda: png(HUGE, 1, 2, stated_only=True), "megapixels, too many for PNG"),
    "PNG without pixels": ("a.png", lambda: png(9_000, 9_000, 2, stated_only=True), DAMAGED),
    "PNG of zeros": ("a.png", lambda: png(20_000, 20_000, 2), NO_ROOM),
    "palette of zeros": ("a.png", lambda: png(17_000, 17_000, 3, palette=bytes(6)), "read"),
    "palette of too many": ("a.png", lambda: png(24_000, 24_900, 3, palette=bytes(6), stated_only=True), "too many"),
    "transparent zeros": ("a.png", lambda: png(17_000, 17_000, 6), NO_ROOM),
    "deep zeros": ("a.png", lambda: png(13_000, 13_000, 6, 16), NO_ROOM),
    "JPEG of more than it holds": (
        "a.jpg",
        lambda: tags.larger(picture("JPEG"), 24_000, b"\xff\xc0"),
        "bytes cannot hold the 24,000 × 24,000 px that it states",
    ),
    "resolution of nothing": ("a.tif", lambda: resolution((0, 0)), "read"),
    "resolution without end": ("a.tif", lambda: resolution((1, 0)), "read"),
    "resolution below 0": ("a.tif", lambda: resolution((2**32 - 300, 1)), "read"),
    "strip of zeros": ("a.tif", lambda: flat_strip(24_000), NO_ROOM),
    "strip of 5 GB": ("a.tif", lambda: flat_strip(40_000), "states strips of 40,000 × 40,000 px"),
    "sparse TIFF of 10^12 px": ("a.tif", lambda: sparse_tiff(2**20, 4096, 16), "states 1,048,576 × 1,048,576 px"),
    "scans without end": ("a.jpg", lambda: endless_jpeg(4_000, 2_000), NO_LONGER),
    "sparse TIFF": ("a.tif", lambda: sparse_tiff(300_000, 2048, 8), NO_LONGER),
    "sparse TIFF of 16 bits": ("a.tif", lambda: sparse_tiff(300_000, 2048, 16), NO_LONGER),
}

MEASURED = {
    "nothing": ("a.h5ad", lambda: b"", "a.h5ad is empty (0 bytes)"),
    "no HDF5": ("a.h5ad", lambda: bytes(4096), "a.h5ad cannot be read"),
    "a picture as a table": ("a.csv", lambda: picture("PNG"), "a.csv"),
    "bytes 0 in a table": ("a.csv", lambda: TABLE.replace("G1", "G\0").encode(), "a.csv"),
    "UTF-16": ("a.csv", lambda: TABLE.encode("utf-16"), "a.csv"),
    "a quote that does not end": ("a.csv", lambda: TABLE.replace("S3", '"S3').encode(), "a.csv"),
    "infinite counts": ("a.csv", lambda: TABLE.replace("S3,1", "S3,1e400").encode(), "gene G0 is inf"),
    "huge integers": ("a.csv", lambda: TABLE.replace("S3,1", "S3," + "9" * 5_000).encode(), "a.csv"),
    "gzip of zeros": (
        "a.csv.gz",
        lambda: zlib.compress(bytes(10**7), 9, wbits=31) * 300,
        "a.csv.gz",  # larger than 2 GB unpacked, which a busy computer does not find out in its time
    ),
    "counts that are stated only": ("a.h5ad", lambda: h5ad(declared), "is larger than 2 GB unpacked"),
    "unknown encoding": ("a.h5ad", lambda: h5ad(unknown_encoding), "a.h5ad cannot be read"),
    "no Parquet": (
        "a.zip",
        lambda: zipped(outs(tissue_positions=None) | {"spatial/tissue_positions.parquet": b"PAR1" * 9}),
        "a.zip cannot be read",
    ),
    "cut Parquet": (
        "a.zip",
        lambda: zipped(outs(tissue_positions=None) | {"spatial/tissue_positions.parquet": parquet(POSITIONS)[:-9]}),
        "a.zip cannot be read",
    ),
    "ten million columns": ("a.csv", lambda: b"spot" + b",g" * 10_000_000 + b"\n", "longer than any list of genes"),
}

WEIGHTS = {
    "nothing": (lambda: b"", "the zip cannot be read"),
    "no weights": (lambda: zipped({"a.txt": b"b"}), "the zip has no config.json"),
    "config without end": (lambda: weights(config=b"[" * 100_000), "config.json"),
    "config of numbers": (lambda: weights(config=b'{"tile_um": ' + b"9" * 400 + b"}"), "config.json"),
    "tensors without a header": (lambda: weights(model=b""), "model.safetensors"),
    "header of 2^63": (lambda: weights(model=tensors(b"{}", 2**63)), "model.safetensors"),
    "tensor of 2^60": (
        lambda: weights(model=tensors({"offset": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 64]}})),
        "model.safetensors",
    ),
    "table of zeros": (lambda: weights(reliability=bytes(10**6)), "reliability.csv"),
    "a name outside": (lambda: zipped({"../config.json": b"{}"}), "the zip has no"),
}

REGIONS = {
    "nothing": (lambda: b"", "GeoJSON"),
    "nested": (lambda: b"[" * 100_000, "GeoJSON"),
    "corners at no number": (lambda: polygon([0, 0], [1, None], [1, 1]), ""),
    "corners at infinity": (lambda: b'{"type": "Polygon", "coordinates": [[[0, 0], [1e999, 0], [1, 1]]]}', ""),
    "huge integers": (lambda: polygon([0, 0], [10**400, 0], [1, 1]), ""),
    "a million corners": (lambda: polygon(*([n % 977, n % 991] for n in range(10**6))), ""),
}

SLOW = {
    *("scans without end", "sparse TIFF", "sparse TIFF of 16 bits"),
    *("gzip of zeros", "a million corners"),
}
"""They take all the time that they are given."""

CASES = {
    **{f"slide, {name}": Case("slide", *case) for name, case in SLIDES.items()},
    **{
        f"measured, {name}": Case("measured", *case, beside=SPOTS if ".csv" in case[0] else ())
        for name, case in MEASURED.items()
    },
    **{f"weights, {name}": Case("weights", "a.zip", *case) for name, case in WEIGHTS.items()},
    **{f"regions, {name}": Case("regions", "a.geojson", *case) for name, case in REGIONS.items()},
}


# Good files, to be spoilt

GOOD = {
    "PNG": ("slide", "a.png", lambda: picture("PNG")),
    "JPEG": ("slide", "a.jpg", lambda: picture("JPEG")),
    "progressive JPEG": ("slide", "a.jpg", lambda: picture("JPEG", progressive=True)),
    "JPEG in strips": ("slide", "a.jpg", lambda: picture("JPEG", restart_marker_rows=1, subsampling=0)),
    "WebP": ("slide", "a.webp", lambda: picture("WEBP")),
    "BMP": ("slide", "a.bmp", lambda: picture("BMP")),
    "TIFF": ("slide", "a.tif", lambda: tiff(rowsperstrip=16)),
    "tiled TIFF": ("slide", "a.tif", lambda: tiff(tile=(32, 32), compression="deflate")),
    "OME-TIFF": ("slide", "a.ome.tif", lambda: tiff(ome=True, metadata={"axes": "YXS", "PhysicalSizeX": 0.5})),
    "SVS": ("slide", "a.svs", pyramid),
    "NDPI": ("slide", "a.ndpi", lambda: scan(write_ndpi)),
    "Leica SCN": ("slide", "a.scn", lambda: scan(write_leica)),
    "Philips TIFF": ("slide", "a.tiff", lambda: scan(write_philips)),
    "zip of an SVS": ("slide", "a.zip", lambda: zipped({"a.svs": pyramid()})),
    "h5ad": ("measured", "a.h5ad", h5ad),
    "Space Ranger": ("measured", "a.zip", lambda: zipped(outs())),
    "Space Ranger's matrix": ("measured", "a.h5", matrix_h5),
    "table": ("measured", "a.csv", TABLE.encode),
    "Parquet": ("measured", "a.parquet", lambda: parquet(POSITIONS)),
    "weights": ("weights", "a.zip", weights),
    "regions": ("regions", "a.geojson", lambda: polygon([0, 0], [9, 0], [9, 9])),
}
_BESIDE = {
    "a.h5": (("tissue_positions.csv", POSITIONS.encode()),),
    "a.csv": SPOTS,
    "a.parquet": (("a.h5", matrix_h5()),),
}


def good(name: str) -> Case:
    kind, file, content = GOOD[name]
    return Case(kind, file, content, "read", _BESIDE.get(file, ()))


def cut(name: str) -> Iterator[Case]:
    """A good file cut short at every tenth."""
    whole = good(name)
    content = whole.content()
    for tenth in range(1, 10):
        part = content[: len(content) * tenth // 10]
        yield Case(whole.kind, whole.name, lambda part=part: part, "", whole.beside)


def spoilt(name: str, rng: np.random.Generator) -> Case:
    """A good file with some of its bits turned, bytes overwritten, or a piece taken out or put in twice."""
    whole = good(name)
    content = bytearray(whole.content())
    # Half of the faults near the start, where headers are.
    near = len(content) if rng.random() < 0.5 else min(len(content), 512)
    for _ in range(rng.integers(1, 5)):
        at, length = int(rng.integers(near)), int(rng.integers(1, 9))
        # What only turns bits is often read on, and so comes furthest.
        match rng.choice(4, p=[0.55, 0.25, 0.1, 0.1]):
            case 0:
                content[min(at, len(content) - 1)] ^= 1 << int(rng.integers(8))
            case 1:
                content[at : at + length] = rng.choice([b"\xff", b"\0", b"\x7f"]) * length
            case 2 if len(content) > 64:
                del content[at : at + length]
            case _:
                content[at:at] = content[at : at + length]
    return Case(whole.kind, whole.name, lambda: bytes(content), "", whole.beside)
