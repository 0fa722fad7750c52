"""OME-Zarr over HTTP from a server of this computer; of S3 only what is said where it cannot be read."""

import functools
import http.server
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nsl.cli import main
from nsl.errors import SlideError
from nsl.slides import address
from nsl.slides.address import address_of
from nsl.slides.slide import NOT_CHECKED, open_slide
from tests.slides.test_ome_zarr import _write


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and answers 503 where a path holds "busy"."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "busy" in self.path:
            self.send_error(503)
        else:
            super().do_GET()

    def list_directory(self, path: str) -> None:  # as most servers of data, it lists no folder
        self.send_error(404)

    def log_message(self, *args) -> None:
        self.server.asked.append(self.path)


@pytest.fixture
def server(tmp_path) -> Iterator[http.server.ThreadingHTTPServer]:
    """Of the folder `tmp_path`; its `asked` lists the paths that were asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=tmp_path))
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url(server: http.server.ThreadingHTTPServer, name: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{name}"


@pytest.mark.parametrize("version", [2, 3])
def test_a_slide_read_over_http_is_the_one_of_the_folder(section, tmp_path, server, version):
    pixels = section.pixels[:512, :640]
    path = _write(tmp_path / "slide.ome.zarr", pixels, version=version)
    with open_slide(path) as local, open_slide(url(server, path.name)) as slide:
        assert (slide.format, slide.size, slide.mpp, slide.levels) == (
            local.format,
            local.size,
            local.mpp,
            local.levels,
        )
        np.testing.assert_array_equal(slide.read(90, 50, 330, 210), pixels[50:260, 90:420])
        np.testing.assert_array_equal(slide.thumbnail(128), local.thumbnail(128))
        assert slide.sha256 == NOT_CHECKED


def test_only_the_chunks_that_are_needed_are_fetched(section, tmp_path, server):
    path = _write(tmp_path / "slide.zarr", section.pixels[:512, :640])
    with open_slide(url(server, path.name)) as slide:
        server.asked.clear()
        slide.read(0, 0, 100, 100)
    assert server.asked == ["/slide.zarr/0/0.0.0.0.0"] or set(server.asked) == {
        f"/slide.zarr/0/0.{channel}.0.0.0" for channel in range(3)
    }


def test_a_slide_over_http_is_predicted_and_its_results_say_that_it_was_not_checked(section, tmp_path, server, capsys):
    _write(tmp_path / "slide.zarr", section.pixels, mpp=1.0)
    command = ["predict", url(server, "slide.zarr"), "--genes", "ERBB2", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    chunks = [path for path in server.asked if "/0." in path]
    assert len(chunks) == len(set(chunks)) > 50  # each once
    assert main(["predict", str(tmp_path / "slide.zarr"), *command[2:-1], str(tmp_path / "local")]) == 0
    over, local = (tmp_path / name / "slide.csv" for name in ("out", "local"))
    assert over.read_bytes() == local.read_bytes()
    told = json.loads((tmp_path / "out/slide.provenance.json").read_text())
    assert told["slide_sha256"] == "not checked"
    capsys.readouterr()
    assert main(["info", url(server, "slide.zarr")]) == 0
    out, errors = capsys.readouterr()
    assert "sha256   not checked" in out
    assert errors == ""  # of connections that were not closed, say


def test_a_list_may_name_addresses_and_these_are_predicted_anew(section, tmp_path, server, capsys):
    for name in ("a", "b"):
        _write(tmp_path / f"{name}.zarr", section.pixels, mpp=1.0)
    (tmp_path / "slides.csv").write_text(f"slide\n{url(server, 'a.zarr')}\nb.zarr\n")
    command = ["cohort", str(tmp_path / "slides.csv"), "--genes", "ERBB2", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert "2 done →" in capsys.readouterr().out
    assert main(command) == 0
    assert "1 done, 1 done before →" in capsys.readouterr().out


# What goes wrong


def said(text: str) -> str:
    with pytest.raises(SlideError) as told, open_slide(text) as slide:
        slide.read(0, 0, *slide.size)
    return str(told.value)


def test_what_cannot_be_had_is_told_in_one_sentence(section, tmp_path, server):
    _write(tmp_path / "slide.zarr", section.pixels[:512, :640])
    chunk = sorted((tmp_path / "slide.zarr/0").glob("0.*"))[0]
    chunk.write_bytes(chunk.read_bytes()[:20])
    assert said(url(server, "slide.zarr")) == "slide.zarr is damaged or incomplete; copy or export it again"
    missing = url(server, "none.zarr")
    assert said(missing) == f"there is no OME-Zarr at {missing}; check the address"
    assert "cannot be read from 127.0.0.1" in said(url(server, "busy.zarr"))
    assert "503" in said(url(server, "busy.zarr"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unheard = f"http://127.0.0.1:{free.getsockname()[1]}/slide.zarr"
    assert "check the address and the network" in said(unheard)


def test_a_server_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(address, "_READ_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "has not answered in 0.2 s" in said(f"http://127.0.0.1:{silent.getsockname()[1]}/slide.zarr")


@pytest.mark.parametrize("text", ["https://jane:secret@host/slide.zarr", "https://host/slide.zarr?X-Signature=secret"])
def test_an_address_that_opens_its_slide_to_whoever_reads_it_is_refused(text):
    assert "the address of slide.zarr holds a password or a signature" in said(text)
    assert "secret" not in said(text)


@pytest.mark.parametrize(("text", "module"), [("http://host/a.zarr", "aiohttp"), ("s3://bucket/a.zarr", "s3fs")])
def test_what_is_not_installed_is_named(monkeypatch, text, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert said(text).startswith(f"to read a.zarr takes {module}, which is not installed; pip install ")


def test_a_path_is_never_taken_for_an_address(tmp_path, monkeypatch):
    # The app opens paths alone: nothing that a visitor types can have it ask another computer.
    monkeypatch.chdir(tmp_path)
    assert address_of(Path("https://host/slide.zarr")) is None
    with pytest.raises(SlideError, match="does not exist"), open_slide(Path("https://host/a.zarr")):
        pass
