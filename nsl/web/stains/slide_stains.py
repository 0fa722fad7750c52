"""The first part of the Stains page: how the slide is stained, and how the model sees it."""

import streamlit as st

from nsl.figures import swatches
from nsl.result import transfer_in_words
from nsl.web.stains.gene_stains import View, show_rows

_NAMES = ("hematoxylin", "eosin")


def show(view: View) -> None:
    """The slide's own stains beside those of the weights, in words and as colours."""
    if view.slide is None:
        return
    st.subheader("This slide's stains")
    known = view.slide.provenance
    st.markdown(transfer_in_words(view.slide.result))
    shown = {}
    for stain, own, target in zip(_NAMES, known.slide_stain_vectors, known.transfer_target, strict=True):
        shown[f"this slide's {stain}"] = own
        if known.is_transferred:
            shown[f"{stain} that the weights know"] = target
    show_rows(
        swatches(shown, view.white_point),
        "slide_swatches",
        "Colours of this slide's stains beside those that the weights know, from 0 to 2 optical density",
    )
