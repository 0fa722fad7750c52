"""Embeddings of tiles by an image encoder, computed elsewhere, as a method beside the others.

The recipe is that of HEST-Benchmark (Jaume et al. 2024, NeurIPS, arXiv:2406.16192): embeddings are standardised and
brought to their 256 principal components, from which a ridge regression leads to the genes. Its penalty is next to
none, which costs a method much on few patients, so each encoder also has a row whose penalty is chosen as that of the
other ridges. Targets, and how much a section weighs, are those of every other method (`nsl.methods.baselines`).
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nsl.errors import NslError, SpotsError
from nsl.evaluate import Method, Predictor, Training, choose
from nsl.methods.baselines import PENALTIES, pooled, predictor
from nsl.methods.comparison import CEILING
from nsl.spots.files import MAX_BYTES, own_hdf5, readable, require_size
from nsl.spots.measured_section import MeasuredSection

COMPONENTS = 256
"""Principal components at most, as in HEST-Benchmark (`latent_dim` in hest/bench/benchmark.py of mahmoodlab/HEST)."""
PENALTY = 100.0
"""A ridge's alpha times components and genes, as in HEST-Benchmark (`train_test_reg` in hest/bench/trainer.py), against
a squared error that sums over spots."""

# HEST-Benchmark writes embeddings, CLAM and TRIDENT features.
_EMBEDDINGS = ("embeddings", "features")
# HEST-Benchmark writes barcodes, and barcode into the patches that it embeds.
_NAMES = ("barcodes", "barcode", "spots")
# Where rows have coordinates and no names, of x and of y; tiles cut by a corner or at another scale keep it at 1.
_LEAST_R_OF_PLACES = 0.99


def require_name(name: str, others: Sequence[str]) -> None:
    """NslError where a row of the table cannot be called `name` beside the methods of the other names."""
    if not name.strip() or re.search(r"[|\x00-\x1f]", name):
        raise NslError(f"--features calls a method {name!r}; give it a name in letters and digits, as in UNI=FOLDER")
    taken = [other for other in others if other.casefold() == name.casefold()]
    if taken or name.startswith(CEILING):
        raise NslError(
            f"--features calls a method {name}, as the method {taken[0] if taken else CEILING} of the comparison is "
            "called; give it another name"
        )


def embedded(name: str, folder: Path, sections: Sequence[MeasuredSection]) -> list[Method]:
    """The embeddings in `folder`, a file SECTION.h5 a section, as two methods: `name`, and `name`, penalty chosen.

    A file holds a dataset `embeddings` or `features` with a row a tile around a spot, (rows, D) numbers. Rows are told
    by `barcodes`, `barcode` or `spots`, (rows,) or (rows, 1) names of the spots as the counts have them; those of spots
    that the section lacks are left out. Without names there is one row a spot, in the order of the counts, and
    `coords`, (rows, 2) x and y of the tiles in pixels, must lie as the spots do where they are there.

    All files are read here, so that what is wrong with one is said before anything is fitted.

    Raises
    ------
    SpotsError : the folder, or the file of a section, is missing, cannot be read or does not fit the section.
    """
    if not folder.is_dir():
        raise SpotsError(f"there is no folder {folder} of embeddings; give --features NAME=FOLDER")
    known: dict[str, np.ndarray] = {}
    for section in sections:
        known[section.name] = read_embeddings(folder / f"{section.name}.h5", section)
        first, own = (known[one.name].shape[1] for one in (sections[0], section))
        if first != own:
            raise SpotsError(
                f"{folder.name}: embeddings of section {section.name} have {own:,} numbers a spot and those of "
                f"{sections[0].name} have {first:,}; compute all of them with one encoder"
            )

    def features(section: MeasuredSection) -> np.ndarray:
        return known[section.name]

    weights_per_gene = min(COMPONENTS, first) + 1
    return [
        Method(name, features, fit_as_hest, weights_per_gene),
        Method(f"{name}, penalty chosen", features, fit_with_chosen_penalty, weights_per_gene),
    ]


def fit_as_hest(training: Training, seed: int) -> Predictor:
    """Standardise, project on principal components of the training spots, and regress all genes on these by a ridge.

    Of fewer spots or dimensions there are fewer components. The seed is that of a randomised PCA, which serves where
    an exact one would be slow; so little comes of it that a single fit stands for all.
    """
    components = _components(training)
    spots = sum(len(features) for features in training.features)
    # Weights of a section sum to 1 here, and squared errors that of all spots there.
    alpha = PENALTY / (components * len(training.genes)) * len(training.sections) / spots
    return _fit(training, alpha, seed)


def fit_with_chosen_penalty(training: Training, seed: int) -> Predictor:
    """The same with the penalty chosen by nested validation, from the candidates of the other ridges."""
    fit = partial(_fit, seed=seed)
    return fit(training, choose(PENALTIES, fit, training))


def _fit(training: Training, alpha: float, seed: int) -> Predictor:
    features, targets, weight = pooled(training)
    pca = PCA(_components(training), random_state=seed)
    model = make_pipeline(StandardScaler(), pca, Ridge(alpha)).fit(features, targets, ridge__sample_weight=weight)
    return predictor(model)


def _components(training: Training) -> int:
    spots = sum(len(features) for features in training.features)
    return min(COMPONENTS, spots - 1, training.features[0].shape[1])


def read_embeddings(path: Path, section: MeasuredSection) -> np.ndarray:
    """Embeddings of the spots of a section, (S, D) float32, from a file laid out as `embedded` says.

    Raises
    ------
    SpotsError : there is no such file, it is not HDF5 or would have other files read, it states more than may be read,
        a spot has no row or two, rows without names are not those of the spots, or a number is not finite.
    """
    name = f"{path.parent.name}/{path.name}"
    with readable(name), own_hdf5(name, path) as file:
        stored = _dataset(name, file, _EMBEDDINGS)
        if stored is None:
            raise SpotsError(
                f"{name} holds {', '.join(file) or 'nothing'}; put a dataset embeddings there, one row a spot"
            )
        shape = " × ".join(f"{side:,}" for side in stored.shape)
        if stored.ndim != 2 or not stored.size or stored.dtype.kind not in "fiu":
            raise SpotsError(
                f"{name}: {stored.name[1:]} is {shape or 'a single value'} of {stored.dtype}; give a table of numbers, "
                "one row a spot"
            )
        if stored.size * max(stored.dtype.itemsize, 4) > MAX_BYTES:
            raise SpotsError(
                f"{name}: {stored.name[1:]} states {shape} numbers, more than the {MAX_BYTES / 1024**3:g} GB that are "
                "read; give one row a spot"
            )
        rows = _rows_of(name, file, len(stored), section)
        require_size(name, stored)
        with np.errstate(over="ignore"):
            embeddings = stored[:].astype(np.float32)[rows]
    bad = ~np.isfinite(embeddings).all(axis=1)
    if bad.any():
        number = embeddings[bad][0]
        raise SpotsError(
            f"{name}: spot {_called(section, int(bad.argmax()))} has {number[~np.isfinite(number)][0]:g} among its "
            f"numbers ({bad.sum():,} spots have such); compute the embeddings again"
        )
    return embeddings


def _called(section: MeasuredSection, spot: int) -> str:
    return str(spot + 1) if section.spot_names is None else str(section.spot_names[spot])


def _dataset(name: str, file: h5py.File, keys: Sequence[str]) -> h5py.Dataset | None:
    """The first of these that the file holds."""
    found = next((file[key] for key in keys if key in file), None)
    if isinstance(found, h5py.Group):
        raise SpotsError(f"{name}: {found.name[1:]} is a group, not a dataset; put one row a spot there")
    return found


def _rows_of(name: str, file: h5py.File, rows: int, section: MeasuredSection) -> np.ndarray:
    """The row of each spot of the section, (S,)."""
    names = _dataset(name, file, _NAMES)
    if names is not None and section.spot_names is not None:
        require_size(name, names)
        return _rows_by_name(name, names, rows, section)
    if rows != section.spots:
        raise SpotsError(
            f"{name} has {rows:,} rows and section {section.name} {section.spots:,} spots on tissue; give one row a "
            "spot in the order of its counts, or name the spots of the rows in a dataset barcodes"
        )
    places = _dataset(name, file, ("coords",))
    if places is not None and places.shape == (rows, 2):
        require_size(name, places)
        _require_places(name, places[:].astype(float), section)
    return np.arange(rows)


def _rows_by_name(name: str, stored: h5py.Dataset, rows: int, section: MeasuredSection) -> np.ndarray:
    key = stored.name[1:]
    names = [text.decode() if isinstance(text, bytes) else str(text) for text in np.ravel(stored[()])]
    if len(names) != rows:
        raise SpotsError(f"{name}: {key} names {len(names):,} spots of {rows:,} rows; give one name a row")
    row_of = {spot: row for row, spot in enumerate(names)}
    missing = [spot for spot in section.spot_names if spot not in row_of]
    if missing:
        raise SpotsError(
            f"{name} has no row for spot {missing[0]} of section {section.name} ({len(missing):,} of "
            f"{section.spots:,} spots have none, and its first row is that of {names[0]}); name spots as the counts "
            "do, and embed all of them"
        )
    repeated = [spot for row, spot in enumerate(names) if row_of[spot] != row]
    if repeated:
        raise SpotsError(f"{name}: {key} names spot {repeated[0]} twice; keep one row of the two")
    return np.array([row_of[spot] for spot in section.spot_names])


def _require_places(name: str, places: np.ndarray, section: MeasuredSection) -> None:
    for axis, one, other in zip("xy", places.T, section.centers_px.T, strict=True):
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.corrcoef(one, other)[0, 1]
        if r < _LEAST_R_OF_PLACES:
            raise SpotsError(
                f"{name}: {axis} of coords goes with that of the spots of section {section.name} at r {r:.2f} only, so "
                "its rows are other tiles or in another order; name the spots of the rows in a dataset barcodes"
            )
