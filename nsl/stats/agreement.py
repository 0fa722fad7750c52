"""How predicted expression agrees with what was measured on the same slide, spot by spot."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import anndata
import numpy as np
import pandas as pd

from nsl.errors import ScaleError, SpotsError
from nsl.evaluate import gene_correlations, q_values
from nsl.pixels import predict_pixels
from nsl.prediction import THUMBNAIL_PX
from nsl.progress import SILENT, Progress
from nsl.slides.slide import Slide
from nsl.spots.checks import match_genes
from nsl.spots.tables import expression_of
from nsl.stains import estimate_white_point
from nsl.tiles import pixel_bounds
from nsl.weights.reliability import SIGNIFICANT, USEFUL_R
from nsl.weights.weights import Weights

LEAST_SPOTS = 4
"""Of a correlation: Fisher's z has no interval for fewer."""
# Read at once, at the analysis resolution: bounds memory on whole slides.
_STRIP_PIXELS = 4_000_000
# Of progress on a small slide.
_LEAST_STRIPS = 10
# Correlated at once: bounds memory, and lets progress move, where thousands of spots have thousands of genes.
_GENES_AT_ONCE = 250


def predict_spots(
    slide: Slide,
    weights: Weights,
    centers_px: np.ndarray,
    *,
    genes: Sequence[str],
    spot_window_um: float | None = None,
    analysis_mpp: float | None = None,
    white_point: np.ndarray | None = None,
    progress: Progress = SILENT,
) -> np.ndarray:
    """Predict expression around spots, as `nsl.prediction.predict` does for a tile with its centre there.

    Parameters
    ----------
    slide : an open slide with known µm/px.
    weights : what to predict with.
    centers_px : (S, 2) x, y of the spots in level-0 pixels.
    genes : G of the weights' genes, each once.
    spot_window_um : side of the square window around a spot; that of the weights' training if not given.
    analysis_mpp : µm/px the slide is read at, the weights' own if not given; a slide that is coarser is read as it is.
    white_point : (3,) intensity of the background; estimated from the slide, as `predict` does, if not given.
    progress : receives spots done and spots in all.

    Returns
    -------
    (S, G) float32 in the units of the training data; NaN for a window off the slide or of nothing but padding.

    Raises
    ------
    ScaleError : µm/px or a length is missing or impossible.
    WeightsError : a gene the weights do not hold.
    Cancelled : `progress` was cancelled.
    """
    window_um = weights.config.tile_um if spot_window_um is None else spot_window_um
    mpp = weights.config.analysis_mpp if analysis_mpp is None else analysis_mpp
    for what, length in (("window around a spot", window_um), ("analysis resolution", mpp)):
        if not (math.isfinite(length) and length > 0):
            raise ScaleError(f"the {what} must be a positive number of µm, got {length:g}")
    mpp = max(mpp, slide.require_mpp())
    if window_um < 2 * mpp:
        raise ScaleError(
            f"a window of {window_um:g} µm is less than two pixels wide at {mpp:g} µm/px; ask for a larger window or a "
            "finer analysis resolution"
        )
    genes = weights.require_genes(genes)
    model = weights.model if genes == weights.genes else weights.model.select(genes)
    if white_point is None:
        white_point = estimate_white_point(slide.thumbnail(THUMBNAIL_PX)).rgb
    bounds = pixel_bounds(centers_px, window_um, slide.mpp, mpp)
    predicted = np.full((len(bounds), len(model.genes)), np.nan, np.float32)
    done = 0
    for spots, image, corner in _strips(slide, bounds, mpp):
        predicted[spots] = predict_pixels(model, image, bounds[spots] - [*corner, *corner], white_point)
        done += len(spots)
        progress.check(done, len(bounds), "predicting the spots")
    return predicted


def _strips(slide: Slide, bounds: np.ndarray, mpp: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Windows strip by strip: their indices, the image that holds them, and x, y of its first pixel.

    Strips start on whole pixels of the slide as a whole, so a window's pixels do not depend on the strip. Windows off
    the slide are in none.
    """
    scale = mpp / slide.mpp
    size = np.array([int(side / scale + 1e-6) for side in slide.size])
    on_slide = np.flatnonzero((bounds[:, 2:] > 0).all(axis=1) & (bounds[:, :2] < size).all(axis=1))
    if not len(on_slide):
        return
    left, right = max(bounds[on_slide, 0].min(), 0), min(bounds[on_slide, 2].max(), size[0])
    tops = np.maximum(bounds[on_slide, 1], 0)
    rows = min(_STRIP_PIXELS // (right - left), math.ceil((tops.max() - tops.min() + 1) / _LEAST_STRIPS))
    strip = (tops - tops.min()) // max(rows, 1)
    for number in np.unique(strip):
        spots = on_slide[strip == number]
        top, bottom = tops[strip == number].min(), min(bounds[spots, 3].max(), size[1])
        region = np.array([left, top, right - left, bottom - top]) * scale
        yield spots, slide.read(*region, mpp), np.array([left, top])


def agreement(
    predicted: np.ndarray,
    measured: anndata.AnnData,
    centers_px: np.ndarray,
    genes: Sequence[str],
    *,
    progress: Progress = SILENT,
) -> pd.DataFrame:
    """How predicted and measured expression agree over the spots of a slide, gene by gene.

    Takes time in proportion to genes times the square of the spots, and memory to the square of the spots.

    Parameters
    ----------
    predicted : (S, G) from `predict_spots`; spots that are NaN take no part.
    measured : raw counts of the S spots, from `nsl.spots.measured.read_measured`; they are compared as log1p of counts
        per 10,000 of all genes measured.
    centers_px : (S, 2) positions of the spots, in any one unit of length.
    genes : names of the G columns; those that were measured are found by `nsl.spots.checks.match_genes`.
    progress : receives genes done and genes in all.

    Returns
    -------
    A row a gene that was both predicted and measured, in the order of `genes`: what `nsl.evaluate.gene_correlations`
    gives (q_value is over all these genes), n_spots, and detected, the share of the spots with at least one count.

    Raises
    ------
    SpotsError : fewer than LEAST_SPOTS spots have a prediction, or none of the genes was measured.
    Cancelled : `progress` was cancelled.
    """
    known = np.isfinite(predicted).all(axis=1)
    if known.sum() < LEAST_SPOTS:
        raise SpotsError(
            f"{known.sum()} of {len(known)} spots have a prediction, and a correlation needs {LEAST_SPOTS}; "
            + ("measure more spots" if known.all() else "check the positions")
        )
    match = match_genes(measured, genes)
    column = pd.Index(genes).get_indexer(match.predicted)
    spots, predicted, centers_px = measured[known], predicted[known], np.asarray(centers_px)[known]
    parts = []
    for start in range(0, len(column), _GENES_AT_ONCE):
        chunk = slice(start, min(start + _GENES_AT_ONCE, len(column)))
        expression = expression_of(spots, match.measured[chunk])
        part = gene_correlations(predicted[:, column[chunk]], expression, centers_px, match.predicted[chunk])
        parts.append(part.assign(detected=(expression > 0).mean(axis=0)))
        progress.check(chunk.stop, len(column), "comparing the genes")
    table = pd.concat(parts)
    return table.assign(q_value=q_values(table.p_value.to_numpy()), n_spots=int(known.sum()))


class AgreementSummary(NamedTuple):
    """An `agreement` table in four numbers."""

    genes: int
    """Compared: both predicted and measured, and not measured the same everywhere."""
    median_r: float
    """Of Pearson's r; NaN where no gene could be compared."""
    significant: int
    """Genes with r above 0 at a false discovery rate under SIGNIFICANT."""
    useful: int
    """Genes with r above USEFUL_R."""


def agreement_summary(table: pd.DataFrame) -> AgreementSummary:
    """The numbers to say of an `agreement` table."""
    r = table.pearson_r.dropna()
    significant = (table.pearson_r > 0) & (table.q_value < SIGNIFICANT)
    median = float(r.median()) if len(r) else math.nan
    return AgreementSummary(len(r), median, int(significant.sum()), int((r > USEFUL_R).sum()))


def agreement_csv(table: pd.DataFrame) -> str:
    """An `agreement` table as CSV, a row a gene, to six significant digits."""
    return table.to_csv(float_format="%.6g", lineterminator="\n")
