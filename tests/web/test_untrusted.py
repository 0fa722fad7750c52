"""What a browser sends is chosen by its user: ids of uploads, places on charts, rows of tables, choices, sizes."""

import functools
import os
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import streamlit as st
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.testing.v1 import AppTest

from nsl.errors import NslError, SpotsError
from nsl.web import chart, controls, sources
from nsl.web.session import jobs, server, state, uploads
from tests.app_driver import (
    click,
    png_bytes,
    predict_demo,
    said,
    session_held,
    slide,
    take_weights,
    upload,
    zipped_folder,
)
from tests.browser.serving import served
from tests.visitor import visiting

SLIDE_UPLOAD = "H&E image or whole-slide file"
HOSTILE_IDS = {
    "parent": "..",
    "parent, quoted": "%2e%2e",
    "grandparent": "../..",
    "absolute": "/{elsewhere}",
    "NUL": "a\0b",
    "300 letters": "x" * 300,
    "another session's folder": "../nsl-other",
    "empty": "",
    "itself": ".",
    "of the demo": "demo",
    "delimiter of Streamlit's": "a__b",
}
NOT_NUMBERS = ("1", None, [1.0], {"x": 1}, float("nan"), float("inf"), -1e300, 10**400)
NO_IMAGE = b"Dear colleague, please find attached"


@pytest.fixture
def server_folders(tmp_path, monkeypatch) -> Path:
    """Where the server keeps its temporary files, among those of others that must stay; returns the innermost."""
    outer = tmp_path / "server"
    inner = outer / "var" / "tmp"
    (inner / "nsl-other").mkdir(parents=True)
    (outer / "elsewhere").mkdir()
    for folder in (outer, inner, inner / "nsl-other", outer / "elsewhere"):
        (folder / "slide.svs").write_text("of somebody else")
    monkeypatch.setattr(tempfile, "tempdir", str(inner))
    monkeypatch.setattr(server, "_own", functools.cache(server._own.__wrapped__))
    return inner


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def _send(app: AppTest, uploader, file_id: str, name: str, content: bytes) -> AppTest:
    uploader._files = [(file_id, name, content, "application/octet-stream")]
    return app.run()


@pytest.fixture
def _others_stay(server_folders):
    """After the test, files of others are as before, and all that came lies in the one folder of the session."""
    before = _files(server_folders.parents[1])
    yield
    after = _files(server_folders.parents[1])
    assert before <= after
    [own] = [path for path in server_folders.glob("nsl-server-*/*") if path.is_dir()]
    assert all(own in path.parents for path in after - before - {own.parent / "in-use"})


@pytest.fixture(params=HOSTILE_IDS)
def hostile_id(request, server_folders) -> str:
    return HOSTILE_IDS[request.param].format(elsewhere=server_folders.parents[1] / "elsewhere")


@pytest.mark.usefixtures("_others_stay")
def test_the_id_of_an_upload_names_no_folder(app, hostile_id, section):
    _send(app, app.main.get("file_uploader")[0], hostile_id, "notes.png", NO_IMAGE)
    assert not app.exception
    assert "notes.png looks like a text file" in app.error[0].value
    click(app, "Use the demo slide")
    demo = slide(app)
    _send(app, app.main.get("file_uploader")[0], hostile_id, "a.png", section.png)
    assert not app.exception
    assert slide(app).name == "a.png"
    assert slide(app).path.exists()
    click(app, "Remove this slide")
    assert slide(app) is demo
    assert demo.path.exists()


@pytest.mark.usefixtures("_others_stay")
def test_the_id_of_uploaded_weights_names_no_folder(app, hostile_id, tiny_weights):
    _send(app, app.sidebar.file_uploader(key="weights_zip"), hostile_id, "tiny.zip", NO_IMAGE)
    assert not app.exception
    assert "The zip cannot be read" in app.error[0].value
    _send(app, app.sidebar.file_uploader(key="weights_zip"), hostile_id, "tiny.zip", zipped_folder(tiny_weights))
    session_held(app, sources.WeightsChoice).request.thread.join(60)
    assert not app.run().exception
    assert "tiny" in said(app)


def test_two_slides_under_one_id_are_two(app, section):
    for pixels in (section.pixels, section.pixels[::-1]):
        _send(app, app.main.get("file_uploader")[0], "one", "a.png", png_bytes(pixels))
    _send(app, app.main.get("file_uploader")[0], "one", "notes.png", NO_IMAGE)
    first, second = session_held(app, state.SessionState).slides.values()
    assert first.path.read_bytes() != second.path.read_bytes()
    assert first.key != second.key


def test_only_folders_inside_the_sessions_are_deleted(server_folders, monkeypatch):
    own = server_folders / "nsl-own"
    own.mkdir()
    monkeypatch.setattr(uploads, "session_folder", lambda: own)
    with uploads.new_folder() as kept:
        assert kept.parent == own
    for folder in (own, own / "..", kept / ".." / ".." / "nsl-other", server_folders, Path("/")):
        with pytest.raises(NslError, match="lies outside this session's folder and was not deleted"):
            uploads.delete(folder)
    (own / "link").symlink_to(server_folders / "nsl-other")
    with pytest.raises(NslError, match="lies outside"):
        uploads.delete(own / "link")
    assert (server_folders / "nsl-other/slide.svs").exists()
    uploads.delete(kept)
    assert list(own.iterdir()) == [own / "link"]


def test_a_browser_that_clears_streamlits_caches_parts_no_session_from_its_folder(app, section):
    upload(app, "a.png", section.png)
    st.cache_resource.clear()
    click(app, "Use the demo slide")
    demo, first = slide(app), next(iter(session_held(app, state.SessionState).slides.values()))
    assert demo.folder.parent == first.folder.parent
    click(app, "Remove this slide")
    click(app, "Remove this slide")
    assert not app.exception
    assert not first.folder.exists()


# Sizes


def test_an_upload_larger_than_its_place_says_is_refused_by_the_server_too(app, monkeypatch, section):
    monkeypatch.setattr(server, "limits", lambda: server.Limits(None, 1, None, None))
    large = section.png + bytes(2**20)
    upload(app.run(), "large.png", large)
    assert "large.png has" in app.error[0].value
    assert "at most 1 MB are taken here; bring a smaller file" in app.error[0].value
    assert slide(app) is None
    monkeypatch.setattr(uploads, "session_folder", Path)
    file = SimpleNamespace(name="large.csv", size=len(large), getbuffer=lambda: large)
    with pytest.raises(SpotsError, match=r"large\.csv has .* at most 1 MB"):
        uploads.read_measured_uploads([file])


def test_weights_and_lists_larger_than_their_place_says_are_refused(app, monkeypatch):
    monkeypatch.setattr("nsl.web.sources.MAX_ZIP_MB", 1)
    monkeypatch.setattr("nsl.web.predict.prediction_run.GENE_FILE_MB", 1)
    app.run()
    app.sidebar.file_uploader(key="weights_zip").upload("w.zip", bytes(2**20 + 1))
    assert "w.zip has 1.0 MB, and at most 1 MB" in app.run().error[0].value
    app.sidebar.file_uploader(key="weights_zip").clear()
    click(app, "Use the demo slide")
    app.radio(key="which_genes").set_value("A list").run()
    app.file_uploader(key="gene_file").upload("genes.txt", b"ERBB2 " * 200_000)
    assert "genes.txt has 1.1 MB, and at most 1 MB" in app.run().error[0].value
    assert next(button for button in app.button if button.label == "Run").disabled


def test_a_list_without_a_gene_is_told_in_a_sentence(app):
    click(app, "Use the demo slide")
    app.radio(key="which_genes").set_value("A list").run()
    app.text_area(key="gene_list").set_value("1 2 3").run()
    assert not app.exception
    assert "The list holds no gene names" in app.error[0].value


def test_the_name_of_an_upload_becomes_a_file_name_of_any_systems_length():
    for name in ("x" * 5_000 + ".png", "ß" * 500, "../" * 400, "\r\nSet-Cookie: a=b", 'a"; filename="b.exe', "\x1b[2J"):
        [stem] = controls.file_stems([name])
        assert 0 < len(stem) <= controls.LONGEST_STEM
        assert all(letter.isalnum() or letter in "-_" for letter in stem)


# Charts, tables, choices


def _sent(monkeypatch, value) -> None:
    monkeypatch.setattr(st, "session_state", {"chart": value})


@pytest.mark.parametrize("bad", NOT_NUMBERS)
def test_a_click_at_no_number_is_none(monkeypatch, bad):
    for place in ({"x": bad, "y": 1.0}, {"x": 1.0, "y": bad}, {"x": 1.0}, bad, [bad]):
        _sent(monkeypatch, {"clicked": place})
        assert chart.clicked_place("chart") is None


@pytest.mark.parametrize("bad", NOT_NUMBERS)
def test_a_view_or_a_step_of_no_numbers_is_none(monkeypatch, bad):
    seen = {"x": [0, 1], "y": [2, 1], "px": 300}
    for told in (bad, {"x": bad}, *({"x": seen | {name: bad}} for name in seen), {"x": seen | {"x": [bad, 1]}}):
        _sent(monkeypatch, {"views": told})
        assert chart.views("chart") == {}
        _sent(monkeypatch, {"step": {"columns": bad, "rows": 0}})
        assert chart.step_taken("chart") is None


def test_a_view_is_what_was_seen_and_a_step_goes_one_tile(monkeypatch):
    _sent(monkeypatch, {"views": {"x2": {"x": [0.5, 1], "y": [2, 1], "px": 300}}})
    assert chart.views("chart") == {"x2": (0.5, 1, 1, 2, 300)}
    _sent(monkeypatch, {"step": {"columns": 0, "rows": -1}})
    assert chart.step_taken("chart") == (0, -1)
    _sent(monkeypatch, {"step": {"columns": 2, "rows": 0}})
    assert chart.step_taken("chart") is None


def test_a_click_is_where_it_was(monkeypatch):
    _sent(monkeypatch, {"clicked": {"x": 1, "y": 2.5, "axis": "x"}})
    assert chart.clicked_place("chart") == (1.0, 2.5)
    assert chart.clicked_names("chart") is None
    _sent(monkeypatch, {"clicked": {"x": "ERBB2", "y": "CD24", "axis": "x"}})
    assert chart.clicked_names("chart") == ("ERBB2", "CD24")
    _sent(monkeypatch, {"clicked": None})
    assert chart.clicked_place("chart") is chart.clicked_names("chart") is None


@pytest.mark.parametrize("bad", NOT_NUMBERS)
def test_an_area_with_a_corner_at_no_number_is_none(monkeypatch, bad):
    for kind, x, y in (("box", [0, bad], [0, 1]), ("lasso", [0, 1, 2], [0, bad, 1]), ("lasso", bad, bad)):
        _sent(monkeypatch, {"area": {"kind": kind, "x": x, "y": y, "axis": "x"}})
        assert chart.drawn_area("chart") is None


@pytest.mark.parametrize(
    "area",
    [
        *(5, "area", [], {}, {"kind": "box"}),
        {"kind": "circle", "x": [0, 1], "y": [0, 1]},
        {"kind": ["box"], "x": [0, 1], "y": [0, 1]},
        {"kind": "box", "x": [], "y": []},
        {"kind": "box", "x": [0, 1, 2], "y": [0, 1, 2]},
        {"kind": "lasso", "x": [0, 1, 2], "y": [0, 1]},
        {"kind": "lasso", "x": "012", "y": "012"},
        {"kind": "lasso", "x": [0] * 20_000, "y": [0] * 20_000},
    ],
)
def test_what_no_chart_draws_is_no_area(monkeypatch, area):
    _sent(monkeypatch, {"area": area})
    assert chart.drawn_area("chart") is None


def test_an_area_is_as_it_was_drawn(monkeypatch):
    drawn = {"kind": "lasso", "x": [0.0, 1.0, 2.5], "y": [0.0, -1.0, 2.0], "axis": "x2"}
    _sent(monkeypatch, {"area": drawn | {"more": "of it"}})
    assert chart.drawn_area("chart") == drawn


@pytest.mark.parametrize("rows", [[], [5], [-1], ["0"], [None], [[0]], [{}], [0.5], [10**400], "abc", {"0": 0}, None])
def test_a_row_that_a_table_has_not_is_none(monkeypatch, rows):
    _sent(monkeypatch, {"selection": {"rows": rows}})
    assert controls.marked_row("chart", 5) is None
    _sent(monkeypatch, {"selection": {"rows": [4]}})
    assert controls.marked_row("chart", 5) == 4


def test_a_marked_row_is_handed_on_and_none_that_a_table_has_not(monkeypatch):
    table, handed_on = pd.DataFrame({"gene": ["ERBB2", "CD24"]}), []
    monkeypatch.setattr(st, "dataframe", lambda *_, on_select, **__: on_select())
    for rows in ([1], [2], [], "abc"):
        _sent(monkeypatch, {"selection": {"rows": rows}})
        controls.table_to_mark(table, {"gene": None}, key="chart", alt="Genes", on_mark=handed_on.append)
    assert [row.gene for row in handed_on] == ["CD24"]


def test_a_slide_that_is_not_there_cannot_be_chosen(monkeypatch):
    held = SimpleNamespace(key="a")
    shared = state.SessionState(slides={"a": held}, current="a")
    monkeypatch.setattr(st, "session_state", {"nsl.SessionState": shared})
    state.choose("nonsense")
    assert state.slide() is held


def test_a_choice_that_a_browser_takes_back_is_the_usual_one(app):
    predict_demo(app)
    for page, key in (
        ("compare", "compare_mode"),
        ("stains", "stain_width of 150"),
        ("correlations", "correlation_method"),
    ):
        app.switch_page(f"pages/{page}.py").run()
        app.button_group(key=key).set_value(None).run()
        assert not app.exception


def test_weights_may_have_any_name(app, tiny_weights):
    config = tiny_weights / "config.json"
    config.write_text(config.read_text().replace('"tiny"', '"a__b/../\\u0000"'))
    take_weights(app, tiny_weights)
    for page in ("stains", "about"):
        app.switch_page(f"pages/{page}.py").run()
        assert not app.exception
        assert "a\\_\\_b" in said(app)


# What is told of a fault


def test_a_fault_of_the_program_is_told_without_the_servers_paths(caplog):
    job = jobs.Job()

    def fail(job):
        raise FileNotFoundError(2, "No such file or directory", "/srv/secret/slide.svs")

    job.start(fail)
    job.thread.join(20)
    assert "a fault of the program (FileNotFoundError)" in job.error
    assert "/srv" not in job.error
    assert "/srv/secret/slide.svs" in caplog.text


def test_a_file_that_cannot_be_read_is_told_without_the_servers_paths(tmp_path, monkeypatch):
    def fail(paths):
        raise OSError(f"unable to open '{paths[0]}'")

    monkeypatch.setattr("nsl.system.confinement._IS_HELD", False)
    monkeypatch.setattr("nsl.spots.measured.read_measured", fail)
    monkeypatch.setattr(uploads, "session_folder", lambda: tmp_path)
    file = SimpleNamespace(name="my.h5ad", size=3, getbuffer=lambda: b"abc")
    with pytest.raises(SpotsError, match=r"\(unable to open 'my\.h5ad'\)"):
        uploads.read_measured_uploads([file])


# A real server


def test_a_visitor_of_a_real_server_reaches_no_other_visitors_slides(server_folders, section):
    environment = os.environ | {"TMPDIR": str(server_folders)}
    with served(server_folders.parents[1] / "log.txt", environment) as address, visiting(address) as victim:
        victim.upload(SLIDE_UPLOAD, "b4b2d9a0", "mine.png", section.png)
        before = _files(server_folders)
        assert any(path.name == "nsl-upload.png" for path in before)
        for file_id in ("..", "a\0b", "x" * 300, victim.session_id):
            with visiting(address) as attacker:
                attacker.upload(SLIDE_UPLOAD, file_id, "notes.png", NO_IMAGE)
                assert ["looks like a text file" in alert.body for alert in attacker.all("alert")] == [True]
                assert not attacker.all("exception")
                attacker.upload(SLIDE_UPLOAD, f"{file_id}.", "program.exe", NO_IMAGE)
                [exception] = attacker.all("exception")
                assert "redacted" in exception.message
                assert [exception.type, *exception.stack_trace] == [""]
        with visiting(address) as attacker:
            attacker.send(BackMsg(clear_cache=True))
            attacker.press("Use the demo slide")
            for value in ({"string_array_value": {"data": ["a"]}}, {"bytes_value": b"\xff"}):
                for box in attacker.all("text_input"):
                    attacker.change(id=box.id, **value)
                    assert not attacker.all("exception"), (box.label, value)
        assert before <= _files(server_folders)
        victim.press("Remove this slide")
        assert not [path for path in _files(server_folders) if path.name == "nsl-upload.png"]


# Names in text


@pytest.mark.parametrize(
    "address", ["http://evil.example/a", "HTTPS://evil.example", "www.evil.example", "a@evil.example"]
)
def test_an_address_in_a_name_is_no_link(address):
    shown = controls.escaped(f"slide {address}")
    # What CommonMark and GitHub's extension make links of, after backslashes are gone.
    plain = re.sub(r"\\(.)", r"\1", shown)
    assert not re.search(r"https?://|www\.|\w@\w", plain, re.IGNORECASE)
    assert plain.replace("\u2060", "") == f"slide {address}"


def test_a_name_of_several_lines_stays_on_one():
    assert controls.escaped("a\n# b\r\n\u2028- c") == r"a \# b  - c"
