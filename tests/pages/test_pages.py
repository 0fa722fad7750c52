"""Stains, Train and About in each of their states, without a browser."""

import re

import pytest

import nsl
from nsl.web import sources
from nsl.web.train.fit_result import Training
from tests.app_driver import (
    charts,
    click,
    open_stains,
    predict_demo,
    said,
    session_held,
    slide,
    take_weights,
    told_of_pictures,
)

STAINS, TRAIN, ABOUT = "pages/stains.py", "pages/train.py", "pages/about.py"


def _code(app) -> str:
    return " ".join(element.value for element in app.code)


def test_stains_shows_the_weights_in_use_before_there_is_a_slide(app):
    open_stains(app.switch_page(STAINS).run())
    assert not app.exception
    assert "ERBB2" in _code(app)
    assert "setColorDeconvolutionStains" in _code(app)


def test_stains_of_a_result_name_the_slides_own_vectors_and_background(app):
    predict_demo(app)
    open_stains(app.switch_page(STAINS).run())
    assert not app.exception
    white = slide(app).result.uns["nsl"]["white_point"]
    assert f'"Background" : "{white[0]:.0f} {white[1]:.0f} {white[2]:.0f}"' in _code(app)
    assert charts(app) == 8


def test_stains_of_another_gene_are_another_equation(app):
    open_stains(app.switch_page(STAINS).run())
    before = app.code[0].value
    app.selectbox(key="gene").select("COX6C").run()
    assert not app.exception
    assert "COX6C" in app.code[0].value
    assert app.code[0].value != before


def test_stains_of_an_unreliable_gene_are_marked(app):
    app.switch_page(STAINS).run()
    app.toggle(key="unreliable_genes").set_value(True).run()
    app.selectbox(key="gene").select("GAPDH").run()
    assert "GAPDH is unreliable" in said(app)


def test_about_tells_of_the_embedded_weights_and_of_the_comparison_with_other_methods(app):
    app.switch_page(ABOUT).run()
    assert not app.exception
    assert "HER2-positive breast cancer" in said(app)
    assert "nuclei + ridge" in " ".join(str(table.value) for table in [*app.dataframe, *app.table]) + said(app)


def test_about_cites_the_paper_the_program_and_the_data_of_the_weights_as_bibtex(app):
    app.switch_page(ABOUT).run()
    entries = [element.value for element in app.code if element.value.startswith("@")]
    named = [re.match(r"@\w+\{(\w+),", entry)[1] for entry in entries]
    assert named == ["dawood2021color", "nsl", "andersson2021spatial"]
    assert [entry.count("{") - entry.count("}") for entry in entries] == [0, 0, 0]
    assert "{2108.10446}" in entries[0]
    assert f"{{{nsl.__version__}}}" in entries[1]
    assert "{10.1038/s41467-021-26271-2}" in entries[2]


def test_about_tells_of_weights_without_an_evaluation_that_they_have_none(app, tiny_weights):
    take_weights(app, tiny_weights)
    app.switch_page(ABOUT).run()
    assert not app.exception
    assert "paint" in said(app)
    assert "nuclei + ridge" not in said(app)
    # Nor do they come from the data that the embedded ones were learned from.
    assert "andersson2021spatial" not in _code(app)
    assert "The weights in use were learned from: made in code." in said(app)


def test_about_finds_genes_by_their_common_names(app):
    app.switch_page(ABOUT).run()
    app.text_input(key="about_genes").set_value("HER2").run()
    assert not app.exception
    shown = next(element.value for element in app.dataframe if "r_heldout" in element.value)
    assert shown.index[0] == "ERBB2"


def test_train_without_a_slide_shows_the_way(app):
    app.switch_page(TRAIN).run()
    assert not app.exception
    assert "Bring the H&E image of a measured section first" in said(app)
    assert "Train" not in [button.label for button in app.button]


@pytest.fixture
def train(app):
    """The page with the demo section, checked."""
    app.switch_page(TRAIN).run()
    return click(app, "Try it on the demo slide")


def test_train_shows_what_was_found_in_a_section_before_the_fit(train):
    assert not train.exception
    assert "Train" in [button.label for button in train.button]
    [found] = train.dataframe[0].value.to_dict("records")
    assert found["Section"] == "Demo"
    assert 0 < found["On tissue"] < found["Spots"]
    assert found["Genes"] == 151
    off = found["Spots"] - found["On tissue"]
    assert f"Demo: the slide with {found['On tissue']} spots on tissue and {off} beside it" in told_of_pictures(train)


def _fitted(app):
    session_held(app, Training).job.thread.join(240)
    return app.run()


def test_weights_are_trained_shown_with_their_held_out_result_and_used(train):
    click(train, "Train")
    assert session_held(train, Training).job.is_running
    _fitted(train)
    assert not train.exception
    assert not train.error
    assert "quarters left out lie beside the tissue" in said(train)
    click(train, "Use these weights")
    weights = session_held(train, sources.WeightsChoice).weights
    assert weights.config.reliability.groups == 4
    assert len(weights.sha256) == 64
    assert f"{len(weights.genes):,} genes" in said(train)


def test_a_cancelled_training_says_so_and_keeps_the_section(train):
    click(train, "Train")
    session_held(train, Training).job.is_cancelled = True
    _fitted(train)
    assert "The training was cancelled" in said(train)
    assert "Train" in [button.label for button in train.button]


def test_a_training_that_fails_is_told_in_a_sentence(train, monkeypatch):
    from nsl.errors import SpotsError

    def fail(*args, **kwargs):
        raise SpotsError("section S1 holds nothing to learn from; add another")

    monkeypatch.setattr("nsl.train.fit", fail)
    _fitted(click(train, "Train"))
    assert not train.exception
    assert "Section S1 holds nothing to learn from" in train.error[0].value
