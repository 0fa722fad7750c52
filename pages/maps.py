"""Maps: one gene's predicted expression over the H&E."""

import streamlit as st

from nsl.web import controls, mapping, navigation, session

navigation.enter()

st.title("Expression maps")

finished, slide = session.get("finished"), session.get("slide")
if finished is None:
    mapping.explain_empty(slide)
    st.stop()

result = finished.result
controls.synthetic_badge(slide)
choose, look = st.columns([1, 3], gap="large")
with choose:
    gene = mapping.choose_gene(result)
    style = mapping.choose_style(result, gene)
    controls.download_csv(result, slide)
with look:
    mapping.show_map(result, gene, style)
    mapping.show_numbers(result, gene)
