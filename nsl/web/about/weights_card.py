"""The weights in use, in reading form: what they were learned on, how far each gene held up, and beside what."""

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from nsl.errors import NslError
from nsl.figures.reliability import reliability_histogram
from nsl.genes import by_capitals, resolve
from nsl.numerals import count_of, csv_table, ordinal, signed, some_of
from nsl.signatures import EXPRESSION_UNIT
from nsl.stains import STAIN_NAMES
from nsl.web import chart, controls, downloads, gene_choice, sources
from nsl.web.session import state
from nsl.weights.card import CARD
from nsl.weights.config import FitRecord, HeldOutProtocol, TrainingStains, WeightsConfig
from nsl.weights.folder import embedded_folder
from nsl.weights.hub import fetch
from nsl.weights.reliability import (
    LEAST_PATIENTS,
    OWN_R,
    RELIABLE,
    SIGNIFICANT,
    UNRELIABLE,
    USEFUL_R,
    WEAK,
    has_held_up,
    most_reliable_first,
    trust_in,
    with_trust,
)
from nsl.weights.weights import Weights

_OURS = "NSL-11"
_LEFT_OUT, _METHOD, _RANKED_BY = "left out", "method", "median r"
_MAX_SECTIONS, _MAX_CARD_LETTERS = 12, 100_000


def weights_in_use() -> Weights:
    """Those that the next run predicts with; the page ends, with a sentence, where they cannot be loaded."""
    with controls.shown_errors():
        return sources.in_use()
    st.stop()


def show_training(weights: Weights) -> None:
    """What the weights were learned on, and how."""
    st.subheader("The weights in use", anchor="weights")
    st.markdown(
        f"**{controls.escaped(weights.name)}** ({_origin(weights)}). They say of themselves what they were learned on:"
    )
    rows = {name: controls.escaped(text) for name, text in training_facts(weights).items()}
    st.table(pd.Series(rows), border="horizontal", hide_header=True)


def training_facts(weights: Weights) -> dict[str, str]:
    """What config.json says of the training, a line each; whoever wrote it need not have filled in everything."""
    config, data = weights.config, weights.config.training_data
    of_genes = f": {data.genes_rule}" if data.genes_rule else ""
    facts = {
        "Tissue": sources.tissue(config),
        "Patients": f"{data.patients:,}",
        "Sections": data.sections and f"{len(data.sections):,}: {some_of(data.sections, _MAX_SECTIONS)}",
        "Spots": f"{data.spots:,}",
        "Genes": f"{len(weights.genes):,}{of_genes}",
        "Source": data.source,
        "Licence of the data": data.licence,
        "Window": f"squares of {config.tile_um:g} µm",
        "Resolution": f"{config.analysis_mpp:g} µm/px",
        "Units": config.units,
        "Stains": _stains(config.stains),
        "Fit": _fit(config.fit),
    }
    return {name: text or "not stated" for name, text in facts.items()}


def _stains(stains: TrainingStains) -> str:
    told = zip(STAIN_NAMES, stains.reference, stains.spread_degrees, strict=True)
    return "; ".join(
        f"{name} {' '.join(signed(od) for od in vector)} (OD of red, green, blue), slides within {spread:.1f}°"
        for name, vector, spread in told
    )


def _fit(fit: FitRecord | None) -> str | None:
    if fit is None:
        return None
    learned = f"the {fit.patterns} strongest patterns of each section's expression" if fit.patterns else "each gene"
    by = f"; nsl {fit.nsl_version}" if fit.nsl_version else ""
    return f"{fit.steps} steps of Adam at {fit.learning_rate} from the published stains, learning {learned}{by}"


def _origin(weights: Weights) -> str:
    if weights.revision:
        return f"{controls.escaped(weights.source)} on the Hugging Face Hub at commit {weights.revision}"
    return "which come with this program" if weights.source == "embedded" else controls.escaped(weights.source)


def show_reliability(weights: Weights) -> None:
    """How the genes held up where they were held out: figures, the distribution, and a table of all."""
    st.subheader("How far to trust a gene", anchor="reliability")
    table, protocol = weights.reliability, weights.config.reliability
    tiers, left_out = trust_in(table, protocol.left_out, protocol.groups), controls.escaped(protocol.left_out)
    usable = int(has_held_up(table).sum())
    st.markdown(
        f"Each of {protocol.groups} {gene_choice.plural(left_out)} was left out in turn, and its genes were "
        "predicted by weights that had not seen it. A gene's **held-out r** is the correlation of prediction and "
        f"measurement over the spots left out: 1 is perfect, 0 is chance. A gene is **{RELIABLE.sign} reliable** where "
        f"prediction and measurement agreed beyond chance in each of {LEAST_PATIENTS} or more patients left out, and "
        f"the mean r over them is {USEFUL_R} or more, from where papers on this task call a gene predicted, and "
        f"{OWN_R} or more beyond what all genes have in common; "
        f"**{WEAK.sign} weak** where they agreed beyond chance (false discovery rate under {SIGNIFICANT * 100:.0f} %, "
        "and all of the 95 % interval of the mean above 0), but little, "
        "not everywhere, in too few patients, or hardly beyond what all genes have in common; "
        f"**{UNRELIABLE.sign} unreliable** where they did not."
    )
    figures = {"Genes": f"{len(table):,}"}
    for tier in (RELIABLE, WEAK, UNRELIABLE):
        figures[f"{tier.sign} {tier.word.capitalize()}"] = f"{(tiers == tier).sum():,}"
    figures["Median r"] = signed(table.r_heldout.median())
    with st.container(horizontal=True):
        for label, value in figures.items():
            st.metric(label, value, width=130)
    unknown = int(table.r_heldout.isna().sum())
    if unknown < len(table):
        chart.show(
            reliability_histogram(table),
            key="reliability_histogram",
            still=True,
            alt=f"Histogram of held-out r over genes: median {figures['Median r']}, from "
            f"{signed(table.r_heldout.min())} to {signed(table.r_heldout.max())}; {usable:,} genes "
            "are reliable or weak",
        )
    if unknown:
        st.caption(f"{count_of(unknown, 'gene')} could not be held out and {'has' if unknown == 1 else 'have'} no r.")
    _show_genes(weights)


def _show_genes(weights: Weights) -> None:
    protocol = weights.config.reliability
    table = with_trust(weights.reliability, protocol.left_out, protocol.groups)
    table = table[["trust", *weights.reliability.columns]]
    wanted = st.text_input(
        "Find genes",
        placeholder="ERBB2, Ki-67, KRT",
        max_chars=500,
        key="about_genes",
        persist_state="session",
        width=360,
    )
    found = matching(table, state.typed_text(wanted))
    shown = found.assign(trust=gene_choice.signed_tiers(found.trust))
    look = {"height": 320, "hide_index": False, "key": "reliability_table"}
    controls.show_table(shown, _columns(protocol), alt="How far each gene can be relied on", **look)
    with st.container(horizontal=True, vertical_alignment="center"):
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in weights.name)
        downloads.button(
            "Download all genes (CSV)",
            lambda: csv_table(table, index_label="gene"),
            f"{stem}_reliability.csv",
        )
        count = f"{len(found):,} of {count_of(len(table), 'gene')}" if wanted.strip() else count_of(len(table), "gene")
        st.caption(f"{count}, the most reliable first. Click a heading to sort.", width="stretch")


def matching(table: pd.DataFrame, text: str) -> pd.DataFrame:
    """Rows of the genes that a text names, by symbol, common name (HER2) or a part of a symbol; all for no text.

    Those named come first, then the others that hold a part, each the most reliable first.
    """
    ordered = most_reliable_first(table)
    words = [word for word in re.split(r"[,;\s]+", text) if word]
    if not words:
        return ordered
    known = by_capitals(ordered.index)
    named = ordered.index.isin([resolve(word, known) for word in words])
    holds = [any(word.upper() in gene for word in words) for gene in ordered.index.str.upper()]
    return pd.concat([ordered[named], ordered[~named & holds]])


def _columns(protocol: HeldOutProtocol) -> dict:
    number = st.column_config.NumberColumn
    next_one = f"the next {protocol.left_out}"
    of = f"of {protocol.groups} {gene_choice.plural(protocol.left_out)} left out"
    return {
        "gene": st.column_config.TextColumn("Gene", pinned=True),
        "trust": st.column_config.TextColumn("Trust"),
        "r_heldout": number("Held-out r", format="%.2f"),
        "r_low": number("r, low", format="%.2f", help="Lower end of the 95 % interval"),
        "r_high": number("r, high", format="%.2f", help="Upper end of the 95 % interval"),
        "r_next_low": number("Next, low", format="%.2f", help=f"Lower end of what to expect of r in {next_one}"),
        "r_next_high": number("Next, high", format="%.2f", help=f"Upper end of what to expect of r in {next_one}"),
        "r_specific": number(
            "Own r",
            format="%.2f",
            help="Held-out r of what is left without what all genes have in common; it can be the higher of the two",
        ),
        "p_value": number("p", format="%.2g"),
        "q_value": number("q", format="%.2g", help="False discovery rate"),
        "patients_replicated": number("Replicated in", format="%d", help=of),
        "n_spots": number("Spots", format="localized"),
        "expression_mean": number("Measured mean", format="%.2f", help=f"Over the spots, {EXPRESSION_UNIT}"),
        "expression_sd": number("Measured sd", format="%.2f", help="Standard deviation over the spots of a section"),
    }


def show_card(weights: Weights) -> None:
    """The model card as its author wrote it, without what could reach out of the page."""
    text = _card_text(weights)
    if text:
        with st.expander("The model card as it stands in the weights folder", icon=":material/description:"):
            st.markdown(harmless(text))


def _card_text(weights: Weights) -> str | None:
    """README.md of the folder that the weights came from; None for weights without one, or trained here."""
    folders = [embedded_folder()]
    if sources.choice().folder:
        folders.append(sources.choice().folder)
    try:
        if weights.revision:
            # By its commit a cached repository is found without a request.
            folders = [fetch(f"{weights.source}@{weights.revision}").folder]
        own = next((folder for folder in folders if WeightsConfig.read(folder) == weights.config), None)
        return (own / CARD).read_text(encoding="utf-8", errors="replace")[:_MAX_CARD_LETTERS] if own else None
    except (NslError, OSError):
        return None


def harmless(markdown: str) -> str:
    """A stranger's Markdown without its front matter, large headings and pictures, which would be loaded from afar.

    Streamlit shows raw HTML as text. "!" before "[" is all that tells a picture from a link.
    """
    text = re.sub(r"\A---\s*\n.*?\n---\s*\n", "", markdown, flags=re.DOTALL)
    text = re.sub(r"!+\[", "[", text)
    return re.sub(r"^ {0,3}#{1,6}(?=\s)", "####", text, flags=re.MULTILINE)


def show_evaluation(weights: Weights) -> None:
    """NSL beside other methods on the same folds, where the weights tell."""
    st.subheader("Beside other methods", anchor="evaluation")
    table = evaluation(weights.config.evaluation)
    if table is None:
        st.caption(
            "These weights bring no comparison with other methods. `python -m nsl evaluate` makes one from measured "
            "sections such as those they were learned on."
        )
        return
    st.markdown(
        "Every method predicted the same spots left out, for the genes of highest mean expression. Medians and counts "
        "are means over what was left out in turn."
    )
    st.markdown("\n".join(f"- {sentence}" for sentence in standing(table)))
    settings = _settings(table)
    tabs = st.tabs([controls.escaped(f"{controls.begun(name)} left out") for name in settings])
    for tab, setting in zip(tabs, settings, strict=True):
        rows = table[table[_LEFT_OUT] == setting].drop(columns=_LEFT_OUT).map(controls.escaped).set_index(_METHOD)
        rows.index = [f"**{name}**" if name == _OURS else name for name in rows.index]
        tab.table(rows, border="horizontal")
    st.caption(
        "Weights per gene are a gene's own numbers; trees and networks share theirs. “On patterns” gives another "
        "method the targets that NSL may choose: the strongest patterns of a section's expression."
    )


def evaluation(rows: Sequence[dict[str, Any]]) -> pd.DataFrame | None:
    """Figures of the methods as text, a row each; None where the weights bring none that can be read."""
    table = pd.DataFrame(rows).astype(str)
    return table if {_LEFT_OUT, _METHOD} <= set(table.columns) else None


def _settings(table: pd.DataFrame) -> list[str]:
    """What was left out; patients first, as that is what predicting a new slide comes down to."""
    return sorted(dict.fromkeys(table[_LEFT_OUT]), key=lambda name: name != "one patient")


def standing(table: pd.DataFrame) -> list[str]:
    """A sentence for patients and one for sections left out: the rank of NSL by median r, and who is best."""
    clauses: dict[str, list[str]] = {}
    for setting in _settings(table):
        r = _median_r(table, setting)
        if _OURS not in r.index or len(r) < 2:
            continue
        ranks, others = r.rank(ascending=False, method="min"), r.drop(_OURS)
        best, rank = others.idxmax(), int(ranks[_OURS])
        clause = (
            f"with {setting} left out, {_OURS} comes {ordinal(rank)} of {len(r)} methods, with a median r of "
            f"{r[_OURS]:.3f}; the {'next' if rank == 1 else 'best'}, {best}, has {others[best]:.3f}"
        )
        clauses.setdefault(setting.split(" of ")[0], []).append(controls.escaped(clause))
    return [f"{controls.begun(told)}." for told in (", and ".join(parts) for parts in clauses.values())]


def hardest(table: pd.DataFrame) -> tuple[str, str, float] | None:
    """What was left out where even the best method reached least: its name, that method, its median r."""
    best = []
    for setting in _settings(table):
        r = _median_r(table, setting).dropna()
        if len(r):
            best.append((setting, str(r.idxmax()), float(r.max())))
    return min(best, key=lambda told: told[2], default=None) if len(best) > 1 else None


def _median_r(table: pd.DataFrame, setting: str) -> pd.Series:
    """Median r by method; without those whose figure is no number."""
    rows = table[table[_LEFT_OUT] == setting]
    if _RANKED_BY not in rows:
        return pd.Series(dtype=float)
    return pd.to_numeric(rows.set_index(_METHOD)[_RANKED_BY], errors="coerce").dropna()
