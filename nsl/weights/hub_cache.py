"""The local cache of weights from the Hub, in the published layout of the Hub's own client.

    blobs/<checksum>, snapshots/<commit>/<file> linked to them, refs/<revision> holding a commit

So what `hf download` put there is used, and the other way round.
"""

import contextlib
import hashlib
import re
import uuid
from collections.abc import Callable
from pathlib import Path

from nsl.errors import HubError

MAX_BYTES = {
    "config.json": 8_000_000,  # a gene takes 12 bytes by name, up to 80 with its identifiers
    "README.md": 4_000_000,  # text for people, with a front matter that may list genes
    "reliability.csv": 16_000_000,  # a gene is a line of 12 columns, under 160 bytes
    "signatures.csv": 16_000_000,  # two thousand sets of a thousand genes
    "model.safetensors": 16_000_000,  # a gene takes 55 bytes, 100 in double precision
}
"""The files of a weights folder, and what each may weigh: room for 100,000 genes, twenty times the embedded weights.

The tensors come last: a folder of the cache that holds them holds the rest.
"""
OPTIONAL = frozenset({"signatures.csv"})
"""Those that weights without gene sets lack."""


def is_commit(revision: str) -> bool:
    """Whether a revision is a whole commit, which can never stand for anything else."""
    return bool(re.fullmatch(r"[0-9a-f]{40}", revision))


def checksum(content: bytes, like: str) -> str:
    """Git's identifier of the content where `like` has 40 digits, otherwise its sha256."""
    if len(like) == 40:
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return hashlib.sha256(content).hexdigest()


def cached_commit(cache: Path, revision: str) -> str | None:
    """The commit that the revision is, or was when it was last fetched, if the cache holds it whole and undamaged.

    Raises HubError: the cache cannot be read.
    """
    note = cache / "refs" / revision
    try:
        commit = revision
        if not is_commit(revision):
            commit = note.read_text(encoding="utf-8").strip() if note.is_file() else ""
        return commit if is_commit(commit) and _is_whole(cache / "snapshots" / commit) else None
    except (OSError, UnicodeDecodeError) as error:
        raise HubError(f"the cache {cache} cannot be read ({error}); remove it, or set HF_HOME to another") from None


def _is_whole(snapshot: Path) -> bool:
    return all(
        _is_sound(snapshot / name) for name in MAX_BYTES if name not in OPTIONAL or (snapshot / name).is_symlink()
    )


def _is_sound(path: Path) -> bool:
    """Whether the file is there, not too large, and what its checksum says.

    Where links cannot be made, on Windows, the cache does not tell the checksum.
    """
    if not path.is_file() or path.stat().st_size > MAX_BYTES[path.name]:
        return False
    # One step only: a blob may itself be a link, into a store shared between repositories.
    blob = path.readlink().name if path.is_symlink() else ""
    return len(blob) not in (40, 64) or checksum(path.read_bytes(), like=blob) == blob


def store(cache: Path, commit: str, contents: dict[str, tuple[str, bytes]]) -> None:
    """Put the files of a commit, each with its checksum, into the cache, in place of damaged ones that are there.

    Raises HubError: the cache cannot be written.
    """
    try:
        for name, (blob, content) in contents.items():
            _put(cache / "blobs" / blob, lambda part, content=content: part.write_bytes(content))
            _link(cache / "snapshots" / commit / name, blob, content)
    except OSError as error:
        raise HubError(
            f"the cache {cache.parent} cannot be written ({error.strerror or error}); make room, or set HF_HOME to "
            "another"
        ) from None


def note_revision(cache: Path, revision: str, commit: str) -> None:
    """Remember for offline use what a tag or a branch stood for."""
    with contextlib.suppress(OSError):  # a cache that cannot be written still serves now
        _put(cache / "refs" / revision, lambda part: part.write_text(commit))


def _link(path: Path, blob: str, content: bytes) -> None:
    try:
        _put(path, lambda part: part.symlink_to(Path("../../blobs") / blob))
    except OSError:  # Windows lets few users make links
        _put(path, lambda part: part.write_bytes(content))


def _put(path: Path, make: Callable[[Path], object]) -> None:
    """Make a file beside its place and move it there: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.incomplete")
    try:
        make(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
