"""What a visitor brings: slides, the demo among them, and measured data, on disk in a folder of the session's own.

Nothing there is named by the browser, which chooses the id of an upload as well as its name; the user reads of a file
by the name it was brought under.
"""

import functools
import hashlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from nsl.errors import NslError, SlideError, SpotsError, in_a_line
from nsl.slides.archive import unpack_slide
from nsl.slides.demo.slide import demo_slide
from nsl.slides.overview import overview_of
from nsl.system.confinement import Budget, OverBudgetError, confined
from nsl.web.session import server, state
from nsl.web.session.jobs import drop_session, is_connected

if TYPE_CHECKING:
    import anndata

DEMO_NAME = "Demo slide (synthetic)"
# Each keeps its picture and its result in memory.
MAX_SLIDES = 12
LONGEST_NAME = 120
# A session whose page was closed keeps its slides this long: 4 looks, a minute apart.
SWEEP_SECONDS, LOOKS_BEFORE_DELETION = 60, 4
_one_at_a_time = threading.Lock()


def session_folder() -> Path:
    """A folder of this session's own; it goes some minutes after the session, or with the server."""
    session_id = get_script_run_ctx().session_id
    with _one_at_a_time:
        folders = _folders()
        if session_id not in folders:
            folders[session_id] = tempfile.TemporaryDirectory(dir=server.folder(), ignore_cleanup_errors=True)
        return Path(folders[session_id].name)


@contextmanager
def new_folder() -> Iterator[Path]:
    """A new folder inside the session's, under a name of the server's own; it goes again where the block fails."""
    own = session_folder()
    new = own / uuid4().hex
    new.mkdir()
    try:
        yield new
    except BaseException:  # the interruption of a script is one
        _delete(new, own)
        raise


def delete(gone: Path) -> None:
    """Delete a folder of `new_folder`; NslError where it lies outside the session's folder."""
    _delete(gone, session_folder())


def _delete(gone: Path, own: Path) -> None:
    if own.resolve() not in gone.resolve().parents:
        raise NslError(f"{gone.name} lies outside this session's folder and was not deleted; reload the page")
    shutil.rmtree(gone, ignore_errors=True)


# Not a resource of Streamlit's: any browser may tell the server to forget those.
@functools.cache
def _folders() -> dict[str, tempfile.TemporaryDirectory]:
    """Folder of every session; Streamlit tells nobody that a session ended, so a thread looks."""
    folders: dict[str, tempfile.TemporaryDirectory] = {}
    threading.Thread(target=_sweep, args=[folders], daemon=True).start()
    return folders


def _sweep(folders: dict[str, tempfile.TemporaryDirectory]) -> None:
    """Delete the folder of every session that was away at several looks in a row; a reload may bring it back."""
    looks: dict[str, int] = {}
    while True:
        time.sleep(SWEEP_SECONDS)
        for session_id in list(folders):
            looks[session_id] = 0 if is_connected(session_id) else looks.get(session_id, 0) + 1
            if looks[session_id] >= LOOKS_BEFORE_DELETION:
                folders.pop(session_id).cleanup()
                del looks[session_id]
                drop_session(session_id)
                server.give_memory_back()


# Slides


def take_upload(upload) -> None:
    """Spool an uploaded file and open it, beside the slides that are there; the uploader is then a new, empty one.

    A run of the script that is interrupted on the way, as by a click, leaves the file to the next.

    Raises NslError: the file cannot be opened as a slide; again at every call while it is the one uploaded.
    """
    refused = state.shared().refused
    if refused and refused[0] == upload.file_id:
        raise refused[1]
    try:
        _store(upload)
    except NslError as error:
        state.shared().refused = (upload.file_id, error)
        raise
    # So its bytes leave the memory, and the name of a slide that is removed later does not stand there.
    state.shared().uploads += 1


def _forget_refused() -> None:
    """Take a file that could not be opened out of the uploader, and what was said of it."""
    if state.shared().refused:
        state.shared().refused = None
        state.shared().uploads += 1


def take_demo() -> None:
    """Make the synthetic slide and open it, or go back to it."""
    _forget_refused()
    demo = next((slide for slide in state.slides() if slide.synthetic), None)
    if demo is not None:
        state.choose(demo.key)
        return
    _check_room()
    with new_folder() as folder:
        (folder / "demo.tif").write_bytes(_demo_file())
        _adopt(folder.name, DEMO_NAME, folder / "demo.tif", folder, synthetic=True)


@functools.cache
def _demo_file() -> bytes:
    """The demo slide as a TIFF, made once a server."""
    with tempfile.TemporaryDirectory(prefix="nsl-") as folder:
        path = Path(folder) / "demo.tif"
        demo_slide().save(path)
        return path.read_bytes()


def take_server_file(path: Path, name: str) -> None:
    """Open a slide that lies on the server, where it stays, or go back to it."""
    _forget_refused()
    # A file that was replaced is another slide, and so is one that is brought again: what a run that was overtaken by
    # the removal of a slide has cached of it is of no use for another.
    file = hashlib.sha256(f"{path} {path.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    there = next((slide for slide in state.slides() if slide.key.startswith(file)), None)
    if there is not None:
        state.choose(there.key)
        return
    _check_room()
    _adopt(f"{file} {uuid4().hex}", name, path, None, synthetic=False)


def _store(upload) -> None:
    _check_room()
    server.check_upload(upload.name, upload.size, server.limits().max_upload_mb)
    # No sentence holds this name, so that the user's can be put in its place.
    stored = f"nsl-upload{_suffix(upload.name)}"
    try:
        with new_folder() as folder:
            path = folder / stored
            path.write_bytes(upload.getbuffer())
            if path.suffix == ".zip":
                archive, path = path, unpack_slide(path, folder / "unpacked", server.max_unpacked_bytes())
                archive.unlink()
                stored = path.name
            _adopt(folder.name, upload.name, path, folder, synthetic=False)
    except OSError as error:
        raise SlideError(f"{upload.name} cannot be stored ({error.strerror or error}); make room on the disk") from None
    except NslError as error:
        raise type(error)(str(error).replace(stored, upload.name)) from None


def _check_room() -> None:
    if len(state.slides()) >= MAX_SLIDES:
        raise SlideError(f"this session holds {MAX_SLIDES} slides, as many as it can; remove one first")


def _adopt(key: str, name: str, path: Path, folder: Path | None, *, synthetic: bool) -> None:
    seen = overview_of(path, server.limits().max_pixels)
    seen = replace(seen, notices=tuple(notice.replace(path.name, name) for notice in seen.notices))
    state.add(state.SessionSlide(key, _distinct(name, key), path, folder, synthetic, seen))


def rename(slide: state.SessionSlide, name: str) -> None:
    """Call a slide otherwise from now on, on the page and in what is downloaded; nothing typed changes nothing."""
    name = " ".join(name.split())[:LONGEST_NAME]
    if name:
        slide.name = _distinct(name, slide.key)


def _distinct(name: str, key: str) -> str:
    """The name, numbered before its ending where another slide of the session has it too."""
    taken = {slide.name for slide in state.slides() if slide.key != key}
    suffix = _suffix(name)
    stem = name[: len(name) - len(suffix)]
    numbered = (f"{stem} ({number}){name[len(stem) :]}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def _suffix(name: str) -> str:
    """The ending of an uploaded name where it is a plain one: OpenSlide tells some formats apart by it."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix[1:].isalnum() and len(suffix) <= 8 else ""


def remove(gone: state.SessionSlide) -> None:
    """Let go of a slide, its result and its file; the one brought last takes its place."""
    state.drop(gone)
    if gone.folder:
        delete(gone.folder)


# Measured data


MEASURED_TYPES = ["csv", "tsv", "txt", "gz", "zip", "h5", "h5ad", "parquet"]
"""Endings of files that measured data come in."""

# Of an uploaded name nothing else becomes part of a path: readers go by it.
_ENDING = re.compile(r"((\.(csv|tsv|txt))?\.gz|\.(csv|tsv|txt|zip|h5|h5ad|parquet))$")


def read_measured_uploads(files: Sequence[UploadedFile]) -> "anndata.AnnData":
    """What `nsl.spots.measured.read_measured` reads of uploaded files, which lie on disk no longer than that takes.

    Raises SpotsError: they cannot be read or stored, or are larger than the server takes; see
        `nsl.spots.tables.read_spots`.
    """
    from nsl.spots.measured import read_measured

    endings = [_ENDING.search(file.name.lower()) for file in files]
    names = {
        f"measured-{number}{ending[0] if ending else ''}": file.name
        for number, (file, ending) in enumerate(zip(files, endings, strict=True), start=1)
    }
    all_names, folder = " and ".join(names.values()), session_folder()
    empty = next((file.name for file in files if file.size == 0), None)
    if empty:
        raise SpotsError(f"{empty} is empty (0 bytes); export it again")
    try:
        for file in files:
            server.check_upload(file.name, file.size, server.limits().max_upload_mb)
        with tempfile.TemporaryDirectory(dir=folder) as own:
            paths = [Path(own) / name for name in names]
            _store_measured(files, paths, all_names)
            # HDF5 and Parquet are read by libraries that a file may end.
            data = confined(read_measured, paths, budget=Budget.for_bytes(sum(file.size for file in files)))
    except NslError as error:
        raise SpotsError(_by_users_names(str(error), names, folder)) from None
    except OverBudgetError as error:
        raise SpotsError(
            f"{all_names} cannot be read safely: {error}; save counts as a sparse matrix, one section a file"
        ) from None
    except MemoryError:
        raise SpotsError(
            f"{all_names} need more memory than this computer has; save counts as a sparse matrix, one section a file"
        ) from None
    # What a stranger's file may set off in the libraries that read it has no end.
    except Exception as error:
        reason = _by_users_names(in_a_line(error), names, folder)
        raise SpotsError(f"{all_names} cannot be read ({reason}); check that it is what its name says") from error
    data.uns["notices"] = [_by_users_names(notice, names, folder) for notice in data.uns["notices"]]
    return data


def _store_measured(files: Sequence[UploadedFile], paths: Sequence[Path], all_names: str) -> None:
    try:
        for file, path in zip(files, paths, strict=True):
            path.write_bytes(file.getbuffer())
    except OSError as error:
        raise SpotsError(f"{all_names} cannot be stored ({error.strerror or error}); make room on the disk") from None


def _by_users_names(text: str, names: dict[str, str], folder: Path) -> str:
    """A sentence with the users' names for the files, and no word of where they lay."""
    on_disk = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    where = rf"{re.escape(str(folder))}[/\\]\w+[/\\]"
    return re.sub(f"(?:{where})?({on_disk})", lambda found: names[found[1]], text)
