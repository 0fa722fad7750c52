"""Compare: two to four genes side by side, one less another, two in one map; one gene on two slides; regions."""

from nsl.web import controls, links, runs
from nsl.web.compare import gene_comparison, region_classes, slide_comparison

links.enter()

heading = controls.heading("Compare genes")

slide = runs.predicted_slide()
mode = gene_comparison.choose_mode()
if mode == gene_comparison.ACROSS:
    slide_comparison.show(slide)
else:
    controls.cautions(slide, heading)
    if mode == gene_comparison.REGIONS:
        region_classes.show(slide)
    else:
        gene_comparison.compare_genes(slide, mode)
