"""Which pages there are, and how each makes sure that it is shown inside the app."""

import streamlit as st
from streamlit.navigation.page import Page

from nsl.web import state


def navigate() -> Page:
    """Set up the navigation; returns the page to run."""
    state.put("inside_app", True)
    page = st.navigation(
        [
            st.Page("pages/predict.py", title="Predict", icon=":material/play_circle:", default=True),
            st.Page("pages/maps.py", title="Maps", icon=":material/map:"),
            st.Page("pages/compare.py", title="Compare", icon=":material/compare:"),
            st.Page("pages/stains.py", title="Stains", icon=":material/palette:"),
            st.Page("pages/correlations.py", title="Correlations", icon=":material/grid_on:"),
            st.Page("pages/train.py", title="Train", icon=":material/model_training:"),
            st.Page("pages/about.py", title="About", icon=":material/info:"),
        ]
    )
    if page.url_path != state.get("page"):
        state.put("page", page.url_path)
        state.put("typed", {})
    return page


def enter() -> None:
    """Called first by every page: start over through app.py where it was left out.

    Streamlit takes a folder named `pages` for its older kind of multipage app until the first call of
    `st.navigation`, so that a server's very first visitor, if sent to a page's own address, gets the bare page.
    """
    if not state.get("inside_app"):
        navigate()
        st.rerun()
