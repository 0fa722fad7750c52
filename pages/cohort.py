"""Cohort: the slides of a run over many, one gene on all of them, groups compared, stains that stand out."""

import streamlit as st

from nsl.web import controls, gene_choice, links, sources
from nsl.web.cohort import cohort_choice, group_comparison, slide_maps, stains

links.enter()

controls.heading("Cohort")

row = st.container(horizontal=True, vertical_alignment="bottom")
with row:
    cohort = cohort_choice.choose()
if cohort:
    with controls.shown_errors():
        status, slides = cohort_choice.read(cohort)
        if slides is not None:
            gene_choice.follow_link(slides.var)
            with row:
                gene = gene_choice.choose_one(slides.var, sources.in_use())
                style = slide_maps.choose_style()
            links.write(gene=gene)
        cohort_choice.show_status(status, slides)
        if slides is not None:
            slide_maps.show(cohort, slides, gene, style)
            group_comparison.show(cohort, slides, gene)
            stains.show(slides)
