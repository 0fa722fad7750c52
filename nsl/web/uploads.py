"""Measured data as uploaded: on disk only while it is read, and called what the user calls it."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anndata

from nsl.errors import NslError, SpotsError
from nsl.spots.measured import read_measured
from nsl.web import limits

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

FILE_TYPES = ["csv", "tsv", "txt", "gz", "zip", "h5", "h5ad"]
"""Endings of files that measured data come in."""

# Of an uploaded name nothing else becomes part of a path: readers go by it.
_ENDING = re.compile(r"((\.(csv|tsv|txt))?\.gz|\.(csv|tsv|txt|zip|h5|h5ad))$")


def read_uploads(files: Sequence["UploadedFile"], folder: Path) -> anndata.AnnData:
    """What `nsl.spots.measured.read_measured` reads of uploaded files, told of by the names the user gave them.

    The files stay on disk, in `folder`, no longer than that takes.

    Raises
    ------
    SpotsError : they cannot be read or stored, or are larger than the server takes; see `nsl.spots.tables.read_spots`.
    """
    endings = [_ENDING.search(file.name.lower()) for file in files]
    names = {
        f"measured-{number}{ending[0] if ending else ''}": file.name
        for number, (file, ending) in enumerate(zip(files, endings, strict=True), start=1)
    }
    all_names = " and ".join(names.values())
    empty = next((file.name for file in files if file.size == 0), None)
    if empty:
        raise SpotsError(f"{empty} is empty (0 bytes); export it again")
    try:
        for file in files:
            limits.check_upload(file.name, file.size, limits.read().max_upload_mb)
        with tempfile.TemporaryDirectory(dir=folder) as own:
            paths = [Path(own) / name for name in names]
            _store(files, paths, all_names)
            data = read_measured(paths)
    except NslError as error:
        raise SpotsError(_told(str(error), names, folder)) from None
    except MemoryError:
        raise SpotsError(
            f"{all_names} need more memory than this computer has; save counts as a sparse matrix, one section a file"
        ) from None
    # What a stranger's file may set off in the libraries that read it has no end.
    except Exception as error:
        reason = _told(str(error).partition("\n")[0] or type(error).__name__, names, folder)
        raise SpotsError(f"{all_names} cannot be read ({reason}); check that it is what its name says") from error
    data.uns["notices"] = [_told(notice, names, folder) for notice in data.uns["notices"]]
    return data


def _store(files: Sequence["UploadedFile"], paths: Sequence[Path], all_names: str) -> None:
    try:
        for file, path in zip(files, paths, strict=True):
            path.write_bytes(file.getbuffer())
    except OSError as error:
        raise SpotsError(f"{all_names} cannot be stored ({error.strerror}); make room on the disk") from None


def _told(text: str, names: dict[str, str], folder: Path) -> str:
    """With the users' names for the files, and no word of where they lay."""
    on_disk = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    where = rf"{re.escape(str(folder))}[/\\]\w+[/\\]"
    return re.sub(f"(?:{where})?({on_disk})", lambda found: names[found[1]], text)
