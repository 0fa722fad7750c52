"""Cohort: the slides of a run over many, one gene on all of them, groups compared, stains that stand out."""

from nsl.web import controls, gene_choice, links, sources
from nsl.web.cohort import cohort_choice, group_comparison, slide_maps, stains

links.enter()

controls.heading("Cohort")

cohort = cohort_choice.choose()
if cohort:
    with controls.shown_errors():
        status, slides = cohort_choice.read(cohort)
        cohort_choice.show_status(cohort, status, slides)
        if slides is not None:
            gene_choice.follow_link(slides.var)
            gene = gene_choice.choose_one(slides.var, sources.in_use())
            links.write(gene=gene)
            slide_maps.show(cohort, slides, gene)
            group_comparison.show(cohort, slides, gene)
            stains.show(slides)
