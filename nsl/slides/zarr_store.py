"""What zarr reads a slide from: a folder, or an address, whose chunks are looked at before they are decoded."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zarr import Array
from zarr.storage import LocalStore, WrapperStore

from nsl.slides.address import Address
from nsl.slides.reader import damaged

# At the beginning of what Blosc makes: bytes before and after, at the 5th and the 13th.
_BLOSC_HEAD = struct.Struct("<4xI4xI")
# Of what came over a network.
_KEPT_BYTES = 2**27


class WholeChunksStore(WrapperStore):
    """Hands out no chunk of Blosc that is not as long as its head says: Blosc reads on beyond its end."""

    name = ""
    keeps_bytes = 0
    """Of chunks as they are stored, which are read for the overview, for stains, and by strips that meet in them."""
    _loop: asyncio.AbstractEventLoop | None = None
    _chunk_bytes: Mapping[str, int] = {}

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self._kept: dict[str, Any] = {}
        self._kept_bytes = 0

    def expect_blosc(self, arrays: Sequence[Array]) -> None:
        """From now on look at every chunk of those of these arrays that Blosc compressed."""
        self._chunk_bytes = {
            f"{array.path}/": math.prod(array.chunks) * array.dtype.itemsize
            for array in arrays
            if not array.shards and any("blosc" in str(codec).lower() for codec in array.compressors)
        }

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self._loop = asyncio.get_running_loop()
        if byte_range is None and key in self._kept:
            return self._kept[key]
        found = await super().get(key, prototype, byte_range)
        expected = next((size for start, size in self._chunk_bytes.items() if key.startswith(start)), None)
        if found is not None and expected is not None:
            head = found[: _BLOSC_HEAD.size].to_bytes()
            if len(head) < _BLOSC_HEAD.size or _BLOSC_HEAD.unpack(head) != (expected, len(found)):
                raise damaged(self.name)
        if self.keeps_bytes and found is not None and byte_range is None and key not in self._kept:
            self._kept[key] = found
            self._kept_bytes += len(found)
            while self._kept_bytes > self.keeps_bytes:
                self._kept_bytes -= len(self._kept.pop(next(iter(self._kept))))
        return found

    def close(self) -> None:
        """Let go of connections, too: aiohttp complains of those that only the end of the program ends."""
        super().close()
        files = getattr(self._store, "fs", None)
        if session := getattr(files, "_session", None) or getattr(files, "_s3creator", None):
            files.close_session(self._loop, session)


def store_of(path: Path | Address) -> WholeChunksStore:
    """SlideError where what an address takes is not installed."""
    store = WholeChunksStore(LocalStore(path, read_only=True) if isinstance(path, Path) else path.store())
    store.name, store.keeps_bytes = path.name, 0 if isinstance(path, Path) else _KEPT_BYTES
    return store
