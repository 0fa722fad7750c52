"""Files written whole or not at all, under names that the disk takes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from nsl.errors import NslError

PART = ".part"
_NAME_BYTES = 255  # of nearly every file system; some encrypted ones take 143


def write_whole(
    files: Mapping[Path, Callable[[Path], object]], called: str = "", error: type[NslError] = NslError
) -> None:
    """Make each file by its function, which is given another path beside it; then move all to their names at once.

    Whatever ends it before, a full disk or Ctrl-C, leaves the files as they were, and no part of new ones. What was
    written is on the disk before it has its name, so that a power cut leaves no empty file under one.

    called : what a refusal calls them; the first by its name where nothing is said.

    Raises NslError, or the `error` given: the disk does not take them.
    """
    parts = {path: path.with_name(path.name + PART) for path in files}
    try:
        for path in files:
            if path.is_dir():
                raise error(f"{called or path.name} cannot be written ({path.name} is a folder); choose another folder")
        for path, write in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(parts[path])
            _settle(parts[path])
        for path, part in parts.items():
            part.replace(path)
        for folder in {path.parent for path in files} if os.name == "posix" else ():
            _settle(folder)
    except BaseException as failed:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink()
        if isinstance(failed, OSError):
            called = called or next(iter(files)).name
            raise error(f"{called} cannot be written ({failed.strerror or failed}); choose another folder") from None
        raise


def remove_own(path: Path, begins: str) -> None:
    """Remove a file that an earlier run has left, told by how it begins; one of somebody else's stays."""
    with contextlib.suppress(OSError):
        with path.open("rb") as file:
            is_own = file.read(len(begins)) == begins.encode()
        if is_own:
            path.unlink()


def _settle(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_folder(folder: Path) -> None:
    """NslError where no files can be written into a folder, which is there or to be made."""
    around = (folder.absolute(), *folder.absolute().parents)
    there = next((path for path in around if os.access(path, os.F_OK)), around[-1])
    if there.is_file():
        raise NslError(f"{there.name} is a file; name a folder for the results")
    if not os.access(there, os.W_OK | os.X_OK):
        raise NslError(f"{there.name or there} cannot be written to; choose another folder for the results")
    most = _most_name_bytes(there)
    for name in folder.parts:
        if len(os.fsencode(name)) > most:
            raise NslError(f"{name[:24]}… is too long a name for a folder on this disk; choose a shorter one")


def require_names(folder: Path, names: Iterable[str]) -> None:
    """NslError where the disk of `folder`, there or to be made, does not take a name as long as one of these."""
    most = _most_name_bytes(folder)
    for name in names:
        too_many = len(os.fsencode(name + PART)) - most
        if too_many > 0:
            raise NslError(
                f"the result {name[:24]}…{name[-16:]} would have a name too long for this disk; shorten the slide's "
                f"name by {too_many} bytes (letters outside English take 2 to 4)"
            )


def _most_name_bytes(folder: Path) -> int:
    for existing in (folder.absolute(), *folder.absolute().parents):
        with contextlib.suppress(OSError, AttributeError, ValueError):
            return os.pathconf(existing, "PC_NAME_MAX")
    return _NAME_BYTES
