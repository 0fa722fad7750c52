"""The parts of the Compare page: which genes, their maps, what one has and another has not, what goes with what."""

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import streamlit as st

from nsl.errors import NslError
from nsl.figures import PALETTES, compare, gene_scatter
from nsl.web import chart, controls, downloads, genes, links, mapping, regions, session

if TYPE_CHECKING:
    import anndata
    import plotly.graph_objects as go

SIDE_BY_SIDE, DIFFERENCE, BLEND, ACROSS = MODES = ("Side by side", "Difference", "Blend", "Across slides")
MOST_GENES = 4
_OWN, _SHARED = "Its own for each", "One for all"
_GENES = "compare_genes"
_CONTROL_PX, _METRIC_PX, _BOX_PX = mapping.CONTROL_PX, 110, 460


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
        with maps, controls.shown_errors():
            (_show_difference if mode == DIFFERENCE else _show_blend)(slide, pair, look)
    with scatter:
        _show_scatter(slide, pair)
    with selection:
        _show_selection(slide, chosen)
    _offer_files(slide, chosen, pair if mode == DIFFERENCE else None)


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
        limits=[mapping.percentile_limits(group) for group in groups],
        palette=look.palette,
        opacity=look.opacity,
        outline=look.outline,
        selected=_selected(slide),
    )
    scale = "on one colour scale" if look.shared else "each on its own colour scale"
    _show_map(slide, SIDE_BY_SIDE, figure, f"Maps of {', '.join(chosen)} side by side, {scale}", chosen)


def _show_difference(slide: session.OpenSlide, pair: tuple[str, str], look: Look) -> None:
    a, b = pair
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
    figure = compare.difference_map(
        slide.result, a, b, by=by, opacity=look.opacity, outline=look.outline, selected=_selected(slide)
    )
    _show_map(slide, DIFFERENCE, figure, f"Map of {a} less {b}, in {by}", pair)
    if by == compare.DIFFERENCES[0]:
        st.caption(
            f"Teal: {a} stands higher among this slide's tiles than {b} does; brown: lower. Each gene is counted in "
            "standard deviations from its own mean over this slide, so 0 says that both stand equally high, not that "
            "there is as much of one as of the other."
        )
    else:
        st.caption(
            f"log2 of the counts per 10,000 of {a} over those of {b}, with 0.5 added to both: +1 is twice as many, "
            "−1 half as many, 0 the same. Predictions vary less than measurements do, so that genes of different "
            "levels differ in one direction on the whole slide."
        )
    _say_reliability(slide, pair)


def _show_blend(slide: session.OpenSlide, pair: tuple[str, str], look: Look) -> None:
    a, b = pair
    figure = compare.blend_map(
        slide.result,
        a,
        b,
        limits=[mapping.percentile_limits(slide.result[:, gene].X.ravel()) for gene in pair],
        opacity=look.opacity,
        outline=look.outline,
        selected=_selected(slide),
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
    key = f"{mode} of {slide.key}"
    # With the selection change the marks of the box or lasso that made it: its tiles are outlined instead.
    figure.update_layout(selectionrevision=_revision(slide))
    chart.show(
        figure,
        key=key,
        alt=f"{alt}; {slide.result.n_obs:,} tiles",
        file_name=f"{controls.file_stem(slide)}_{'_'.join(chosen)}",
        on_area=lambda: _keep_area(slide, mode, key),
    )


def _keep_area(slide: session.OpenSlide, mode: str, key: str) -> None:
    area = st.session_state[key].get("area")
    if not area or (mode == BLEND and area["axis"] != "x"):  # drawn on the key to the colours
        return
    try:
        _keep_tiles(slide, regions.tiles_inside(slide, area))
    except NslError as error:
        slide.kept["compare_error"] = str(error)


def _keep_tiles(slide: session.OpenSlide, inside: np.ndarray) -> None:
    slide.kept["compare_selected"] = list(slide.result.obs_names[inside])


def _selected(slide: session.OpenSlide) -> np.ndarray:
    """(T,) bool, the tiles selected on a map or in the scatter."""
    return slide.result.obs_names.isin(slide.kept.get("compare_selected", []))


def _revision(slide: session.OpenSlide) -> int:
    return zlib.crc32(_selected(slide).tobytes())


def _show_scatter(slide: session.OpenSlide, pair: tuple[str, str]) -> None:
    key = f"scatter of {slide.key}"
    figure = gene_scatter(slide.result, *pair, _selected(slide))
    figure.update_layout(dragmode="select", uirevision=" ".join(pair), selectionrevision=_revision(slide))
    chart.show(
        figure,
        key=key,
        alt=f"{pair[1]} against {pair[0]}, a point a tile",
        file_name=f"{controls.file_stem(slide)}_{'_'.join(pair)}_scatter",
        on_area=lambda: _keep_points(slide, pair, key),
    )
    st.caption(
        "Both genes are read off the same colours: that they go together says that their weights answer to the same "
        "stains, not that they are regulated together."
    )


def _keep_points(slide: session.OpenSlide, pair: tuple[str, str], key: str) -> None:
    area = st.session_state[key].get("area")
    if area:
        points = np.column_stack([slide.result[:, gene].X.ravel() for gene in pair])
        _keep_tiles(slide, _points_inside(points, area))


def _points_inside(points: np.ndarray, area: dict) -> np.ndarray:
    """(T,) bool, which of points (T, 2) lie in a box or lasso drawn in the scatter."""
    corners = np.column_stack([area["x"], area["y"]])
    if area["kind"] == "box":
        return ((points >= corners.min(axis=0)) & (points <= corners.max(axis=0))).all(axis=1)
    from skimage.measure import points_in_poly

    return points_in_poly(points, corners)


def _show_selection(slide: session.OpenSlide, chosen: list[str]) -> None:
    """How many tiles are selected, and the genes' means in them and in the rest."""
    from nsl import export

    with st.container(border=True):
        st.subheader("Selection")
        if error := slide.kept.pop("compare_error", None):
            controls.show_error(error)
        if "compare_selected" not in slide.kept:
            st.caption(
                "Draw a box or a lasso in the scatter and its tiles are outlined on the maps; draw one on a map, with "
                "the tools above it, and its tiles are marked in the scatter."
            )
            return
        selected = _selected(slide)
        st.button(
            "Clear the selection",
            on_click=slide.kept.pop,
            args=["compare_selected"],
            icon=":material/close:",
            type="tertiary",
        )
        st.markdown(f"{selected.sum():,} of {len(selected):,} tiles are selected.")
        if not selected.any():
            st.caption("No tile's centre lies in what was drawn.")
            return
        st.dataframe(
            _means(slide.result, chosen, selected),
            hide_index=True,
            height="content",
            column_config={
                name: st.column_config.NumberColumn(format="%.2f", help=help)
                for name, help in (
                    ("Selected", "Mean over the selected tiles, ln(1 + counts per 10,000)"),
                    ("Rest", "Mean over all other tiles, ln(1 + counts per 10,000)"),
                    ("Difference, sd", "Difference of the means in standard deviations over all tiles"),
                )
            },
        )
        st.caption("It describes what was selected by eye; it tests nothing. Maps compares a region by q-values.")
        downloads.csv(
            "CSV of the selection",
            lambda: export.csv_text(slide.result[selected][:, chosen]),
            f"{_file_stem(slide, chosen)}_selection.csv",
        )


def _means(result: "anndata.AnnData", chosen: list[str], selected: np.ndarray) -> pd.DataFrame:
    rows = []
    for gene in chosen:
        values = result[:, gene].X.ravel().astype(float)
        inside = values[selected].mean()
        outside = values[~selected].mean() if not selected.all() else np.nan
        spread = values.std()
        rows.append((gene, inside, outside, (inside - outside) / spread if spread else np.nan))
    return pd.DataFrame(rows, columns=["Gene", "Selected", "Rest", "Difference, sd"])


def _file_stem(slide: session.OpenSlide, chosen: Sequence[str]) -> str:
    from nsl import export

    return "_".join([controls.file_stem(slide), *map(export.file_part, chosen)])


def _offer_files(slide: session.OpenSlide, chosen: list[str], differing: tuple[str, str] | None) -> None:
    """The tile table of the genes alone, with their difference where that is what is looked at."""
    from nsl import export

    if differing is None:
        downloads.csv(
            "CSV of these genes",
            lambda: export.csv_text(slide.result[:, chosen]),
            f"{_file_stem(slide, chosen)}.csv",
        )
    else:
        downloads.csv(
            "CSV of these genes and their difference",
            lambda: _difference_csv(slide.result, differing),
            f"{_file_stem(slide, differing)}_difference.csv",
        )


def _difference_csv(result: "anndata.AnnData", pair: tuple[str, str]) -> str:
    from nsl import export

    table = export.tile_table(result[:, list(pair)])
    table["difference_sd"] = compare.standardised_difference(result, *pair).round(4)
    table["log2_ratio"] = compare.log2_ratio(result, *pair).round(4)
    return table.to_csv(lineterminator="\n")


def compare_slides(slide: session.OpenSlide) -> None:
    """One gene on this slide and on another of the session."""
    others = {one.key: one for one in session.slides() if one is not slide and one.result is not None}
    if not others:
        _show_the_way(slide)
        return
    with st.container(horizontal=True):
        gene = genes.choose_one(slide.result)
        other = others[_choose_other(others)]
    genes.offer_unreliable(slide.result)
    if gene not in other.result.var_names:
        st.warning(
            f"{gene} was predicted on {controls.escaped(slide.name)} and not on {controls.escaped(other.name)}. Choose "
            "another gene, or predict the other slide with this gene too.",
            icon=":material/search_off:",
        )
        return
    look = choose_look(ACROSS)
    links.write(genes=gene, palette=look.palette)
    _show_both((slide, other), gene, look)


def _choose_other(others: dict[str, session.OpenSlide]) -> str:
    key = "compare_other"
    if st.session_state.get(key) not in others:
        st.session_state[key] = next(iter(others))
    return st.selectbox(
        "Beside it",
        list(others),
        format_func=lambda other: others[other].name,
        key=key,
        persist_state="session",
        help="The first slide is the one chosen in the sidebar.",
        width=genes.WIDTH_PX,
    )


def _show_the_way(slide: session.OpenSlide) -> None:
    others = [one for one in session.slides() if one is not slide]
    with st.container(border=True):
        if not others:
            told = "is the only slide of this session. Bring another one on Predict and run it there: both stay."
        else:
            told = "is the only slide with a prediction. Choose another one in the sidebar and run it on Predict."
        st.markdown(f"A gene is compared across two predicted slides, and {controls.escaped(slide.name)} {told}")
        st.page_link("pages/predict.py", label="Go to Predict", icon=":material/arrow_back:")
    for one in others:
        if one.is_running:
            st.caption(f"{controls.escaped(one.name)} is being predicted:")
            controls.watch_job(one.job)


def _show_both(both: tuple[session.OpenSlide, session.OpenSlide], gene: str, look: Look) -> None:
    results, names = [one.result for one in both], [one.name for one in both]
    infos = [result.uns["nsl"] for result in results]
    if infos[0]["weights_sha256"] != infos[1]["weights_sha256"]:
        st.warning(
            "The two slides were predicted with different weights: their values may not compare.",
            icon=":material/difference:",
        )
    elif infos[0]["tile_um"] != infos[1]["tile_um"]:
        st.info(
            f"Tiles are {infos[0]['tile_um']:g} µm wide on the first slide and {infos[1]['tile_um']:g} µm on the other: "
            "smaller tiles vary more.",
            icon=":material/info:",
        )
    values = [result[:, gene].X.ravel() for result in results]
    figure = compare.across_slides(
        results,
        names,
        gene,
        limits=mapping.percentile_limits(np.concatenate(values)),
        palette=look.palette,
        opacity=look.opacity,
        outline=look.outline,
    )
    chart.show(
        figure,
        key="across slides",
        alt=f"Maps of {gene} on {names[0]} and on {names[1]}, on one colour scale",
        file_name=f"{gene}_{'_'.join(controls.file_stem(one) for one in both)}",
    )
    with st.container(horizontal=True):
        for one in both:
            with st.container(border=True, width=_BOX_PX):
                _show_numbers(one, gene)
    st.caption(
        "One colour scale for both, from the 2nd to the 98th percentile of all their tiles. Values are ln(1 + counts "
        "per 10,000), predicted from colour: slides that were stained or scanned differently differ in them for that "
        "reason too, so compare the patterns first."
    )
    downloads.csv(
        f"CSV of {gene} on both",
        lambda: _csv_of_both(both, gene),
        f"{_file_stem(both[0], [gene])}_{controls.file_stem(both[1])}.csv",
    )


def _show_numbers(slide: session.OpenSlide, gene: str) -> None:
    values = slide.result[:, gene].X.ravel()
    low, median, high = (genes.signed(value) for value in np.percentile(values, [5, 50, 95]))
    st.markdown(f"**{controls.escaped(slide.name)}**")
    controls.synthetic_badge(slide)
    with st.container(horizontal=True):
        st.metric("Tiles", f"{len(values):,}", width=_METRIC_PX)
        st.metric("Median", median, width=_METRIC_PX)
        st.metric("5th–95th percentile", f"{low} to {high}", width=_METRIC_PX + 40)
    _say_reliability(slide, [gene])
    controls.result_warnings(slide)


def _csv_of_both(both: tuple[session.OpenSlide, session.OpenSlide], gene: str) -> str:
    from nsl import export

    tables = [export.tile_table(one.result[:, [gene]]) for one in both]
    table = pd.concat(tables, keys=[one.name for one in both], names=["slide"])
    return table.to_csv(lineterminator="\n")
