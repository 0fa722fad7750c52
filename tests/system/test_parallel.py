"""What `nsl.system.parallel` promises: every row is done once, what is made ahead comes in order, errors come out."""

import threading

import numpy as np
import pytest

from nsl.system.parallel import ahead, beside, over_rows


@pytest.mark.parametrize("rows", [0, 1, 3, 1000])
def test_every_row_is_done_once(rows):
    done = np.zeros(rows, int)

    def run(start, stop, added):
        done[start:stop] += added

    over_rows(run, rows, 2)
    np.testing.assert_array_equal(done, 2)


@pytest.mark.parametrize("spoilt", [0, 999])
def test_an_error_in_a_share_comes_to_the_caller(spoilt):
    def run(start, stop):
        if start <= spoilt < stop:
            raise ValueError("spoilt")

    with pytest.raises(ValueError, match="spoilt"):
        over_rows(run, 1000)


def test_shares_taken_while_other_threads_ask_for_theirs_are_all_done():
    done = np.zeros((8, 500), int)

    def ask(own):
        def run(start, stop):
            done[own, start:stop] += 1

        for _ in range(20):
            over_rows(run, 500)

    threads = [threading.Thread(target=ask, args=(own,)) for own in range(len(done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    np.testing.assert_array_equal(done, 20)


def test_items_made_ahead_come_as_they_were():
    assert list(ahead(iter("abc"))) == ["a", "b", "c"]
    assert list(ahead(iter(()))) == []


def test_one_item_is_made_while_another_is_used():
    made = []

    def items():
        for number in range(5):
            made.append(number)
            yield number

    taken = ahead(items())
    assert next(taken) == 0
    taken.close()  # waits for the one in the making, and has no other made
    assert made == [0, 1]


def test_an_error_in_the_making_comes_after_what_was_made_before():
    def items():
        yield 1
        raise ValueError("spoilt")

    taken = ahead(items())
    assert next(taken) == 1
    with pytest.raises(ValueError, match="spoilt"):
        next(taken)


def test_a_call_beside_gives_its_value_later():
    assert beside(lambda: 3).result() == 3
