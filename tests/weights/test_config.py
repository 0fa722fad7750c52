"""What `WeightsConfig` promises: the file comes out as it went in, and what somebody else left out is None or empty."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nsl.errors import WeightsError
from nsl.weights.config import TrainingData, TrainingStains, WeightsConfig
from nsl.weights.folder import embedded_config, embedded_folder, load_weights, save_weights

LEAST = {
    "schema_version": 1,
    "name": "theirs",
    "units": "log1p of counts per 10,000",
    "tile_um": 100,
    "analysis_mpp": 2,
    "training_data": {"patients": 1, "spots": 9},
    "stains": {"reference": [[1, 0, 0], [0, 1, 0]], "spread_degrees": [1, 2]},
    "reliability": {"left_out": "patient", "groups": 2},
    "genes": ["ERBB2", "CD24", "COX6C"],
}


def read(**values) -> WeightsConfig:
    return WeightsConfig.from_json(json.dumps(LEAST | values))


def test_the_embedded_config_comes_out_as_it_went_in():
    text = (embedded_folder() / "config.json").read_text(encoding="utf-8")
    assert embedded_config().to_json() == text
    assert WeightsConfig.from_json(text).to_json() == text


def test_the_embedded_folder_is_saved_as_it_was(embedded, tmp_path):
    save_weights(embedded, tmp_path / "again")
    for name in ("config.json", "README.md", "reliability.csv", "signatures.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (embedded_folder() / name).read_bytes(), name


def test_fields_hold_what_the_file_says(embedded):
    config = embedded.config
    assert (config.name, config.tile_um, config.analysis_mpp) == ("her2-breast", 150, 3)
    assert (config.training_data.patients, config.training_data.spots) == (3, 1676)
    assert config.training_data.sections == ("A1", "A2", "B4", "C2", "C3", "C4", "C5")
    assert (config.stains.reference.shape, config.stains.spread_degrees.shape) == ((2, 3), (2,))
    assert (config.fit.patterns, config.fit.steps, config.fit.learning_rate) == (10, 100, 0.02)
    assert config.reliability.settings["B"] == {"patterns": 3, "steps": 100}
    assert list(config.genes) == embedded.genes
    assert {"left out", "method"} <= config.evaluation[0].keys()


def test_configs_are_equal_where_all_of_their_fields_are():
    stains = TrainingStains(np.eye(3)[:2], np.array([1.0, 3.0]))
    assert read() == read()
    assert read() != read(name="other")
    assert read() != replace(read(), stains=stains)


def test_what_a_stranger_left_out_is_none_or_empty():
    config = read()
    assert config.training_data == TrainingData(patients=1, spots=9)
    assert (config.training_data.tissue, config.training_data.sections) == (None, ())
    assert (config.fit, config.reliability.settings, config.evaluation) == (None, {}, ())
    assert config.stains.target_vectors is None
    assert json.loads(config.to_json()) == LEAST | {"schema_version": 2}


def test_what_slides_were_brought_to_comes_out_as_it_went_in():
    stains = LEAST["stains"] | {"target_vectors": [[0.8, 0.6, 0], [0, 0.6, 0.8]], "target_strengths": [2, 1]}
    config = read(schema_version=2, stains=stains)
    np.testing.assert_array_equal(config.stains.target_vectors, stains["target_vectors"])
    assert json.loads(config.to_json())["stains"] == stains


@pytest.mark.parametrize("fit", [None, [], "much", {"steps": 1}, {"steps": 1, "patterns": "all", "learning_rate": 0.1}])
def test_a_fit_that_cannot_be_read_is_none(fit):
    assert read(fit=fit).fit is None


@pytest.mark.parametrize("evaluation", [None, [], "much", [1, 2], {"left out": "a"}])
def test_figures_of_other_methods_that_cannot_be_read_are_none(evaluation):
    assert read(evaluation=evaluation).evaluation == ()


def test_facts_that_are_no_texts_are_read_as_text():
    data = {"patients": 1, "spots": 9, "source": 2021, "sections": ["A", 1], "genes_rule": ""}
    read_data = read(training_data=data).training_data
    assert (read_data.source, read_data.sections, read_data.genes_rule) == ("2021", ("A", "1"), "")


@pytest.mark.parametrize(
    "stains",
    [
        {"reference": [["1", "0", "0"], ["0", "1", "0"]], "spread_degrees": [1, 1]},
        {"reference": [[1, 0, 0], [0, 1]], "spread_degrees": [1, 1]},
        {"reference": [[1, 0, 0], [0, 1, None]], "spread_degrees": [1, 1]},
        {"reference": [[1, 0, 0], [0, 1, float("nan")]], "spread_degrees": [1, 1]},
        {"reference": [[1, 0, 0], [0, 1, 0]], "spread_degrees": 1},
        {"reference": [[1, 0, 0], [0, 0, 0]], "spread_degrees": [1, 1]},
        {"reference": [[1, 2, 3], [2, 4, 6]], "spread_degrees": [1, 1]},
        [1],
        None,
    ],
    ids=["texts", "ragged", "null", "not finite", "one spread", "no stain", "one stain twice", "list", "none"],
)
def test_stains_that_are_no_numbers_of_the_right_shape_are_refused(stains):
    with pytest.raises(WeightsError, match=r"^config\.json: stains must hold two reference vectors and two positive"):
        read(stains=stains)


@pytest.mark.parametrize("length", [float("inf"), float("nan"), 0, "wide", None])
def test_a_window_that_is_no_length_is_refused(length):
    with pytest.raises(WeightsError, match=r"^config\.json: tile_um is .*, not a positive number"):
        read(tile_um=length)


def test_the_card_of_weights_that_say_little_says_so(tiny_weights, tmp_path):
    save_weights(replace(load_weights(tiny_weights), config=read()), tmp_path / "theirs")
    card = (tmp_path / "theirs/README.md").read_text(encoding="utf-8")
    assert "- Tissue: not stated." in card
    assert "in the sections (not stated) of 1 patient." in card
    assert "How the weights were fitted is not stated." in card
    assert load_weights(tmp_path / "theirs").config == read()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000], ids=["lists", "objects"])
def test_a_config_nested_without_end_is_refused(text):
    with pytest.raises(WeightsError, match="cannot be read as JSON"):
        WeightsConfig.from_json(text)


@pytest.mark.parametrize("key", ["tile_um", "analysis_mpp"])
def test_a_length_of_no_measure_is_refused_in_one_short_sentence(key):
    with pytest.raises(WeightsError, match=f"{key} is 1000") as refused:
        read(**{key: 10**400})
    assert len(str(refused.value)) < 200
