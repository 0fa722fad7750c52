"""Slides of a cohort that are stained unlike the others."""

import anndata
import streamlit as st

from nsl.cohort.stain_outliers import LEAST_DEGREES, LEAST_SLIDES, LEAST_TIMES, stain_outliers
from nsl.web import controls

_COLUMNS = {
    "name": st.column_config.TextColumn("Slide"),
    "hematoxylin_degrees": st.column_config.NumberColumn("Hematoxylin, colour off by", format="%.0f°"),
    "hematoxylin_times": st.column_config.NumberColumn("Hematoxylin, strength", format="%.2f×"),
    "eosin_degrees": st.column_config.NumberColumn("Eosin, colour off by", format="%.0f°"),
    "eosin_times": st.column_config.NumberColumn("Eosin, strength", format="%.2f×"),
}


def show(slides: anndata.AnnData) -> None:
    """Which slides stand out by their stains, in words, and the figures of all."""
    table = stain_outliers(slides.obs)
    with controls.part("Stains"):
        if len(slides) < LEAST_SLIDES:
            st.caption(f"With fewer than {LEAST_SLIDES} slides none can be told to be unlike the others.")
        elif not table.is_outlier.any():
            st.markdown(
                "No slide is stained unlike the others: none is further from the middle of the cohort than slides of "
                f"one laboratory are ({LEAST_DEGREES[0]:.0f}° in hematoxylin, {LEAST_DEGREES[1]:.0f}° in eosin, "
                f"{LEAST_TIMES:g} times as strong)."
            )
        for name, row in table[table.is_outlier].iterrows():
            st.warning(
                f"**{controls.escaped(str(name))}**: {row.why}. Its values may differ for that reason.",
                icon=":material/palette:",
            )
        with st.expander("The stains of all slides"):
            controls.show_table(
                table.reset_index(names="name")[list(_COLUMNS)],
                _COLUMNS,
                height="auto",
                alt="How far each slide's stains are from the usual ones of the cohort",
            )
            st.caption(
                "Beside the middle of the cohort: how far the colour of each stain is off, as an angle between stain "
                "vectors, and how strong the stain is. Stains are brought to those that the weights know before a "
                "slide is predicted; what is left of a difference grows with how large it was."
            )
