"""Bad files by the thousand: does each end in a sentence, within 10 s of a processor and 1 GB?

    python benchmarks/fuzz.py [--cases 2000] [--seed 0] [--keep FOLDER]

The table of `tests/hostile/cases.py`, those that take all their time too, every good file cut short at every tenth, and
good files with faults until there are so many cases. Files are read as the app reads uploads, one after the other; the
memory is that above what the libraries take. What is not met well is listed, and kept in FOLDER. Needs Linux.
"""

import argparse
import itertools
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.hostile.cases import CASES, GOOD, Case, cut, spoilt, write  # noqa: E402
from tests.hostile.runner import Reading  # noqa: E402

MOST_SECONDS, MOST_MB = 10.0, 1024.0
QUANTILES = (0.5, 0.9, 0.99, 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    answers, faults = [], []
    with Reading() as reading:
        reading.answer("measured", *_first())  # libraries are loaded before anything is measured
        for number, (name, case) in enumerate(itertools.islice(_all(args.seed), args.cases)):
            with tempfile.TemporaryDirectory() as folder:
                paths = write(case, Path(folder))
                answer = reading.answer(case.kind, *paths)
                answers.append(answer | {"kind": case.kind})
                if fault := _fault(case, answer):
                    faults.append(f"{number}, {name}: {fault}")
                    print(faults[-1], flush=True)
                    if args.keep:
                        shutil.copytree(folder, args.keep / str(number), dirs_exist_ok=True)
    _tell(answers)
    print(f"not met well: {len(faults)} of {len(answers):,}")
    return 1 if faults else 0


def _first() -> list[Path]:
    path = Path(tempfile.gettempdir()) / "nothing.csv"
    path.write_text("spot,A\n")
    return [path, path]


def _all(seed: int) -> Iterator[tuple[str, Case]]:
    yield from CASES.items()
    yield from ((f"{name}, cut", case) for name in GOOD for case in cut(name))
    rng = np.random.default_rng(seed)
    while True:
        yield from ((f"{name}, faults", spoilt(name, rng)) for name in GOOD)


def _fault(case: Case, answer: dict) -> str | None:
    if answer["error"] in ("traceback", "ended"):
        return f"{answer['error']}: {answer['said']}"
    if case.said not in answer["said"]:
        return f"says {answer['said']!r}"
    if answer["left"]:
        return f"leaves {answer['left']} files"
    if answer["seconds"] > MOST_SECONDS or answer["mb"] > MOST_MB:
        return f"takes {answer['seconds']:.1f} s and {answer['mb']:,.0f} MB: {answer['said']!r}"
    return None


def _tell(answers: list[dict]) -> None:
    print(f"{'':<10}{'files':>6}{'read':>6}  seconds: {'median':>7}{'90 %':>7}{'99 %':>7}{'most':>7}  MB: the same")
    for kind in [*dict.fromkeys(answer["kind"] for answer in answers)]:
        own = [answer for answer in answers if answer["kind"] == kind]
        seconds, mb = (np.quantile([answer[what] for answer in own], QUANTILES) for what in ("seconds", "mb"))
        read = Counter(answer["error"] for answer in own)[None]
        figures = "".join(f"{value:7.2f}" for value in seconds) + "  " + "".join(f"{value:8,.0f}" for value in mb)
        print(f"{kind:<10}{len(own):>6,}{read:>6,}{'':<11}{figures}")


if __name__ == "__main__":
    sys.exit(main())
