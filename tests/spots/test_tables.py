"""What `tables` promises: tables read as they are, or refused in one sentence that names file, place and value."""

import gzip
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse

from nsl.errors import SpotsError
from nsl.spots import tables
from nsl.spots.tables import expression_of, log_normalised, read_manifest, read_spots

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
    np.testing.assert_array_equal(measured.X.toarray(), [[1, 0, 3], [4, 4, 0]])
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
    np.testing.assert_array_equal(measured.X.toarray(), [[1, 0, 3], [0, 2, 5], [4, 4, 0]])


def test_counts_come_sparse_and_small(table):
    measured = read_spots(table("counts.csv", COUNTS), table("spots.csv", SPOTS))
    assert isinstance(measured.X, sparse.csr_array)
    assert measured.X.dtype == np.float32
    assert measured.X.nnz == 6


def test_a_long_table_of_counts_is_read_in_parts(table, monkeypatch):
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 2)
    measured = read_spots(table("counts.csv", COUNTS), table("spots.csv", SPOTS))
    assert measured.obs_names.tolist() == ["s1", "s2", "s3"]
    np.testing.assert_array_equal(measured.X.toarray(), [[1, 0, 3], [0, 2, 5], [4, 4, 0]])


def test_a_header_without_a_name_for_the_spots_reads_as_r_writes_it(table):
    measured = read_spots(table("counts.csv", COUNTS.removeprefix("spot,")), table("spots.csv", SPOTS))
    assert measured.var_names.tolist() == ["A", "B", "C"]
    np.testing.assert_array_equal(measured.X.toarray(), [[1, 0, 3], [0, 2, 5], [4, 4, 0]])


def test_measured_spots_survive_h5ad(table, tmp_path):
    measured = read_spots(table("counts.csv", COUNTS), table("spots.csv", SPOTS))
    measured.write_h5ad(tmp_path / "measured.h5ad")
    back = anndata.read_h5ad(tmp_path / "measured.h5ad")
    np.testing.assert_array_equal(back.X.toarray(), measured.X.toarray())
    assert back.var_names.tolist() == ["A", "B", "C"]


# Positions as others write them

ST_SPOTS = (
    "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected\n"
    "10\t11\t9.9\t11.1\t100.5\t200\t1\n12\t11\t12.1\t11\t120\t201\t0\n10\t13\t10\t13\t101\t240\t1\n"
)
ST_COUNTS = "\tA\tB\n10x13\t1\t0\n12x11\t5\t5\n10x11\t0\t2\n"


def test_spot_files_of_the_st_pipeline_read_as_they_are(table):
    measured = read_spots(table("counts.tsv", ST_COUNTS), table("selection.tsv", ST_SPOTS))
    assert measured.obs_names.tolist() == ["10x13", "10x11"]
    np.testing.assert_array_equal(measured.obsm["spatial"], [[101, 240], [100.5, 200]])


def test_spots_left_out_are_counted_in_a_notice(table):
    measured = read_spots(table("counts.tsv", ST_COUNTS), table("selection.tsv", ST_SPOTS))
    [notice] = measured.uns["notices"]
    assert notice.startswith("1 of 3 spots of counts.tsv was left out: selection.tsv has no position")
    complete = read_spots(table("counts.tsv", ST_COUNTS), table("all.tsv", ST_SPOTS.replace("\t0\n", "\t1\n")))
    assert complete.n_obs == 3
    assert complete.uns["notices"] == []


def test_a_selection_that_keeps_no_spot_is_refused(table):
    nothing = table("selection.tsv", ST_SPOTS.replace("\t1\n", "\t0\n"))
    assert "selection.tsv lists no spot" in refusal(read_spots, table("counts.tsv", ST_COUNTS), nothing)


def test_one_array_position_twice_is_refused(table):
    twice = table("selection.tsv", ST_SPOTS + "10\t11\t10\t11\t7\t7\t1\n")
    said = refusal(read_spots, table("counts.tsv", ST_COUNTS), twice)
    assert "selection.tsv: spot 10x11 occurs twice" in said


def test_tissue_positions_of_space_ranger_serve_a_table_of_counts(table):
    positions = table(
        "tissue_positions.csv",
        "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n"
        "s1,1,0,0,20,10\ns2,0,0,2,40,30\ns3,1,1,1,60,50\n",
    )
    measured = read_spots(table("counts.csv", COUNTS), positions)
    assert measured.obs_names.tolist() == ["s1", "s3"]
    np.testing.assert_array_equal(measured.obsm["spatial"], [[10, 20], [50, 60]])


def test_counts_with_spots_in_columns_are_told_to_be_transposed(table):
    counts = table("counts.csv", "gene,s1,s2\nA,1,0\nB,0,2\n")
    said = refusal(read_spots, counts, table("spots.csv", SPOTS))
    assert "spots stand in the columns of counts.csv; transpose it" in said


def test_a_table_of_one_column_is_told_how_to_separate_columns(table):
    bars = table("spots.csv", SPOTS.replace(",", "|"))
    said = refusal(read_spots, table("counts.csv", COUNTS), bars)
    assert said == "spots.csv has a single column; separate its columns by commas, semicolons or tabs"


@pytest.mark.parametrize("header", ["spot,TRUE,2.30,NA", "TRUE,2.30,NA"], ids=["named", "as R writes it"])
@pytest.mark.parametrize("ending", ["", ",,,\n", ",,,\n,,,\n"], ids=["", "an empty row", "two empty rows"])
def test_names_stay_text_whatever_they_look_like(table, header, ending):
    counts = table("counts.csv", f"{header}\n1,5,0,1\n2.30,0,6,1\nTRUE,7,7,1\nNA,1,0,8\n001,0,0,9\n{ending}")
    spots = table(
        "spots.csv", f"spot,x_px,y_px\n001,9,9\nNA,4,4\nTRUE,3,3\n2.30,2,2\n1,1,1\n{ending.replace(',,,', ',,')}"
    )
    measured = read_spots(counts, spots)
    assert measured.obs_names.tolist() == ["1", "2.30", "TRUE", "NA", "001"]
    assert measured.var_names.tolist() == ["TRUE", "2.30", "NA"]
    np.testing.assert_array_equal(measured.obsm["spatial"][:, 0], [1, 2, 3, 4, 9])
    np.testing.assert_array_equal(measured.X.toarray(), [[5, 0, 1], [0, 6, 1], [7, 7, 1], [1, 0, 8], [0, 0, 9]])


@pytest.mark.parametrize(("no", "yes"), [("FALSE", "TRUE"), ("False", "True"), ("f", "t"), ("no", "yes"), ("0.0", "1")])
def test_flags_are_understood_as_words(table, no, yes):
    spots = table("spots.csv", f"spot,x_px,y_px,selected\ns1,1,1,{yes}\ns2,2,2,{no}\ns3,3,3,\n")
    assert read_spots(table("counts.csv", COUNTS), spots).obs_names.tolist() == ["s1", "s3"]


def test_a_flag_that_means_nothing_is_refused_with_its_value(table):
    spots = table("spots.csv", "spot,x_px,y_px,selected\ns1,1,1,1\ns2,2,2,maybe\n")
    said = refusal(read_spots, table("counts.csv", COUNTS), spots)
    assert said == "spots.csv: selected is 'maybe'; write 1 for spots to keep and 0 for others"


@pytest.mark.parametrize(
    "text",
    [
        "spot,A,B,\ns1,1,0,\ns2,0,2,\n",
        "spot, A, B\ns1, 1, 0\ns2, 0, 2\n",
        '"spot","A","B"\r\n"s1","1","0"\r\n"s2","0","2"\r\n',
        "\ufeffspot,A,B\ns1,1.0,0\ns2,0,2e0\n",
        "spot,A,B,,\ns1,1,0,,\ns2,0,2,,\n,,,,\n",
    ],
    ids=["rows end in a comma", "blanks after commas", "all quoted", "byte order mark", "empty columns and rows"],
)
def test_what_spreadsheets_make_of_a_table_reads_as_the_table(table, text):
    measured = read_spots(table("counts.csv", text), table("spots.csv", "spot, x_px, y_px\ns1, 1, 2\ns2, 3, 4\n"))
    assert (measured.obs_names.tolist(), measured.var_names.tolist()) == (["s1", "s2"], ["A", "B"])
    np.testing.assert_array_equal(measured.X.toarray(), [[1, 0], [0, 2]])
    np.testing.assert_array_equal(measured.obsm["spatial"], [[1, 2], [3, 4]])


def test_a_quoted_name_keeps_its_line_break_and_comma(table):
    counts = table("counts.csv", 'spot,"A\nb","C,d"\ns1,1,2\n')
    assert read_spots(counts, table("spots.csv", SPOTS)).var_names.tolist() == ["A\nb", "C,d"]


def test_decimal_commas_are_named(table):
    spots, counts = table("spots.csv", SPOTS), table("counts.csv", COUNTS)
    said = "a number with a decimal comma; save the table with points in decimals"
    tabbed = table("counts.tsv", "spot\tA\tB\ns1\t1\t2\ns2\t1\t2,5\n")
    assert refusal(read_spots, tabbed, spots) == f"counts.tsv: gene B holds '2,5', {said}"
    tabbed = table("spots.tsv", "spot\tx_px\ty_px\ns1\t10,5\t20\n")
    assert refusal(read_spots, counts, tabbed) == f"spots.tsv: x_px is '10,5', {said}"


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (
            '"1,005"',
            "'1,005', a number with a comma; save the table with points in decimals and none between thousands",
        ),
        ("1 005", "text ('1 005'); counts are whole numbers"),
        ("1'005", """text ("1'005"); counts are whole numbers"""),
        ("0x5", "text ('0x5'); counts are whole numbers"),
    ],
)
def test_marks_between_thousands_and_other_texts_are_shown(table, count, said):
    counts = table("counts.csv", f"spot,A,B\ns1,{count},0\n")
    assert refusal(read_spots, counts, table("spots.csv", SPOTS)) == f"counts.csv: gene A holds {said}"


def test_words_of_truth_are_no_counts(table):
    counts = table("counts.csv", "spot,A,B\ns1,TRUE,0\ns2,FALSE,1\n")
    assert refusal(read_spots, counts, table("spots.csv", SPOTS)).startswith("counts.csv: gene A holds text ('True')")


def test_semicolons_and_decimal_commas_are_read_as_spreadsheets_write_them(table):
    counts = table("counts.csv", 'spot;A;"B;C,D"\ns1;1;2\ns2;3;4\n')
    measured = read_spots(counts, table("spots.csv", "spot;x_px;y_px\ns1;10,5;20\ns2;30;40,25\n"))
    assert measured.var_names.tolist() == ["A", "B;C,D"]
    np.testing.assert_array_equal(measured.X.toarray(), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(measured.obsm["spatial"], [[10.5, 20], [30, 40.25]])
    halves = table("halves.csv", "spot;A\ns1;1,5\n")
    told = "halves.csv: gene A holds '1,5', a number with a decimal comma; save the table with points in decimals"
    assert refusal(read_spots, halves, table("spots.csv", SPOTS)) == told


def test_commas_that_may_stand_between_thousands_are_not_taken_for_points(table):
    spots, counts = table("spots.csv", SPOTS), table("counts.csv", "spot;A\ns1;1,000\ns2;12,000\n")
    assert "'1,000', a number with a comma" in refusal(read_spots, counts, spots)
    positions = table("positions.csv", "spot;x_px;y_px\ns1;1,234;2,345\n")
    assert "x_px is '1,234', a number with a comma" in refusal(read_spots, table("counts.csv", COUNTS), positions)


def test_names_of_spots_keep_their_commas(table):
    counts = table("counts.csv", "spot;A\n1,2;5\n")
    measured = read_spots(counts, table("spots.csv", "spot;x_px;y_px\n1,2;10,5;20\n"))
    assert measured.obs_names.tolist() == ["1,2"]
    np.testing.assert_array_equal(measured.obsm["spatial"], [[10.5, 20]])


@pytest.mark.parametrize(
    ("name", "text", "genes"),
    [
        ("c.tsv", "spot\tA,B,C\tD,E,F\ns1\t7\t8\n", ["A,B,C", "D,E,F"]),
        ("c.csv", "spot,A;B;C,D;E;F\ns1,7,8\n", ["A;B;C", "D;E;F"]),
    ],
)
def test_the_usual_separator_holds_where_names_have_more_of_another(table, name, text, genes):
    measured = read_spots(table(name, text), table("spots.csv", SPOTS))
    assert measured.var_names.tolist() == genes


# Counts and positions that cannot be used


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
        ("spot\ns1\n", "counts.csv has a single column; separate its columns by commas, semicolons or tabs"),
        ("", "counts.csv is empty; export it again"),
        ("a" * 200_000 + "\n", "counts.csv cannot be read as a table (field larger than field limit"),
        ("spot,A\ns1,1\n,2\n", "counts.csv has counts in a row without a spot's name"),
        ("spot,A,\ns1,1,2\n", "counts.csv has counts in a column without a gene's name"),
        (f"spot,A\ns1,{2**24}\n", "gene A is 16777216; raw counts are whole numbers from 0 to 16,777,215"),
        (f"spot,A\ns1,1{'0' * 30}\n", "raw counts are whole numbers from 0 to 16,777,215"),
        ("s\0p,A\ns1,1\n", "counts.csv is no plain text"),
        ("spot,A\ns1,1\ns2,1,2,3\n", "counts.csv cannot be read as a table"),
        ("spot,A\nother,1\n", "counts.csv and spots.csv share no spot: the first of each are 'other' and 's1'"),
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
        "a long name",
        "no name",
        "no gene's name",
        "more than floats hold",
        "more than integers hold",
        "no text",
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
        (SPOTS.replace("y_px", "y_px,x_px"), "spots.csv has 2 columns called x_px; keep one of them"),
        (SPOTS.replace("spot,", 'spot,"a\nb",'), "spots.csv cannot be read as a table"),
        (SPOTS + "s1,1,1\n", "spots.csv: spot s1 occurs twice"),
        (SPOTS.replace("30.5,40", "30.5,"), "spots.csv: spot s2 has no position"),
        (SPOTS.replace("30.5,40", "left,40"), "spots.csv: x_px is 'left'; give pixels, such as 1000.5"),
        (SPOTS.replace("30.5,40", '"1,030.5",40'), "spots.csv: x_px is '1,030.5'; give pixels"),
        (SPOTS.replace("30.5,40", "inf,40"), "spots.csv: spot s2 has no position"),
    ],
    ids=["no spot", "no x", "no y", "two x", "a name of two lines", "twice", "blank", "text", "comma", "inf"],
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
    assert "counts.csv is no plain text" in refusal(read_spots, path, table("spots.csv", SPOTS))


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


def test_log_normalised_is_the_same_sparse_and_for_chosen_genes():
    counts = np.array([[1, 0, 3], [0, 2, 5], [0, 0, 0]], np.float32)
    whole = log_normalised(counts)
    np.testing.assert_array_equal(log_normalised(sparse.csr_array(counts)), whole)
    np.testing.assert_array_equal(log_normalised(sparse.csr_array(counts), np.array([2, 0])), whole[:, [2, 0]])


def test_expression_of_chosen_genes_counts_all_genes_as_depth(table):
    measured = read_spots(table("counts.csv", "spot,A,B\ns1,1,3\ns2,0,5\n"), table("spots.csv", SPOTS))
    # 3 of 4 is 7,500 per 10,000.
    np.testing.assert_allclose(expression_of(measured, ["B"]), [[8.922792], [9.210440]], atol=1e-5)
    with pytest.raises(SpotsError, match="gene D was not measured"):
        expression_of(measured, ["A", "D"])


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


def test_a_manifest_may_be_written_with_semicolons_and_decimal_commas(manifest):
    path = manifest(f"{HEADER}S1,P1,he.png,0|5,spots.csv,counts.csv\n".replace(",", ";").replace("|", ","))
    [section] = read_manifest(path)
    assert (section.image.name, section.mpp) == ("he.png", 0.5)


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


def test_a_section_or_patient_may_be_called_na(manifest):
    (section,) = read_manifest(manifest(HEADER + "NA,None,he.png,1,spots.csv,counts.csv\n"))
    assert (section.name, section.patient) == ("NA", "None")


@pytest.mark.parametrize("column", ["section", "patient", "image", "mpp", "spots", "counts"])
def test_manifest_without_a_column_is_refused_with_its_name(manifest, column):
    text = HEADER.replace(column, "other") + "S1,P1,he.png,0.5,spots.csv,counts.csv\n"
    assert f"manifest.csv lacks the column {column}" in refusal(read_manifest, manifest(text))


def test_a_manifest_with_a_column_twice_is_refused_with_its_name(manifest):
    text = "section,patient,image,mpp,spots,counts,image\nS1,P1,he.png,0.5,spots.csv,counts.csv,other.png\n"
    assert refusal(read_manifest, manifest(text)) == "manifest.csv has 2 columns called image; keep one of them"


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


def test_real_sections_read_as_published(data_folder):
    folder = data_folder / "her2st"
    measured = read_spots(folder / "counts/B4.tsv.gz", folder / "spots/B4_selection.tsv")
    assert measured.shape == (283, 15289)
    assert np.median(measured.X.sum(axis=1)) == 648
    # The line of spot 9x13 in the published file.
    np.testing.assert_array_equal(measured["9x13"].obsm["spatial"], [[2307.86, 3500.48]])


def test_a_spot_table_of_nothing_but_its_header_is_told(tmp_path):
    (tmp_path / "counts.csv").write_text("spot,A\n1x1,3\n")
    (tmp_path / "spots.csv").write_text("spot,x_px,y_px\n")
    with pytest.raises(SpotsError, match=r"spots\.csv lists no spot"):
        read_spots(tmp_path / "counts.csv", tmp_path / "spots.csv")
