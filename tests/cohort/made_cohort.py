"""Slides of a cohort made in code, and the ways to run it."""

from pathlib import Path

from shapely.geometry import box

from nsl.cohort.slide_run import RunSettings
from nsl.slides.annotations.geojson import geojson_text
from nsl.slides.annotations.region import Region
from nsl.weights.folder import load_weights
from tests.fixtures import stained_section


def made_slides(folder: Path, number: int, *, corrupt: int | None = None, annotated: int = 0) -> Path:
    """A list of so many sections of 1 µm/px in two groups, `a` and `b` in turn, one of them cut short.

    annotated : so many have their left half annotated as "Tumor".
    """
    (folder / "slides").mkdir(parents=True)
    lines = ["slide,mpp,group,regions"]
    tumor = Region("left", "Tumor", None, box(0, 0, 350, 600))
    for i in range(number):
        path = folder / f"slides/s{i}.png"
        path.write_bytes(stained_section(i).png)
        if i == corrupt:
            path.write_bytes(path.read_bytes()[:50_000])
        regions = f"slides/s{i}.geojson" if i < annotated else ""
        if regions:
            (folder / regions).write_text(geojson_text([tumor]), encoding="utf-8")
        lines.append(f"slides/{path.name},1,{'ab'[i % 2]},{regions}")
    listed = folder / "slides.csv"
    listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return listed


def settings_of(weights: Path, **more) -> RunSettings:
    """Of a cohort predicted with a weights folder."""
    return RunSettings(load_weights(weights).fingerprint, str(weights), formats=("h5ad",), is_cohort=True, **more)


def results_of(out: Path) -> dict[str, bytes]:
    """What a run has written of slides and of all of them, without what it took."""
    files = [*out.glob("slides/*.h5ad"), *out.glob("slides/*.npz"), out / "cohort.parquet"]
    return {path.name: path.read_bytes() for path in files}
