"""A real server and a real browser."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.browser.driver import run, settle, take_demo, take_file
from tests.browser.serving import COMMAND, served


def pytest_collection_modifyitems(items):
    """A file's tests stay in one process, and with them its pages."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def chromium():
    """The browser; without one the tests skip, or fail where NSL_REQUIRE_BROWSER=1."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("NSL_REQUIRE_BROWSER") == "1":
            pytest.fail("NSL_REQUIRE_BROWSER=1 but there is no chromium on the PATH")
        pytest.skip("needs chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Address of the app."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, Path(__file__).with_name("server.py"), *COMMAND[3:]]
    with served(log, command=command) as address:
        yield address
        assert "Traceback" not in log.read_text()


@pytest.fixture
def visit(chromium, server):
    """Opens an address of the app in a session of its own; it must end without an error or an exception box."""
    opened: list[tuple[Page, list[str]]] = []

    def visit(path: str = "/", **options) -> Page:
        context = chromium.new_context(
            **{"viewport": {"width": 1440, "height": 1000}, "accept_downloads": True, **options}
        )
        page, errors = context.new_page(), []
        page.set_default_timeout(90_000)
        page.on("console", lambda message: errors.append(message.text) if _is_error(message) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        opened.append((page, errors))
        page.goto(f"{server}{path}")
        settle(page)
        return page

    yield visit
    for page, errors in opened:
        assert errors == []
        assert page.get_by_test_id("stException").all_inner_texts() == []
        page.context.close()


def _is_error(message) -> bool:
    # Opened below its root, Streamlit first looks for its server there.
    looks_for_server = "_stcore" in message.location.get("url", "") and "404" in message.text
    return message.type == "error" and not looks_for_server


@pytest.fixture
def page(visit):
    """The first page of the app, in a fresh session."""
    return visit()


@pytest.fixture(params=["demo", "svs"])
def predicted(request, page) -> tuple[Page, int]:
    """The app with the demo slide or a scanner's slide predicted, and the number of its tiles."""
    if request.param == "demo":
        take_demo(page)
    else:
        take_file(page, request.getfixturevalue("data_folder") / "slides/cmu_small_region.svs")
    return page, run(page)
