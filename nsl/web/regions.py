"""Regions of a slide in the app: brought as a file, drawn or written down, kept with the slide, and taken home.

Their names stand on the page and in the files that a user downloads, and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import shapely
import streamlit as st
from shapely.geometry import MultiPolygon, Polygon

from nsl.errors import AnnotationsError, NslError
from nsl.numerals import count_of
from nsl.signatures import counted, is_signature
from nsl.slides.annotations.geojson import MAX_REGIONS, geojson_text, parse_geojson
from nsl.slides.annotations.region import (
    LONGEST_NAME,
    Region,
    area_within,
    check_on_slide,
    corners_text,
    parse_corners,
    plain_name,
)
from nsl.slides.annotations.tiles import annotate, regions_of_tiles
from nsl.web import controls, downloads, gene_choice, patterns
from nsl.web.session import server, state
from nsl.weights.reliability import has_held_up, most_reliable_first

if TYPE_CHECKING:
    import pandas as pd

FILE_MB = 20
_LONGEST_CORNERS = 100_000
_MOST_CORNERS = 3_000
_NEW = -1
_MOST_ROWS, _LIST_PX = 6, 230
# Of the classes of regions that are drawn here, the first first; Okabe and Ito's, which colour-blind people tell apart.
# Blue comes last, as regions without a class are blue.
_CLASS_COLORS = ((230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (240, 228, 66), (0, 114, 178))
_LIST_COLUMNS = {
    "Region": st.column_config.TextColumn(width=135),
    "Class": st.column_config.TextColumn(width=95),
    "Tiles": st.column_config.NumberColumn(
        format="localized",
        width=60,
        help="That it covers at least half of. A tile is in one region: the inner one, or that which covers more",
    ),
    "mm²": st.column_config.NumberColumn(format="%.3f", width=65),
}
_COLUMNS = {
    "gene": st.column_config.TextColumn("Gene", width=140),
    "trust": st.column_config.TextColumn("Trust", width=50, help=gene_choice.SIGNS_IN_WORDS),
    "r_heldout": st.column_config.NumberColumn("r", format="%.2f", width=50, help="Held-out r"),
    "effect_size": st.column_config.NumberColumn(
        "Effect", format="%.2f", width=60, help="Difference of the means in standard deviations (Cohen's d)"
    ),
    "effect_low": st.column_config.NumberColumn("from", format="%.2f", width=60, help="95 % interval of the effect"),
    "effect_high": st.column_config.NumberColumn("to", format="%.2f", width=60, help="95 % interval of the effect"),
    "q_value": st.column_config.NumberColumn(
        "q", format="%.2g", width=70, help="False discovery rate; neighbouring tiles count for what they tell"
    ),
    "mean_inside": st.column_config.NumberColumn("Inside", format="%.2f", width=60, help="Mean inside"),
    "mean_outside": st.column_config.NumberColumn("Outside", format="%.2f", width=65, help="Mean outside"),
    "alike": st.column_config.NumberColumn(
        "Stands for", format="localized", width=80, help="How many more genes draw this picture"
    ),
}


@dataclass
class SlideRegions:
    """The regions of a slide."""

    regions: tuple[Region, ...] = ()
    changes: int = 0  # how often they were changed; what is typed or drawn of them is begun anew
    notices: tuple[str, ...] = ()  # on the file brought last
    error: str | None = None  # why what was asked for last was not done, to be said once


@dataclass
class _Laid:
    """The regions that the tiles of a result are told of."""

    regions: tuple[Region, ...] = ()
    tiles: tuple[int, ...] = ()  # of each region


@dataclass
class _Drawn:
    """What came of boxes and lassos drawn over a result."""

    errors: dict[str, str] = field(default_factory=dict)  # by chart, why the last one holds no tile, to be said once


def kept(slide: state.SessionSlide) -> tuple[Region, ...]:
    """The regions of a slide."""
    return slide.of_slide(SlideRegions).regions


def lay_over(slide: state.SessionSlide) -> None:
    """Tell every tile its region, those erased by hand too: before a page or a file shows the result."""
    laid, regions = slide.of_result(_Laid), kept(slide)
    if laid.regions == regions and (not regions or "region" in slide.result.obs):
        return
    for result in (slide.whole, *([slide.result] if slide.erased else [])):
        if regions:
            places = annotate(result, regions)
            laid.tiles = tuple(np.bincount(places[places >= 0], minlength=len(regions)).tolist())
        else:
            result.obs = result.obs.drop(columns=["region", "region_class"], errors="ignore")
    laid.regions = regions


def refresh(slide: state.SessionSlide) -> None:
    """`lay_over` of a new result; regions that overlap too much on its grid are let go, which is said."""
    try:
        lay_over(slide)
    except NslError as error:
        held = slide.of_slide(SlideRegions)
        held.regions = ()
        held.changes += 1
        controls.show_error(str(error))


def keep(slide: state.SessionSlide, regions: Sequence[Region]) -> None:
    """Have these as the regions of a slide, or none of the change.

    Raises AnnotationsError: they are too many, one lies off the slide, or they overlap too much.
    """
    held, before = slide.of_slide(SlideRegions), kept(slide)
    if len(regions) > MAX_REGIONS:
        raise AnnotationsError(f"a slide has at most {MAX_REGIONS:,} regions here; remove some first")
    check_on_slide(regions, slide.seen.size)
    held.regions = tuple(regions)
    try:
        if slide.result is not None:
            lay_over(slide)
    except NslError:
        held.regions = before
        raise
    held.changes += 1
    held.notices = ()


def tiles_drawn(slide: state.SessionSlide, area: dict) -> np.ndarray:
    """Which tiles a box or lasso that was drawn on a map, in mm, covers by half: (T,) bool.

    They are those of the region that it can be kept as, but for tiles in other regions that lie in it.

    Raises AnnotationsError: it holds no area, or a corner that is no number.
    """
    known = slide.provenance
    drawn = Region("", "", None, _geometry(slide, area))
    return regions_of_tiles(slide.result.obsm["spatial"], known.tile_um / known.mpp, [drawn]) >= 0


def tiles_within(
    slide: state.SessionSlide, key: str, area: dict, points: np.ndarray | None = None
) -> np.ndarray | None:
    """Which tiles lie in a box or lasso drawn in the chart of this key, (T,) bool: on a map, those of `tiles_drawn`.

    points : (T, 2) where the chart has them, one a tile, if it is no map.

    None where none does, which `tell_empty` then says.
    """
    from nsl.stats.regions import points_inside  # scikit-image, for which no first page waits

    try:
        inside = tiles_drawn(slide, area) if points is None else points_inside(points, area)
        if not inside.any():
            raise NslError("no tile lies in what was drawn; draw it larger, or over the tiles")
    except NslError as error:
        slide.of_result(_Drawn).errors[key] = str(error)
        return None
    return inside


def tell_empty(slide: state.SessionSlide, key: str) -> None:
    """Why what was drawn in the chart of this key holds no tile, above it: there it was drawn."""
    with st.container():
        error = slide.of_result(_Drawn).errors.pop(key, None)
        if error:
            controls.show_error(error)


def keep_drawn(slide: state.SessionSlide, area: dict, name: str, class_name: str) -> None:
    """Keep a box or lasso that was drawn on a map, in mm, as a region.

    Raises AnnotationsError: it holds no area, or see `keep`.
    """
    keep(slide, [*kept(slide), _named(slide, name, class_name, _geometry(slide, area))])


def _geometry(slide: state.SessionSlide, area: dict) -> Polygon | MultiPolygon:
    """What a box or lasso in mm encloses, in level-0 pixels."""
    x, y = area["x"], area["y"]
    if area["kind"] == "box":
        x, y = [x[0], x[1], x[1], x[0]], [y[0], y[0], y[1], y[1]]
    corners = (np.column_stack([x, y]) * 1000 / slide.provenance.mpp).round(2)
    geometry = area_within([corners]) if len(corners) > 2 else None
    if geometry is None:
        raise AnnotationsError("what was drawn holds no area; draw the region again")
    return geometry


def _named(slide: state.SessionSlide, name: str, class_name: str, geometry) -> Region:
    """A region by the names typed, in the colour that others of its class have, or in one that no class has yet."""
    name, class_name = plain_name(name), plain_name(class_name)
    colors = {one.class_name: one.color for one in kept(slide) if one.class_name}
    free = next((color for color in _CLASS_COLORS if color not in colors.values()), None)
    color = colors.get(class_name, free) if class_name else None
    return Region(name or f"{class_name or 'Region'} {len(kept(slide)) + 1}", class_name, color, geometry)


def bring(slide: state.SessionSlide) -> None:
    """The place for a file of annotations, which are added to the regions of the slide."""
    held = slide.of_slide(SlideRegions)
    upload = st.file_uploader(
        "Annotations from QuPath (GeoJSON)",
        type=["geojson", "json"],
        max_upload_size=FILE_MB,
        key=f"regions of {slide.key} {held.changes}",
    )
    if upload is not None:
        with controls.shown_errors():
            server.check_upload(upload.name, upload.size, FILE_MB)
            found = parse_geojson(upload.getvalue())
            check_on_slide(found.regions, slide.seen.size)
            new = [one for one in dict.fromkeys(found.regions) if one not in kept(slide)]
            keep(slide, [*kept(slide), *new])
            left = len(found.regions) - len(new)
            held.notices = (
                *found.notices,
                *([f"{count_of(left, 'region')} {'was' if left == 1 else 'were'} there already"] if left else []),
            )
            st.rerun()
    for notice in held.notices:
        st.caption(f"{controls.escaped(notice)}.")


def show_list(slide: state.SessionSlide) -> None:
    """The regions of a slide with what can be done with them."""
    with controls.part("Regions"):
        bring(slide)
        held = slide.of_slide(SlideRegions)
        if held.error:
            controls.show_error(held.error)
            held.error = None
        if held.regions:
            height = "content" if len(held.regions) <= _MOST_ROWS else _LIST_PX
            controls.show_table(_listed(slide), _LIST_COLUMNS, height=height, alt="Regions")
        with st.expander("Edit or add a region", key="regions_part"):
            _edit(slide)
        if held.regions:
            with st.container(horizontal=True):
                name = f"{controls.file_stem(slide)}_regions.geojson"
                downloads.button("Regions (GeoJSON)", lambda: geojson_text(held.regions), name)
                controls.offer_removal("Remove all", keep, slide, (), key=f"remove regions of {slide.key}")


def _listed(slide: state.SessionSlide) -> "pd.DataFrame":
    import pandas as pd

    regions, mpp = kept(slide), slide.provenance.mpp
    return pd.DataFrame(
        {
            "Region": [region.name for region in regions],
            "Class": [region.class_name or None for region in regions],
            "Tiles": slide.of_result(_Laid).tiles,
            "mm²": [round(region.geometry.area * (mpp / 1000) ** 2, 3) for region in regions],
        }
    )


def _edit(slide: state.SessionSlide) -> None:
    """Name, class and corners of one region: the way for those who do not draw."""
    regions, changes, mpp = kept(slide), slide.of_slide(SlideRegions).changes, slide.provenance.mpp
    place = st.selectbox(
        "Region",
        [_NEW, *range(len(regions))],
        format_func=lambda place: "A new region" if place == _NEW else regions[place].name,
        key=f"region edited of {slide.key} {changes}",
        filter_mode=None,
    )
    region = None if place == _NEW else regions[place]
    own = f"{slide.key} {changes} {place}"
    keys = {field: f"region {field} {own}" for field in ("name", "class", "corners")}
    st.text_input("Name", region.name if region else "", max_chars=LONGEST_NAME, key=keys["name"])
    class_name = region.class_name if region else ""
    st.text_input("Class", class_name, max_chars=LONGEST_NAME, key=keys["class"], placeholder="Tumor")
    corners = shapely.get_num_coordinates(region.geometry) if region else 0
    before = corners_text(region, mpp) if region and corners <= _MOST_CORNERS else ""
    if corners > _MOST_CORNERS:
        st.caption(f"It has {corners:,} corners: change its shape in QuPath.")
    else:
        st.text_area(
            "Corners, in mm",
            before,
            height=150,
            max_chars=_LONGEST_CORNERS,
            key=keys["corners"],
            placeholder="0.50, 0.50\n1.50, 0.50\n1.50, 1.20",
            help="x, y from the slide's top left, a line a corner, as on the maps' axes. After an empty line another "
            "outline begins; one inside another is a hole.",
        )
    with st.container(horizontal=True):
        st.button("Change it" if region else "Add it", on_click=_apply, args=[slide, place, keys, before])
        if region:
            rest = [one for number, one in enumerate(regions) if number != place]
            controls.offer_removal("Remove it", keep, slide, rest)


def _apply(slide: state.SessionSlide, place: int, keys: dict[str, str], before: str) -> None:
    """Take what is typed, which this run of the page need not have seen yet."""
    regions = list(kept(slide))
    name, class_name, text = (
        state.typed_text(st.session_state.get(keys[field])) for field in ("name", "class", "corners")
    )
    try:
        # Corners that stand as they were stay what they were, to the last digit.
        is_same = place != _NEW and text == before
        geometry = regions[place].geometry if is_same else parse_corners(text, slide.provenance.mpp)
        made = _named(slide, name, class_name, geometry)
        if place == _NEW:
            regions.append(made)
        elif made.class_name == regions[place].class_name:
            regions[place] = replace(made, color=regions[place].color)
        else:
            regions[place] = made
        keep(slide, regions)
    except NslError as error:
        slide.of_slide(SlideRegions).error = str(error)


def show_comparison(
    slide: state.SessionSlide, table: "pd.DataFrame", told: str, caveat: str, *, key: str, with_interval: bool = False
) -> None:
    """A table of `nsl.stats.regions.compare_region`, a row a pattern of the slide, the most reliable first.

    told : how many tiles are compared with how many.
    with_interval : whether there is room for that of the effect.
    """
    # By how they were held out; q of the table is that of the comparison.
    known = most_reliable_first(slide.result.var.loc[table.index])
    shown = table.loc[known.index[gene_choice.are_shown(has_held_up(known)).to_numpy()]]
    standing = patterns.representatives(slide, list(shown.index))
    many, collapsed = len(shown), patterns.are_collapsed()
    if collapsed:
        alike = standing.value_counts() - 1
        shown = shown[standing == standing.index].assign(alike=alike)
        shown.loc[shown.index.map(is_signature), "alike"] = np.nan  # signatures stand for themselves
    every = f"they are {many:,} with the signatures"
    stand_for = f" Each gene stands for all that draw the same picture here: {every}." if len(shown) < many else ""
    st.caption(f"{told} {counted(shown.index)}, the most reliable first.{stand_for}")
    patterns.offer_every(standing.nunique(), many)
    left_out = {"effect_low", "effect_high"} if not with_interval else set()
    shown = shown.reset_index()
    shown = shown[[name for name in _COLUMNS if name in shown and name not in left_out]]
    shown["gene"] = controls.in_table(shown.gene)
    shown["trust"] = gene_choice.signs(shown.trust)
    controls.show_table(shown, _COLUMNS, height=280, key=key, alt="Genes and signatures by how the two sides differ")
    st.caption(caveat)
