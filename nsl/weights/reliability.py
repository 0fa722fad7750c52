"""reliability.csv and signatures.csv of a weights folder: how genes and gene sets were predicted where held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nsl.errors import WeightsError, require_once
from nsl.numerals import signed
from nsl.result import Provenance
from nsl.signatures import split_members
from nsl.weights.config import CONFIG

if TYPE_CHECKING:
    import anndata
    import pandas as pd

RELIABILITY, SIGNATURES = "reliability.csv", "signatures.csv"
_FIGURES = (
    *("r_heldout", "r_low", "r_high", "r_next_low", "r_next_high"),
    *("p_value", "q_value", "patients_replicated", "n_spots"),
)
RELIABILITY_COLUMNS = (*_FIGURES, "r_specific", "expression_mean", "expression_sd")
"""Of genes; `nsl.evaluate.specific_r` says what r_specific is; mean and sd are of the expression over the spots learned
from."""
# Weights of versions before these were known lack them.
_LATER = frozenset({"r_next_low", "r_next_high", "r_specific", "expression_mean", "expression_sd"})
SIGNATURE_COLUMNS = ("source", "members", *_FIGURES, "r_specific", "r_groups")
"""Of gene sets; r_groups is the r of each group left out, in one text."""
SIGNIFICANT = 0.05
"""A finding counts as found where its p or q value is below this."""
USEFUL_R = 0.3
"""Papers on this task count a gene as predicted where its held-out r is above this."""
OWN_R = 0.15
"""Of its own (`nsl.evaluate.specific_r`): about 95 in 100 sets of genes drawn by lot have less (RESULTS.md)."""
LEAST_PATIENTS = 3
"""Left out, before a gene is called reliable: two agree in many genes by chance, and one tells nothing of the next."""


@dataclass(frozen=True)
class Trust:
    """How far a gene or a set can be trusted: a word and a sign for it, the same wherever it is said."""

    word: str
    sign: str

    @property
    def told(self) -> str:
        """Sign and word together."""
        return f"{self.sign} {self.word}".strip()


RELIABLE, WEAK, UNRELIABLE = Trust("reliable", "●"), Trust("weak", "◐"), Trust("unreliable", "○")
UNTESTED = Trust("not tested", "")


def can_be_reliable(left_out: str, groups: int) -> bool:
    """Whether enough patients were left out to call a gene reliable in the next."""
    return left_out == "patient" and groups >= LEAST_PATIENTS


def another(left_out: str) -> str:
    """What figures of those left out are to tell of, in words: the next patient, but no fifth quarter of a section."""
    return "the next patient" if left_out == "patient" else f"another {left_out}"


def has_held_up(table: pd.DataFrame) -> pd.Series:
    """Tells of each gene whether its held-out r is above 0 beyond chance.

    That is with fewer than 5 % false discoveries, and with all of the 95 % interval of its mean above 0: the first
    takes the scatter between patients as known, the second does not.
    """
    return (table.r_low > 0) & (table.q_value < SIGNIFICANT)


def trust_in(table: pd.DataFrame, left_out: str, groups: int) -> pd.Series:
    """The `Trust` in each gene or set of a table with its reliability, held out in so many groups.

    Reliable: it held up, replicated in each of `LEAST_PATIENTS` or more patients left out, and its mean r is `USEFUL_R`
    or more, and `OWN_R` or more of its own; in one of them, and in the next, it may be less. Weak: it held up, but
    little, not everywhere, in too few patients to tell, or as any genes do, which is not known of few genes and of
    weights from before it was measured. Unreliable: it did not hold up.

    left_out, groups : what was left out in turn, and how many of these there were.
    """
    import numpy as np
    import pandas as pd

    is_strong = (table.patients_replicated >= groups) & (table.r_heldout >= USEFUL_R)
    is_strong &= table.r_specific >= OWN_R if "r_specific" in table else False
    known = [table.r_heldout.isna(), ~has_held_up(table), is_strong & can_be_reliable(left_out, groups)]
    places = np.select(known, [0, 1, 2], 3)
    tiers = np.array([UNTESTED, UNRELIABLE, RELIABLE, WEAK], object)
    return pd.Series(tiers[places], table.index)


def trust_in_map(result: anndata.AnnData, gene: str) -> Trust:
    """The `Trust` in the map of one gene or set of a result, by what the result says of it."""
    known = Provenance.of(result)
    return trust_in(result.var.loc[[gene]], known.heldout_left_out, known.heldout_groups).iloc[0]


def with_trust(table: pd.DataFrame, left_out: str, groups: int) -> pd.DataFrame:
    """The table with the words of `trust_in` as a column."""
    return table.assign(trust=[one.word for one in trust_in(table, left_out, groups)])


def most_reliable_first(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table with its reliability by trust, and of one trust by held-out r; what is not tested is last.

    table : with the words of `with_trust`, which results have too; without them what held up goes before the rest.
    """
    import numpy as np

    ranks = {RELIABLE.word: 0, WEAK.word: 1, UNRELIABLE.word: 2}
    rank = table["trust"].astype(str).map(ranks).fillna(len(ranks)) if "trust" in table else ~has_held_up(table)
    return table.iloc[np.lexsort([-table.r_heldout.astype(float), rank.astype(float)])]


def why_weak(row: pd.Series, left_out: str, groups: int) -> str:
    """Why one gene or set that held up is not called reliable, to follow "it agreed beyond chance, but".

    row, left_out, groups : as of `held_out_in_words`.
    """
    if not can_be_reliable(left_out, groups):
        return f"no gene is called reliable before {LEAST_PATIENTS} patients were left out"
    reasons = []
    if row.r_heldout < USEFUL_R:
        reasons.append(f"with an r under {USEFUL_R}")
    if row.patients_replicated < groups:
        reasons.append(f"not in every {left_out}")
    if not reasons:
        is_known = math.isfinite(getattr(row, "r_specific", math.nan))
        reasons = [f"{'hardly' if is_known else 'nothing tells whether'} beyond what all genes have in common"]
    return " and ".join(reasons)


def why_unreliable(row: pd.Series) -> str:
    """A sentence on why one gene or set did not hold up.

    row : as of `held_out_in_words`.
    """
    if row.q_value < SIGNIFICANT and row.r_low <= 0 < row.r_heldout:
        return (
            f"The 95 % interval of its mean r over those left out, {signed(row.r_low)} to {signed(row.r_high)}, "
            "reaches 0: so few may agree by chance."
        )
    return "Over all that were left out together, it did not agree beyond chance."


def held_out_in_words(row: pd.Series, left_out: str, groups: int) -> str:
    """How one gene or set was predicted where it was held out, and within which r the next group is to be expected.

    row : of a table with its reliability.
    left_out, groups : what was left out in turn, and how many of these there were.
    """
    within = ""
    if math.isfinite(row.get("r_next_low", math.nan)):
        interval = f"{signed(row.r_next_low)} to {signed(row.r_next_high)}"
        within = f" (in {another(left_out)} {interval} is to be expected, 95 % by these {groups})"
    elif math.isfinite(row.r_low):
        within = f" (95 % interval {signed(row.r_low)} to {signed(row.r_high)})"
    return f"held-out r {signed(row.r_heldout)}{within}, replicated in {row.patients_replicated:.0f} of {groups}"


def reliability_csv(table: pd.DataFrame) -> str:
    """The text of reliability.csv: r and expression to four decimals, p and q to three digits."""
    table = table.reindex(columns=list(RELIABILITY_COLUMNS))
    # Weights from before it was known are written as they were, and known by the same fingerprint.
    table = table if table.r_specific.notna().any() else table.drop(columns="r_specific")
    return _rounded(table).to_csv(index_label="gene", lineterminator="\n")


def signatures_csv(table: pd.DataFrame) -> str:
    """The text of signatures.csv, its numbers as those of reliability.csv."""
    return _rounded(table[list(SIGNATURE_COLUMNS)]).to_csv(index_label="name", lineterminator="\n")


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    rounded = table.copy()
    for column in table.columns:
        if column.endswith("_value"):
            rounded[column] = [float(f"{value:.3g}") for value in table[column]]
        elif column.startswith(("r_", "expression_")) and column != "r_groups":
            rounded[column] = table[column].round(4)
    return rounded


def read_reliability(folder: Path, genes: Sequence[str]) -> pd.DataFrame:
    """The table of a weights folder: a row per gene, in the order of `genes`, with the RELIABILITY_COLUMNS.

    Raises WeightsError: the file is missing or is not a table, lacks a column, names other genes, or holds an
        impossible figure.
    """
    table = _read_table(folder, RELIABILITY, "gene", [name for name in RELIABILITY_COLUMNS if name not in _LATER])
    if list(table.index) != list(genes):
        raise WeightsError(
            f"{folder.name}: {RELIABILITY} and {CONFIG} name different genes; copy the whole folder again"
        )
    return _checked(table.reindex(columns=list(RELIABILITY_COLUMNS)), f"{folder.name}/{RELIABILITY}")


def read_signatures(folder: Path, genes: Sequence[str]) -> pd.DataFrame:
    """The gene sets of a weights folder: a row per set, with the SIGNATURE_COLUMNS; no row where it has no such file.

    Raises WeightsError: the file is not a table, lacks a column, repeats a set, names a gene that the weights lack, or
        holds an impossible figure.
    """
    if not (folder / SIGNATURES).exists():
        return no_signatures()
    where, table = f"{folder.name}/{SIGNATURES}", _read_table(folder, SIGNATURES, "name", SIGNATURE_COLUMNS)
    if table.index.has_duplicates or "" in table.index:
        raise WeightsError(f"{where} names a set twice or not at all; copy it again or retrain")
    known = set(genes)
    for name, cell in table.members.items():
        members = split_members(cell)
        unknown = [gene for gene in members if gene not in known]
        if unknown or not members:
            told = f"the gene {unknown[0]}, which the weights lack" if unknown else "no gene"
            raise WeightsError(f"{where}: the set {name} has {told}; copy the whole folder again or retrain")
    texts = table[["source", "members", "r_groups"]]
    figures = _checked(table.drop(columns=texts.columns), where)
    return figures.assign(**{column: texts[column] for column in texts})[list(SIGNATURE_COLUMNS)]


def no_signatures() -> pd.DataFrame:
    """The table of weights that hold no gene sets."""
    import pandas as pd

    return pd.DataFrame(columns=list(SIGNATURE_COLUMNS), index=pd.Index([], name="name", dtype=str))


def _read_table(folder: Path, file: str, index: str, required: Sequence[str]) -> pd.DataFrame:
    """A table as text and numbers, its index as text."""
    import pandas as pd

    figures = dict.fromkeys(RELIABILITY_COLUMNS, "")
    try:
        # As pandas renames a column that stands twice.
        header = pd.read_csv(folder / file, header=None, nrows=1, dtype=str, na_filter=False).loc[0]
        # Only figures may be missing: there are genes whose name pandas would take for "not available".
        table = pd.read_csv(
            folder / file,
            index_col=0,
            dtype=dict.fromkeys((index, "source", "members", "r_groups"), str),
            keep_default_na=False,
            na_values=figures,
        )
    except FileNotFoundError:
        raise WeightsError(f"the weights folder {folder.name} has no {file}; copy the whole folder") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder.name}/{file} cannot be read as a table ({error}); copy it again") from None
    require_once(f"{folder.name}/{file}", header.tolist(), (index, *required, *figures), WeightsError)
    missing = [column for column in required if column not in table]
    if missing:
        raise WeightsError(f"{folder.name}/{file} lacks the column {missing[0]}; copy it again or retrain")
    return table


def _checked(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The figures of a table as numbers; WeightsError for one that cannot be."""
    import pandas as pd

    for column in table.columns:
        low, high = (-1, 1) if column.startswith("r_") else (0, 1) if column.endswith("value") else (0, math.inf)
        values = pd.to_numeric(table[column], errors="coerce")
        bad = ~(values.between(low, high) | table[column].isna())
        if bad.any():
            name = table.index[bad][0]
            raise WeightsError(f"{where}: {column} of {name} is {table[column][name]}; copy it again or retrain")
    return table
