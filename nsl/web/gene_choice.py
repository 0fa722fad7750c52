"""Choosing genes, each with how far it can be trusted."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from nsl.genes import common_name
from nsl.numerals import signed
from nsl.web import controls, gene_box, links
from nsl.weights.reliability import USEFUL_R, is_reliable

if TYPE_CHECKING:
    import anndata

    from nsl.weights.weights import Weights

# Shown first where the weights hold them: genes that name the cancer the embedded weights were trained on.
FIRST_GENES = ("ERBB2", "COX6C", "CD24", "KRT19")
WIDTH_PX = gene_box.WIDTH_PX
_HOW_LISTED = "Most reliable first, with held-out r. Type a symbol or a common name such as HER2, and Enter."
_OTHERWISE = "was not predicted on this slide: choose it on Predict and run the slide again"


def of_weights(weights: "Weights") -> SimpleNamespace:
    """All genes of weights, as a result holds those that were predicted: the functions here take either."""
    table, info = weights.reliability, weights.config.reliability
    uns = {"nsl": {"heldout_left_out": info.left_out, "heldout_groups": info.groups}}
    return SimpleNamespace(var=table, var_names=table.index, n_vars=len(table), uns=uns)


def choose_one(result: "anndata.AnnData", weights: "Weights", *, key: str = "gene", label: str = "Gene") -> str:
    """One of the predicted genes, the most reliable listed first; unreliable ones if wished for or typed."""
    genes = listed(result)
    genes += _also(genes, [st.session_state.get(key)], result)
    return gene_box.one(
        label,
        genes,
        gene_box.Held(list(result.var_names), weights, _OTHERWISE),
        key=key,
        first=_shown_first(genes)[0],
        labels=labels(result.var),
        help=f"{_HOW_LISTED} Unreliable genes that are not listed can be typed too.",
    )


def choose_some(
    result: "anndata.AnnData", weights: "Weights", *, key: str, label: str, most: int, default: int = 2
) -> list[str]:
    """Some genes out of the same list; none is an empty list."""
    genes = listed(result)
    return gene_box.some(
        label,
        genes,
        gene_box.Held(list(result.var_names), weights, _OTHERWISE),
        key=key,
        first=_shown_first(genes)[:default],
        labels=labels(result.var),
        most=most,
        help=_HOW_LISTED,
    )


def _shown_first(genes: list[str]) -> list[str]:
    first = [gene for gene in FIRST_GENES if gene in genes]
    return [*first, *(gene for gene in genes if gene not in first)]


def listed(result: "anndata.AnnData") -> list[str]:
    """Genes to choose from, the most reliable first."""
    table = result.var.sort_values("r_heldout", ascending=False)
    reliable = is_reliable(table)
    is_hidden = reliable.any() and not st.session_state.get("unreliable_genes", False)
    return list(table.index[reliable] if is_hidden else table.index)


def _also(genes: list[str], chosen: list[str | None], result: "anndata.AnnData") -> list[str]:
    """Genes chosen before that the list would no longer show, so that a choice is never lost."""
    return [gene for gene in chosen if gene in result.var_names and gene not in set(genes)]


def follow_link(result: "anndata.AnnData", *, key: str = "gene") -> None:
    """Choose the gene that a link asks for, or say that it is not there; before the list of genes is drawn."""
    wished = links.asked("gene")
    if wished in result.var_names:
        st.session_state[key] = wished
    elif wished:
        st.info(f"The link you opened shows {controls.escaped(wished)}, which was not predicted here.")


def labels(table: pd.DataFrame) -> dict[str, str]:
    """Each gene with a common name and its held-out r, and a word where it is unreliable."""
    reliable = is_reliable(table)
    return {
        gene: f"{gene}{_also_called(gene)} · r {signed(r)}{'' if trusted else ' · unreliable'}"
        for gene, r, trusted in zip(table.index, table.r_heldout, reliable, strict=True)
    }


def _also_called(gene: str) -> str:
    name = common_name(gene)
    return f" ({name})" if name else ""


def offer_unreliable(result: "anndata.AnnData") -> None:
    """The switch for genes that did not hold up, and how many they are."""
    unreliable = int((~is_reliable(result.var)).sum())
    if 0 < unreliable < result.n_vars:
        st.toggle(
            f"List {unreliable:,} unreliable genes too",
            key="unreliable_genes",
            persist_state="session",
            help="Their predictions did not agree with measurement, beyond chance, where they were held out.",
        )


def plural(what: str) -> str:
    """Of what was left out: patients, quarters of the section."""
    first, *rest = what.split(" ")
    return " ".join([f"{first}s", *rest])


def show_reliability(result: "anndata.AnnData", gene: str) -> None:
    """How the gene was predicted where it was held out, in words."""
    row, info, name = result.var.loc[gene], result.uns["nsl"], controls.escaped(gene)
    if pd.isna(row.r_heldout):
        st.warning(
            f"**{name} could not be held out**, so that nothing is known of how well it is predicted.",
            icon=":material/do_not_disturb_on:",
        )
        return
    interval = f"95 % interval {signed(row.r_low)} to {signed(row.r_high)}"
    figures = (
        f"held-out r {signed(row.r_heldout)} ({interval}), replicated in {row.patients_replicated:.0f} of "
        f"{info['heldout_groups']} {plural(info['heldout_left_out'])} left out"
    )
    if not is_reliable(result.var.loc[[gene]]).all():
        st.warning(
            f"**{name} is unreliable**: {figures}. Where it was measured, its map did not agree beyond chance.",
            icon=":material/do_not_disturb_on:",
        )
    elif row.r_heldout < USEFUL_R:
        st.info(f"**{name} is weakly predicted**: {figures}.", icon=":material/info:")
    else:
        st.success(f"**{name} held up**: {figures}.", icon=":material/check_circle:")
