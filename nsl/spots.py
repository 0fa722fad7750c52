"""Measured expression: spot tables as AnnData, and the manifest that lists many sections."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from nsl.errors import SpotsError

MANIFEST_COLUMNS = ["section", "patient", "image", "mpp", "spots", "counts"]
COUNTS_PER_SPOT = 10_000
UNITS = "log1p of counts per 10,000"


@dataclass(frozen=True)
class Section:
    """One line of a manifest: a stained section with measured spots."""

    name: str
    patient: str
    image: Path
    mpp: float | None
    """µm/px of the image as stored; None where the image's own metadata is to be taken."""
    spots: Path
    """Table with columns spot, x_px, y_px: spot centres in pixels of the image as stored."""
    counts: Path
    """Table of raw counts: one row a spot, named in the first column, and one column a gene."""


def read_manifest(path: str | Path) -> list[Section]:
    """Sections of a manifest CSV; relative paths in it start from the manifest's own folder.

    Raises
    ------
    SpotsError : the file cannot be read, lacks a column or a value, names a section twice, or names a file
        that does not exist.
    """
    path = Path(path)
    table = _read_table(path, dtype=str)
    missing = [column for column in MANIFEST_COLUMNS if column not in table]
    if missing:
        raise SpotsError(
            f"{path.name} lacks the column {missing[0]}; a manifest has the columns {', '.join(MANIFEST_COLUMNS)}"
        )
    if table.empty:
        raise SpotsError(f"{path.name} lists no section; add one line a section")
    repeated = table.section[table.section.duplicated()]
    if len(repeated):
        raise SpotsError(f"{path.name} lists section {repeated.iloc[0]} twice; give each section its own name")
    return [_section(path, row) for row in table.itertuples(index=False)]


def _section(manifest: Path, row) -> Section:
    where = f"{manifest.name}, section {row.section}"
    for column in ("section", "patient", "image", "spots", "counts"):
        if not isinstance(getattr(row, column), str):
            raise SpotsError(f"{where}: {column} is empty; fill it in")
    files = {column: manifest.parent / getattr(row, column) for column in ("image", "spots", "counts")}
    for column, file in files.items():
        if not file.is_file():
            raise SpotsError(f"{where}: the {column} file {file.name} does not exist; check its path")
    try:
        mpp = float(row.mpp) if isinstance(row.mpp, str) else None
    except ValueError:
        raise SpotsError(f"{where}: mpp is {row.mpp!r}, not a number of µm/px") from None
    return Section(row.section, row.patient, files["image"], mpp, files["spots"], files["counts"])


def read_spots(counts: str | Path, spots: str | Path) -> anndata.AnnData:
    """Raw counts with spot positions: the spots that both tables name, in the order of the counts.

    Parameters
    ----------
    counts : CSV or TSV, also gzipped; a row a spot, named in the first column, a column a gene.
    spots : CSV or TSV with columns spot, x_px, y_px.

    Returns
    -------
    AnnData with X (spots, genes) float32 counts and obsm["spatial"] (spots, 2) x, y in pixels.

    Raises
    ------
    SpotsError : a table cannot be read, a spot or gene occurs twice, counts are negative or not whole
        numbers, a position is missing, or the tables share no spot.
    """
    counts, spots = Path(counts), Path(spots)
    table = _read_table(counts, index_col=0)
    # pandas renames a gene that stands twice; the header as written shows it.
    header = _read_table(counts, header=None, dtype=str, nrows=1).iloc[0, 1:]
    if len(header) == table.shape[1]:
        table.columns = pd.Index(header.astype(str))
    positions = _read_table(spots)
    for column in ("spot", "x_px", "y_px"):
        if column not in positions:
            raise SpotsError(f"{spots.name} lacks the column {column}; it needs spot, x_px and y_px")
    positions = positions.set_index(positions.spot.astype(str))[["x_px", "y_px"]]
    table.index = table.index.astype(str)
    for name, labels in (
        (f"{counts.name}: spot", table.index),
        (f"{counts.name}: gene", table.columns),
        (f"{spots.name}: spot", positions.index),
    ):
        if labels.has_duplicates:
            raise SpotsError(f"{name} {labels[labels.duplicated()][0]} occurs twice; keep one of the two")
    values = _checked_counts(counts.name, table)
    if positions.empty:
        raise SpotsError(f"{spots.name} lists no spot; it needs one line a spot")
    shared = table.index.isin(positions.index)
    if not shared.any():
        raise SpotsError(
            f"{counts.name} and {spots.name} share no spot; the first of each are {table.index[0]!r} and "
            f"{positions.index[0]!r}"
        )
    xy = positions.loc[table.index[shared]].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    if not np.isfinite(xy).all():
        where = table.index[shared][~np.isfinite(xy).all(axis=1)][0]
        raise SpotsError(f"{spots.name}: spot {where} has no position in pixels; fill it in or drop the spot")
    return anndata.AnnData(
        X=values[shared],
        obs=pd.DataFrame(index=table.index[shared]),
        var=pd.DataFrame(index=table.columns.astype(str)),
        obsm={"spatial": xy},
    )


def log_normalised(counts: np.ndarray) -> np.ndarray:
    """log1p of counts per 10,000 over all genes of the table: (spots, genes) float32. Empty spots stay 0."""
    depth = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.log1p(counts * (COUNTS_PER_SPOT / depth)).astype(np.float32)


def _checked_counts(name: str, table: pd.DataFrame) -> np.ndarray:
    try:
        values = table.to_numpy(np.float32)
    except ValueError:
        column = next(c for c in table if not pd.api.types.is_numeric_dtype(table[c]))
        raise SpotsError(f"{name}: gene {column} holds text; counts are whole numbers") from None
    if values.size == 0:
        raise SpotsError(f"{name} holds no counts; it needs one row a spot and one column a gene")
    bad = ~np.isfinite(values) | (values < 0) | (values != np.rint(values))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise SpotsError(
            f"{name}: spot {table.index[row]}, gene {table.columns[column]} is {values[row, column]:g}; raw counts "
            "are whole numbers from 0, give the table before normalisation"
        )
    return values


def _read_table(path: Path, **options) -> pd.DataFrame:
    separator = "\t" if ".tsv" in path.suffixes or ".txt" in path.suffixes else ","
    try:
        return pd.read_csv(path, sep=separator, **options)
    except FileNotFoundError:
        raise SpotsError(f"{path.name} does not exist; check its path") from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0] or type(error).__name__
        raise SpotsError(f"{path.name} cannot be read as a table ({reason}); give a CSV or TSV") from None
