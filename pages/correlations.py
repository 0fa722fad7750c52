"""Correlations: which genes go together, and how predictions agree with measurement."""

import streamlit as st

from nsl.web import controls, links, runs
from nsl.web.correlations import gene_pairs, measured_agreement

WITH_EACH_OTHER, AGAINST_MEASUREMENT = "Genes with each other", "Against measurement"

links.enter()

heading = controls.heading("Correlations")

slide = runs.predicted_slide()
controls.cautions(slide, heading)
what = st.segmented_control(
    "What is correlated",
    [WITH_EACH_OTHER, AGAINST_MEASUREMENT],
    default=WITH_EACH_OTHER,
    required=True,
    key="correlated_with",
    persist_state="session",
    label_visibility="collapsed",
)
if what == WITH_EACH_OTHER:
    gene_pairs.show(slide)
else:
    measured_agreement.show(slide)
