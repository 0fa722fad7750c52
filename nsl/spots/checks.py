"""Checks of measured expression before it is used: positions, tissue, gene names, and what a fit needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import anndata
import numpy as np
from scipy.spatial import KDTree

from nsl.errors import SpotsError
from nsl.numerals import count_of
from nsl.result import Provenance, SlidePicture
from nsl.spots.files import ENSEMBL_ID, are_ensembl
from nsl.spots.measured_section import PATTERN_MIN_DETECTED, SpotColors, detected_share
from nsl.spots.positions import extent_in_words, require_on_slide
from nsl.tiles import MIN_TISSUE

# Of the predicted genes: a table of fewer is a small panel, or names them in another way.
_FEW_GENES = 0.2
# Of the spots, on tissue: sections have spots beside it and over holes, but not more.
LEAST_ON_TISSUE = 0.8
LEAST_SPOTS, LEAST_DEPTH, LEAST_GENES = 50, 500, 100


def check_on_slide(measured: anndata.AnnData, slide_size: tuple[int, int], *, scale: float = 1.0) -> np.ndarray:
    """Spot centres in pixels of the slide: (S, 2) float64 x, y.

    measured : from `nsl.spots.measured.read_measured` or `nsl.spots.tables.read_spots`.
    slide_size : (width, height) in level-0 pixels.
    scale : factor that turns the positions into pixels of the slide; 1 where they are of this very image.

    Raises SpotsError: a spot lies outside the slide; it says how many do, both extents, and the likely remedy.
    """
    if not (np.isfinite(scale) and scale > 0):
        raise SpotsError(
            f"the scale of the positions must be a positive number, got {scale:g}; 1 leaves them as they are"
        )
    centers_px = measured.obsm["spatial"] * scale
    require_on_slide(centers_px, slide_size, measured.uns.get("image_scales", {}))
    return centers_px


def check_on_tissue(
    centers_px: np.ndarray, result: anndata.AnnData, image_scales: Mapping[str, float] | None = None
) -> str | None:
    """Say where spots lie off the tissue of a prediction, and the likely remedy; None where nearly all lie on it.

    centers_px : (S, 2) x, y in level-0 pixels of the slide.
    result : of `nsl.prediction.predict`, of the same slide.
    image_scales : pixels of smaller images of the slide over those of the full-resolution one, by the image's name.

    Raises SpotsError: no spot lies on a predicted tile.
    """
    tiles, number = result.obsm["spatial"], len(centers_px)
    found = int(on_tissue(centers_px, result).sum())
    if found >= LEAST_ON_TISSUE * number:
        return None
    ways = _other_ways(np.asarray(centers_px, float), result, image_scales or {})
    fit, remedy = max(
        ((on_tissue(centers, result).sum(), way) for way, centers in ways.items()), key=lambda way: way[0]
    )
    remedy = remedy if fit >= LEAST_ON_TISSUE * number else None
    if found:
        told = remedy or "the positions may be shifted, or of another image"
        return f"Only {found:,} of {number:,} spots {'lies' if found == 1 else 'lie'} on predicted tissue; {told}."
    unlike = ", not array positions, µm or pixels of a smaller image" if centers_px.max() < tiles.max() / 4 else ""
    raise SpotsError(
        f"none of the {number:,} spots lies on the slide's predicted tissue: positions reach "
        f"{extent_in_words(centers_px)}, tissue {extent_in_words(tiles)}; "
        f"{remedy or f'give positions in pixels of this very image{unlike}'}"
    )


def on_tissue(centers_px: np.ndarray, result: anndata.AnnData) -> np.ndarray:
    """(S,) bool, which of the spots (S, 2), in level-0 pixels, lie on a tile that was predicted."""
    grid = Provenance.of(result)
    reach = max(grid.tile_um, grid.stride_um) / grid.mpp / 2
    return KDTree(result.obsm["spatial"]).query(centers_px, p=np.inf)[0] <= reach


def _other_ways(
    centers_px: np.ndarray, result: anndata.AnnData, image_scales: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Where the spots lie if their positions were meant in another way, by what to do then."""
    picture, mpp = SlidePicture.of(result), Provenance.of(result).mpp
    height, width = (side / picture.scale for side in picture.rgb.shape[:2])
    ways = {
        "they fit with x and y exchanged, so check which column is which": centers_px[:, ::-1],
        "they fit with x counted from the right, so mirror x": centers_px * [-1, 1] + [width, 0],
        "they fit with y counted from the bottom, so mirror y": centers_px * [1, -1] + [0, height],
        "they fit turned by half, so mirror x and y": [width, height] - centers_px,
        f"they fit as µm, so multiply the positions by {1 / mpp:.4g}": centers_px / mpp,
    }
    for name, of_full in image_scales.items():
        remedy = f"they fit as pixels of the {name} image, so multiply the positions by {1 / of_full:.4g}"
        ways[remedy] = centers_px / of_full
    return ways


class GeneMatch(NamedTuple):
    """Genes that were both measured and predicted, pair by pair, in the order of the predicted."""

    measured: list[str]
    """Their names in the measured table."""
    predicted: list[str]
    """Their names in the weights."""
    number_measured: int
    """Genes of the measured table, predicted or not."""
    notice: str | None
    """A sentence where names do not agree well; None where they do."""


def match_genes(measured: anndata.AnnData, genes: Sequence[str]) -> GeneMatch:
    """Find the predicted genes among the measured, by name, else by Ensembl id, else however capitalised.

    Raises SpotsError: none was measured; it says how each side names its genes.
    """
    ids = measured.var.get("gene_id", measured.var_names)
    by_name = {name: name for name in measured.var_names}
    by_id = {_unversioned(one): name for one, name in zip(ids, measured.var_names, strict=True) if _is_ensembl(one)}
    by_capitals = {name.upper(): name for name in reversed(measured.var_names)}
    pairs = {gene: gene for gene in genes if gene in by_name}
    taken, other_capitals = set(pairs), 0
    for gene in genes:
        if gene not in pairs:
            by_own_id = by_id.get(_unversioned(gene))
            name = by_own_id or by_capitals.get(gene.upper())
            if name is not None and name not in taken:
                pairs[gene] = name
                taken.add(name)
                other_capitals += by_own_id is None
    found = (
        f"{len(pairs):,} of {count_of(len(genes), 'predicted gene')} {'was' if len(pairs) == 1 else 'were'} measured"
    )
    if not pairs:
        raise SpotsError(f"none of the {len(genes):,} predicted genes was measured: {_naming(measured, genes)}")
    notice = None
    predicted = [gene for gene in genes if gene in pairs]
    if other_capitals > len(pairs) / 2:
        example = next(gene for gene in predicted if pairs[gene] != gene)
        notice = (
            f"{found}, most only with other capitals ({pairs[example]} for {example}): the two may be of different "
            "species, such as mouse and human."
        )
    elif len(pairs) < _FEW_GENES * len(genes):
        notice = f"Only {found}: {_naming(measured, genes)}."
    return GeneMatch([pairs[gene] for gene in predicted], predicted, measured.n_vars, notice)


def _naming(measured: anndata.AnnData, genes: Sequence[str]) -> str:
    """How the two sides name their genes, and what to do where they do so differently."""
    names = measured.var_names
    examples = f"{', '.join(names[:3])} in the table, {', '.join(genes[:3])} in the weights"
    if are_ensembl(names) and not are_ensembl(genes):
        mouse = " of mouse" if names[0].startswith("ENSMUSG") else ""
        return f"the table names genes by Ensembl id{mouse} ({examples}); name them by symbol"
    if are_ensembl(genes) and not are_ensembl(names):
        return f"the weights name genes by Ensembl id ({examples}); name them so in the table"
    if len(names) < _FEW_GENES * len(genes):
        return f"the table holds {count_of(len(names), 'gene')} ({examples})"
    return f"the first of each are {examples}; check that both are symbols of the same species"


def _is_ensembl(name: str) -> bool:
    return ENSEMBL_ID.fullmatch(str(name)) is not None


def _unversioned(gene: str) -> str:
    return str(gene).partition(".")[0] if _is_ensembl(gene) else gene


@dataclass(frozen=True)
class SectionReport:
    """What a measured section holds to learn from."""

    name: str
    spots: int
    """Spots with counts and a position."""
    spots_on_tissue: int
    """Those whose window is tissue to at least `nsl.tiles.MIN_TISSUE`."""
    median_counts: float
    """Per spot, of all genes (UMI)."""
    genes_detected: int
    """Genes counted at least once in a tenth of the spots, which are those that weights are fitted to."""
    notices: list[str]
    """Sentences on what the tables hold, and on spots that take no part."""

    @property
    def warnings(self) -> list[str]:
        """A sentence for each thing that may spoil a fit."""
        told = {
            f"{self.name} has {count_of(self.spots, 'spot')}; from fewer than {LEAST_SPOTS} a fit learns little, and "
            "what it is worth cannot be told.": self.spots < LEAST_SPOTS,
            f"Only {self.spots_on_tissue:,} of the {self.spots:,} spots of {self.name} "
            f"{'lies' if self.spots_on_tissue == 1 else 'lie'} on tissue; the positions "
            "may be shifted, or of another image.": self.spots_on_tissue < LEAST_ON_TISSUE * self.spots,
            f"The median spot of {self.name} has {self.median_counts:,.0f} counts; under {LEAST_DEPTH} most genes are "
            "noise.": self.median_counts < LEAST_DEPTH,
            f"Only {count_of(self.genes_detected, 'gene')} of {self.name} "
            f"{'is' if self.genes_detected == 1 else 'are'} counted in at least a tenth of its spots; fewer "
            f"than {LEAST_GENES} have little in common to learn from.": self.genes_detected < LEAST_GENES,
        }
        return [sentence for sentence, is_so in told.items() if is_so]


def report_on(name: str, measured: anndata.AnnData, seen: SpotColors) -> SectionReport:
    """Count what a section holds, before a fit.

    measured : from `nsl.spots.measured.read_measured` or `nsl.spots.tables.read_spots`.
    seen : of `nsl.spots.measured_section.read_spot_colors`, of the same spots.
    """
    counts = measured.X[seen.shows_tissue]
    left_out = measured.n_obs - counts.shape[0]
    little = int((seen.shows_tissue & ~seen.on_tissue).sum())
    told = {
        f"{count_of(left_out, 'spot')} left out, where the image shows no tissue.": left_out,
        f"{count_of(little, 'spot')} of less than {MIN_TISSUE:.0%} tissue {'takes' if little == 1 else 'take'} part "
        "too.": little,
    }
    return SectionReport(
        name=name,
        spots=measured.n_obs,
        spots_on_tissue=int((seen.shows_tissue & seen.on_tissue).sum()),
        median_counts=float(np.median(counts.sum(axis=1))),
        genes_detected=int((detected_share(counts) >= PATTERN_MIN_DETECTED).sum()),
        notices=[*measured.uns["notices"], *(sentence for sentence, number in told.items() if number)],
    )
