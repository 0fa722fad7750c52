"""How soon the app can be used, how soon it shows another gene, and how soon the Stains page opens.

    python benchmarks/app.py [--repeat 5] [--only paint|gene|stains] [--slides FILE[=MPP] ...]

First paint: from the server answering to the first page on the screen; without weights named on a Hub, and with
NSL_WEIGHTS naming some on a Hub that answers, refuses connections or never answers, in turns. Each run starts a server
of its own with an empty cache of the Hub. Needs chromium and playwright (requirements-dev.txt).

Another gene: what the server works, from the choice to the last element sent, on a map of 5,000 tiles of all genes,
with nothing chosen on the map, and with a tile and a region on the page.

Stains: from the click in the navigation to its pictures drawn, the first time after a prediction of all genes, of the
demo slide and of `--slides` (µm/px follow a file that does not say them), each on a server of its own that has
rehearsed.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

GENES = ("COX6C", "CD24", "ERBB2", "EPCAM", "TMSB4X")
REHEARSAL_SECONDS = 20
STAINS_CHARTS = 3  # the slide's own stains, the gene's, the map
REGION = {"kind": "box", "x": [0.8, 1.6], "y": [1.0, 2.0], "axis": "x"}
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser.driver import go_to, run, see_charts, settle, take_demo, take_file  # noqa: E402
from tests.browser.serving import is_healthy, served, started  # noqa: E402
from tests.fake_hub import FakeHub  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", choices=["paint", "gene", "stains"])
    parser.add_argument("--slides", nargs="*", default=[], metavar="FILE[=MPP]")
    args = parser.parse_args()
    if args.only in (None, "paint"):
        print_first_paint(args.repeat)
    if args.only in (None, "gene"):
        print_gene_change(args.repeat)
    if args.only in (None, "stains"):
        print_stains(args.repeat, args.slides)


def print_first_paint(repeat: int) -> None:
    """Medians over `repeat` runs of each kind, in turns."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with FakeHub() as answering, FakeHub() as hanging:
            folder = ROOT / "weights/her2-breast"
            answering.commit("org/her2", {path.name: path.read_bytes() for path in folder.iterdir()})
            hanging.silent = True
            hubs = {
                "no Hub named": None,
                "Hub answers": answering.url,
                "Hub refuses": "http://127.0.0.1:1",
                "Hub hangs": hanging.url,
            }
            runs: dict[str, list[tuple[float, float]]] = {name: [] for name in hubs}
            for _ in range(repeat):
                for name, hub in hubs.items():
                    runs[name].append(first_paint(browser, hub))
        browser.close()
    reference = statistics.median(painted for _, painted in runs["Hub answers"])
    for name, pairs in runs.items():
        healthy, painted = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
        print(
            f"{name:<14} start to healthy {healthy:.2f} s, healthy to first page {painted:.2f} s "
            f"(largest {max(p for _, p in pairs):.2f} s), {painted / reference:.2f} times that of a Hub that answers"
        )


def print_gene_change(repeat: int) -> None:
    """Medians over 5 × `repeat` changes, after one of each gene."""
    from tests import app_driver

    prepare_app_test()
    app = app_driver.click(app_driver.start(), "Use the demo slide")
    app_driver.number_box(app, "Tile side, µm").set_value(110.0)
    app.selectbox(key="step").select("A quarter of a tile").run()
    app_driver.finish(app_driver.click(app, "Run"))
    slide = app_driver.slide(app)
    app.switch_page("pages/maps.py").run()
    what = f"{slide.result.n_obs:,} tiles, {slide.result.n_vars:,} genes"
    print(f"{what}: predicted in {slide.finished.seconds:.1f} s")
    for chosen in ({}, {"tile": slide.result.obs_names[2000], "region": REGION}):
        slide.marks.tile, slide.marks.region = chosen.get("tile"), chosen.get("region")
        app.run()
        seconds = [change_gene(app, gene) for _ in range(repeat + 1) for gene in GENES][len(GENES) :]
        median = statistics.median(seconds)
        print(
            f"another gene, {' and '.join(chosen) or 'nothing'} chosen: {median:.3f} s of the server "
            f"(largest {max(seconds):.3f} s), the prediction takes {slide.finished.seconds / median:.0f} times that"
        )


def prepare_app_test() -> None:
    """As the fixture `app` of the tests."""
    import streamlit.testing.v1.app_test
    from streamlit.runtime.pages_manager import PagesManager

    from nsl.web import runs

    PagesManager.uses_pages_directory = False
    streamlit.testing.v1.app_test.PagesManager = type("_OwnFlag", (PagesManager,), {})
    runs.rehearse = lambda known: None


def change_gene(app, gene: str) -> float:
    """Seconds of the whole run of the page that a change of gene asks for."""
    app.selectbox(key="gene").select(gene)
    start = time.perf_counter()
    app.run()
    seconds = time.perf_counter() - start
    assert not app.exception
    return seconds


def environment(hub: str | None, home: str) -> dict[str, str]:
    """The server's environment, with weights named on the Hub at that address."""
    named = {} if hub is None else {"NSL_WEIGHTS": "org/her2", "HF_ENDPOINT": hub}
    kept = {name: value for name, value in os.environ.items() if name not in ("NSL_WEIGHTS", "HF_ENDPOINT", "HF_TOKEN")}
    return kept | named | {"HF_HOME": home, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}


def first_paint(browser: Browser, hub: str | None) -> tuple[float, float]:
    """Seconds until a new server is healthy, and from then until the demo button can be seen."""
    page = browser.new_page()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as home, started(Path(home) / "log.txt", environment(hub, home)) as (address, _):
        while not is_healthy(address):
            time.sleep(0.02)
        healthy = time.perf_counter()
        page.goto(address)
        page.get_by_role("button", name="Use the demo slide").wait_for()
        painted = time.perf_counter()
        page.close()
    return healthy - begun, painted - healthy


def print_stains(repeat: int, files: list[str]) -> None:
    """Medians over `repeat` openings of the page of each slide."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for file in [None, *files]:
            seconds = [stains_opening(browser, file) for _ in range(repeat)]
            busy = ", ".join(f"{load:.1f}" for _, load in seconds)
            shown, least, most = (f(one for one, _ in seconds) for f in (statistics.median, min, max))
            name = Path(file.partition("=")[0]).name if file else "demo slide"
            print(
                f"Stains of {name}: {shown:.2f} s ({least:.2f} to {most:.2f}), the computer's load {busy}", flush=True
            )
        browser.close()


def stains_opening(browser: Browser, file: str | None) -> tuple[float, float]:
    """Seconds from the click on Stains to its pictures drawn, and the computer's load then; None for the demo slide."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "log.txt") as address:
        time.sleep(REHEARSAL_SECONDS)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(address)
        settle(page)
        if file is None:
            take_demo(page)
        else:
            path, _, mpp = file.partition("=")
            take_file(page, Path(path), float(mpp) if mpp else None)
        run(page)
        load, begun = os.getloadavg()[0], time.perf_counter()
        go_to(page, "Stains")
        see_charts(page, STAINS_CHARTS)
        seconds = time.perf_counter() - begun
        page.close()
    return seconds, load


if __name__ == "__main__":
    main()
