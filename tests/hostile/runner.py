"""Reads files of strangers as the program does, one after the other, in a process that they may end.

Lines of JSON come in, {"kind": "slide", "paths": ["a.png"]}, and one goes out for each: what was said, the seconds it
took, and the most memory that the process had, in MB above what it had before.
"""

import json
import os
import re
import resource
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ANSWER_SECONDS = 60
_ADDRESS_SPACE = 16 * 10**9


class Reading:
    """The process, begun anew where a file has ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_) -> None:
        self._end()

    def answer(self, kind: str, *paths: Path) -> dict:
        """What becomes of a file, or of several that belong together; {"ended": ...} where it ends the process."""
        if self._process is None:
            own = os.environ | {"OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "tests.hostile.runner"]
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        question = json.dumps({"kind": kind, "paths": [str(path) for path in paths]}) + "\n"
        self._process.stdin.write(question.encode())
        self._process.stdin.flush()
        is_answered, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS)
        line = self._process.stdout.readline() if is_answered else b""
        if line:
            return json.loads(line)
        ended = f"after {ANSWER_SECONDS} s" if not is_answered else f"with status {self._process.wait()}"
        self._end()
        return {"ended": ended}

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _answers() -> Iterator[dict]:
    for line in sys.stdin:
        question = json.loads(line)
        paths = [Path(path) for path in question["paths"]]
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        before_kb, start = _peak_kb(), time.perf_counter()
        said = _attempt(question["kind"], paths)
        yield said | {"seconds": time.perf_counter() - start, "mb": (_peak_kb() - before_kb) / 1024}


def _attempt(kind: str, paths: list[Path]) -> dict:
    from nsl.errors import NslError

    folder = tempfile.mkdtemp()
    try:
        READERS[kind](paths, Path(folder))
        return {"said": "read", "error": None}
    except NslError as error:
        return {"said": str(error), "error": type(error).__name__}
    # The runner tells of what no reader should let through.
    except BaseException as error:
        return {"said": repr(error)[:500], "error": "traceback"}
    finally:
        _delete(Path(folder))


def _delete(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _read_slide(paths: list[Path], folder: Path) -> None:
    from nsl.slides.archive import unpack_slide
    from nsl.slides.overview import overview_of

    (path,) = paths
    overview_of(unpack_slide(path, folder) if path.suffix == ".zip" else path)


def _read_measured(paths: list[Path], folder: Path) -> None:
    from nsl.web.uploads import read_measured_uploads

    class Upload:
        def __init__(self, path: Path) -> None:
            self.name, self.getbuffer, self.size = path.name, path.read_bytes, path.stat().st_size

    read_measured_uploads([Upload(path) for path in paths])


def _read_weights(paths: list[Path], folder: Path) -> None:
    from nsl.web.sources import unpack
    from nsl.weights.folder import load_weights

    load_weights(unpack(paths[0].read_bytes(), folder))


READERS = {"slide": _read_slide, "measured": _read_measured, "weights": _read_weights}


def _peak_kb() -> int:
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    warnings.simplefilter("ignore")
    import nsl.slides.slide
    import nsl.spots.measured  # noqa: F401

    for answer in _answers():
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
