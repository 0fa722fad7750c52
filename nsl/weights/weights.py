"""Weights as a value: a fitted model with what it says of itself."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from nsl.errors import WeightsError
from nsl.genes import by_capitals, is_known, resolve, symbol_of
from nsl.result import VAR_COLUMNS
from nsl.signatures import LEAST_MEMBERS, PREFIX, Scoring, Signature, joined_members, sets_of, split_members
from nsl.weights.config import WeightsConfig
from nsl.weights.reliability import no_signatures, reliability_csv, signatures_csv, with_trust

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
    signatures: pd.DataFrame = field(default_factory=no_signatures)
    """One row per gene set that they were judged on, likewise: `nsl.evaluate.signature_reliability`."""

    @property
    def genes(self) -> list[str]:
        return self.model.genes

    @property
    def name(self) -> str:
        return self.config.name

    @cached_property
    def fingerprint(self) -> str:
        """Tells these weights from any that would predict, score or be trusted otherwise: not by the model alone."""
        sets = signatures_csv(self.signatures) if len(self.signatures) else ""
        told = hashlib.sha256(f"{self.config.to_json()}{reliability_csv(self.reliability)}{sets}".encode())
        for name, tensor in self.model.state_dict().items():
            told.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
        return told.hexdigest()

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
            if (name := unknown[0].removeprefix(PREFIX)) in self.signatures.index:
                raise WeightsError(
                    f"{name} is no gene but one of the gene sets of the weights {self.name}, which are scored where "
                    "all genes are predicted; leave the list of genes out, or give a file of sets"
                )
            near = self.near_names(unknown[0])
            remedy = f"did you mean {', '.join(near)}?" if near else "its model card says which genes they are"
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise WeightsError(f"the weights {self.name} hold no gene {unknown[0]}{more}; {remedy}")
        return known

    def find_genes(self, genes: Sequence[str]) -> tuple[list[str], list[str]]:
        """The genes as `require_genes` gives them, and those asked for that these weights lack."""
        found = {gene: resolve(gene, self._by_capitals) for gene in genes}
        known = [gene for gene in found.values() if gene is not None]
        return list(dict.fromkeys(known)), [gene for gene, symbol in found.items() if symbol is None]

    @cached_property
    def _by_capitals(self) -> dict[str, str]:
        return by_capitals(self.genes)

    @property
    def own_signatures(self) -> list[Signature]:
        """The gene sets that these weights were judged on."""
        return sets_of(self.signatures)

    def with_own(self, brought: Sequence[Signature]) -> list[Signature]:
        """The gene sets of these weights, and those brought, which take the place of one of the same name."""
        return list({one.name: one for one in [*self.own_signatures, *brought]}.values())

    def reliability_of(self, genes: Sequence[str]) -> pd.DataFrame:
        """What a result carries of each gene's reliability: `VAR_COLUMNS`, and trust, a word for them."""
        protocol = self.config.reliability
        return with_trust(self.reliability.loc[genes, list(VAR_COLUMNS)], protocol.left_out, protocol.groups)

    def match_signatures(self, wished: Sequence[Signature]) -> pd.DataFrame:
        """Those gene sets of which these weights hold enough genes to score them.

        Returns a row a set, in the order given: source; members, those that these weights hold, and missing, the
        others, each joined in one text (`nsl.signatures.split_members`); the figures of `signatures`, NaN for a set
        that these weights were not judged on; and trust, a word for them. A set of fewer than LEAST_MEMBERS such genes
        has no row.

        Raises WeightsError: none of the sets has enough, or the weights do not say how much their genes vary.
        """
        import pandas as pd

        sd = self.reliability.expression_sd
        if wished and not sd.notna().any():
            raise WeightsError(
                f"the weights {self.name} do not say how much genes vary, so no set is scored; retrain them"
            )
        figures = self.signatures.drop(columns=["source", "members"])
        varies, rows = set(sd.index[sd > 0]), {}
        for one in wished:
            known, missing = self.find_genes(one.members)
            members = [gene for gene in known if gene in varies]
            if len(members) < LEAST_MEMBERS:
                continue
            own = self.signatures.members.get(one.name)
            is_own = own is not None and set(split_members(own)) == set(members)
            rows[one.name] = {
                "source": one.source,
                "members": joined_members(members),
                "missing": joined_members([*missing, *(gene for gene in known if gene not in members)]),
            } | (figures.loc[one.name].to_dict() if is_own else dict.fromkeys(figures.columns, float("nan")))
        if wished and not rows:
            raise WeightsError(
                f"the weights {self.name} hold fewer than {LEAST_MEMBERS} genes of {wished[0].name}"
                + (f" and of each of the {len(wished) - 1:,} other sets" if len(wished) > 1 else "")
                + "; bring sets of symbols that its model card lists"
            )
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["source", "members", "missing", *figures.columns])
        table["r_groups"] = table.r_groups.fillna("")
        table = table.set_axis(pd.Index(list(rows), dtype=str, name="name"))
        return with_trust(table, self.config.reliability.left_out, self.config.reliability.groups)

    def scoring(self, table: pd.DataFrame) -> Scoring:
        """From the expression of genes to the scores of the sets of `match_signatures`."""
        members = {name: split_members(cell) for name, cell in table.members.items()}
        return Scoring.of(members, self.reliability.expression_mean, self.reliability.expression_sd)

    def near_names(self, gene: str) -> list[str]:
        """Up to three genes of these weights that are spelled nearly like `gene`.

        None where it is another gene's symbol of today: who asks for ESR1 means no ESRP1.
        """
        if is_known(gene) and symbol_of(gene) == gene.upper():
            return []
        return difflib.get_close_matches(gene.upper(), self.genes, n=3, cutoff=0.75)
