"""The app on a phone, in Chromium: all of it is in view, and nothing lies on anything else."""

import pytest
from playwright.sync_api import expect

from tests.browser.driver import covered_texts, see_charts

PHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize(
    ("path", "charts", "written"),
    [
        ("/maps", 1, "ERBB2, ln(1 + counts per 10,000)"),
        ("/compare", 2, "HLA-DRA · held-out r 0.37 ●"),
        ("/stains", 3, "optical density"),
        ("/correlations", 2, "COL4A2"),
    ],
)
def test_what_is_written_in_a_chart_can_be_read(visit, data_folder, path, charts, written):
    page = visit(path, "cmu_small_region.svs", viewport=PHONE)
    see_charts(page, charts)
    assert written in page.locator(".nsl-chart text").all_text_contents()
    assert covered_texts(page) == []


def test_a_square_of_genes_leaves_no_room_bare_below(visit, slide):
    page = visit("/correlations", slide, viewport=PHONE)
    see_charts(page, 2)
    chart = page.locator(".nsl-chart").first
    bare = chart.evaluate(
        """(chart) => {
            const bottom = (one) => one.getBoundingClientRect().bottom;
            const names = Array.from(chart.querySelectorAll('.xtick text'), bottom);
            return bottom(chart.parentElement) - Math.max(...names);
        }"""
    )
    assert 0 <= bare < 100


def test_every_kind_of_comparison_is_in_view(visit, slide):
    page = visit("/compare", slide, viewport=PHONE)
    for kind in ("Side by side", "Difference", "Blend", "Across slides", "Regions"):
        expect(page.get_by_role("radio", name=kind, exact=True)).to_be_in_viewport(ratio=1)
