"""What a prediction holds, by name and type; the prediction itself stays a plain AnnData."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nsl.errors import NslError
from nsl.numerals import count_of
from nsl.stain_transfer import transfer_doubts

if TYPE_CHECKING:
    import anndata
    import pandas as pd

VAR_COLUMNS = (
    *("r_heldout", "r_low", "r_high", "r_next_low", "r_next_high"),
    *("q_value", "patients_replicated", "r_specific"),
)
"""What a result carries of each gene's reliability."""
BY_HAND = "by_hand"
"""Of tiles that were left out because somebody erased them (`without_tiles`)."""
KINDS_IN_WORDS = {
    "ink": "ink",
    "pigment": "pigment",
    "blur": "out of focus",
    "fold": "folded",
    "surround": "black or grey",
    BY_HAND: "by hand",
}
"""Of why tiles were left out: what is no tissue to predict from (`nsl.quality`), and what was erased."""


# What files of versions that knew no stain transfer lack.
_BEFORE_TRANSFER = {
    "transfer": np.eye(3),
    "transfer_source": np.full((2, 3), np.nan),
    "transfer_target": np.full((2, 3), np.nan),
    "transfer_strengths": np.ones(2),
    "transfer_residual": math.nan,
}


@dataclass(frozen=True)
class Provenance:
    """How a result came to be, as `uns["nsl"]` holds it."""

    weights_id: str
    weights_source: str
    weights_revision: str
    weights_sha256: str
    slide_sha256: str
    units: str
    heldout_left_out: str  # in turn, where the genes' reliability was measured: "patient", say
    heldout_groups: int  # how many of these there were
    white_point: np.ndarray  # (3,) intensity of the slide's background
    white_point_source: str  # see `nsl.white_point.WhitePoint`
    mpp: float  # µm per level-0 pixel
    tile_um: float
    stride_um: float
    analysis_mpp: float  # µm/px the slide was read at
    min_tissue: float  # least share of tissue in a tile, 0 to 1
    complete: bool  # False where the run was cancelled, and tiles are missing
    slide_stain_vectors: np.ndarray  # (2, 3) hematoxylin and eosin; NaN, as what follows, where too little is stained
    stain_angles_degrees: np.ndarray  # (2,) of each to its mean over the training slides
    training_spread_degrees: np.ndarray  # (2,) largest such angle of a training slide
    transfer: np.ndarray  # (3, 3) A, by which the model took the slide's optical densities
    transfer_source: np.ndarray  # (2, 3) stain vectors it goes from: the slide's likely ones, or the target's
    transfer_target: np.ndarray  # (2, 3) stain vectors it goes to: those that the weights know
    transfer_strengths: np.ndarray  # (2,) what a unit of the slide's hematoxylin and eosin is in the target's
    transfer_residual: float  # share of the slide's optical density that neither of its stains explains
    stain_distance: float  # the larger of the two angles over its spread; beyond 1, the slide is unlike the training's
    version: str
    inside_only: bool = False  # whether tiles outside annotated regions were left out
    quality: bool = False  # whether tiles of ink, pigment, blur, folds and frames were left out (`nsl.quality`)
    left_out: dict = field(default_factory=dict)  # how many, by kind, those erased by hand among them
    slide_doubt: str = ""  # a sentence on why the slide may be no H&E
    color_profile: str = ""  # what the slide's file says of its colours, by the profile's own name
    brought_to_srgb: bool = False  # whether they were converted by it before anything else
    synthetic: bool = False  # whether the slide was made by a program

    @classmethod
    def of(cls, result: "anndata.AnnData") -> Self:
        """Of a prediction in memory, or one read from a file."""
        stored = _BEFORE_TRANSFER | result.uns["nsl"]
        return cls(**{one.name: _typed(one.type, stored[one.name]) for one in fields(cls) if one.name in stored})

    @property
    def is_transferred(self) -> bool:
        """Whether the slide's stains were brought to those that the weights know."""
        return not np.array_equal(self.transfer, np.eye(3))

    def as_uns(self) -> dict:
        """The content of `uns["nsl"]`, without `synthetic`: that is known to whoever made the slide."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "synthetic"}


def _typed(kind: type, value: Any) -> Any:
    """A value as an h5ad file gives it back, which has numpy's scalars, as a plain one."""
    if kind is dict:
        return {key: int(count) for key, count in value.items()}
    return np.asarray(value, float) if kind is np.ndarray else kind(value)


@dataclass(frozen=True)
class SlidePicture:
    """The small picture of its slide that a result carries, where scanpy and squidpy look for one."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    scale: float
    """Its pixels per level-0 pixel of the slide."""
    mpp: float
    """µm per pixel of the picture."""

    @classmethod
    def of(cls, result: "anndata.AnnData") -> Self:
        spatial = result.uns["spatial"]["slide"]
        scale = float(spatial["scalefactors"]["tissue_hires_scalef"])
        return cls(spatial["images"]["hires"], scale, Provenance.of(result).mpp / scale)

    def as_uns(self, spot_px: float) -> dict:
        """The content of `uns["spatial"]`.

        spot_px : how wide a tile or spot is drawn, in level-0 pixels.
        """
        factors = {"tissue_hires_scalef": self.scale, "spot_diameter_fullres": spot_px}
        # Of the names that scanpy and squidpy know for a picture, "hires" is the one they draw unasked.
        return {"slide": {"images": {"hires": self.rgb}, "scalefactors": factors}}

    @property
    def size_um(self) -> np.ndarray:
        """(2,) width and height of the slide."""
        return self.mpp * np.array(self.rgb.shape[1::-1])


def trust_of(result: "anndata.AnnData") -> "pd.DataFrame":
    """A row a gene with r_heldout and, but for results of versions that did not tell it, the word trust."""
    return result.var[[name for name in ("r_heldout", "trust") if name in result.var]]


def map_of(result: "anndata.AnnData", gene: str) -> np.ndarray:
    """(T,) predicted expression of one gene; KeyError for a gene the result does not hold."""
    return np.ravel(result.X[:, result.var_names.get_loc(gene)])


def values_of(result: "anndata.AnnData", genes: Sequence[str]) -> np.ndarray:
    """(T, G) predicted expression of genes of the result; a view of it where these are all its genes."""
    if list(genes) == list(result.var_names):
        return np.asarray(result.X)
    return np.asarray(result.X[:, result.var_names.get_indexer(list(genes))])


def require_genes(result: "anndata.AnnData", genes: Sequence[str] | None) -> list[str]:
    """The genes, each once, or all of the result for None; NslError for one the result does not hold."""
    if genes is None:
        return list(result.var_names)
    unknown = [gene for gene in dict.fromkeys(genes) if gene not in result.var_names]
    if unknown:
        more = f" (and {len(unknown) - 1:,} more)" if len(unknown) > 1 else ""
        raise NslError(
            f"the map holds no gene {unknown[0]}{more}; choose among its {result.n_vars:,}, or predict that gene first"
        )
    return list(dict.fromkeys(genes))


def centers_mm(result: "anndata.AnnData") -> np.ndarray:
    """(T, 2) x, y of the tiles' centres in mm from the slide's top left."""
    return result.obs[["x_um", "y_um"]].to_numpy(float) / 1000


def tile_name(row: int, column: int) -> str:
    """Name of a tile by its place in the grid."""
    return f"r{row}c{column}"


def tile_at(result: "anndata.AnnData", x_mm: float, y_mm: float) -> str | None:
    """Name of the tile drawn at a place of the map; None where there is none."""
    grid = Provenance.of(result)
    # Tiles are drawn around their centres.
    column, row = (round((mm * 1000 - grid.tile_um / 2) / grid.stride_um) for mm in (x_mm, y_mm))
    name = tile_name(row, column)
    return name if name in result.obs_names else None


def nearest_tiles(result: "anndata.AnnData", places_px: np.ndarray) -> np.ndarray:
    """(N,) names of the tiles whose centres are nearest to places (N, 2) of the slide, in level-0 pixels."""
    from scipy.spatial import KDTree  # not needed to start

    return np.asarray(result.obs_names)[KDTree(result.obsm["spatial"]).query(places_px)[1]]


def without_tiles(result: "anndata.AnnData", tiles: Sequence[str]) -> "anndata.AnnData":
    """The result without tiles that were erased by hand, which its provenance counts; the result itself stays whole.

    tiles : their names; those that it does not hold change nothing.

    Raises NslError: no tile would be left.
    """
    erased = result.obs_names.isin(list(tiles))
    if erased.all():
        raise NslError(f"that would erase all {result.n_obs:,} tiles of the map; leave some of them")
    left = result[~erased].copy()
    counts = Provenance.of(result).left_out
    if erased.any():
        left.uns["nsl"]["left_out"] = counts | {BY_HAND: counts.get(BY_HAND, 0) + int(erased.sum())}
    return left


def tile_beside(result: "anndata.AnnData", tile: str | None, columns: int, rows: int) -> str:
    """Name of the next tile in the direction of a step, over gaps; the same one at the edge, the middle one for None.

    columns, rows : the step in the grid, one of them 0.
    """
    place = result.obs[["array_col", "array_row"]].to_numpy(int)
    if tile not in result.obs_names:
        away = np.abs(place - np.median(place, axis=0)).sum(axis=1)
        return str(result.obs_names[away.argmin()])
    ahead = (place - place[result.obs_names.get_loc(tile)]) * (columns or rows)
    along, across = ahead.T if columns else ahead.T[::-1]
    found = np.flatnonzero((across == 0) & (along > 0))
    return str(result.obs_names[found[along[found].argmin()]]) if len(found) else tile


def percentile_of(result: "anndata.AnnData", gene: str, tile: str) -> float:
    """Share of the slide's tiles, in %, whose value of a gene is at most that of one tile."""
    values = map_of(result, gene)
    return 100 * float((values <= values[result.obs_names.get_loc(tile)]).mean())


def transfer_in_words(result: "anndata.AnnData") -> str:
    """What was done about the slide's stains, in a sentence or two."""
    known = Provenance.of(result)
    if np.isnan(known.stain_distance):
        return "Too little of this slide is stained to tell its stains; its colours were taken as they are."
    if not known.is_transferred:
        return "Its colours were taken as they are: bringing stains over to the weights was switched off."
    hematoxylin, eosin = (
        "about as strong" if abs(ratio - 1) < 0.05 else f"{ratio:.1f} times as strong"
        for ratio in 1 / known.transfer_strengths
    )
    beside = (
        f"its hematoxylin and its eosin are both {eosin} as theirs"
        if hematoxylin == eosin
        else f"its hematoxylin is {hematoxylin} as theirs and its eosin {eosin}"
    )
    return (
        "Every laboratory stains a little differently. Hematoxylin and eosin were told from this slide's own tissue "
        f"and brought to those that the weights know: {beside}."
    )


def stain_warning(result: "anndata.AnnData") -> str | None:
    """A sentence on a slide whose stains could not be brought to those that the weights know; None where they were.

    Where the transfer was switched off, a slide whose stains lie outside what training covered is told of.
    """
    known = Provenance.of(result)
    if np.isnan(known.stain_distance):
        return "Too little of this slide is stained to tell its stains, so its colours were taken as they are."
    if not known.is_transferred:
        if known.stain_distance <= 1:
            return None
        angles = [f"{angle:.0f}°" for angle in known.stain_angles_degrees]
        return (
            f"This slide is stained differently from the training slides (hematoxylin by {angles[0]}, eosin by "
            f"{angles[1]}), and was not brought to their stains."
        )
    reasons = transfer_doubts(known.slide_stain_vectors, known.transfer_strengths, known.transfer_residual)
    return f"The stains of this slide may not be hematoxylin and eosin: {'; '.join(reasons)}." if reasons else None


def left_out_in_words(counts: dict[str, int]) -> str:
    """How many tiles were left out and why, in a line, from counts by kind; empty where none was."""
    reasons = [f"{count:,} {KINDS_IN_WORDS[kind]}" for kind, count in counts.items() if count]
    total = sum(counts.values())
    if total and total == counts.get(BY_HAND):
        return f"{count_of(total, 'tile')} left out by hand"
    return f"{count_of(total, 'tile')} left out: {', '.join(reasons)}" if reasons else ""


def left_out(result: "anndata.AnnData") -> str:
    """How many tiles of tissue were left out and why, in a line; empty where none was."""
    return left_out_in_words(Provenance.of(result).left_out)


def caveats(result: "anndata.AnnData") -> list[str]:
    """Sentences that belong wherever a result is shown: that its slide is synthetic, that it is only a part."""
    known = Provenance.of(result)
    said = ["The slide is synthetic: made by a program, not from a patient."] if known.synthetic else []
    said += [known.slide_doubt] if known.slide_doubt else []
    if not known.complete:
        said.append("This is part of the slide: the run was cancelled.")
    if known.inside_only:
        said.append("Only the tiles inside annotated regions were predicted.")
    return [*said, *erased_in_words(known)]


def erased_in_words(known: Provenance) -> list[str]:
    """A sentence on tiles that somebody erased; none where nobody did."""
    number = known.left_out.get(BY_HAND, 0)
    return [f"{count_of(number, 'tile')} {'was' if number == 1 else 'were'} left out by hand."] if number else []
