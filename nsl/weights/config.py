"""config.json of a weights folder: which genes, in which units, on what they were learned, and how they were judged."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from nsl.errors import WeightsError
from nsl.stain_transfer import StainTransfer, likely_stains
from nsl.stains import SlideStains, angle_degrees

CONFIG = "config.json"
SCHEMA_VERSION = 2
# Of the first version, whose slides were learned from as they were scanned, nothing else differs.
_READ_VERSIONS = (1, SCHEMA_VERSION)
_REQUIRED = ("name", "genes", "units", "tile_um", "analysis_mpp", "stains", "training_data", "reliability")


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The measured sections that weights were learned from.

    Only the counts are certain: somebody else's folder may leave out the rest, which is then None or empty.
    """

    tissue: str | None = None
    source: str | None = None
    licence: str | None = None
    """The licence of the data, not of the weights."""
    patients: int
    sections: tuple[str, ...] = ()
    spots: int
    genes_rule: str | None = None
    """How the genes were chosen among those measured."""
    failed_checks: tuple[str, ...] = ()
    """Sentences on what may have spoiled the fit, which was made all the same."""


@dataclass(frozen=True)
class TrainingStains:
    """The stains of the training slides, hematoxylin first."""

    reference: np.ndarray
    """(2, 3) mean optical densities in red, green and blue, of unit length."""
    spread_degrees: np.ndarray
    """(2,) largest angle between the stain of a training slide and the mean."""
    target_vectors: np.ndarray | None = None
    """(2, 3) that every training slide was brought to before it was learned from; None where none was."""
    target_strengths: np.ndarray | None = None
    """(2,) 99th percentiles of concentration that go with these (`nsl.stains.SlideStains`)."""

    @property
    def known_vectors(self) -> np.ndarray:
        """(2, 3) of the colours that were learned from: what training slides were brought to, or else their mean."""
        return self.reference if self.target_vectors is None else self.target_vectors

    def transfer_of(self, slide: SlideStains | None) -> StainTransfer:
        """From a slide's stains to those that the weights know; it changes nothing where the slide's are not known.

        Of weights whose training slides were not brought to one stain, to the mean of these, as strong as the slide.
        """
        if self.target_vectors is not None:
            return StainTransfer.between(slide, SlideStains(self.target_vectors, self.target_strengths))
        if slide is None:
            return StainTransfer.between(None, SlideStains(self.reference, np.ones(2)))
        source = likely_stains(slide, self.reference)
        return StainTransfer(source, SlideStains(self.reference, source.strengths))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainingStains) and all(
            np.array_equal(getattr(self, one.name), getattr(other, one.name)) for one in fields(self)
        )


@dataclass(frozen=True, kw_only=True)
class FitRecord:
    """How the weights were fitted."""

    patterns: int
    """Strongest patterns of a section's expression that its genes were learned from; 0 for each gene as measured."""
    steps: int
    learning_rate: float
    command: str | None = None
    nsl_version: str | None = None


@dataclass(frozen=True, kw_only=True)
class HeldOutProtocol:
    """How the reliability of the genes was measured."""

    left_out: str
    """What was left out in turn: a patient, a section or a quarter of the section."""
    groups: int
    """How many of these were left out."""
    settings: dict[str, dict[str, int]] = field(default_factory=dict)
    """The patterns and steps chosen without each group, by the name of the group."""


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """What config.json says. The order of the fields is the order of the file."""

    name: str
    units: str
    tile_um: float
    """Side of the squares that were learned from."""
    analysis_mpp: float
    """Resolution that the slides were read at, in µm per pixel."""
    training_data: TrainingData
    stains: TrainingStains
    fit: FitRecord | None = None
    reliability: HeldOutProtocol
    genes: tuple[str, ...]
    """In the order of the tensors."""
    evaluation: tuple[dict[str, Any], ...] = ()
    """Rows of a table of NSL beside other methods; empty where there was no comparison."""

    @classmethod
    def read(cls, folder: str | os.PathLike) -> WeightsConfig:
        """The checked config.json of a weights folder.

        Raises
        ------
        WeightsError : there is no such folder or no config.json in it, or `from_json` refuses the file.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise WeightsError(
                f"there is no weights folder {folder}; give a folder that holds {CONFIG} and model.safetensors"
            )
        where = f"{folder.name}/{CONFIG}"
        try:
            text = (folder / CONFIG).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise WeightsError(f"the weights folder {folder.name} has no {CONFIG}; copy the whole folder") from None
        except (OSError, ValueError) as error:
            raise _unreadable(where, error) from None
        return cls.from_json(text, where)

    @classmethod
    def from_json(cls, text: str, where: str = CONFIG) -> WeightsConfig:
        """The config that a text holds; errors name the text by `where`.

        Raises
        ------
        WeightsError : the text is not JSON or has another schema version, or what every reader relies on is missing
            or impossible. What only informs is left out where it cannot be read.
        """
        try:
            told = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _unreadable(where, error) from None
        version = told.get("schema_version") if isinstance(told, dict) else None
        if isinstance(version, bool) or version not in _READ_VERSIONS:
            raise WeightsError(
                f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}; update one of them"
            )
        missing = [key for key in _REQUIRED if key not in told]
        if missing:
            raise WeightsError(f"{where} lacks {missing[0]}; copy the whole folder again or retrain")
        return cls(
            name=_text(where, told, "name"),
            units=_text(where, told, "units"),
            tile_um=_length(where, told, "tile_um"),
            analysis_mpp=_length(where, told, "analysis_mpp"),
            training_data=_training_data(where, told["training_data"]),
            stains=_training_stains(where, told["stains"]),
            fit=_fit_record(told.get("fit")),
            reliability=_held_out_protocol(where, told["reliability"]),
            genes=_genes(where, told["genes"]),
            evaluation=_rows(told.get("evaluation")),
        )

    def to_json(self) -> str:
        """The text of config.json, without what is not known."""
        told = {"schema_version": SCHEMA_VERSION} | asdict(self, dict_factory=_known)
        return json.dumps(told, indent=1, ensure_ascii=False, default=np.ndarray.tolist) + "\n"


def _known(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in fields if isinstance(value, np.ndarray) or value not in (None, (), {})}


# No window or pixel is a metre wide or finer than light shows, and nothing that is counted here comes to more: a file
# may say any number, and a name of any length.
_LEAST_UM, _MOST_UM, _MOST, _MOST_LETTERS = 0.01, 1_000_000, 10**12, 200
# Stains that are told apart differ in hue by more.
_LEAST_DEGREES = 1.0


def _short(value: Any) -> str:
    """A value of a file as it stands there, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _unreadable(where: str, error: Exception) -> WeightsError:
    return WeightsError(f"{where} cannot be read as JSON ({error}); copy it again")


def _text(where: str, told: dict, key: str) -> str:
    if not (isinstance(told[key], str) and 0 < len(told[key].strip()) <= _MOST_LETTERS):
        raise WeightsError(
            f"{where}: {key} is {_short(told[key])}, not a text of up to {_MOST_LETTERS} letters; retrain, or correct "
            "the file"
        )
    return told[key]


def _length(where: str, told: dict, key: str) -> float:
    value = told[key]
    if isinstance(value, bool) or not (isinstance(value, int | float) and _LEAST_UM <= value <= _MOST_UM):
        raise WeightsError(
            f"{where}: {key} is {_short(value)}, not a positive number of µm from {_LEAST_UM} to {_MOST_UM:,}; copy "
            "the folder again"
        )
    return value


def _count(where: str, part: Any, section: str, key: str) -> int:
    number = part.get(key) if isinstance(part, dict) else None
    if not (isinstance(number, int) and 0 < number <= _MOST):
        raise WeightsError(f"{where}: {key} of {section} is {_short(number)}, not a whole number above 0; retrain")
    return number


def _training_data(where: str, data: Any) -> TrainingData:
    spots, patients = (_count(where, data, "training_data", key) for key in ("spots", "patients"))
    if not isinstance(data.get("tissue", ""), str):
        raise WeightsError(
            f"{where}: tissue of training_data is {data['tissue']!r}, not a text; retrain, or correct the file"
        )
    lists = {key: data.get(key) for key in ("sections", "failed_checks")}
    return TrainingData(
        patients=patients,
        spots=spots,
        **{key: tuple(map(str, found)) for key, found in lists.items() if isinstance(found, list)},
        **{key: _words(data.get(key)) for key in ("tissue", "source", "licence", "genes_rule")},
    )


def _training_stains(where: str, stains: Any) -> TrainingStains:
    shapes = {"reference": (2, 3), "spread_degrees": (2,)}
    if isinstance(stains, dict) and "target_vectors" in stains:
        shapes |= {"target_vectors": (2, 3), "target_strengths": (2,)}
    try:
        arrays = {name: np.array(stains[name]) for name in shapes}
        fits = all(
            array.dtype.kind in "if" and array.shape == shapes[name] and np.isfinite(array).all()
            for name, array in arrays.items()
        )
        fits = fits and all((array > 0).all() for array in arrays.values() if array.shape == (2,))
        fits = fits and all(_are_two(array) for array in arrays.values() if array.shape == (2, 3))
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise WeightsError(
            f"{where}: stains must hold two reference vectors and two positive spread_degrees, and either both of two "
            "target_vectors and two positive target_strengths or neither; each two differ in hue by 1° and more"
        )
    return TrainingStains(**{name: array.astype(float) for name, array in arrays.items()})


def _are_two(vectors: np.ndarray) -> bool:
    """Whether rows are of two hues: a matrix of stains is inverted."""
    lengths = np.linalg.norm(vectors, axis=1)
    return bool((lengths > 0).all() and angle_degrees(*vectors.astype(float)) >= _LEAST_DEGREES)


def _fit_record(fit: Any) -> FitRecord | None:
    numbers = {key: fit.get(key) for key in ("patterns", "steps", "learning_rate")} if isinstance(fit, dict) else {}
    if not (numbers and all(isinstance(number, int | float) and abs(number) <= _MOST for number in numbers.values())):
        return None
    return FitRecord(**numbers, **{key: _words(fit.get(key)) for key in ("command", "nsl_version")})


def _held_out_protocol(where: str, protocol: Any) -> HeldOutProtocol:
    groups = _count(where, protocol, "reliability", "groups")
    if not isinstance(protocol.get("left_out"), str):
        raise WeightsError(f"{where}: reliability does not say what was left out; retrain")
    settings = protocol.get("settings")
    return HeldOutProtocol(
        left_out=protocol["left_out"], groups=groups, settings=settings if isinstance(settings, dict) else {}
    )


def _genes(where: str, genes: Any) -> tuple[str, ...]:
    if not (isinstance(genes, list) and genes and all(isinstance(gene, str) and gene for gene in genes)):
        raise WeightsError(f"{where}: genes must be a list of names; copy the folder again or retrain")
    if len(set(genes)) < len(genes):
        repeated = min(gene for gene, count in Counter(genes).items() if count > 1)
        raise WeightsError(f"{where} names the gene {repeated} more than once; each gene has one model")
    return tuple(genes)


def _rows(evaluation: Any) -> tuple[dict[str, Any], ...]:
    is_table = isinstance(evaluation, list) and all(isinstance(row, dict) for row in evaluation)
    return tuple(evaluation) if is_table else ()


def _words(value: Any) -> str | None:
    return None if value is None else str(value)
