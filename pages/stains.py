"""Learned stains: What the 11 numbers of a gene are."""

import streamlit as st

from nsl.web import navigation

navigation.enter()

st.title("Learned stains")
