"""The About page: a stranger's model card does no harm, genes are found, and figures beside other methods are read."""

from pathlib import Path

import pandas as pd
import pytest

from nsl.web.about import weights_card
from tests.app_driver import said, take_weights

ABOUT = "pages/about.py"


# The model card


@pytest.mark.parametrize(
    "card",
    [
        "see ![stain](http://tracker.example/pixel.png) here",
        "see !![stain](http://tracker.example/pixel.png) here",
        "see ![stain][1] here\n\n[1]: http://tracker.example/pixel.png",
        "see [![badge](http://tracker.example/b.svg)](http://example.org) here",
        "see !\\![stain](http://tracker.example/pixel.png) here",
    ],
    ids=["picture", "two marks", "by reference", "in a link", "escaped"],
)
def test_a_card_loads_no_picture(card):
    assert "![" not in weights_card.harmless(card)
    assert "see" in weights_card.harmless(card)


def test_a_card_keeps_its_words_and_links():
    card = "Trained! [paper](https://arxiv.org/abs/2108.10446) | r | q |\n#hashtag, not a heading"
    assert weights_card.harmless(card) == card


@pytest.mark.parametrize("marks", ["#", "##", "   #", "######"])
def test_headings_of_a_card_are_no_larger_than_those_of_the_page(marks):
    assert weights_card.harmless(f"{marks} HUGE\ntext") == "#### HUGE\ntext"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_front_matter_of_a_card_is_left_out_and_a_rule_within_it_stays(newline):
    card = newline.join(["---", "license: mit", "tags: [a]", "---", "Words.", "", "---", "", "More words."])
    shown = weights_card.harmless(card)
    assert shown.startswith("Words.")
    assert "license" not in shown
    assert "---" in shown
    assert shown.endswith("More words.")


def _use_weights(app, folder: Path):
    return take_weights(app, folder).switch_page(ABOUT).run()


def test_html_of_a_card_is_shown_as_text_and_runs_nowhere(app, tiny_weights):
    (tiny_weights / "README.md").write_text("# Mine\n<img src=x onerror=alert(1)> ![p](http://a.example/p.png) words")
    _use_weights(app, tiny_weights)
    assert not app.exception
    [card] = [element for element in app.markdown if "onerror" in element.value]
    assert not card.allow_html
    assert card.value.startswith("#### Mine")
    assert "![" not in card.value


def test_a_card_that_is_no_text_or_without_end_is_shown_as_far_as_it_goes(app, tiny_weights):
    (tiny_weights / "README.md").write_bytes(b"Words \xff\xfe\x00 " + b"a" * 1_000_000)
    _use_weights(app, tiny_weights)
    assert not app.exception
    [card] = [element.value for element in app.markdown if element.value.startswith("Words")]
    assert len(card) <= 100_000


# Genes


GENES = pd.DataFrame(
    {"r_heldout": [0.1, 0.5, 0.3, 0.2, 0.05], "trust": ["weak", "weak", "reliable", "weak", "unreliable"]},
    index=pd.Index(["ERBB2", "KRT7", "KRT19", "MKI67", "AKRT"], name="gene"),
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["KRT19", "KRT7", "MKI67", "ERBB2", "AKRT"]),
        ("  ,; ", ["KRT19", "KRT7", "MKI67", "ERBB2", "AKRT"]),
        ("ERBB2", ["ERBB2"]),
        ("her2", ["ERBB2"]),
        ("Ki-67, erbb2", ["MKI67", "ERBB2"]),
        ("krt", ["KRT19", "KRT7", "AKRT"]),
        ("KRT7 krt", ["KRT7", "KRT19", "AKRT"]),  # named before part of a name
        ("K.T", []),  # no pattern
        ("(", []),
        ("NONE", []),
    ],
)
def test_genes_are_found_by_symbol_common_name_or_part_the_best_first(text, found):
    assert list(weights_card.matching(GENES, text).index) == found


# Beside other methods


def _table(*rows: tuple[str, str, str]) -> pd.DataFrame:
    told = [{"left out": left_out, "method": method, "median r": r} for left_out, method, r in rows]
    return weights_card.evaluation(told)


MEASURED = (
    ("one section of A", "NSL-11", "0.10"),
    ("one section of A", "nuclei", "0.30"),
    ("one section of A", "HED", "0.05"),
    ("one section of B", "NSL-11", "0.20"),
    ("one section of B", "nuclei", "0.25"),
    ("one section of B", "HED", "–"),
    ("one patient", "NSL-11", "0.18"),
    ("one patient", "nuclei", "0.15"),
    ("one patient", "HED", "0.16"),
)


def test_where_nsl_stands_is_said_for_patients_first_then_for_sections_with_who_is_best():
    assert weights_card.standing(_table(*MEASURED)) == [
        "With one patient left out, NSL-11 comes 1st of 3 methods, with a median r of 0.180; the next, HED, has 0.160.",
        "With one section of A left out, NSL-11 comes 2nd of 3 methods, with a median r of 0.100; the best, nuclei, "
        "has 0.300, and with one section of B left out, NSL-11 comes 2nd of 2 methods, with a median r of 0.200; the "
        "best, nuclei, has 0.250.",
    ]


def test_a_shared_place_counts_for_both_and_a_negative_r_is_ranked():
    [said_of] = weights_card.standing(_table(("one patient", "NSL-11", "-0.02"), ("one patient", "nuclei", "-0.02")))
    assert "comes 1st of 2 methods" in said_of


@pytest.mark.parametrize(("others", "place"), [(2, "3rd"), (3, "4th"), (10, "11th"), (20, "21st"), (21, "22nd")])
def test_places_are_said_as_one_says_them(others, place):
    rows = [("one patient", f"other {i}", "0.5") for i in range(others)]
    assert f"comes {place} of" in weights_card.standing(_table(("one patient", "NSL-11", "0.1"), *rows))[0]


@pytest.mark.parametrize(
    "rows",
    [
        [("one patient", "nuclei", "0.2"), ("one patient", "HED", "0.1")],
        [("one patient", "NSL-11", "0.2")],
        [("one patient", "NSL-11", "–"), ("one patient", "HED", "0.1"), ("one patient", "nuclei", "0.1")],
    ],
    ids=["without NSL", "NSL alone", "NSL without a figure"],
)
def test_without_a_comparison_nothing_is_said_of_a_place(rows):
    assert weights_card.standing(_table(*rows)) == []


def test_a_strangers_names_are_shown_letter_by_letter():
    [said_of] = weights_card.standing(_table(("one *x*", "NSL-11", "0.2"), ("one *x*", "[a](http://b)", "0.1")))
    assert "\\[a\\](http\u2060\\://b)" in said_of
    assert r"one \*x\*" in said_of


def test_the_hardest_is_where_even_the_best_method_reached_least():
    assert weights_card.hardest(_table(*MEASURED)) == ("one patient", "NSL-11", 0.18)


def test_one_kind_of_leaving_out_has_no_hardest():
    assert weights_card.hardest(_table(*MEASURED[:3])) is None
    assert weights_card.hardest(_table(*((*row[:2], "–") for row in MEASURED))) is None


@pytest.mark.parametrize("rows", [(), ({"method": "NSL-11", "median r": "0.1"},)], ids=["none", "of nothing left out"])
def test_figures_that_cannot_be_read_are_no_figures(rows):
    assert weights_card.evaluation(rows) is None


def test_the_embedded_weights_say_where_they_stand_and_where_they_fail(app):
    app.switch_page(ABOUT).run()
    assert "With one patient left out, NSL-11 comes 1st of 12 methods" in said(app)
    assert "**Patients differ.** With one section of patient A left out" in said(app)
