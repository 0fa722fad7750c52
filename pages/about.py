"""About: What this program is."""

import streamlit as st

from nsl.web import navigation

navigation.enter()

st.title("About")
