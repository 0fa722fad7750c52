"""What `nsl.numerals` promises: a true minus sign, none before nothing, and a word for what is unknown."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nsl.numerals import count_of, csv_cell, csv_table, minus, signed


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


@pytest.mark.parametrize(
    "text", ["=1+1", '=HYPERLINK("http://x")', "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]
)
def test_a_text_that_a_spreadsheet_takes_for_a_formula_begins_with_an_apostrophe(text):
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["ERBB2", "HLA-A", "a=b", "-1.5", "+3", "-2e-5", "", -1.5, 3, None])
def test_names_and_numbers_stay_as_they_are(value):
    assert csv_cell(value) == value


def test_names_in_every_place_of_a_table_are_made_safe_and_its_numbers_are_not_touched():
    table = pd.DataFrame({"=a": [-1.5, 2], "region": pd.Categorical(["@b", "c"])}, pd.Index(["-d", "e"], name="tile"))
    assert csv_table(table) == "tile,'=a,region\n'-d,-1.5,'@b\ne,2.0,c\n"
    assert table.columns[0] == "=a"


def test_what_users_take_home_as_csv_is_written_by_the_one_function():
    """Files that are read back, those of weights and of an evaluation, keep their names as they are."""
    root = Path(__file__).parents[1] / "nsl"
    writers = {
        path.relative_to(root).as_posix() for path in root.rglob("*.py") if ".to_csv(" in path.read_text("utf-8")
    }
    assert writers == {"numerals.py", "weights/reliability.py", "methods/comparison.py"}


@pytest.mark.parametrize(("number", "told"), [(0, "0 tiles"), (1, "1 tile"), (2, "2 tiles"), (4822, "4,822 tiles")])
def test_one_is_told_of_in_the_singular(number, told):
    assert count_of(number, "tile") == told
