"""NSL: expression maps from the colour of routine H&E. Start with `streamlit run app.py`."""

import streamlit as st

from nsl.web import controls, links, runs, sidebar, sources
from nsl.web.session import state

st.set_page_config(page_title="NSL · expression maps from H&E", page_icon=controls.favicon(), layout="wide")

controls.compact()
page = links.navigate()
links.remember()
sources.begin()
sources.collect()
with state.looking():
    state.collect_results()
    if sidebar.show():
        # Before the page: one that has nothing to show yet ends the script.
        sources.start()
        page.run()
        runs.warm_up()
