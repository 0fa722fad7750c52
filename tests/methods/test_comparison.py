"""What `comparison` promises: every method on the same folds, and a table that says who is ahead in plain words."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nsl.cli import main
from nsl.errors import SpotsError
from nsl.evaluate import Method, Training
from nsl.methods.baselines import baselines
from nsl.methods.comparison import COLUMNS, as_markdown, card_rows, compare, in_words, write_comparison
from nsl.spots.measured_section import MeasuredSection, measure_section
from nsl.spots.tables import read_manifest
from nsl.train import FitSettings, neural_stain

GENES = ["H_GENE", "E_GENE", "NOISE"]


@pytest.fixture(scope="module")
def sections(paired) -> list[MeasuredSection]:
    return [measure_section(section, 60.0) for section in read_manifest(paired / "manifest.csv")]


@pytest.fixture(scope="module")
def comparison(sections):
    darkness = baselines(60.0)[0]
    return compare(sections, [neural_stain([FitSettings(10, 20)]), darkness], ["patient"], GENES)


def test_every_method_has_a_row_with_every_figure(comparison):
    table = comparison.table
    assert list(table.columns) == ["setting", "method", *COLUMNS]
    assert list(table.method) == ["NSL-11", "tissue darkness + ridge"]
    assert list(table["weights per gene"]) == [11, 2]
    assert np.isfinite(table[list(COLUMNS)]).all(axis=None)
    assert (table["spots/s"] > 0).all()


def test_figures_are_means_over_the_groups_left_out(comparison):
    ours = comparison.correlations[comparison.correlations.method == "NSL-11"]
    assert set(ours.group) == {"P1", "P2"}
    by_group = ours.groupby("group").pearson_r
    row = comparison.table.iloc[0]
    assert row["median r"] == pytest.approx(by_group.median().mean())
    assert row["mean r"] == pytest.approx(by_group.mean().mean())
    assert row["genes r > 0.3"] == by_group.apply(lambda r: (r > 0.3).sum()).mean() == 2
    assert row["genes beyond chance"] == 2


def test_only_the_sections_of_a_patient_with_several_are_left_out(sections):
    first, second = sections
    three = [first, replace(second, patient="P1"), replace(first, name="S3", patient="P2")]
    seen = []

    def fit(training: Training, seed: int):
        seen.append([section.name for section in training.sections])
        return lambda features: np.zeros((63, 3))

    table = compare(three, [Method("spy", lambda section: None, fit, 1)], ["section"], GENES).table
    assert list(table.setting) == ["one section of patient P1 left out"]
    assert seen == [["S2"], ["S1"]]


def test_methods_that_draw_are_repeated_with_other_seeds(sections):
    seeds = []

    def fit(training: Training, seed: int):
        seeds.append(seed)
        return lambda features: seed * training.expression[0]

    drawn = Method("drawn", lambda section: None, fit, None, random=True)
    table = compare(sections, [drawn], ["patient"], GENES, seeds=3).table
    assert seeds == [0, 0, 1, 1, 2, 2]
    assert np.isnan(table["weights per gene"][0])
    assert "| drawn |" in as_markdown(table)
    assert "| shared |" in as_markdown(table)


def test_one_patient_cannot_be_left_out(sections):
    alone = [replace(section, patient="P1") for section in sections]
    with pytest.raises(SpotsError, match="there is one patient, P1"):
        compare(alone, [neural_stain()], ["patient"], GENES)


def test_single_sections_cannot_be_left_out(sections):
    with pytest.raises(SpotsError, match="every patient has one section"):
        compare(sections, [neural_stain()], ["section"], GENES)


def row(method: str, median: float, useful: float) -> dict:
    return (
        {"setting": "one patient left out", "method": method}
        | dict.fromkeys(COLUMNS, 1.0)
        | {
            "median r": median,
            "genes r > 0.3": useful,
        }
    )


def test_a_method_that_is_ahead_is_said_to_be():
    table = pd.DataFrame([row("NSL-11", 0.18, 68), row("nuclei + ridge", 0.26, 60), row("mean RGB + ridge", 0.1, 70)])
    [words] = in_words(table)
    assert "a median r of 0.180, behind the best other, nuclei + ridge, with 0.260" in words
    assert "68.0 genes with r above 0.3, behind the best other, mean RGB + ridge, with 70.0" in words


def test_the_colour_histogram_is_no_rival():
    table = pd.DataFrame([row("NSL-11", 0.18, 68), row("colour histogram + ridge", 0.5, 99), row("darkness", 0.1, 9)])
    assert "ahead of the best other, darkness, with 0.100" in in_words(table)[0]


def test_what_is_written_reads_back(comparison, tmp_path):
    write_comparison(comparison, tmp_path / "new")
    table = pd.read_csv(tmp_path / "new/evaluation.csv")
    np.testing.assert_allclose(table["median r"], comparison.table["median r"], atol=1e-4)
    assert len(pd.read_csv(tmp_path / "new/correlations.csv")) == 2 * 2 * 3
    page = (tmp_path / "new/evaluation.html").read_text(encoding="utf-8")
    assert "tissue darkness + ridge" in page
    assert "cdn.plot.ly" not in page.split("</script>")[-1]
    assert "| NSL-11 |" in (tmp_path / "new/evaluation.md").read_text(encoding="utf-8")


def test_a_model_card_shows_no_times(comparison):
    rows = card_rows(comparison.table)
    assert rows[0]["left out"] == "one patient"
    assert rows[0]["weights per gene"] == "11"
    assert not {"fit s", "spots/s"} & rows[0].keys()


# At the command line


def evaluate(folder, out, *options) -> int:
    small = ["--genes", "4", "--tile-um", "60", "--methods", "nsl,hed"]
    return main([str(part) for part in ["evaluate", "--data", folder, "--out", out, *small, *options]])


def test_the_command_gives_the_same_numbers_twice(paired, tmp_path, capsys):
    assert evaluate(paired, tmp_path / "one", "--protocol", "patient") == 0
    assert "NSL-11 reaches a median r of" in capsys.readouterr().out
    assert evaluate(paired / "manifest.csv", tmp_path / "two", "--protocol", "patient") == 0
    kept = [name for name in COLUMNS if name not in ("fit s", "spots/s")]
    one, two = (pd.read_csv(tmp_path / name / "evaluation.csv") for name in ("one", "two"))
    assert list(one.method) == ["NSL-11", "fixed HED + ridge", "fixed HED + ridge, on patterns"]
    pd.testing.assert_frame_equal(one[kept].round(3), two[kept].round(3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--genes", "0"], "--genes is 0; it must be at least 1"),
        (["--seeds", "-1"], "--seeds is -1"),
        (["--methods", "oracle"], "no method's name holds any of oracle"),
        (["--protocol", "section"], "every patient has one section"),
        (["--data", "nowhere.csv"], "nowhere.csv does not exist"),
    ],
)
def test_bad_input_is_one_line(paired, tmp_path, capsys, options, said):
    assert evaluate(paired, tmp_path, *options) == 2
    *notes, line = capsys.readouterr().err.splitlines()
    assert all(note.startswith("nsl: note: ") for note in notes)
    assert line.startswith("nsl: error: ")
    assert said in line
