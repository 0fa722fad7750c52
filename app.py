"""NSL: expression maps from the colour of routine H&E. Start with `streamlit run app.py`."""

import streamlit as st

from nsl.web import controls, links, navigation, pace, session, sources

st.set_page_config(page_title="NSL · expression maps from H&E", page_icon=controls.favicon(), layout="wide")

controls.compact()
page = navigation.navigate()
links.remember()
sources.begin()
sources.collect()
session.collect_results()
if controls.sidebar():
    try:
        page.run()
    finally:  # a page that has nothing to show yet ends early
        sources.start()
        pace.warm_up()
