"""From a slide to maps and a CSV on disk, in Chromium."""

import io
import json
import zipfile
from pathlib import Path

import pandas as pd
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import settle

UPLOAD = "[data-testid='stMain'] [data-testid='stFileUploaderDropzoneInput']"


def _run(page: Page) -> int:
    """Press Run, wait for the result, and return the number of tiles it says."""
    page.get_by_role("button", name="Run", exact=True).click()
    metric = page.get_by_test_id("stMetric").filter(has_text="Tissue tiles")
    expect(metric).to_be_visible(timeout=90_000)
    settle(page)
    return int(metric.get_by_test_id("stMetricValue").inner_text().replace(",", ""))


def _csv(page: Page, folder: Path) -> pd.DataFrame:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return pd.read_csv(path)


def _see_map(page: Page) -> dict:
    """Go to the maps; returns trace and colour scale that Plotly drew."""
    page.get_by_role("link", name="See the maps").click()
    page.wait_for_selector(".js-plotly-plot .heatmaplayer image, .js-plotly-plot .heatmaplayer .hm")
    settle(page)
    return _drawn(page)


def _drawn(page: Page) -> dict:
    return page.evaluate(
        """() => {
            const plot = document.querySelector('.js-plotly-plot');
            const heat = plot._fullData[0];
            return {
                type: heat.type,
                tiles: heat.z.reduce((n, row) => n + Array.from(row).filter(Number.isFinite).length, 0),
                title: plot._fullLayout.coloraxis.colorbar.title.text,
                images: plot._fullLayout.images.length,
                x: plot._fullLayout.xaxis.range,
            };
        }"""
    )


def test_demo_slide_from_click_to_map_to_csv(page, tmp_path):
    page.get_by_role("button", name="Use the demo slide").click()
    expect(page.get_by_text("Synthetic: made by this program").first).to_be_visible()
    tiles = _run(page)
    drawn = _see_map(page)
    assert drawn["type"] == "heatmap"
    assert drawn["tiles"] == tiles
    assert drawn["images"] == 1
    expect(page.get_by_text("Synthetic: made by this program").first).to_be_visible()
    table = _csv(page, tmp_path)
    assert len(table) == tiles
    assert list(table.columns[:8]) == [
        *("tile", "array_row", "array_col", "x_um", "y_um", "x_px", "y_px", "tissue_fraction"),
    ]
    assert {"ERBB2", "CD24", "COX6C"} <= set(table.columns)
    assert table.notna().all().all()


def test_a_gene_is_found_by_typing_and_the_wheel_zooms(page):
    page.get_by_role("button", name="Use the demo slide").click()
    _run(page)
    _see_map(page)
    gene = page.get_by_role("combobox", name="Gene")
    gene.click()
    gene.fill("COX6C")
    gene.press("Enter")
    page.wait_for_function(
        "document.querySelector('.js-plotly-plot')?._fullLayout?.coloraxis?.colorbar.title.text.startsWith('COX6C')"
    )
    settle(page)
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -400)
    page.wait_for_function("document.querySelector('.js-plotly-plot')?._fullLayout?.xaxis.range[0] > 0.05")
    assert _drawn(page)["x"][1] < 2.95


def test_a_scanner_slide_needs_no_scale(page, data_folder, tmp_path):
    page.set_input_files(UPLOAD, data_folder / "slides/cmu_small_region.svs")
    expect(page.get_by_text("Aperio SVS · 2,220 × 2,967 px · 0.499 µm/px in the file")).to_be_visible()
    tiles = _run(page)
    assert _see_map(page)["tiles"] == tiles
    assert len(_csv(page, tmp_path)) == tiles


def test_a_section_without_a_scale_goes_through_once_it_is_given(page, data_folder, tmp_path):
    page.set_input_files(UPLOAD, data_folder / "her2st/images/C5_full.jpg")
    scale = page.get_by_role("spinbutton", name="Scale, µm per pixel")
    expect(scale).to_be_visible()
    expect(page.get_by_text("does not say its scale")).to_be_visible()
    expect(page.get_by_role("button", name="Run", exact=True)).to_have_count(0)
    scale.fill("0.69")
    scale.press("Enter")
    tiles = _run(page)
    assert tiles > 1000
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV with provenance (zip)").click()
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        assert archive.namelist() == ["C5_full.csv", "C5_full.genes.csv", "C5_full.provenance.json"]
        assert len(pd.read_csv(archive.open("C5_full.csv"))) == tiles
        told = json.loads(archive.read("C5_full.provenance.json"))
    assert told["mpp"] == 0.69
    assert "C5_full" not in json.dumps(told)
    assert _see_map(page)["tiles"] == tiles


def test_a_bad_file_leaves_the_slide_before_in_place(page, tmp_path):
    page.get_by_role("button", name="Use the demo slide").click()
    tiles = _run(page)
    (tmp_path / "letter.jpg").write_text("Dear colleague")
    page.set_input_files(UPLOAD, tmp_path / "letter.jpg")
    expect(page.get_by_text("letter.jpg looks like a text file")).to_be_visible()
    expect(page.get_by_test_id("stMetric").filter(has_text="Tissue tiles")).to_contain_text(f"{tiles:,}")
    Image.new("RGB", (40, 30), "pink").save(tmp_path / "tiny.png")
    page.set_input_files(UPLOAD, tmp_path / "tiny.png")
    scale = page.get_by_role("spinbutton", name="Scale, µm per pixel")
    expect(page.get_by_text("does not say its scale")).to_be_visible()
    scale.fill("0.5")
    scale.press("Enter")
    expect(page.get_by_text("smaller than one tile of 150 µm")).to_be_visible()


def test_a_page_opened_by_its_own_address_is_inside_the_app(chromium, server):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{server}/maps")
    expect(page.get_by_role("heading", name="Expression maps")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("her2-breast")).to_be_visible()
    expect(page.get_by_role("link", name="Go to Predict")).to_be_visible()
    context.close()
