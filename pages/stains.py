"""Stains: a region as its stains make it up and as a gene's model reads it; behind, the numbers that do so."""

import streamlit as st

from nsl.web import controls, links
from nsl.web.stains import all_genes, gene_stains, slide_stains, tissue_region

links.enter()

heading = controls.heading("Learned stains")

view = gene_stains.look()
row = st.container(horizontal=True, vertical_alignment="bottom")
gene = gene_stains.choose_gene(view, row)
region = tissue_region.choose(view, gene, row)
gene_stains.tell_trust(view, gene, heading)
if region:
    tissue_region.show(view, gene, region)

colours = {
    "The two colours it reads": lambda: gene_stains.show_vectors(view, gene),
    "From colour to expression": lambda: gene_stains.show_response(view, gene),
}
numbers = {
    "The 11 numbers": lambda: gene_stains.show_numbers(view, gene),
    "Effects": lambda: gene_stains.show_effects(view, gene),
    "All genes": lambda: all_genes.show_all(view, gene),
    "All vectors": lambda: all_genes.show_table(view),
    "In QuPath": lambda: all_genes.offer_qupath(view, gene),
}
if view.slide is None:
    for title, show in colours.items():
        st.subheader(title)
        show()
else:
    numbers = {"This slide's stains": lambda: slide_stains.show(view, region)} | colours | numbers
gene_stains.show_when_opened(numbers)
