"""A region drawn on the map, against the rest of the slide."""

import json

import numpy as np
import pandas as pd
import streamlit as st

from nsl.numerals import six_digits
from nsl.result import centers_mm
from nsl.stats.regions import REGION_CAVEAT, compare_region, points_inside
from nsl.web import controls, downloads, state
from nsl.weights.reliability import is_reliable

_COLUMNS = {
    "gene": st.column_config.TextColumn("Gene"),
    "effect_size": st.column_config.NumberColumn(
        "Effect", format="%.2f", help="Difference of the means in standard deviations (Cohen's d)"
    ),
    "q_value": st.column_config.NumberColumn(
        "q", format="%.2g", help="False discovery rate; neighbouring tiles count for what they tell"
    ),
    "mean_inside": st.column_config.NumberColumn("Inside", format="%.2f"),
    "mean_outside": st.column_config.NumberColumn("Outside", format="%.2f"),
    "r_heldout": st.column_config.NumberColumn("Held-out r", format="%.2f"),
}


def show(slide: state.SessionSlide) -> pd.DataFrame | None:
    """The region's mean per gene against the rest, with effect size and q-value; returns it where there is one."""
    with controls.part("Region"):
        region = slide.marks.region
        if region is None:
            st.caption("Choose the box or the lasso above the map and draw: the region is compared with the rest.")
            return None
        controls.offer_removal("Clear the region", setattr, slide.marks, "region", None)
        with controls.shown_errors():
            inside = points_inside(centers_mm(slide.result), region)
            table = _compared(slide.run, json.dumps(region), slide.result, inside)
            _show_table(slide, table, inside)
            return table
        return None


@st.cache_data(max_entries=8, scope="session", show_spinner="Comparing the region with the rest")
def _compared(run: str, region: str, _result, _inside: np.ndarray) -> pd.DataFrame:
    return compare_region(_result, _inside)


def _show_table(slide: state.SessionSlide, table: pd.DataFrame, inside: np.ndarray) -> None:
    reliable = is_reliable(slide.result.var.loc[table.index])
    shown = table[reliable] if reliable.any() and not st.session_state.get("unreliable_genes") else table
    st.caption(
        f"{inside.sum():,} tiles inside, {(~inside).sum():,} outside. {len(shown):,} "
        f"{'reliable ' if len(shown) < len(table) else ''}genes, the largest effect first."
    )
    st.dataframe(
        shown.reset_index()[list(_COLUMNS)], hide_index=True, height=280, column_config=_COLUMNS, key="region_table"
    )
    st.caption(REGION_CAVEAT)
    name = f"{controls.file_stem(slide)}_region.csv"
    downloads.button("Download the comparison (CSV)", lambda: six_digits(table), name)
