"""Annotated regions against each other, or against the rest of the slide: gene by gene, and one gene in all classes."""

import numpy as np
import pandas as pd
import streamlit as st

from nsl.figures.regions import LEAST_BOXED, class_boxes, color_of
from nsl.numerals import six_digits, some_of
from nsl.signatures import unit_of
from nsl.slides.annotations.region import Region
from nsl.stats.regions import ANNOTATION_CAVEAT, LEAST_TILES, compare_classes, compare_region
from nsl.web import chart, controls, downloads, gene_choice, links, regions
from nsl.web.compare import tile_selection
from nsl.web.session import state

# No class and no region has it for a name.
REST, _REST_TOLD = "", "all other tiles"
_CLASSES, _SINGLE = "Classes", "Single regions"
_MOST_NAMED = 5
VIEW = "regions"


def show(slide: state.SessionSlide) -> None:
    """The list of regions, and what tells their classes apart."""
    wide, narrow = controls.side_by_side(wide_first=True)
    with narrow:
        regions.show_list(slide)
    with wide:
        if regions.kept(slide):
            _compare(slide)
        else:
            links.wait(view=VIEW)
            st.info(
                "Bring what was annotated on this slide in QuPath, exported as GeoJSON; or draw a region on Maps and "
                "keep it; or write down its corners. Its genes are compared here.",
                icon=":material/polyline:",
            )
            st.page_link("pages/maps.py", label="Draw on Maps", icon=":material/map:")


def _compare(slide: state.SessionSlide) -> None:
    gene_choice.follow_link(slide.result.var)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind, groups, named = _groups(slide)
        counts = pd.Series(groups[groups != ""]).value_counts().sort_index()
        names = list(counts.index[counts >= LEAST_TILES])
        if not names:
            links.wait(view=VIEW)
            st.info(
                f"No {kind} holds {LEAST_TILES} tiles, as many as a comparison needs; a tile is in a region that "
                "covers half of it."
            )
            return
        one = controls.choose_name("Compare", names, "regions_compared")
        others = [REST, *(name for name in names if name != one)]
        other = controls.choose_name("With", others, "regions_against", _REST_TOLD)
        gene_choice.offer_unreliable(slide.result.var)
    small = [name for name in dict.fromkeys(named) if name and name not in names]
    if small:
        st.caption(
            f"Not compared, with fewer than {LEAST_TILES} tiles: {controls.escaped(some_of(small, _MOST_NAMED))}. A "
            "tile is in a region that covers half of it."
        )
    with controls.part(f"{controls.escaped(one)} against {controls.escaped(other or _REST_TOLD)}"):
        _show_table(slide, groups, one, other)
    with controls.part("One gene in all of them"):
        gene = gene_choice.choose_one(slide.result.var, slide.weights)
        links.write(view=VIEW, gene=gene)
        figure = class_boxes(slide.result, gene, groups, _colors(regions.kept(slide)), f"no {kind}")
        chart.show(
            figure,
            key=f"boxes of {slide.key}",
            alt=f"{gene} in {len(counts)} groups of tiles and outside of them, {unit_of(gene)}",
            file_name=f"{tile_selection.file_stem(slide, [gene])}_regions",
        )
        st.caption(
            "Boxes reach from the lower to the upper quartile; the line inside is the median, the dashed one the mean. "
            f"Fewer than {LEAST_BOXED} tiles are drawn as dots. After each name stands how many tiles it has."
        )
        downloads.report(slide, [gene], regions.kept(slide))


def _show_table(slide: state.SessionSlide, groups: np.ndarray, one: str, other: str) -> None:
    inside, stem = groups == one, controls.file_stem(slide)
    among = np.ones(len(groups), bool) if other == REST else inside | (groups == other)
    with controls.shown_errors():
        table = _compared(slide.run, inside.tobytes(), among.tobytes(), slide.result, inside, among)
        names = [controls.escaped(name) for name in (one, other or _REST_TOLD)]
        told = f"{inside.sum():,} tiles in {names[0]}, {(among & ~inside).sum():,} in {names[1]}."
        regions.show_comparison(slide, table, told, ANNOTATION_CAVEAT, key="classes_table", with_interval=True)
        with st.container(horizontal=True):
            downloads.button("Download the comparison (CSV)", lambda: six_digits(table), f"{stem}_comparison.csv")
            downloads.button(
                "Each against the rest (CSV)",
                lambda: six_digits(compare_classes(slide.result, groups)),
                f"{stem}_regions.csv",
            )


def _groups(slide: state.SessionSlide) -> tuple[str, np.ndarray, list[str]]:
    """By what the user wishes to compare, "class" or "region": (T,) that of each tile, or none, and of each region."""
    kept = regions.kept(slide)
    classes, names = (slide.result.obs[column].to_numpy(str) for column in ("region_class", "region"))
    has_classes = (classes != "").any()
    if has_classes and controls.choose_one("By", [_CLASSES, _SINGLE], "regions_by") == _CLASSES:
        return "class", classes, [region.class_name for region in kept]
    return "region", names, [region.name for region in kept]


def _colors(kept: tuple[Region, ...]) -> dict[str, str]:
    return {name: color_of(region) for region in kept for name in (region.name, region.class_name) if name}


@st.cache_data(max_entries=8, scope="session", show_spinner="Comparing the regions")
def _compared(run: str, sides: bytes, taken: bytes, _result, _inside: np.ndarray, _among: np.ndarray) -> pd.DataFrame:
    result = _result if _among.all() else _result[_among]
    return compare_region(result, _inside[_among])
