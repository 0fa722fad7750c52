"""From a slide to a table on disk, in Chromium."""

import io
import json
import zipfile

import pandas as pd
from PIL import Image
from playwright.sync_api import expect

from tests.browser.driver import UPLOAD, button, download, go_to, run, settle, take_demo, take_file


def test_demo_slide_from_click_to_csv(page, tmp_path):
    take_demo(page)
    tiles = run(page)
    table = pd.read_csv(download(page, button(page, "Download CSV"), tmp_path))
    assert len(table) == tiles
    assert list(table.columns[:8]) == [
        *("tile", "array_row", "array_col", "x_um", "y_um", "x_px", "y_px", "tissue_fraction"),
    ]
    assert {"ERBB2", "CD24", "COX6C"} <= set(table.columns)
    assert table.notna().all().all()


def test_run_and_the_way_to_the_maps_are_in_view_without_scrolling(visit, data_folder):
    page = visit(viewport={"width": 911, "height": 512})
    take_file(page, data_folder / "slides/cmu_small_region.svs")
    expect(button(page, "Run")).to_be_in_viewport(ratio=1)
    run(page)
    expect(page.get_by_role("link", name="See the maps")).to_be_in_viewport(ratio=1)


def test_a_scanner_slide_needs_no_scale(page, data_folder, tmp_path):
    take_file(page, data_folder / "slides/cmu_small_region.svs")
    facts = "Aperio SVS · ScanScope CPAPERIOCS · scanned at 20× · 2,220 × 2,967 px"
    expect(page.get_by_text(facts)).to_contain_text("0.499 µm/px in the file")
    tiles = run(page)
    assert len(pd.read_csv(download(page, button(page, "Download CSV"), tmp_path))) == tiles


def test_a_section_without_a_scale_goes_through_once_it_is_given(page, data_folder, tmp_path):
    page.set_input_files(UPLOAD, data_folder / "her2st/images/C5_full.jpg")
    expect(page.get_by_text("does not say its scale")).to_be_visible()
    expect(button(page, "Run")).to_have_count(0)
    scale = page.get_by_role("spinbutton", name="Scale, µm per pixel")
    scale.fill("0.69")
    scale.press("Enter")
    tiles = run(page)
    assert tiles > 1000
    page.get_by_text("Other formats").click()
    path = download(page, button(page, "CSV with provenance (zip)"), tmp_path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        assert archive.namelist() == ["C5_full.csv", "C5_full.genes.csv", "C5_full.provenance.json"]
        assert len(pd.read_csv(archive.open("C5_full.csv"))) == tiles
        told = json.loads(archive.read("C5_full.provenance.json"))
    assert told["mpp"] == 0.69
    assert "C5_full" not in json.dumps(told)


def test_a_cancelled_run_keeps_the_tiles_it_came_to(page, tmp_path):
    take_demo(page)
    told = page.get_by_text("genes: about")
    at_half_steps = told.inner_text()
    page.get_by_role("combobox", name="Step between tiles").click()
    page.get_by_role("option", name="A quarter of a tile").click()
    expect(told).not_to_have_text(at_half_steps)
    expected = int(told.inner_text().split(" tiles")[0].split()[-1].replace(",", ""))
    button(page, "Run").click()
    expect(page.get_by_role("progressbar").first).to_be_visible()
    expect(page.get_by_text("tiles").filter(has_text=" of ").first).to_be_visible()
    button(page, "Cancel").click()
    expect(page.get_by_text("The run was cancelled").first).to_be_visible()
    settle(page)
    table = pd.read_csv(download(page, button(page, "Download CSV"), tmp_path))
    assert 0 < len(table) < expected
    expect(page.get_by_test_id("stSidebar").get_by_text("cancelled")).to_be_visible()


def test_slides_of_a_session_are_switched_in_the_sidebar_and_keep_their_results(page, data_folder):
    take_demo(page)
    tiles = run(page)
    take_file(page, data_folder / "slides/cmu_small_region.svs")
    sidebar = page.get_by_test_id("stSidebar")
    expect(sidebar.get_by_text("cmu_small_region.svs · not predicted yet")).to_be_visible()
    expect(page.get_by_test_id("stMetric")).to_have_count(0)
    sidebar.get_by_text("Demo slide (synthetic)").click()
    expect(page.get_by_test_id("stMetric").filter(has_text="Tissue tiles")).to_contain_text(f"{tiles:,}")
    sidebar.get_by_role("button", name="Remove this slide").click()
    expect(sidebar.get_by_text("Demo slide (synthetic)")).to_have_count(0)
    expect(sidebar.get_by_text("cmu_small_region.svs")).to_be_visible()


def test_a_bad_file_leaves_the_slide_before_in_place(page, tmp_path):
    take_demo(page)
    tiles = run(page)
    (tmp_path / "letter.jpg").write_text("Dear colleague")
    page.set_input_files(UPLOAD, tmp_path / "letter.jpg")
    expect(page.get_by_text("letter.jpg looks like a text file")).to_be_visible()
    expect(page.get_by_test_id("stMetric").filter(has_text="Tissue tiles")).to_contain_text(f"{tiles:,}")
    Image.new("RGB", (40, 30), "pink").save(tmp_path / "tiny.png")
    page.set_input_files(UPLOAD, tmp_path / "tiny.png")
    expect(page.get_by_text("does not say its scale")).to_be_visible()
    scale = page.get_by_role("spinbutton", name="Scale, µm per pixel")
    scale.fill("0.5")
    scale.press("Enter")
    expect(page.get_by_text("smaller than one tile of 150 µm")).to_be_visible()


def test_settings_outlast_a_visit_to_another_page(page):
    take_demo(page)
    page.get_by_text("Annotated regions").click()
    in_the_part_below = page.get_by_text("Every tile says its region and class")
    expect(in_the_part_below).to_be_visible()
    for choice in ("A list", "All but unreliable"):
        page.get_by_text(choice, exact=True).click()
        settle(page)
        expect(in_the_part_below).to_be_visible()
    go_to(page, "About")
    go_to(page, "Predict")
    expect(page.get_by_role("radio", name="All but unreliable")).to_be_checked()
