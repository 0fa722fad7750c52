"""Predict: bring a slide, look at its tiles, run, and take the result home."""

import streamlit as st

from nsl.web import bringing, controls, navigation, predicting, session

navigation.enter()

controls.heading("Predict gene expression from H&E")
st.markdown("Bring a stained section, check its scale and tiles, and run.")

choose, look = controls.side_by_side()
with choose:
    bringing.choose_slide()
    slide = session.slide()
    if slide:
        bringing.show_facts(slide)
    settings = predicting.settings(slide) if slide else None
with look:
    if slide is None:
        bringing.explain()
    else:
        predicting.show_result(slide, settings)
        tiles = predicting.show_preview(slide, settings)
if settings:
    with choose:
        predicting.run(slide, settings, tiles)
