"""Compare: two to four genes side by side, one less another, two in one map; one gene on two slides; regions."""

import streamlit as st

from nsl.web import controls, links, runs
from nsl.web.compare import gene_comparison, region_classes, slide_comparison

links.enter()

heading = controls.heading("Compare genes")

slide = runs.predicted_slide()
with st.container(horizontal=True, vertical_alignment="center"):
    mode = gene_comparison.choose_mode()
    display = controls.display_part() if mode != gene_comparison.REGIONS else None
if mode == gene_comparison.ACROSS:
    slide_comparison.show(slide, display)
else:
    controls.cautions(slide, heading)
    if mode == gene_comparison.REGIONS:
        region_classes.show(slide)
    else:
        gene_comparison.compare_genes(slide, mode, display)
