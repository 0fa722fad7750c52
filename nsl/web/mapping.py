"""The parts of the Maps page: how a gene is coloured, the map, its numbers, a finer map."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import streamlit as st

from nsl.figures.maps import PALETTES, PERCENTILES, apart, expression_map, percentile_limits
from nsl.look import FINE_STEPS_UM, fine_map
from nsl.web import chart, controls, links, session
from nsl.web.jobs import Job

if TYPE_CHECKING:
    import anndata

# Controls stand in a row that wraps on narrow screens.
CONTROL_PX = 185


class Style(NamedTuple):
    """How a map is drawn."""

    opacity: float
    palette: str
    limits: tuple[float, float]
    outline: bool


def choose_style(result: "anndata.AnnData", gene: str) -> Style:
    """Opacity, palette, the ends of the colour scale, the tissue's edge."""
    _follow_link(gene)
    opacity = st.slider(
        "Opacity of the map, %", 0, 100, 70, step=5, key="opacity", persist_state="session", width=CONTROL_PX
    )
    palette = st.selectbox("Colours", PALETTES, key="palette", persist_state="session", width=CONTROL_PX)
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
    outline = st.checkbox("Outline the tissue", True, key="outline", persist_state="session", width=CONTROL_PX)
    links.write(gene=gene, palette=palette, range=range_text)
    return Style(opacity / 100, palette, limits, outline)


def _follow_link(gene: str) -> None:
    palette, wished = links.asked("palette"), links.asked("range")
    if palette in PALETTES:
        st.session_state["palette"] = palette
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
        "Percentiles", 0, 100, PERCENTILES, key="percentiles", persist_state="session", width=CONTROL_PX
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
        width=CONTROL_PX,
    )
    return apart(low, high), f"value:{low:.4g}to{high:.4g}"


def show_map(slide: session.OpenSlide, gene: str, style: Style) -> None:
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
        file_name=f"{controls.file_stem(slide)}_{gene}",
        on_click=lambda: _keep_tile(slide),
        on_area=lambda: _keep_region(slide),
    )


def _keep_tile(slide: session.OpenSlide) -> None:
    from nsl.look import tile_at

    clicked = st.session_state[f"map of {slide.key}"].get("clicked")
    tile = tile_at(slide.result, clicked["x"], clicked["y"]) if clicked else None
    if tile:
        slide.kept["tile"] = tile


def _keep_region(slide: session.OpenSlide) -> None:
    area = st.session_state[f"map of {slide.key}"].get("area")
    if area:
        slide.kept["region"] = area


def show_numbers(result: "anndata.AnnData", gene: str) -> None:
    """Extent of the predicted values, and what they are."""
    values = result[:, gene].X.ravel()
    with st.container(horizontal=True):
        st.metric("Tiles", f"{result.n_obs:,}", width=110)
        for name, value in (("Lowest", values.min()), ("Median", np.median(values)), ("Highest", values.max())):
            st.metric(name, f"{value:.2f}".replace("-", "−"), width=110)
    st.caption(
        "Values are ln(1 + counts per 10,000). They are predicted from colour alone: read the pattern over the tissue, "
        "not the single tile. A map of a receptor's gene, such as ERBB2, is no receptor test."
    )


def offer_fine_map(slide: session.OpenSlide, gene: str, style: Style) -> None:
    """One gene on squares of 10 to 20 µm, made when asked for."""
    with st.expander(f"A finer map of {gene}"):
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
        job: Job | None = slide.kept.get("fine_job")
        if job is not None and job.is_running:
            controls.watch_job(job)
            return
        if st.button("Draw it", icon=":material/grid_4x4:"):
            slide.kept["fine_job"] = _start_fine(slide, gene, step_um)
            st.rerun()
        if job is not None and job.error:
            controls.show_error(slide.told(job.error))
        if job is not None and job.result is not None:
            _show_fine(slide, job.result, style)


def _start_fine(slide: session.OpenSlide, gene: str, step_um: float) -> Job:
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


def _show_fine(slide: session.OpenSlide, fine: "anndata.AnnData", style: Style) -> None:
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
    chart.show(
        figure,
        key=f"fine map of {slide.key}",
        alt=f"Map of {gene} on squares of {side_um:g} µm, {fine.n_obs:,} squares",
        file_name=f"{controls.file_stem(slide)}_{gene}_{side_um:g}um",
    )
    st.caption(
        f"{gene} on {fine.n_obs:,} squares of {side_um:g} µm; colours from the {PERCENTILES[0]}nd to the "
        f"{PERCENTILES[1]}th percentile."
    )
