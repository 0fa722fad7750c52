"""Slides that are read over a network: where they are, and what is said where they cannot be had.

Only the command line and Python make addresses, of what their user typed; the app hands on paths alone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nsl.errors import SlideError, in_a_line
from nsl.slides.reader import any_error_told

if TYPE_CHECKING:
    from zarr.abc.store import Store

_ADDRESS = re.compile(r"(https?|s3)://")
# What fsspec needs besides itself, and how to get it.
_INSTALL = {"http": "pip install -r requirements-remote.txt", "s3": "pip install s3fs"}
_CONNECT_SECONDS, _READ_SECONDS = 20, 60


@dataclass(frozen=True)
class Address:
    """Of a folder of OME-Zarr on a server of HTTP, or in a bucket of S3, which is only read."""

    url: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if not (parts.netloc and self.name):
            raise SlideError(f"{self.url} names no slide; give the address of a folder of OME-Zarr")
        if parts.query or "@" in parts.netloc:  # results and logs would hold what opens them
            raise SlideError(
                f"the address of {self.name} holds a password or a signature; leave it out, and give it to your .netrc "
                "or to the settings of S3"
            )

    @property
    def name(self) -> str:
        """Its last part, as a file has a name."""
        return urlsplit(self.url).path.rstrip("/").rpartition("/")[2]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    def store(self) -> Store:
        """What zarr reads from.

        Raises SlideError: what fsspec needs for such an address is not installed.
        """
        from zarr.storage import FsspecStore

        kind = "s3" if self.url.startswith("s3:") else "http"
        try:
            if kind == "s3":
                import s3fs  # noqa: F401

                seconds = {"connect_timeout": _CONNECT_SECONDS, "read_timeout": _READ_SECONDS}
                options: dict[str, Any] = {"config_kwargs": seconds}
            else:
                from aiohttp import ClientTimeout

                timeout = ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
                # Proxies and passwords are those of the environment and of .netrc.
                options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}
        except ImportError as error:
            needed = error.name
            raise SlideError(f"to read {self.name} takes {needed}, which is not installed; {_INSTALL[kind]}") from None
        options |= {"asynchronous": True, "skip_instance_cache": True}
        return FsspecStore.from_url(self.url, storage_options=options, read_only=True)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """SlideError, in a sentence, for whatever goes wrong on the way."""
        with any_error_told(self.name):
            try:
                yield
            except FileNotFoundError:
                raise SlideError(f"there is no OME-Zarr at {self.url}; check the address") from None
            except TimeoutError:
                raise SlideError(
                    f"{self.name}: {urlsplit(self.url).netloc} has not answered in {_READ_SECONDS} s; try again later"
                ) from None
            except Exception as error:
                if not _is_of_network(error):
                    raise
                raise SlideError(
                    f"{self.name} cannot be read from {urlsplit(self.url).netloc} ({in_a_line(error)}); check the "
                    "address and the network"
                ) from error


def address_of(given: object) -> Address | None:
    """The address that a text is; None for what is a path.

    Raises SlideError: the address cannot be read from.
    """
    return Address(given) if isinstance(given, str) and _ADDRESS.match(given) else None


def path_or_address(given: str) -> Path | Address:
    """What a user names a slide by."""
    return address_of(given) or Path(given)


def _is_of_network(error: Exception) -> bool:
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in (
        "aiohttp",
        "botocore",
        "aiobotocore",
    )
