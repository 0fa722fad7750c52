"""What to predict the score of a gene set by, and how well sets of genes drawn by lot are predicted.

    python benchmarks/gene_sets.py MANIFEST [--signatures weights/breast-signatures.gmt]

Every patient is left out in turn. A set's score, the mean of its genes' z-scores, is predicted by the mean of the
predictions of its genes, each over the standard deviation that it has in the other patients, as `nsl.predict` does; and
by 11 weights fitted to the score itself, as if it were a gene, with as many patterns and steps and with those that suit
a gene as measured. Sets drawn by lot are of 30 genes of the weights'. Prints a Markdown table of r, a mean over the
sections of a patient.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl.evaluate import leave_one_group_out, signature_reliability, standardised
from nsl.signatures import LEAST_MEMBERS, parse_gmt
from nsl.spots.measured_section import ANALYSIS_MPP, TILE_UM, MeasuredSection
from nsl.stats.pearson import pearson_r
from nsl.train import FitSettings, measure_all, neural_stain
from nsl.weights.folder import embedded_config

LOTS, LOT = 20, 30
BY_LOT = "drawn by lot"


def by_members(
    sections: Sequence[MeasuredSection], members: Mapping[str, list[str]], settings: FitSettings
) -> np.ndarray:
    """(sets, patients) r of the mean of the members' predictions."""
    genes = sorted({gene for own in members.values() for gene in own})
    groups = [section.patient for section in sections]
    held_out = leave_one_group_out(sections, groups, neural_stain([settings]), genes)
    told = signature_reliability(held_out, genes, members).r_groups
    return np.array([[float(cell.rsplit(" ", 1)[1]) for cell in text.split("; ")] for text in told])


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
    lots = {f"{BY_LOT} {i + 1}": list(rng.choice(known, LOT, replace=False)) for i in range(LOTS)}
    sections = measure_all(args.manifest, TILE_UM, ANALYSIS_MPP)
    patients = list(dict.fromkeys(section.patient for section in sections))
    shipped = FitSettings(fit.patterns, fit.steps)
    whole = by_members(sections, sets | lots, shipped)
    columns = {
        "mean of the genes' predictions": whole[: len(sets)],
        f"11 weights, {shipped.patterns} patterns": by_own_weights(sections, sets, shipped),
        "11 weights, as measured": by_own_weights(sections, sets, shipped._replace(patterns=0)),
    }
    print(f"r of {', '.join(patients)} and their mean\n")
    print(f"| set | genes | {' | '.join(columns)} |\n|---|---:|{'---:|' * len(columns)}")
    for row, (name, own) in enumerate(sets.items()):
        print(f"| {name} | {len(own)} | {' | '.join(_cell(r[row]) for r in columns.values())} |")
    print(f"| all {len(sets)} | | {' | '.join(_cell(r.mean(axis=0)) for r in columns.values())} |")
    print(f"| {LOTS} sets {BY_LOT}, their mean | {LOT} | {_cell(whole[len(sets) :].mean(axis=0))} | | |")
    return 0


def _cell(r: np.ndarray) -> str:
    return f"{', '.join(f'{one:.2f}' for one in r)}: **{r.mean():.3f}**"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
