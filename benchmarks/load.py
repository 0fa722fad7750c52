"""Many visitors of one server at once: do all get what a single one gets, how long do they wait, and is memory let go?

    python benchmarks/load.py [--visitors 6] [--minutes 2] [--slide IMAGE:MPP]

Visitors speak the server's protocol. Each brings a slide, every second one the demo slide and the others IMAGE, runs it
with all genes, looks at maps of three genes, removes the slide, and begins again until the time is over. A map must be
the figure that a visitor alone was sent. Memory is that of the server's process and of the one that forks for uploads,
looked at after one visitor was there alone, while many are, and when the last folder of theirs has gone, minutes after.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: E402

from tests.browser.serving import is_healthy, started  # noqa: E402
from tests.visitor import Visitor, visiting  # noqa: E402

GENES = ("ERBB2", "CD24", "COX6C")
UPLOADER, PATIENCE_SECONDS, FORGOTTEN_SECONDS = "H&E image or whole-slide file", 600, 420


class Waits:
    """Seconds that visitors waited, by what for, the figures they were sent, and what failed."""

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
    args = parser.parse_args()
    image = args.slide.rpartition(":")[::2] if args.slide else None
    with tempfile.TemporaryDirectory() as folder:
        own = os.environ | {"TMPDIR": folder}
        log = Path(folder) / "log.txt"
        with started(log, own) as (address, server):
            while not is_healthy(address):
                time.sleep(0.1)
            alone, together = Waits(), Waits()
            for slide in (None, image) if image else (None,):
                visit(address, slide, 0, alone)
            before_mb = memory_mb(server.pid)
            peak_mb = crowd(address, image, args, together, server.pid)
            _await_end(folder)
            after_mb = memory_mb(server.pid)
        faults = log.read_text().count("Traceback")
    return tell(alone, together, (before_mb, peak_mb, after_mb), faults)


def crowd(address: str, image, args, waits: Waits, process: int) -> float:
    """Visitors at the same time; the most memory meanwhile, in MB."""
    ends, peak_mb = time.monotonic() + 60 * args.minutes, 0.0
    visitors = [
        threading.Thread(target=visit, args=[address, image if number % 2 else None, ends, waits])
        for number in range(args.visitors)
    ]
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
        waits.failures.append(repr(error)[:300])


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
        waits.figures[f"{'demo' if image is None else 'image'}, {gene}"].add(charts[0])
    _go(visitor, "predict")
    visitor.press("Remove this slide")


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


def memory_mb(process: int) -> float:
    """Of a process and of those that it began, as far as it is theirs alone."""
    parts = [process, *map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]
    lines = [line for part in parts for line in Path(f"/proc/{part}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _await_end(folder: str) -> None:
    """Until the folders of all sessions have gone."""
    deadline = time.monotonic() + FORGOTTEN_SECONDS
    while list(Path(folder).glob("nsl-*")) and time.monotonic() < deadline:
        time.sleep(1)
    time.sleep(3)


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
    print(f"maps that differ from a single visitor's: {len(other)} of {len(together.figures)}")
    print(f"failures: {len(together.failures)}, tracebacks in the log: {faults}", *together.failures[:3], sep="\n  ")
    share = after_mb / before_mb
    print(f"memory: {before_mb:,.0f} MB before, {peak_mb:,.0f} at most, {after_mb:,.0f} after ({share:.0%})")
    is_clean = not (other or together.failures or alone.failures or faults) and after_mb < 1.1 * before_mb
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
