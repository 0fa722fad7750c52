"""NSL: expression maps from the colour of routine H&E. Start with `streamlit run app.py`."""

import streamlit as st

from nsl.web import controls, links, navigation, pace, sources, state

st.set_page_config(page_title="NSL · expression maps from H&E", page_icon=controls.favicon(), layout="wide")

controls.compact()
page = navigation.navigate()
links.remember()
sources.begin()
sources.collect()
state.collect_results()
if controls.sidebar():
    # Before the page: one that has nothing to show yet ends the script.
    sources.start()
    page.run()
    pace.warm_up()
