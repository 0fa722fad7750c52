"""What `densenet` promises: the published network, a budget that is kept, and a name that says what it started from."""

import io
import re
import time
import urllib.error
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nsl.errors import Cancelled
from nsl.evaluate import Training, hidden
from nsl.methods import densenet as deep_module
from nsl.methods.densenet import deep, densenet121, imagenet_weights, windows_of
from nsl.spots.measured_section import MeasuredSection, measure_section
from nsl.spots.tables import read_manifest
from nsl.stats.pearson import pearson_r
from tests.recording import Recording

GENES = ["H_GENE", "E_GENE", "NOISE"]
TILE_UM, WINDOW_PX = 60.0, 32


@pytest.fixture(scope="module")
def sections(paired) -> list[MeasuredSection]:
    """The two paired sections, read once."""
    return [measure_section(section, TILE_UM) for section in read_manifest(paired / "manifest.csv")]


def small(**options):
    """The method on windows and batches that a test can wait for."""
    return deep(tile_um=TILE_UM, window_px=WINDOW_PX, batch=8, imagenet=False, **options)


def training(sections, method) -> Training:
    return Training(sections, [method.features(section) for section in sections], GENES)


@pytest.fixture
def shallow(monkeypatch):
    """A network of the same kind with a twelfth of the layers, where the depth is not what is tested."""
    monkeypatch.setattr(deep_module, "_BLOCKS", (2, 3))


# The method


@pytest.mark.usefixtures("shallow")
def test_a_few_steps_predict_every_gene_of_every_spot(sections):
    method = small(steps=2)
    learned = training(sections, method)
    predicted = method.fit(learned, 0)(learned.features[0])
    assert predicted.shape == (63, 3)
    assert np.isfinite(predicted).all()
    assert method.weights_per_gene is None


@pytest.mark.usefixtures("shallow")
def test_a_cancelled_fit_ends(sections):
    progress = Recording(cancel_at=2)
    method = small(steps=4, progress=progress)
    with pytest.raises(Cancelled):
        method.fit(training(sections, method), 0)
    assert [done for done, *_ in progress.reports] == [0, 25]


@pytest.mark.usefixtures("shallow")
def test_a_gene_driven_by_a_stain_is_predicted_on_a_section_held_out(sections):
    method = small(steps=40, learning_rate=1e-3)
    seen, held_out = sections
    predicted = method.fit(training([seen], method), 0)(method.features(held_out))
    assert min(pearson_r(predicted, held_out.expression_of(GENES))[:2]) > 0.5


@pytest.mark.usefixtures("shallow")
def test_the_same_steps_and_seed_give_the_same_predictions_and_another_seed_does_not(sections):
    method = small(steps=2)
    learned = training(sections, method)
    first, again, other = (method.fit(learned, seed)(learned.features[0]) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


@pytest.mark.usefixtures("shallow")
def test_the_drawing_of_others_is_left_alone(sections):
    method = small(steps=1)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    method.fit(training(sections[:1], method), 0)
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.mark.usefixtures("shallow")
def test_a_fit_ends_with_its_minutes(sections):
    method = small(minutes=0.02)
    learned = training(sections[:1], method)
    start = time.perf_counter()
    method.fit(learned, 0)
    assert 1 < time.perf_counter() - start < 10


def test_turned_windows_are_predicted_alike(sections):
    method = small(steps=1)
    learned = training(sections[:1], method)
    predict, windows = method.fit(learned, 0), learned.features[0][:5]
    turned = windows[:, ::-1].transpose(0, 2, 1, 3).copy()
    np.testing.assert_allclose(predict(turned), predict(windows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("stored", "options", "name"),
    [
        (None, {"minutes": 10}, "DenseNet-121, from random weights, 10 min"),
        ({}, {"minutes": 0.5}, "DenseNet-121, from ImageNet weights, 0.5 min"),
        ({}, {"steps": 30, "imagenet": False}, "DenseNet-121, from random weights, 30 steps"),
    ],
)
def test_the_name_says_what_the_weights_start_from_and_the_budget(monkeypatch, stored, options, name):
    monkeypatch.setattr(deep_module, "imagenet_weights", lambda: stored)
    assert deep(**options).name == name


# Windows


def test_windows_come_from_the_image_alone(sections):
    windows = small().features(sections[0])
    assert (windows.shape, windows.dtype) == ((63, WINDOW_PX, WINDOW_PX, 3), np.uint8)
    np.testing.assert_array_equal(windows, small().features(hidden(sections[0])))


def test_glass_and_what_lies_beyond_the_edge_are_white(sections, tmp_path):
    pixels = np.asarray(Image.open(sections[0].image.path)).copy()
    pixels[:50, :50] = pixels[:10, :10].mean(axis=(0, 1))
    Image.fromarray(pixels).save(tmp_path / "corner.png")
    image = sections[0].image._replace(path=tmp_path / "corner.png")
    corner = replace(sections[0], image=image, centers_px=np.array([[2.0, 2.0]]))
    window = windows_of(corner, TILE_UM, WINDOW_PX)[0]
    assert (window[: WINDOW_PX // 3] == 255).all()
    assert window.min() > 245


def test_a_window_is_centred_on_its_spot(sections):
    """Against the same window read at the image's own 1 µm/px."""
    centre = replace(sections[0], centers_px=np.array([[300.0, 270.0]]))
    fine, coarse = (windows_of(centre, TILE_UM, side_px)[0] for side_px in (60, 20))
    averaged = fine.reshape(20, 3, 20, 3, 3).mean(axis=(1, 3))
    assert np.abs(coarse - averaged).mean() < 1.5


# The network


def test_the_network_has_the_published_number_of_weights():
    assert sum(weight.numel() for weight in densenet121(1000).parameters()) == 7_978_856


def test_imagenet_weights_are_taken_over_but_for_the_last_layer(monkeypatch):
    stored = densenet121(1000).state_dict()
    as_published = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value
        for name, value in stored.items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in as_published
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *args, **options: as_published)
    monkeypatch.setattr(deep_module.urllib.request, "urlopen", lambda *args, **options: io.BytesIO())
    network = densenet121(3, imagenet_weights()).state_dict()
    assert network["classifier.weight"].shape == (3, 1024)
    for name in stored:
        if name.startswith("features"):
            torch.testing.assert_close(network[name], stored[name])


def test_without_cache_or_network_there_are_no_imagenet_weights_and_no_download_is_begun(monkeypatch, tmp_path):
    def offline(request, timeout):
        assert timeout <= 10
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(deep_module.urllib.request, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *args, **options: pytest.fail("downloaded"))
    assert imagenet_weights() is None


def test_a_damaged_file_of_imagenet_weights_is_not_used(monkeypatch, tmp_path):
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    (folder / "densenet121-a639ec97.pth").write_bytes(b"not weights")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert imagenet_weights() is None
