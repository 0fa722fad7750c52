"""About: the weights in use and how far to trust them, the method, limits, privacy, citation, versions."""

import streamlit as st

from nsl.web import about, about_program, controls, navigation

READING_WIDTH_PX = 860

navigation.enter()

with st.container(width=READING_WIDTH_PX):
    controls.heading("About")
    about_program.show_purpose()

    weights = about.weights_in_use()
    about.show_training(weights)
    about.show_reliability(weights)
    about.show_card(weights)
    about_program.show_method()
    about.show_evaluation(weights)
    about_program.show_limits(weights)
    about_program.show_privacy()
    about_program.show_citation(weights)
    about_program.show_versions(weights)
