"""The parts of the Compare page: which genes, their maps, what one has and another has not, what goes with what."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import anndata
import numpy as np
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from nsl.export import files
from nsl.figures import compare, panels
from nsl.figures.maps import percentile_limits, window_mm
from nsl.figures.regions import region_outlines
from nsl.numerals import csv_table, signed
from nsl.result import map_of
from nsl.signatures import is_signature, spoken
from nsl.web import chart, controls, downloads, gene_choice, links, patterns, regions
from nsl.web.compare import tile_selection
from nsl.web.session import state
from nsl.web.zoom import zoom

SIDE_BY_SIDE, DIFFERENCE, BLEND, ACROSS, REGIONS = MODES = (
    *("Side by side", "Difference", "Blend", "Across slides"),
    "Regions",
)
MOST_GENES = 4
_OWN, _SHARED = "Its own for each", "One for all"
# As the address of the page calls them.
_VIEWS = dict(zip(("side-by-side", "difference", "blend", "across-slides", "regions"), MODES, strict=True))
_SCALES = {"own": _OWN, "shared": _SHARED}
_GENES = "compare_genes"


class Look(NamedTuple):
    """How the maps are drawn."""

    palette: str | None  # None in a mode that has colours of its own
    opacity: float
    outline: bool
    shared: bool  # whether all maps have one colour scale


def choose_mode() -> str:
    """What is compared, and how."""
    if (wished := _VIEWS.get(links.asked("view"))) is not None:
        st.session_state["compare_mode"] = wished
    return controls.choose_one("Compare", MODES, "compare_mode", label_visibility="collapsed")


def _follow_link(result: anndata.AnnData) -> None:
    """Genes that a link asks for, and none that was not predicted here."""
    wished = [gene for gene in (links.asked("genes") or "").split(",") if gene]
    missing = [gene for gene in wished if gene not in result.var_names]
    if missing:
        told = ", ".join(missing[:MOST_GENES]) + (" and more" if len(missing) > MOST_GENES else "")
        st.info(f"The link you opened shows genes that were not predicted here: {controls.escaped(told)}.")
    chosen = list(dict.fromkeys(wished)) or st.session_state.get(_GENES, [])
    kept = [gene for gene in chosen if gene in result.var_names][:MOST_GENES]
    if wished and len(kept) == 1:
        kept += [gene for gene in gene_choice.listed(result.var) if gene != kept[0]][:1]
    if kept:
        st.session_state[_GENES] = kept
    elif chosen:
        st.session_state.pop(_GENES, None)


def view_of(mode: str) -> str:
    """A kind of comparison as the address calls it."""
    return next(name for name, known in _VIEWS.items() if known == mode)


def write_link(mode: str, look: Look, **genes: str) -> None:
    """The view in the address."""
    palette = {"palette": look.palette} if look.palette else {}
    scale = {"scale": "shared" if look.shared else "own"} if mode == SIDE_BY_SIDE else {}
    links.write(view=view_of(mode), **genes, **palette, **scale)


def choose_look(mode: str, result: anndata.AnnData, display: DeltaGenerator) -> Look:
    """Palette, opacity, whose scale: what there is to choose in this mode; and whether unreliable genes are listed.

    display : the place for it.
    """
    palette, scale = None, _SHARED
    if (wished := _SCALES.get(links.asked("scale"))) is not None:
        st.session_state["compare_scale"] = wished
    with display:
        opacity = controls.choose_opacity()
        if mode in (SIDE_BY_SIDE, ACROSS):
            palette = controls.choose_palette()
        if mode == SIDE_BY_SIDE:
            scale = controls.choose_one(
                "Colour scale",
                [_OWN, _SHARED],
                "compare_scale",
                help="From the 2nd to the 98th percentile. A scale of its own shows each gene's pattern; on one for "
                "all, their levels can be read against each other.",
            )
        outline = controls.offer_outline()
        gene_choice.offer_unreliable(result.var)
    return Look(palette, opacity, outline, scale == _SHARED)


def compare_genes(slide: state.SessionSlide, mode: str, display: DeltaGenerator) -> None:
    """Two to four genes of one slide: their maps, each against the other, and the tiles selected in either."""
    _follow_link(slide.result)
    listed = gene_choice.listed(slide.result.var)
    standing = patterns.representatives(slide, listed)
    chosen = gene_choice.choose_some(
        slide.result.var,
        slide.weights,
        key=_GENES,
        label="Genes, two to four",
        most=MOST_GENES,
        standing=standing if patterns.are_collapsed() else None,
        beside=lambda gene: patterns.most_different(slide, gene),
    )
    with display:
        patterns.offer_every(standing.nunique(), len(listed))
    look = choose_look(mode, slide.result, display)
    write_link(mode, look, **({"genes": ",".join(chosen)} if chosen else {}))
    if len(chosen) < 2:
        wanted = "another gene" if chosen else "two to four genes"
        st.info(f"Choose {wanted}; their maps are drawn here.", icon=":material/compare:")
        return
    if mode == SIDE_BY_SIDE:
        _show_side_by_side(slide, chosen, look)
        pair = _pair(chosen, "Which two the scatter is of:")
        scatter, selection = controls.side_by_side(wide_first=True)
    else:
        pair = _pair(chosen, f"A {mode.lower()} is of two genes, and {len(chosen)} are chosen. Which two?")
        maps, scatter = controls.side_by_side(wide_first=True)
        selection = scatter
        with maps:
            (_show_difference if mode == DIFFERENCE else _show_blend)(slide, pair, look)
            with st.container(horizontal=True):
                _offer_table(slide, chosen)
                _offer_report(slide, chosen, look)
    with scatter:
        tile_selection.show_scatter(slide, pair)
    with selection:
        tile_selection.show_selection(slide, chosen)
    if mode == SIDE_BY_SIDE:
        with st.container(horizontal=True):
            _offer_table(slide, chosen)
            _offer_prints(slide, chosen, look)
            _offer_report(slide, chosen, look)


def _offer_table(slide: state.SessionSlide, chosen: list[str]) -> None:
    name = f"{tile_selection.file_stem(slide, chosen)}.csv"
    downloads.button("CSV of these genes", lambda: files.csv_text(slide.result[:, chosen]), name)


def _offer_prints(slide: state.SessionSlide, chosen: list[str], look: Look) -> None:
    maps = {
        f"{tile_selection.file_stem(slide, [gene])}.png": (slide, gene, ends, regions.kept(slide))
        for gene, ends in _limits_of_each(slide.result, chosen, look).items()
    }
    downloads.prints(maps, look.palette, look.opacity, tile_selection.file_stem(slide, chosen))


def _offer_report(slide: state.SessionSlide, chosen: list[str], look: Look) -> None:
    # A difference and a blend have colours of their own, and a report has maps.
    limits = _limits_of_each(slide.result, chosen, look) if look.palette else None
    downloads.report(slide, chosen, regions.kept(slide), limits=limits, palette=look.palette, opacity=look.opacity)


def _limits_of_each(result: anndata.AnnData, chosen: list[str], look: Look) -> dict[str, tuple[float, float]]:
    limits = _limits(result, chosen, look)
    return dict(zip(chosen, limits * len(chosen) if look.shared else limits, strict=True))


def _limits(result: anndata.AnnData, chosen: list[str], look: Look) -> list[tuple[float, float]]:
    """Ends of the colour scales: one for all genes, or one for each."""
    values = [map_of(result, gene) for gene in chosen]
    return [percentile_limits(group) for group in ([np.concatenate(values)] if look.shared else values)]


def _pair(chosen: list[str], ask: str) -> tuple[str, str]:
    if len(chosen) == 2:
        return chosen[0], chosen[1]
    st.caption(ask)
    with st.container(horizontal=True):
        first = controls.choose_name("First gene", chosen, "compare_first")
        second = controls.choose_name("Second gene", [gene for gene in chosen if gene != first], "compare_second")
    return first, second


def _exchange(pair: tuple[str, str]) -> None:
    first, second = pair
    if len(st.session_state[_GENES]) == 2:
        st.session_state[_GENES] = [second, first]
    else:
        st.session_state["compare_first"], st.session_state["compare_second"] = second, first


def _drawn(slide: state.SessionSlide, look: Look) -> dict[str, Any]:
    """How every kind of map is drawn."""
    selected = tile_selection.selected_tiles(slide)
    return {"opacity": look.opacity, "outline": look.outline, "selected": selected}


def _show_side_by_side(slide: state.SessionSlide, chosen: list[str], look: Look) -> None:
    figure = compare.side_by_side(
        slide.result,
        chosen,
        limits=_limits(slide.result, chosen, look),
        palette=look.palette,
        **_drawn(slide, look),
    )
    scale = "on one colour scale" if look.shared else "each on its own colour scale"
    _show_map(slide, SIDE_BY_SIDE, figure, f"Maps of {', '.join(chosen)} side by side, {scale}", chosen)


def _show_difference(slide: state.SessionSlide, pair: tuple[str, str], look: Look) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = compare.DIFFERENCES[0]
        if not any(map(is_signature, pair)):  # a score is no count, and has no ratio
            by = controls.choose_one("Difference in", compare.DIFFERENCES, "compare_by", format_func=str.capitalize)
        st.button("Exchange the genes", icon=":material/swap_horiz:", on_click=_exchange, args=[pair])
    with controls.shown_errors():
        figure = compare.difference_map(slide.result, *pair, by=by, **_drawn(slide, look))
        _show_map(slide, DIFFERENCE, figure, f"Map of {pair[0]} less {pair[1]}, in {by}", pair)
        st.caption(_meaning(slide.result, pair, by))
        _say_reliability(slide, pair)
        stem = f"{tile_selection.file_stem(slide, pair)}_difference"
        with st.container(horizontal=True):
            downloads.button("CSV of the difference", lambda: difference_csv(slide.result, pair, by), f"{stem}.csv")
            downloads.button("Map to print (PNG)", lambda: _print_difference(slide, pair, by, look), f"{stem}.png")


def _print_difference(slide: state.SessionSlide, pair: tuple[str, str], by: str, look: Look) -> bytes:
    from nsl.export.print import difference_png

    return difference_png(
        slide.result, *pair, by=by, opacity=look.opacity, slide_name=slide.name, regions=regions.kept(slide)
    )


def _meaning(result: anndata.AnnData, pair: tuple[str, str], by: str) -> str:
    a, b = (controls.escaped(spoken(gene)) for gene in pair)
    if by == compare.DIFFERENCES[0]:
        return (
            f"Teal: {a} stands higher among this slide's tiles than {b} does; brown: lower. Each gene is counted in "
            "standard deviations from its own mean over this slide, so 0 says that both stand equally high, not that "
            "there is as much of one as of the other."
        )
    median = signed(np.median(compare.log2_ratio(result, *pair)))
    return (
        f"log2 of the counts per 10,000 of {a} over those of {b}, with 0.5 added to both: +1 is twice as many, −1 half "
        f"as many, 0 the same. White is the median of this slide, {median}: teal tiles have more {a} for their {b}, "
        "brown ones less."
    )


def difference_csv(result: anndata.AnnData, pair: tuple[str, str], by: str) -> str:
    table = files.tile_table(result[:, list(pair)])
    if by == compare.DIFFERENCES[0]:
        table["difference_sd"] = compare.standardised_difference(result, *pair).round(4)
    else:
        table["log2_ratio"] = compare.log2_ratio(result, *pair).round(4)
    return csv_table(table)


def _show_blend(slide: state.SessionSlide, pair: tuple[str, str], look: Look) -> None:
    a, b = pair
    limits = [percentile_limits(map_of(slide.result, gene)) for gene in pair]
    figure = compare.blend_map(slide.result, a, b, limits=limits, **_drawn(slide, look))
    _show_map(slide, BLEND, figure, f"Map of {a} in magenta and {b} in green, white where both are high", pair)
    st.caption(
        "Each gene runs from dark at its 2nd percentile on this slide to full colour at its 98th, so the colours say "
        "where each is high for this slide, not which there is more of."
    )
    _say_reliability(slide, pair)


def outline_regions(figure: go.Figure, slide: state.SessionSlide, numbers: Sequence[int]) -> None:
    """The regions of a slide on its maps in these panels of the figure."""
    outlines = region_outlines(regions.kept(slide), slide.provenance.mpp, window_mm(slide.result))
    for x, y in map(panels.axes, numbers):
        figure.add_traces([go.Scatter(outline).update(xaxis=x, yaxis=y) for outline in outlines])


def _say_reliability(slide: state.SessionSlide, chosen: Sequence[str]) -> None:
    told = gene_choice.labels(slide.result.var.loc[list(chosen)], slide.weights.config.reliability)
    st.caption(f"Held out: {'; '.join(controls.escaped(told[gene]) for gene in chosen)}.")


def _show_map(slide: state.SessionSlide, mode: str, figure: go.Figure, alt: str, chosen: Sequence[str]) -> None:
    key = f"{mode} of {slide.key}"
    # The second axes of a blend are those of the key to its colours.
    axes = ("x",) if mode == BLEND else ("x", "x2", "x3", "x4")
    tile_selection.forget_marks(figure, slide)
    panels_shown = len(chosen) if mode == SIDE_BY_SIDE else 1
    outline_regions(figure, slide, range(panels_shown))
    _draw(
        slide,
        figure,
        axes,
        panels_shown,
        slide.of_result(tile_selection.Selection).drawn,
        key=key,
        alt=f"{alt}; {slide.result.n_obs:,} tiles",
        file_name=f"{tile_selection.file_stem(slide, chosen)}_{mode.replace(' ', '_').lower()}",
    )


# A fragment: the slide is read for a new view, and nothing else of the page is made anew.
@state.fragment()
def _draw(
    slide: state.SessionSlide,
    figure: go.Figure,
    axes: Sequence[str],
    panels_shown: int,
    drawn: int,
    *,
    key: str,
    **told,
) -> None:
    """drawn : how often something was drawn, as the rest of the page has it."""
    if slide.result is None or slide.of_result(tile_selection.Selection).drawn != drawn:
        st.rerun()
    regions.tell_empty(slide, key)
    chart.show(
        figure,
        key=key,
        on_area=lambda: tile_selection.take_area(slide, key, axes),
        zooms=[zoom(slide, key, tuple(panels.axes(number)[0] for number in range(panels_shown)))],
        fits=True,
        **told,
    )
