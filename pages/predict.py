"""Predict: bring a slide, look at its tiles, run, and take the result home."""

import streamlit as st

from nsl.web import controls, links
from nsl.web.predict import prediction_run, slide_choice
from nsl.web.session import state

links.enter()

controls.heading("Predict gene expression from H&E")
st.markdown("Bring a stained section, check its scale and tiles, and run.")

choose, look = controls.side_by_side()
with choose:
    slide_choice.choose_slide()
    slide = state.slide()
    if slide:
        slide_choice.show_facts(slide)
    settings = prediction_run.settings(slide) if slide else None
with look:
    if slide is None:
        slide_choice.explain()
    else:
        # Above the tiles that it is told of, where it is in view on any screen.
        run = st.container()
        prediction_run.show_result(slide, settings)
        tiles = prediction_run.show_preview(slide, settings)
        if settings:
            with run:
                prediction_run.run(slide, settings, tiles)
