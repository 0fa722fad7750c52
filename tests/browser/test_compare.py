"""Compare in Chromium: one zoom for all maps, selections seen in maps and scatter, every mode, two slides."""

import io
import zipfile

import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.driver import (
    button,
    choose,
    download,
    drag,
    go_to,
    on_map,
    run,
    see_charts,
    settle,
    take_file,
)


@pytest.fixture
def compare(visit, slide) -> Page:
    """The Compare page of a predicted slide."""
    page = visit("/compare", slide)
    see_charts(page, 2)
    return page


def _ranges(page: Page) -> list[list[float]]:
    return page.evaluate(
        """() => {
            const layout = document.querySelector('.nsl-chart')._fullLayout;
            return [layout.xaxis.range, layout.xaxis2.range];
        }"""
    )


def test_all_maps_are_zoomed_together_and_stay_so_when_a_gene_is_added(compare):
    before = _ranges(compare)[0]
    middle = sum(before) / 2
    compare.mouse.move(*on_map(compare, middle, middle))
    compare.mouse.wheel(0, -500)
    left = before[0] + 0.04
    compare.wait_for_function(f"document.querySelector('.nsl-chart')._fullLayout.xaxis.range[0] > {left}")
    compare.wait_for_timeout(500)
    first, second = _ranges(compare)
    assert first == pytest.approx(second)
    choose(compare, "Genes, two to four", "ER")
    expect(compare.get_by_text("ER is ESR1, which is not in these weights")).to_be_visible()
    choose(compare, "Genes, two to four", "CD24")
    compare.wait_for_function("document.querySelector('.nsl-chart')._fullLayout.xaxis3 !== undefined")
    settle(compare)
    assert _ranges(compare)[0] == pytest.approx(first)


def test_tiles_selected_on_a_map_are_marked_in_the_scatter_and_downloaded(compare, tmp_path):
    middle = sum(_ranges(compare)[0]) / 2
    corners = [on_map(compare, middle - 0.2, middle - 0.2), on_map(compare, middle + 0.2, middle + 0.2)]
    drag(compare, "Box Select", corners)
    told = compare.get_by_text("tiles are selected")
    expect(told).to_be_visible()
    number = int(told.inner_text().split()[0].replace(",", ""))
    table = pd.read_csv(download(compare, button(compare, "CSV of the selection"), tmp_path))
    assert len(table) == number
    assert list(table.columns[-2:]) == ["ERBB2", "COX6C"]
    marked = compare.evaluate(
        "Array.from(document.querySelectorAll('.nsl-chart')[1]._fullData, (trace) => trace.x?.length ?? 0)"
    )
    assert number in marked
    button(compare, "Clear the selection").click()
    expect(told).to_have_count(0)


def test_tiles_selected_in_the_scatter_are_outlined_on_the_maps(compare):
    box = compare.locator(".nsl-chart").nth(1).locator(".nsewdrag").first
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    corners = [
        (place["x"] + place["width"] * share, place["y"] + place["height"] * (1 - share)) for share in (0.55, 0.98)
    ]
    before = compare.evaluate("document.querySelector('.nsl-chart')._fullData.length")
    drag(compare, "Box Select", corners, chart=1)
    expect(compare.get_by_text("tiles are selected")).to_be_visible()
    compare.wait_for_function(f"document.querySelector('.nsl-chart')._fullData.length > {before}")


def test_the_maps_side_by_side_are_printed_one_a_gene(compare, tmp_path):
    path = download(compare, button(compare, "Maps to print (zip of PNG)"), tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert [name.rsplit("_", 1)[1] for name in archive.namelist()] == ["ERBB2.png", "COX6C.png"]
        for name in archive.namelist():
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                assert picture.width / picture.info["dpi"][0] * 25.4 == pytest.approx(180, abs=1)


def test_a_difference_is_printed_and_its_address_opens_it_again(compare, visit, tmp_path):
    compare.get_by_role("radio", name="Difference").click()
    settle(compare)
    see_charts(compare, 2)
    with Image.open(download(compare, button(compare, "Map to print (PNG)"), tmp_path)) as picture:
        assert picture.width / picture.info["dpi"][0] * 25.4 == pytest.approx(180, abs=1)
    compare.wait_for_url("**view=difference**")
    again = visit(compare.url[compare.url.index("/compare") :])
    button(again, "Show it on the demo slide").click()
    expect(again.locator(".nsl-chart").first).to_be_visible(timeout=90_000)
    expect(again.get_by_role("radio", name="Difference")).to_be_checked()


@pytest.mark.parametrize("mode", ["Difference", "Blend"])
def test_two_genes_are_drawn_as_one_map(compare, mode):
    compare.get_by_role("radio", name=mode).click()
    settle(compare)
    see_charts(compare, 2)
    kind = compare.evaluate("document.querySelector('.nsl-chart')._fullData[0].type")
    assert kind == ("heatmap" if mode == "Difference" else "image")


def test_one_gene_is_compared_across_two_slides(visit, data_folder, tmp_path):
    page = visit("/", "demo")
    take_file(page, data_folder / "slides/cmu_small_region.svs")
    run(page)
    go_to(page, "Compare")
    page.get_by_role("radio", name="Across slides").click()
    settle(page)
    see_charts(page)
    table = pd.read_csv(download(page, button(page, "CSV of ERBB2 on both"), tmp_path))
    assert table.slide.nunique() == 2
    assert len(table) == sum(
        int(n)
        for n in page.evaluate(
            """() => Array.from(document.querySelector('.nsl-chart')._fullData.filter((t) => t.type === 'heatmap'),
                (heat) => heat.z.reduce((n, row) => n + Array.from(row).filter(Number.isFinite).length, 0))"""
        )
    )
