"""Sizes that a slide's file states, looked at before a library takes memory for them.

OpenSlide ends the whole process where it cannot have the memory that a file asks for, and libtiff, tifffile and the
codecs fill what there is. A few bytes state any size, so what no slide has is refused first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from nsl.errors import SlideError
from nsl.slides.reader import damaged

# A progressive JPEG is kept whole until its end, be it the only tile of 64 × 64 px: no libjpeg takes more than this for
# it. That is enough for 600 megapixels with colour at half the resolution.
os.environ.setdefault("JPEGMEM", "2000M")

MAX_SIDE = 2**21
"""Pixels along a slide: 76 mm at 0.05 µm/px, finer than any microscope scans, are 1.5 million."""
MAX_PIXELS = 10**11
"""Of a level: 315,000 × 315,000, more than twice the largest slides; OpenSlide counts blocks of 8 × 8 in 31 bits."""
MAX_TILE_BYTES = 2**28
"""Of one tile: 8,192 × 8,192 px as OpenSlide holds them, in 4 bytes each; scanners write 4,096 × 4,096 at most."""
MAX_STRIP_BYTES = 2_400_000_000
"""Of one strip of a TIFF, which may be all of a photograph: as much as Pillow takes for its largest."""
MAX_TAG_BYTES = 2**28
"""Of all tags of a TIFF: ten times what the tables of tiles take in the largest slides."""
MAX_TAGS = 500_000
"""Of a TIFF: 20 for each of 25,000 images. OpenSlide takes a hundred bytes for each, whatever it holds."""

# TIFF's numbers for the tags that state sizes, for what says where further directories are, and for what NDPIs have.
_WIDTH, _HEIGHT, _BITS, _SAMPLES, _STRIP_ROWS = 256, 257, 258, 277, 278
_TILE_WIDTH, _TILE_HEIGHT, _TILE_STORED, _TILE_DEPTH = 322, 323, 325, 32998
_SIZES = (_WIDTH, _HEIGHT, _BITS, _SAMPLES, _STRIP_ROWS, _TILE_WIDTH, _TILE_HEIGHT, _TILE_STORED, _TILE_DEPTH)
_SUB_DIRECTORIES, _NDPI = 330, 65420
# Bytes of a value by TIFF's number for its type; of these, whole numbers.
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = (1, 3, 4, 6, 8, 9, 13, 16, 17, 18)


class _Layout(NamedTuple):
    """How a TIFF writes directories, in the letters of `struct`; an entry is tag, type, count, and value or place."""

    count: str
    entry: str
    following: str
    room: int  # bytes of a value that an entry itself has room for


_CLASSIC, _BIG = _Layout("H", "HHI4s", "I", 4), _Layout("Q", "HHQ8s", "Q", 8)
# It calls itself classic, and has the upper 4 bytes of every value or place behind each directory.
_HAMAMATSU = _Layout("H", "HHI4s", "Q", 4)
_Entry = tuple[int, int, int, bytes]


def require_plausible(path: Path, head: bytes) -> bool:
    """Whether a file is laid out as an NDPI; SlideError where a TIFF of any kind or a CZI states what no slide has."""
    is_ndpi = False
    with path.open("rb") as file:
        if head[:2] in (b"II", b"MM"):
            for sizes, is_ndpi in _tiff_sizes(path.name, file, path.stat().st_size):
                _require_plausible_image(path.name, sizes, is_ndpi)
        elif head.startswith(b"ZISRAWFILE"):
            for width, height in _czi_tiles(file):
                require_tile(path.name, width, height)
    return is_ndpi


def require_level(name: str, width: int, height: int) -> None:
    """SlideError where no slide is so large."""
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise SlideError(
            f"{name} states {width:,} × {height:,} px, and at most {MAX_SIDE:,} a side and {MAX_PIXELS:,} in all are "
            "read; export it again"
        )


def require_tile(name: str, width: int, height: int, pixel_bytes: int = 4) -> None:
    """SlideError where a tile would take more memory than those of any slide."""
    if width * height * max(pixel_bytes, 4) > MAX_TILE_BYTES:
        raise SlideError(
            f"{name} states tiles of {width:,} × {height:,} px, {width * height * max(pixel_bytes, 4):,} bytes, and at "
            f"most {MAX_TILE_BYTES:,} are read; export it again in tiles of 256 to 4,096 px"
        )


def _require_plausible_image(name: str, sizes: dict[int, int], is_ndpi: bool) -> None:
    width, height = sizes.get(_WIDTH, 0), sizes.get(_HEIGHT, 0)
    require_level(name, width, height)
    pixel_bytes = -(-sizes.get(_BITS, 1) // 8) * sizes.get(_SAMPLES, 1)
    if _TILE_WIDTH in sizes or _TILE_HEIGHT in sizes:
        depth = sizes.get(_TILE_DEPTH, 1)
        require_tile(name, sizes.get(_TILE_WIDTH, 1), sizes.get(_TILE_HEIGHT, 1), pixel_bytes * depth)
        if sizes.get(_TILE_STORED, 0) > MAX_TILE_BYTES:
            raise damaged(name, f" (a tile of {sizes[_TILE_STORED]:,} bytes)")
    elif not is_ndpi:  # one strip there is all of a level, and is read in parts
        rows = min(sizes.get(_STRIP_ROWS, height), height)
        if width * rows * pixel_bytes > MAX_STRIP_BYTES:
            raise SlideError(
                f"{name} states strips of {width:,} × {rows:,} px, {width * rows * pixel_bytes:,} bytes, and at most "
                f"{MAX_STRIP_BYTES:,} are read; export it again in tiles"
            )


def _tiff_sizes(name: str, file: BinaryIO, file_bytes: int) -> Iterator[tuple[dict[int, int], bool]]:
    """The largest size that each directory states under each tag, and whether the file is an NDPI.

    A directory that is not all there ends its chain, as it does in the libraries.
    """
    order, layout, first = _tiff_start(file)
    seen, left, tags, tag_bytes = {0}, [first], 0, 0
    while left:
        if (at := left.pop()) in seen:
            continue
        seen.add(at)
        entries, following = _directory(file, at, order, layout)
        tags += 1 + sum(count if tag == _SUB_DIRECTORIES else 1 for tag, _, count, _ in entries)
        tag_bytes += sum(count * _VALUE_BYTES.get(kind, 1) for _, kind, count, _ in entries)
        if tags > MAX_TAGS or tag_bytes > min(MAX_TAG_BYTES, file_bytes):
            raise damaged(name, f" ({tags:,} tags of {tag_bytes:,} bytes in a file of {file_bytes:,})")
        sizes: dict[int, int] = {}
        for tag, kind, count, value in entries:
            if kind in _WHOLE and count and tag in (*_SIZES, _SUB_DIRECTORIES):
                values = _values(file, kind, count, value, order, layout)
                if tag == _SUB_DIRECTORIES:
                    left += values.tolist()
                else:
                    sizes[tag] = max(sizes.get(tag, 0), int(values.max(initial=0)))
        left.append(following)
        yield sizes, layout is _HAMAMATSU


def _tiff_start(file: BinaryIO) -> tuple[str, _Layout, int]:
    """Byte order, layout and place of the first directory, as OpenSlide tells them."""
    head = file.read(16).ljust(16, b"\0")
    order = ">" if head.startswith(b"MM") else "<"
    if struct.unpack(f"{order}H", head[2:4]) == (43,):
        return order, _BIG, *struct.unpack(f"{order}Q", head[8:])
    # An NDPI calls itself a classic TIFF and has offsets of 8 bytes.
    (first,) = struct.unpack(f"{order}Q", head[4:12])
    if any(entry[0] == _NDPI for entry in _directory(file, first, order, _HAMAMATSU)[0]):
        return order, _HAMAMATSU, first
    return order, _CLASSIC, *struct.unpack(f"{order}I", head[4:8])


def _directory(file: BinaryIO, at: int, order: str, layout: _Layout) -> tuple[list[_Entry], int]:
    """A directory's entries, and where the next one is; none and 0 where it is not all there."""
    count, entry, following = (struct.Struct(order + letters) for letters in layout[:3])
    try:
        file.seek(at)
        (length,) = count.unpack(file.read(count.size))
        length = min(length, MAX_TAGS + 1)
        entries = list(entry.iter_unpack(file.read(length * entry.size)))
        (next_at,) = following.unpack(file.read(following.size))
        if layout is _HAMAMATSU:
            upper = struct.iter_unpack("4s", file.read(length * 4))
            entries = [(*rest, value + more) for (*rest, value), (more,) in zip(entries, upper, strict=True)]
        return entries, next_at
    except (struct.error, OverflowError, OSError, ValueError):
        return [], 0


def _values(file: BinaryIO, kind: int, count: int, value: bytes, order: str, layout: _Layout) -> np.ndarray:
    """Whole numbers of an entry, as far as they are there; negative ones as very large."""
    size = _VALUE_BYTES[kind]
    if count * size > layout.room:
        try:
            file.seek(int.from_bytes(value, "little" if order == "<" else "big"))
            value = file.read(count * size)
        except (OverflowError, OSError):
            value = b""
    elif layout is _HAMAMATSU and count * size == layout.room == size and any(value[4:]):
        size = 8
    return np.frombuffer(value, f"{order}u{size}", min(count, len(value) // size))


def _czi_tiles(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Width and height of the tiles in a CZI's directory, as far as it is there."""
    try:
        file.seek(84)
        (at,) = struct.unpack("<q", file.read(8))
        file.seek(at + 32)
        (tiles,) = struct.unpack("<i", file.read(4))
        file.seek(at + 160)
        for _ in range(tiles):
            (dimensions,) = struct.unpack("<28xi", file.read(32))
            sizes = dict(struct.unpack("<4s12xI", file.read(20)) for _ in range(dimensions))
            yield sizes.get(b"X\0\0\0", 0), sizes.get(b"Y\0\0\0", 0)
    except (struct.error, OSError, ValueError):
        return
