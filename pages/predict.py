"""Predict: bring a slide, look at its tiles, run, and take the result home."""

import streamlit as st

from nsl.web import navigation, predicting, session

navigation.enter()

st.title("Predict gene expression from an H&E image")
st.markdown(
    "Bring a stained section, check its scale and tiles, and run. The image stays on the computer running this app."
)

choose, look = st.columns([2, 3], gap="large")
with choose:
    predicting.choose_slide()
    slide = session.get("slide")
    settings = predicting.settings(slide) if slide else None

    if settings:
        predicting.run(slide, settings)

with look:
    if slide is None:
        predicting.explain()
    else:
        predicting.show_result(slide, settings)
        predicting.show_preview(slide, settings)
