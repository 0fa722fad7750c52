"""Stains and About in Chromium."""

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from tests.browser.driver import button, choose, download, go_to, on_map, run, see_charts, settle, take_demo, take_file


@pytest.fixture(params=["demo", "svs"])
def stains(request, page) -> Page:
    """The Stains page of a predicted slide."""
    if request.param == "demo":
        take_demo(page)
    else:
        take_file(page, request.getfixturevalue("data_folder") / "slides/cmu_small_region.svs")
    run(page)
    go_to(page, "Stains")
    expect(page.get_by_role("heading", name="The 11 numbers")).to_be_visible()
    settle(page)
    return page


def test_the_numbers_of_a_gene_are_shown_and_those_of_another_when_it_is_chosen(stains):
    before = stains.get_by_test_id("stCode").first.inner_text()
    assert "ERBB2" in before
    choose(stains, "Gene", "COX6C")
    expect(stains.get_by_test_id("stCode").first).to_contain_text("COX6C")


def test_the_table_of_vectors_and_the_line_for_qupath_go_home(stains, tmp_path):
    table = pd.read_csv(download(stains, button(stains, "Download all vectors (CSV)"), tmp_path), index_col="gene")
    assert len(table) == 4812
    vectors = table.loc["ERBB2", ["h_od_r", "h_od_g", "h_od_b"]].to_numpy(float)
    assert (vectors**2).sum() == pytest.approx(1, abs=0.01)
    line = stains.get_by_test_id("stCode").filter(has_text="setColorDeconvolutionStains").first
    expect(line).to_contain_text('"Stain 1" : "Hematoxylin')


def test_the_concentrations_of_a_region_are_drawn_from_its_pixels(stains):
    see_charts(stains)
    stains.locator(".nsl-chart").last.scroll_into_view_if_needed()
    assert stains.locator(".nsl-chart").last.get_attribute("aria-label")


def test_a_click_on_a_gene_in_the_plot_of_all_chooses_it(stains):
    see_charts(stains, 3)
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


def test_stains_of_the_weights_are_shown_without_a_slide(page):
    go_to(page, "Stains")
    expect(page.get_by_role("heading", name="The 11 numbers")).to_be_visible()
    expect(page.get_by_test_id("stCode").first).to_contain_text("ERBB2")


def test_about_says_what_the_weights_are_and_gives_the_reliability_of_all_genes(page, tmp_path):
    go_to(page, "About")
    for heading in ("How far to trust a gene", "Privacy", "Limits"):
        expect(page.get_by_role("heading", name=heading).first).to_be_attached()
    expect(page.get_by_text("arXiv").first).to_be_attached()
    expect(page.locator(".katex").first).to_be_attached()
    path = download(page, button(page, "Download all genes (CSV)"), tmp_path)
    table = pd.read_csv(path, index_col=0)
    assert len(table) == 4812
    assert {"r_heldout", "q_value"} <= set(table.columns)


def test_a_tile_chosen_on_the_maps_is_the_region_of_the_stains(page):
    take_demo(page)
    run(page)
    go_to(page, "Maps")
    see_charts(page)
    page.mouse.click(*on_map(page, 1.5, 1.65))
    expect(page.get_by_text("150 µm wide at")).to_be_visible()
    go_to(page, "Stains")
    expect(page.get_by_role("combobox", name="Region")).to_have_value("Tile r21c19, as clicked")
