"""What is called in a process of its own has a limit, and its end is nobody else's."""

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from nsl.errors import SlideError
from nsl.system import confinement
from nsl.system.confinement import Budget, OverBudgetError, confined

AMPLE = Budget(10**9, 30)
pytestmark = pytest.mark.skipif(not confinement._IS_HELD, reason="only Linux keeps to such limits")


def repeat(text, times):
    return text * times


def refuse(said):
    raise SlideError(said)


def refuse_after_a_library(said):
    """As a codec's error leads to a sentence."""

    class OfLibrary(Exception):
        def __init__(self, function, status):
            super().__init__(f"{function} returned {status}")

    try:
        raise OfLibrary("inflate", -3)
    except OfLibrary as error:
        raise SlideError(said) from error


def fail_unlike_any_other():
    class Own(Exception):
        pass

    raise Own("of its own kind")


def fill(size_bytes):
    return len(bytearray(size_bytes))


def spin():
    while True:
        pass


def abort():
    os.abort()


def own_id():
    return os.getpid()


def processes_beside_this():
    """Of the same parent, the dead too."""
    parents = [re.search(r"PPid:\s*(\d+)", text) for text in map(_status, Path("/proc").glob("[0-9]*"))]
    return sum(int(found[1]) == os.getppid() for found in parents if found) - 1


def _status(process):
    try:
        return (process / "status").read_text()
    except OSError:  # it has ended meanwhile
        return ""


def test_a_result_of_any_size_comes_back():
    assert confined(repeat, "a", 10**7, budget=AMPLE) == "a" * 10**7


def test_each_call_has_a_process_of_its_own_of_which_nothing_is_left():
    ids = {confined(own_id, budget=AMPLE) for _ in range(3)}
    assert len(ids | {os.getpid()}) == 4
    # One that has answered ends at once, if the computer's other work lets it.
    assert 0 in (confined(processes_beside_this, budget=AMPLE) for _ in range(100))


def test_an_error_is_raised_here_as_it_was_there():
    for work in (refuse, refuse_after_a_library):
        with pytest.raises(SlideError, match=r"^a\.png is no image$"):
            confined(work, "a.png is no image", budget=AMPLE)
    with pytest.raises(RuntimeError, match="Own: of its own kind"):
        confined(fail_unlike_any_other, budget=AMPLE)


def test_memory_is_had_up_to_the_budget_and_no_further():
    assert confined(fill, 4 * 10**8, budget=AMPLE) == 4 * 10**8
    with pytest.raises(OverBudgetError, match=r"more than 1\.0 GB of memory"):
        confined(fill, 12 * 10**8, budget=AMPLE)


@pytest.mark.parametrize("work", [spin, abort])
def test_what_ends_the_process_is_told(work):
    with pytest.raises(OverBudgetError, match=r"it takes more than 1 s or 1\.0 GB, or ends the program"):
        confined(work, budget=Budget(10**9, 1))


def test_a_call_that_hangs_keeps_no_other_waiting():
    def hang():
        with pytest.raises(OverBudgetError):
            confined(spin, budget=Budget(10**9, 2))

    hanging = threading.Thread(target=hang)
    hanging.start()
    assert confined(repeat, "a", 2, budget=AMPLE) == "aa"
    assert hanging.is_alive()
    hanging.join()


def test_the_process_that_forks_is_begun_anew_where_it_was_killed():
    confined(repeat, "a", 2, budget=AMPLE)
    process = confinement._server()._process
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert confined(repeat, "a", 2, budget=AMPLE) == "aa"
    assert confinement._server()._process is not process


def test_a_few_bytes_get_a_gigabyte_and_much_gets_more_up_to_a_limit():
    assert Budget.for_bytes(200) == Budget(10**9 + 8_000, 8)
    assert Budget.for_bytes(20_000_000) == Budget(1_800_000_000, 18)
    assert Budget.for_bytes(10**11).cpu_seconds == 300
    assert Budget.for_bytes(10**11).memory_bytes <= 8 * 10**9
