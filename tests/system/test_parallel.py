"""What `nsl.system.parallel` promises: what is made ahead comes in order, and its errors where it is used."""

import pytest

from nsl.system.parallel import ahead, beside


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
