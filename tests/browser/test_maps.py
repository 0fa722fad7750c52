"""Maps in Chromium: zoom, tiles, regions, finer maps, links, and every file to take home."""

import json
import re
import zipfile
from collections.abc import Iterator

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from nsl.web.controls import RESEARCH_ONLY
from tests.browser.driver import (
    button,
    choose,
    download,
    drag,
    go_to,
    middle_tile,
    on_map,
    see_charts,
    settle,
    tiles_predicted,
)


@pytest.fixture
def maps(visit, slide) -> tuple[Page, int]:
    """The Maps page of a predicted slide, and its number of tiles."""
    page = visit("/maps", slide)
    see_charts(page)
    return page, tiles_predicted(page)


@pytest.fixture(scope="module")
def untouched(visitors) -> Iterator[Page]:
    """The Maps page of the demo slide, which tests see in other windows and other light, and leave as it is."""
    with visitors() as visit:
        page = visit("/maps", "demo")
        see_charts(page)
        yield page


def _drawn(page: Page) -> dict:
    return page.evaluate(
        """() => {
            const chart = document.querySelector('.nsl-chart'), heat = chart._fullData[0];
            const finite = heat.z.reduce((n, row) => n + Array.from(row).filter(Number.isFinite).length, 0);
            const layout = chart._fullLayout;
            return { type: heat.type, tiles: finite, title: layout.coloraxis.colorbar.title.text,
                     images: layout.images.length, x: layout.xaxis.range, y: layout.yaxis.range,
                     alt: chart.getAttribute('aria-label') };
        }"""
    )


def test_the_map_holds_every_tile_over_the_slide_and_says_what_it_shows(untouched):
    drawn, tiles = _drawn(untouched), tiles_predicted(untouched)
    assert (drawn["type"], drawn["tiles"], drawn["images"]) == ("heatmap", tiles, 1)
    assert drawn["title"] == "ERBB2, ln(1 + counts per 10,000)"
    assert f"expression of ERBB2 over the slide, {tiles:,} tiles" in drawn["alt"]


def test_a_click_on_a_tile_shows_its_tissue_and_values_and_zoom_is_kept_when_the_gene_changes(maps):
    page, _ = maps
    page.mouse.click(*on_map(page, *middle_tile(page)))
    tissue = page.get_by_test_id("stMain").get_by_test_id("stImage").get_by_role("img")
    expect(tissue).to_be_visible()
    settle(page)
    assert "H&E of tile r" in tissue.get_attribute("alt")
    assert tissue.evaluate("image => image.naturalWidth") >= 150
    expect(page.get_by_text("150 µm wide at")).to_be_visible()
    expect(page.get_by_test_id("stMetric").filter(has_text="Hematoxylin-like")).to_be_visible()

    before = _drawn(page)["x"]
    page.mouse.move(*on_map(page, *middle_tile(page)))
    page.mouse.wheel(0, -500)
    page.wait_for_function(f"document.querySelector('.nsl-chart')._fullLayout.xaxis.range[0] > {before[0] + 0.05}")
    zoomed = _drawn(page)["x"]
    choose(page, "Gene", "COX6C")
    page.wait_for_function(
        "document.querySelector('.nsl-chart')._fullLayout.coloraxis.colorbar.title.text.startsWith('COX6C')"
    )
    assert _drawn(page)["x"] == pytest.approx(zoomed)


def test_a_drawn_region_is_compared_with_the_rest_and_downloaded(maps, tmp_path):
    page, tiles = maps
    x, y = middle_tile(page)
    corners = [(x - 0.2, y - 0.2), (x + 0.2, y - 0.2), (x + 0.2, y + 0.2), (x - 0.2, y + 0.2)]
    for mode in ("Draw a box", "Draw a lasso"):
        on_screen = [on_map(page, *corner) for corner in corners]
        drag(page, mode, [on_screen[0], on_screen[2]] if mode == "Draw a box" else [*on_screen, on_screen[0]])
        expect(page.get_by_text("tiles inside")).to_be_visible()
        table = pd.read_csv(download(page, button(page, "Download the comparison (CSV)"), tmp_path), index_col="gene")
        assert len(table) == 4822 + 26  # genes and signatures
        assert {"mean_inside", "mean_outside", "effect_size", "q_value"} <= set(table.columns)
        inside = int(page.get_by_text("tiles inside").inner_text().split()[0].replace(",", ""))
        assert 3 <= inside < tiles
        button(page, "Clear the region").click()
        expect(page.get_by_text("Choose the box or the lasso")).to_be_visible()


@pytest.mark.parametrize("mode", ["Draw a box", "Draw a lasso"])
def test_what_is_drawn_around_no_tile_is_told_above_the_map_whatever_stands_beside_it(maps, mode):
    page, _ = maps
    page.mouse.click(*on_map(page, *middle_tile(page)))
    expect(page.get_by_text("150 µm wide at")).to_be_visible()
    page.set_viewport_size({"width": 1366, "height": 768})
    _see_fitted(page)
    settle(page)
    (x0, x1), (y0, y1) = _drawn(page)["x"], _drawn(page)["y"]
    # In a corner without tissue, and off the frame, which zooms where it is dragged.
    (left, right), (bottom, top) = (x0 + np.array([0.02, 0.12]) * (x1 - x0), y0 + np.array([0.9, 0.98]) * (y1 - y0))
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    on_screen = [on_map(page, *map(float, corner)) for corner in corners]
    drag(page, mode, [on_screen[0], on_screen[2]] if mode == "Draw a box" else [*on_screen, on_screen[0]])
    told = page.get_by_text("No tile lies in what was drawn; draw it larger, or over the tiles")
    expect(told).to_be_in_viewport(ratio=1)
    below, above = page.locator(".nsl-chart").first.bounding_box(), told.bounding_box()
    assert above["y"] + above["height"] <= below["y"]


def test_a_region_without_the_tissues_edge_in_it_is_drawn_too(maps):
    page, tiles = maps
    button(page, "Display").click()
    page.get_by_text("Outline the tissue").click()
    settle(page)
    page.keyboard.press("Escape")
    x, y = middle_tile(page)
    drag(page, "Draw a box", [on_map(page, x - 0.2, y - 0.2), on_map(page, x + 0.2, y + 0.2)])
    inside = int(page.get_by_text("tiles inside").inner_text().split()[0].replace(",", ""))
    assert 3 <= inside < tiles


def test_tiles_are_erased_by_a_box_and_by_keys_and_restored(maps):
    page, tiles = maps
    x, y = middle_tile(page)
    drag(page, "Draw a box", [on_map(page, x - 0.2, y - 0.2), on_map(page, x + 0.2, y + 0.2)])
    erase = page.get_by_role("button", name=re.compile(r"Erase its \d+ tiles"))
    number = int(re.search(r"\d+", erase.inner_text()).group())
    erase.click()
    told = page.get_by_test_id("stMain").get_by_text(re.compile("left out.* by hand"))
    expect(told.first).to_contain_text(f"{number:,}")
    _see_tiles(page, tiles - number)
    expect(page.get_by_text("Choose the box or the lasso")).to_be_visible()

    # Without a mouse: step to a tile, and press the button.
    page.locator(".nsl-chart").first.focus()
    page.keyboard.press("ArrowRight")
    expect(button(page, "Erase this tile")).to_be_visible()
    settle(page)
    button(page, "Erase this tile").focus()
    page.keyboard.press("Enter")
    _see_tiles(page, tiles - number - 1)
    button(page, "Restore the last 1").click()
    _see_tiles(page, tiles - number)
    button(page, f"Restore all {number} erased").click()
    _see_tiles(page, tiles)


def _see_tiles(page: Page, number: int) -> None:
    """Wait until the map holds so many tiles, and the number beside it says so."""
    expect(page.get_by_test_id("stMetric").filter(has_text="Tiles")).to_contain_text(f"{number:,}")
    page.wait_for_function(
        """(number) => document.querySelector('.nsl-chart')._fullData[0].z.reduce(
            (sum, row) => sum + Array.from(row).filter(Number.isFinite).length, 0) === number""",
        arg=number,
    )
    assert _drawn(page)["tiles"] == number
    settle(page)


def test_a_finer_map_is_drawn_on_demand(maps):
    page, _ = maps
    page.get_by_text("A finer map of ERBB2").click()
    button(page, "Draw it").click()
    expect(page.get_by_text("squares of 20 µm; colours")).to_be_visible()
    see_charts(page, 2)
    fine = page.evaluate("document.querySelectorAll('.nsl-chart')[1]._fullData[0].dx")
    assert fine == pytest.approx(0.02)


def test_every_format_opens_in_what_it_is_for(maps, tmp_path):
    page, tiles = maps
    csv = download(page, button(page, "CSV of ERBB2 alone"), tmp_path)
    assert list(pd.read_csv(csv).columns[-3:]) == ["fold", "surround", "ERBB2"]
    with Image.open(download(page, button(page, "Map to print (PNG)"), tmp_path)) as picture:
        assert picture.info["dpi"][0] == pytest.approx(300, abs=1)
        assert picture.width / 300 * 25.4 == pytest.approx(180, abs=1)
    page.get_by_text("Other formats").click()
    result = anndata.read_h5ad(download(page, button(page, "AnnData (h5ad)"), tmp_path))
    assert result.shape == (tiles, 4822)
    told = json.loads(download(page, button(page, "QuPath (GeoJSON)"), tmp_path).read_text())
    assert len(told["features"]) == tiles
    feature = told["features"][0]
    assert feature["geometry"]["type"] == "Polygon"
    assert feature["properties"]["objectType"] == "tile"
    assert len(feature["properties"]["measurements"]) == 51
    with zipfile.ZipFile(download(page, button(page, "Everything (zip)"), tmp_path)) as archive:
        endings = sorted(name.split(".", 1)[1] for name in archive.namelist())
        assert endings == ["ERBB2.png", "csv", "genes.csv", "geojson", "h5ad", "provenance.json", "txt"]
        assert archive.testzip() is None


@pytest.mark.parametrize(("scheme", "letters"), [("light", "#24222b"), ("dark", "#e9e7ef")])
def test_the_camera_prints_dark_letters_on_white_whatever_the_theme(untouched, tmp_path, scheme, letters):
    untouched.emulate_media(color_scheme=scheme)
    untouched.wait_for_function(f"document.querySelector('.nsl-chart')._fullLayout.font.color === '{letters}'")
    camera = untouched.locator(".nsl-chart [data-title='Download as PNG']")
    with Image.open(download(untouched, camera, tmp_path)) as picture:
        pixels = np.asarray(picture.convert("RGBA")).astype(int)
    assert (pixels[..., 3] == 255).all()
    above = pixels[:200, :, :3]  # the name of the scale, above its colours
    assert (above[0] == 255).all()
    assert above.min() < 80


def _see_fitted(page: Page) -> None:
    """Wait until the first chart is drawn as wide as there is room for it."""
    page.wait_for_function(
        "(chart => Math.abs(chart._fullLayout.width - chart.clientWidth) < 1)(document.querySelector('.nsl-chart'))"
    )


def _resize(page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    _see_fitted(page)


def test_the_map_is_never_squeezed(untouched):
    for width in (1366, 1200, 1024, 900, 600):
        _resize(untouched, width, 900)
        side = untouched.evaluate("document.querySelector('.nsl-chart')._fullLayout._size.w")
        assert side > 380, width
        overflow = untouched.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth - window.innerWidth")
        assert overflow <= 0, width


def _first_panel(page: Page) -> tuple[float, float]:
    """Where the first panel of a page's first chart ends on the screen, and how high it is."""
    bottom, side = page.wait_for_function(
        """() => {
            const chart = document.querySelector('.nsl-chart'), yaxis = chart?._fullLayout?.yaxis;
            const top = chart?.getBoundingClientRect().top + yaxis?._offset;
            return yaxis && [top + yaxis._length, yaxis._length];
        }"""
    ).json_value()
    return bottom, side


# Of a laptop, and of the same at 150 %.
@pytest.mark.parametrize("size", [(1366, 768), (911, 512)])
def test_the_whole_map_is_in_view_without_scrolling_on_every_page(visit, size):
    page = visit("/maps", "demo", viewport=dict(zip(("width", "height"), size, strict=True)))
    for name, charts, least in (("Maps", 1, 149), ("Compare", 2, 149), ("Stains", 3, 125), ("Correlations", 1, 120)):
        go_to(page, name)
        see_charts(page, charts)
        bottom, side = _first_panel(page)
        assert bottom < size[1], name
        assert side >= least, name


def test_the_map_is_as_wide_as_its_place_when_what_stands_beside_it_comes_later(demo_maps):
    go_to(demo_maps, "Stains")
    see_charts(demo_maps, 3)
    go_to(demo_maps, "Maps")
    see_charts(demo_maps)
    _see_fitted(demo_maps)


def test_the_map_follows_the_size_of_the_window(demo_maps):
    high = _first_panel(demo_maps)[1]
    demo_maps.set_viewport_size({"width": 911, "height": 512})
    demo_maps.wait_for_function(f"document.querySelector('.nsl-chart')._fullLayout.yaxis._length < {high} - 100")
    assert _first_panel(demo_maps)[0] < 512
    demo_maps.set_viewport_size({"width": 1440, "height": 1000})
    demo_maps.wait_for_function(f"document.querySelector('.nsl-chart')._fullLayout.yaxis._length > {high} - 2")


def test_zooming_in_brings_the_slide_itself_with_scale_and_magnification_and_keys_step_on(visit, data_folder):
    page = visit("/maps", "cmu_small_region.svs")
    see_charts(page)
    assert _drawn(page)["images"] == 1
    x, y = middle_tile(page)
    page.mouse.move(*on_map(page, x, y))
    for _ in range(24):
        page.mouse.wheel(0, -400)
    # Every turn of the wheel asks anew: the picture of the last view replaces those of the turns before it.
    page.wait_for_function(
        """() => {
            const { images, xaxis } = document.querySelector('.nsl-chart')._fullLayout;
            const near = (a, b) => Math.abs(a - b) < 1e-6;
            return images.length === 2 && near(images[1].x, xaxis.range[0])
                && near(images[1].x + images[1].sizex, xaxis.range[1]);
        }"""
    )
    view = page.evaluate("document.querySelector('.nsl-chart')._fullLayout.xaxis.range")
    expect(page.locator(".nsl-scale")).to_contain_text(re.compile(r"\d µm · ≈ \d+×, full resolution"))
    bar_px = page.locator(".nsl-scale > div").bounding_box()["width"]
    map_px = page.evaluate("document.querySelector('.nsl-chart')._fullLayout.xaxis._length")
    um = float(page.locator(".nsl-scale").inner_text().split()[0])
    assert bar_px / map_px == pytest.approx(um / 1000 / (view[1] - view[0]), rel=0.02)

    chart = page.locator(".nsl-chart")
    chart.focus()
    told = page.get_by_text("150 µm wide at")
    page.keyboard.press("ArrowRight")
    expect(told).to_be_visible()
    first = re.search(r"r\d+c\d+", told.inner_text())[0]
    settle(page)
    page.keyboard.press("ArrowDown")
    expect(told).not_to_contain_text(f"{first}:")
    assert chart.evaluate("chart => chart === document.activeElement")
    row, column = map(int, re.search(r"r(\d+)c(\d+)", told.inner_text()).groups())
    assert (f"r{row - 1}c{column}" == first) or row > 0


# With the sidebar closed: on a telephone it is at first, and on a laptop one closes it to see more of a map.
@pytest.mark.parametrize("size", [(390, 844), (1366, 768)])
def test_the_title_and_what_the_app_is_not_for_are_uncovered_when_the_sidebar_is_closed(visit, size):
    page = visit("/maps", viewport=dict(zip(("width", "height"), size, strict=True)))
    if not page.get_by_test_id("stExpandSidebarButton").is_visible():
        page.get_by_test_id("stSidebarHeader").hover()
        page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").click()
    expect(page.get_by_test_id("stExpandSidebarButton")).to_be_visible()
    settle(page)
    for told in (page.get_by_role("heading", name="Expression maps"), page.get_by_text(RESEARCH_ONLY).first):
        assert told.evaluate(
            """(told) => {
                const { left, top, right, bottom } = told.getBoundingClientRect(), x = (left + right) / 2;
                return [top + 1, bottom - 1].every((y) => told.contains(document.elementFromPoint(x, y)));
            }"""
        )


def test_no_toolbar_lies_on_a_title_where_screens_are_touched(chromium, server):
    context = chromium.new_context(viewport={"width": 820, "height": 1100}, has_touch=True, is_mobile=True)
    context.add_cookies([{"name": "predicted", "value": "demo", "url": server}])
    page = context.new_page()
    page.set_default_timeout(90_000)
    page.goto(f"{server}/correlations")
    see_charts(page)
    boxes = """(found) => found.map((one) => one.getBoundingClientRect()).filter((box) => box.width && box.height)
        .map((box) => [box.left, box.top, box.right, box.bottom])"""
    titles = page.locator(".js-plotly-plot [class*='title'] text, .js-plotly-plot text[class*='title']")
    charts = "[data-testid='stElementContainer']:has(.js-plotly-plot)"
    tools = page.locator(f".modebar-btn, {charts} [data-testid='stElementToolbar']")
    titles, tools = (found.evaluate_all(boxes) for found in (titles, tools))
    assert titles
    assert tools  # those of the heat map, beside it
    for left, top, right, bottom in titles:
        for tool in tools:
            assert tool[2] <= left or tool[0] >= right or tool[3] <= top or tool[1] >= bottom
    context.close()


@pytest.fixture
def demo_maps(visit) -> Page:
    """The Maps page of the demo slide."""
    page = visit("/maps", "demo")
    see_charts(page)
    return page


def _is_shown_whole(option) -> bool:
    """Whether what an option says ends inside its list."""
    return option.evaluate("""(option) => {
        const text = document.createRange();
        text.selectNodeContents(option);
        const list = option.closest("[data-testid='stSelectboxVirtualDropdown']");
        return text.getBoundingClientRect().right <= list.getBoundingClientRect().right;
    }""")


def test_an_unreliable_gene_is_listed_only_after_the_switch_but_found_when_typed_and_marked(demo_maps):
    page, box = demo_maps, demo_maps.get_by_role("combobox", name="Gene", exact=True)
    box.click()
    box.fill("class II")
    assert _is_shown_whole(page.get_by_role("option", name="antigen presentation class II · r 0.42 ●"))
    box.fill("GAPDH")
    expect(page.get_by_role("option", name="GAPDH ·")).to_have_count(0)
    box.press("Enter")
    expect(page.get_by_text("GAPDH is unreliable").first).to_be_visible()
    choose(page, "Gene", "CD24")
    button(page, "Display").click()
    page.get_by_text("List the unreliable too").click()
    settle(page)
    page.keyboard.press("Escape")
    box.click()
    box.fill("GAPDH")
    expect(page.get_by_role("option", name="GAPDH ·")).to_have_count(1)


def test_a_typed_gene_is_the_gene_of_that_name_or_none_and_a_sentence(demo_maps):
    page = demo_maps
    for typed, shown, told in [
        ("CD24", "CD24", None),
        ("ESR1", "CD24", "ESR1 is not in these weights: detected in too few spots"),
        ("PGR", "CD24", "PGR is not in these weights"),
        ("MS4A1", "CD24", "MS4A1 is not in these weights"),
        ("CD20", "CD24", "CD20 is MS4A1, which is not in these weights"),
        ("ER", "CD24", "ER is ESR1, which is not in these weights"),
        ("HER2", "ERBB2", "HER2 is the gene ERBB2."),
        ("ER", "ERBB2", "ER is ESR1, which is not in these weights"),
        ("Ki-67", "MKI67", "Ki-67 is the gene MKI67."),
        ("CD24", "CD24", None),
    ]:
        choose(page, "Gene", typed)
        expect(page.get_by_role("combobox", name="Gene", exact=True)).to_have_value(re.compile(rf"{shown}\b.* · r "))
        if told:
            expect(page.get_by_text(told)).to_be_visible()
        else:
            expect(page.get_by_text("not in these weights")).to_have_count(0)
        see_charts(page)
        assert _drawn(page)["title"].startswith(f"{shown},")


def test_a_tile_is_chosen_with_the_keyboard_alone(demo_maps):
    page = demo_maps
    button(page, "Highest").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("150 µm wide at")).to_be_visible()


def test_a_link_opens_the_view_on_the_demo_slide(visit):
    page = visit("/maps?gene=CD24&palette=Cividis&range=percentile%3A10to90")
    expect(page.get_by_text("This address shows a view of a slide")).to_be_visible()
    button(page, "Show it on the demo slide").click()
    expect(page.locator(".nsl-chart")).to_be_visible(timeout=90_000)
    see_charts(page)
    assert _drawn(page)["title"].startswith("CD24")
    assert "gene=CD24" in page.url
    assert "palette=Cividis" in page.url
    assert "10to90" in page.url


def test_a_page_opened_by_its_own_address_is_inside_the_app(visit):
    page = visit("/maps")
    expect(page.get_by_role("heading", name="Expression maps")).to_be_visible()
    expect(page.get_by_text("her2-breast")).to_be_visible()
    expect(page.get_by_role("link", name="Go to Predict")).to_be_visible()
