"""What `features` promises: embeddings are a fair row of the table, and what is wrong with them is said."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from nsl.cli import main
from nsl.errors import NslError, SpotsError
from nsl.evaluate import Training, leave_one_group_out, standardised
from nsl.methods import features as features_module
from nsl.methods.baselines import PENALTIES, baselines
from nsl.methods.features import COMPONENTS, embedded, fit_as_hest, read_embeddings, require_name
from nsl.spots.measured_section import MeasuredSection, measure_section, spatial_blocks
from nsl.spots.tables import read_manifest
from nsl.stats.pearson import pearson_r

GENES = ["H_GENE", "E_GENE", "NOISE"]
WIDTH = 40


@pytest.fixture(scope="module")
def sections(paired) -> list[MeasuredSection]:
    return [measure_section(section, 60.0) for section in read_manifest(paired / "manifest.csv")]


def embeddings_of(section: MeasuredSection, *, carry: bool = True) -> np.ndarray:
    """(63, 40) numbers on scales from a hundredth to a hundred that mix the genes, or that know nothing of them."""
    rng = np.random.default_rng(1)
    mixing, scales = rng.normal(size=(3, WIDTH)), np.geomspace(0.01, 100, WIDTH)
    own = np.random.default_rng(len(section.name) + sum(map(ord, section.name)))
    signal = standardised(section.expression_of(GENES)) @ mixing if carry else own.normal(size=(63, WIDTH))
    return ((signal + 0.01 * own.normal(size=signal.shape)) * scales + 5).astype(np.float32)


def write(path: Path, **datasets) -> Path:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, values in datasets.items():
            file[key] = values
    return path


def in_hest(path: Path, section: MeasuredSection, embeddings: np.ndarray) -> Path:
    """As HEST-Benchmark writes a section: names of the spots as fixed bytes in one column."""
    return write(path, embeddings=embeddings, barcodes=section.spot_names.astype("S")[:, None])


@pytest.fixture
def folder(sections, tmp_path) -> Path:
    """Embeddings that carry the expression."""
    for section in sections:
        in_hest(tmp_path / f"encoder/{section.name}.h5", section, embeddings_of(section))
    return tmp_path / "encoder"


def held_out_r(sections, method) -> np.ndarray:
    """(sections, genes), each section predicted from the other."""
    parts = leave_one_group_out(sections, [section.patient for section in sections], method, GENES)
    return np.array([pearson_r(part.predicted, part.section.expression_of(GENES)) for part in parts])


# What embeddings say


@pytest.mark.parametrize("row", [0, 1], ids=["as HEST", "penalty chosen"])
def test_embeddings_that_carry_expression_predict_it_where_they_were_not_fitted(sections, folder, row):
    method = embedded("ENCODER", folder, sections)[row]
    assert held_out_r(sections, method).min() > 0.99
    assert method.name == ["ENCODER", "ENCODER, penalty chosen"][row]
    assert method.weights_per_gene == WIDTH + 1
    assert not method.random


@pytest.mark.parametrize("row", [0, 1], ids=["as HEST", "penalty chosen"])
def test_embeddings_of_noise_predict_nothing(sections, tmp_path, row):
    for section in sections:
        in_hest(tmp_path / f"noise/{section.name}.h5", section, embeddings_of(section, carry=False))
    assert abs(held_out_r(sections, embedded("NOISE", tmp_path / "noise", sections)[row]).mean()) < 0.15


def test_nothing_of_the_section_held_out_reaches_the_fit(sections, folder):
    """Neither scales nor components move where all its other spots are embedded otherwise."""
    plain, _ = embedded("ENCODER", folder, sections)
    changed = embeddings_of(sections[0])
    changed[1:] = np.random.default_rng(0).normal(1e3, 1e3, (62, WIDTH))
    in_hest(folder / "S1.h5", sections[0], changed)
    other, _ = embedded("ENCODER", folder, sections)
    groups = [section.patient for section in sections]
    before, after = (leave_one_group_out(sections, groups, method, GENES)[0] for method in (plain, other))
    assert before.section.name == "S1"
    np.testing.assert_allclose(before.predicted[0], after.predicted[0], rtol=1e-12)
    assert not np.allclose(before.predicted[1:], after.predicted[1:])


@pytest.mark.parametrize(("width", "components"), [(WIDTH, WIDTH), (400, 62)], ids=["dimensions", "spots"])
def test_there_are_no_more_components_than_dimensions_or_spots_allow(sections, width, components, monkeypatch):
    made = []
    monkeypatch.setattr(features_module, "PCA", lambda number, **seed: made.append(number) or PCA(number, **seed))
    training = Training([sections[0]], [np.random.default_rng(0).normal(size=(63, width))], GENES)
    assert np.isfinite(fit_as_hest(training, 0)(training.features[0])).all()
    assert made == [components]
    assert components < COMPONENTS


def test_the_penalty_is_that_of_hest_benchmark_and_sections_weigh_alike(sections):
    """The same as scikit-learn's ridge by hand, of two sections of which one has a third of its spots."""
    few = replace(
        sections[1],
        expression=sections[1].expression[:21],
        colors=replace(sections[1].colors, moments=sections[1].colors.moments[:21]),
    )
    seen = [sections[0], few]
    features = [np.random.default_rng(i).normal(size=(part.spots, 10)) for i, part in enumerate(seen)]
    predicted = fit_as_hest(Training(seen, features, GENES), 0)(features[0])

    x = PCA(10).fit_transform(StandardScaler().fit_transform(np.concatenate(features)))
    y = np.concatenate([standardised(part.expression_of(GENES)) for part in seen])
    weight = np.repeat([84 / 2 / 63, 84 / 2 / 21], [63, 21])
    expected = Ridge(100 / (10 * 3)).fit(x, y, weight).predict(x[:63])
    np.testing.assert_allclose(predicted, expected, atol=1e-6)


def test_a_penalty_is_chosen_by_the_patients_of_the_training(sections, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(features_module, "choose", lambda *given: asked.append(given) or 10.0)
    _, method = embedded("ENCODER", folder, sections)
    training = Training(sections, [method.features(section) for section in sections], GENES)
    method.fit(training, 0)
    [(candidates, _, chosen_by)] = asked
    assert candidates == PENALTIES
    assert chosen_by.groups == ["P1", "P2"]


# Files


def test_rows_are_told_by_the_names_of_spots_in_any_order_and_other_spots_are_left_out(sections, tmp_path):
    section, values = sections[0], embeddings_of(sections[0])
    order = np.random.default_rng(0).permutation(63)
    names = [*map(str, section.spot_names[order]), "98x99", "99x99"]
    rows = np.vstack([values[order], np.full((2, WIDTH), np.nan)])
    for key in ("barcodes", "barcode", "spots"):
        for given in (names, np.array(names, "S"), np.array(names, "S")[:, None], np.array(names, object)[:, None]):
            path = write(tmp_path / "e/S1.h5", embeddings=rows, **{key: given})
            np.testing.assert_array_equal(read_embeddings(path, section), values)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_files_of_clam_and_trident_have_a_row_a_spot_in_order(sections, tmp_path, dtype):
    section, values = sections[0], embeddings_of(sections[0]).astype(dtype)
    corners = (2 * section.centers_px - 112).astype(int)  # of tiles on a slide twice as fine
    path = write(tmp_path / "e/S1.h5", features=values, coords=corners)
    np.testing.assert_array_equal(read_embeddings(path, section), values.astype(np.float32))


def test_spots_keep_their_names_in_a_part_of_a_section(sections):
    assert list(sections[0].spot_names[:3]) == ["0x0", "1x0", "2x0"]
    parts = spatial_blocks(sections[0])
    assert sorted(name for part in parts for name in part.spot_names) == sorted(sections[0].spot_names)
    assert all(len(part.spot_names) == part.spots for part in parts)


# What is wrong with them


def bad_table(section, **change):
    return {"embeddings": embeddings_of(section), "barcodes": section.spot_names.astype("S")} | change


def with_nan(section):
    values = embeddings_of(section)
    values[[4, 7], 3] = np.nan
    return {"embeddings": values, "barcodes": section.spot_names.astype("S")}


def shuffled(section):
    order = np.random.default_rng(0).permutation(63)
    return {"features": embeddings_of(section)[order], "coords": section.centers_px[order]}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda s: {"weights": np.zeros(3)}, "holds weights; put a dataset embeddings there"),
        (lambda s: {"embeddings/layer": np.zeros((63, 4))}, "embeddings is a group, not a dataset"),
        (lambda s: {"features": embeddings_of(s)[:60]}, "has 60 rows and section S1 63 spots"),
        (lambda s: {"features": embeddings_of(s).ravel()}, "features is 2,520 of float32; give a table"),
        (lambda s: {"features": embeddings_of(s)[:, :0]}, "features is 63 × 0 of float32"),
        (lambda s: {"features": embeddings_of(s).astype("S")}, "give a table of numbers"),
        (lambda s: bad_table(s, barcodes=s.spot_names[:9].astype("S")), "barcodes names 9 spots of 63 rows"),
        (
            lambda s: bad_table(s, barcodes=[f"AAAC-{i}" for i in range(63)]),
            "has no row for spot 0x0 of section S1 (63 of 63 spots have none, and its first row is that of AAAC-0)",
        ),
        (
            lambda s: {"embeddings": embeddings_of(s)[:-1], "barcodes": s.spot_names[:-1].astype("S")},
            "has no row for spot 8x6 of section S1 (1 of 63",
        ),
        (
            lambda s: {"embeddings": np.vstack([embeddings_of(s)] * 2), "barcodes": [*map(str, s.spot_names)] * 2},
            "barcodes names spot 0x0 twice",
        ),
        (with_nan, "spot 4x0 has nan among its numbers (2 spots have such)"),
        (lambda s: bad_table(s, embeddings=np.full((63, 2), 1e300)), "spot 0x0 has inf among its numbers"),
        (shuffled, "x of coords goes with that of the spots of section S1 at r"),
    ],
)
def test_a_file_that_does_not_fit_is_told_of_in_a_sentence(sections, tmp_path, made, said):
    path = write(tmp_path / "e/S1.h5", **made(sections[0]))
    with pytest.raises(SpotsError) as error:
        read_embeddings(path, sections[0])
    assert said in str(error.value)
    assert str(error.value).startswith("e/S1.h5")
    assert "\n" not in str(error.value)


def outside(how: str, path: Path, values: np.ndarray) -> None:
    """Embeddings that lie in another file of the disk."""
    write(path.with_name("other.h5"), embeddings=values)
    with h5py.File(path, "w") as file:
        if how == "external link":
            file["embeddings"] = h5py.ExternalLink("other.h5", "embeddings")
        elif how == "external storage":
            values.tofile(path.with_name("raw"))
            file.create_dataset("embeddings", values.shape, "f4", external=[(str(path.with_name("raw")), 0, 10**6)])
        else:
            layout = h5py.VirtualLayout(values.shape, "f4")
            layout[:] = h5py.VirtualSource(path.with_name("other.h5"), "embeddings", values.shape)
            file.create_virtual_dataset("embeddings", layout)


@pytest.mark.parametrize("how", ["external link", "external storage", "virtual dataset"])
def test_embeddings_outside_their_file_are_not_read(sections, tmp_path, how):
    (tmp_path / "e").mkdir()
    outside(how, tmp_path / "e/S1.h5", embeddings_of(sections[0]))
    with pytest.raises(SpotsError, match="only what lies in the file itself is read"):
        read_embeddings(tmp_path / "e/S1.h5", sections[0])


def test_sizes_are_checked_as_they_are_stated_before_anything_is_read(sections, tmp_path):
    with h5py.File(tmp_path / "S1.h5", "w") as file:
        file.create_dataset("embeddings", (63, 10**9), "f4", chunks=(1, 1000), compression="gzip")
    with pytest.raises(SpotsError, match=r"states 63 × 1,000,000,000 numbers, more than the 2 GB"):
        read_embeddings(tmp_path / "S1.h5", sections[0])


def test_every_section_has_as_many_numbers_a_spot(sections, folder):
    in_hest(folder / "S2.h5", sections[1], embeddings_of(sections[1])[:, :9])
    with pytest.raises(SpotsError, match="section S2 have 9 numbers a spot and those of S1 have 40"):
        embedded("ENCODER", folder, sections)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NSL-11", "as the method NSL-11 of"),
        ("mean od + RIDGE", "as the method mean OD + ridge of"),
        ("colour histogram of mine", "as the method colour histogram of"),
        ("", "give it a name"),
        ("a|b", "'a|b'; give it a name"),
    ],
)
def test_a_name_that_is_taken_or_no_name_is_refused(name, said):
    with pytest.raises(NslError) as error:
        require_name(name, ["NSL-11", *(method.name for method in baselines())])
    assert said in str(error.value)


# At the command line


def evaluate(paired, out, *options) -> int:
    small = ["--genes", "4", "--tile-um", "60", "--protocol", "patient", "--methods", "hed"]
    return main([str(part) for part in ["evaluate", "--data", paired, "--out", out, *small, *options]])


def test_embeddings_are_rows_of_the_same_table_whatever_methods_are_chosen(paired, folder, tmp_path, capsys):
    assert evaluate(paired, tmp_path / "out", "--features", f"UNI={folder}", "--features", f"other={folder}") == 0
    table = pd.read_csv(tmp_path / "out/evaluation.csv")
    given = ["UNI", "UNI, penalty chosen", "other", "other, penalty chosen"]
    assert list(table.method) == ["fixed HED + ridge", "fixed HED + ridge, on patterns", *given]
    assert list(table["weights per gene"][2:]) == [WIDTH + 1] * 4
    assert "| UNI |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--features", "UNI"], "--features is 'UNI'; give NAME=FOLDER"),
        (["--features", "UNI="], "--features is 'UNI='; give NAME=FOLDER"),
        (["--features", "UNI=nowhere"], "there is no folder nowhere of embeddings"),
        (["--features", "UNI={tmp}"], "empty/S1.h5 does not exist; check its path"),
        (["--features", "UNI={text}"], "text/S1.h5 cannot be read"),
        (["--features", "fixed HED + ridge={tmp}"], "as the method fixed HED + ridge of the comparison is called"),
        (["--features", "A={good}", "--features", "a={good}"], "as the method A of the comparison is called"),
    ],
)
def test_bad_input_is_one_line(paired, folder, tmp_path, capsys, options, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text/S1.h5").write_text("no HDF5")
    places = {"tmp": tmp_path / "empty", "text": tmp_path / "text", "good": folder}
    assert evaluate(paired, tmp_path / "out", *(option.format(**places) for option in options)) == 2
    *notes, line = capsys.readouterr().err.splitlines()
    assert all(note.startswith("nsl: note: ") for note in notes)
    assert line.startswith("nsl: error: ")
    assert said in line
