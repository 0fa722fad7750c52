"""Maps: one gene's predicted expression over the H&E, a tile's tissue, a region against the rest."""

import streamlit as st

from nsl.web import controls, downloads, gene_choice, links, runs
from nsl.web.maps import finer_map, gene_map, region_comparison, same_picture, tile_view

links.enter()

heading = controls.heading("Expression maps")

slide = runs.predicted_slide()
controls.cautions(slide, heading)
gene_choice.follow_link(slide.result.var)
with st.container(horizontal=True):
    gene = gene_choice.choose_one(slide.result.var, slide.weights)
    style = gene_map.choose_style(slide.result, gene)
gene_choice.show_reliability(slide.result.var, gene, slide.weights.config.reliability)

wide, narrow = controls.side_by_side(wide_first=True)
with wide:
    gene_map.show_map(slide, gene, style)
    same_picture.tell(slide, gene)
    gene_map.show_numbers(slide.result, gene)
with narrow:
    tile_view.show(slide, gene)
    region_table = region_comparison.show(slide)
with st.container(horizontal=True):
    downloads.tables(
        slide,
        genes=tile_view.genes_read(slide, gene),
        extra=lambda: gene_map.files_shown(slide, gene, style, region_table),
    )
    gene_map.offer_files(slide, gene, style)
finer_map.offer_fine_map(slide, gene, style)
