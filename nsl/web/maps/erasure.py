"""Tiles erased from the map by hand, and restored."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from nsl.errors import NslError
from nsl.result import BY_HAND, left_out, tile_beside
from nsl.web import controls
from nsl.web.session import state


@dataclass
class Erasure:
    """What is to be said of the last try."""

    error: str | None = None


def offer_tile(slide: state.SessionSlide) -> None:
    """A button that erases the tile looked at; the one beside it is looked at then."""
    st.button("Erase this tile", on_click=_erase_tile, args=[slide], icon=":material/ink_eraser:", type="tertiary")


def offer_region(slide: state.SessionSlide, tiles: Sequence[str]) -> None:
    """A button that erases the tiles of the region drawn."""
    label = f"Erase its {len(tiles):,} tiles" if len(tiles) > 1 else "Erase its tile"
    st.button(label, on_click=_erase, args=[slide, tiles], icon=":material/ink_eraser:", type="tertiary")


def _erase_tile(slide: state.SessionSlide) -> None:
    tile = slide.marks.tile
    ways = ((1, 0), (-1, 0), (0, 1), (0, -1))
    beside = next((other for way in ways if (other := tile_beside(slide.result, tile, *way)) != tile), None)
    if _erase(slide, [tile]):
        slide.marks.tile = beside


def _erase(slide: state.SessionSlide, tiles: Sequence[str]) -> bool:
    try:
        slide.erase(tiles)
        return True
    except NslError as error:
        slide.of_slide(Erasure).error = str(error)
        return False


def show(slide: state.SessionSlide) -> None:
    """How many tiles were left out and why, with a way to take back those that were erased."""
    held = slide.of_slide(Erasure)
    if held.error:
        controls.show_error(held.error)
        held.error = None
    if not left_out(slide.result):
        return
    by_checks = sum(slide.provenance.left_out.values()) - slide.provenance.left_out.get(BY_HAND, 0)
    st.caption(
        f"{left_out(slide.result)}.",
        help="Tiles that the checks left out were not predicted. To have them, switch “Checks of quality” "
        "off on Predict and run again; those that you do not want can then be erased here."
        if by_checks
        else None,
    )
    if not slide.erased:
        return
    last, every = len(slide.erased[-1]), sum(map(len, slide.erased))
    with st.container(horizontal=True):
        look = {"icon": ":material/undo:", "type": "tertiary"}
        if last < every:
            st.button(f"Restore the last {last:,}", on_click=slide.restore, kwargs={"last_only": True}, **look)
        st.button(f"Restore all {every:,} erased", on_click=slide.restore, **look)
