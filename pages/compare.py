"""Compare genes: two to four side by side, one less another, two in one map; or one gene on two slides."""

import streamlit as st

from nsl.web import across, comparing, controls, navigation, needs

navigation.enter()

st.title("Compare genes")

slide = needs.predicted_slide()
mode = comparing.choose_mode()
if mode == comparing.ACROSS:
    across.show(slide)
else:
    controls.synthetic_badge(slide)
    controls.result_warnings(slide)
    comparing.compare_genes(slide, mode)
