"""Train on your own sections: Weights from your own measured sections."""

import streamlit as st

from nsl.web import navigation

navigation.enter()

st.title("Train on your own sections")
