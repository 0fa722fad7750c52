"""A view in the address: gene, colours and range, never a slide; opened anew it comes back with the next slide."""

import streamlit as st

from nsl.web import state

NAMES = ("gene", "genes", "palette", "range", "view", "scale")


def remember() -> None:
    """Keep what the address asks for until a page can show it: a change of page clears the address.

    What a page has written there asks for nothing. It can come back late, when the user has chosen otherwise since.
    """
    asked = {name: st.query_params[name] for name in NAMES if name in st.query_params}
    if asked and frozenset(asked.items()) not in _written():
        state.put("asked", asked)


def asked(name: str) -> str | None:
    """What the link that was opened asks for; it is asked once."""
    return (state.get("asked") or {}).pop(name, None)


def is_waiting() -> bool:
    """Whether a link was opened that no page has shown yet."""
    return bool(state.get("asked"))


def write(**view: str) -> None:
    """Put what the page shows into the address; what a link asked for besides is let go."""
    state.put("asked", {})
    _written().add(frozenset(view.items()))
    if st.query_params.to_dict() != view:
        st.query_params.from_dict(view)


def _written() -> set[frozenset]:
    """Every view that this session has put into the address."""
    if state.get("views_written") is None:
        state.put("views_written", set())
    return state.get("views_written")
