"""How many other genes draw the picture that a map shows, and the way to one that draws another."""

import streamlit as st

from nsl.result import values_of
from nsl.stats.correlation import SAME_R
from nsl.stats.pearson import is_flat
from nsl.web import controls, gene_choice, patterns
from nsl.web.session import state


def tell(slide: state.SessionSlide, gene: str) -> None:
    """What of the map is the gene's own: how many that held up draw the same, and which differs most."""
    if is_flat(values_of(slide.result, [gene]))[0]:
        st.warning(
            "**No prediction**: the map is the same everywhere on this slide, as none of its colours moves the gene's "
            "weights.",
            icon=":material/do_not_disturb_on:",
        )
        return
    others = patterns.others(slide.run, gene, slide.result)
    if len(others) < 2:
        return
    same = int((others.abs() >= SAME_R).sum())
    with st.container(horizontal=True, vertical_alignment="center"):
        shared = ": the map shows a pattern of the tissue that they share" if same else ""
        number = f"{same:,}" if same else "None"
        st.caption(
            f"{number} of the {len(others):,} other reliable and weak genes {'draw' if same > 1 else 'draws'} this "
            f"same picture here, or its reverse (r over {SAME_R:g}){shared}.",
            width="stretch",
        )
        differs = patterns.most_different(slide, gene)
        st.button(
            f"Most different: {controls.escaped(differs)}",
            help=f"Of the reliable and weak genes, {controls.escaped(differs)} has the map least like this one.",
            on_click=gene_choice.look_at,
            args=[differs],
            icon=":material/contrast:",
        )
