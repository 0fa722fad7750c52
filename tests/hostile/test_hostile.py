"""No file of a stranger ends the program, shows a traceback or leaves a file: each is read, or refused in a sentence.

How long it takes and how much memory is measured by `benchmarks/fuzz.py`, with ten times as many files.
"""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.hostile.cases import CASES, GOOD, SLOW, Case, cut, good, spoilt, write
from tests.hostile.runner import Reading

# Fewer than of the others: each loads a million numbers.
SPOILT = {"weights": 4}
pytestmark = [
    pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux keeps to limits"),
    pytest.mark.xdist_group("hostile"),
]


@pytest.fixture(scope="module")
def reading() -> Iterator[Reading]:
    with Reading() as reading:
        yield reading


def _is_met_well(answer: dict) -> bool:
    return answer["error"] not in ("traceback", "ended") and "\n" not in answer["said"] and not answer["left"]


@pytest.mark.parametrize("name", [name for name in CASES if name.partition(", ")[2] not in SLOW])
def test_a_bad_file_is_told_what_it_is(reading, tmp_path, name):
    case = CASES[name]
    answer = reading.answer(case.kind, *write(case, tmp_path))
    assert _is_met_well(answer), answer
    assert case.said in answer["said"]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_read_and_one_cut_short_is_met_well(reading, tmp_path, name):
    assert reading.answer(good(name).kind, *write(good(name), tmp_path))["said"] == "read"
    answers = [reading.answer(case.kind, *write(case, tmp_path)) for case in cut(name)]
    assert [answer for answer in answers if not _is_met_well(answer)] == []
    # What a table or a picture that is written line by line holds up to there is whole.
    assert answers[0]["error"] or name == "table"


@pytest.mark.parametrize("name", GOOD)
def test_a_file_with_faults_is_met_well(reading, tmp_path, name):
    def failed(case: Case) -> dict | None:
        answer = reading.answer(case.kind, *write(case, tmp_path))
        return None if _is_met_well(answer) else answer

    rng = np.random.default_rng([*name.encode()])
    answers = [failed(spoilt(name, rng)) for _ in range(SPOILT.get(name, 12))]
    assert [answer for answer in answers if answer] == []
