"""The part of the Stains page that looks at tissue: where a gene's model sees its two stains in a region."""

from dataclasses import dataclass, field
from typing import NamedTuple

import anndata
import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from nsl.errors import NslError, SlideError
from nsl.export.files import file_part
from nsl.figures.concentrations import concentration_figure
from nsl.figures.maps import expression_map, percentile_limits
from nsl.numerals import signed
from nsl.result import Provenance, SlidePicture, map_of, tile_at, transfer_in_words
from nsl.stain_transfer import paint
from nsl.stains import STAIN_NAMES, is_shown, optical_density
from nsl.tiles import box_sums, pixel_bounds, summed_from_corner
from nsl.web import chart, controls
from nsl.web.session import state
from nsl.web.stains.gene_stains import View
from nsl.weights.interpretation import (
    STAINS,
    amount_images,
    concentration_images,
    stain_amounts,
    tile_concentrations,
    vectors_of,
)

# The longer side of a region is read at so many pixels at most to be seen, and for its means at so many.
_SHOWN_PX, _MEASURED_PX = 640, 2048
_WIDTHS_UM = (300.0, 600.0, 1200.0)
_LEAST_UM = 10.0
_INNER_TISSUE = 0.98
_OVERVIEW_PX, _REGION_PX = 320, 290


@dataclass
class _Seen:
    """What this page has taken up of a result."""

    marks: state.Marks = field(default_factory=state.Marks)
    """Those that it has followed: what is marked anew is looked at."""
    richest_tile: str | None = None  # in hematoxylin


class Region(NamedTuple):
    """A rectangle of a slide, in µm from its top left."""

    left: float
    top: float
    right: float
    bottom: float


class Picture(NamedTuple):
    """A region as it is drawn."""

    rgb: np.ndarray  # (H, W, 3) uint8
    mpp: float


def choose(view: View, gene: str, row: DeltaGenerator) -> Region | None:
    """The region to look at, chosen in the row; None without a slide, or where there is none, which is said."""
    if view.slide is None:
        return None
    with controls.shown_errors(), row:
        return _choose(view, gene)
    return None


def show(view: View, gene: str, region: Region) -> None:
    """The region as its own stains make it up, what the gene's model reads in it, and what that adds up to."""
    try:
        tissue = _picture(view.slide, region)
        st.subheader("The slide's own hematoxylin and eosin")
        _show_own(view, tissue)
        st.subheader(f"What {controls.escaped(gene)} reads")
        _show_images(view, gene, tissue)
        look, told = controls.side_by_side(wide_first=True)
        with look:
            _show_overview(view.slide, gene, region)
        with told:
            _show_sum(view, gene, region)
    except NslError as error:
        controls.show_error(view.slide.by_users_name(str(error)))


def _choose(view: View, gene: str) -> Region:
    slide = view.slide
    _follow_map(slide)
    places = _places(slide, gene)
    if st.session_state.get("stain_place") not in places:
        st.session_state.pop("stain_place", None)
    place = st.selectbox(
        "Region",
        list(places),
        format_func=places.__getitem__,
        key="stain_place",
        persist_state="session",
        width=_REGION_PX,
    )
    if place == "region":
        return _drawn(slide)
    tile_um = slide.provenance.tile_um
    width_um = controls.choose_one(
        "Width, µm",
        [tile_um, *(um for um in _WIDTHS_UM if um > tile_um)],
        f"stain_width of {tile_um:g}",
        format_func=lambda um: f"{um:,.0f}",
        help=f"A tile is {tile_um:g} µm wide; more shows its surroundings.",
    )
    return _around(slide, _tile(view, gene, place), width_um)


def _follow_map(slide: state.SessionSlide) -> None:
    """Look at what was clicked or drawn last, here or on the Maps page."""
    for place in ("region", "tile"):
        marked, seen = getattr(slide.marks, place), slide.of_result(_Seen)
        if marked is not None and marked != getattr(seen.marks, place):
            setattr(seen.marks, place, marked)
            st.session_state["stain_place"] = place


def _places(slide: state.SessionSlide, gene: str) -> dict[str, str]:
    places = {}
    if slide.marks.tile:
        places["tile"] = f"Tile {slide.marks.tile}, as clicked"
    if slide.marks.region:
        places["region"] = "The region drawn on the map"
    places["hematoxylin"] = "The tile richest in hematoxylin"
    if gene in slide.result.var_names:
        places["highest"] = "The tile where the gene is predicted highest"
    return places


def _tile(view: View, gene: str, place: str) -> str:
    slide = view.slide
    if place == "tile":
        return slide.marks.tile
    if place == "highest":
        return slide.result.obs_names[slide.result[:, gene].X.argmax()]
    seen = slide.of_result(_Seen)
    if seen.richest_tile is None:
        seen.richest_tile = _richest(slide.result, view.mixed_vectors)
    return seen.richest_tile


def _richest(result: anndata.AnnData, vectors: np.ndarray) -> str:
    """The tile that absorbs most along the hematoxylin vector, by the slide's picture."""
    picture, info = SlidePicture.of(result), Provenance.of(result)
    amounts = stain_amounts(optical_density(picture.rgb, info.white_point).reshape(-1, 3), vectors)[:, 0]
    hematoxylin = np.where(is_shown(picture.rgb), amounts.reshape(picture.rgb.shape[:2]), 0)
    bounds = pixel_bounds(result.obsm["spatial"], info.tile_um, info.mpp, picture.mpp)
    within = box_sums(summed_from_corner(hematoxylin, np.float64), bounds)
    # The tissue's edge is where it folds, and folds are dark.
    inner = result.obs["tissue_fraction"].to_numpy() >= min(_INNER_TISSUE, result.obs["tissue_fraction"].max())
    return result.obs_names[np.where(inner, within, -np.inf).argmax()]


def _around(slide: state.SessionSlide, tile: str, width_um: float) -> Region:
    place = slide.result.obs.loc[tile]
    x, y, half = place.x_um, place.y_um, width_um / 2
    return _within(slide, Region(x - half, y - half, x + half, y + half))


def _drawn(slide: state.SessionSlide) -> Region:
    x, y = (1000 * np.array(slide.marks.region[axis]) for axis in "xy")
    return _within(slide, Region(x.min(), y.min(), x.max(), y.max()))


def _within(slide: state.SessionSlide, region: Region) -> Region:
    width_um, height_um = (side * slide.provenance.mpp for side in slide.seen.size)
    left, right = np.clip([region.left, region.right], 0, width_um)
    top, bottom = np.clip([region.top, region.bottom], 0, height_um)
    if min(right - left, bottom - top) < _LEAST_UM:
        raise SlideError(
            f"the region drawn holds {right - left:.0f} × {bottom - top:.0f} µm of the slide; draw one of at least "
            f"{_LEAST_UM:.0f} µm on the map, or choose a tile"
        )
    return Region(*map(float, (left, top, right, bottom)))


def _picture(slide: state.SessionSlide, region: Region) -> Picture:
    mpp = max(slide.provenance.mpp, _longest_um(region) / _SHOWN_PX)
    return Picture(_read(slide.run, region, mpp, slide), mpp)


def _longest_um(region: Region) -> float:
    return max(region.right - region.left, region.bottom - region.top)


@st.cache_data(max_entries=16, scope="session", show_spinner="Reading the region")
def _read(run: str, region: Region, mpp: float, _slide: state.SessionSlide) -> np.ndarray:
    with _slide.open() as opened:
        corner_and_size = (region.left, region.top, region.right - region.left, region.bottom - region.top)
        return opened.read(*(um / opened.require_mpp() for um in corner_and_size), mpp)


def _show_overview(slide: state.SessionSlide, gene: str, region: Region) -> None:
    result = slide.result
    if gene not in result.var_names:
        st.caption(f"{controls.escaped(gene)} was not predicted on this slide, so there is no map of it to click.")
        return
    left, top, right, bottom = (um / 1000 for um in region)
    box = {"kind": "box", "x": [left, right], "y": [top, bottom]}
    limits = percentile_limits(map_of(result, gene))
    key = f"stain overview of {slide.key}"
    chart.show(
        expression_map(result, gene, limits=limits, outline=False, region=box, width_px=_OVERVIEW_PX),
        key=key,
        alt=f"Small map of {gene} with the region that is looked at; a click chooses another tile",
        file_name=f"{controls.file_stem(slide)}_{file_part(gene)}_region",
        on_click=lambda: _keep_tile(slide, key),
    )


def _keep_tile(slide: state.SessionSlide, key: str) -> None:
    place = chart.clicked_place(key)
    tile = tile_at(slide.result, *place) if place else None
    if tile:
        slide.marks.tile = tile
        st.session_state["stain_place"] = "tile"


def _show_sum(view: View, gene: str, region: Region) -> None:
    # Read last: of a JPEG that is as much work as a picture of its own, and the browser draws the others meanwhile.
    measured_mpp = max(view.slide.provenance.analysis_mpp, _longest_um(region) / _MEASURED_PX)
    rgb = _read(view.slide.run, region, measured_mpp, view.slide)
    concentrations = tile_concentrations(view.weights.model, gene, rgb, view.white_point)
    row = view.table.loc[gene]
    parts = [row.h_effect, row.e_effect] * concentrations
    lines = ["| | Mean | Adds |", "|:--|--:|--:|"]
    lines += [
        f"| {stain.capitalize()} | {signed(mean)} | {signed(part)} |"
        for stain, mean, part in zip(STAINS, concentrations, parts, strict=True)
    ]
    lines.append(f"| Intercept | | {signed(row.intercept)} |")
    lines.append(f"| **Predicted here** | | **{signed(row.intercept + parts.sum())}** |")
    st.markdown("\n".join(lines))
    st.caption(
        "Mean concentration of either stain over the region, and what it adds to the expression, ln(1 + counts per "
        "10,000)."
    )


def show_transfer(view: View, region: Region) -> None:
    """The region as it is stained, and in the stains that the weights know."""
    with controls.shown_errors():
        tissue = _picture(view.slide, region)
        seen = paint(tissue.rgb, view.white_point, view.slide.provenance.transfer)
        pictures = (("The region as it is stained", tissue.rgb), ("The same as the model sees it", seen))
        for place, (words, picture) in zip(st.columns(2), pictures, strict=True):
            place.image(picture, caption=words, width="stretch", output_format="PNG", alt=words)


def _show_own(view: View, tissue: Picture) -> None:
    """The region's hematoxylin and eosin by the slide's own vectors."""
    slide, own = view.slide, view.slide_vectors
    if np.isfinite(own).all():
        amounts = amount_images(tissue.rgb, own, view.white_point)
        figure = concentration_figure(
            tissue.rgb, amounts, tissue.mpp, vectors=own, white_point=view.white_point, names=STAIN_NAMES
        )
        figure.update_coloraxes(colorbar_title_text="optical density")
        chart.show(
            figure,
            key=f"own stains of {slide.key}",
            alt="The region's H&E and, for this slide's own hematoxylin and eosin, how much each pixel has",
            file_name=f"{controls.file_stem(slide)}_own_stains",
            fits=True,
        )
    st.caption(transfer_in_words(slide.result))


def _show_images(view: View, gene: str, tissue: Picture) -> None:
    slide = view.slide
    concentrations = concentration_images(view.weights.model, gene, tissue.rgb, view.white_point)
    figure = concentration_figure(
        tissue.rgb, concentrations, tissue.mpp, vectors=vectors_of(view.table.loc[gene]), white_point=view.white_point
    )
    # As much as there is room for above a panel on a narrow page.
    figure.update_coloraxes(colorbar_title_text="concentration")
    chart.show(
        figure,
        key=f"concentrations of {slide.key}",
        alt=f"The region's H&E and, for either stain learned for {gene}, each pixel's concentration",
        file_name=f"{controls.file_stem(slide)}_{file_part(gene)}_stains",
        fits=True,
    )
    st.caption(
        f"Drawn at {tissue.mpp:.2g} µm/px. Concentrations are on a scale of the gene's own, and compare with no other "
        f"gene's. The model was trained at {view.weights.config.analysis_mpp:g} µm/px: a finer picture shows what it "
        "makes of each pixel, which no measurement has confirmed."
    )
