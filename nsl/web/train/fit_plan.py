"""The parts of the Train page before a fit: adding sections, and settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from nsl.numerals import count_of
from nsl.web import controls
from nsl.web.session import state
from nsl.web.session.uploads import read_measured_uploads, take_demo
from nsl.web.train import fit_duration, paired_sections
from nsl.web.train.paired_sections import PairedSection

if TYPE_CHECKING:
    from nsl.train import FitSettings

# Genes of highest mean that are offered beside all of them.
SOME_GENES = (250, 1000)
USUAL_SHARE = 10
ALL_GENES = 0
# The most genes whose fit takes less than this are proposed.
SHORT_SECONDS = 300
WINDOW_UM, ANALYSIS_MPP = 150.0, 3.0
# A window as large as the slide is read anew for every spot, which takes hours.
MAX_WINDOW_UM = 2_000.0


@dataclass(frozen=True)
class Plan:
    """What the user chose to train."""

    sections: Sequence[PairedSection]
    name: str
    tissue: str
    source: str
    licence: str
    window_um: float
    analysis_mpp: float
    share: float  # of every patient's spots, in which a gene must be counted
    most_genes: int | None  # None for all of them
    genes: int  # how many that makes
    is_choosing: bool  # whether settings of the fit are chosen by nested validation
    reckoned_seconds: float

    @property
    def failed_checks(self) -> tuple[str, ...]:
        """A sentence for each thing that was found and may spoil the fit."""
        return tuple(warning for section in self.sections for warning in section.report.warnings)

    @property
    def candidates(self) -> "Sequence[FitSettings]":
        from nsl.train import CANDIDATES

        return CANDIDATES if self.is_choosing else CANDIDATES[:1]


def explain() -> None:
    """What a first-time visitor sees: what it takes, and what comes of it."""
    with controls.part("What it takes"):
        st.markdown(
            "1. **The H&E image** of each section, brought on the Predict page.\n"
            "2. **Raw counts** of its spots, and **where each spot lies**, in pixels of that very image: two tables, a "
            "zip of Space Ranger's `outs` folder, or an h5ad file.\n\n"
            "You get **weights of your own**: 11 numbers for each gene, with how well the gene was predicted in parts "
            "of your data that the fit had not seen. They can be used at once, or downloaded as a folder."
        )
        st.caption(
            "Sections of several patients teach what holds beyond one of them. From one section the colours of one "
            "slide are learned, and how well that carries over to another patient cannot be told."
        )
        if st.button(
            "Try it on the demo slide",
            icon=":material/science:",
            help="The synthetic slide, with made-up counts of 150 made-up genes",
        ):
            _add_demo()


def _add_demo() -> None:
    with st.spinner("Staining and measuring the demo slide"), controls.shown_errors():
        take_demo()
        slide = state.slide()
        _add(slide, slide.seen.mpp, paired_sections.demo_measured(), "Demo", "Nobody", 1.0)
        st.rerun()


def add_section() -> None:
    """Slide, scale, tables and labels of one more section; errors leave the sections that are there."""
    with controls.part("1 · Measured sections"):
        slides = {slide.key: slide for slide in state.slides()}
        if not slides:
            st.markdown("Bring the H&E image of a measured section first.")
            st.page_link("pages/predict.py", label="Go to Predict", icon=":material/arrow_back:")
            return
        number = paired_sections.added()
        key = st.selectbox(
            "H&E slide",
            list(slides),
            index=_unused(list(slides)),
            placeholder="All are used; bring another on Predict",
            format_func=lambda key: slides[key].name,
            key=f"paired_slide {number} {len(slides)}",
            help="Slides of this session; bring others on the Predict page.",
        )
        if key is None:
            return
        slide = slides[key]
        mpp = controls.choose_scale(slide)
        uploads = controls.offer_measured(
            "Measured data of this section",
            f"paired_files {number}",
            help="Two tables (CSV or TSV, also gzipped): raw counts with a row a spot, and positions with columns "
            "spot, x_px, y_px or x, y, pixel_x, pixel_y. Or a zip of Space Ranger's outs folder, or its "
            "filtered_feature_bc_matrix.h5 with tissue_positions.csv. Or an h5ad file with raw counts.",
        )
        name, patient = _labels(number)
        with st.expander("Positions of another image"):
            positions_scale = controls.choose_positions_scale(
                f"paired_scale {number}",
                "1 where positions are in pixels of this very image. Where they are of a larger original, its "
                "scale: tissue_hires_scalef for Visium's hires image.",
            )
        is_ready = bool(uploads) and mpp is not None
        if st.button("Add the section", icon=":material/add:", disabled=not is_ready, width="stretch"):
            with controls.shown_errors(), st.spinner("Reading the section"):
                _add(slide, mpp, read_measured_uploads(uploads), name, patient, positions_scale)
                st.rerun()


def _unused(keys: list[str]) -> int | None:
    """Which slide to propose: the one looked at, or the first that is no section yet; none where all are."""
    used = {section.slide.key for section in paired_sections.sections()}
    free = [key for key in keys if key not in used]
    looked_at = state.slide().key
    return keys.index(looked_at if looked_at in free else free[0]) if free else None


def _labels(number: int) -> tuple[str, str]:
    there = paired_sections.sections()
    with st.container(horizontal=True):
        name = st.text_input(
            "Section",
            paired_sections.free_label("S", {section.name for section in there}),
            key=f"paired_name {number}",
            width=150,
        )
        patient = st.text_input(
            "Patient",
            paired_sections.free_label("P", {section.patient for section in there}),
            key=f"paired_patient {number}",
            width=150,
            help="Sections of one patient need the same label: they are held out together.",
        )
    st.caption(
        "Both labels are written into the weights folder as you type them, and go nowhere else: type nothing that "
        "tells who the patient is."
    )
    return state.typed_text(name), state.typed_text(patient)


def _add(slide: state.SessionSlide, mpp: float, measured, name: str, patient: str, positions_scale: float) -> None:
    paired_sections.add(
        slide,
        mpp,
        measured,
        name=name,
        patient=patient,
        positions_scale=positions_scale,
        window_um=st.session_state.get("train_window", WINDOW_UM),
        analysis_mpp=st.session_state.get("train_mpp", ANALYSIS_MPP),
    )


# Settings


def settings(sections: Sequence[PairedSection]) -> Plan | None:
    """The choices for a fit; None while there is nothing to fit."""
    if not sections:
        return None
    with controls.part("2 · Settings"):
        name = st.text_input(
            "Name of the weights", "my-weights", max_chars=60, key="train_name", persist_state="session"
        )
        about = _about(sections)
        choose_genes, fine = st.container(), st.expander("Window, resolution and fit")
        with fine:
            fit = _fit_settings()
        genes = None
        with controls.shown_errors():
            with st.spinner("Reading the sections"):
                for section in sections:
                    section.look(fit["window_um"], fit["analysis_mpp"])
            with choose_genes:
                genes = _choose_genes(sections, fit["is_choosing"])
    if genes is None:
        return None
    return Plan(
        sections=list(sections), name=" ".join(state.typed_text(name).split()) or "my-weights", **about, **fit, **genes
    )


def _about(sections: Sequence[PairedSection]) -> dict[str, str]:
    is_synthetic = all(section.slide.synthetic for section in sections)
    fields = {
        "tissue": ("Tissue", "HER2-positive breast cancer", "synthetic tissue", "tissue that is not stated"),
        "source": ("Source of the data", "Where it was published or made", "the demo slide of nsl", "not stated"),
        "licence": ("Licence of the data", "CC BY 4.0", "not stated", "not stated"),
    }
    about = {}
    with st.expander("For the model card"):
        for name, (label, example, of_demo, unknown) in fields.items():
            text = st.text_input(label, placeholder=example, key=f"train_{name}", persist_state="session")
            about[name] = state.typed_text(text).strip() or (of_demo if is_synthetic else unknown)
    return about


def _fit_settings() -> dict[str, Any]:
    window_um = st.number_input(
        "Window around a spot, µm",
        value=WINDOW_UM,
        min_value=10.0,
        max_value=MAX_WINDOW_UM,
        step=10.0,
        format="%.0f",
        key="train_window",
        persist_state="session",
        help="On published sections 150 to 200 µm around spots of 100 µm were best. Tiles are predicted at this size.",
    )
    analysis_mpp = st.number_input(
        "Slides are read at, µm per pixel",
        value=ANALYSIS_MPP,
        min_value=0.1,
        step=0.5,
        format="%.1f",
        key="train_mpp",
        persist_state="session",
        help="On published sections 1.5 to 6 µm/px were level.",
    )
    is_choosing = st.checkbox(
        "Choose patterns and steps by nested validation",
        key="train_choosing",
        persist_state="session",
        help="Tries 9 settings on parts left out, and takes far longer. On published sections it came to much the same "
        "as the usual 10 patterns and 50 steps: median held-out r 0.192 against 0.186.",
    )
    return {"window_um": window_um, "analysis_mpp": analysis_mpp, "is_choosing": is_choosing}


def _choose_genes(sections: Sequence[PairedSection], is_choosing: bool) -> dict[str, Any] | None:
    """What a `Plan` says of genes and of the time they take; None where no gene is left."""
    percent = st.slider(
        "A gene is counted in at least, % of spots",
        1,
        50,
        USUAL_SHARE,
        key="train_share",
        persist_state="session",
        help="Of the spots of every patient. Genes that are rarely counted are mostly noise.",
    )
    labelled = tuple(
        (section.key, section.patient, section.last.window_um, section.last.analysis_mpp) for section in sections
    )
    detected = _detected(labelled, percent / 100, sections)
    if not detected:
        st.warning(
            f"No gene is counted in {percent} % of the spots of every patient. Lower the share"
            + (", and check that all tables name genes alike." if len(sections) > 1 else "."),
            icon=":material/error_outline:",
        )
        return None
    options = [number for number in SOME_GENES if number < detected] + [ALL_GENES]
    usual = {number: fit_duration.usual_seconds(sections, number or detected, is_choosing) for number in options}
    seconds = {number: fit_duration.on_this_computer(usual[number]) for number in options}
    if st.session_state.get("train_genes", ALL_GENES) not in options:  # of sections that held more
        del st.session_state["train_genes"]
    short = [i for i, number in enumerate(options) if usual[number] <= SHORT_SECONDS]
    most = st.radio(
        "Genes to fit",
        options,
        index=max(short, default=0),
        # Labels that stay, so that the choice does: how many all are, and how long each takes, changes.
        format_func=lambda number: f"{number:,} of highest mean" if number else "All",
        captions=[
            f"{count_of(number or detected, 'gene')}, about {controls.duration(seconds[number])}" for number in options
        ],
        key="train_genes",
        persist_state="session",
        help="Times are of this computer when nothing else runs.",
    )
    chosen = {"share": percent / 100, "most_genes": most or None, "genes": most or detected}
    return chosen | {"reckoned_seconds": seconds[most]}


@st.cache_data(max_entries=16, scope="session", show_spinner=False)
def _detected(labelled: tuple, share: float, _sections: Sequence[PairedSection]) -> int:
    return len(paired_sections.detected_genes(_sections, share))
