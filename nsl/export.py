"""Results as files: CSV with its provenance, and h5ad."""

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from nsl.errors import NslError

DECIMALS = 4


def tile_table(result: anndata.AnnData) -> pd.DataFrame:
    """One row a tile: its name, place in the grid, centre in µm and level-0 pixels, tissue, then every gene."""
    place = result.obs[["array_row", "array_col", "x_um", "y_um"]]
    x_px, y_px = result.obsm["spatial"].T
    centre = pd.DataFrame({"x_px": x_px, "y_px": y_px}, index=result.obs_names)
    genes = pd.DataFrame(np.round(result.X, DECIMALS), index=result.obs_names, columns=result.var_names)
    table = pd.concat([place, centre, result.obs[["tissue_fraction"]], genes], axis=1)
    positions = ["x_um", "y_um", "x_px", "y_px"]
    table[positions] = table[positions].round(2)
    table["tissue_fraction"] = table["tissue_fraction"].round(DECIMALS)
    return table.rename_axis("tile")


def gene_table(result: anndata.AnnData) -> pd.DataFrame:
    """One row a gene: how it was predicted where it was held out; NaN for genes that could not be told."""
    return result.var.rename_axis("gene")


def provenance(result: anndata.AnnData) -> dict:
    """How a result came to be, as JSON can hold it: `uns["nsl"]` with arrays as lists and NaN as None."""
    plain = {}
    for key, value in result.uns["nsl"].items():
        plain[key] = _finite(np.asarray(value).tolist())
    return plain


def _finite(value):
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def csv_text(result: anndata.AnnData, *, header_comments: bool = False) -> str:
    """The tile table as CSV, led by `# key: value` lines of its provenance only when asked for."""
    comments = ""
    if header_comments:
        comments = "".join(f"# {key}: {json.dumps(value)}\n" for key, value in provenance(result).items())
    return comments + tile_table(result).to_csv(lineterminator="\n")


def provenance_text(result: anndata.AnnData) -> str:
    """The provenance as indented JSON."""
    return json.dumps(provenance(result), indent=1) + "\n"


def csv_zip(result: anndata.AnnData, stem: str) -> bytes:
    """The CSV, the reliability of its genes and its provenance as one zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{stem}.csv", csv_text(result))
        archive.writestr(f"{stem}.genes.csv", gene_table(result).to_csv(lineterminator="\n"))
        archive.writestr(f"{stem}.provenance.json", provenance_text(result))
    return buffer.getvalue()


def write_csv(result: anndata.AnnData, path: Path, *, header_comments: bool = False) -> None:
    """Write the tile table to `path`, and beside it `<name>.genes.csv` and `<name>.provenance.json`."""
    texts = {
        path: csv_text(result, header_comments=header_comments),
        path.with_name(f"{path.stem}.genes.csv"): gene_table(result).to_csv(lineterminator="\n"),
        path.with_name(f"{path.stem}.provenance.json"): provenance_text(result),
    }
    for file, text in texts.items():
        _write(file, lambda part, text=text: part.write_text(text, encoding="utf-8"))


def write_h5ad(result: anndata.AnnData, path: Path) -> None:
    """Write the whole result, the slide's small image included, for scanpy and squidpy."""
    _write(path, lambda part: result.write_h5ad(part, compression="gzip"))


FORMATS: dict[str, Callable[..., None]] = {"csv": write_csv, "h5ad": write_h5ad}


def _write(path: Path, write: Callable[[Path], object]) -> None:
    # Written beside and renamed, so that a full disk cannot leave half a file under the final name.
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise NslError(f"{path.name} cannot be written ({error.strerror or error}); choose another folder") from None
