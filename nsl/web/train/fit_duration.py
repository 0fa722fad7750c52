"""How long a training will take on this computer, told before it begins."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st

from nsl.web.train.paired_sections import PairedSection

# Of two cores of 2023 (benchmarks/RESULTS.md): a step's own cost for each section, how many products of colours and
# genes a second in a step, and how many products of pairs of spots and genes in comparing maps.
_STEP_SECONDS, _STEP_PRODUCTS, _PAIR_PRODUCTS = 0.002, 4e9, 1.2e9


class _Part(NamedTuple):
    """A section, or a quarter of the only one."""

    group: str  # what it is left out with
    patient: str
    name: str
    spots: float
    colors: int


@st.cache_resource(show_spinner=False)
def _known() -> dict[str, float]:
    return {"slower": 1.0}


def on_this_computer(usual: float) -> float:
    """Estimated time of what usually takes so many seconds."""
    return usual * _known()["slower"]


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
        known["slower"] = float(np.clip(known["slower"] * (taken / reckoned) ** 0.5, 0.5, 8))


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
    products = sum(part.spots * part.colors for part in parts) * genes
    return steps * (_STEP_SECONDS * batches * len(parts) + products / _STEP_PRODUCTS)
