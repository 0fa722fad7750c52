"""Measured expression: spot tables as AnnData, and the manifest that lists many sections.

Counts are sparse wherever they are read: a Visium section of 5,000 spots × 30,000 genes is 600 MB dense and a fifth of
that sparse. What is dense is the expression of chosen genes, from `expression_of`.
"""

import contextlib
import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from nsl.errors import SpotsError, in_a_line, require_once
from nsl.genes import separator_of

MANIFEST_COLUMNS = ["section", "patient", "image", "mpp", "spots", "counts"]
COUNTS_PER_SPOT = 10_000
UNITS = "log1p of counts per 10,000"
MOST_COUNTS = 2**24 - 1
"""Of a gene in a spot: up to it 32-bit floats hold every whole number, and no spot comes near it."""
_THOUSANDS = r"[+-]?[1-9]\d{0,2}(,\d{3})+"
# Of a table of counts, read at once: 120 MB where it holds 30,000 genes.
_ROWS_AT_ONCE = 500
# Of a table: every gene and transcript of a genome is a quarter of a million.
_MOST_COLUMNS, _MOST_HEADER_BYTES = 500_000, 2**24


@dataclass(frozen=True)
class Section:
    """One line of a manifest: a stained section with measured spots."""

    name: str
    patient: str
    image: Path
    mpp: float | None
    """µm/px of the image as stored; None where the image's own metadata is to be taken."""
    spots: Path
    """Table of spot centres in pixels of the image as stored, see `read_spots`."""
    counts: Path
    """Table of raw counts: one row a spot, named in the first column, and one column a gene."""


def read_manifest(path: str | Path) -> list[Section]:
    """Sections of a manifest CSV; relative paths in it start from the manifest's own folder.

    Raises SpotsError: the file cannot be read, lacks a column or a value, has a column or a section twice, or names a
        file that does not exist.
    """
    path = Path(path)
    table = read_table(path, dtype=str, keep_default_na=False, na_values=[""])
    require_once(path.name, header_of(path), MANIFEST_COLUMNS, SpotsError)
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
        mpp = float(row.mpp.replace(",", ".")) if isinstance(row.mpp, str) else None
    except ValueError:
        raise SpotsError(f"{where}: mpp is {row.mpp!r}, not a number of µm/px") from None
    return Section(row.section, row.patient, files["image"], mpp, files["spots"], files["counts"])


class Counts(NamedTuple):
    """Raw counts as a file holds them."""

    file: str  # its name, for messages
    values: sparse.csr_array  # (S, G) float32
    spots: pd.Index
    genes: pd.Index
    gene_id: Sequence[str] | None = None  # (G,) Ensembl ids, where the file has them


class Positions(NamedTuple):
    """Spot centres as a file holds them."""

    file: str  # its name, for messages
    table: pd.DataFrame  # indexed by spot, with columns x_px, y_px


def read_spots(counts: str | Path, spots: str | Path) -> anndata.AnnData:
    """Raw counts with spot positions: the spots that both tables name, in the order of the counts.

    counts : CSV or TSV, also gzipped; a row a spot, named in the first column, a column a gene.
    spots : CSV or TSV with columns spot, x_px, y_px; or x, y, pixel_x, pixel_y of the ST pipeline, whose spots are
        named "12x34" in the counts; or barcode, pxl_col_in_fullres, pxl_row_in_fullres of Space Ranger. Spots that
        are 0 in a column selected or in_tissue are left out.

    Returns an AnnData of S spots × G genes: X is a CSR array of float32 counts, obsm["spatial"] (S, 2) float64 x, y in
    pixels of the full-resolution image, uns["notices"] a list of sentences on what was left out.

    Raises SpotsError: a table cannot be read, a spot or gene occurs twice, counts are negative or not whole numbers, a
        position is missing, or the tables share no spot.
    """
    return placed(read_counts(Path(counts)), positions_of(Path(spots).name, read_texts(Path(spots))))


def read_counts(path: Path) -> Counts:
    """A table of raw counts, read some rows at a time. SpotsError where it is not one."""
    # pandas renames a gene that stands twice; the header as written shows it. R's lacks a name for the spots' column.
    header, *rows = _first_rows(path, 2)
    if len(header) == 1:
        raise SpotsError(single_column(path.name))
    is_spots_column_named = not rows or len(rows[0]) <= len(header)
    genes = pd.Index(header[int(is_spots_column_named) :], dtype=object)
    # Spreadsheets end rows in nothing but commas, too.
    is_named = np.array(genes != "")
    spots, parts = [], []
    # A name is text, whatever it looks like: 1, 2.30, TRUE, NA.
    options = {"header": 0, "names": range(len(genes) + 1), "converters": {0: str}, "low_memory": False}
    with _as_table(path), pd.read_csv(path, chunksize=_ROWS_AT_ONCE, **options, **_look(path)) as chunks:
        for chunk in chunks:
            names, values = chunk[0].astype(str), chunk.iloc[:, 1:].set_axis(genes, axis=1)
            if (names == "").any():  # spreadsheets end in rows of nothing but commas
                is_filled = (names != "") | values.notna().any(axis=1)
                names, values = names[is_filled], values[is_filled]
            if (names == "").any():
                raise SpotsError(f"{path.name} has counts in a row without a spot's name; fill in the first column")
            if values.loc[:, ~is_named].notna().any(axis=None):
                raise SpotsError(f"{path.name} has counts in a column without a gene's name; fill in the first row")
            spots.extend(names)
            parts.append(sparse.csr_array(_numbers(path.name, values.loc[:, is_named])))
    if not spots:
        raise SpotsError(f"{path.name} holds no counts; it needs one row a spot and one column a gene")
    return Counts(path.name, sparse.vstack(parts, format="csr"), pd.Index(spots, dtype=object), genes[is_named])


def _first_rows(path: Path, count: int) -> list[list[str]]:
    """The first rows of a table, cell by cell: pandas takes a second for a row of 30,000 texts."""
    with _as_table(path):
        lines = pd.read_csv(path, sep="\x1f", header=None, nrows=count, dtype=str, quoting=3, na_filter=False)[0]
        return list(csv.reader((f"{line}\n" for line in lines), delimiter=_look(path)["sep"], skipinitialspace=True))


def header_of(path: Path) -> list[str]:
    """The first row of a table as it is written: pandas renames a column that stands twice."""
    return _first_rows(path, 1)[0]


def single_column(name: str) -> str:
    """What to say of a table whose first row has no separator that is read."""
    return f"{name} has a single column; separate its columns by commas, semicolons or tabs"


def _numbers(name: str, table: pd.DataFrame) -> np.ndarray:
    are_flags = [dtype.kind == "b" for dtype in table.dtypes]  # which numpy would count as 0 and 1
    with contextlib.suppress(ValueError):
        if not any(are_flags):
            return table.to_numpy(np.float32)
    is_text = [dtype.kind not in "iuf" for dtype in table.dtypes]
    gene, values = table.columns[is_text][0], table.iloc[:, int(np.argmax(is_text))]
    if said := _with_commas(values):
        raise SpotsError(f"{name}: gene {gene} holds {said}")
    text = values.astype(str)[pd.to_numeric(values.astype(str), errors="coerce").isna() & values.notna()].tolist()
    shown = f" ({text[0][:40]!r})" if text else ""
    raise SpotsError(f"{name}: gene {gene} holds text{shown}; counts are whole numbers")


def _with_commas(values: pd.Series) -> str | None:
    """The first of the values that is a number but for commas, and what to do; None where there is none."""
    text = values.astype(str).str.strip()
    found = text[text.str.fullmatch(r"[+-]?\d+(,\d+)+")].tolist()
    if not found:
        return None
    if all(re.fullmatch(_THOUSANDS, one) for one in found):
        return f"{found[0]!r}, a number with a comma; save the table with points in decimals and none between thousands"
    return f"{found[0]!r}, a number with a decimal comma; save the table with points in decimals"


def _no_number(values: pd.Series) -> str | None:
    """The first of the values that is neither a number nor empty; None where there is none."""
    text = values.astype(str).str.strip()
    return next(iter(text[pd.to_numeric(text, errors="coerce").isna() & ~text.str.lower().isin(_UNKNOWN)]), None)


class _Layout(NamedTuple):
    """Columns of a table of positions, by which its origin is told."""

    spot: tuple[str, ...]
    x: str
    y: str
    keep: str  # 0 for spots to leave out, where the column is there


_LAYOUTS = (
    _Layout(("spot",), "x_px", "y_px", "selected"),
    _Layout(("x", "y"), "pixel_x", "pixel_y", "selected"),
    _Layout(("barcode",), "pxl_col_in_fullres", "pxl_row_in_fullres", "in_tissue"),
)


def layout_of(columns: Sequence[str]) -> _Layout | None:
    """How a table with these columns gives positions; None where it gives none."""
    return next((one for one in _LAYOUTS if {*one.spot, one.x, one.y} <= set(columns)), None)


def positions_of(name: str, table: pd.DataFrame) -> Positions:
    """Positions from a table of the file `name`, all of it text, laid out as `read_spots` says.

    Raises SpotsError: it names what the table lacks, or has twice.
    """
    layout = layout_of(table.columns)
    if layout is None:
        if table.shape[1] == 1:
            raise SpotsError(single_column(name))
        missing = next(column for column in ("spot", "x_px", "y_px") if column not in table)
        raise SpotsError(
            f"{name} lacks the column {missing}; it needs spot, x_px and y_px, or x, y, pixel_x and pixel_y as the ST "
            "pipeline writes them"
        )
    require_once(name, table.columns, (*layout.spot, layout.x, layout.y, layout.keep), SpotsError)
    table = table[(table != "").any(axis=1)]
    if layout.keep in table:
        table = table[is_kept(name, table[layout.keep])]
    for column in (layout.x, layout.y):
        if said := _with_commas(table[column]):
            raise SpotsError(f"{name}: {column} is {said}")
        if (said := _no_number(table[column])) is not None:
            raise SpotsError(f"{name}: {column} is {said[:40]!r}; give pixels, such as 1000.5")
    spot = table[layout.spot[0]].astype(str).str.cat([table[part].astype(str) for part in layout.spot[1:]], sep="x")
    xy = table[[layout.x, layout.y]].apply(pd.to_numeric, errors="coerce")
    return Positions(name, xy.set_axis(["x_px", "y_px"], axis=1).set_axis(pd.Index(spot), axis=0))


_NO, _YES, _UNKNOWN = ("0", "false", "f", "no", "n"), ("1", "true", "t", "yes", "y"), ("", "nan", "na", "none", "<na>")


def is_kept(name: str, flags: pd.Series) -> np.ndarray:
    """Which spots a column of the file `name` keeps: (S,) bool; False where it says 0, false or no.

    Raises SpotsError: a flag is neither a number, such a word, nor empty.
    """
    text = flags.astype(object).astype(str).str.strip().str.lower()
    number = pd.to_numeric(text, errors="coerce")
    unread = number.isna() & ~text.isin([*_NO, *_YES, *_UNKNOWN])
    if unread.any():
        raise SpotsError(
            f"{name}: {flags.name} is {str(flags[unread].iloc[0])!r}; write 1 for spots to keep and 0 for others"
        )
    return ~(text.isin(_NO) | (number == 0)).to_numpy()


def placed(
    counts: Counts,
    positions: Positions,
    notices: Sequence[str] = (),
    image_scales: Mapping[str, float] | None = None,
) -> anndata.AnnData:
    """Counts with positions, as every reader returns them: see `read_spots`.

    notices : what the reader has to say of the file already.
    image_scales : pixels of smaller images of the slide over those of the full-resolution one, by the image's name.

    Raises SpotsError: as `read_spots` does.
    """
    for what, labels in (
        (f"{counts.file}: spot", counts.spots),
        (f"{counts.file}: gene", counts.genes),
        (f"{positions.file}: spot", positions.table.index),
    ):
        if labels.has_duplicates:
            raise SpotsError(f"{what} {labels[labels.duplicated()][0]} occurs twice; keep one of the two")
    if 0 in counts.values.shape:
        raise SpotsError(f"{counts.file} holds no counts; it needs one row a spot and one column a gene")
    _require_counts(counts)
    if positions.table.empty:
        raise SpotsError(f"{positions.file} lists no spot; it needs one line a spot")
    shared = counts.spots.isin(positions.table.index)
    if not shared.any():
        raise SpotsError(_no_shared_spot(counts, positions))
    spots = counts.spots[shared]
    xy = positions.table.loc[spots].to_numpy(float)
    if not np.isfinite(xy).all():
        where = spots[~np.isfinite(xy).all(axis=1)][0]
        raise SpotsError(f"{positions.file}: spot {where} has no position in pixels; fill it in or drop the spot")
    if lost := int((~shared).sum()):
        notices = (
            *notices,
            f"{lost:,} of {len(shared):,} spots of {counts.file} {'was' if lost == 1 else 'were'} left out: "
            f"{positions.file} has no position there, or marks it as not tissue.",
        )
    var = pd.DataFrame(index=counts.genes.astype(str))
    if counts.gene_id is not None:
        var["gene_id"] = np.asarray(counts.gene_id, object)
    return anndata.AnnData(
        X=counts.values[shared],
        obs=pd.DataFrame(index=spots),
        var=var,
        obsm={"spatial": xy},
        uns={"notices": list(notices), "image_scales": dict(image_scales or {})},
    )


def _require_counts(counts: Counts) -> None:
    at = first_not_a_count(counts.values)
    if at is not None:
        row, column = np.searchsorted(counts.values.indptr, at, side="right") - 1, counts.values.indices[at]
        value = counts.values.data[at]
        remedy = "give the table before normalisation" if np.isfinite(value) else "fill it in, or drop the spot"
        least_and_most = f"from 0 to {MOST_COUNTS:,}" if MOST_COUNTS < value < np.inf else "from 0"
        raise SpotsError(
            f"{counts.file}: spot {counts.spots[row]}, gene {counts.genes[column]} is {value:.10g}; raw counts are "
            f"whole numbers {least_and_most}, {remedy}"
        )


def first_not_a_count(values: sparse.csr_array) -> int | None:
    """Where in `values.data` the first entry is that is no whole number from 0 to MOST_COUNTS; None where all are."""
    bad = ~((values.data >= 0) & (values.data <= MOST_COUNTS)) | (values.data != np.rint(values.data))
    return int(bad.argmax()) if bad.any() else None


def _no_shared_spot(counts: Counts, positions: Positions) -> str:
    said = f"{counts.file} and {positions.file} share no spot"
    if counts.genes.isin(positions.table.index).any():
        return f"{said}: spots stand in the columns of {counts.file}; transpose it, so that a row is a spot"
    first = f"the first of each are {counts.spots[0]!r} and {positions.table.index[0]!r}"
    return f"{said}: {first}; name spots alike in both"


def expression_of(measured: anndata.AnnData, genes: Sequence[str]) -> np.ndarray:
    """(S, G) float32 log1p of counts per 10,000 of the genes, in the order given; SpotsError names one not measured."""
    columns = measured.var_names.get_indexer(list(genes))
    if (columns < 0).any():
        raise SpotsError(f"the gene {genes[int((columns < 0).argmax())]} was not measured; check its spelling")
    return log_normalised(measured.X, columns)


def log_normalised(counts: np.ndarray | sparse.sparray, columns: np.ndarray | slice = slice(None)) -> np.ndarray:
    """log1p of counts per 10,000 over all genes of the table: (spots, genes) float32. Empty spots stay 0.

    counts : (spots, genes), dense or sparse; the result is dense.
    columns : genes wanted, all unless told; each spot's depth is over all genes whichever are wanted.
    """
    depth = np.maximum(np.asarray(counts.sum(axis=1)).reshape(-1, 1), 1)
    wanted = counts[:, columns]
    wanted = wanted.toarray() if sparse.issparse(wanted) else wanted
    return np.log1p(wanted * (COUNTS_PER_SPOT / depth)).astype(np.float32)


def read_table(path: Path, **options) -> pd.DataFrame:
    """A table of columns separated by commas, semicolons or tabs, also gzipped. SpotsError: why it cannot be read."""
    with _as_table(path):
        return pd.read_csv(path, **options, **_look(path))


def read_texts(path: Path) -> pd.DataFrame:
    """A table with every cell and every column's name as it is written, empty ones as "".

    Where semicolons separate columns, commas in positions are taken for the decimal points that they stand for, unless
    all may stand between thousands.
    """
    with _as_table(path):  # a name that goes over two lines leaves too few
        table = read_table(path, dtype=str, na_filter=False).set_axis(header_of(path), axis=1)
        layout = layout_of(table.columns) if _look(path)["sep"] == ";" and table.columns.is_unique else None
        for column in (layout.x, layout.y) if layout else ():
            with_comma = table[column][table[column].str.contains(",", regex=False)]
            if not with_comma.str.fullmatch(_THOUSANDS).all():
                table[column] = table[column].str.replace(",", ".", n=1, regex=False)
        return table


def _look(path: Path) -> dict[str, Any]:
    """How a table is written, as pandas' options: by its first line, and by its name where that leaves it open."""
    is_tsv = bool({suffix.lower() for suffix in path.suffixes} & {".tsv", ".txt"})
    separator = separator_of(_first_line(path).decode("latin-1"), "\t" if is_tsv else ",")
    return {"sep": separator, "skipinitialspace": True}


def _first_line(path: Path) -> bytes:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        return file.readline(_MOST_HEADER_BYTES)


def _require_columns(path: Path) -> None:
    """SpotsError at a first row that no number of genes makes so long: pandas takes a kilobyte for each column."""
    header = _first_line(path)
    if b"\0" in header:  # UTF-16, spreadsheets and other files that are no tables
        raise SpotsError(_no_plain_text(path.name))
    columns = header.count(_look(path)["sep"].encode()) + 1
    if columns > _MOST_COLUMNS or len(header) == _MOST_HEADER_BYTES:
        raise SpotsError(
            f"{path.name} has {columns:,} columns or more, and a first row longer than any list of genes; give "
            "a table with a row a spot and a column a gene"
        )


def _no_plain_text(name: str) -> str:
    return f"{name} is no plain text; save it as CSV in UTF-8, not as a spreadsheet under another name"


@contextlib.contextmanager
def _as_table(path: Path) -> Iterator[None]:
    """Turns what goes wrong in reading a table into a SpotsError."""
    try:
        _require_columns(path)
        yield
    except FileNotFoundError:
        raise SpotsError(f"{path.name} does not exist; check its path") from None
    except pd.errors.EmptyDataError:
        raise SpotsError(f"{path.name} is empty; export it again") from None
    except UnicodeDecodeError:
        raise SpotsError(_no_plain_text(path.name)) from None
    except pd.errors.ParserError as error:
        raise SpotsError(f"{path.name} cannot be read as a table ({in_a_line(error)}); give a CSV or TSV") from None
    except (OSError, ValueError, EOFError, zlib.error, csv.Error) as error:
        raise SpotsError(f"{path.name} cannot be read as a table ({in_a_line(error)}); give a CSV or TSV") from None
