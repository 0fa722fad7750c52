"""Genes whose maps are one picture to the eye: which one of them is listed for all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from nsl.signatures import PREFIX, is_signature
from nsl.web.session import state
from nsl.weights.reliability import has_held_up

if TYPE_CHECKING:
    import anndata
    import pandas as pd

_EVERY = "every_gene"


def representatives(slide: state.SessionSlide, genes: Sequence[str]) -> "pd.Series":
    """Of genes and signatures in order of trust, which one stands for each; of signatures each for itself."""
    import pandas as pd

    own = of_all(slide, [gene for gene in genes if not is_signature(gene)])
    return own.reindex(list(genes)).fillna(pd.Series(genes, index=list(genes)))


def of_all(slide: state.SessionSlide, genes: Sequence[str]) -> "pd.Series":
    """The same with signatures for others too, and others for them."""
    return _standing(slide.run, tuple(genes), slide.result)


@st.cache_data(max_entries=6, scope="session", show_spinner="Looking for genes of one pattern")
def _standing(run: str, genes: tuple[str, ...], _result: "anndata.AnnData") -> "pd.Series":
    from nsl.stats.correlation import standing_for

    return standing_for(_result, genes)


@st.cache_data(max_entries=8, scope="session", show_spinner=False)
def others(run: str, gene: str, _result: "anndata.AnnData") -> "pd.Series":
    """r of a gene's map with those of all other genes that held up; without what is the same everywhere."""
    from nsl.stats.correlation import correlations_with

    r = correlations_with(_result, gene)
    is_gene = ~r.index.str.startswith(PREFIX)
    return r[has_held_up(_result.var) & is_gene].drop(gene, errors="ignore").dropna()


def most_different(slide: state.SessionSlide, gene: str) -> str | None:
    """Which gene that held up has the map least like this one's; None where no other did."""
    r = others(slide.run, gene, slide.result)
    return r.abs().idxmin() if len(r) else None


def are_collapsed() -> bool:
    """Whether lists hold one gene a pattern."""
    return not st.session_state.get(_EVERY, False)


def offer_every(kept: int, of: int) -> None:
    """The switch for genes that draw the same picture as one that is listed."""
    if kept < of or not are_collapsed():
        st.toggle(
            "List every gene, not one a picture",
            key=_EVERY,
            persist_state="session",
            help="Most genes draw one of a few pictures on a slide (r over 0.95, or its reverse). The most reliable of "
            "those that do stands for them; any gene can be typed.",
        )
