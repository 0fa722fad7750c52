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
    page = visit("/compare?genes=ERBB2,COX6C", slide)
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
    # The box with the chosen genes is not to be searched: it holds no others.
    chosen = compare.get_by_test_id("stMultiSelect")
    box = chosen.bounding_box()
    compare.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
    expect(chosen.get_by_role("combobox")).to_have_attribute("aria-expanded", "false")
    before = _ranges(compare)[0]
    middle = sum(before) / 2
    compare.mouse.move(*on_map(compare, middle, middle))
    compare.mouse.wheel(0, -500)
    left = before[0] + 0.04
    compare.wait_for_function(f"document.querySelector('.nsl-chart')._fullLayout.xaxis.range[0] > {left}")
    # The wheel's turn goes on for some pictures.
    compare.wait_for_function(
        """() => {
            const { xaxis } = document.querySelector('.nsl-chart')._fullLayout, seen = String(xaxis.range);
            const stands = window.lastSeen === seen;
            window.lastSeen = seen;
            return stands;
        }""",
        polling=300,
    )
    first, second = _ranges(compare)
    assert first == pytest.approx(second)
    choose(compare, "Genes, two to four", "ER")
    expect(compare.get_by_text("ER is ESR1, which is not in these weights")).to_be_visible()
    choose(compare, "Genes, two to four", "CD24")
    compare.wait_for_function("document.querySelector('.nsl-chart')._fullLayout.xaxis3 !== undefined")
    settle(compare)
    assert _ranges(compare)[0] == pytest.approx(first)


def test_tiles_selected_on_a_map_are_marked_in_the_scatter_and_downloaded_and_the_reverse(compare, tmp_path):
    middle = sum(_ranges(compare)[0]) / 2
    corners = [on_map(compare, middle - 0.2, middle - 0.2), on_map(compare, middle + 0.2, middle + 0.2)]
    drag(compare, "Draw a box", corners)
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
    settle(compare)

    box = compare.locator(".nsl-chart").nth(1).locator(".nsewdrag").first
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    corners = [
        (place["x"] + place["width"] * share, place["y"] + place["height"] * (1 - share)) for share in (0.55, 0.98)
    ]
    before = compare.evaluate("document.querySelector('.nsl-chart')._fullData.length")
    drag(compare, "Draw a box", corners, chart=1)
    expect(compare.get_by_text("tiles are selected")).to_be_visible()
    compare.wait_for_function(f"document.querySelector('.nsl-chart')._fullData.length > {before}")


def test_every_view_is_drawn_and_printed_and_the_address_of_one_opens_it_again(compare, visit, tmp_path):
    path = download(compare, button(compare, "Maps to print (zip of PNG)"), tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert [name.rsplit("_", 1)[1] for name in archive.namelist()] == ["ERBB2.png", "COX6C.png"]
        for name in archive.namelist():
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                assert picture.width / picture.info["dpi"][0] * 25.4 == pytest.approx(180, abs=1)

    _choose_mode(compare, "Difference", "heatmap")
    with Image.open(download(compare, button(compare, "Map to print (PNG)"), tmp_path)) as picture:
        assert picture.width / picture.info["dpi"][0] * 25.4 == pytest.approx(180, abs=1)
    compare.wait_for_url("**view=difference**")
    again = visit(compare.url[compare.url.index("/compare") :])
    button(again, "Show it on the demo slide").click()
    expect(again.locator(".nsl-chart").first).to_be_visible(timeout=90_000)
    expect(again.get_by_role("radio", name="Difference")).to_be_checked()

    _choose_mode(compare, "Blend", "image")


def _choose_mode(page: Page, mode: str, kind: str) -> None:
    """Show two genes as one map, which is drawn by a trace of that kind."""
    page.get_by_role("radio", name=mode).click()
    settle(page)
    see_charts(page, 2)
    page.wait_for_function(
        f"(document.querySelector('.nsl-chart')._fullData ?? [])[0]?.type === '{kind}' && "
        "document.querySelector('.nsl-chart')._fullLayout.xaxis3 === undefined"
    )


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
