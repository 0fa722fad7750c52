"""Train: the user's own measured sections, what is wrong with them, a fit, and how far to trust it."""

import streamlit as st

from nsl.web import controls, links
from nsl.web.train import fit_plan, fit_result, paired_sections, section_checks

links.enter()

controls.heading("Train on your own sections")
st.markdown("Bring sections whose spots were measured, look at the checks, and fit weights to them.")

choose, look = controls.side_by_side()
with choose:
    fit_plan.add_section()
    sections = paired_sections.sections()
    plan = fit_plan.settings(sections)
    fit_result.run(plan)
with look:
    fit_result.show()
    if sections:
        section_checks.show(sections)
    else:
        fit_plan.explain()
