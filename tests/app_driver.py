"""Ways to use the app in a test without a browser; the fixture `app` starts it."""

import functools
import io
import json
import os
import tempfile
import zipfile
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
from PIL import Image
from streamlit.testing.v1 import AppTest, local_script_runner
from streamlit.testing.v1.element_tree import NumberInput

from nsl.web.session import uploads
from nsl.web.session.state import Kept, SessionSlide, SessionState
from nsl.web.sources import WeightsChoice
from nsl.web.train import paired_sections
from nsl.weights import folder
from nsl.weights.weights import Weights
from tests.shared_work import kept

ROOT = Path(__file__).parents[1]
# What every server makes once.
demo_file, demo_counts = kept(uploads._demo_file), kept(paired_sections._demo_counts)


_look_for_page = local_script_runner.require_widgets_deltas


def wait_for_page(runner: local_script_runner.LocalScriptRunner, timeout: float) -> None:
    """Sleep until the page is drawn; AppTest would look a thousand times a second, beside what draws it."""
    runner._script_thread.join(timeout)
    _look_for_page(runner, timeout)


def load_weights(source: str | None = None) -> Weights:
    """The weights of a source; those that ship with the package are read once for all tests."""
    return _embedded(folder.embedded_folder()) if source is None else folder.load_weights(source)


@functools.cache
def _embedded(_: Path) -> Weights:
    return folder.load_weights()


def opened() -> AppTest:
    """The app, which runs with `.run()`."""
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)


def start() -> AppTest:
    """The app on its first page."""
    return opened().run()


def upload(app: AppTest, name: str, content: bytes) -> AppTest:
    """Bring a file as a slide."""
    app.main.get("file_uploader")[0].upload(name, content)
    return app.run()


def click(app: AppTest, label: str) -> AppTest:
    """Press the button of that label."""
    next(button for button in app.button if button.label == label).click()
    return app.run()


def session_held(app: AppTest, kind: type[Kept]) -> Kept:
    """What the session holds of a kind (`nsl.web.session.state.of_session`)."""
    key = f"nsl.{kind.__name__}"
    return app.session_state[key] if key in app.session_state else kind()


def number_box(app: AppTest, label: str) -> NumberInput:
    """A box for a number, by its whole label."""
    return next(box for box in app.number_input if box.label == label)


def slide(app: AppTest) -> SessionSlide | None:
    """The slide that the session looks at."""
    shared = session_held(app, SessionState)
    return shared.slides.get(shared.current)


def finish(app: AppTest) -> AppTest:
    """Wait for the run of the slide looked at."""
    job = slide(app).job
    job.thread.join(timeout=60)
    assert not job.is_running
    return app.run()


GENES = "ERBB2 COX6C CD24 KRT19 CD74 IGKC COL1A1 GAPDH ACTB"
# Of slides that are predicted once for all tests; pytest clears it away.
_FILES = tempfile.TemporaryDirectory(prefix="nsl-tests-", ignore_cleanup_errors=True)


def predict_demo(app: AppTest, genes: str | None = GENES) -> AppTest:
    """The demo slide with its result for some genes, or for all where `genes` is None; the page is not yet run anew."""
    return _bring(app, _predicted(None, None, genes), genes)


def predict_section(app: AppTest, name: str, content: bytes, genes: str) -> AppTest:
    """An image of 1 µm/px with its result for some genes; the page is not yet run anew."""
    return _bring(app, _predicted(name, content, genes), genes)


def _bring(app: AppTest, predicted: SessionSlide, genes: str | None) -> AppTest:
    """Put a copy of a predicted slide into the session, with the settings it was predicted by."""
    job = replace(predicted.finished, result=predicted.finished.result.copy())
    slide = replace(predicted, job=job, finished=job, _of_slide={}, _of_result={})
    slide.folder = Path(tempfile.mkdtemp(dir=_FILES.name))
    slide.path = slide.folder / predicted.path.name
    os.link(predicted.path, slide.path)
    state = app.session_state
    shared = state["nsl.SessionState"] = session_held(app, SessionState)
    shared.slides[slide.key], shared.current = slide, slide.key
    state[f"mpp of {slide.key}"] = 1.0
    if genes is not None:
        state["which_genes"], state["gene_list"] = "A list", genes
    return app


@functools.cache
def _predicted(name: str | None, content: bytes | None, genes: str | None) -> SessionSlide:
    """A slide brought and predicted as a user does, in a session of its own; without a file the demo slide."""
    others = set(uploads._folders())
    app = start()
    if name is None:
        click(app, "Use the demo slide")
    else:
        upload(app, name, content)
        app.number_input[0].set_value(1.0).run()
    if genes is not None:
        app.radio(key="which_genes").set_value("A list").run()
        app.text_area(key="gene_list").set_value(genes).run()
    predicted = slide(finish(click(app, "Run")))
    kept = Path(tempfile.mkdtemp(dir=_FILES.name)) / predicted.path.name
    os.link(predicted.path, kept)
    # The test that happens to be the first sees nothing of this session.
    for session in set(uploads._folders()) - others:
        uploads._folders().pop(session).cleanup()
    return replace(predicted, path=kept)


def type_gene(app: AppTest, text: str, key: str = "gene") -> AppTest:
    """Type into a gene box, and Enter: the browser sends the text as it stands, though it be no option."""
    states = app._tree.get_widget_states()
    next(state for state in states.widgets if state.id == app.selectbox(key=key).id).string_value = text
    return app._run(states)


def choose_genes(app: AppTest, key: str, *genes: str) -> AppTest:
    """Have these genes chosen, as a user does: others are removed, missing ones typed."""
    chosen = app.session_state[key]
    kept = [gene for gene, _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, genes, strict=False))]
    if kept != chosen:
        app.multiselect(key=key).set_value(kept).run()
    for gene in genes[len(kept) :]:
        type_gene(app, gene, f"{key} add")
    return app


def zipped_folder(folder: Path, below: str = "", compression: int = zipfile.ZIP_STORED) -> bytes:
    """The files of a folder as a zip, in a folder of it where `below` names one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{below}{path.name}")
    return buffer.getvalue()


def take_weights(app: AppTest, folder: Path) -> AppTest:
    """Upload a weights folder as a zip and wait until its weights are in use."""
    app.sidebar.file_uploader(key="weights_zip").upload("tiny.zip", zipped_folder(folder))
    app.run()
    session_held(app, WeightsChoice).request.thread.join(60)
    return app.run()


def chart(app: AppTest, number: int = 0) -> dict:
    """What a zoomable chart was given to draw: data and layout."""
    return json.loads(_data(app, number)["figure"])


def _data(app: AppTest, number: int) -> dict:
    return _charts(app)[number]


def _charts(app: AppTest) -> list[dict]:
    sent = [json.loads(element.proto.json) for element in app.get("bidi_component")]
    return [data for data in sent if "figure" in data]


def charts(app: AppTest) -> int:
    """How many zoomable charts the page shows."""
    return len(_charts(app))


def png_bytes(pixels: np.ndarray) -> bytes:
    """An image file of (H, W, 3) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def metrics(app: AppTest) -> dict[str, str]:
    """Labels and values of the page's figures."""
    return {metric.label: metric.value for metric in app.metric}


def said(app: AppTest) -> str:
    """All running text of the page, of the sidebar too."""
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error, app.success)
    return " ".join(element.value for kind in kinds for element in kind)


def buttons(app: AppTest) -> dict[str, bool]:
    """Labels of all buttons, downloads too, and whether each can be pressed."""
    pressed = {button.label: not button.disabled for button in app.button}
    return pressed | {button.label: not button.proto.disabled for button in app.get("download_button")}


def open_stains(app: AppTest) -> AppTest:
    """Open all parts of the Stains page, which hold its numbers."""
    for part in [part.label for part in app.expander]:
        app.session_state[f"stains_part {part}"] = True
    return app.run()


def told_of_pictures(app: AppTest) -> list[str]:
    """What pictures and zoomable charts say of themselves to those who hear the page."""
    pictures = [picture.alt for element in app.get("image") for picture in element.proto.imgs]
    return pictures + [_data(app, number)["alt"] for number in range(charts(app))]


def progress(app: AppTest) -> str:
    """What the page says of the run that goes on; nothing where there is none."""
    return " ".join(element.proto.text for element in app.get("progress"))


def seen(app: AppTest) -> str:
    """All that the page says: headings, running text, figures, code, pictures."""
    headings = [element.value for kind in (app.title, app.header, app.subheader) for element in kind]
    headings += [part.label for part in app.expander]
    figures = [f"{label} {value}" for label, value in metrics(app).items()]
    return " ".join([*headings, said(app), *figures, *(code.value for code in app.code), *told_of_pictures(app)])
