"""Files a user gave, read with a limit, and counts as they stand in them.

Members of a zip are read in memory and never unpacked to disk.
"""

import contextlib
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from nsl.errors import SpotsError
from nsl.spots import Counts

MAX_BYTES = 2 * 1024**3
"""Of one file or array, unpacked; the counts of 5,000 spots take a tenth of it."""
_CHUNK = 2**24
ENSEMBL_ID = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?")
"""Of a gene: human ENSG00000141736, mouse ENSMUSG00000062312, with or without a version."""

Files = Mapping[str, Callable[[], bytes]]
"""Contents of files by their path, read when called."""


@contextlib.contextmanager
def files_in(path: Path) -> Iterator[Files]:
    """Files of a folder or a zip, at any depth, but for those a Mac adds to a zip."""
    if path.is_dir():
        found = (file for file in path.rglob("*") if file.is_file())
        yield {file.relative_to(path).as_posix(): partial(content, file) for file in found}
        return
    with zipfile.ZipFile(path) as archive:
        yield {
            member.filename.replace("\\", "/"): partial(_member, archive, member)
            for member in archive.infolist()
            if not member.is_dir() and not member.filename.startswith("__MACOSX/")
        }


def only(name: str, files: Iterable[str], *endings: str) -> str | None:
    """The file whose path ends in one of these; None where there is none, SpotsError where there are several."""
    found = sorted(file for file in files if file.endswith(endings))
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


def require_size(name: str, stored: h5py.Group | h5py.Dataset) -> None:
    """SpotsError where an array, or those of a group together, would be more than MAX_BYTES."""
    if isinstance(stored, h5py.Dataset):
        return require_bytes(name, stored.nbytes)
    sizes = []
    stored.visititems(lambda _, part: sizes.append(part.nbytes if isinstance(part, h5py.Dataset) else 0))
    return require_bytes(name, sum(sizes))


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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpotsError(f"{name} cannot be read ({reason}); it is damaged or not what its name says") from None


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
