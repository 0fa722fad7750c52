"""The parts of the Maps page: which gene, how it is coloured, the map."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import streamlit as st

from nsl.figures import PALETTES, expression_map
from nsl.web import controls, session
from nsl.weights import USEFUL_R, is_reliable

if TYPE_CHECKING:
    import anndata

# Shown first where the weights hold it: the gene that names the cancer they were trained on.
FIRST_GENE = "ERBB2"
# Controls stand in a row that wraps on narrow screens.
CONTROL_PX = 185


class Style(NamedTuple):
    """How a map is drawn."""

    opacity: float
    palette: str
    limits: tuple[float, float]


def explain_empty(slide: session.OpenSlide | None) -> None:
    """The page before there is a result."""
    with st.container(border=True):
        if session.is_running():
            st.markdown("The map appears here when the prediction is done.")
        else:
            st.markdown("There is no prediction yet." if slide else "There is no slide yet.")
        st.page_link("pages/predict.py", label="Go to Predict", icon=":material/arrow_back:")


def choose_gene(result: "anndata.AnnData") -> str:
    """A searchable list of the predicted genes, the most reliable first; unreliable ones only if wished for."""
    table = result.var.sort_values("r_heldout", ascending=False)
    reliable = is_reliable(table)
    hidden = not st.session_state.get("unreliable_genes", not reliable.any())
    genes = list(table.index[reliable] if hidden and reliable.any() else table.index)
    label = {gene: _gene_label(gene, table.r_heldout[gene], reliable[gene]) for gene in genes}
    gene = st.selectbox(
        "Gene",
        genes,
        index=genes.index(FIRST_GENE) if FIRST_GENE in genes else 0,
        format_func=label.__getitem__,
        key="gene",
        persist_state="session",
        help="Most reliable first, with held-out r. Type to search.",
        width=CONTROL_PX + 60,
    )
    return gene


def _gene_label(gene: str, r: float, reliable: bool) -> str:
    return f"{gene} · r {_signed(r)}{'' if reliable else ' · unreliable'}"


def _signed(r: float) -> str:
    """Two decimals, with a minus sign as it is printed; an en dash where r is unknown."""
    return f"{r:.2f}".replace("-", "−") if np.isfinite(r) else "–"


def offer_unreliable(result: "anndata.AnnData") -> None:
    """The switch for genes that did not hold up, and how many they are."""
    unreliable = int((~is_reliable(result.var)).sum())
    if unreliable:
        st.toggle(
            f"List {unreliable:,} unreliable genes too",
            value=unreliable == result.n_vars,
            key="unreliable_genes",
            persist_state="session",
            help="Their predictions did not agree with measurement, beyond chance, where they were held out.",
        )


def show_reliability(result: "anndata.AnnData", gene: str) -> None:
    """How the gene was predicted where it was held out, in words."""
    row, info = result.var.loc[gene], result.uns["nsl"]
    interval = f"95 % interval {_signed(row.r_low)} to {_signed(row.r_high)}"
    figures = (
        f"held-out r {_signed(row.r_heldout)} ({interval}), replicated in {row.patients_replicated:.0f} of "
        f"{info['heldout_groups']} {info['heldout_left_out']}s left out"
    )
    if not is_reliable(result.var.loc[[gene]]).all():
        st.warning(
            f"**{gene} is unreliable**: {figures}. Where it was measured, its map was no better than chance or worse.",
            icon=":material/do_not_disturb_on:",
        )
    elif row.r_heldout < USEFUL_R:
        st.info(f"**{gene} is weakly predicted**: {figures}.", icon=":material/info:")
    else:
        st.success(f"**{gene} held up**: {figures}.", icon=":material/check_circle:")


def choose_style(result: "anndata.AnnData", gene: str) -> Style:
    """Opacity, palette and the ends of the colour scale."""
    opacity = st.slider(
        "Opacity of the map, %", 0, 100, 70, step=5, key="opacity", persist_state="session", width=CONTROL_PX
    )
    palette = st.selectbox("Colours", PALETTES, key="palette", persist_state="session", width=CONTROL_PX)
    by = st.segmented_control(
        "Colour range by", ["Percentile", "Value"], default="Percentile", required=True, key="range_by"
    )
    values = result[:, gene].X.ravel()
    limits = _percentile_limits(values) if by == "Percentile" else _value_limits(values, gene)
    return Style(opacity / 100, palette, limits)


def show_map(result: "anndata.AnnData", gene: str, style: Style) -> None:
    """The map, to zoom by wheel or frame."""
    figure = expression_map(result, gene, limits=style.limits, palette=style.palette, opacity=style.opacity)
    st.plotly_chart(
        figure,
        key="map",
        config={"scrollZoom": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]},
        alt=f"Predicted expression of {gene} over the slide, {result.n_obs} tiles",
    )


def show_numbers(result: "anndata.AnnData", gene: str) -> None:
    """Lowest, middle and highest value, and what the unit is."""
    values = result[:, gene].X.ravel()
    columns = st.columns(4)
    columns[0].metric("Tiles", f"{len(values):,}")
    for column, name, value in zip(
        columns[1:],
        ("Lowest", "Median", "Highest"),
        (values.min(), np.median(values), values.max()),
        strict=True,
    ):
        column.metric(name, f"{value:.2f}")
    st.caption(
        "Values are ln(1 + counts per 10,000). They are predicted from colour alone: read the pattern over the tissue, "
        "not the single tile. A map of a receptor's gene, such as ERBB2, is no receptor test."
    )


def download_gene(result: "anndata.AnnData", gene: str, slide: session.OpenSlide) -> None:
    """The table of this one gene: small where that of all genes is many megabytes."""
    from nsl import export

    st.download_button(
        f"CSV of {gene} alone",
        lambda: export.csv_text(result[:, [gene]]),
        file_name=f"{controls.file_stem(slide)}_{gene}.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
    )


def _percentile_limits(values: np.ndarray) -> tuple[float, float]:
    low, high = st.slider("Percentiles", 0, 100, (2, 98), key="percentiles", persist_state="session", width=CONTROL_PX)
    return _apart(*np.percentile(values, [low, high]))


def _value_limits(values: np.ndarray, gene: str) -> tuple[float, float]:
    least, most = _apart(float(values.min()), float(values.max()))
    low, high = st.slider(
        "Values",
        least,
        most,
        (least, most),
        step=(most - least) / 100,
        format="%.2f",
        key=f"values of {gene}",
        width=CONTROL_PX,
    )
    return _apart(low, high)


def _apart(low: float, high: float) -> tuple[float, float]:
    """Limits with some distance between them, also where a gene is the same everywhere."""
    return (float(low), float(high)) if high - low > 1e-6 else (float(low) - 0.5, float(low) + 0.5)
