"""A weights folder: config.json, model.safetensors, reliability.csv and a model card, none of which can run code.

torch is imported only where tensors are, because the app says which weights are in use before it needs them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nsl.errors import HubError, WeightsError
from nsl.genes import resolve
from nsl.weights.config import CONFIG, WeightsConfig
from nsl.weights.hub import fetch, is_hub_source, parse_source

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from nsl.model import NeuralStain

MODEL = "model.safetensors"
CARD = "README.md"
RELIABILITY = "reliability.csv"
RELIABILITY_COLUMNS = ("r_heldout", "r_low", "r_high", "p_value", "q_value", "patients_replicated", "n_spots")
SIGNIFICANT = 0.05
"""A finding counts as found where its p or q value is below this."""
USEFUL_R = 0.3
"""Papers on this task count a gene as predicted where its held-out r is above this."""
_PACKAGE = Path(__file__).parents[1]


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
    notice: str | None = None
    """Why these weights came in place of those asked for; None where they did not."""

    @property
    def genes(self) -> list[str]:
        return self.model.genes

    @property
    def name(self) -> str:
        return self.config.name

    def require_genes(self, genes: Sequence[str]) -> list[str]:
        """The genes as these weights spell them, once each and in the order given.

        Capitals do not matter, and common names such as HER2 are understood.

        Raises
        ------
        WeightsError : these weights lack a gene; the first one is named, with those that are spelled nearly so.
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
        by_capitals = {gene.upper(): gene for gene in self.genes}
        found = {gene: resolve(gene, by_capitals) for gene in genes}
        known = [gene for gene in found.values() if gene is not None]
        return list(dict.fromkeys(known)), [gene for gene, symbol in found.items() if symbol is None]

    def near_names(self, gene: str) -> list[str]:
        """Up to three genes of these weights that are spelled nearly like `gene`."""
        return difflib.get_close_matches(gene.upper(), self.genes, n=3, cutoff=0.75)


def embedded_folder() -> Path:
    """Folder of the weights that ship with the package: inside a wheel, or beside the package in a checkout."""
    inside = _PACKAGE / "embedded"
    return inside if inside.is_dir() else _PACKAGE.parent / "weights" / "her2-breast"


def embedded_config() -> WeightsConfig:
    """What the embedded weights say of themselves, without loading their tensors."""
    return WeightsConfig.read(embedded_folder())


def is_reliable(table: pd.DataFrame) -> pd.Series:
    """Tells of each gene whether its held-out r is above 0 beyond chance, with fewer than 5 % false discoveries."""
    return (table.r_heldout > 0) & (table.q_value < SIGNIFICANT)


def default_source() -> str | None:
    """What NSL_WEIGHTS names: a folder or org/name@revision; None for the embedded weights."""
    return os.environ.get("NSL_WEIGHTS") or None


def load_weights(source: str | os.PathLike | None = None, *, fallback: bool = False) -> Weights:
    """Weights from a folder or from "org/name@revision" on the Hugging Face Hub; the embedded ones if none is named.

    A script gets the weights it asked for or an error. With `fallback`, the embedded weights come where those asked
    for cannot be had, and their `notice` says why.

    Raises
    ------
    WeightsError : the folder or a file in it is missing or unreadable, a tensor is missing, of the wrong
        shape or type, or holds a value that is not finite, genes repeat or differ between the files, or a
        held-out figure is impossible.
    HubError : the weights cannot be had from the Hub, see `nsl.weights.hub.fetch`.
    """
    try:
        return _load(source)
    except (HubError, WeightsError) as error:
        if not fallback or source is None:
            raise
        return replace(_load(None), notice=f"{error}; the embedded weights are used instead")


def _load(source: str | os.PathLike | None) -> Weights:
    if source is None:
        return _load_folder(embedded_folder(), "embedded")
    if is_hub_source(source):
        fetched = fetch(source)
        weights = _load_folder(fetched.folder, parse_source(source).repo)
        return replace(weights, revision=fetched.commit)
    return _load_folder(Path(source), Path(source).name)


def _load_folder(folder: Path, source: str) -> Weights:
    from nsl.model import NeuralStain

    config = WeightsConfig.read(folder)
    tensors = _read_tensors(folder / MODEL, config.genes)
    model = NeuralStain(config.genes)
    for name, parameter in model.named_parameters():
        _check_tensor(folder, name, tensors.get(name), parameter.shape)
    model.load_state_dict({name: tensors[name] for name in model.shapes})
    digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    return Weights(model.requires_grad_(False), config, read_reliability(folder, config.genes), source, digest)


def save_weights(weights: Weights, folder: str | os.PathLike) -> None:
    """Write a weights folder that `load_weights` reads back; it is made if missing, and its four files are replaced.

    Raises
    ------
    WeightsError : the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from nsl.weights.card import model_card

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().contiguous() for name, tensor in weights.model.state_dict().items()}
        save_file(tensors, folder / MODEL, metadata={"genes": json.dumps(weights.genes)})
        (folder / CONFIG).write_text(weights.config.to_json(), encoding="utf-8")
        (folder / RELIABILITY).write_text(reliability_csv(weights.reliability), encoding="utf-8")
        (folder / CARD).write_text(model_card(weights), encoding="utf-8")
        (folder / MODEL).chmod(0o644)  # safetensors lets nobody else read what it writes
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{folder.name} cannot be written ({getattr(error, 'strerror', None) or error}); choose another folder"
        ) from None


def _read_tensors(path: Path, genes: Sequence[str]) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            named = (file.metadata() or {}).get("genes")
    except FileNotFoundError:
        raise WeightsError(f"the weights folder {path.parent.name} has no {MODEL}; copy the whole folder") from None
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path.parent.name}/{MODEL} is damaged ({error}); copy it again") from None
    if named is not None and named != json.dumps(genes):
        raise WeightsError(
            f"{path.parent.name}: {MODEL} and {CONFIG} name different genes; copy the whole folder again"
        )
    return tensors


def _check_tensor(folder: Path, name: str, tensor: torch.Tensor | None, shape: torch.Size) -> None:
    where = f"{folder.name}/{MODEL}"
    if tensor is None:
        raise WeightsError(f"{where} has no tensor {name}; copy it again or retrain")
    if tensor.shape != shape:
        raise WeightsError(
            f"{where}: {name} has the shape {tuple(tensor.shape)}, the genes of {CONFIG} need {tuple(shape)}; "
            "the two files belong to different weights"
        )
    if not tensor.is_floating_point():
        raise WeightsError(f"{where}: {name} holds {tensor.dtype}, not floating point numbers; retrain")
    finite = tensor.isfinite()
    if not finite.all():
        gene = int((~finite).nonzero()[0][0])
        raise WeightsError(f"{where}: {name} of gene number {gene + 1} is not a finite number; retrain without it")


def reliability_csv(table: pd.DataFrame) -> str:
    """The text of reliability.csv: r to four decimals, p and q to three digits."""
    rounded = table[list(RELIABILITY_COLUMNS)].copy()
    for column in ("r_heldout", "r_low", "r_high"):
        rounded[column] = rounded[column].round(4)
    for column in ("p_value", "q_value"):
        rounded[column] = [float(f"{value:.3g}") for value in rounded[column]]
    return rounded.to_csv(index_label="gene", lineterminator="\n")


def read_reliability(folder: Path, genes: Sequence[str]) -> pd.DataFrame:
    """The table of a weights folder: a row per gene, in the order of `genes`, with the RELIABILITY_COLUMNS.

    Raises
    ------
    WeightsError : the file is missing or is not a table, lacks a column, names other genes, or holds an impossible
        figure.
    """
    import pandas as pd

    where = f"{folder.name}/{RELIABILITY}"
    try:
        # Only figures may be missing: there are genes whose name pandas would take for "not available".
        table = pd.read_csv(
            folder / RELIABILITY,
            index_col=0,
            dtype={"gene": str},
            keep_default_na=False,
            na_values=dict.fromkeys(RELIABILITY_COLUMNS, ""),
        )
    except FileNotFoundError:
        raise WeightsError(f"the weights folder {folder.name} has no {RELIABILITY}; copy the whole folder") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{where} cannot be read as a table ({error}); copy it again") from None
    missing = [column for column in RELIABILITY_COLUMNS if column not in table]
    if missing:
        raise WeightsError(f"{where} lacks the column {missing[0]}; copy it again or retrain")
    if list(table.index) != list(genes):
        raise WeightsError(
            f"{folder.name}: {RELIABILITY} and {CONFIG} name different genes; copy the whole folder again"
        )
    for column in RELIABILITY_COLUMNS:
        low, high = (-1, 1) if column.startswith("r_") else (0, 1) if column.endswith("value") else (0, math.inf)
        values = pd.to_numeric(table[column], errors="coerce")
        bad = ~(values.between(low, high) | table[column].isna())
        if bad.any():
            gene = table.index[bad][0]
            raise WeightsError(f"{where}: {column} of {gene} is {table[column][gene]}; copy it again or retrain")
    return table[list(RELIABILITY_COLUMNS)]
