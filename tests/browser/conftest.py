"""A real server and a real browser."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.browser.driver import settle
from tests.browser.serving import COMMAND, served

SLIDES = Path(__file__).parents[3] / "shared/data/slides"
VIEWPORT = {"width": 1440, "height": 1000}
FIRST_HALF = ("test_maps", "test_compare", "test_report")
"""Files whose tests take about as long as those of all others."""


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is marked
def pytest_collection_modifyitems(items):
    """Two processes start a browser and a server, and a file's tests stay in one of them, and with them its pages."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group(f"browser, {item.path.stem in FIRST_HALF}"))


@pytest.fixture(scope="session")
def chromium():
    """The browser; without one the tests skip, or fail where NSL_REQUIRE_BROWSER=1."""
    # Without windows it needs a sixth less of the processors.
    path = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
    if path is None:
        if os.environ.get("NSL_REQUIRE_BROWSER") == "1":
            pytest.fail("NSL_REQUIRE_BROWSER=1 but there is no chromium on the PATH")
        pytest.skip("needs chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def slide_dir(tmp_path_factory) -> Path:
    """The server's folder of slides, empty at first."""
    return tmp_path_factory.mktemp("slides")


@pytest.fixture(scope="session")
def server(tmp_path_factory, slide_dir):
    """Address of the app."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, Path(__file__).with_name("server.py"), *COMMAND[3:]]
    own = {"NSL_TEST_SLIDES": str(SLIDES), "NSL_SLIDE_DIR": str(slide_dir)}
    with served(log, os.environ | own, command) as address:
        yield address
        assert "Traceback" not in log.read_text()


@pytest.fixture(scope="session")
def contexts(chromium, server):
    """A context of the browser for sessions that begin with a slide predicted, by its name, or with none."""
    opened: dict[str | None, BrowserContext] = {}

    def context(predicted: str | None) -> BrowserContext:
        if predicted not in opened:
            opened[predicted] = chromium.new_context(viewport=VIEWPORT, accept_downloads=True)
            if predicted:
                opened[predicted].add_cookies([{"name": "predicted", "value": predicted, "url": server}])
        return opened[predicted]

    yield context
    for one in opened.values():
        one.close()


@pytest.fixture(scope="session")
def visitors(contexts, server) -> Callable[[], AbstractContextManager[Callable[..., Page]]]:
    """Makes what `visit` is, for a fixture that lasts longer than a test."""

    @contextmanager
    def visitor() -> Iterator[Callable[..., Page]]:
        opened: list[tuple[Page, list[str]]] = []

        def visit(
            path: str = "/", predicted: str | None = None, viewport: dict = VIEWPORT, color_scheme: str = "light"
        ) -> Page:
            page, errors = contexts(predicted).new_page(), []
            page.set_viewport_size(viewport)
            page.emulate_media(color_scheme=color_scheme)
            page.set_default_timeout(90_000)
            page.on("console", lambda told: errors.append(f"{told.text} {told.location}") if _is_error(told) else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            opened.append((page, errors))
            page.goto(f"{server}{path}")
            settle(page)
            return page

        yield visit
        for page, errors in opened:
            assert errors == []
            assert page.get_by_test_id("stException").all_inner_texts() == []
            # Streamlit keeps there how its sidebar was left, which is nothing to the next test.
            page.evaluate("localStorage.clear()")
            page.close()

    return visitor


@pytest.fixture
def visit(visitors) -> Iterator[Callable[..., Page]]:
    """Opens an address of the app in a session of its own; it must end without an error or an exception box."""
    with visitors() as visit:
        yield visit


def _is_error(message) -> bool:
    # Opened below its root, Streamlit first looks for its server there.
    looks_for_server = "_stcore" in message.location.get("url", "") and "404" in message.text
    return message.type == "error" and not looks_for_server


@pytest.fixture
def page(visit):
    """The first page of the app, in a fresh session."""
    return visit()


@pytest.fixture
def slide() -> str:
    """A scanner's slide, or the demo slide where none is at hand."""
    return "cmu_small_region.svs" if SLIDES.is_dir() else "demo"
