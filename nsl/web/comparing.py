"""The parts of the Compare page: which genes, their maps, what one has and another has not, what goes with what."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import streamlit as st

from nsl.figures import PALETTES, compare
from nsl.figures.maps import percentile_limits
from nsl.web import chart, controls, downloads, genes, links, mapping, selecting, session

if TYPE_CHECKING:
    import anndata
    import plotly.graph_objects as go

SIDE_BY_SIDE, DIFFERENCE, BLEND, ACROSS = MODES = ("Side by side", "Difference", "Blend", "Across slides")
MOST_GENES = 4
_OWN, _SHARED = "Its own for each", "One for all"
_GENES = "compare_genes"
_CONTROL_PX = mapping.CONTROL_PX


class Look(NamedTuple):
    """How the maps are drawn."""

    palette: str | None
    """None in a mode that has colours of its own."""
    opacity: float
    outline: bool
    shared: bool
    """Whether all maps have one colour scale."""


def choose_mode() -> str:
    """What is compared, and how."""
    return st.segmented_control(
        "Compare",
        MODES,
        default=SIDE_BY_SIDE,
        required=True,
        key="compare_mode",
        persist_state="session",
        label_visibility="collapsed",
    )


def choose_genes(slide: session.OpenSlide) -> list[str]:
    """Two to four genes; with fewer the page says what it needs and ends."""
    _follow_link(slide.result)
    chosen = genes.choose_some(slide.result, key=_GENES, label="Genes, two to four", most=MOST_GENES)
    genes.offer_unreliable(slide.result)
    if len(chosen) < 2:
        st.info(
            f"{'Choose two to four genes' if not chosen else 'Choose another gene'}; their maps are drawn here.",
            icon=":material/compare:",
        )
        st.stop()
    return chosen


def _follow_link(result: "anndata.AnnData") -> None:
    """Genes and colours that a link asks for, and no gene that was not predicted here."""
    wished = [gene for gene in (links.asked("genes") or "").split(",") if gene]
    missing = [gene for gene in wished if gene not in result.var_names]
    if missing:
        told = ", ".join(missing[:MOST_GENES]) + (" and more" if len(missing) > MOST_GENES else "")
        st.info(f"The link you opened shows genes that were not predicted here: {controls.escaped(told)}.")
    chosen = list(dict.fromkeys(wished)) or st.session_state.get(_GENES, [])
    kept = [gene for gene in chosen if gene in result.var_names][:MOST_GENES]
    if wished and len(kept) == 1:
        kept += [gene for gene in genes.listed(result) if gene != kept[0]][:1]
    if kept:
        st.session_state[_GENES] = kept
    elif chosen:
        st.session_state.pop(_GENES, None)
    palette = links.asked("palette")
    if palette in PALETTES:
        st.session_state["palette"] = palette


def choose_look(mode: str) -> Look:
    """Palette, opacity, whose scale: what there is to choose in this mode."""
    palette, scale = None, _SHARED
    with st.container(horizontal=True):
        # The keys are those of the Maps page: a choice made there holds here.
        opacity = st.slider(
            "Opacity of the map, %", 0, 100, 70, step=5, key="opacity", persist_state="session", width=_CONTROL_PX
        )
        if mode in (SIDE_BY_SIDE, ACROSS):
            palette = st.selectbox("Colours", PALETTES, key="palette", persist_state="session", width=_CONTROL_PX)
        if mode == SIDE_BY_SIDE:
            scale = st.segmented_control(
                "Colour scale",
                [_OWN, _SHARED],
                default=_OWN,
                required=True,
                key="compare_scale",
                persist_state="session",
                help="From the 2nd to the 98th percentile. A scale of its own shows each gene's pattern; on one for "
                "all, their levels can be read against each other.",
            )
        outline = st.checkbox("Outline the tissue", True, key="outline", persist_state="session", width=_CONTROL_PX)
    return Look(palette, opacity / 100, outline, scale == _SHARED)


def compare_genes(slide: session.OpenSlide, mode: str) -> None:
    """Genes of one slide: their maps, each against the other, and the tiles selected in either."""
    chosen = choose_genes(slide)
    look = choose_look(mode)
    links.write(genes=",".join(chosen), **({"palette": look.palette} if look.palette else {}))
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
            _offer_table(slide, chosen)
    with scatter:
        selecting.show_scatter(slide, pair)
    with selection:
        selecting.show_selection(slide, chosen)
    if mode == SIDE_BY_SIDE:
        _offer_table(slide, chosen)


def _offer_table(slide: session.OpenSlide, chosen: list[str]) -> None:
    from nsl import export

    downloads.csv(
        "CSV of these genes",
        lambda: export.csv_text(slide.result[:, chosen]),
        f"{selecting.file_stem(slide, chosen)}.csv",
    )


def _pair(chosen: list[str], ask: str) -> tuple[str, str]:
    """The two genes, or which two of more."""
    if len(chosen) == 2:
        return chosen[0], chosen[1]
    st.caption(ask)
    with st.container(horizontal=True):
        first = _one_of("First gene", chosen, "compare_first")
        second = _one_of("Second gene", [gene for gene in chosen if gene != first], "compare_second")
    return first, second


def _one_of(label: str, options: list[str], key: str) -> str:
    if st.session_state.get(key) not in options:
        st.session_state[key] = options[0]
    return st.selectbox(label, options, key=key, persist_state="session", width=_CONTROL_PX)


def _exchange(pair: tuple[str, str]) -> None:
    first, second = pair
    if len(st.session_state[_GENES]) == 2:
        st.session_state[_GENES] = [second, first]
    else:
        st.session_state["compare_first"], st.session_state["compare_second"] = second, first


def _show_side_by_side(slide: session.OpenSlide, chosen: list[str], look: Look) -> None:
    values = [slide.result[:, gene].X.ravel() for gene in chosen]
    groups = [np.concatenate(values)] if look.shared else values
    figure = compare.side_by_side(
        slide.result,
        chosen,
        limits=[percentile_limits(group) for group in groups],
        palette=look.palette,
        opacity=look.opacity,
        outline=look.outline,
        selected=selecting.selected_tiles(slide),
    )
    scale = "on one colour scale" if look.shared else "each on its own colour scale"
    _show_map(slide, SIDE_BY_SIDE, figure, f"Maps of {', '.join(chosen)} side by side, {scale}", chosen)


def _show_difference(slide: session.OpenSlide, pair: tuple[str, str], look: Look) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = st.segmented_control(
            "Difference in",
            compare.DIFFERENCES,
            format_func=str.capitalize,
            default=compare.DIFFERENCES[0],
            required=True,
            key="compare_by",
            persist_state="session",
        )
        st.button("Exchange the genes", icon=":material/swap_horiz:", on_click=_exchange, args=[pair])
    drawn = {"by": by, "opacity": look.opacity, "outline": look.outline}
    with controls.shown_errors():
        figure = compare.difference_map(slide.result, *pair, selected=selecting.selected_tiles(slide), **drawn)
        _show_map(slide, DIFFERENCE, figure, f"Map of {pair[0]} less {pair[1]}, in {by}", pair)
        st.caption(_meaning(slide.result, pair, by))
        _say_reliability(slide, pair)
        downloads.csv(
            "CSV of the difference",
            lambda: difference_csv(slide.result, pair, by),
            f"{selecting.file_stem(slide, pair)}_difference.csv",
        )


def _meaning(result: "anndata.AnnData", pair: tuple[str, str], by: str) -> str:
    """What 0 and the colours of a difference say."""
    a, b = map(controls.escaped, pair)
    if by == compare.DIFFERENCES[0]:
        return (
            f"Teal: {a} stands higher among this slide's tiles than {b} does; brown: lower. Each gene is counted in "
            "standard deviations from its own mean over this slide, so 0 says that both stand equally high, not that "
            "there is as much of one as of the other."
        )
    median = genes.signed(np.median(compare.log2_ratio(result, *pair)))
    return (
        f"log2 of the counts per 10,000 of {a} over those of {b}, with 0.5 added to both: +1 is twice as many, −1 half "
        f"as many, 0 the same. Its median here is {median}. Genes of different levels differ one way on the whole "
        "slide; their difference in standard deviations then shows more."
    )


def difference_csv(result: "anndata.AnnData", pair: tuple[str, str], by: str) -> str:
    from nsl import export

    table = export.tile_table(result[:, list(pair)])
    if by == compare.DIFFERENCES[0]:
        table["difference_sd"] = compare.standardised_difference(result, *pair).round(4)
    else:
        table["log2_ratio"] = compare.log2_ratio(result, *pair).round(4)
    return table.to_csv(lineterminator="\n")


def _show_blend(slide: session.OpenSlide, pair: tuple[str, str], look: Look) -> None:
    a, b = pair
    figure = compare.blend_map(
        slide.result,
        a,
        b,
        limits=[percentile_limits(slide.result[:, gene].X.ravel()) for gene in pair],
        opacity=look.opacity,
        outline=look.outline,
        selected=selecting.selected_tiles(slide),
    )
    _show_map(slide, BLEND, figure, f"Map of {a} in magenta and {b} in green, white where both are high", pair)
    st.caption(
        "Each gene runs from dark at its 2nd percentile on this slide to full colour at its 98th, so the colours say "
        "where each is high for this slide, not which there is more of."
    )
    _say_reliability(slide, pair)


def _say_reliability(slide: session.OpenSlide, chosen: Sequence[str]) -> None:
    told = genes.labels(slide.result.var.loc[list(chosen)])
    st.caption(f"Held out: {'; '.join(controls.escaped(told[gene]) for gene in chosen)}.")


def _show_map(slide: session.OpenSlide, mode: str, figure: "go.Figure", alt: str, chosen: Sequence[str]) -> None:
    """Draw maps on which a box or lasso selects tiles."""
    key = f"{mode} of {slide.key}"
    # The second axes of a blend are those of the key to its colours.
    axes = ("x",) if mode == BLEND else ("x", "x2", "x3", "x4")
    selecting.forget_marks(figure, slide)
    chart.show(
        figure,
        key=key,
        alt=f"{alt}; {slide.result.n_obs:,} tiles",
        file_name=f"{selecting.file_stem(slide, chosen)}_{mode.replace(' ', '_').lower()}",
        on_area=lambda: selecting.take_area(slide, key, axes),
    )
