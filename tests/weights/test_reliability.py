"""What `nsl.weights.reliability` promises of trust: one of three tiers, by what was measured where it was left out."""

from pathlib import Path

import numpy as np
import pandas as pd

from nsl.weights.reliability import RELIABLE, UNRELIABLE, UNTESTED, WEAK, trust_in


def test_a_gene_is_reliable_only_where_it_was_strong_and_replicated_in_every_group():
    table = pd.DataFrame(
        [
            (0.42, 0.001, 3, RELIABLE),
            (0.30, 0.049, 3, RELIABLE),
            (0.42, 0.001, 2, WEAK),  # not in every patient
            (0.29, 0.001, 3, WEAK),  # little
            (0.42, 0.05, 3, UNRELIABLE),  # may be chance
            (-0.5, 0.001, 3, UNRELIABLE),  # upside down
            (np.nan, np.nan, np.nan, UNTESTED),
        ],
        columns=["r_heldout", "q_value", "patients_replicated", "expected"],
    )
    assert list(trust_in(table, 3)) == list(table.expected)
    assert trust_in(table, 2).iloc[2] == RELIABLE


def test_the_readme_says_how_many_genes_and_sets_of_the_embedded_weights_are_in_each_tier(embedded):
    groups = embedded.config.reliability.groups
    genes, sets = (trust_in(table, groups) for table in (embedded.reliability, embedded.signatures))
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").split())
    assert f"({(genes == RELIABLE).sum()} genes and {(sets == RELIABLE).sum()} of {len(sets)} sets)" in readme
    assert f"weak where they agreed beyond chance ({(genes == WEAK).sum():,} genes)" in readme


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
