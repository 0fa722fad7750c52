"""How the slide is stained, beside what the weights know, and what bringing one to the other does to a region."""

from nsl.figures.stains import swatches
from nsl.stains import STAIN_NAMES
from nsl.web.stains import tissue_region
from nsl.web.stains.gene_stains import View, show_rows


def show(view: View, region: tissue_region.Region | None) -> None:
    """The slide's own stains beside those of the weights as colours, and a region in both."""
    known = view.slide.provenance
    shown = {}
    for stain, own, target in zip(STAIN_NAMES, known.slide_stain_vectors, known.transfer_target, strict=True):
        shown[f"this slide's {stain}"] = own
        if known.is_transferred:
            shown[f"{stain} that the weights know"] = target
    show_rows(
        swatches(shown, view.white_point),
        "slide_swatches",
        "Colours of this slide's stains beside those that the weights know, from 0 to 2 optical density",
    )
    if region and known.is_transferred:
        tissue_region.show_transfer(view, region)
