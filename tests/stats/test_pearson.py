"""What `pearson` promises: scipy's numbers, and a definite answer for maps that are the same everywhere."""

import numpy as np
import pytest
from scipy import stats

from nsl.stats.pearson import fisher_half_width, fisher_z, pearson_matrix, pearson_r, q_values, two_sided_p


def test_columns_and_pairs_of_columns_agree_with_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(5, 2, (2, 60, 4)).astype(np.float32)
    matrix = pearson_matrix(a, b)
    np.testing.assert_allclose(pearson_r(a, b), np.diag(matrix), atol=1e-12)
    for i in range(4):
        assert matrix[0, i] == pytest.approx(stats.pearsonr(a[:, 0].astype(float), b[:, i].astype(float)).statistic)
    assert pearson_r(a[:, 0], b[:, 1]) == pytest.approx(matrix[0, 1])


@pytest.mark.parametrize("level", [0.0, 1e-9, 2.5, 1e4])
def test_a_map_that_is_the_same_everywhere_has_the_r_that_is_asked_for(level):
    rng = np.random.default_rng(1)
    varied = rng.normal(size=(30, 3))
    # But for the rounding of 32-bit floats.
    flat = (level + 1e-8 * max(level, 1) * rng.normal(size=30))[:, None]
    assert np.isnan(pearson_r(flat, varied[:, :1])).all()
    assert pearson_r(flat, varied[:, :1], flat_r=0) == 0
    assert np.isnan(pearson_r(varied[:, :1], flat, flat_r=0)).all()
    assert np.isnan(pearson_r(flat, flat, flat_r=0)).all()
    assert np.isnan(pearson_r(flat, np.full((30, 1), np.nan), flat_r=0)).all()
    assert np.isnan(pearson_matrix(flat, varied)).all()


def test_p_values_and_intervals_of_independent_values_are_scipys():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 40))
    theirs = stats.pearsonr(a, b)
    r, n = pearson_r(a, b), np.array(40.0)
    assert two_sided_p(r, n) == pytest.approx(theirs.pvalue)
    z, half = fisher_z(r), fisher_half_width(n)
    assert (np.tanh(z - half), np.tanh(z + half)) == pytest.approx(tuple(theirs.confidence_interval()))
    assert np.isfinite(fisher_z(np.array([-1.0, 1.0]))).all()


def test_false_discovery_rates_are_benjamini_and_hochbergs():
    q = q_values(np.array([0.01, np.nan, 0.02, 0.03, 0.5]))
    np.testing.assert_allclose(q, [0.04, np.nan, 0.04, 0.04, 0.5])  # 4 · 0.01; then 4/3 · 0.03 caps those before it
    assert np.isnan(q_values(np.array([np.nan]))).all()
