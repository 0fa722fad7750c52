"""What `reliability` promises: every gene with an r is counted once, in the bar that its r lies in."""

import numpy as np
import pandas as pd
import pytest

from nsl.figures.reliability import reliability_histogram
from nsl.weights.reliability import has_held_up


def table_of(r) -> pd.DataFrame:
    r = np.asarray(r, float)
    return pd.DataFrame({"r_heldout": r, "r_low": r - 0.1, "q_value": np.where(r > 0.1, 0.001, 0.5)})


@pytest.mark.parametrize("bin_r", [0.02, 0.05])
def test_every_gene_is_counted_once_in_its_bar_by_whether_it_is_reliable(bin_r):
    table = table_of([*np.random.default_rng(0).uniform(-0.3, 0.6, 200), np.nan])
    reliable, others = reliability_histogram(table, bin_r).data
    for bars, genes in ((reliable, table[has_held_up(table)]), (others, table[~has_held_up(table)])):
        r = genes.r_heldout.dropna().to_numpy()
        edges = np.asarray(bars.customdata)
        assert list(bars.y) == [((r >= low) & (r < high)).sum() for low, high in edges]
        np.testing.assert_allclose(edges[:, 1] - edges[:, 0], bin_r)
        np.testing.assert_allclose(edges.mean(axis=1), bars.x)
        assert sum(bars.y) == len(r)
    assert reliable.marker.color != others.marker.color
    assert reliable.marker.pattern.shape != others.marker.pattern.shape


def test_the_mark_of_what_counts_as_predicted_is_told_inside_the_panel_and_the_legend_stands_above():
    layout = reliability_histogram(table_of([0.1, 0.4])).layout
    (mark,) = layout.annotations
    assert (mark.text, mark.yanchor) == ("r 0.3", "top")
    assert mark.y <= 1 < layout.legend.y


@pytest.mark.parametrize("r", [[], [np.nan], [0.3]])
def test_few_genes_or_none_are_drawn_too(r):
    assert sum(sum(bars.y) for bars in reliability_histogram(table_of(r)).data) == np.isfinite(r).sum()
