"""Runs of a prediction: settings, starting one, how long it takes, and the way to one where a page needs its result."""

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from nsl.result import Provenance
from nsl.signatures import PREFIX, Signature, as_columns
from nsl.slides import overview
from nsl.slides.annotations.region import Region
from nsl.system import confinement
from nsl.web import controls, links, regions, sources
from nsl.web.session import server, state, uploads
from nsl.web.session.jobs import Job
from nsl.weights.weights import Weights

if TYPE_CHECKING:
    import anndata

    from nsl.slides.demo.slide import DemoSlide

STEPS = {"Side by side": 1.0, "Half a tile": 0.5, "A quarter of a tile": 0.25}


@dataclass(frozen=True)
class Settings:
    """What the user chose for a run."""

    mpp: float
    tile_um: float
    stride_um: float
    analysis_mpp: float
    min_tissue: float
    genes: list[str] | None  # None for all
    brought: tuple[Signature, ...] = ()  # gene sets of the user's
    scores_own: bool = True  # whether the sets of the weights are scored too
    transfer: bool = True  # of the slide's stains to the weights'
    inside: tuple[Region, ...] = ()  # regions to keep to; none for the whole slide
    quality: bool = True  # whether tiles of ink, folds and blur are left out
    to_srgb: bool = False  # whether colours are brought to sRGB by the file's profile

    def signatures(self, weights: Weights) -> tuple[Signature, ...]:
        """The gene sets that a run with these weights scores."""
        return tuple(weights.with_own(self.brought) if self.scores_own else self.brought)

    def gave(self, slide: state.SessionSlide) -> bool:
        """Whether the slide's result is what a run with these settings and the weights in use would give."""
        # First: other weights may hold none of the sets that were brought, and would refuse them.
        if not sources.are_in_use(slide.weights) or slide.finished.inside != self.inside:
            return False
        ran = slide.provenance
        lengths = [ran.mpp, ran.tile_um, ran.stride_um, ran.analysis_mpp, ran.min_tissue]
        analysis_mpp = max(self.analysis_mpp, self.mpp)
        genes = slide.weights.genes if self.genes is None else self.genes
        sets = slide.weights.match_signatures(self.signatures(slide.weights))
        names = [*(PREFIX + name for name in sets.index), *genes]
        return (
            (self.transfer == ran.is_transferred or np.isnan(ran.stain_distance))
            and (self.quality, self.to_srgb) == (ran.quality, ran.brought_to_srgb)
            and np.allclose(lengths, [self.mpp, self.tile_um, self.stride_um, analysis_mpp, self.min_tissue])
            and list(slide.result.var_names) == names
        )


def usual_settings(slide: state.SessionSlide) -> Settings:
    """What the page proposes for a slide whose file says its scale."""
    from nsl.tiles import MIN_TISSUE, USUAL_STEP

    config = sources.config_in_use()
    tile_um = float(config.tile_um)
    return Settings(slide.seen.mpp, tile_um, USUAL_STEP * tile_um, float(config.analysis_mpp), MIN_TISSUE, genes=None)


def start(slide: state.SessionSlide, chosen: Settings) -> None:
    """Predict in a thread of its own; what was predicted before stays until it is done."""
    weights = sources.in_use()
    within = {"regions": chosen.inside, "inside_only": True} if chosen.inside else {}

    def work(job: Job):
        from nsl.prediction import predict

        with slide.open(chosen.mpp, chosen.to_srgb) as opened:
            result = predict(
                opened,
                weights,
                tile_um=chosen.tile_um,
                stride_um=chosen.stride_um,
                analysis_mpp=chosen.analysis_mpp,
                genes=chosen.genes,
                min_tissue=chosen.min_tissue,
                signatures=chosen.signatures(weights),
                transfer=chosen.transfer,
                quality=chosen.quality,
                progress=job,
                **within,
            )
        result = as_columns(result)
        result.uns["nsl"]["synthetic"] = slide.synthetic
        job.weights, job.inside = weights, chosen.inside
        _learn(slide.seen.seconds, result, time.perf_counter() - job.started)
        return result

    slide.start(work)


# How long it takes

# Answers to a pixel, a second (`responses`). Of two cores of 2023; each run on this computer corrects it.
_FIRST_GUESS = 3e9
# Reading at the analysis resolution against opening the slide and reading its thumbnail.
_READING = 2.0


@st.cache_resource(show_spinner=False)
def _known() -> dict[str, float]:
    return {"responses_per_second": _FIRST_GUESS}


def responses(tiles: int, tile_um: float, stride_um: float, mpp: float, genes: int) -> float:
    """How often the model answers in a run: pixels, once where tiles overlap, × genes, or planes for many of them."""
    from nsl.pixels import PLANES

    return tiles * (min(tile_um, stride_um) / mpp) ** 2 * min(genes, PLANES)


def expected_seconds(open_seconds: float, work: float) -> float:
    """Estimated time of a run of `responses` on a slide that took so long to open."""
    return _READING * open_seconds + work / _known()["responses_per_second"]


def _learn(open_seconds: float, result: "anndata.AnnData", seconds: float) -> None:
    """Correct the estimate by what a run took; a short one is all reading and tells nothing."""
    computing = seconds - _READING * open_seconds
    if computing > 0.2:
        known, info = _known(), Provenance.of(result)
        work = responses(result.n_obs, info.tile_um, info.stride_um, info.analysis_mpp, result.n_vars)
        known["responses_per_second"] = (known["responses_per_second"] + work / computing) / 2


@st.cache_resource(show_spinner=False)
def warm_up() -> None:
    """Rehearse a run on a small slide, once a server and after the first page has gone out.

    The first user then waits for no import and no compiler, and neither does the process that looks at uploads.
    """
    server.hold_memory_in_pieces()
    confinement.prepare(overview.rehearse)
    # What is left behind may be many gigabytes, for which no first page waits.
    threading.Thread(target=server.clear_abandoned, daemon=True).start()
    threading.Thread(target=rehearse, args=[_known()], daemon=True).start()


def rehearse(known: dict[str, float] | None = None) -> None:
    """Predict on a small slide, so that all is imported and compiled; `known` takes up how fast this computer is."""
    import tifffile

    from nsl.pixels import predict_pixels
    from nsl.prediction import predict
    from nsl.slides.demo.slide import demo_slide
    from nsl.slides.slide import open_slide
    from nsl.weights.folder import load_weights

    weights, small = load_weights(), demo_slide(side_px=600)
    with tempfile.TemporaryDirectory(prefix="nsl-") as folder:
        path, per_cm = Path(folder) / "rehearsal.tif", 10_000 / small.mpp
        # Tiled JPEG, as scanners write: its check is compiled too.
        tiles = {"tile": (256, 256), "compression": "jpeg", "photometric": "ycbcr"}
        tifffile.imwrite(path, small.image, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", **tiles)
        with open_slide(path) as slide:
            one = predict(slide, weights, genes=weights.genes[:1])  # many genes are answered in another way, below
    squares = [[x, y, x + 50, y + 50] for x in range(0, 600, 50) for y in range(0, 300, 50)]
    start = time.perf_counter()
    predict_pixels(weights.model, small.image, np.array(squares), small.white_point)
    taken = time.perf_counter() - start
    _rehearse_figures(one, weights, small)

    if known is not None:
        known["responses_per_second"] = responses(len(squares), 50, 50, 1, len(weights.genes)) / taken


def _rehearse_figures(result: "anndata.AnnData", weights: Weights, slide: "DemoSlide") -> None:
    """For Maps and Stains: SciPy and scikit-image, and of Plotly what it imports when a figure is first made."""
    import nsl.stats.regions  # noqa: F401
    from nsl.figures.concentrations import concentration_figure
    from nsl.figures.maps import expression_map

    expression_map(result, weights.genes[0], limits=(0.0, 1.0)).to_json()
    corner, vectors = slide.image[:50, :50], weights.config.stains.reference
    concentration_figure(corner, np.ones((50, 50, 2)), slide.mpp, vectors=vectors).to_json()


# Where a page needs a result


def predicted_slide() -> state.SessionSlide:
    """The slide that is looked at, with its result; where there is none the page says how to come by one and ends."""
    slide = state.slide()
    if slide is not None and slide.is_running:
        controls.watch_job(slide.job)
    if slide is None or slide.result is None:
        _show_the_way(slide)
        st.stop()
    regions.refresh(slide)
    return slide


def _show_the_way(slide: state.SessionSlide | None) -> None:
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
            if slide is not None and slide.seen.mpp and st.button("Run it now", icon=":material/play_arrow:"):
                _predict(slide)
            if st.button("Show it on the demo slide", icon=":material/science:"):
                _predict_demo()
    if slide is not None:
        controls.show_failure(slide)


def _predict(slide: state.SessionSlide) -> None:
    """As the Predict page proposes."""
    with controls.shown_errors():
        start(slide, usual_settings(slide))
        st.rerun()


def _predict_demo() -> None:
    with controls.shown_errors():
        with st.spinner("Staining the demo slide"):
            uploads.take_demo()
        if state.slide().result is None:
            start(state.slide(), usual_settings(state.slide()))
        st.rerun()
