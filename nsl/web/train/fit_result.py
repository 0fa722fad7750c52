"""The parts of the Train page from the button on: the fit, what was held out, the weights to use and to keep."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from nsl.numerals import count_of, csv_table, signed
from nsl.web import chart, controls, downloads, gene_choice, sources
from nsl.web.session import state
from nsl.web.session.jobs import Job
from nsl.web.train import fit_duration, paired_sections
from nsl.web.train.fit_plan import Plan
from nsl.weights.config import WeightsConfig
from nsl.weights.folder import load_weights, save_weights
from nsl.weights.reliability import (
    LEAST_PATIENTS,
    OWN_R,
    RELIABLE,
    UNRELIABLE,
    USEFUL_R,
    WEAK,
    can_be_reliable,
    has_held_up,
    most_reliable_first,
    trust_in,
    with_trust,
)
from nsl.weights.weights import Weights

SOURCE = "Trained in this session"
# Of a bar of the histogram: own sections have fewer genes than published weights.
_BIN_R = 0.05


@dataclass(frozen=True)
class Trained:
    """Weights that came of a training, and their folder."""

    weights: Weights
    folder_name: str
    zipped: bytes
    seconds: float


@dataclass
class Training:
    """The fits of a session."""

    job: Job | None = None  # the last
    trained: Trained | None = None  # what came of the last that ended well
    asked_of: tuple[str, ...] = ()  # failed checks of which the user is asked whether to go on


def run(plan: Plan | None) -> None:
    """What will be held out and how long it takes, the button, and why the last training failed if it did."""
    training = state.of_session(Training)
    job = training.job
    is_running = job is not None and job.is_running
    if plan is not None:
        st.caption(
            f"{_held_out(plan)} {count_of(plan.genes, 'gene')}: about "
            f"{controls.duration(plan.reckoned_seconds)} on this computer."
        )
        if st.button("Train", type="primary", width="stretch", disabled=is_running, icon=":material/model_training:"):
            if plan.failed_checks:
                training.asked_of = plan.failed_checks
            else:
                training.job = start(plan)
                st.rerun()
        if plan.failed_checks and training.asked_of == plan.failed_checks:
            _ask(training, plan)
    if is_running:
        with st.container(border=True):
            controls.watch_job(job)
            st.caption("You may look at other pages meanwhile; closing the app ends it.")
    elif job is not None and job.result is not None:
        training.trained = job.result
        st.success(
            f"Trained in {controls.duration(job.result.seconds)}. The result stands above the checks.",
            icon=":material/check_circle:",
        )
    elif job is not None and job.is_cancelled:
        st.info("The training was cancelled. Sections and settings are as they were.", icon=":material/stop_circle:")
    elif job is not None and job.error:
        controls.show_error(job.error)


def _ask(training: Training, plan: Plan) -> None:
    """Whether to go on though checks failed."""
    with st.container(border=True):
        st.markdown("These checks failed, and the weights may be worth nothing. Train all the same?")
        st.markdown(_as_list(plan.failed_checks))
        with st.container(horizontal=True):
            goes_on = st.button("Train all the same", icon=":material/model_training:")
            is_answered = st.button("Do not train") or goes_on
    if goes_on:
        training.job = start(plan)
    if is_answered:
        training.asked_of = ()
        st.rerun()


def _as_list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {controls.escaped(sentence)}" for sentence in sentences)


def _held_out(plan: Plan) -> str:
    """What the fit will not see, before it begins."""
    patients, sections = len({section.patient for section in plan.sections}), len(plan.sections)
    left_out = f"of {sections} sections of the one patient" if sections > 1 else "quarter of the section"
    left_out = f"of {patients} patients" if patients > 1 else left_out
    return f"Each {left_out} is left out in turn to tell how well genes are predicted."


def start(plan: Plan) -> Job:
    """Fit in a thread of its own; what was trained before stays until it is done."""

    def work(job: Job) -> Trained:
        from nsl.train import train_sections

        begun = time.perf_counter()
        job.check(0, 1, "reading the sections")
        fitted = train_sections(
            paired_sections.to_train_on(plan.sections, plan.window_um, plan.analysis_mpp, plan.share),
            name=plan.name,
            tissue=plan.tissue,
            source=plan.source,
            licence=plan.licence,
            min_detected=plan.share,
            most_genes=plan.most_genes,
            tile_um=plan.window_um,
            analysis_mpp=plan.analysis_mpp,
            candidates=plan.candidates,
            command="streamlit run app.py, page Train",
            failed_checks=plan.failed_checks,
            progress=job,
        )
        job.check(0, 1, "writing the weights")
        seconds = time.perf_counter() - begun
        fit_duration.learn(plan.reckoned_seconds, seconds)
        return _kept(fitted, seconds)

    return Job().start(work)


def _kept(fitted: Weights, seconds: float) -> Trained:
    """Weights as they are when loaded from their folder, which gives them their checksum, and the folder as a zip."""
    from nsl.export.files import zipped

    with tempfile.TemporaryDirectory(prefix="nsl-") as parent:
        folder = Path(parent) / _file_name(fitted.name)
        save_weights(fitted, folder)
        weights = replace(load_weights(folder), source=SOURCE)
        files = {f"{folder.name}/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
        return Trained(weights, folder.name, zipped(files), seconds)


def _file_name(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in name).strip("_") or "weights"


def show() -> None:
    """What came of the last training that ended well."""
    from nsl.figures.reliability import reliability_histogram

    trained = state.of_session(Training).trained
    if trained is None:
        return
    weights, table = trained.weights, trained.weights.reliability
    with controls.part(f"Result: {controls.escaped(weights.name)}"):
        _show_numbers(trained)
        st.markdown(_what_was_held_out(weights.config))
        st.info(_caution(weights.config), icon=":material/info:")
        failed = weights.config.training_data.failed_checks
        if failed:
            st.warning(f"These checks failed before the fit:\n\n{_as_list(failed)}", icon=":material/error_outline:")
        _offer(trained)
        chart.show(
            reliability_histogram(table, _BIN_R),
            key="trained_histogram",
            still=True,
            alt=f"Histogram of the held-out r of {len(table):,} genes; {has_held_up(table).sum():,} of them held up",
        )
        st.caption(f"The dashed line is at r {USEFUL_R}, from where papers on this task count a gene as predicted.")
        _show_table(trained)


def _show_numbers(trained: Trained) -> None:
    table, protocol = trained.weights.reliability, trained.weights.config.reliability
    with st.container(horizontal=True):
        # All five stand in a row beside the form on a laptop.
        st.metric("Genes", f"{len(table):,}", width=68)
        st.metric("Median r", signed(table.r_heldout.median()), width=72)
        tiers = trust_in(table, protocol.left_out, protocol.groups)
        for tier, width in ((RELIABLE, 94), (WEAK, 82), (UNRELIABLE, 112)):
            st.metric(f"{tier.sign} {tier.word.capitalize()}", f"{(tiers == tier).sum():,}", width=width, help=_TIERS)


def _what_was_held_out(config: WeightsConfig) -> str:
    groups, spots = config.reliability.groups, config.training_data.spots
    left_out, others = {
        "patient": (f"of {groups} patients", "the others"),
        "section": (f"of {groups} sections of the one patient", "the others"),
    }.get(config.reliability.left_out, ("quarter of the section", "the other three"))
    return f"Each {left_out} was left out in turn and predicted by a fit to {others} ({spots:,} spots in all)."


def _caution(config: WeightsConfig) -> str:
    """What the held-out figures do not tell."""
    left_out, groups = config.reliability.left_out, config.reliability.groups
    reliable = can_be_reliable(left_out, groups)
    weak = "" if reliable else f" No gene is called reliable before {LEAST_PATIENTS} patients were left out."
    if left_out == "patient":
        return (
            f"These figures are of patients that the fit had not seen, {groups} of them: few, so intervals are wide. "
            f"Another laboratory or scanner may be predicted worse.{weak}"
        )
    near, data = "quarters left out lie beside the tissue that was learned from, on the same slide", "one section"
    if left_out == "section":
        near, data = "sections left out are of the patient that was learned from", "these data"
    return f"The {near}: another patient will be predicted worse, and how much worse cannot be told from {data}.{weak}"


def _offer(trained: Trained) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if sources.choice().weights is trained.weights:
            st.badge("In use", icon=":material/check:", color="green")
            st.page_link("pages/predict.py", label="Predict with them", icon=":material/play_circle:")
        else:
            use = {"on_click": sources.choice().use, "args": [trained.weights]}
            st.button("Use these weights", type="primary", icon=":material/check_circle:", **use)
        name = trained.folder_name
        downloads.button("Download the weights (zip)", lambda: trained.zipped, f"{name}.zip", icon="folder_zip")
        protocol = trained.weights.config.reliability
        table = with_trust(trained.weights.reliability, protocol.left_out, protocol.groups)
        downloads.button(
            "Download the table (CSV)",
            lambda: csv_table(table, index_label="gene"),
            f"{name}_heldout.csv",
        )
    st.caption(
        'The zip opens in the sidebar under "Use other weights" in any later session, and, unpacked, with '
        "`python -m nsl predict --weights`."
    )


_TIERS = (
    f"Reliable: agreed with measurement beyond chance in each of {LEAST_PATIENTS} or more patients left out, with a "
    f"mean r of {USEFUL_R} or more, and r {OWN_R} or more beyond what all genes have in common. Weak: agreed beyond "
    "chance (false discoveries under 5 %, the interval of the mean above 0), but less so. Unreliable: did not."
)
_COLUMNS = {
    "gene": st.column_config.TextColumn("Gene"),
    "r_heldout": st.column_config.NumberColumn("Held-out r", format="%.2f"),
    "r_low": st.column_config.NumberColumn("from", format="%.2f", help="Lower end of the 95 % interval"),
    "r_high": st.column_config.NumberColumn("to", format="%.2f", help="Upper end of the 95 % interval"),
    "q_value": st.column_config.NumberColumn("q", format="%.2g", help="False discovery rate over all genes"),
    "patients_replicated": st.column_config.NumberColumn("Replicated in"),
    "trust": st.column_config.TextColumn("Trust", help=_TIERS),
}


def _show_table(trained: Trained) -> None:
    table, protocol = trained.weights.reliability, trained.weights.config.reliability
    shown = most_reliable_first(with_trust(table, protocol.left_out, protocol.groups)).reset_index()
    shown["trust"] = gene_choice.signed_tiers(shown.trust)
    columns = _COLUMNS | {
        "patients_replicated": st.column_config.NumberColumn(
            "Replicated in", format=f"%d of {protocol.groups}", help=f"Of each {protocol.left_out} left out"
        )
    }
    look = {"height": 320, "key": "trained_table"}
    controls.show_table(
        shown[list(_COLUMNS)], columns, alt="How well each gene was predicted where it was held out", **look
    )
