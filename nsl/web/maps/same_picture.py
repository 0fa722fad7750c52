"""How many other genes draw the picture that a map shows, and the way to one that draws another."""

import anndata
import pandas as pd
import streamlit as st

from nsl.result import map_of
from nsl.signatures import PREFIX
from nsl.stats.correlation import SAME_R, correlations_with
from nsl.web import controls
from nsl.web.session import state
from nsl.weights.reliability import has_held_up


def tell(slide: state.SessionSlide, gene: str) -> None:
    """What of the map is the gene's own: how many that held up draw the same, and which differs most."""
    if map_of(slide.result, gene).std() == 0:
        st.warning(
            "**No prediction**: the map is the same everywhere on this slide, as none of its colours moves the gene's "
            "weights.",
            icon=":material/do_not_disturb_on:",
        )
        return
    others = _others(slide.run, gene, slide.result)
    if len(others) < 2:
        return
    same = int((others.abs() >= SAME_R).sum())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{same:,} of the {len(others):,} other reliable and weak genes {'draws' if same == 1 else 'draw'} this "
            f"same picture here, or its reverse (r over {SAME_R:g}): the map shows a pattern of the tissue that they "
            "share.",
            width="stretch",
        )
        differs = others.abs().idxmin()
        st.button(
            f"Most different: {controls.escaped(differs)}",
            help=f"Of the reliable and weak genes, {controls.escaped(differs)} has the map least like this one.",
            on_click=_look_at,
            args=[differs],
            icon=":material/contrast:",
        )


def _look_at(gene: str) -> None:
    st.session_state["gene"] = gene


@st.cache_data(max_entries=8, scope="session", show_spinner=False)
def _others(run: str, gene: str, _result: anndata.AnnData) -> pd.Series:
    """r of the map with those of all other genes that held up; without what is the same everywhere."""
    r = correlations_with(_result, gene)
    is_gene = ~r.index.str.startswith(PREFIX)
    return r[has_held_up(_result.var) & is_gene].drop(gene, errors="ignore").dropna()
