"""The second half of the Correlations page: predicted against measured expression, where the user has measured it."""

import numpy as np
import pandas as pd
import streamlit as st

from nsl.errors import SpotsError
from nsl.figures.correlations import agreement_overview
from nsl.numerals import count_of, signed, six_digits, some_of
from nsl.signatures import PREFIX
from nsl.stats.agreement import agreement_summary
from nsl.web import chart, controls, downloads, links
from nsl.web.correlations import measured_gene, measurements
from nsl.web.correlations.measurements import CheckedData, Comparison, MeasuredData
from nsl.web.session import state
from nsl.weights.reliability import SIGNIFICANT, USEFUL_R, has_held_up

SECTIONS_NAMED = 12

_COLUMNS = {
    "gene": st.column_config.TextColumn("Gene"),
    "pearson_r": st.column_config.NumberColumn("r", format="%.2f", help="Pearson r of predicted with measured, spots"),
    "r_low": st.column_config.NumberColumn("from", format="%.2f", help="95 % interval of r"),
    "r_high": st.column_config.NumberColumn("to", format="%.2f", help="95 % interval of r"),
    "p_value": st.column_config.NumberColumn(
        "p",
        format="%.2g",
        help="Two-sided; neighbouring spots count for less. None for genes counted in fewer than 20 spots",
    ),
    "q_value": st.column_config.NumberColumn("q", format="%.2g", help="False discovery rate over the genes compared"),
    "r_heldout": st.column_config.NumberColumn(
        "Held-out r", format="%.2f", help="How the gene was predicted where the weights were tested"
    ),
    "detected_percent": st.column_config.NumberColumn(
        "Detected", format="%.0f %%", help="Share of the spots with at least one count of it"
    ),
}


def show(slide: state.SessionSlide) -> None:
    """Bring measured data, see what they are, compare; then all genes, and one gene at a time."""
    held = slide.of_slide(MeasuredData)  # it outlasts a new result
    measurements.collect(held)
    choose, look = controls.side_by_side()
    with choose:
        _bring(held)
        if held.data is not None:
            _compare(slide, held)
    compared = held.compared
    with look:
        if compared is not None:
            _show_overview(slide, compared)
        elif held.data is None:
            _explain_files()
        else:
            _explain_comparison()
    if compared is None:
        links.wait()
    else:
        measured_gene.show(slide, compared)


def _explain_files() -> None:
    with controls.part("What this needs"):
        st.markdown(
            "Spatial transcriptomics of **this very section**: counts and spot positions. Any of\n"
            "- **two tables** (CSV or TSV, also gzipped): raw counts with a row a spot and a column a gene; and "
            "positions, with columns `spot, x_px, y_px`, or `x, y, pixel_x, pixel_y` as the ST pipeline writes them;\n"
            "- **Visium**: a zip of Space Ranger's `outs` folder, or its `filtered_feature_bc_matrix.h5` with "
            "`tissue_positions.csv`;\n"
            '- an **h5ad** of one section, raw counts inside and positions in `obsm["spatial"]`.'
        )
        st.caption("The files are read and deleted at once; the counts stay in memory until the slide is removed.")


def _explain_comparison() -> None:
    with controls.part("What will be compared"):
        st.markdown(
            "Every gene is predicted from the tissue around each spot, and correlated over the spots with what was "
            "measured there. As neighbouring spots resemble each other, they count for fewer independent ones.\n\n"
            "You get r with its interval, p and q for each gene, both maps side by side, and tables to take home."
        )


def _bring(held: MeasuredData) -> None:
    with controls.part("1 · Measured data"):
        if held.data is None:
            _upload(held, "Two tables, a Visium zip or an h5ad")
            return
        st.markdown(f"**{controls.escaped(held.label)}**")
        counts = np.asarray(held.data.X.sum(axis=1)).ravel()
        with st.container(horizontal=True):
            st.metric("Spots", f"{held.data.n_obs:,}", width=95)
            st.metric("Genes", f"{held.data.n_vars:,}", width=105)
            st.metric("Median counts", f"{np.median(counts):,.0f}", width=130, help="Of a spot, over all genes (UMI)")
        _upload(held, "Other measured data")
        controls.offer_removal("Remove the measured data", measurements.let_go, held)


def _upload(held: MeasuredData, label: str) -> None:
    files = controls.offer_measured(label, f"measured files {id(held)} {held.uploads}")
    with st.spinner("Reading the measured data"):
        is_new = measurements.take(held, files)
    if is_new:
        st.rerun()
    if measurements.lacks_second_file(files):
        st.info(
            f"{controls.escaped(files[0].name)} is one of two: add the other. Counts and spot positions go together, "
            "in files of different names."
        )
    if held.error:
        controls.show_error(held.error)
        if held.data is not None:
            st.caption("The measured data you had stay in use.")


def _compare(slide: state.SessionSlide, held: MeasuredData) -> None:
    with controls.part("2 · Do they fit this slide?"):
        scale = controls.choose_positions_scale(
            f"measured scale of {slide.key}",
            "1 where positions are in pixels of this very image. Where they are of a larger original, the slide's "
            "width over the original's; of Visium, the scale factor of the image.",
            persist_state="session",
        )
        try:
            with st.spinner("Checking"):
                ready = measurements.check(slide, held, scale)
        except SpotsError as error:
            controls.show_error(str(error))
            if held.compared:
                st.caption("What was compared before stays.")
            return
        _say_what_fits(held, ready)
        _offer_run(slide, held, ready)


def _say_what_fits(held: MeasuredData, ready: CheckedData) -> None:
    match, takes_part = ready.match, int(ready.is_kept.sum())
    some = "they take part"
    if takes_part < held.data.n_obs:
        some = f"{takes_part:,} of them, on predicted tissue, {'takes' if takes_part == 1 else 'take'} part"
    st.markdown(
        f"All {held.data.n_obs:,} spots lie on the slide, and {some}. "
        f"**{len(match.predicted):,} of {len(ready.terms.genes):,}** predicted genes "
        f"{'is' if len(match.predicted) == 1 else 'are'} among the "
        f"{match.number_measured:,} measured."
    )
    for notice in ready.notices:
        st.warning(controls.escaped(notice), icon=":material/warning:")


def _offer_run(slide: state.SessionSlide, held: MeasuredData, ready: CheckedData) -> None:
    job = held.job
    if held.is_comparing:
        controls.watch_job(job)
        return
    if job is not None and job.is_cancelled:
        st.info("The comparison was cancelled.")
    elif job is not None and job.error:
        controls.show_error(slide.by_users_name(job.error))
    if st.button(
        "Compare again" if held.compared else "Compare",
        type="primary",
        width="stretch",
        icon=":material/compare_arrows:",
    ):
        measurements.start(slide, held, ready)
        st.rerun()
    compared = held.compared
    if compared is None:
        return
    if compared.brought is not held.data or compared.terms != ready.terms:
        st.info("The prediction, the data or the scale have changed since the comparison. Compare again to use them.")


def _show_overview(slide: state.SessionSlide, compared: Comparison) -> None:
    with controls.part("Agreement"):
        st.markdown(summary_in_words(compared.table))
        st.caption(controls.escaped(no_test_if_learned(slide)))
        chart.show(
            agreement_overview(_of_genes(compared.table)).update_layout(height=340),
            key="agreement_overview",
            alt="Pearson r of predicted with measured expression, a point a gene, the highest first",
        )
        _show_table(compared)
        with st.container(horizontal=True):
            name = f"{controls.file_stem(slide)}_agreement.csv"
            downloads.button("Download the agreement (CSV)", lambda: six_digits(compared.table), name)


def summary_in_words(table: pd.DataFrame) -> str:
    """What came out over all genes, and over those that held up elsewhere, as Markdown."""
    table = _of_genes(table)
    all_genes = agreement_summary(table)
    spots = int(table.n_spots.iloc[0])
    if not all_genes.genes:
        return f"No gene can be told: what was measured is the same at all {spots:,} spots."
    said = (
        f"**{count_of(all_genes.genes, 'gene')} compared at {spots:,} spots: median r {signed(all_genes.median_r)}.** "
        f"{all_genes.significant:,} {'has' if all_genes.significant == 1 else 'have'} r above 0 with q < "
        f"{SIGNIFICANT:g}, and {all_genes.useful:,} {'has' if all_genes.useful == 1 else 'have'} r above {USEFUL_R:g}."
    )
    # What begins so is of the weights; r_low and q_value are of this section.
    reliable = has_held_up(table.filter(like="heldout_").rename(columns=lambda name: name.removeprefix("heldout_")))
    if 0 < reliable.sum() < len(table):
        held_up = agreement_summary(table[reliable])
        said += (
            f" Of the {held_up.genes:,} that held up when the weights were tested: median r "
            f"{signed(held_up.median_r)}, {held_up.useful:,} above {USEFUL_R:g}."
        )
    return said


def _of_genes(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of genes alone: what is counted of them holds no set."""
    return table[~table.index.str.startswith(PREFIX)]


def no_test_if_learned(slide: state.SessionSlide) -> str:
    """That a section the weights learned from tests nothing, and which those are, as far as they say."""
    said = "If these weights learned from this section, this is no test."
    sections = slide.weights.config.training_data.sections
    if sections:
        said += f" {slide.weights.name} learned from {some_of(sections, SECTIONS_NAMED)}."
    window_um = slide.provenance.tile_um
    return f"{said} Each spot was predicted from a square of {window_um:g} µm around it, as the tiles of the maps were."


def _show_table(compared: Comparison) -> None:
    table = compared.table.sort_values("pearson_r", ascending=False, kind="stable").reset_index()
    names = table.gene
    table = table.assign(gene=controls.in_table(names), detected_percent=100 * table.detected)
    controls.table_to_mark(
        table,
        _COLUMNS,
        key=f"agreement of {id(compared)}",
        alt="Genes with the agreement of prediction and measurement",
        on_mark=lambda row: st.session_state.update(measured_gene=names[row.name]),
    )
    st.caption(
        "The highest r first. Mark a row to see its gene below; the magnifying glass searches, a column's head sorts."
    )
