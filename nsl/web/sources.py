"""Which weights a session predicts with: the embedded ones at once, others when they have come."""

import io
import lzma
import threading
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from nsl.errors import HubError, NslError, WeightsError
from nsl.web.session import server, state, uploads
from nsl.web.session.jobs import fault_told
from nsl.weights.config import CONFIG, WeightsConfig
from nsl.weights.folder import default_source, embedded_config, load_weights
from nsl.weights.hub import is_hub_source, parse_source
from nsl.weights.hub_cache import MAX_BYTES, OPTIONAL
from nsl.weights.weights import Weights

# Loading keeps the processor busy while the page is still on its way to the browser.
START_AFTER_S = 1.0
UPLOADED = "Uploaded zip"
MAX_ZIP_MB = 50


@dataclass
class WeightsRequest:
    """Weights asked for; a thread fetches and loads them, so that no page waits for a network."""

    source: str | Path
    label: str  # as the user knows it
    is_uploaded: bool = False
    weights: Weights | None = None
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
        try:
            weights = load_weights(self.source)
            # What it was called by who uploaded it may name a patient, and goes into every result.
            self.weights = replace(weights, source=UPLOADED) if self.is_uploaded else weights
        except NslError as error:
            self.error = str(error)
            if isinstance(self.source, Path):  # an upload, in a folder that the user never saw
                self.error = self.error.replace(str(self.source), self.label).replace(self.source.name, self.label)
        except MemoryError:
            self.error = f"{self.label} needs more memory than this computer has"
        except Exception as error:
            self.error = fault_told(f"loading {self.label}", error)


@dataclass
class WeightsChoice:
    """What a session predicts with."""

    weights: Weights | None = None  # None for the embedded ones
    request: WeightsRequest | None = None  # weights that have not come yet, or why they did not
    is_begun: bool = False  # whether NSL_WEIGHTS was looked at
    upload_id: str | None = None  # of the zip brought last
    folder: Path | None = None  # where it was unpacked

    def use(self, weights: Weights | None) -> None:
        """Predict with these from now on; what was asked for before would replace them when it comes."""
        self.weights, self.request = weights, None


def choice() -> WeightsChoice:
    """What this session predicts with."""
    return state.of_session(WeightsChoice)


def begin() -> None:
    """Once a session: ask for what NSL_WEIGHTS names."""
    if not choice().is_begun:
        choice().is_begun = True
        if default_source():
            choice().request = WeightsRequest(default_source(), default_source())


def start() -> None:
    """Begin with what was asked for; it waits until the page has gone out, which it would hold up by a second."""
    request = choice().request
    if request is not None and request.thread is None and request.error is None:
        request.start()


def collect() -> None:
    """Take weights that have come; those in use before stay where they have not."""
    request = choice().request
    if request is not None and not request.is_running and request.weights is not None:
        choice().use(request.weights)


def ask_hub(source: str) -> None:
    """Ask for weights on the Hub; a name that cannot be one is refused at once."""
    request = WeightsRequest(source, source)
    try:
        parse_source(source)
        # A folder of that name on the server is not for visitors to name.
        if not is_hub_source(source):
            raise HubError(f"{source} is not a name on the Hub; write org/name@revision")
    except HubError as error:
        request.error = str(error)
    choice().request = request


def take_zip(upload: UploadedFile) -> None:
    """Unpack an uploaded zip and ask for its weights; NslError where it is too large or `unpack` refuses it."""
    server.check_upload(upload.name, upload.size, MAX_ZIP_MB)
    with uploads.new_folder() as folder:
        unpack(upload.getvalue(), folder)
    choice().request = WeightsRequest(folder, upload.name, is_uploaded=True)
    choice().upload_id, choice().folder = upload.file_id, folder


def in_use() -> Weights:
    """Weights to predict with now."""
    return choice().weights or load_default_weights()


def are_in_use(weights: Weights) -> bool:
    """Whether a run now would predict with these."""
    return weights is in_use() or weights.fingerprint == in_use().fingerprint


@st.cache_resource(show_spinner="Loading the weights")
def load_default_weights() -> Weights:
    """The embedded weights, shared by all sessions; they are never changed."""
    return load_weights()


def config_in_use() -> WeightsConfig:
    """What they say of themselves; for the embedded ones without loading them."""
    weights = choice().weights
    return weights.config if weights else embedded_config()


def tissue(config: WeightsConfig) -> str:
    """What the weights were learned on, as far as they say."""
    return config.training_data.tissue or "tissue that is not stated"


def unpack(content: bytes, folder: Path) -> Path:
    """The files of a weights folder out of a zip, at its top or in one folder of it; nothing else is written.

    Raises WeightsError: it is no zip, lacks a file, or a file is larger than weights can be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _members(archive)
            for name, limit in MAX_BYTES.items():
                if name not in members and name in OPTIONAL:
                    continue
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


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of a weights folder by their names: those beside the one config.json; WeightsError at two of a name."""
    paths = [(info.filename.replace("\\", "/").rpartition("/"), info) for info in archive.infolist()]
    paths = [(folder, name, info) for (folder, _, name), info in paths if "__MACOSX" not in folder.split("/")]
    folders = [folder for folder, name, _ in paths if name == CONFIG]
    members: dict[str, zipfile.ZipInfo] = {}
    for folder, name, info in paths:
        if name not in MAX_BYTES or (folder not in folders[:1] and name != CONFIG):
            continue
        if name in members:
            raise WeightsError(f"the zip holds {name} twice; zip one weights folder")
        if info.flag_bits & 1:
            raise WeightsError("the zip is protected by a password; zip the weights folder without one")
        members[name] = info
    return members
