"""What the command line promises: plain files, honest exit codes, and one line on stderr for every error of a user."""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from shapely.geometry import box

from nsl import prediction
from nsl.cli import main
from nsl.errors import SlideError
from nsl.slides.annotations.geojson import geojson_text
from nsl.slides.annotations.region import Region
from nsl.slides.slide import open_slide
from nsl.tiles import USUAL_STEP
from nsl.weights.folder import embedded_folder
from nsl.weights.weights import Weights

PLACE_COLUMNS = [
    *("tile", "array_row", "array_col", "x_um", "y_um", "x_px", "y_px", "tissue_fraction"),
    *("ink", "pigment", "blur", "fold", "surround"),
]
GENES = ["ERBB2", "CD24", "COX6C"]


@pytest.fixture
def predict(tiny_weights, tmp_path, capsys):
    """Runs `nsl predict` with the tiny weights into tmp_path/out; gives exit code and lines of stderr."""

    def run(*argv: object) -> tuple[int, list[str]]:
        words = ["predict", *map(str, argv)]
        for option, value in (("--weights", tiny_weights), ("--out", tmp_path / "out")):
            if option not in words:
                words += [option, str(value)]
        code = main(words)
        return code, capsys.readouterr().err.splitlines()

    return run


def split_by_kind(err: str) -> tuple[list[str], list[str]]:
    """The notes of stderr, and all else."""
    lines = err.splitlines()
    notes = [line for line in lines if line.startswith("nsl: note: ")]
    return notes, [line for line in lines if line not in notes]


def assert_one_line_error(code: int, err: list[str], *said: str) -> None:
    assert code == 2
    assert len(err) == 1, err
    assert err[0].startswith("nsl: error: ")
    assert "Traceback" not in err[0]
    for part in said:
        assert part in err[0]


# What predict writes


# In tiles of the tiny weights.
SIDE_BY_SIDE = ("--stride-um", 100)


def test_tiles_are_as_far_apart_as_the_app_proposes(predict, section_png, tmp_path):
    for tile_um, given in ((100, ()), (60, ("--tile-um", 60))):
        assert predict(section_png, "--mpp", 1, *given)[0] == 0
        said = json.loads((tmp_path / "out/section.provenance.json").read_text())
        assert said["stride_um"] == USUAL_STEP * tile_um


def test_csv_reads_with_no_arguments_and_has_the_columns_promised(predict, section_png, tmp_path):
    assert predict(section_png, "--mpp", 1, *SIDE_BY_SIDE) == (0, [])
    table = pd.read_csv(tmp_path / "out/section.csv")
    assert table.columns.tolist() == PLACE_COLUMNS + GENES
    assert 0 < len(table) < 7 * 6
    assert table.notna().all(axis=None)
    assert (table.tissue_fraction >= 0.3).all()
    assert table.tile.tolist() == [f"r{row}c{col}" for row, col in zip(table.array_row, table.array_col, strict=True)]
    np.testing.assert_allclose(table.x_um, 50 + 100 * table.array_col)
    np.testing.assert_allclose(table.y_px, 50 + 100 * table.array_row)


def test_positions_are_in_level_0_pixels_and_in_micrometres(predict, section_png, tmp_path):
    assert predict(section_png, "--mpp", 0.5, "--tile-um", 60)[0] == 0
    table = pd.read_csv(tmp_path / "out/section.csv")
    np.testing.assert_allclose(table.x_um, 0.5 * table.x_px, atol=0.01)
    assert table.x_px.max() > 350


def test_tissue_is_found_where_the_section_is_stained(predict, section_png, section, tmp_path):
    assert predict(section_png, "--mpp", 1, "--min-tissue", 0, *SIDE_BY_SIDE)[0] == 0
    table = pd.read_csv(tmp_path / "out/section.csv")
    assert len(table) == 7 * 6
    stain = section.stain_under(table[["x_px", "y_px"]].to_numpy(), 100).sum(axis=1)
    assert np.corrcoef(stain, table.tissue_fraction)[0, 1] > 0.8
    assert (table.tissue_fraction[stain == 0] == 0).all()


def test_prediction_reads_no_file_name_into_provenance(predict, section_png, tmp_path):
    folder = tmp_path / "Clinic of Dr Example"
    folder.mkdir()
    slide = section_png.rename(folder / "Doe-Jane-born-1960.png")
    assert predict(slide, "--mpp", 1, "--format", "csv,h5ad")[0] == 0
    text = (tmp_path / "out/Doe-Jane-born-1960.provenance.json").read_text()
    uns = anndata.read_h5ad(tmp_path / "out/Doe-Jane-born-1960.h5ad").uns
    for name in ("Doe", "Jane", "born-1960", "Clinic", tmp_path.name):
        assert name not in text
        assert name not in repr(uns)


def test_provenance_says_what_the_numbers_came_from(predict, section_png, section, tiny_weights, tmp_path):
    assert predict(section_png, "--mpp", 1, "--stride-um", 50)[0] == 0
    said = json.loads((tmp_path / "out/section.provenance.json").read_text())
    assert said["slide_sha256"] == hashlib.sha256(section_png.read_bytes()).hexdigest()
    assert said["weights_sha256"] == hashlib.sha256((tiny_weights / "model.safetensors").read_bytes()).hexdigest()
    assert said["weights_id"] == "tiny"
    assert (said["mpp"], said["tile_um"], said["stride_um"], said["analysis_mpp"]) == (1, 100, 50, 2)
    assert said["white_point_source"] == "background"
    np.testing.assert_allclose(said["white_point"], section.white_point, atol=1)
    np.testing.assert_allclose(said["slide_stain_vectors"], section.stain_vectors, atol=0.06)
    assert 0 <= said["stain_distance"] < 1
    assert said.keys() >= {"weights_revision", "version", "units"}


def test_h5ad_reads_back_with_positions_image_and_provenance(predict, section_png, tmp_path):
    assert predict(section_png, "--mpp", 1, "--format", "csv,h5ad", *SIDE_BY_SIDE) == (0, [])
    result = anndata.read_h5ad(tmp_path / "out/section.h5ad")
    table = pd.read_csv(tmp_path / "out/section.csv", index_col="tile")
    assert result.var_names.tolist() == GENES
    assert result.obs_names.tolist() == table.index.tolist()
    np.testing.assert_allclose(result.obsm["spatial"], table[["x_px", "y_px"]], atol=0.01)
    np.testing.assert_allclose(result.X, table[GENES], atol=1e-4)
    assert result.uns["nsl"]["tile_um"] == 100
    [drawn] = result.uns["spatial"].values()
    assert drawn["images"]["hires"].shape == (600, 700, 3)
    assert drawn["scalefactors"]["tissue_hires_scalef"] == 1
    assert drawn["scalefactors"]["spot_diameter_fullres"] == 100


def test_only_the_formats_asked_for_are_written(predict, section_png, tmp_path):
    assert predict(section_png, "--mpp", 1, "--format", "h5ad")[0] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["section.h5ad"]


def test_geojson_and_a_map_a_gene_are_written_beside_the_rest(predict, section_png, tmp_path):
    options = ["--mpp", 1, "--genes", "ERBB2,CD24", "--format", "csv,geojson,png"]
    assert predict(section_png, *options) == (0, [])
    out = tmp_path / "out"
    endings = ("csv", "genes.csv", "provenance.json", "geojson", "ERBB2.png", "CD24.png")
    assert {path.name for path in out.iterdir()} == {f"section.{end}" for end in endings}
    table = pd.read_csv(out / "section.csv")
    drawn = json.loads((out / "section.geojson").read_text())["features"]
    assert [feature["properties"]["name"] for feature in drawn] == table.tile.tolist()
    measured = pd.DataFrame([feature["properties"]["measurements"] for feature in drawn])
    np.testing.assert_allclose(measured[["ERBB2", "CD24"]], table[["ERBB2", "CD24"]], atol=1e-4)
    with Image.open(out / "section.CD24.png") as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_report_names_the_slide_and_says_what_the_file_and_the_weights_do(predict, section_png, annotated, tmp_path):
    folder = tmp_path / "Clinic of Dr Example"
    folder.mkdir()
    slide = section_png.rename(folder / "section 7.png")
    assert predict(slide, "--mpp", 1, "--regions", annotated, "--format", "csv,html") == (0, [LEFT_OUT])
    text = (tmp_path / "out/section 7.html").read_text(encoding="utf-8")
    for part in (
        "<h1>section 7</h1>",
        "700 × 600 px",
        "paint: 189 spots of 3 patients",
        "Tumor</span>",
        "Stroma</span>",
    ):
        assert part in text, part
    assert text.count("<img ") == 1 + len(GENES)
    assert "rgb(200, 0, 0)" in text
    for hidden in ("Clinic", tmp_path.name):
        assert hidden not in text


def test_a_report_of_all_genes_has_four_maps(predict, section_png, tmp_path):
    embedded = Path(__file__).parents[1] / "weights/her2-breast"
    assert predict(section_png, "--mpp", 1, "--weights", embedded, "--format", "html")[0] == 0
    assert 1 + 2 <= (tmp_path / "out/section.html").read_text(encoding="utf-8").count("<img ") <= 1 + 4


def test_too_many_maps_are_refused_before_anything_is_read(predict, tmp_path):
    embedded = Path(__file__).parents[1] / "weights/her2-breast"
    code, err = predict(tmp_path / "missing.png", "--weights", embedded, "--format", "csv,png")
    assert_one_line_error(code, err, "--format png draws a map a gene; name at most 20 with --genes (4,822 are chosen)")
    assert not (tmp_path / "out").exists()


def test_header_comments_lead_the_csv_and_pandas_can_skip_them(predict, section_png, tmp_path):
    assert predict(section_png, "--mpp", 1, "--header-comments")[0] == 0
    path = tmp_path / "out/section.csv"
    lines = path.read_text().splitlines()
    comments = dict(line.removeprefix("# ").split(": ", 1) for line in lines if line.startswith("#"))
    said = json.loads((tmp_path / "out/section.provenance.json").read_text())
    assert {key: json.loads(value) for key, value in comments.items()} == said
    assert lines[len(comments)].startswith("tile,")
    assert pd.read_csv(path, comment="#").columns.tolist() == PLACE_COLUMNS + GENES


def test_genes_come_in_the_order_asked(predict, section_png, tmp_path):
    assert predict(section_png, "--mpp", 1)[0] == 0
    every = pd.read_csv(tmp_path / "out/section.csv")
    assert predict(section_png, "--mpp", 1, "--genes", "COX6C, ERBB2")[0] == 0
    some = pd.read_csv(tmp_path / "out/section.csv")
    assert some.columns.tolist() == [*PLACE_COLUMNS, "COX6C", "ERBB2"]
    np.testing.assert_allclose(some[["COX6C", "ERBB2"]], every[["COX6C", "ERBB2"]], atol=1e-4)


def test_gene_sets_of_a_file_are_scored_beside_the_genes(predict, section_png, tmp_path, capsys):
    sets = tmp_path / "mine.gmt"
    sets.write_text("growth\there\tERBB2\tCD24\tCOX6C\tESR1\nfew\there\tESR1\tCD24\n", encoding="utf-8")
    note = "nsl: note: too few genes of few are in the weights to score it"
    given = ("--genes", "CD24", "--signatures", sets, "--format", "csv,h5ad")
    assert predict(section_png, "--mpp", 1, *given) == (0, [note])
    table = pd.read_csv(tmp_path / "out/section.csv")
    assert table.columns.tolist() == [*PLACE_COLUMNS, "signature:growth", "CD24"]
    told = json.loads((tmp_path / "out/section.provenance.json").read_text())["signatures"]["growth"]
    assert (told["source"], told["missing"]) == ("here", "ESR1")
    scores = anndata.read_h5ad(tmp_path / "out/section.h5ad").obsm["signatures"]
    np.testing.assert_allclose(scores.growth, table["signature:growth"], atol=1e-4)
    assert predict(section_png, "--mpp", 1, "--signatures", sets) == (0, [note])
    assert pd.read_csv(tmp_path / "out/section.csv").columns.tolist() == [*PLACE_COLUMNS, "signature:growth", *GENES]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ERBB2,CD24\n", "line 1 of the gene sets is not GMT"),
        (b"", "the gene sets hold no set"),
        (b"a\tb\tESR1\n", "hold fewer than 3 genes of a"),
        (b"\xff\xfe\x00", "line 1 of the gene sets is not GMT"),
        (None, "mine.gmt cannot be read (No such file or directory)"),
    ],
)
def test_a_bad_file_of_gene_sets_is_one_line(predict, section_png, tmp_path, content, said):
    if content is not None:
        (tmp_path / "mine.gmt").write_bytes(content)
    assert_one_line_error(*predict(section_png, "--mpp", 1, "--signatures", tmp_path / "mine.gmt"), said)
    assert not (tmp_path / "out").exists()


def test_a_set_that_takes_the_place_of_the_weights_own_is_told(predict, tiny_weights, section_png, tmp_path):
    sets = tmp_path / "mine.gmt"
    judged = "0.5,0.2,0.7,0.1,0.9,0.01,0.02,2,126,0.3,P1 0.40; P2 0.60"
    (tiny_weights / "signatures.csv").write_text(
        "name,source,members,r_heldout,r_low,r_high,r_next_low,r_next_high,p_value,q_value,patients_replicated,n_spots,"
        f"r_specific,r_groups\ngrowth,made in code,ERBB2;CD24,{judged}\nall,made in code,ERBB2;CD24;COX6C,{judged}\n"
    )
    sets.write_text("growth\there\tERBB2\tCD24\tCOX6C\nall\there\tHER2\tCD24\tCOX6C\tESR1\n", encoding="utf-8")
    note = "nsl: note: scored as in mine.gmt, not as the weights know it: growth"
    assert predict(section_png, "--mpp", 1, "--signatures", sets) == (0, [note])
    told = json.loads((tmp_path / "out/section.provenance.json").read_text())["signatures"]
    assert told["growth"]["source"] == "here"


@pytest.fixture
def annotated(tmp_path) -> Path:
    """The left half with a hole as a tumour, a part of the right as stroma, and a point."""
    tumor = box(0, 0, 300, 600).difference(box(200, 200, 300, 300))
    regions = [Region("Doe", "Tumor", (200, 0, 0), tumor), Region("Jane", "Stroma", None, box(300, 0, 700, 300))]
    told = json.loads(geojson_text(regions))
    told["features"].append({"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}})
    path = tmp_path / "annotated.geojson"
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


LEFT_OUT = "nsl: note: 1 point, line or object without an area was left out"


def test_regions_of_a_file_are_in_every_format_and_compared_by_class(predict, section_png, annotated, tmp_path):
    given = ("--mpp", 1, "--regions", annotated, "--format", "csv,h5ad,geojson", *SIDE_BY_SIDE)
    assert predict(section_png, *given) == (0, [LEFT_OUT])
    table = pd.read_csv(tmp_path / "out/section.csv", keep_default_na=False)
    assert table.columns.tolist() == [*PLACE_COLUMNS, "region", "region_class", *GENES]
    place = table.set_index(["array_col", "array_row"]).region_class
    expected = [
        ("Tumor" if (column, row) != (2, 2) else "") if column < 3 else "Stroma" if row < 3 else ""
        for column, row in place.index
    ]
    assert (2, 2) in place.index
    assert place.tolist() == expected
    assert set(table.region) == {"Doe", "Jane", ""}
    obs = anndata.read_h5ad(tmp_path / "out/section.h5ad").obs
    assert obs.region_class.tolist() == table.region_class.tolist()
    drawn = [
        feature["properties"] for feature in json.loads((tmp_path / "out/section.geojson").read_text())["features"]
    ]
    assert [one.get("classification", "") for one in drawn] == table.region_class.tolist()
    compared = pd.read_csv(tmp_path / "out/section.regions.csv", index_col=["class", "gene"])
    assert set(compared.index) == {(one, gene) for one in ("Tumor", "Stroma") for gene in GENES}
    row, inside = compared.loc["Tumor", "CD24"], table.region_class == "Tumor"
    assert (row.tiles_inside, row.tiles_outside) == (inside.sum(), (~inside).sum())
    assert row.mean_inside == pytest.approx(table.CD24[inside].mean(), abs=1e-4)
    assert row.difference == pytest.approx(table.CD24[inside].mean() - table.CD24[~inside].mean(), abs=2e-4)
    assert row.effect_low < row.effect_size < row.effect_high
    assert "Doe" not in (tmp_path / "out/section.provenance.json").read_text()


def test_tiles_inside_regions_alone_are_predicted_as_they_are_among_all(predict, section_png, annotated, tmp_path):
    given = ("--mpp", 1, "--regions", annotated)
    assert predict(section_png, *given)[0] == 0
    every = pd.read_csv(tmp_path / "out/section.csv", keep_default_na=False)
    assert predict(section_png, *given, "--inside-regions")[0] == 0
    inside = pd.read_csv(tmp_path / "out/section.csv", keep_default_na=False)
    expected = every[every.region != ""].reset_index(drop=True)
    assert 0 < len(expected) < len(every)
    pd.testing.assert_frame_equal(inside, expected)
    assert json.loads((tmp_path / "out/section.provenance.json").read_text())["inside_only"] is True


def test_regions_that_cannot_be_compared_leave_the_prediction(predict, section_png, tmp_path):
    path = tmp_path / "one.geojson"
    path.write_text(geojson_text([Region("a", "Tumor", None, box(0, 0, 700, 600))]), encoding="utf-8")
    code, err = predict(section_png, "--mpp", 1, "--regions", path)
    assert code == 0
    assert err == [
        "nsl: note: section.regions.csv is not written: what was annotated has not 3 tiles inside and 3 outside to "
        "compare; bring larger regions, or predict outside of them too"
    ]
    assert (tmp_path / "out/section.csv").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the annotations are empty"),
        ("{}", "the annotations are not GeoJSON"),
        (
            geojson_text([Region("Doe", "", None, box(700, 0, 900, 9))]),
            "region 1 lies off the slide: it spans x 700 to 900",
        ),
        (None, "annotated.geojson cannot be read (No such file or directory)"),
    ],
)
def test_a_bad_file_of_regions_is_one_line(predict, section_png, tmp_path, content, said):
    path = tmp_path / "annotated.geojson"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert_one_line_error(*predict(section_png, "--mpp", 1, "--regions", path), said)
    assert not (tmp_path / "out").exists()


def test_regions_belong_to_one_slide_and_inside_needs_them(predict, section_png, annotated, tmp_path):
    other = tmp_path / "other.png"
    assert_one_line_error(*predict(section_png, other, "--regions", annotated), "--regions is of one slide, and 2 are")
    assert_one_line_error(*predict(section_png, "--mpp", 1, "--inside-regions"), "name their file with --regions")


def test_what_was_done_to_the_pixels_is_said_once_as_a_note(predict, section, tmp_path):
    path = tmp_path / "clear.png"
    Image.fromarray(np.dstack([section.pixels, np.full((600, 700), 200, np.uint8)])).save(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        code, err = predict(path, "--mpp", 1)
    assert code == 0
    assert len(err) == 1
    assert err[0].startswith("nsl: note: clear.png has transparency")
    assert not [warning for warning in caught if issubclass(warning.category, UserWarning)]


def test_python_m_nsl_predicts_with_the_embedded_weights(section_png, tmp_path):
    command = [sys.executable, "-m", "nsl", "predict", section_png, "--mpp", "1", "--out", tmp_path / "out"]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stderr == b""
    assert b"section.png" in run.stdout
    assert {"ERBB2", "CD24", "COX6C"} <= set(pd.read_csv(tmp_path / "out/section.csv").columns)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_that_lacks_a_character_does_not_fail_the_run(predict, section_png, monkeypatch, encoding):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert predict(section_png, "--mpp", 1)[0] == 0


def test_a_real_slide_predicts_without_being_told_its_scale(data_folder, predict, tmp_path):
    slide = data_folder / "slides/cmu_small_region.svs"
    assert predict(slide, "--tile-um", 150, "--stride-um", 150) == (0, [])
    table = pd.read_csv(tmp_path / "out/cmu_small_region.csv")
    assert 0 < len(table) <= 7 * 9
    assert np.isfinite(table[GENES]).all(axis=None)
    assert json.loads((tmp_path / "out/cmu_small_region.provenance.json").read_text())["mpp"] == pytest.approx(0.499)


def test_without_the_transfer_a_slide_in_another_stain_is_noted(data_folder, predict, tmp_path):
    side_by_side = ("--tile-um", 150, "--stride-um", 150)
    code, [note] = predict(data_folder / "slides/cmu_small_region.svs", *side_by_side, "--no-transfer")
    assert code == 0
    assert "stained differently from the training slides" in note
    said = json.loads((tmp_path / "out/cmu_small_region.provenance.json").read_text())
    assert said["transfer"] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_ink_is_left_out_noted_and_kept_with_no_quality(section, predict, tmp_path):
    pixels = section.pixels.copy()
    pixels[200:300, 200:300] = section.white_point * (0.1, 0.55, 0.3)
    Image.fromarray(pixels).save(tmp_path / "inked.png")
    code, [note] = predict(tmp_path / "inked.png", "--mpp", 1, *SIDE_BY_SIDE)
    assert (code, note) == (0, "nsl: note: 1 tile left out: 1 ink")
    said = json.loads((tmp_path / "out/inked.provenance.json").read_text())
    assert said["left_out"] == {"ink": 1, "pigment": 0, "blur": 0, "fold": 0, "surround": 0}
    tiles = len(pd.read_csv(tmp_path / "out/inked.csv"))
    code, notes = predict(tmp_path / "inked.png", "--mpp", 1, "--no-quality", *SIDE_BY_SIDE)
    assert (code, notes) == (0, [])
    assert len(pd.read_csv(tmp_path / "out/inked.csv")) == tiles + 1


def test_a_fluorescence_scan_is_refused(data_folder, predict):
    code, err = predict(data_folder / "slides/fluorescence.ndpi", "--tile-um", 150)
    assert_one_line_error(code, err, "light on a dark ground, as fluorescence is")


# info


def test_info_tells_size_scale_and_checksum(section_png, capsys):
    assert main(["info", str(section_png), "--mpp", "0.5"]) == 0
    out = capsys.readouterr().out
    with open_slide(section_png) as slide:
        assert slide.sha256 in out
    for part in ("PNG", "700 × 600 px", "0.5 µm/px", "0.35 × 0.30 mm"):
        assert part in out


def test_info_of_an_image_without_scale_says_how_to_give_it(section_png, capsys):
    assert main(["info", str(section_png)]) == 0
    assert "scale    unknown; give --mpp" in capsys.readouterr().out


def test_info_of_a_missing_slide_is_one_line(tmp_path, capsys):
    code = main(["info", str(tmp_path / "no.svs")])
    assert_one_line_error(code, capsys.readouterr().err.splitlines(), "no.svs does not exist")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal_that_leaves_no_trace(predict, section_png, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert predict(section_png, "--mpp", 1)[0] == 0
    shown = sys.stderr.getvalue()
    assert "predicting   0%" in shown
    assert not shown.rsplit("\r", 2)[1].strip()


# train


def test_trained_weights_predict_the_genes_they_learned(paired, tmp_path, capsys):
    weights, out = tmp_path / "mine", tmp_path / "out"
    options = [f"--out={weights}", "--tile-um", "60", "--licence", "CC0"]
    assert main(["train", str(paired / "manifest.csv"), *options]) == 0
    captured = capsys.readouterr()
    notes, others = split_by_kind(captured.err)
    assert others == []
    assert [note for note in notes if " S1 " in note] == [
        "nsl: note: Only 7 genes of S1 are counted in at least a tenth of its spots; fewer than 100 have little in "
        "common to learn from.",
    ]
    assert "126 spots of 2 patients" in captured.out
    config = json.loads((weights / "config.json").read_text())
    assert (config["name"], config["training_data"]["licence"]) == ("mine", "CC0")
    # No folder, which can name a person.
    assert config["fit"]["command"] == "python -m nsl train manifest.csv --out=mine --tile-um 60 --licence CC0"

    slide = str(paired / "S2.png")
    assert (
        main(["predict", slide, "--mpp", "1", "--weights", str(weights), "--out", str(out), "--min-tissue", "0"]) == 0
    )
    table = pd.read_csv(out / "S2.csv")
    counts, spots = (pd.read_csv(paired / f"S2_{name}.csv", index_col="spot") for name in ("counts", "spots"))
    normalised = np.log1p(counts.mul(10_000 / counts.sum(axis=1), axis=0))
    nearest = ((spots.to_numpy()[:, None] - table[["x_px", "y_px"]].to_numpy()) ** 2).sum(axis=2).argmin(axis=1)
    for gene in ("H_GENE", "E_GENE"):
        assert np.corrcoef(table[gene].to_numpy()[nearest], normalised[gene])[0, 1] > 0.85


def test_training_on_a_missing_manifest_is_one_line(tmp_path, capsys):
    code = main(["train", str(tmp_path / "no.csv"), "--out", str(tmp_path / "w")])
    assert_one_line_error(code, capsys.readouterr().err.splitlines(), "no.csv does not exist")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--genes", "UNHEARD"], "UNHEARD"),
        (["--genes", ","], "no gene"),
        (["--min-detected", "2"], "no gene"),
    ],
)
def test_training_options_that_cannot_be_are_one_line(paired, tmp_path, capsys, options, said):
    code = main(["train", str(paired / "manifest.csv"), "--out", str(tmp_path / "w"), *options])
    _, errors = split_by_kind(capsys.readouterr().err)
    assert_one_line_error(code, errors, said)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_a_network_is_trained_for_some_minutes_or_not_at_all(paired, tmp_path, capsys, minutes):
    code = main(["evaluate", "--data", str(paired), "--out", str(tmp_path / "t"), f"--deep-minutes={minutes}"])
    said = f"--deep-minutes is {float(minutes):g}; it must be a number of minutes above 0"
    assert_one_line_error(code, capsys.readouterr().err.splitlines(), said)


@pytest.mark.parametrize("name", ["README.md", "config.json", "signatures.csv", "model.safetensors"])
def test_weights_replace_no_file_that_is_not_of_weights(paired, tmp_path, capsys, name):
    (tmp_path / "mine").mkdir()
    foreign = tmp_path / "mine" / name
    foreign.write_text("of a project")
    code = main(["train", str(paired / "manifest.csv"), "--genes", "H_GENE", "--out", str(tmp_path / "mine")])
    assert_one_line_error(
        code, capsys.readouterr().err.splitlines(), f"mine holds a {name}, which would be replaced, and is no whole"
    )
    assert foreign.read_text() == "of a project"


class _Closed(io.TextIOBase):
    """Standard output that nobody takes."""

    def __init__(self, error: OSError):
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [(BrokenPipeError(32, "Broken pipe"), ""), (OSError(28, "No space left on device"), "No space left on device")],
)
def test_output_that_nobody_takes_ends_without_a_traceback(section_png, monkeypatch, capsys, error, said):
    monkeypatch.setattr(sys, "stdout", _Closed(error))
    assert main(["info", str(section_png)]) == 2
    err = capsys.readouterr().err
    assert err == (f"nsl: error: what was to be printed cannot be ({said})\n" if said else "")


def test_weights_that_cannot_be_written_are_one_line(paired, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    code = main(["train", str(paired / "manifest.csv"), "--genes", "H_GENE", "--out", str(tmp_path / "taken")])
    assert_one_line_error(code, capsys.readouterr().err.splitlines(), "taken")
    assert (tmp_path / "taken").read_text() == "a file"


# Bad input


def bad_slide(kind: str, folder: Path, section_png: Path) -> Path:
    path = folder / {"text": "notes.jpg", "cut": "cut.jpg", "empty": "empty.png"}.get(kind, f"{kind}.png")
    if kind == "text":
        path.write_text("not a picture\n" * 100)
    elif kind == "cut":
        Image.open(section_png).save(path, quality=90)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "blank":
        Image.new("RGB", (700, 600), (240, 236, 240)).save(path)
    elif kind == "small":
        Image.open(section_png).crop((200, 200, 290, 290)).save(path)
    elif kind == "folder":
        path.mkdir()
    return path


BAD_SLIDES = {
    "text": ("notes.jpg looks like a text file",),
    "cut": ("cut.jpg is damaged or incomplete",),
    "empty": ("empty.png is empty (0 bytes)",),
    "blank": ("no tile is at least 30% tissue",),
    "small": ("the image is 90 × 90 µm, smaller than one tile of 100 µm",),
    "missing": ("missing.png does not exist",),
    "folder": ("folder.png is a folder",),
}


@pytest.mark.parametrize(("kind", "said"), BAD_SLIDES.items())
def test_bad_slide_is_one_line_and_writes_nothing(predict, section_png, tmp_path, kind, said):
    code, err = predict(bad_slide(kind, tmp_path, section_png), "--mpp", 1)
    assert_one_line_error(code, err, *said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "section.png has no µm/px in its metadata; give it"),
        (["--mpp", "0"], "µm/px must be a positive number, got 0"),
        (["--mpp", "-1"], "µm/px must be a positive number, got -1"),
        (["--mpp", "nan"], "µm/px must be a positive number, got nan"),
        (["--mpp", "abc"], "--mpp: invalid float value: 'abc'"),
        (["--mpp", "1", "--genes", "ERBB2,ERB2"], "no gene ERB2; did you mean ERBB2?"),
        (["--mpp", "1", "--genes", ","], "gene"),
        (["--mpp", "1", "--tile-um", "0"], "the tile must be a positive number of µm, got 0"),
        (["--mpp", "1", "--tile-um", "nan"], "the tile must be a positive number of µm, got nan"),
        (["--mpp", "1", "--stride-um", "-5"], "the step between tiles must be a positive number of µm, got -5"),
        (["--mpp", "1", "--analysis-mpp", "0"], "analysis resolution must be a positive number of µm/px, got 0"),
        (["--mpp", "1", "--min-tissue", "1.5"], "least share of tissue must lie between 0 and 1, got 1.5"),
        (["--mpp", "1", "--min-tissue", "nan"], "least share of tissue must lie between 0 and 1, got nan"),
        (["--mpp", "1", "--format", "xlsx"], "there is no format 'xlsx'; choose from csv, h5ad, geojson, png"),
        (["--mpp", "1", "--format", ""], "there is no format ''"),
        (["--mpp", "1", "--weights", "/no/such/weights"], "there is no weights folder /no/such/weights"),
        (["--mpp", "1", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_option_is_one_line_with_the_value_and_writes_nothing(predict, section_png, tmp_path, options, said):
    code, err = predict(section_png, *options)
    assert_one_line_error(code, err, said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("offset"), "tiny/model.safetensors has no tensor offset"),
        (lambda tensors: tensors.update(effect=torch.zeros(5, 2)), "effect has the shape (5, 2)"),
        (lambda tensors: tensors["effect"].fill_(torch.nan), "effect of gene number 1 is not a finite number"),
    ],
    ids=["missing", "shape", "nan"],
)
def test_bad_tensors_are_one_line(predict, section_png, tiny_weights, change, said):
    tensors = load_file(tiny_weights / "model.safetensors")
    change(tensors)
    save_file(tensors, tiny_weights / "model.safetensors", metadata={"genes": json.dumps(GENES)})
    assert_one_line_error(*predict(section_png, "--mpp", 1), said)


@pytest.mark.parametrize("argv", [[], ["paint"], ["predict"], ["predict", "a.png"], ["train"]])
def test_incomplete_commands_are_one_line(argv, capsys):
    assert_one_line_error(main(argv), capsys.readouterr().err.splitlines())


@pytest.mark.parametrize("out", ["taken", "taken/below"])
@pytest.mark.parametrize("form", ["csv", "h5ad", "geojson", "png"])
def test_an_output_folder_that_is_a_file_is_one_line(predict, section_png, tmp_path, out, form):
    (tmp_path / "taken").write_text("a file")
    code, err = predict(section_png, "--mpp", 1, "--out", tmp_path / out, "--format", form)
    assert_one_line_error(code, err, "taken is a file; name a folder for the results")
    assert (tmp_path / "taken").read_text() == "a file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only to root")
def test_an_output_folder_that_is_read_only_is_one_line(predict, section_png, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    assert_one_line_error(*predict(section_png, "--mpp", 1), "cannot be written", "Permission denied")


def test_debug_raises_what_otherwise_is_one_line(predict, section_png, tmp_path):
    slide = bad_slide("text", tmp_path, section_png)
    with pytest.raises(SlideError, match="text file"):
        predict(slide, "--mpp", 1, "--debug")


# Several slides


def test_several_slides_are_each_written_under_their_own_name(predict, section, tmp_path):
    names = ["one.png", "two.png"]
    for name in names:
        Image.fromarray(section.pixels).save(tmp_path / name)
    assert predict(*(tmp_path / name for name in names), "--mpp", 1) == (0, [])
    written = {path.name for path in (tmp_path / "out").iterdir()}
    endings = ("csv", "genes.csv", "provenance.json", "run.json")
    assert written == {f"{name}.{end}" for name in ("one", "two") for end in endings}


def test_one_bad_slide_of_several_is_listed_and_the_rest_written(predict, section_png, tmp_path):
    bad = bad_slide("text", tmp_path, section_png)
    code, err = predict(bad, section_png, "--mpp", 1)
    assert code == 1
    assert len(err) == 1
    assert err[0].startswith("nsl: error: notes.jpg")
    with (tmp_path / "out/failures.csv").open(newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert row["slide"] == "notes.jpg"
    assert "looks like a text file" in row["error"]
    assert len(pd.read_csv(tmp_path / "out/section.csv")) > 0


def test_several_slides_all_bad_exit_with_2_and_are_all_listed(predict, section_png, tmp_path):
    slides = [bad_slide(kind, tmp_path, section_png) for kind in ("text", "empty")]
    code, err = predict(*slides, "--mpp", 1)
    assert code == 2
    assert len(err) == 2
    assert pd.read_csv(tmp_path / "out/failures.csv").slide.tolist() == ["notes.jpg", "empty.png"]


def test_a_run_without_failures_leaves_no_list_of_earlier_ones(predict, section_png, tmp_path):
    bad = bad_slide("blank", tmp_path, section_png)
    assert predict(bad, section_png, "--mpp", 1)[0] == 1
    bad.write_bytes(section_png.read_bytes())
    assert predict(bad, section_png, "--mpp", 1)[0] == 0
    assert not (tmp_path / "out/failures.csv").exists()


def test_failures_that_cannot_be_listed_are_still_told_without_a_traceback(predict, section_png, tmp_path):
    (tmp_path / "taken").write_text("a file")
    slides = [bad_slide(kind, tmp_path, section_png) for kind in ("text", "empty")]
    code, err = predict(*slides, "--mpp", 1, "--out", tmp_path / "taken")
    assert code == 2
    assert all(line.startswith("nsl: error: ") for line in err)


@pytest.mark.parametrize("form", ["geojson", "csv,geojson"])
def test_annotations_are_not_replaced_by_the_tiles(predict, section_png, form):
    drawn = section_png.with_suffix(".geojson")
    drawn.write_text(geojson_text([Region("a", "Tumor", None, box(0, 0, 300, 600))]), encoding="utf-8")
    before = drawn.read_bytes()
    code, err = predict(section_png, "--mpp", 1, "--out", section_png.parent, "--regions", drawn, "--format", form)
    assert_one_line_error(code, err, "section.geojson would replace what this run reads; choose another folder")
    assert drawn.read_bytes() == before


def test_a_comparison_of_regions_does_not_outlive_the_result_that_it_is_of(predict, section_png, tmp_path):
    drawn, compared = tmp_path / "drawn.geojson", tmp_path / "out/section.regions.csv"
    drawn.write_text(geojson_text([Region("a", "Tumor", None, box(0, 0, 300, 600))]), encoding="utf-8")
    assert predict(section_png, "--mpp", 1, "--regions", drawn)[0] == 0
    assert compared.read_text().startswith("class,gene,")
    assert predict(section_png, "--mpp", 1)[0] == 0
    assert not compared.exists()


def test_a_comparison_that_can_no_longer_be_made_leaves_none_of_an_earlier_run(predict, section_png, tmp_path):
    drawn, compared = tmp_path / "drawn.geojson", tmp_path / "out/section.regions.csv"
    drawn.write_text(geojson_text([Region("a", "Tumor", None, box(0, 0, 300, 600))]), encoding="utf-8")
    assert predict(section_png, "--mpp", 1, "--regions", drawn)[0] == 0
    drawn.write_text(geojson_text([Region("a", "Tumor", None, box(0, 0, 9, 9))]), encoding="utf-8")
    code, err = predict(section_png, "--mpp", 1, "--regions", drawn)
    assert code == 0
    assert any("section.regions.csv is not written: no region has 3 tiles inside" in line for line in err)
    assert not compared.exists()


def test_weights_are_not_replaced_by_results(predict, section_png, tiny_weights):
    slide = section_png.rename(section_png.with_name("reliability.png"))
    before = (tiny_weights / "reliability.csv").read_bytes()
    code, err = predict(slide, "--mpp", 1, "--out", tiny_weights)
    assert_one_line_error(code, err, "reliability.csv would replace what this run reads")
    assert (tiny_weights / "reliability.csv").read_bytes() == before


def test_results_of_a_folder_do_not_come_to_lie_among_its_slides(predict, section_png):
    folder = section_png.parent / "slides"
    folder.mkdir()
    section_png.rename(folder / "section.png")
    code, err = predict(folder, "--mpp", 1, "--out", folder, "--format", "png", "--genes", "CD24")
    assert_one_line_error(code, err, "the results would lie among the slides of slides")
    for _ in range(2):
        assert predict(folder, "--mpp", 1, "--out", folder / "run", "--format", "png", "--genes", "CD24") == (0, [])
        assert sorted(file.name for file in (folder / "run").glob("*.png")) == ["section.CD24.png"]


def test_a_set_that_is_too_small_here_leaves_that_of_the_weights(predict, section_png, tmp_path):
    sets = tmp_path / "mine.gmt"
    sets.write_text("stroma\t\tNOT1\tNOT2\nmine\t\tERBB2\tCD24\tCOX6C\n")
    code, err = predict(section_png, "--mpp", 1, "--signatures", sets, "--weights", embedded_folder())
    assert code == 0
    assert any("too few genes of stroma" in line for line in err)
    scored = [name for name in pd.read_csv(tmp_path / "out/section.csv", nrows=1) if name.startswith("signature:")]
    assert {"signature:stroma", "signature:mine"} <= set(scored)


def test_a_run_whose_output_is_closed_ends_well(predict, section_png, monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert predict(section_png, "--mpp", 1)[0] == 0


def test_a_list_and_gene_sets_are_not_replaced_by_results(predict, section_png, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed, sets = tmp_path / "section.csv", tmp_path / "section.provenance.json"
    listed.write_text("slide,mpp\nsection.png,1\n")
    sets.write_text("SET\t\tERBB2\tCD24\tCOX6C\n")
    code, err = predict("section.csv", "--out", ".")
    assert_one_line_error(code, err, "section.csv would replace what this run reads")
    code, err = predict(section_png, "--mpp", 1, "--out", "../" + tmp_path.name, "--signatures", sets.name)
    assert_one_line_error(code, err, "section.provenance.json would replace what this run reads")
    assert listed.read_text().startswith("slide")


def test_a_slide_in_a_folder_is_not_replaced_by_a_folder_of_results(predict, section, tmp_path):
    (tmp_path / "a.zarr").mkdir()
    inside = tmp_path / "a.zarr/a.png"
    Image.fromarray(section.pixels).save(inside)
    code, err = predict(inside, "--mpp", 1, "--out", tmp_path, "--format", "spatialdata")
    assert_one_line_error(code, err, "a.zarr would replace what this run reads")
    assert inside.exists()


def test_slides_whose_files_would_have_one_name_are_refused(predict, section_png, tmp_path):
    other = tmp_path / "Section.genes.png"
    other.write_bytes(section_png.read_bytes())
    code, err = predict(section_png, other, "--mpp", 1)
    assert_one_line_error(code, err, "Section.genes.csv would be written of both section.png and Section.genes.png")
    assert not (tmp_path / "out").exists()


def test_a_file_that_only_is_called_as_ours_stays(predict, section_png, tmp_path):
    other, foreign = tmp_path / "other.png", tmp_path / "out/failures.csv"
    other.write_bytes(section_png.read_bytes())
    foreign.parent.mkdir()
    foreign.write_text("my precious,notes\n")
    assert predict(section_png, "--mpp", 1)[0] == 0
    assert predict(section_png, other, "--mpp", 1)[0] == 0
    assert foreign.read_text() == "my precious,notes\n"


def test_two_slides_of_one_name_are_numbered(predict, section, section_png, tmp_path):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other/section.png"
    Image.fromarray(section.pixels[::-1]).save(twin)
    bad = tmp_path / "other/more/section.png"
    bad.parent.mkdir()
    bad.write_text("no picture")
    code, err = predict(section_png, twin, bad, "--mpp", 1)
    assert code == 1
    [line] = err
    assert line.startswith(f"nsl: error: {bad}: section.png looks like a text file")
    assert pd.read_csv(tmp_path / "out/failures.csv").slide.tolist() == [str(bad)]
    first, second = (pd.read_csv(tmp_path / f"out/{name}.csv") for name in ("section", "section-2"))
    np.testing.assert_array_equal(np.sort(first.y_px), np.sort(600 - second.y_px))


def test_a_slide_that_a_library_stumbles_over_is_listed_and_the_rest_written(
    predict, section_png, tmp_path, monkeypatch
):
    other = tmp_path / "other.png"
    other.write_bytes(section_png.read_bytes())
    own = prediction.predict

    def stumbling(slide, *args, **settings):
        if slide._path.name == "other.png":
            raise RuntimeError("codec\nof no use")
        return own(slide, *args, **settings)

    monkeypatch.setattr("nsl.prediction.predict", stumbling)
    code, err = predict(other, section_png, "--mpp", 1)
    assert (code, err) == (1, ["nsl: error: other.png: it stopped on RuntimeError (codec)"])
    assert pd.read_csv(tmp_path / "out/failures.csv").slide.tolist() == ["other.png"]
    assert len(pd.read_csv(tmp_path / "out/section.csv")) > 0


def test_gene_sets_are_looked_up_once_however_many(predict, section_png, tmp_path, monkeypatch):
    sets = tmp_path / "many.gmt"
    sets.write_text("".join(f"SET{i}\t\tERBB2\tCD24\tCOX6C\n" for i in range(30)))
    own, calls = Weights.match_signatures, []

    def counting(weights, wished):
        calls.append(len(wished))
        return own(weights, wished)

    monkeypatch.setattr(Weights, "match_signatures", counting)
    assert predict(section_png, "--mpp", 1, "--signatures", sets)[0] in (0, 2)
    assert len(calls) <= 3


def test_trained_weights_tell_no_folder_of_the_machine(paired, tmp_path):
    out = tmp_path / "weights"
    assert main(["train", str(paired / "manifest.csv"), "--out", str(out), "--genes", "H_GENE,E_GENE,H_GENE"]) == 0
    told = (out / "config.json").read_text() + (out / "README.md").read_text()
    assert str(tmp_path) not in told
    assert str(paired) not in told
    assert "manifest.csv" in told
    assert json.loads((out / "config.json").read_text())["genes"] == ["H_GENE", "E_GENE"]


def test_a_name_too_long_for_any_file_is_one_line(capsys):
    assert main(["info", "n" * 300 + ".jpg"]) == 2
    assert capsys.readouterr().err.startswith("nsl: error: nnn")


@pytest.mark.parametrize(("form", "ending"), [("csv", ".provenance.json"), ("h5ad", ".h5ad"), ("png", ".ERBB2.png")])
def test_a_name_too_long_for_the_results_is_told_before_anything_is_read(predict, tmp_path, form, ending):
    stem = "å" + "n" * (255 - 2 - len(ending + ".part"))
    code, err = predict(tmp_path / f"{stem}.png", "--format", form)
    assert_one_line_error(code, err, f"{stem}.png does not exist"[:200])
    code, err = predict(tmp_path / f"{stem}nnn.png", "--format", form)
    assert_one_line_error(code, err, "too long for this disk; shorten the slide's name by 3 bytes")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "where",
    [
        *("nsl.weights.folder.load_weights", "nsl.slides.slide.open_slide", "nsl.prediction.predict"),
        *("nsl.export.files.csv_files", "nsl.system.disk.Path.replace", "pathlib.Path.write_text"),
    ],
)
def test_ctrl_c_anywhere_is_one_line_and_leaves_nothing(predict, section_png, tmp_path, monkeypatch, where):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, stop)
    code, err = predict(section_png, "--mpp", 1)
    assert (code, err) == (130, ["nsl: interrupted; files that were finished are kept"])
    assert not list(tmp_path.glob("out/*"))


def test_ctrl_c_while_weights_are_written_leaves_those_there_were(paired, tmp_path, monkeypatch, capsys):
    train = ["train", str(paired / "manifest.csv"), "--out", str(tmp_path / "w"), "--analysis-mpp", "4"]
    assert main([*train, "--genes", "H_GENE"]) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "w").iterdir()}
    monkeypatch.setattr("nsl.weights.folder.model_card", lambda weights: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main([*train, "--genes", "E_GENE"]) == 130
    assert {path.name: path.read_bytes() for path in (tmp_path / "w").iterdir()} == before
    capsys.readouterr()


def test_ctrl_c_while_the_program_is_loaded_is_one_line():
    code = (
        "import sys, signal, builtins; own = builtins.__import__\n"
        # Where the tests run in the background of a shell, Ctrl-C is not listened to.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def load(name, *rest):\n"
        "    if name == 'nsl.cli': signal.raise_signal(signal.SIGINT)\n"
        "    return own(name, *rest)\n"
        "builtins.__import__ = load\n"
        "from nsl.__main__ import run; sys.exit(run())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (ended.returncode, ended.stderr) == (130, "nsl: interrupted\n")
