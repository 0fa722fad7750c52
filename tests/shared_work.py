"""Work that takes seconds and always comes to the same, done once for all processes of a run of the tests."""

import functools
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

Made = TypeVar("Made")
FOLDER = "NSL_TESTS_SHARED"
"""Names the environment variable of the folder where it is kept; every process does its own where it is not set."""


def once(what: tuple, make: Callable[[], Made]) -> Made:
    """What `make` gives, or gave to whoever asked for the same first; each gets an object of its own."""
    if FOLDER not in os.environ:
        return make()
    path = Path(os.environ[FOLDER]) / hashlib.sha256(repr(what).encode()).hexdigest()
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            path.write_bytes(pickle.dumps(make()))
    return pickle.loads(path.read_bytes())


def kept(make: Callable[[], Made]) -> Callable[[], Made]:
    """The function, asked once a process, and made once for all."""
    return functools.cache(lambda: once((make.__module__, make.__name__), make))
