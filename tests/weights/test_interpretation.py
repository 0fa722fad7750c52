"""What is said of a gene: tables, colours and images say what the model does, and nothing it does not."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from nsl import load_weights, open_slide
from nsl.errors import SlideError, WeightsError
from nsl.model import NeuralStain
from nsl.numerals import six_digits
from nsl.pixels import predict_pixels
from nsl.stain_transfer import StainTransfer
from nsl.stains import (
    HED_VECTORS,
    PAPER_WHITE,
    SlideStains,
    optical_density,
)
from nsl.weights.interpretation import (
    concentration_images,
    display_colors,
    qupath_stains,
    response_surface,
    stain_amounts,
    tile_concentrations,
    vector_table,
    vectors_of,
)
from nsl.weights.reliability import has_held_up
from nsl.white_point import estimate_white_point

GENES = ["ERBB2", "COX6C", "IGKC", "CD24", "TMSB4X"]
WHITE = np.array([244.0, 240.0, 238.0])


@pytest.fixture(scope="module")
def table(embedded):
    return vector_table(embedded)


@pytest.fixture(scope="module")
def tissue(data_folder):
    """600 × 450 µm of a real section at 1.5 µm/px, and the white point of the section."""
    with open_slide(data_folder / "her2st/images/C2_full.jpg", mpp=0.69) as slide:
        return slide.read(4400, 4500, 600 / 0.69, 450 / 0.69, 1.5), estimate_white_point(slide.thumbnail(640)).rgb


def _predicted(model: NeuralStain, gene: str, od: np.ndarray) -> float:
    """What the model's definition gives for a tile of one colour."""
    return model.select([gene])(torch.tensor(od, dtype=torch.float32)[None, None]).item()


def _whole(image: np.ndarray) -> np.ndarray:
    return np.array([[0, 0, image.shape[1], image.shape[0]]])


# The table


def test_an_untrained_gene_has_the_published_stains_and_its_own_distance_to_training(tiny_weights):
    weights = load_weights(tiny_weights)
    table = vector_table(weights)
    assert (table[["h_angle_to_hed_degrees", "e_angle_to_hed_degrees"]] < 0.1).all(axis=None)
    reference = weights.config.stains.reference
    hed = HED_VECTORS[:2] / np.linalg.norm(HED_VECTORS[:2], axis=1, keepdims=True)
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    expected = np.degrees(np.arccos((hed * reference).sum(axis=1)))
    found = table[["h_angle_to_training_degrees", "e_angle_to_training_degrees"]].to_numpy()
    np.testing.assert_allclose(found, np.tile(expected, (3, 1)), atol=0.1)


def test_each_gene_keeps_its_place_its_vectors_and_its_reliability(embedded, table):
    assert list(table.index) == embedded.genes
    vectors = embedded.model.stain_vectors()
    for gene in GENES:
        np.testing.assert_allclose(vectors_of(table.loc[gene]), vectors[embedded.genes.index(gene)], atol=1e-6)
        assert table.r_heldout[gene] == embedded.reliability.r_heldout[gene]
    held_up = table.trust.isin(["reliable", "weak"])
    pd.testing.assert_series_equal(held_up, has_held_up(embedded.reliability), check_names=False)
    np.testing.assert_allclose(np.linalg.norm(table[["h_od_r", "h_od_g", "h_od_b"]], axis=1), 1, atol=1e-5)


def test_angles_to_the_slide_are_unknown_without_its_vectors(embedded, table):
    columns = ["h_angle_to_slide_degrees", "e_angle_to_slide_degrees"]
    assert table[columns].isna().all(axis=None)
    assert vector_table(embedded, np.full((2, 3), np.nan))[columns].isna().all(axis=None)
    own = vector_table(embedded, vectors_of(table.loc["ERBB2"]))
    assert own.loc["ERBB2", columns].max() < 0.01
    assert own.loc["COX6C", columns].max() > 1


def test_on_a_slide_the_vectors_are_brought_to_it_and_what_was_learned_is_told_as_it_was(embedded, table):
    transfer = np.array([[0.9, 0.2, 0.0], [0.1, 0.8, 0.1], [-0.1, 0.1, 1.1]])
    own = HED_VECTORS[:2] / np.linalg.norm(HED_VECTORS[:2], axis=1, keepdims=True)
    on_slide = vector_table(embedded, own, transfer)
    brought = embedded.model.transferred(transfer).stain_vectors().numpy()
    for gene in GENES:
        vectors = brought[embedded.genes.index(gene)]
        np.testing.assert_allclose(vectors_of(on_slide.loc[gene]), vectors, atol=1e-6)
        angle = np.degrees(np.arccos(vectors[0] @ own[0]))
        assert on_slide.h_angle_to_slide_degrees[gene] == pytest.approx(angle, abs=0.05)
    learned = [f"{stain}_angle_to_{name}_degrees" for stain in "he" for name in ("hed", "training")]
    pd.testing.assert_frame_equal(on_slide[learned], table[learned])


def test_weights_are_compared_with_the_colours_they_were_learned_from(embedded, table):
    brought_to = embedded.config.stains.target_vectors
    learned = embedded.model.stain_vectors().numpy()[embedded.genes.index("ERBB2"), 0]
    angle = np.degrees(np.arccos(learned @ brought_to[0] / np.linalg.norm(brought_to[0])))
    assert table.h_angle_to_training_degrees["ERBB2"] == pytest.approx(angle, abs=0.05)


@pytest.mark.parametrize("gene", GENES)
@pytest.mark.parametrize("stain", [0, 1])
def test_effect_per_od_is_what_one_od_more_along_the_vector_changes(embedded, table, gene, stain):
    row = table.loc[gene]
    vectors = vectors_of(row)
    glass_to_both = 2.5 * vectors.sum(axis=0)  # enough of both stains that neither relu holds back
    change = _predicted(embedded.model, gene, glass_to_both + vectors[stain]) - _predicted(
        embedded.model, gene, glass_to_both
    )
    assert change == pytest.approx(row[f"{'he'[stain]}_effect_per_od"], abs=1e-3)


def test_effect_per_od_does_not_depend_on_the_scale_of_d_and_the_effect_does(tiny_weights):
    weights = load_weights(tiny_weights)
    before = vector_table(weights)
    od = torch.rand(3, 20, 3) * 2
    predicted = weights.model(od)
    weights.model.deconvolution *= 4
    weights.model.offset *= 4
    weights.model.effect /= 4
    torch.testing.assert_close(weights.model(od), predicted)
    after = vector_table(weights)
    np.testing.assert_allclose(after.h_effect, before.h_effect / 4, rtol=1e-5)
    for column in ("h_effect_per_od", "e_effect_per_od", "h_onset_od", "e_onset_od", "h_angle_to_hed_degrees"):
        np.testing.assert_allclose(after[column], before[column], atol=1e-4)


@pytest.mark.parametrize("gene", GENES)
def test_a_stain_counts_from_its_onset_on(embedded, table, gene):
    row = table.loc[gene]
    for stain, vector in zip("he", vectors_of(row), strict=True):
        onset = row[f"{stain}_onset_od"]
        if onset > 0.05:
            below, at, above = (_predicted(embedded.model, gene, (onset + d) * vector) for d in (-0.04, 0.0, 0.04))
            assert below == pytest.approx(at, abs=1e-4)
            assert above - at == pytest.approx(0.04 * row[f"{stain}_effect_per_od"], abs=1e-3)


def test_a_vector_with_a_negative_component_is_marked(table):
    for stain in "he":
        lowest = table[[f"{stain}_od_{channel}" for channel in "rgb"]].min(axis=1)
        assert (table[f"{stain}_negative"] == (lowest < 0)).all()
    assert table.e_negative.any()
    assert not table.e_negative.all()


def test_a_stain_that_d_cannot_tell_has_no_onset(tiny_weights):
    weights = load_weights(tiny_weights)
    weights.model.deconvolution[1] = 0
    table = vector_table(weights)
    assert np.isnan(table.h_onset_od.iloc[1])
    assert np.isfinite(table.h_onset_od.iloc[[0, 2]]).all()


def test_the_csv_reads_back_with_every_gene_and_what_is_unknown_empty(table):
    some = table.loc[GENES].rename(index={"IGKC": "NA"})
    text = six_digits(some)
    read = pd.read_csv(io.StringIO(text), index_col="gene", keep_default_na=False, na_values="")
    assert list(read.index) == ["ERBB2", "COX6C", "NA", "CD24", "TMSB4X"]
    pd.testing.assert_frame_equal(read, some, rtol=1e-5, check_dtype=False)


# QuPath


def _read_as_qupath(line: str) -> dict:
    """Groovy's single-quoted string, whose escapes begin with a backslash, and the JSON in it."""
    (argument,) = re.fullmatch(r"setColorDeconvolutionStains\('((?:[^'\\]|\\.)*)'\)", line).groups()
    return json.loads(re.sub(r"\\(.)", r"\1", argument))


def test_the_line_for_qupath_holds_the_vectors_and_the_background(table):
    vectors = vectors_of(table.loc["ERBB2"])
    stains = _read_as_qupath(qupath_stains("ERBB2", vectors, WHITE))
    assert list(stains) == ["Name", "Stain 1", "Values 1", "Stain 2", "Values 2", "Background"]
    assert (stains["Stain 1"], stains["Stain 2"]) == ("Hematoxylin", "Eosin")
    assert "ERBB2" in stains["Name"]
    for key, vector in (("Values 1", vectors[0]), ("Values 2", vectors[1]), ("Background", WHITE)):
        np.testing.assert_allclose([float(value) for value in stains[key].split(" ")], vector, atol=6e-6)


def test_the_published_stains_look_as_qupath_writes_them():
    line = qupath_stains("A", HED_VECTORS[:2], PAPER_WHITE)
    assert line == (
        'setColorDeconvolutionStains(\'{"Name" : "A (NSL)", "Stain 1" : "Hematoxylin", "Values 1" : '
        '"0.65000 0.70000 0.29000", "Stain 2" : "Eosin", "Values 2" : "0.07000 0.99000 0.11000", '
        '"Background" : "255 255 255"}\')'
    )


@pytest.mark.parametrize("gene", ["5'-NT", 'A"B', "C\\D", "new\nline", "tab\there", "$x", "µ-gene", "a}b"])
def test_any_gene_name_survives_qupath_and_what_qupath_writes_of_it(gene, table):
    stains = _read_as_qupath(qupath_stains(gene, vectors_of(table.loc["ERBB2"]), WHITE))
    # QuPath logs the step with the name as it is, between quotes, and reads it back at once.
    logged = f'setColorDeconvolutionStains(\'{{"Name" : "{stains["Name"]}"}}\')'
    assert _read_as_qupath(logged)["Name"] == stains["Name"]
    letters = re.sub(r"\W", "", gene)
    assert re.sub(r"\W", "", stains["Name"]) == f"{letters}NSL"


def test_numbers_for_qupath_have_no_exponent_and_keep_their_sign():
    vectors = np.array([[1.0, 4e-7, -4e-7], [-0.25, 0.97, 1e-5]])
    stains = _read_as_qupath(qupath_stains("A", vectors, WHITE))
    assert stains["Values 1"] == "1.00000 0.00000 0.00000"
    assert stains["Values 2"] == "-0.25000 0.97000 0.00001"


def test_unknown_vectors_make_no_line_and_no_surface(embedded):
    unknown = np.full((2, 3), np.nan)
    for attempt in (
        lambda: qupath_stains("ERBB2", unknown, WHITE),
        lambda: response_surface(embedded.model, "ERBB2", vectors=unknown),
        lambda: stain_amounts(np.zeros((4, 3)), unknown),
    ):
        with pytest.raises(SlideError, match="too little of the slide is stained"):
            attempt()


# Colours


def test_display_colours_run_from_glass_along_the_vector():
    vector = HED_VECTORS[0] / np.linalg.norm(HED_VECTORS[0])
    colors = display_colors(vector, WHITE, [0, 0.5, 1.0])
    assert colors.dtype == np.uint8
    assert (colors[0] == WHITE).all()
    seen = optical_density(colors[None], WHITE)[0]
    np.testing.assert_allclose(seen, np.outer([0, 0.5, 1.0], vector), atol=0.01)
    assert display_colors(np.stack([vector, vector]), WHITE, [0, 1]).shape == (2, 2, 3)


def test_a_negative_component_brightens_up_to_white_and_never_wraps_around():
    colors = display_colors(np.array([0.5, 0.86, -0.1]), WHITE, [0, 0.5, 1, 5])
    assert list(colors[:, 2]) == sorted(colors[:, 2])
    assert colors[-1, 2] == 255
    assert colors[-1, 0] < 30


def test_amounts_of_two_stains_are_found_in_their_mixtures():
    amounts = np.random.default_rng(0).uniform(0, 2, (50, 2))
    np.testing.assert_allclose(stain_amounts(amounts @ HED_VECTORS[:2], HED_VECTORS[:2]), amounts, atol=1e-9)


# Images


def test_a_tiles_concentrations_give_its_prediction_by_effects_and_intercept(embedded, table, tissue):
    image, white_point = tissue
    for gene in GENES:
        row = table.loc[gene]
        mean = tile_concentrations(embedded.model, gene, image, white_point)
        predicted = predict_pixels(embedded.model.select([gene]), image, _whole(image), white_point)[0, 0]
        assert row.intercept + mean @ row[["h_effect", "e_effect"]].to_numpy(float) == pytest.approx(
            predicted, abs=1e-4
        )


def test_concentrations_lie_where_the_stains_lie(section):
    # A model that has learned nothing unmixes hematoxylin and eosin as published; here it is brought to the section's.
    fresh, own = NeuralStain(["GENE"]).requires_grad_(False), SlideStains(section.stain_vectors, np.ones(2))
    model = fresh.transferred(StainTransfer(own, SlideStains(fresh.stain_vectors()[0].numpy(), np.ones(2))).matrix)
    found = concentration_images(model, "GENE", section.pixels, section.white_point)
    assert found.shape == section.stain.shape
    assert found.dtype == np.float32
    assert found.min() == 0
    for s in (0, 1):
        here, there = (np.corrcoef(found[..., s].ravel(), section.stain[..., t].ravel())[0, 1] for t in (s, 1 - s))
        assert here > 0.6
        assert there < 0.1


def test_padding_has_no_concentration_and_does_not_count(embedded, section):
    pixels = section.pixels.copy()
    pixels[:100] = 0
    images = concentration_images(embedded.model, "CD24", pixels, section.white_point)
    assert np.isnan(images[:100]).all()
    assert np.isfinite(images[100:]).all()
    tile = tile_concentrations(embedded.model, "CD24", pixels, section.white_point)
    np.testing.assert_allclose(
        tile, tile_concentrations(embedded.model, "CD24", section.pixels[100:], section.white_point), rtol=1e-6
    )
    assert np.isnan(tile_concentrations(embedded.model, "CD24", pixels[:100], section.white_point)).all()


@pytest.mark.parametrize("ask", [concentration_images, tile_concentrations])
def test_a_gene_the_weights_do_not_hold_is_named(embedded, ask):
    with pytest.raises(WeightsError, match="hold no gene ERBB9"):
        ask(embedded.model, "ERBB9", np.zeros((4, 4, 3), np.uint8), WHITE)


# The response surface


def test_the_surface_predicts_what_tiles_painted_in_its_colours_are_predicted(embedded):
    reference = embedded.config.stains.reference
    surface = response_surface(embedded.model, "ERBB2", vectors=reference, white_point=WHITE, max_od=1.2, steps=7)
    assert surface.expression.shape == (7, 7)
    assert surface.colors.shape == (7, 7, 3)
    model = embedded.model.select(["ERBB2"])
    for e, h in np.ndindex(7, 7):
        tile = np.broadcast_to(surface.colors[e, h], (3, 3, 3))
        predicted = predict_pixels(model, tile, _whole(tile), WHITE)[0, 0]
        assert surface.expression[e, h] == pytest.approx(predicted, abs=0.05)  # 8 bits round the colour


def test_the_surface_has_hematoxylin_along_columns_and_eosin_along_rows(embedded):
    reference = embedded.config.stains.reference
    surface = response_surface(embedded.model, "COX6C", vectors=reference, white_point=WHITE, max_od=1.5)
    assert surface.amounts_od[[0, -1]] == pytest.approx([0, 1.5])
    assert (surface.colors[0, 0] == WHITE).all()
    for vector, color in ((reference[0], surface.colors[0, -1]), (reference[1], surface.colors[-1, 0])):
        np.testing.assert_allclose(optical_density(color[None], WHITE)[0], 1.5 * vector, atol=0.03)
    assert surface.expression[0, -1] == pytest.approx(_predicted(embedded.model, "COX6C", 1.5 * reference[0]), abs=1e-4)


def test_nothing_is_brighter_than_glass_to_the_surface(embedded):
    vectors = np.array([[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0]])
    surface = response_surface(embedded.model, "ERBB2", vectors=vectors, white_point=WHITE, steps=5)
    assert (surface.colors <= WHITE).all()
    assert surface.expression[-1, 0] == pytest.approx(
        _predicted(embedded.model, "ERBB2", np.array([0, 1.2, 0])), abs=1e-4
    )
