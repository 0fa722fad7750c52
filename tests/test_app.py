"""The pages in each of their states, driven without a browser."""

import io
import json
import re
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

from nsl.hub import fetch

ROOT = Path(__file__).parents[1]
MAPS = "pages/maps.py"


@pytest.fixture
def app(monkeypatch):
    # AppTest forgets before every run that the app navigates by itself, and takes `pages` for the older kind.
    monkeypatch.setattr(PagesManager, "uses_pages_directory", False)
    monkeypatch.setattr("streamlit.testing.v1.app_test.PagesManager", type("_OwnFlag", (PagesManager,), {}))
    st.cache_data.clear()
    st.cache_resource.clear()
    # The rehearsal would go on beside the tests that follow.
    monkeypatch.setattr("nsl.web.session._rehearse", lambda: None)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    yield app
    st.cache_data.clear()
    st.cache_resource.clear()


def _upload(app: AppTest, name: str, content: bytes) -> AppTest:
    app.file_uploader[0].upload(name, content)
    return app.run()


def _click(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    return app.run()


def _finish(app: AppTest) -> AppTest:
    job = app.session_state["nsl.job"]
    job.thread.join(timeout=60)
    assert not job.is_running
    return app.run()


def _png(pixels: np.ndarray, folder: Path) -> bytes:
    path = folder / "image.png"
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def _metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_first_page_offers_upload_and_demo_and_names_the_weights(app):
    assert not app.exception
    assert len(app.main.get("file_uploader")) == 1
    assert [button.label for button in app.button] == ["Use the demo slide"]
    assert any("every gene comes with how it was predicted in a patient" in caption.value for caption in app.caption)
    sidebar = " ".join(element.value for element in [*app.sidebar.markdown, *app.sidebar.caption])
    assert "her2-breast" in sidebar
    assert "4,812 genes" in sidebar
    assert "not a diagnostic device" in sidebar


def test_maps_page_without_a_result_shows_the_way(app):
    app.switch_page(MAPS).run()
    assert not app.exception
    assert any("There is no slide yet" in element.value for element in app.markdown)


def test_demo_slide_goes_from_click_to_map(app):
    _click(app, "Use the demo slide")
    assert not app.exception
    assert any("tissue" in caption.value and "tiles" in caption.value for caption in app.caption)
    assert app.number_input[0].value == 1.0
    _finish(_click(app, "Run"))
    assert not app.exception
    assert not app.error
    tiles = int(_metrics(app)["Tissue tiles"].replace(",", ""))
    assert tiles > 500
    assert [b.label for b in app.get("download_button")] == ["Download CSV", "CSV with provenance (zip)"]

    app.switch_page(MAPS).run()
    assert not app.exception
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert figure["data"][0]["type"] == "heatmap"
    assert "ERBB2" in figure["layout"]["coloraxis"]["colorbar"]["title"]["text"]
    assert _metrics(app)["Tiles"] == f"{tiles:,}"


def test_another_gene_changes_the_map_and_not_the_slide(app):
    _click(app, "Use the demo slide")
    _finish(_click(app, "Run"))
    finished = app.session_state["nsl.finished"]
    app.switch_page(MAPS).run()
    app.selectbox(key="gene").select("COX6C")
    app.run()
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert "COX6C" in figure["layout"]["coloraxis"]["colorbar"]["title"]["text"]
    assert app.session_state["nsl.finished"] is finished


def test_colour_range_goes_by_percentile_or_by_value(app):
    _click(app, "Use the demo slide")
    _finish(_click(app, "Run"))
    app.switch_page(MAPS).run()

    def limits() -> tuple[float, float]:
        axis = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]["coloraxis"]
        return axis["cmin"], axis["cmax"]

    values = app.session_state["nsl.finished"].result[:, "ERBB2"].X.ravel()
    assert limits() == pytest.approx(tuple(np.percentile(values, [2, 98])), abs=1e-4)
    app.button_group[0].set_value("Value")
    app.run()
    assert limits() == pytest.approx((float(values.min()), float(values.max())), abs=0.02)
    assert not app.exception


def test_scale_is_asked_for_when_the_file_has_none_and_never_guessed(app, section, tmp_path):
    _upload(app, "patient 12.png", _png(section.pixels, tmp_path))
    assert not app.exception
    assert app.number_input[0].value is None
    assert any("does not say its scale" in info.value for info in app.info)
    assert "Run" not in [button.label for button in app.button]
    app.number_input[0].set_value(1.0).run()
    assert "Run" in [button.label for button in app.button]


@pytest.mark.parametrize(("scale", "says"), [(0.0, "positive number, got 0"), (500.0, "between 0.01 and 100, got 500")])
def test_an_impossible_scale_is_refused_in_a_sentence(app, section, tmp_path, scale, says):
    _upload(app, "a.png", _png(section.pixels, tmp_path))
    app.number_input[0].set_value(scale).run()
    assert not app.exception
    assert says in app.error[0].value
    assert "Run" not in [button.label for button in app.button]


BAD_FILES = {
    "text named jpg": ("notes.jpg", b"Dear colleague, please find attached", "notes.jpg looks like a text file"),
    "nothing": ("empty.png", b"", "empty.png is empty (0 bytes)"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_told_by_the_users_name_for_it_and_the_slide_before_stays(app, case):
    name, content, says = BAD_FILES[case]
    _click(app, "Use the demo slide")
    _finish(_click(app, "Run"))
    _upload(app, name, content)
    assert not app.exception
    assert says in app.error[0].value
    assert app.session_state["nsl.slide"].synthetic
    assert "Tissue tiles" in _metrics(app)
    assert says in app.run().error[0].value  # as long as the file is there


def test_a_truncated_jpeg_is_told(app, section, tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(section.pixels).save(path)
    _upload(app, "cut.jpg", path.read_bytes()[:4000])
    assert not app.exception
    assert "cut.jpg is damaged or incomplete" in app.error[0].value


def test_a_slide_without_tissue_is_told_and_its_settings_stay(app, tmp_path):
    blank = np.full((500, 500, 3), (240, 238, 241), np.uint8)
    _upload(app, "blank.png", _png(blank, tmp_path))
    app.number_input[0].set_value(1.0).run()
    _finish(_click(app, "Run"))
    assert not app.exception
    assert any("no tile is at least 30% tissue" in error.value.lower() for error in app.error)
    assert app.number_input[0].value == 1.0


def test_an_image_smaller_than_a_tile_is_told(app, tmp_path):
    small = np.full((50, 60, 3), (200, 120, 160), np.uint8)
    _upload(app, "small.png", _png(small, tmp_path))
    app.number_input[0].set_value(1.0).run()
    assert not app.exception
    assert any("smaller than one tile of 150 µm" in error.value for error in app.error)


def test_an_unknown_gene_is_told_with_its_neighbours_and_the_result_before_stays(app):
    _click(app, "Use the demo slide")
    _finish(_click(app, "Run"))
    app.radio[0].set_value("A list")
    app.run()
    app.text_area[0].set_value("ERBB2, ERBB22").run()
    _finish(_click(app, "Run"))
    assert not app.exception
    assert "no gene ERBB22; did you mean ERBB2" in app.error[0].value
    assert _metrics(app)["Genes"] == "4,812"


def test_a_list_of_genes_is_all_that_is_predicted(app):
    _click(app, "Use the demo slide")
    app.radio[0].set_value("A list")
    app.run()
    app.text_area[0].set_value("COX6C CD24\nERBB2").run()
    _finish(_click(app, "Run"))
    assert _metrics(app)["Genes"] == "3"


def test_settings_outlast_a_change_of_page(app):
    _click(app, "Use the demo slide")
    app.slider(key="min_tissue").set_value(60)
    app.run()
    app.switch_page(MAPS).run()
    app.switch_page("pages/predict.py").run()
    assert app.slider(key="min_tissue").value == 60


def test_damaged_weights_are_told_on_the_page(app, monkeypatch, tmp_path):
    monkeypatch.setattr("nsl.weights.embedded_folder", lambda: tmp_path / "her2-breast")
    app.run()
    assert not app.exception
    assert "There is no weights folder" in app.error[0].value


def test_a_new_slide_stops_the_run_of_the_one_before(app, section, tmp_path):
    _click(app, "Use the demo slide")
    _click(app, "Run")
    job = app.session_state["nsl.job"]
    _upload(app, "next.png", _png(section.pixels, tmp_path))
    assert job.is_stopped
    assert app.session_state["nsl.job"] is None
    assert app.session_state["nsl.finished"] is None


def test_notices_call_the_file_what_the_user_calls_it(app, section, tmp_path):
    rgba = np.dstack([section.pixels, np.full(section.pixels.shape[:2], 200, np.uint8)])
    _upload(app, "with alpha.png", _png(rgba, tmp_path))
    assert any(info.value.startswith("with alpha.png has transparency") for info in app.info)


def test_a_full_disk_is_told_and_stays_told(app, section, tmp_path, monkeypatch):
    content = _png(section.pixels, tmp_path)

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    _upload(app, "a.png", content)
    assert not app.exception
    assert "cannot be stored (No space left on device)" in app.error[0].value
    assert "cannot be stored" in app.run().error[0].value


def test_demo_after_a_bad_file_shows_no_error(app):
    _upload(app, "notes.jpg", b"Dear colleague")
    assert app.error
    _click(app, "Use the demo slide")
    assert not app.error


def test_stains_outside_the_training_slides_are_warned_of_before_the_map(app):
    _click(app, "Use the demo slide")
    _finish(_click(app, "Run"))
    info = app.session_state["nsl.finished"].result.uns["nsl"]
    warned = any("outside what the weights were trained on" in warning.value for warning in app.warning)
    assert warned == (info["stain_distance"] > 1)
    info |= {"stain_distance": 3.0, "stain_angles_degrees": [2.0, 3 * info["training_spread_degrees"][1]]}
    app.switch_page(MAPS).run()
    told = app.warning[0].value
    assert f"its eosin lies {3 * info['training_spread_degrees'][1]:.0f}° from the training mean" in told
    assert "hematoxylin" not in told


def test_unreliable_genes_are_listed_only_when_wished_for_and_marked(app):
    _click(app, "Use the demo slide")
    _finish(_click(app, "Run"))
    app.switch_page(MAPS).run()
    var = app.session_state["nsl.finished"].result.var
    listed = app.selectbox(key="gene").options
    best = var.r_heldout.idxmax()
    assert listed[0] == f"{best} · r {var.r_heldout[best]:.2f}"
    assert not any(option.startswith("GAPDH ") for option in listed)
    app.toggle(key="unreliable_genes").set_value(True).run()
    assert len(app.selectbox(key="gene").options) == len(var) > len(listed)
    app.selectbox(key="gene").select("GAPDH").run()
    assert any("GAPDH is unreliable" in warning.value for warning in app.warning)


def test_the_folder_of_a_session_that_went_away_is_deleted(monkeypatch):
    from nsl.web import session

    class EndOfTest(Exception):
        pass

    ticks = iter(range(session.LOOKS_BEFORE_DELETION + 1))

    def tick(seconds):
        if next(ticks, None) is None:
            raise EndOfTest

    monkeypatch.setattr("nsl.web.session.time.sleep", tick)
    folder = session.tempfile.TemporaryDirectory()
    with pytest.raises(EndOfTest):
        session._sweep({"a session that is no more": folder})
    assert not Path(folder.name).exists()


# Weights other than the embedded ones


def _collected(app: AppTest) -> AppTest:
    app.session_state["nsl.wish"].thread.join(timeout=60)
    return app.run()


def _zipped(folder: Path, *, below: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"{below}{path.name}")
    return buffer.getvalue()


def _sidebar(app: AppTest) -> str:
    return " ".join(element.value for element in [*app.sidebar.markdown, *app.sidebar.caption, *app.sidebar.warning])


@pytest.mark.parametrize("below", ["", "tiny/"])
def test_a_weights_zip_is_used_from_then_on(app, tiny_weights, below):
    app.sidebar.file_uploader(key="weights_zip").upload("tiny.zip", _zipped(tiny_weights, below=below))
    _collected(app.run())
    assert "**tiny** · 3 genes" in _sidebar(app)
    assert "tiny.zip" in _sidebar(app)
    _click(app, "Use the demo slide")
    _finish(_click(app, "Run"))
    assert list(app.session_state["nsl.finished"].result.var_names) == ["ERBB2", "CD24", "COX6C"]
    _click(app, "Back to the embedded weights")
    assert "4,812 genes" in _sidebar(app)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[:100], "the zip cannot be read"),
        (lambda content: _zipped_without(content, "model.safetensors"), r"has no model\.safetensors"),
    ],
)
def test_a_bad_zip_is_told_and_the_weights_in_use_stay(app, tiny_weights, spoil, said):
    app.sidebar.file_uploader(key="weights_zip").upload("tiny.zip", spoil(_zipped(tiny_weights)))
    app.run()
    assert not app.exception
    assert re.search(said, app.error[0].value.replace("\\", ""), re.IGNORECASE)
    assert "4,812 genes" in _sidebar(app)


def _zipped_without(content: bytes, name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            if info.filename != name:
                new.writestr(info, old.read(info))
    return buffer.getvalue()


def test_weights_of_the_hub_replace_the_embedded_ones_when_they_have_come(app, hub, tiny_weights, monkeypatch):
    monkeypatch.setattr("nsl.weights.fetch", partial(fetch, endpoint=hub.url))
    commit = hub.commit("org/tiny", {path.name: path.read_bytes() for path in tiny_weights.iterdir()})
    app.sidebar.text_input(key="hub_source").set_value("org/tiny").run()
    _collected(app)
    assert "**tiny** · 3 genes" in _sidebar(app)
    assert f"org/tiny at commit {commit[:7]}" in _sidebar(app)


@pytest.mark.parametrize(
    "source", ["org/absent", "absent", "/etc/passwd", "nsl/web", "https://huggingface.co/org/name"]
)
def test_weights_that_cannot_be_had_are_told_and_the_embedded_ones_stay(app, hub, monkeypatch, source):
    monkeypatch.setattr("nsl.weights.fetch", partial(fetch, endpoint=hub.url))
    app.sidebar.text_input(key="hub_source").set_value(source).run()
    if app.session_state["nsl.wish"].thread:
        _collected(app)
    assert not app.exception
    assert "The weights above stay in use." in _sidebar(app)
    assert source.split("@")[0] in _sidebar(app).replace("\\", "")
    assert "4,812 genes" in _sidebar(app)
    _click(app, "Use the demo slide")
    _finish(_click(app, "Run"))
    assert app.session_state["nsl.finished"].result.n_vars == 4812


def test_a_default_source_that_hangs_does_not_keep_the_page_waiting(hub, tmp_path, monkeypatch, tiny_weights):
    hub.commit("org/tiny", {path.name: path.read_bytes() for path in tiny_weights.iterdir()})
    hub.silent = True
    monkeypatch.setattr("nsl.weights.fetch", partial(fetch, endpoint=hub.url))
    monkeypatch.setenv("NSL_WEIGHTS", "org/tiny")
    monkeypatch.setattr(PagesManager, "uses_pages_directory", False)
    monkeypatch.setattr("streamlit.testing.v1.app_test.PagesManager", type("_OwnFlag", (PagesManager,), {}))
    monkeypatch.setattr("nsl.web.session._rehearse", lambda: None)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert app.session_state["nsl.wish"].is_running
    assert len(app.file_uploader) >= 1
    _collected(app)
    assert "does not answer in time" in _sidebar(app)
    assert "4,812 genes" in _sidebar(app)
