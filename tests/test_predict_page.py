"""The Predict page beyond a plain upload: slides of several files, a folder of the server, the time a run takes."""

import pytest

from tests.app_driver import click, finish, metrics, png_bytes, said, slide, upload
from tests.test_archive import painted, write_dicom, zipped


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
    assert slide(app).size == (768, 512)
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
    (folder / "2026/a.png").write_bytes(png_bytes(section.pixels))
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


def test_a_servers_folder_that_is_not_there_is_told(monkeypatch, tmp_path, app):
    monkeypatch.setenv("NSL_SLIDE_DIR", str(tmp_path / "absent"))
    app.run()
    assert not app.exception
    assert "which cannot be listed" in app.error[0].value
    assert "Use the demo slide" in [button.label for button in app.button]


def test_without_a_servers_folder_nothing_is_offered(app, monkeypatch):
    monkeypatch.delenv("NSL_SLIDE_DIR", raising=False)
    assert "Open it" not in [button.label for button in app.run().button]


def test_the_page_says_how_long_a_run_takes_before_it_begins_and_learns_from_it(app):
    from nsl.web import pace

    click(app, "Use the demo slide")
    assert "720 tiles" in said(app) or "718 tiles" in said(app)
    assert "on this computer" in said(app)
    before = pace._known()["responses_per_second"]
    finish(click(app, "Run"))
    assert pace._known()["responses_per_second"] != before
    assert float(metrics(app)["Time"].removesuffix(" s")) > 0


def test_more_genes_and_finer_tiles_are_said_to_take_longer(app):
    from nsl.web import pace

    assert pace.responses(100, 150, 3, 10) == 100 * 2500 * 10
    few, many = (pace.seconds(0.2, pace.responses(1000, 150, 3, genes)) for genes in (10, 4812))
    assert few < many


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


def test_finer_analysis_than_the_slide_is_taken_at_the_slides_own(app, section):
    upload(app, "a.png", png_bytes(section.pixels))
    app.number_input[0].set_value(4.0).run()
    finish(click(app, "Run"))
    assert slide(app).result.uns["nsl"]["analysis_mpp"] == 4.0
    assert "The settings have changed" not in said(app)
