"""What `nsl.signatures` promises: sets are read or refused, and a score is the mean z of a set's genes everywhere."""

import io
import json
import zipfile
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest

from nsl import predict
from nsl.errors import NslError, WeightsError
from nsl.export import files
from nsl.prediction import fine_map
from nsl.quality import KINDS
from nsl.result import map_of
from nsl.signatures import (
    Scoring,
    Signature,
    as_columns,
    as_table,
    counted,
    parse_gmt,
    read_gmt,
    short_name,
    signatures_of,
    unit_of,
)

GENES = ("ERBB2", "CD24", "COX6C")
BOTH = Signature("growth", GENES, "made in code")
WIDE = Signature("wide", ("her2", "CD24", "COX6C", "ESR1", "PGR"))
NARROW = Signature("narrow", ("ERBB2", "ESR1"))


@pytest.fixture
def result(slide, weights):
    return predict(slide, weights, signatures=[BOTH, WIDE])


# Reading


def test_a_gmt_file_is_read_as_it_is_written():
    text = "\ufeff# about\nOXPHOS\tBroad\tCOX6C\tNDUFA1\tCOX6C\n\nimmune set\t\tCD4\t\tCD8A\r\n"
    assert parse_gmt(text) == [
        Signature("OXPHOS", ("COX6C", "NDUFA1"), "Broad"),
        Signature("immune set", ("CD4", "CD8A"), ""),
    ]


def test_a_slash_in_a_name_is_a_hyphen():
    assert [one.name for one in parse_gmt("Glycolysis / Gluconeogenesis\t\tHK1\tPKM")] == [
        "Glycolysis - Gluconeogenesis"
    ]
    with pytest.raises(NslError, match="two gene sets are named G1-S"):
        parse_gmt("G1/S\t\tX\nG1-S\t\tY")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_gmt_file_is_read_in_the_encodings_of_spreadsheets(tmp_path, encoding):
    (tmp_path / "a.gmt").write_bytes('"Drüse, b"\t\tCD4\t"CD8A"\r\n'.encode(encoding))
    assert read_gmt(tmp_path / "a.gmt") == [Signature("Drüse, b", ("CD4", "CD8A"), "")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the gene sets hold no set"),
        ("# only words\n", "the gene sets hold no set"),
        ("COX6C, NDUFA1", "line 1 of the gene sets is not GMT ('COX6C, NDUFA1'); write a set's name"),
        ("A\tsource\n", "line 1 of the gene sets is not GMT"),
        ("\tsource\tCOX6C", "line 1 of the gene sets is not GMT"),
        ("A\ts\tX\nA\ts\tY", "two gene sets are named A (line 2)"),
        ("a\x07b\ts\tX", "line 1 of the gene sets has no usable name"),
        (f"{'x' * 201}\ts\tX", "line 1 of the gene sets has no usable name; give one of at most 200 letters"),
        ("".join(f"s{i}\t\tX\n" for i in range(2001)), "2,001 gene sets are too many for one run"),
    ],
)
def test_what_is_no_gmt_is_refused_in_one_sentence(text, told):
    with pytest.raises(NslError) as caught:
        parse_gmt(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


# Scores


def test_a_score_is_the_mean_z_of_the_genes():
    mean, sd = pd.Series({"A": 1.0, "B": 4.0, "C": 0.0}), pd.Series({"A": 0.5, "B": 2.0, "C": 1.0})
    scoring = Scoring.of({"ab": ["A", "B"], "c": ["C"]}, mean, sd)
    assert scoring.genes == ["A", "B", "C"]
    # z of A is 2 and −1, of B 0 and 1.
    np.testing.assert_allclose(scoring.score(np.array([[2, 4, 3], [0.5, 6, -1]])), [[1, 3], [0, -1]])


def test_tiles_are_scored_from_the_predictions_of_their_genes(result):
    scores = result.obsm["signatures"]
    assert list(scores.columns) == ["growth", "wide"]
    assert list(scores.index) == list(result.obs_names)
    z = (result.X - [1.0, 2.0, 1.5]) / [0.5, 0.25, 2.0]
    np.testing.assert_allclose(scores.growth, z.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(scores.wide, scores.growth, rtol=1e-6)


def test_the_genes_of_a_set_need_not_be_among_those_predicted(slide, weights, result):
    few = predict(slide, weights, genes=["CD24"], signatures=[BOTH])
    assert list(few.var_names) == ["CD24"]
    np.testing.assert_array_equal(few.X[:, 0], result[:, "CD24"].X.ravel())
    np.testing.assert_allclose(few.obsm["signatures"].growth, result.obsm["signatures"].growth, rtol=1e-6)
    none = predict(slide, weights, genes=[], signatures=[BOTH])
    assert none.shape == (result.n_obs, 0)
    np.testing.assert_allclose(none.obsm["signatures"].growth, result.obsm["signatures"].growth, rtol=1e-6)


def test_which_genes_were_found_and_which_were_not_is_told(result):
    table = result.uns["nsl"]["signatures"]
    assert table.members.to_dict() == {"growth": "ERBB2;CD24;COX6C", "wide": "ERBB2;CD24;COX6C"}
    assert table.missing.to_dict() == {"growth": "", "wide": "ESR1;PGR"}
    assert table.source.growth == "made in code"
    assert table.r_heldout.isna().all()


def test_a_set_of_too_few_genes_is_left_out_and_none_left_is_an_error(slide, weights):
    some = predict(slide, weights, signatures=[NARROW, BOTH])
    assert list(some.obsm["signatures"].columns) == ["growth"]
    with pytest.raises(WeightsError, match="tiny hold fewer than 3 genes of narrow; bring sets of symbols"):
        predict(slide, weights, signatures=[NARROW])


def test_weights_of_before_say_why_they_score_nothing(slide, weights):
    unknown = weights.reliability.assign(expression_mean=np.nan, expression_sd=np.nan)
    before = replace(weights, reliability=unknown)
    assert "signatures" not in predict(slide, before).obsm
    with pytest.raises(WeightsError, match="tiny do not say how much genes vary, so no set is scored; retrain them"):
        predict(slide, before, signatures=[BOTH])


def test_a_set_of_the_weights_brings_its_reliability(slide, weights):
    judged = pd.DataFrame(
        {"source": "made in code", "members": "ERBB2;CD24;COX6C", "r_heldout": 0.5, "r_specific": 0.2},
        index=pd.Index(["growth"], name="name"),
    ).reindex(columns=weights.signatures.columns)
    judging = replace(weights, signatures=judged)
    assert judging.own_signatures == [BOTH]
    own = predict(slide, judging)
    assert own.uns["nsl"]["signatures"].r_heldout.growth == 0.5
    assert "signatures" not in predict(slide, judging, genes=["CD24"]).obsm
    other = replace(BOTH, members=("ERBB2", "CD24", "COX6C", "ESR1"))
    assert predict(slide, judging, signatures=[other]).uns["nsl"]["signatures"].r_heldout.growth == 0.5
    brought = judging.with_own([replace(BOTH, source="mine"), WIDE])
    assert [(one.name, one.source) for one in brought] == [("growth", "mine"), ("wide", "")]


def test_a_finer_map_of_a_set_is_its_score_on_finer_squares(slide, weights, result):
    same = fine_map(slide, weights, BOTH, 100.0, min_tissue=0.3, analysis_mpp=2.0)
    np.testing.assert_allclose(same.obsm["signatures"].growth, result.obsm["signatures"].growth, rtol=1e-6)


# Like any gene


def test_scores_as_columns_stand_before_the_genes_and_go_back(result):
    columns = as_columns(result)
    assert list(columns.var_names) == ["signature:growth", "signature:wide", "ERBB2", "CD24", "COX6C"]
    np.testing.assert_array_equal(map_of(columns, "signature:growth"), result.obsm["signatures"].growth)
    np.testing.assert_array_equal(map_of(columns, "CD24"), map_of(result, "CD24"))
    assert columns.var.r_heldout.CD24 == 0.52
    assert as_columns(columns) is columns
    assert signatures_of(columns)["signature:wide"].members == ("ERBB2", "CD24", "COX6C")
    again = as_table(columns[:, ["signature:wide", "CD24"]])
    assert list(again.var_names) == ["CD24"]
    assert list(again.var.columns) == list(result.var.columns)
    np.testing.assert_array_equal(again.obsm["signatures"], result.obsm["signatures"][["wide"]])


def test_a_result_from_before_genes_had_an_r_of_their_own_keeps_that_of_its_sets(result):
    earlier = result.copy()
    earlier.var = earlier.var.drop(columns=["r_specific", "trust"])
    earlier.uns["nsl"]["signatures"] = earlier.uns["nsl"]["signatures"].assign(r_specific=[0.0, 0.4])
    columns = as_columns(earlier)
    assert columns.var.r_specific[["signature:growth", "signature:wide"]].tolist() == [0.0, 0.4]
    assert columns.var.r_specific.isna().sum() == 3


def test_without_sets_a_result_is_what_it_was(slide, weights):
    plain = predict(slide, weights)
    assert as_columns(plain) is plain
    assert as_table(plain) is plain
    assert signatures_of(plain) == {}


@pytest.mark.parametrize("shape", [lambda result: result, as_columns])
def test_every_file_holds_the_scores(result, shape, tmp_path):
    given = shape(result)
    table = pd.read_csv(pd.io.common.StringIO(files.csv_text(given)), index_col=0)
    assert list(table.columns[6:]) == ["tissue_fraction", *KINDS, "signature:growth", "signature:wide", *GENES]
    np.testing.assert_allclose(table["signature:growth"], result.obsm["signatures"].growth, atol=1e-4)
    told = json.loads(files.provenance_text(given))["signatures"]["wide"]
    assert (told["members"], told["missing"], told["r_heldout"]) == ("ERBB2;CD24;COX6C", "ESR1;PGR", None)
    tile = json.loads(files.geojson_text(given))["features"][0]["properties"]["measurements"]
    assert tile["signature:growth"] == pytest.approx(result.obsm["signatures"].growth.iloc[0], abs=1e-4)
    files.write_h5ad(given, tmp_path / "result.h5ad")
    back = anndata.read_h5ad(tmp_path / "result.h5ad")
    assert list(back.var_names) == ["ERBB2", "CD24", "COX6C"]
    np.testing.assert_array_equal(back.obsm["signatures"].growth, result.obsm["signatures"].growth)
    assert back.uns["nsl"]["signatures"].missing.to_dict() == {"growth": "", "wide": "ESR1;PGR"}


def test_the_zip_of_everything_says_how_many_columns_are_genes_and_in_what_a_score_is_counted(result):
    with zipfile.ZipFile(io.BytesIO(files.everything_zip(result, "s1"))) as packed:
        readme = packed.read("README.txt").decode()
    assert f"{len(GENES)} genes and 2 signatures, as ln(1 + counts per 10,000), of a signature as the mean z" in readme


def test_genes_and_signatures_are_counted_each_for_themselves():
    assert counted(["ERBB2", "signature:stroma", "CD24"]) == "2 genes and 1 signature"
    assert counted(f"G{number}" for number in range(1200)) == "1,200 genes"
    assert counted(["signature:stroma", "signature:growth"]) == "2 signatures"
    assert counted([]) == "no gene"


def test_a_unit_is_said_where_all_share_it():
    assert unit_of("CD24", "ERBB2") == "ln(1 + counts per 10,000)"
    assert unit_of("signature:a") == "mean z of the set's genes"
    assert unit_of("signature:a", "CD24") == "each in its own unit"


def test_a_name_where_there_is_little_room_is_a_sets_own_and_cut_to_it():
    assert short_name("ERBB2", 5) == "ERBB2"
    assert short_name("signature:stroma", 6) == "stroma"
    assert short_name("signature:oxidative phosphorylation", 10) == "oxidative…"
