"""The parts of the Maps page: how a gene is coloured, the map, its numbers, a finer map."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import streamlit as st

from nsl.export.files import file_part
from nsl.figures.maps import PALETTES, PERCENTILES, apart, expression_map, percentile_limits
from nsl.look import FINE_STEPS_UM, fine_map
from nsl.numerals import signed
from nsl.web import chart, controls, downloads, gene_choice, links, state
from nsl.web.jobs import Job

if TYPE_CHECKING:
    import anndata

# Controls stand in a row that wraps on narrow screens.
CONTROL_PX, SLIDER_PX = 150, 185


class Style(NamedTuple):
    """How a map is drawn."""

    opacity: float
    palette: str
    limits: tuple[float, float]
    outline: bool


def choose_style(result: "anndata.AnnData", gene: str) -> Style:
    """Opacity, palette, the ends of the colour scale, the tissue's edge."""
    _follow_link(gene)
    opacity, palette = choose_opacity(), choose_palette()
    by = st.segmented_control(
        "Colour range by",
        ["Percentile", "Value"],
        default="Percentile",
        required=True,
        key="range_by",
        persist_state="session",
    )
    values = result[:, gene].X.ravel()
    limits, range_text = _percentile_limits(values) if by == "Percentile" else _value_limits(values, gene)
    with st.container(horizontal=True, vertical_alignment="center"):
        outline = offer_outline()
        gene_choice.offer_unreliable(result)
    links.write(gene=gene, palette=palette, range=range_text)
    return Style(opacity, palette, limits, outline)


# What is chosen for the maps of one page holds on the other.


def choose_opacity() -> float:
    """Of maps over the slide, 0 to 1."""
    percent = st.slider("Opacity, %", 0, 100, 70, step=5, key="opacity", persist_state="session", width=CONTROL_PX)
    return percent / 100


def choose_palette() -> str:
    """One of `PALETTES`, that of a link where it asks for one."""
    wished = links.asked("palette")
    if wished in PALETTES:
        st.session_state["palette"] = wished
    return st.selectbox("Colours", PALETTES, key="palette", persist_state="session", width=CONTROL_PX)


def offer_outline() -> bool:
    """Whether the edge of the tissue is drawn."""
    return st.checkbox("Outline the tissue", True, key="outline", persist_state="session", width="content")


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


def show_map(slide: state.OpenSlide, gene: str, style: Style) -> None:
    """The map: wheel zooms, a click looks at a tile, a box or lasso makes a region."""
    result = slide.result
    figure = expression_map(
        result,
        gene,
        limits=style.limits,
        palette=style.palette,
        opacity=style.opacity,
        outline=style.outline,
        tile=slide.kept.get("tile"),
        region=slide.kept.get("region"),
    )
    chart.show(
        figure,
        key=f"map of {slide.key}",
        alt=f"Map of the predicted expression of {gene} over the slide, {result.n_obs:,} tiles, from "
        f"{style.limits[0]:.2f} to {style.limits[1]:.2f} ln(1 + counts per 10,000)",
        file_name=f"{controls.file_stem(slide)}_{file_part(gene)}",
        on_click=lambda: _keep_tile(slide),
        on_area=lambda: _keep_region(slide),
    )


def _keep_tile(slide: state.OpenSlide) -> None:
    from nsl.look import tile_at

    place = chart.clicked_place(f"map of {slide.key}")
    tile = tile_at(slide.result, *place) if place else None
    if tile:
        slide.kept["tile"] = tile


def _keep_region(slide: state.OpenSlide) -> None:
    area = chart.drawn_area(f"map of {slide.key}")
    if area:
        slide.kept["region"] = area


def show_numbers(result: "anndata.AnnData", gene: str) -> None:
    """Extent of the predicted values, and what they are."""
    values = result[:, gene].X.ravel()
    with st.container(horizontal=True):
        st.metric("Tiles", f"{result.n_obs:,}", width=110)
        for name, value in (("Lowest", values.min()), ("Median", np.median(values)), ("Highest", values.max())):
            st.metric(name, signed(value), width=110)
    below = " A value below 0 is the model's way to none: read it as 0." if values.min() < 0 else ""
    st.caption(
        f"Values are ln(1 + counts per 10,000).{below} They are predicted from colour alone: read the pattern over the "
        "tissue, not the single tile. A map of a receptor's gene, such as ERBB2, is no receptor test."
    )


def offer_fine_map(slide: state.OpenSlide, gene: str, style: Style) -> None:
    """One gene on squares of 10 to 20 µm, made when asked for."""
    # Drawn only while it is open: it may have a million squares.
    part = st.expander(f"A finer map of {controls.escaped(gene)}", key="fine_part", on_change="rerun")
    if not part.open:
        return
    with part:
        st.caption(
            "A tile's value is the mean over its pixels. This map shows where inside the tiles it comes from. Nothing "
            "finer than a tile has been compared with measurement: it shows what the model sees, not where cells are."
        )
        step_um = st.segmented_control(
            "Side of a square, µm",
            FINE_STEPS_UM,
            format_func=lambda um: f"{um:g}",
            default=FINE_STEPS_UM[0],
            required=True,
            key="fine_step",
            persist_state="session",
        )
        step_um = step_um or FINE_STEPS_UM[0]
        job: Job | None = slide.kept.get("fine_job")
        if job is not None and job.is_running:
            controls.watch_job(job)
            return
        if st.button("Draw it", icon=":material/grid_4x4:"):
            slide.kept["fine_job"], slide.kept["fine_of"] = _start_fine(slide, gene, step_um), (gene, step_um)
            st.rerun()
        if job is None or slide.kept["fine_of"] != (gene, step_um):
            return
        if job.error:
            controls.show_error(slide.told(job.error))
        if job.result is not None:
            _show_fine(slide, job.result, style)


def _start_fine(slide: state.OpenSlide, gene: str, step_um: float) -> Job:
    info, weights = slide.result.uns["nsl"], slide.weights

    def work(job: Job):
        with slide.open() as opened:
            return fine_map(
                opened,
                weights,
                gene,
                step_um,
                min_tissue=info["min_tissue"],
                analysis_mpp=info["analysis_mpp"],
                progress=job.progress,
                cancelled=lambda: job.is_cancelled,
            )

    job = Job()
    job.start(work)
    return job


def _show_fine(slide: state.OpenSlide, fine: "anndata.AnnData", style: Style) -> None:
    gene = fine.var_names[0]
    figure = expression_map(
        fine,
        gene,
        limits=percentile_limits(fine.X.ravel()),
        palette=style.palette,
        opacity=style.opacity,
        outline=False,
    )
    side_um = fine.uns["nsl"]["tile_um"]
    if not fine.uns["nsl"]["complete"]:
        st.warning("The run was cancelled: the squares below the last one reached are missing.", icon=":material/cut:")
    chart.show(
        figure,
        key=f"fine map of {slide.key}",
        alt=f"Map of {gene} on squares of {side_um:g} µm, {fine.n_obs:,} squares",
        file_name=f"{controls.file_stem(slide)}_{file_part(gene)}_{side_um:g}um",
    )
    st.caption(
        f"{controls.escaped(gene)} on {fine.n_obs:,} squares of {side_um:g} µm; colours from the {PERCENTILES[0]}nd "
        f"to the {PERCENTILES[1]}th percentile of the squares, which spread more than tiles do."
    )
    with st.container(horizontal=True):
        downloads.of_fine_map(slide, fine, style)
