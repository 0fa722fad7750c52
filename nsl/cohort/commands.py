"""`predict` and `cohort`: their options, and what they say of slides on the way."""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from nsl.cohort.layout import COHORT, COHORT_ROWS, DONE, FAILED, RECORD, SKIPPED, SLIDES, STATUS
from nsl.errors import NslError
from nsl.numerals import count_of, csv_cell, some_of
from nsl.signatures import read_gmt, split_members
from nsl.slides.address import path_or_address
from nsl.system.disk import remove_own, require_folder, require_names, write_whole
from nsl.system.progress import Progress

if TYPE_CHECKING:
    from nsl.cohort.slide_list import ListedSlide
    from nsl.cohort.slide_run import RunSettings
    from nsl.weights.weights import Weights

FAILURES, _FAILURE_COLUMNS = "failures.csv", ("slide", "error")
"""The list of the slides that `predict` could not take."""


def add_predict(add) -> None:
    add(
        "slides",
        nargs="+",
        type=path_or_address,
        metavar="SLIDE",
        help="image, whole-slide file, address of OME-Zarr (http…, s3…), or a list as of cohort",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add("--regions", type=Path, metavar="FILE", help="QuPath annotations of the slide (GeoJSON), to compare by class")
    add_prediction(add, "csv")


def add_cohort(add) -> None:
    add(
        "slides",
        type=Path,
        metavar="SLIDES",
        help="CSV or TSV of slide[,mpp,group,regions,patient], or a folder of slides",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results and the tables")
    add("--workers", type=int, metavar="N", help="share the slides out to N processes (default: one after another)")
    add("--scheduler", metavar="tcp://HOST:PORT", help="run on this Dask cluster")
    add_prediction(add, "h5ad")


def add_prediction(add, form: str) -> None:
    add("--mpp", type=float, metavar="F", help="µm/px, in place of what metadata says; a list goes before")
    add("--weights", metavar="SRC", help="folder or org/name@revision (default: NSL_WEIGHTS, or those embedded)")
    add("--genes", metavar="A,B", help="only these genes (default: all)")
    add("--signatures", type=Path, metavar="FILE.gmt", help="score these gene sets beside those of the weights")
    add("--inside-regions", action="store_true", help="predict inside the regions alone")
    add("--tile-um", type=float, metavar="F", help="tile side in µm (default: as trained)")
    add("--stride-um", type=float, metavar="F", help="step between tiles (default: half a tile, as in the app)")
    add("--analysis-mpp", type=float, metavar="F", help="µm/px to read at (default: as trained)")
    add("--no-transfer", action="store_true", help="take colours as scanned, whatever stain the weights are for")
    add("--no-quality", action="store_true", help="keep tiles of ink, blur and folds, and slides that are no H&E")
    add("--to-srgb", action="store_true", help="bring colours to sRGB by the profile in the slide's file")
    add("--min-tissue", type=float, metavar="F", help="least share of tissue in a tile (default: 0.3)")
    add(
        "--format",
        default=form,
        metavar="csv,h5ad,geojson,png,html,spatialdata",
        help=f"what to write (default: {form})",
    )
    add("--header-comments", action="store_true", help="lead the CSV with its provenance as # lines")


def predict(args: argparse.Namespace) -> int:
    """Write one result a slide into DIR, named after the slide, with its provenance beside it.

    Of several slides those are left that an earlier run into DIR has done with the same weights and settings.
    """
    from nsl.cohort.run import exit_status
    from nsl.cohort.slide_list import list_slides
    from nsl.cohort.slide_run import outcome_of, predict_slide

    slides = list_slides(args.slides, args.out, args.mpp)
    if args.regions and len(slides) > 1:
        raise NslError(f"--regions is of one slide, and {len(slides)} are named; predict them one by one")
    if args.regions:
        slides = [replace(slides[0], regions=args.regions.absolute())]
    settings, weights = _settings(args, slides)
    several, outcomes, called = len(slides) > 1, [], _called(slides)
    if several:
        remove_own(args.out / FAILURES, ",".join(_FAILURE_COLUMNS))
    for number, slide in enumerate(slides):
        progress = _OneOfMany(args.progress, number, len(slides)) if several else args.progress
        run = partial(predict_slide, slide, settings, weights, args.out, resume=several, progress=progress)
        outcome = outcome_of(slide, run) if several and not args.debug else run()
        outcomes.append(outcome)
        if outcome.status == FAILED:
            begins = "" if outcome.reason.startswith(called[slide]) else f"{called[slide]}: "
            _say(f"nsl: error: {begins}{outcome.reason}", sys.stderr)
            continue
        if not several:
            args.progress.close()
        done = outcome.record
        for notice in done.warnings:
            note(notice)
        scored = f", {count_of(done.signatures, 'signature')}" if done.signatures else ""
        ending = {"png": "*.png", "spatialdata": "zarr"}.get(settings.formats[0], settings.formats[0])
        took = "found there" if outcome.status == SKIPPED else f"{outcome.seconds:.1f} s"
        _say(
            f"{called[slide]}: {count_of(done.tiles, 'tile')} of {done.tile_um:g} µm, "
            f"{count_of(done.genes, 'gene')}{scored}, {took} → {args.out / slide.name}.{ending}"
        )
    if failures := [(called[one.slide], one.reason) for one in outcomes if one.status == FAILED]:
        try:
            write_whole({args.out / FAILURES: lambda part: _list_failures(part, failures)})
        except NslError as error:
            print(f"nsl: error: {error}", file=sys.stderr)
    return exit_status(outcomes)


def _called(slides: Sequence["ListedSlide"]) -> dict["ListedSlide", str]:
    """What each slide is called where it is told of: its file, and as it was named where two files are called so."""
    times = Counter(slide.path.name for slide in slides)
    return {slide: slide.path.name if times[slide.path.name] == 1 else slide.listed for slide in slides}


def _list_failures(path: Path, failures: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_FAILURE_COLUMNS, *(map(csv_cell, row) for row in failures)])


def cohort(args: argparse.Namespace) -> int:
    """Predict the slides of a list or a folder, and write tables over all of them into DIR.

    What an earlier run into DIR has done with the same weights and settings is left; status.csv says what became of
    each slide.
    """
    from nsl.cohort.run import exit_status, run_cohort
    from nsl.cohort.slide_list import slides_of_cohort
    from nsl.cohort.slide_run import SlideOutcome

    if args.workers is not None and args.scheduler:
        raise NslError("--workers starts a cluster and --scheduler joins one; name one of them")
    if args.workers is not None and args.workers < 1:
        raise NslError(f"--workers is {args.workers}; it must be at least 1")
    slides = slides_of_cohort(args.slides, args.out, args.mpp)
    settings, weights = _settings(args, slides, SLIDES)

    def tell(outcome: SlideOutcome) -> None:
        if outcome.status == FAILED:
            _say(f"nsl: error: {outcome.slide.listed}: {outcome.reason}", sys.stderr)

    outcomes = run_cohort(
        slides,
        settings,
        weights,
        args.out,
        workers=args.workers or 0,
        scheduler=args.scheduler,
        progress=args.progress,
        told=tell,
    )
    args.progress.close()
    counts = [sum(one.status == status for one in outcomes) for status in (DONE, SKIPPED, FAILED)]
    words = ("done", "done before", "failed")
    told = ", ".join(f"{count:,} {word}" for count, word in zip(counts, words, strict=True) if count)
    doubted = sum(one.record is not None and bool(one.record.warnings) for one in outcomes)
    if doubted:
        told += f", {doubted:,} with warnings in {STATUS}"
    print(f"{count_of(len(outcomes), 'slide')}: {told} → {args.out}")
    return exit_status(outcomes)


def _settings(
    args: argparse.Namespace, slides: Sequence["ListedSlide"], folder: str = ""
) -> tuple["RunSettings", "Weights"]:
    """How to predict, and the weights, checked before any slide is read; of a cohort `folder` is that of the slides."""
    from nsl.cohort.slide_run import RunSettings
    from nsl.export.files import FORMATS, MAX_MAPS
    from nsl.tiles import MIN_TISSUE, USUAL_STEP
    from nsl.weights.folder import default_source, load_weights

    formats = args.format.split(",")
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise NslError(f"there is no format {unknown[0]!r}; choose from {', '.join(FORMATS)}")
    if args.inside_regions and not all(slide.regions for slide in slides):
        raise NslError(
            "--inside-regions needs the regions; name their file "
            + ("of every slide in the column regions" if folder else "with --regions")
        )
    source = args.weights or default_source()
    weights = load_weights(source)
    signatures = [] if args.signatures is None else read_gmt(args.signatures)
    members = weights.match_signatures(signatures).members
    left_out = [one.name for one in signatures if one.name not in members]
    if left_out:
        note(f"too few genes of {some_of(left_out, 5)} are in the weights to score it")
    if args.genes is None:
        own = weights.signatures.members
        alike = members.index.intersection(own.index)
        if replaced := [name for name in alike if set(split_members(members[name])) != set(split_members(own[name]))]:
            note(f"scored as in {args.signatures.name}, not as the weights know it: {some_of(replaced, 5)}")
        signatures = weights.with_own([one for one in signatures if one.name in members])
    genes = None if args.genes is None else weights.require_genes(names(args.genes))
    if genes == []:
        raise NslError("--genes names no gene; give names separated by commas, or leave it out for all")
    chosen = len(weights.genes if genes is None else genes)
    if "png" in formats and chosen > MAX_MAPS:
        raise NslError(f"--format png draws a map a gene; name at most {MAX_MAPS} with --genes ({chosen:,} are chosen)")
    tile_um = weights.config.tile_um if args.tile_um is None else args.tile_um
    settings = RunSettings(
        weights_fingerprint=weights.fingerprint,
        weights=_of_any_folder(source, weights),
        genes=None if genes is None else tuple(genes),
        signatures=tuple(signatures),
        tile_um=tile_um,
        stride_um=USUAL_STEP * tile_um if args.stride_um is None else args.stride_um,
        analysis_mpp=args.analysis_mpp,
        min_tissue=MIN_TISSUE if args.min_tissue is None else args.min_tissue,
        transfer=not args.no_transfer,
        inside_only=args.inside_regions,
        quality=not args.no_quality,
        to_srgb=args.to_srgb,
        formats=tuple(formats),
        header_comments=args.header_comments,
        is_cohort=bool(folder),
    )
    columns = [*(weights.genes if genes is None else genes), *(one.name for one in signatures)]
    _require_free(args, slides, settings, columns, folder)
    return settings, weights


def _require_free(
    args: argparse.Namespace, slides: Sequence["ListedSlide"], settings: "RunSettings", columns: list[str], folder: str
) -> None:
    """NslError where a result would have a name that the disk does not take, or of another's, or of what is read."""
    from nsl.weights.folder import FILES

    files_of = [settings.file_names(one.name, columns, one.regions is not None) for one in slides]
    if len(slides) > 1 or folder:
        files_of = [[*own, f"{one.name}.{RECORD}"] for one, own in zip(slides, files_of, strict=True)]
    files = [name for own in files_of for name in own]
    require_folder(args.out / folder)
    require_names(args.out / folder, files)
    _require_distinct(slides, files_of)
    tables = (STATUS, COHORT, COHORT_ROWS) if folder else (FAILURES,) if len(slides) > 1 else ()
    given = args.slides if isinstance(args.slides, list) else [args.slides]
    weights = [Path(settings.weights) / name for name in FILES] if settings.weights else []
    inputs = [*given, *(one.path for one in slides), *(one.regions for one in slides), args.signatures, *weights]
    outputs = [(args.out / folder, files), (args.out, tables)]
    _require_apart(outputs, [path for path in inputs if isinstance(path, Path)])


def _require_distinct(slides: Sequence["ListedSlide"], files_of: Sequence[Sequence[str]]) -> None:
    """NslError where results of two slides would have one name, as S1 has S1.genes.csv and a slide S1.genes too."""
    owners = {}
    for slide, names in zip(slides, files_of, strict=True):
        for name in names:
            first = owners.setdefault(name.casefold(), slide)
            if first is not slide:
                called = _called(slides)
                raise NslError(
                    f"{name} would be written of both {called[first]} and {called[slide]}; rename one, or run them "
                    "into two folders"
                )


def _require_apart(outputs: Iterable[tuple[Path, Iterable[str]]], inputs: Iterable[Path]) -> None:
    """NslError where a result, by folder and name, would replace what the run reads, or the folder that it lies in."""
    read = {way(path) for path in inputs for way in (Path.absolute, Path.resolve)}
    read |= {above for path in read for above in path.parents}
    known = {path.name for path in read}
    for folder, names in outputs:
        for name in names:
            if name in known and read & {folder.absolute() / name, folder.resolve() / name}:
                raise NslError(f"{name} would replace what this run reads; choose another folder for --out")


def _of_any_folder(source: str | None, weights: "Weights") -> str | None:
    """Where a worker, in a folder of its own, finds the same weights."""
    if source is None:
        return None
    return f"{weights.source}@{weights.revision}" if weights.revision else str(Path(source).absolute())


def note(sentence: str) -> None:
    """Print what the user should know of the input to stderr."""
    _say(f"nsl: note: {sentence}", sys.stderr)


def _say(line: str, stream: TextIO | None = None) -> None:
    """Print a line above the bar that is on the terminal, if there is one."""
    with tqdm.external_write_mode(file=stream or sys.stdout):
        print(line, file=stream or sys.stdout)


class _OneOfMany(Progress):
    """The work on one slide as a part of one bar for all."""

    _STEPS = 1_000

    def __init__(self, whole: Progress, number: int, slides: int) -> None:
        self._whole, self._number, self._slides = whole, number, slides

    def report(self, done: int, total: int, stage: str = "") -> None:
        steps = self._number * self._STEPS + self._STEPS * done // max(total, 1)
        self._whole.report(steps, self._slides * self._STEPS, f"{self._slides} slides")


def names(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
