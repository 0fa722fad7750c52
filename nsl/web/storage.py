"""A folder on disk for every session, deleted some minutes after its page was closed."""

import tempfile
import threading
import time
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from nsl.web.jobs import is_connected

# A session whose page was closed keeps its slides this long: 4 looks, a minute apart.
SWEEP_SECONDS, LOOKS_BEFORE_DELETION = 60, 4


def folder() -> Path:
    """A folder of this session's own; it goes some minutes after the session, or with the server."""
    session_id = get_script_run_ctx().session_id
    folders = _folders()
    if session_id not in folders:
        folders[session_id] = tempfile.TemporaryDirectory(prefix="nsl-", ignore_cleanup_errors=True)
    return Path(folders[session_id].name)


@st.cache_resource(show_spinner=False)
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
