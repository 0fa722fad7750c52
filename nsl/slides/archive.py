"""Slides of several files, one zip each: 3DHISTECH MIRAX, DICOM, Hamamatsu VMS; or a zip around any single slide.

Whoever made the zip is not trusted: nothing is written outside one new folder, nothing but plain files, no more than
was allowed, and the files of a slide cannot name files elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import lzma
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from nsl.errors import SlideError
from nsl.numerals import some_of
from nsl.slides.companions import dicom_slides, file_named_outside, is_dicom
from nsl.slides.trial import vendors

MAX_BYTES = 20_000_000_000
MAX_MEMBERS = 20_000

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
SLIDE_SUFFIXES = (*IMAGE_SUFFIXES, ".svs", ".ndpi", ".scn", ".bif", ".svslide", ".czi", ".mrxs", ".vms", ".dcm")
"""How the files are named that are opened, as against those that only belong to a slide."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_CLUTTER = {"__macosx", ".ds_store", "thumbs.db", "desktop.ini"}
_CHUNK = 2**20


def unpack_slide(zip_path: Path, folder: Path, max_bytes: int = MAX_BYTES) -> Path:
    """Unpack the one slide that a zip holds; returns the file that `nsl.open_slide` opens, of DICOM the finest level's.

    zip_path : a `.mrxs` file with its folder, the DICOM files of one series, a VMS file with its images, or a single
        slide or image. Images beside a scanner's slide are taken for its label and overview.
    folder : where a new folder is made for the files, made itself if need be; the new one is gone again after an error.
    max_bytes : the most that the files may come to.

    Raises SlideError: it is no zip, is damaged, encrypted, empty, too large, holds links or names outside itself, no
        slide or several, or the disk is full.
    """
    name = zip_path.name
    with _told(name):
        folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(prefix="slide-", dir=folder))
    try:
        with _told(name), zip_path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise SlideError(
                    f"{name} is no ZIP archive or was cut short; zip the slide's files as ZIP, not RAR or 7z"
                )
            with zipfile.ZipFile(file) as archive:
                members = _checked_members(name, archive, max_bytes, shutil.disk_usage(own).free)
                files = _write(name, archive, members, own, max_bytes)
        return _the_slide(name, own, files)
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """What can go wrong with a zip or a disk, in a sentence."""
    try:
        yield
    except FileNotFoundError:
        raise SlideError(f"{name} does not exist; check the name and the folder") from None
    except FileExistsError as error:
        twice = Path(error.filename).name
        raise SlideError(f"{name} holds two files named {twice} in one folder; zip each file once") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise SlideError(f"{name} cannot be unpacked ({error.strerror or error}); make room on the disk") from error
        raise SlideError(
            f"{name} cannot be unpacked ({error.strerror or error}); zip the slide's files again"
        ) from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError) as error:
        raise SlideError(f"{name} is damaged or incomplete ({error}); copy or zip it again") from error


def _checked_members(name: str, archive: zipfile.ZipFile, max_bytes: int, free: int) -> list[zipfile.ZipInfo]:
    """The files to unpack, from the zip's table of contents."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise SlideError(f"{name} holds {len(members):,} files, and at most {MAX_MEMBERS:,} are taken; zip one slide")
    members = [member for member in members if not member.is_dir() and not is_clutter(member.filename)]
    if not members:
        raise SlideError(f"{name} is empty; zip the slide's files again")
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise SlideError(f"{name} holds a link or device, {member.filename}; zip the slide's files themselves")
        if member.flag_bits & 1:
            raise SlideError(f"{name} is protected by a password; zip the slide's files without one")
        if member.compress_type not in _METHODS:
            method = {9: "Deflate64, as Windows does above 2 GB"}.get(member.compress_type, f"{member.compress_type}")
            raise SlideError(
                f"{name} is compressed by method {method}, which is not read here; zip again without compression"
            )
    size = sum(member.file_size for member in members)
    if size > max_bytes:
        raise _too_large(name, f"would unpack to {_told_size(size)}", max_bytes)
    if size > free:
        raise SlideError(
            f"{name} would unpack to {_told_size(size)}, and {_told_size(free)} are free; make room on the disk"
        )
    return members


def _write(
    name: str, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path, max_bytes: int
) -> list[Path]:
    """The members as files in `folder`, under their own names as far as those are safe."""
    written, files = 0, []
    for member in members:
        path = folder.joinpath(*_safe_parts(name, member.filename))
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as packed, path.open("xb") as file:
            while chunk := packed.read(_CHUNK):
                written += len(chunk)
                # The table of contents may say less than there is.
                if written > max_bytes:
                    raise _too_large(name, "unpacks to more than it says", max_bytes)
                file.write(chunk)
        files.append(path)
    return files


def _too_large(name: str, found: str, max_bytes: int) -> SlideError:
    return SlideError(f"{name} {found}, and at most {_told_size(max_bytes)} are taken; zip one slide alone")


def _told_size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def is_clutter(name: str) -> bool:
    """What macOS and Windows put beside a user's files."""
    parts = name.replace("\\", "/").split("/")
    return parts[-1].startswith("._") or any(part.lower() in _CLUTTER for part in parts)


def _safe_parts(name: str, member: str) -> list[str]:
    """A member's folders and name, in which a slide's files find each other; never a way out of the folder."""
    parts = member.replace("\\", "/").split("/")
    if ".." in parts or not parts[0] or re.match("[A-Za-z]:", member):
        raise SlideError(f"{name} names a file outside itself, {member}; zip the slide's folder, not single paths")
    # What Windows does not allow in a name; on it, "a:b" would be a hidden part of file a.
    return [re.sub(r'[<>:"|?*\x00-\x1f]', "_", part) for part in parts if part not in ("", ".")]


def _the_slide(name: str, folder: Path, files: list[Path]) -> Path:
    try:
        found = vendors(files)
    except SlideError as error:
        raise SlideError(f"{name}: {error}") from None
    dicom = dicom_slides(path for path, vendor in found.items() if vendor == "dicom")
    slides = [path for path, vendor in found.items() if vendor not in (None, "dicom", "generic-tiff")]
    slides += dicom
    if not slides:
        _check_complete(name, files)
        slides = [path for path in files if path.suffix.lower() in SLIDE_SUFFIXES]
    if not slides:
        some = ", ".join(sorted(path.name for path in files)[:3])
        more = ", …" if len(files) > 3 else ""
        raise SlideError(f"{name} holds no slide, but {some}{more}; zip a slide's files or an image")
    if len(slides) > 1:
        names = sorted(path.relative_to(folder).as_posix() for path in slides)
        raise SlideError(f"{name} holds {len(names):,} slides ({some_of(names, 5)}); zip one of them")
    slide = slides[0]
    if outside := file_named_outside(slide, found[slide]):
        raise SlideError(
            f"{name} holds a slide that names a file outside its folder, {outside}; export the slide again"
        )
    for number, path in enumerate(dicom.get(slide, [])):
        # OpenSlide looks for the other levels beside the file only; some archives keep each in a folder of its own.
        if path.parent != slide.parent:
            path.rename(slide.parent / f"{number}-{path.name}")
    return slide


def _check_complete(name: str, files: list[Path]) -> None:
    """SlideError where a part of a slide is there that OpenSlide did not take for one; images may belong to it."""
    by_suffix = {path.suffix.lower(): path for path in files}
    slidedat = next((path for path in files if path.name.lower() == "slidedat.ini"), None)
    if mrxs := by_suffix.get(".mrxs"):
        raise SlideError(
            f"{name} holds {mrxs.name} without its data; zip it together with the folder {mrxs.stem} beside it"
        )
    if slidedat:
        raise SlideError(
            f"{name} holds the data of a MIRAX slide without its .mrxs file; zip that file together with the folder"
        )
    if vms := by_suffix.get(".vms"):
        raise SlideError(f"{name} holds {vms.name}, which cannot be read; copy it again, with the images beside it")
    if any(_is_dicom(path) for path in files):
        raise SlideError(
            f"{name} holds DICOM files that are no whole-slide image; export the slide as DICOM whole-slide microscopy"
        )


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return is_dicom(file.read(132))
