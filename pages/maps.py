"""Maps: one gene's predicted expression over the H&E, a tile's tissue, a region against the rest."""

import streamlit as st

from nsl.web import controls, downloads, genes, mapping, navigation, needs, regions, tile_view

navigation.enter()

heading = controls.heading("Expression maps")

slide = needs.predicted_slide()
controls.cautions(slide, heading)
genes.follow_link(slide.result)
with st.container(horizontal=True):
    gene = genes.choose_one(slide.result, slide.weights)
    style = mapping.choose_style(slide.result, gene)
genes.show_reliability(slide.result, gene)

wide, narrow = controls.side_by_side(wide_first=True)
with wide:
    mapping.show_map(slide, gene, style)
    mapping.show_numbers(slide.result, gene)
with narrow:
    tile_view.show(slide, gene)
    region = regions.show(slide)
with st.container(horizontal=True):
    downloads.tables(
        slide,
        genes=tile_view.genes_read(slide, gene),
        extra=lambda: downloads.of_page(slide, gene, style, region),
    )
    downloads.of_gene(slide, gene, style)
mapping.offer_fine_map(slide, gene, style)
