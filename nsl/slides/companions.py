"""Slides of several files: which belong to a slide, and whether the file that lists them stays among them.

OpenSlide follows any path that a MIRAX or VMS file names, and tells VMS by its content whatever it is called, so a file
from somebody else could have images elsewhere on the disk read. Of its other formats, checked in the source of 4.0.1:
DICOM takes files of the same folder and series, Trestle's label lies beside the slide under its own name, and all
others keep to the one file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from pathlib import Path

# The files that Slidedat.ini, VMS and VMU files name, and the largest such file that OpenSlide reads:
# https://openslide.org/formats/mirax and https://openslide.org/formats/hamamatsu.
_KEY_FILE_BYTES = 2**20
_NAMED_FILE = re.compile(
    rb"^\s*(?:INDEXFILE|FILE_\d+|ImageFile[^=\n]*|MapFile|MacroImage|OptimisationFile)\s*=(.*)$", re.MULTILINE
)
_MIRAX_SUFFIX = ".mrxs"

# DICOM part 10: tags and value representations of the explicit little-endian encoding, which slides are written in.
_IMAGE_TYPE, _SERIES, _COLUMNS, _ROWS = 0x0008_0008, 0x0020_000E, 0x0048_0006, 0x0048_0007
_SOP_CLASS, _WHOLE_SLIDE = 0x0002_0002, b"1.2.840.10008.5.1.4.1.1.77.1.6"
_ITEM, _ENDS = 0xFFFE, (0xFFFE_E00D, 0xFFFE_E0DD)
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_UNDEFINED = 0xFFFF_FFFF
_MAX_ELEMENTS = 100_000


def file_named_outside(path: Path, vendor: str | None) -> str | None:
    """The first file that a MIRAX or VMS slide names by more than a name beside its own; None where there is none."""
    key_file = _key_file(path, vendor)
    named = _named_files(key_file) if key_file else []
    return next((name for name in named if "/" in name or "\\" in name), None)


def named_files(path: Path, vendor: str | None) -> list[Path]:
    """Where the files would lie that OpenSlide opens because a MIRAX or VMS slide names them, be they there or not."""
    key_file = _key_file(path, vendor)
    if key_file is None:
        return []
    return [key_file, *(key_file.parent / name for name in dict.fromkeys(_named_files(key_file)))]


def other_files(path: Path, vendor: str | None) -> list[tuple[str, Path]]:
    """A slide's files besides the one opened, each with the name that the slide's own files have for it.

    DICOM files, which do not name each other, all have the name "". Files that are named but not there are left out.
    """
    if vendor == "dicom":
        beside = (file for file in path.parent.iterdir() if file.is_file())
        series = next((files for files in dicom_slides(beside).values() if path in files), [])
        return [("", file) for file in series if file != path]
    key_file = _key_file(path, vendor)
    if key_file is None:
        return []
    names = dict.fromkeys(_named_files(key_file))
    files = [(name, key_file.parent / name) for name in names]
    if key_file != path:
        files.append((key_file.name, key_file))
    return [(name, file) for name, file in files if file.is_file()]


def dicom_slides(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    """Whole-slide DICOM files by the slide they belong to.

    Returns all files of each slide by one of its finest level, which OpenSlide opens together with the others where
    they lie in one folder. Files that are not of a DICOM whole-slide image are left out.
    """
    slides: dict[bytes, list[tuple[int, Path]]] = {}
    for path in sorted(paths):
        header = _dicom_header(path)
        if header.get(_SOP_CLASS) == _WHOLE_SLIDE:
            slides.setdefault(header.get(_SERIES, b""), []).append((_pixels(header), path))
    return {max(found, key=lambda sized: sized[0])[1]: [path for _, path in found] for found in slides.values()}


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so is DICOM, of a slide or of anything else."""
    return head[128:132] == b"DICM"


def _key_file(path: Path, vendor: str | None) -> Path | None:
    """The file that names a slide's other files."""
    if vendor == "mirax":
        # As OpenSlide takes it; `with_suffix` would leave a file called ".mrxs" as it is.
        return Path(str(path).removesuffix(_MIRAX_SUFFIX)) / "Slidedat.ini"
    return path if vendor == "hamamatsu" else None


def _named_files(key_file: Path) -> list[str]:
    if not key_file.is_file() or key_file.stat().st_size > _KEY_FILE_BYTES:
        return []
    values = (value.decode("utf-8", "replace").strip() for value in _NAMED_FILE.findall(key_file.read_bytes()))
    return [value for value in values if value]


def _pixels(header: dict[int, bytes]) -> int:
    """Pixels of a level; 0 for a label, an overview or a thumbnail."""
    is_level = header.get(_IMAGE_TYPE, b"").split(b"\\")[2:3] == [b"VOLUME"]
    sides = [int.from_bytes(header.get(tag, b""), "little") for tag in (_COLUMNS, _ROWS)]
    return sides[0] * sides[1] if is_level else 0


def _dicom_header(path: Path) -> dict[int, bytes]:
    """What a DICOM file says of its class, series and size, by tag; what is nested in it says so of other files."""
    found: dict[int, bytes] = {}
    depth = 0
    with path.open("rb") as file:
        if not is_dicom(file.read(132)):
            return found
        for _ in range(_MAX_ELEMENTS):
            if len(head := file.read(8)) < 8:
                break
            group, element, kind, length = struct.unpack("<HH2sH", head)
            tag = group << 16 | element
            if group == _ITEM:
                length = int.from_bytes(head[4:], "little")
            elif kind in _LONG:
                length = int.from_bytes(file.read(4), "little")
            if depth == 0 and tag > _ROWS:
                break
            if tag in _ENDS:
                depth -= 1
            elif length == _UNDEFINED:
                depth += 1
            elif depth == 0 and tag in (_SOP_CLASS, _IMAGE_TYPE, _SERIES, _COLUMNS, _ROWS) and length <= 1024:
                found[tag] = file.read(length).strip(b" \0") if kind != b"UL" else file.read(length)
            else:
                file.seek(length, 1)
    return found
