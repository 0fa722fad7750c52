"""What OpenSlide takes a file for, and whether it can be opened, found out without danger.

Where OpenSlide cannot have the memory that a file asks for, or meets what its authors did not think of, it ends the
process. So TIFFs are looked through before, and other files are given to it in a process that nobody else depends on.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nsl.slides.declared_sizes import require_plausible
from nsl.slides.reader import damaged

TIFF_OPTIONS = dict.fromkeys(
    (
        *("_multifile", "is_mmstack", "is_ndtiff", "is_lsm", "is_fluoview", "is_stk", "is_sis", "is_svs", "is_scn"),
        *("is_qpi", "is_ndpi", "is_bif", "is_avs", "is_eer", "is_philips", "is_scanimage", "is_nih", "is_mdgel"),
    ),
    False,
)
"""What tifffile is not to look for: further files that a TIFF, or an index beside it, names, wherever they are; what
OpenSlide reads; and what no H&E comes in, whose metadata tifffile believes."""

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM")
# OpenSlide 4.0.1 looks for its directories in the wrong place.
_UNKNOWN_TIFF = b"MM\0*"
_SECONDS = 300
# The memory is several times what a slide of a million tiles takes, or an OME-TIFF. What is merely wrong with a file is
# told when it is opened again.
_SCRIPT = r"""
import os, sys
if sys.platform == "linux":
    import resource
    most = 2**30 if sys.argv[1] == "series" else 2**31
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def detect(path):
    import openslide
    return openslide.OpenSlide.detect_format(path)

def open_slide(path):
    import openslide
    try:
        openslide.OpenSlide(path).close()
    except openslide.OpenSlideError:
        pass

def series(path):
    import tifffile
    try:
        tifffile.TiffFile(path, **dict.fromkeys(sys.argv[2:], False)).series
    except MemoryError:
        raise
    except Exception:
        pass

question = {"detect": detect, "open": open_slide, "series": series}[sys.argv[1]]
for path in sys.stdin.buffer.read().split(b"\0"):
    print(question(os.fsdecode(path)) or "", flush=True)
"""


_is_confined = False


def confine() -> None:
    """From now on look at files in this very process, as nobody else depends on it either."""
    global _is_confined
    _is_confined = True


def vendor_of(path: Path) -> str | None:
    """OpenSlide's name for a file's format, None for none; SlideError where it must not look at the file."""
    return _kept_vendor(path, *_state(path))


def vendors(paths: Sequence[Path]) -> dict[Path, str | None]:
    """What `vendor_of` says of each file."""
    found, others = {}, []
    for path in paths:
        with path.open("rb") as file:
            head = file.read(12)
        is_ndpi = require_plausible(path, head)
        if head[:2] in (b"II", b"MM"):
            found[path] = _tiff_vendor(path, head, is_ndpi)
        elif is_picture(head) and not path.name.endswith(".mrxs"):
            found[path] = None
        else:
            others.append(path)
    return found | dict(zip(others, _ask("detect", others), strict=True))


def require_openable(path: Path) -> None:
    """SlideError where OpenSlide would not survive to open a file."""
    _kept_trial("open", path, *_state(path))


def require_series(path: Path) -> None:
    """SlideError where tifffile would fill the memory with the planes that an OME-TIFF lists."""
    _kept_trial("series", path, *_state(path))


@functools.lru_cache(maxsize=256)
def _kept_vendor(path: Path, *state: int) -> str | None:
    return vendors([path])[path]


@functools.lru_cache(maxsize=256)
def _kept_trial(what: str, path: Path, *state: int) -> None:
    _ask(what, [path])


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is a JPEG, PNG, BMP or WebP."""
    return head.startswith(_PICTURES) or head[8:12] == b"WEBP"


def _tiff_vendor(path: Path, head: bytes, is_ndpi: bool) -> str | None:
    import openslide

    vendor = None if head.startswith(_UNKNOWN_TIFF) else openslide.OpenSlide.detect_format(path)
    if is_ndpi and vendor != "hamamatsu":  # which finds other directories than those looked through
        raise damaged(path.name)
    return vendor


def _ask(what: str, paths: Sequence[Path]) -> list[str | None]:
    """What a new process says of each file; SlideError at the one that ends it."""
    if not paths:
        return []
    if _is_confined:
        from openslide import OpenSlide

        return [OpenSlide.detect_format(path) if what == "detect" else None for path in paths]
    command = [sys.executable, "-P", "-c", _SCRIPT, what, *TIFF_OPTIONS]
    reason = ": it would take all memory or end the program"
    names, own = b"\0".join(map(os.fsencode, paths)), os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    try:
        said = subprocess.run(command, input=names, capture_output=True, timeout=_SECONDS, env=own).stdout
    except subprocess.TimeoutExpired as error:
        said, reason = error.stdout or b"", f": to open it takes more than {_SECONDS} s"
    answers = said.decode().split("\n")[:-1]
    if len(answers) < len(paths):
        raise damaged(paths[len(answers)].name, reason)
    return [answer or None for answer in answers]
