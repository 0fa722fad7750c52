"""Which weights a session predicts with: the embedded ones at once, others when they have come."""

import io
import lzma
import threading
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from nsl.errors import HubError, NslError, WeightsError
from nsl.web import controls, limits, state, storage
from nsl.weights.config import WeightsConfig
from nsl.weights.folder import default_source, embedded_config
from nsl.weights.hub import is_hub_source, parse_source
from nsl.weights.hub_cache import MAX_BYTES

if TYPE_CHECKING:
    from nsl.weights.weights import Weights


# Loading keeps the processor busy while the page is still on its way to the browser.
START_AFTER_S = 1.0
UPLOADED = "Uploaded zip"
MAX_ZIP_MB = 50
# Of org/name@revision; a longer text names nothing.
_LONGEST_SOURCE = 350


@dataclass
class Wish:
    """Weights asked for; a thread fetches and loads them, so that no page waits for a network."""

    source: str | Path
    label: str
    """As the user knows it."""
    is_uploaded: bool = False
    weights: "Weights | None" = None
    error: str | None = None
    thread: threading.Thread | None = None

    def start(self) -> None:
        """Fetch and load in a thread of its own, once the page is on the screen."""
        self.thread = threading.Timer(START_AFTER_S, self._run)
        self.thread.daemon = True
        self.thread.start()

    @property
    def is_running(self) -> bool:
        """Whether an answer is still to come."""
        return self.error is None if self.thread is None else self.thread.is_alive()

    def _run(self) -> None:
        from nsl.weights.folder import load_weights

        try:
            weights = load_weights(self.source)
            # What it was called by who uploaded it may name a patient, and goes into every result.
            self.weights = replace(weights, source=UPLOADED) if self.is_uploaded else weights
        except NslError as error:
            self.error = str(error)
            if isinstance(self.source, Path):  # an upload, in a folder that the user never saw
                self.error = self.error.replace(str(self.source), self.label).replace(self.source.name, self.label)


def begin() -> None:
    """Once a session: wish for what NSL_WEIGHTS names."""
    if state.get("weights_begun") is None:
        state.put("weights_begun", True)
        if default_source():
            state.put("wish", Wish(default_source(), default_source()))


def start() -> None:
    """Begin with what was wished for; it waits until the page has gone out, which it would hold up by a second."""
    wish = state.get("wish")
    if wish is not None and wish.thread is None and wish.error is None:
        wish.start()


def collect() -> None:
    """Take weights that have come; those in use before stay where they have not."""
    wish = state.get("wish")
    if wish is not None and not wish.is_running and wish.weights is not None:
        state.put("weights", wish.weights)
        state.put("wish", None)


def in_use() -> "Weights":
    """Weights to predict with now."""
    return state.get("weights") or load_default_weights()


def are_in_use(weights: "Weights") -> bool:
    """Whether a run now would predict with these."""
    return weights.sha256 == in_use().sha256


@st.cache_resource(show_spinner="Loading the weights")
def load_default_weights() -> "Weights":
    """The embedded weights, shared by all sessions; they are never changed."""
    from nsl.weights.folder import load_weights

    return load_weights()


def config_in_use() -> WeightsConfig:
    """What they say of themselves; for the embedded ones without loading them."""
    weights = state.get("weights")
    return weights.config if weights else embedded_config()


def tissue(config: WeightsConfig) -> str:
    """What the weights were learned on, as far as they say."""
    return config.training_data.tissue or "tissue that is not stated"


def show() -> None:
    """For the sidebar: the weights in use, where they are from, why not others, and a way to others."""
    config, weights, wish = config_in_use(), state.get("weights"), state.get("wish")
    data = config.training_data
    st.caption("WEIGHTS")
    st.markdown(f"**{controls.escaped(config.name)}** · {len(config.genes):,} genes")
    patients = f"{data.patients} patient{'s' if data.patients != 1 else ''}"
    st.caption(
        f"{_origin(weights)}. Learned from {data.spots:,} spots of {patients}: {controls.escaped(tissue(config))}."
    )
    if wish is not None:
        if wish.is_running:
            _watch()
        elif wish.error:
            st.warning(controls.escaped(wish.error))
            st.caption("The weights above stay in use.")
    with st.expander("Use other weights"):
        _offer()


def _origin(weights: "Weights | None") -> str:
    if weights is None:
        return "Embedded"
    source = controls.escaped(weights.source)
    return f"{source} at commit {weights.revision[:7]}" if weights.revision else source


# Looking sooner interrupts the very first page, and costs it a second.
@st.fragment(run_every=2.0)
def _watch() -> None:
    """Until the weights have come, or not; the page is usable meanwhile."""
    wish = state.get("wish")
    if wish is None or not wish.is_running:
        st.rerun()
    st.caption(f"Fetching {controls.escaped(wish.label)}; until then these are used.")


def _offer() -> None:
    st.text_input(
        "From the Hugging Face Hub",
        placeholder="org/name@revision",
        help="The revision is a tag, a branch or a commit; main if left out.",
        max_chars=_LONGEST_SOURCE,
        key="hub_source",
        on_change=_wish_for_hub,
    )
    upload = st.file_uploader("A weights folder as zip", type="zip", key="weights_zip", max_upload_size=MAX_ZIP_MB)
    if upload is not None and state.get("weights_zip_id") != upload.file_id:
        with controls.shown_errors():
            limits.check_upload(upload.name, upload.size, MAX_ZIP_MB)
            with storage.new_folder() as folder:
                unpack(upload.getvalue(), folder)
            state.put("wish", Wish(folder, upload.name, is_uploaded=True))
            state.put("weights_zip_id", upload.file_id)
            state.put("weights_folder", folder)
            st.rerun()
    if state.get("weights") is not None and st.button("Back to the embedded weights"):
        state.put("weights", None)
        st.rerun()


def _wish_for_hub() -> None:
    source = st.session_state["hub_source"].strip()
    if not source:
        return
    wish = Wish(source, source)
    try:
        parse_source(source)
        # A folder of that name on the server is not for visitors to name.
        if not is_hub_source(source):
            raise HubError(f"{source} is not a name on the Hub; write org/name@revision")
    except HubError as error:
        wish.error = str(error)
    state.put("wish", wish)


def unpack(content: bytes, folder: Path) -> Path:
    """The files of a weights folder out of a zip, at its top or in one folder of it; nothing else is written.

    Raises
    ------
    WeightsError : it is no zip, lacks a file, or a file is larger than weights can be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {Path(info.filename).name: info for info in archive.infolist() if not info.is_dir()}
            for name, limit in MAX_BYTES.items():
                if name not in members:
                    raise WeightsError(f"the zip has no {name}; zip the whole weights folder")
                if members[name].file_size > limit:
                    size = members[name].file_size
                    raise WeightsError(f"{name} in the zip has {size:,} bytes; weights need fewer than {limit:,}")
                with archive.open(members[name]) as file:
                    (folder / name).write_bytes(file.read(limit))
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, RuntimeError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"the zip cannot be read ({reason}); zip the weights folder again") from None
    return folder
