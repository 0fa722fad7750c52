"""One gene or signature on squares of 10 to 20 µm, made when asked for."""

from dataclasses import dataclass

import anndata
import numpy as np
import streamlit as st

from nsl.export import files
from nsl.figures.maps import PERCENTILES, expression_map, percentile_limits
from nsl.numerals import count_of
from nsl.prediction import FINE_STEPS_UM, fine_map
from nsl.result import Provenance, left_out, nearest_tiles, without_tiles
from nsl.signatures import as_columns, signatures_of, spoken
from nsl.web import chart, controls, downloads
from nsl.web.maps.gene_map import Style, printed
from nsl.web.session import state
from nsl.web.session.jobs import Job


@dataclass
class FinerMap:
    """The finer map of a result that was asked for last."""

    job: Job | None = None
    of: tuple[str, float] | None = None  # its gene, and the side of its squares in µm


def offer_fine_map(slide: state.SessionSlide, gene: str, style: Style) -> None:
    """One gene on squares of 10 to 20 µm, made when asked for."""
    # Drawn only while it is open: it may have a million squares.
    part = st.expander(f"A finer map of {controls.escaped(spoken(gene))}", key="fine_part", on_change="rerun")
    if not part.open:
        return
    with part:
        st.caption(
            "A tile's value is the mean over its pixels. This map shows where inside the tiles it comes from. Nothing "
            "finer than a tile has been compared with measurement: it shows what the model sees, not where cells are."
        )
        step_um = controls.choose_one(
            "Side of a square, µm", FINE_STEPS_UM, "fine_step", format_func=lambda um: f"{um:g}"
        )
        finer = slide.of_result(FinerMap)
        job = finer.job
        if job is not None and job.is_running:
            controls.watch_job(job)
            return
        if st.button("Draw it", icon=":material/grid_4x4:"):
            finer.job, finer.of = _start_fine(slide, gene, step_um), (gene, step_um)
            st.rerun()
        if job is None or finer.of != (gene, step_um):
            return
        if job.error:
            controls.show_error(slide.by_users_name(job.error))
        if job.result is not None:
            _show_fine(slide, job.result, style)


def _start_fine(slide: state.SessionSlide, gene: str, step_um: float) -> Job:
    info, weights = slide.provenance, slide.weights
    whole, erased, of = slide.whole, slide.erased_tiles, signatures_of(slide.result).get(gene, gene)

    def work(job: Job):
        with slide.open() as opened:
            fine = fine_map(
                opened,
                weights,
                of,
                step_um,
                min_tissue=info.min_tissue,
                analysis_mpp=info.analysis_mpp,
                transfer=info.is_transferred,
                quality=info.quality,
                progress=job,
            )
        if erased:
            fine = without_tiles(fine, fine.obs_names[np.isin(nearest_tiles(whole, fine.obsm["spatial"]), erased)])
        return as_columns(fine)

    return Job().start(work)


def _show_fine(slide: state.SessionSlide, fine: anndata.AnnData, style: Style) -> None:
    [gene], limits, known = fine.var_names, percentile_limits(fine.X.ravel()), Provenance.of(fine)
    look = {"palette": style.palette, "opacity": style.opacity, "outline": False}
    figure, side_um = expression_map(fine, gene, limits=limits, **look), known.tile_um
    stem = f"{controls.file_stem(slide)}_{files.file_part(gene)}_{side_um:g}um"
    if not known.complete:
        st.warning("The run was cancelled: the squares below the last one reached are missing.", icon=":material/cut:")
    chart.show(
        figure,
        key=f"fine map of {slide.key}",
        alt=f"Map of {spoken(gene)} on squares of {side_um:g} µm, {count_of(fine.n_obs, 'square')}",
        file_name=stem,
    )
    st.caption(
        f"{controls.escaped(spoken(gene))} on {count_of(fine.n_obs, 'square')} of {side_um:g} µm; colours from the "
        f"{PERCENTILES[0]}nd to the {PERCENTILES[1]}th percentile of the squares, which spread more than tiles do."
        f"{f' {left_out(fine)}.' if slide.erased else ''}"
    )
    with st.container(horizontal=True):
        downloads.button("CSV of the finer map", lambda: files.csv_text(fine), f"{stem}.csv")
        downloads.button("AnnData of it (h5ad)", lambda: files.h5ad_bytes(fine), f"{stem}.h5ad")
        downloads.button("Finer map to print (PNG)", lambda: printed(slide, fine, gene, style, limits), f"{stem}.png")
