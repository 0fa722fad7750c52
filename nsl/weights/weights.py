"""Weights as a value: a fitted model with what it says of itself."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsl.errors import WeightsError
from nsl.genes import by_capitals, resolve
from nsl.weights.config import WeightsConfig

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from nsl.model import NeuralStain


@dataclass(frozen=True)
class Weights:
    """A fitted model with what it takes to use and to judge it."""

    model: NeuralStain
    config: WeightsConfig
    reliability: pd.DataFrame
    """One row per gene, in the model's order, of how it was predicted where held out: `nsl.evaluate.reliability`."""
    source: str
    """Where the weights came from: "embedded", the name of a folder, or org/name on the Hub."""
    sha256: str
    """The checksum of model.safetensors."""
    revision: str | None = None
    """The commit on the Hub; None for a folder."""

    @property
    def genes(self) -> list[str]:
        return self.model.genes

    @property
    def name(self) -> str:
        return self.config.name

    def transferred(self, matrix: np.ndarray) -> Weights:
        """The same weights for slides in other stains: `NeuralStain.transferred`."""
        return replace(self, model=self.model.transferred(matrix))

    def require_genes(self, genes: Sequence[str]) -> list[str]:
        """The genes as these weights spell them, once each and in the order given.

        Capitals do not matter, and common names such as HER2 are understood.

        Raises WeightsError: these weights lack a gene; the first one is named, with those that are spelled nearly so.
        """
        known, unknown = self.find_genes(genes)
        if unknown:
            near = self.near_names(unknown[0])
            remedy = f"did you mean {', '.join(near)}?" if near else "its model card says which genes they are"
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise WeightsError(f"the weights {self.name} hold no gene {unknown[0]}{more}; {remedy}")
        return known

    def find_genes(self, genes: Sequence[str]) -> tuple[list[str], list[str]]:
        """The genes as `require_genes` gives them, and those asked for that these weights lack."""
        own = by_capitals(self.genes)
        found = {gene: resolve(gene, own) for gene in genes}
        known = [gene for gene in found.values() if gene is not None]
        return list(dict.fromkeys(known)), [gene for gene, symbol in found.items() if symbol is None]

    def near_names(self, gene: str) -> list[str]:
        """Up to three genes of these weights that are spelled nearly like `gene`."""
        return difflib.get_close_matches(gene.upper(), self.genes, n=3, cutoff=0.75)
