"""Does the interval for the next patient hold? Each patient in turn is the next one, predicted from the others.

    python benchmarks/next_patient.py MANIFEST [--genes 1000] [--signatures weights/breast-signatures.gmt]

The centre of an interval comes from the other patients alone: each of them is predicted by a fit that has seen neither
it nor the patient left out. How far patients scatter is estimated once from these others, who may happen to be alike
where they are two, and once from all patients, as weights do. Prints a Markdown table of the share of the genes, of the
two fifths of highest r among them, and of the gene sets, whose r in the patient left out lies in its interval. The
genes are some of the weights', and those of the sets.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl.evaluate import HeldOut, group_correlations, next_interval, scatter_between, signature_correlations
from nsl.signatures import LEAST_MEMBERS, parse_gmt
from nsl.spots.measured_section import ANALYSIS_MPP, TILE_UM, MeasuredSection
from nsl.train import FitSettings, fit, measure_all
from nsl.weights.folder import embedded_config

BEST_SHARE = 0.4
R = dict[tuple[str, ...], dict[str, pd.DataFrame]]
"""What `group_correlations` gives of each patient left out, by the patients left out together."""


def blind_r(sections: Sequence[MeasuredSection], genes: list[str], members: dict[str, list[str]]) -> tuple[R, R]:
    """Leave out every patient alone, and every two together; genes, and sets."""
    patients = list(dict.fromkeys(section.patient for section in sections))
    settings = FitSettings(embedded_config().fit.patterns, embedded_config().fit.steps)
    of_genes, of_sets = {}, {}
    for left_out in [*combinations(patients, 1), *combinations(patients, 2)]:
        model = fit([one for one in sections if one.patient not in left_out], genes, settings)
        parts = [HeldOut(one, one.patient, model.from_counts(one.colors).numpy(), 0, 0) for one in sections]
        of_genes[left_out] = group_correlations([part for part in parts if part.group in left_out], genes)
        # The sd of a gene's prediction comes from the patients learned from, too.
        of_sets[left_out] = signature_correlations(parts, genes, members)
        print(f"without {' and '.join(left_out)}", file=sys.stderr)
    return of_genes, of_sets


def coverage(r: R, among: Callable[[np.ndarray], np.ndarray], *, from_all: bool) -> list[float]:
    """Share of the rows whose r lies in the interval, one figure a patient left out."""
    patients = [alone[0] for alone in r if len(alone) == 1]
    everyone = scatter_between(np.array([r[(patient,)][patient].pearson_r for patient in patients]))
    shares = []
    for next_one in patients:
        others = [patient for patient in patients if patient != next_one]
        pairs = [tuple(one for one in patients if one in (other, next_one)) for other in others]
        tables = [r[pair][other] for pair, other in zip(pairs, others, strict=True)]
        seen, error = (np.array([table[column] for table in tables]) for column in ("pearson_r", "standard_error"))
        low, high = next_interval(seen, error, everyone if from_all else None)
        came = r[(next_one,)][next_one].pearson_r.to_numpy()
        shares.append(float(((came >= low) & (came <= high))[among(seen.mean(axis=0))].mean()))
    return shares


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--signatures", type=Path, default=Path("weights/breast-signatures.gmt"))
    parser.add_argument(
        "--genes", type=int, default=1000, help="so many of the weights' genes, evenly through their list"
    )
    args = parser.parse_args()
    known = list(embedded_config().genes)
    sets = parse_gmt(args.signatures.read_text("utf-8"))
    members = {one.name: [gene for gene in one.members if gene in set(known)] for one in sets}
    members = {name: own for name, own in members.items() if len(own) >= LEAST_MEMBERS}
    some = {known[int(i)] for i in np.linspace(0, len(known) - 1, min(args.genes, len(known)))}
    wanted = some.union(*members.values())
    genes = [gene for gene in known if gene in wanted]
    sections = measure_all(args.manifest, TILE_UM, ANALYSIS_MPP)
    of_genes, of_sets = blind_r(sections, genes, members)
    whole, best = (lambda centre: centre > -2), (lambda centre: centre >= np.quantile(centre, 1 - BEST_SHARE))
    rows = {
        f"{len(genes):,} genes": (of_genes, whole),
        f"of these the {BEST_SHARE:.0%} of highest r": (of_genes, best),
        f"{len(members)} gene sets": (of_sets, whole),
    }
    patients = [alone[0] for alone in of_genes if len(alone) == 1]
    print(f"| | scatter of | {' | '.join(patients)} | mean |\n|---|---|{'---:|' * (len(patients) + 1)}")
    for name, (r, among) in rows.items():
        for source, from_all in (("all patients", True), ("the others alone", False)):
            shares = coverage(r, among, from_all=from_all)
            print(f"| {name} | {source} | {' | '.join(f'{share:.3f}' for share in [*shares, np.mean(shares)])} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
