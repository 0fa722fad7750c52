"""Folders that servers leave behind, those in use, and memory that was freed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nsl.web.session import server

LONG_AGO = 1_000_000_000


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def _server(after: str) -> tuple[subprocess.Popen, str]:
    """Another server and its folder, with a visitor's slide in it; `after` is what that server does then."""
    code = (
        "from nsl.web.session import server; (server.folder() / 'slide.svs').write_bytes(b'tissue'); "
        f"import os; os.utime(server.folder(), ({LONG_AGO}, {LONG_AGO})); print(server.folder(), flush=True); {after}"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    return other, other.stdout.readline().strip()


def test_what_a_killed_server_stored_is_deleted_when_another_starts(tmp_path):
    other, left = _server("input()")
    other.kill()
    other.wait()
    assert (Path(left) / "slide.svs").exists()
    server.clear_abandoned()
    assert not Path(left).exists()


def test_the_folder_of_a_server_that_runs_stays_and_goes_with_it(tmp_path):
    other, own = _server("input()")
    server.clear_abandoned()
    assert (Path(own) / "slide.svs").exists()
    other.communicate("\n")
    assert not Path(own).exists()


def test_a_new_folder_a_link_and_another_users_are_left(tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    (tmp_path / "nsl-server-link").symlink_to(outside)
    new, others = tmp_path / "nsl-server-new", tmp_path / "nsl-server-others"
    new.mkdir()
    server.clear_abandoned()
    others.mkdir()
    os.utime(others, (LONG_AGO, LONG_AGO))
    monkeypatch.setattr(os, "getuid", lambda: others.stat().st_uid + 1)
    server.clear_abandoned()
    assert new.is_dir()
    assert others.is_dir()
    assert (outside / "file").read_text() == "kept"


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries have thresholds of their own")
def test_large_pieces_that_were_freed_go_back_to_the_system_though_small_things_stay_between():
    code = """
import re, sys
from pathlib import Path
import numpy as np
from nsl.web.session import server

def rss_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

if sys.argv[1] == "held":
    server.hold_memory_in_pieces()
np.ones(30 * 2**20, np.uint8)  # freed at once: as large as the C library's own threshold grows
before, small, large = rss_mb(), [], []
for _ in range(20):
    large.append(np.ones(6 * 2**20, np.uint8))
    small.append(bytearray(100_000))
large.clear()
print(rss_mb() - before)
"""

    def left_mb(how: str) -> float:
        # Dask sets such for the workers it starts, and for the process that it starts them from.
        own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        command = [sys.executable, "-c", code, how]
        return float(subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout)

    assert left_mb("held") < 5
    assert left_mb("as it is") > 60
