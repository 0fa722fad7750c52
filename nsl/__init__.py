"""Expression maps from the colour of routine H&E, by Neural Stain Learning.

The names below are loaded on first use, so that importing `nsl` costs neither torch nor numba.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "open_slide": "nsl.slides.slide",
    "predict": "nsl.prediction",
    "load_weights": "nsl.weights.folder",
    "fit": "nsl.train",
    "NeuralStain": "nsl.model",
    "count_colors": "nsl.histogram",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'nsl' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
