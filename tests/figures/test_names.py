"""What every figure promises of a name: it is shown letter by letter, since names come from strangers' files.

Plotly takes text for HTML, and a link in it can be clicked.
"""

import html
import json

import numpy as np
import pandas as pd
import pytest

from nsl import load_weights, open_slide, predict
from nsl.figures import compare, correlations, stains
from nsl.figures.angles import angle_plot
from nsl.figures.maps import expression_map
from nsl.figures.methods import correlation_distributions
from nsl.figures.spots_map import spots_map
from nsl.figures.style import literal
from nsl.model import NeuralStain
from nsl.stats.agreement import gene_correlations
from nsl.stats.correlation import gene_correlations_over_tiles
from nsl.weights.interpretation import response_surface, vector_table

NAME = '<a href="https://example.org">x</a> & co'
OTHER = "CD24"
WRITTEN = '&lt;a href="https://example.org"&gt;x&lt;/a&gt; &amp; co'


@pytest.fixture
def result(section_png, tiny_weights):
    """A prediction of 100 µm tiles whose first gene has the name."""
    with open_slide(section_png, mpp=2.0) as slide:
        found = predict(slide, load_weights(tiny_weights), stride_um=50)
    found.var_names = [NAME, *found.var_names[1:]]
    return found


@pytest.fixture
def named_model(embedded):
    model = NeuralStain([NAME, OTHER]).requires_grad_(False)
    model.load_state_dict(embedded.model.select(["ERBB2", OTHER]).state_dict())
    return model


def maps(result):
    yield expression_map(result, NAME, limits=(0, 1))
    yield compare.side_by_side(result, [NAME, OTHER], limits=[(0, 1)])
    yield compare.across_slides([result, result], ["one", "two"], NAME, limits=(0, 1))
    yield compare.across_slides([result, result], [NAME[:29], "two"], OTHER, limits=(0, 1))
    yield from (compare.difference_map(result, NAME, OTHER, by=by) for by in compare.DIFFERENCES)
    yield compare.blend_map(result, OTHER, NAME, limits=[(0, 1), (0, 1)])
    yield spots_map(result, result.obsm["spatial"], *result.X.T[:2], NAME, spot_um=50, names=result.obs_names)
    spots = [NAME, *result.obs_names[1:]]
    yield spots_map(result, result.obsm["spatial"], *result.X.T[:2], OTHER, spot_um=50, names=spots)


def correlated(result):
    yield correlations.correlation_heatmap(gene_correlations_over_tiles(result))
    yield correlations.gene_scatter(result, NAME, OTHER)
    measured = result.X + np.random.default_rng(0).normal(size=result.shape)
    table = gene_correlations(result.X, measured, result.obsm["spatial"], list(result.var_names))
    yield correlations.agreement_overview(table)
    yield correlations.agreement_scatter(result.X[:, 0], measured[:, 0], NAME, result.obs_names)
    spots = [NAME, *result.obs_names[1:]]
    yield correlations.agreement_scatter(result.X[:, 1], measured[:, 1], OTHER, spots)
    row = {"setting": f"patient {NAME} left out", "method": "NSL", "gene": OTHER, "pearson_r": 0.1}
    yield correlation_distributions(pd.DataFrame([row]))
    yield correlation_distributions(pd.DataFrame([row | {"setting": "patient A left out", "gene": NAME}]))


def learned(embedded, model):
    table = vector_table(embedded).rename(index={"ERBB2": NAME})
    yield stains.effects_bars(table.loc[[NAME, OTHER]])
    yield angle_plot(table)
    yield angle_plot(table[table.index != NAME].rename(index={OTHER: NAME}), NAME)
    reference = embedded.config.stains.reference
    yield stains.swatches({f"{NAME}, eosin-like": reference[1]})
    yield stains.response_surface_figure(response_surface(model, NAME, vectors=reference))


def shown(figure) -> list[str]:
    """Every string in a figure, as a browser gets them."""

    def strings(part):
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict | list):
            for inner in part.values() if isinstance(part, dict) else part:
                yield from strings(inner)

    return list(strings(json.loads(figure.to_json())))


def check(figures) -> None:
    for figure in figures:
        texts = shown(figure)
        assert any("&lt;a href" in text for text in texts)
        assert not any("<a" in text or "& co" in text for text in texts)


def test_maps_show_a_name_letter_by_letter(result):
    check(maps(result))


def test_correlations_show_a_name_letter_by_letter(result):
    check(correlated(result))


def test_learned_stains_show_a_name_letter_by_letter(embedded, named_model):
    check(learned(embedded, named_model))


@pytest.mark.parametrize("name", [NAME, "ERBB2", "&amp;lt;", "&lt", "a \"b\" 'c'", "&quot;&#39;<b>"])
def test_a_name_is_read_back_from_what_is_shown(name):
    assert html.unescape(literal(name)) == name


def test_quotes_stay_as_they_are_since_plotly_knows_no_entity_for_them():
    assert literal(NAME) == WRITTEN
    assert literal("5'-NT") == "5'-NT"
