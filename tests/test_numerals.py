"""What `nsl.numerals` promises: a true minus sign, none before nothing, and a word for what is unknown."""

import numpy as np
import pytest

from nsl.numerals import minus, signed


@pytest.mark.parametrize(
    ("number", "options", "written"),
    [
        (-0.126, {}, "−0.13"),
        (0.126, {}, "0.13"),
        (-0.004, {}, "0.00"),
        (np.float32(-0.0004), {"decimals": 3}, "0.000"),
        (-0.0004, {"decimals": 4}, "−0.0004"),
        (0.126, {"plus": True}, "+0.13"),
        (-0.126, {"plus": True}, "−0.13"),
        (-0.001, {"plus": True}, "+0.00"),
        (np.nan, {}, "–"),
        (np.float32(np.nan), {"unknown": "not known"}, "not known"),
        (-np.inf, {"unknown": "unknown"}, "unknown"),
    ],
)
def test_a_number_is_written_with_its_sign(number, options, written):
    assert signed(number, **options) == written


def test_every_hyphen_among_numbers_is_a_minus():
    assert minus("from -5 to -2") == "from −5 to −2"
