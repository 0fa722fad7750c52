"""Small stained sections, measured spots and weights made in code; real tissue where it lies beside the checkout."""

import functools
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.basedatatypes
import pytest
import torch
from PIL import Image

from nsl.model import NeuralStain
from nsl.slides.slide import open_slide
from nsl.spots.measured_section import MeasuredSection, measure_section
from nsl.spots.tables import read_manifest
from nsl.weights.config import FitRecord, HeldOutProtocol, TrainingData, TrainingStains, WeightsConfig
from nsl.weights.folder import load_weights, save_weights
from nsl.weights.hub import SILENCE_S
from nsl.weights.weights import Weights
from tests.fake_hub import FakeHub
from tests.shared_work import FOLDER, once

# Plotly takes the name of a property apart each time it meets it, a quarter of what drawing a page takes.
plotly.basedatatypes._str_to_dict_path_full = functools.cache(plotly.basedatatypes._str_to_dict_path_full)

WHITE_POINT = np.array([240.0, 236.0, 240.0])
# Rows of optical density, hematoxylin and eosin as seen on real slides; eosin absorbs some blue, unlike HED's.
STAIN_VECTORS = np.array([[0.706, 0.637, 0.297], [0.275, 0.840, 0.449]])
STAIN_VECTORS = STAIN_VECTORS / np.linalg.norm(STAIN_VECTORS, axis=1, keepdims=True)
WIDTH, HEIGHT = 700, 600
RIM = 15
SPOT_UM = 60.0


@dataclass(frozen=True)
class StainedSection:
    """A synthetic section at 1 µm/px with what it was made from."""

    pixels: np.ndarray
    """(600, 700, 3) uint8 RGB."""
    stain: np.ndarray
    """(600, 700, 2) concentrations of hematoxylin and eosin."""
    white_point: np.ndarray
    """(3,) RGB of its glass."""
    stain_vectors: np.ndarray
    """(2, 3) unit optical densities of hematoxylin and eosin."""

    @functools.cached_property
    def png(self) -> bytes:
        """`pixels` as a file, which says no µm/px."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    def stain_under(self, centers_px: np.ndarray, side_px: float) -> np.ndarray:
        """(T, 2) mean hematoxylin and eosin in square windows that lie inside the image."""
        corners = np.rint(np.asarray(centers_px) - side_px / 2).astype(int)
        side = round(side_px)
        return np.array([self.stain[y : y + side, x : x + side].mean(axis=(0, 1)) for x, y in corners])


@functools.cache
def stained_section(seed: int, pale: float = 0.0) -> StainedSection:
    """A blob of hematoxylin beside a blob of eosin, on glass; not to be written to.

    pale : hematoxylin left of the middle and eosin right of it are no less than this, but on a rim of glass.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    blobs = []
    for centre_x in (240, 460):
        dx, dy = (x - centre_x - rng.uniform(-30, 30)) / 170, (y - 300 - rng.uniform(-30, 30)) / 210
        blobs.append(np.clip(1.3 * np.exp(-(dx**2) - dy**2) - 0.2, 0, None))
    inside = (np.minimum(x, WIDTH - x) > RIM) & (np.minimum(y, HEIGHT - y) > RIM)
    halves = np.stack([x < WIDTH / 2, x >= WIDTH / 2], axis=-1) & inside[..., None]
    stain = np.maximum(np.stack(blobs, axis=-1), pale * halves) * rng.uniform(0.7, 1.3, (HEIGHT, WIDTH, 2))
    intensity = (WHITE_POINT + 1) * np.exp(-stain @ STAIN_VECTORS) - 1 + rng.normal(0, 0.8, (HEIGHT, WIDTH, 1))
    pixels = np.clip(np.rint(intensity), 0, 255).astype(np.uint8)
    return StainedSection(pixels, stain, WHITE_POINT.copy(), STAIN_VECTORS.copy())


def _measured(section: StainedSection, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """63 spots, and counts of which H_GENE follows hematoxylin, E_GENE eosin, and the others neither."""
    column, row = (axis.ravel() for axis in np.meshgrid(np.arange(9), np.arange(7)))
    centers = np.stack([50 + 75.0 * column, 45 + 85.0 * row], axis=1)
    names = pd.Index([f"{c}x{r}" for c, r in zip(column, row, strict=True)], name="spot")
    hematoxylin, eosin = section.stain_under(centers, SPOT_UM).T
    per_10_000 = {
        "H_GENE": np.expm1(2 + 3 * hematoxylin),
        "E_GENE": np.expm1(2 + 3 * eosin),
        "NOISE": rng.lognormal(3, 0.5, len(centers)),
        "RARE": np.zeros(len(centers)),
    }
    fillers = np.array([0.4, 0.3, 0.2, 0.1])
    left = 10_000 - sum(per_10_000.values())
    per_10_000 |= {f"FILLER{i + 1}": left * share for i, share in enumerate(fillers)}
    depth = rng.uniform(1, 3, len(centers))
    counts = pd.DataFrame({gene: rng.poisson(mean * depth) for gene, mean in per_10_000.items()}, index=names)
    counts.loc[names[:3], "RARE"] = 1  # 3 of 63 spots: under a tenth
    spots = pd.DataFrame({"spot": names, "x_px": centers[:, 0], "y_px": centers[:, 1]})
    return counts, spots


@pytest.fixture(scope="session", autouse=True)
def _shared(tmp_path_factory, worker_id):
    """The folder of `tests.shared_work`; of several processes one compiles what all use."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, str(folder))
        if worker_id != "master":
            from nsl.web.runs import rehearse

            once(("loops are compiled",), rehearse)
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real sections and a slide, beside the checkout."""
    folder = Path(__file__).parents[2] / "shared/data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data: real tissue that is not redistributed")
    return folder


@pytest.fixture(scope="session")
def her2st(data_folder, tmp_path_factory) -> list[MeasuredSection]:
    """The seven real sections that the embedded weights were trained on."""
    location = Path(__file__).parents[1] / "weights/make_her2_breast.py"
    spec = importlib.util.spec_from_file_location("make_her2_breast", location)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    manifest = script.prepare(data_folder / "her2st", tmp_path_factory.mktemp("her2st"))
    return [measure_section(section) for section in read_manifest(manifest)]


@pytest.fixture(scope="session")
def embedded() -> Weights:
    """The weights that ship with the package."""
    return load_weights()


@pytest.fixture(scope="session")
def section() -> StainedSection:
    """700 × 600 px at 1 µm/px."""
    return stained_section(1)


@pytest.fixture
def section_png(section, tmp_path) -> Path:
    """`section` as a PNG, which says no µm/px: it is 1."""
    path = tmp_path / "section.png"
    path.write_bytes(section.png)
    return path


@pytest.fixture
def tiny_weights(tmp_path) -> Path:
    """A weights folder of three genes, for tiles of 100 µm at 2 µm/px."""
    folder = tmp_path / "tiny"
    model = NeuralStain(["ERBB2", "CD24", "COX6C"]).requires_grad_(False)
    model.effect += torch.tensor([[0.5, 0.2], [1.0, -0.6], [-0.4, 0.9]])
    model.intercept += torch.tensor([0.5, 1.0, 1.5])
    config = WeightsConfig(
        name="tiny",
        units="log1p of counts per 10,000",
        tile_um=100.0,
        analysis_mpp=2.0,
        training_data=TrainingData(
            tissue="paint",
            source="made in code",
            licence="MIT",
            patients=3,
            sections=("S1", "S2", "S3"),
            spots=189,
            genes_rule="as listed",
        ),
        stains=TrainingStains(STAIN_VECTORS.round(4), np.array([5.0, 5.0])),
        fit=FitRecord(patterns=5, steps=50, learning_rate=0.02, command="none", nsl_version="0.1.0"),
        reliability=HeldOutProtocol(left_out="patient", groups=3),
        genes=tuple(model.genes),
    )
    reliability = pd.DataFrame(
        {
            "r_heldout": [0.41, 0.52, -0.03],
            "r_low": [0.22, 0.35, -0.21],
            "r_high": [0.6, 0.69, 0.15],
            "r_next_low": [0.1, 0.2, -0.4],
            "r_next_high": [0.7, 0.8, 0.3],
            "p_value": [1e-4, 1e-6, 0.74],
            "q_value": [1.5e-4, 3e-6, 0.74],
            "patients_replicated": [2, 3, 0],
            "n_spots": [189, 189, 189],
            "r_specific": [0.2, 0.3, -0.05],
            "expression_mean": [1.0, 2.0, 1.5],
            "expression_sd": [0.5, 0.25, 2.0],
        },
        index=pd.Index(model.genes, name="gene"),
    )
    save_weights(Weights(model, config, reliability, source="made in code", sha256=""), folder)
    return folder


@pytest.fixture
def weights(tiny_weights) -> Weights:
    """`tiny_weights`, loaded."""
    return load_weights(tiny_weights)


@pytest.fixture
def slide(section_png):
    """`section`, open as a slide of 1 µm/px."""
    with open_slide(section_png, mpp=1.0) as slide:
        yield slide


@pytest.fixture(scope="session")
def paired(tmp_path_factory) -> Path:
    """Folder of two measured sections of two patients with their manifest.csv; not to be written to.

    All spots lie on tissue.
    """
    folder = tmp_path_factory.mktemp("paired")
    rows = []
    for number, patient in enumerate(("P1", "P2"), start=1):
        name = f"S{number}"
        section = stained_section(10 + number, pale=0.3)
        counts, spots = _measured(section, np.random.default_rng(number))
        (folder / f"{name}.png").write_bytes(section.png)
        counts.to_csv(folder / f"{name}_counts.csv")
        spots.to_csv(folder / f"{name}_spots.csv", index=False)
        rows.append((name, patient, f"{name}.png", 1.0, f"{name}_spots.csv", f"{name}_counts.csv"))
    columns = ["section", "patient", "image", "mpp", "spots", "counts"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty Hub on this machine, a cache in tmp_path/home, and no token; the real Hub's client speaks to it.

    A computer that is busy with other tests may be silent for long: `impatient` is for those where the Hub is.
    """
    from huggingface_hub import close_session, constants

    monkeypatch.setattr("nsl.weights.hub.SILENCE_S", 30.0)

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,.invalid")
    # What the client reads from the environment once, when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home/token"))
    close_session()
    with FakeHub() as hub:
        yield hub
    close_session()


@pytest.fixture
def impatient(hub, monkeypatch):
    """A Hub that is silent is left as soon as users leave it."""
    monkeypatch.setattr("nsl.weights.hub.SILENCE_S", SILENCE_S)


@pytest.fixture
def apptest(monkeypatch):
    """Streamlit's AppTest as it can run this app, with nothing remembered of other tests."""
    import streamlit as st
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.testing.v1 import local_script_runner

    from tests import app_driver

    # AppTest forgets before every run that the app navigates by itself, and takes `pages` for the older kind.
    monkeypatch.setattr(PagesManager, "uses_pages_directory", False)
    monkeypatch.setattr("streamlit.testing.v1.app_test.PagesManager", type("_OwnFlag", (PagesManager,), {}))
    # It would read what all installed packages say of themselves, half a second, for components that there are not.
    monkeypatch.setattr("streamlit.components.v2.manifest_scanner.scan_component_manifests", list)
    monkeypatch.setattr(local_script_runner, "require_widgets_deltas", app_driver.wait_for_page)
    # The rehearsal would go on beside the tests that follow.
    monkeypatch.setattr("nsl.web.runs.rehearse", lambda known: None)
    monkeypatch.setattr("nsl.web.sources.load_weights", app_driver.load_weights)
    st.cache_data.clear()
    st.cache_resource.clear()
    yield
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def app(apptest, monkeypatch):
    """The app on its first page, without a browser (`tests.app_driver`)."""
    from nsl.web.session import uploads
    from nsl.web.train import paired_sections
    from tests import app_driver, remembered_runs

    uploads._folders.cache_clear()
    monkeypatch.setattr("nsl.prediction.predict", remembered_runs.predict)
    monkeypatch.setattr(uploads, "_demo_file", app_driver.demo_file)
    monkeypatch.setattr(paired_sections, "_demo_counts", app_driver.demo_counts)
    return app_driver.start()
