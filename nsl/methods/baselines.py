"""What NSL is compared with: other ways from the colour, or the nuclei, of a window to expression.

Each is an `evaluate.Method` over scikit-learn. Features are of the image alone; targets are standardised within each
section, every section weighs alike, as in `nsl.train`, and settings are chosen by nested validation.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nsl.evaluate import Method, Predictor, Training, choose, shared_part, standardised
from nsl.histogram import ColorCounts
from nsl.methods.nuclei import FEATURES, NUCLEI_MPP, measure_nuclei
from nsl.spots.measured_section import ANALYSIS_MPP, MAX_PATTERNS, TILE_UM, MeasuredSection, Windows, read_windows
from nsl.stain_transfer import REFERENCE
from nsl.stains import HED_VECTORS

# The first serves where there is a single group to learn from, and nothing to choose by.
PENALTIES = (0.1, 0.001, 0.01, 1.0, 10.0, 100.0)
"""Candidates for a ridge's alpha, against a squared error that sums to one per section."""

HISTOGRAM_BITS = 4
HISTOGRAM_MAX_OD = 2.0
"""About a seventh of the light; what is darker is counted with the darkest."""

LEAVES = (20, 5, 80)
"""Candidates for the fewest spots in a leaf."""

_TREES = 100
# Breiman 2001 (Mach Learn 45:5) for regression: a split looks at a third of the features.
_FEATURE_SHARE = 1 / 3

Features = Callable[[MeasuredSection], np.ndarray]


def baselines(tile_um: float = TILE_UM, analysis_mpp: float = ANALYSIS_MPP) -> list[Method]:
    """The compared methods, the simplest first.

    tile_um and analysis_mpp are those the sections were measured with; methods that look at an image again read the
    same windows. Nuclei are looked for at `nsl.methods.nuclei.NUCLEI_MPP`.
    """
    rgb = partial(mean_rgb, tile_um=tile_um, analysis_mpp=analysis_mpp)
    nuclei = _once_a_section(partial(nuclei_of, tile_um=tile_um))
    return [
        _ridge_method("tissue darkness + ridge", darkness, 1),
        _ridge_method("mean RGB + ridge", rgb, 3),
        _ridge_method("mean OD + ridge", mean_od, 3),
        _ridge_method("fixed HED + ridge", hed_concentrations, 2),
        _ridge_method("Macenko-normalised OD + ridge", macenko_od, 3),
        _ridge_method("colour histogram + ridge", color_histogram, 2 ** (3 * HISTOGRAM_BITS), scale=False),
        _ridge_method("nuclei + ridge", nuclei, len(FEATURES)),
        Method("nuclei + random forest", nuclei, fit_forest, None, random=True),
        # With the targets that NSL may choose, to tell what is the model's and what the targets'.
        _ridge_method("fixed HED + ridge, on patterns", hed_concentrations, 2, patterns=MAX_PATTERNS),
        _ridge_method(
            "colour histogram + ridge, on patterns",
            color_histogram,
            2 ** (3 * HISTOGRAM_BITS),
            scale=False,
            patterns=MAX_PATTERNS,
        ),
        _ridge_method("nuclei + ridge, on patterns", nuclei, len(FEATURES), patterns=MAX_PATTERNS),
    ]


# Features


def darkness(section: MeasuredSection) -> np.ndarray:
    """Optical density summed over the channels, mean over the window: (S, 1)."""
    return mean_od(section).sum(axis=1, keepdims=True)


def mean_od(section: MeasuredSection) -> np.ndarray:
    """Mean optical density of each window: (S, 3)."""
    return section.colors.od_sums.sum(axis=1) / section.colors.pixels[:, None]


def mean_rgb(section: MeasuredSection, tile_um: float, analysis_mpp: float) -> np.ndarray:
    """Mean intensity of each window in the shared stains, on its slide's own glass: (S, 3), padding left out."""
    windows = read_windows(section.image, section.centers_px, tile_um, analysis_mpp).painted(section.transfer)
    return np.stack([_mean_color(windows, bounds) for bounds in windows.bounds])


def _mean_color(windows: Windows, bounds: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = np.maximum(bounds, 0)
    pixels = windows.image[y0:y1, x0:x1].reshape(-1, 3)
    return pixels[pixels.any(axis=1)].mean(axis=0)


def hed_concentrations(section: MeasuredSection) -> np.ndarray:
    """Hematoxylin and eosin of Ruifrok and Johnston, each colour's at least 0, mean over the window: (S, 2).

    What NSL starts from. Their third stain added nothing in nested validation.
    """
    return _mean_relu(section.colors, np.linalg.inv(HED_VECTORS)[:, :2])


def macenko_od(section: MeasuredSection) -> np.ndarray:
    """Mean optical density after stain normalisation by Macenko et al. 2009 (ISBI, 1107): (S, 3).

    The section's colours have shared vectors already (`nsl.stain_transfer`); their concentrations, at least 0, are
    divided by their 99th percentile over the section's windows.
    """
    colors = section.colors
    unmixing = np.linalg.pinv(REFERENCE.vectors)
    seen = colors.counts > 0
    pixels = colors.counts[seen]
    concentrations = colors.od_sums[seen] / pixels[:, None] @ unmixing
    strongest = [np.quantile(c, 0.99, weights=pixels, method="inverted_cdf") for c in concentrations.T]
    return _mean_relu(colors, unmixing) / np.maximum(strongest, 1e-6) @ REFERENCE.vectors


def color_histogram(section: MeasuredSection) -> np.ndarray:
    """Square roots of the shares of the window's colours, on one OD grid for all slides: (S, 4096).

    Sixteen steps a channel. Square roots make distances those of Hellinger, which rare colours do not rule.
    """
    colors, steps = section.colors, 1 << HISTOGRAM_BITS
    step = np.clip(colors.palette_od * (steps / HISTOGRAM_MAX_OD), 0, steps - 1).astype(int)
    bins = step @ [steps**2, steps, 1]
    shares = np.zeros((steps**3, len(colors)), np.float32)
    np.add.at(shares, bins, (colors.counts / colors.pixels[:, None]).T)
    return np.sqrt(shares.T)


def nuclei_of(section: MeasuredSection, tile_um: float) -> np.ndarray:
    """Number, size, shape and kinds of nuclei: (S, F), see `nsl.methods.nuclei.FEATURES`."""
    windows = read_windows(section.image, section.centers_px, tile_um, NUCLEI_MPP)
    return measure_nuclei(windows.painted(section.transfer))


def _mean_relu(colors: ColorCounts, unmixing: np.ndarray) -> np.ndarray:
    """Mean over windows of relu(od · unmixing): (S, stains) for unmixing (3, stains), to first order in each bin."""
    pieces = (colors.palette_od @ unmixing > 0) * unmixing[:, None]  # (3, K, stains)
    total = sum(colors.od_sums[..., c] @ pieces[c].astype(np.float32) for c in range(3))
    return total / colors.pixels[:, None]


def _once_a_section(measure: Features) -> Features:
    measured = {}

    def features(section: MeasuredSection) -> np.ndarray:
        key = (section.image, section.centers_px.tobytes())
        if key not in measured:
            measured[key] = measure(section)
        return measured[key]

    return features


# Fits


def _ridge_method(name: str, features: Features, count: int, *, scale: bool = True, patterns: int = 0) -> Method:
    return Method(name, features, partial(fit_ridge, scale=scale, patterns=patterns), count + 1)


def fit_ridge(training: Training, seed: int, *, scale: bool = True, patterns: int = 0) -> Predictor:
    """Ridge regression of all genes on features centred and, with `scale`, brought to unit variance.

    Genes are learned from the strongest patterns of each section, or as measured for 0 patterns.
    The penalty is the same for all genes and chosen by nested validation; nothing is drawn, so the seed is not used.
    """

    def fit(training: Training, alpha: float) -> Predictor:
        features, targets, weight = pooled(training, patterns)
        model = make_pipeline(StandardScaler(with_std=scale), Ridge(alpha))
        model.fit(features, targets, standardscaler__sample_weight=weight, ridge__sample_weight=weight)
        return predictor(model)

    return fit(training, choose(PENALTIES, fit, training))


def fit_forest(training: Training, seed: int) -> Predictor:
    """A random forest whose trees predict all genes together, its leaves as large as nested validation chooses.

    The same seed gives the same forest.
    """

    def fit(training: Training, leaf: int) -> Predictor:
        features, targets, weight = pooled(training)
        forest = RandomForestRegressor(
            _TREES, min_samples_leaf=leaf, max_features=_FEATURE_SHARE, n_jobs=2, random_state=seed
        )
        return predictor(forest.fit(features, targets.squeeze(axis=1) if targets.shape[1] == 1 else targets, weight))

    return fit(training, choose(LEAVES, fit, training))


def predictor(model: BaseEstimator) -> Predictor:
    """What a fitted model of scikit-learn predicts, always with an axis of genes."""
    # For a single gene scikit-learn leaves out the axis of genes.
    return lambda features: model.predict(features).reshape(len(features), -1)


def pooled(training: Training, patterns: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, standardised targets and weights of all spots; a section's weights sum to 1."""
    pairs = zip(training.sections, training.expression, strict=True)
    targets = [shared_part(section, standardised(expression), patterns) for section, expression in pairs]
    weight = [np.full(len(target), 1 / len(target)) for target in targets]
    return np.concatenate(training.features).astype(float), np.concatenate(targets), np.concatenate(weight)
