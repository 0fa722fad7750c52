"""The box in which a gene is chosen or typed: what is typed gives the gene of that name or none, never one like it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from nsl.genes import is_listed, resolve, symbol_of
from nsl.web import controls, state

if TYPE_CHECKING:
    from nsl.weights.weights import Weights

WIDTH_PX = 245
# Beside the box on a wide page, below it on a narrow one.
_CHOSEN_PX = 640
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Held:
    """Genes that a box gives, listed in it or not, and what to say of others."""

    genes: Sequence[str]
    weights: "Weights"
    otherwise: str
    """What is said of a gene of the weights that is not among them; its name comes before."""

    def find(self, typed: str) -> str | None:
        """The gene of a symbol, a common name, or a label of the box."""
        return typed if typed in self.genes else resolve(_name(typed), _by_capitals(self.genes))


def one(
    label: str,
    listed: Sequence[str],
    held: Held,
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


def some(
    label: str,
    listed: Sequence[str],
    held: Held,
    *,
    key: str,
    first: Sequence[str],
    labels: Mapping[str, str],
    most: int,
    help: str,
) -> list[str]:
    """Genes chosen one after another through the same box, in that order; at first they are those of `first`."""
    chosen = [gene for gene in st.session_state.get(key, first) if gene in held.genes][:most]
    if st.session_state.get(key) != chosen:
        st.session_state[key] = chosen

    def take(gene: str | None) -> None:
        st.session_state[f"{key} add"] = None
        if gene is not None and gene not in st.session_state[key]:
            st.session_state[key] = [*st.session_state[key], gene]

    is_full = len(chosen) == most
    with st.container(horizontal=True):
        _box(
            label,
            [gene for gene in listed if gene not in chosen],
            held,
            f"{key} add",
            take,
            labels=labels,
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
                width=_CHOSEN_PX,
                wrap=True,
            )
    return chosen


def _box(
    label: str,
    listed: Sequence[str],
    held: Held,
    key: str,
    take: Callable[[str | None], None],
    *,
    labels: Mapping[str, str] | None,
    width: int | str,
    index: int | None = None,
    **look,
) -> str | None:
    # Without new options, Enter takes the first of the list that holds what was typed; with them, what was typed.
    with st.container(width=width):
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


def _answer(key: str, held: Held, take: Callable[[str | None], None]) -> None:
    """Put the gene meant in the place of what was typed, and keep what there is to say of it."""
    typed = st.session_state[key]
    state.put("typed", {key: _name(typed or "")})
    if typed is not None:
        take(held.find(typed))


def _tell(key: str, held: Held) -> None:
    """Which gene it is that was typed last, where it goes by another name, or why there is none."""
    name = (state.get("typed") or {}).get(key)
    if not name:
        return
    gene = held.find(name)
    if gene is None:
        st.warning(why_missing(name, held), icon=":material/search_off:")
    elif gene.upper() != name.upper():
        st.caption(f"{controls.escaped(name)} is the gene {controls.escaped(gene)}.")


def why_missing(name: str, held: Held) -> str:
    """One sentence on a name of which a box has no gene, as Markdown."""
    gene = resolve(name, _by_capitals(held.weights.genes))
    symbol = gene or symbol_of(name)
    if symbol is None:
        known = "type one such as ERBB2, or a common name such as HER2"
        return f"{controls.escaped(name)} is no gene symbol known here; {known}."
    subject = symbol if symbol.upper() == name.upper() else f"{name} is {symbol}, which"
    return f"{controls.escaped(subject)} {held.otherwise if gene else _not_in_weights(symbol, held.weights)}."


def _not_in_weights(symbol: str, weights: "Weights") -> str:
    rule = weights.config.training_data.genes_rule or ""
    reason = "detected in too few spots where they were learned"
    if not rule.startswith("detected in"):
        reason = f"their genes are {controls.escaped(rule or 'others')}"
    unsure = "" if is_listed(symbol) else ", or listed on About under another symbol"
    return f"is not in these weights: {reason}{unsure}"


def _name(typed: str) -> str:
    """What stands before the common name and the r in a label, or what was typed in its place."""
    return typed.partition(" · ")[0].partition(" (")[0].strip()[:_LONGEST_NAME]


def _by_capitals(genes: Sequence[str]) -> dict[str, str]:
    return {gene.upper(): gene for gene in genes}
