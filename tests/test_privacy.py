"""What is private stays: no request goes out, and no name, path or EXIF gets into a file, a log or an address."""

import io
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nsl.export.files import csv_files, geojson_text, h5ad_bytes
from nsl.export.print import map_png
from nsl.prediction import predict
from nsl.result import SlidePicture
from nsl.slides.overview import overview_of
from nsl.slides.slide import open_slide
from tests.browser.serving import served
from tests.visitor import visiting

# Python tells a hook of every name that is looked up and every address that is spoken to, before it is.
HOOK = """
import os, sys
LOCAL = ("127.", "::1", "localhost", "0.0.0.0", "::")
def note(event, arguments):
    if event == "socket.getaddrinfo":
        host = str(arguments[0] or "localhost")
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
    else:
        return
    if not host.startswith(LOCAL):
        with open(os.environ["ASKED"], "a") as file:
            file.write(host + chr(10))
        raise OSError(113, "no route to host")
sys.addaudithook(note)
"""
SECRET = "Doe_Jane_1950"


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """Of a server that can speak to nobody; the file `asked` in `tmp_path` says with whom it would have."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(HOOK)
    (tmp_path / "asked").touch()
    own = {name: value for name, value in os.environ.items() if not name.startswith(("NSL_", "HF_"))}
    return own | {"PYTHONPATH": str(tmp_path / "hook"), "ASKED": str(tmp_path / "asked"), "HF_HOME": str(tmp_path)}


@pytest.fixture
def named_jpeg(section) -> bytes:
    """A photograph whose EXIF names a patient, a place and a camera's owner."""
    image, exif = Image.fromarray(section.pixels), Image.Exif()
    exif[0x010E], exif[0x013B], exif[0xA430] = f"{SECRET} liver", SECRET, SECRET
    exif.get_ifd(0x8825)[0x1D] = SECRET
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, comment=SECRET.encode(), quality=95)
    return buffer.getvalue()


def _predict_in(visitor, name: str, content: bytes) -> None:
    visitor.upload("H&E image or whole-slide file", "one", name, content)
    [scale] = [box for box in visitor.all("number_input") if box.label.startswith("Scale")]
    visitor.change(id=scale.id, double_value=1.0)
    visitor.press("Run")
    for _ in range(200):
        if any(metric.label == "Tissue tiles" for metric in visitor.all("metric")):
            return
        visitor.change(id=scale.id, double_value=1.0)
    raise AssertionError("no result came")


def test_a_server_that_starts_and_predicts_speaks_to_nobody_and_logs_no_name(environment, tmp_path, named_jpeg):
    log = tmp_path / "log.txt"
    with served(log, environment) as address, visiting(address) as visitor:
        _predict_in(visitor, f"{SECRET}.jpg", named_jpeg)
        visitor.upload("H&E image or whole-slide file", "two", f"{SECRET}.png", b"no image")
        assert any("looks like" in alert.body for alert in visitor.all("alert"))
    assert (tmp_path / "asked").read_text() == ""
    said = log.read_text()
    assert "You can now view your Streamlit app" in said
    assert SECRET not in said
    assert "nsl-" not in said


def test_weights_on_the_hub_are_the_one_thing_asked_for_elsewhere(environment, tmp_path):
    environment |= {"NSL_WEIGHTS": "org/her2", "HF_ENDPOINT": "http://hub.invalid", "NO_PROXY": "*"}
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        environment.pop(name, None)
    with served(tmp_path / "log.txt", environment) as address, visiting(address) as visitor:
        for _ in range(200):
            visitor.press("Use the demo slide")
            if (tmp_path / "asked").read_text():
                break
    assert set((tmp_path / "asked").read_text().split()) == {"hub.invalid"}


def test_no_name_path_or_exif_is_in_what_is_taken_home(tmp_path, named_jpeg, weights, caplog):
    caplog.set_level(logging.INFO)
    folder = tmp_path / SECRET
    folder.mkdir()
    (folder / f"{SECRET}.jpg").write_bytes(named_jpeg)
    with open_slide(folder / f"{SECRET}.jpg", 1.0) as slide:
        result = predict(slide, weights)
    files = {name: text.encode() for name, text in csv_files(result, "a").items()}
    files |= {
        "h5ad": h5ad_bytes(result),
        "geojson": geojson_text(result).encode(),
        "png": map_png(result, "ERBB2", limits=(0, 1)),
    }
    told = [name for name, content in files.items() if SECRET.encode() in content or str(tmp_path).encode() in content]
    assert told == []
    assert SECRET not in caplog.text
    assert "exif" not in Image.open(io.BytesIO(files["png"])).info
    assert json.loads(files["a.provenance.json"])["slide_sha256"] == result.uns["nsl"]["slide_sha256"]


def test_an_address_of_a_view_names_no_slide(app, named_jpeg):
    from tests.app_driver import click, finish, slide, upload

    upload(app, f"{SECRET}.jpg", named_jpeg)
    app.number_input[0].set_value(1.0).run()
    finish(click(app, "Run"))
    app.switch_page("pages/maps.py").run()
    assert slide(app).name == f"{SECRET}.jpg"
    assert SECRET not in str(app.query_params)
    assert app.query_params


LABEL = (0, 255, 0)


def labelled_svs(path: Path, pixels: np.ndarray) -> Path:
    """As Aperio writes it: the slide, then a thumbnail, then a label and a macro, which are all of one green here."""
    tiles = {"photometric": "rgb", "compression": "jpeg", "tile": (64, 64), "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, description="Aperio Image Library v1\nx|AppMag = 20|MPP = 0.5", **tiles)
        for words, kind in (("thumbnail", 0), ("label 40x40", 1), ("macro 40x40", 9)):
            green = np.full((200, 200, 3), LABEL, np.uint8)
            description = f"Aperio Image Library v1\n{words}"
            writer.write(green, photometric="rgb", subfiletype=kind, description=description, metadata=None)
    return path


def test_labels_and_macros_are_never_looked_at(tmp_path, section, weights, monkeypatch):
    import openslide

    path = labelled_svs(tmp_path / "a.svs", section.pixels)
    with openslide.OpenSlide(path) as slide:
        assert {"label", "macro"} <= set(slide.associated_images)

    def refuse(self):
        raise AssertionError("a label was looked at")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(refuse))
    with open_slide(path) as slide:
        assert slide.size == section.pixels.shape[1::-1]
        result = predict(slide, weights)
    for shown in (overview_of(path).thumbnail, SlidePicture.of(result).rgb):
        assert not (shown == LABEL).all(axis=-1).any()
    assert bytes([*LABEL] * 100) not in h5ad_bytes(result)
