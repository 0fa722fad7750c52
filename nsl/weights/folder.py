"""A weights folder: config.json, model.safetensors, reliability.csv, a model card; nothing in it can run code.

torch is imported only where tensors are: the app shows which weights are in use before it is needed.
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
from nsl.weights.hub import fetch, is_hub_source, parse_source

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from nsl.model import NeuralStain

SCHEMA_VERSION = 1
CONFIG, MODEL, RELIABILITY, CARD = "config.json", "model.safetensors", "reliability.csv", "README.md"
RELIABILITY_COLUMNS = ("r_heldout", "r_low", "r_high", "p_value", "q_value", "patients_replicated", "n_spots")
# What counts as found, and the held-out r from which papers on this task count a gene as predicted.
SIGNIFICANT, USEFUL_R = 0.05, 0.3
_CONFIG_KEYS = ("name", "genes", "units", "tile_um", "analysis_mpp", "stains", "training_data", "reliability")
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Weights:
    """A fitted model with what it takes to use and to judge it."""

    model: NeuralStain
    config: dict
    """What config.json holds: units, tile_um, analysis_mpp, training data, stain vectors, fit settings."""
    reliability: pd.DataFrame
    """A row a gene, in the model's order, of how it was predicted where it was held out: `nsl.evaluate.reliability`."""
    source: str
    """Where it came from: "embedded", the folder's name, or org/name on the Hub."""
    sha256: str
    """Of model.safetensors."""
    revision: str | None = None
    """Commit on the Hub; None for a folder."""
    notice: str | None = None
    """Why these came in place of those asked for; None where they did not."""

    @property
    def genes(self) -> list[str]:
        return self.model.genes

    @property
    def name(self) -> str:
        return self.config["name"]

    def require_genes(self, genes: Sequence[str]) -> list[str]:
        """The genes, once each, in the order given, however they are capitalised, and common names such as HER2 too.

        WeightsError names the first of those that these weights do not hold.
        """
        known, unknown = self.find_genes(genes)
        if unknown:
            near = self.near_names(unknown[0])
            remedy = f"did you mean {', '.join(near)}?" if near else "its model card says which genes they are"
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise WeightsError(f"the weights {self.name} hold no gene {unknown[0]}{more}; {remedy}")
        return known

    def find_genes(self, genes: Sequence[str]) -> tuple[list[str], list[str]]:
        """Those of `require_genes`, and those asked for that these weights do not hold."""
        by_capitals = {gene.upper(): gene for gene in self.genes}
        found = {gene: resolve(gene, by_capitals) for gene in genes}
        known = [gene for gene in found.values() if gene is not None]
        return list(dict.fromkeys(known)), [gene for gene, symbol in found.items() if symbol is None]

    def near_names(self, gene: str) -> list[str]:
        """Up to three genes of these weights that are spelled nearly so."""
        return difflib.get_close_matches(gene.upper(), self.genes, n=3, cutoff=0.75)


def embedded_folder() -> Path:
    """Folder of the weights that ship with the package: inside a wheel, or beside the package in a checkout."""
    inside = _PACKAGE / "embedded"
    return inside if inside.is_dir() else _PACKAGE.parent / "weights" / "her2-breast"


def is_reliable(table: pd.DataFrame) -> pd.Series:
    """Whether each gene's held-out r is above 0 beyond chance, false discoveries among them under 5 %."""
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

    config = load_config(folder)
    tensors = _read_tensors(folder / MODEL, config["genes"])
    model = NeuralStain(config["genes"])
    for name, parameter in model.named_parameters():
        _check_tensor(folder, name, tensors.get(name), parameter.shape)
    model.load_state_dict({name: tensors[name] for name in model.shapes})
    digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    reliability = _read_reliability(folder, config["genes"])
    return Weights(model.requires_grad_(False), config, reliability, source, digest)


def load_config(source: str | os.PathLike | None = None) -> dict:
    """What config.json of the weights says, checked; WeightsError where it is missing or wrong."""
    folder = embedded_folder() if source is None else Path(source)
    if not folder.is_dir():
        raise WeightsError(f"there is no weights folder {folder}; give a folder that holds {CONFIG} and {MODEL}")
    return _read_config(folder / CONFIG)


def save_weights(weights: Weights, folder: str | os.PathLike) -> None:
    """Write a weights folder that `load_weights` reads back; made if missing, its four files replaced."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from nsl.weights.card import model_card

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().contiguous() for name, tensor in weights.model.state_dict().items()}
        save_file(tensors, folder / MODEL, metadata={"genes": json.dumps(weights.genes)})
        config = json.dumps(weights.config | {"genes": weights.genes}, indent=1, ensure_ascii=False)
        (folder / CONFIG).write_text(config + "\n", encoding="utf-8")
        (folder / RELIABILITY).write_text(_reliability_text(weights.reliability), encoding="utf-8")
        (folder / CARD).write_text(model_card(weights), encoding="utf-8")
        (folder / MODEL).chmod(0o644)  # safetensors lets nobody else read what it writes
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{folder.name} cannot be written ({getattr(error, 'strerror', None) or error}); choose another folder"
        ) from None


def _read_config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"the weights folder {path.parent.name} has no {CONFIG}; copy the whole folder") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path.parent.name}/{CONFIG} cannot be read as JSON ({error}); copy it again") from None
    where = f"{path.parent.name}/{CONFIG}"
    version = config.get("schema_version") if isinstance(config, dict) else None
    if version != SCHEMA_VERSION:
        raise WeightsError(
            f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}; update one of them"
        )
    missing = [key for key in _CONFIG_KEYS if key not in config]
    if missing:
        raise WeightsError(f"{where} lacks {missing[0]}; copy the whole folder again or retrain")
    _check_texts(where, config)
    _check_values(where, config)
    genes = config["genes"]
    if not (isinstance(genes, list) and genes and all(isinstance(gene, str) and gene for gene in genes)):
        raise WeightsError(f"{where}: genes must be a list of names; copy the folder again or retrain")
    repeated = {gene for gene in genes if genes.count(gene) > 1} if len(set(genes)) < len(genes) else None
    if repeated:
        raise WeightsError(f"{where} names the gene {min(repeated)} more than once; each gene has one model")
    return config


def _check_values(where: str, config: dict) -> None:
    def positive(value) -> bool:
        return isinstance(value, int | float) and math.isfinite(value) and value > 0

    for key in ("tile_um", "analysis_mpp"):
        if not positive(config[key]):
            raise WeightsError(f"{where}: {key} is {config[key]!r}, not a positive number; copy the folder again")
    _check_counts(where, config)
    stains = config["stains"]
    try:
        reference, spread = stains["reference"], stains["spread_degrees"]
        fits = [len(v) for v in reference] == [3, 3] and len(spread) == 2
        fits = fits and all(positive(s) for s in spread) and all(math.isfinite(c) for v in reference for c in v)
    except (KeyError, TypeError):
        fits = False
    if not fits:
        raise WeightsError(f"{where}: stains must hold two reference vectors and two positive spread_degrees")


def _check_texts(where: str, config: dict) -> None:
    for key in ("name", "units"):
        if not (isinstance(config[key], str) and config[key].strip()):
            raise WeightsError(f"{where}: {key} is {config[key]!r}, not a text; retrain, or correct the file")
    data = config["training_data"]
    tissue = data.get("tissue", "") if isinstance(data, dict) else ""
    if not isinstance(tissue, str):
        raise WeightsError(f"{where}: tissue of training_data is {tissue!r}, not a text; retrain, or correct the file")


def _check_counts(where: str, config: dict) -> None:
    """What the app and the model card say of the training, and every result carries."""
    for section, keys in (("training_data", ("spots", "patients")), ("reliability", ("groups",))):
        part = config[section]
        for key in keys:
            number = part.get(key) if isinstance(part, dict) else None
            if not (isinstance(number, int) and number > 0):
                raise WeightsError(f"{where}: {key} of {section} is {number!r}, not a whole number above 0; retrain")
    if not isinstance(config["reliability"].get("left_out"), str):
        raise WeightsError(f"{where}: reliability does not say what was left out; retrain")


def _read_tensors(path: Path, genes: list[str]) -> dict[str, torch.Tensor]:
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


def _reliability_text(table: pd.DataFrame) -> str:
    rounded = table[list(RELIABILITY_COLUMNS)].copy()
    for column in ("r_heldout", "r_low", "r_high"):
        rounded[column] = rounded[column].round(4)
    for column in ("p_value", "q_value"):
        rounded[column] = [float(f"{value:.3g}") for value in rounded[column]]
    return rounded.to_csv(index_label="gene", lineterminator="\n")


def _read_reliability(folder: Path, genes: list[str]) -> pd.DataFrame:
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
    if list(table.index) != genes:
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
