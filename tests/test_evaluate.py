"""What `nsl.evaluate` promises: nothing leaks from what is held out, and certainty is what is due."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nsl.evaluate import (
    LEAST_IN_COMMON,
    HeldOut,
    Method,
    Training,
    choose,
    expression_moments,
    group_correlations,
    leave_one_group_out,
    next_interval,
    reliability,
    scatter_between,
    signature_reliability,
    specific_r,
    standardised,
)
from nsl.histogram import count_colors
from nsl.slides.demo.slide import GENES, demo_expression, demo_slide
from nsl.spots.measured_section import MeasuredSection, detected_genes, highest_mean, measure_section
from nsl.spots.tables import read_manifest
from nsl.stats.pearson import pearson_r
from nsl.tiles import pixel_bounds
from nsl.train import FitSettings, neural_stain
from nsl.white_point import estimate_white_point
from tests.made_maps import square_array

NOISE = [f"MORE{i}" for i in range(300)]
ONE_SETTING = [FitSettings(patterns=10, steps=50)]


@pytest.fixture(scope="module")
def sections(paired) -> list[MeasuredSection]:
    return [measure_section(section, 60.0) for section in read_manifest(paired / "manifest.csv")]


def test_standardising_leaves_out_what_cannot_be():
    expression = np.array([[1, 5, np.nan], [3, 5, np.nan]], np.float32)
    np.testing.assert_allclose(standardised(expression), [[-1, 0, 0], [1, 0, 0]])
    # The mean of so many is not quite 0.1 in 32 bits.
    np.testing.assert_array_equal(standardised(np.full((333, 1), 0.1, np.float32)), 0)


# Leaving out


def echo(name: str = "echo") -> Method:
    """Predicts, for every spot, its feature; the features are what a method may see of a section."""
    return Method(name, lambda s: s.expression_of(["H_GENE"]), lambda training, seed: lambda features: features, 1)


def test_a_method_that_peeks_at_what_it_should_predict_sees_nothing(sections):
    groups = [section.patient for section in sections]
    for part in leave_one_group_out(sections, groups, echo(), ["H_GENE"]):
        assert np.isnan(part.predicted).all()


def test_a_fit_never_sees_a_section_of_the_group_left_out(sections):
    seen = []

    def fit(training: Training, seed: int):
        seen.append([section.name for section in training.sections])
        return lambda features: np.zeros((len(features), 1))

    three = [*sections, replace(sections[0], name="S3")]
    method = Method("spy", lambda section: section.colors, fit, 1)
    held_out = leave_one_group_out(three, [section.patient for section in three], method, ["H_GENE"])
    assert seen == [["S2"], ["S1", "S3"]]
    assert [(part.section.name, part.group) for part in held_out] == [("S1", "P1"), ("S3", "P1"), ("S2", "P2")]


def test_one_group_cannot_be_left_out(sections):
    with pytest.raises(ValueError, match="at least two groups, got 1"):
        leave_one_group_out(sections, ["P", "P"], echo(), ["H_GENE"])


def permuted(section: MeasuredSection, seed: int) -> MeasuredSection:
    """Every gene's expression dealt to the spots anew."""
    rng = np.random.default_rng(seed)
    return replace(section, expression=rng.permuted(section.expression, axis=0))


def predictions(sections: list[MeasuredSection], genes: list[str]) -> list[np.ndarray]:
    names = [section.name for section in sections]
    return [part.predicted for part in leave_one_group_out(sections, names, neural_stain(ONE_SETTING), genes)]


def prediction_of_first(sections: list[MeasuredSection], genes: list[str]) -> np.ndarray:
    """By a fit to the others."""
    groups = ["first", *["others"] * (len(sections) - 1)]
    return leave_one_group_out(sections, groups, neural_stain(ONE_SETTING), genes)[0].predicted


def mean_r(sections: list[MeasuredSection], predicted: list[np.ndarray], genes: list[str]) -> np.ndarray:
    """(genes,) mean over sections of r."""
    pairs = zip(predicted, sections, strict=True)
    return np.mean([pearson_r(values, section.expression_of(genes), flat_r=0) for values, section in pairs], axis=0)


@pytest.mark.evaluation
@pytest.mark.xdist_group("her2st")
def test_permuting_what_is_held_out_changes_no_bit_of_its_prediction(her2st):
    sections = [section for section in her2st if section.patient == "C"]
    genes = highest_mean(sections, detected_genes(sections), 40)
    first, *others = sections
    kept, changed = (prediction_of_first([one, *others], genes) for one in (first, permuted(first, 1)))
    np.testing.assert_array_equal(kept, changed)


@pytest.mark.evaluation
@pytest.mark.xdist_group("her2st")
def test_permuting_what_is_learned_from_leaves_nothing_to_predict(her2st):
    sections = [section for section in her2st if section.patient == "C"]
    genes = highest_mean(sections, detected_genes(sections), 250)
    learned = mean_r(sections, predictions(sections, genes), genes)
    assert learned.mean() > 0.15
    # The section held out keeps its expression: only what the fit sees is dealt anew, gene by gene.
    nothing = np.mean(
        [
            mean_r([held_out], [prediction_of_first([held_out, *others], genes)], genes)
            for i, held_out in enumerate(sections)
            for others in [[permuted(s, 7 * i + j) for j, s in enumerate(sections) if j != i]]
        ],
        axis=0,
    )
    assert abs(nothing.mean()) < 0.03
    assert (nothing > 0.3).sum() <= 2 < 30 < (learned > 0.3).sum()


# Choosing


def test_the_candidate_that_predicts_other_groups_best_is_chosen(sections):
    training = Training(sections, [section.expression_of(["H_GENE"]) for section in sections], ["H_GENE"])

    def fit(inside: Training, sign: int):
        return lambda features: sign * features

    assert choose([-1, 0, 1], fit, training) == 1
    assert choose([-1, 0, 1], fit, training.only([0])) == -1, "nothing to choose by: the first"


# Planted truth


@pytest.fixture(scope="module")
def planted() -> list[MeasuredSection]:
    """Three synthetic sections whose expression is known, with three hundred genes more that follow nothing."""
    parts = []
    for number, seed in enumerate((7, 8, 9)):
        slide = demo_slide(seed, side_px=2400)
        centers = 100 + square_array(12)
        noise = np.random.default_rng(100 + number).normal(1, 0.3, (len(centers), len(NOISE)))
        expression = np.hstack([demo_expression(slide, centers, 150, seed=number), noise]).astype(np.float32)
        image = slide.image.reshape(800, 3, 800, 3, 3).mean(axis=(1, 3)).round().astype(np.uint8)
        bounds = pixel_bounds(centers, 150, slide.mpp, 3.0)
        colors = count_colors(image, bounds, estimate_white_point(image).rgb, bits=4)
        genes = [*GENES, *NOISE]
        detected = np.ones(len(genes))
        parts.append(MeasuredSection(f"S{seed}", f"P{seed}", colors, genes, expression, detected, centers, None))
    return parts


def only_demo_genes(section: MeasuredSection) -> MeasuredSection:
    few = len(GENES)
    return replace(
        section, genes=section.genes[:few], expression=section.expression[:, :few], detected=section.detected[:few]
    )


@pytest.mark.evaluation
@pytest.mark.xdist_group("planted")
def test_planted_genes_are_found_and_noise_is_not(planted):
    sections = [only_demo_genes(section) for section in planted]
    held_out = leave_one_group_out(sections, [section.patient for section in sections], neural_stain(), GENES)
    table = reliability(group_correlations(held_out, GENES))
    driven, noise = table.loc[["HEMA1", "HEMA2", "EOSI1", "EOSI2"]], table.loc[["NOISE1", "NOISE2"]]
    assert driven.r_heldout.min() >= 0.95
    assert (driven.q_value < 0.001).all()
    assert (driven.patients_replicated == 3).all()
    assert noise.r_heldout.abs().max() < 0.15
    assert (noise.q_value > 0.05).all()


@pytest.mark.evaluation
@pytest.mark.xdist_group("planted")
def test_genes_that_follow_nothing_are_called_found_no_more_often_than_promised(planted):
    method = neural_stain([FitSettings(patterns=0, steps=50)])
    held_out = leave_one_group_out(planted, [section.patient for section in planted], method, NOISE)
    table = reliability(group_correlations(held_out, NOISE))
    assert abs(table.r_heldout.mean()) < 0.02
    # Fits that share patients make their groups' r agree by chance a little more often than independent ones would.
    assert (table.p_value < 0.05).mean() < 0.1
    assert (table.q_value < 0.05).sum() <= 3
    assert (table.patients_replicated == 3).sum() <= 1


# Reliability


def group(r: list[float], error: list[float], p_value: list[float]) -> pd.DataFrame:
    columns = {"pearson_r": r, "standard_error": error, "p_value": p_value, "q_value": p_value, "n_spots": 100}
    return pd.DataFrame(columns, index=pd.Index([f"G{i}" for i in range(len(r))], name="gene"))


def test_the_interval_takes_the_scatter_of_patients_where_it_exceeds_their_own_errors():
    alike = {"A": group([0.5], [0.1], [0.01]), "B": group([0.5], [0.1], [0.2])}
    table = reliability(alike)
    assert table.r_heldout["G0"] == pytest.approx(0.5)
    assert table.r_high["G0"] - 0.5 == pytest.approx(1.96 * 0.1 / np.sqrt(2), rel=1e-3)
    assert table.patients_replicated["G0"] == 1
    apart = {"A": group([0.2], [0.1], [0.01]), "B": group([0.8], [0.1], [0.01])}
    table = reliability(apart)
    # One degree of freedom, of which 97.5 % lie below 12.706; an r reaches no further than −1.
    assert table.r_low["G0"] == -1
    # Fisher's z of 0.5; variance 0.18 of the scatter, of which spots account for 0.01, and 0.044 of spots if r were 0.
    assert table.p_value["G0"] == pytest.approx(2 * stats.norm.sf(0.5493 / np.sqrt((0.17 + 0.044) / 2)), rel=1e-3)


def test_genes_whose_patients_agree_by_chance_are_no_surer_than_others():
    # Variances 0 and 0.08, so that of both is 0.04, and of the mean of two patients 0.02.
    table = reliability(
        {"A": group([0.3, 0.1], [0.01] * 2, [0.01] * 2), "B": group([0.3, 0.5], [0.01] * 2, [0.01] * 2)}
    )
    assert table.p_value.tolist() == pytest.approx([2 * stats.norm.sf(0.3095 / np.sqrt(0.02))] * 2, rel=5e-3)


def test_a_gene_measured_in_one_patient_is_less_sure_than_one_measured_in_three():
    r = {"A": [0.25, 0.25], "B": [np.nan, 0.1], "C": [np.nan, 0.4]}
    error = {"A": [0.08, 0.08], "B": [np.nan, 0.08], "C": [np.nan, 0.08]}
    table = reliability({patient: group(r[patient], error[patient], [0.01] * 2) for patient in r})
    assert table.r_heldout.tolist() == pytest.approx([0.25, 0.25])
    assert table.p_value["G0"] > 10 * table.p_value["G1"]


def test_sections_of_one_patient_make_a_gene_no_surer_than_one_of_them():
    sections = {name: group([0.4], [0.1], [0.01]) for name in ("S1", "S2", "S3", "S4")}
    apart, of_one = reliability(sections), reliability(sections, of_one_patient=True)
    assert apart.r_high["G0"] - 0.4 == pytest.approx(1.96 * 0.05, rel=1e-3)
    assert of_one.r_high["G0"] - 0.4 == pytest.approx(1.96 * 0.1, rel=1e-3)
    # Fisher's z of 0.4, and the error that it had if r were 0.
    assert of_one.p_value["G0"] == pytest.approx(2 * stats.norm.sf(0.42365 / (0.1 / 0.84)), rel=1e-3)


def test_one_more_section_of_a_patient_is_no_surer_than_the_mean_of_those_seen():
    rng = np.random.default_rng(9)
    errors = rng.uniform(0.05, 0.2, 300)
    groups = {k: group(list(0.7 + errors * rng.normal(size=300) / 3), errors, [0.01] * 300) for k in range(4)}
    table = reliability(groups, of_one_patient=True)
    assert (table.r_next_low <= table.r_low).all()
    assert (table.r_next_high >= table.r_high).all()


def test_genes_that_follow_nothing_are_rarely_found_in_sections_that_share_what_chance_made():
    rng, found = np.random.default_rng(4), []
    for _ in range(100):
        r = 0.1 * rng.normal(size=400) + 0.15 * rng.normal(size=(4, 400))
        groups = {k: group(list(r[k]), [0.1] * 400, [0.5] * 400) for k in range(4)}
        found.append((reliability(groups, of_one_patient=True).p_value < 0.05).mean())
    assert np.mean(found) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_genes_that_follow_nothing_are_rarely_found_though_fits_share_what_they_learned_from(groups):
    """Each gene's chance slopes on two features of colour; those of the others predict each group."""
    rng, found = np.random.default_rng(6), []
    for _ in range(20):
        slopes = 0.1 * rng.normal(size=(groups, 2, 1_000))
        of_others = slopes.sum(axis=0) - slopes
        r = (slopes * of_others).sum(axis=1) / np.linalg.norm(of_others, axis=1)
        table = reliability({k: group(list(r[k]), list(0.1 * (1 - r[k] ** 2)), [0.5] * 1_000) for k in range(groups)})
        found.append(((table.r_heldout > 0) & (table.p_value < 0.05)).mean())
    assert np.mean(found) == pytest.approx(0.025, abs=0.005)


@pytest.mark.parametrize(("shared", "found"), [(0.0, 0.02), (0.5, 0.03)])
def test_few_of_the_genes_found_follow_nothing(shared, found):
    rng, false = np.random.default_rng(2), []
    follows = np.arange(1_000) < 200
    for _ in range(60):
        own, together = rng.normal(size=(3, 1_000)), rng.normal(size=(3, 1))
        r = 0.2 * follows + 0.12 * (np.sqrt(1 - shared) * own + np.sqrt(shared) * together)
        table = reliability({k: group(list(r[k]), [0.08] * 1_000, [0.5] * 1_000) for k in range(3)})
        up = (table.r_heldout > 0) & (table.q_value < 0.05)
        false.append((up & ~follows).sum() / max(up.sum(), 1))
    assert np.mean(false) == pytest.approx(found, abs=0.015)


def test_a_negative_correlation_replicates_nowhere_and_an_unmeasured_gene_counts_for_nothing():
    table = reliability(
        {"A": group([-0.5, np.nan], [0.1, np.nan], [1e-5, np.nan]), "B": group([-0.4, 0.3], [0.1, 0.1], [1e-3, 0.01])}
    )
    assert list(table.patients_replicated) == [0, 1]
    assert table.r_heldout["G1"] == pytest.approx(0.3)
    assert np.isfinite(table.r_low["G1"])


@pytest.mark.parametrize("shared", [0.5, 0.7])
def test_the_interval_of_the_mean_covers_where_patients_are_predicted_well_or_badly_in_all_genes(shared):
    rng, inside = np.random.default_rng(5), []
    for _ in range(300):
        own, together = rng.normal(size=(3, 200)), rng.normal(size=(3, 1))
        r = 0.2 + 0.12 * (np.sqrt(1 - shared) * own + np.sqrt(shared) * together)
        table = reliability({k: group(list(r[k]), [0.06] * 200, [0.5] * 200) for k in range(3)})
        inside.append(((table.r_low < 0.2) & (table.r_high > 0.2)).mean())
    assert np.mean(inside) == pytest.approx(0.94, abs=0.015)


@pytest.mark.parametrize("scatter", [0.0, 0.1, 0.2])
def test_the_interval_of_the_mean_covers_as_often_as_it_says(scatter):
    rng = np.random.default_rng(8)
    errors = (0.06, 0.2, 0.1)
    genes = 20_000
    groups = {}
    for patient, error in enumerate(errors):
        r = 0.3 + scatter * rng.normal(size=genes) + error * rng.normal(size=genes)
        groups[patient] = group(r, np.full(genes, error), np.full(genes, 0.5))
    table = reliability(groups)
    # Bounds are cut at -1 and 1, which no true value reaches.
    assert ((table.r_low < 0.3) & (table.r_high > 0.3)).mean() == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("of_gene", [0.05, 0.2])
def test_intervals_cover_for_genes_of_much_and_of_little_certainty(of_gene):
    rng, genes = np.random.default_rng(3), 20_000
    errors = np.where(np.arange(genes) % 4, 0.05, 0.2)
    r = 0.2 + 0.1 * rng.normal(size=(4, genes)) + errors * rng.normal(size=(4, genes))
    table = reliability({k: group(r[k], errors, np.full(genes, 0.5)) for k in range(3)})
    own = errors == of_gene
    assert ((table.r_low < 0.2) & (table.r_high > 0.2))[own].mean() == pytest.approx(0.95, abs=0.01)
    assert ((table.r_next_low < r[3]) & (table.r_next_high > r[3]))[own].mean() == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("of_gene", [0.03, 0.12])
def test_intervals_cover_so_where_patients_are_predicted_well_or_badly_in_all_genes(of_gene):
    rng, errors, covered, inside = np.random.default_rng(7), np.where(np.arange(200) % 2, 0.03, 0.12), [], []
    for _ in range(1_000):
        r = 0.2 + 0.1 * rng.normal(size=(4, 1)) + errors * rng.normal(size=(4, 200))
        table = reliability({k: group(r[k], errors, np.full(200, 0.5)) for k in range(3)})
        covered.append(((table.r_low < 0.2) & (table.r_high > 0.2))[errors == of_gene].mean())
        inside.append(((table.r_next_low < r[3]) & (table.r_next_high > r[3]))[errors == of_gene].mean())
    assert np.mean(covered) == pytest.approx(0.94, abs=0.02)
    assert np.mean(inside) == pytest.approx(0.94, abs=0.02)


def test_a_gene_that_is_known_well_is_not_lost_for_others_that_are_not():
    table = reliability({k: group([0.97, 0.1 * k], [0.02, 0.13], [0.01, 0.5]) for k in (1, 2)})
    assert table.r_low["G0"] > 0.5
    assert table.q_value["G0"] < 0.001


def test_the_interval_of_the_next_patient_is_as_wide_as_patients_scatter():
    # Every gene's two patients lie 0.1 above and below 0: variance 0.02, of the next about their mean 0.02 · 3/2.
    r = np.array([[0.1, -0.1] * 200, [-0.1, 0.1] * 200])
    low, high = next_interval(r, np.zeros_like(r))
    half = stats.t.ppf(0.975, 399) * np.sqrt(0.03)  # spots leave none of it uncertain
    np.testing.assert_allclose([low, high], np.outer([-half, half], np.ones(400)))


@pytest.mark.parametrize("genes", [1, 400])
def test_genes_that_scatter_together_are_one_witness(genes):
    r = np.repeat([[0.01], [-0.01]], genes, axis=1)
    # One degree of freedom, of which 97.5 % lie below 12.706 in any table of Student's t.
    assert scatter_between(r) == pytest.approx((0.0002, 1.0))
    np.testing.assert_allclose(next_interval(r, np.zeros_like(r))[1], 12.706 * np.sqrt(0.0003), rtol=1e-4)


@pytest.mark.parametrize(("shared", "covered"), [(0.0, 0.95), (0.2, 0.95), (0.5, 0.94)])
def test_the_next_patient_falls_within_the_interval_as_often_as_it_says(shared, covered):
    rng, inside = np.random.default_rng(1), []
    for _ in range(2_000):
        own, together = rng.normal(size=(4, 100)), rng.normal(size=(4, 1))
        r = rng.normal(0.15, 0.1, 100) + 0.12 * (np.sqrt(1 - shared) * own + np.sqrt(shared) * together)
        low, high = next_interval(r[:3], np.full((3, 100), 0.06))
        inside.append(((r[3] >= low) & (r[3] <= high)).mean())
    assert np.mean(inside) == pytest.approx(covered, abs=0.01)


def test_a_gene_measured_in_one_patient_has_no_interval_for_the_next():
    r = np.array([[0.1, 0.3, np.nan], [0.2, 0.1, np.nan], [0.4, np.nan, 0.3]])
    low, high = next_interval(r, np.where(np.isnan(r), np.nan, 0.05))
    assert np.isfinite(low[:2]).all()
    assert np.isnan([low[2], high[2]]).all()


MORE = [f"MORE{i}" for i in range(LEAST_IN_COMMON)]


def widened(section: MeasuredSection) -> MeasuredSection:
    """The section with more genes, of noise, so that there is something that all have in common."""
    noise = np.random.default_rng(7).normal(size=(section.spots, len(MORE))).astype(np.float32)
    return replace(
        section,
        genes=[*section.genes, *MORE],
        expression=np.hstack([section.expression, noise]),
        detected=np.append(section.detected, np.ones(len(MORE))),
    )


def sets_held_out(sections, predicted_of) -> pd.DataFrame:
    genes = [*(f"FILLER{i}" for i in range(1, 5)), "H_GENE", "E_GENE", "NOISE", *MORE]
    sections = [widened(section) for section in sections]
    parts = [HeldOut(one, one.patient, predicted_of(one, genes), 0.0, 0.0) for one in sections]
    return signature_reliability(parts, genes, {"stains": ["H_GENE", "E_GENE"], "fillers": genes[:4]})


def test_a_set_that_is_predicted_as_measured_has_r_1_of_its_own_too(sections):
    table = sets_held_out(sections, lambda one, genes: one.expression_of(genes) * 3 + 1)
    assert list(table.index) == ["stains", "fillers"]
    # A gene's sd comes from the other section, where it is not quite the same.
    assert (table.r_heldout > 0.95).all()
    assert (table.r_specific > 0.95).all()
    assert table.r_groups.stains == "P1 1.00; P2 1.00"
    assert (table.q_value < 0.01).all()
    assert table.patients_replicated.tolist() == [2, 2]


def test_a_set_that_is_predicted_like_all_genes_has_nothing_of_its_own(sections):
    def alike(one, genes):
        other = widened(next(section for section in sections if section.name != one.name))
        shared = standardised(one.expression_of(["H_GENE"]))
        return shared * expression_moments([other], genes)[1]

    table = sets_held_out(sections, alike)
    assert table.r_heldout.stains > 0.5
    np.testing.assert_allclose(table.r_specific, 0, atol=1e-6)


def test_what_a_gene_tells_of_its_own_is_what_its_prediction_shares_with_no_other(sections):
    """Of genes that follow one thing in common and one of their own, each as strongly."""
    rng, genes = np.random.default_rng(5), [f"G{i}" for i in range(LEAST_IN_COMMON)]
    parts, common_alone = [], []
    for section in sections:
        common, own = rng.normal(size=(63, 1)), rng.normal(size=(63, len(genes)))
        measured = replace(section, genes=genes, expression=(common + own).astype(np.float32))
        known = common + own * (np.arange(len(genes)) < 10)  # of the first ten the prediction knows both
        parts.append(HeldOut(measured, section.patient, known, 0.0, 0.0))
        common_alone.append(replace(parts[-1], predicted=np.repeat(common, len(genes), axis=1)))
    whole, specific = (
        reliability(group_correlations(parts, genes)).r_heldout.to_numpy(),
        specific_r(parts, genes),
    )
    assert whole[:10].min() > 0.99
    assert specific[:10].min() > 0.9
    assert whole[10:].mean() == pytest.approx(np.sqrt(0.5), abs=0.05)
    assert np.abs(specific[10:]).mean() < 0.2
    assert np.abs(specific_r(common_alone, genes)).mean() < 0.1


def test_a_gene_that_a_section_did_not_measure_has_its_own_r_from_the_others(sections):
    first, second = (widened(section) for section in sections)
    genes = [*(f"FILLER{i}" for i in range(1, 5)), "H_GENE", "E_GENE", *MORE]
    others = [gene for gene in genes if gene != "E_GENE"]
    lacking = replace(second, genes=others, expression=second.expression_of(others))
    third = replace(first, name="S3", patient="P3")
    parts = [HeldOut(one, one.patient, one.expression_of(genes), 0.0, 0.0) for one in (first, second, third)]
    without = [parts[0], replace(parts[1], section=lacking), parts[2]]
    assert specific_r(without, genes)[5] > 0.99
    assert np.isnan(specific_r([replace(part, section=lacking) for part in parts], genes)[5])


def test_what_genes_have_in_common_is_taken_off_alike_where_sections_measured_other_genes(sections):
    """All genes follow one thing and nothing of their own; two patients of three measured a part of them."""
    rng, genes = np.random.default_rng(8), [f"G{i}" for i in range(LEAST_IN_COMMON)]
    parts = []
    for number in range(3):
        common = rng.normal(size=(63, 1))
        measured = (common + rng.normal(size=(63, len(genes)))).astype(np.float32)
        known = sorted(rng.choice(len(genes), 40, replace=False)) if number else range(len(genes))
        section = replace(
            sections[0],
            name=f"S{number}",
            patient=f"P{number}",
            genes=[genes[i] for i in known],
            expression=measured[:, known],
        )
        predicted = common * rng.uniform(0.5, 1.5, len(genes)) + 0.3 * rng.normal(size=(63, len(genes)))
        parts.append(HeldOut(section, section.patient, predicted, 0.0, 0.0))
    sets = np.zeros((len(genes), 40), np.float32)
    for column in range(40):
        sets[rng.choice(len(genes), 10, replace=False), column] = 0.1
    own_r = specific_r(parts, genes, sets)
    assert np.abs(own_r.mean()) < 0.05
    assert (own_r > 0.15).mean() < 0.1


def test_of_few_genes_what_they_have_in_common_is_not_told(sections):
    parts = [HeldOut(one, one.patient, one.expression_of(["H_GENE", "E_GENE"]), 0.0, 0.0) for one in sections]
    assert np.isnan(specific_r(parts, ["H_GENE", "E_GENE"])).all()
    assert np.isnan(specific_r(parts, ["H_GENE", "E_GENE"], np.full((2, 3), 0.5))).tolist() == [True] * 3


def test_moments_are_means_over_sections_of_what_each_measured(sections):
    first, second = sections
    lacking = replace(second, genes=["H_GENE"], expression=second.expression[:, :1])
    mean, sd = expression_moments([first, lacking], ["H_GENE", "E_GENE"])
    own = first.expression_of(["H_GENE", "E_GENE"])
    assert mean[1] == pytest.approx(own[:, 1].mean(), rel=1e-6)
    assert sd[1] == pytest.approx(own[:, 1].std(), rel=1e-6)
    assert mean[0] == pytest.approx((own[:, 0].mean() + second.expression[:, 0].mean()) / 2, rel=1e-6)
    assert np.isnan(expression_moments([first], ["ABSENT"])[0]).all()


def test_a_section_in_which_a_gene_is_the_same_everywhere_counts_for_nothing(sections):
    noise = np.random.default_rng(3).normal(size=(len(sections[0].centers_px), 1))
    measured = sections[0].expression_of(["H_GENE"])

    def held_out(name: str, expression: np.ndarray) -> HeldOut:
        section = replace(sections[0], name=name, genes=["H_GENE"], expression=expression)
        return HeldOut(section, "P1", measured + 0.3 * noise, 0.0, 0.0)

    told, silent = held_out("S1", measured), held_out("S9", np.zeros_like(measured))
    alone, both = (group_correlations(parts, ["H_GENE"])["P1"] for parts in ([told], [told, silent]))
    assert alone.p_value["H_GENE"] > 0
    pd.testing.assert_frame_equal(both, alone)


def test_a_set_unknown_in_one_patient_has_its_own_r_from_the_others(sections):
    genes = [*(f"FILLER{i}" for i in range(1, 5)), "H_GENE", "E_GENE", "NOISE", *MORE]
    sections = [widened(section) for section in sections]
    silent = replace(sections[1], name="S3", patient="P3", expression=np.zeros_like(sections[1].expression))
    parts = [HeldOut(one, one.patient, one.expression_of(genes), 0.0, 0.0) for one in [*sections, silent]]
    table = signature_reliability(parts, genes, {"stains": ["H_GENE", "E_GENE"]})
    assert table.r_specific.stains > 0.9


def test_sections_of_one_patient_count_as_one_tissue(sections):
    twin = replace(sections[0], name="S3")
    method = neural_stain(ONE_SETTING)
    three = [*sections, twin]
    held_out = leave_one_group_out(three, [section.patient for section in three], method, ["H_GENE"])
    groups = group_correlations(held_out, ["H_GENE"])
    alone = group_correlations([part for part in held_out if part.section.name != "S3"], ["H_GENE"])
    assert groups["P1"].standard_error["H_GENE"] == pytest.approx(alone["P1"].standard_error["H_GENE"])
    assert groups["P1"].n_spots["H_GENE"] == 2 * alone["P1"].n_spots["H_GENE"]


@pytest.mark.evaluation
@pytest.mark.xdist_group("her2st")
def test_the_reliability_that_ships_is_what_the_fit_gives(her2st, embedded):
    genes = ["CD24", "COX6C", "ERBB2", "GAPDH", "IGKC"]
    groups = {}
    for patient, settings in embedded.config.reliability.settings.items():
        method = neural_stain([FitSettings(**settings)])
        held_out = leave_one_group_out(her2st, [s.patient == patient for s in her2st], method, genes)
        groups |= {patient: group_correlations([part for part in held_out if part.group], genes)[True]}
    again = reliability(groups)
    shipped = embedded.reliability.loc[genes]
    np.testing.assert_allclose(again.r_heldout, shipped.r_heldout, atol=2e-3)
    # The scatter is that of all genes: σ/√3 for the mean of three patients, and σ√(4/3) for the next about it.
    np.testing.assert_allclose(
        2 * (shipped.r_high - shipped.r_heldout), shipped.r_next_high - shipped.r_heldout, atol=3e-4
    )
    assert list(again.patients_replicated) == list(shipped.patients_replicated)
    assert list(again.n_spots) == list(shipped.n_spots)
