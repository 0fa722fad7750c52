"""Compare genes: two to four side by side, one less another, two in one map; or one gene on two slides."""

from nsl.web import controls, links, runs
from nsl.web.compare import gene_comparison, slide_comparison

links.enter()

heading = controls.heading("Compare genes")

slide = runs.predicted_slide()
mode = gene_comparison.choose_mode()
if mode == gene_comparison.ACROSS:
    slide_comparison.show(slide)
else:
    controls.cautions(slide, heading)
    gene_comparison.compare_genes(slide, mode)
