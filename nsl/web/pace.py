"""How long a run will take on this computer, told before it begins."""

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import streamlit as st

# Responses of a gene to a pixel, a second. Of two cores of 2023; each run on this computer corrects it.
_FIRST_GUESS = 3e9
# Reading at the analysis resolution against opening the slide and reading its thumbnail.
_READING = 2.0


@st.cache_resource(show_spinner=False)
def _known() -> dict[str, float]:
    """What all sessions have learned of this computer."""
    return {"responses_per_second": _FIRST_GUESS}


def responses(tiles: int, tile_um: float, mpp: float, genes: int) -> float:
    """How often the model answers in a run: pixels of tiles × genes."""
    return tiles * (tile_um / mpp) ** 2 * genes


def seconds(open_seconds: float, work: float) -> float:
    """Estimated time of a run of `responses` on a slide that took so long to open."""
    return _READING * open_seconds + work / _known()["responses_per_second"]


def learn(open_seconds: float, work: float, seconds: float) -> None:
    """Correct the estimate by what a run took; a short one is all reading and tells nothing."""
    computing = seconds - _READING * open_seconds
    if computing > 0.2:
        known = _known()
        known["responses_per_second"] = (known["responses_per_second"] + work / computing) / 2


@st.cache_resource(show_spinner=False)
def warm_up() -> None:
    """Rehearse a run on a small slide, once a server and after the first page has gone out.

    The first user then waits for no import and no compiler.
    """
    threading.Thread(target=rehearse, args=[_known()], daemon=True).start()


def rehearse(known: dict[str, float] | None = None) -> None:
    """Predict on a small slide, so that all is imported and compiled; `known` takes up how fast this computer is."""
    from nsl.demo.slide import demo_slide
    from nsl.pixels import predict_pixels
    from nsl.prediction import predict
    from nsl.slides.slide import open_slide
    from nsl.weights.folder import load_weights

    weights, small = load_weights(), demo_slide(side_px=600)
    with tempfile.TemporaryDirectory(prefix="nsl-") as folder:
        path = Path(folder) / "rehearsal.tif"
        small.save(path)
        with open_slide(path) as slide:
            predict(slide, weights, genes=weights.genes[:1])
    squares = [[x, y, x + 50, y + 50] for x in range(0, 600, 50) for y in range(0, 300, 50)]
    start = time.perf_counter()
    predict_pixels(weights.model, small.image, np.array(squares), small.white_point)
    taken = time.perf_counter() - start
    import nsl.figures  # for the Maps page: Plotly, SciPy and scikit-image
    import nsl.stats.regions  # noqa: F401

    if known is not None:
        known["responses_per_second"] = responses(len(squares), 50, 1, len(weights.genes)) / taken
