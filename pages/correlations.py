"""Correlations: Which genes go together, and how predictions agree with measurement."""

import streamlit as st

from nsl.web import navigation

navigation.enter()

st.title("Correlations")
