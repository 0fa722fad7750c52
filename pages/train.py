"""Train: the user's own measured sections, what is wrong with them, a fit, and how far to trust it."""

import streamlit as st

from nsl.web import controls, navigation, paired, section_checks, trained, training

navigation.enter()

controls.heading("Train on your own sections")
st.markdown("Bring sections whose spots were measured, look at the checks, and fit weights to them.")

choose, look = controls.side_by_side()
with choose:
    training.add_section()
    sections = paired.sections()
    plan = training.settings(sections)
    trained.run(plan)
with look:
    trained.show()
    if sections:
        section_checks.show(sections)
    else:
        training.explain()
