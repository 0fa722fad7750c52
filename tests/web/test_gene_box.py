"""Gene boxes: what is typed is the gene of that name, or none and a sentence, and never a gene spelled like it."""

import pytest

from nsl.web.gene_choice import Boxed, why_missing
from nsl.weights.folder import load_weights
from tests.app_driver import choose_genes, open_stains, predict_demo, said, type_gene

STAINS, MAPS = "pages/stains.py", "pages/maps.py"
TOO_FEW = "not in these weights: detected in too few spots where they were learned"


@pytest.fixture
def stains(app):
    """The page whose box holds all genes of the embedded weights, at a gene that is not the first shown."""
    open_stains(app.switch_page(STAINS).run())
    return type_gene(app, "COX6C")


def test_a_gene_that_the_weights_lack_is_told_and_the_one_shown_stays(stains):
    for typed, told in {
        "ESR1": f"ESR1 is {TOO_FEW}.",
        "esr1": f"ESR1 is {TOO_FEW}.",
        "PGR": f"PGR is {TOO_FEW}.",
        "MS4A1": f"MS4A1 is {TOO_FEW}.",
        "CD20": f"CD20 is MS4A1, which is {TOO_FEW}.",
        "ER": f"ER is ESR1, which is {TOO_FEW}.",
        "CD4": f"CD4 is {TOO_FEW}.",
        "NOGENE1": f"NOGENE1 is {TOO_FEW}, misspelt, or listed on About under another symbol.",
        "hello": "hello is no gene symbol known here; type one such as ERBB2",
        "<b>": "\\<b> is no gene symbol known here",
    }.items():
        type_gene(stains, typed)
        assert not stains.exception
        assert stains.selectbox(key="gene").value == "COX6C"
        assert "COX6C" in stains.code[0].value
        assert told in said(stains)


def test_a_symbol_or_a_common_name_is_its_gene_listed_or_not(stains):
    listed = stains.selectbox(key="gene").options
    assert not any(option.startswith("GAPDH ") for option in listed)
    for typed, gene in {
        "CD24": "CD24",
        "cd-24": "CD24",
        "HER2": "ERBB2",
        "HER-2/neu": "ERBB2",
        "MKI67": "MKI67",
        "SEPTIN9": "SEPT9",
        "MSF": "SEPT9",
        "ENSG00000141736": "ERBB2",
        "Ki-67": "MKI67",
        "GAPDH": "GAPDH",
        "COX6C · r 0.3": "COX6C",
        "ERBB2 (HER2": "ERBB2",
    }.items():
        type_gene(stains, typed)
        assert not stains.exception
        assert stains.selectbox(key="gene").value == gene
        assert gene in stains.code[0].value
        assert "not in these weights" not in said(stains)
        assert ("is the gene" in said(stains)) == (
            typed in ("cd-24", "HER2", "HER-2/neu", "Ki-67", "SEPTIN9", "MSF", "ENSG00000141736")
        )
        assert ("GAPDH is unreliable" in said(stains)) == (gene == "GAPDH")


def test_a_part_of_a_sets_name_is_that_set_or_several_to_choose_from():
    weights = load_weights()
    held = Boxed([f"signature:{name}" for name in weights.signatures.index] + weights.genes, weights, "is elsewhere")
    for typed, of_set in {
        "cholesterol": "cholesterol synthesis",
        "Oxidative": "oxidative phosphorylation",
        "presentation class II": "antigen presentation class II",
        "antigen presentation class I": "antigen presentation class I",
        "Signature: stroma · r 0.45 ●": "stroma",
    }.items():
        assert (held.find(typed) or typed).removeprefix("signature:") == of_set
    for typed, told in {
        "class": "class stands in the names of several signatures: antigen presentation class I",
        "pro": "pro is no gene symbol known here",  # in proliferation, and in protein secretion
        "ESR1": f"ESR1 is {TOO_FEW}",
    }.items():
        assert held.find(typed) is None
        assert told in why_missing(typed, held)


def test_what_was_typed_is_spoken_of_until_a_gene_is_chosen_or_the_page_is_left(stains):
    type_gene(stains, "ESR1").run()
    assert TOO_FEW in said(stains)
    stains.selectbox(key="gene").select("CD24").run()
    assert TOO_FEW not in said(stains)
    type_gene(stains, "  ")
    assert stains.selectbox(key="gene").value == "CD24"
    type_gene(stains, "ESR1")
    stains.switch_page("pages/about.py").run()
    open_stains(stains.switch_page(STAINS).run())
    assert TOO_FEW not in said(stains)
    assert stains.selectbox(key="gene").value == "CD24"


def test_a_gene_of_the_weights_that_was_not_predicted_is_told_so(app):
    predict_demo(app, "ERBB2 CD24")
    app.switch_page(MAPS).run()
    type_gene(app, "Ki-67")
    assert app.selectbox(key="gene").value == "ERBB2"
    assert "Ki-67 is MKI67, which was not predicted on this slide: choose it on Predict" in said(app)


def test_several_genes_are_chosen_one_after_another_by_name_up_to_a_number(stains):
    key, box = "effects_beside", "effects_beside add"
    assert not stains.multiselect
    for typed in ("ESR1", "ER", "CD20"):
        type_gene(stains, typed, box)
        assert TOO_FEW in said(stains)
        assert not stains.multiselect
    type_gene(stains, "HER2", box)
    assert "HER2 is the gene ERBB2" in said(stains)
    type_gene(stains, "GAPDH", box)
    type_gene(stains, "ERBB2", box)
    assert stains.multiselect(key=key).value == ["ERBB2", "GAPDH"]
    assert stains.multiselect(key=key).options[1].endswith("unreliable")
    assert not any(option.startswith("ERBB2 ") for option in stains.selectbox(key=box).options)
    choose_genes(stains, key, "CD24", "KRT19", "ERBB2", "COX6C", "GAPDH")
    assert stains.selectbox(key=box).disabled
    stains.switch_page("pages/about.py").run()
    open_stains(stains.switch_page(STAINS).run())
    assert stains.multiselect(key=key).value == ["CD24", "KRT19", "ERBB2", "COX6C", "GAPDH"]
    stains.multiselect(key=key).set_value([]).run()
    stains.switch_page("pages/about.py").run()
    open_stains(stains.switch_page(STAINS).run())
    assert not stains.exception
    assert not stains.multiselect
    type_gene(stains, "CK7", box)
    assert stains.multiselect(key=key).value == ["KRT7"]


def test_genes_that_were_listed_are_not_said_to_be_too_rare(tiny_weights):
    weights = load_weights(tiny_weights)
    held = Boxed(list(weights.genes), weights, "was not predicted")
    assert why_missing("CD20", held) == "CD20 is MS4A1, which is not in these weights: their genes are as listed."
