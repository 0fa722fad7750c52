"""Prediction of expression from a slide and weights: tile by tile, around spots, and on a finer grid."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import anndata
import numpy as np
import pandas as pd
from PIL import Image

from nsl import __version__
from nsl.errors import Cancelled, ScaleError, SlideError
from nsl.model import NeuralStain
from nsl.pixels import predict_pixels
from nsl.progress import SILENT, Progress
from nsl.quality import (
    KINDS,
    OwnTissue,
    color_kinds,
    left_out_counts,
    over_limits,
    own_tissue,
    slide_doubt,
    tile_quality,
    tissue_pixels,
)
from nsl.result import VAR_COLUMNS, Provenance, SlidePicture, left_out_in_words, tile_name
from nsl.signatures import Scoring, Signature
from nsl.slides.slide import Slide
from nsl.stain_transfer import StainTransfer
from nsl.stains import SlideStains, WhitePoint, angle_degrees, estimate_stains, estimate_white_point, tissue_colors
from nsl.tiles import MIN_TISSUE, TileGrid, grid_over, overview_tissue, pixel_bounds, tile_grid, tissue_fraction
from nsl.weights.config import TrainingStains
from nsl.weights.weights import Weights

# Fine enough that one decode of a section's JPEG to a quarter serves this and 3 µm/px alike.
THUMBNAIL_PX = 1280
# Read at once, at the analysis resolution: bounds memory on whole slides and lets progress move.
_STRIP_PIXELS = 4_000_000
# Of a small slide, for progress; each costs another reading of the rows that neighbours share.
_LEAST_STRIPS = 10
# Responses of genes to pixels between two reports of progress: about half a second.
_BATCH_RESPONSES = 1.5e9
# A slide's stains are told from so many squares, spread evenly over its tissue, and from every fifth of their 150,000
# pixels at 3 µm/px: other squares change an estimate by about 1° and 2 %, all of these pixels by 0.2° and 1 %.
_STAIN_SQUARES, _STAIN_SQUARE_UM = 60, 150.0
_STAIN_PIXELS = 30_000
# Of a patch's side: finer is not seen on a screen.
PATCH_PX = 1024
# A tile's pixels on a fine map, of which none is narrower than two pixels of the analysis.
FINE_STEPS_UM = (20.0, 15.0, 10.0)
MAX_VALUES = 1_000_000_000
"""The most values of a result, tissue tiles × genes: 4 GB."""


def predict(
    slide: Slide,
    weights: Weights,
    *,
    tile_um: float | None = None,
    stride_um: float | None = None,
    analysis_mpp: float | None = None,
    genes: Sequence[str] | None = None,
    min_tissue: float = MIN_TISSUE,
    signatures: Sequence[Signature] | None = None,
    transfer: bool = True,
    quality: bool = True,
    progress: Progress = SILENT,
) -> anndata.AnnData:
    """Predict gene expression tile by tile.

    Parameters
    ----------
    slide : an open slide with known µm/px.
    weights : what to predict with.
    tile_um : side of a tile; the window the weights were trained with if not given.
    stride_um : step between tiles; `tile_um` if not given.
    analysis_mpp : µm/px the slide is read at, the weights' own if not given; a slide that is coarser is read
        as it is.
    genes : which to predict; all if not given. There may be none where there are signatures.
    min_tissue : least share of tissue a tile must have, 0 to 1.
    signatures : gene sets to score (`nsl.signatures`), whether their genes are among `genes` or not. If not given,
        those of the weights where all genes are predicted, otherwise none.
    transfer : bring the slide's own stains to those that the weights know (`nsl.stain_transfer`).
    quality : refuse a slide that is no H&E, and leave out tiles of ink, pigment, blur, folds and frames
        (`nsl.quality.LIMITS`); the shares of those kept are columns of `obs`, and `uns["nsl"]["left_out"]` counts the
        others by kind.
    progress : receives tissue tiles done and in all, counted on the slide's overview. The run goes from the top of the
        slide down; once it is cancelled, the tiles predicted so far are the result, and its `uns["nsl"]["complete"]`
        is False.

    Returns
    -------
    AnnData of tissue tiles × genes; X is float32 in the units of the training data. Where sets were scored,
    `obsm["signatures"]` is a table of tiles × sets, and `uns["nsl"]["signatures"]` tells their genes and how well each
    was predicted where held out (`nsl.weights.weights.Weights.match_signatures`).

    Raises
    ------
    ScaleError : µm/px or a length is missing or impossible.
    SlideError : the slide is smaller than a tile, damaged, no H&E, or shows no tissue, or none that can be predicted.
    WeightsError : a gene the weights do not hold, or too few genes of every signature.
    Cancelled : the run was cancelled before it came to any tissue.
    """
    if signatures is None:
        signatures = weights.own_signatures if genes is None else []
    genes = weights.genes if genes is None else weights.require_genes(genes)
    sets = weights.match_signatures(signatures)
    scoring = weights.scoring(sets)
    answered = list(dict.fromkeys([*genes, *scoring.genes]))
    tile_um = weights.config.tile_um if tile_um is None else tile_um
    mpp = _analysis_mpp(slide, weights, analysis_mpp)
    if not 0 <= min_tissue <= 1:
        raise SlideError(f"the least share of tissue must lie between 0 and 1, got {min_tissue:g}; 0.3 is usual")
    grid = tile_grid(slide, tile_um, stride_um)
    _check_window("tile", tile_um, mpp)
    thumbnail = slide.thumbnail(THUMBNAIL_PX)
    white_point = estimate_white_point(thumbnail)
    kinds = color_kinds(thumbnail, white_point.rgb)
    doubt = slide_doubt(thumbnail, white_point.rgb, kinds) if quality else None
    expected = _tissue_tiles_before(slide, grid, thumbnail, white_point, min_tissue)
    stains = slide_stains(slide, weights, thumbnail, white_point.rgb)
    applied = weights.config.stains.transfer_of(stains if transfer else None)
    model = _model_of(weights, answered).transferred(applied.matrix)
    check_memory(int(expected[-1]), len(genes) + len(sets))
    watch = _Watch(expected, progress)
    own = None
    if quality:
        own = own_tissue(thumbnail, slide.mpp * slide.size[0] / thumbnail.shape[1], white_point.rgb, kinds, stains)
    strips = _strips_of_tiles(slide, grid, mpp)
    bands = [
        _scored(band, model.genes, len(genes), scoring)
        for band in _predict_bands(strips, grid, model, white_point, mpp, min_tissue, own, watch)
    ]
    tissue = np.concatenate([band.tissue for band in bands])
    keep = np.concatenate([band.keep for band in bands])
    shares = np.concatenate([band.shares for band in bands])
    left_out = left_out_counts(shares) if quality else {}
    is_complete = len(keep) == len(grid)
    grid = grid[slice(len(keep))]
    if not keep.any() and not is_complete:
        raise Cancelled("the run was cancelled before it came to any tissue; run again")
    if not keep.any() and any(left_out.values()):
        raise SlideError(
            f"{left_out_in_words(left_out)}, and no other is at least {min_tissue:.0%} tissue; check the slide, or "
            "leave the checks of quality out"
        )
    if not keep.any():
        raise SlideError(
            f"no tile is at least {min_tissue:.0%} tissue (the fullest has {tissue.max():.0%}); check that the image "
            "is a stained section on a bright background, or lower the least share of tissue"
        )
    result = anndata.AnnData(
        X=np.concatenate([band.expression for band in bands]),
        obs=_tile_table(grid[keep], tissue[keep], shares[keep] if quality else None),
        var=weights.reliability.loc[genes, list(VAR_COLUMNS)],
        obsm={"spatial": grid[keep].centers_px},
    )
    scale = thumbnail.shape[1] / slide.size[0]
    # So wide, a tile as scanpy and squidpy draw it hides no other.
    spot_px = min(grid.tile_um, grid.stride_um) / slide.mpp
    result.uns["spatial"] = SlidePicture(thumbnail, scale, slide.mpp / scale).as_uns(spot_px)
    if len(sets):
        scores = np.concatenate([band.scores for band in bands])
        result.obsm["signatures"] = pd.DataFrame(scores, index=result.obs_names, columns=sets.index)
    result.uns["nsl"] = Provenance(
        weights_id=weights.name,
        weights_source=weights.source,
        weights_revision=weights.revision or weights.source,
        weights_sha256=weights.sha256,
        slide_sha256=slide.sha256,
        units=weights.config.units,
        heldout_left_out=weights.config.reliability.left_out,
        heldout_groups=weights.config.reliability.groups,
        white_point=white_point.rgb,
        white_point_source=white_point.source,
        mpp=slide.mpp,
        tile_um=grid.tile_um,
        stride_um=grid.stride_um,
        analysis_mpp=mpp,
        min_tissue=min_tissue,
        complete=is_complete,
        quality=quality,
        left_out=left_out,
        slide_doubt=doubt or "",
        **_stain_report(stains, applied, weights.config.stains),
        version=__version__,
    ).as_uns()
    if len(sets):
        result.uns["nsl"]["signatures"] = sets
    return result


def check_memory(tiles: int, genes: int) -> None:
    """Raise SlideError where a result of tissue tiles × genes would be more than memory may hold."""
    if tiles * genes > MAX_VALUES:
        raise SlideError(
            f"{tiles:,} tiles of {genes:,} genes are more than memory may hold; ask for fewer genes or a longer step "
            "between tiles"
        )


def _tissue_tiles_before(
    slide: Slide, grid: TileGrid, thumbnail: np.ndarray, white_point: WhitePoint, min_tissue: float
) -> np.ndarray:
    """Count the tiles before each one that hold tissue by the thumbnail: (T + 1,), the last of them all."""
    tissue = overview_tissue(grid, thumbnail, slide.size[0], slide.mpp, white_point.rgb)
    return np.concatenate([[0], np.cumsum(tissue >= min_tissue)])


@dataclass(frozen=True)
class _Watch:
    """Reports progress in tissue tiles of a grid."""

    expected: np.ndarray
    """Of `_tissue_tiles_before`."""
    progress: Progress

    def is_over(self, tiles: int) -> bool:
        """Report the first tiles of the grid as done, and return whether the run is to end there."""
        self.progress.report(int(self.expected[tiles]), max(int(self.expected[-1]), 1))
        return self.progress.cancelled


@dataclass(frozen=True)
class _Strip:
    """A part of the slide at the analysis resolution, with the windows that lie in it."""

    windows: np.ndarray  # (N,) positions among all windows
    image: np.ndarray  # (H, W, 3) uint8
    bounds: np.ndarray  # (N, 4) pixel bounds of the windows in the image


@dataclass(frozen=True)
class _Band:
    tissue: np.ndarray  # (tiles looked at,)
    keep: np.ndarray  # (tiles looked at,) bool
    expression: np.ndarray  # (tiles kept, genes)
    shares: np.ndarray  # (tiles looked at, kinds) of `nsl.quality`; NaN where there is too little tissue to look
    scores: np.ndarray | None = None  # (tiles kept, signatures)


def _scored(band: _Band, answered: list[str], wished: int, scoring: Scoring) -> _Band:
    """The band with the scores of the sets, and of the genes answered only those wished for, the first."""
    if not scoring.names:
        return band
    columns = pd.Index(answered).get_indexer(scoring.genes)
    scores = scoring.score(band.expression[:, columns])
    return replace(band, expression=np.ascontiguousarray(band.expression[:, :wished]), scores=scores)


def _predict_bands(
    strips: Iterator[_Strip],
    grid: TileGrid,
    model: NeuralStain,
    white_point: WhitePoint,
    mpp: float,
    min_tissue: float,
    own: OwnTissue | None,
    watch: _Watch,
) -> Iterator[_Band]:
    responses_per_tile = (grid.tile_um / mpp) ** 2 * len(model.genes)
    at_once = max(int(_BATCH_RESPONSES / responses_per_tile), 1)
    for strip in strips:
        image, bounds = strip.image, strip.bounds
        tissue = tissue_fraction(image, bounds, white_point.rgb)
        keep = tissue >= min_tissue
        shares = np.full((len(bounds), len(KINDS)), np.nan, np.float32)
        if own is not None:
            shares[keep] = tile_quality(image, bounds[keep], white_point.rgb, mpp, own)
            keep &= ~over_limits(shares).any(axis=1)
        kept = np.flatnonzero(keep)
        expression, end, is_over = [np.empty((0, len(model.genes)), np.float32)], len(bounds), False
        for start in range(0, len(kept), at_once):
            batch = kept[start : start + at_once]
            expression.append(predict_pixels(model, image, bounds[batch], white_point.rgb))
            looked_at = batch[-1] + 1 if batch[-1] < kept[-1] else len(bounds)
            if watch.is_over(strip.windows[0] + looked_at):
                end, is_over = looked_at, True
                break
        yield _band(tissue[:end], keep[:end], np.concatenate(expression), shares[:end])
        if is_over or (not len(kept) and watch.is_over(strip.windows[-1] + 1)):
            return


def _band(tissue: np.ndarray, keep: np.ndarray, expression: np.ndarray, shares: np.ndarray) -> _Band:
    # Where any share of tissue will do, a tile may be nothing but padding, of which there is nothing to say.
    seen = np.isfinite(expression).all(axis=1)
    keep[keep] = seen
    return _Band(tissue, keep, expression[seen], shares)


def predict_spots(
    slide: Slide,
    weights: Weights,
    centers_px: np.ndarray,
    *,
    genes: Sequence[str],
    spot_window_um: float | None = None,
    analysis_mpp: float | None = None,
    white_point: np.ndarray | None = None,
    transfer: np.ndarray | None = None,
    progress: Progress = SILENT,
) -> np.ndarray:
    """Predict expression around spots, as `predict` does for a tile with its centre there.

    Parameters
    ----------
    slide : an open slide with known µm/px.
    weights : what to predict with.
    centers_px : (S, 2) x, y of the spots in level-0 pixels.
    genes : G of the weights' genes, each once.
    spot_window_um : side of the square window around a spot; that of the weights' training if not given.
    analysis_mpp : µm/px the slide is read at, the weights' own if not given; a slide that is coarser is read as it is.
    white_point, transfer : (3,) intensity of the background and (3, 3) matrix of the stain transfer, as the provenance
        of a result of the slide has them; estimated from the slide, as `predict` does, if not given.
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
    if not (math.isfinite(window_um) and window_um > 0):
        raise ScaleError(f"the window around a spot must be a positive number of µm, got {window_um:g}; 150 is usual")
    mpp = _analysis_mpp(slide, weights, analysis_mpp)
    _check_window("window", window_um, mpp)
    if white_point is None or transfer is None:
        thumbnail = slide.thumbnail(THUMBNAIL_PX)
        if white_point is None:
            white_point = estimate_white_point(thumbnail).rgb
        if transfer is None:
            stains = slide_stains(slide, weights, thumbnail, white_point)
            transfer = weights.config.stains.transfer_of(stains).matrix
    model = _model_of(weights, weights.require_genes(genes)).transferred(transfer)
    predicted = np.full((len(centers_px), len(model.genes)), np.nan, np.float32)
    done = 0
    for strip in _strips_of_spots(slide, pixel_bounds(centers_px, window_um, slide.mpp, mpp), mpp):
        predicted[strip.windows] = predict_pixels(model, strip.image, strip.bounds, white_point)
        done += len(strip.windows)
        progress.check(done, len(predicted), "predicting the spots")
    return predicted


def _model_of(weights: Weights, genes: Sequence[str]) -> NeuralStain:
    return weights.model if genes == weights.genes else weights.model.select(genes)


def _analysis_mpp(slide: Slide, weights: Weights, wished: float | None) -> float:
    wished = weights.config.analysis_mpp if wished is None else wished
    if not (math.isfinite(wished) and wished > 0):
        raise ScaleError(f"the analysis resolution must be a positive number of µm/px, got {wished:g}; 3 is usual")
    return max(float(wished), slide.require_mpp())


def _check_window(what: str, side_um: float, mpp: float) -> None:
    if side_um < 2 * mpp:
        raise ScaleError(
            f"a {what} of {side_um:g} µm is less than two pixels wide at {mpp:g} µm/px; ask for larger {what}s or a "
            "finer analysis resolution"
        )


def _strips_of_tiles(slide: Slide, grid: TileGrid, mpp: float) -> Iterator[_Strip]:
    """Read a complete grid in strips of whole rows, as wide as the slide."""
    columns = int(grid.array_col.max()) + 1
    pixels_per_row = (columns * grid.stride_um / mpp) * (grid.stride_um / mpp)
    rows = math.ceil(len(grid) / columns)
    at_once = max(min(int(_STRIP_PIXELS / pixels_per_row), math.ceil(rows / _LEAST_STRIPS)), 1)
    bounds = pixel_bounds(grid.centers_px, grid.tile_um, slide.mpp, mpp)
    return _strips(slide, bounds, grid.array_row // at_once, (0, _size_at(slide, mpp)[0]), mpp)


def _strips_of_spots(slide: Slide, bounds: np.ndarray, mpp: float) -> Iterator[_Strip]:
    """Read windows (S, 4) in strips as wide as they reach; windows off the slide are in none."""
    size = _size_at(slide, mpp)
    on_slide = (bounds[:, 2:] > 0).all(axis=1) & (bounds[:, :2] < size).all(axis=1)
    if not on_slide.any():
        return iter(())
    left, right = max(bounds[on_slide, 0].min(), 0), min(bounds[on_slide, 2].max(), size[0])
    tops = np.maximum(bounds[:, 1], 0)
    first, last = tops[on_slide].min(), tops[on_slide].max()
    rows = max(min(_STRIP_PIXELS // (right - left), math.ceil((last - first + 1) / _LEAST_STRIPS)), 1)
    return _strips(slide, bounds, np.where(on_slide, (tops - first) // rows, -1), (left, right), mpp)


def _strips(
    slide: Slide, bounds: np.ndarray, numbers: np.ndarray, columns: tuple[int, int], mpp: float
) -> Iterator[_Strip]:
    """Read windows strip by strip, from the top of the slide down.

    Strips start on whole pixels of the slide as a whole, so a window's pixels do not depend on the strip.

    bounds : (N, 4) pixel bounds of the windows on the whole slide at `mpp`.
    numbers : (N,) the strip each window is in; negative for none.
    columns : of pixels, the first to read and the one after the last.
    """
    scale, height = mpp / slide.mpp, _size_at(slide, mpp)[1]
    left, right = columns
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] >= 0]
    for windows in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        top, bottom = max(bounds[windows, 1].min(), 0), min(bounds[windows, 3].max(), height)
        region = np.array([left, top, right - left, bottom - top]) * scale
        yield _Strip(windows, slide.read(*region, mpp), bounds[windows] - [left, top, left, top])


def _size_at(slide: Slide, mpp: float) -> tuple[int, int]:
    """Return width and height of the slide in whole pixels at `mpp`."""
    scale = mpp / slide.mpp
    width, height = (int(side / scale + 1e-6) for side in slide.size)
    return width, height


def _tile_table(grid: TileGrid, tissue: np.ndarray, shares: np.ndarray | None) -> pd.DataFrame:
    x_um, y_um = grid.centers_um.T
    return pd.DataFrame(
        {
            "array_row": grid.array_row,
            "array_col": grid.array_col,
            "x_um": x_um,
            "y_um": y_um,
            "tissue_fraction": tissue,
            **({} if shares is None else dict(zip(KINDS, shares.T, strict=True))),
        },
        index=[tile_name(row, column) for row, column in zip(grid.array_row, grid.array_col, strict=True)],
    )


def slide_stains(slide: Slide, weights: Weights, overview: np.ndarray, white_point: np.ndarray) -> SlideStains | None:
    """Estimate the stains of a slide from some of its tissue; None where too little is stained.

    The same for every grid of tiles, and at the resolution that the weights were learned at, whichever a run asks for:
    at no other do pixels mix the stains as much.

    overview : (H, W, 3) uint8 RGB of the whole slide.
    white_point : (3,) intensity of the background.
    """
    mpp = _analysis_mpp(slide, weights, None)
    side_um = min(_STAIN_SQUARE_UM, *(side * slide.mpp for side in slide.size))
    grid = grid_over(slide.size, slide.mpp, side_um)
    tissue = overview_tissue(grid, overview, slide.size[0], slide.mpp, white_point)
    squares = np.flatnonzero(tissue >= MIN_TISSUE)
    squares = squares[np.linspace(0, len(squares) - 1, min(_STAIN_SQUARES, len(squares))).round().astype(int)]
    overview_mpp = slide.mpp * slide.size[0] / overview.shape[1]
    if overview_mpp <= mpp:  # of a small slide, which need not be read again
        at_mpp = np.asarray(Image.fromarray(overview).resize(_size_at(slide, mpp), Image.Resampling.BOX))
        bounds = pixel_bounds(grid.centers_px[squares], side_um, slide.mpp, mpp)
        pixels = [at_mpp[y0:y1, x0:x1].reshape(-1, 3) for x0, y0, x1, y1 in bounds]
    else:
        side_px = side_um / slide.mpp
        corners = np.minimum(np.maximum(grid.centers_px[squares] - side_px / 2, 0), np.array(slide.size) - side_px)
        pixels = [slide.read(x, y, side_px, side_px, mpp).reshape(-1, 3) for x, y in corners]
    if not pixels:
        return None
    pixels = np.concatenate(pixels)
    # Ink would be taken for a stain, and bring all of the slide to a wrong one.
    pixels = tissue_pixels(pixels[:: max(len(pixels) // _STAIN_PIXELS, 1)], color_kinds(overview, white_point))
    return estimate_stains(tissue_colors(pixels, white_point))


def _stain_report(stains: SlideStains | None, applied: StainTransfer, training: TrainingStains) -> dict:
    """What became of the slide's stains, as `Provenance` names the numbers; NaN where too little is stained."""
    unknown = SlideStains(np.full((2, 3), np.nan), np.full(2, np.nan), np.nan)
    own = unknown if stains is None else stains
    angles, spread = angle_degrees(own.vectors, training.reference), training.spread_degrees.copy()
    return {
        "transfer": applied.matrix,
        "transfer_source": applied.source.vectors,
        "transfer_target": applied.target.vectors,
        "transfer_strengths": applied.strengths,
        "transfer_residual": own.residual,
        "slide_stain_vectors": own.vectors,
        "stain_angles_degrees": angles,
        "training_spread_degrees": spread,
        "stain_distance": float((angles / spread).max()),
    }


def fine_map(
    slide: Slide,
    weights: Weights,
    of: str | Signature,
    step_um: float,
    *,
    min_tissue: float,
    analysis_mpp: float,
    transfer: bool = True,
    quality: bool = True,
    progress: Progress = SILENT,
) -> anndata.AnnData:
    """Predict one gene, or score one signature, on squares of `step_um` side by side.

    A tile's prediction is the mean over its pixels, so that of its squares; where they lie higher or lower is what the
    model sees inside a tile, and finer than anything it was compared with.

    Raises what `nsl.predict` raises.
    """
    return predict(
        slide,
        weights,
        tile_um=step_um,
        genes=[of] if isinstance(of, str) else [],
        signatures=() if isinstance(of, str) else (of,),
        min_tissue=min_tissue,
        analysis_mpp=min(analysis_mpp, step_um / 2),
        transfer=transfer,
        quality=quality,
        progress=progress,
    )


@dataclass(frozen=True)
class Patch:
    """The tissue under one tile."""

    rgb: np.ndarray
    """(h, w, 3) uint8, as fine as the slide has it, at most 1,024 px wide."""
    mpp: float
    analysed: np.ndarray
    """(h, w, 3) uint8, at the resolution the tile was predicted from."""


def patch(slide: Slide, result: anndata.AnnData, tile: str) -> Patch:
    """Read the tissue under a tile of a result from its slide.

    Raises
    ------
    SlideError : the slide cannot be read.
    KeyError : the result has no such tile.
    """
    known = Provenance.of(result)
    center, half_px = result.obsm["spatial"][result.obs_names.get_loc(tile)], known.tile_um / known.mpp / 2
    # A tile may reach over the edge by a hair, as floats do.
    start, end = np.maximum(center - half_px, 0), np.minimum(center + half_px, slide.size)
    region = (*start, *(end - start))
    fine_mpp = max(slide.require_mpp(), known.tile_um / PATCH_PX)
    return Patch(slide.read(*region, fine_mpp), fine_mpp, slide.read(*region, known.analysis_mpp))
