"""Pictures of every page on the demo slide, light and dark, wide and narrow, for docs/screenshots.

    python docs/make_screenshots.py

Needs chromium and playwright (requirements-dev.txt).
"""

import io
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.driver import go_to, on_map, run, see_charts, settle, take_demo  # noqa: E402
from tests.browser.serving import served  # noqa: E402

FOLDER = ROOT / "docs/screenshots"
WIDTHS_PX, HEIGHT_PX = (1440, 900), 1100
# What a laptop shows of the pages with maps before anybody scrolls.
LAPTOP_PX, ON_LAPTOP = (1366, 768), ("Maps", "Compare", "Stains")
PAGES = ("Predict", "Maps", "Compare", "Stains", "Correlations", "Train", "About")
# Pages with a chart that is drawn after the page itself.
CHARTS = {"Maps", "Compare", "Stains", "Correlations", "About"}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    log = Path(tempfile.mkdtemp()) / "server.txt"
    with sync_playwright() as playwright, served(log) as address:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for width_px in WIDTHS_PX:
                take(browser, address, scheme, (width_px, HEIGHT_PX), PAGES)
            take(browser, address, scheme, LAPTOP_PX, ON_LAPTOP)
        browser.close()


def take(browser: Browser, address: str, scheme: str, size_px: tuple[int, int], pages: Sequence[str]) -> None:
    """Pages in one session."""
    context = browser.new_context(viewport=dict(zip(("width", "height"), size_px, strict=True)), color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    settle(page)
    take_demo(page)
    run(page)
    for name in pages:
        go_to(page, name)
        if name in CHARTS:
            see_charts(page)
        if name == "Maps":
            page.mouse.click(*on_map(page, 1.5, 1.65))
            page.get_by_text("150 µm wide at").wait_for()
        page.wait_for_timeout(1500)  # Streamlit's own charts say nowhere that they are drawn
        settle(page)
        page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, 0)")
        page.mouse.move(1, 1)
        save(page, FOLDER / f"{name.lower()}-{scheme}-{size_px[0]}.webp")
    context.close()


def save(page: Page, path: Path) -> None:
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.save(path, quality=88, method=6)


if __name__ == "__main__":
    main()
