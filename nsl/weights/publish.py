"""Put a weights folder on the Hugging Face Hub, in one commit that can be pinned."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from dataclasses import dataclass, replace
from pathlib import Path

from nsl.errors import HubError, WeightsError
from nsl.weights.hub import IDENTITY, host, parse_source, status_of, trouble, watched
from nsl.weights.hub_cache import MAX_BYTES, OPTIONAL

PATIENCE_S = 120.0
"""For an upload of a few hundred kilobytes, with the retries of the Hub's client."""


@dataclass(frozen=True)
class SentFile:
    path: str
    """In the repository."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Publication:
    """What was, or would be, sent to the Hub."""

    repo: str
    private: bool
    """Whether the repository is (or, not sent yet, is to be) open to its members alone."""
    files: tuple[SentFile, ...]
    commit: str | None = None
    """None where nothing was sent."""

    @property
    def pin(self) -> str | None:
        """What `load_weights` takes to have these very files, for ever."""
        return f"{self.repo}@{self.commit}" if self.commit else None


def publish(
    folder: str | os.PathLike,
    repo: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> Publication:
    """Send the files of a weights folder, and nothing else that lies in it, to the repository org/name.

    The repository is made if it is missing. Files that are the same there make no new commit.

    private : make the repository private; one that exists has to be so already.
    dry_run : tell what would be sent, without a request.
    endpoint, token : where the Hub is, and a token that may write; by default what HF_ENDPOINT and HF_TOKEN say.

    Raises WeightsError: the folder cannot be loaded, lacks its model card or holds a file too large to be fetched
        again.
    Raises HubError: the name is not one of a repository; it exists and is public though it should be private; or the
        Hub is out of reach, refuses the token or the model card, or needs more than `PATIENCE_S`.
    """
    source = parse_source(repo)
    if "@" in repo:
        raise HubError(f"{repo} names a revision, but the Hub makes that itself; publish to {source.repo}")
    contents = _contents(Path(folder))
    files = tuple(SentFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items())
    publication = Publication(source.repo, private, files)
    return publication if dry_run else _sent(publication, contents, endpoint, token)


def _contents(folder: Path) -> dict[str, bytes]:
    from nsl.weights.folder import load_weights

    load_weights(folder)
    contents = {}
    for name in sorted(MAX_BYTES):
        path = folder / name
        if name in OPTIONAL and not path.exists():
            continue
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            raise WeightsError(
                f"{folder.name}/{name} cannot be read ({error.strerror or error}); copy it again or retrain"
            ) from None
        if len(contents[name]) > MAX_BYTES[name]:
            raise WeightsError(
                f"{folder.name}/{name} has {len(contents[name]):,} bytes and nobody could fetch it again; "
                f"keep it under {MAX_BYTES[name]:,}"
            )
    return contents


def _sent(publication: Publication, contents: dict[str, bytes], endpoint: str | None, token: str | None) -> Publication:
    import httpx2
    from huggingface_hub import constants

    where, repo = host(endpoint or constants.ENDPOINT), publication.repo
    if constants.is_offline_mode():
        raise HubError(f"HF_HUB_OFFLINE forbids to publish to {repo}; unset it, or try with --dry-run")
    try:
        with _quiet_client():
            return watched(lambda alive: _send(publication, contents, endpoint, token), PATIENCE_S)
    except (OSError, ValueError, RuntimeError, KeyError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        if status_of(cause) in (401, 403, 404):
            raise HubError(
                f"{where} refuses to publish to {repo} ({status_of(cause)}); "
                "set HF_TOKEN to a token that may write there"
            ) from None
        if "Invalid metadata in README.md" in str(error):
            reason = " ".join(str(error).split())
            raise HubError(f"{where} refuses the model card ({reason}); mend the front matter of README.md") from None
        raise HubError(f"publishing to {repo} failed: {trouble(cause, where)}") from None


@contextlib.contextmanager
def _quiet_client():
    """Without the Hub client's bars, and its advice on storage, which is not for who publishes."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    verbosity, bars = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity_error()
    if bars:
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            enable_progress_bars()


def _send(publication: Publication, contents: dict[str, bytes], endpoint: str | None, token: str | None) -> Publication:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    repo = publication.repo
    api = HfApi(endpoint=endpoint, token=token, **IDENTITY)
    try:
        there = api.model_info(repo)
    except RepositoryNotFoundError:  # a token that may write to a repository need not be one that may make it
        api.create_repo(repo, private=publication.private, exist_ok=True)
        there = api.model_info(repo)
    if publication.private and not there.private:
        raise HubError(f"{repo} exists and is public, nothing was sent; make it private in its settings first")
    # As a stream, for then the client uploads by plain HTTP; bytes go to a second server that mirrors do not have.
    operations = [CommitOperationAdd(name, io.BytesIO(data)) for name, data in contents.items()]
    commit = api.create_commit(repo, operations, commit_message="Publish weights of nsl").oid
    return replace(publication, private=bool(there.private), commit=commit)
