"""reliability.csv of a weights folder: how each gene was predicted where it was held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nsl.errors import WeightsError
from nsl.weights.config import CONFIG

if TYPE_CHECKING:
    import pandas as pd

RELIABILITY = "reliability.csv"
RELIABILITY_COLUMNS = ("r_heldout", "r_low", "r_high", "p_value", "q_value", "patients_replicated", "n_spots")
SIGNIFICANT = 0.05
"""A finding counts as found where its p or q value is below this."""
USEFUL_R = 0.3
"""Papers on this task count a gene as predicted where its held-out r is above this."""


def is_reliable(table: pd.DataFrame) -> pd.Series:
    """Tells of each gene whether its held-out r is above 0 beyond chance, with fewer than 5 % false discoveries."""
    return (table.r_heldout > 0) & (table.q_value < SIGNIFICANT)


def reliability_csv(table: pd.DataFrame) -> str:
    """The text of reliability.csv: r to four decimals, p and q to three digits."""
    rounded = table[list(RELIABILITY_COLUMNS)].copy()
    for column in ("r_heldout", "r_low", "r_high"):
        rounded[column] = rounded[column].round(4)
    for column in ("p_value", "q_value"):
        rounded[column] = [float(f"{value:.3g}") for value in rounded[column]]
    return rounded.to_csv(index_label="gene", lineterminator="\n")


def read_reliability(folder: Path, genes: Sequence[str]) -> pd.DataFrame:
    """The table of a weights folder: a row per gene, in the order of `genes`, with the RELIABILITY_COLUMNS.

    Raises WeightsError: the file is missing or is not a table, lacks a column, names other genes, or holds an
        impossible figure.
    """
    import pandas as pd

    where = f"{folder.name}/{RELIABILITY}"
    try:
        # Only figures may be missing: there are genes whose name pandas would take for "not available".
        table = pd.read_csv(
            folder / RELIABILITY,
            index_col=0,
            dtype={"gene": str},
            keep_default_na=False,
            na_values=dict.fromkeys(RELIABILITY_COLUMNS, ""),
        )
    except FileNotFoundError:
        raise WeightsError(f"the weights folder {folder.name} has no {RELIABILITY}; copy the whole folder") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{where} cannot be read as a table ({error}); copy it again") from None
    missing = [column for column in RELIABILITY_COLUMNS if column not in table]
    if missing:
        raise WeightsError(f"{where} lacks the column {missing[0]}; copy it again or retrain")
    if list(table.index) != list(genes):
        raise WeightsError(
            f"{folder.name}: {RELIABILITY} and {CONFIG} name different genes; copy the whole folder again"
        )
    for column in RELIABILITY_COLUMNS:
        low, high = (-1, 1) if column.startswith("r_") else (0, 1) if column.endswith("value") else (0, math.inf)
        values = pd.to_numeric(table[column], errors="coerce")
        bad = ~(values.between(low, high) | table[column].isna())
        if bad.any():
            gene = table.index[bad][0]
            raise WeightsError(f"{where}: {column} of {gene} is {table[column][gene]}; copy it again or retrain")
    return table[list(RELIABILITY_COLUMNS)]
