"""A folder on disk for every session, deleted some minutes after its page was closed.

Nothing in it is named by the browser: that chooses the id of an upload as well as its name.
"""

import functools
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from streamlit.runtime.scriptrunner import get_script_run_ctx

from nsl.errors import NslError
from nsl.web.jobs import is_connected

# A session whose page was closed keeps its slides this long: 4 looks, a minute apart.
SWEEP_SECONDS, LOOKS_BEFORE_DELETION = 60, 4
_one_at_a_time = threading.Lock()


def folder() -> Path:
    """A folder of this session's own; it goes some minutes after the session, or with the server."""
    session_id = get_script_run_ctx().session_id
    with _one_at_a_time:
        folders = _folders()
        if session_id not in folders:
            folders[session_id] = tempfile.TemporaryDirectory(prefix="nsl-", ignore_cleanup_errors=True)
        return Path(folders[session_id].name)


@contextmanager
def new_folder() -> Iterator[Path]:
    """A new folder inside the session's, under a name of the server's own; it goes again where the block fails."""
    own = folder()
    new = own / uuid4().hex
    new.mkdir()
    try:
        yield new
    except BaseException:  # the interruption of a script is one
        _delete(new, own)
        raise


def delete(gone: Path) -> None:
    """Delete a folder of `new_folder`.

    Raises
    ------
    NslError : it lies outside the session's folder.
    """
    _delete(gone, folder())


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
