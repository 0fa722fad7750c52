"""Gene sets in the app: brought by the user or by the weights, they are chosen, mapped and taken home like any gene."""

import json

import pytest

from tests.app_driver import (
    buttons,
    chart,
    charts,
    choose_genes,
    click,
    finish,
    metrics,
    predict_demo,
    said,
    slide,
    take_weights,
    type_gene,
)

MAPS, COMPARE, STAINS, PREDICT = (f"pages/{name}.py" for name in ("maps", "compare", "stains", "predict"))
GMT = "mine\there\tERBB2\tCOX6C\tCD24\tESR1\ntoo few\there\tESR1\tPGR\tERBB2"


def test_sets_that_are_brought_are_matched_scored_and_first_in_the_box(app):
    predict_demo(app, "ERBB2 CD24")
    app.switch_page(PREDICT).run()
    app.text_area(key="gmt_text").set_value(GMT).run()
    assert "To be scored: mine (3 of 4 genes)." in said(app)
    assert "Left out, because the weights hold fewer than 3 of their genes: too few." in said(app)
    finish(click(app, "Run"))
    assert (metrics(app)["Genes"], metrics(app)["Signatures"]) == ("2", "1")
    assert "The settings or the weights have changed" not in said(app)
    app.switch_page(MAPS).run()
    assert not app.exception
    box = app.selectbox(key="gene")
    assert box.options[0] == "Signature: mine · not tested"
    box.select("signature:mine").run()
    assert "**Signature mine was not among the sets that were held out**" in said(app)
    assert "A value is the mean over 3 genes of how far each stands from its mean" in said(app)
    assert '"mine, mean z"' in json.dumps(chart(app))
    assert {"CSV of signature mine alone", "Map to print (PNG)"} <= buttons(app).keys()
    assert charts(app) == 1
    assert list(slide(app).result.var_names) == ["signature:mine", "ERBB2", "CD24"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ERBB2, CD24", "ine 1 of the gene sets is not GMT"),
        ("few\there\tESR1\tPGR", "hold fewer than 3 genes of few; bring sets of symbols that its model card lists"),
    ],
)
def test_what_is_no_set_is_one_sentence_and_the_rest_can_be_run(app, text, told):
    predict_demo(app, "ERBB2")
    app.switch_page(PREDICT).run()
    app.text_area(key="gmt_text").set_value(text).run()
    assert not app.exception
    assert len(app.error) == 1
    assert told in app.error[0].value
    assert not next(button for button in app.button if button.label == "Run").disabled


def epithelium(app):
    """The map of a set of the embedded weights on the demo slide."""
    predict_demo(app, None)
    app.switch_page(MAPS).run()
    app.selectbox(key="gene").select("signature:epithelium").run()
    assert not app.exception
    return app.selectbox(key="gene")


def test_the_weights_bring_sets_with_their_trust_first_in_the_box(app):
    box = epithelium(app)
    assert box.options[0].startswith("Signature: ")
    assert [option.startswith("Signature: ") for option in box.options[:8]] == [True] * 8
    assert "**● Signature epithelium is reliable**: held-out r 0.5" in said(app)
    assert "in the next patient" in said(app)
    assert "Most genes follow how much tissue a tile holds: beyond what all have in common, this one is" in said(app)
    for typed in ("proliferation", "signature:proliferation", "Signature: proliferation · r 0.5", "Proliferation"):
        box.select("signature:epithelium").run()
        type_gene(app, typed)
        assert app.selectbox(key="gene").value == "signature:proliferation", typed
        assert "no gene symbol" not in said(app)
    type_gene(app, "COX6C")
    assert app.selectbox(key="gene").value == "COX6C"


def test_a_tile_and_a_region_tell_scores_beside_genes(app):
    epithelium(app)
    click(app, "Highest")
    assert not app.exception
    values = app.dataframe[0].value.set_index("Gene")
    assert values.index[0] == "epithelium"
    result = slide(app).result
    assert values.Value.iloc[0] == pytest.approx(result[:, "signature:epithelium"].X.max(), abs=1e-6)
    assert "MEAN CONCENTRATION OF THE STAINS" not in said(app)


def test_sets_are_compared_with_genes_but_not_by_counts(app):
    predict_demo(app, None)
    app.switch_page(COMPARE).run()
    choose_genes(app, "compare_genes", "signature:stroma", "COX6C")
    assert not app.exception
    assert "<b>signature stroma</b>" in json.dumps(chart(app))
    next(group for group in app.button_group if "Difference" in group.options).set_value("Difference")
    app.run()
    assert not app.exception
    assert "Teal: signature stroma stands higher" in said(app)
    assert not [group for group in app.button_group if "Ratio of counts" in group.options]


def test_the_stains_page_shows_a_gene_of_the_set_and_the_maps_keep_the_set(app):
    epithelium(app)
    app.switch_page(STAINS).run()
    assert not app.exception
    assert (
        "The signature epithelium is the mean of its genes, each with weights of its own: here is one of them."
        in said(app)
    )
    shown = app.selectbox(key="gene of signature:epithelium")
    assert shown.value in ("KRT19", "KRT8", "KRT18", "EPCAM", "CDH1", "CD24", "ELF3", "SPINT2", "CLDN3", "CLDN4")
    app.switch_page(MAPS).run()
    assert app.selectbox(key="gene").value == "signature:epithelium"


def test_sets_that_earlier_weights_lack_are_no_fault_of_their_result(app, tiny_weights):
    take_weights(app, tiny_weights)
    click(app, "Use the demo slide")
    finish(click(app, "Run"))
    click(app, "Back to the embedded weights")
    app.text_area(key="gmt_text").set_value("mine\there\tEPCAM\tKRT8\tKRT19").run()
    assert not app.exception
    assert not app.error
    assert "To be scored: mine (3 of 3 genes)." in said(app)
    assert "The settings or the weights have changed since. Run again to use them." in said(app)
