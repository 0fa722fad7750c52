"""What to predict the score of a gene set by, and how well sets of genes drawn by lot are predicted.

    python benchmarks/gene_sets.py MANIFEST [--signatures weights/breast-signatures.gmt]

Every patient is left out in turn. A set's score, the mean of its genes' z-scores, is predicted by the mean of the
predictions of its genes, each over the standard deviation that it has in the other patients, as `nsl.predict` does; and
by 11 weights fitted to the score itself, as if it were a gene, with as many patterns and steps and with those that suit
a gene as measured. Prints two Markdown tables: r of each set, a mean over the sections of a patient, with the r of its
own that is left where the mean of all genes is taken off; and how sets drawn by lot of the weights' genes fare.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl.evaluate import leave_one_group_out, signature_reliability, standardised
from nsl.signatures import LEAST_MEMBERS, parse_gmt
from nsl.spots.measured_section import ANALYSIS_MPP, TILE_UM, MeasuredSection
from nsl.stats.pearson import pearson_r
from nsl.train import FitSettings, measure_all, neural_stain
from nsl.weights.folder import embedded_config
from nsl.weights.reliability import RELIABLE, trust_in

LOTS, SIZES = 200, (5, 10, 30, 70)


def by_patient(judged: pd.DataFrame) -> np.ndarray:
    """(sets, patients) r of the mean of the members' predictions."""
    return np.array([[float(cell.rsplit(" ", 1)[1]) for cell in text.split("; ")] for text in judged.r_groups])


def by_own_weights(
    sections: Sequence[MeasuredSection], members: Mapping[str, list[str]], settings: FitSettings
) -> np.ndarray:
    """(sets, patients) r of 11 weights fitted to the score."""
    names, scored = list(members), []
    for section in sections:
        scores = [standardised(section.expression_of(own)).mean(axis=1) for own in members.values()]
        one = replace(section, genes=names, expression=np.stack(scores, axis=1), detected=np.ones(len(names)))
        # Patterns are of the section's genes, not of the scores; where they are cached they stay.
        one.__dict__["patterns"] = section.patterns
        scored.append(one)
    groups = [section.patient for section in sections]
    held_out = leave_one_group_out(scored, groups, neural_stain([settings]), names)
    r = {patient: [] for patient in dict.fromkeys(groups)}
    for part in held_out:
        r[part.group].append(pearson_r(part.predicted, part.section.expression_of(names), flat_r=0))
    return np.array([np.mean(of_sections, axis=0) for of_sections in r.values()]).T


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--signatures", type=Path, default=Path("weights/breast-signatures.gmt"))
    args = parser.parse_args()
    known, fit = list(embedded_config().genes), embedded_config().fit
    rng = np.random.default_rng(0)
    sets = {one.name: [gene for gene in one.members if gene in set(known)] for one in parse_gmt(_text(args.signatures))}
    sets = {name: own for name, own in sets.items() if len(own) >= LEAST_MEMBERS}
    lots = {f"{size} {i}": list(rng.choice(known, size, replace=False)) for size in SIZES for i in range(LOTS)}
    sections = measure_all(args.manifest, TILE_UM, ANALYSIS_MPP)
    patients = list(dict.fromkeys(section.patient for section in sections))
    shipped = FitSettings(fit.patterns, fit.steps)
    groups = [section.patient for section in sections]
    held_out = leave_one_group_out(sections, groups, neural_stain([shipped]), known)
    judged = signature_reliability(held_out, known, sets)
    columns = {
        "mean of the genes' predictions": by_patient(judged),
        f"11 weights, {shipped.patterns} patterns": by_own_weights(sections, sets, shipped),
        "11 weights, as measured": by_own_weights(sections, sets, shipped._replace(patterns=0)),
    }
    print(f"r of {', '.join(patients)} and their mean\n")
    print(f"| set | genes | {' | '.join(columns)} | of its own |\n|---|---:|{'---:|' * len(columns)}---:|")
    for row, (name, own) in enumerate(sets.items()):
        cells = [_cell(r[row]) for r in columns.values()]
        print(f"| {name} | {len(own)} | {' | '.join(cells)} | {judged.r_specific[name]:.2f} |")
    print(f"| all {len(sets)} | | {' | '.join(_cell(r.mean(axis=0)) for r in columns.values())} | |")
    print(f"\n{LOTS} sets of each size, drawn by lot\n")
    by_lot = signature_reliability(held_out, known, lots)
    print("| genes | r | of its own | 95 of 100 have less | called reliable | if none of its own were asked |")
    print("|---:|---:|---:|---:|---:|---:|")
    for size in SIZES:
        drawn = by_lot[by_lot.index.str.startswith(f"{size} ")]
        own = drawn.r_specific
        shares = [
            (trust_in(one, "patient", len(patients)) == RELIABLE).mean()
            for one in (drawn, drawn.assign(r_specific=1.0))
        ]
        figures = f"{drawn.r_heldout.mean():.2f} | {own.mean():.2f} | {own.quantile(0.95):.2f}"
        print(f"| {size} | {figures} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return 0


def _cell(r: np.ndarray) -> str:
    return f"{', '.join(f'{one:.2f}' for one in r)}: **{r.mean():.3f}**"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
