"""What `nsl.export` promises: rounded plain tables, JSON that any reader takes, and no half-written file."""

import errno
import io
import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from nsl.errors import NslError
from nsl.export import csv_text, provenance, provenance_text, tile_table, write_csv, write_h5ad


@pytest.fixture
def result() -> anndata.AnnData:
    """Two tiles and two genes, of a slide on which no stain vectors could be told."""
    obs = pd.DataFrame(
        {
            "array_row": [0, 1],
            "array_col": [3, 0],
            "x_um": [525.0, 75.123456],
            "y_um": [75.0, 225.0],
            "tissue_fraction": np.array([0.123456, 1.0], np.float32),
        },
        index=["r0c3", "r1c0"],
    )
    table = anndata.AnnData(
        X=np.array([[1.23456789, 0.1], [-0.00004, 7.0]], np.float32),
        obs=obs,
        var=pd.DataFrame(index=["ERBB2", "HLA-DRB1"]),
        obsm={"spatial": np.array([[1050.004, 150.0], [150.246912, 450.0]])},
    )
    table.uns["nsl"] = {
        "weights_id": "NaN-tolerant",
        "white_point": np.array([240.0, 236.0, 240.0]),
        "mpp": 0.5,
        "tile_um": 150.0,
        "slide_stain_vectors": np.full((2, 3), np.nan),
        "stain_distance": np.nan,
    }
    return table


class DiskFull(OSError):
    def __init__(self):
        super().__init__(errno.ENOSPC, "No space left on device")


def test_numbers_are_rounded_to_what_they_mean(result):
    table = pd.read_csv(io.StringIO(csv_text(result)), index_col="tile")
    assert table.x_um.tolist() == [525.0, 75.12]
    assert table.x_px.tolist() == [1050.0, 150.25]
    assert table.tissue_fraction.tolist() == [0.1235, 1.0]
    assert table.ERBB2.tolist() == [1.2346, 0.0]


def test_no_cell_shows_the_digits_of_single_precision(result):
    cells = [cell for line in csv_text(result).splitlines()[1:] for cell in line.split(",")[1:]]
    assert max(len(cell.partition(".")[2]) for cell in cells) <= 4


def test_columns_come_in_the_order_promised(result):
    assert tile_table(result).reset_index().columns.tolist() == [
        *("tile", "array_row", "array_col", "x_um", "y_um", "x_px", "y_px", "tissue_fraction"),
        *("ERBB2", "HLA-DRB1"),
    ]


def test_making_a_table_leaves_the_result_as_it_was(result):
    before = result.copy()
    tile_table(result)
    np.testing.assert_array_equal(result.X, before.X)
    pd.testing.assert_frame_equal(result.obs, before.obs)


def test_provenance_holds_null_where_nothing_could_be_told(result):
    said = json.loads(provenance_text(result), parse_constant=pytest.fail)
    assert said["slide_stain_vectors"] == [[None] * 3] * 2
    assert said["stain_distance"] is None
    assert said["white_point"] == [240.0, 236.0, 240.0]
    assert said["mpp"] == 0.5


def test_provenance_leaves_text_that_looks_like_nan_alone(result):
    assert provenance(result)["weights_id"] == "NaN-tolerant"


def test_provenance_is_json_though_a_number_is_infinite(result):
    result.uns["nsl"]["stain_distance"] = np.inf
    said = json.loads(provenance_text(result), parse_constant=pytest.fail)
    assert said["stain_distance"] is None


def test_csv_reliability_and_provenance_lie_side_by_side_under_one_name(result, tmp_path):
    write_csv(result, tmp_path / "new/slide.ome.csv")
    names = {"slide.ome.csv", "slide.ome.genes.csv", "slide.ome.provenance.json"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == names
    assert list(pd.read_csv(tmp_path / "new/slide.ome.genes.csv").gene) == list(result.var_names)


def test_gene_names_outside_ascii_survive(result, tmp_path):
    result.var_names = ["TCRβ", "µ,x"]
    write_csv(result, tmp_path / "a.csv")
    assert pd.read_csv(tmp_path / "a.csv").columns[-2:].tolist() == ["TCRβ", "µ,x"]


@pytest.mark.parametrize("stop", [DiskFull, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "from an earlier run"])
@pytest.mark.parametrize("write", [write_csv, write_h5ad])
def test_an_interrupted_write_leaves_no_half_file_under_the_final_name(
    result, tmp_path, monkeypatch, write, before, stop
):
    def half(self_or_path, *args, **options):
        target = self_or_path if isinstance(self_or_path, Path) else args[0]
        with target.open("wb") as file:
            file.write(b"half")
        raise stop

    path = tmp_path / "slide.out"
    if before:
        path.write_text(before)
    monkeypatch.setattr(Path, "write_text", half)
    monkeypatch.setattr(anndata.AnnData, "write_h5ad", half)
    with pytest.raises((NslError, KeyboardInterrupt)):
        write(result, path)
    assert (path.read_text() if path.exists() else None) == before


@pytest.mark.parametrize("write", [write_csv, write_h5ad])
def test_a_full_disk_is_told_by_name_and_leaves_nothing_behind(result, tmp_path, monkeypatch, write):
    def full(*args, **options):
        raise DiskFull

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(anndata.AnnData, "write_h5ad", full)
    with pytest.raises(NslError, match=r"slide\.out cannot be written \(No space left on device\)"):
        write(result, tmp_path / "slide.out")
    assert not list(tmp_path.iterdir())


def test_a_reason_that_is_no_errno_is_still_told(result, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise OSError("unable to lock file")  # as h5py raises: a sentence, no errno

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", fail)
    with pytest.raises(NslError, match="unable to lock file"):
        write_h5ad(result, tmp_path / "a.h5ad")
