"""The tile that was clicked: its tissue, its values, its stains."""

import pandas as pd
import streamlit as st

from nsl.errors import NslError
from nsl.prediction import Patch, patch
from nsl.result import map_of, percentile_of, tile_beside
from nsl.signatures import EXPRESSION_UNIT, SCORE_UNIT, is_signature, spoken
from nsl.web import controls, gene_choice
from nsl.web.maps import erasure
from nsl.web.session import state
from nsl.weights.interpretation import tile_concentrations

_STEPS = {"←": ("to the left", -1, 0), "↑": ("up", 0, -1), "↓": ("down", 0, 1), "→": ("to the right", 1, 0)}


def step_to(slide: state.SessionSlide, columns: int, rows: int) -> None:
    """Look at the tile beside the one looked at."""
    slide.marks.tile = tile_beside(slide.result, slide.marks.tile, columns, rows)


def genes_read(slide: state.SessionSlide, gene: str) -> list[str]:
    """The gene of the map and those followed, as far as they were predicted."""
    followed = st.session_state.get("followed") or []
    return [gene, *(other for other in followed if other != gene and other in slide.result.var_names)]


def show(slide: state.SessionSlide, gene: str) -> None:
    """The clicked tile's H&E, the values of the genes followed, and its concentrations of the gene's learned stains."""
    with controls.part("Tile"):
        st.caption(f"Click a tile on the map, type its name, or take one by its {controls.escaped(spoken(gene))}:")
        _offer_tiles(slide, gene)
        tile = slide.marks.tile
        if tile is None:
            return
        try:
            tissue = _patch(slide.run, tile, slide)
        except NslError as error:
            controls.show_error(slide.by_users_name(str(error)))
            return
        _show_tissue(slide, tile, tissue)
        erasure.offer_tile(slide)
        followed = gene_choice.choose_some(
            slide.result.var, slide.weights, key="followed", label="Genes to read here", most=12, default=4
        )
        _show_values(slide, tile, list(dict.fromkeys([gene, *followed])))
        if not is_signature(gene):
            _show_stains(slide, gene, tissue)


def _offer_tiles(slide: state.SessionSlide, gene: str) -> None:
    values, names = map_of(slide.result, gene), slide.result.obs_names
    with st.container(horizontal=True):
        for label, row in (("Highest", values.argmax()), ("Lowest", values.argmin())):
            st.button(label, on_click=setattr, args=[slide.marks, "tile", names[row]])
        for sign, (way, *step) in _STEPS.items():
            st.button(sign, on_click=step_to, args=[slide, *step], help=f"The next tile {way}")
        box = st.text_input(
            "Name of a tile",
            placeholder=slide.marks.tile or names[len(names) // 2],
            max_chars=40,
            key=f"tile of {slide.run}",
            on_change=_take_typed,
            args=[slide],
            label_visibility="collapsed",
            width=120,
        )
    typed = state.typed_text(box).strip()
    if typed and typed not in names:
        controls.show_error(
            f"there is no tile {typed} on this map; the CSV names all {len(names):,}, such as {names[0]}"
        )


def _take_typed(slide: state.SessionSlide) -> None:
    typed = state.typed_text(st.session_state[f"tile of {slide.run}"]).strip()
    if typed in slide.result.obs_names:
        slide.marks.tile = typed


@st.cache_data(max_entries=16, scope="session", show_spinner="Reading the tile")
def _patch(run: str, tile: str, _slide: state.SessionSlide) -> Patch:
    with _slide.open() as opened:
        return patch(opened, _slide.result, tile)


def _show_tissue(slide: state.SessionSlide, tile: str, tissue: Patch) -> None:
    place, side_um = slide.result.obs.loc[tile], slide.provenance.tile_um
    st.image(tissue.rgb, width="stretch", output_format="PNG", alt=f"H&E of tile {tile}, {side_um:g} µm wide")
    st.caption(
        f"Tile {tile}: {side_um:g} µm wide at {tissue.mpp:.3g} µm/px, centre x {place.x_um / 1000:.2f} mm, "
        f"y {place.y_um / 1000:.2f} mm, {place.tissue_fraction:.0%} tissue"
    )


def _show_values(slide: state.SessionSlide, tile: str, chosen: list[str]) -> None:
    result = slide.result
    row = result.obs_names.get_loc(tile)
    table = pd.DataFrame(
        {
            "Gene": controls.in_table(pd.Series(chosen)),
            "Value": [float(map_of(result, gene)[row]) for gene in chosen],
            "Percentile": [percentile_of(result, gene, tile) for gene in chosen],
            "Held-out r": result.var.r_heldout[chosen].to_numpy(),
        }
    )
    number = st.column_config.NumberColumn
    columns = {
        "Value": number(format="%.2f", help=f"Genes: {EXPRESSION_UNIT}; signatures: {SCORE_UNIT}"),
        "Percentile": number(format="%.0f", help="Among the tiles of this slide"),
        "Held-out r": number(format="%.2f"),
    }
    controls.show_table(table, columns, alt="What the tile holds")


def _show_stains(slide: state.SessionSlide, gene: str, tissue: Patch) -> None:
    made = slide.provenance
    model = slide.weights.model.select([gene]).transferred(made.transfer)
    hematoxylin, eosin = tile_concentrations(model, gene, tissue.analysed, made.white_point)
    st.caption(f"MEAN CONCENTRATION OF THE STAINS LEARNED FOR {controls.escaped(gene)}")
    with st.container(horizontal=True):
        st.metric("Hematoxylin-like", f"{hematoxylin:.2f}", width=120)
        st.metric("Eosin-like", f"{eosin:.2f}", width=120)
