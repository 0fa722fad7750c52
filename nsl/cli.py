"""The command line: predict, cohort, train, evaluate, publish, info.

Exit status 0 done, 1 some slides of several failed (`failures.csv` or `status.csv` says which), 2 the input is wrong,
130 interrupted.
"""

import argparse
import contextlib
import errno
import math
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from nsl import __version__
from nsl.cohort import commands
from nsl.errors import NslError
from nsl.numerals import count_of
from nsl.signatures import read_gmt
from nsl.slides.address import path_or_address
from nsl.system.progress import Progress

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 and the number of the signal, as shells have it."""
# Nobody takes what is printed, or the disk it goes to is full or broken.
_OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EIO)
_BAR_FORMAT = "{desc} {percentage:3.0f}% {bar} {elapsed}, {remaining} left"

# torch and numba take seconds to import, so every command imports what it needs when it runs.


class _Bar(Progress):
    """Shows the stage in hand as a bar on stderr where that is a terminal, and nothing elsewhere."""

    _stage, _bar = None, tqdm(disable=True)
    _is_interrupted = False

    @contextlib.contextmanager
    def heeding_interrupts(self) -> Iterator[None]:
        """Inside, Ctrl-C ends the work at the next report at the latest: Python drops it where a callback of its own
        memory runs just then."""

        def interrupt(*_) -> None:
            self._is_interrupted = True
            raise KeyboardInterrupt

        usual = signal.default_int_handler
        # Only the main thread gets signals, and whoever has Ctrl-C ignored means it.
        if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
            yield
            return
        signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)

    def report(self, done: int, total: int, stage: str = "") -> None:
        if self._is_interrupted:
            raise KeyboardInterrupt
        if (stage, total) != (self._stage, self._bar.total):
            self.close()
            self._bar = tqdm(total=total, desc=stage or "predicting", bar_format=_BAR_FORMAT, leave=False, disable=None)
            self._stage = stage
        self._bar.update(done - self._bar.n)
        if done >= total:  # tqdm draws ten times a second, and a short stage has ended by then
            self._bar.refresh()

    def close(self) -> None:
        self._bar.close()
        self._stage = None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise NslError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        args = _parser().parse_args(argv)
        args.command_line = _without_folders(argv)
        with contextlib.closing(_Bar()) as args.progress, args.progress.heeding_interrupts():
            status = args.run(args)
        if sys.stdout is not None:  # as it is where it was closed
            sys.stdout.flush()
        return status
    except NslError as error:
        if "--debug" in argv:
            raise
        print(f"nsl: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # What is wrong with a file every command tells itself.
        if "--debug" in argv or error.filename is not None or error.errno not in _OUTPUT_ERRORS:
            raise
        _silence_output()
        if not isinstance(error, BrokenPipeError):  # whoever read it has read enough
            print(f"nsl: error: what was to be printed cannot be ({error.strerror or error})", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if "--debug" in argv:
            raise
        print("nsl: interrupted; files that were finished are kept", file=sys.stderr)
        return INTERRUPTED


def _silence_output() -> None:
    """Python would try once more to print what it could not, when it ends."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _without_folders(argv: Sequence[str]) -> str:
    """The command as a model card may show it: absolute paths, which can name a person, by their last part."""
    return shlex.join(["python", "-m", "nsl", *map(_without_folder, argv)])


def _without_folder(word: str) -> str:
    if Path(word).is_absolute():
        return Path(word).name
    option, sign, value = word.partition("=")
    return option + sign + (Path(value).name if Path(value).is_absolute() else value)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nsl", description="Expression maps from the colour of routine H&E. Research use only.")
    parser.add_argument("--version", action="version", version=f"nsl {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, help, run, add_options in (
        ("predict", "predict expression tile by tile", commands.predict, commands.add_predict),
        ("cohort", "predict many slides and tell of all of them", commands.cohort, commands.add_cohort),
        ("train", "fit weights on measured sections", _train, _add_train),
        ("evaluate", "compare NSL with other methods", _evaluate, _add_evaluate),
        ("publish", "put weights on the Hugging Face Hub", _publish, _add_publish),
        ("info", "describe a slide file", _info, _add_info),
    ):
        command = subparsers.add_parser(name, help=help, description=run.__doc__)
        add_options(command.add_argument)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(run=run)
    return parser


def _add_train(add) -> None:
    add("manifest", type=Path, help="CSV: section,patient,image,mpp,spots,counts")
    add("--out", type=Path, required=True, metavar="DIR", help="weights folder to write")
    add("--name", help="name of the weights (default: the folder's)")
    add("--tissue", default="tissue that is not stated", help="what was sectioned, in words")
    add("--source", default="not stated", help="where the data is published, for the model card")
    add("--licence", default="not stated", help="licence of the data, for the model card")
    add("--genes", metavar="A,B", help="fit these genes (default: by --min-detected)")
    add("--signatures", type=Path, metavar="FILE.gmt", help="gene sets to judge as well, which the weights then hold")
    _add_windows(add)


def _add_windows(add) -> None:
    add("--min-detected", type=float, default=0.1, metavar="F", help="share of every patient's spots")
    add("--tile-um", type=float, default=150.0, metavar="F", help="window around a spot in µm")
    add("--analysis-mpp", type=float, default=3.0, metavar="F", help="µm/px to read at")


def _add_evaluate(add) -> None:
    add("--data", type=Path, required=True, metavar="DIR", help="folder of manifest.csv, or the file")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the tables")
    add("--protocol", choices=("patient", "section"), help="what to leave out (default: each in turn)")
    add("--genes", type=int, default=250, metavar="N", help="genes of highest mean (default: 250)")
    _add_windows(add)
    add("--seeds", type=int, default=3, metavar="N", help="repetitions of random methods (default: 3)")
    add("--deep-minutes", type=float, metavar="F", help="also train DenseNet-121, so long a fold")
    add(
        "--features",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="also an encoder's embeddings, a row a spot in DIR/SECTION.h5 as HEST-Benchmark writes them; repeatable",
    )
    add("--methods", metavar="A,B", help="only methods with one of these in their name (default: all)")


def _add_publish(add) -> None:
    add("folder", type=Path, metavar="FOLDER", help="weights folder")
    add("repo", metavar="ORG/NAME", help="repository; made if it is missing")
    add("--private", action="store_true", help="make the repository private")
    add("--dry-run", action="store_true", help="list what would be sent, send nothing")


def _add_info(add) -> None:
    add("slide", type=path_or_address, metavar="SLIDE", help="slide file, or address of OME-Zarr")
    add("--mpp", type=float, metavar="F", help="µm/px of the image, in place of what its metadata says")


def _train(args: argparse.Namespace) -> int:
    """Fit the 11 weights of every gene on all sections of a manifest and write a weights folder."""
    from nsl.train import train
    from nsl.weights.folder import require_place, save_weights

    require_place(args.out)
    weights = train(
        args.manifest,
        name=args.name or args.out.resolve().name,
        tissue=args.tissue,
        source=args.source,
        licence=args.licence,
        min_detected=args.min_detected,
        genes=commands.names(args.genes) if args.genes else None,
        signatures=[] if args.signatures is None else read_gmt(args.signatures),
        tile_um=args.tile_um,
        analysis_mpp=args.analysis_mpp,
        command=args.command_line,
        progress=args.progress,
        told=commands.note,
    )
    save_weights(weights, args.out)
    data = weights.config.training_data
    learned_from = f"{count_of(data.spots, 'spot')} of {count_of(data.patients, 'patient')}"
    print(f"{count_of(len(weights.genes), 'gene')} from {learned_from} → {args.out}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    """Leave patients or sections out, predict them by NSL and by other methods, and write the tables into DIR."""
    from nsl.methods.baselines import baselines
    from nsl.methods.comparison import as_markdown, compare, write_comparison
    from nsl.methods.features import embedded, require_name
    from nsl.spots.measured_section import detected_genes, highest_mean
    from nsl.system.disk import require_folder
    from nsl.train import measure_all, neural_stain

    require_folder(args.out)
    for option, number in (("--genes", args.genes), ("--seeds", args.seeds)):
        if number < 1:
            raise NslError(f"{option} is {number}; it must be at least 1")
    if args.deep_minutes is not None and not 0 < args.deep_minutes < math.inf:
        raise NslError(f"--deep-minutes is {args.deep_minutes:g}; it must be a number of minutes above 0")
    folders = [_named_folder(text) for text in args.features]
    manifest = args.data / "manifest.csv" if args.data.is_dir() else args.data
    sections = measure_all(manifest, args.tile_um, args.analysis_mpp, args.progress, commands.note)
    genes = highest_mean(sections, detected_genes(sections, args.min_detected), args.genes)
    methods = [neural_stain(progress=args.progress), *baselines(args.tile_um, args.analysis_mpp)]
    if args.deep_minutes:
        from nsl.methods.densenet import deep

        methods.append(deep(args.deep_minutes, args.tile_um, progress=args.progress))
    given = []
    for name, folder in folders:
        require_name(name, [method.name for method in [*methods, *given]])
        given += embedded(name, folder, sections)
    if args.methods:
        wanted = [part.lower() for part in commands.names(args.methods)]
        methods = [method for method in methods if any(part in method.name.lower() for part in wanted)]
        if not methods:
            raise NslError(f"no method's name holds any of {args.methods}; try nsl, hed, histogram, nuclei or densenet")
    methods += given
    protocols = [args.protocol] if args.protocol else ["section", "patient"]
    comparison = compare(sections, methods, protocols, genes, seeds=args.seeds, progress=args.progress)
    args.progress.close()
    write_comparison(comparison, args.out)
    print(as_markdown(comparison.table), end="")
    return 0


def _publish(args: argparse.Namespace) -> int:
    """Send a weights folder to the Hugging Face Hub in one commit, with the token in HF_TOKEN; print how to pin it."""
    from nsl.weights.publish import publish

    sent = publish(args.folder, args.repo, private=args.private, dry_run=args.dry_run)
    for file in sent.files:
        print(f"{file.path:<17} {file.bytes:>10,} bytes  sha256 {file.sha256}")
    visibility = "private" if sent.private else "public"
    print(f"would go to {sent.repo} ({visibility}); nothing was sent" if args.dry_run else f"{sent.pin} ({visibility})")
    return 0


def _info(args: argparse.Namespace) -> int:
    """Print size, scale, levels and checksum of a slide."""
    from nsl.slides.slide import open_quietly

    with open_quietly(args.slide, args.mpp) as slide:
        width, height = slide.size
        print(f"format   {slide.format}")
        if slide.scanner:
            print(f"scanner  {slide.scanner}")
        if slide.objective_power:
            print(f"scanned  at {slide.objective_power:g}×")
        print(f"size     {width:,} × {height:,} px")
        if slide.mpp:
            print(f"scale    {slide.mpp:.4g} µm/px")
            print(f"extent   {width * slide.mpp / 1000:.2f} × {height * slide.mpp / 1000:.2f} mm")
        else:
            print("scale    unknown; give --mpp (0.25 for a 40× scan, 0.5 for 20×)")
        print(f"levels   {', '.join(f'1:{level:.4g}' for level in slide.levels)}")
        print(f"colours  {f'by the profile {slide.color_profile.name}' if slide.color_profile else 'no profile'}")
        print(f"sha256   {slide.sha256}")
        for notice in slide.notices:
            print(f"note     {notice}")
    return 0


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (equals and folder):
        raise NslError(f"--features is {text!r}; give NAME=FOLDER, as in UNI=embeddings/uni")
    return name.strip(), Path(folder)
