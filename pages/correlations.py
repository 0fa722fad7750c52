"""Correlations: which genes go together, and how predictions agree with measurement."""

import streamlit as st

from nsl.web import controls, links, runs
from nsl.web.correlations import gene_pairs, measured_agreement

WITH_EACH_OTHER, AGAINST_MEASUREMENT = "Genes with each other", "Against measurement"

links.enter()

heading = controls.heading("Correlations")

slide = runs.predicted_slide()
controls.cautions(slide, heading)
with st.container(horizontal=True, vertical_alignment="center"):
    what = controls.choose_one(
        "What is correlated",
        [WITH_EACH_OTHER, AGAINST_MEASUREMENT],
        "correlated_with",
        label_visibility="collapsed",
    )
    listing = controls.listing_part() if what == WITH_EACH_OTHER else None
if what == WITH_EACH_OTHER:
    gene_pairs.show(slide, listing)
else:
    measured_agreement.show(slide)
