"""The server's own temporary folder, which goes with it, and those that killed servers left behind."""

import functools
import os
import shutil
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX, _LOCK = "nsl-server-", "in-use"
# A server that begins has made its folder and not yet locked it.
_BEGINS_SECONDS = 60


def folder() -> Path:
    """Holds all that this server stores of its visitors; nobody else may read it, and it is gone once the server is."""
    return Path(_own()[0].name)


def clear_abandoned() -> None:
    """Delete the folders of servers that ended without doing so, such as killed ones."""
    for other in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if not _may_be_abandoned(other):
            continue
        try:
            with FileLock(other / _LOCK, blocking=False):
                shutil.rmtree(other, ignore_errors=True)
        except (Timeout, OSError):  # it is in use, or was deleted by another server that starts
            continue


def _may_be_abandoned(other: Path) -> bool:
    try:
        told = other.lstat()
    except OSError:
        return False
    is_own = not hasattr(os, "getuid") or told.st_uid == os.getuid()
    return is_own and other.is_dir() and not other.is_symlink() and time.time() - told.st_mtime > _BEGINS_SECONDS


@functools.cache
def _own() -> tuple[tempfile.TemporaryDirectory, FileLock]:
    made = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
    lock = FileLock(Path(made.name) / _LOCK)
    lock.acquire()
    return made, lock
