"""What a prediction holds, by name and type; the prediction itself stays a plain AnnData."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nsl.errors import NslError

if TYPE_CHECKING:
    import anndata

VAR_COLUMNS = ("r_heldout", "r_low", "r_high", "q_value", "patients_replicated")
"""What a result carries of each gene's reliability."""


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
    white_point_source: str  # see `nsl.stains.WhitePoint`
    mpp: float  # µm per level-0 pixel
    tile_um: float
    stride_um: float
    analysis_mpp: float  # µm/px the slide was read at
    min_tissue: float  # least share of tissue in a tile, 0 to 1
    complete: bool  # False where the run was cancelled, and tiles are missing
    slide_stain_vectors: np.ndarray  # (2, 3) hematoxylin and eosin; NaN, as the angles are, where too little is stained
    stain_angles_degrees: np.ndarray  # (2,) of each to its mean over the training slides
    training_spread_degrees: np.ndarray  # (2,) largest such angle of a training slide
    stain_distance: float  # the larger of the two angles over its spread; beyond 1, the slide is unlike the training's
    version: str
    synthetic: bool = False  # whether the slide was made by a program

    @classmethod
    def of(cls, result: "anndata.AnnData") -> Self:
        """Of a prediction in memory, or one read from a file."""
        stored = result.uns["nsl"]
        return cls(**{one.name: _typed(one.type, stored[one.name]) for one in fields(cls) if one.name in stored})

    def as_uns(self) -> dict:
        """The content of `uns["nsl"]`, without `synthetic`: that is known to whoever made the slide."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "synthetic"}


def _typed(kind: type, value: Any) -> Any:
    """A value as an h5ad file gives it back, which has numpy's scalars, as a plain one."""
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


def percentile_of(result: "anndata.AnnData", gene: str, tile: str) -> float:
    """Share of the slide's tiles, in %, whose value of a gene is at most that of one tile."""
    values = map_of(result, gene)
    return 100 * float((values <= values[result.obs_names.get_loc(tile)]).mean())


def stain_warning(result: "anndata.AnnData") -> str | None:
    """A sentence on a slide whose stains lie outside what training covered; None where they lie inside.

    It names each stain that does, its angle to the training mean, and the largest angle of a training slide.
    """
    known = Provenance.of(result)
    if np.isnan(known.stain_distance):
        return "Too little of this slide is stained to compare its stains with those of the training slides."
    outside = [
        f"{stain} is {angle:.1f}° from the training mean, where training slides reached {spread:.1f}°"
        for stain, angle, spread in zip(
            ("hematoxylin", "eosin"), known.stain_angles_degrees, known.training_spread_degrees, strict=True
        )
        if angle > spread
    ]
    if not outside:
        return None
    return f"The stains of this slide lie outside training: its {'; its '.join(outside)}."


def caveats(result: "anndata.AnnData") -> list[str]:
    """Sentences that belong wherever a result is shown: that its slide is synthetic, that it is only a part."""
    known = Provenance.of(result)
    said = ["The slide is synthetic: made by a program, not from a patient."] if known.synthetic else []
    if not known.complete:
        said.append("This is part of the slide: the run was cancelled.")
    return said
