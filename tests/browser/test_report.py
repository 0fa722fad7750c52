"""The report in Chromium without a network: taken home, opened from the disk, printed on one or two pages of A4."""

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from shapely.geometry import box

from nsl.export.report import report_html
from nsl.prediction import predict
from nsl.slides.annotations.region import LONGEST_NAME, Region
from nsl.slides.slide import open_slide
from nsl.weights.reliability import has_held_up
from tests.browser.driver import button, download, see_charts

# As wide as the paper between its margins, at 96 px an inch.
A4 = {"width": 794, "height": 1123}


@pytest.fixture
def disk(chromium):
    """Opens a file in a browser that has no network; it must ask for nothing else."""
    context = chromium.new_context(offline=True, viewport=A4)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))

    def disk(path: Path) -> Page:
        page = context.new_page()
        page.on("console", lambda told: asked.append(told.text))
        page.goto(path.as_uri())
        return page

    yield disk
    assert [url for url in asked if not url.startswith(("file:", "data:image/png"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1
    context.close()


def printed_pages(page: Page) -> int:
    pdf = page.pdf(prefer_css_page_size=True)
    sizes = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert {(round(float(width)), round(float(height))) for width, height in sizes} <= {(595, 842), (596, 842)}
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def test_the_report_of_a_map_is_taken_home_opened_without_a_network_and_printed(visit, disk, tmp_path):
    maps = visit("/maps?gene=CD24", "demo")
    see_charts(maps)
    report = disk(download(maps, button(maps, "Report (HTML)"), tmp_path))
    expect(report.get_by_role("heading", name="Demo slide")).to_be_visible()
    assert report.get_by_text("no map replaces a receptor test").count() == 2  # where it begins and where it ends
    expect(report.get_by_text("made by a program, not from a patient")).to_be_visible()
    titles = report.get_by_role("heading", level=3).all_inner_texts()
    assert titles[0] == "CD24"
    assert 2 <= len(titles) <= 4
    widths = report.eval_on_selector_all("img", "images => images.map((image) => image.naturalWidth)")
    assert len(widths) == len(titles) + 1
    assert min(widths) > 500
    assert printed_pages(report) in (1, 2)


def test_the_report_of_compared_genes_has_these(visit, disk, tmp_path):
    page = visit("/compare?genes=ERBB2,COX6C", "demo")
    see_charts(page)
    report = disk(download(page, button(page, "Report (HTML)"), tmp_path))
    assert report.get_by_role("heading", level=3).all_inner_texts() == ["ERBB2 (HER2)", "COX6C"]


LONG = "how the file was taken, which can be a sentence that does not fit on one line of the page, " * 2


@pytest.mark.parametrize("warnings", [3, 7])
def test_the_fullest_report_fits_on_two_pages_and_nothing_sticks_out(embedded, section_png, disk, tmp_path, warnings):
    names = [letter * LONGEST_NAME for letter in "ABCDEFGHIJKL"]
    regions = [
        Region(name, name, None, box(0, y, 700, y + 50)) for name, y in zip(names, range(0, 600, 50), strict=True)
    ]
    unreliable = embedded.reliability.index[~has_held_up(embedded.reliability)]
    sets = [one for one in embedded.own_signatures if not has_held_up(embedded.signatures.loc[[one.name]]).all()]
    with open_slide(section_png, mpp=1) as slide:
        slide.scanner = "A maker whose name is long and a model whose name is not short either"
        settings = {"tile_um": 40, "stride_um": 20, "min_tissue": 0, "regions": regions}
        result = predict(slide, embedded, genes=unreliable[:2], signatures=sets[:2], **settings)
    slide.notices = (LONG,) * 3
    if warnings > 3:
        slide.notices = (LONG,) * 2
        result.uns["nsl"] |= {"complete": False, "inside_only": True, "synthetic": True, "white_point_source": "paper"}
        result.uns["nsl"] |= {"transfer_residual": 0.5, "transfer_strengths": np.array([9.0, 9.0])}
    file = tmp_path / "fullest.html"
    text = report_html(result, "N" * LONGEST_NAME, slide=slide, weights=embedded, regions=regions)
    file.write_text(text, encoding="utf-8")
    report = disk(file)
    assert report.locator(".warnings p").count() == warnings
    assert report.evaluate("document.documentElement.scrollWidth") <= A4["width"]
    assert report.get_by_role("heading", level=3).count() == 4
    assert report.get_by_role("row").count() == 1 + 8
    expect(report.get_by_text("4 more, of fewer tiles, are not listed.")).to_be_visible()
    assert printed_pages(report) == 2
