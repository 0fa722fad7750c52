"""NSL: expression maps from the colour of routine H&E. Start with `streamlit run app.py`."""

import streamlit as st

from nsl.web import controls, session

st.set_page_config(page_title="NSL · expression maps from H&E", page_icon=controls.favicon(), layout="wide")

predict = st.Page("pages/predict.py", title="Predict", icon=":material/play_circle:", default=True)
maps = st.Page("pages/maps.py", title="Maps", icon=":material/map:")

page = st.navigation([predict, maps])
session.collect_result()
controls.sidebar()
page.run()
session.warm_up()
