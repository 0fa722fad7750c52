"""What the transfer of stains costs in time, beside the same prediction without it.

    python benchmarks/transfer.py IMAGE:MPP ... [--genes 250] [--repeat 9]

From image file to AnnData, three ways taken in turn: with the transfer; with `transfer=False`, where the slide's stains
are told all the same, to warn of them; and with stains that are not even told. Prints medians, and the median and range
of the ratios within a round, for some genes and for all. The last ratio is within a run with the transfer: all of it
over what is left without telling the stains. CPU seconds are those of all threads: on a machine that others share they
say more than the clock.
"""

import argparse
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nsl import load_weights, open_slide, predict
from nsl.prediction import slide_stains

WAYS = ("with the transfer", "switched off", "stains not told")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slides", nargs="+", metavar="IMAGE:MPP")
    parser.add_argument("--genes", type=int, default=250)
    parser.add_argument("--repeat", type=int, default=9)
    args = parser.parse_args()
    weights = load_weights()
    some = weights.genes[:: max(len(weights.genes) // args.genes, 1)][: args.genes]
    print(f"| slide | genes | seconds | {' | '.join(WAYS)} | with : off | with : not told | all : without telling |")
    print("|:--|--:|:--|--:|--:|--:|--:|--:|--:|")
    for path, _, mpp in (slide.rpartition(":") for slide in args.slides):
        for genes in (some, weights.genes):
            rounds = [_round(Path(path), float(mpp), weights, genes) for _ in range(args.repeat + 1)]
            for kind, measured in zip(("by the clock", "CPU"), np.moveaxis(rounds[1:], 3, 0), strict=True):
                seconds, telling = measured[..., 0], measured[:, 0, 1]
                times = " | ".join(f"{median:.3f}" for median in np.median(seconds, axis=0))
                ratios = [*(seconds[:, :1] / seconds[:, 1:]).T, seconds[:, 0] / (seconds[:, 0] - telling)]
                said = " | ".join(f"{np.median(r):.2f} ({r.min():.2f}–{r.max():.2f})" for r in ratios)
                print(f"| {Path(path).name} | {len(genes):,} | {kind} | {times} | {said} |", flush=True)


def _round(path: Path, mpp: float, weights, genes: list[str]) -> np.ndarray:
    """(ways, 2, 2) seconds of a run and of telling the stains in it, by the clock and of CPU."""
    return np.array([_seconds(path, mpp, weights, genes, way) for way in WAYS])


def _seconds(path: Path, mpp: float, weights, genes: list[str], way: str) -> np.ndarray:
    telling = np.zeros(2)

    def told(*given):
        start = _now()
        stains = None if way == "stains not told" else slide_stains(*given)
        telling[:] = _now() - start
        return stains

    with mock.patch("nsl.prediction.slide_stains", told):
        start = _now()
        with open_slide(path, mpp) as slide:
            predict(slide, weights, genes=genes, transfer=way != "switched off")
        return np.array([_now() - start, telling])


def _now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


if __name__ == "__main__":
    main()
