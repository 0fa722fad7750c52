"""What a user does on every page: bring a slide, run, go elsewhere, take a file home."""

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

expect.set_options(timeout=60_000)

UPLOAD = "[data-testid='stMain'] [data-testid='stFileUploaderDropzoneInput']"
DRAWN = ".nsl-chart .js-plotly-plot, .nsl-chart.js-plotly-plot"
# Results of these wait for no more than one run.
RUN_MS = 90_000


def settle(page: Page) -> None:
    """Wait until the script has run and its pictures have arrived: left earlier, a page's pictures are not served.

    What was clicked becomes a run of the script after the page has drawn itself anew, which takes a frame or two.
    Wherever a test waits, no exception box may stand.
    """
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(drawn))))")
    page.wait_for_selector("[data-testid='stApp'][data-test-connection-state='CONNECTED']")
    page.wait_for_selector("[data-testid='stApp'][data-test-script-state='notRunning']")
    page.wait_for_function("Array.from(document.images).every((image) => image.complete)")
    assert page.get_by_test_id("stException").all_inner_texts() == []


def take_demo(page: Page) -> None:
    """Open the demo slide on the Predict page."""
    page.get_by_role("button", name="Use the demo slide").click()
    expect(page.get_by_text("Synthetic: made by this program").first).to_be_visible()
    settle(page)


def take_file(page: Page, path: Path, mpp: float | None = None) -> None:
    """Upload a slide on the Predict page, and give its scale where the file does not."""
    page.set_input_files(UPLOAD, path)
    expect(page.get_by_test_id("stSidebar").get_by_text(path.name).first).to_be_visible()
    if mpp is not None:
        settle(page)  # a box that is drawn anew loses what is typed into it
        scale = page.get_by_role("spinbutton", name="Scale, µm per pixel")
        scale.fill(str(mpp))
        scale.press("Enter")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()
    settle(page)


def run(page: Page) -> int:
    """Press Run, wait for the result, and return the number of tiles it says."""
    page.get_by_role("button", name="Run", exact=True).click()
    metric = page.get_by_test_id("stMetric").filter(has_text="Tissue tiles")
    expect(metric).to_be_visible(timeout=RUN_MS)
    settle(page)
    return int(metric.get_by_test_id("stMetricValue").inner_text().replace(",", ""))


def tiles_predicted(page: Page) -> int:
    """The number of tiles that the sidebar says."""
    told = page.get_by_test_id("stSidebar").get_by_text("tiles predicted").first
    return int(told.inner_text().split()[0].replace(",", ""))


def go_to(page: Page, name: str) -> None:
    """Another page, by the navigation; its script has begun when its link is the current one."""
    link = page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True)
    link.click()
    expect(link).to_have_attribute("aria-current", "page")
    settle(page)


def download(page: Page, button: Locator, folder: Path) -> Path:
    """Press a download button and keep its file under the name it suggests."""
    with page.expect_download() as waiting:
        button.click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def button(page: Page, name: str) -> Locator:
    """A button by its whole label."""
    return page.get_by_role("button", name=name, exact=True)


def open_part(page: Page, title: str) -> None:
    """Open a part of a page that is closed at first."""
    page.get_by_test_id("stExpander").locator("summary").filter(has_text=title).click()
    settle(page)


def choose(page: Page, label: str, value: str) -> None:
    """Type into a box of choices, and Enter."""
    box = page.get_by_role("combobox", name=label, exact=True)
    box.click()
    box.fill(value)
    box.press("Enter")
    settle(page)


def see_charts(page: Page, number: int = 1) -> None:
    """Wait until so many zoomable charts are drawn."""
    page.wait_for_function(
        f"document.querySelectorAll('.nsl-chart').length >= {number} && "
        "Array.from(document.querySelectorAll('.nsl-chart')).every((chart) => chart.dataset.drawn && chart._fullLayout)"
    )
    settle(page)


def covered_texts(page: Page) -> list[str]:
    """What is written in charts and lies on something else written there, or under the chart's buttons."""
    return page.evaluate(
        """() => Array.from(document.querySelectorAll('.nsl-chart')).flatMap((chart) => {
            const kinds = '.xtick text, .ytick text, .cbaxis text, .xtitle, .ytitle, .cbtitle text, .annotation-text';
            const texts = Array.from(chart.querySelectorAll(kinds)), buttons = chart.querySelectorAll('.modebar-btn');
            const boxes = [...texts, ...buttons].map((one) => one.getBoundingClientRect());
            // A box is higher than the letters in it, and so wide where they are turned.
            const lies = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 4 &&
                Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
            return texts.filter((_, i) => boxes.some((box, j) => i !== j && lies(box, boxes[i])))
                .map((text) => text.textContent);
        })"""
    )


def middle_tile(page: Page) -> tuple[float, float]:
    """Centre of a tile near the middle of the first map, in mm."""
    x, y = page.evaluate(
        """() => {
            const heat = document.querySelector('.nsl-chart')._fullData[0], places = [];
            heat.z.forEach((row, j) => Array.from(row).forEach((value, i) => Number.isFinite(value) &&
                places.push([heat.x0 + i * heat.dx, heat.y0 + j * heat.dy])));
            return places[Math.floor(places.length / 2)];
        }"""
    )
    return x, y


def on_map(page: Page, x: float, y: float, *, chart: int = 0) -> tuple[float, float]:
    """Where a point of a chart's first axes, in their units, is on the screen; the chart is scrolled into view."""
    page.locator(".nsl-chart").nth(chart).scroll_into_view_if_needed()
    left, top = page.evaluate(
        """([number, x, y]) => {
            const chart = document.querySelectorAll('.nsl-chart')[number];
            const box = chart.getBoundingClientRect(), { xaxis, yaxis } = chart._fullLayout;
            return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
        }""",
        [chart, x, y],
    )
    return left, top


def drag(page: Page, mode: str, points: list[tuple[float, float]], *, chart: int = 0) -> None:
    """Draw over a chart with one of its modes ("Draw a box", "Draw a lasso"), through points on the screen."""
    page.locator(".nsl-chart").nth(chart).locator(f"[data-title='{mode}']").click()
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=6)
    page.mouse.up()
    settle(page)
