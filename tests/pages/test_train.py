"""The Train page while sections are brought: what is checked of each, what is refused and why, what is held out."""

import io
import zipfile
from dataclasses import replace

import pandas as pd
import pytest

from nsl.web.session.state import SessionState
from nsl.web.train.fit_result import Training
from nsl.weights.folder import load_weights
from nsl.weights.weights import Weights
from tests.app_driver import buttons, click, said, seen, session_held, slide, told_of_pictures, upload

TRAIN = "pages/train.py"


@pytest.fixture
def page(app, paired):
    """The page with the H&E image of one measured section in the session."""
    return _bring_slide(app, paired, "S1")


def _bring_slide(app, paired, name):
    app.switch_page("pages/predict.py").run()
    upload(app, f"{name}.png", (paired / f"{name}.png").read_bytes())
    app.number_input[0].set_value(1.0).run()
    return app.switch_page(TRAIN).run()


def _tables(paired, name) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts and spots of a section."""
    return pd.read_csv(paired / f"{name}_counts.csv", index_col="spot"), pd.read_csv(paired / f"{name}_spots.csv")


def _field(app, label):
    return next(field for field in app.text_input if field.label == label)


def _give(app, counts, spots):
    """Put the two tables of a section in the uploader."""
    files = app.main.get("file_uploader")[0]
    files.upload("counts.csv", counts.to_csv().encode())
    files.upload("spots.csv", spots.to_csv(index=False).encode())
    return app.run()


def _add(app, counts, spots, **labels):
    box = next(box for box in app.selectbox if box.label == "H&E slide")
    if box.value is None:  # all slides are sections already
        box.set_value(slide(app).key).run()
    _give(app, counts, spots)
    for label, value in labels.items():
        _field(app, label).set_value(value)
    return click(app.run(), "Add the section")


def _checked(app) -> list[dict]:
    """What the table of checks says, a row a section."""
    return app.dataframe[0].value.to_dict("records") if "Checks" in seen(app) else []


@pytest.fixture
def with_s1(page, paired):
    """The page with that section added."""
    return _add(page, *_tables(paired, "S1"))


def test_an_uploaded_section_is_looked_at_before_anything_is_fitted(page, paired):
    assert not buttons(page)["Add the section"]
    counts, spots = _tables(paired, "S1")
    _give(page, counts, spots)
    assert _checked(page) == []
    click(page, "Add the section")
    assert not page.exception
    assert not page.error
    [found] = _checked(page)
    assert (found["Section"], found["Patient"], found["Slide"]) == ("S1", "P1", "S1.png")
    assert found["Spots"] == len(counts)
    assert found["Depth"] == round(counts.sum(axis=1).median())
    assert found["On tissue"] == len(counts)
    assert any(f"S1: the slide with {found['On tissue']} spots on tissue" in told for told in told_of_pictures(page))
    assert "Only 7 genes of S1 are counted in at least a tenth of its spots" in said(page)
    assert "Each quarter of the section is left out" in said(page)
    assert buttons(page)["Train"]


def test_the_next_section_is_given_labels_that_are_free(with_s1):
    next(box for box in with_s1.selectbox if box.label == "H&E slide").set_value(slide(with_s1).key).run()
    assert (_field(with_s1, "Section").value, _field(with_s1, "Patient").value) == ("S2", "P2")
    assert not buttons(with_s1)["Add the section"]


@pytest.mark.parametrize(
    ("patient", "held_out"), [("P2", "Each of 2 patients is left out"), ("P1", "Each of 2 sections of the one patient")]
)
def test_what_is_held_out_follows_the_patients(with_s1, paired, patient, held_out):
    _add(_bring_slide(with_s1, paired, "S2"), *_tables(paired, "S2"), Patient=patient)
    assert [found["Section"] for found in _checked(with_s1)] == ["S1", "S2"]
    assert held_out in said(with_s1)


def test_a_slide_that_is_a_section_already_is_never_proposed_for_the_next(with_s1, paired):
    used = slide(with_s1).key

    def proposed():
        return next(box for box in with_s1.selectbox if box.label == "H&E slide").value

    assert proposed() is None
    assert "Add the section" not in buttons(with_s1)
    _bring_slide(with_s1, paired, "S2")
    other = slide(with_s1).key
    assert proposed() == other
    # Also where the slide looked at is the used one.
    session_held(with_s1, SessionState).current = used
    with_s1.run()
    assert proposed() == other


def test_a_fit_past_a_failed_check_is_asked_about_and_its_card_and_result_say_so(with_s1, monkeypatch):
    fitted = []
    monkeypatch.setattr(
        "nsl.train.train_sections", lambda sections, **options: fitted.append(options) or _fitted(options)
    )
    click(with_s1, "Train")
    assert session_held(with_s1, Training).job is None
    assert "Train all the same?" in said(with_s1)
    click(with_s1, "Do not train")
    assert "Train all the same?" not in said(with_s1)
    click(click(with_s1, "Train"), "Train all the same")
    session_held(with_s1, Training).job.thread.join(60)
    with_s1.run()
    assert not with_s1.exception
    [options] = fitted
    failed = "Only 7 genes of S1 are counted in at least a tenth of its spots"
    assert any(failed in sentence for sentence in options["failed_checks"])
    assert any(failed in box.value for box in with_s1.warning if "failed before the fit" in box.value)
    with zipfile.ZipFile(io.BytesIO(session_held(with_s1, Training).trained.zipped)) as folder:
        card, config = (folder.read(f"my-weights/{name}").decode() for name in ("README.md", "config.json"))
    assert failed in card
    assert failed in config


def _fitted(options: dict) -> Weights:
    """The embedded weights as a training would give them."""
    known = load_weights()
    genes = list(known.genes[:3])
    data = replace(known.config.training_data, failed_checks=options["failed_checks"])
    config = replace(known.config, name=options["name"], genes=tuple(genes), training_data=data)
    return replace(
        known,
        model=known.model.select(genes),
        config=config,
        reliability=known.reliability.loc[genes],
        signatures=known.signatures[:0],
    )


def test_a_removed_section_makes_room_for_itself(with_s1, paired):
    click(with_s1, "Remove S1")
    assert _checked(with_s1) == []
    assert "Train" not in buttons(with_s1)
    _add(with_s1, *_tables(paired, "S1"), Section="S1")
    assert not with_s1.error
    assert [found["Section"] for found in _checked(with_s1)] == ["S1"]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"Section": "S1"}, "There is a section S1 already; give each section its own name"),
        ({"Section": " S1  "}, "There is a section S1 already"),
        ({"Section": "again"}, "spots of S1.png are section S1 already; a section counts once"),
        ({"Section": "  "}, "The section has no name; type one, such as S1"),
        ({"Patient": ""}, "The patient has no name; type one, such as P1"),
        ({"Section": "s" * 41}, "The name of the section has 41 letters; use at most 40"),
        ({"Patient": "p" * 41}, "The name of the patient has 41 letters; use at most 40"),
    ],
)
def test_a_section_that_cannot_be_told_from_another_is_refused(with_s1, paired, labels, told):
    _add(with_s1, *_tables(paired, "S1"), **labels)
    assert not with_s1.exception
    assert told in with_s1.error[0].value.replace("\\", "")
    assert [found["Section"] for found in _checked(with_s1)] == ["S1"]
    assert buttons(with_s1)["Train"]


def test_labels_of_the_greatest_length_are_taken_and_shown_letter_by_letter(page, paired):
    name = "S*1* [a](b) <i>".ljust(40, "x")
    _add(page, *_tables(paired, "S1"), Section=f"  {name} ")
    assert not page.error
    assert [found["Section"] for found in _checked(page)] == [name]
    assert f"**{name}**" not in said(page)
    assert f"**{name}**" in said(page).replace("\\", "")


def test_a_session_holds_so_many_sections_and_says_so(with_s1, paired, monkeypatch):
    monkeypatch.setattr("nsl.web.train.paired_sections.MAX_SECTIONS", 1)
    counts, spots = _tables(paired, "S1")
    _add(with_s1, counts[:40], spots[:40])
    assert "This session holds 1 measured sections, as many as it can; remove one first" in with_s1.error[0].value
    click(with_s1, "Remove S1")
    _add(with_s1, counts[:40], spots[:40], Section="other")
    assert [found["Section"] for found in _checked(with_s1)] == ["other"]


WRONG = {
    "outside": (lambda c, s: (c, s.assign(x_px=s.x_px * 10)), "63 spots lie outside the slide"),
    "on glass": (
        lambda c, s: (c, s.assign(x_px=s.x_px / 50, y_px=s.y_px / 50)),
        "None of the 63 spots of S1 lies on tissue",
    ),
    "spot twice": (lambda c, s: (c, pd.concat([s, s[:1]])), "spots.csv: spot 0x0 occurs twice; keep one of the two"),
    "counts twice": (lambda c, s: (pd.concat([c, c[:1]]), s), "counts.csv: spot 0x0 occurs twice"),
    "negative": (lambda c, s: (c.assign(NOISE=-1), s), "gene NOISE is -1; raw counts are whole numbers"),
    "normalised": (lambda c, s: (c.assign(NOISE=0.5), s), "gene NOISE is 0.5; raw counts are whole numbers"),
    "other spots": (lambda c, s: (c.set_axis(c.index + "-1"), s), "counts.csv and spots.csv share no spot"),
    "no positions": (lambda c, s: (c, s.drop(columns="y_px")), "spots.csv"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_measured_data_that_do_not_fit_are_told_which_and_what_to_do(page, paired, wrong):
    spoil, told = WRONG[wrong]
    _add(page, *spoil(*_tables(paired, "S1")))
    assert not page.exception
    assert told in page.error[0].value.replace("\\", "")
    assert _checked(page) == []
    # Mended, the same section is taken.
    page.main.get("file_uploader")[0].clear()
    _add(page, *_tables(paired, "S1"))
    assert not page.error
    assert [found["Section"] for found in _checked(page)] == ["S1"]


def test_positions_of_a_larger_image_are_scaled(page, paired):
    counts, spots = _tables(paired, "S1")
    _add(page, counts, spots.assign(x_px=spots.x_px * 4, y_px=spots.y_px * 4))
    assert "scale them by" in page.error[0].value
    scale = next(field for field in page.number_input if field.label == "Multiply positions by")
    scale.set_value(0.25).run()
    click(page, "Add the section")
    scaled = _checked(page)
    click(page, "Remove S1")
    _add(page, counts, spots, Section="S1", Patient="P1")
    assert scaled == _checked(page)


def test_patients_whose_tables_name_genes_apart_are_told_so(with_s1, paired):
    counts, spots = _tables(paired, "S2")
    _add(_bring_slide(with_s1, paired, "S2"), counts.add_prefix("ENSG"), spots)
    assert "No gene is counted in 10 % of the spots of every patient" in said(with_s1)
    assert "check that all tables name genes alike" in said(with_s1)
    assert "Train" not in buttons(with_s1)
    click(with_s1, "Remove S2")
    assert buttons(with_s1)["Train"]


def test_a_section_whose_slide_was_removed_is_told_when_it_must_be_read_again(with_s1):
    click(with_s1, "Remove this slide")
    assert slide(with_s1) is None
    assert buttons(with_s1)["Train"]  # what was read of it is there
    with_s1.number_input(key="train_window").set_value(100.0).run()
    assert not with_s1.exception
    assert "The slide of S1 was removed from this session; remove S1 too" in with_s1.error[0].value
    assert "Train" not in buttons(with_s1)
