"""The parts of the Stains page: a gene's 11 numbers, its stain vectors, what they do, and those of all genes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from nsl.figures.stains import effects_bars, response_surface_figure, swatches
from nsl.numerals import signed
from nsl.result import SlidePicture
from nsl.signatures import is_signature, signatures_of, spoken
from nsl.stains import HED_VECTORS, PAPER_WHITE, STAIN_NAMES, angle_degrees, tissue_colors
from nsl.web import chart, controls, gene_choice, links, sources
from nsl.web.session import state
from nsl.weights.interpretation import (
    CHANNELS,
    STAINS,
    onset_in_words,
    response_surface,
    stain_amounts,
    vector_table,
    vectors_of,
)
from nsl.weights.reliability import UNRELIABLE
from nsl.weights.weights import Weights

_CHOICE_PX = 520
# OD shown of a response surface: as far as the slide's darkest pixels, but for specks, within reason.
_DARKEST_PERCENTILE, _LEAST_OD, _MOST_OD, _USUAL_OD = 99, 1.0, 3.0, 1.5


@dataclass
class _VectorTable:
    made_of: tuple[str, str | None] | None = None  # fingerprint of the weights, and the run of the slide
    table: pd.DataFrame | None = None


@dataclass
class _OpenParts:
    titles: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class View:
    """What the page speaks of: weights, and the slide that was predicted with them where there is one."""

    learned: Weights
    slide: state.SessionSlide | None

    @cached_property
    def weights(self) -> Weights:
        """Those learned, brought to the stains of the slide where there is one."""
        return self.learned if self.slide is None else self.learned.transferred(self.slide.provenance.transfer)

    @property
    def white_point(self) -> np.ndarray:
        """(3,) of the slide's glass; paper white without a slide."""
        return PAPER_WHITE if self.slide is None else self.slide.provenance.white_point

    @property
    def training_vectors(self) -> np.ndarray:
        """(2, 3) of the training slides, as they were learned from."""
        return self.learned.config.stains.known_vectors

    @cached_property
    def slide_vectors(self) -> np.ndarray | None:
        """(2, 3) as estimated on the slide; None without a slide, NaN where too little of it is stained."""
        if self.slide is None:
            return None
        return self.slide.provenance.slide_stain_vectors

    @property
    def mixed_vectors(self) -> np.ndarray:
        """(2, 3) hematoxylin and eosin to mix colours of: the slide's own where they are known."""
        own = self.slide_vectors
        return self.training_vectors if own is None or not np.isfinite(own).all() else own

    @cached_property
    def table(self) -> pd.DataFrame:
        """`nsl.weights.interpretation.vector_table`, made once for these weights and this result."""
        kept, wanted = state.of_session(_VectorTable), (self.learned.fingerprint, self.slide and self.slide.run)
        if kept.made_of != wanted:
            transfer = self.slide and self.slide.provenance.transfer
            kept.made_of, kept.table = wanted, vector_table(self.learned, self.slide_vectors, transfer)
        return kept.table


def look() -> View:
    """The weights of the slide's result, or those in use; what is not there to see is said."""
    slide = state.slide()
    if slide is not None and slide.is_running:
        controls.watch_job(slide.job)
    if slide is not None and slide.result is not None:
        return View(slide.weights, slide)
    with controls.shown_errors():
        view = View(sources.in_use(), None)
        _show_the_way(slide, view.weights)
        return view
    st.stop()


def _show_the_way(slide: state.SessionSlide | None, weights: Weights) -> None:
    tissue = controls.escaped(sources.tissue(weights.config))
    st.caption(f"Learned by the weights {controls.escaped(weights.name)}, on {tissue}.")
    if slide is not None:
        controls.show_failure(slide)
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(
            "Once a slide is predicted, its own stains and pixels appear here beside what was learned.", width="stretch"
        )
        st.page_link("pages/predict.py", label="Go to Predict", icon=":material/arrow_back:", width="content")


def choose_gene(view: View, row: DeltaGenerator) -> str:
    """Any gene of the weights, predicted on the slide or not; its box stands in the row."""
    known, key = view.weights.reliability, gene_choice.GENE
    gene_choice.follow_link(known)
    looked_at = gene_choice.looked_at()
    if looked_at and is_signature(looked_at):
        st.caption(
            f"The {controls.escaped(spoken(looked_at))} is the mean of its genes, each with weights of its own: here "
            "is one of them."
        )
        members = signatures_of(view.slide.result)[looked_at].members if view.slide else ()
        known, key = (known.loc[list(members)] if members else known), f"gene of {looked_at}"
    with row:
        gene = gene_choice.choose_one(known, view.weights, key=key)
        with controls.display_part():
            gene_choice.offer_unreliable(known)
    links.write(gene=gene)
    return gene


def tell_trust(view: View, gene: str, heading: DeltaGenerator) -> None:
    """A line on how far gene and slide can be trusted, which opens, and where the weights come from.

    heading : the place for badges beside the page's title.
    """
    known, config = view.weights.reliability, view.weights.config
    short = gene_choice.reliability_in_short(known, gene, config.reliability)
    with controls.cautions(view.slide, heading, short) if view.slide else st.expander(short):
        gene_choice.show_reliability(known, gene, config.reliability)
        if view.table.trust[gene] == UNRELIABLE.word:
            st.caption(
                f"What did not predict {controls.escaped(gene)} where it was held out is likely chance: its vectors "
                "and effects mean little."
            )
        if view.slide:
            st.caption(
                f"Learned by the weights {controls.escaped(config.name)}, with which "
                f"{controls.escaped(view.slide.name)} was predicted, on {controls.escaped(sources.tissue(config))}."
            )


def show_when_opened(parts: Mapping[str, Callable[[], None]]) -> None:
    """Parts of the page by their titles, each made when it is opened: all at once would take seconds.

    What is open stays so while other pages are looked at.
    """
    kept = state.of_session(_OpenParts)
    for title, show in parts.items():
        key = f"stains_part {title}"
        st.session_state.setdefault(key, title in kept.titles)
        part = st.expander(title, key=key, on_change="rerun")
        (kept.titles.add if part.open else kept.titles.discard)(title)
        if part.open:
            with part:
                show()


def show_numbers(view: View, gene: str) -> None:
    """The model of one gene: all its weights, what each is, and the equation."""
    one = view.weights.model.select([gene])
    deconvolution, offset, effect, intercept = (getattr(one, name).numpy()[0] for name in one.shapes)
    meaning = {
        "D, red": "What each unit of optical density (OD) in red adds to the stain's concentration in a pixel",
        "D, green": "The same for green",
        "D, blue": "The same for blue",
        "o, offset": "Added before a concentration below 0 becomes 0; where negative, faint colour does not count",
        "w, effect": "What each unit of the stain's mean concentration over a tile adds to its expression",
    }
    numbers = [*deconvolution, offset, effect]
    rows = [f"| {name} | {_three(*pair)} | {meaning[name]} |" for name, pair in zip(meaning, numbers, strict=True)]
    rows.append(
        f"| b, intercept | {_three(intercept)} | | Expression of a tile where neither stain counts, "
        "ln(1 + counts per 10,000) |"
    )
    head = f"| | {STAINS[0].capitalize()} | {STAINS[1].capitalize()} | What it means |\n|:--|--:|--:|:--|\n"
    st.markdown(head + "\n".join(rows))
    st.markdown(
        "A pixel's colour is three optical densities: how strongly red, green and blue light are absorbed, 0 for clear "
        "glass. Each stain weighs them by its three numbers D, adds its offset, and takes 0 where that is below 0: its "
        "concentration in the pixel. The expression of a tile is the intercept plus, for either stain, its effect "
        "times its mean concentration over the tile's pixels. With the numbers of this gene:"
    )
    lines = [
        f"{stain:<16} = max(0, {_sum(zip(deconvolution[:, s], CHANNELS, strict=True), offset[s])})"
        for s, stain in enumerate(STAINS)
    ]
    total = _sum(zip(effect, (f"mean {stain}" for stain in STAINS), strict=True), intercept)
    st.code("\n".join([*lines, f"{gene:<16} = {total}"]), language=None, wrap_lines=True)


def _three(*numbers: float) -> str:
    return " | ".join(signed(number, 3) for number in numbers)


def _sum(terms, constant: float) -> str:
    """Terms and a constant added up as one writes it."""
    text = ""
    for number, name in [*terms, (constant, None)]:
        sign = (" − " if number < 0 else " + ") if text else ("−" if number < 0 else "")
        text += f"{sign}{abs(number):.3f}" + (f" × {name}" if name else "")
    return text


def show_vectors(view: View, gene: str) -> None:
    """The learned stains as colours beside the published, those learned from and the slide's own."""
    learned, own = vectors_of(view.table.loc[gene]), view.slide_vectors
    shown = {}
    for s, (stain, name) in enumerate(zip(STAINS, STAIN_NAMES, strict=True)):
        shown[f"{gene}, {stain}"] = learned[s]
        shown[f"published {name}"] = HED_VECTORS[s] / np.linalg.norm(HED_VECTORS[s])
        shown[f"training {name}"] = view.training_vectors[s]
        if own is not None:
            shown[f"this slide's {name}"] = own[s]
    show_rows(
        swatches(shown, view.white_point),
        "swatches",
        f"Colours of the two stains learned for {gene} beside the published ones, from 0 to 2 optical density",
    )
    glass = "paper white" if view.slide is None else "this slide's glass"
    st.caption(
        f"Each colour from {glass} on the left to 2 OD of the stain on the right; beside it the optical densities of "
        "red, green and blue that make up 1 OD."
    )
    _show_angles(view, gene, learned)
    st.caption(
        f"A learned vector is what the fit found useful to predict {controls.escaped(gene)}; it is not a measurement "
        "of the dye. On a slide, what was learned is brought to the slide's own stains and shown there. No dye absorbs "
        "negatively, so a vector with a negative component is the colour of no dye."
    )


def _show_angles(view: View, gene: str, learned: np.ndarray) -> None:
    row, stains = view.table.loc[gene], view.weights.config.stains
    brought = "had" if stains.target_vectors is None else "were brought to"
    references = {
        "published by Ruifrok and Johnston, where the fit starts": "hed",
        f"that training slides {brought}": "training",
    }
    if view.slide is not None:
        references = {f"{text}; as learned": name for text, name in references.items()}
        references["estimated on this slide; as shown above, brought to it"] = "slide"
    lines = ["| Angle between the learned vector and the one | Hematoxylin | Eosin |", "|:--|--:|--:|"]
    for text, name in references.items():
        lines.append(f"| {text} | {degrees(*(row[f'{stain}_angle_to_{name}_degrees'] for stain in 'he'))} |")
    spread = degrees(*stains.spread_degrees)
    lines.append(f"| *for comparison: the most that a training slide's own stain lies off their mean* | {spread} |")
    st.markdown("\n".join(lines))
    st.caption(f"The gene's two vectors lie {degrees(angle_degrees(*learned))} apart.")


def degrees(*angles: float) -> str:
    """Angles as cells of a table."""
    return " | ".join(f"{angle:.1f}°" if np.isfinite(angle) else "not known" for angle in angles)


def show_effects(view: View, gene: str) -> None:
    """The effects in units that compare between genes."""
    with st.container(width=_CHOICE_PX):
        beside = gene_choice.choose_some(
            view.weights.reliability,
            view.weights,
            key="effects_beside",
            label="Genes to compare with",
            most=5,
            default=0,
        )
    chosen = view.table.loc[list(dict.fromkeys([gene, *beside]))]
    show_rows(
        effects_bars(chosen),
        "effects",
        f"Bars of how expression changes per optical density of either learned stain: {', '.join(chosen.index)}",
    )
    onsets = [f"{stain} {onset_in_words(chosen[f'{s}_onset_od'][gene])}" for stain, s in zip(STAINS, "he", strict=True)]
    st.caption(
        "A bar says by how much the expression of a tile changes when all its pixels absorb 1 OD more of the stain. "
        "Unlike w it does not depend on the scale of D, so stains and genes can be compared. A stain counts only from "
        f"some density on: for {controls.escaped(gene)}, {' and '.join(onsets)}."
    )


def show_response(view: View, gene: str) -> None:
    """From colour to expression, and which colours the slide has."""
    pixels, most_od = None, _USUAL_OD
    if view.slide is not None:
        picture = SlidePicture.of(view.slide.result).rgb
        pixels = tissue_colors(picture[::4, ::4], view.white_point)
    if pixels is not None and len(pixels):
        darkest = np.percentile(stain_amounts(pixels, view.mixed_vectors), _DARKEST_PERCENTILE, axis=0).max()
        most_od = float(np.clip(np.ceil(2 * darkest) / 2, _LEAST_OD, _MOST_OD))
    surface = response_surface(
        view.weights.model, gene, vectors=view.mixed_vectors, white_point=view.white_point, max_od=most_od
    )
    chart.show(
        response_surface_figure(surface, pixels),
        key="response",
        still=True,
        alt=f"Colours mixed of hematoxylin and eosin, and the expression of {gene} predicted for each, from "
        f"{surface.expression.min():.2f} to {surface.expression.max():.2f}",
    )
    source = "estimated on this slide" if view.mixed_vectors is view.slide_vectors else "on the training slides"
    st.caption(
        f"Colours are mixed of hematoxylin and eosin as {source}. Each mixture gets the expression of a tile that is "
        "of this colour throughout."
        + (" What lies outside the lines is colour that this slide hardly has." if pixels is not None else "")
    )


def show_rows(figure: go.Figure, key: str, alt: str) -> None:
    """A figure with a row a name, which is looked at and not zoomed."""
    figure.update_yaxes(tickfont_size=14)
    chart.show(figure, key=key, alt=alt, still=True)
