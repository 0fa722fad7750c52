"""Measured sections as AnnData files."""

import re
from collections.abc import Iterator
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, sparse_dataset
from scipy import sparse

from nsl.errors import SpotsError
from nsl.numerals import some_of
from nsl.spots.files import are_ensembl, by_symbol, image_scales, own_hdf5, readable, require_bytes, require_size
from nsl.spots.tables import Positions, first_not_a_count, is_kept, placed

# scanpy, cellxgene and annotation packages call them so.
_SYMBOL_COLUMNS = ("gene_symbols", "gene_symbol", "gene_name", "gene_names", "feature_name", "symbol", "hgnc_symbol")
_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl")
# Where counts may lie, what a user calls it, and the table of their genes; raw holds genes that X may lack.
_PLACES = (("raw/X", "raw.X", "raw/var"), ("layers/counts", 'layers["counts"]', "var"), ("X", "X", "var"))
# Of a dense matrix, read at once.
_VALUES_AT_ONCE = 30_000_000


def read_h5ad(path: str | Path) -> anndata.AnnData:
    """Spots of an AnnData file of one section, as scanpy, squidpy or cellxgene write it.

    Counts are the first of raw.X, layers["counts"] and X that holds whole numbers; positions are obsm["spatial"], in
    pixels of the full-resolution image. Genes named by Ensembl id are renamed by a column of symbols such as
    gene_symbols or feature_name; where a symbol stands for several genes, the one of most counts is kept. Features
    beside "Gene Expression" in var["feature_types"], and spots that are 0 or False in obs["in_tissue"], are left out.

    Returns and raises what `nsl.spots.tables.read_spots` does; SpotsError also where the file holds several sections,
    or an array larger than `nsl.spots.files.MAX_BYTES`.
    """
    path = Path(path)
    with readable(path.name), own_hdf5(path.name, path) as file:
        stated = _stated_by_tables(path.name, file)
        obs = _table(file["obs"])
        scales = _image_scales(path.name, file, obs)
        positions = _positions(path.name, file, obs)
        _require_one_section(path.name, positions.table)
        values, stored = _raw_counts(path.name, file, stated)
        var = _table(stored)
        is_gene = _are_genes(var)
        values = values if is_gene.all() else values[:, is_gene]
        names, gene_id = _symbols(var[is_gene])
        counts, notices = by_symbol(path.name, values, obs.index, names, gene_id)
        return placed(counts, positions, notices, scales)


def _stated_by_tables(name: str, file: h5py.File) -> int:
    """Bytes of all that is read but counts, before any of it is; SpotsError where it is too much together."""
    stated = 0
    for key in ("obs", "var", "raw/var", "obsm/spatial", "obsm"):
        # Of obsm nothing else is read, unless it is one array, as before anndata 0.7.
        if key in file and (key != "obsm" or isinstance(file[key], h5py.Dataset)):
            label = 'obsm["spatial"]' if "obsm" in key else key
            stated = require_size(f"{name}: {label}", file[key], stated)
    for section in _sections(file).values():
        if "scalefactors" in section:
            stated = require_size(f"{name}: scalefactors", section["scalefactors"], stated)
    return stated


def _sections(file: h5py.File) -> dict[str, h5py.Group]:
    stored = file.get("uns/spatial")
    held = stored.items() if isinstance(stored, h5py.Group) else ()
    return {key: value for key, value in held if isinstance(value, h5py.Group)}


def _image_scales(name: str, file: h5py.File, obs: pd.DataFrame) -> dict[str, float]:
    stored = _sections(file)
    sections = list(stored)
    column, held = _libraries(obs, sections)
    if len(held) > 1 or (len(sections) > 1 and not held):
        where, found = (f'obs["{column}"]', held) if held else ('uns["spatial"]', sections)
        raise SpotsError(
            f"{name} holds {len(found)} sections ({where}: {some_of(found, 3)}), and a slide shows one; save each in a "
            "file of its own"
        )
    # A subset of joined sections keeps what uns has of all of them.
    section = held[0] if held and held[0] in sections else sections[0] if len(sections) == 1 else None
    factors = stored[section].get("scalefactors", {}) if section is not None else {}
    return image_scales({key: value[()] for key, value in factors.items()})


# What people call the column that tells joined sections apart; older scanpy adds batch itself.
_LIBRARY_COLUMNS = {f"{name}{end}" for name in ("library", "sample", "slide", "section") for end in ("", "_id")}
_LIBRARY_COLUMNS |= {"batch", "sample_name"}


def _libraries(obs: pd.DataFrame, sections: list[str]) -> tuple[str | None, list[str]]:
    """The column of obs that says of which section a spot is, and the sections it names; None and [] without one.

    squidpy calls it library_id; another serves if it names nothing but sections of uns["spatial"], or is called like
    one and tells several apart.
    """
    held = {column: obs[column].astype(object).dropna().astype(str).unique().tolist() for column in obs.columns}
    named = [column for column in held if str(column).lower() in _LIBRARY_COLUMNS and len(held[column]) > 1]
    sure = [
        column for column in held if held[column] and (column == "library_id" or set(held[column]) <= set(sections))
    ]
    column = next(iter([*sorted(sure, key=lambda one: one != "library_id"), *named]), None)
    return column, held.get(column, [])


# Of 10x: all slides have the same, and a section has each once. And what `anndata.concat` adds to names.
_BARCODE, _ADDED = r"([ACGT]{14,})", r"[-_][^-_]*$"


def _require_one_section(name: str, positions: pd.DataFrame) -> None:
    """SpotsError where spots differ in the end of their names alone: sections were joined, and nothing else tells."""
    names = positions.index.to_series()
    barcodes, places = names.str.extract(_BARCODE), positions.assign(name=names.str.replace(_ADDED, "", regex=True))
    for told, what in ((barcodes.dropna(), "have one barcode"), (places.dropna(), "lie at one place")):
        again = told[told.duplicated(keep=False)]
        if len(again):
            first, second = again.index[(again == again.iloc[0]).all(axis=1)][:2]
            raise SpotsError(
                f"{name} holds several sections (spots {first} and {second} {what}), and a slide shows one; save each "
                "in a file of its own"
            )


# Words in what tables call x and y, in small letters.
_X_WORDS, _Y_WORDS = {"x", "xc", "xcoord", "col", "column", "imagecol"}, {"y", "yc", "ycoord", "row", "imagerow"}


def _positions(name: str, file: h5py.File, obs: pd.DataFrame) -> Positions:
    obsm = file.get("obsm", {})
    held = list(obsm.dtype.names or ()) if isinstance(obsm, h5py.Dataset) else list(obsm)
    if "spatial" not in held:
        others = ", ".join(held) or "nothing"
        raise SpotsError(
            f'{name} has no obsm["spatial"] (obsm holds {others}); put the spot centres there, x and y in pixels of '
            "the full-resolution image"
        )
    is_one_array = isinstance(obsm, h5py.Dataset)  # as of a table before anndata 0.7
    xy = obsm["spatial"] if is_one_array else read_elem(obsm["spatial"])
    if isinstance(xy, pd.DataFrame):
        xy = _x_before_y(xy)
    elif sparse.issparse(xy):
        xy = xy.toarray()
    xy = np.asarray(xy, float)
    if xy.ndim != 2 or xy.shape[1] != 2:
        shape = " × ".join(map(str, xy.shape))
        raise SpotsError(f'{name}: obsm["spatial"] is {shape}; it needs two columns, x and y in pixels')
    table = pd.DataFrame(xy, obs.index.astype(str), ["x_px", "y_px"])
    if "in_tissue" in obs:
        table = table[is_kept(name, obs.in_tissue)]
    return Positions(name, table)


def _table(stored: h5py.Group | h5py.Dataset) -> pd.DataFrame:
    """A table as anndata reads it; before version 0.7 it wrote an array of records, the names first."""
    table = read_elem(stored)
    if isinstance(table, pd.DataFrame):
        return table
    columns = {
        name: [value.decode() if isinstance(value, bytes) else value for value in table[name].tolist()]
        for name in table.dtype.names
    }
    return pd.DataFrame(columns).set_index(table.dtype.names[0])


def _x_before_y(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that are called x and y, in this order; all, as they stand, where none are."""
    words = {column: set(re.split(r"[^a-z]+", str(column).lower())) for column in table.columns}
    named = [[column for column in words if words[column] & axis] for axis in (_X_WORDS, _Y_WORDS)]
    return table[[one for (one,) in named]] if [len(columns) for columns in named] == [1, 1] else table


def _raw_counts(name: str, file: h5py.File, beside: int) -> tuple[sparse.csr_array, h5py.Group]:
    """Counts, and the stored table of their genes; beside : bytes that the file's tables take."""
    seen = []
    for key, label, var in _PLACES:
        if key in file:
            require_size(f"{name}: {label}", file[key], beside)  # of matrices one at a time is held
            if isinstance(file[key], h5py.Group):
                # Turned from columns to rows, it takes memory by its shape, which a file can state as it likes.
                require_bytes(f"{name}: {label}", 8 * sum(sparse_dataset(file[key]).shape))
            found = _whole_numbers(file[key])
            if sparse.issparse(found):
                return found, file[var]
            seen.append(f"{label} holds {found:g}")
    held = ", ".join(seen) if seen else "it has no X"
    raise SpotsError(f'{name} holds no raw counts: {held}; save the counts, whole numbers from 0, in layers["counts"]')


def _whole_numbers(stored: h5py.Group | h5py.Dataset) -> sparse.csr_array | float:
    """The matrix where all of it is counts; else the first value that is none."""
    parts = []
    for block in _blocks(stored):
        at = first_not_a_count(block)
        if at is not None:
            return float(block.data[at])
        parts.append(block)
    return sparse.vstack(parts, format="csr")


def _blocks(stored: h5py.Group | h5py.Dataset) -> Iterator[sparse.csr_array]:
    if isinstance(stored, h5py.Dataset):
        step = max(_VALUES_AT_ONCE // max(stored.shape[1], 1), 1)
        for start in range(0, max(len(stored), 1), step):
            yield sparse.csr_array(stored[start : start + step].astype(np.float32))
    else:
        matrix = read_elem(stored)
        matrix.check_format(full_check=True)
        yield sparse.csr_array(matrix, dtype=np.float32)


def _are_genes(var: pd.DataFrame) -> np.ndarray:
    """(features,) bool: without antibodies and the like where 10x tells them apart; all where nothing does."""
    kinds = next((var[column] for column in ("feature_types", "feature_type") if column in var), pd.Series(dtype=str))
    is_gene = (kinds == "Gene Expression").to_numpy()
    return is_gene if is_gene.any() else np.ones(len(var), bool)


def _symbols(var: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """Names of the genes, symbols where there are any, and their Ensembl ids where known."""
    names = var.index.to_numpy(object)
    if not are_ensembl(names):
        column = next((column for column in _ID_COLUMNS if column in var), None)
        return names, None if column is None else var[column].to_numpy(object)
    columns = {str(column).lower(): column for column in var.columns}
    column = next((columns[one] for one in _SYMBOL_COLUMNS if one in columns), None)
    if column is None:
        return names, names
    symbols = var[column].astype(object)
    return symbols.where(symbols.notna() & (symbols != ""), names).to_numpy(), names
