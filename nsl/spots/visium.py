"""Visium sections as Space Ranger writes them."""

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import anndata
import numpy as np
import pandas as pd
from scipy import io as matrix_market
from scipy import sparse

from nsl.errors import SpotsError
from nsl.spots.files import (
    Files,
    by_symbol,
    files_in,
    image_scales,
    only,
    own_hdf5,
    readable,
    require_bytes,
    require_size,
    unpacked,
)
from nsl.spots.tables import Positions, placed, positions_of

POSITIONS = ("tissue_positions.csv", "tissue_positions_list.csv")
_POSITION_ENDINGS = (*POSITIONS, *(f"{name}.gz" for name in POSITIONS))
_PACKED = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")
# Space Ranger before 2.0 writes no header.
_POSITION_COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
# Of a sparse matrix in memory: row, column and value, or the start of a row; what a file states may be false.
_ENTRY_BYTES = 16


def read_visium(path: str | Path) -> anndata.AnnData:
    """Spots in tissue of Space Ranger's `outs` folder or a zip of it, at any depth inside.

    Needed are filtered_feature_bc_matrix.h5 or the folder filtered_feature_bc_matrix with its three files, and
    spatial/tissue_positions.csv (or tissue_positions_list.csv). Genes are named by symbol, with Ensembl ids in
    var["gene_id"]; where a symbol stands for several genes, the one of most counts is kept.

    Returns and raises what `nsl.spots.tables.read_spots` does; SpotsError also where a file is missing, there twice,
    damaged, or larger than `nsl.spots.files.MAX_BYTES`.
    """
    path = Path(path)
    with readable(path.name), files_in(path) as files:
        _refuse_hd(path.name, files)
        matrix = only(path.name, files, "filtered_feature_bc_matrix.h5")
        if matrix is None:
            filtered = [name for name in files if "raw_feature_bc_matrix" not in name]
            matrix = only(path.name, filtered, "matrix.mtx.gz", "matrix.mtx")
        if matrix is None:
            refuse_packed(files)
            raise SpotsError(
                f"{path.name} holds no filtered_feature_bc_matrix.h5 and no filtered_feature_bc_matrix/matrix.mtx.gz; "
                "give Space Ranger's outs folder"
            )
        positions = only(path.name, files, *_POSITION_ENDINGS)
        if positions is None:
            refuse_packed(files)
            raise SpotsError(f"{path.name} holds no spatial/tissue_positions.csv; give Space Ranger's outs folder")
        _require_one_meaning(path.name, files, positions)
        return read_files(path.name, files, matrix, positions)


def _refuse_hd(name: str, files: Files) -> None:
    """SpotsError for Visium HD, of one size of bins or all of them: its positions are Parquet."""
    if any(file.endswith("tissue_positions.parquet") for file in files) and not any(
        file.endswith(_POSITION_ENDINGS) for file in files
    ):
        raise SpotsError(
            f"{name} is of Visium HD, whose bins are smaller than what is predicted; add them up to bins of 50 µm or "
            "more and give an .h5ad"
        )


def refuse_packed(names: Iterable[str]) -> None:
    """SpotsError at an archive that is not read, such as the spatial.tar.gz of public downloads."""
    packed = next((name for name in names if name.lower().endswith(_PACKED)), None)
    if packed is not None:
        raise SpotsError(
            f"{Path(packed).name} is a packed folder, which is not looked into; unpack it, and give a zip of the whole "
            "outs folder, or filtered_feature_bc_matrix.h5 with the tissue_positions file"
        )


def _require_one_meaning(name: str, files: Files, positions: str) -> None:
    """SpotsError where the positions stand twice and differ: older and newer Space Ranger name the file differently."""
    wanted = _tissue_positions(positions, files[positions]()).table.sort_index()
    for other in (file for file in files if file != positions and file.endswith(_POSITION_ENDINGS)):
        if not _tissue_positions(other, files[other]()).table.sort_index().equals(wanted):
            raise SpotsError(f"{name} holds {positions} and {other}, which differ; leave one of them out")


def read_files(name: str, files: Files, matrix: str, positions: str) -> anndata.AnnData:
    """What `read_visium` returns, from the paths of the matrix and the positions among the files of `name`."""
    features = _h5_features(matrix, files[matrix]()) if matrix.endswith(".h5") else _mtx_features(name, files, matrix)
    is_gene = features.kind == "Gene Expression"
    counts, notices = by_symbol(
        name, features.values[:, is_gene], features.barcodes, features.symbol[is_gene], features.gene_id[is_gene]
    )
    factors = only(name, files, "scalefactors_json.json")
    scales = image_scales(json.loads(files[factors]())) if factors else {}
    return placed(counts, _tissue_positions(positions, files[positions]()), notices, scales)


class _Features(NamedTuple):
    values: sparse.csr_array  # (barcodes, features) float32
    barcodes: np.ndarray
    gene_id: np.ndarray
    symbol: np.ndarray
    kind: np.ndarray


def _h5_features(name: str, content: bytes) -> _Features:
    with own_hdf5(name, io.BytesIO(content)) as file:
        matrix = file["matrix"]
        require_size(name, matrix)
        # Stored by columns with a column a barcode: read by rows, a row is a barcode.
        features, barcodes = (int(length) for length in matrix["shape"][()])
        data, indices, indptr = (matrix[part][()] for part in ("data", "indices", "indptr"))
        values = sparse.csr_array((data.astype(np.float32), indices, indptr), shape=(barcodes, features))
        text = ("barcodes", "features/id", "features/name", "features/feature_type")
        columns = [matrix[part].asstr()[()] for part in text]
    values.check_format(full_check=True)
    return _Features(values, *columns)


def _mtx_features(name: str, files: Files, matrix: str) -> _Features:
    stem = re.sub(r"matrix\.mtx(\.gz)?$", "", matrix)
    tables = []
    for wanted in (("features.tsv", "genes.tsv"), ("barcodes.tsv",)):
        found = [stem + table + end for table in wanted for end in (".gz", "") if stem + table + end in files]
        if not found:
            raise SpotsError(f"{name} holds {matrix} without {wanted[0]}.gz beside it; give the whole folder")
        text = io.BytesIO(unpacked(found[0], files[found[0]]()))
        tables.append(pd.read_csv(text, sep="\t", header=None, dtype=str, na_filter=False, quoting=3))
    features, barcodes = tables
    text = unpacked(matrix, files[matrix]())
    rows, columns, entries, *_ = matrix_market.mminfo(io.BytesIO(text))
    require_bytes(matrix, _ENTRY_BYTES * (rows + columns + entries))
    values = matrix_market.mmread(io.BytesIO(text), spmatrix=False)
    kind = features[2] if 2 in features else pd.Series("Gene Expression", features.index)
    columns = (column.to_numpy(object) for column in (barcodes[0], features[0], features[1], kind))
    return _Features(sparse.csr_array(values.T, dtype=np.float32), *columns)


def _tissue_positions(name: str, content: bytes) -> Positions:
    table = pd.read_csv(io.BytesIO(unpacked(name, content)), header=None, dtype=str, na_filter=False)
    if table.iloc[0, 0] == "barcode":
        table = table.iloc[1:].set_axis(table.iloc[0], axis=1)
    else:
        table = table.rename(columns=dict(enumerate(_POSITION_COLUMNS)))
    return positions_of(Path(name).name, table)
