"""What a page needs before it can show anything, and the way there."""

import streamlit as st

from nsl.errors import NslError
from nsl.web import controls, links, state
from nsl.web.predict import prediction_run


def predicted_slide() -> state.OpenSlide:
    """The slide that is looked at, with its result; where there is none the page says how to come by one and ends."""
    slide = state.slide()
    if slide is not None and slide.is_running:
        controls.watch_job(slide.job)
    if slide is None or slide.result is None:
        _show_the_way(slide)
        st.stop()
    return slide


def _show_the_way(slide: state.OpenSlide | None) -> None:
    with st.container(border=True):
        if slide is not None and slide.is_running:
            st.markdown("What was predicted appears here when the run is done.")
            return
        if links.is_waiting():
            st.markdown(
                "This address shows a view of a slide. Slides never travel in links, and go when a page is reloaded: "
                "bring yours, or look at the demo slide."
            )
        st.markdown("There is no prediction yet." if slide else "There is no slide yet.")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link("pages/predict.py", label="Go to Predict", icon=":material/arrow_back:")
            if slide is not None and slide.metadata_mpp and st.button("Run it now", icon=":material/play_arrow:"):
                _predict(slide)
            if st.button("Show it on the demo slide", icon=":material/science:"):
                _predict_demo()
    if slide is not None:
        controls.show_failure(slide)


def _predict(slide: state.OpenSlide) -> None:
    """As the Predict page proposes."""
    try:
        prediction_run.start(slide, prediction_run.usual_settings(slide))
    except NslError as error:
        controls.show_error(str(error))
        return
    st.rerun()


def _predict_demo() -> None:
    try:
        with st.spinner("Staining the demo slide"):
            state.take_demo()
    except NslError as error:
        controls.show_error(str(error))
        return
    if state.slide().result is None:
        _predict(state.slide())
    st.rerun()
