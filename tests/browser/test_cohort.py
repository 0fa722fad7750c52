"""The Cohort page in Chromium: a folder that the server has, its slides side by side, groups, and the way to Maps."""

from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from nsl.cohort.run import run_cohort
from nsl.cohort.slide_list import slides_of_cohort
from nsl.cohort.slide_run import RunSettings
from tests.browser.driver import button, download, see_charts, settle
from tests.cohort.made_cohort import made_slides


@pytest.fixture
def cohort(slide_dir, embedded) -> None:
    """Six slides of 0.4 Mpx in two groups, each with a tumour annotated."""
    slides = slides_of_cohort(made_slides(slide_dir, 6, annotated=6), slide_dir / "run")
    settings = RunSettings(embedded.fingerprint, genes=("ERBB2", "CD24", "GAPDH"), is_cohort=True)
    run_cohort(slides, settings, embedded, slide_dir / "run")


def _compared(page: Page, folder: Path) -> pd.DataFrame:
    """The comparison of groups that is taken home, by gene."""
    path = download(page, button(page, "Download the comparison (CSV)"), folder)
    settle(page)
    return pd.read_csv(path, index_col="gene").sort_index()


def test_a_cohort_is_looked_through_compared_by_class_and_opened_in_maps(cohort, visit, tmp_path):
    page = visit("/cohort?gene=CD24")
    expect(page.get_by_text("6 of 6 slides have a result.")).to_be_visible()
    expect(page.get_by_role("img", name="CD24 on s")).to_have_count(6)
    see_charts(page)
    whole = _compared(page, tmp_path)
    page.get_by_role("combobox", name="Tiles of").click()
    page.get_by_role("option", name="Tumor · 6").click()
    expect(page.get_by_role("combobox", name="Tiles of")).to_have_value("Tumor · 6")
    # The last that the page draws anew.
    expect(page.get_by_role("img", name="the mean of each slide inside Tumor")).to_be_visible()
    settle(page)
    inside = _compared(page, tmp_path)
    assert list(inside.index) == list(whole.index) == ["CD24", "ERBB2", "GAPDH"]
    assert (inside.mean_inside != whole.mean_inside).all()
    assert (whole.group == "a").all()
    assert (whole.compared_with == "all other slides").all()
    assert (whole.slides == 3).all()
    size = page.viewport_size
    page.set_viewport_size({"width": 911, "height": 512})  # of a laptop at 150 %
    page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, 0)")
    for name in ("s0", "s1"):
        expect(page.get_by_role("img", name=f"CD24 on {name}")).to_be_in_viewport(ratio=1)
    page.set_viewport_size(size)
    button(page, "Open in Maps").nth(2).click()
    page.wait_for_url("**/maps*")
    see_charts(page)
    expect(page.get_by_test_id("stSidebar").get_by_text("slides/s2.png").first).to_be_visible()
