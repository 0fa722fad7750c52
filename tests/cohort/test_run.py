"""What a run over many slides promises: each once, whole, named where it fails, and tables that say what they hold."""

import contextlib
import shutil
import signal

import anndata
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box

from nsl.cli import main
from nsl.cohort import slide_run
from nsl.cohort.layout import STAIN_COLUMNS
from nsl.cohort.summary import SlideSummary
from nsl.errors import NslError
from nsl.slides.annotations.geojson import geojson_text
from nsl.slides.annotations.region import Region
from tests.cohort.made_cohort import made_slides, results_of


@pytest.fixture
def cohort(tiny_weights, tmp_path, capsys):
    """Runs `nsl cohort` on a list into tmp_path/out; gives exit code and lines of stderr."""

    def run(listed, *more: object) -> tuple[int, list[str]]:
        given = ["cohort", listed, "--out", tmp_path / "out", "--weights", tiny_weights, *more]
        code = main(list(map(str, given)))
        return code, capsys.readouterr().err.splitlines()

    return run


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """The slides that are predicted from now on, by file name."""
    names, predict = [], slide_run.prediction.predict

    def noted(slide, *args, **more):
        result = predict(slide, *args, **more)
        names.append(slide._path.name)
        return result

    monkeypatch.setattr("nsl.prediction.predict", noted)
    return names


def status(out) -> pd.DataFrame:
    return pd.read_csv(out / "status.csv", index_col="name", keep_default_na=False)


def test_a_corrupt_slide_is_one_named_failure_and_a_rerun_computes_nothing_twice(cohort, computed, tmp_path):
    listed, out = made_slides(tmp_path, 4, corrupt=2), tmp_path / "out"
    code, err = cohort(listed)
    assert code == 1
    assert err == [f"nsl: error: slides/s2.png: {status(out).reason['s2']}"]
    assert "s2.png is damaged or incomplete" in err[0]
    assert status(out).status.tolist() == ["done", "done", "failed", "done"]
    assert (status(out).tiles.drop("s2") > 5).all()
    assert status(out).stain_transfer["s0"] == "hematoxylin 1.00 times and eosin 1.00 times as strong as usual"
    before = results_of(out)
    computed.clear()
    assert cohort(listed)[0] == 1
    assert computed == []
    assert status(out).status.tolist() == ["skipped", "skipped", "failed", "skipped"]
    assert status(out).tiles["s0"] == anndata.read_h5ad(out / "slides/s0.h5ad").n_obs
    assert results_of(out) == before


def test_other_slides_settings_or_lost_files_are_computed_again(cohort, computed, tmp_path):
    listed, slides, out = made_slides(tmp_path, 3), tmp_path / "slides", tmp_path / "out/slides"
    assert cohort(listed)[0] == 0
    shutil.copy(slides / "s0.png", slides / "s1.png")
    (out / "s2.summary.npz").unlink()
    computed.clear()
    assert cohort(listed)[0] == 0
    assert computed == ["s1.png", "s2.png"]
    assert (out / "s0.h5ad").read_bytes() != b""
    np.testing.assert_array_equal(*(anndata.read_h5ad(out / f"{name}.h5ad").X for name in ("s0", "s1")))
    computed.clear()
    assert cohort(listed, "--min-tissue", 0.5)[0] == 0
    assert computed == ["s0.png", "s1.png", "s2.png"]


def test_whatever_of_the_weights_has_changed_is_computed_again(cohort, computed, tiny_weights, tmp_path):
    listed, model = made_slides(tmp_path, 1), (tiny_weights / "model.safetensors").read_bytes()
    config, table = tiny_weights / "config.json", tiny_weights / "reliability.csv"
    assert cohort(listed)[0] == 0
    for path, old, new in ((table, "0.41,", "0.43,"), (config, '"analysis_mpp": 2.0', '"analysis_mpp": 2.5')):
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        computed.clear()
        assert cohort(listed)[0] == 0
        assert computed == ["s0.png"]
    computed.clear()
    assert cohort(listed)[0] == 0
    assert computed == []
    assert (tiny_weights / "model.safetensors").read_bytes() == model
    result = anndata.read_h5ad(tmp_path / "out/slides/s0.h5ad")
    assert result.var.r_heldout["ERBB2"] == 0.43
    assert result.uns["nsl"]["analysis_mpp"] == 2.5


def test_a_run_that_ends_before_its_record_is_written_is_computed_again(cohort, computed, tmp_path, monkeypatch):
    listed = made_slides(tmp_path, 1)
    assert cohort(listed)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(SlideSummary, "write", lambda self, path: (_ for _ in ()).throw(NslError("full")))
        assert cohort(listed, "--min-tissue", 0.5)[0] == 2
    computed.clear()
    assert cohort(listed)[0] == 0
    assert computed == ["s0.png"]


def test_ctrl_c_leaves_what_is_done_and_says_what_was_not_run(cohort, tmp_path, monkeypatch):
    listed, out, predict = made_slides(tmp_path, 3), tmp_path / "out", slide_run.prediction.predict

    def stop_at_the_second(slide, *args, **more):
        if slide._path.name == "s1.png":
            raise KeyboardInterrupt
        return predict(slide, *args, **more)

    monkeypatch.setattr("nsl.prediction.predict", stop_at_the_second)
    assert cohort(listed) == (130, ["nsl: interrupted; files that were finished are kept"])
    assert status(out).status.tolist() == ["done", "not run", "not run"]
    assert {path.name for path in (out / "slides").iterdir()} == {"s0.h5ad", "s0.run.json", "s0.summary.npz"}


def test_ctrl_c_that_python_drops_ends_the_run_after_the_slide(cohort, tmp_path, monkeypatch):
    listed, out, predict = made_slides(tmp_path, 3), tmp_path / "out", slide_run.prediction.predict

    def drop_at_the_first(slide, *args, **more):
        if slide._path.name == "s0.png":
            # As in a callback of the collection of garbage, where what is raised goes nowhere.
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        return predict(slide, *args, **more)

    monkeypatch.setattr("nsl.prediction.predict", drop_at_the_first)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cohort(listed) == (130, ["nsl: interrupted; files that were finished are kept"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert status(out).status.tolist() == ["done", "not run", "not run"]


def test_tables_say_of_each_slide_and_gene_what_its_tiles_do(cohort, tmp_path):
    assert cohort(made_slides(tmp_path, 3))[0] == 0
    out = tmp_path / "out"
    slides = {name: anndata.read_h5ad(out / f"slides/{name}.h5ad") for name in ("s0", "s1", "s2")}
    rows = pd.read_parquet(out / "cohort.parquet").astype({"slide": str, "gene": str, "region": str, "group": str})
    assert len(rows) == 3 * 3
    assert (rows.region == "").all()
    table = rows.set_index(["slide", "gene"])
    assert table.group["s1", "CD24"] == "b"
    median = np.median([np.median(one[:, "CD24"].X) for one in slides.values()])
    for name, one in slides.items():
        values, row = np.ravel(one[:, "CD24"].X), table.loc[name, "CD24"]
        assert row["mean"] == pytest.approx(values.mean(), abs=1e-5)
        assert row.spread == pytest.approx(values.std(), abs=1e-5)
        assert row.share_above_median == pytest.approx((values > median).mean(), abs=1 / len(values))
        # A tile every 50 µm.
        assert row.tissue_mm2 == pytest.approx(one.obs.tissue_fraction.sum() * 0.0025, rel=1e-5)
        assert row.tiles == one.n_obs
        vectors = np.asarray(one.uns["nsl"]["slide_stain_vectors"])
        np.testing.assert_allclose(row[list(STAIN_COLUMNS)].to_list(), vectors.ravel(), rtol=1e-5)
    whole = anndata.read_h5ad(out / "cohort.h5ad")
    assert (whole.obs_names.tolist(), whole.var_names.tolist()) == (["s0", "s1", "s2"], ["ERBB2", "CD24", "COX6C"])
    assert whole.obs.group.tolist() == ["a", "b", "a"]
    assert whole.var.cohort_median["CD24"] == pytest.approx(median, abs=1e-6)
    np.testing.assert_allclose(whole[:, "CD24"].X.ravel(), rows[rows.gene == "CD24"]["mean"])
    np.testing.assert_allclose(
        whole[:, "CD24"].layers["share_above_median"].ravel(), rows[rows.gene == "CD24"].share_above_median
    )


def test_shares_above_any_threshold_are_those_of_the_tiles_to_a_hundredth(weights, slide):
    from nsl import predict

    result = predict(slide, weights, stride_um=10)
    summary = SlideSummary.of(result)
    values = np.asarray(result.X)
    for quantile in (0, 0.03, 0.5, 0.971, 1):
        thresholds = np.quantile(values, quantile, axis=0)
        np.testing.assert_allclose(summary.share_above(thresholds)[0], (values > thresholds).mean(axis=0), atol=0.01)
    np.testing.assert_array_equal(summary.share_above(values.min(axis=0) - 1)[0], 1)
    np.testing.assert_array_equal(summary.share_above(values.max(axis=0) + 1)[0], 0)


@pytest.mark.parametrize("tiles", [1, 2, 5, 30, 100])
def test_shares_and_medians_of_few_tiles_are_exact_also_when_read_back(weights, slide, tmp_path, tiles):
    from nsl import predict

    few = predict(slide, weights, stride_um=10)[:tiles].copy()
    SlideSummary.of(few).write(tmp_path / "few.npz")
    summary, values = SlideSummary.read(tmp_path / "few.npz"), np.asarray(few.X)
    for quantile in (0, 0.1, 0.5, 0.9, 1):
        thresholds = np.quantile(values, quantile, axis=0)
        np.testing.assert_array_equal(summary.share_above(thresholds)[0], (values > thresholds).mean(axis=0))
    np.testing.assert_allclose(summary.percentile(50), np.median(values, axis=0), rtol=1e-6)
    np.testing.assert_allclose(summary.percentile(98), np.percentile(values, 98, axis=0), rtol=1e-6)


def test_regions_of_the_list_are_rows_of_their_own(cohort, tmp_path):
    listed = made_slides(tmp_path, 2)
    left = [Region("one", "Tumor", None, box(0, 0, 350, 600))]
    (tmp_path / "left.geojson").write_text(geojson_text(left), encoding="utf-8")
    listed.write_text("slide,mpp,regions\nslides/s0.png,1,left.geojson\nslides/s1.png,1,\n", encoding="utf-8")
    assert cohort(listed)[0] == 0
    rows = pd.read_parquet(tmp_path / "out/cohort.parquet")
    assert [*zip(rows.slide, rows.region, strict=True)][::3] == [("s0", ""), ("s0", "Tumor"), ("s1", "")]
    one = anndata.read_h5ad(tmp_path / "out/slides/s0.h5ad")
    inside = np.asarray(one.obs.region_class == "Tumor")
    assert rows["mean"][3] == pytest.approx(one[inside, "ERBB2"].X.mean(), abs=1e-5)
    assert rows.tiles[3] == inside.sum()
    assert (tmp_path / "out/slides/s0.regions.csv").exists()


def test_patients_may_be_named_later_and_no_slide_is_predicted_again(cohort, computed, tmp_path):
    listed = made_slides(tmp_path, 2)
    assert cohort(listed)[0] == 0
    listed.write_text("slide,mpp,group,patient\nslides/s0.png,1,a,P1\nslides/s1.png,1,b,\n", encoding="utf-8")
    assert cohort(listed)[0] == 0
    assert computed == ["s0.png", "s1.png"]
    assert anndata.read_h5ad(tmp_path / "out/cohort.h5ad").obs.patient.tolist() == ["P1", ""]
    assert status(tmp_path / "out").patient.to_dict() == {"s0": "P1", "s1": ""}
    rows = pd.read_parquet(tmp_path / "out/cohort.parquet").astype({"slide": str, "patient": str})
    assert rows.groupby("slide").patient.unique().map(list).to_dict() == {"s0": ["P1"], "s1": [""]}


def test_two_slides_of_one_name_are_both_there(cohort, tmp_path):
    listed = made_slides(tmp_path, 2)
    (tmp_path / "other").mkdir()
    (tmp_path / "slides/s1.png").rename(tmp_path / "other/s0.png")
    listed.write_text("slide,mpp\nslides/s0.png,1\nother/s0.png,1\n", encoding="utf-8")
    assert cohort(listed)[0] == 0
    assert status(tmp_path / "out").slide.to_dict() == {"s0": "slides/s0.png", "s0-2": "other/s0.png"}
    first, second = (anndata.read_h5ad(tmp_path / f"out/slides/{name}.h5ad") for name in ("s0", "s0-2"))
    assert first.uns["nsl"]["slide_sha256"] != second.uns["nsl"]["slide_sha256"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--workers", 0), "--workers is 0; it must be at least 1"),
        (("--workers", 2, "--scheduler", "tcp://a:1"), "name one of them"),
        (("--inside-regions",), "name their file of every slide in the column regions"),
        (("--format", "xlsx"), "there is no format 'xlsx'"),
    ],
)
def test_a_bad_option_is_one_line_and_writes_nothing(cohort, tmp_path, more, said):
    code, [line] = cohort(made_slides(tmp_path, 1), *more)
    assert code == 2
    assert said in line
    assert not (tmp_path / "out").exists()


def test_several_slides_of_predict_go_on_where_they_were_left(tiny_weights, computed, tmp_path, capsys):
    listed = made_slides(tmp_path, 3, corrupt=1)
    command = ["predict", str(listed), "--out", str(tmp_path / "out"), "--weights", str(tiny_weights)]
    assert main(command) == 1
    assert computed == ["s0.png", "s2.png"]
    assert pd.read_csv(tmp_path / "out/failures.csv").slide.tolist() == ["s1.png"]
    shutil.copy(tmp_path / "slides/s0.png", tmp_path / "slides/s1.png")
    capsys.readouterr()
    assert main(command) == 0
    assert computed == ["s0.png", "s2.png", "s1.png"]
    assert [line.count("found there") for line in capsys.readouterr().out.splitlines()] == [1, 0, 1]
