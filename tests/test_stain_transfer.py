"""What `nsl.stain_transfer` promises: exact in the weights, recovered from images, one map in every stain."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from nsl.model import NeuralStain
from nsl.pixels import predict_pixels
from nsl.prediction import predict, slide_stains
from nsl.result import Provenance, stain_warning, transfer_in_words
from nsl.slides.slide import open_slide
from nsl.stain_transfer import REFERENCE, StainTransfer, likely_stains, paint, transfer_doubts
from nsl.stains import (
    SlideStains,
    angle_degrees,
    estimate_stains,
    optical_density,
    tissue_colors,
    transmitted,
)
from nsl.weights.config import TrainingStains
from nsl.weights.folder import load_weights
from nsl.white_point import estimate_white_point

OTHER = SlideStains(np.array([[0.551, 0.784, 0.287], [0.121, 0.854, 0.507]]), np.array([1.2, 1.4]))


@pytest.fixture
def transfer() -> StainTransfer:
    return StainTransfer(OTHER, REFERENCE)


@pytest.fixture
def model() -> NeuralStain:
    """Forty genes, each with weights of its own, whose relus let some colours through and stop others."""
    rng = torch.Generator().manual_seed(0)
    made = NeuralStain([f"G{i}" for i in range(40)]).requires_grad_(False)
    made.deconvolution += 0.1 * torch.randn(made.deconvolution.shape, generator=rng)
    made.offset -= 0.1
    made.effect += torch.randn(made.effect.shape, generator=rng)
    return made


# In the weights


def test_the_source_becomes_the_target_and_what_neither_stain_explains_stays_as_strong(transfer):
    brought = OTHER.vectors @ transfer.matrix
    np.testing.assert_allclose(
        brought, REFERENCE.vectors * (REFERENCE.strengths / OTHER.strengths)[:, None], atol=1e-12
    )
    left = np.cross(*OTHER.vectors)
    assert np.linalg.norm(left @ transfer.matrix) == pytest.approx(np.linalg.norm(left))


def test_to_the_same_stains_and_back_nothing_changes(transfer):
    back = StainTransfer(REFERENCE, OTHER)
    np.testing.assert_allclose(transfer.matrix @ back.matrix, np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(StainTransfer.between(None, REFERENCE).matrix, np.eye(3))


def turned(degrees: float) -> np.ndarray:
    """The reference's vectors, eosin further from hematoxylin by so much."""
    hematoxylin, eosin = REFERENCE.vectors / np.linalg.norm(REFERENCE.vectors, axis=1, keepdims=True)
    aside = eosin - (eosin @ hematoxylin) * hematoxylin
    angle = np.arccos(eosin @ hematoxylin) + np.radians(degrees)
    return np.array([hematoxylin, np.cos(angle) * hematoxylin + np.sin(angle) * aside / np.linalg.norm(aside)])


@pytest.mark.parametrize(("degrees", "left"), [(-6.5, 0), (3, 0), (10, 5.1), (20, 17.55)])
def test_a_vector_near_the_usual_is_taken_for_it_and_one_far_off_hardly_moved(degrees, left):
    likely = likely_stains(SlideStains(turned(degrees), np.array([2.0, 1.0])), REFERENCE.vectors)
    assert angle_degrees(likely.vectors, turned(0)) == pytest.approx([0, left], abs=0.1)


@pytest.mark.parametrize("degrees", [-6.5, 10, 25])
def test_the_strongest_pixel_of_a_stain_is_brought_to_what_the_strongest_of_the_target_hold(degrees):
    told = SlideStains(turned(degrees), np.array([1.7, 1.3]))
    brought = told.strengths[:, None] * told.vectors @ StainTransfer.between(told, REFERENCE).matrix
    amounts = np.linalg.lstsq(REFERENCE.vectors.T, brought.T)[0]
    np.testing.assert_allclose(amounts.diagonal(), REFERENCE.strengths, rtol=1e-9)


def test_transferred_weights_answer_a_colour_as_the_weights_answer_the_colour_transferred(model, transfer):
    od = torch.rand(50, 9, 3, generator=torch.Generator().manual_seed(1)) * 2
    matrix = torch.from_numpy(transfer.matrix).float()
    np.testing.assert_allclose(model.transferred(transfer.matrix)(od), model(od @ matrix), rtol=1e-4, atol=1e-4)


def test_transferred_weights_have_eleven_numbers_a_gene_and_leave_their_own_alone(model, transfer):
    before = {name: value.clone() for name, value in model.named_parameters()}
    own = model.transferred(transfer.matrix)
    assert {name: value.shape for name, value in own.named_parameters()} == {n: v.shape for n, v in before.items()}
    for name in ("offset", "effect", "intercept"):
        assert torch.equal(getattr(own, name), before[name])
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_a_model_that_unmixes_the_target_unmixes_the_source_once_it_is_transferred(transfer):
    model = NeuralStain(["G"]).requires_grad_(False)
    from_hed = StainTransfer(
        SlideStains(OTHER.vectors, np.ones(2)), SlideStains(model.stain_vectors()[0].numpy(), np.ones(2))
    )
    learned = model.transferred(from_hed.matrix).stain_vectors()[0].numpy()
    assert angle_degrees(learned, OTHER.vectors).max() < 12


# In pixels


def test_a_painted_image_with_the_weights_and_the_image_with_transferred_weights_agree_to_rounding(
    embedded, section, transfer
):
    genes = embedded.genes[::100]
    model = embedded.model.select(genes)
    grid = np.array([[x, y, x + 50, y + 50] for x in range(100, 600, 50) for y in range(100, 500, 50)])
    # So that the painted image holds no colour that a byte clips.
    pale = paint(section.pixels, section.white_point, 0.5 * np.eye(3))
    painted = paint(pale, section.white_point, transfer.matrix)
    by_pixels = predict_pixels(model, painted, grid, section.white_point)
    by_weights = predict_pixels(model.transferred(transfer.matrix), pale, grid, section.white_point)
    spread = by_weights.std(axis=0)
    assert np.median(np.abs(by_pixels - by_weights).max(axis=0) / spread) < 0.05
    back = paint(painted, section.white_point, StainTransfer(REFERENCE, OTHER).matrix)
    assert np.abs(back.astype(int) - pale).mean() < 1.5


def test_painting_leaves_glass_and_padding_as_they_are(section, transfer):
    image = section.pixels[:40].copy()
    image[:, :10] = 0
    image[:, 10:20] = section.white_point
    painted = paint(image, section.white_point, transfer.matrix)
    np.testing.assert_array_equal(painted[:, :20], image[:, :20])


# From an image


def stained(section, stains: SlideStains) -> np.ndarray:
    """The section with its concentrations times the strengths, in other vectors."""
    od = section.stain * stains.strengths @ stains.vectors
    return np.where(section.pixels.any(axis=-1, keepdims=True), transmitted(od, section.white_point), 0)


@pytest.mark.parametrize("degrees", [4, 8, 15])
@pytest.mark.parametrize("strengths", [(1.0, 1.0), (0.6, 1.6), (1.6, 0.6), (0.6, 0.6)])
def test_stains_turned_and_strengthened_by_a_known_amount_give_that_transfer(section, degrees, strengths):
    axis = np.cross(*section.stain_vectors)
    axis /= np.linalg.norm(axis)
    angle = np.radians(degrees)
    turned = section.stain_vectors * np.cos(angle) + np.cross(axis, section.stain_vectors) * np.sin(angle)
    found = [
        estimate_stains(tissue_colors(stained(section, SlideStains(vectors, np.array(by))), section.white_point))
        for vectors, by in ((section.stain_vectors, (1, 1)), (turned, strengths))
    ]
    known = StainTransfer(SlideStains(turned, np.array(strengths)), SlideStains(section.stain_vectors, np.ones(2)))
    transfer = StainTransfer(found[1], found[0])
    np.testing.assert_allclose(transfer.strengths, known.strengths, rtol=0.05)
    colors = tissue_colors(section.pixels, section.white_point)
    assert angle_degrees(colors @ transfer.matrix, colors @ known.matrix).max() < 2


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((100, 100, 3), 236, np.uint8),
        np.full((100, 100, 3), (150, 90, 160), np.uint8),
        np.zeros((9, 9, 3), np.uint8),
    ],
    ids=["glass", "one colour", "padding"],
)
def test_where_no_two_stains_can_be_told_there_are_none(pixels):
    assert estimate_stains(tissue_colors(pixels, np.array([240.0, 236.0, 240.0]))) is None


# On slides


@pytest.fixture(scope="module")
def painted_slide(data_folder, tmp_path_factory):
    """A real section as it is and in another laboratory's stain, half as strong."""
    folder = tmp_path_factory.mktemp("painted")
    with open_slide(data_folder / "her2st/images/C5_full.jpg", mpp=0.69) as slide:
        pixels = slide.read(0, 0, *slide.size, 3.0)
    white_point = np.array([234.0, 217.0, 232.0])
    own = estimate_stains(tissue_colors(pixels, white_point))
    other = SlideStains(OTHER.vectors, own.strengths * [0.6, 1.3])
    paths = folder / "own.png", folder / "other.png"
    for path, matrix in zip(paths, (np.eye(3), StainTransfer(own, other).matrix), strict=True):
        Image.fromarray(paint(pixels, white_point, matrix)).save(path, compress_level=1)
    return paths


def _maps(path, embedded, transfer: bool):
    with open_slide(path, mpp=3.0) as slide:
        return predict(slide, embedded, genes=embedded.genes[::40], transfer=transfer)


def test_a_section_in_another_laboratorys_stain_is_predicted_as_in_its_own(painted_slide, embedded):
    own, other = (_maps(path, embedded, True) for path in painted_slide)
    both = own.obs_names.intersection(other.obs_names)
    pairs = zip(own[both].X.T, other[both].X.T, strict=True)
    agreement = np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    assert np.median(agreement) > 0.98
    as_scanned = _maps(painted_slide[1], embedded, False)
    assert np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(own[both].X.T, as_scanned[both].X.T, strict=True)]) < 0.9


def test_what_was_transferred_is_recorded_and_said(painted_slide, embedded):
    result = _maps(painted_slide[1], embedded, True)
    known = Provenance.of(result)
    assert angle_degrees(known.slide_stain_vectors, OTHER.vectors).max() < 3
    assert angle_degrees(known.transfer_source, likely_stains(OTHER, REFERENCE.vectors).vectors).max() < 3
    np.testing.assert_allclose(known.transfer_target, REFERENCE.vectors, atol=1e-3)
    rebuilt = StainTransfer(
        SlideStains(known.transfer_source, np.ones(2)), SlideStains(known.transfer_target, known.transfer_strengths)
    )
    np.testing.assert_allclose(rebuilt.matrix, known.transfer, atol=1e-9)
    assert 0 < known.transfer_residual < 0.1
    assert known.is_transferred
    assert "brought to those that the weights know" in transfer_in_words(result)
    assert stain_warning(result) is None


def test_how_strong_a_slide_is_stained_is_said_beside_what_the_weights_know(painted_slide, embedded):
    result = _maps(painted_slide[1], embedded, True)
    for strengths, said in (
        ((1, 0.97), "its hematoxylin and its eosin are both about as strong as theirs."),
        ((0.5, 0.5), "its hematoxylin and its eosin are both 2.0 times as strong as theirs."),
        ((1.02, 2.5), "its hematoxylin is about as strong as theirs and its eosin 0.4 times as strong."),
    ):
        result.uns["nsl"]["transfer_strengths"] = np.array(strengths)
        assert transfer_in_words(result).endswith(f"those that the weights know: {said}")


def test_a_transfer_that_is_switched_off_is_said_and_warned_of(painted_slide, embedded):
    result = _maps(painted_slide[1], embedded, False)
    np.testing.assert_array_equal(result.uns["nsl"]["transfer"], np.eye(3))
    assert "switched off" in transfer_in_words(result)
    assert "stained differently" in stain_warning(result)


def test_weights_that_know_no_target_are_brought_the_slides_vectors_and_keep_its_strengths(tiny_weights):
    training = TrainingStains(OTHER.vectors, np.array([3.0, 3.0]))
    transfer = training.transfer_of(REFERENCE)
    np.testing.assert_allclose(transfer.source.vectors @ transfer.matrix, OTHER.vectors, atol=1e-3)
    assert angle_degrees(transfer.source.vectors, REFERENCE.vectors).max() < 3
    config = load_weights(tiny_weights).config
    assert dataclasses.replace(config, stains=training).stains.target_vectors is None


# Doubts


@pytest.mark.parametrize(
    ("vectors", "strengths", "residual", "says"),
    [
        ([[0.650, 0.704, 0.286], [0.270, 0.570, 0.780]], (1, 1), 0.03, "as brown DAB does and eosin does not"),
        ([[0.91, 0.24, 0.33], [0.13, 0.85, 0.52]], (1, 1), 0.03, "as green ink does and hematoxylin does not"),
        (REFERENCE.vectors, (1, 1), 0.03, None),
        (OTHER.vectors, (0.5, 2.0), 0.03, None),
        ([[0.745, 0.585, 0.321], [0.68, 0.66, 0.33]], (1, 1), 0.03, "differ in colour by 6°"),
        ([[0.12, 0.60, 0.79], [0.42, 0.80, 0.43]], (1, 1), 0.03, "hematoxylin is 46° from the usual one"),
        (REFERENCE.vectors, (0.3, 2.5), 0.03, None),
        (REFERENCE.vectors, (0.2, 1), 0.03, "hematoxylin is 5.0 times as strong"),
        (REFERENCE.vectors, (3.3, 1), 0.03, "hematoxylin is 0.3 times as strong"),
        (REFERENCE.vectors, (1, 4), 0.03, "eosin is 0.2 times as strong"),
        (REFERENCE.vectors, (1, 1), 0.3, "30% of its colour is of neither stain"),
    ],
)
def test_a_slide_that_is_hardly_h_and_e_is_doubted_for_what_it_is(vectors, strengths, residual, says):
    doubts = transfer_doubts(np.array(vectors), np.array(strengths), residual)
    assert doubts == [] if says is None else says in "; ".join(doubts)


def test_a_fluorescence_scan_that_is_predicted_all_the_same_is_doubted(data_folder, embedded):
    with open_slide(data_folder / "slides/fluorescence.ndpi") as slide:
        result = predict(slide, embedded, genes=["ERBB2"], quality=False)
    assert "may not be hematoxylin and eosin" in stain_warning(result)


@pytest.mark.parametrize("name", ["cmu_small_region.svs", "tcga_small.svs"])
def test_h_and_e_of_other_laboratories_is_not_doubted(data_folder, embedded, name):
    with open_slide(data_folder / "slides" / name, mpp=0.5) as slide:
        assert stain_warning(predict(slide, embedded, genes=["ERBB2"])) is None


def test_stains_of_a_small_slide_are_told_from_its_overview_as_from_the_slide(data_folder, embedded, monkeypatch):
    with open_slide(data_folder / "slides/cmu_small_region.svs") as slide:
        fine, coarse = slide.thumbnail(1280), slide.thumbnail(300)
        white_point = estimate_white_point(fine).rgb
        read_again = slide_stains(slide, embedded, coarse, white_point)
        monkeypatch.setattr(slide, "read", None)
        from_overview = slide_stains(slide, embedded, fine, white_point)
    assert angle_degrees(from_overview.vectors, read_again.vectors).max() < 2
    np.testing.assert_allclose(from_overview.strengths, read_again.strengths, rtol=0.1)


def test_optical_densities_of_tissue_leave_out_glass_and_padding(section):
    padded = np.zeros((800, 700, 3), np.uint8)
    padded[200:] = section.pixels
    colors = tissue_colors(padded, section.white_point)
    np.testing.assert_array_equal(colors, tissue_colors(section.pixels, section.white_point))
    assert (colors.mean(axis=1) > 0.1).all()
    assert len(colors) < (optical_density(section.pixels, section.white_point).mean(axis=-1) > 0.05).sum()
