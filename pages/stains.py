"""Learned stains: which two colours a gene's model looks for, and what it makes of them."""

from nsl.web import controls, links
from nsl.web.stains import all_genes, gene_stains, slide_stains, tissue_region

links.enter()

heading = controls.heading("Learned stains")

view = gene_stains.look(heading)
slide_stains.show(view)
gene = gene_stains.choose_gene(view)
gene_stains.show_numbers(view, gene)
gene_stains.show_vectors(view, gene)
gene_stains.show_effects(view, gene)
gene_stains.show_response(view, gene)
tissue_region.show(view, gene)
all_genes.show_all(view, gene)
all_genes.show_table(view)
all_genes.offer_qupath(view, gene)
