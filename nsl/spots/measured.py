"""Measured expression as instruments and toolkits write it: Space Ranger's folder or a zip of it, h5ad, tables.

Every reader returns what `nsl.spots.tables.read_spots` does.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anndata
import numpy as np

from nsl.errors import SpotsError
from nsl.spots.files import content, readable, require_unpacked
from nsl.spots.h5ad import read_h5ad
from nsl.spots.tables import header_of, layout_of, read_spots, single_column
from nsl.spots.visium import POSITIONS, read_files, read_visium, refuse_packed

LEAST_SHARE_OF_COUNTS = 0.02
"""Of the median spot's counts, that a spot must have to be looked at."""


def read_measured(paths: Sequence[Path]) -> anndata.AnnData:
    """Measured expression from whatever a user gave: one zip, folder or .h5ad, or two files, in any order.

    Two files are a table of raw counts and a table of positions, told by their columns, or Space Ranger's .h5 and its
    tissue positions. Returns and raises what `nsl.spots.tables.read_spots` does, without the spots that are nearly
    empty.
    """
    return _without_empty_spots(_read(paths))


def _without_empty_spots(measured: anndata.AnnData) -> anndata.AnnData:
    """Without spots so far below the others' counts that what they hold is chance: a single one can hide a gene."""
    counts = np.asarray(measured.X.sum(axis=1)).ravel()
    least = max(LEAST_SHARE_OF_COUNTS * float(np.median(counts)), 1)
    kept = counts >= least
    if kept.all() or not kept.any():
        return measured
    left = measured[kept].copy()
    left.uns["notices"] = [
        *measured.uns["notices"],
        f"{(~kept).sum():,} of {len(kept):,} spots {'was' if (~kept).sum() == 1 else 'were'} left out as nearly empty, "
        f"with fewer than {least:,.0f} counts, where the median spot has {np.median(counts):,.0f}.",
    ]
    return left


def _read(paths: Sequence[Path]) -> anndata.AnnData:
    paths = [Path(path) for path in paths]
    suffixes = [path.suffix.lower() for path in paths]
    if len(paths) == 1 and (suffixes == [".zip"] or paths[0].is_dir()):
        return read_visium(paths[0])
    if suffixes == [".h5ad"]:
        return read_h5ad(paths[0])
    refuse_packed(path.name for path in paths)
    if len(paths) == 2 and sorted(suffix == ".h5" for suffix in suffixes) == [False, True]:
        matrix, positions = sorted(paths, key=lambda path: path.suffix.lower() != ".h5")
        with readable(f"{matrix.name} with {positions.name}"):
            files = {matrix.name: partial(content, matrix), positions.name: partial(content, positions)}
            return read_files(matrix.name, files, matrix.name, positions.name)
    if len(paths) == 2 and not {".zip", ".h5ad", ".h5", ".parquet"} & set(suffixes):
        return _two_tables(*paths)
    given = ", ".join(path.name for path in paths) if paths else "nothing"
    raise SpotsError(
        f"measured expression cannot be read from {given}; give a zip of Space Ranger's outs folder, its "
        f"filtered_feature_bc_matrix.h5 with its {POSITIONS[0]}, an .h5ad, or two tables (CSV or TSV): raw counts with "
        "a row a spot, and spot positions"
    )


def _two_tables(first: Path, second: Path) -> anndata.AnnData:
    for path in (first, second):
        with readable(path.name):
            require_unpacked(path)
    headers = [header_of(path) for path in (first, second)]
    has_positions = [layout_of(header) is not None for header in headers]
    if has_positions == [True, False]:
        return read_spots(second, first)
    if has_positions == [False, True]:
        return read_spots(first, second)
    for path, header, is_one in zip((first, second), headers, has_positions, strict=True):
        if not is_one and len(header) == 1:
            raise SpotsError(single_column(path.name))
    which = "both can" if all(has_positions) else "neither can"
    seen = "; ".join(f"{path.name} has {_some(header)}" for path, header in zip((first, second), headers, strict=True))
    raise SpotsError(
        f"of {first.name} and {second.name} {which} be the table of positions, which has columns spot, x_px, y_px or "
        f"x, y, pixel_x, pixel_y ({seen}); give one such table, and one of raw counts with a row a spot"
    )


def _some(header: Sequence[str]) -> str:
    named = [name for name in header if name]  # R leaves the column of the spots without
    return ", ".join(named[:4]) + (", …" if len(named) > 4 else "")
