"""One slide of a run: predicted and written, or found to be there already."""

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import anndata

from nsl import __version__, prediction
from nsl.cohort.layout import DONE, FAILED, RECORD, SKIPPED, SUMMARY
from nsl.cohort.slide_list import ListedSlide
from nsl.cohort.summary import SlideSummary
from nsl.errors import NslError, WeightsError, in_a_line
from nsl.export.files import FORMATS, REGIONS_BEGIN, names_of, write_h5ad, write_regions
from nsl.result import Provenance, left_out, stain_warning
from nsl.signatures import PREFIX, Signature
from nsl.slides.annotations.geojson import read_geojson
from nsl.slides.annotations.region import Region
from nsl.slides.slide import open_quietly
from nsl.system.disk import remove_own, write_whole
from nsl.system.progress import SILENT, Progress
from nsl.tiles import MIN_TISSUE
from nsl.weights.folder import load_weights
from nsl.weights.weights import Weights


@dataclass(frozen=True)
class RunSettings:
    """How the slides of a run are predicted, and what is written of each: the same for all."""

    weights_fingerprint: str
    weights: str | None = None
    """Where each worker loads them from: an absolute folder or org/name@commit; None for the embedded ones."""
    genes: tuple[str, ...] | None = None
    signatures: tuple[Signature, ...] = ()
    """All that are scored, those of the weights among them."""
    tile_um: float | None = None
    stride_um: float | None = None
    analysis_mpp: float | None = None
    min_tissue: float = MIN_TISSUE
    transfer: bool = True
    inside_only: bool = False
    quality: bool = True
    to_srgb: bool = False
    """Whether colours are brought to sRGB by the profiles of the slides' files."""
    formats: tuple[str, ...] = ("csv",)
    header_comments: bool = False
    is_cohort: bool = False
    """Whether an h5ad that is fast to read and a summary are written too, for the tables over all slides."""

    def key(self, slide_sha256: str, slide: ListedSlide) -> str:
        """Tells the results of a slide from those of any other slide, weights, settings or version of NSL."""
        settings = {name: value for name, value in asdict(self).items() if name != "weights"}
        regions = slide.regions and hashlib.sha256(slide.regions.read_bytes()).hexdigest()
        told = [settings, slide_sha256, slide.mpp, regions, __version__]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def file_names(self, name: str, columns: Sequence[str], has_regions: bool) -> list[str]:
        """What is written of a slide with results called `name`, of genes and signatures `columns`."""
        files = [file for form in self.formats for file in names_of(form, name, columns)]
        files += [f"{name}.regions.csv"] if has_regions else []
        if self.is_cohort:
            files += [f"{name}.h5ad", f"{name}.{SUMMARY}"]
        return list(dict.fromkeys(files))


@dataclass(frozen=True)
class SlideRecord:
    """What was written of a slide, kept beside it: there once all of it is there."""

    key: str
    slide_file: str
    """From the folder of the results; the slide can have been moved with them."""
    slide_sha256: str
    mpp: float
    files: tuple[str, ...]
    tiles: int
    genes: int
    signatures: int
    tile_um: float
    stain_transfer: str
    warnings: tuple[str, ...]
    seconds: float
    run_id: str

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """None where there is none, or where it is of another version."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            return cls(**told | {"files": tuple(told["files"]), "warnings": tuple(told["warnings"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, path: Path) -> None:
        text = json.dumps(asdict(self), indent=1) + "\n"
        write_whole({path: lambda part: part.write_text(text, encoding="utf-8")})


@dataclass(frozen=True)
class SlideOutcome:
    """What became of one slide."""

    slide: ListedSlide
    status: str
    """One of DONE, SKIPPED, FAILED and NOT_RUN."""
    reason: str = ""
    """Why it failed, in a sentence."""
    record: SlideRecord | None = None
    """What was written of it, by this run or an earlier one; None where nothing was."""

    @property
    def seconds(self) -> float:
        """That it took, in this run or the earlier one that predicted it."""
        return self.record.seconds if self.record else 0.0


def predict_slide(
    slide: ListedSlide,
    settings: RunSettings,
    weights: Weights,
    folder: Path,
    *,
    resume: bool = True,
    run_id: str = "",
    progress: Progress = SILENT,
) -> SlideOutcome:
    """Predict one slide and write its results into a folder, or find there what just this run would write.

    Nothing is computed twice: a record beside the results tells which slide (by checksum), weights (by fingerprint),
    settings and version of NSL they are of. It goes before new results are written, and comes after the last of them.
    A slide that is read over a network has no checksum, and is predicted anew.

    resume : whether such a record is looked for and left.
    run_id : of a run that may come to a slide twice, where a worker was lost with what it had just done.

    Raises NslError: the slide cannot be opened or predicted, or its results cannot be written.
    """
    start = time.perf_counter()
    place = folder / f"{slide.name}.{RECORD}"
    notices, regions = _regions(slide)
    with open_quietly(slide.path, slide.mpp, to_srgb=settings.to_srgb) as opened:
        earlier = SlideRecord.read(place) if resume else None
        # The checksum last: it reads all of the slide.
        is_there = earlier is not None and all((folder / name).exists() for name in earlier.files)
        if is_there and earlier.key == settings.key(opened.sha256, slide):
            if run_id and earlier.run_id == run_id:
                return SlideOutcome(slide, DONE, record=earlier)
            if opened.is_checked:
                return SlideOutcome(slide, SKIPPED, record=earlier)
        result = prediction.predict(
            opened,
            weights,
            tile_um=settings.tile_um,
            stride_um=settings.stride_um,
            analysis_mpp=settings.analysis_mpp,
            genes=settings.genes,
            min_tissue=settings.min_tissue,
            signatures=settings.signatures,
            transfer=settings.transfer,
            regions=regions,
            inside_only=settings.inside_only,
            quality=settings.quality,
            progress=progress,
        )
        known = Provenance.of(result)
        told = [*notices, *opened.notices, known.slide_doubt, stain_warning(result), left_out(result)]
        with contextlib.suppress(OSError):  # of a folder that cannot be written, which what follows tells
            place.unlink()
        remove_own(folder / f"{slide.name}.regions.csv", REGIONS_BEGIN)
        files = {"slide": opened, "weights": weights, "regions": regions or ()}
        told += _write(result, slide.name, settings, folder, files)
    columns = [*result.var_names, *(PREFIX + name for name in _sets(result))]
    names = settings.file_names(slide.name, columns, regions is not None)
    record = SlideRecord(
        key=settings.key(known.slide_sha256, slide),
        slide_file=_from(slide.path, folder) if isinstance(slide.path, Path) else slide.path.url,
        slide_sha256=known.slide_sha256,
        mpp=known.mpp,
        files=tuple(name for name in names if (folder / name).exists()),
        tiles=result.n_obs,
        genes=result.n_vars,
        signatures=len(_sets(result)),
        tile_um=known.tile_um,
        stain_transfer=_transfer_in_short(known),
        warnings=tuple(filter(None, told)),
        seconds=time.perf_counter() - start,
        run_id=run_id,
    )
    if resume:
        record.write(place)
    return SlideOutcome(slide, DONE, record=record)


def predict_task(slide: ListedSlide, settings: RunSettings, folder: str, run_id: str) -> SlideOutcome:
    """The outcome of a slide as a task of a worker, which loads the weights once."""

    def predict() -> SlideOutcome:
        weights = _weights(settings.weights, settings.weights_fingerprint)
        return predict_slide(slide, settings, weights, Path(folder), run_id=run_id)

    return outcome_of(slide, predict)


def outcome_of(slide: ListedSlide, predict: Callable[[], SlideOutcome]) -> SlideOutcome:
    """The outcome of a slide, whatever it comes to: one that a library stumbles over does not end a night's run."""
    try:
        return predict()
    except Exception as error:  # some would be no exceptions any more on the way from a worker
        return failure(slide, error)


def failure(slide: ListedSlide, error: BaseException) -> SlideOutcome:
    """The outcome of a slide that came to nothing."""
    if isinstance(error, NslError):
        return SlideOutcome(slide, FAILED, str(error))
    if isinstance(error, MemoryError):
        return SlideOutcome(slide, FAILED, "it needs more memory than there is; ask for fewer genes or larger tiles")
    return SlideOutcome(slide, FAILED, f"it stopped on {type(error).__name__} ({in_a_line(error)})")


@functools.lru_cache(maxsize=1)
def _weights(source: str | None, fingerprint: str) -> Weights:
    weights = load_weights(source)
    if weights.fingerprint != fingerprint:
        raise WeightsError(
            f"this worker has other weights in {weights.source} than the run began with; give all of them the same"
        )
    return weights


def _regions(slide: ListedSlide) -> tuple[list[str], Sequence[Region] | None]:
    if slide.regions is None:
        return [], None
    found = read_geojson(slide.regions)
    return list(found.notices), found.regions


def _write(result: anndata.AnnData, name: str, settings: RunSettings, folder: Path, html: dict) -> list[str]:
    """Write all that is asked for of one result; returns what could not be."""
    options = {
        "csv": {"header_comments": settings.header_comments},
        "png": {"regions": html["regions"]},
        "html": html,
    }
    for form in settings.formats:
        if not (settings.is_cohort and form == "h5ad"):
            FORMATS[form](result, folder / f"{name}.{form}", **options.get(form, {}))
    if settings.is_cohort:
        write_h5ad(result, folder / f"{name}.h5ad", compression=None)
        SlideSummary.of(result).write(folder / f"{name}.{SUMMARY}")
    if "region" not in result.obs:
        return []
    try:
        write_regions(result, folder / f"{name}.regions.csv")
    except NslError as error:
        return [f"{name}.regions.csv is not written: {error}"]
    return []


def _sets(result: anndata.AnnData) -> list[str]:
    return list(result.obsm["signatures"].columns) if "signatures" in result.obsm else []


def _transfer_in_short(known: Provenance) -> str:
    if not known.is_transferred:
        return "none"
    h, e = 1 / known.transfer_strengths
    return f"hematoxylin {h:.2f} times and eosin {e:.2f} times as strong as usual"


def _from(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()
