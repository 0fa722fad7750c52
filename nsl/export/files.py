"""Results as files: CSV with its provenance, h5ad, GeoJSON for QuPath, printed maps, and all of them as a zip."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import anndata
import numpy as np
import pandas as pd

from nsl.errors import NslError
from nsl.numerals import count_of, csv_table, six_digits
from nsl.result import KINDS_IN_WORDS, Provenance, caveats, map_of, values_of
from nsl.signatures import EXPRESSION_UNIT, SCORE_UNIT, as_columns, as_table, counted, is_signature
from nsl.slides.annotations.region import Region
from nsl.slides.annotations.tiles import classes_of
from nsl.stats.moran import with_morans_i
from nsl.system.disk import require_names, write_whole
from nsl.weights.reliability import has_held_up, most_reliable_first

DECIMALS = 4
REGION_COLUMNS = ("region", "region_class")
"""Of `obs` where regions were annotated on the slide."""
# QuPath holds every measurement of every object in memory, and lists all of their names.
GEOJSON_GENES = 50
MAX_MAPS = 20
"""Genes drawn at once where every gene is a picture."""

# Rows turned into text at once, so that a large result does not stand in memory as text and as numbers.
_ROWS = 256
# Digits pack hardly better at higher levels, and take four times as long.
_DEFLATE_LEVEL = 3


def tile_table(result: anndata.AnnData) -> pd.DataFrame:
    """One row a tile: its name, place in the grid, centre in µm and level-0 pixels, tissue, shares of ink and the like,
    region, signatures, genes.

    The shares (`nsl.quality.KINDS`) are columns where quality was checked, and empty where a tile is too small to tell;
    region and class where the result has them (`nsl.slides.annotations.tiles.annotate`).
    """
    result = as_columns(result)
    genes = pd.DataFrame(np.round(result.X, DECIMALS), index=result.obs_names, columns=result.var_names)
    return pd.concat([_place_table(result), genes], axis=1).rename_axis("tile")


def _place_table(result: anndata.AnnData) -> pd.DataFrame:
    place = result.obs[["array_row", "array_col", "x_um", "y_um"]]
    x_px, y_px = result.obsm["spatial"].T
    centre = pd.DataFrame({"x_px": x_px, "y_px": y_px}, index=result.obs_names)
    shares = ["tissue_fraction", *(kind for kind in KINDS_IN_WORDS if kind in result.obs)]
    table = pd.concat([place, centre, result.obs[shares]], axis=1)
    positions = ["x_um", "y_um", "x_px", "y_px"]
    table[positions] = table[positions].round(2)
    table[shares] = table[shares].round(DECIMALS)
    given = [column for column in REGION_COLUMNS if column in result.obs]
    return table.join(result.obs[given].astype(str)).rename_axis("tile")


def provenance(result: anndata.AnnData) -> dict:
    """How a result came to be, as JSON can hold it: `uns["nsl"]` with arrays as lists, NaN as None, sets by name."""
    told = dict(result.uns["nsl"])
    sets = told.pop("signatures", None)
    plain = {key: _finite(np.asarray(value).tolist()) for key, value in told.items()}
    return plain if sets is None else plain | {"signatures": json.loads(sets.to_json(orient="index"))}


def _finite(value):
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def provenance_text(result: anndata.AnnData) -> str:
    """The provenance as indented JSON."""
    return json.dumps(provenance(result), indent=1) + "\n"


def csv_text(result: anndata.AnnData, *, header_comments: bool = False) -> str:
    """The tile table as CSV; with `header_comments`, `# key: value` lines of its provenance lead it."""
    comments, result = "", as_columns(result)
    if header_comments:
        comments = "".join(f"# {key}: {json.dumps(value)}\n" for key, value in provenance(result).items())
    # pandas and pyarrow take 9 and 3 times as long over the genes, which are nearly all of the text.
    places = csv_table(_place_table(result), header=False).splitlines()
    header = csv_table(tile_table(result[:0]))
    rows = (f"{place},{','.join(cells)}\n" for place, cells in zip(places, _cells(result.X), strict=True))
    return comments + header + "".join(rows)


def _cells(values: np.ndarray) -> Iterator[list[str]]:
    """Row by row, numbers as text of at most `DECIMALS` decimals; nothing where a number is NaN."""
    for start in range(0, len(values), _ROWS):
        block = np.round(values[start : start + _ROWS], DECIMALS)
        # So rounded, few numbers differ: each is turned into text once.
        codes, numbers = pd.factorize(block.ravel())
        texts = [np.format_float_positional(number + 0.0, trim="0") for number in numbers]
        yield from np.array([*texts, ""], object)[codes.reshape(block.shape)].tolist()


def csv_files(
    result: anndata.AnnData, stem: str, *, header_comments: bool = False, genes: pd.DataFrame | None = None
) -> dict[str, str]:
    """The tile table, the reliability of its genes and its provenance: text by file name.

    genes : what `with_morans_i` gives of the result with its signatures as columns, where it was asked already.
    """
    result = as_columns(result)
    return {
        f"{stem}.csv": csv_text(result, header_comments=header_comments),
        f"{stem}.genes.csv": csv_table(with_morans_i(result) if genes is None else genes, index_label="gene"),
        f"{stem}.provenance.json": provenance_text(result),
    }


def csv_zip(result: anndata.AnnData, stem: str) -> bytes:
    """`csv_files` as one zip; the same result gives the same bytes."""
    return zipped(csv_files(result, stem))


def geojson_text(result: anndata.AnnData, genes: Sequence[str] | None = None) -> str:
    """Tiles as GeoJSON that QuPath 0.4 or newer imports as detections with measurements.

    Every tile is a Feature: a square Polygon in pixels of level 0, `properties.objectType` "tile", the tile's name, the
    class of its region where it has one, and as `properties.measurements` its share of tissue and the genes. A tile is
    what QuPath calls a detection that stands for a region and no structure (PathTileObject, a subclass of
    PathDetectionObject): it is listed, mapped in colour and exported with the detections, but not mistaken for a cell.
    A number that is not finite is left out, which QuPath shows as missing. Ids are made of slide, grid and tile: the
    same tile has the same id in every export. The member `provenance`, which QuPath passes over, says how the numbers
    came to be.

    QuPath crops slides with empty surroundings (MIRAX, Leica SCN) to what was scanned; there the squares are off by the
    crop. Schema: QuPathTypeAdapters.java of QuPath, and
    https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html.

    genes : which to write, in this order; all if not given. QuPath takes some dozens with ease.

    Raises NslError: the result has no such gene.
    """
    result = as_columns(result)
    genes = list(result.var_names if genes is None else dict.fromkeys(genes))
    unknown = [gene for gene in genes if gene not in result.var_names]
    if unknown:
        raise NslError(f"{unknown[0]} is not among the {counted(result.var_names)} of this result; predict it first")
    known = Provenance.of(result)
    half = known.tile_um / known.mpp / 2
    grid = f"{known.slide_sha256}/{known.tile_um:g}/{known.stride_um:g}"
    values = np.column_stack([result.obs["tissue_fraction"], values_of(result, genes)])
    values[~np.isfinite(values)] = np.nan
    names = [f"{json.dumps(name)}:" for name in ("tissue fraction", *genes)]
    features, no_class = [], [""] * result.n_obs
    # QuPath takes a class as text, and gives it the colour that it has in the project.
    classes = [
        f'"classification":{json.dumps(one)},' if one else "" for one in result.obs.get("region_class", no_class)
    ]
    tiles = zip(result.obs_names, classes, result.obsm["spatial"], _cells(values), strict=True)
    for tile, classified, (x, y), cells in tiles:
        left, top, right, bottom = (round(float(side), 2) for side in (x - half, y - half, x + half, y + half))
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        measured = ",".join([name + cell for name, cell in zip(names, cells, strict=True) if cell])
        features.append(
            f'{{"type":"Feature","id":"{uuid5(NAMESPACE_URL, f"nsl:{grid}/{tile}")}",'
            f'"geometry":{{"type":"Polygon","coordinates":[{json.dumps(ring)}]}},'
            f'"properties":{{"objectType":"tile","name":{json.dumps(tile)},{classified}"measurements":{{{measured}}}}}}}'
        )
    listed, about = ",\n".join(features), json.dumps(provenance(result))
    return f'{{"type":"FeatureCollection","provenance":{about},"features":[\n{listed}\n]}}\n'


def everything_zip(
    result: anndata.AnnData,
    stem: str,
    *,
    figure_genes: Sequence[str] = (),
    qupath_genes: Sequence[str] | None = None,
    extra: Mapping[str, tuple[str, bytes | str]] | None = None,
) -> bytes:
    """All a result can be written as, in one zip, with a README.txt that says what each file is.

    The same result gives the same bytes, under the same versions of the libraries that write h5ad and PNG, and on the
    same day: it stands under maps.

    stem : what the files' names start with.
    figure_genes : genes whose maps are drawn, from their 2nd to their 98th percentile.
    qupath_genes : those in the GeoJSON; of `genes_for_qupath` if not given.
    extra : further files: by their names in the zip, what they are and what they hold.
    """
    result = as_columns(result)
    genes = genes_for_qupath(result) if qupath_genes is None else list(qupath_genes)
    known = with_morans_i(result)
    files: dict[str, bytes | str] = {
        **csv_files(result, stem, genes=known),
        f"{stem}.h5ad": h5ad_bytes(result, known),
        f"{stem}.geojson": geojson_text(result, genes),
        **{f"{stem}.{file_part(gene)}.png": _map_png(result, gene, stem) for gene in figure_genes},
    }
    extra = extra or {}
    about = _readme(result, stem, genes, figure_genes, {name: what for name, (what, _) in extra.items()})
    return zipped({"README.txt": about, **files, **{name: content for name, (_, content) in extra.items()}})


def genes_for_qupath(result: anndata.AnnData, first: Sequence[str] = ()) -> list[str]:
    """Every gene of a short list; of a long one those of `first`, then the most reliable that held up."""
    if result.n_vars <= GEOJSON_GENES:
        return list(result.var_names)
    reliable = most_reliable_first(result.var[has_held_up(result.var)])
    return list(dict.fromkeys([*first, *reliable.index]))[:GEOJSON_GENES]


def _readme(
    result: anndata.AnnData, stem: str, genes: Sequence[str], figure_genes: Sequence[str], extra: Mapping[str, str]
) -> str:
    known = Provenance.of(result)
    looked_at = "" if genes == genes_for_qupath(result) else "those looked at and "
    some = f"{counted(genes)}, {looked_at}the most reliable"
    measured = "every gene" if len(genes) == result.n_vars else some if genes else "no gene, as all are unreliable"
    sets = [name for name in result.var_names if is_signature(name)]
    units = f", as {EXPRESSION_UNIT}" + (f", of a signature as the {SCORE_UNIT}" if sets else "")
    lines = {
        f"{stem}.csv": f"the prediction: one row for each of {count_of(result.n_obs, 'tile')}, one column for each of "
        f"{counted(result.var_names)}{units}; before them what share of the tile is tissue, and of what it shows "
        "beside glass, ink and the like",
        f"{stem}.genes.csv": "how well each gene was predicted where it was held out (Pearson r, interval, q-value, "
        "r beyond what all genes have in common), how far to trust it, and how smooth its map is (Moran's I; any "
        "predicted map is smooth: compare genes of this slide alone)",
        f"{stem}.provenance.json": "how the prediction came to be: weights, slide (by checksum), scale, tiles, stains",
        f"{stem}.h5ad": "all of the above with a small image of the slide, for scanpy and squidpy (AnnData)",
        f"{stem}.geojson": f"the tiles with {measured}, to drop on the slide in QuPath 0.4 or newer; where QuPath "
        "crops a slide (MRXS, SCN) they are off by the crop",
    }
    for gene in figure_genes:
        lines[f"{stem}.{file_part(gene)}.png"] = f"the map of {gene}, to print"
    lines |= extra
    said = [
        f"Gene expression predicted from the colour of H&E by NSL {known.version}.",
        "For research use only; not a diagnostic device.",
        *caveats(result),
        f"Tiles of {known.tile_um:g} µm, every {known.stride_um:g} µm. Weights: {known.weights_id}.",
    ]
    return "\n".join([*said, "", *(f"{name}\n    {what}" for name, what in lines.items())]) + "\n"


def zipped(files: Mapping[str, bytes | str]) -> bytes:
    """Files by name as one zip; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            # The time and the system of writing would make equal results differ.
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            packed = name.endswith((".png", ".h5ad"))
            entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content, compresslevel=_DEFLATE_LEVEL)
    return buffer.getvalue()


def file_part(gene: str) -> str:
    """A gene's name as part of a file's name: all but letters, digits, `-`, `_` and `.` as `%` and their code."""
    return "".join(c if c.isalnum() or c in "-_." else f"%{ord(c):02X}" for c in gene)


def names_of(form: str, stem: str, columns: Sequence[str]) -> list[str]:
    """Names of the files that `FORMATS[form]` writes for a slide of this stem, of genes and signatures `columns`."""
    if form == "spatialdata":
        return [f"{stem}.zarr"]
    if form == "csv":
        return [f"{stem}.{end}" for end in ("csv", "genes.csv", "provenance.json")]
    return [f"{stem}.{file_part(column)}.png" for column in columns] if form == "png" else [f"{stem}.{form}"]


def write_csv(result: anndata.AnnData, path: Path, *, header_comments: bool = False) -> None:
    """Write the tile table to `path`, and beside it `<name>.genes.csv` and `<name>.provenance.json`."""
    files = csv_files(result, path.stem, header_comments=header_comments)
    paths = [path, *map(path.with_name, list(files)[1:])]
    _write_all(
        {
            file: lambda part, text=text: part.write_text(text, encoding="utf-8")
            for file, text in zip(paths, files.values(), strict=True)
        }
    )


REGIONS_BEGIN = "class,gene,"
"""How the table of `write_regions` begins."""


def write_regions(result: anndata.AnnData, path: Path) -> None:
    """Write how each class of regions differs from the rest, signature by signature and gene by gene.

    Raises NslError: see `nsl.stats.regions.compare_classes`.
    """
    from nsl.stats.regions import compare_classes  # SciPy and scikit-image, which other tables do without

    result = as_columns(result)
    text = six_digits(compare_classes(result, classes_of(result)))
    _write(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_h5ad(
    result: anndata.AnnData, path: Path, *, compression: str | None = "gzip", genes: pd.DataFrame | None = None
) -> None:
    """Write the whole result, the slide's small image included, for scanpy and squidpy.

    compression : of HDF5; None takes a fifth more of the disk, and a thirtieth of the time.
    genes : what `with_morans_i` gives of the result, where it was asked already.
    """
    result = as_table(result)
    parts = {name: getattr(result, name) for name in ("X", "obs", "obsm", "layers", "uns")}
    whole = anndata.AnnData(**parts, var=with_morans_i(result, genes))
    _write(path, lambda part: whole.write_h5ad(part, compression=compression))


def write_geojson(result: anndata.AnnData, path: Path) -> None:
    """Write every tile with every gene of the result, see `geojson_text`."""
    text = geojson_text(result)
    _write(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_png(result: anndata.AnnData, path: Path, regions: Sequence[Region] = ()) -> None:
    """Write a map of every gene beside `path`, as `<name>.<gene>.png`, from its 2nd to its 98th percentile.

    regions : to outline on them.
    """
    result = as_columns(result)
    places = dict(zip(result.var_names, names_of("png", path.stem, result.var_names), strict=True))
    require_names(path.parent, places.values())
    for gene, name in places.items():
        picture, place = _map_png(result, gene, path.stem, regions), path.with_name(name)
        _write(place, lambda part, picture=picture: part.write_bytes(picture))


def write_html(result: anndata.AnnData, path: Path, **more) -> None:
    """Write the page for the meeting; `more` is what `nsl.export.report.report_html` takes beside result and name."""
    from nsl.export.report import report_html  # Matplotlib and Jinja, which a table does without

    text = report_html(result, path.stem, **more)
    _write(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_spatialdata(result: anndata.AnnData, path: Path) -> None:
    """Write the tiles as shapes over the slide's small image, see `nsl.export.spatial_data`."""
    from nsl.export.spatial_data import write_spatialdata as write  # an optional package

    write(result, path)


def _map_png(result: anndata.AnnData, gene: str, slide_name: str, regions: Sequence[Region] = ()) -> bytes:
    from nsl.export.print import map_png
    from nsl.figures.maps import percentile_limits  # Plotly and Matplotlib, which a table does without

    limits = percentile_limits(map_of(result, gene))
    return map_png(result, gene, limits=limits, slide_name=slide_name, regions=regions)


def h5ad_bytes(result: anndata.AnnData, genes: pd.DataFrame | None = None) -> bytes:
    """What `write_h5ad` writes; the same result gives the same bytes."""
    with tempfile.TemporaryDirectory() as folder:  # anndata writes to paths alone
        path = Path(folder) / "result.h5ad"
        write_h5ad(result, path, genes=genes)
        return path.read_bytes()


FORMATS: dict[str, Callable[..., None]] = {
    "csv": write_csv,
    "h5ad": write_h5ad,
    "geojson": write_geojson,
    "png": write_png,
    "html": write_html,
    "spatialdata": write_spatialdata,
}


def _write(path: Path, write: Callable[[Path], object]) -> None:
    _write_all({path: write})


def _write_all(files: Mapping[Path, Callable[[Path], object]]) -> None:
    first = next(iter(files))
    require_names(first.parent, [path.name for path in files])
    write_whole(files)
