"""NSL: expression maps from the colour of routine H&E. Start with `streamlit run app.py`."""

import streamlit as st

from nsl.web import controls, navigation, session, sources

st.set_page_config(page_title="NSL · expression maps from H&E", page_icon=controls.favicon(), layout="wide")

page = navigation.navigate()
sources.begin()
sources.collect()
session.collect_result()
if controls.sidebar():
    page.run()
    sources.start()
    session.warm_up()
