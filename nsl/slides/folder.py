"""Slides in a folder: those of a cohort, and those of the server's, for slides too large to upload.

The server's folder is that of NSL_SLIDE_DIR; users of the app choose from a list and never type a path, and nothing
outside the folder can be chosen.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nsl.errors import NslError, SlideError
from nsl.slides.archive import SLIDE_SUFFIXES, dicom_slides
from nsl.slides.companions import named_files

VARIABLE = "NSL_SLIDE_DIR"
MAX_LISTED = 2_000
MAX_DEPTH = 8
"""Of folders in folders."""
# Hidden, or with marks that cannot be sent to a browser: control characters, bytes that are no UTF-8.
_UNSHOWN = re.compile(r"^\.|[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class FolderSlide:
    """A slide on offer."""

    name: str  # the path within the folder, with "/"; of a folder that holds one DICOM slide, the folder's
    path: Path  # what `nsl.open_slide` opens
    size_bytes: int  # of all files of the slide


def slide_dir() -> Path | None:
    """The folder that NSL_SLIDE_DIR names, None where it is not set; NslError where it cannot be read."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    folder = Path(text)
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise NslError(
            f"{VARIABLE} is {text}, which cannot be listed ({error.strerror or error}); set it to a folder of slides "
            "or unset it"
        ) from None
    return folder


def slides_in(folder: Path, most: int | None = MAX_LISTED) -> list[FolderSlide]:
    """Slides and images in a folder and the folders in it, told by their suffix, in natural order: 2 before 10.

    Of files that belong together (MIRAX, VMS, a DICOM series in one folder) one stands for all. Left out is what is
    hidden or cannot be read, what a link leads to outside the folder, linked folders, and all after the first `most`.
    """
    root = folder.resolve()
    return list(itertools.islice(_walk(root, root, MAX_DEPTH), most))


def resolve(folder: Path, choice: str) -> Path:
    """The file of the slide that `slides_in` lists under a name; SlideError for any other name, whatever it names."""
    for slide in slides_in(folder):
        if slide.name == choice:
            return slide.path
    raise SlideError(f"{choice} is not among the slides of the server's folder; choose one from the list")


def _walk(folder: Path, root: Path, depth: int) -> Iterator[FolderSlide]:
    """Slides of a folder and, in their place among them, those of the folders in it."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
        seen = [entry for entry in found if not _UNSHOWN.search(entry.name)]
        files = [path for path in map(Path, seen) if _is_offered(path, root)]
        # OpenSlide looks at all files beside a DICOM file for more of its series.
        if not all(entry.is_dir() or _is_inside(Path(entry), root) for entry in found):
            files = [path for path in files if path.suffix.lower() != ".dcm"]
        folders = [Path(entry) for entry in seen if depth and entry.is_dir(follow_symlinks=False)]
        slides = _slides_of(files, root)
    except OSError:  # a folder that may not be read, or is gone by now, hides no others
        return
    for path in sorted([*slides, *folders], key=_natural):
        if path in slides:
            yield slides[path]
        else:
            yield from _walk(path, root, depth - 1)


def _is_offered(path: Path, root: Path) -> bool:
    """Whether a file is a slide by its name that can be read and lies, with all that is read with it, in the root."""
    suffix = path.suffix.lower()
    if suffix not in SLIDE_SUFFIXES or not _is_inside(path, root) or not os.access(path, os.R_OK):
        return False
    others = named_files(path, {".mrxs": "mirax", ".vms": "hamamatsu"}.get(suffix))
    return all(_is_inside(other, root) for other in others if os.path.lexists(other))


def _is_inside(path: Path, root: Path) -> bool:
    """Whether it is a plain file in the root, by whatever link; not, say, a pipe, which never ends."""
    return path.is_file() and path.resolve().is_relative_to(root)


def _slides_of(files: list[Path], root: Path) -> dict[Path, FolderSlide]:
    """The slides that the files of one folder make up, by the file to open."""
    dicom = dicom_slides(path for path in files if path.suffix.lower() == ".dcm")
    parts = {path: _parts(path, files) for path in files if path.suffix.lower() != ".dcm"} | dicom
    of_others = {part for path, own in parts.items() for part in own if part != path}
    slides = {}
    for path, own in parts.items():
        if path not in of_others:
            stands_for_folder = list(dicom) == [path] and path.parent != root
            name = (path.parent if stands_for_folder else path).relative_to(root).as_posix()
            slides[path] = FolderSlide(name, path, sum(part.stat().st_size for part in own))
    return slides


def _parts(path: Path, files: list[Path]) -> list[Path]:
    """A slide's own file and those that only belong to it."""
    data = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and data.is_dir():
        return [path, *(part for part in data.iterdir() if part.is_file())]
    if path.suffix.lower() == ".vms":
        # Its images are named s.jpg, s(1,0).jpg, s_map2.jpg.
        return [path, *(part for part in files if re.fullmatch(re.escape(path.stem) + r"([(_].*)?\.jpg", part.name))]
    return [path]


def _natural(path: Path) -> tuple[list[tuple[str, int]], str]:
    """A name as one sorts it by hand: runs of digits by their number, s before s2."""
    runs = re.findall(r"(\D*)(\d*)", path.stem)
    return [(text.casefold(), int(digits or 0)) for text, digits in runs], path.suffix
