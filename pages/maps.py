"""Maps: one gene's predicted expression over the H&E, a tile's tissue, a region against the rest."""

import streamlit as st

from nsl.web import controls, downloads, gene_choice, links, runs
from nsl.web.maps import finer_map, gene_map, region_comparison, same_picture, tile_view

links.enter()

heading = controls.heading("Expression maps")

slide = runs.predicted_slide()
table, protocol = slide.result.var, slide.weights.config.reliability
gene_choice.follow_link(table)
with st.container(horizontal=True, vertical_alignment="bottom"):
    gene = gene_choice.choose_one(table, slide.weights)
    style = gene_map.choose_style(slide.result, gene)
with controls.cautions(slide, heading, gene_choice.reliability_in_short(table, gene, protocol)):
    gene_choice.show_reliability(table, gene, protocol)

wide, narrow = controls.side_by_side(wide_first=True)
with wide:
    gene_map.show_map(slide, gene, style)
    same_picture.tell(slide, gene)
    gene_map.show_numbers(slide, gene)
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
