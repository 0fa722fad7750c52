"""Files as scanners of several makers write them, with their quirks, made in code so that OpenSlide knows them."""

import io
import re
import struct
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from nsl.slides.reader import Level

JPEG = {"photometric": "ycbcr", "subsampling": (2, 2), "compression": "jpeg", "compressionargs": {"level": 80}}
TILE = 64


def tissue(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Waves of colour with grain."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [150 + 70 * np.sin(x / 9), 140 + 60 * np.cos(y / 8), 160 + 50 * np.sin((x + y) / 10)]
    grain = np.random.default_rng(seed).normal(0, 9, (height, width, 3))
    return np.clip(np.stack(waves, axis=-1) + grain, 0, 255).astype(np.uint8)


def _attribute(name: str, content: str) -> str:
    return f'<Attribute Name="{name}">{content}</Attribute>'


def write_philips(
    path: Path, size: tuple[int, int] = (300, 420), levels: int = 3, missing: tuple[int, ...] = ()
) -> Path:
    """Levels filled up to whole tiles; of the finest level, the tiles of these numbers are missing.

    size : height and width of what was scanned; the finest level is filled up to tiles, and the others are of these.
    """
    spacings = "".join(
        '<DataObject ObjectType="PixelDataRepresentation">'
        + _attribute("DICOM_PIXEL_SPACING", f"&quot;{0.00025 * 2**n}&quot; &quot;{0.00025 * 2**n}&quot;")
        + "</DataObject>"
        for n in range(levels)
    )
    scan = _attribute("PIM_DP_IMAGE_TYPE", "WSI") + _attribute(
        "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", f"<Array>{spacings}</Array>"
    )
    scan += _attribute("DICOM_PIXEL_SPACING", "&quot;0.00025&quot; &quot;0.00025&quot;")
    scans = _attribute(
        "PIM_DP_SCANNED_IMAGES", f'<Array><DataObject ObjectType="DPScannedImage">{scan}</DataObject></Array>'
    )
    xml = f'<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">{scans}</DataObject>'
    with tifffile.TiffWriter(path) as writer:
        for n in range(levels):
            height, width = (-(-(side >> n) // TILE) * TILE for side in size)
            about = {"software": "Philips DP v1.0", "description": xml} if n == 0 else {"subfiletype": 1}
            writer.write(tissue(height, width, n), tile=(TILE, TILE), metadata=None, **JPEG, **about)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = tiff.pages[0].tags[name]
            tag.overwrite(tuple(0 if number in missing else value for number, value in enumerate(tag.value)))
    return path


def write_leica(
    path: Path,
    offsets_nm: tuple[tuple[int, int], ...] = ((20_250, 31_100),),
    size: tuple[int, int] = (300, 420),
    light: str = "brightfield",
) -> Path:
    """An overview of the glass, and a scan of two levels at each offset from its corner, of 500 nm a pixel."""
    glass_nm, pixel_nm, (height, width) = (400_000, 500_000), 500, size

    def image(at: tuple[int, int], nm: tuple[int, int], light: str, sizes: list[tuple[int, int, int]]) -> str:
        dimensions = "".join(
            f'<dimension sizeX="{w}" sizeY="{h}" r="{r}" ifd="{ifd}"/>' for r, (ifd, w, h) in enumerate(sizes)
        )
        view = f'<view sizeX="{nm[0]}" sizeY="{nm[1]}" offsetX="{at[0]}" offsetY="{at[1]}"/>'
        settings = (
            "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
            f"<illuminationSource>{light}</illuminationSource></illuminationSettings></scanSettings>"
        )
        return f'<image name="i"><pixels>{dimensions}</pixels>{view}{settings}</image>'

    images = image((0, 0), glass_nm, "brightfield", [(0, 160, 200)])
    for number, at in enumerate(offsets_nm):
        sizes = [(1 + 2 * number, width, height), (2 + 2 * number, width // 4, height // 4)]
        images += image(at, (width * pixel_nm, height * pixel_nm), light, sizes)
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="c" sizeX="{glass_nm[0]}" sizeY="{glass_nm[1]}">{images}</collection></scn>'
    )
    options = {"tile": (TILE, TILE), "metadata": None, "resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(tissue(200, 160), description=xml, **options, **JPEG)
        for number in range(len(offsets_nm)):
            writer.write(tissue(height, width, 1 + number), **options, **JPEG)
            writer.write(tissue(height // 4, width // 4, 1 + number), subfiletype=1, **options, **JPEG)
    return path


def write_ndpi(
    path: Path, sizes: tuple[tuple[int, int], ...] = ((384, 512), (192, 256)), subsampling: int = 0, start: int = 16
) -> Path:
    """A JPEG a level, which starts anew every 128 px of a row, and the places where it does, behind `start` bytes.

    As in Hamamatsu's files, places take 8 bytes in what calls itself a classic TIFF: the upper 4 of every entry of a
    directory follow behind the directory.
    """
    block = 8 if subsampling == 0 else 16  # px along a unit of the code; 8 down, as Hamamatsu has them
    with path.open("wb") as file:
        file.write(b"II*\0")
        link, at = 4, start
        for number, (height, width) in enumerate(sizes):
            buffer = io.BytesIO()
            options = {"quality": 85, "subsampling": subsampling, "restart_marker_blocks": 128 // block}
            Image.fromarray(tissue(height, width, number)).save(buffer, "JPEG", **options)
            picture = buffer.getvalue()
            scan = picture.index(b"\xff\xda")
            (length,) = struct.unpack(">H", picture[scan + 2 : scan + 4])
            first = scan + 2 + length
            starts = [first, *(first + found.end() for found in re.finditer(rb"\xff[\xd0-\xd7]", picture[first:]))]
            file.seek(at)
            file.write(picture)
            table = at + len(picture)
            file.write(struct.pack(f"<{len(starts)}I", *starts))
            entries = [
                *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 6)),
                *(
                    (271, 2, 4, int.from_bytes(b"Ham\0", "little")),
                    (273, 4, 1, at),
                    (277, 3, 1, 3),
                    (278, 4, 1, height),
                ),
                *((279, 4, 1, len(picture)), (282, 4, 1, 20_000), (283, 4, 1, 20_000), (296, 3, 1, 3)),
                *((65420, 4, 1, 1), (65421, 11, 1, struct.unpack("<I", struct.pack("<f", 20 / 2**number))[0])),
                *((65424, 9, 1, 0), (65426, 4, len(starts), table)),
            ]
            at = table + 4 * len(starts)
            file.write(struct.pack("<H", len(entries)))
            file.writelines(
                struct.pack("<HHII", tag, kind, count, value % 2**32) for tag, kind, count, value in entries
            )
            following = file.tell()
            file.write(bytes(8))
            file.writelines(struct.pack("<I", value >> 32) for *_, value in entries)
            file.seek(link)
            file.write(struct.pack("<Q", at))
            link, at = following, following + 8 + 4 * len(entries)
    return path


def boxes(level: Level, random: np.random.Generator, count: int = 8) -> list[tuple[int, int, int, int]]:
    """(x, y, width, height) of regions inside a level, all of it the last."""
    sides = []
    for side in (level.width, level.height):
        starts = random.integers(side, size=count)
        sides.append([*((int(a), int(random.integers(a, side)) + 1 - int(a)) for a in starts), (0, side)])
    return [(x, y, w, h) for (x, w), (y, h) in zip(*sides, strict=True)]
