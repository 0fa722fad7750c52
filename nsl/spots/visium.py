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
_PARQUET = "tissue_positions.parquet"
_POSITION_ENDINGS = (*POSITIONS, *(f"{name}.gz" for name in POSITIONS), _PARQUET)
_PACKED = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")
# Space Ranger before 2.0 writes no header.
_POSITION_COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
# Of a sparse matrix in memory: row, column and value, or the start of a row; what a file states may be false.
_ENTRY_BYTES = 16
# Of a row of a Parquet file as text; a few bytes state any number of rows.
_ROW_BYTES, _ROWS_AT_ONCE = 500, 2**16
# Of Visium HD, by the folder that Space Ranger puts it in, and the smallest bins in which something is counted: a cell
# spans 8 to 20 µm.
_BINS, _LEAST_BIN_UM = re.compile(r"(?:^|/)(square_\d+um)/"), 8


def read_visium(path: str | Path) -> anndata.AnnData:
    """Spots in tissue of Space Ranger's `outs` folder or a zip of it, at any depth inside.

    Needed are filtered_feature_bc_matrix.h5 or the folder filtered_feature_bc_matrix with its three files, and
    spatial/tissue_positions.csv (or tissue_positions_list.csv, or tissue_positions.parquet). Of Visium HD, one of the
    folders of bins of 8 µm or more, such as square_016um: each bin is a spot. Genes are named by symbol, with Ensembl
    ids in var["gene_id"]; where a symbol stands for several genes, the one of most counts is kept.

    Returns and raises what `nsl.spots.tables.read_spots` does; SpotsError also where a file is missing, there twice,
    damaged, or larger than `nsl.spots.files.MAX_BYTES`.
    """
    path = Path(path)
    with readable(path.name), files_in(path) as files:
        _require_one_bin_size(path.name, files)
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


def _require_one_bin_size(name: str, files: Files) -> None:
    """SpotsError where Visium HD's bins of several sizes are there, which it names."""
    bins = sorted({found[1] for file in files if file.endswith(_PARQUET) and (found := _BINS.search(file))})
    if len(bins) > 1:
        raise SpotsError(
            f"{name} is of Visium HD and holds bins of {len(bins)} sizes ({', '.join(bins)}); give one of these "
            "folders, best square_016um or larger"
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
    wanted = _tissue_positions(positions, files[positions]()).table.sort_index().astype(float)
    for other in (file for file in files if file != positions and file.endswith(_POSITION_ENDINGS)):
        if not _tissue_positions(other, files[other]()).table.sort_index().astype(float).equals(wanted):
            raise SpotsError(f"{name} holds {positions} and {other}, which differ; leave one of them out")


def read_files(name: str, files: Files, matrix: str, positions: str) -> anndata.AnnData:
    """What `read_visium` returns, from the paths of the matrix and the positions among the files of `name`."""
    features = _h5_features(matrix, files[matrix]()) if matrix.endswith(".h5") else _mtx_features(name, files, matrix)
    is_gene = features.kind == "Gene Expression"
    counts, notices = by_symbol(
        name, features.values[:, is_gene], features.barcodes, features.symbol[is_gene], features.gene_id[is_gene]
    )
    # Cells told apart by Space Ranger 4 have scales of their own in another folder.
    beside = [file for file in files if file.rpartition("/")[0] == positions.rpartition("/")[0]]
    factors = only(name, beside, "scalefactors_json.json") or only(name, files, "scalefactors_json.json")
    with readable(Path(factors or name).name):
        scales = json.loads(files[factors]()) if factors else {}
        of_images = image_scales(scales)
    if "bin_size_um" in scales:
        notices = [*notices, _told_bins(name, float(scales["bin_size_um"]))]
    return placed(counts, _tissue_positions(positions, files[positions]()), notices, of_images)


def _told_bins(name: str, bin_um: float) -> str:
    """What to know of Visium HD's bins; SpotsError where they are too small to be of use."""
    if not bin_um >= _LEAST_BIN_UM:
        raise SpotsError(
            f"{name} is of Visium HD in bins of {bin_um:g} µm, in which next to nothing is counted; give square_008um "
            "or, better, square_016um"
        )
    return (
        f"{name} is of Visium HD in bins of {bin_um:g} µm, much smaller than a tile: each is compared with the tile "
        "around it, and holds few counts."
    )


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
    if name.endswith(".parquet"):
        return positions_of(Path(name).name, _parquet_texts(name, content))
    table = pd.read_csv(io.BytesIO(unpacked(name, content)), header=None, dtype=str, na_filter=False)
    if {*_POSITION_COLUMNS[-2:]} <= {*table.iloc[0]}:
        table = table.iloc[1:].set_axis(table.iloc[0], axis=1)
    else:
        table = table.rename(columns=dict(enumerate(_POSITION_COLUMNS)))
    return positions_of(Path(name).name, table)


def _parquet_texts(name: str, content: bytes) -> pd.DataFrame:
    """The columns of positions in a Parquet file, as text like those of any other table."""
    from pyarrow import parquet  # which takes long to import

    file = parquet.ParquetFile(io.BytesIO(content))
    require_bytes(name, file.metadata.num_rows * _ROW_BYTES)
    columns = [column for column in _POSITION_COLUMNS if column in file.schema_arrow.names]
    rows, parts = 0, []
    for part in file.iter_batches(_ROWS_AT_ONCE, columns=columns, use_threads=False):
        rows += part.num_rows
        require_bytes(name, rows * _ROW_BYTES)
        parts.append(part.to_pandas(ignore_metadata=True).astype(str))
    return pd.concat(parts) if parts else pd.DataFrame(columns=columns)
