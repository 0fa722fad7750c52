"""How long a training will take on this computer, told before it begins."""

import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st

from nsl.web.train.paired_sections import PairedSection

# Of two cores of 2023 (benchmarks/RESULTS.md): a step's own cost for each section, how many products of colours and
# genes a second in a step, and how many products of pairs of spots and genes in comparing maps.
_STEP_SECONDS, _STEP_PRODUCTS, _PAIR_PRODUCTS = 0.002, 4e9, 1.2e9
# torch's optimiser loads its compiler the first time it is made, which takes as long whatever is fitted.
_FIRST_SECONDS = 2.0
# What a step of a fit takes beside that of the trial, which has no optimiser and no targets: on real sections.
_BESIDE_TRIAL = 1.7
# Of the step that tells how fast this computer is.
_TRIAL_SPOTS, _TRIAL_COLORS, _TRIAL_GENES, _TRIALS = 300, 300, 250, 5
_LEAST_SLOWER, _MOST_SLOWER = 0.2, 50


class _Part(NamedTuple):
    """A section, or a quarter of the only one."""

    group: str  # what it is left out with
    patient: str
    name: str
    spots: float
    colors: int


@st.cache_resource(show_spinner=False)
def _known() -> dict[str, float]:
    trial = _BESIDE_TRIAL * step_seconds() / _step(_TRIAL_SPOTS * _TRIAL_COLORS, _TRIAL_GENES)
    return {"slower": float(np.clip(trial, _LEAST_SLOWER, _MOST_SLOWER))}


def step_seconds() -> float:
    """What a small step of a fit takes here when nothing else runs: the shortest of some, which least came between."""
    from nsl.histogram import ColorCounts
    from nsl.model import NeuralStain

    rng = np.random.default_rng(0)
    moments = rng.random((_TRIAL_SPOTS, _TRIAL_COLORS, 4), np.float32)
    colors = ColorCounts(moments, rng.random((_TRIAL_COLORS, 3), np.float32))
    model = NeuralStain([str(number) for number in range(_TRIAL_GENES)])
    taken = []
    for _ in range(_TRIALS):
        begun = time.perf_counter()
        (model.from_counts(colors) ** 2).mean().backward()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def on_this_computer(usual: float) -> float:
    """Estimated time of what usually takes so many seconds."""
    first = 0.0 if "torch._dynamo" in sys.modules else _FIRST_SECONDS
    return (usual + first) * _known()["slower"]


def usual_seconds(sections: Sequence[PairedSection], genes: int, is_choosing: bool) -> float:
    """Estimated time of a training on sections that were looked at, on two cores that do nothing else."""
    from nsl.train import CANDIDATES, CHOOSING_GENES

    def choosing(parts: list[_Part]) -> float:
        groups = {part.patient for part in parts}
        key = "patient" if len(groups) > 1 else "name"
        groups = {getattr(part, key) for part in parts}
        if not is_choosing or len(groups) < 2:
            return 0
        steps = sum(settings.steps for settings in CANDIDATES)
        few = min(genes, CHOOSING_GENES)
        return sum(_fit([part for part in parts if getattr(part, key) != group], few, steps) for group in groups)

    parts = _parts(sections)
    total = choosing(parts) + _fit(parts, genes, CANDIDATES[0].steps)
    for group in {part.group for part in parts}:
        inside = [part for part in parts if part.group != group]
        total += choosing(inside) + _fit(inside, genes, CANDIDATES[0].steps)
    return total + sum(part.spots**2 for part in parts) * genes / _PAIR_PRODUCTS


def learn(reckoned: float, taken: float) -> None:
    """Correct the estimate by what a training took; a short one tells nothing."""
    if taken > 2:
        known = _known()
        # Half of the way, and within reason: one run beside many others tells little of the next.
        known["slower"] = float(np.clip(known["slower"] * (taken / reckoned) ** 0.5, _LEAST_SLOWER, _MOST_SLOWER))


def _parts(sections: Sequence[PairedSection]) -> list[_Part]:
    """As `nsl.train.held_out_groups` has them."""
    sizes = [section.last.colors.moments.shape[:2] for section in sections]
    if len(sections) == 1:
        [(spots, colors)] = sizes
        return [_Part(str(i), sections[0].patient, str(i), spots / 4, colors) for i in range(4)]
    is_of_one = len({section.patient for section in sections}) == 1
    return [
        _Part(section.name if is_of_one else section.patient, section.patient, section.name, spots, colors)
        for section, (spots, colors) in zip(sections, sizes, strict=True)
    ]


def _fit(parts: Sequence[_Part], genes: int, steps: int) -> float:
    from nsl.train import GENES_AT_ONCE

    batches = -(-genes // GENES_AT_ONCE)
    return steps * sum(_step(part.spots * part.colors, genes, batches) for part in parts)


def _step(pairs: float, genes: int, batches: int = 1) -> float:
    """Usual time of a step on one section, of so many pairs of spots and colours."""
    return _STEP_SECONDS * batches + pairs * genes / _STEP_PRODUCTS
