"""How pixels come off the disk: OpenSlide, tifffile and Pillow behind one interface, for `nsl.slides.slide`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsl.errors import SlideError
from nsl.slides.address import Address
from nsl.slides.companions import is_dicom
from nsl.slides.jpeg_segments import stated_colours
from nsl.slides.ome_zarr import OmeZarrReader, is_zarr
from nsl.slides.picture import PillowReader
from nsl.slides.reader import Reader, any_error_told
from nsl.slides.scanner import OpenSlideReader
from nsl.slides.stored_levels import VENDORS
from nsl.slides.stored_tiles import StoredTilesReader
from nsl.slides.tiff import TiffReader
from nsl.slides.tiff_images import is_called_otherwise, require_one_image, size_of, slide_series
from nsl.slides.trial import TIFF_OPTIONS, is_picture, require_series, vendor_of

if TYPE_CHECKING:
    import tifffile

# TIFF's numbers for the compressions that OpenSlide reads: none, LZW, JPEG, Deflate of both kinds, PackBits, Zstandard.
_JPEG = 7
_PACK_BITS = 32773
_OPENSLIDE_COMPRESSIONS = (1, 5, _JPEG, 8, 32946, _PACK_BITS, 50000)
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
OTHER_MAGIC = {
    **{b"%PDF": "a PDF", b"PK\3\4": "a ZIP archive", b"GIF8": "a GIF", b"\x1f\x8b": "a gzip archive"},
    **{b"\0\0\0\x0cjP  ": "a JPEG 2000", b"\xff\x4f\xff\x51": "a JPEG 2000", b"\x89HDF": "an HDF5 file"},
    **{b"\0\0\0\x0cJXL ": "a JPEG XL", b"\xff\x0a": "a JPEG XL"},
}


def open_reader(path: Path | Address) -> Reader:
    """The reader that does a file justice; SlideError, in one sentence, where there is none."""
    if isinstance(path, Address) or is_zarr(path):
        return OmeZarrReader(path)
    head = _head(path)
    vendor = vendor_of(path)
    if vendor not in (None, "generic-tiff"):
        return (StoredTilesReader if vendor in VENDORS else OpenSlideReader)(path, vendor)
    if vendor is None:
        _refuse_part(path)
    if head.startswith(TIFF_MAGIC):
        return _open_tiff(path, head, tiled=vendor is not None)
    if is_picture(head):
        return PillowReader(path, head)
    if is_dicom(head):
        raise SlideError(
            f"{path.name} is DICOM, but not whole-slide microscopy; export the slide as DICOM whole-slide microscopy"
        )
    raise SlideError(
        f"{path.name} looks like {_looks_like(head)}, which is not read as a slide; open a JPEG, PNG, BMP, WebP, TIFF, "
        "OME-TIFF or a scanner's slide file (SVS, NDPI, SCN, MRXS, BIF, …)"
    )


def _head(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise SlideError(f"{path.absolute().name or path} is a folder; give the image file inside it")
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise SlideError(f"{path.name} does not exist; check the name and the folder") from None
    except OSError as error:
        raise SlideError(f"{path.name} cannot be read ({error.strerror or error}); check its permissions") from error
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
        return "an HEIC or AVIF photo or a video"
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "a text file"
    return "an unknown kind of file"


def _open_tiff(path: Path, head: bytes, tiled: bool) -> Reader:
    """A reader for a TIFF without a scanner's mark, of the image in it that is the slide."""
    import tifffile

    try:
        tiff = tifffile.TiffFile(path, **TIFF_OPTIONS)
    except Exception:  # its parser lets anything through; Pillow has the last word
        return PillowReader(path, head)
    with contextlib.ExitStack() as stack, any_error_told(path.name):
        stack.callback(tiff.close)
        if tiff.is_ome:
            require_series(path)
        series, number, notices = slide_series(path.name, tiff)
        require_one_image(path.name, series)
        page = series.keyframe
        reader = None
        is_plain = page.index == 0 and not (tiff.is_ome or tiff.is_imagej)
        # OpenSlide takes any reduced page of the shape for a level, whatever it is called.
        if tiled and is_plain and _is_usual(page) and not any(map(is_called_otherwise, tiff.pages)):
            reader = StoredTilesReader(path, "generic-tiff")
            if not _is_pyramid_of(reader, *size_of(series)):
                reader.close()
                reader = None
        # tifffile hands out these as stored: palette indices, inks, raw YCbCr, pixels on their side.
        if reader is None and _is_rgb_as_stored(page):
            reader = TiffReader(path.name, tiff, number)
            stack.pop_all()
        elif reader is None:
            reader = PillowReader(path, head, page.index if isinstance(page.index, int) else 0)
        reader.altered = (*notices, *reader.altered)
        return reader


def _is_usual(page: tifffile.TiffPage) -> bool:
    """Whether OpenSlide reads the page, in its true colours."""
    photometric, compression = page.photometric.name, int(page.compression)
    is_plain = page.dtype == np.uint8 and page.samplesperpixel == 3 and page.tags.valueof(274, 1) == 1
    # OpenSlide 4.0.1 takes uncompressed tiles that do not fill whole kilobytes for broken.
    is_whole = compression != 1 or page.tilewidth * page.tilelength * 3 % 1024 == 0
    is_known = compression in _OPENSLIDE_COMPRESSIONS and photometric in ("RGB", "YCBCR")
    is_known &= page.predictor == 1 or compression != _PACK_BITS  # of which libtiff knows none
    return is_plain and is_whole and is_known and not (compression == _JPEG and _belies_tag(page))


def _belies_tag(page: tifffile.TiffPage) -> bool:
    """Whether the first tile says that its colours are others than the tag says, by which OpenSlide goes."""
    stored = zip(page.dataoffsets, page.databytecounts, strict=False)
    at, length = next(((at, length) for at, length in stored if at and length), (0, 0))
    page.parent.filehandle.seek(at)
    colours = stated_colours(page.parent.filehandle.read(length), page.jpegtables or b"")
    return colours not in (None, page.photometric.name)


def _is_pyramid_of(reader: Reader, width: int, height: int) -> bool:
    """Whether levels are of this image: OpenSlide takes any page for one that is tiled and said to be reduced."""
    first = reader.levels[0]
    is_first = (first.width, first.height) == (width, height)
    return is_first and all(
        abs(one.width * height / width - one.height) <= 1 + one.height / 100 for one in reader.levels
    )


def _is_rgb_as_stored(page: tifffile.TiffPage) -> bool:
    photometric, compression = page.photometric.name, page.compression.name
    is_rgb = photometric == "RGB" or (photometric == "YCBCR" and "JPEG" in compression)
    return page.tags.valueof(274, 1) == 1 and (is_rgb or photometric.startswith("MINIS"))
