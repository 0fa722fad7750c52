"""A region drawn on the map, against the rest of the slide."""

import json

import numpy as np
import pandas as pd
import streamlit as st

from nsl.errors import NslError
from nsl.numerals import count_of, six_digits
from nsl.slides.annotations.region import LONGEST_NAME
from nsl.stats.regions import REGION_CAVEAT, compare_region
from nsl.web import controls, downloads, regions
from nsl.web.maps import erasure
from nsl.web.session import state

_IN_FILE = "The file holds every gene and signature, the largest effect first."


def show(slide: state.SessionSlide) -> pd.DataFrame | None:
    """The region's mean per gene against the rest, with effect size and q-value; returns it where there is one."""
    with controls.part("Region"):
        region = slide.marks.region
        if region is None:
            st.caption("Choose the box or the lasso beside the map and draw: the region is compared with the rest.")
            _tell_kept(slide)
            return None
        first = st.container(horizontal=True)
        with first:
            controls.offer_removal("Clear the region", setattr, slide.marks, "region", None)
        with controls.shown_errors():
            inside = regions.tiles_drawn(slide, region)
            if 0 < inside.sum() < len(inside):
                with first:
                    erasure.offer_region(slide, slide.result.obs_names[inside])
            _offer_to_keep(slide, region)
            table = _compared(slide.run, json.dumps(region), slide.result, inside)
            told = f"{inside.sum():,} tiles inside, {(~inside).sum():,} outside."
            name = f"{controls.file_stem(slide)}_region.csv"
            regions.show_comparison(slide, table, told, f"{REGION_CAVEAT} {_IN_FILE}", key="region_table")
            downloads.button("Download the comparison (CSV)", lambda: six_digits(table), name)
            return table
        return None


def _offer_to_keep(slide: state.SessionSlide, region: dict) -> None:
    keys = [f"drawn {label} of {slide.run}" for label in ("name", "class")]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for label, key in zip(("Name", "Class"), keys, strict=True):
            st.text_input(label, max_chars=LONGEST_NAME, key=key, width=115)
        st.button("Keep it", on_click=_keep, args=[slide, region, keys], icon=":material/bookmark_add:")
    held = slide.of_slide(regions.SlideRegions)
    if held.error:
        controls.show_error(held.error)
        held.error = None


def _keep(slide: state.SessionSlide, region: dict, keys: list[str]) -> None:
    """Under the names typed, which this run of the page need not have seen yet."""
    try:
        regions.keep_drawn(slide, region, *(state.typed_text(st.session_state.get(key)) for key in keys))
        slide.marks.region = None
    except NslError as error:
        slide.of_slide(regions.SlideRegions).error = str(error)


def _tell_kept(slide: state.SessionSlide) -> None:
    number = len(regions.kept(slide))
    if number:
        st.caption(f"{count_of(number, 'region')} {'is' if number == 1 else 'are'} kept, outlined on the map.")
        look = {"label": "Compare it" if number == 1 else "Compare them", "icon": ":material/compare:"}
        st.page_link("pages/compare.py", query_params={"view": "regions", "from": "maps"}, **look)


@st.cache_data(max_entries=8, scope="session", show_spinner="Comparing the region with the rest")
def _compared(run: str, region: str, _result, _inside: np.ndarray) -> pd.DataFrame:
    return compare_region(_result, _inside)
