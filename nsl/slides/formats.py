"""How pixels come off the disk: OpenSlide, tifffile and Pillow behind one interface, for `nsl.slides.slide`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from nsl.errors import SlideError
from nsl.slides.companions import is_dicom
from nsl.slides.picture import PillowReader
from nsl.slides.reader import Reader, any_error_told
from nsl.slides.scanner import OpenSlideReader
from nsl.slides.stored_tiles import StoredTilesReader
from nsl.slides.tiff import TiffReader
from nsl.slides.trial import TIFF_OPTIONS, is_picture, require_series, vendor_of

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
OTHER_MAGIC = {b"%PDF": "a PDF", b"PK\3\4": "a ZIP archive", b"GIF8": "a GIF", b"\x1f\x8b": "a gzip archive"}


def open_reader(path: Path) -> Reader:
    """The reader that does a file justice; SlideError, in one sentence, where there is none."""
    head = _head(path)
    vendor = vendor_of(path)
    if vendor == "aperio":
        return StoredTilesReader(path, vendor)
    if vendor not in (None, "generic-tiff"):
        return OpenSlideReader(path, vendor)
    if vendor is None:
        _refuse_part(path)
    if head.startswith(TIFF_MAGIC):
        reader = _open_tiff(path, tiled=vendor is not None)
        if reader is not None:
            return reader
    if head.startswith(TIFF_MAGIC) or is_picture(head):
        return PillowReader(path, head)
    if is_dicom(head):
        raise SlideError(
            f"{path.name} is DICOM, but not whole-slide microscopy; export the slide as DICOM whole-slide microscopy"
        )
    raise SlideError(
        f"{path.name} looks like {_looks_like(head)}, not an image; open a JPEG, PNG, BMP, WebP, TIFF, "
        "OME-TIFF or a scanner's slide file (SVS, NDPI, SCN, MRXS, BIF, …)"
    )


def _head(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise SlideError(f"{path.name} is a folder; give the image file inside it")
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise SlideError(f"{path.name} does not exist; check the name and the folder") from None
    except OSError as error:
        raise SlideError(f"{path.name} cannot be read ({error.strerror}); check its permissions") from error
    if not head:
        raise SlideError(f"{path.name} is empty (0 bytes); export it again")
    return head


def _refuse_part(path: Path) -> None:
    """SlideError for a MIRAX file without its data: it is itself a picture, which must not be taken for the slide."""
    if not path.name.lower().endswith(".mrxs"):
        return
    if (path.with_suffix("") / "Slidedat.ini").is_file():
        raise SlideError(f"{path.name} is read only under a name that ends in .mrxs, in small letters; rename it")
    raise SlideError(
        f"{path.name} is only part of its slide; zip it together with the folder of the same name beside it "
        "(on the command line: put that folder beside it)"
    )


def _looks_like(head: bytes) -> str:
    for magic, kind in OTHER_MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[4:8] == b"ftyp":
        return "an HEIC photo or a video"
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "a text file"
    return "an unknown kind of file"


def _open_tiff(path: Path, tiled: bool) -> Reader | None:
    """A reader for a TIFF without a scanner's mark; None where only Pillow may know its colours."""
    import tifffile

    try:
        tiff = tifffile.TiffFile(path, **TIFF_OPTIONS)
    except Exception:  # its parser lets anything through; Pillow has the last word
        return None
    with contextlib.ExitStack() as stack, any_error_told(path.name):
        stack.callback(tiff.close)
        if tiff.is_ome:
            require_series(path)
        page = tiff.series[0].keyframe
        photometric, compression = page.photometric.name, page.compression.name
        orientation = page.tags.valueof(274, 1)
        is_plain = not (tiff.is_ome or tiff.is_imagej) and page.dtype == np.uint8 and page.samplesperpixel == 3
        # OpenSlide 4.0.1 takes uncompressed tiles that do not fill whole kilobytes for broken.
        is_whole = compression != "NONE" or page.tilewidth * page.tilelength * 3 % 1024 == 0
        if tiled and is_plain and is_whole and photometric in ("RGB", "YCBCR") and orientation == 1:
            return StoredTilesReader(path, "generic-tiff")
        # tifffile hands out these as stored: palette indices, inks, raw YCbCr, pixels on their side.
        is_rgb = photometric == "RGB" or (photometric == "YCBCR" and "JPEG" in compression)
        if orientation != 1 or not (is_rgb or photometric.startswith("MINIS")):
            return None
        reader = TiffReader(path.name, tiff)
        stack.pop_all()
        return reader
