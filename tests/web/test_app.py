"""The pages in each of their states, driven without a browser."""

import asyncio
import io
import re
import threading
import time
import weakref
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image
from streamlit.runtime import Runtime
from streamlit.runtime.memory_session_storage import MemorySessionStorage
from streamlit.runtime.session_manager import SessionInfo
from streamlit.runtime.websocket_session_manager import WebsocketSessionManager
from streamlit.testing.v1 import AppTest

from nsl.web import controls, sources
from nsl.web.session import jobs
from nsl.web.session.state import SessionState
from nsl.weights.hub import fetch
from tests import remembered_runs
from tests.app_driver import (
    chart,
    click,
    finish,
    metrics,
    png_bytes,
    predict_demo,
    said,
    session_held,
    slide,
    start,
    upload,
    zipped_folder,
)
from tests.made_profiles import made_profile

MAPS = "pages/maps.py"


def test_first_page_offers_upload_and_demo_and_names_the_weights(app):
    assert not app.exception
    assert len(app.main.get("file_uploader")) == 1
    assert [button.label for button in app.button] == ["Use the demo slide"]
    assert any("every gene comes with how it was predicted in a patient" in caption.value for caption in app.caption)
    sidebar = " ".join(element.value for element in [*app.sidebar.markdown, *app.sidebar.caption])
    assert "her2-breast" in sidebar
    assert "4,822 genes" in sidebar
    assert "not a diagnostic device" in said(app)


def test_maps_page_without_a_result_shows_the_way(app):
    app.switch_page(MAPS).run()
    assert not app.exception
    assert any("There is no slide yet" in element.value for element in app.markdown)


def test_demo_slide_goes_from_click_to_map(app):
    click(app, "Use the demo slide")
    assert not app.exception
    assert any("tissue" in caption.value and "tiles" in caption.value for caption in app.caption)
    assert app.number_input[0].value == 1.0
    finish(click(app, "Run"))
    assert not app.exception
    assert not app.error
    tiles = int(metrics(app)["Tissue tiles"].replace(",", ""))
    assert tiles > 500
    assert [b.label for b in app.get("download_button")] == [
        *("Download CSV", "CSV with provenance (zip)", "AnnData (h5ad)", "QuPath (GeoJSON)", "Everything (zip)"),
    ]

    app.switch_page(MAPS).run()
    assert not app.exception
    figure = chart(app)
    assert figure["data"][0]["type"] == "heatmap"
    assert "ERBB2" in figure["layout"]["coloraxis"]["colorbar"]["title"]["text"]
    assert metrics(app)["Tiles"] == f"{tiles:,}"


def test_another_gene_changes_the_map_and_not_the_slide(app):
    predict_demo(app)
    finished = slide(app).finished
    app.switch_page(MAPS).run()
    app.selectbox(key="gene").select("COX6C")
    app.run()
    figure = chart(app)
    assert "COX6C" in figure["layout"]["coloraxis"]["colorbar"]["title"]["text"]
    assert slide(app).finished is finished


def test_colour_range_goes_by_percentile_or_by_value(app):
    predict_demo(app)
    app.switch_page(MAPS).run()

    def limits() -> tuple[float, float]:
        axis = chart(app)["layout"]["coloraxis"]
        return axis["cmin"], axis["cmax"]

    values = slide(app).finished.result[:, "ERBB2"].X.ravel()
    assert limits() == pytest.approx(tuple(np.percentile(values, [2, 98])), abs=1e-4)
    app.button_group[0].set_value("Value")
    app.run()
    assert limits() == pytest.approx((float(values.min()), float(values.max())), abs=0.02)
    assert not app.exception


def test_scale_is_asked_for_when_the_file_has_none_and_never_guessed(app, section, tmp_path):
    upload(app, "patient 12.png", section.png)
    assert not app.exception
    assert app.number_input[0].value is None
    assert any("does not say its scale" in info.value for info in app.info)
    assert "Run" not in [button.label for button in app.button]
    app.number_input[0].set_value(1.0).run()
    assert "Run" in [button.label for button in app.button]


def test_scale_is_asked_for_when_that_of_the_file_is_impossible(app, section):
    buffer = io.BytesIO()
    metadata = {"axes": "YXS", "PhysicalSizeX": 900.0, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 900.0}
    tifffile.imwrite(buffer, section.pixels, photometric="rgb", metadata=metadata, ome=True)
    upload(app, "a.ome.tif", buffer.getvalue())
    assert not app.exception
    assert not app.error
    assert "a.ome.tif says 900 µm/px, which no microscope image has; give the right one." in said(app)
    assert app.number_input[0].value is None
    app.number_input[0].set_value(1.0).run()
    finish(click(app, "Run"))
    assert not app.error
    assert slide(app).provenance.mpp == 1.0


@pytest.mark.parametrize(("scale", "says"), [(0.0, "positive number, got 0"), (500.0, "between 0.01 and 100, got 500")])
def test_an_impossible_scale_is_refused_in_a_sentence(app, section, tmp_path, scale, says):
    upload(app, "a.png", section.png)
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
    predict_demo(app)
    upload(app, name, content)
    assert not app.exception
    assert says in app.error[0].value
    assert slide(app).synthetic
    assert "Tissue tiles" in metrics(app)
    assert says in app.run().error[0].value  # as long as the file is there


def test_a_truncated_jpeg_is_told(app, section, tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(section.pixels).save(path)
    upload(app, "cut.jpg", path.read_bytes()[:4000])
    assert not app.exception
    assert "cut.jpg is damaged or incomplete" in app.error[0].value


def test_a_slide_without_tissue_is_told_and_its_settings_stay(app, tmp_path):
    blank = np.full((500, 500, 3), (240, 238, 241), np.uint8)
    upload(app, "blank.png", png_bytes(blank))
    app.number_input[0].set_value(1.0).run()
    finish(click(app, "Run"))
    assert not app.exception
    assert any("no tile is at least 30% tissue" in error.value.lower() for error in app.error)
    assert app.number_input[0].value == 1.0


def test_an_image_smaller_than_a_tile_is_told(app, tmp_path):
    small = np.full((50, 60, 3), (200, 120, 160), np.uint8)
    upload(app, "small.png", png_bytes(small))
    app.number_input[0].set_value(1.0).run()
    assert not app.exception
    assert any("smaller than one tile of 150 µm" in error.value for error in app.error)


def test_unknown_genes_of_a_list_are_named_and_left_out_and_the_result_before_stays(app):
    predict_demo(app, genes=None).run()
    app.radio[0].set_value("A list")
    app.run()
    assert "Name the genes to predict" in said(app)
    run = next(button for button in app.button if button.label == "Run")
    assert run.disabled
    app.text_area[0].set_value("HER2, ERBB22, ESR1, ENSG99999999999, COX6C").run()
    assert not app.exception
    told = app.warning[0].value
    assert "ERBB22 (did you mean ERBB2" in told
    assert ", ESR1, " in told
    assert "ENSG99999999999" in told
    assert metrics(app)["Genes"] == "4,822"
    finish(click(app, "Run"))
    assert list(slide(app).result.var_names) == ["ERBB2", "COX6C"]


def test_genes_listed_by_ensembl_id_are_found_or_told_as_such(app):
    click(app, "Use the demo slide")
    app.radio[0].set_value("A list").run()
    app.text_area[0].set_value("ENSG99999999999 ENSG99999999998").run()
    told = app.warning[0].value
    assert "do not hold them: ENSG99999999999, ENSG99999999998. Weights hold only genes that were detected" in told
    assert next(button for button in app.button if button.label == "Run").disabled
    app.text_area[0].set_value("ENSG00000141736 ENSG00000164919").run()
    finish(click(app, "Run"))
    assert list(slide(app).result.var_names) == ["ERBB2", "COX6C"]


def test_a_result_that_memory_cannot_hold_is_told_before_the_run(app, monkeypatch):
    monkeypatch.setattr("nsl.prediction.MAX_VALUES", 1000)
    click(app, "Use the demo slide")
    assert "more than memory may hold" in app.error[0].value
    assert next(button for button in app.button if button.label == "Run").disabled


def test_the_sidebar_follows_a_run_of_a_slide_that_is_not_looked_at(app, section):
    upload(app, "a.png", section.png)
    app.number_input[0].set_value(1.0).run()
    other = slide(app)
    click(app, "Use the demo slide")
    release = threading.Event()
    other.start(lambda job: release.wait(30) and None)
    app.run()
    assert any("a.png" in bar.proto.text for bar in app.sidebar.get("progress"))
    release.set()
    other.job.thread.join(30)


def test_common_names_of_genes_are_understood_and_shown_as_symbols(app):
    click(app, "Use the demo slide")
    app.radio[0].set_value("A list")
    app.run()
    app.text_area[0].set_value("HER2, cox6c").run()
    assert any("2 genes: ERBB2, COX6C" in caption.value for caption in app.caption)


def test_only_the_reliable_genes_are_predicted_when_asked(app):
    click(app, "Use the demo slide")
    app.radio[0].set_value("All but unreliable")
    app.run()
    finish(click(app, "Run"))
    var = slide(app).result.var
    genes = var[~var.index.str.startswith("signature:")]
    assert 1000 < len(genes) < 4822
    assert ((genes.r_heldout > 0) & (genes.q_value < 0.05)).all()
    assert len(var) - len(genes) == 26


def test_a_list_of_genes_is_all_that_is_predicted(app):
    click(app, "Use the demo slide")
    app.radio[0].set_value("A list")
    app.run()
    app.text_area[0].set_value("COX6C CD24\nERBB2").run()
    finish(click(app, "Run"))
    assert metrics(app)["Genes"] == "3"


def test_settings_outlast_a_change_of_page(app):
    click(app, "Use the demo slide")
    app.slider(key="min_tissue").set_value(60)
    app.run()
    app.switch_page(MAPS).run()
    app.switch_page("pages/predict.py").run()
    assert app.slider(key="min_tissue").value == 60


def test_damaged_weights_are_told_on_the_page(app, monkeypatch, tmp_path):
    monkeypatch.setattr("nsl.weights.folder.embedded_folder", lambda: tmp_path / "her2-breast")
    app.run()
    assert not app.exception
    assert "There is no weights folder" in app.error[0].value


def test_a_second_slide_comes_beside_the_first_and_each_keeps_its_result(app, section):
    predict_demo(app)
    demo = slide(app)
    upload(app, "patient 7.png", section.png)
    assert slide(app).name == "patient 7.png"
    assert slide(app).result is None
    choice = app.sidebar.radio(key="slide_choice")
    assert choice.options == [
        "1 · Demo slide (synthetic) · 720 tiles predicted",
        "2 · patient 7.png · not predicted yet",
    ]
    pictures = [picture for element in app.sidebar.get("image") for picture in element.proto.imgs]
    assert [picture.alt for picture in pictures] == ["Overview of Demo slide (synthetic)", "Overview of patient 7.png"]
    assert pictures[0].url != pictures[1].url
    choice.set_value(demo.key).run()
    assert slide(app) is demo
    assert metrics(app)["Tissue tiles"] == "720"


def test_a_slide_of_the_same_name_is_numbered(app, section):
    upload(app, "a.png", section.png)
    upload(app, "a.png", png_bytes(section.pixels[::-1]))
    assert slide(app).name == "a (2).png"


def test_slides_of_like_names_are_downloaded_under_names_of_their_own_and_can_be_renamed(app, section):
    def named(text: str) -> list[str]:
        next(box for box in app.sidebar.text_input if box.label == "Name of this slide").set_value(text).run()
        return controls.file_stems([one.name for one in session_held(app, SessionState).slides.values()])

    upload(app, "a b.png", section.png)
    upload(app, "a_b.png", png_bytes(section.pixels[::-1]))
    assert named("") == ["a_b", "a_b_2"]
    assert named("  core 2.5 of  block 7 ") == ["a_b", "core_2_5_of_block_7"]
    assert slide(app).name == "core 2.5 of block 7"
    assert "core 2.5 of block 7" in said(app)
    assert named("   ") == ["a_b", "core_2_5_of_block_7"]
    assert named("a b.png") == ["a_b", "a_b_2"]
    assert slide(app).name == "a b (2).png"


def test_a_removed_slide_takes_its_file_and_its_run_with_it(app, section):
    upload(app, "a.png", section.png)
    first = slide(app)
    click(app, "Use the demo slide")
    click(app, "Run")
    demo, job = slide(app), slide(app).job
    click(app, "Remove this slide")
    assert job.is_stopped
    assert not demo.path.exists()
    assert slide(app) is first
    click(app, "Remove this slide")
    assert slide(app) is None
    assert not first.path.exists()


def test_a_cancelled_run_keeps_what_is_there_and_says_so(app, monkeypatch):
    monkeypatch.setattr("nsl.prediction.predict", remembered_runs.anew)
    click(app, "Use the demo slide")
    app.radio[0].set_value("A list").run()
    app.text_area[0].set_value("ERBB2").run()
    monkeypatch.setattr("nsl.web.session.jobs.Job.report", _cancel_at_half)
    finish(click(app, "Run"))
    assert not app.exception
    assert 0 < slide(app).result.n_obs < 720
    assert any("The run was cancelled" in warning.value for warning in app.warning)
    assert "cancelled" in " ".join(caption.value for caption in app.sidebar.caption)


def _cancel_at_half(job, done, total, stage=""):
    job.is_cancelled |= done > total / 2


def test_a_session_holds_so_many_slides_and_says_so(app, section, monkeypatch):
    monkeypatch.setattr("nsl.web.session.uploads.MAX_SLIDES", 1)
    upload(app, "a.png", section.png)
    upload(app, "b.png", section.png)
    assert "holds 1 slides, as many as it can; remove one first" in app.error[0].value
    assert slide(app).name == "a.png"


def test_notices_call_the_file_what_the_user_calls_it(app, section, tmp_path):
    rgba = np.dstack([section.pixels, np.full(section.pixels.shape[:2], 200, np.uint8)])
    upload(app, "with alpha.png", png_bytes(rgba))
    assert any(info.value.startswith("with alpha.png has transparency") for info in app.info)


def test_a_full_disk_is_told_and_stays_told(app, section, tmp_path, monkeypatch):
    content = section.png

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    upload(app, "a.png", content)
    assert not app.exception
    assert "cannot be stored (No space left on device)" in app.error[0].value
    assert "cannot be stored" in app.run().error[0].value


def test_demo_after_a_bad_file_shows_no_error(app):
    upload(app, "notes.jpg", b"Dear colleague")
    assert app.error
    click(app, "Use the demo slide")
    assert not app.error


def test_stains_that_are_hardly_hematoxylin_and_eosin_are_warned_of_before_the_map(app, section):
    of_other_dyes = section.pixels[..., [0, 2, 1]]
    for name, pixels, is_warned in (("as trained.png", section.pixels, False), ("other.png", of_other_dyes, True)):
        upload(app, name, png_bytes(pixels))
        app.number_input[0].set_value(1.0).run()
        finish(click(app, "Run"))
        if is_warned:
            assert "as with DAB" in app.error[0].value
            app.checkbox(key="quality").uncheck().run()
            finish(click(app, "Run"))
        for page in ("pages/predict.py", MAPS, "pages/predict.py"):
            app.switch_page(page).run()
            told = " ".join(warning.value for warning in app.warning)
            assert ("its second stain takes more blue than green" in told) == is_warned


def test_tiles_of_ink_are_left_out_and_counted_and_can_be_had_all_the_same(app, section):
    inked = section.pixels.copy()
    inked[150:300, 150:300] = section.white_point * (0.1, 0.55, 0.3)
    upload(app, "inked.png", png_bytes(inked))
    app.number_input[0].set_value(1.0).run()
    finish(click(app, "Run"))
    tiles = slide(app).result.n_obs
    assert re.search(r"\d+ tiles? left out: \d+ ink\.", said(app))
    app.switch_page(MAPS).run()
    assert re.search(r"\d+ tiles? left out: \d+ ink\.", said(app))
    app.switch_page("pages/predict.py").run()
    app.checkbox(key="quality").uncheck().run()
    assert "The settings or the weights have changed since" in said(app)
    finish(click(app, "Run"))
    assert "left out:" not in said(app)
    assert slide(app).result.n_obs > tiles


def test_colours_of_another_profile_are_told_and_can_be_brought_to_srgb(app, section):
    content = io.BytesIO()
    Image.fromarray(section.pixels).save(content, "PNG", icc_profile=made_profile("Scanner, wide gamut"))
    upload(app, "wide.png", content.getvalue())
    assert "Scanner, wide gamut" in said(app)
    app.number_input[0].set_value(1.0).run()
    results = []
    for wished in (False, True):
        app.checkbox(key=f"to_srgb {slide(app).key}").set_value(wished).run()
        finish(click(app, "Run"))
        results.append(slide(app).result)
        assert not any("settings or the weights have changed" in info.value for info in app.info)
    assert [one.uns["nsl"]["brought_to_srgb"] for one in results] == [False, True]
    with slide(app).open() as opened:
        assert opened.is_converted  # what is looked at is what was predicted
    upload(app, "plain.png", section.png)
    assert not [box for box in app.checkbox if box.key.startswith("to_srgb")]


def test_the_transfer_of_stains_is_said_and_can_be_switched_off(app, section):
    upload(app, "a.png", section.png)
    app.number_input[0].set_value(1.0).run()
    finish(click(app, "Run"))
    assert "brought to those that the weights know" in said(app)
    on = slide(app).result.X
    app.checkbox(key="transfer").uncheck().run()
    assert "settings or the weights have changed" in said(app)
    finish(click(app, "Run"))
    assert "switched off" in said(app)
    assert not np.allclose(on, slide(app).result.X)


def test_unreliable_genes_are_listed_only_when_wished_for_and_marked(app):
    predict_demo(app, genes=None)
    app.switch_page(MAPS).run()
    var = slide(app).finished.result.var
    listed = app.selectbox(key="gene").options
    best = var.r_heldout.idxmax()
    assert listed[0] == f"Signature: {best.removeprefix('signature:')} · r {var.r_heldout[best]:.2f} ●"
    assert not any(option.startswith("GAPDH ") for option in listed)
    sets = sum(option.startswith("Signature: ") for option in listed)
    told = app.toggle(key="unreliable_genes").label
    assert told == f"List the unreliable too: {4822 - len(listed) + sets:,} genes and {26 - sets} signatures"
    app.toggle(key="unreliable_genes").set_value(True).run()
    assert len(app.selectbox(key="gene").options) == len(var) > len(listed)
    app.selectbox(key="gene").select("GAPDH").run()
    assert any("GAPDH is unreliable" in warning.value for warning in app.warning)


def test_the_folder_of_a_session_that_went_away_is_deleted(monkeypatch):
    from nsl.web.session import uploads

    class EndOfTest(Exception):
        pass

    ticks, own, sleep = iter(range(uploads.LOOKS_BEFORE_DELETION + 1)), threading.current_thread(), time.sleep

    def tick(seconds):
        if threading.current_thread() is not own:  # a sweep that another test began
            sleep(seconds)
        elif next(ticks, None) is None:
            raise EndOfTest

    # In that module alone: the process that runs the tests sleeps as well.
    monkeypatch.setattr("nsl.web.session.uploads.time", SimpleNamespace(sleep=tick, perf_counter=time.perf_counter))
    folder = uploads.tempfile.TemporaryDirectory()
    with pytest.raises(EndOfTest):
        uploads._sweep({"a session that is no more": folder})
    assert not Path(folder.name).exists()


def test_a_session_that_nobody_can_come_back_to_is_dropped_though_no_other_leaves(monkeypatch):
    class Session:
        id = "a session that is no more"

    store, session = MemorySessionStorage(ttl_seconds=0), Session()
    store.save(SessionInfo(client=None, session=session))
    left, loop = weakref.ref(session), asyncio.new_event_loop()
    del session
    assert left() is not None
    server = SimpleNamespace(
        _session_mgr=SimpleNamespace(_session_storage=store),
        _get_async_objs=lambda: SimpleNamespace(eventloop=loop),
    )
    monkeypatch.setattr(jobs, "runtime", SimpleNamespace(exists=lambda: True, get_instance=lambda: server))
    serving = threading.Thread(target=loop.run_forever)
    serving.start()
    jobs.drop_session(Session.id)
    loop.call_soon_threadsafe(loop.stop)
    serving.join()
    loop.close()
    assert left() is None
    # What is taken of a server here is no promise of Streamlit's.
    assert {"_session_mgr", "_get_async_objs"} <= {*Runtime.__init__.__code__.co_names, *vars(Runtime)}
    assert "_session_storage" in WebsocketSessionManager.__init__.__code__.co_names


def test_a_removed_slide_keeps_no_picture_in_memory_whoever_knows_it(app):
    click(app, "Use the demo slide")
    gone = slide(app)
    assert gone.seen.thumbnail.size
    click(app, "Remove this slide")
    assert (gone.seen.thumbnail.size, gone.job, gone.finished) == (0, None, None)


# Weights other than the embedded ones


def _collected(app: AppTest) -> AppTest:
    session_held(app, sources.WeightsChoice).request.thread.join(timeout=60)
    return app.run()


def _sidebar(app: AppTest) -> str:
    return " ".join(element.value for element in [*app.sidebar.markdown, *app.sidebar.caption, *app.sidebar.warning])


@pytest.mark.parametrize("below", ["", "tiny/"])
def test_a_weights_zip_is_used_from_then_on(app, tiny_weights, below):
    app.sidebar.file_uploader(key="weights_zip").upload("tiny.zip", zipped_folder(tiny_weights, below=below))
    _collected(app.run())
    assert "**tiny** · 3 genes" in _sidebar(app)
    # The name of the file, which may be a patient's, goes nowhere.
    assert "Uploaded zip" in _sidebar(app)
    click(app, "Use the demo slide")
    finish(click(app, "Run"))
    assert list(slide(app).finished.result.var_names) == ["ERBB2", "CD24", "COX6C"]
    # What was asked for and has not come yet replaces them no more.
    held = session_held(app, sources.WeightsChoice)
    held.request = later = sources.WeightsRequest(held.folder, "later.zip", is_uploaded=True)
    click(app, "Back to the embedded weights")
    if later.thread:
        later.thread.join(timeout=60)
    assert "4,822 genes" in _sidebar(app.run())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[:100], "the zip cannot be read"),
        (lambda content: _zipped_without(content, "model.safetensors"), r"has no model\.safetensors"),
    ],
)
def test_a_bad_zip_is_told_and_the_weights_in_use_stay(app, tiny_weights, spoil, said):
    app.sidebar.file_uploader(key="weights_zip").upload("tiny.zip", spoil(zipped_folder(tiny_weights)))
    app.run()
    assert not app.exception
    assert re.search(said, app.error[0].value.replace("\\", ""), re.IGNORECASE)
    assert "4,822 genes" in _sidebar(app)


def _zipped_without(content: bytes, name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            if info.filename != name:
                new.writestr(info, old.read(info))
    return buffer.getvalue()


def test_weights_of_the_hub_replace_the_embedded_ones_when_they_have_come(app, hub, tiny_weights, monkeypatch):
    monkeypatch.setattr("nsl.weights.folder.fetch", partial(fetch, endpoint=hub.url))
    commit = hub.commit("org/tiny", {path.name: path.read_bytes() for path in tiny_weights.iterdir()})
    app.sidebar.text_input(key="hub_source").set_value("org/tiny").run()
    _collected(app)
    assert "**tiny** · 3 genes" in _sidebar(app)
    assert f"org/tiny at commit {commit[:7]}" in _sidebar(app)


@pytest.mark.parametrize(
    "source", ["org/absent", "absent", "/etc/passwd", "nsl/web", "https://huggingface.co/org/name"]
)
def test_weights_that_cannot_be_had_are_told_and_the_embedded_ones_stay(app, hub, monkeypatch, embedded, source):
    monkeypatch.setattr("nsl.weights.folder.fetch", partial(fetch, endpoint=hub.url))
    app.sidebar.text_input(key="hub_source").set_value(source).run()
    if session_held(app, sources.WeightsChoice).request.thread:
        _collected(app)
    assert not app.exception
    assert "The weights above stay in use." in _sidebar(app)
    assert source.split("@")[0] in _sidebar(app).replace("\\", "").replace("\u2060", "")
    assert "4,822 genes" in _sidebar(app)
    click(app, "Use the demo slide")
    app.radio[0].set_value("A list").run()
    app.text_area[0].set_value("ERBB2").run()
    finish(click(app, "Run"))
    assert slide(app).weights.sha256 == embedded.sha256


def test_a_default_source_that_hangs_does_not_keep_the_page_waiting(
    apptest, hub, impatient, tmp_path, monkeypatch, tiny_weights
):
    hub.commit("org/tiny", {path.name: path.read_bytes() for path in tiny_weights.iterdir()})
    hub.silent = True
    monkeypatch.setattr("nsl.weights.folder.fetch", partial(fetch, endpoint=hub.url))
    monkeypatch.setenv("NSL_WEIGHTS", "org/tiny")
    app = start()
    assert session_held(app, sources.WeightsChoice).request.is_running
    assert len(app.file_uploader) >= 1
    _collected(app)
    assert "does not answer in time" in _sidebar(app)
    assert "4,822 genes" in _sidebar(app)
