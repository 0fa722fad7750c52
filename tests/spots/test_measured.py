"""What `measured` promises: files of Space Ranger and h5ad read as they are, or are refused in one sentence."""

import gzip
import io
import json
import re
import warnings
import zipfile
import zlib
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import io as matrix_market
from scipy import sparse

from nsl.errors import SpotsError
from nsl.spots import files, h5ad
from nsl.spots.measured import read_h5ad, read_measured, read_visium
from nsl.spots.tables import read_spots
from nsl.spots.visium import _tissue_positions

BARCODES = ["AAA-1", "CCC-1", "GGG-1", "TTT-1"]
# The third is another gene of the same symbol with fewer counts, the last an antibody.
IDS = ["ENSG00000141736", "ENSG00000116459", "ENSG00000284770", "ENSG00000141510", "CD3-antibody"]
SYMBOLS = ["ERBB2", "TBCE", "TBCE", "TP53", "CD3"]
KINDS = ["Gene Expression"] * 4 + ["Antibody Capture"]
COUNTS = np.array([[5, 1, 0, 0, 90], [0, 2, 1, 7, 80], [3, 3, 0, 1, 70], [1, 1, 1, 1, 60]])
POSITIONS = (
    "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n"
    "GGG-1,1,2,0,300,130\nAAA-1,1,0,0,100,110\nCCC-1,1,1,1,200,120\nTTT-1,0,3,1,400,140\n"
)
PREFIX = "sample/outs/"


def matrix_h5() -> bytes:
    """As Space Ranger writes it: by columns, a column a barcode."""
    by_barcode, buffer = sparse.csr_array(COUNTS), io.BytesIO()
    with h5py.File(buffer, "w") as file:
        matrix = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            matrix[name] = getattr(by_barcode, name)
        matrix["shape"] = np.array(COUNTS.shape[::-1])
        matrix["barcodes"] = np.array(BARCODES, "S")
        for name, values in (("id", IDS), ("name", SYMBOLS), ("feature_type", KINDS)):
            matrix[f"features/{name}"] = np.array(values, "S")
    return buffer.getvalue()


def matrix_folder() -> dict[str, bytes]:
    """The same counts as three files."""
    buffer = io.BytesIO()
    matrix_market.mmwrite(
        buffer, sparse.coo_array(COUNTS.T), field="integer", comment="as Space Ranger writes it " * 99
    )
    features = "".join("\t".join(row) + "\n" for row in zip(IDS, SYMBOLS, KINDS, strict=True))
    texts = {"matrix.mtx": buffer.getvalue(), "features.tsv": features.encode()}
    texts["barcodes.tsv"] = "".join(f"{barcode}\n" for barcode in BARCODES).encode()
    return {f"filtered_feature_bc_matrix/{name}.gz": gzip.compress(text) for name, text in texts.items()}


def outs(**changes: bytes | None) -> dict[str, bytes]:
    """Contents of an outs folder by path; changes name files by their last part without suffix, None leaves one out."""
    contents = {
        "filtered_feature_bc_matrix.h5": matrix_h5(),
        "spatial/tissue_positions.csv": POSITIONS.encode(),
        "spatial/scalefactors_json.json": json.dumps(
            {"tissue_hires_scalef": 0.25, "tissue_lowres_scalef": 0.075, "spot_diameter_fullres": 89.4}
        ).encode(),
        "web_summary.html": b"<html>",
    }
    for path in list(contents):
        change = changes.get(Path(path).stem, contents[path])
        if change is None:
            del contents[path]
        else:
            contents[path] = change
    return contents


@pytest.fixture
def zipped(tmp_path):
    """Writes contents into a zip."""

    def write(contents: dict[str, bytes], prefix: str = PREFIX) -> Path:
        path = tmp_path / "visium.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(prefix + name, content)
        return path

    return write


def refusal(read, *args) -> str:
    with pytest.raises(SpotsError) as caught:
        read(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def check_visium(measured: anndata.AnnData) -> None:
    """What the files above hold, of the three spots in tissue."""
    assert measured.obs_names.tolist() == ["AAA-1", "CCC-1", "GGG-1"]
    assert measured.var_names.tolist() == ["ERBB2", "TBCE", "TP53"]
    assert measured.var["gene_id"].tolist() == ["ENSG00000141736", "ENSG00000116459", "ENSG00000141510"]
    assert isinstance(measured.X, sparse.csr_array)
    assert measured.X.dtype == np.float32
    np.testing.assert_array_equal(measured.X.toarray(), [[5, 1, 0], [0, 2, 7], [3, 3, 1]])
    np.testing.assert_array_equal(measured.obsm["spatial"], [[110, 100], [120, 200], [130, 300]])


# Space Ranger


@pytest.mark.parametrize("prefix", ["", "outs/", "a/b/c/outs/"])
def test_a_zip_of_outs_reads_at_any_depth(zipped, prefix):
    check_visium(read_visium(zipped(outs(), prefix)))


def test_a_folder_reads_like_its_zip(tmp_path):
    for name, content in outs().items():
        path = tmp_path / "outs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    check_visium(read_visium(tmp_path / "outs"))
    check_visium(read_measured([tmp_path]))


def test_three_files_of_a_matrix_read_like_the_h5(zipped):
    check_visium(read_visium(zipped(outs(filtered_feature_bc_matrix=None) | matrix_folder())))


def test_the_unfiltered_matrix_beside_the_filtered_is_let_be(zipped):
    unfiltered = {name.replace("filtered", "raw"): b"not looked into" for name in matrix_folder()}
    contents = outs(filtered_feature_bc_matrix=None) | matrix_folder() | unfiltered
    check_visium(read_visium(zipped(contents | {"raw_feature_bc_matrix.h5": b"neither"})))


def test_positions_without_a_header_read_as_older_versions_write_them(zipped):
    contents = outs(tissue_positions=None)
    contents["spatial/tissue_positions_list.csv"] = POSITIONS.split("\n", 1)[1].encode()
    check_visium(read_visium(zipped(contents)))


def test_what_was_left_out_is_said(zipped):
    one, other = read_visium(zipped(outs())).uns["notices"]
    assert one.startswith("Genes of visium.zip left out because another of the same symbol has more counts: 1 (such as")
    assert other.startswith("1 of 4 spots of visium.zip was left out")


def test_a_symbol_of_two_genes_is_that_of_more_counts_wherever_it_stands(zipped):
    counts = COUNTS.copy()
    counts[:, [1, 2]] = counts[:, [2, 1]]
    by_barcode, buffer = sparse.csr_array(counts), io.BytesIO(matrix_h5())
    with h5py.File(buffer, "r+") as file:
        for name in ("data", "indices", "indptr"):
            del file[f"matrix/{name}"]
            file[f"matrix/{name}"] = getattr(by_barcode, name)
    measured = read_visium(zipped(outs(filtered_feature_bc_matrix=buffer.getvalue())))
    assert measured.var.loc["TBCE", "gene_id"] == "ENSG00000284770"
    np.testing.assert_array_equal(measured[:, "TBCE"].X.toarray().ravel(), [1, 2, 3])


def test_scales_of_smaller_images_are_kept_for_messages(zipped):
    assert read_visium(zipped(outs())).uns["image_scales"] == {"hires": 0.25, "lowres": 0.075}
    assert read_visium(zipped(outs(scalefactors_json=None))).uns["image_scales"] == {}


def test_the_matrix_with_its_positions_needs_no_zip(tmp_path):
    matrix, positions = tmp_path / "V1_filtered_feature_bc_matrix.h5", tmp_path / "V1_tissue_positions_list.csv"
    matrix.write_bytes(matrix_h5())
    positions.write_text(POSITIONS)
    check_visium(read_measured([matrix, positions]))
    check_visium(read_measured([positions, matrix]))


def test_nothing_is_written_when_a_zip_is_read(zipped, tmp_path, monkeypatch):
    path = zipped(outs() | {"../../escaped.txt": b"out"})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    read_visium(path)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["here", "visium.zip"]


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (outs(filtered_feature_bc_matrix=None), "visium.zip holds no filtered_feature_bc_matrix.h5"),
        (outs(tissue_positions=None), "visium.zip holds no spatial/tissue_positions.csv"),
        (
            outs(tissue_positions=None) | {"spatial/tissue_positions.parquet": b"PAR1"},
            "visium.zip cannot be read",
        ),
        (
            outs() | {"other/filtered_feature_bc_matrix.h5": b""},
            "visium.zip holds 2 files where one is expected (sample/outs/filtered_feature_bc_matrix.h5",
        ),
        (outs(filtered_feature_bc_matrix=b"no matrix"), "visium.zip cannot be read"),
        (outs(filtered_feature_bc_matrix=matrix_h5()[:-900]), "visium.zip cannot be read"),
        (outs(scalefactors_json=b"{"), "scalefactors_json.json cannot be read"),
        (outs(tissue_positions=b""), "visium.zip cannot be read"),
        (outs(tissue_positions=b"\xff\xfe\x00"), "visium.zip cannot be read"),
        (
            outs(tissue_positions=POSITIONS.replace("AAA-1,1,0,0,100", "AAA-1,1,0,0,").encode()),
            "tissue_positions.csv: spot AAA-1 has no position in pixels",
        ),
        (
            outs(tissue_positions=(POSITIONS + "AAA-1,1,0,0,1,1\n").encode()),
            "tissue_positions.csv: spot AAA-1 occurs twice",
        ),
        (
            outs(tissue_positions=POSITIONS.replace("array_row", "barcode").encode()),
            "tissue_positions.csv has 2 columns called barcode; keep one of them",
        ),
        (
            outs(tissue_positions=POSITIONS.replace("-1,", "-2,").encode()),
            "visium.zip and tissue_positions.csv share no spot: the first of each are 'AAA-1' and 'GGG-2'",
        ),
        (
            {
                name: content
                for name, content in (outs(filtered_feature_bc_matrix=None) | matrix_folder()).items()
                if "features" not in name
            },
            "filtered_feature_bc_matrix/matrix.mtx.gz without features.tsv.gz beside it",
        ),
        (
            outs(filtered_feature_bc_matrix=None)
            | matrix_folder()
            | {"filtered_feature_bc_matrix/barcodes.tsv.gz": gzip.compress(b"AAA-1\n")},
            "visium.zip cannot be read (4 × 4 counts of 1 spots and 4 genes)",
        ),
    ],
    ids=[
        *(
            "no matrix",
            "no positions",
            "cut parquet",
            "two sections",
            "not h5",
            "cut h5",
            "bad json",
            "empty",
            "not text",
        ),
        *("no position", "spot twice", "two barcodes", "no overlap", "no features", "shape"),
    ],
)
def test_bad_sections_are_refused_with_what_is_wrong(zipped, contents, said):
    assert said in refusal(read_visium, zipped(contents))


def test_a_matrix_that_points_outside_itself_is_refused(zipped):
    buffer = io.BytesIO(matrix_h5())
    with h5py.File(buffer, "r+") as file:
        file["matrix/indices"][0] = 1_000_000
    contents = outs(filtered_feature_bc_matrix=buffer.getvalue())
    assert "visium.zip cannot be read" in refusal(read_visium, zipped(contents))


def test_negative_counts_are_refused_with_spot_and_gene(zipped):
    buffer = io.BytesIO(matrix_h5())
    with h5py.File(buffer, "r+") as file:
        file["matrix/data"][0] = -5
    contents = outs(filtered_feature_bc_matrix=buffer.getvalue())
    assert "visium.zip: spot AAA-1, gene ERBB2 is -5; raw counts" in refusal(read_visium, zipped(contents))


def test_files_larger_than_the_limit_are_refused_before_they_are_read(zipped, monkeypatch):
    packed = outs(filtered_feature_bc_matrix=None) | matrix_folder()
    packed["filtered_feature_bc_matrix/matrix.mtx.gz"] = gzip.compress(b"0" * 3_000_000)
    monkeypatch.setattr(files, "MAX_BYTES", 2_000_000)
    said = refusal(read_visium, zipped(packed))
    assert "matrix.mtx.gz is larger than" in said
    said = refusal(read_visium, zipped(outs(filtered_feature_bc_matrix=b"0" * 3_000_000)))
    assert "sample/outs/filtered_feature_bc_matrix.h5 is larger than" in said


def test_a_matrix_that_states_more_than_memory_holds_is_refused(zipped):
    stated = b"%%MatrixMarket matrix coordinate integer general\n5 4 900000000\n1 1 5\n"
    contents = outs(filtered_feature_bc_matrix=None) | matrix_folder()
    contents["filtered_feature_bc_matrix/matrix.mtx.gz"] = gzip.compress(stated)
    assert "matrix.mtx.gz is larger than 2 GB unpacked" in refusal(read_visium, zipped(contents))


def test_an_array_that_would_unpack_beyond_the_limit_is_refused(zipped, monkeypatch):
    buffer = io.BytesIO(matrix_h5())
    with h5py.File(buffer, "r+") as file:
        del file["matrix/data"]
        file.create_dataset("matrix/data", shape=(10**9,), dtype="i4", chunks=(10**6,), compression="gzip")
    contents = outs(filtered_feature_bc_matrix=buffer.getvalue())
    assert "filtered_feature_bc_matrix.h5 is larger than 2 GB unpacked" in refusal(read_visium, zipped(contents))


def test_a_member_that_lies_about_its_size_is_refused(zipped):
    path = zipped({"spatial/tissue_positions.csv": POSITIONS.encode(), "filtered_feature_bc_matrix.h5": b"0" * 5_000})
    stated, false = (5_000).to_bytes(4, "little"), (50).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(stated, false))
    assert "visium.zip cannot be read" in refusal(read_visium, path)


def test_what_is_no_zip_or_not_there_is_refused_by_name(tmp_path):
    (tmp_path / "visium.zip").write_bytes(b"PK\x03\x04 but no more")
    assert "visium.zip cannot be read" in refusal(read_visium, tmp_path / "visium.zip")
    assert refusal(read_visium, tmp_path / "no.zip") == "no.zip does not exist; check its path"


# What else lies in a folder


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_one_name_twice_or_a_password_is_refused(zipped):
    path = zipped(outs())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{PREFIX}spatial/tissue_positions.csv", POSITIONS.replace("300,130", "1,1"))
    assert "holds two files called sample/outs/spatial/tissue_positions.csv" in refusal(read_visium, path)
    content = bytearray(zipped(outs()).read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for found in re.finditer(re.escape(mark), bytes(content)):
            content[found.start() + at] |= 1
    path.write_bytes(content)
    assert refusal(read_visium, path) == "visium.zip is protected by a password; zip the files without one"


def test_companions_of_a_mac_are_not_files_of_the_section(zipped, tmp_path):
    contents = outs() | {f"{folder}._{name}": b"\0\5\x16\7" for folder, name in (
        ("", "filtered_feature_bc_matrix.h5"), ("spatial/", "tissue_positions.csv"),
        ("spatial/", "scalefactors_json.json"), ("__MACOSX/spatial/", "tissue_positions.csv"),
    )}  # fmt: skip
    check_visium(read_visium(zipped(contents)))
    for name, content in contents.items():
        (tmp_path / "outs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "outs" / name).write_bytes(content)
    check_visium(read_visium(tmp_path / "outs"))


def test_both_names_of_the_positions_are_one_file_unless_they_differ(zipped):
    without_header = POSITIONS.partition("\n")[2]
    check_visium(read_visium(zipped(outs() | {"spatial/tissue_positions_list.csv": without_header.encode()})))
    other = without_header.replace("100,110", "100,111")
    assert (
        "tissue_positions.csv and sample/outs/spatial/tissue_positions_list.csv, which differ; leave one of them out"
    ) in refusal(read_visium, zipped(outs() | {"spatial/tissue_positions_list.csv": other.encode()}))


def test_positions_that_differ_in_decimals_alone_are_the_same(zipped):
    decimals = re.sub(r"(\d+),(\d+)\n", r"\1.0,\2.0\n", POSITIONS).partition("\n")[2]
    check_visium(read_visium(zipped(outs() | {"spatial/tissue_positions_list.csv": decimals.encode()})))


def test_positions_saved_with_their_row_numbers_are_told_by_their_columns(zipped):
    numbered = "".join(f"{n or ''},{row}\n" for n, row in enumerate(POSITIONS.splitlines()))
    check_visium(read_visium(zipped(outs(tissue_positions=numbered.encode()))))


def test_scale_factors_are_those_beside_the_positions(zipped):
    cells = {"segmented_outputs/spatial/scalefactors_json.json": json.dumps({"tissue_hires_scalef": 0.5}).encode()}
    measured = read_visium(zipped(outs() | cells))
    assert measured.uns["image_scales"] == {"hires": 0.25, "lowres": 0.075}


def test_scale_factors_that_cannot_be_read_are_called_by_their_name(zipped):
    broken = outs(scalefactors_json=b'{"tissue_hires_scalef": null}')
    assert refusal(read_visium, zipped(broken)).startswith("scalefactors_json.json cannot be read")


def test_an_unpacked_matrix_beside_its_gz_is_one_matrix(zipped):
    contents = outs(filtered_feature_bc_matrix=None) | matrix_folder()
    unpacked = {name.removesuffix(".gz"): gzip.decompress(content) for name, content in matrix_folder().items()}
    check_visium(read_visium(zipped(contents | unpacked)))
    assert "holds 2 files where one is expected" in refusal(
        read_visium, zipped(contents | {f"again/{name}": content for name, content in unpacked.items()})
    )


def test_flags_of_space_ranger_may_be_words(zipped):
    words = POSITIONS.replace("-1,1,", "-1,TRUE,").replace("-1,0,", "-1,FALSE,")
    check_visium(read_visium(zipped(outs(tissue_positions=words.encode()))))


def parquet(positions: str) -> bytes:
    """A table of positions as Visium HD has it."""
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(positions)).to_parquet(buffer)
    return buffer.getvalue()


def visium_hd(bin_um: float) -> dict[str, bytes]:
    """Contents of one of Visium HD's folders of bins."""
    scales = json.dumps({"tissue_hires_scalef": 0.25, "bin_size_um": bin_um}).encode()
    return outs(tissue_positions=None, scalefactors_json=scales) | {
        "spatial/tissue_positions.parquet": parquet(POSITIONS.replace("300,130", "300.25,130.5"))
    }


def test_bins_of_visium_hd_are_read_as_spots(zipped):
    data = read_visium(zipped(visium_hd(16.0)))
    by_name = dict(zip(data.obs_names, data.obsm["spatial"].tolist(), strict=True))
    assert by_name == {"AAA-1": [110, 100], "CCC-1": [120, 200], "GGG-1": [130.5, 300.25]}
    assert data[["AAA-1"], ["ERBB2"]].X.toarray() == 5
    assert any("in bins of 16 µm, much smaller than a tile" in notice for notice in data.uns["notices"])
    assert data.uns["image_scales"] == {"hires": 0.25}


def test_positions_of_visium_hd_indexed_by_barcode_are_read(zipped):
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(POSITIONS)).set_index("barcode").to_parquet(buffer)
    check_visium(read_visium(zipped(visium_hd(16.0) | {"spatial/tissue_positions.parquet": buffer.getvalue()})))


def test_bins_smaller_than_a_cell_are_refused_with_those_to_give(zipped):
    said = refusal(read_visium, zipped(visium_hd(2.0)))
    assert "visium.zip is of Visium HD in bins of 2 µm" in said
    assert "give square_008um" in said


def test_all_bins_of_visium_hd_together_are_offered_by_name(zipped):
    bins = {f"square_{um}um/{name}": b"" for um in ("002", "008", "016") for name in visium_hd(8.0)}
    assert refusal(read_visium, zipped(bins)) == (
        "visium.zip is of Visium HD and holds bins of 3 sizes (square_002um, square_008um, square_016um); give one of "
        "these folders, best square_016um or larger"
    )


def test_the_matrix_of_visium_hd_with_its_positions_needs_no_zip(tmp_path):
    for name, content in visium_hd(8.0).items():
        (tmp_path / Path(name).name).write_bytes(content)
    data = read_measured([tmp_path / "tissue_positions.parquet", tmp_path / "filtered_feature_bc_matrix.h5"])
    assert sorted(data.obs_names) == ["AAA-1", "CCC-1", "GGG-1"]


def test_a_parquet_file_of_more_rows_than_memory_is_worth_is_refused(zipped, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 100_000)
    rows = POSITIONS + "".join(f"B{number}-1,1,0,0,1,1\n" for number in range(1_000))
    contents = visium_hd(8.0) | {"spatial/tissue_positions.parquet": parquet(rows)}
    assert "tissue_positions.parquet is larger than" in refusal(read_visium, zipped(contents))


@pytest.mark.parametrize(("folder", "bins"), [("square_008um", 2516), ("square_016um", 655)])
def test_real_positions_of_visium_hd_are_those_in_tissue(data_folder, folder, bins):
    path = data_folder / "exchange/visium_hd" / folder / "spatial/tissue_positions.parquet"
    table = _tissue_positions(path.name, path.read_bytes()).table
    stored = pd.read_parquet(path).set_index("barcode").query("in_tissue == 1")
    assert len(table) == bins
    np.testing.assert_allclose(table.x_px, stored.pxl_col_in_fullres, rtol=1e-15)
    np.testing.assert_allclose(table.y_px, stored.pxl_row_in_fullres, rtol=1e-15)


def test_packed_folders_are_refused_by_name(zipped, tmp_path):
    said = "spatial.tar.gz is a packed folder, which is not looked into; unpack it, and give a zip of the whole outs"
    contents = outs(tissue_positions=None) | {"spatial.tar.gz": b"\x1f\x8b"}
    assert refusal(read_visium, zipped(contents)).startswith(said)
    assert refusal(read_measured, [tmp_path / "a.h5", tmp_path / "spatial.tar.gz"]).startswith(said)
    check_visium(read_visium(zipped(outs() | {"analysis.tar.gz": b""})))


# h5ad


def annotated(x=None, **parts) -> anndata.AnnData:
    """Four spots of four genes with positions."""
    counts = COUNTS[:, :4].astype(np.float32) if x is None else x
    adata = anndata.AnnData(
        X=counts,
        obs=pd.DataFrame(index=BARCODES),
        var=parts.get("var", pd.DataFrame(index=["ERBB2", "TBCE", "FN1", "TP53"])),
        obsm={"spatial": np.array([[110, 100], [120, 200], [130, 300], [140, 400]])},
        uns=parts.get("uns", {}),
        layers=parts.get("layers"),
    )
    return adata


@pytest.fixture
def written(tmp_path):
    """Writes an AnnData into the test's folder."""

    def write(adata: anndata.AnnData) -> Path:
        path = tmp_path / "section.h5ad"
        adata.write_h5ad(path)
        return path

    return write


LOG = np.log1p(COUNTS[:, :4]).astype(np.float32)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix], ids=["dense", "csr", "csc"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_counts_in_x_read_however_they_are_stored(written, kind, dtype, monkeypatch):
    monkeypatch.setattr(h5ad, "_VALUES_AT_ONCE", 8)  # two rows
    measured = read_h5ad(written(annotated(kind(COUNTS[:, :4].astype(dtype)))))
    assert isinstance(measured.X, sparse.csr_array)
    assert measured.X.dtype == np.float32
    np.testing.assert_array_equal(measured.X.toarray(), COUNTS[:, :4])
    np.testing.assert_array_equal(measured.obsm["spatial"][1], [120, 200])
    assert measured.obs_names.tolist() == BARCODES


def test_counts_are_found_in_a_layer_beside_normalised_x(written):
    measured = read_h5ad(written(annotated(LOG, layers={"counts": sparse.csr_matrix(COUNTS[:, :4])})))
    np.testing.assert_array_equal(measured.X.toarray(), COUNTS[:, :4])


def test_counts_are_found_in_raw_with_genes_that_x_lacks(written):
    adata = annotated()
    adata.raw = adata.copy()
    adata = adata[:, ["TP53", "ERBB2"]].copy()
    adata.X = np.log1p(adata.X)
    measured = read_h5ad(written(adata))
    assert measured.var_names.tolist() == ["ERBB2", "TBCE", "FN1", "TP53"]
    np.testing.assert_array_equal(measured.X.toarray(), COUNTS[:, :4])


def test_normalised_raw_does_not_hide_counts_in_x(written):
    adata = annotated(LOG)
    adata.raw = adata.copy()
    adata.X = COUNTS[:, :4].astype(np.float32)
    np.testing.assert_array_equal(read_h5ad(written(adata)).X.toarray(), COUNTS[:, :4])


@pytest.mark.parametrize("column", ["gene_symbols", "gene_name", "feature_name", "symbol", "SYMBOL", "Symbol"])
def test_genes_named_by_ensembl_id_get_their_symbols(written, column):
    var = pd.DataFrame({column: pd.Categorical(["ERBB2", "TBCE", "TBCE", None])}, index=IDS[:4])
    measured = read_h5ad(written(annotated(var=var)))
    assert measured.var_names.tolist() == ["ERBB2", "TBCE", "ENSG00000141510"]
    assert measured.var["gene_id"].tolist() == ["ENSG00000141736", "ENSG00000116459", "ENSG00000141510"]
    np.testing.assert_array_equal(measured.X.toarray(), COUNTS[:, [0, 1, 3]])


def test_antibodies_are_no_genes(written):
    var = pd.DataFrame({"feature_types": KINDS[1:]}, index=["ERBB2", "TBCE", "FN1", "CD4.1"])
    measured = read_h5ad(written(annotated(var=var)))
    assert measured.var_names.tolist() == ["ERBB2", "TBCE", "FN1"]
    np.testing.assert_array_equal(measured.X.toarray(), COUNTS[:, :3])


def test_ensembl_ids_beside_symbols_are_kept(written):
    var = pd.DataFrame({"gene_ids": IDS[:4]}, index=["ERBB2", "TBCE", "FN1", "TP53"])
    assert read_h5ad(written(annotated(var=var))).var["gene_id"].tolist() == IDS[:4]


def test_spots_off_tissue_are_left_out(written):
    adata = annotated()
    adata.obs["in_tissue"] = [1, 0, 1, 1]
    assert read_h5ad(written(adata)).obs_names.tolist() == ["AAA-1", "GGG-1", "TTT-1"]


@pytest.mark.parametrize("flags", [["True", "FALSE", "True", "true"], [True, False, True, True], ["1", "0", "1", ""]])
@pytest.mark.parametrize("kind", [list, pd.Categorical])
def test_spots_off_tissue_are_left_out_whatever_the_flags_are(written, flags, kind):
    adata = annotated()
    adata.obs["in_tissue"] = kind(flags)
    assert read_h5ad(written(adata)).obs_names.tolist() == ["AAA-1", "GGG-1", "TTT-1"]


@pytest.mark.parametrize("uns_merge", [None, "unique", "first"])
def test_two_sections_joined_by_concat_are_refused_by_their_libraries(written, uns_merge):
    parts = {name: annotated(uns={"spatial": {name: {"scalefactors": {}}}}) for name in ("V1", "V2")}
    joined = anndata.concat(parts, label="library_id", uns_merge=uns_merge, index_unique="-")
    assert 'section.h5ad holds 2 sections (obs["library_id"]: V1, V2), and a slide shows one' in refusal(
        read_h5ad, written(joined)
    )


@pytest.mark.parametrize("label", ["batch", "Sample", "slide", "section_id"])
def test_two_sections_are_refused_by_what_else_people_call_them(written, label):
    joined = anndata.concat({"V1": annotated(), "V2": annotated()}, label=label, index_unique="-")
    assert f'section.h5ad holds 2 sections (obs["{label}"]: V1, V2)' in refusal(read_h5ad, written(joined))


@pytest.mark.parametrize("shared", ["lie at one place", "have one barcode"])
def test_two_sections_that_nothing_names_are_told_by_places_or_barcodes(written, shared):
    parts = {name: annotated() for name in ("V1", "V2")}
    for shift, part in enumerate(parts.values()):
        if shared == "have one barcode":
            part.obs_names = [f"{letter * 16}-1" for letter in "ACGT"]
            part.obsm["spatial"] = part.obsm["spatial"] + shift
    first = parts["V1"].obs_names[0]
    said = refusal(read_h5ad, written(anndata.concat(parts, index_unique="-")))
    assert f"holds several sections (spots {first}-V1 and {first}-V2 {shared}), and a slide shows one" in said


@pytest.mark.parametrize("label", ["library_id", "sample"])
def test_one_section_of_joined_ones_reads_with_its_own_scales(written, label):
    parts = {
        name: annotated(uns={"spatial": {name: {"scalefactors": {"tissue_hires_scalef": scale}}}})
        for name, scale in (("V1", 0.1), ("V2", 0.2))
    }
    joined = anndata.concat(parts, label=label, uns_merge="unique", index_unique="-")
    measured = read_h5ad(written(joined[joined.obs[label] == "V2"].copy()))
    assert measured.obs_names.tolist() == [f"{barcode}-V2" for barcode in BARCODES]
    assert measured.uns["image_scales"] == {"hires": 0.2}


def as_before_version_0_7(file: h5py.File, is_one_array: bool) -> None:
    """Tables as arrays of records, and of positions perhaps too; a sparse matrix by the attributes of h5sparse."""
    genes = [name.encode() for name in ("ERBB2", "TBCE", "FN1", "TP53")]
    for table, names in (("obs", [name.encode() for name in BARCODES]), ("var", genes)):
        del file[table]
        file[table] = np.array([(name, 1.5) for name in names], [("index", "S10"), ("n", "f4")])
    if is_one_array:
        xy = file["obsm/spatial"][()]
        del file["obsm"]
        file["obsm"] = np.array([(row,) for row in xy], [("spatial", "f8", (2,))])
    del file["X"]
    matrix = sparse.csr_matrix(COUNTS[:, :4].astype(np.float32))
    for part in ("data", "indices", "indptr"):
        file[f"X/{part}"] = getattr(matrix, part)
    file["X"].attrs.update({"h5sparse_format": b"csr", "h5sparse_shape": np.array(matrix.shape)})


@pytest.mark.parametrize("is_one_array", [False, True], ids=["positions apart", "positions as records"])
def test_the_layout_before_anndata_0_7_is_read(written, is_one_array):
    path = written(annotated())
    with h5py.File(path, "r+") as file:
        as_before_version_0_7(file, is_one_array)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of anndata, on the age of the file
        measured = read_h5ad(path)
    assert measured.obs_names.tolist() == BARCODES
    assert measured.var_names.tolist() == ["ERBB2", "TBCE", "FN1", "TP53"]
    np.testing.assert_array_equal(measured.X.toarray(), COUNTS[:, :4])
    np.testing.assert_array_equal(measured.obsm["spatial"], [[110, 100], [120, 200], [130, 300], [140, 400]])


@pytest.mark.parametrize(
    "columns",
    [
        *[("y", "x"), ("Y", "X"), ("pxl_row_in_fullres", "pxl_col_in_fullres"), ("imagerow", "imagecol")],
        *[("y_px", "x_px"), ("pixel_y", "pixel_x"), ("row", "col"), ("Y_centroid", "X_centroid")],
    ],
)
def test_named_columns_of_positions_are_taken_by_name(written, columns):
    adata = annotated()
    adata.obsm["spatial"] = pd.DataFrame(adata.obsm["spatial"][:, ::-1], adata.obs_names, list(columns))
    np.testing.assert_array_equal(read_h5ad(written(adata)).obsm["spatial"][1], [120, 200])


def test_positions_whose_columns_have_no_known_name_are_x_and_y_as_they_stand(written):
    adata = annotated()
    adata.obsm["spatial"] = pd.DataFrame(adata.obsm["spatial"], adata.obs_names, ["spatial1", "spatial2"])
    np.testing.assert_array_equal(read_h5ad(written(adata)).obsm["spatial"][1], [120, 200])


def test_scale_factors_of_scanpy_are_kept_for_messages(written):
    library = {"scalefactors": {"tissue_hires_scalef": 0.17, "spot_diameter_fullres": 89.4}}
    measured = read_h5ad(written(annotated(uns={"spatial": {"V1": library}})))
    assert measured.uns["image_scales"] == {"hires": 0.17}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda adata: setattr(adata, "X", LOG),
            'section.h5ad holds no raw counts: X holds 1.79176; save the counts, whole numbers from 0, in layers["coun',
        ),
        (lambda adata: setattr(adata, "X", -COUNTS[:, :4]), "section.h5ad holds no raw counts: X holds -5"),
        (lambda adata: setattr(adata, "X", np.full((4, 4), np.nan)), "section.h5ad holds no raw counts: X holds nan"),
        (lambda adata: setattr(adata, "X", None), "section.h5ad holds no raw counts: it has no X"),
        (lambda adata: adata.obsm.clear(), 'section.h5ad has no obsm["spatial"] (obsm holds nothing)'),
        (
            lambda adata: adata.obsm.update(spatial=np.zeros((4, 3))),
            'section.h5ad: obsm["spatial"] is 4 × 3; it needs two columns',
        ),
        (
            lambda adata: adata.obsm.update(spatial=np.full((4, 2), np.nan)),
            "section.h5ad: spot AAA-1 has no position in pixels",
        ),
        (
            lambda adata: setattr(adata, "obs_names", ["AAA-1", "AAA-1", "GGG-1", "TTT-1"]),
            "section.h5ad: spot AAA-1 occurs twice",
        ),
        (
            lambda adata: adata.uns.update(spatial={"V1": {"images": {}}, "V2": {"images": {}}}),
            'section.h5ad holds 2 sections (uns["spatial"]: V1, V2)',
        ),
        (lambda adata: adata.obs.insert(0, "in_tissue", [0, 0, 0, 0]), "section.h5ad lists no spot"),
    ],
    ids=["log", "negative", "nan", "no X", "no spatial", "3 columns", "no position", "twice", "sections", "off tissue"],
)
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_bad_h5ad_is_refused_with_what_is_wrong(written, change, said):
    adata = annotated()
    change(adata)
    assert said in refusal(read_h5ad, written(adata))


def test_damaged_h5ad_is_refused_by_name(written, tmp_path):
    path = written(annotated())
    path.write_bytes(path.read_bytes()[:2000])
    assert "section.h5ad cannot be read" in refusal(read_h5ad, path)
    assert refusal(read_h5ad, tmp_path / "no.h5ad") == "no.h5ad does not exist; check its path"
    with h5py.File(path, "w") as file:
        file["something"] = [1, 2]
    assert "section.h5ad cannot be read" in refusal(read_h5ad, path)


def test_a_sparse_matrix_that_states_an_impossible_shape_is_refused(written):
    path = written(annotated(sparse.csc_matrix(COUNTS[:, :4])))
    with h5py.File(path, "r+") as file:
        file["X"].attrs["shape"] = [10**12, 4]
    assert "section.h5ad: X is larger than 2 GB unpacked" in refusal(read_h5ad, path)


def test_a_dense_matrix_beyond_the_limit_is_refused_with_the_remedy(written, monkeypatch):
    path = written(annotated())
    monkeypatch.setattr(files, "MAX_BYTES", 50)
    assert "save counts as a sparse matrix" in refusal(read_h5ad, path)


# HDF5 that has other files read, or more memory filled than it takes itself


@pytest.fixture
def secret(tmp_path) -> Path:
    """A file of the server: bytes that somebody wants to see, and to HDF5 a file with a dataset d."""
    path = tmp_path / "secret"
    with h5py.File(path, "w") as file:
        file["d"] = np.arange(16, dtype=np.uint8)
    return path


def stored_outside(file: h5py.File, where: str, secret: Path) -> None:
    file.create_dataset(where, (4, 4), "u1", external=[(str(secret), 0, 16)])


def linked_outside(file: h5py.File, where: str, secret: Path) -> None:
    file[where] = h5py.ExternalLink(str(secret), "d")


def linked_in_two_steps(file: h5py.File, where: str, secret: Path) -> None:
    """The soft link is come upon before the link out of the file that it passes."""
    file["zz/out"] = h5py.ExternalLink(str(secret), "/")
    file[where] = h5py.SoftLink("/zz/out/d")


def put_together(file: h5py.File, where: str, secret: Path) -> None:
    layout = h5py.VirtualLayout((4, 4), "u1")
    layout[:] = h5py.VirtualSource(str(secret), "d", shape=(4, 4))
    file.create_virtual_dataset(where, layout)


WAYS_OUT = [stored_outside, linked_outside, linked_in_two_steps, put_together]


def replaced(path: Path, where: str, way, secret: Path) -> Path:
    with h5py.File(path, "r+") as file:
        if where in file:
            del file[where]
        way(file, where, secret)
    return path


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize(
    "where", ["X", "obs/age", "var/gene_symbols", "obsm/spatial", "layers/counts", "raw/X", "uns/a/b/c", "unread"]
)
def test_an_h5ad_cannot_have_another_file_read(written, secret, where, way):
    said = refusal(read_h5ad, replaced(written(annotated()), where, way, secret))
    assert said.startswith("section.h5ad: '/")
    assert said.endswith("and only what lies in the file itself is read; save all of it in one file")
    assert way is put_together or f"'{secret}'" in said


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("where", ["matrix/data", "matrix/features/name", "matrix/barcodes", "matrix", "unread"])
@pytest.mark.parametrize("is_zipped", [True, False], ids=["zip", "two files"])
def test_a_matrix_of_space_ranger_cannot_have_another_file_read(zipped, tmp_path, secret, where, way, is_zipped):
    paths = [tmp_path / "filtered_feature_bc_matrix.h5", tmp_path / "tissue_positions.csv"]
    paths[0].write_bytes(matrix_h5())
    paths[1].write_text(POSITIONS)
    replaced(paths[0], where, way, secret)
    if is_zipped:
        paths = [zipped(outs(filtered_feature_bc_matrix=paths[0].read_bytes()))]
    said = refusal(read_measured, paths)
    assert "filtered_feature_bc_matrix.h5: '/" in said
    assert "only what lies in the file itself is read" in said


def test_a_reference_cannot_have_another_file_read_where_no_link_leads(written, secret):
    """Older files refer to categories; the one link to these is turned to something else."""
    path = written(annotated())
    with h5py.File(path, "r+") as file:
        stored_outside(file, "grave/hidden", secret)
        file["grave/other"] = [1]
        addresses = (h5py.h5o.get_info(file[f"grave/{name}"].id).addr for name in ("hidden", "other"))
        hidden, other = (address.to_bytes(8, "little") for address in addresses)
        file["obs/kind"] = np.zeros(4, np.int8)
        file["obs/kind"].attrs["categories"] = file["grave/hidden"].ref
        file["obs"].attrs["column-order"] = np.array(["kind"], h5py.string_dtype())
        file["obs"].attrs["encoding-version"] = "0.1.0"
    head, *tables = path.read_bytes().split(b"SNOD")
    turned = [table[:328].replace(hidden, other) + table[328:] for table in tables]  # of links; the rest stays
    path.write_bytes(b"SNOD".join([head, *turned]))
    assert f"is stored in '{secret}'" in refusal(read_h5ad, path)


def test_links_within_the_file_are_followed_also_in_circles(written):
    path = written(annotated(layers={"kept": COUNTS[:, :4].astype(np.int64)}))
    with h5py.File(path, "r+") as file:
        del file["X"]
        file["X"] = h5py.SoftLink("/layers/kept")
        file["uns/circle"] = file["/"]
        file["uns/other/circle"] = file["uns"]
        file["uns/nowhere"] = h5py.SoftLink("/nowhere")
        file["kind"] = np.dtype("f8")
        file["uns"].attrs["back"] = file["uns"].ref
        file["uns"].attrs["none"] = h5py.Reference()
    np.testing.assert_array_equal(read_h5ad(path).X.toarray(), COUNTS[:, :4])


def declared(file: h5py.File, where: str) -> None:
    """A dataset of a million million numbers none of which is stored."""
    file.create_dataset(where, (10**12,), "u1", chunks=(10**6,), fillvalue=1)


def of_one_text(file: h5py.File, where: str) -> None:
    """A thousand times a text of 1 MB, stored once."""
    text = file.create_dataset(where, (1024,), h5py.string_dtype(), chunks=(1024,), compression="gzip")
    text[0] = "x" * 2**20
    file.flush()
    one = zlib.decompress(text.id.read_direct_chunk((0,))[1])[:16]
    text.id.write_direct_chunk((0,), zlib.compress(one * 1024))


def often(file: h5py.File, where: str) -> None:
    """A table of a table of a table, each of which has the next a hundred times: a million times a megabyte."""
    file["grave/0"] = np.zeros(10**6, np.uint8)
    for depth in range(1, 4):
        for number in range(100):
            file[f"grave/{depth}/{number}"] = file[f"grave/{depth - 1}"]
    file[where] = file["grave/3"]


def in_a_circle(file: h5py.File, where: str) -> None:
    file[where] = file["/"]


@pytest.mark.parametrize("what", [declared, of_one_text, often, in_a_circle])
@pytest.mark.parametrize("reached", ["directly", "by soft link", "by path"])
@pytest.mark.parametrize("table", ["obs", "var"])
def test_a_column_that_takes_far_more_memory_than_disk_is_refused(written, monkeypatch, table, reached, what):
    monkeypatch.setattr(files, "MAX_BYTES", 2**27)
    path = written(annotated())
    with h5py.File(path, "r+") as file:
        where = f"{table}/note" if reached == "directly" else "note"
        what(file, where)
        if reached == "by soft link":
            file[f"{table}/note"] = h5py.SoftLink("/note")
        column = "/note" if reached == "by path" else "note"
        file[table].attrs["column-order"] = np.array([column], h5py.string_dtype())
    assert path.stat().st_size < 2_000_000
    beside = " with what else is read of the file" if table == "var" else ""
    assert f"section.h5ad: {table}{beside} is larger than 0.125 GB unpacked" in refusal(read_h5ad, path)


def test_scale_factors_and_counts_of_a_byte_that_take_too_much_memory_are_refused(written):
    library = {"scalefactors": {"tissue_hires_scalef": 0.17}}
    path = written(annotated(uns={"spatial": {"V1": library}}))
    with h5py.File(path, "r+") as file:
        declared(file, "uns/spatial/V1/scalefactors/tissue_lowres_scalef")
    beside = "with what else is read of the file is larger than 2 GB"
    assert f"section.h5ad: scalefactors {beside}" in refusal(read_h5ad, path)
    path = written(annotated(sparse.csr_matrix(COUNTS[:, :4])))
    with h5py.File(path, "r+") as file:
        del file["X/data"]
        file.create_dataset("X/data", (2**29,), "u1", chunks=(10**6,))
    assert f"section.h5ad: X {beside}" in refusal(read_h5ad, path)


def test_what_a_file_states_counts_together_before_any_of_it_is_read(written, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 2**27)
    monkeypatch.setattr(h5ad, "read_elem", lambda stored: pytest.fail(f"{stored.name} was read"))
    library = {"scalefactors": {"tissue_hires_scalef": 0.17}}
    path = written(annotated(uns={"spatial": {"V1": library}}))
    with h5py.File(path, "r+") as file:  # each is under the limit, and all are beyond it
        for where in ("obs/note", "var/note", "uns/spatial/V1/scalefactors/tissue_lowres_scalef"):
            file.create_dataset(where, (15_000_000,), "u1", chunks=(10**6,))
    said = "section.h5ad: scalefactors with what else is read of the file is larger than 0.125 GB unpacked"
    assert said in refusal(read_h5ad, path)


def test_a_matrix_counts_with_the_tables_beside_it(written, monkeypatch):
    path = written(annotated(sparse.csr_matrix(COUNTS[:, :4])))
    with h5py.File(path, "r+") as file:
        file.create_dataset("obs/note", (15_000_000,), "u1", chunks=(10**6,))
        del file["X/data"]
        file.create_dataset("X/data", (15_000_000,), "u1", chunks=(10**6,))
    monkeypatch.setattr(files, "MAX_BYTES", 2**26 + 2**25)
    assert "section.h5ad: X with what else is read of the file is larger than" in refusal(read_h5ad, path)


def packed_twice(file: h5py.File, where: str) -> None:
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((2**20,))
    settings.set_deflate(9)
    settings.set_deflate(9)
    space = h5py.h5s.create_simple((2**20,))
    h5py.h5d.create(file.id, where.encode(), h5py.h5t.NATIVE_UINT8, space, settings)
    file[where][:] = 0


def packed_by_a_plugin(file: h5py.File, where: str) -> None:
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((100,))
    settings.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(file.id, where.encode(), h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple((100,)), settings)


def of_large_chunks(compression: str):
    def change(file: h5py.File, where: str) -> None:
        data = np.random.default_rng(0).integers(0, 256, 10**5, dtype=np.uint8)
        file.create_dataset(where, data=data, chunks=data.shape, compression=compression)

    return change


def yielding_more_than_stated(file: h5py.File, where: str) -> None:
    chunk = file.create_dataset(where, (2**20,), "u1", chunks=(2**20,), compression="gzip")
    chunk.id.write_direct_chunk((0,), zlib.compress(bytes(2**24)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (packed_twice, "section.h5ad: obs: '/obs/note' is packed in a way that is not read here (HDF5 filters 1, 1)"),
        (packed_by_a_plugin, "(HDF5 filters 32015); save it with gzip"),
        (of_large_chunks("lzf"), "(HDF5 filters 32000); save it with gzip"),
        (yielding_more_than_stated, "section.h5ad cannot be read ('/obs/note' unpacks to more than it states)"),
    ],
)
def test_arrays_that_may_unpack_without_end_are_refused(written, monkeypatch, change, said):
    monkeypatch.setattr(files, "_BYTES_AT_ONCE", 2**22)
    path = written(annotated())
    with h5py.File(path, "r+") as file:
        change(file, "obs/note")
    assert said in refusal(read_h5ad, path)


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_what_toolkits_pack_with_reads_in_large_chunks(written, compression):
    counts = np.random.default_rng(0).poisson(9, (300, 4000)).astype(np.float32)
    genes = pd.DataFrame(index=[f"G{number}" for number in range(4000)])
    path = written(anndata.AnnData(counts, var=genes, obsm={"spatial": np.zeros((300, 2))}))
    options = {"compression": compression, "shuffle": True, "fletcher32": True}
    with h5py.File(path, "r+") as file:
        attributes = dict(file["X"].attrs)
        del file["X"]
        file.create_dataset("X", data=counts, chunks=counts.shape, **options).attrs.update(attributes)
    np.testing.assert_array_equal(read_h5ad(path).X.toarray(), counts)


# One door


@pytest.fixture
def tables(tmp_path):
    """A table of counts and one of positions."""
    counts, spots = tmp_path / "counts.csv", tmp_path / "spots.csv"
    counts.write_text("spot,A,B\ns1,1,2\ns2,3,4\n")
    spots.write_text("spot,x_px,y_px\ns1,10,20\ns2,30,40\n")
    return counts, spots


def test_two_tables_are_told_apart_by_their_columns(tables):
    for paths in (tables, tables[::-1]):
        measured = read_measured(paths)
        np.testing.assert_array_equal(measured.X.toarray(), [[1, 2], [3, 4]])
        np.testing.assert_array_equal(measured.obsm["spatial"], [[10, 20], [30, 40]])


def test_a_zip_and_an_h5ad_are_told_by_their_names(zipped, written, tmp_path):
    check_visium(read_measured([zipped(outs())]))
    capitals = written(annotated()).rename(tmp_path / "SECTION.H5AD")
    assert read_measured([capitals]).shape == (4, 4)


def test_spots_that_are_nearly_empty_are_left_out_and_counted(tmp_path):
    counts, spots = tmp_path / "counts.csv", tmp_path / "spots.csv"
    rows = [f"s{i},{'2,1' if i == 3 else '900,1100'}" for i in range(9)]
    counts.write_text("\n".join(["spot,A,B", *rows]) + "\n")
    spots.write_text("\n".join(["spot,x_px,y_px", *(f"s{i},{i},{i}" for i in range(9))]) + "\n")
    measured = read_measured([counts, spots])
    assert list(measured.obs_names) == [f"s{i}" for i in range(9) if i != 3]
    assert len(measured.obsm["spatial"]) == 8
    [told] = measured.uns["notices"]
    assert told.startswith("1 of 9 spots was left out as nearly empty, with fewer than 40 counts")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"spot|A|B\ns1|1|2\n", "has a single column; separate its columns by commas, semicolons or tabs"),
        (b"", "is empty; export it again"),
        (b"spot,A\ns1,nan\n", "gene A is nan; raw counts are whole numbers from 0, fill it in"),
        ("spot,Gr\u00f6\u00dfe\ns1,1\n".encode("latin-1"), "is no plain text; save it as CSV in UTF-8"),
    ],
    ids=["bars", "empty", "nan", "another encoding"],
)
def test_a_table_of_counts_that_is_none_is_told_what_it_lacks(tables, content, said):
    tables[0].write_bytes(content)
    assert said in refusal(read_measured, tables)


@pytest.mark.parametrize("separator", [";", "\t"], ids=["semicolons", "tabs"])
def test_two_tables_are_read_by_the_separator_that_they_have(tables, separator):
    as_written = read_measured(tables)
    for path in tables:
        path.write_text(path.read_text().replace(",", separator))
    again = read_measured(tables)
    np.testing.assert_array_equal(again.X.toarray(), as_written.X.toarray())
    np.testing.assert_array_equal(again.obsm["spatial"], as_written.obsm["spatial"])
    assert list(again.var_names) == list(as_written.var_names)


def test_two_tables_of_a_separator_that_is_not_read_are_told_so(tables):
    for path in tables:
        path.write_text(path.read_text().replace(",", "|"))
    assert refusal(read_measured, tables).startswith("counts.csv has a single column; separate its columns by commas")


def test_two_tables_of_which_none_or_both_have_positions_are_refused(tables):
    counts, spots = tables
    assert "of counts.csv and counts.csv neither can be the table of positions" in refusal(
        read_measured, [counts, counts]
    )
    assert "of spots.csv and spots.csv both can be the table of positions" in refusal(read_measured, [spots, spots])
    counts.write_text(",ACTB,B2M,CD74,ERBB2,GAPDH\na,1,2,3,4,5\n")
    told = refusal(read_measured, [counts, counts])
    assert "(counts.csv has ACTB, B2M, CD74, ERBB2, …; counts.csv has ACTB," in told


@pytest.mark.parametrize(
    "names",
    [[], ["counts.csv"], ["image.png"], ["a.h5"], ["a.h5", "b.h5"], ["a.zip", "b.csv"], ["a.csv", "b.csv", "c.csv"]],
    ids=lambda names: "+".join(names) or "nothing",
)
def test_anything_else_is_told_what_can_be_given(tmp_path, names):
    said = refusal(read_measured, [tmp_path / name for name in names])
    assert f"cannot be read from {', '.join(names) or 'nothing'}; give a zip of Space Ranger's outs folder" in said


@pytest.mark.parametrize("which", [0, 1])
def test_a_table_that_unpacks_beyond_the_limit_is_refused_before_it_is_read(tables, monkeypatch, which):
    paths = list(tables)
    packed = paths[which].with_name(paths[which].name + ".gz")
    packed.write_bytes(gzip.compress(paths[which].read_bytes() + b"\n" * 3_000_000))
    paths[which] = packed
    monkeypatch.setattr(files, "MAX_BYTES", 2_000_000)
    assert f"{packed.name} is larger than" in refusal(read_measured, paths)


def test_a_table_that_cannot_be_read_is_named(tables, tmp_path):
    broken = tmp_path / "broken.csv"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe" * 10)
    assert "broken.csv is no plain text" in refusal(read_measured, [broken, tables[0]])


def test_real_tables_read_as_published(data_folder):
    folder = data_folder / "her2st"
    spots, counts = folder / "spots/C5_selection.tsv", folder / "counts/C5.tsv.gz"
    published = read_spots(counts, spots)
    assert published.shape == (181, 15721)
    assert np.median(published.X.sum(axis=1)) == 10015
    measured = read_measured([spots, counts])
    # Two spots of 2 and 3 counts stand beside 10,000 in the others.
    assert measured.shape == (179, 15721)
    assert measured.X.sum(axis=1).min() > 200
    assert any(told.startswith("2 of 181 spots were left out") for told in measured.uns["notices"])
