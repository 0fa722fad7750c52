"""Maps: one gene's predicted expression over the H&E."""

import streamlit as st

from nsl.web import controls, mapping, navigation, session

navigation.enter()

st.title("Expression maps")

finished, slide = session.get("finished"), session.get("slide")
if session.is_running():
    controls.watch_job()
if finished is None:
    mapping.explain_empty(slide)
    st.stop()

result = finished.result
controls.synthetic_badge(slide)
controls.stain_warning(result)
with st.container(horizontal=True):
    gene = mapping.choose_gene(result)
    style = mapping.choose_style(result, gene)
mapping.offer_unreliable(result)
mapping.show_reliability(result, gene)
mapping.show_map(result, gene, style)
mapping.show_numbers(result, gene)
with st.container(horizontal=True):
    controls.download_csv(result, slide)
    mapping.download_gene(result, gene, slide)
