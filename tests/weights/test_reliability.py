"""What `nsl.weights.reliability` promises of trust: one of three tiers, by what was measured where it was left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nsl.weights.reliability import (
    RELIABLE,
    UNRELIABLE,
    UNTESTED,
    WEAK,
    most_reliable_first,
    trust_in,
    why_unreliable,
    why_weak,
)


def test_a_gene_is_reliable_only_where_it_was_strong_and_replicated_in_every_group():
    table = pd.DataFrame(
        [
            (0.42, 0.1, 0.001, 3, 0.2, RELIABLE),
            (0.30, 0.1, 0.049, 3, 0.15, RELIABLE),
            (0.42, 0.1, 0.001, 2, 0.2, WEAK),  # not in every patient
            (0.29, 0.1, 0.001, 3, 0.2, WEAK),  # little
            (0.42, 0.1, 0.001, 3, 0.149, WEAK),  # as any genes are
            (0.42, 0.1, 0.001, 3, np.nan, WEAK),  # of few genes, or from before it was measured
            (0.42, 0.1, 0.05, 3, 0.2, UNRELIABLE),  # may be chance
            (0.42, 0.0, 0.001, 3, 0.2, UNRELIABLE),  # as may be what so few patients tell
            (-0.5, -0.8, 0.001, 3, 0.2, UNRELIABLE),  # upside down
            (np.nan, np.nan, np.nan, np.nan, np.nan, UNTESTED),
        ],
        columns=["r_heldout", "r_low", "q_value", "patients_replicated", "r_specific", "expected"],
    )
    assert list(trust_in(table, "patient", 3)) == list(table.expected)
    assert list(trust_in(table.drop(columns="r_specific"), "patient", 3))[:2] == [WEAK, WEAK]
    assert [why_weak(row, "patient", 3) for row in table[2:6].itertuples()] == [
        "not in every patient",
        "with an r under 0.3",
        "hardly beyond what all genes have in common",
        "nothing tells whether beyond what all genes have in common",
    ]
    both = pd.Series({"r_heldout": 0.2, "patients_replicated": 1})
    assert why_weak(both, "patient", 3) == "with an r under 0.3 and not in every patient"
    assert why_weak(table.loc[0], "patient", 2) == "no gene is called reliable before 3 patients were left out"


def test_what_did_not_hold_up_says_why():
    row = pd.Series({"r_heldout": 0.33, "r_low": -0.007, "r_high": 0.671, "q_value": 0.045})
    assert why_unreliable(row) == (
        "The 95 % interval of its mean r over those left out, −0.01 to 0.67, reaches 0: so few may agree by chance."
    )
    for figure in ({"q_value": 0.2}, {"r_heldout": -0.3, "r_low": -0.5}, {"q_value": np.nan}):
        assert why_unreliable(pd.Series({**row, **figure})) == (
            "Over all that were left out together, it did not agree beyond chance."
        )


@pytest.mark.parametrize(
    ("left_out", "groups", "expected"),
    [
        ("patient", 3, RELIABLE),
        ("patient", 8, RELIABLE),
        ("patient", 2, WEAK),
        ("section", 6, WEAK),
        ("quarter of the section", 4, WEAK),
    ],
)
def test_no_gene_is_reliable_before_three_patients_were_left_out(left_out, groups, expected):
    strong = pd.DataFrame(
        {"r_heldout": [0.9], "r_low": [0.5], "q_value": [1e-9], "patients_replicated": [groups], "r_specific": [0.5]}
    )
    assert trust_in(strong, left_out, groups).iloc[0] == expected


def test_the_readme_says_how_many_genes_and_sets_of_the_embedded_weights_are_in_each_tier(embedded):
    protocol = embedded.config.reliability
    genes, sets = (
        trust_in(table, protocol.left_out, protocol.groups) for table in (embedded.reliability, embedded.signatures)
    )
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split())
    assert f"({(genes == RELIABLE).sum()} genes and {(sets == RELIABLE).sum()} of {len(sets)} sets)" in readme
    assert f"weak: beyond chance ({(genes == WEAK).sum():,} genes and {(sets == WEAK).sum()} sets)" in readme


def test_the_card_of_the_embedded_weights_compares_methods_as_the_results_do(embedded):
    results = (Path(__file__).parents[2] / "benchmarks/RESULTS.md").read_text(encoding="utf-8")
    found = {}
    for part in results.split("\n**One ")[1:]:
        setting = "one " + part.partition(" left out**")[0]
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("| ")]
        found |= {(setting, row[0]): row[1:5] for row in rows if len(row) == 8}
    assert len(embedded.config.evaluation) == 36
    for row in embedded.config.evaluation:
        assert found[row["left out"], row["method"]] == [row[name] for name in list(row)[2:6]]


@pytest.mark.parametrize("kind", [str, "category"], ids=["new", "read from a file"])
def test_the_most_reliable_come_first_and_of_one_trust_those_of_higher_r(kind):
    words = ["weak", "reliable", "not tested", "reliable", "unreliable", "weak"]
    table = pd.DataFrame({"r_heldout": [0.6, 0.31, np.nan, 0.4, 0.7, 0.2], "trust": words}, index=list("abcdef"))
    table["trust"] = table.trust.astype(kind)
    assert list(most_reliable_first(table).index) == list("dbafec")


def test_without_words_of_trust_what_held_up_comes_first():
    figures = {"r_heldout": [0.2, 0.5, np.nan, 0.4], "r_low": [0.1] * 4, "q_value": [0.01, 0.5, np.nan, 0.04]}
    table = pd.DataFrame(figures, list("abcd"))
    assert list(most_reliable_first(table).index) == list("dabc")
