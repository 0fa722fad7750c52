"""The Cohort page: in each of its states, what it says of slides and groups, and that a slide opens in Maps."""

import shutil

import pandas as pd
import pytest

from nsl.cohort.run import run_cohort
from nsl.cohort.slide_list import slides_of_cohort
from nsl.cohort.slide_run import RunSettings
from nsl.web import links
from tests.app_driver import charts, said, seen, slide, told_of_pictures
from tests.cohort.made_cohort import made_slides

PAGE = "pages/cohort.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, embedded):
    """A server's folder of eight slides in two groups, one of them cut short, and the cohort made of them in `run`."""
    root = tmp_path_factory.mktemp("server")
    slides = slides_of_cohort(made_slides(root, 8, corrupt=7, annotated=6), root / "run")
    settings = RunSettings(
        embedded.fingerprint,
        genes=("ERBB2", "CD24", "GAPDH"),
        signatures=tuple(embedded.own_signatures[:2]),
        is_cohort=True,
    )
    run_cohort(slides, settings, embedded, root / "run")
    return root


@pytest.fixture
def server(finished, tmp_path, monkeypatch):
    """A copy of it, as NSL_SLIDE_DIR."""
    root = tmp_path / "server"
    shutil.copytree(finished, root)
    monkeypatch.setenv("NSL_SLIDE_DIR", str(root))
    return root


def test_without_a_cohort_the_page_says_how_to_make_one(app, tmp_path, monkeypatch):
    monkeypatch.setenv("NSL_SLIDE_DIR", str(tmp_path))
    app.run().switch_page(PAGE).run()
    assert not app.exception
    assert "There is no cohort in the server's folder yet" in said(app)
    assert charts(app) == 0


def test_a_cohort_is_shown_slide_by_slide_on_one_scale(server, app):
    app.run().switch_page(PAGE).run()
    assert not app.exception
    assert not app.error
    assert app.expander[0].label == "7 of 8 slides have a result, 1 failed."
    table = app.dataframe[0].value.set_index("name")
    assert table.status.tolist() == ["done"] * 7 + ["failed"]
    assert "damaged or incomplete" in table.reason["s7"]
    gene = app.session_state["gene"]
    told = [text for text in told_of_pictures(app) if text.startswith(gene)]
    assert [text.split(" on ")[1][:2] for text in told[:7]] == [f"s{i}" for i in range(7)]
    app.button_group(key="cohort_order").set_value("Highest first").run()
    means = [float(text.split("mean ")[1].replace("−", "-")) for text in told_of_pictures(app) if " on s" in text]
    assert len(means) == 7
    assert means == sorted(means, reverse=True)
    assert "No slide is stained unlike the others" in said(app)


def test_groups_are_compared_by_slide(server, app):
    app.run().switch_page(PAGE).run()
    assert "4 slides of a, 3 of all other slides." in said(app)
    table = next(one.value for one in app.dataframe if "effect_low" in one.value)
    assert (table.effect_low < table.effect_size).all()
    assert table.q_value.between(0, 1).all()
    assert charts(app) == 1
    assert "Each slide counts once" in said(app)


def test_slides_of_one_patient_are_told_and_count_as_one(server, app):
    import anndata

    path = server / "run/cohort.h5ad"
    cohort = anndata.read_h5ad(path)
    cohort.obs["patient"] = ["P0", "", "P0", "", "P1", "", "P2"]  # a is s0, s2, s4 and s6
    cohort.var = cohort.var.drop(columns=["r_specific", "trust"])  # as of a version that did not know them
    cohort.write_h5ad(path)
    app.run().switch_page(PAGE).run()
    assert not app.exception
    assert not app.error
    assert "4 slides (3 patients) of a, 3 of all other slides." in said(app)
    table = next(one.value for one in app.dataframe if "effect_low" in one.value).set_index("gene")
    own = cohort[:, "CD24"].X.ravel()
    assert table.mean_inside["CD24"] == pytest.approx(((own[0] + own[2]) / 2 + own[4] + own[6]) / 3, rel=1e-5)


def test_groups_are_compared_inside_regions_of_one_class(server, app):
    app.run().switch_page(PAGE).run()
    whole = next(one.value for one in app.dataframe if "effect_low" in one.value)
    tiles_of = app.selectbox(key="cohort_class")
    assert tiles_of.options == ["The whole slide", "Tumor · 6"]
    tiles_of.set_value("Tumor").run()
    assert not app.exception
    assert "3 slides of a, 3 of all other slides." in said(app)
    table = next(one.value for one in app.dataframe if "effect_low" in one.value).set_index("gene")
    rows = pd.read_parquet(server / "run/cohort.parquet")
    inside = rows[(rows.region == "Tumor") & (rows.group == "a")].groupby("gene", observed=True)["mean"].mean()
    inside.index = inside.index.astype(str).str.removeprefix("signature:")  # a table has a set's own words
    assert {"CD24", "epithelium"} <= set(table.index)
    for gene, mean in table.mean_inside.items():
        assert mean == pytest.approx(inside[gene], abs=1e-5)
    assert not table.mean_inside.equals(whole.set_index("gene").mean_inside)


def test_fewer_slides_than_a_comparison_needs_are_told(server, app):
    status, cohort = server / "run/status.csv", server / "run/cohort.h5ad"
    import anndata

    few = anndata.read_h5ad(cohort)[:3].copy()
    few.write_h5ad(cohort)
    table = pd.read_csv(status)[:3]
    table.to_csv(status, index=False)
    app.run().switch_page(PAGE).run()
    assert not app.exception
    assert "Groups of at least 3 slides or patients can be compared" in said(app)
    assert "With fewer than 4 slides none can be told" in said(app)


def test_a_slide_opens_in_maps_with_its_result(server, app):
    app.run().switch_page(PAGE).run()
    app.button(key="open run s2").click().run()
    assert not app.exception
    assert slide(app).name == "slides/s2.png"
    assert slide(app).provenance.mpp == 1
    gene = app.session_state["gene"]
    assert f"Map of the predicted expression of {gene} over the slide" in seen(app)
    assert (server / "slides/s2.png").exists()


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        (lambda root: shutil.copy(root / "slides/s1.png", root / "slides/s0.png"), "is another slide than the one"),
        (lambda root: (root / "slides/s0.png").unlink(), "is not among the slides of the server's folder"),
    ],
    ids=["another", "gone"],
)
def test_a_slide_that_is_not_what_was_predicted_is_not_opened(server, app, change, said_of_it):
    change(server)
    app.run().switch_page(PAGE).run()
    app.button(key="open run s0").click().run()
    assert not app.exception
    assert said_of_it in app.error[0].value
    assert slide(app) is None


def test_a_map_that_cannot_be_read_hides_no_other(server, app):
    (server / "run/slides/s0.h5ad").write_bytes(b"no HDF5")
    app.run().switch_page(PAGE).run()
    assert not app.exception
    assert "Its map cannot be read" in said(app)
    assert len([text for text in told_of_pictures(app) if " on s" in text]) == 6


def test_without_a_servers_folder_there_is_no_such_page(monkeypatch):
    monkeypatch.delenv("NSL_SLIDE_DIR", raising=False)
    monkeypatch.setattr("streamlit.Page", lambda path, **_: path)
    assert PAGE not in links._pages()
    monkeypatch.setenv("NSL_SLIDE_DIR", "/data")
    assert PAGE in links._pages()
