"""Tiles selected on the maps or in the scatter of two genes, and seen in both."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import anndata
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from nsl.export import files
from nsl.figures.correlations import gene_scatter
from nsl.numerals import count_of
from nsl.result import map_of
from nsl.signatures import unit_of
from nsl.web import chart, controls, downloads, regions
from nsl.web.session import state


@dataclass
class Selection:
    """The tiles selected on the maps of a result."""

    tiles: list[str] | None = None  # their names; None where nothing was drawn
    drawn: int = 0  # how often something was drawn


def selected_tiles(slide: state.SessionSlide) -> np.ndarray:
    """(T,) bool, the tiles selected on a map or in the scatter."""
    return slide.result.obs_names.isin(slide.of_result(Selection).tiles or [])


def forget_marks(figure: go.Figure, slide: state.SessionSlide) -> None:
    """Let go what the chart itself marked in the last box or lasso: it knows points by their place in a trace."""
    figure.update_layout(selectionrevision=slide.of_result(Selection).drawn)


def take_area(slide: state.SessionSlide, key: str, axes: Container[str]) -> None:
    """Select the tiles in a box or lasso drawn in a chart of this key, where its axes are those of a map."""
    area = chart.drawn_area(key)
    if not area:
        return
    slide.of_result(Selection).drawn += 1
    if area["axis"] in axes:
        _select(slide, key, area)


def _select(slide: state.SessionSlide, key: str, area: dict, points: np.ndarray | None = None) -> None:
    inside = regions.tiles_within(slide, key, area, points)
    if inside is not None:
        slide.of_result(Selection).tiles = list(slide.result.obs_names[inside])


def show_scatter(slide: state.SessionSlide, pair: tuple[str, str]) -> None:
    """One gene against the other, a point a tile; a box or lasso selects."""
    key = f"scatter of {slide.key}"
    figure = gene_scatter(slide.result, *pair, selected_tiles(slide))
    forget_marks(figure, slide)
    figure.update_layout(
        dragmode="select",
        uirevision=" ".join(pair),
    )
    regions.tell_empty(slide, key)
    chart.show(
        figure,
        key=key,
        alt=f"{pair[1]} against {pair[0]} over {slide.result.n_obs:,} tiles",
        file_name=f"{file_stem(slide, pair)}_scatter",
        on_area=lambda: take_points(slide, pair, key),
    )
    st.caption(
        "Both genes are read off the same colours: that they rise together, or one as the other falls, says that their "
        "weights answer to the same stains, not that they are regulated together."
    )


def take_points(slide: state.SessionSlide, pair: tuple[str, str], key: str) -> None:
    """Select the tiles in a box or lasso drawn in the scatter of this key."""
    area = chart.drawn_area(key)
    if area:
        slide.of_result(Selection).drawn += 1
        _select(slide, key, area, np.column_stack([map_of(slide.result, gene) for gene in pair]))


def show_selection(slide: state.SessionSlide, chosen: list[str]) -> None:
    """How many tiles are selected, and the genes' means in them and in the rest."""
    with controls.part("Selection"):
        selection = slide.of_result(Selection)
        if selection.tiles is None:
            st.caption(
                "Draw a box or a lasso in the scatter and its tiles are outlined on the maps; draw one on a map, with "
                "the tools beside it, and its tiles are marked in the scatter."
            )
            return
        inside = selected_tiles(slide)
        controls.offer_removal("Clear the selection", setattr, selection, "tiles", None)
        st.markdown(
            f"{inside.sum():,} of {count_of(len(inside), 'tile')} {'is' if inside.sum() == 1 else 'are'} selected."
        )
        _show_means(slide, chosen, inside)


def _show_means(slide: state.SessionSlide, chosen: list[str], inside: np.ndarray) -> None:
    unit = unit_of(*chosen)
    help_of = {
        "Selected": f"Mean over the selected tiles, {unit}",
        "Rest": f"Mean over all other tiles, {unit}",
        "Difference, sd": "Of the means, in standard deviations over all tiles",
    }
    controls.show_table(
        _means(slide.result, chosen, inside),
        {name: st.column_config.NumberColumn(format="%.2f", help=text) for name, text in help_of.items()},
        alt="Means of the selected tiles and of the rest",
    )
    st.caption("This describes what was selected by eye and tests nothing; the Maps page tests a region drawn there.")
    name = f"{file_stem(slide, chosen)}_selection.csv"
    downloads.button("CSV of the selection", lambda: files.csv_text(slide.result[inside][:, chosen]), name)


def _means(result: anndata.AnnData, chosen: list[str], inside: np.ndarray) -> pd.DataFrame:
    rows = []
    for gene in chosen:
        values = np.asarray(result[:, gene].X, float).ravel()
        among = values[inside].mean()
        rest = values[~inside].mean() if not inside.all() else np.nan
        spread = values.std()
        rows.append((gene, among, rest, (among - rest) / spread if spread else np.nan))
    return pd.DataFrame(rows, columns=["Gene", "Selected", "Rest", "Difference, sd"])


def file_stem(slide: state.SessionSlide, chosen: Sequence[str]) -> str:
    """Slide and genes as part of a file's name."""
    return "_".join([controls.file_stem(slide), *map(files.file_part, chosen)])
