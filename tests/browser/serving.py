"""A server of the app, as the README starts it, on a free port."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
COMMAND = (sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", "--server.port=PORT")


@contextmanager
def served(log: Path, environment: Mapping[str, str] | None = None, command: Sequence[str] = COMMAND) -> Iterator[str]:
    """The address of a server once it answers; it ends with the block. What it prints goes to `log`."""
    with started(log, environment, command) as (address, server):
        deadline = time.monotonic() + START_SECONDS
        while not is_healthy(address):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield address


@contextmanager
def started(
    log: Path, environment: Mapping[str, str] | None = None, command: Sequence[str] = COMMAND
) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address of a server that may not answer yet, and its process; PORT in the command is a free one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(word).replace("PORT", str(port)) for word in command]
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=ROOT, env=environment or os.environ, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.terminate()
        server.wait(timeout=20)


def is_healthy(address: str) -> bool:
    """Whether the server answers."""
    try:
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False
