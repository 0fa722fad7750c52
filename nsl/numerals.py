"""Numbers as they are printed: a minus sign is as wide as a plus, and is no hyphen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def minus(text: str) -> str:
    """Formatted numbers with a minus sign for every hyphen."""
    return text.replace("-", "−")


def signed(number: float, decimals: int = 2, *, plus: bool = False, unknown: str = "–") -> str:
    """A number that may be negative; what rounds to nothing has no minus, and `unknown` stands for what is not finite.

    plus : whether a positive number, or nothing, has its sign too.
    """
    if not math.isfinite(number):
        return unknown
    return minus(f"{float(number):{'+' if plus else ''}z.{decimals}f}")


def some_of(names: Sequence[str], most: int) -> str:
    """The first of the names, at most so many, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def six_digits(table: pd.DataFrame, *, index: bool = True) -> str:
    """A table as CSV, its figures to six significant digits; what is not known is empty."""
    return table.to_csv(index=index, float_format="%.6g", lineterminator="\n")
