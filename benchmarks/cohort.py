"""Whether a cohort comes to the same whatever becomes of its workers, and what a slide of it costs.

    python benchmarks/cohort.py [--tissue IMAGE] [--slides 40] [--most 1000] [--genes 250] [--side-px 2000]
                                [--cost-alone] [--json FILE]

Makes slides by cutting squares out of an image of a section (the demo slide, if none is given) and takes them through
`python -m nsl cohort`. First one after another, then on two workers, one of which is ended with signal 9 midway, one
slide being cut short: every file of every other slide must be the same to the last bit, and a third run must compute
nothing. Then the cost of a slide from 10 slides to `--most`, one after another, by the median of the time that each
takes by itself and by the time of the whole run, with the largest memory; and one worker against two. `--cost-alone`
measures the cost from 10 slides to `--most` and nothing else. Exit status 1 where anything differs.
"""

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MPP = 0.69
_TISSUE_SHARE, _STAINED = 0.6, 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tissue", type=Path, help="an image of a section at 0.69 µm/px")
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--most", type=int, default=1_000, help="the largest cohort whose cost is measured")
    parser.add_argument("--genes", type=int, default=250)
    parser.add_argument("--side-px", type=int, default=2_000, help="of each slide")
    parser.add_argument("--cost-alone", action="store_true", help="measure what a slide costs, and nothing else")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    from nsl import load_weights

    genes = ",".join(load_weights().genes[: args.genes])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, report = squares(args.tissue, args.slides, args.side_px, folder / "slides"), {}
        if not args.cost_alone:
            report["lost worker"] = lost_worker(folder, images, genes)
            for title, figures in report["lost worker"].items():
                print(f"{title}: {figures}", flush=True)
        report["cost"] = cost_by_number(folder, images, genes, args.most)
        if not args.cost_alone:
            report["workers"] = cost_by_workers(folder, images, genes)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    demonstrated = report.get("lost worker", {})
    return int(any(demonstrated.get(fault, 0) > 0 for fault in ("files that differ", "computed by the rerun")))


def squares(tissue: Path | None, number: int, side_px: int, folder: Path) -> list[Path]:
    """So many JPEG squares of tissue, each from another place of the image."""
    from nsl.slides.demo.slide import demo_slide

    Image.MAX_IMAGE_PIXELS = None
    image = Image.open(tissue).convert("RGB") if tissue else Image.fromarray(demo_slide(side_px=5_000).image)
    folder.mkdir()
    rng, paths = np.random.default_rng(0), []
    while len(paths) < number:
        x, y = (int(rng.integers(side - side_px)) for side in image.size)
        square = image.crop((x, y, x + side_px, y + side_px))
        if (np.ptp(np.asarray(square.reduce(8), int), axis=2) > _STAINED).mean() > _TISSUE_SHARE:  # glass is grey
            paths.append(folder / f"slide{len(paths):04}.jpg")
            square.save(paths[-1], quality=90)
    return paths


def listed(folder: Path, name: str, images: list[Path]) -> Path:
    """A list of slides."""
    path = folder / f"{name}.csv"
    path.write_text("slide,mpp\n" + "".join(f"{image},{MPP}\n" for image in images), encoding="utf-8")
    return path


def started(slides: Path, out: Path, genes: str, *more: str) -> subprocess.Popen:
    """`nsl cohort` begun."""
    command = [sys.executable, "-m", "nsl", "cohort", str(slides), "--out", str(out), "--genes", genes, *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ended(run: subprocess.Popen) -> float:
    """Wait for it; the largest memory it had, in MB, of its workers too one by one."""
    _, status, used = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    if run.returncode not in (0, 1):
        raise SystemExit(f"nsl cohort ended with {run.returncode}")
    return used.ru_maxrss / 1024


def status_of(out: Path) -> list[dict]:
    with (out / "status.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def results(out: Path) -> dict[str, bytes]:
    """All that was written of slides, but for how long it took, and the table over all of them."""
    files = [path for path in out.glob("slides/*") if not path.name.endswith("run.json")]
    return {path.name: path.read_bytes() for path in [*files, out / "cohort.parquet"]}


def lost_worker(folder: Path, images: list[Path], genes: str) -> dict:
    """One slide cut short, one worker of two ended midway, against one slide after another; then once more."""
    broken = folder / "slides" / "broken.jpg"
    broken.write_bytes(images[-1].read_bytes()[:40_000])
    slides = listed(folder, "demonstration", [*images[:-1], broken])
    ended(started(slides, folder / "serial", genes))
    run = started(slides, folder / "shared", genes, "--workers", "2")
    while len(list(folder.glob("shared/slides/*.run.json"))) < len(images) // 3:
        if run.poll() is not None:
            raise SystemExit("nsl cohort ended before a worker could be ended")
        time.sleep(0.02)
    os.kill(workers_of(run.pid)[0], signal.SIGKILL)
    ended(run)
    serial, shared = results(folder / "serial"), results(folder / "shared")
    rows = status_of(folder / "shared")
    written = {path: path.stat().st_mtime_ns for path in folder.glob("shared/slides/*")}
    ended(started(slides, folder / "shared", genes, "--workers", "2"))
    again = {path: path.stat().st_mtime_ns for path in folder.glob("shared/slides/*")}
    return {
        "slides": len(images),
        "became of them": dict(Counter(row["status"] for row in rows)),
        "failed": {row["name"]: row["reason"] for row in rows if row["status"] == "failed"},
        "files compared": len(serial),
        "files that differ": sum(shared.get(name) != content for name, content in serial.items())
        + len(shared.keys() - serial.keys()),
        "became of them in a rerun": dict(Counter(row["status"] for row in status_of(folder / "shared"))),
        "computed by the rerun": sum(written.get(path) != when for path, when in again.items()),
    }


def workers_of(pid: int) -> list[int]:
    """The processes that a local cluster has started."""
    import psutil

    own = psutil.Process(pid).children(recursive=True)
    return [one.pid for one in own if "spawn_main" in " ".join(one.cmdline())]


def cost_by_number(folder: Path, images: list[Path], genes: str, most: int) -> list[dict]:
    """Cohorts of 10, 100 … slides, which are the same ones under other names."""
    print("\n| slides | a slide by itself, s | whole run a slide, s | memory, MB |\n|--:|--:|--:|--:|")
    rows, number = [], 10
    while number <= most:
        own = folder / f"{number} slides"
        own.mkdir()
        linked = [own / f"s{i}.jpg" for i in range(number)]
        for i, path in enumerate(linked):
            path.hardlink_to(images[i % len(images)])
        begun = time.perf_counter()
        memory = ended(started(listed(folder, own.name, linked), folder / f"out {number}", genes))
        seconds = time.perf_counter() - begun
        alone = statistics.median(float(row["seconds"]) for row in status_of(folder / f"out {number}"))
        rows.append({"slides": number, "task_s": alone, "run_s": seconds, "peak_mb": memory})
        print(f"| {number:,} | {alone:.3f} | {seconds / number:.3f} | {memory:,.0f} |", flush=True)
        number *= 10
    return rows


def cost_by_workers(folder: Path, images: list[Path], genes: str) -> list[dict]:
    """The same slides on one worker and on two."""
    print("\n| workers | slides | whole run, s | from the first slide to the last, s |\n|--:|--:|--:|--:|")
    rows, slides = [], listed(folder, "all", images)
    for workers in (1, 2):
        out = folder / f"{workers} workers"
        begun = time.perf_counter()
        ended(started(slides, out, genes, "--workers", str(workers)))
        seconds = time.perf_counter() - begun
        done = sorted(path.stat().st_mtime for path in out.glob("slides/*.run.json"))
        rows.append({"workers": workers, "slides": len(images), "run_s": seconds, "slides_s": done[-1] - done[0]})
        print(f"| {workers} | {len(images)} | {seconds:.1f} | {done[-1] - done[0]:.1f} |", flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
