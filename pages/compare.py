"""Compare genes: Two to four genes side by side, or one gene across slides."""

import streamlit as st

from nsl.web import navigation

navigation.enter()

st.title("Compare genes")
