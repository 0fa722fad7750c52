"""Folders that servers leave behind, and those in use."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nsl.web import scratch

LONG_AGO = 1_000_000_000


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def _server(after: str) -> tuple[subprocess.Popen, str]:
    """Another server and its folder, with a visitor's slide in it; `after` is what that server does then."""
    code = (
        "from nsl.web import scratch; (scratch.folder() / 'slide.svs').write_bytes(b'tissue'); "
        f"import os; os.utime(scratch.folder(), ({LONG_AGO}, {LONG_AGO})); print(scratch.folder(), flush=True); {after}"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    return server, server.stdout.readline().strip()


def test_what_a_killed_server_stored_is_deleted_when_another_starts(tmp_path):
    server, left = _server("input()")
    server.kill()
    server.wait()
    assert (Path(left) / "slide.svs").exists()
    scratch.clear_abandoned()
    assert not Path(left).exists()


def test_the_folder_of_a_server_that_runs_stays_and_goes_with_it(tmp_path):
    server, own = _server("input()")
    scratch.clear_abandoned()
    assert (Path(own) / "slide.svs").exists()
    server.communicate("\n")
    assert not Path(own).exists()


def test_a_new_folder_a_link_and_another_users_are_left(tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    (tmp_path / "nsl-server-link").symlink_to(outside)
    new, others = tmp_path / "nsl-server-new", tmp_path / "nsl-server-others"
    new.mkdir()
    scratch.clear_abandoned()
    others.mkdir()
    os.utime(others, (LONG_AGO, LONG_AGO))
    monkeypatch.setattr(os, "getuid", lambda: others.stat().st_uid + 1)
    scratch.clear_abandoned()
    assert new.is_dir()
    assert others.is_dir()
    assert (outside / "file").read_text() == "kept"
