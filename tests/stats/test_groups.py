"""What a comparison of groups of slides promises: the effect between slides, with an honest p and interval."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nsl.errors import NslError
from nsl.stats.groups import compare_groups


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
    np.testing.assert_allclose(table.p_value["G1"], stats.ttest_ind(a[:, 1], b[:, 1]).pvalue, rtol=1e-3)
    np.testing.assert_allclose(table.q_value.sort_index(), stats.false_discovery_control(table.p_value.sort_index()))
    assert table.index[0] == "G1"


def test_no_difference_is_found_by_chance_more_often_than_p_says():
    values, inside = np.random.default_rng(1).normal(size=(12, 2_000)), np.arange(12) < 5
    table = compare_groups(_cohort(values), inside)
    assert (table.p_value < 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert ((table.effect_low < 0) & (table.effect_high > 0)).mean() == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("first", [0, 2, 8, 10])
def test_groups_of_fewer_than_three_slides_are_told(first):
    with pytest.raises(NslError, match=f"the groups have {first} and {10 - first} slides"):
        compare_groups(_cohort(np.eye(10)), np.arange(10) < first)
