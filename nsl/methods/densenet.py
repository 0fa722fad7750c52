"""The deep network NSL is compared with: DenseNet-121 from a window's pixels to all genes, after ST-Net.

He et al. 2020 (Nat Biomed Eng 4:827) put a linear layer to the genes on a DenseNet-121 that knew ImageNet, trained all
of it on windows of 150 µm around the spots, turned and flipped at random, and averaged a window's eight symmetries.
"""

import http.client
import pickle
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from nsl.evaluate import Method, Predictor, Training, standardised
from nsl.spots.measured_section import TILE_UM, MeasuredSection, Windows, read_windows
from nsl.system.progress import SILENT, Progress

IMAGENET_URL = "https://download.pytorch.org/models/densenet121-a639ec97.pth"
"""Torchvision's weights of 2017; the name ends in the start of the file's sha256."""
_PROBE_SECONDS = 5
# Mean and sd of ImageNet's channels, as those weights expect them.
_IMAGENET_MEAN, _IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Huang et al. 2017 (CVPR, 2261), Table 1, DenseNet-121.
_GROWTH, _FIRST_CHANNELS, _BLOCKS = 32, 64, (6, 12, 24, 16)

WINDOW_PX = 112
"""Half of ST-Net's 224 px a side: a quarter of the work, for processors without a graphics card."""
BATCH = 32
LEARNING_RATE = 3e-4


def deep(
    minutes: float = 10.0,
    tile_um: float = TILE_UM,
    *,
    steps: int | None = None,
    window_px: int = WINDOW_PX,
    batch: int = BATCH,
    learning_rate: float = LEARNING_RATE,
    imagenet: bool = True,
    progress: Progress = SILENT,
) -> Method:
    """DenseNet-121 as a method to evaluate; the name says what its weights start from and how long a fit may take.

    Trained by Adam on mean squared error, every section alike, on a CUDA card where there is one. Nothing is chosen
    by validation. How many steps fit into the minutes depends on the machine, so such a fit cannot be repeated
    exactly; one of so many steps can, on the same processor and with the same number of threads.

    minutes : wall-clock time of a fit.
    steps : train for so many batches instead.
    tile_um, window_px : side of the windows, and as the network sees them.
    batch : windows a step.
    learning_rate : at the start; it falls to 0 along a cosine.
    imagenet : start from ImageNet's weights if they are in torch's cache or can be downloaded. Random ones otherwise.
    progress : receives the share of each fit that is done, in hundredths; a fit raises Cancelled where it is cancelled.
    """
    start = imagenet_weights() if imagenet else None
    known = "random" if start is None else "ImageNet"
    budget = f"{minutes:g} min" if steps is None else f"{steps} steps"

    def features(section: MeasuredSection) -> np.ndarray:
        return windows_of(section, tile_um, window_px)

    def fit(training: Training, seed: int) -> Predictor:
        spent = _clock(minutes * 60) if steps is None else (done / steps for done in range(steps))
        return fit_densenet(training, seed, spent, start, batch, learning_rate, progress)

    return Method(f"DenseNet-121, from {known} weights, {budget}", features, fit, None, random=True)


def _clock(seconds: float) -> Iterator[float]:
    """Shares of the time that are spent, one a step, until it is over."""
    start = time.perf_counter()
    while (spent := (time.perf_counter() - start) / seconds) < 1:
        yield spent


# Windows


def windows_of(section: MeasuredSection, tile_um: float, window_px: int) -> np.ndarray:
    """Windows around the spots, (S, window_px, window_px, 3) uint8 RGB, on a background brought to white."""
    windows = read_windows(section.image, section.centers_px, tile_um, tile_um / window_px)
    windows = windows.painted(section.transfer)
    # Level 0 is padding, which is shown as glass.
    balanced = 255 * (np.arange(256.0) + 1) / (windows.white_point[:, None] + 1)
    table = np.clip(np.rint(balanced), 0, 255).astype(np.uint8)
    return np.stack([_window(windows, table, bounds, window_px) for bounds in windows.bounds])


def _window(windows: Windows, table: np.ndarray, bounds: np.ndarray, window_px: int) -> np.ndarray:
    x0, y0, x1, y1 = bounds
    left, top = max(x0, 0), max(y0, 0)
    pixels = windows.image[top:y1, left:x1]
    window = np.full((y1 - y0, x1 - x0, 3), 255, np.uint8)
    inside = window[top - y0 :, left - x0 :][: pixels.shape[0], : pixels.shape[1]]
    inside[:] = np.where(pixels.any(axis=-1, keepdims=True), table[range(3), pixels], 255)
    return np.asarray(Image.fromarray(window).resize((window_px, window_px), Image.Resampling.BILINEAR))


def _symmetry(windows: Tensor, number: int) -> Tensor:
    """One of the eight ways, 0 to 7, to turn and flip a square (..., H, W)."""
    turned = windows.rot90(number % 4, (-2, -1))
    return turned.flip(-1) if number >= 4 else turned


def _input(windows: np.ndarray | Tensor, device: str) -> Tensor:
    """Windows (N, H, W, 3) uint8 as the network reads them: (N, 3, H, W) float32."""
    mean, sd = (torch.tensor(values, device=device)[:, None, None] for values in (_IMAGENET_MEAN, _IMAGENET_SD))
    return (torch.as_tensor(windows).to(device).permute(0, 3, 1, 2) / 255 - mean) / sd


# Fit


def fit_densenet(
    training: Training,
    seed: int,
    spent: Iterator[float],
    start: dict[str, Tensor] | None,
    batch: int,
    learning_rate: float,
    progress: Progress,
) -> Predictor:
    """A DenseNet-121 trained for one step each time `spent` gives the share of the budget that is used up."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    windows = torch.from_numpy(np.concatenate(training.features))
    targets = torch.from_numpy(np.concatenate([standardised(expression) for expression in training.expression]))
    weight = torch.cat([torch.full((len(own),), 1 / len(own)) for own in training.features])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = densenet121(len(training.genes), start).to(device)
    optimiser = torch.optim.Adam(network.parameters())
    network.train()
    for share in spent:
        progress.check(int(100 * share), 100, "training DenseNet-121")
        optimiser.param_groups[0]["lr"] = learning_rate * (1 + np.cos(np.pi * share)) / 2
        drawn = torch.multinomial(weight, batch, replacement=True, generator=generator)
        ways = torch.randint(8, (batch,), generator=generator).tolist()
        seen = torch.stack([_symmetry(x, way) for x, way in zip(_input(windows[drawn], device), ways, strict=True)])
        optimiser.zero_grad()
        ((network(seen) - targets[drawn].to(device)) ** 2).mean().backward()
        optimiser.step()
    network.eval()

    @torch.inference_mode()
    def predict(windows: np.ndarray) -> np.ndarray:
        parts = [_input(windows[i : i + batch], device) for i in range(0, len(windows), batch)]
        means = [sum(network(_symmetry(part, way)) for way in range(8)) / 8 for part in parts]
        return torch.cat(means).cpu().numpy()

    return predict


# Network


def imagenet_weights() -> dict[str, Tensor] | None:
    """ImageNet's weights from torch's cache or the network; None where neither has them whole."""
    cached = Path(torch.hub.get_dir(), "checkpoints", IMAGENET_URL.rsplit("/", 1)[1])
    try:
        if not cached.is_file():
            # The download itself would wait for a silent host without end.
            urllib.request.urlopen(urllib.request.Request(IMAGENET_URL, method="HEAD"), timeout=_PROBE_SECONDS).close()
        stored = torch.hub.load_state_dict_from_url(
            IMAGENET_URL, map_location="cpu", check_hash=True, progress=False, weights_only=True
        )
    except (OSError, EOFError, RuntimeError, http.client.HTTPException, pickle.UnpicklingError):
        return None
    # The file has norm.1 for what is norm1 since.
    return {re.sub(r"(norm|conv)\.([12])\.", r"\1\2.", name): value for name, value in stored.items()}


def densenet121(outputs: int, start: dict[str, Tensor] | None = None) -> nn.Sequential:
    """DenseNet-121 of Huang et al. 2017 with a last layer of its own: (N, 3, H, W) to (N, outputs).

    Layers are named as in torchvision, whose weights fit. torchvision itself is not needed: its wheels load beside
    one build of torch each, and those of PyPI not beside torch for processors alone.

    `start` holds weights of all layers but the last; without it they are random, as He et al. 2015 (ICCV, 1026).
    """
    features = nn.Sequential()
    features.conv0 = nn.Conv2d(3, _FIRST_CHANNELS, 7, stride=2, padding=3, bias=False)
    features.norm0 = nn.BatchNorm2d(_FIRST_CHANNELS)
    features.relu0 = nn.ReLU(inplace=True)
    features.pool0 = nn.MaxPool2d(3, stride=2, padding=1)
    channels = _FIRST_CHANNELS
    for number, layers in enumerate(_BLOCKS, start=1):
        block = nn.Sequential()
        for layer in range(1, layers + 1):
            block.add_module(f"denselayer{layer}", _DenseLayer(channels))
            channels += _GROWTH
        features.add_module(f"denseblock{number}", block)
        if number < len(_BLOCKS):
            features.add_module(f"transition{number}", _transition(channels))
            channels //= 2
    features.norm5 = nn.BatchNorm2d(channels)
    head = nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential()
    network.features, network.head, network.classifier = features, head, nn.Linear(channels, outputs)
    nn.init.zeros_(network.classifier.bias)
    for convolution in (module for module in network.modules() if isinstance(module, nn.Conv2d)):
        nn.init.kaiming_normal_(convolution.weight)
    if start is not None:
        last = {f"classifier.{name}": value for name, value in network.classifier.state_dict().items()}
        network.load_state_dict({name: v for name, v in start.items() if not name.startswith("classifier")} | last)
    return network


class _DenseLayer(nn.Sequential):
    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, 4 * _GROWTH, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(4 * _GROWTH), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4 * _GROWTH, _GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, super().forward(x)], dim=1)


def _transition(channels: int) -> nn.Sequential:
    transition = nn.Sequential()
    transition.norm, transition.relu = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    transition.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
    transition.pool = nn.AvgPool2d(2, stride=2)
    return transition
