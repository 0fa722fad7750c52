"""What `nsl.spots` promises: tables read as they are, or refused in one sentence that names file, place and value."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from nsl.errors import SpotsError
from nsl.spots import log_normalised, read_manifest, read_spots

COUNTS = "spot,A,B,C\ns1,1,0,3\ns2,0,2,5\ns3,4,4,0\n"
SPOTS = "spot,x_px,y_px\ns1,10,20\ns2,30.5,40\ns3,50,60\n"
HEADER = "section,patient,image,mpp,spots,counts\n"


@pytest.fixture
def table(tmp_path):
    """Writes a table into the test's folder."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def manifest(table):
    """Writes a manifest beside the three files of a section."""
    for name in ("he.png", "spots.csv", "counts.csv"):
        table(name, "not looked into yet")

    def write(text: str) -> Path:
        return table("manifest.csv", text)

    return write


def refusal(read, *args) -> str:
    with pytest.raises(SpotsError) as caught:
        read(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Counts and positions


def test_counts_and_positions_are_joined_by_spot_in_the_order_of_the_counts(table):
    spots = table("spots.csv", "spot,x_px,y_px\ns3,50,60\nunmeasured,1,2\ns1,10,20\n")
    measured = read_spots(table("counts.csv", COUNTS), spots)
    assert measured.obs_names.tolist() == ["s1", "s3"]
    assert measured.var_names.tolist() == ["A", "B", "C"]
    np.testing.assert_array_equal(measured.X, [[1, 0, 3], [4, 4, 0]])
    np.testing.assert_array_equal(measured.obsm["spatial"], [[10, 20], [50, 60]])


def test_columns_of_the_positions_may_come_in_any_order_among_others(table):
    spots = table("spots.csv", "y_px,note,spot,x_px\n20,left,s1,10\n40,right,s2,30.5\n")
    measured = read_spots(table("counts.csv", COUNTS), spots)
    np.testing.assert_array_equal(measured.obsm["spatial"], [[10, 20], [30.5, 40]])


def test_spots_named_by_numbers_are_joined_too(table):
    counts = table("counts.csv", "spot,A\n7,1\n8,2\n")
    measured = read_spots(counts, table("spots.csv", "spot,x_px,y_px\n8,3,4\n7,1,2\n"))
    np.testing.assert_array_equal(measured.obsm["spatial"], [[1, 2], [3, 4]])


@pytest.mark.parametrize("name", ["counts.tsv", "counts.tsv.gz", "counts.csv.gz"])
def test_tab_separated_and_gzipped_tables_read_like_plain_ones(table, tmp_path, name):
    text = COUNTS.replace(",", "\t") if ".tsv" in name else COUNTS
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    measured = read_spots(path, table("spots.csv", SPOTS))
    np.testing.assert_array_equal(measured.X, [[1, 0, 3], [0, 2, 5], [4, 4, 0]])


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (COUNTS.replace("0,2,5", "0,-2,5"), "counts.csv: spot s2, gene B is -2"),
        (COUNTS.replace("0,2,5", "0,2,0.5"), "counts.csv: spot s2, gene C is 0.5"),
        (COUNTS.replace("0,2,5", "0,,5"), "counts.csv: spot s2, gene B is nan"),
        (COUNTS.replace("0,2,5", "0,inf,5"), "counts.csv: spot s2, gene B is inf"),
        (COUNTS.replace("0,2,5", "0,many,5"), "counts.csv: gene B holds text"),
        (COUNTS + "s2,1,1,1\n", "counts.csv: spot s2 occurs twice"),
        (COUNTS.replace("A,B,C", "A,B,A"), "counts.csv: gene A occurs twice"),
        ("spot,A\n", "counts.csv holds no counts"),
        ("spot\ns1\n", "counts.csv holds no counts"),
        ("", "counts.csv cannot be read as a table"),
        ("spot,A\ns1,1\ns2,1,2,3\n", "counts.csv cannot be read as a table"),
        ("spot,A\nother,1\n", "counts.csv and spots.csv share no spot; the first of each are 'other' and 's1'"),
    ],
    ids=[
        "negative",
        "fraction",
        "nan",
        "inf",
        "text",
        "spot",
        "gene",
        "no spot",
        "no gene",
        "empty",
        "rows",
        "overlap",
    ],
)
def test_bad_counts_are_refused_with_place_and_value(table, counts, said):
    assert said in refusal(read_spots, table("counts.csv", counts), table("spots.csv", SPOTS))


@pytest.mark.parametrize(
    ("spots", "said"),
    [
        (SPOTS.replace("spot,", "barcode,"), "spots.csv lacks the column spot"),
        (SPOTS.replace("x_px", "x"), "spots.csv lacks the column x_px"),
        (SPOTS.replace("y_px", "y"), "spots.csv lacks the column y_px"),
        (SPOTS + "s1,1,1\n", "spots.csv: spot s1 occurs twice"),
        (SPOTS.replace("30.5,40", "30.5,"), "spots.csv: spot s2 has no position"),
        (SPOTS.replace("30.5,40", "left,40"), "spots.csv: spot s2 has no position"),
        (SPOTS.replace("30.5,40", "inf,40"), "spots.csv: spot s2 has no position"),
    ],
    ids=["no spot", "no x", "no y", "twice", "blank", "text", "inf"],
)
def test_bad_positions_are_refused_with_the_place(table, spots, said):
    assert said in refusal(read_spots, table("counts.csv", COUNTS), table("spots.csv", spots))


def test_missing_tables_are_refused_by_name(table, tmp_path):
    counts, spots = table("counts.csv", COUNTS), table("spots.csv", SPOTS)
    assert refusal(read_spots, tmp_path / "no.csv", spots) == "no.csv does not exist; check its path"
    assert refusal(read_spots, counts, tmp_path / "no.csv") == "no.csv does not exist; check its path"


def test_tables_that_are_not_text_are_refused_by_name(table, tmp_path):
    path = tmp_path / "counts.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe" * 10)
    assert "counts.csv cannot be read as a table" in refusal(read_spots, path, table("spots.csv", SPOTS))


GZIPPED = gzip.compress((COUNTS * 50).encode())


@pytest.mark.parametrize(
    "content",
    [COUNTS.encode(), GZIPPED[:-20], GZIPPED[:10] + b"\xff" + GZIPPED[11:], GZIPPED[:-8] + b"\0" * 8],
    ids=["not gzip", "cut", "spoilt", "checksum"],
)
def test_damaged_gzip_is_refused_by_name(table, tmp_path, content):
    path = tmp_path / "counts.csv.gz"
    path.write_bytes(content)
    assert "counts.csv.gz cannot be read as a table" in refusal(read_spots, path, table("spots.csv", SPOTS))


# Log-normalised expression


def test_log_normalised_is_log1p_of_counts_per_ten_thousand():
    # 1 of 4 is 2,500 per 10,000; 3 of 4 is 7,500.
    np.testing.assert_allclose(
        log_normalised(np.array([[1, 3], [0, 5]], np.float32)), [[7.824446, 8.922792], [0, 9.210440]], atol=1e-5
    )


def test_a_spot_without_counts_stays_zero():
    np.testing.assert_array_equal(log_normalised(np.zeros((1, 3), np.float32)), 0)


def test_log_normalised_does_not_depend_on_depth():
    counts = np.array([[1, 3, 6]], np.float32)
    np.testing.assert_allclose(log_normalised(counts * 100), log_normalised(counts), rtol=1e-6)


# Manifest


def test_manifest_paths_start_from_its_own_folder(manifest, tmp_path, monkeypatch):
    path = manifest(HEADER + "S1,P1,he.png,0.5,spots.csv,counts.csv\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    [section] = read_manifest(path)
    assert section.image.samefile(tmp_path / "he.png")
    assert section.spots.samefile(tmp_path / "spots.csv")
    assert section.counts.samefile(tmp_path / "counts.csv")
    assert (section.name, section.patient, section.mpp) == ("S1", "P1", 0.5)


def test_manifest_takes_absolute_paths(manifest, tmp_path):
    files = ",".join([str(tmp_path / "he.png"), "0.5", str(tmp_path / "spots.csv"), str(tmp_path / "counts.csv")])
    [section] = read_manifest(manifest(f"{HEADER}S1,P1,{files}\n"))
    assert section.image == tmp_path / "he.png"


def test_manifest_without_a_scale_leaves_it_to_the_image(manifest):
    [section] = read_manifest(manifest(HEADER + "S1,P1,he.png,,spots.csv,counts.csv\n"))
    assert section.mpp is None


def test_sections_keep_their_order_and_their_names_as_text(manifest):
    line = "P1,he.png,0.5,spots.csv,counts.csv\n"
    assert [s.name for s in read_manifest(manifest(f"{HEADER}02,{line}1,{line}"))] == ["02", "1"]


@pytest.mark.parametrize("column", ["section", "patient", "image", "mpp", "spots", "counts"])
def test_manifest_without_a_column_is_refused_with_its_name(manifest, column):
    text = HEADER.replace(column, "other") + "S1,P1,he.png,0.5,spots.csv,counts.csv\n"
    assert f"manifest.csv lacks the column {column}" in refusal(read_manifest, manifest(text))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "manifest.csv lists no section"),
        ("S1,P1,he.png,1,spots.csv,counts.csv\n" * 2, "manifest.csv lists section S1 twice"),
        ("S1,,he.png,1,spots.csv,counts.csv\n", "manifest.csv, section S1: patient is empty"),
        ("S1,P1,,1,spots.csv,counts.csv\n", "manifest.csv, section S1: image is empty"),
        ("S1,P1,no.png,1,spots.csv,counts.csv\n", "section S1: the image file no.png does not exist"),
        ("S1,P1,he.png,1,no.csv,counts.csv\n", "section S1: the spots file no.csv does not exist"),
        ("S1,P1,he.png,1,spots.csv,no.csv\n", "section S1: the counts file no.csv does not exist"),
        ("S1,P1,he.png,fine,spots.csv,counts.csv\n", "section S1: mpp is 'fine', not a number of µm/px"),
    ],
)
def test_bad_manifest_lines_are_refused_with_section_and_value(manifest, lines, said):
    assert said in refusal(read_manifest, manifest(HEADER + lines))


def test_missing_manifest_is_refused_by_name(tmp_path):
    assert refusal(read_manifest, tmp_path / "no.csv") == "no.csv does not exist; check its path"


def test_real_section_reads_as_published(data_folder, table):
    selection = (data_folder / "her2st/spots/B4_selection.tsv").read_text().splitlines()
    column = {name: i for i, name in enumerate(selection[0].split("\t"))}
    lines = [
        f"{row[column['x']]}x{row[column['y']]},{row[column['pixel_x']]},{row[column['pixel_y']]}"
        for row in (line.split("\t") for line in selection[1:])
    ]
    spots = table("spots.csv", "\n".join(["spot,x_px,y_px", *lines]))
    measured = read_spots(data_folder / "her2st/counts/B4.tsv.gz", spots)
    assert 0 < measured.n_obs <= len(lines)
    assert np.median(measured.X.sum(axis=1)) == 648


def test_a_spot_table_of_nothing_but_its_header_is_told(tmp_path):
    (tmp_path / "counts.csv").write_text("spot,A\n1x1,3\n")
    (tmp_path / "spots.csv").write_text("spot,x_px,y_px\n")
    with pytest.raises(SpotsError, match=r"spots\.csv lists no spot"):
        read_spots(tmp_path / "counts.csv", tmp_path / "spots.csv")
