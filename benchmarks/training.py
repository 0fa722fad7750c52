"""How training grows with spots and genes.

    python benchmarks/training.py MANIFEST [--genes 50 250 1000 4000] [--json FILE]

Counts the colours of the sections, then fits the first section alone, the first half of them and all, at so many of the
genes of highest mean expression. Prints a Markdown table: seconds of a fit, and microseconds for a spot and gene.
"""

import argparse
import json
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
    parser.add_argument("--genes", type=int, nargs="+", default=[50, 250, 1000, 4000])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    start = time.perf_counter()
    sections = [measure_section(section) for section in read_manifest(args.manifest)]
    counted = time.perf_counter() - start
    print(f"Counting the colours of {len(sections)} sections took {counted:.1f} s.\n")
    detected = detected_genes(sections)
    fit(sections[:1], highest_mean(sections, detected, 10))  # imports and compiles
    print("| sections | spots | genes | seconds | µs for a spot and gene |\n|--:|--:|--:|--:|--:|")
    rows = []
    for number in sorted({1, max(len(sections) // 2, 1), len(sections)}):
        some = sections[:number]
        spots = sum(len(section.colors) for section in some)
        for genes in args.genes:
            chosen = highest_mean(sections, detected, genes)
            start = time.perf_counter()
            fit(some, chosen)
            seconds = time.perf_counter() - start
            each = seconds / spots / len(chosen) * 1e6
            rows.append({"sections": number, "spots": spots, "genes": len(chosen), "seconds": seconds})
            print(f"| {number} | {spots:,} | {len(chosen):,} | {seconds:.1f} | {each:.2f} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"counting_seconds": counted, "fits": rows}, indent=1))


if __name__ == "__main__":
    main()
