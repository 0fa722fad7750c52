"""The first half of the Correlations page: how predicted genes go together over the tiles of a slide."""

import html
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from nsl.figures.correlations import MOST_NAMED, correlation_heatmap, gene_scatter
from nsl.genes import parse_gene_list
from nsl.numerals import count_of, six_digits, some_of
from nsl.signatures import counted, short_names
from nsl.stats.correlation import GeneCorrelations, cluster_order, gene_correlations_over_tiles, independent_patterns
from nsl.web import chart, controls, downloads, gene_choice, links, patterns
from nsl.web.session import state
from nsl.weights.reliability import has_held_up, most_reliable_first

METHODS = {"Pearson": "pearson", "Spearman": "spearman"}
MOST_RELIABLE, A_LIST = "The most reliable", "A list"
FEWEST, MOST, USUAL = 10, 200, 50
PAIRS_SHOWN = 2_000
# As many letters of a set's name as the table has room for.
_LONGEST_NAME = 13
LEFT_OUT_NAMED = 8
# Typical |r| of a pair, from which maps are called so.
_ALIKE = ((0.8, "nearly alike"), (0.5, "much alike"), (0.3, "somewhat alike"), (0.0, "little alike"))
_ONE_CAUSE_R = 0.5

_SIGNS = f"How the gene to the right was predicted where held out: {gene_choice.SIGNS_IN_WORDS}"
_COLUMNS = {
    "trust_a": st.column_config.TextColumn("", width=30, help=_SIGNS),
    "gene_a": st.column_config.TextColumn("Gene", width=94),
    "trust_b": st.column_config.TextColumn("", width=30, help=_SIGNS),
    "gene_b": st.column_config.TextColumn("and gene", width=94),
    "r": st.column_config.NumberColumn("r", format="%.3f", width=54),
    "q_value": st.column_config.NumberColumn(
        "q",
        format="%.1g",
        width=58,
        help="False discovery rate over all pairs. Neighbouring tiles resemble each other, and count for fewer "
        "independent ones; the CSV says for how many.",
    ),
}


@dataclass
class ChosenPair:
    """The two genes of a result that are looked at."""

    genes: tuple[str, str] | None = None
    is_by_link: bool = False  # whether a link asked for them

    def take(self, genes: tuple[str, str], *, by_link: bool = False) -> None:
        """Look at these two."""
        self.genes, self.is_by_link = genes, by_link


class PairsOfGenes(NamedTuple):
    """What came of correlating some genes."""

    correlations: GeneCorrelations
    order: np.ndarray  # of the genes on the heat map
    patterns: float  # independent ones, see `nsl.stats.correlation.independent_patterns`


def show(slide: state.SessionSlide, listing: DeltaGenerator) -> None:
    """Choose genes; the heat map, the table of pairs, the two genes of a cell or a row, downloads.

    listing : the place for which genes are listed.
    """
    with controls.shown_errors():
        chosen, method = _choose(slide, listing)
        if len(chosen) < 2:
            st.info("Name two genes or more that were predicted here to see how they go together.")
            return
        pairs = _correlated(slide.run, tuple(chosen), method, slide.result)
        wide, narrow = controls.side_by_side(wide_first=True)
        with wide:
            _show_heatmap(slide, pairs)
            st.caption(
                "Correlation of predictions is not correlation of expression: two genes go together here where their "
                "weights answer to the same colours, whether or not the tissue regulates them together. As colour "
                "drives every map, nearly all pairs have a small q, and it tells little."
            )
        with narrow:
            st.markdown(patterns_in_words(pairs))
            _show_pair(slide, pairs)
            _show_table(slide, pairs)
        stem = f"{controls.file_stem(slide)}_{method}"
        with st.container(horizontal=True):
            downloads.button(
                "Download the pairs (CSV)",
                lambda: six_digits(pairs.correlations.pairs_table(), index=False),
                f"{stem}_pairs.csv",
            )
            downloads.button("Download the matrix (CSV)", lambda: matrix_csv(pairs), f"{stem}_matrix.csv")


def _choose(slide: state.SessionSlide, listing: DeltaGenerator) -> tuple[list[str], str]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        which = controls.choose_one("Genes", [MOST_RELIABLE, A_LIST], "correlated_which")
        chosen = _most_reliable(slide, listing) if which == MOST_RELIABLE else []
        method = controls.choose_one(
            "Correlation",
            list(METHODS),
            "correlation_method",
            help="Spearman's is that of ranks: it asks for a common order of the tiles, not for a straight line.",
        )
    return chosen if which == MOST_RELIABLE else _listed(slide), METHODS[method]


def _most_reliable(slide: state.SessionSlide, listing: DeltaGenerator) -> list[str]:
    """As many as the slider says, one a pattern, out of those that held up where there are any."""
    table = most_reliable_first(slide.result.var)
    reliable = has_held_up(table)
    held_up = reliable.sum() > 1
    candidates = list(table.index[reliable] if held_up else table.index)
    ranked = candidates
    if patterns.are_collapsed():
        # A map with one pattern alone has no pairs to look at.
        one_a_pattern = list(dict.fromkeys(patterns.of_all(slide, candidates)))
        ranked = one_a_pattern if len(one_a_pattern) > 1 else candidates
    most = min(MOST, len(ranked))
    which = "reliable and weak genes" if held_up else "genes"
    told = f"{len(ranked):,} different pictures, which {len(candidates):,} {which} draw"
    with listing:
        st.caption(told if len(ranked) < len(candidates) else f"All {most:,} {which} of {len(table):,}")
        patterns.offer_every(len(ranked), len(candidates))
    if most <= FEWEST:
        return ranked
    key = "correlated_patterns" if patterns.are_collapsed() else "correlated_number"
    if key in st.session_state:  # of a result with more genes
        st.session_state[key] = min(st.session_state[key], most)
    number = st.slider(
        "How many",
        FEWEST,
        most,
        min(USUAL, most),
        key=key,
        persist_state="session",
        width=controls.CONTROL_PX,
        help="The most reliable first",
    )
    return ranked[:number]


def _listed(slide: state.SessionSlide) -> list[str]:
    text = controls.type_genes("correlated_list", height=90)
    if not text.strip():
        return []
    known, unknown = slide.weights.find_genes(parse_gene_list(text))
    predicted = [gene for gene in known if gene in slide.result.var_names]
    left_out = [*unknown, *(gene for gene in known if gene not in predicted)]
    if left_out:
        names = controls.escaped(some_of(left_out, LEFT_OUT_NAMED))
        st.warning(f"Left out, because they were not predicted on this slide: {names}.")
    return predicted


@st.cache_data(max_entries=2, scope="session", show_spinner="Correlating the genes")
def _correlated(run: str, chosen: tuple[str, ...], method: str, _result) -> PairsOfGenes:
    correlations = gene_correlations_over_tiles(_result, chosen, method)
    return PairsOfGenes(correlations, cluster_order(correlations.r), independent_patterns(_result[:, list(chosen)].X))


def patterns_in_words(pairs: PairsOfGenes) -> str:
    """How many independent patterns the genes show, and how alike that makes their maps, as Markdown."""
    genes, patterns = counted(pairs.correlations.genes), pairs.patterns
    if not patterns:
        return f"None of these {genes} varies over this slide."
    r = pairs.correlations.r[np.triu_indices(len(pairs.correlations.genes), 1)]
    typical = float(np.nanmedian(np.abs(r))) if np.isfinite(r).any() else 0.0
    alike = next(words for least, words in _ALIKE if typical >= least)
    if (r < -_ONE_CAUSE_R).any():
        alike += " or each other's reverse"
    cause = ", because all read the same two stains" if typical >= _ONE_CAUSE_R else ""
    return (
        f"**These {genes} show about {patterns:.1f} independent patterns**: their maps are {alike}{cause}. "
        f"Half of the pairs have |r| of {typical:.2f} or more."
    )


def _show_heatmap(slide: state.SessionSlide, pairs: PairsOfGenes) -> None:
    correlations, key = pairs.correlations, f"correlations of {slide.key}"
    chart.show(
        correlation_heatmap(correlations, pairs.order).update_layout(uirevision=_mark(pairs)),
        key=key,
        alt=f"Heat map of the {correlations.method.capitalize()} correlations between {len(correlations.genes):,} "
        "predicted genes, those that go together side by side; the table of pairs holds the same numbers",
        file_name=f"{controls.file_stem(slide)}_correlations",
        on_click=lambda: _take_cell(slide, key, _table_key(slide, pairs)),
        fits=True,
    )
    unnamed = " Zoom in to read every name." if len(correlations.genes) > MOST_NAMED else ""
    st.caption(f"Genes that go together stand side by side.{unnamed} Click a cell to see its two genes tile by tile.")


def _mark(pairs: PairsOfGenes) -> str:
    """Of the genes and how they were correlated: what belongs to others starts anew."""
    return f"{hash((pairs.correlations.method, *pairs.correlations.genes)):x}"


def _table_key(slide: state.SessionSlide, pairs: PairsOfGenes) -> str:
    return f"pairs of {slide.key} {_mark(pairs)} {st.session_state.get('pairs_with')}"


def _take_cell(slide: state.SessionSlide, key: str, table_key: str) -> None:
    names = chart.clicked_names(key)
    if names and names[0] != names[1]:
        # The chart knows genes by the text it shows.
        slide.of_result(ChosenPair).take((html.unescape(names[1]), html.unescape(names[0])))
        # The row marked in the table is another pair.
        st.session_state[table_key] = {"selection": {"rows": []}}


def _pair(slide: state.SessionSlide, pairs: PairsOfGenes) -> tuple[str, str]:
    """The two genes looked at: of a link, of a click, or those that go together most."""
    wished = (links.asked("genes") or "").split(",")
    if len(wished) == 2 and set(wished) <= set(slide.result.var_names):
        slide.of_result(ChosenPair).take(tuple(wished), by_link=True)
    chosen = slide.of_result(ChosenPair)
    # A pair that a link asks for stays until another is chosen, whichever genes are correlated.
    if chosen.genes and (chosen.is_by_link or set(chosen.genes) <= set(pairs.correlations.genes)):
        return chosen.genes
    strongest = pairs.correlations.pairs_table().iloc[0]
    return strongest.gene_a, strongest.gene_b


def _show_pair(slide: state.SessionSlide, pairs: PairsOfGenes) -> None:
    first, second = _pair(slide, pairs)
    chart.show(
        gene_scatter(slide.result, first, second, method=pairs.correlations.method).update_layout(height=380),
        key="pair_scatter",
        alt=f"Predicted {second} against predicted {first}, a point a tile",
    )
    links.write(genes=f"{first},{second}")


def _show_table(slide: state.SessionSlide, pairs: PairsOfGenes) -> None:
    table = pairs.correlations.pairs_table()
    correlated = pairs.correlations.genes
    only = gene_choice.box_of_one(
        "Pairs",
        correlated,
        gene_choice.Boxed(correlated, slide.weights, "is not among the genes correlated here; choose others above"),
        key="pairs_with",
        first=None,
        width="stretch",
        placeholder="Of all genes; type one to see its pairs",
        label_visibility="collapsed",
    )
    if only:
        table = table[(table.gene_a == only) | (table.gene_b == only)]
    pairs_shown = table.head(PAIRS_SHOWN).reset_index(drop=True)
    columns = ("gene_a", "gene_b")
    names = dict(zip(correlated, short_names(correlated, _LONGEST_NAME), strict=True))
    short = {column: pairs_shown[column].map(names) for column in columns}
    signs = gene_choice.signs(slide.result.var.trust)
    shown = pairs_shown.assign(**short, trust_a=pairs_shown.gene_a.map(signs), trust_b=pairs_shown.gene_b.map(signs))
    controls.table_to_mark(
        shown,
        _COLUMNS,
        key=_table_key(slide, pairs),
        alt="Pairs of genes with their correlation",
        on_mark=lambda row: slide.of_result(ChosenPair).take(tuple(pairs_shown.loc[row.name, ["gene_a", "gene_b"]])),
    )
    more = f"; the CSV holds all {len(table):,}" if len(table) > len(shown) else ""
    st.caption(
        f"{count_of(len(shown), 'pair')}, the largest |r| first{more}. Mark a row to see its genes above; the "
        "magnifying glass searches, a column's head sorts."
    )


def matrix_csv(pairs: PairsOfGenes) -> str:
    """r of genes by genes, in the order of the heat map, to six significant digits."""
    square = np.ix_(pairs.order, pairs.order)
    names = np.array(pairs.correlations.genes, object)[pairs.order]
    return six_digits(pd.DataFrame(pairs.correlations.r[square], pd.Index(names, name="gene"), names))
