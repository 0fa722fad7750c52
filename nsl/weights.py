"""A weights folder: config.json, model.safetensors and a model card; nothing in it can run code.

torch is imported only where tensors are: the app shows which weights are in use before it is needed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nsl.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from nsl.model import NeuralStain

SCHEMA_VERSION = 1
CONFIG, MODEL, CARD = "config.json", "model.safetensors", "README.md"
_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Weights:
    """A fitted model with what it takes to use and to judge it."""

    model: NeuralStain
    config: dict
    """What config.json holds: units, tile_um, analysis_mpp, training data, stain vectors, fit settings."""
    source: str
    """Where it came from, in words: "embedded" or the folder's name."""
    sha256: str
    """Of model.safetensors."""

    @property
    def genes(self) -> list[str]:
        return self.model.genes

    @property
    def name(self) -> str:
        return self.config["name"]

    def require_genes(self, genes: Sequence[str]) -> list[str]:
        """The genes, once each, in the order given, however they are capitalised.

        WeightsError names the first of those that these weights do not hold.
        """
        by_capitals = {gene.upper(): gene for gene in self.genes}
        genes = list(
            dict.fromkeys(gene if gene in by_capitals else by_capitals.get(gene.upper(), gene) for gene in genes)
        )
        unknown = [gene for gene in genes if gene not in set(self.genes)]
        if unknown:
            near = difflib.get_close_matches(unknown[0].upper(), self.genes, n=3)
            remedy = f"did you mean {', '.join(near)}?" if near else "its model card says which genes they are"
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise WeightsError(f"the weights {self.name} hold no gene {unknown[0]}{more}; {remedy}")
        return genes


def embedded_folder() -> Path:
    """Folder of the weights that ship with the package: inside a wheel, or beside the package in a checkout."""
    inside = _PACKAGE / "embedded"
    return inside if inside.is_dir() else _PACKAGE.parent / "weights" / "her2-breast"


def load_weights(source: str | os.PathLike | None = None) -> Weights:
    """Weights from a folder; the embedded ones if none is named.

    Raises
    ------
    WeightsError : the folder or a file in it is missing or unreadable, a tensor is missing, of the wrong
        shape or type, or holds a value that is not finite, or genes repeat or differ between the files.
    """
    from nsl.model import NeuralStain

    config = load_config(source)
    folder = embedded_folder() if source is None else Path(source)
    tensors = _read_tensors(folder / MODEL, config["genes"])
    model = NeuralStain(config["genes"])
    for name, parameter in model.named_parameters():
        _check_tensor(folder, name, tensors.get(name), parameter.shape)
    model.load_state_dict({name: tensors[name] for name in model.shapes})
    digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    return Weights(model.requires_grad_(False), config, "embedded" if source is None else folder.name, digest)


def load_config(source: str | os.PathLike | None = None) -> dict:
    """What config.json of the weights says, checked; WeightsError where it is missing or wrong."""
    folder = embedded_folder() if source is None else Path(source)
    if not folder.is_dir():
        raise WeightsError(f"there is no weights folder {folder}; give a folder that holds {CONFIG} and {MODEL}")
    return _read_config(folder / CONFIG)


def save_weights(weights: Weights, folder: str | os.PathLike) -> None:
    """Write a weights folder that `load_weights` reads back; made if missing, its three files replaced."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().contiguous() for name, tensor in weights.model.state_dict().items()}
        save_file(tensors, folder / MODEL, metadata={"genes": json.dumps(weights.genes)})
        config = json.dumps(weights.config | {"genes": weights.genes}, indent=1, ensure_ascii=False)
        (folder / CONFIG).write_text(config + "\n", encoding="utf-8")
        (folder / CARD).write_text(model_card(weights), encoding="utf-8")
        (folder / MODEL).chmod(0o644)  # safetensors lets nobody else read what it writes
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{folder.name} cannot be written ({getattr(error, 'strerror', None) or error}); choose another folder"
        ) from None


def model_card(weights: Weights) -> str:
    """README.md of the folder, with the front matter the Hugging Face Hub reads."""
    config, data, fit = weights.config, weights.config["training_data"], weights.config["fit"]
    stains = zip(
        ("hematoxylin", "eosin"), config["stains"]["reference"], config["stains"]["spread_degrees"], strict=True
    )
    return _CARD.format(
        **(config | data | fit),
        genes_count=len(weights.genes),
        per_gene=weights.model.trainable_per_gene,
        section_names=", ".join(data["sections"]),
        stain_rows="\n".join(
            f"| {stain} | {' '.join(f'{od:.3f}' for od in vector)} | {spread:.1f}° |"
            for stain, vector, spread in stains
        ),
    )


_CARD = """---
library_name: nsl
tags:
- histology
- spatial-transcriptomics
- gene-expression
- research-only
---
# {name}: Neural Stain Learning weights for {genes_count:,} genes

Predicts the expression of each gene, as {units}, from the colours of an H&E tile of {tile_um:g} µm read at
{analysis_mpp:g} µm/px, with {per_gene} weights per gene. **For research use only; not a diagnostic device.**

## Training data

- Spots: {spots:,}, in the sections {section_names} of {patients} patients.
- Genes: {genes_rule}.
- Source: {source}.
- Licence of the data: {licence}. Only weights derived from the data are here.

## Stain vectors of the training slides

| stain | mean optical density R G B | largest angle of a slide to the mean |
|---|---|---|
{stain_rows}

A slide whose own stain vectors lie farther from these means has colours the weights never saw.

## How it was made

```
{command}
```

{steps} steps of Adam at {learning_rate:g} from the Ruifrok–Johnston matrix, every section alike, seed {seed},
nsl {nsl_version}.

## Limits

Colour alone is a weak predictor for many genes. Predictions follow the amount and the hue of the stains: they
cannot see shape, and what they say of a tissue, a laboratory or a scanner outside the training data is untested.

## Cite

Dawood M, Branson K, Rajpoot NM, Minhas FA. All You Need is Color: Image based Spatial Gene Expression Prediction
using Neural Stain Learning. arXiv:2108.10446, 2021.
"""


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
    missing = [key for key in ("name", "genes", "units", "tile_um", "analysis_mpp", "stains") if key not in config]
    if missing:
        raise WeightsError(f"{where} lacks {missing[0]}; copy the whole folder again or retrain")
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
    stains = config["stains"]
    try:
        reference, spread = stains["reference"], stains["spread_degrees"]
        fits = [len(v) for v in reference] == [3, 3] and len(spread) == 2
        fits = fits and all(positive(s) for s in spread) and all(math.isfinite(c) for v in reference for c in v)
    except (KeyError, TypeError):
        fits = False
    if not fits:
        raise WeightsError(f"{where}: stains must hold two reference vectors and two positive spread_degrees")


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
