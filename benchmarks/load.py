"""Many visitors of one server at once: do all get what a single one gets, how long do they wait, and is memory let go?

    python benchmarks/load.py [--visitors 6] [--minutes 2] [--slide IMAGE:MPP] [--hostile] [--browser]

Visitors speak the server's protocol. Each brings a slide, every second one the demo slide and the others IMAGE, runs it
with all genes, looks at maps of three genes, takes the result home as CSV, removes the slide, and begins again until
the time is over. A map must be the figure that a visitor alone was sent, and the CSV the same bytes. Memory is that of
the server's process and of the one that forks for uploads, looked at after one visitor was there alone, while many are,
and when the last folder of theirs has gone, minutes after.

With --hostile one more visitor brings bad files, sends values that no widget has and leaves midway, all the time
(`benchmarks/hostile_visitor.py`); a file of somebody else beside the server's must stay as it is.

With --browser visitors come in Chromium, one in each, and a map is what their browser drew.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Page, expect, sync_playwright  # noqa: E402
from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: E402

from benchmarks.hostile_visitor import Hostility  # noqa: E402
from tests.browser import driver  # noqa: E402
from tests.browser.serving import is_healthy, started  # noqa: E402
from tests.visitor import Visitor, visiting  # noqa: E402

GENES = ("ERBB2", "CD24", "COX6C")
UPLOADER, PATIENCE_SECONDS, FORGOTTEN_SECONDS = "H&E image or whole-slide file", 120, 420


class Waits:
    """Seconds that visitors waited, by what for, the figures and files they were sent, and what failed."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.figures: dict[str, set[str]] = defaultdict(set)
        self.failures: list[str] = []

    def timed(self, what: str, act) -> None:
        start = time.perf_counter()
        act()
        self.seconds[what].append(time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--slide", help="an image with its µm/px, such as section.jpg:0.69; the demo alone without")
    parser.add_argument("--hostile", action="store_true", help="one more visitor, who is")
    parser.add_argument("--browser", action="store_true", help="visitors come in Chromium")
    args = parser.parse_args()
    image = args.slide.rpartition(":")[::2] if args.slide else None
    come = browse if args.browser else visit
    with tempfile.TemporaryDirectory() as folder:
        own = os.environ | {"TMPDIR": folder, "STREAMLIT_LOGGER_ENABLE_RICH": "false"}
        log, of_somebody_else = Path(folder) / "log.txt", Path(folder) / "other.svs"
        of_somebody_else.write_text("of somebody else")
        with started(log, own) as (address, server):
            while not is_healthy(address):
                time.sleep(0.1)
            alone, together = Waits(), Waits()
            for slide in (None, image) if image else (None,):
                come(address, slide, 0, alone)
            before_mb = memory_mb(server.pid)
            hostility = Hostility(address) if args.hostile else None
            peak_mb = crowd(come, address, image, args, together, server.pid, hostility)
            _await_end(folder)
            after_mb, lives = memory_mb(server.pid), is_healthy(address)
        if not lives or of_somebody_else.read_text() != "of somebody else":
            together.failures.append("a file of somebody else was changed" if lives else "the server ended")
        faults = tracebacks(log.read_text(), only_own=args.hostile)
    if hostility:
        tell_hostility(hostility)
    return tell(alone, together, (before_mb, peak_mb, after_mb), faults)


def crowd(
    come: Callable[..., None], address: str, image, args, waits: Waits, process: int, hostility: Hostility | None = None
) -> float:
    """Visitors at the same time, each a `visit` or `browse`, and a hostile one; the most memory meanwhile, in MB."""
    ends, peak_mb = time.monotonic() + 60 * args.minutes, 0.0
    visitors = [
        threading.Thread(target=come, args=[address, image if number % 2 else None, ends, waits])
        for number in range(args.visitors)
    ]
    if hostility:
        visitors.append(threading.Thread(target=hostility.visit_until, args=[ends]))
    for visitor in visitors:
        visitor.start()
    while any(visitor.is_alive() for visitor in visitors):
        peak_mb = max(peak_mb, memory_mb(process))
        time.sleep(0.5)
    return peak_mb


def visit(address: str, image, ends: float, waits: Waits) -> None:
    """Rounds of one visitor until the time is over, at least one."""
    try:
        start = time.perf_counter()
        with visiting(address) as visitor:
            waits.seconds["first page"].append(time.perf_counter() - start)
            while True:
                _round(visitor, image, waits)
                if time.monotonic() >= ends:
                    return
    except Exception as error:
        waits.failures.append(repr(error)[:1500])


def _round(visitor: Visitor, image, waits: Waits) -> None:
    if image is None:
        waits.timed("open", lambda: visitor.press("Use the demo slide"))
    else:
        content = Path(image[0]).read_bytes()
        waits.timed("open", lambda: visitor.upload(UPLOADER, str(time.monotonic_ns()), "section.jpg", content))
        [scale] = [box for box in visitor.all("number_input") if box.label.startswith("Scale")]
        visitor.change(id=scale.id, double_value=float(image[1]))
    waits.timed("run", lambda: _run(visitor))
    for gene in GENES:
        waits.timed("map", lambda gene=gene: _look(visitor, gene))
        charts = [element.json for element in visitor.all("bidi_component") if '"figure"' in element.json]
        if not charts or visitor.all("exception"):
            raise RuntimeError(f"no map of {gene}")
        waits.figures[f"{'demo' if image is None else 'image'}, {gene}"].add(digest(charts[0].encode()))
    _go(visitor, "predict")
    slide = "demo" if image is None else "image"
    waits.timed("download", lambda: waits.figures[f"{slide}, CSV"].add(digest(visitor.download("Download CSV"))))
    visitor.press("Remove this slide")


def browse(address: str, image, ends: float, waits: Waits) -> None:
    """As `visit`, in a browser."""
    try:
        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": 1366, "height": 768})
            page.set_default_timeout(PATIENCE_SECONDS * 1000)
            waits.timed("first page", lambda: (page.goto(address), driver.settle(page)))
            while True:
                try:
                    _round_in_browser(page, image, waits, Path(folder))
                except Exception as error:
                    said = page.locator(".stApp").inner_text(timeout=10_000)
                    raise RuntimeError(f"{error}; {page.url} said {said!r}") from error
                if time.monotonic() >= ends:
                    chromium.close()
                    return
    except Exception as error:
        waits.failures.append(repr(error)[:1500])


def _round_in_browser(page: Page, image, waits: Waits, folder: Path) -> None:
    slide, file = ("demo", None) if image is None else ("image", Path(image[0]))
    waits.timed("open", lambda: driver.take_file(page, file, float(image[1])) if file else driver.take_demo(page))
    waits.timed("run", lambda: driver.run(page))
    driver.go_to(page, "Maps")
    for gene in GENES:
        waits.timed("map", lambda gene=gene: _see(page, gene))
        drawn = page.evaluate("Array.from(document.querySelector('.nsl-chart')._fullData[0].z, (row) => row.join())")
        waits.figures[f"{slide}, {gene}"].add(digest("\n".join(drawn).encode()))
    driver.go_to(page, "Predict")
    download = driver.button(page, "Download CSV")
    waits.timed(
        "download",
        lambda: waits.figures[f"{slide}, CSV"].add(digest(driver.download(page, download, folder).read_bytes())),
    )
    driver.button(page, "Remove this slide").click()
    # What is clicked while the slide before still stands there is lost on a person, too.
    expect(page.get_by_test_id("stSidebar").get_by_text("None yet")).to_be_visible()
    driver.settle(page)


def _see(page: Page, gene: str) -> None:
    driver.choose(page, "Gene", gene)
    title = "document.querySelector('.nsl-chart')?._fullLayout?.coloraxis.colorbar.title.text"
    page.wait_for_function(f"{title}?.startsWith('{gene}')")


def _run(visitor: Visitor) -> None:
    visitor.press("Run")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(metric.label == "Tissue tiles" for metric in visitor.all("metric")):
        if visitor.all("exception") or time.monotonic() > deadline:
            raise RuntimeError("no result")
        time.sleep(0.5)
        visitor.send(BackMsg(rerun_script={}))


def _go(visitor: Visitor, page: str, query: str = "") -> None:
    visitor.send(BackMsg(rerun_script={"page_name": page, "query_string": query}))


def _look(visitor: Visitor, gene: str) -> None:
    _go(visitor, "maps", f"gene={gene}")


def tracebacks(log: str, only_own: bool) -> int:
    """In what a server printed; `only_own`, those that do not end in Streamlit's own lines.

    Streamlit answers what no browser sends, such as a file whose ending an uploader does not take, with an error.
    """
    blocks = log.split("Traceback (most recent call last):")[1:]
    ends = [(re.findall(r'File "([^"]+)"', block) or [""])[-1] for block in blocks]
    return sum("/streamlit/" not in end or not only_own for end in ends)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def memory_mb(process: int) -> float:
    """Of a process and of those that it began, as far as it is theirs alone."""
    parts = [process, *map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]
    lines = []
    for part in parts:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that looked at a file has ended
            lines += Path(f"/proc/{part}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _await_end(folder: str) -> None:
    """Until the folders of all sessions have gone."""
    deadline = time.monotonic() + FORGOTTEN_SECONDS
    while any(map(Path.is_dir, Path(folder).glob("nsl-server-*/*"))) and time.monotonic() < deadline:
        time.sleep(1)
    time.sleep(3)


def tell_hostility(hostility: Hostility) -> None:
    done = ", ".join(f"{deed.replace('_', ' ')} {number:,}" for deed, number in hostility.deeds.most_common())
    away = ", ".join(f"{kind} {number:,}" for kind, number in hostility.sent_away.items())
    print(
        f"hostile: {sum(hostility.deeds.values()):,} deeds ({done}); sent away or left: {away or 'never'}; "
        f"errors that pages showed: {hostility.errors:,}"
    )


def tell(alone: Waits, together: Waits, memory: tuple[float, float, float], faults: int) -> int:
    print(f"{'seconds':<12}{'number':>8}{'alone':>8}{'median':>8}{'90 %':>8}{'most':>8}")
    for what, seconds in together.seconds.items():
        high = statistics.quantiles(seconds, n=10)[-1] if len(seconds) > 1 else seconds[0]
        lone = statistics.median(alone.seconds[what])
        print(
            f"{what:<12}{len(seconds):>8,}{lone:>8.2f}{statistics.median(seconds):>8.2f}{high:>8.2f}{max(seconds):>8.2f}"
        )
    other = [what for what, figures in together.figures.items() if figures != alone.figures[what]]
    before_mb, peak_mb, after_mb = memory
    print(f"maps and files that differ from a single visitor's: {len(other)} of {len(together.figures)}", *other)
    print(f"failures: {len(together.failures)}, tracebacks in the log: {faults}", *together.failures[:3], sep="\n  ")
    share = after_mb / before_mb
    print(f"memory: {before_mb:,.0f} MB before, {peak_mb:,.0f} at most, {after_mb:,.0f} after ({share:.0%})")
    is_clean = not (other or together.failures or alone.failures or faults) and after_mb < 1.1 * before_mb
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
