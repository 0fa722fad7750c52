"""Prediction of expression from a slide and weights: tile by tile, around spots, and on a finer grid."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import anndata
import numpy as np
import pandas as pd
from PIL import Image

from nsl import __version__
from nsl.errors import Cancelled, ScaleError, SlideError
from nsl.model import NeuralStain
from nsl.pixels import PixelModel
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
    without_surround,
)
from nsl.result import Provenance, SlidePicture, left_out_in_words, tile_name
from nsl.signatures import Signature
from nsl.slides.annotations.region import Region, check_on_slide
from nsl.slides.annotations.tiles import annotate, tiles_inside
from nsl.slides.slide import Slide
from nsl.stain_transfer import StainTransfer
from nsl.stains import SlideStains, angle_degrees, estimate_stains, tissue_colors
from nsl.system.parallel import ahead, beside
from nsl.system.progress import SILENT, Progress
from nsl.tiles import (
    MIN_TISSUE,
    Strip,
    TileGrid,
    grid_over,
    may_hold_tissue,
    overview_tissue,
    pixel_bounds,
    size_at,
    strips_of_spots,
    strips_of_tiles,
    tile_grid,
    tissue_fraction,
)
from nsl.weights.config import TrainingStains
from nsl.weights.weights import Weights
from nsl.white_point import WhitePoint, estimate_white_point

# Fine enough that one decode of a section's JPEG to a quarter serves this and 3 µm/px alike.
THUMBNAIL_PX = 1280
# A slide's stains are told from so many squares, spread evenly over its tissue, and from every fifth of their 150,000
# pixels at 3 µm/px: other squares change an estimate by about 1° and 2 %, all of these pixels by 0.2° and 1 %.
_STAIN_SQUARES, _STAIN_SQUARE_UM = 60, 150.0
_STAIN_PIXELS = 30_000
# Of a patch's side: finer is not seen on a screen.
PATCH_PX = 1024
# A tile's pixels on a fine map, of which none is narrower than two pixels of the analysis.
FINE_STEPS_UM = (20.0, 15.0, 10.0)
# Genes whose values are put in order together, for a second copy of all may be more than memory holds.
_REORDERED_AT_ONCE = 256
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
    regions: Sequence[Region] | None = None,
    inside_only: bool = False,
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
    regions : annotated on the slide (`nsl.slides.annotations`); every tile then says its region and class in
        `obs["region"]` and `obs["region_class"]`, empty where there is none.
    inside_only : predict the tiles of these regions alone.
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
    AnnotationsError : a region lies off the slide, or no tile lies in one where those inside are asked for.
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
    check_on_slide(regions or [], slide.size)
    inside = np.ones(len(grid), bool)
    if inside_only:
        inside = tiles_inside(grid.centers_px, grid.tile_um / grid.mpp, regions or [])
    _check_window("tile", tile_um, mpp)
    thumbnail = slide.thumbnail(THUMBNAIL_PX)
    white_point = estimate_white_point(thumbnail)
    overview = (thumbnail, _thumbnail_mpp(slide, thumbnail), white_point.rgb)
    kinds = color_kinds(thumbnail, white_point.rgb)
    doubt = slide_doubt(thumbnail, white_point.rgb, kinds) if quality else None
    from_afar = overview_tissue(grid, *overview)
    expected = inside & (from_afar >= min_tissue)
    stains = slide_stains(slide, weights, thumbnail, white_point.rgb, kinds)
    applied = weights.config.stains.transfer_of(stains if transfer else None)
    model = PixelModel.of(_model_of(weights, answered), applied.matrix)
    check_memory(int(expected.sum()), len(genes) + len(sets))
    own = own_tissue(*overview, kinds, stains) if quality else None
    wanted = inside & may_hold_tissue(grid, *overview, min_tissue)
    strips = strips_of_tiles(slide, grid, wanted, mpp)
    watch = _Watch(expected, progress, fullest=from_afar[inside].max())
    digest = beside(lambda: slide.sha256)  # closing the slide ends it
    kept = _Kept.room_for(int(expected.sum()), len(genes), len(sets))
    of_sets = pd.Index(answered).get_indexer(scoring.genes)

    def score(expression: np.ndarray) -> np.ndarray:
        return scoring.score(expression[:, of_sets])

    _predict_strips(ahead(strips), model, score, white_point, mpp, min_tissue, own, watch, kept)
    kept.finish()
    if not kept.count and watch.is_over:
        raise Cancelled("the run was cancelled before it came to any tissue; run again")
    if not kept.count and any(watch.left_out.values()):
        raise SlideError(
            f"{left_out_in_words(watch.left_out)}, and no other is at least {min_tissue:.0%} tissue; check the slide, "
            "or leave the checks of quality out"
        )
    if not kept.count:
        raise SlideError(
            f"no tile is at least {min_tissue:.0%} tissue (the fullest has {watch.fullest:.0%}); check that the image "
            "is a stained section on a bright background, or lower the least share of tissue"
        )
    grid = grid[kept.tiles]
    result = anndata.AnnData(
        X=kept.expression,
        obs=_tile_table(grid, kept.tissue, kept.shares if quality else None),
        var=weights.reliability_of(genes),
        obsm={"spatial": grid.centers_px},
    )
    scale = thumbnail.shape[1] / slide.size[0]
    # So wide, a tile as scanpy and squidpy draw it hides no other.
    spot_px = min(grid.tile_um, grid.stride_um) / slide.mpp
    result.uns["spatial"] = SlidePicture(thumbnail, scale, slide.mpp / scale).as_uns(spot_px)
    if len(sets):
        result.obsm["signatures"] = pd.DataFrame(kept.scores, index=result.obs_names, columns=sets.index)
    result.uns["nsl"] = Provenance(
        weights_id=weights.name,
        weights_source=weights.source,
        weights_revision=weights.revision or weights.source,
        weights_sha256=weights.sha256,
        slide_sha256=digest.result(),
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
        complete=not watch.is_over,
        inside_only=inside_only,
        quality=quality,
        left_out=watch.left_out if quality else {},
        slide_doubt=doubt or "",
        color_profile=slide.color_profile.name if slide.color_profile else "",
        brought_to_srgb=slide.is_converted,
        **_stain_report(stains, applied, weights.config.stains),
        version=__version__,
    ).as_uns()
    if len(sets):
        result.uns["nsl"]["signatures"] = sets
    if regions is not None:
        annotate(result, regions)
    return result


def overview_quality(
    thumbnail: np.ndarray, thumbnail_mpp: float, grid: TileGrid, white_point: np.ndarray
) -> np.ndarray:
    """(T, K) shares of `nsl.quality.tile_quality` as the overview shows them, before a slide is read for prediction.

    Ink, pigment, frames and folds are told as well as in prediction up to 20 µm/px of the overview; blur above 6 µm/px
    is not told, and is NaN.

    thumbnail : (H, W, 3) uint8 RGB of the whole slide.
    thumbnail_mpp : µm per pixel of it.
    grid : T tiles.
    white_point : (3,) intensity of the background.
    """
    kinds = color_kinds(thumbnail, white_point)
    pixels = tissue_pixels(thumbnail, kinds)
    stains = estimate_stains(tissue_colors(pixels[:: max(len(pixels) // _STAIN_PIXELS, 1)], white_point))
    own = own_tissue(thumbnail, thumbnail_mpp, white_point, kinds, stains)
    bounds = pixel_bounds(grid.centers_px, grid.tile_um, grid.mpp, thumbnail_mpp)
    return tile_quality(thumbnail, bounds, white_point, thumbnail_mpp, own)


def _thumbnail_mpp(slide: Slide, thumbnail: np.ndarray) -> float:
    return slide.mpp * slide.size[0] / thumbnail.shape[1]


def check_memory(tiles: int, genes: int) -> None:
    """Raise SlideError where a result of tissue tiles × genes would be more than memory may hold."""
    if tiles * genes > MAX_VALUES:
        raise SlideError(
            f"{tiles:,} tiles of {genes:,} genes are more than memory may hold; ask for fewer genes or a longer step "
            "between tiles"
        )


@dataclass
class _Watch:
    """Reports progress in tissue tiles of a grid."""

    expected: np.ndarray  # (T,) whether each tile is tissue, by the overview
    progress: Progress
    fullest: float = 0.0  # largest share of tissue of a tile looked at
    left_out: dict[str, int] = field(default_factory=lambda: left_out_counts(np.empty((0, len(KINDS)))))  # by kind
    is_over: bool = False  # whether the run was cancelled before its end
    _done: int = 0

    def looked_at(self, tiles: np.ndarray, tissue: np.ndarray, left_out: dict[str, int]) -> None:
        """Report tiles as done, with their shares of tissue, and how many were left out by kind."""
        self.left_out = {kind: count + left_out[kind] for kind, count in self.left_out.items()}
        self._done += int(self.expected[tiles].sum())
        self.fullest = max(self.fullest, tissue.max(initial=0))
        self.progress.report(self._done, max(int(self.expected.sum()), 1))


@dataclass
class _Kept:
    """What is known of the tiles kept: columns whose first `count` rows are filled, as their strips were read."""

    tiles: np.ndarray  # (N,) positions in the grid
    tissue: np.ndarray  # (N,)
    shares: np.ndarray  # (N, kinds) of `nsl.quality`; NaN where it is not asked for
    expression: np.ndarray  # (N, genes)
    scores: np.ndarray  # (N, signatures)
    count: int = 0

    @classmethod
    def room_for(cls, tiles: int, genes: int, sets: int) -> Self:
        widths = ((), (len(KINDS),), (genes,), (sets,))
        return cls(np.empty(tiles, np.int64), *(np.empty((tiles, *width), np.float32) for width in widths))

    def require(self, more: int) -> None:
        """See that there is room for so many more rows."""
        if self.count + more > len(self.tiles):
            self._resize((self.count + more) * 5 // 4)

    def finish(self) -> None:
        """Let go of the room that is left, and bring the rows into the order of the grid."""
        self._resize(self.count)
        order = self.tiles.argsort()
        if (order[1:] > order[:-1]).all():
            return
        # Parts of the same rows of tiles were read one after the other.
        for column in self._columns:
            rows = column.reshape(self.count, column.size // self.count)
            for start in range(0, rows.shape[1], _REORDERED_AT_ONCE):
                part = rows[:, start : start + _REORDERED_AT_ONCE]
                part[:] = part[order]

    @property
    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.tiles, self.tissue, self.shares, self.expression, self.scores

    def _resize(self, rows: int) -> None:
        for column in self._columns:
            column.resize((rows, *column.shape[1:]), refcheck=False)


def _predict_strips(
    strips: Iterator[Strip],
    model: PixelModel,
    score: Callable[[np.ndarray], np.ndarray],
    white_point: WhitePoint,
    mpp: float,
    min_tissue: float,
    own: OwnTissue | None,
    watch: _Watch,
    kept: _Kept,
) -> None:
    """Add the tiles of strips to those kept.

    model : of the genes wished for, and behind them others that sets are scored by.
    score : from the expression of all these, (N, genes), to scores (N, signatures).
    """
    wished = kept.expression.shape[1]
    for strip in strips:
        if watch.progress.cancelled:
            watch.is_over = True
            return
        tissue = tissue_fraction(strip.image, strip.bounds, white_point.rgb, strip.edges)
        keep = tissue >= min_tissue
        shares = np.full((len(tissue), len(KINDS)), np.nan, np.float32)
        if own is not None:
            shares[keep] = tile_quality(strip.image, strip.bounds[keep], white_point.rgb, mpp, own, strip.corner)
            keep &= ~over_limits(shares).any(axis=1)
        kept.require(number := int(keep.sum()))
        place = kept.expression[kept.count : kept.count + number]
        is_whole = len(model.intercept) == wished
        expression = place if is_whole else np.empty((number, len(model.intercept)), np.float32)
        model.predict(strip.image, strip.bounds[keep], white_point.rgb, strip.edges, expression)
        if not min_tissue:
            # A tile may be nothing but padding, of which there is nothing to say.
            keep[keep] = seen = np.isfinite(expression).all(axis=1)
            expression = expression[seen]
        rows = slice(kept.count, kept.count + len(expression))
        kept.tiles[rows], kept.tissue[rows], kept.shares[rows] = strip.windows[keep], tissue[keep], shares[keep]
        if expression is not place:
            kept.expression[rows] = expression[:, :wished]
        kept.scores[rows] = score(expression)
        kept.count = rows.stop
        watch.looked_at(strip.windows, tissue, left_out_counts(shares))


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
    genes = weights.require_genes(genes)
    model = PixelModel.of(_model_of(weights, genes), transfer)
    predicted = np.full((len(centers_px), len(genes)), np.nan, np.float32)
    done = 0
    for strip in ahead(strips_of_spots(slide, pixel_bounds(centers_px, window_um, slide.mpp, mpp), mpp)):
        predicted[strip.windows] = model.predict(strip.image, strip.bounds, white_point)
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


def slide_stains(
    slide: Slide, weights: Weights, overview: np.ndarray, white_point: np.ndarray, kinds: np.ndarray | None = None
) -> SlideStains | None:
    """Estimate the stains of a slide from some of its tissue; None where too little is stained.

    The same for every grid of tiles, and at the resolution that the weights were learned at, whichever a run asks for:
    at no other do pixels mix the stains as much.

    overview : (H, W, 3) uint8 RGB of the whole slide.
    white_point : (3,) intensity of the background.
    kinds : `nsl.quality.color_kinds` of the overview, where they are known already.
    """
    kinds = color_kinds(overview, white_point) if kinds is None else kinds
    mpp = _analysis_mpp(slide, weights, None)
    side_um = min(_STAIN_SQUARE_UM, *(side * slide.mpp for side in slide.size))
    grid = grid_over(slide.size, slide.mpp, side_um)
    overview_mpp = _thumbnail_mpp(slide, overview)
    tissue = overview_tissue(grid, without_surround(overview, kinds), overview_mpp, white_point)
    squares = np.flatnonzero(tissue >= MIN_TISSUE)
    squares = squares[np.linspace(0, len(squares) - 1, min(_STAIN_SQUARES, len(squares))).round().astype(int)]
    if overview_mpp <= mpp:  # of a small slide, which need not be read again
        # Of whole pixels: to share them out between squares would mix the stains once more than reading does.
        at_mpp = np.asarray(Image.fromarray(overview).resize(size_at(slide, mpp), Image.Resampling.BOX))
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
    pixels = tissue_pixels(pixels[:: max(len(pixels) // _STAIN_PIXELS, 1)], kinds)
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
