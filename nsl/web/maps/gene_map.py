"""One gene over the slide: how it is coloured, its map, its numbers, and the files of it."""

from dataclasses import replace
from typing import NamedTuple

import anndata
import numpy as np
import pandas as pd
import streamlit as st

from nsl.export import files
from nsl.figures.maps import PERCENTILES, apart, expression_map, percentile_limits
from nsl.numerals import signed, six_digits
from nsl.result import map_of, tile_at
from nsl.signatures import is_signature, signatures_of, spoken, unit_of
from nsl.stats.regions import REGION_CAVEAT
from nsl.web import chart, controls, downloads, gene_choice, links, regions
from nsl.web.maps import erasure
from nsl.web.maps.tile_view import step_to
from nsl.web.session import state
from nsl.web.zoom import zoom

SLIDER_PX = 185


class Style(NamedTuple):
    """How a map is drawn."""

    opacity: float
    palette: str
    limits: tuple[float, float]
    outline: bool


def choose_style(result: anndata.AnnData, gene: str) -> Style:
    """Opacity, palette, the ends of the colour scale, the tissue's edge."""
    _follow_link(gene)
    opacity = controls.choose_opacity()
    with controls.display_part():
        palette = controls.choose_palette()
        by = controls.choose_one("Colour range by", ["Percentile", "Value"], "range_by")
        values = map_of(result, gene)
        limits, range_text = _percentile_limits(values) if by == "Percentile" else _value_limits(values, gene)
        outline = controls.offer_outline()
        gene_choice.offer_unreliable(result.var)
    links.write(gene=gene, palette=palette, range=range_text)
    return Style(opacity, palette, limits, outline)


def _follow_link(gene: str) -> None:
    wished = links.asked("range")
    if wished is None:
        return
    kind, _, ends = wished.partition(":")
    try:
        low, high = (float(end) for end in ends.split("to"))
    except ValueError:
        return
    if kind == "percentile" and 0 <= low < high <= 100:
        st.session_state["range_by"] = "Percentile"
        st.session_state["percentiles"] = (int(low), int(high))
    if kind == "value" and low < high:
        st.session_state["range_by"] = "Value"
        st.session_state[f"values of {gene}"] = (low, high)


def _percentile_limits(values: np.ndarray) -> tuple[tuple[float, float], str]:
    low, high = st.slider(
        "Percentiles", 0, 100, PERCENTILES, key="percentiles", persist_state="session", width=SLIDER_PX
    )
    return percentile_limits(values, (low, high)), f"percentile:{low}to{high}"


def _value_limits(values: np.ndarray, gene: str) -> tuple[tuple[float, float], str]:
    least, most = apart(float(values.min()), float(values.max()))
    key = f"values of {gene}"
    if key in st.session_state:  # from a link, or of another slide
        low, high = np.clip(st.session_state[key], least, most)
        st.session_state[key] = (float(low), float(high)) if low < high else (least, most)
    low, high = st.slider(
        "Values",
        least,
        most,
        (least, most),
        step=(most - least) / 100,
        format="%.2f",
        key=key,
        persist_state="session",
        width=SLIDER_PX,
    )
    return apart(low, high), f"value:{low:.4g}to{high:.4g}"


def show_map(slide: state.SessionSlide, gene: str, style: Style) -> None:
    """The map: wheel zooms, a click looks at a tile, arrow keys step on, a box or lasso makes a region."""
    _draw_map(slide, gene, style, replace(slide.marks))


# A fragment: the slide is read for a new view, and nothing else of the page is made anew.
@state.fragment()
def _draw_map(slide: state.SessionSlide, gene: str, style: Style, shown: state.Marks) -> None:
    """shown : what is marked as the rest of the page has it."""
    if slide.result is None or slide.marks != shown:
        st.rerun()
    result, key = slide.result, f"map of {slide.key}"
    regions.tell_empty(slide, key)
    figure = expression_map(
        result,
        gene,
        limits=style.limits,
        palette=style.palette,
        opacity=style.opacity,
        outline=style.outline,
        tile=slide.marks.tile,
        region=slide.marks.region,
        regions=regions.kept(slide),
    )
    chart.show(
        figure,
        key=key,
        alt=f"Map of the predicted expression of {spoken(gene)} over the slide, {result.n_obs:,} tiles, from "
        f"{style.limits[0]:.2f} to {style.limits[1]:.2f} {unit_of(gene)}; arrow keys step from tile to tile",
        file_name=f"{controls.file_stem(slide)}_{files.file_part(gene)}",
        on_click=lambda: _keep_tile(slide),
        on_area=lambda: _keep_region(slide),
        on_step=lambda: _step(slide),
        zooms=[zoom(slide, key, ("x",))],
        fits=True,
    )


def _keep_tile(slide: state.SessionSlide) -> None:
    place = chart.clicked_place(f"map of {slide.key}")
    tile = tile_at(slide.result, *place) if place else None
    if tile:
        slide.marks.tile = tile


def _step(slide: state.SessionSlide) -> None:
    way = chart.step_taken(f"map of {slide.key}")
    if way:
        step_to(slide, *way)


def _keep_region(slide: state.SessionSlide) -> None:
    key = f"map of {slide.key}"
    area = chart.drawn_area(key)
    if area and regions.tiles_within(slide, key, area) is not None:
        slide.marks.region = area


def show_numbers(slide: state.SessionSlide, gene: str) -> None:
    """Extent of the predicted values, what they are, and which tiles are not among them."""
    result, values = slide.result, map_of(slide.result, gene)
    with st.container(horizontal=True):
        st.metric("Tiles", f"{result.n_obs:,}", width=110)
        for name, value in (("Lowest", values.min()), ("Median", np.median(values)), ("Highest", values.max())):
            st.metric(name, signed(value), width=110)
    erasure.show(slide)
    st.caption(
        f"{_what_values_are(result, gene, values)} Values are predicted from colour alone: read the pattern over the "
        "tissue, not the single tile. A map of a receptor's gene, such as ERBB2, is no receptor test."
    )


def _what_values_are(result: anndata.AnnData, gene: str, values: np.ndarray) -> str:
    if is_signature(gene):
        members = signatures_of(result)[gene].members
        return (
            f"A value is the mean over {len(members):,} genes of how far each stands from its mean where the weights "
            "were learned, in standard deviations: 0 is usual, below 0 is less."
        )
    below = " A value below 0 stands for no expression: read it as 0." if values.min() < 0 else ""
    return f"Values are in {unit_of(gene)}.{below}"


def offer_files(slide: state.SessionSlide, gene: str, style: Style) -> None:
    """One gene's table, small where that of all genes is many megabytes, and its map at print size."""
    result, stem = slide.result, f"{controls.file_stem(slide)}_{files.file_part(gene)}"
    downloads.button(
        f"CSV of {controls.escaped(spoken(gene))} alone", lambda: files.csv_text(result[:, [gene]]), f"{stem}.csv"
    )
    downloads.button("Map to print (PNG)", lambda: printed(slide, result, gene, style, style.limits), f"{stem}.png")
    downloads.report(
        slide,
        [gene],
        regions.kept(slide),
        limits={gene: style.limits},
        palette=style.palette,
        opacity=style.opacity,
    )


def files_shown(
    slide: state.SessionSlide, gene: str, style: Style, region_table: pd.DataFrame | None
) -> dict[str, tuple[str, str | bytes]]:
    """What the page shows, for the zip of everything: the map as it is drawn, and the region drawn on it."""
    stem = controls.file_stem(slide)
    shown = {
        f"{stem}.{files.file_part(gene)}.png": (
            f"the map of {spoken(gene)}, to print, its colours from {style.limits[0]:.4g} to {style.limits[1]:.4g}",
            printed(slide, slide.result, gene, style, style.limits),
        )
    }
    if region_table is not None:
        what = f"the region drawn on the map against the rest, gene by gene. {REGION_CAVEAT}"
        shown[f"{stem}.region.csv"] = (what, six_digits(region_table))
    return shown


def printed(
    slide: state.SessionSlide, result: anndata.AnnData, gene: str, style: Style, limits: tuple[float, float]
) -> bytes:
    """A map of the page, of the slide's result or of a finer one, at print size, as PNG."""
    from nsl.export.print import map_png

    look = {"palette": style.palette, "opacity": style.opacity}
    return map_png(result, gene, limits=limits, slide_name=slide.name, regions=regions.kept(slide), **look)
