"""How long fitting takes once the colours of the spots are counted.

    python benchmarks/fit.py MANIFEST [--genes 250]

The genes fitted are those of highest mean expression among the ones detected in every patient.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl.spots.measured_section import detected_genes, highest_mean, measure_section
from nsl.spots.tables import read_manifest
from nsl.train import fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--genes", type=int, default=250)
    args = parser.parse_args()
    start = time.perf_counter()
    sections = [measure_section(section) for section in read_manifest(args.manifest)]
    counted = time.perf_counter()
    chosen = highest_mean(sections, detected_genes(sections), args.genes)
    start_fit = time.perf_counter()
    fit(sections, chosen)
    spots = sum(len(s.colors) for s in sections)
    print(f"{len(sections)} sections, {spots:,} spots")
    print(f"  counting colours  {counted - start:6.1f} s")
    print(f"  fitting {len(chosen)} genes {time.perf_counter() - start_fit:6.1f} s")


if __name__ == "__main__":
    main()
