"""One gene on two slides of the session."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from nsl.export import files
from nsl.figures import compare, panels
from nsl.figures.maps import percentile_limits
from nsl.numerals import csv_table
from nsl.result import map_of
from nsl.signatures import spoken, unit_of
from nsl.web import chart, controls, downloads, gene_choice, links, regions
from nsl.web.compare import gene_comparison, tile_selection
from nsl.web.session import state
from nsl.web.zoom import zoom
from nsl.weights.reliability import has_held_up

_CHART = "across slides"


def show(slide: state.SessionSlide, display: DeltaGenerator) -> None:
    """One gene on this slide and on another of the session; `display` is the place for how they are drawn."""
    others = {one.key: one for one in state.slides() if one is not slide and one.result is not None}
    if not others:
        links.wait(view=gene_comparison.view_of(gene_comparison.ACROSS))
        _show_the_way(slide)
        return
    gene_choice.follow_link(slide.result.var)
    with st.container(horizontal=True):
        gene = gene_choice.choose_one(slide.result.var, slide.weights)
        other = others[_choose_other(others)]
    look = gene_comparison.choose_look(gene_comparison.ACROSS, slide.result, display)
    gene_comparison.write_link(gene_comparison.ACROSS, look, gene=gene)
    if gene not in other.result.var_names:
        st.warning(
            f"{gene} was predicted on {controls.escaped(slide.name)} and not on {controls.escaped(other.name)}. Choose "
            "another gene, or predict the other slide with this gene too.",
            icon=":material/search_off:",
        )
        return
    both = (slide, other)
    _warn(both)
    limits = percentile_limits(np.concatenate([map_of(one.result, gene) for one in both]))
    _show_maps(both, gene, look, limits)
    _show_numbers(both, gene)
    stem = f"{tile_selection.file_stem(slide, [gene])}_{controls.file_stem(other)}"
    with st.container(horizontal=True):
        downloads.button(
            f"CSV of {controls.escaped(spoken(gene))} on both", lambda: _csv_of_both(both, gene), f"{stem}.csv"
        )
        maps = {
            f"{number}_{tile_selection.file_stem(one, [gene])}.png": (one, gene, limits, regions.kept(one))
            for number, one in enumerate(both, start=1)
        }
        downloads.prints(maps, look.palette, look.opacity, stem)


def _choose_other(others: dict[str, state.SessionSlide]) -> str:
    key = "compare_other"
    if st.session_state.get(key) not in others:
        st.session_state[key] = next(iter(others))
    return st.selectbox(
        "Beside it",
        list(others),
        format_func=lambda other: others[other].name,
        key=key,
        persist_state="session",
        help="The first slide is the one chosen in the sidebar.",
        width=gene_choice.WIDTH_PX,
    )


def _show_the_way(slide: state.SessionSlide) -> None:
    others = [one for one in state.slides() if one is not slide]
    with st.container(border=True):
        if not others:
            told = "is the only slide of this session. Bring another one on Predict and run it there: both stay."
        else:
            told = "is the only slide with a prediction. Choose another one in the sidebar and run it on Predict."
        st.markdown(f"A gene is compared across two predicted slides, and {controls.escaped(slide.name)} {told}")
        st.page_link("pages/predict.py", label="Go to Predict", icon=":material/arrow_back:")
    for one in others:
        if one.is_running:
            st.caption(f"{controls.escaped(one.name)} is being predicted:")
            controls.watch_job(one.job)


def _warn(both: tuple[state.SessionSlide, state.SessionSlide]) -> None:
    for one in both:
        found = controls.cautions_of(one)
        if one.synthetic or any(caution.is_grave for caution in found):
            st.markdown(f"**{controls.escaped(one.name)}**")
            controls.synthetic_badge(one)
            controls.show_cautions(found)
    first, other = (one.provenance for one in both)
    if len({one.weights.fingerprint for one in both}) > 1:
        st.warning(
            "The two slides were predicted with different weights: their values may not compare.",
            icon=":material/difference:",
        )
    if first.tile_um != other.tile_um:
        st.info(
            f"Tiles are {first.tile_um:g} µm wide on the first slide and {other.tile_um:g} µm on the other; "
            "smaller tiles vary more.",
            icon=":material/info:",
        )


def _show_maps(
    both: tuple[state.SessionSlide, state.SessionSlide],
    gene: str,
    look: gene_comparison.Look,
    limits: tuple[float, float],
) -> None:
    results, names = [one.result for one in both], [one.name for one in both]
    drawn = {"palette": look.palette, "opacity": look.opacity, "outline": look.outline}
    figure = compare.across_slides(results, names, gene, limits=limits, **drawn)
    for number, one in enumerate(both):
        gene_comparison.outline_regions(figure, one, [number])
    _draw(
        both,
        figure,
        alt=f"Maps of {spoken(gene)} on {names[0]} and on {names[1]}, on one colour scale",
        file_name="_".join([tile_selection.file_stem(both[0], [gene]), controls.file_stem(both[1])]),
    )


# A fragment: the slide is read for a new view, and nothing else of the page is made anew.
@state.fragment()
def _draw(both: tuple[state.SessionSlide, state.SessionSlide], figure: go.Figure, **told) -> None:
    if any(one.result is None for one in both):
        st.rerun()
    zooms = [zoom(one, _CHART, (panels.axes(number)[0],)) for number, one in enumerate(both)]
    chart.show(figure, key=_CHART, zooms=zooms, fits=True, **told)


def _show_numbers(both: tuple[state.SessionSlide, state.SessionSlide], gene: str) -> None:
    rows = {}
    for one in both:
        values = map_of(one.result, gene)
        rows[one.name] = [len(values), *np.percentile(values, [5, 50, 95]), one.result.var.r_heldout[gene]]
    columns = ["Tiles", "5th percentile", "Median", "95th percentile", "Held-out r"]
    numbers = {name: st.column_config.NumberColumn(format="%.2f") for name in columns[1:]}
    controls.show_table(
        pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("Slide").reset_index(),
        numbers | {"Tiles": st.column_config.NumberColumn(format="localized")},
        alt="Its values in both slides",
    )
    unreliable = [one for one in both if not has_held_up(one.result.var.loc[[gene]]).all()]
    if unreliable:
        gene_choice.show_reliability(unreliable[0].result.var, gene, unreliable[0].weights.config.reliability)
    st.caption(
        f"Maps and numbers are in {unit_of(gene)}; the colour scale runs from the 2nd to the 98th percentile "
        "of the tiles of both. Slides that were stained or scanned differently differ in them for that reason too, so "
        "compare the patterns before the levels."
    )


def _csv_of_both(both: tuple[state.SessionSlide, state.SessionSlide], gene: str) -> str:
    tables = [files.tile_table(one.result[:, [gene]]) for one in both]
    table = pd.concat(tables, keys=[one.name for one in both], names=["slide"])
    return csv_table(table)
