"""The sidebar: the weights in use and a way to others, the session's slides and what has become of each."""

import numpy as np
import streamlit as st
from PIL import Image

from nsl.numerals import count_of
from nsl.web import controls, sources
from nsl.web.session import state, uploads
from nsl.weights.weights import Weights

# Of org/name@revision; a longer text names nothing.
LONGEST_SOURCE = 350
_PICTURE_PX = 64


def show() -> bool:
    """Weights in use and the session's slides; False where there are no weights to go on with."""
    with controls.shown_errors(), st.sidebar:
        _weights()
        _slides()
        return True
    return False


def _slides() -> None:
    slides, slide = state.slides(), state.slide()
    st.caption("SLIDES" if len(slides) > 1 else "SLIDE")
    if slide is None:
        st.caption("None yet")
        return
    _show_pictures(slides)
    if len(slides) > 1:
        names = {one.key: f"{number} · {one.name} · {_status(one)}" for number, one in enumerate(slides, start=1)}
        # The choice follows the session: a new slide is looked at as it comes.
        st.session_state["slide_choice"] = slide.key
        st.radio(
            "Slide",
            list(names),
            format_func=lambda key: controls.escaped(names[key]),
            key="slide_choice",
            label_visibility="collapsed",
            on_change=lambda: state.choose(st.session_state["slide_choice"]),
        )
    else:
        st.markdown(f"**{controls.escaped(slide.name)}**")
        st.caption(_status(slide))
    running = [one for one in slides if one.is_running]
    if running:
        _follow(running, slide)
    with st.container(horizontal=True):
        with st.popover("Rename", icon=":material/edit:", type="tertiary"):
            key = f"name of {slide.key} {slide.name}"
            st.text_input(
                "Name of this slide",
                slide.name,
                max_chars=uploads.LONGEST_NAME,
                key=key,
                help="It stands on the page and names the files you download.",
                on_change=lambda: uploads.rename(slide, state.typed_text(st.session_state[key])),
            )
        controls.offer_removal(
            "Remove this slide",
            uploads.remove,
            slide,
            key=f"remove {slide.key}",
            help="Its image and its result leave this computer's memory; download first what you want to keep.",
        )


def _show_pictures(slides: list[state.SessionSlide]) -> None:
    """A small picture of each slide, in the order of the list, to tell slides of like names apart."""
    with st.container(horizontal=True, gap="small"):
        for number, slide in enumerate(slides, start=1):
            several = {"caption": str(number)} if len(slides) > 1 else {}
            st.image(_small(slide.key, slide.seen.thumbnail), alt=f"Overview of {slide.name}", **several)


@st.cache_data(max_entries=uploads.MAX_SLIDES, scope="session", show_spinner=False)
def _small(slide_key: str, _thumbnail: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(_thumbnail)
    picture.thumbnail((_PICTURE_PX, _PICTURE_PX))
    return np.asarray(picture)


# Looking sooner would interrupt what is drawn on the page; the run of the slide looked at is watched there as well.
@state.fragment(run_every=2.0)
def _follow(running: list[state.SessionSlide], looked_at: state.SessionSlide) -> None:
    """How far the runs of other slides are; the page anew when one has ended."""
    if not all(one.job.is_running for one in running):
        st.rerun()
    for one in running:
        if one is not looked_at:
            st.progress(one.job.share, text=controls.escaped(one.name))


def _status(slide: state.SessionSlide) -> str:
    if slide.is_running:
        return "waiting for its turn" if slide.job.ahead else "predicting"
    if slide.result is None:
        return "not predicted yet"
    tiles = f"{count_of(slide.result.n_obs, 'tile')} predicted"
    return tiles if slide.provenance.complete else f"{tiles}, cancelled"


def _weights() -> None:
    config, weights, request = sources.config_in_use(), sources.choice().weights, sources.choice().request
    data = config.training_data
    st.caption("WEIGHTS")
    st.markdown(f"**{controls.escaped(config.name)}** · {count_of(len(config.genes), 'gene')}")
    patients = count_of(data.patients, "patient")
    st.caption(
        f"{_origin(weights)}. Learned from {count_of(data.spots, 'spot')} of {patients}: "
        f"{controls.escaped(sources.tissue(config))}."
    )
    if request is not None:
        if request.is_running:
            _watch()
        elif request.error:
            st.warning(controls.escaped(request.error))
            st.caption("The weights above stay in use.")
    with st.expander("Use other weights"):
        _offer()


def _origin(weights: Weights | None) -> str:
    if weights is None:
        return "Embedded"
    source = controls.escaped(weights.source)
    return f"{source} at commit {weights.revision[:7]}" if weights.revision else source


# Looking sooner interrupts the very first page, and costs it a second.
@state.fragment(run_every=2.0)
def _watch() -> None:
    """Until the weights have come, or not; the page is usable meanwhile."""
    request = sources.choice().request
    if request is None or not request.is_running:
        st.rerun()
    st.caption(f"Fetching {controls.escaped(request.label)}; until then these are used.")


def _offer() -> None:
    st.text_input(
        "From the Hugging Face Hub",
        placeholder="org/name@revision",
        help="The revision is a tag, a branch or a commit; main if left out.",
        max_chars=LONGEST_SOURCE,
        key="hub_source",
        on_change=_ask_hub,
    )
    upload = st.file_uploader(
        "A weights folder as zip", type="zip", key="weights_zip", max_upload_size=sources.MAX_ZIP_MB
    )
    if upload is not None and sources.choice().upload_id != upload.file_id:
        with controls.shown_errors():
            sources.take_zip(upload)
            st.rerun()
    if sources.choice().weights is not None and st.button("Back to the embedded weights"):
        sources.choice().use(None)
        st.rerun()


def _ask_hub() -> None:
    source = state.typed_text(st.session_state["hub_source"]).strip()
    if source:
        sources.ask_hub(source)
