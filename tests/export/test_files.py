"""What `files` promises: rounded plain tables, JSON that any reader takes, and no half-written file."""

import errno
import io
import json
import uuid
import zipfile
from dataclasses import replace
from pathlib import Path

import anndata
import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nsl.errors import NslError
from nsl.export.files import (
    csv_files,
    csv_text,
    csv_zip,
    everything_zip,
    file_part,
    genes_for_qupath,
    geojson_text,
    provenance,
    provenance_text,
    tile_table,
    write_csv,
    write_geojson,
    write_h5ad,
    write_png,
)
from nsl.prediction import predict
from nsl.result import Provenance, caveats
from nsl.slides.slide import open_slide
from nsl.stats import moran
from nsl.weights.folder import load_weights

PROVENANCE = Provenance(
    weights_id="NaN-tolerant",
    weights_source="embedded",
    weights_revision="embedded",
    weights_sha256="b3d2f1",
    slide_sha256="5a17de",
    units="log1p of counts per 10,000",
    heldout_left_out="patient",
    heldout_groups=3,
    white_point=np.array([240.0, 236.0, 240.0]),
    white_point_source="background",
    mpp=0.5,
    tile_um=150.0,
    stride_um=150.0,
    analysis_mpp=3.0,
    min_tissue=0.3,
    complete=True,
    slide_stain_vectors=np.full((2, 3), np.nan),
    stain_angles_degrees=np.full(2, np.nan),
    training_spread_degrees=np.array([5.0, 10.0]),
    transfer=np.eye(3),
    transfer_source=np.eye(3)[:2],
    transfer_target=np.eye(3)[:2],
    transfer_strengths=np.ones(2),
    transfer_residual=np.nan,
    stain_distance=np.nan,
    version="0.1.0",
)


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
    table.uns["nsl"] = PROVENANCE.as_uns()
    return table


@pytest.fixture
def predicted(section_png, tiny_weights) -> anndata.AnnData:
    """The small section, predicted for three genes in tiles of 100 µm."""
    with open_slide(section_png, mpp=1) as slide:
        return predict(slide, load_weights(tiny_weights))


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


def test_the_zip_of_everything_asks_once_how_smooth_maps_are_and_says_it_twice(predicted, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(moran, "morans_i", lambda result, real=moran.morans_i: asked.append(1) or real(result))
    with zipfile.ZipFile(io.BytesIO(everything_zip(predicted, "a"))) as files:
        table = pd.read_csv(io.BytesIO(files.read("a.genes.csv")), index_col="gene")
        files.extract("a.h5ad", tmp_path)
    var = anndata.read_h5ad(tmp_path / "a.h5ad").var
    assert asked == [1]
    assert table.morans_i.notna().all()
    np.testing.assert_allclose(table.morans_i[var.index], var.morans_i)


def test_shares_of_what_is_no_tissue_stand_before_the_region(result):
    result.obs = result.obs.assign(ink=[0.04567, 0], fold=[np.nan, 0.2], region=["", "Front"], region_class="")
    table = pd.read_csv(io.StringIO(csv_text(result)), index_col="tile")
    assert list(table.columns[6:]) == ["tissue_fraction", "ink", "fold", "region", "region_class", *result.var_names]
    assert table.ink.tolist() == [0.0457, 0.0]
    assert table.fold.isna().tolist() == [True, False]


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


def table_of(tiles: int, genes: int, seed: int = 0) -> anndata.AnnData:
    """A result with nothing but tiles in one row, and values of which some are tiny, whole, negative or missing."""
    rng = np.random.default_rng(seed)
    values = rng.normal(1, 2, (tiles, genes)).astype(np.float32)
    values[0, :4] = 0.00012, 3, -0.00001, np.nan
    column = np.arange(tiles)
    obs = pd.DataFrame(
        {"array_row": 0, "array_col": column, "x_um": column + 0.5, "y_um": 0.5}, index=column.astype(str)
    )
    obs["tissue_fraction"] = rng.uniform(0.3, 1, tiles).astype(np.float32)
    result = anndata.AnnData(X=values, obs=obs, var=pd.DataFrame(index=[f"G{number}" for number in range(genes)]))
    result.obsm["spatial"] = obs[["x_um", "y_um"]].to_numpy()
    result.uns["nsl"] = replace(PROVENANCE, tile_um=1.0, stride_um=1.0, mpp=1.0).as_uns()
    return result


def test_csv_reads_back_as_what_pandas_writes_of_the_table():
    result = table_of(tiles=600, genes=7)
    result.var_names = ["plain", 'with "quotes"', "a,b", "TCRβ", "e", " f", "g"]
    ours = pd.read_csv(io.StringIO(csv_text(result)))
    theirs = pd.read_csv(io.StringIO(tile_table(result).to_csv()))
    pd.testing.assert_frame_equal(ours, theirs)
    assert len(ours) == 600


def test_numbers_are_written_plainly(result):
    result.X = np.array([[0.0001, 12345.5], [-0.00004, 3]], np.float32)
    rows = [line.split(",")[-2:] for line in csv_text(result).splitlines()[1:]]
    assert rows == [["0.0001", "12345.5"], ["0.0", "3.0"]]


def test_the_zip_holds_what_is_written_side_by_side_and_the_same_bytes_each_time(result, tmp_path):
    write_csv(result, tmp_path / "a.b.csv")
    packed = csv_zip(result, "a.b")
    assert packed == csv_zip(result, "a.b")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        read = {name: archive.read(name).decode() for name in archive.namelist()}
    assert read == {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert read == csv_files(result, "a.b")


def test_gene_names_outside_ascii_survive(result, tmp_path):
    result.var_names = ["TCRβ", "µ,x"]
    write_csv(result, tmp_path / "a.csv")
    assert pd.read_csv(tmp_path / "a.csv").columns[-2:].tolist() == ["TCRβ", "µ,x"]


@pytest.mark.parametrize("stop", [DiskFull, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "from an earlier run"])
@pytest.mark.parametrize("write", [write_csv, write_h5ad, write_geojson])
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


@pytest.mark.parametrize("write", [write_csv, write_h5ad, write_geojson])
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


@pytest.mark.parametrize("stop", [DiskFull, KeyboardInterrupt])
def test_an_interrupted_picture_leaves_no_half_file_under_its_name(predicted, tmp_path, monkeypatch, stop):
    def half(path, content):
        path.open("wb").write(content[:100])
        raise stop

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises((NslError, KeyboardInterrupt)):
        write_png(predicted[:, ["ERBB2"]], tmp_path / "slide.png")
    assert not list(tmp_path.glob("slide*.png"))


# h5ad


def test_h5ad_keeps_what_is_none_true_and_false(result, tmp_path):
    result.uns["nsl"] |= {"weights_revision": None, "complete": False, "synthetic": True}
    write_h5ad(result, tmp_path / "a.h5ad")
    read = anndata.read_h5ad(tmp_path / "a.h5ad")
    said = provenance(read)
    assert (said["weights_revision"], said["complete"], said["synthetic"]) == (None, False, True)
    assert said == provenance(result)


@pytest.mark.evaluation
@pytest.mark.filterwarnings("ignore")  # those of squidpy's own dependencies
def test_h5ad_opens_in_squidpy_as_it_is(predicted, tmp_path):
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import squidpy

    write_h5ad(predicted, tmp_path / "a.h5ad")
    squidpy.pl.spatial_scatter(anndata.read_h5ad(tmp_path / "a.h5ad"), color="ERBB2")
    try:
        axes = plt.gcf().axes[0]
        [picture], [spots] = axes.images, axes.collections
        assert axes.get_title() == "ERBB2"
        assert picture.get_array().shape == (600, 700, 3)
        drawn = pd.Series(np.asarray(spots.get_array()))
        assert drawn.corr(pd.Series(predicted[:, "ERBB2"].X.ravel())) == pytest.approx(1)
        middle = np.array([path.get_extents().get_points().mean(axis=0) for path in spots.get_paths()])
        np.testing.assert_allclose(middle, predicted.obsm["spatial"], atol=1)
    finally:
        plt.close("all")


# GeoJSON


def features(text: str) -> list[dict]:
    collection = json.loads(text, parse_constant=pytest.fail)
    assert collection["type"] == "FeatureCollection"
    return collection["features"]


def test_tiles_are_closed_squares_around_their_centres_in_level_0_pixels(result):
    drawn = features(geojson_text(result))
    assert [feature["properties"]["name"] for feature in drawn] == ["r0c3", "r1c0"]
    assert drawn[0]["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[900.0, 0.0], [1200.0, 0.0], [1200.0, 300.0], [900.0, 300.0], [900.0, 0.0]]],
    }


def test_tiles_are_objects_that_qupath_knows_with_numbers_by_name(result):
    for feature, row in zip(features(geojson_text(result)), tile_table(result).to_dict("records"), strict=True):
        assert feature.keys() == {"type", "id", "geometry", "properties"}
        assert feature["type"] == "Feature"
        assert feature["properties"]["objectType"] == "tile"
        measured = feature["properties"]["measurements"]
        assert list(measured) == ["tissue fraction", "ERBB2", "HLA-DRB1"]
        assert measured["tissue fraction"] == pytest.approx(row["tissue_fraction"])
        assert measured["ERBB2"] == pytest.approx(row["ERBB2"], abs=1e-6)


def test_only_the_genes_asked_for_are_written_in_their_order(result):
    [first, _] = features(geojson_text(result, ["HLA-DRB1"]))
    assert first["properties"]["measurements"] == {"tissue fraction": 0.1235, "HLA-DRB1": 0.1}
    [first, _] = features(geojson_text(result, ["HLA-DRB1", "ERBB2"]))
    assert list(first["properties"]["measurements"])[1:] == ["HLA-DRB1", "ERBB2"]


def test_a_gene_that_was_not_predicted_is_told(result):
    with pytest.raises(NslError, match="CD24 is not among the 2 genes of this result"):
        geojson_text(result, ["ERBB2", "CD24"])


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_left_out(result, number):
    result.X[0, 0] = number
    first, second = features(geojson_text(result))
    assert list(first["properties"]["measurements"]) == ["tissue fraction", "HLA-DRB1"]
    assert "ERBB2" in second["properties"]["measurements"]


def test_no_name_is_a_formula_in_a_table(result):
    result.var_names = ["=1+1", "ERBB2"]
    result.obs["region"], result.obs["region_class"] = ["@SUM(A1)", "tumour"], ["-2+3", "stroma"]
    header, first, second = csv_text(result).splitlines()
    assert header.endswith(",region,region_class,'=1+1,ERBB2")
    assert ",'@SUM(A1),'-2+3," in first
    assert ",tumour,stroma," in second
    assert "\n'=1+1," in csv_files(result, "a")["a.genes.csv"]


def test_names_that_json_must_escape_survive(result):
    result.var_names = ['a"b\\c', "TCRβ"]
    [first, _] = features(geojson_text(result))
    assert list(first["properties"]["measurements"])[1:] == ['a"b\\c', "TCRβ"]


def test_ids_belong_to_slide_grid_and_tile(result):
    def ids(**info) -> list[str]:
        changed = result.copy()
        changed.uns["nsl"] |= info
        return [feature["id"] for feature in features(geojson_text(changed))]

    assert ids() == ids(version="9.9")
    assert all(str(uuid.UUID(name)) == name for name in ids())
    told_apart = [*ids(), *ids(slide_sha256="other"), *ids(tile_um=100.0), *ids(stride_um=75.0)]
    assert len(set(told_apart)) == 8


def test_geojson_says_how_it_came_to_be(result):
    result.uns["nsl"]["complete"] = False
    assert json.loads(geojson_text(result))["provenance"] == provenance(result)


def test_squares_lie_on_the_tissue_of_a_real_slide(data_folder, tiny_weights):
    with open_slide(data_folder / "slides/cmu_small_region.svs") as slide:
        result = predict(slide, load_weights(tiny_weights), min_tissue=0.6)
        image, (width, height) = slide.read(0, 0, *slide.size, slide.mpp), slide.size
    inside = np.zeros((height, width), bool)
    for feature in features(geojson_text(result)):
        (left, top), _, (right, bottom), *_ = feature["geometry"]["coordinates"][0]
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        inside[round(top) : round(bottom), round(left) : round(right)] = True
    assert inside.any()
    assert image[inside].mean() < image[~inside].mean() - 5


# Everything


def unzipped(packed: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_everything_opens_and_is_explained(predicted, tmp_path):
    files = unzipped(
        everything_zip(predicted, "s1", figure_genes=["CD24"], extra={"pairs.csv": ("pairs of genes", "a,b\n")})
    )
    names = {f"s1.{end}" for end in ("csv", "genes.csv", "provenance.json", "h5ad", "geojson", "CD24.png")}
    assert files.keys() == names | {"README.txt", "pairs.csv"}
    readme = files["README.txt"].decode()
    assert all(f"\n{name}\n" in readme for name in files if name != "README.txt")
    assert "not a diagnostic device" in readme

    assert len(pd.read_csv(io.BytesIO(files["s1.csv"]))) == predicted.n_obs
    assert json.loads(files["s1.provenance.json"]) == provenance(predicted)
    assert Image.open(io.BytesIO(files["s1.CD24.png"])).format == "PNG"
    assert len(features(files["s1.geojson"].decode())) == predicted.n_obs
    assert files["pairs.csv"] == b"a,b\n"
    assert "\npairs.csv\n    pairs of genes\n" in readme
    (tmp_path / "a.h5ad").write_bytes(files["s1.h5ad"])
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "a.h5ad").X, predicted.X)


def test_everything_is_the_same_bytes_each_time(predicted):
    first, second = (everything_zip(predicted, "s1", figure_genes=["CD24"]) for _ in range(2))
    assert first == second


def test_of_many_genes_qupath_gets_the_most_reliable(predicted):
    table = pd.DataFrame(
        {"r_heldout": np.arange(120) / 120, "r_low": 0.1, "q_value": np.arange(120) % 2},
        index=[f"G{number}" for number in range(120)],
    )
    many = anndata.AnnData(
        np.tile(predicted.X, 40), obs=predicted.obs, var=table, obsm=dict(predicted.obsm), uns=predicted.uns
    )
    files = unzipped(everything_zip(many, "s1"))
    [first, *_] = features(files["s1.geojson"].decode())
    expected = [f"G{number}" for number in range(118, 18, -2)]
    assert list(first["properties"]["measurements"]) == ["tissue fraction", *expected]
    assert "50 genes, the most reliable" in files["README.txt"].decode()
    files = unzipped(everything_zip(many, "s1", qupath_genes=genes_for_qupath(many, ["G1"])))
    assert "50 genes, those looked at and the most reliable" in files["README.txt"].decode()


def test_a_cancelled_run_and_a_synthetic_slide_are_said_in_the_readme(predicted):
    assert caveats(predicted) == []
    predicted.uns["nsl"] |= {"complete": False, "synthetic": True}
    readme = unzipped(everything_zip(predicted, "s1"))["README.txt"].decode()
    assert "part of the slide: the run was cancelled" in readme
    assert "synthetic" in readme


def test_file_names_of_genes_hold_no_folder_and_tell_genes_apart():
    names = [file_part(gene) for gene in ("HLA-DRB1", "FO538757.1", "TCRβ", "a/b", "a_b", "a\\b", "a:b", "a%2Fb")]
    assert names[:3] == ["HLA-DRB1", "FO538757.1", "TCRβ"]
    assert len(set(names)) == 8
    assert not set("/\\: ") & set("".join(names))
