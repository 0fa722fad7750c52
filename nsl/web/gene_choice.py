"""Choosing genes, each with how far it can be trusted.

A table here has a row a gene with its reliability: `var` of a result, or `reliability` of weights.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from nsl.genes import by_capitals, common_name, is_known, resolve, symbol_of
from nsl.numerals import signed, some_of
from nsl.signatures import PREFIX, counted, is_signature, spoken
from nsl.web import controls, links
from nsl.web.session import state
from nsl.weights.config import HeldOutProtocol
from nsl.weights.reliability import (
    OWN_R,
    RELIABLE,
    UNRELIABLE,
    UNTESTED,
    WEAK,
    Trust,
    has_held_up,
    held_out_in_words,
    most_reliable_first,
    trust_in,
    why_unreliable,
    why_weak,
)
from nsl.weights.weights import Weights

if TYPE_CHECKING:
    import pandas as pd

# Shown first where the weights hold them: genes that name the cancer the embedded weights were trained on.
FIRST_GENES = ("ERBB2", "COX6C", "CD24", "KRT19")
GENE = "gene"
"""Key of the box of the gene that is looked at, on whichever page."""
WIDTH_PX = 245
SIGNS_IN_WORDS = ", ".join(one.told for one in (RELIABLE, WEAK, UNRELIABLE))
_HOW_LISTED = (
    "Signatures, then genes, the most reliable first, with held-out r. Type a symbol or a common name such as HER2, "
    "and Enter."
)
_OTHERWISE = "was not predicted on this slide: choose it on Predict and run the slide again"


def looked_at() -> str | None:
    """The gene that was looked at last, on this page or another; None before the first."""
    return st.session_state.get(GENE)


def look_at(gene: str) -> None:
    """Have a gene in the box of every page, before the box is drawn."""
    st.session_state[GENE] = gene


def choose_one(table: "pd.DataFrame", weights: Weights, *, key: str = GENE) -> str:
    """One of the genes of a table, the most reliable listed first; unreliable ones if wished for or typed."""
    genes, chosen = listed(table), st.session_state.get(key)
    if chosen in table.index and chosen not in genes:
        genes.append(chosen)  # so that a choice is never lost
    return box_of_one(
        "Gene",
        genes,
        Boxed(list(table.index), weights, _OTHERWISE),
        key=key,
        first=_shown_first(genes)[0],
        labels=labels(table, weights.config.reliability),
        help=f"{_HOW_LISTED} Unreliable genes that are not listed can be typed too.",
    )


def choose_some(
    table: "pd.DataFrame",
    weights: Weights,
    *,
    key: str,
    label: str,
    most: int,
    default: int = 2,
    standing: "pd.Series | None" = None,
    beside: Callable[[str], str | None] = lambda gene: None,
) -> list[str]:
    """Some genes out of the same list; none is an empty list.

    standing : which gene stands for each of those listed (`nsl.web.patterns`), and is listed for all of them; at first
        genes of different patterns are chosen.
    beside : which gene to choose at first beside the first one.
    """
    genes = listed(table)
    first, told = _shown_first(genes), labels(table, weights.config.reliability)
    in_list = told
    if standing is not None:
        others = [gene for gene in dict.fromkeys(standing) if gene != standing.get(first[0])]
        second = standing.get(beside(first[0]))
        others = [*(gene for gene in others if gene == second), *others]
        first = list(dict.fromkeys([*first[:1], *others, *first]))
        genes = list(dict.fromkeys(standing))
        alike = standing.value_counts() - 1
        in_list = told | {gene: f"{told[gene]} · {alike[gene]:,} more alike" for gene in genes if alike[gene]}
    return box_of_some(
        label,
        genes,
        Boxed(list(table.index), weights, _OTHERWISE),
        key=key,
        first=[gene for gene in first if standing is None or not is_signature(gene)][:default],
        labels=told,
        labels_listed=in_list,
        most=most,
        help=_HOW_LISTED,
    )


def _shown_first(genes: list[str]) -> list[str]:
    first = [gene for gene in FIRST_GENES if gene in genes]
    return [*first, *(gene for gene in genes if gene not in first)]


def listed(table: "pd.DataFrame") -> list[str]:
    """Genes to choose from, the most reliable first."""
    table = most_reliable_first(table)
    table = table.assign(is_set=table.index.str.startswith(PREFIX))
    table = table.sort_values("is_set", ascending=False, kind="stable")
    # A set that the user brought has no figures, and is what they want to see.
    own_set = table.is_set & table.r_heldout.isna()
    return list(table.index[are_shown(has_held_up(table) | own_set)])


def are_shown(held_up: "pd.Series") -> "pd.Series":
    """Which genes are listed, of those that held up and others: all where the user wishes so, or where none did."""
    return held_up | (not held_up.any() or st.session_state.get("unreliable_genes", False))


def follow_link(table: "pd.DataFrame") -> None:
    """Choose the gene that a link asks for, or say that it is not there; before the list of genes is drawn."""
    wished = links.asked("gene")
    if wished in table.index:
        look_at(wished)
    elif wished:
        st.info(f"The link you opened shows {controls.escaped(wished)}, which was not predicted here.")


def labels(table: "pd.DataFrame", protocol: HeldOutProtocol) -> dict[str, str]:
    """Each gene with a common name, its held-out r and the sign of its tier, and a word where it is unreliable."""
    tiers = trust_in(table, protocol.left_out, protocol.groups)
    return {
        gene: f"{named(gene)} · {'' if math.isnan(r) else f'r {signed(r)} '}{marked(trust, {UNRELIABLE, UNTESTED})}"
        for gene, r, trust in zip(table.index, table.r_heldout, tiers, strict=True)
    }


def marked(trust: Trust, spelt: Collection[Trust]) -> str:
    """The sign of a tier, with its word where the tier is one of those spelt out."""
    return trust.told if trust in spelt else trust.sign


def signs(words: "pd.Series") -> "pd.Series":
    """The signs of tiers told by their words; none where nothing was tested."""
    return words.astype(str).map({one.word: one.sign for one in (RELIABLE, WEAK, UNRELIABLE, UNTESTED)})


def signed_tiers(words: "pd.Series") -> "pd.Series":
    """Tiers told by their words, each with its sign before it, for a table on a page."""
    return words.map({one.word: one.told for one in (RELIABLE, WEAK, UNRELIABLE, UNTESTED)})


def named(gene: str) -> str:
    """A gene with its common name, or a set, as a box lists it."""
    if is_signature(gene):
        return _SET + gene.removeprefix(PREFIX)
    return f"{gene} ({name})" if (name := common_name(gene)) else gene


def offer_unreliable(table: "pd.DataFrame") -> None:
    """The switch for genes that did not hold up, and how many they are."""
    unreliable = table.index[~has_held_up(table)]
    if 0 < len(unreliable) < len(table):
        st.toggle(
            f"List the unreliable too: {counted(unreliable)}",
            key="unreliable_genes",
            persist_state="session",
            help="Over all that were left out, their predictions did not agree with measurement beyond chance.",
        )


def plural(what: str) -> str:
    """Of what was left out: patients, quarters of the section."""
    first, *rest = what.split(" ")
    return " ".join([f"{first}s", *rest])


def reliability_in_short(table: "pd.DataFrame", gene: str, protocol: HeldOutProtocol) -> str:
    """The gene's tier and held-out r as the beginning of a line, in Markdown."""
    name, r = controls.escaped(controls.begun(spoken(gene)) if is_signature(gene) else gene), table.r_heldout[gene]
    trust = trust_in(table.loc[[gene]], protocol.left_out, protocol.groups).iloc[0]
    told = f"**{f'{trust.sign} {name} is {trust.word}'.strip()}**"
    return told if math.isnan(r) else f"{told}, held-out r {signed(r)}"


def show_reliability(table: "pd.DataFrame", gene: str, protocol: HeldOutProtocol) -> None:
    """How the gene was predicted where it was held out, in words."""
    row, name = table.loc[gene], controls.escaped(controls.begun(spoken(gene)) if is_signature(gene) else gene)
    if math.isnan(row.r_heldout):
        why = "was not among the sets that were held out" if is_signature(gene) else "could not be held out"
        st.warning(
            f"**{name} {why}**, so that nothing is known of how well it is predicted.",
            icon=":material/do_not_disturb_on:",
        )
        return
    figures = (
        f"{held_out_in_words(row, protocol.left_out, protocol.groups)} {plural(protocol.left_out)} left out"
        f"{_of_its_own(row)}"
    )
    trust = trust_in(table.loc[[gene]], protocol.left_out, protocol.groups).iloc[0]
    told = f"**{trust.sign} {name} is {trust.word}**: {figures}."
    if trust == UNRELIABLE:
        st.warning(
            f"{told} {why_unreliable(row)}",
            icon=":material/do_not_disturb_on:",
        )
    elif trust == WEAK:
        but = why_weak(row, protocol.left_out, protocol.groups)
        st.info(
            f"{told} It agreed beyond chance, but {but}: read the broad pattern, not single tiles.",
            icon=":material/info:",
        )
    else:
        st.success(told, icon=":material/check_circle:")


def _of_its_own(row: "pd.Series") -> str:
    """What the gene or set tells beyond what most genes would; nothing of weights from before that was known."""
    own_r = row.get("r_specific", math.nan)
    if math.isnan(own_r):
        return ""
    return (
        ". Most genes follow how much tissue a tile holds: beyond what all have in common, this one is predicted with "
        f"r {signed(own_r, 3 if abs(own_r - OWN_R) < 0.005 else 2)}"
    )


# The box itself

# Beside the box on a wide page, below it on a narrow one.
_CHOSEN_PX = 640
_LONGEST_NAME = 40
# Of a set's name: fewer letters stand in too many.
_SHORTEST_PART = 4
# Before the name of a set in a label.
_SET = "Signature: "


@dataclass(frozen=True)
class Boxed:
    """Genes that a box gives, listed in it or not, and what to say of others."""

    genes: Sequence[str]
    weights: Weights
    otherwise: str  # what is said of a gene of the weights that is not among them; its name comes before

    def find(self, typed: str) -> str | None:
        """The gene of a symbol, a common name, or a label of the box, or the set of a name or a part of one's alone."""
        if typed in self.genes:
            return typed
        name = _name(typed)
        sets = self.sets_named(name)
        return resolve(name, by_capitals(self.genes)) or (sets[0] if len(sets) == 1 else None)

    def sets_named(self, name: str) -> list[str]:
        """The set of this name or, where there is neither one nor a gene, those in whose names it stands."""
        wanted = name.casefold().removeprefix(PREFIX).strip()
        sets = {one: one.casefold().removeprefix(PREFIX) for one in self.genes if is_signature(one)}
        own = [one for one, known in sets.items() if known == wanted]
        if own or len(wanted) < _SHORTEST_PART or symbol_of(name) is not None:
            return own
        return [one for one, known in sets.items() if wanted in known]


def box_of_one(
    label: str,
    listed: Sequence[str],
    held: Boxed,
    *,
    key: str,
    first: str | None,
    labels: Mapping[str, str] | None = None,
    width: int | str = WIDTH_PX,
    **look,
) -> str | None:
    """The gene chosen out of those listed, or typed; at first it is `first`."""
    if st.session_state.get(key) not in (None, *held.genes):
        st.session_state.pop(key, None)
    shown = st.session_state.get(key, first)

    def take(gene: str | None) -> None:
        st.session_state[key] = gene or shown

    index = listed.index(first) if first else None
    return _box(label, listed, held, key, take, index=index, labels=labels, width=width, **look)


def box_of_some(
    label: str,
    listed: Sequence[str],
    held: Boxed,
    *,
    key: str,
    first: Sequence[str],
    labels: Mapping[str, str],
    labels_listed: Mapping[str, str] | None = None,
    most: int,
    help: str,
) -> list[str]:
    """Genes chosen one after another through the same box, in that order; at first they are those of `first`.

    labels_listed : in the list, where they say more than of a gene that is chosen.
    """
    chosen = [gene for gene in st.session_state.get(key, first) if gene in held.genes][:most]
    if st.session_state.get(key) != chosen:
        st.session_state[key] = chosen

    def take(gene: str | None) -> None:
        st.session_state[f"{key} add"] = None
        if gene is not None and gene not in st.session_state[key]:
            st.session_state[key] = [*st.session_state[key], gene]

    is_full = len(chosen) == most
    with st.container(horizontal=True, vertical_alignment="bottom", key=f"{controls.CHOSEN_ROW} {key}"):
        _box(
            label,
            [gene for gene in listed if gene not in chosen],
            held,
            f"{key} add",
            take,
            labels=labels_listed or labels,
            width=WIDTH_PX,
            help=help,
            disabled=is_full,
            placeholder=f"{most} at most; remove one first" if is_full else "Type a gene to add",
        )
        if chosen:
            st.multiselect(
                "Chosen",
                chosen,
                format_func=labels.__getitem__,
                key=key,
                persist_state="session",
                filter_mode=None,
                wrap=True,
                label_visibility="collapsed",
                width=_CHOSEN_PX,
            )
    return chosen


def _box(
    label: str,
    listed: Sequence[str],
    held: Boxed,
    key: str,
    take: Callable[[str | None], None],
    *,
    labels: Mapping[str, str] | None,
    width: int | str,
    index: int | None = None,
    **look,
) -> str | None:
    # Without new options, Enter takes the first of the list that holds what was typed; with them, what was typed.
    with st.container(width=width, key=f"{controls.LONG_LIST} {key}"):
        gene = st.selectbox(
            label,
            listed,
            index=index,
            format_func=labels.__getitem__ if labels else str,
            key=key,
            persist_state="session",
            on_change=_answer,
            args=[key, held, take],
            accept_new_options=True,
            filter_mode="contains",
            **look,
        )
    _tell(key, held)
    return gene


def _answer(key: str, held: Boxed, take: Callable[[str | None], None]) -> None:
    """Put the gene meant in the place of what was typed, and keep what there is to say of it."""
    typed = st.session_state[key]
    state.shared().typed = {key: _name(typed or "")}
    if typed is not None:
        take(held.find(typed))


def _tell(key: str, held: Boxed) -> None:
    """Which gene it is that was typed last, where it goes by another name, or why there is none."""
    name = state.shared().typed.get(key)
    if not name:
        return
    gene = held.find(name)
    with st.container(key=f"{controls.NOTE} {key}"):
        if gene is None:
            st.warning(why_missing(name, held), icon=":material/search_off:")
        elif gene.upper() != name.upper() and not is_signature(gene):
            st.caption(f"{controls.escaped(name)} is the gene {controls.escaped(gene)}.")


def why_missing(name: str, held: Boxed) -> str:
    """One sentence on a name of which a box has no gene, as Markdown."""
    gene = resolve(name, by_capitals(held.weights.genes))
    symbol = gene or symbol_of(name)
    if symbol is None:
        told = "is no gene symbol known here; type one such as ERBB2, or a common name such as HER2"
        if sets := held.sets_named(name):
            names = controls.escaped(some_of([one.removeprefix(PREFIX) for one in sets], 4))
            told = f"stands in the names of several signatures: {names}; choose one of the list"
        return f"{controls.escaped(name)} {told}."
    subject = symbol if symbol.upper() == name.upper() else f"{name} is {symbol}, which"
    return f"{controls.escaped(subject)} {held.otherwise if gene else _not_in_weights(symbol, held.weights)}."


def _not_in_weights(symbol: str, weights: Weights) -> str:
    rule = weights.config.training_data.genes_rule or ""
    reason = "detected in too few spots where they were learned"
    if not rule.startswith("detected in"):
        reason = f"their genes are {controls.escaped(rule or 'others')}"
    unsure = "" if is_known(symbol) else ", misspelt, or listed on About under another symbol"
    return f"is not in these weights: {reason}{unsure}"


def _name(typed: str) -> str:
    """What stands before the common name and the r in a label, or what was typed in its place."""
    if typed.startswith((PREFIX, _SET)):
        return typed.partition(" · ")[0].strip()
    return typed.partition(" · ")[0].partition(" (")[0].strip()[:_LONGEST_NAME]
