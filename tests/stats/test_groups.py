"""What a comparison of groups of slides promises: the effect between slides, with an honest p and interval."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nsl.errors import NslError
from nsl.stats.groups import compare_groups, observations


def _cohort(values: np.ndarray) -> anndata.AnnData:
    genes = [f"G{i}" for i in range(values.shape[1])]
    return anndata.AnnData(values.astype(np.float32), var=pd.DataFrame({"r_heldout": 0.3}, index=genes))


def test_effect_and_p_are_those_of_a_t_test_between_slides():
    rng = np.random.default_rng(0)
    values, inside = rng.normal(size=(17, 4)), np.arange(17) < 6
    values[inside, 1] += 2
    table = compare_groups(_cohort(values), inside)
    a, b = values[inside], values[~inside]
    pooled = np.sqrt((5 * a.var(axis=0, ddof=1) + 10 * b.var(axis=0, ddof=1)) / 15)
    np.testing.assert_allclose(table.effect_size[["G0", "G1", "G2", "G3"]], (a.mean(0) - b.mean(0)) / pooled, rtol=1e-4)
    welch = stats.ttest_ind(a[:, 1], b[:, 1], equal_var=False)
    np.testing.assert_allclose(table.p_value["G1"], welch.pvalue, rtol=1e-3)
    np.testing.assert_allclose(table.q_value.sort_index(), stats.false_discovery_control(table.p_value.sort_index()))
    assert table.index[0] == "G1"
    cohort = _cohort(values)
    cohort.var["trust"] = ["weak", "reliable", "weak", "unreliable"]
    assert compare_groups(cohort, inside).trust["G1"] == "reliable"


def test_no_difference_is_found_by_chance_more_often_than_p_says():
    values, inside = np.random.default_rng(1).normal(size=(12, 2_000)), np.arange(12) < 5
    table = compare_groups(_cohort(values), inside)
    assert (table.p_value < 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert ((table.effect_low < 0) & (table.effect_high > 0)).mean() == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(("slides", "effect"), [(3, 2.0), (10, 2.0), (10, 4.0)])
def test_the_interval_covers_the_effect_that_is_there(slides, effect):
    values, inside = np.random.default_rng(6).normal(size=(2 * slides, 2_000)), np.arange(2 * slides) < slides
    values[inside] += effect
    table = compare_groups(_cohort(values), inside)
    assert ((table.effect_low < effect) & (table.effect_high > effect)).mean() == pytest.approx(0.96, abs=0.03)


def test_slides_of_one_patient_count_as_one():
    """Of patients who differ, and whose slides are alike, many slides are no more than few patients."""
    rng = np.random.default_rng(4)
    patient = np.repeat(np.arange(10), 6)
    values = rng.normal(size=(10, 2_000))[patient] + 0.3 * rng.normal(size=(60, 2_000))
    inside, cohort = patient < 5, _cohort(values)
    assert (compare_groups(cohort, inside).p_value < 0.05).mean() > 0.4
    cohort.obs["patient"] = [f"P{one}" for one in patient]
    table = compare_groups(cohort, inside)
    assert (table.p_value < 0.05).mean() == pytest.approx(0.05, abs=0.015)
    means = values.reshape(10, 6, -1).mean(axis=1)
    difference = means[:5].mean(axis=0) - means[5:].mean(axis=0)
    np.testing.assert_allclose(table.difference[[f"G{i}" for i in range(2_000)]], difference, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("shift", "found"), [(0.0, 0.05), (0.3, 0.98)])
def test_patients_with_slides_in_both_groups_are_compared_with_themselves(shift, found):
    rng = np.random.default_rng(8)
    patient = np.tile(np.arange(20), 2)
    values = rng.normal(size=(20, 2_000))[patient] + 0.2 * rng.normal(size=(40, 2_000))
    inside, order = np.arange(40) < 20, rng.permutation(40)
    values[inside] += shift
    cohort = _cohort(values[order])
    cohort.obs["patient"] = [f"P{one}" for one in patient[order]]
    table = compare_groups(cohort, inside[order])
    assert (table.p_value < 0.05).mean() == pytest.approx(found, abs=0.02)
    row = table.loc["G0"]
    assert row.p_value == pytest.approx(stats.ttest_rel(values[:20, 0], values[20:, 0]).pvalue, rel=1e-3)
    effect = shift / np.sqrt(1 + 0.2**2)
    assert ((table.effect_low < effect) & (table.effect_high > effect)).mean() == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("unknown", ["", np.nan, None])
def test_slides_of_no_patient_count_each_and_few_patients_are_told(unknown):
    cohort = _cohort(np.random.default_rng(5).normal(size=(8, 3)))
    cohort.obs["patient"] = ["A", "A", "A", "A", unknown, unknown, "B", "B"]
    assert observations(cohort).nunique() == 4
    with pytest.raises(NslError, match="the groups have 1 and 3 patients, and a comparison needs 3 in each"):
        compare_groups(cohort, np.arange(8) < 4)


def test_few_slides_that_scatter_more_than_the_others_are_no_difference():
    values, inside = np.random.default_rng(3).normal(size=(23, 4_000)), np.arange(23) < 3
    values[inside] *= 3
    table = compare_groups(_cohort(values), inside)
    # The t-test of one variance for both finds 36 %, and 23 % at a false discovery rate under 5 %.
    assert (table.p_value < 0.05).mean() < 0.08
    assert (table.q_value < 0.05).mean() < 0.02


def test_copies_of_one_slide_on_each_side_have_no_effect():
    values = np.repeat(np.array([[0.3, 1.2], [0.7, 1.2]]), 4, axis=0)
    table = compare_groups(_cohort(values), np.arange(8) < 4)
    assert table[["effect_size", "effect_low", "p_value", "q_value"]].isna().all(axis=None)
    np.testing.assert_allclose(table.difference["G0"], -0.4, rtol=1e-6)


@pytest.mark.parametrize("first", [0, 2, 8, 10])
def test_groups_of_fewer_than_three_slides_are_told(first):
    with pytest.raises(NslError, match=f"the groups have {first} and {10 - first} slides"):
        compare_groups(_cohort(np.eye(10)), np.arange(10) < first)
