"""Pieces of the interface that pages share."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from nsl.errors import NslError
from nsl.web import session

RESEARCH_ONLY = "For research use only; not a diagnostic device."


def sidebar() -> None:
    """Weights in use, the slide at hand, and what the app is not for."""
    from nsl.weights import load_config

    with st.sidebar, shown_errors():
        config = load_config()
        data = config["training_data"]
        st.caption("WEIGHTS")
        st.markdown(f"**{config['name']}** · {len(config['genes']):,} genes")
        st.caption(
            f"Embedded. Learned from {data['spots']:,} spots of {data['patients']} patients with HER2-positive "
            "breast cancer."
        )
        st.caption("SLIDE")
        slide = session.get("slide")
        if slide is None:
            st.caption("None yet")
        else:
            st.markdown(f"**{_escaped(slide.name)}**")
            result = session.get("result")
            st.caption(f"{result.n_obs:,} tiles predicted" if result is not None else "Not predicted yet")
        st.divider()
        st.caption(RESEARCH_ONLY)


@contextmanager
def shown_errors() -> Iterator[None]:
    """Show what the user can mend as one sentence; everything they had stays."""
    try:
        yield
    except NslError as error:
        show_error(str(error))


def show_error(message: str) -> None:
    """One sentence, begun with a capital."""
    st.error(message[:1].upper() + message[1:], icon=":material/error:")


def synthetic_badge(slide: session.OpenSlide) -> None:
    """Mark the demo slide wherever it appears."""
    if slide.synthetic:
        st.badge("Synthetic: made by this program, not from a patient", icon=":material/science:", color="orange")


def _escaped(text: str) -> str:
    """A user's text as Markdown shows it letter by letter."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()#+-.!|<>$:~" else c for c in text)
