"""A weights folder: config.json, model.safetensors, two tables of reliability and a model card; none can run code.

torch is imported only where tensors are, because the app says which weights are in use before it needs them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nsl.errors import WeightsError
from nsl.system.disk import remove_own, require_folder, write_whole
from nsl.weights.card import CARD, model_card
from nsl.weights.config import CONFIG, WeightsConfig
from nsl.weights.hub import fetch, is_hub_source, parse_source
from nsl.weights.reliability import (
    RELIABILITY,
    SIGNATURES,
    read_reliability,
    read_signatures,
    reliability_csv,
    signatures_csv,
)
from nsl.weights.weights import Weights

if TYPE_CHECKING:
    import torch

MODEL = "model.safetensors"
FILES = (CONFIG, MODEL, RELIABILITY, SIGNATURES, CARD)
# In units of optical density and log-normalised expression nothing that was learned comes near it, and what is far
# beyond it ends in infinities.
_MOST_WEIGHT = 1_000_000
_PACKAGE = Path(__file__).parents[1]


def embedded_folder() -> Path:
    """Folder of the weights that ship with the package: inside a wheel, or beside the package in a checkout."""
    inside = _PACKAGE / "embedded"
    return inside if inside.is_dir() else _PACKAGE.parent / "weights" / "her2-breast"


def embedded_config() -> WeightsConfig:
    """What the embedded weights say of themselves, without loading their tensors."""
    return WeightsConfig.read(embedded_folder())


def default_source() -> str | None:
    """What NSL_WEIGHTS names: a folder or org/name@revision; None for the embedded weights."""
    return os.environ.get("NSL_WEIGHTS") or None


def load_weights(source: str | os.PathLike | None = None) -> Weights:
    """Weights from a folder or from "org/name@revision" on the Hugging Face Hub; the embedded ones if none is named.

    Raises WeightsError: the folder or a file in it is missing or unreadable, a tensor is missing, of the wrong shape or
        type, or holds a value that is not finite, genes repeat or differ between the files, or a held-out figure is
        impossible.
    Raises HubError: the weights cannot be had from the Hub, see `nsl.weights.hub.fetch`.
    """
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
    return Weights(
        model.requires_grad_(False),
        config,
        read_reliability(folder, config.genes),
        source,
        digest,
        signatures=read_signatures(folder, config.genes),
    )


def require_place(folder: Path) -> None:
    """NslError where a weights folder cannot be written, or would replace files that are of none."""
    require_folder(folder)
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there and not _holds_weights(folder):
        raise WeightsError(
            f"{folder.resolve().name} holds a {there[0]}, which would be replaced, and is no whole folder of weights; "
            "choose another, or remove what is in it"
        )


def _holds_weights(folder: Path) -> bool:
    try:
        WeightsConfig.read(folder)
    except WeightsError:
        return False
    return True


def save_weights(weights: Weights, folder: str | os.PathLike) -> None:
    """Write a weights folder that `load_weights` reads back; it is made if missing, and its files are replaced.

    Raises WeightsError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(folder)
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.model.state_dict().items()}
    texts = {CONFIG: weights.config.to_json(), RELIABILITY: reliability_csv(weights.reliability)}
    if len(weights.signatures):
        texts[SIGNATURES] = signatures_csv(weights.signatures)
    texts[CARD] = model_card(weights)

    def save_model(part: Path) -> None:
        try:
            save_file(tensors, part, metadata={"genes": json.dumps(weights.genes)})
        except SafetensorError as error:  # a full disk is one
            raise OSError(str(error)) from None
        part.chmod(0o644)  # safetensors lets nobody else read what it writes

    files = {name: lambda part, text=text: part.write_text(text, encoding="utf-8") for name, text in texts.items()}
    files = {folder / name: write for name, write in ({MODEL: save_model} | files).items()}
    write_whole(files, folder.name, WeightsError)
    if SIGNATURES not in texts:
        remove_own(folder / SIGNATURES, "name,source,")


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
    possible = tensor.abs() <= _MOST_WEIGHT  # NaN is not
    if not possible.all():
        gene = int((~possible).nonzero()[0][0])
        raise WeightsError(
            f"{where}: {name} of gene number {gene + 1} is not a finite number up to {_MOST_WEIGHT:,}; retrain "
            "without it"
        )
