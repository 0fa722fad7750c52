"""About: the weights in use and how far to trust them, the method, limits, privacy, citation, versions."""

import streamlit as st

from nsl.web import controls, links
from nsl.web.about import program, weights_card

READING_WIDTH_PX = 860

links.enter()

with st.container(width=READING_WIDTH_PX):
    controls.heading("About")
    program.show_purpose()

    weights = weights_card.weights_in_use()
    weights_card.show_training(weights)
    weights_card.show_reliability(weights)
    weights_card.show_card(weights)
    program.show_method()
    weights_card.show_evaluation(weights)
    program.show_limits(weights)
    program.show_privacy()
    program.show_citation(weights)
    program.show_versions(weights)
