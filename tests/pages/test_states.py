"""Every page in each of its states: nothing loaded, a slide loaded, a run going on, its result, its error."""

import shutil
import threading
from dataclasses import dataclass

import pytest

from nsl.web.train.fit_result import Training
from nsl.weights.folder import embedded_folder
from tests.app_driver import (
    buttons,
    charts,
    click,
    finish,
    number_box,
    open_stains,
    predict_demo,
    progress,
    seen,
    session_held,
)

PAGES = ("predict", "maps", "compare", "stains", "correlations", "train", "about")
STATES = ("nothing", "loaded", "running", "result", "error")


@dataclass(frozen=True)
class Shown:
    """What a page must show in a state, and what it must not."""

    says: tuple[str, ...]
    charts: int = 0
    progress: str = ""
    offers: tuple[str, ...] = ()
    """Buttons that can be pressed."""
    withholds: tuple[str, ...] = ()
    """Buttons that are not there, or cannot be pressed."""
    silent: tuple[str, ...] = ()
    """What belongs to another state."""


HALF_WAY = "300 of 720 tiles"
WAITS = "What was predicted appears here when the run is done"
NO_TISSUE = "No tile is at least 100% tissue"
DEMO = "Show it on the demo slide"
# Of the weights themselves, whether or not there is a slide.
LEARNED, CARD = ("The 11 numbers", "ERBB2", "All vectors"), ("her2-breast", "HER2-positive breast cancer", "2108.10446")

SHOWN = {
    ("predict", "nothing"): Shown(
        ("How it works", "None yet"), offers=("Use the demo slide",), withholds=("Run", "Download CSV")
    ),
    ("predict", "loaded"): Shown(
        ("2 · Settings", "tissue tiles outlined", "genes: about", "not predicted yet"),
        offers=("Run",),
        withholds=("Download CSV", "Cancel"),
        silent=("How it works", "Tissue tiles"),
    ),
    ("predict", "running"): Shown(
        ("predicting",), progress=HALF_WAY, offers=("Cancel",), withholds=("Run", "Download CSV"), silent=("Result",)
    ),
    ("predict", "result"): Shown(
        ("Result", "Tissue tiles 720", "Genes 9", "720 tiles predicted"),
        offers=("Run", "Download CSV", "AnnData (h5ad)", "QuPath (GeoJSON)"),
        withholds=("Cancel",),
    ),
    ("predict", "error"): Shown(
        (NO_TISSUE, "2 · Settings"), offers=("Run",), withholds=("Cancel", "Download CSV"), silent=("Result",)
    ),
    ("maps", "nothing"): Shown(("There is no slide yet",), offers=(DEMO,)),
    ("maps", "loaded"): Shown(("There is no prediction yet",), offers=(DEMO,), silent=("There is no slide yet",)),
    ("maps", "running"): Shown((WAITS,), progress=HALF_WAY, offers=("Cancel",), withholds=(DEMO,)),
    ("maps", "result"): Shown(
        ("Map of the predicted expression of ERBB2 over the slide, 720 tiles", "Click a tile", "Tiles 720"),
        charts=1,
        withholds=("Cancel", DEMO),
    ),
    ("maps", "error"): Shown((NO_TISSUE, "There is no prediction yet"), offers=(DEMO,), withholds=("Cancel",)),
    ("compare", "nothing"): Shown(("There is no slide yet",), offers=(DEMO,)),
    ("compare", "loaded"): Shown(("There is no prediction yet",), offers=(DEMO,), silent=("There is no slide yet",)),
    ("compare", "running"): Shown((WAITS,), progress=HALF_WAY, offers=("Cancel",), withholds=(DEMO,)),
    ("compare", "result"): Shown(
        ("Maps of ERBB2, CD74 side by side", "Draw a box or a lasso"),
        charts=2,
        offers=("CSV of these genes",),
        withholds=("Cancel", DEMO),
    ),
    ("compare", "error"): Shown((NO_TISSUE, "There is no prediction yet"), offers=(DEMO,), withholds=("Cancel",)),
    ("stains", "nothing"): Shown(
        (*LEARNED, "Once a slide is predicted", "The background is paper white"),
        charts=4,
        offers=("Download all vectors (CSV)",),
        silent=("estimated on this slide",),
    ),
    ("stains", "loaded"): Shown(
        (*LEARNED, "Once a slide is predicted", "The background is paper white", "not predicted yet"),
        charts=4,
        withholds=("Cancel",),
        silent=("estimated on this slide",),
    ),
    ("stains", "running"): Shown(
        (*LEARNED, "predicting"), charts=4, progress=HALF_WAY, offers=("Cancel",), silent=("estimated on this slide",)
    ),
    ("stains", "result"): Shown(
        (*LEARNED, "estimated on this slide", "THIS SLIDE'S OWN STAINS", "The region's H&E", "Predicted here"),
        charts=8,
        offers=("Download all vectors (CSV)",),
        withholds=("Cancel",),
        silent=("Once a slide is predicted",),
    ),
    ("stains", "error"): Shown(
        (NO_TISSUE, *LEARNED, "Once a slide is predicted"), charts=4, silent=("estimated on this slide",)
    ),
    ("correlations", "nothing"): Shown(("There is no slide yet",), offers=(DEMO,)),
    ("correlations", "loaded"): Shown(
        ("There is no prediction yet",), offers=(DEMO,), silent=("There is no slide yet",)
    ),
    ("correlations", "running"): Shown((WAITS,), progress=HALF_WAY, offers=("Cancel",), withholds=(DEMO,)),
    ("correlations", "result"): Shown(
        ("independent patterns", "Heat map of the Pearson correlations", "the largest |r| first"),
        charts=2,
        offers=("Download the pairs (CSV)", "Download the matrix (CSV)"),
        withholds=("Cancel", DEMO),
    ),
    ("correlations", "error"): Shown((NO_TISSUE, "There is no prediction yet"), offers=(DEMO,), withholds=("Cancel",)),
    ("train", "nothing"): Shown(
        ("What it takes", "Bring the H&E image of a measured section first"),
        offers=("Try it on the demo slide",),
        withholds=("Train", "Add the section"),
    ),
    ("train", "loaded"): Shown(
        ("Checks", "the slide with 282 spots on tissue and 58 beside it", "Each quarter of the section is left out"),
        offers=("Train", "Remove Demo"),
        withholds=("Cancel", "Add the section", "Use these weights"),
        silent=("What it takes",),
    ),
    ("train", "running"): Shown(
        ("Checks", "You may look at other pages meanwhile"),
        progress="Fitting, 3 of 50",
        offers=("Cancel",),
        withholds=("Train", "Use these weights"),
    ),
    ("train", "result"): Shown(
        ("Result: my-weights", "Median r", "Trained in", "Checks"),
        charts=1,
        offers=("Train", "Use these weights", "Download the weights (zip)", "Download the table (CSV)"),
        withholds=("Cancel",),
    ),
    ("train", "error"): Shown(
        ("2 of 2 spots lie outside the slide", "What it takes"),
        offers=("Add the section",),
        withholds=("Train", "Cancel"),
        silent=("Checks",),
    ),
    ("about", "nothing"): Shown((*CARD, "None yet"), charts=1, offers=("Download all genes (CSV)",)),
    ("about", "loaded"): Shown((*CARD, "not predicted yet"), charts=1, offers=("Download all genes (CSV)",)),
    ("about", "running"): Shown((*CARD, "predicting"), charts=1, offers=("Download all genes (CSV)",)),
    ("about", "result"): Shown((*CARD, "720 tiles predicted"), charts=1, offers=("Download all genes (CSV)",)),
    ("about", "error"): Shown(
        ("model.safetensors is damaged", "copy it again"), withholds=("Download all genes (CSV)",), silent=CARD[2:]
    ),
}


@pytest.fixture
def held(monkeypatch):
    """Predictions and trainings come to a point and wait there till the test is over."""
    reached, may_end = threading.Event(), threading.Event()

    def wait(progress, *done):
        progress.report(*done)
        reached.set()
        may_end.wait(60)

    monkeypatch.setattr("nsl.prediction.predict", lambda *_, progress, **__: wait(progress, 300, 720))
    monkeypatch.setattr("nsl.train.train_sections", lambda *_, progress, **__: wait(progress, 3, 50, "fitting"))
    yield reached
    may_end.set()


@pytest.fixture
def reached(app, request, monkeypatch, tmp_path):
    """Brings the app into a state and goes to a page."""

    def reach(page: str, state: str):
        if page == "train":
            return _train(app, state, request, tmp_path)
        if (page, state) == ("about", "error"):
            _damage_weights(monkeypatch, tmp_path)
        elif state == "result":
            predict_demo(app)
        elif state != "nothing":
            click(app, "Use the demo slide")
        if state == "running":
            begun = request.getfixturevalue("held")
            click(app, "Run")
            assert begun.wait(30)
        elif state == "error" and page != "about":
            app.slider(key="min_tissue").set_value(100)
            number_box(app, "Tile side, µm").set_value(900.0).run()
            finish(click(app, "Run"))
        app.switch_page(f"pages/{page}.py").run()
        return open_stains(app) if page == "stains" else app

    return reach


def _train(app, state, request, tmp_path):
    if state == "error":
        click(app, "Use the demo slide")
        app.switch_page("pages/train.py").run()
        files = app.file_uploader(key="paired_files 0")
        files.upload("counts.csv", b"spot,ERBB2,CD24\na,3,4\nb,5,6\n")
        files.upload("spots.csv", b"spot,x_px,y_px\na,90000,100\nb,90000,200\n").run()
        return click(app, "Add the section")
    app.switch_page("pages/train.py").run()
    if state == "nothing":
        return app
    click(app, "Try it on the demo slide")
    if state == "running":
        begun = request.getfixturevalue("held")
        click(app, "Train")
        assert begun.wait(30)
        return app.run()
    if state == "result":
        click(app, "Train")
        session_held(app, Training).job.thread.join(240)
        return app.run()
    return app


def _damage_weights(monkeypatch, tmp_path):
    """The weights that come with the program were cut short."""
    folder = shutil.copytree(embedded_folder(), tmp_path / "her2-breast")
    tensors = folder / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:5_000])
    monkeypatch.setattr("nsl.weights.folder.embedded_folder", lambda: folder)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_belongs_to_its_state(reached, page, state):
    app, shown = reached(page, state), SHOWN[page, state]
    assert not app.exception
    assert bool(app.error) == (state == "error")
    text = seen(app)
    assert [part for part in shown.says if part not in text] == []
    assert [part for part in shown.silent if part in text] == []
    assert charts(app) == shown.charts
    assert shown.progress in progress(app)
    assert bool(progress(app)) == bool(shown.progress)
    offered = buttons(app)
    assert [label for label in shown.offers if not offered.get(label)] == []
    assert [label for label in shown.withholds if offered.get(label)] == []


@pytest.mark.parametrize("page", ["maps", "compare", "stains", "correlations"])
def test_what_was_predicted_stays_on_the_page_while_another_run_goes_on(app, page, request):
    predict_demo(app).run()
    begun = request.getfixturevalue("held")
    click(app, "Run")
    assert begun.wait(30)
    app.switch_page(f"pages/{page}.py").run()
    if page == "stains":
        open_stains(app)
    assert not app.exception
    assert HALF_WAY in progress(app)
    assert charts(app) == SHOWN[page, "result"].charts
    click(app, "Cancel").run()
    assert "Cancelling" in progress(app)
    assert not buttons(app)["Cancel"]
    assert charts(app) == SHOWN[page, "result"].charts
