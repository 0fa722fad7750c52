"""Learned stains: which two colours a gene's model looks for, and what it makes of them."""

from nsl.web import controls, navigation, stain_genes, stain_region, staining

navigation.enter()

heading = controls.heading("Learned stains")

view = staining.look(heading)
gene = staining.choose_gene(view)
staining.show_numbers(view, gene)
staining.show_vectors(view, gene)
staining.show_effects(view, gene)
staining.show_response(view, gene)
stain_region.show(view, gene)
stain_genes.show_all(view, gene)
stain_genes.show_table(view)
stain_genes.offer_qupath(view, gene)
