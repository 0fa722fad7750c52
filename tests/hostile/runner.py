"""Reads files of strangers as the app does, one after the other, in a process that they may end.

Lines of JSON come in, {"kind": "slide", "paths": ["a.png"]}, and one goes out for each: what was said, the seconds of a
processor it took, the most memory that it had, in MB above what the libraries take, and how many files it left behind.
"""

import json
import os
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
ANSWER_SECONDS = 100


class Reading:
    """The process, begun anew where a file has ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_) -> None:
        self._end()

    def answer(self, kind: str, *paths: Path) -> dict:
        """What becomes of a file, or of several that belong together.

        `said` is the sentence, or "read"; `error` the kind of error, None where it was read, "traceback" for one that
        no reader should let through, and "ended" where the process did not answer.
        """
        if self._process is None:
            command, pipe = [sys.executable, "-m", "tests.hostile.runner"], subprocess.PIPE
            own = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=own, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
            )
        question = json.dumps({"kind": kind, "paths": [str(path) for path in paths]}) + "\n"
        self._process.stdin.write(question.encode())
        self._process.stdin.flush()
        is_answered, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS)
        line = self._process.stdout.readline() if is_answered else b""
        if line:
            return json.loads(line)
        self._end()
        return {"said": "no answer", "error": "ended", "seconds": float(ANSWER_SECONDS), "mb": 0.0, "left": 0}

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


# Inside the process


class _Forking:
    """In place of the process that forks: forks of this one, of which the system tells the memory they had."""

    def __init__(self) -> None:
        self.forks: list[int] = []

    def send(self, message: bytes, *outlets: int) -> None:
        from nsl.system import confinement

        fork = os.fork()
        if fork == 0:
            confinement._answer(message, outlets[0])
        self.forks.append(fork)

    def taken(self) -> tuple[float, float]:
        """Seconds of a processor, and most MB at once, of the forks since it was last asked."""
        used = [os.wait4(fork, 0)[2] for fork in self.forks]
        self.forks.clear()
        return sum(one.ru_utime + one.ru_stime for one in used), max(
            (one.ru_maxrss / 1024 for one in used), default=0.0
        )


def _answers() -> Iterator[dict]:
    from nsl.system import confinement

    forking = _Forking()
    confinement._server = lambda: forking
    for line in sys.stdin:
        question = json.loads(line)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        before_mb, start = _peak_mb(), time.process_time()
        said = _attempt(question["kind"], [Path(path) for path in question["paths"]])
        seconds, mb = forking.taken()
        yield said | {"seconds": seconds + time.process_time() - start, "mb": max(mb, _peak_mb()) - before_mb}


def _attempt(kind: str, paths: list[Path]) -> dict:
    from nsl.errors import NslError

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            READERS[kind](paths, folder)
            return {"said": "read", "error": None, "left": 0}
        except NslError as error:
            said = {"said": str(error), "error": type(error).__name__}
        # It tells of what no reader should let through.
        except BaseException as error:
            said = {"said": repr(error)[:500], "error": "traceback"}
        return said | {"left": sum(path.is_file() for path in folder.rglob("*"))}


def _read_slide(paths: list[Path], folder: Path) -> None:
    from nsl.slides.archive import unpack_slide
    from nsl.slides.overview import overview_of

    (path,) = paths
    if path.suffix != ".zip":
        overview_of(path)
        return
    slide = unpack_slide(path, folder / "unpacked")
    try:
        overview_of(slide)
    finally:
        shutil.rmtree(folder / "unpacked")  # as the app does with a slide that it does not keep


def _read_measured(paths: list[Path], folder: Path) -> None:
    from nsl.web.session import uploads

    uploads.session_folder = lambda: folder
    files = [SimpleNamespace(name=path.name, size=path.stat().st_size, getbuffer=path.read_bytes) for path in paths]
    uploads.read_measured_uploads(files)


def _read_weights(paths: list[Path], folder: Path) -> None:
    from nsl.web.sources import unpack
    from nsl.weights.folder import load_weights

    with tempfile.TemporaryDirectory() as own:  # which the app deletes, too
        load_weights(unpack(paths[0].read_bytes(), Path(own)))


def _read_regions(paths: list[Path], folder: Path) -> None:
    from nsl.slides.annotations.geojson import parse_geojson

    parse_geojson(paths[0].read_bytes())


READERS = {"slide": _read_slide, "measured": _read_measured, "weights": _read_weights, "regions": _read_regions}


def _peak_mb() -> float:
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    # What every fork would load for itself.
    import nsl.slides.overview
    import nsl.spots.measured
    import nsl.web.sources

    nsl.slides.overview.rehearse()
    for answer in _answers():
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
