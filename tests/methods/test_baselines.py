"""What `baselines` promises: each learns what it can from the image alone, with as many weights as it says."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nsl.evaluate import Method, Training, hidden
from nsl.histogram import count_colors
from nsl.methods import baselines as baselines_module
from nsl.methods.baselines import (
    HISTOGRAM_BITS,
    baselines,
    color_histogram,
    darkness,
    fit_forest,
    fit_ridge,
    hed_concentrations,
    macenko_od,
    mean_od,
    mean_rgb,
)
from nsl.spots.measured_section import MeasuredSection, measure_section, read_windows
from nsl.spots.tables import read_manifest
from nsl.stains import HED_VECTORS, optical_density, transmitted
from nsl.stats.pearson import pearson_r

GENES = ["H_GENE", "E_GENE", "NOISE"]
TILE_UM, ANALYSIS_MPP = 60.0, 3.0
METHODS = baselines(TILE_UM, ANALYSIS_MPP)
NAMES = [method.name for method in METHODS]


@pytest.fixture(scope="module")
def sections(paired) -> list[MeasuredSection]:
    """The two paired sections, read once."""
    return [measure_section(section, TILE_UM, ANALYSIS_MPP) for section in read_manifest(paired / "manifest.csv")]


@pytest.fixture(params=METHODS, ids=NAMES)
def method(request) -> Method:
    return request.param


def training(sections: list[MeasuredSection], features) -> Training:
    return Training(sections, [features(section) for section in sections], GENES)


# Promises of every method


@pytest.mark.parametrize(
    ("name", "hematoxylin", "eosin"),
    [
        ("tissue darkness + ridge", 0.9, -1),  # one number, which follows the stronger stain
        ("mean RGB + ridge", 0.9, 0.8),
        ("mean OD + ridge", 0.9, 0.8),
        ("fixed HED + ridge", 0.9, 0.8),
        ("Macenko-normalised OD + ridge", 0.9, 0.9),
        ("colour histogram + ridge", 0.8, 0.8),
        ("nuclei + ridge", 0.9, 0.8),
        ("nuclei + random forest", 0.6, 0.1),  # 63 spots are few for trees
        ("fixed HED + ridge, on patterns", 0.9, 0.8),
        ("colour histogram + ridge, on patterns", 0.8, 0.8),
        ("nuclei + ridge, on patterns", 0.9, 0.8),
    ],
)
def test_genes_driven_by_a_stain_are_predicted_on_a_section_held_out(sections, name, hematoxylin, eosin):
    method = METHODS[NAMES.index(name)]
    for seen, held_out in (sections, sections[::-1]):
        predicted = method.fit(training([seen], method.features), 0)(method.features(held_out))
        found = pearson_r(predicted, held_out.expression_of(GENES))
        assert (found[:2] > [hematoxylin, eosin]).all()


def test_every_method_is_tried_above():
    assert len(set(NAMES)) == len(NAMES) == 11


def test_features_see_nothing_of_the_expression(sections, method):
    seen, fresh = method.features(sections[0]), baselines(TILE_UM, ANALYSIS_MPP)[NAMES.index(method.name)]
    np.testing.assert_array_equal(seen, fresh.features(hidden(sections[0])))
    assert np.isfinite(seen).all()


def test_predictions_have_a_row_a_spot_and_a_column_a_gene(sections, method):
    predict = method.fit(training(sections, method.features), 0)
    assert predict(method.features(sections[0])).shape == (63, 3)


def test_weights_per_gene_are_the_features_and_an_intercept(sections, method):
    if method.weights_per_gene is None:
        pytest.skip("trees share their splits between genes")
    assert method.weights_per_gene == method.features(sections[0]).shape[1] + 1


def test_the_same_seed_gives_the_same_predictions(sections, method):
    learned = training(sections[:1], method.features)
    once, again = (method.fit(learned, 3)(learned.features[0]) for _ in range(2))
    np.testing.assert_allclose(once, again, rtol=1e-9, atol=1e-12)  # threads of a forest add up in any order


def test_a_gene_that_one_section_lacks_is_learned_from_the_other(sections, method):
    first, second = sections
    without = replace(first, genes=["renamed", *first.genes[1:]])
    assert first.genes[0] == "H_GENE"
    predicted = method.fit(training([without, second], method.features), 0)(method.features(first))
    assert pearson_r(predicted, first.expression_of(GENES))[0] > 0.3


def test_black_padding_takes_no_part(paired, tmp_path, method):
    section = read_manifest(paired / "manifest.csv")[0]
    pixels = np.asarray(Image.open(section.image)).copy()
    pixels[:, :45] = 0  # through the first column of spots
    Image.fromarray(pixels).save(tmp_path / "padded.png")
    padded = measure_section(replace(section, image=tmp_path / "padded.png"), TILE_UM, ANALYSIS_MPP)
    whole = measure_section(section, TILE_UM, ANALYSIS_MPP)
    there, here = method.features(padded), method.features(whole)
    assert np.isfinite(there).all()
    clear = whole.centers_px[:, 0] > 100
    # Stains are told from the slide's strongest colours, of which the padding's rim is one, and a nucleus may be told
    # that was not.
    alike = np.isclose(there[clear], here[clear], rtol=0.05, atol=0.02 * np.abs(here).max())
    assert alike.mean() > 0.998


# Features


def test_mean_od_and_darkness_are_those_of_the_pixels(sections):
    windows = read_windows(sections[0].image, sections[0].centers_px, TILE_UM, ANALYSIS_MPP)
    x0, y0, x1, y1 = windows.bounds[30]
    od = optical_density(windows.image[y0:y1, x0:x1], windows.white_point).mean(axis=(0, 1)) @ sections[0].transfer
    np.testing.assert_allclose(mean_od(sections[0])[30], od, rtol=1e-4)
    assert darkness(sections[0])[30] == pytest.approx(od.sum(), rel=1e-4)


def test_mean_rgb_is_that_of_the_pixels(sections):
    windows = read_windows(sections[0].image, sections[0].centers_px, TILE_UM, ANALYSIS_MPP)
    x0, y0, x1, y1 = windows.bounds[30]
    od = optical_density(windows.image[y0:y1, x0:x1], windows.white_point) @ sections[0].transfer
    expected = transmitted(od, windows.white_point).mean(axis=(0, 1))
    np.testing.assert_allclose(mean_rgb(sections[0], TILE_UM, ANALYSIS_MPP)[30], expected)


def test_fixed_concentrations_are_those_of_the_pixels_but_for_bins_on_the_edge(sections):
    windows = read_windows(sections[0].image, sections[0].centers_px, TILE_UM, ANALYSIS_MPP)
    x0, y0, x1, y1 = windows.bounds[30]
    od = optical_density(windows.image[y0:y1, x0:x1], windows.white_point) @ sections[0].transfer
    expected = np.maximum(od @ np.linalg.inv(HED_VECTORS)[:, :2], 0).mean(axis=(0, 1))
    np.testing.assert_allclose(hed_concentrations(sections[0])[30], expected, atol=0.02)


def test_macenko_evens_out_how_long_a_slide_was_stained(sections):
    faint = sections[0]
    moments = faint.colors.moments * [1, 1.5, 1.5, 1.5]
    strong = replace(faint, colors=replace(faint.colors, moments=moments, palette_od=faint.colors.palette_od * 1.5))
    np.testing.assert_allclose(macenko_od(strong), macenko_od(faint), rtol=1e-5)


def test_histogram_shares_sum_to_one(sections):
    histogram = color_histogram(sections[0])
    assert histogram.shape == (63, 8**HISTOGRAM_BITS)
    np.testing.assert_allclose((histogram**2).sum(axis=1), 1, rtol=1e-5)


def test_one_colour_falls_in_one_bin_whatever_the_white_point(sections):
    histograms = []
    for white in (240, 200):
        image = np.full((8, 8, 3), round(white * np.exp(-0.44)), np.uint8)
        colors = count_colors(image, np.array([[0, 0, 8, 8]]), np.full(3, float(white)))
        histograms.append(color_histogram(replace(sections[0], colors=colors)))
    np.testing.assert_array_equal(*histograms)
    assert histograms[0].max() == 1


def test_nuclei_are_measured_once_for_all_methods(sections, monkeypatch):
    calls = []
    monkeypatch.setattr(baselines_module, "measure_nuclei", lambda windows: calls.append(1) or np.zeros((63, 22)))
    methods = [method for method in baselines(TILE_UM, ANALYSIS_MPP) if "nuclei" in method.name]
    for method in methods:
        method.features(sections[0])
        method.features(hidden(sections[0]))
    assert len(methods) == 3
    assert len(calls) == 1


def test_spots_of_one_image_are_not_taken_for_others(sections):
    nuclei = next(method for method in METHODS if "nuclei" in method.name)
    half = replace(sections[0], centers_px=sections[0].centers_px[:30])
    np.testing.assert_array_equal(nuclei.features(half), nuclei.features(sections[0])[:30])


# Fits


def noisy(spots: int, seed: int, sign: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two features, and one gene that follows the first."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(spots, 2))
    return features, (sign * features[:, :1] + 0.1 * rng.normal(size=(spots, 1))).astype(np.float32)


def made(sections: list[MeasuredSection], pairs, patients: str) -> Training:
    """Training of made-up features and expression."""
    own = [
        replace(sections[0], name=f"{patient}{i}", patient=patient, genes=["G"], expression=expression)
        for i, (patient, (_, expression)) in enumerate(zip(patients, pairs, strict=True))
    ]
    return Training(own, [features for features, _ in pairs], ["G"])


def first(candidates, fit, training):
    """In place of nested validation, which has little to go by in what is made up here."""
    return candidates[0]


@pytest.mark.parametrize("fit", [fit_ridge, fit_forest])
def test_every_section_weighs_alike_however_many_spots_it_has(sections, monkeypatch, fit):
    """Two small sections say one thing, a large one the opposite."""
    monkeypatch.setattr(baselines_module, "choose", first)
    pairs = [noisy(200, 1), noisy(200, 2), noisy(2000, 3, sign=-1)]
    predict = fit(made(sections, pairs, "AAA"), 0)
    features, expression = noisy(100, 4)
    predicted = predict(features)
    assert predicted.shape == (100, 1)
    assert pearson_r(predicted, expression)[0] > 0.5


@pytest.mark.parametrize(("fit", "chosen"), [(fit_ridge, "PENALTIES"), (fit_forest, "LEAVES")], ids=["ridge", "forest"])
def test_settings_are_chosen_by_the_patients_of_the_training(sections, monkeypatch, fit, chosen):
    learned = made(sections, [noisy(60, seed) for seed in range(4)], "ABBC")
    asked = []

    def choose(candidates, fit, training):
        asked.append((candidates, training.groups))
        return candidates[1]

    monkeypatch.setattr(baselines_module, "choose", choose)
    fit(learned, 0)
    assert asked == [(getattr(baselines_module, chosen), ["A", "B", "B", "C"])]


def test_ridge_does_not_depend_on_the_units_of_the_features(sections, monkeypatch):
    monkeypatch.setattr(baselines_module, "choose", first)
    pairs = [noisy(80, seed) for seed in range(3)]
    in_px, in_um = made(sections, pairs, "ABC"), made(sections, [(x * [1, 1e4], y) for x, y in pairs], "ABC")
    features, _ = noisy(50, 9)
    np.testing.assert_allclose(fit_ridge(in_px, 0)(features), fit_ridge(in_um, 0)(features * [1, 1e4]), rtol=1e-5)
