"""The Predict page beyond a plain upload: slides of several files, a folder of the server, the time a run takes."""

import io
import re
import time
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from nsl.tiles import USUAL_STEP
from nsl.web import runs, sources
from nsl.web.session.state import SessionState
from tests.app_driver import (
    click,
    finish,
    metrics,
    number_box,
    png_bytes,
    predict_demo,
    said,
    session_held,
    slide,
    take_weights,
    upload,
    zipped_folder,
)
from tests.slides.test_archive import painted, write_dicom, zipped

READ_AT = "The slide is read at, µm per pixel"


@pytest.fixture
def dicom_zip(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    write_dicom(folder, painted(512, 768), 0.5)
    return zipped(folder).read_bytes()


def test_a_zipped_dicom_slide_is_opened_at_the_scale_it_says(app, dicom_zip):
    upload(app, "case 4.zip", dicom_zip)
    assert not app.exception
    assert slide(app).name == "case 4.zip"
    assert slide(app).seen.size == (768, 512)
    assert app.number_input[0].value == pytest.approx(0.5)
    assert "DICOM" in said(app)


def test_a_zip_without_a_slide_is_told_by_the_users_name_for_it(app, tmp_path):
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "letter.txt").write_text("Dear colleague")
    upload(app, "letters.zip", zipped(folder).read_bytes())
    assert not app.exception
    assert app.error[0].value.startswith("letters.zip ")
    assert slide(app) is None


@pytest.fixture
def server_folder(tmp_path, monkeypatch, section):
    folder = tmp_path / "slides"
    (folder / "2026").mkdir(parents=True)
    (folder / "2026/a.png").write_bytes(section.png)
    monkeypatch.setenv("NSL_SLIDE_DIR", str(folder))
    return folder


def test_a_slide_of_the_servers_folder_is_opened_and_never_deleted(server_folder, app):
    app.selectbox(key="server_slide").select("2026/a.png").run()
    click(app, "Open it")
    assert not app.exception
    assert slide(app).name == "2026/a.png"
    click(app, "Remove this slide")
    assert slide(app) is None
    assert (server_folder / "2026/a.png").exists()


def test_a_slide_brought_again_is_another_to_all_that_was_cached_of_it(server_folder, app):
    keys = []
    for _ in range(2):
        click(app, "Use the demo slide")
        keys.append(slide(app).key)
        assert slide(click(app, "Use the demo slide")).key == keys[-1]
        app.selectbox(key="server_slide").select("2026/a.png").run()
        click(app, "Open it")
        keys.append(slide(app).key)
        assert slide(click(app, "Open it")).key == keys[-1]
        click(click(app, "Remove this slide"), "Remove this slide")
        assert slide(app) is None
    assert len(set(keys)) == 4


def test_a_servers_folder_that_is_not_there_is_told(monkeypatch, tmp_path, app):
    monkeypatch.setenv("NSL_SLIDE_DIR", str(tmp_path / "absent"))
    app.run()
    assert not app.exception
    assert "which cannot be listed" in app.error[0].value
    assert "Use the demo slide" in [button.label for button in app.button]


def test_without_a_servers_folder_nothing_is_offered(app, monkeypatch):
    monkeypatch.delenv("NSL_SLIDE_DIR", raising=False)
    assert "Open it" not in [button.label for button in app.run().button]


def wait_said(app) -> float:
    """Seconds that the page says a run will take."""
    told = re.search(r"about ([\d.]+) (s|min|h)\.", said(app))
    return float(told[1]) * {"s": 1, "min": 60, "h": 3600}[told[2]]


@pytest.fixture
def slow_computer(app):
    """The demo slide on a computer that is thought to be very slow."""
    runs._known()["responses_per_second"] = 1e4
    return click(app, "Use the demo slide")


def test_the_page_says_how_long_a_run_takes_before_it_begins_and_learns_from_it(slow_computer, monkeypatch):
    app = slow_computer
    tiles = int(re.search(r"About (\d+) tiles and 4,822 genes", said(app))[1])
    before = wait_said(app)
    assert before > 3600

    # Of less than the reading a run tells nothing: by this clock it takes a second more than by the job's.
    monkeypatch.setattr(runs, "time", SimpleNamespace(perf_counter=lambda: time.perf_counter() + 1))
    slide(app).seen = replace(slide(app).seen, seconds=0.1)
    finish(click(app, "Run"))
    assert wait_said(app) < before / 10
    assert tiles == pytest.approx(int(metrics(app)["Tissue tiles"]), rel=0.02)


def test_the_step_proposed_is_that_of_the_command_line(app):
    click(app, "Use the demo slide")
    assert runs.STEPS[app.selectbox(key="step").value] == USUAL_STEP


def test_fewer_genes_are_said_to_take_less_time_and_overlapping_tiles_no_more(slow_computer):
    app = slow_computer
    all_genes = wait_said(app)
    app.selectbox(key="step").select("Side by side").run()
    wide = wait_said(app)
    app.radio(key="which_genes").set_value("A list").run()
    app.text_area(key="gene_list").set_value("ERBB2 COX6C").run()
    assert wide == pytest.approx(all_genes, rel=0.2)
    assert wait_said(app) < wide / 100
    app.text_area(key="gene_list").set_value("ERBB2").run()
    assert re.search(r"About \d+ tiles and 1 gene: about", said(app))


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1 s"), (42.4, "42 s"), (150, "2 min"), (9000, "2.5 h")])
def test_times_are_said_in_words(seconds, said):
    from nsl.web.controls import duration

    assert duration(seconds) == said


def test_a_file_with_gene_names_is_taken(app):
    click(app, "Use the demo slide")
    app.radio(key="which_genes").set_value("A list").run()
    app.file_uploader(key="gene_file").upload("panel.csv", b"gene,why\nERBB2,receptor\nHER3,partner\n")
    app.run()
    assert not app.exception
    assert "ERBB2" in said(app)


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("gene_file", b"gene\nERBB2\nCD24\n", "2 genes: ERBB2, CD24"),
        ("gmt_file", b"mine\there\tERBB2\tCOX6C\tCD24", "To be scored: mine (3 of 3 genes)."),
    ],
)
def test_a_file_that_was_brought_is_kept_while_other_pages_are_looked_at(app, key, text, told):
    click(app, "Use the demo slide")
    app.radio(key="which_genes").set_value("A list").run()
    app.file_uploader(key=key).upload("mine.txt", text)
    app.run()
    assert told in said(app)
    app.switch_page("pages/about.py").run()
    app.switch_page("pages/predict.py").run()
    assert told in said(app)
    click(app, "mine.txt is still in use; let go of it")
    assert told not in said(app)
    assert not app.exception


@pytest.mark.parametrize(("mpp", "told"), [(0.6, ""), (5.0, "10 times as large"), (0.05, "10 times as small")])
def test_a_scale_far_from_what_the_file_says_is_told(app, section, mpp, told):
    content = io.BytesIO()
    Image.open(io.BytesIO(section.png)).save(content, "TIFF", dpi=(50_800, 50_800))
    upload(app, "a.tif", content.getvalue())
    assert app.number_input[0].value == pytest.approx(0.5)
    app.number_input[0].set_value(mpp).run()
    assert [warning.value for warning in app.warning if "The file says" in warning.value] == (
        [f"The file says 0.5 µm per pixel: at {mpp:g} its tissue is taken to be {told}."] if told else []
    )


def test_finer_analysis_than_the_slide_is_taken_at_the_slides_own(app, section):
    upload(app, "a.png", section.png)
    app.number_input[0].set_value(4.0).run()
    finish(click(app, "Run"))
    assert slide(app).result.uns["nsl"]["analysis_mpp"] == 4.0
    assert "The settings have changed" not in said(app)


def test_other_weights_propose_the_window_and_resolution_they_were_trained_with(app, tiny_weights):
    click(app, "Use the demo slide")
    assert (number_box(app, "Tile side, µm").value, number_box(app, READ_AT).value) == (150, 3)
    take_weights(app, tiny_weights)
    config = session_held(app, sources.WeightsChoice).weights.config
    assert number_box(app, "Tile side, µm").value == config.tile_um == 100
    finish(click(app, "Run"))
    info = slide(app).result.uns["nsl"]
    assert (info["tile_um"], info["analysis_mpp"]) == (config.tile_um, config.analysis_mpp)
    number_box(app, "Tile side, µm").set_value(120.0).run()
    app.switch_page("pages/about.py").run()
    app.switch_page("pages/predict.py").run()
    assert number_box(app, "Tile side, µm").value == 120


def test_a_window_that_the_session_lost_is_that_of_the_weights_again(app):
    """As after clicks faster than pages are drawn."""
    boxes = [number_box(click(app, "Use the demo slide"), label) for label in ("Tile side, µm", READ_AT)]
    app.switch_page("pages/about.py").run()
    for box in boxes:
        del app.session_state[box.key]
    app.switch_page("pages/predict.py").run()
    assert (number_box(app, "Tile side, µm").value, number_box(app, READ_AT).value) == (150, 3)


def test_a_result_of_other_weights_or_genes_is_told(app, tiny_weights):
    predict_demo(app, "ERBB2 CD24").run()
    assert "have changed since" not in said(app)
    assert "the weights her2-breast" in said(app)
    app.text_area(key="gene_list").set_value("ERBB2").run()
    assert "have changed since" in said(app)
    app.text_area(key="gene_list").set_value("ERBB2 CD24").run()
    assert "have changed since" not in said(app)
    take_weights(app, tiny_weights)
    assert "have changed since" in said(app)


def test_weights_that_cannot_be_unpacked_are_told_until_others_come(app, tiny_weights):
    damaged = bytearray(zipped_folder(tiny_weights, compression=zipfile.ZIP_DEFLATED))
    start = damaged.index(b"config.json") + len("config.json")
    damaged[start + 4 : start + 40] = b"\xff" * 36
    app.sidebar.file_uploader(key="weights_zip").upload("tiny.zip", bytes(damaged))
    for _ in range(2):
        app.run()
        assert not app.exception
        assert "The zip cannot be read" in app.error[0].value


def test_a_click_while_a_slide_is_opened_does_not_lose_it(app, section, monkeypatch):
    from streamlit.runtime.scriptrunner_utils.exceptions import StopException

    from nsl.web.session import uploads

    clicks, look = [], uploads.overview_of

    def click_once(path, most_pixels):
        if not clicks:
            clicks.append(path)
            raise StopException
        return look(path, most_pixels)

    monkeypatch.setattr(uploads, "overview_of", click_once)
    upload(app, "a.png", section.png)
    app.run()
    assert clicks
    assert slide(app).name == "a.png"
    assert slide(app).path.exists()
    assert len(session_held(app, SessionState).slides) == 1


def test_an_uploader_is_empty_again_once_its_slide_is_there(app, section):
    upload(app, "a.png", section.png)
    assert not app.main.get("file_uploader")[0].value
    upload(app, "a.png", section.png)
    assert [one.name for one in session_held(app, SessionState).slides.values()] == ["a.png", "a (2).png"]


def test_a_cancelled_run_leaves_the_whole_result_from_before(app, monkeypatch):
    predict_demo(app, "ERBB2").run()
    whole = slide(app).result
    part = whole[:100].copy()
    part.uns["nsl"]["complete"] = False

    def cut_short(*_, progress, **__):
        progress.is_cancelled = True
        return part

    monkeypatch.setattr("nsl.prediction.predict", cut_short)
    finish(click(app, "Run"))
    assert slide(app).result is whole
    assert "the result from before stays" in said(app)
    assert not app.error


def test_weights_wished_for_are_fetched_also_where_the_page_has_nothing_to_show(app):
    from nsl.web import sources

    session_held(app, sources.WeightsChoice).request = sources.WeightsRequest("no-such-folder", "no-such-folder")
    app.switch_page("pages/maps.py").run()
    wish = session_held(app, sources.WeightsChoice).request
    wish.thread.join(10)
    assert "no-such-folder" in wish.error


def test_weights_that_a_library_stumbles_over_are_told_and_logged_without_a_path(app, monkeypatch, caplog):
    from nsl.web import sources

    def stumbling(source):
        raise RuntimeError("/srv/secret")

    monkeypatch.setattr(sources, "load_weights", stumbling)
    session_held(app, sources.WeightsChoice).request = sources.WeightsRequest("org/name@main", "org/name@main")
    app.switch_page("pages/maps.py").run()
    wish = session_held(app, sources.WeightsChoice).request
    wish.thread.join(10)
    assert wish.error.startswith("loading org/name@main stopped on a fault of the program (RuntimeError)")
    assert "secret" not in wish.error
    assert "secret" in caplog.text


def test_the_way_to_the_maps_stands_where_run_is_pressed(app):
    predict_demo(app).run()
    labels = [getattr(getattr(element, "proto", None), "label", "") for element in app.main]
    way = labels.index("**See the maps**")
    assert next(label for label in labels[way + 1 :] if label) == "Run"


def test_the_preview_says_what_will_be_left_out_before_the_run(app, section):
    inked = section.pixels.copy()
    inked[250:400, 200:400] = (30, 60, 160)
    upload(app, "inked.png", png_bytes(inked))
    app.number_input[0].set_value(1.0).run()
    told = re.search(r"In orange, about (\d+) tiles to be left out: (\d+) ink", said(app))
    finish(click(app, "Run"))
    left_out = slide(app).provenance.left_out
    assert int(told[1]) == int(told[2]) > 3
    assert left_out["ink"] == pytest.approx(int(told[2]), abs=1)
    app.checkbox(key="quality").set_value(False).run()
    assert "In orange" not in said(app)


def test_a_slide_that_is_no_h_and_e_is_told_before_the_run(app, section):
    light_on_dark = 255 - section.pixels
    upload(app, "dark.png", png_bytes(light_on_dark))
    app.number_input[0].set_value(1.0).run()
    [told] = [error.value for error in app.error]
    assert told.startswith("The image is light on a dark ground, as fluorescence is")
    app.checkbox(key="quality").set_value(False).run()
    assert not app.error
    app.checkbox(key="quality").set_value(True).run()
    finish(click(app, "Run"))
    assert {error.value for error in app.error} == {told}
