"""A finished cohort read back, for the app: its files may come from anybody, so none of them is taken at its word.

Nothing that a file says names one elsewhere: names are those of plain files in the cohort's folder, links that lead
out of the server's folder are not followed, and HDF5 files that would have others read are refused.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata.io import read_elem

from nsl.cohort.layout import COHORT, RECORD, SLIDES, STAIN_COLUMNS, STATUS, STATUS_COLUMNS, STRENGTH_COLUMNS, SUMMARY
from nsl.cohort.summary import WHOLE, SlideSummary
from nsl.errors import NslError
from nsl.numerals import of_csv_cell, some_of
from nsl.result import VAR_COLUMNS, Provenance, SlidePicture, centers_mm
from nsl.signatures import PREFIX, as_columns, is_signature
from nsl.spots.files import own_hdf5, require_size

MAX_LISTED, MAX_DEPTH = 200, 8
_OBS_COLUMNS = ("group", "tissue_mm2", *STAIN_COLUMNS, *STRENGTH_COLUMNS)
# Cohorts of versions before it was known lack r_specific.
_VAR_COLUMNS = (*(name for name in VAR_COLUMNS if name != "r_specific"), "scale_low", "scale_high")
_STATUS_BYTES, _RECORD_BYTES = 100_000_000, 1_000_000


@dataclass(frozen=True)
class CohortFolder:
    """A folder that `nsl cohort` has written, below the server's."""

    name: str
    """The path within the server's folder, with "/"."""
    path: Path
    """Without links."""
    root: Path
    """The server's folder, likewise."""

    def file(self, *parts: str) -> Path:
        """A file of the cohort; NslError where there is none, or where it lies outside the server's folder."""
        path = self.path.joinpath(*parts)
        is_plain = all(part == Path(part).name and "\0" not in part for part in parts)
        if not is_plain or not path.is_file() or not path.resolve().is_relative_to(self.root):
            raise NslError(f"the cohort {self.name} has no file {parts[-1]!r} that can be read; run it again")
        return path


def cohorts_in(folder: Path) -> list[CohortFolder]:
    """The finished cohorts in a folder and the folders in it; hidden and linked folders are passed over."""
    root = folder.resolve()
    return list(itertools.islice(_walk(root, root, MAX_DEPTH), MAX_LISTED))


def _walk(folder: Path, root: Path, depth: int) -> Iterator[CohortFolder]:
    try:
        with os.scandir(folder) as entries:
            seen = sorted((one for one in entries if not one.name.startswith(".")), key=lambda one: one.name)
        names = {one.name for one in seen}
        folders = [Path(one) for one in seen if one.is_dir(follow_symlinks=False)]
    except OSError:  # a folder that may not be read hides no others
        return
    if {STATUS, SLIDES} <= names:
        yield CohortFolder(folder.relative_to(root).as_posix(), folder, root)
    elif depth:
        for one in folders:
            yield from _walk(one, root, depth - 1)


def read_status(cohort: CohortFolder) -> pd.DataFrame:
    """What became of each slide, by its name: the columns of `status.csv`; NslError where it is no such table."""
    path = cohort.file(STATUS)
    _require_bytes(path, _STATUS_BYTES)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = pd.DataFrame(list(csv.DictReader(file)), columns=list(STATUS_COLUMNS)).fillna("").astype(str)
        table = table.map(of_csv_cell)
        numbers = {"tiles": pd.to_numeric(table.tiles), "seconds": pd.to_numeric(table.seconds)}
    except (OSError, ValueError, csv.Error) as error:
        raise NslError(f"{path.name} of {cohort.name} cannot be read ({error}); run the cohort again") from None
    return table.assign(**numbers).set_index("name")


def read_cohort(cohort: CohortFolder) -> anndata.AnnData:
    """Slides × signatures and genes: their means, with what `cohort.h5ad` says of the slides in `obs`."""
    path = cohort.file(COHORT)
    with _told(cohort, path), own_hdf5(path.name, path) as file:
        require_size(path.name, file)
        found = anndata.AnnData(
            X=read_elem(file["X"]),
            obs=read_elem(file["obs"]),
            var=read_elem(file["var"]),
            obsm={"signatures": read_elem(file["obsm/signatures"])} if "obsm/signatures" in file else None,
            uns={"nsl": read_elem(file["uns/nsl"])},
        )
        found = as_columns(found)
        missing = {*_OBS_COLUMNS} - {*found.obs} | {*_VAR_COLUMNS} - {*found.var}
        if missing:
            raise NslError(f"{path.name} of {cohort.name} lacks {some_of(sorted(missing), 3)}; run the cohort again")
        return found


def region_classes(cohort: CohortFolder, slides: anndata.AnnData) -> dict[str, int]:
    """Classes of annotated regions, or regions' names where none has a class, and how many slides have tiles there."""
    counts: Counter[str] = Counter()
    for slide in slides.obs_names:
        regions, tiles = _summary_parts(cohort, slide, "regions", "tiles")
        counts.update(name for name, count in zip(regions.tolist(), tiles, strict=True) if name != WHOLE and count)
    return dict(sorted(counts.items()))


def in_class(cohort: CohortFolder, slides: anndata.AnnData, region: str) -> anndata.AnnData:
    """The slides that have tiles in regions of a class, and their means there, over signatures and genes."""
    kept, means = [], []
    for slide in slides.obs_names:
        columns, regions, tiles, mean = _summary_parts(cohort, slide, "columns", "regions", "tiles", "mean")
        [inside] = np.nonzero((regions == region) & (tiles > 0))
        if len(inside):
            kept.append(slide)
            means.append(mean[inside[0], pd.Index(columns).get_indexer(slides.var_names)])
    found = slides[kept].copy()
    found.X = np.array(means, np.float32).reshape(found.shape)
    return found


def _summary_parts(cohort: CohortFolder, slide: str, *fields: str) -> list[np.ndarray]:
    path = cohort.file(SLIDES, f"{slide}.{SUMMARY}")
    with _told(cohort, path):
        return SlideSummary.read_parts(path, *fields)


def read_map(cohort: CohortFolder, slide: str, column: str) -> anndata.AnnData:
    """The tiles of one slide with one gene or signature, and the slide's picture: little is read of a large file."""
    path = cohort.file(SLIDES, f"{slide}.h5ad")
    with _told(cohort, path), own_hdf5(path.name, path) as file:
        for part in ("obs", "uns/spatial"):
            require_size(path.name, file[part])
        if is_signature(column):
            values = file[f"obsm/signatures/{column.removeprefix(PREFIX)}"][:]
        else:
            names = file["var"][file["var"].attrs["_index"]].asstr()[:]
            values = file["X"][:, names.tolist().index(column)]
        # What is said of thousands of genes is not read.
        told = {name: read_elem(one) for name, one in file["uns/nsl"].items() if name != "signatures"}
        return _drawable(
            anndata.AnnData(
                X=np.asarray(values, np.float32)[:, None],
                obs=read_elem(file["obs"]),
                var=pd.DataFrame(index=[column]),
                uns={"nsl": told, "spatial": read_elem(file["uns/spatial"])},
            )
        )


def read_result(cohort: CohortFolder, slide: str) -> anndata.AnnData:
    """All of one slide's result, signatures before its genes."""
    path = cohort.file(SLIDES, f"{slide}.h5ad")
    with _told(cohort, path), own_hdf5(path.name, path) as file:
        require_size(path.name, file)
        return _drawable(as_columns(read_elem(file)))


def _drawable(result: anndata.AnnData) -> anndata.AnnData:
    """The result, if it has what every map is drawn with; KeyError and the like if not."""
    Provenance.of(result), SlidePicture.of(result), centers_mm(result), result.obs["tissue_fraction"]
    return result


def slide_file(cohort: CohortFolder, slide: str) -> str:
    """Where a slide's own file lies, as a path within the server's folder; NslError where it lies outside."""
    path = cohort.file(SLIDES, f"{slide}.{RECORD}")
    _require_bytes(path, _RECORD_BYTES)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["slide_file"]
        return (cohort.path / SLIDES / told).resolve().relative_to(cohort.root).as_posix()
    except (OSError, ValueError, KeyError, TypeError):
        raise NslError(
            f"the slide {slide} does not lie in the server's folder, so its tissue cannot be shown; move the slides "
            "there and run the cohort again"
        ) from None


def _require_bytes(path: Path, most: int) -> None:
    if path.stat().st_size > most:
        raise NslError(f"{path.name} has {path.stat().st_size:,} bytes, more than any cohort's; run it again")


@contextlib.contextmanager
def _told(cohort: CohortFolder, path: Path) -> Iterator[None]:
    """What a file that is none of ours sets off in the libraries that read it, in a sentence."""
    try:
        yield
    except NslError:
        raise
    except Exception as error:
        raise NslError(
            f"{path.name} of {cohort.name} cannot be read ({type(error).__name__}); run the cohort again"
        ) from error
