"""The part of the Correlations page on one gene at the spots: measured beside predicted, and the two to take along."""

import numpy as np
import streamlit as st

from nsl.export.files import file_part, h5ad_bytes
from nsl.figures.correlations import agreement_in_words, agreement_scatter
from nsl.figures.spots_map import spots_map
from nsl.numerals import signed
from nsl.signatures import spoken
from nsl.web import chart, controls, downloads, gene_choice, links
from nsl.web.correlations.measurements import Comparison
from nsl.web.session import state


def show(slide: state.SessionSlide, compared: Comparison) -> None:
    """One gene: both maps, and the scatter over the spots."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            gene = _choose_gene(slide, compared)
            opacity = st.slider(
                "Opacity of the spots, %", 0, 100, 85, step=5, key="spots_opacity", persist_state="session", width=185
            )
        measured, predicted = compared.measured_expression(gene), compared.predicted_expression(gene)
        figure = spots_map(
            slide.result,
            compared.centers_px,
            measured,
            predicted,
            gene,
            spot_um=compared.terms.window_um,
            names=compared.measured.obs_names,
            palette=controls.chosen_palette(),
            opacity=opacity / 100,
        )
        chart.show(
            figure,
            key=f"spots of {slide.key}",
            alt=f"Two maps of {spoken(gene)} at the spots: measured, and predicted",
            file_name=f"{controls.file_stem(slide)}_{file_part(gene)}_spots",
        )
        st.caption(
            "Each map has its own colours, from its 2nd to its 98th percentile, because predictions spread less than "
            "measurements: compare the patterns, not the colours. Both zoom together."
        )
        _show_scatter(compared, gene, measured, predicted)
        _offer_spots(slide, compared, gene)


def _show_scatter(compared: Comparison, gene: str, measured: np.ndarray, predicted: np.ndarray) -> None:
    told = agreement_in_words(compared.table.loc[gene], int((np.isfinite(measured) & np.isfinite(predicted)).sum()))
    st.markdown(f"**{controls.escaped(spoken(gene))}**: {told}.")
    with st.container(width=620):
        chart.show(
            agreement_scatter(predicted, measured, gene, compared.measured.obs_names),
            key="agreement_scatter",
            alt=f"Measured against predicted expression of {spoken(gene)}, a point a spot",
        )


def _choose_gene(slide: state.SessionSlide, compared: Comparison) -> str:
    table = compared.table.sort_values("pearson_r", ascending=False, kind="stable")
    names, key = list(table.index), "measured_gene"
    wished = links.asked("gene")
    if wished in names:
        st.session_state[key] = wished
    looked_at = [gene for gene in (gene_choice.looked_at(), *gene_choice.FIRST_GENES) if gene in names]
    signs = gene_choice.signs(slide.result.var.trust)
    labels = {
        gene: f"{gene_choice.named(gene)} · r {signed(r)} · held-out r {signed(held_out)} {signs.get(gene, '')}".strip()
        for gene, r, held_out in zip(names, table.pearson_r, table.r_heldout, strict=True)
    }
    gene = gene_choice.box_of_one(
        "Gene",
        names,
        gene_choice.Boxed(names, slide.weights, "was not compared: it was not measured here, or not predicted"),
        key=key,
        first=looked_at[0] if looked_at else names[0],
        labels=labels,
        help="The highest r first. Type a symbol or a common name such as HER2, and Enter.",
        width=320,
    )
    links.write(gene=gene)
    return gene


def _offer_spots(slide: state.SessionSlide, compared: Comparison, gene: str) -> None:
    stem = controls.file_stem(slide)
    with st.container(horizontal=True):
        name = f"{stem}_{file_part(gene)}_spots.csv"
        downloads.button(f"The spots, {controls.escaped(spoken(gene))} (CSV)", lambda: compared.spots_csv(gene), name)
        downloads.button(
            "The spots, all genes (h5ad)",
            lambda: h5ad_bytes(compared.as_anndata(slide.result)),
            f"{stem}_spots.h5ad",
        )
