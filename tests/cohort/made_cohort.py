"""Slides of a cohort made in code, and the ways to run it."""

from pathlib import Path

from PIL import Image

from nsl.cohort.slide_run import RunSettings
from nsl.weights.folder import load_weights
from tests.fixtures import stained_section


def made_slides(folder: Path, number: int, *, corrupt: int | None = None) -> Path:
    """A list of so many sections of 1 µm/px in two groups, `a` and `b` in turn, one of them cut short."""
    (folder / "slides").mkdir(parents=True)
    lines = ["slide,mpp,group"]
    for i in range(number):
        path = folder / f"slides/s{i}.png"
        Image.fromarray(stained_section(i).pixels).save(path, compress_level=1)
        if i == corrupt:
            path.write_bytes(path.read_bytes()[:50_000])
        lines.append(f"slides/{path.name},1,{'ab'[i % 2]}")
    listed = folder / "slides.csv"
    listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return listed


def settings_of(weights: Path, **more) -> RunSettings:
    """Of a cohort predicted with a weights folder."""
    return RunSettings(load_weights(weights).sha256, str(weights), formats=("h5ad",), is_cohort=True, **more)


def results_of(out: Path) -> dict[str, bytes]:
    """What a run has written of slides and of all of them, without what it took."""
    files = [*out.glob("slides/*.h5ad"), *out.glob("slides/*.npz"), out / "cohort.parquet"]
    return {path.name: path.read_bytes() for path in files}
