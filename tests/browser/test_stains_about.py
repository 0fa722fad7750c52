"""Stains and About in Chromium."""

import re
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from nsl.weights.folder import load_weights
from tests.browser.driver import (
    button,
    choose,
    covered_texts,
    download,
    go_to,
    middle_tile,
    on_map,
    open_part,
    see_charts,
    settle,
)


@pytest.fixture
def stains(visit, slide) -> Page:
    """The Stains page of a predicted slide."""
    page = visit("/stains", slide)
    expect(page.get_by_role("heading", name="The slide's own hematoxylin and eosin")).to_be_visible()
    see_charts(page, 3)
    return page


def test_numbers_and_lines_of_a_gene_are_shown_whether_chosen_in_its_box_or_in_the_plot_of_all(stains, tmp_path):
    for title in ("The 11 numbers", "All genes", "All vectors", "In QuPath"):
        open_part(stains, title)
    table = pd.read_csv(download(stains, button(stains, "Download all vectors (CSV)"), tmp_path), index_col="gene")
    assert len(table) == 4822
    vectors = table.loc["ERBB2", ["h_od_r", "h_od_g", "h_od_b"]].to_numpy(float)
    assert (vectors**2).sum() == pytest.approx(1, abs=0.01)
    line = stains.get_by_test_id("stCode").filter(has_text="setColorDeconvolutionStains").first
    expect(line).to_contain_text('"Stain 1" : "Hematoxylin')

    before = stains.get_by_test_id("stCode").first.inner_text()
    assert "ERBB2" in before
    choose(stains, "Gene", "COX6C")
    expect(stains.get_by_test_id("stCode").first).to_contain_text("COX6C")

    settle(stains)
    see_charts(stains, 4)
    plot = stains.locator(".nsl-chart").last
    plot.scroll_into_view_if_needed()
    place, gene = plot.evaluate(
        """(chart) => {
            const box = chart.getBoundingClientRect(), { xaxis, yaxis } = chart._fullLayout;
            const trace = chart._fullData.reduce((a, b) => (b.x?.length ?? 0) > (a.x?.length ?? 0) ? b : a);
            const inside = (i) => trace.x[i] > xaxis.range[0] && trace.x[i] < xaxis.range[1] &&
                trace.y[i] > yaxis.range[0] && trace.y[i] < yaxis.range[1];
            // The loneliest of the genes in view: nothing else lies under the pointer.
            const all = Array.from(trace.x, (_, i) => i).filter(inside);
            const px = (i) => [xaxis.d2p(trace.x[i]), yaxis.d2p(trace.y[i])];
            const alone = (i) => Math.min(...all.filter((j) => j !== i).map((j) =>
                Math.hypot(px(i)[0] - px(j)[0], px(i)[1] - px(j)[1])));
            const best = all.slice(0, 400).reduce((a, b) => (alone(b) > alone(a) ? b : a));
            const told = trace.customdata[best];
            return [[box.left + xaxis._offset + px(best)[0], box.top + yaxis._offset + px(best)[1]],
                    Array.isArray(told) ? told[0] : told];
        }"""
    )
    stains.mouse.move(*place)
    stains.mouse.click(*place)
    expect(stains.get_by_test_id("stCode").first).to_contain_text(gene)


def _concentrations(page: Page) -> dict:
    """What the chart of a region's concentrations holds: its panels, and of each stain the extent and the mean."""
    see_charts(page, 3)
    return page.evaluate(
        """() => {
            const chart = Array.from(document.querySelectorAll('.nsl-chart'))
                .find((one) => one.getAttribute('aria-label').includes("each pixel's concentration"));
            const { xaxis, yaxis } = chart._fullLayout, heats = chart._fullData.filter((t) => t.type === 'heatmap');
            const stains = heats.map(({ z, dx, dy }) => {
                const values = Array.from(z).flatMap((row) => Array.from(row)).filter(Number.isFinite);
                const sum = values.reduce((a, b) => a + b, 0);
                return { size: [z[0].length * dx, z.length * dy], mean: sum / values.length };
            });
            return { types: chart._fullData.map((t) => t.type), axes: chart._fullData.map((t) => t.xaxis), stains,
                     x: xaxis.range, y: yaxis.range };
        }"""
    )


def test_the_concentrations_of_a_region_are_drawn_from_its_pixels(stains):
    drawn = _concentrations(stains)
    assert drawn["types"] == ["image", "heatmap", "heatmap"]
    assert drawn["axes"] == ["x", "x2", "x3"]
    assert sorted(drawn["x"]) == sorted(drawn["y"]) == pytest.approx([0, 150], abs=1)
    rows = stains.get_by_role("table").filter(has_text="Predicted here").get_by_role("row")
    told = [rows.nth(1 + stain).get_by_role("cell").nth(1).inner_text().replace("−", "-") for stain in range(2)]
    for stain, mean in zip(drawn["stains"], map(float, told), strict=True):
        assert stain["size"] == pytest.approx([150, 150], abs=3)
        # The table is of coarser pixels, whose mean light lets less of what is dark be seen.
        assert stain["mean"] == pytest.approx(mean, rel=0.35, abs=0.04)
    stains.get_by_role("radio", name="600", exact=True).click()
    stains.wait_for_function(
        """() => Array.from(document.querySelectorAll('.nsl-chart')).some((one) =>
            one.getAttribute('aria-label').includes("each pixel's concentration") &&
            Math.abs(one._fullLayout.xaxis.range[1] - one._fullLayout.xaxis.range[0]) > 300)"""
    )
    wider = _concentrations(stains)
    assert wider["x"] != drawn["x"]
    for stain in wider["stains"]:
        assert stain["size"] == pytest.approx([max(wider["x"]), max(wider["y"])], abs=5)


def test_what_was_done_about_another_laboratorys_stain_is_said_and_seen(visit, data_folder):
    page = visit("/", "cmu_small_region.svs")
    told = page.get_by_text("Hematoxylin and eosin were told from this slide's own tissue")
    expect(told).to_contain_text(
        re.compile(r"its hematoxylin is (about|[0-9.]+ times) as strong as theirs and its eosin [0-9.]+ times as")
    )
    go_to(page, "Stains")
    open_part(page, "This slide's stains")
    expect(page.get_by_text("Hematoxylin and eosin were told from this slide's own tissue")).to_be_visible()
    pictures = [
        page.get_by_alt_text(words) for words in ("The region as it is stained", "The same as the model sees it")
    ]
    for picture in pictures:
        expect(picture).to_be_visible()
    settle(page)
    assert pictures[0].get_attribute("src") != pictures[1].get_attribute("src")
    sizes = [picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") for picture in pictures]
    assert sizes[0] == sizes[1]


def test_stains_of_the_weights_are_shown_without_a_slide(page):
    go_to(page, "Stains")
    expect(page.get_by_role("heading", name="From colour to expression")).to_be_visible()
    open_part(page, "The 11 numbers")
    expect(page.get_by_test_id("stCode").first).to_contain_text("ERBB2")


def _read_about(page: Page, folder: Path) -> pd.DataFrame:
    """Look through the page; returns the reliability of all genes as it is downloaded."""
    go_to(page, "About")
    for heading in ("How far to trust a gene", "Privacy", "Limits"):
        expect(page.get_by_role("heading", name=heading).first).to_be_attached()
    expect(page.locator(".katex").first).to_be_attached()
    expect(page.get_by_text("eprint        = {2108.10446}")).to_be_attached()
    return pd.read_csv(download(page, button(page, "Download all genes (CSV)"), folder), index_col="gene")


def test_titles_of_scales_and_axes_can_be_read_at_every_width(stains):
    for title in ("Effects", "All genes", "From colour to expression"):
        open_part(stains, title)
    see_charts(stains, 6)
    for width in (1440, 1000, 1440):
        stains.set_viewport_size({"width": width, "height": 1000})
        stains.wait_for_function(
            """() => Array.from(document.querySelectorAll('.nsl-chart'))
                .every((chart) => Math.abs(chart._fullLayout.width - chart.clientWidth) < 1)"""
        )
        settle(stains)
        titles = stains.locator(".xtitle, .cbtitle text").all_text_contents()
        assert {"held-out r", "change per OD, ln(1 + counts per 10,000)"} <= set(titles)
        assert covered_texts(stains) == []


def test_about_shows_the_card_and_the_reliability_with_a_slide_predicted_too(visit, slide, tmp_path):
    page = visit("/", slide)
    expect(page.get_by_test_id("stSidebar").get_by_text(" tiles predicted")).to_be_visible()
    table = _read_about(page, tmp_path)
    assert set(load_weights().genes) == set(table.index)
    assert ((table.r_low <= table.r_heldout) & (table.r_heldout <= table.r_high)).all()
    reliable = (table.trust == "reliable").sum()
    metric = page.get_by_test_id("stMetric").filter(has_text="● Reliable").get_by_test_id("stMetricValue")
    expect(metric).to_have_text(f"{reliable:,}")
    card = page.get_by_test_id("stExpander").filter(has_text="The model card as it stands")
    card.get_by_text("The model card as it stands").click()
    expect(card.get_by_role("heading", name="Intended use")).to_be_visible()
    expect(card.get_by_text("library_name")).to_have_count(0)


def test_a_tile_chosen_on_the_maps_is_the_region_of_the_stains(visit, slide):
    page = visit("/maps", slide)
    see_charts(page)
    page.mouse.click(*on_map(page, *middle_tile(page)))
    told = page.get_by_text("150 µm wide at")
    expect(told).to_be_visible()
    tile = re.search(r"r\d+c\d+", told.inner_text())[0]
    go_to(page, "Stains")
    expect(page.get_by_role("combobox", name="Region")).to_have_value(f"Tile {tile}, as clicked")
    assert _concentrations(page)["types"] == ["image", "heatmap", "heatmap"]
