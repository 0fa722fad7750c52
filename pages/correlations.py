"""Correlations: which genes go together, and how predictions agree with measurement."""

from nsl.web import controls, links, runs
from nsl.web.correlations import gene_pairs, measured_agreement

WITH_EACH_OTHER, AGAINST_MEASUREMENT = "Genes with each other", "Against measurement"

links.enter()

heading = controls.heading("Correlations")

slide = runs.predicted_slide()
controls.cautions(slide, heading)
what = controls.choose_one(
    "What is correlated",
    [WITH_EACH_OTHER, AGAINST_MEASUREMENT],
    "correlated_with",
    label_visibility="collapsed",
)
if what == WITH_EACH_OTHER:
    gene_pairs.show(slide)
else:
    measured_agreement.show(slide)
