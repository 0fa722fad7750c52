"""Weights on the Hugging Face Hub: which text names them, and how a whole, checked copy comes into the local cache.

The download is ours: `hf_hub_download` retries for 23 s to minutes, cannot be interrupted, and lets a file into the
cache that nobody compared with its checksum. huggingface_hub is imported only where it is needed.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from nsl import __version__
from nsl.errors import HubError, in_a_line
from nsl.weights.hub_cache import MAX_BYTES, OPTIONAL, cached_commit, checksum, is_commit, note_revision, store

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

T = TypeVar("T")
Alive = Callable[[], None]

SILENCE_S = 2.0
"""How long a server may be silent; then it counts as unreachable."""
PIECE_BYTES = 1024
"""What must arrive within `SILENCE_S` for a download to count as moving: a byte a second would never end."""
IDENTITY = {"library_name": "nsl", "library_version": __version__}

_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_SOURCE = re.compile(rf"({_NAME}/{_NAME})(?:@(.{{0,150}}))?")
_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._+/-]{0,98}[A-Za-z0-9._+-])?")
_ADDRESS = re.compile(r"(https?|hf)://")


@dataclass(frozen=True)
class Source:
    """Weights on the Hub."""

    repo: str
    """org/name"""
    revision: str
    """A tag, a branch or a commit."""

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class Fetched:
    """A weights folder that came from the Hub."""

    folder: Path
    """In the cache; not to be written to."""
    commit: str
    """What the revision stood for."""


def is_hub_source(source: str | os.PathLike) -> bool:
    """Whether this names weights on the Hub, and not a folder.

    Text of the form org/name or org/name@revision does, unless a file or folder of that name exists, or, without a
    revision, a folder org: then the name of a folder was mistyped, which is nobody else's business. Everything else is
    a path: what begins with a dot, a slash, a tilde or a drive, holds a backslash, or has not exactly one slash before
    the @; and any `Path`. A web address counts as the Hub, for `parse_source` says how to write it.
    """
    if not isinstance(source, str):
        return False
    if not _SOURCE.fullmatch(source):
        return bool(_ADDRESS.match(source))
    return not Path(source).exists() and ("@" in source or not Path(source).parent.is_dir())


def parse_source(text: str) -> Source:
    """Repository and revision of "org/name@revision"; the revision is main where none is given.

    Raises HubError: the text has another form, or a name that the Hub does not allow.
    """
    match = _SOURCE.fullmatch(text)
    repo, revision = match.groups() if match else ("", "")
    if not match or "--" in repo or ".." in repo or repo.endswith(".git"):
        raise HubError(f"{text!r} is not a name on the Hub; write org/name or org/name@revision, without a web address")
    if revision is None:
        return Source(repo, "main")
    if not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision:
        raise HubError(f"{text!r} has no revision that can be; after the @ write a tag, a branch or a commit")
    return Source(repo, revision)


def fetch(
    source: str, *, endpoint: str | None = None, cache_dir: str | os.PathLike | None = None, token: str | None = None
) -> Fetched:
    """The weights folder "org/name@revision" in the cache, brought there from the Hub if need be.

    A commit that is cached, and anything while HF_HUB_OFFLINE is set, makes no request. Otherwise the Hub is asked what
    the revision stands for, and what is missing of that commit is downloaded. Every file is compared with the checksum
    the Hub gives, before it enters the cache and when it is used again. Only the files of `MAX_BYTES` are asked for.

    endpoint, cache_dir, token : where the Hub is, where its cache lies, and a token that may read; by default what
        HF_ENDPOINT, HF_HOME and HF_TOKEN say.

    Raises HubError: the source is malformed, not on the Hub or not open to the token; the Hub is out of reach, silent
        for `SILENCE_S`, or sends something else than it announced; a file is larger than `MAX_BYTES`; or the cache
        cannot be written.
    """
    import httpx2
    from huggingface_hub import constants

    wanted = parse_source(source)
    endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
    cache = Path(cache_dir or constants.HF_HUB_CACHE) / "--".join(("models", *wanted.repo.split("/")))
    commit = cached_commit(cache, wanted.revision)
    if commit and (commit == wanted.revision or constants.is_offline_mode()):
        return Fetched(cache / "snapshots" / commit, commit)
    if constants.is_offline_mode():
        raise HubError(
            f"{wanted} is not in the cache, whole and undamaged, and HF_HUB_OFFLINE forbids to fetch it; "
            "unset HF_HUB_OFFLINE, or give a folder"
        )
    try:
        commit = watched(lambda alive: _download(wanted, endpoint, cache, token, alive), SILENCE_S)
    except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        refusal = _refusal(error, wanted, host(endpoint))
        instead = f"use {wanted.repo}@{commit}, which is cached" if commit else "give a folder"
        failure = f"{wanted} cannot be fetched: {trouble(error, host(endpoint))}, or {instead}"
        raise HubError(refusal or failure) from None
    return Fetched(cache / "snapshots" / commit, commit)


def watched(work: Callable[[Alive], T], silence_s: float) -> T:
    """What `work(alive)` returns. It runs in a thread, which is left behind when it does not call `alive` for long.

    In a thread, because no timeout of a socket bounds the look-up of a name, or an answer of one byte a second.

    Raises TimeoutError: `alive` was not called for `silence_s` seconds.
    Raises Exception: whatever `work` raises.
    """
    signs: SimpleQueue[None] = SimpleQueue()
    result: Future[T] = Future()
    left = threading.Event()

    def alive() -> None:
        if left.is_set():
            raise TimeoutError("nobody waits any more")
        signs.put(None)

    def run() -> None:
        try:
            result.set_result(work(alive))
        except Exception as error:
            result.set_exception(error)
        signs.put(None)

    threading.Thread(target=run, daemon=True).start()
    try:
        while not result.done():
            signs.get(timeout=silence_s)
    except Empty:
        raise TimeoutError(f"silent for {silence_s:g} s") from None
    finally:
        left.set()
    return result.result()


def host(endpoint: str) -> str:
    """The endpoint as a message may show it: without a user's name and password."""
    return (endpoint.partition("://")[2] or endpoint).partition("/")[0].rpartition("@")[2]


def trouble(error: Exception, where: str) -> str:
    """What is wrong with the Hub or the way to it, and what to do, without a full stop."""
    import httpx2

    status = status_of(error)
    detail = in_a_line(error)
    if status == 429:
        return f"{where} has had too many requests (429); wait some minutes, or set HF_TOKEN"
    if status is not None:
        return f"{where} answers with error {status}; try again later"
    no_way = httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError
    no_address = httpx2.InvalidURL | httpx2.UnsupportedProtocol
    if isinstance(error, no_way | no_address):
        return f"{where} cannot be reached ({detail}); check the network, the proxy and HF_ENDPOINT"
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return f"{where} does not answer in time ({detail}); try again, or check the network and the proxy"
    if isinstance(error, UnicodeEncodeError):
        return "HF_TOKEN holds a character that no token has; copy the token again"
    return f"{where} did not answer as a Hub does ({detail}); try again, or check the network and the proxy"


def status_of(error: Exception) -> int | None:
    """HTTP status of the answer an error is about, if it is about one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _refusal(error: Exception, source: Source, where: str) -> str | None:
    """Why the Hub does not give what it was asked for; None if it is another trouble."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RevisionNotFoundError):
        return f"{source.repo} has no revision {source.revision}; choose a tag, a branch or a commit from its page"
    if isinstance(error, GatedRepoError):
        return f"{source.repo} is gated; accept its terms on its page at {where}, and set HF_TOKEN to a token of yours"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{source.repo} is neither a folder here nor a repository at {where} that you may read; "
            "check the name, or set HF_TOKEN to a token that may read it"
        )
    if status_of(error) in (401, 403):
        return f"{where} refuses {source.repo} ({status_of(error)}); set HF_TOKEN to a token that may read it"
    return None


# Downloading


def _download(source: Source, endpoint: str, cache: Path, token: str | None, alive: Alive) -> str:
    """Bring the source into the cache, unless it is there; returns its commit."""
    probe = _ask(source, "config.json", endpoint, token)
    alive()
    if probe is None:
        raise HubError(f"{source} has no config.json, so it does not hold weights of nsl; check the name")
    commit = probe.commit_hash
    if not cached_commit(cache, commit):
        pinned, contents = Source(source.repo, commit), {}
        for name in MAX_BYTES:
            announced = probe if name == "config.json" else _ask(pinned, name, endpoint, token)
            alive()
            if announced is None and name in OPTIONAL:
                continue
            if announced is None:
                raise HubError(f"{source} has no {name}; publish the whole weights folder")
            contents[name] = announced.etag, _content(pinned, name, announced, endpoint, token, alive)
        store(cache, commit, contents)
    if source.revision != commit:
        note_revision(cache, source.revision, commit)
    return commit


def _ask(source: Source, name: str, endpoint: str, token: str | None) -> HfFileMetadata | None:
    """Commit, checksum and size that the Hub announces for a file; None if it has no such file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    url = hf_hub_url(source.repo, name, revision=source.revision, endpoint=endpoint)
    try:
        announced = get_hf_file_metadata(url, token=token, timeout=SILENCE_S, endpoint=endpoint, **IDENTITY)
    except RemoteEntryNotFoundError:
        return None
    if not is_commit(announced.commit_hash or ""):
        raise HubError(
            f"what answers at {host(endpoint)} is not a Hugging Face Hub but perhaps a login page; "
            "sign in to the network with a browser, or check HF_ENDPOINT"
        )
    if is_commit(source.revision) and announced.commit_hash != source.revision:
        raise HubError(f"{host(endpoint)} answers with commit {announced.commit_hash} for {source}; check HF_ENDPOINT")
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", announced.etag or ""):
        raise HubError(f"{host(endpoint)} gives no checksum for {name} of {source}; check HF_ENDPOINT")
    if announced.size is not None:
        _check_size(source, name, announced.size)
    return announced


def _content(
    source: Source, name: str, announced: HfFileMetadata, endpoint: str, token: str | None, alive: Alive
) -> bytes:
    """The file, in memory, compared with what was announced."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(source.repo, name, revision=source.revision, endpoint=endpoint)
    headers = build_hf_headers(token=token, **IDENTITY) | {"accept-encoding": "identity"}
    content = bytearray()
    with get_session().stream("GET", url, headers=headers, timeout=SILENCE_S, follow_redirects=True) as response:
        response.raise_for_status()
        alive()
        for piece in response.iter_bytes(PIECE_BYTES):
            alive()
            content += piece
            _check_size(source, name, len(content))
    seen = checksum(content, announced.etag)
    if seen != announced.etag or announced.size not in (None, len(content)):
        raise HubError(
            f"{name} of {source} arrived with {len(content):,} bytes and checksum {seen[:12]}…, not the "
            f"{announced.etag[:12]}… announced; try again, or check what stands between you and {host(endpoint)}"
        )
    return bytes(content)


def _check_size(source: Source, name: str, size: int) -> None:
    if size > MAX_BYTES[name]:
        raise HubError(
            f"{name} of {source} has {size:,} bytes, weights of 100,000 genes need at most {MAX_BYTES[name]:,}; "
            "check the name"
        )
