"""The app's server as `streamlit run` starts it, for tests that begin where a user has come to.

Runs made before are answered from memory. A session whose cookie `predicted` names a slide has it predicted from the
start, as the Predict page proposes: the demo slide, or a file of NSL_TEST_SLIDES. A run at a quarter of a tile comes
half its way and waits there to be cancelled.
"""

import os
import sys
import threading
from pathlib import Path

import streamlit as st
from streamlit.web import cli

sys.path.insert(0, str(Path(__file__).parents[2]))

import nsl.prediction
from nsl.system.progress import Progress
from nsl.web import runs
from nsl.web.session import state, uploads
from tests import remembered_runs, shared_work

WAITS_SECONDS = 300
_collect_results = state.collect_results


def _collect() -> None:
    wanted = st.context.cookies.get("predicted")
    if wanted and not st.session_state.setdefault("tests.is_begun", False):
        st.session_state["tests.is_begun"] = True
        if wanted == "demo":
            uploads.take_demo()
        else:
            uploads.take_server_file(Path(os.environ["NSL_TEST_SLIDES"]) / wanted, wanted)
        slide = state.slide()
        runs.start(slide, runs.usual_settings(slide))
        slide.job.thread.join()
    _collect_results()


def _predict(slide, weights, **settings):
    if settings.get("stride_um") == settings["tile_um"] / 4:
        settings["progress"] = _HalfWay(settings["progress"])
    return remembered_runs.predict(slide, weights, **settings)


class _HalfWay(Progress):
    """Of a run that goes no further before it is cancelled."""

    def __init__(self, shown: Progress):
        self._shown = shown

    def report(self, done: int, total: int, stage: str = "") -> None:
        self._shown.report(done, total, stage)
        waited = 0.0
        while done >= total / 2 and not self.cancelled and waited < WAITS_SECONDS:
            threading.Event().wait(0.05)
            waited += 0.05

    @property
    def cancelled(self) -> bool:
        return self._shown.cancelled


if __name__ == "__main__":
    # The rehearsal for the first user would go on beside the tests.
    runs.rehearse = lambda known: None
    nsl.prediction.predict = _predict
    uploads._demo_file = shared_work.kept(uploads._demo_file)
    state.collect_results = _collect
    sys.argv[0] = "streamlit"
    sys.exit(cli.main())
