"""Files a user gave, read with a limit, and counts as they stand in them.

Members of a zip are read in memory and never unpacked to disk.
"""

import contextlib
import gzip
import io
import math
import mmap
import re
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from nsl.errors import SpotsError, in_a_line
from nsl.slides.archive import is_clutter
from nsl.spots.tables import Counts

MAX_BYTES = 2 * 1024**3
"""Of one file or array, unpacked; the counts of 5,000 spots take a tenth of it."""
_CHUNK = 2**24
_BYTES_AT_ONCE = 2**28
# Of an HDF5 object, counted wherever a link leads to it: links in a circle end at MAX_BYTES.
_OBJECT_BYTES = 2**18
ENSEMBL_ID = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?")
"""Of a gene: human ENSG00000141736, mouse ENSMUSG00000062312, with or without a version."""
_GZIP, _SHUFFLE, _LZF, _CHECKSUM_BYTES = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_LZF, 4
# Filters of an HDF5 array, in order, and how many bytes they make of one at most, or 0 where that is one. Gzip of gzip
# is not among them: it makes a terabyte of a megabyte.
_MOST_YIELD = {(): 0, (_SHUFFLE,): 0, (_GZIP,): 1032, (_SHUFFLE, _GZIP): 1032, (_LZF,): 88, (_SHUFFLE, _LZF): 88}

Files = Mapping[str, Callable[[], bytes]]
"""Contents of files by their path, read when called."""


@contextlib.contextmanager
def files_in(path: Path) -> Iterator[Files]:
    """Files of a folder or a zip, at any depth, but for those that systems add (`nsl.slides.archive.is_clutter`)."""
    if path.is_dir():
        found = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        yield {name: partial(content, file) for name, file in found.items() if not is_clutter(name)}
        return
    with zipfile.ZipFile(path) as archive:
        members = members_of(path.name, archive)
        yield {name: partial(_member, archive, member) for name, member in members.items()}


def members_of(name: str, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Files of a zip by path, but for what systems add; SpotsError at a path there twice or a password."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        path = member.filename.replace("\\", "/")
        if member.is_dir() or is_clutter(path):
            continue
        if path in members:
            raise SpotsError(f"{name} holds two files called {path}; zip each file once")
        if member.flag_bits & 1:
            raise SpotsError(f"{name} is protected by a password; zip the files without one")
        members[path] = member
    return members


def only(name: str, files: Iterable[str], *endings: str) -> str | None:
    """The file whose path ends in one of these; None where there is none, SpotsError where there are several.

    Files that differ in nothing but their ending are the same in other clothes: that of the first ending is meant.
    """
    ranked = sorted((rank, file) for file in files for rank, ending in enumerate(endings) if file.endswith(ending))
    by_rest: dict[str, str] = {}
    for rank, file in ranked:
        by_rest.setdefault(file.removesuffix(endings[rank]), file)
    found = sorted(by_rest.values())
    if len(found) > 1:
        raise SpotsError(
            f"{name} holds {len(found)} files where one is expected ({', '.join(found[:3])}); give one section"
        )
    return found[0] if found else None


def content(path: Path) -> bytes:
    """A file's bytes; SpotsError where there are more than MAX_BYTES."""
    require_bytes(path.name, path.stat().st_size)
    return path.read_bytes()


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    # zipfile reads no more than the size a member states.
    require_bytes(member.filename, member.file_size)
    return archive.read(member)


def unpacked(name: str, packed: bytes) -> bytes:
    """Bytes of the file `name`, unpacked where it ends in .gz; SpotsError where there are more than MAX_BYTES."""
    if not name.endswith(".gz"):
        return packed
    with gzip.open(io.BytesIO(packed)) as file:
        whole = file.read(MAX_BYTES + 1)
    require_bytes(name, len(whole))
    return whole


def require_unpacked(path: Path) -> None:
    """SpotsError where a gzipped file holds more than MAX_BYTES; what is not gzipped is as large as it lies there."""
    if path.suffix.lower() != ".gz":
        return require_bytes(path.name, path.stat().st_size)
    size = 0
    with gzip.open(path) as file:
        while size <= MAX_BYTES and (part := file.read(_CHUNK)):
            size += len(part)
    return require_bytes(path.name, size)


@contextlib.contextmanager
def own_hdf5(name: str, source: Path | io.BytesIO) -> Iterator[h5py.File]:
    """An HDF5 file to read; SpotsError where anything in it, read or not, would have other files of the disk read."""
    with h5py.File(source) as file:
        for _ in _reached(name, file):
            pass
        yield file


def require_size(name: str, stored: h5py.Group | h5py.Dataset, beside: int = 0) -> int:
    """Bytes that an array, or those of a group, take in memory, with those `beside`; SpotsError over MAX_BYTES.

    beside : what else is read of the same file.
    """
    size, texts_at_once, alone = beside, 0, name
    name = f"{alone} with what else is read of the file" if beside else alone
    for part in _reached(name, stored, again=True):
        size += _OBJECT_BYTES
        if isinstance(part, h5py.Dataset):
            # Counts of a byte each become 4-byte numbers; a chunk is unpacked whole, however little of it is used.
            size += max(part.size or 0, math.prod(part.chunks or ())) * max(part.dtype.itemsize, 4)
            _require_honest_packing(alone, part)
        require_bytes(name, size)
        if isinstance(part, h5py.Dataset) and part.dtype.hasobject:
            texts_at_once = texts_at_once or max(_BYTES_AT_ONCE // _longest_text(part.file), 1)
            for length in _lengths(part, texts_at_once):
                size += length
                require_bytes(name, size)
    return size


def _require_honest_packing(name: str, dataset: h5py.Dataset) -> None:
    """SpotsError at filters that yield without bound or are not HDF5's own; ValueError where gzip hides more data."""
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    packing = tuple(number for number in filters if number != h5py.h5z.FILTER_FLETCHER32)
    most_yield, large = _MOST_YIELD.get(packing), []
    if most_yield and dataset.chunks:
        dataset.id.chunk_iter(lambda part: large.append(part) if part.size * most_yield > _BYTES_AT_ONCE else None)
    if most_yield is None or (large and _GZIP not in packing):
        raise SpotsError(
            f"{name}: {dataset.name!r} is packed in a way that is not read here (HDF5 filters "
            f"{', '.join(map(str, filters))}); save it with gzip"
        )
    for part in large:
        if part.filter_mask >> filters.index(_GZIP) & 1:  # stored as it is
            continue
        packed = dataset.id.read_direct_chunk(part.chunk_offset)[1]
        stated = math.prod(dataset.chunks) * dataset.dtype.itemsize + _CHECKSUM_BYTES
        if len(zlib.decompressobj().decompress(packed, stated + 1)) > stated:
            raise ValueError(f"{dataset.name!r} unpacks to more than it states")


def _longest_text(file: h5py.File) -> int:
    """Bytes that a text can have, at most: the largest heap that HDF5 keeps texts in, many of which may be the same."""
    with contextlib.ExitStack() as stack:
        if file.driver == "fileobj":
            content = file.id.get_file_image()
        else:
            disk = stack.enter_context(Path(file.filename).open("rb"))
            content = stack.enter_context(mmap.mmap(disk.fileno(), 0, access=mmap.ACCESS_READ))
        heaps = re.finditer(rb"GCOL\x01\0\0\0(.{8})", content, re.DOTALL)
        return max((int.from_bytes(heap[1], "little") for heap in heaps), default=len(content))


def _lengths(dataset: h5py.Dataset, at_once: int) -> Iterator[int]:
    """Bytes of texts of any length, some at a time, of a list or of a table with a single column."""
    if dataset.ndim > 1 and dataset.shape[1:] != (1,):
        raise ValueError(f"texts in {dataset.ndim} dimensions")
    for start in range(0, len(dataset) if dataset.ndim else 0, at_once):
        part = dataset[start : start + at_once]
        for column in [part[field] for field in part.dtype.names] if part.dtype.names else [part]:
            yield sum(np.asarray(text).nbytes for text in column.ravel()) if column.dtype.hasobject else 0


def _reached(
    name: str, root: h5py.Group | h5py.Dataset, again: bool = False
) -> Iterator[h5py.Group | h5py.Dataset | h5py.Datatype]:
    """An object and all that it leads to, each once or `again` by every way; SpotsError at data outside the file."""
    seen, leads = set(), deque([(root.parent, root.name)])
    while leads:
        group, lead = leads.pop()
        found = group.get(lead)
        if found is None or (address := h5py.h5o.get_info(found.id).addr) in seen:
            continue
        if not again:
            seen.add(address)
        if isinstance(found, h5py.Dataset) and found.external:
            raise _outside(name, found.name, f"stored in {found.external[0][0]!r}")
        if isinstance(found, h5py.Dataset) and found.is_virtual:
            raise _outside(name, found.name, "put together from other datasets")
        yield found
        for key in found if isinstance(found, h5py.Group) else ():
            link = found.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise _outside(name, f"{found.name.rstrip('/')}/{key}", f"a link to {link.filename!r}")
            # A path may pass a link out of the file; as that is itself in some group, it is found before.
            (leads.append if isinstance(link, h5py.HardLink) else leads.appendleft)((found, key))
        leads.extendleft(_named(found))


def _named(found: h5py.HLObject) -> Iterator[tuple[h5py.Group, str | h5py.Reference]]:
    """What anndata opens without a link: references in attributes, and columns of a table called by a path."""
    start = found if isinstance(found, h5py.Group) else found.file
    for key in found.attrs:
        if h5py.check_ref_dtype(found.attrs.get_id(key).dtype):
            yield from ((start, reference) for reference in np.ravel(found.attrs[key]) if reference)
        elif key in ("_index", "column-order"):
            yield from ((start, column) for column in np.ravel(found.attrs[key]) if "/" in str(column))


def _outside(name: str, path: str, how: str) -> SpotsError:
    return SpotsError(
        f"{name}: {path!r} is {how}, and only what lies in the file itself is read; save all of it in one file"
    )


def require_bytes(name: str, size: int) -> None:
    """SpotsError where what `name` holds takes more than MAX_BYTES."""
    if size > MAX_BYTES:
        raise SpotsError(
            f"{name} is larger than {MAX_BYTES / 1024**3:g} GB unpacked, the most that is read; save counts as a "
            "sparse matrix, one section a file"
        )


@contextlib.contextmanager
def readable(name: str) -> Iterator[None]:
    """Turns what goes wrong in reading the file `name` into a SpotsError."""
    try:
        yield
    except FileNotFoundError:
        raise SpotsError(f"{name} does not exist; check its path") from None
    except (
        *(OSError, EOFError, MemoryError, RuntimeError, zlib.error, zipfile.BadZipFile),
        *(ValueError, TypeError, LookupError, AttributeError, OverflowError),  # of files laid out in another way
    ) as error:
        raise SpotsError(
            f"{name} cannot be read ({in_a_line(error)}); it is damaged or not what its name says"
        ) from None


def are_ensembl(names: Iterable[str]) -> bool:
    """Whether most of the names are Ensembl ids of genes."""
    matches = [ENSEMBL_ID.fullmatch(str(name)) is not None for name in names]
    return sum(matches) > len(matches) / 2


def by_symbol(
    name: str, values: sparse.csr_array, spots: Sequence[str], symbols: np.ndarray, gene_id: np.ndarray | None
) -> tuple[Counts, list[str]]:
    """Counts (S, G) with one gene a symbol, that of most counts, and a sentence where others were left out."""
    if values.shape != (len(spots), len(symbols)):
        raise ValueError(f"{values.shape[0]} × {values.shape[1]} counts of {len(spots)} spots and {len(symbols)} genes")
    symbols = pd.Index(symbols).astype(str)
    most_first = np.argsort(-values.sum(axis=0), kind="stable")
    keep = np.sort(most_first[~symbols[most_first].duplicated()])
    notices = []
    if len(keep) < len(symbols):
        notices.append(
            f"Genes of {name} left out because another of the same symbol has more counts: "
            f"{len(symbols) - len(keep):,} (such as {symbols[symbols.duplicated()][0]})."
        )
        values = values[:, keep]
    gene_id = None if gene_id is None else gene_id[keep]
    return Counts(name, values, pd.Index(spots).astype(str), symbols[keep], gene_id), notices


def image_scales(scalefactors: Mapping[str, float]) -> dict[str, float]:
    """By image, its pixels over those of the full-resolution image: tissue_hires_scalef is of "hires"."""
    return {
        key.removeprefix("tissue_").removesuffix("_scalef"): float(value)
        for key, value in scalefactors.items()
        if key.startswith("tissue_") and key.endswith("_scalef")
    }
