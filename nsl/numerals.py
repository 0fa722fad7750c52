"""Numbers and tables as they are printed: a minus sign is as wide as a plus and no hyphen, and a name no formula."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

T = TypeVar("T")
UNKNOWN = "–"
"""Stands where a value is not known."""
# A number is none, be it written with a sign.
_FORMULA = re.compile(r"(?![+-]?[\d.]+([eE][+-]?\d+)?$)[=+\-@\t\r]")


def minus(text: str) -> str:
    """Formatted numbers with a minus sign for every hyphen."""
    return text.replace("-", "−")


def signed(number: float, decimals: int = 2, *, plus: bool = False, unknown: str = UNKNOWN) -> str:
    """A number that may be negative; what rounds to nothing has no minus, and `unknown` stands for what is not finite.

    plus : whether a positive number, or nothing, has its sign too.
    """
    if not math.isfinite(number):
        return unknown
    return minus(f"{float(number):{'+' if plus else ''}z.{decimals}f}")


def count_of(number: int, noun: str) -> str:
    """How many there are of something: 1 tile, 113 tiles."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def ordinal(number: int) -> str:
    """A place in a row: 1st, 22nd, 113th."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def some_of(names: Sequence[str], most: int) -> str:
    """The first of the names, at most so many, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def six_digits(table: pd.DataFrame, *, index: bool = True) -> str:
    """A table as CSV, its figures to six significant digits; what is not known is empty."""
    return csv_table(table, index=index, float_format="%.6g")


def csv_table(table: pd.DataFrame, **options) -> str:
    """A table as CSV that somebody may open in a spreadsheet, its names and texts as of `csv_cell`.

    options : of `pandas.DataFrame.to_csv`.
    """
    safe = table.rename(columns=csv_cell, index=csv_cell)
    texts = [column for column in safe.columns if not _is_numeric(safe[column].dtype)]
    for column in texts:
        safe[column] = safe[column].astype(object).map(csv_cell)
    return safe.to_csv(lineterminator="\n", **options)


def csv_cell(value: T) -> T:
    """The value; a text that a spreadsheet would take for a formula begins with an apostrophe.

    After OWASP, CSV Injection: a user, or weights from somebody else, may have named a region or a gene so.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def of_csv_cell(text: str) -> str:
    """The text that `csv_cell` made this of."""
    return text[1:] if text.startswith("'") and csv_cell(text[1:]) == text else text


def _is_numeric(dtype: np.dtype) -> bool:
    return getattr(dtype, "kind", "O") in "biufc"
