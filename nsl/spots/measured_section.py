"""Measured sections as fits and evaluations need them: colours around each spot, and expression."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import anndata
import numpy as np
from scipy import sparse

from nsl.errors import SpotsError
from nsl.histogram import ColorCounts, count_colors
from nsl.quality import color_kinds, unmarked_pixels
from nsl.slides.slide import open_quietly
from nsl.spots.measured import read_measured
from nsl.spots.positions import require_on_slide
from nsl.spots.tables import Section, log_normalised
from nsl.stain_transfer import paint, to_reference
from nsl.stains import SlideStains, estimate_stains, tissue_colors
from nsl.tiles import MIN_TISSUE, pixel_bounds, tissue_fraction
from nsl.white_point import estimate_white_point

TILE_UM = 150.0
ANALYSIS_MPP = 3.0
# Held-out r is the same from 3 to 6 bits (benchmarks/RESULTS.md), and 4 fit five times faster than 5.
BITS = 4
# The expression of one section holds no more patterns that other sections share.
MAX_PATTERNS = 10
PATTERN_MIN_DETECTED = 0.1
# A spot is on glass whose window, or one of half its side, is tissue to less: a window is wider than a spot, and may
# reach the tissue from beside it. Little is counted on glass, so any gene would seem predicted: with a twentieth of the
# spots there, genes that follow nothing have a mean r of 0.14. Of the embedded weights' spots all have more.
LEAST_TISSUE = 0.1


class SectionImage(NamedTuple):
    """The H&E image of a section."""

    section: str
    """The section's name, for messages."""
    path: Path
    mpp: float | None
    """µm/px of the image as stored; None where the image's own metadata is to be taken."""


class Detection(NamedTuple):
    """Which genes were counted in the spots of a section, where their expression is not needed."""

    patient: str
    genes: Sequence[str]
    detected: np.ndarray
    """(genes,) share of spots with at least one count."""
    spots: int


@dataclass(frozen=True)
class MeasuredSection:
    """Colour counts, in the stains that all sections share, and expression of S spots; the image is not kept."""

    name: str
    patient: str
    colors: ColorCounts
    genes: list[str]
    expression: np.ndarray
    """(S, genes) float32, log1p of counts per 10,000."""
    detected: np.ndarray
    """(genes,) float64, share of spots with at least one count."""
    centers_px: np.ndarray
    """(S, 2) float64, x and y of the spots in pixels of the image as stored."""
    stains: SlideStains | None
    """Of the slide, as estimated from its image; None where too little is stained."""
    image: SectionImage | None = None
    """Where it was read, for methods that look at the image again."""
    read_mpp: float | None = None
    """µm/px that the image was read at; None where it was not read from one."""
    spot_names: np.ndarray | None = None
    """(S,) as the counts name the spots, in the order of all that has a row a spot; None where they have no names."""

    @classmethod
    def of(
        cls, measured: anndata.AnnData, seen: "SpotColors", patient: str, genes: Collection[str] | None = None
    ) -> Self:
        """Join measured counts with what the image shows around the same spots; those that show no tissue are left out.

        Parameters
        ----------
        measured : raw counts of the spots, as `nsl.spots.measured.read_measured` gives them; only those of the genes
            wanted are made dense.
        seen : of `read_spot_colors`.
        patient : label that the sections of one patient share.
        genes : those wanted, all if not given.
        """
        keep_spots = seen.shows_tissue
        counts, names = measured.X[keep_spots], measured.var_names
        keep = np.arange(len(names)) if genes is None else np.flatnonzero(names.isin(genes))
        return cls(
            name=seen.image.section,
            patient=patient,
            colors=ColorCounts(seen.colors.moments[keep_spots], seen.colors.palette_od),
            genes=list(names[keep]),
            expression=log_normalised(counts, keep),
            detected=detected_share(counts)[keep],
            centers_px=measured.obsm["spatial"][keep_spots],
            stains=seen.stains,
            image=seen.image,
            read_mpp=seen.read_mpp,
            spot_names=measured.obs_names[keep_spots].to_numpy(str),
        )

    @property
    def spots(self) -> int:
        return len(self.colors)

    @property
    def transfer(self) -> np.ndarray:
        """(3, 3) by which the colours came from the slide's stains, for methods that look at the image again."""
        return to_reference(self.stains)

    @cached_property
    def _column(self) -> dict[str, int]:
        return {gene: i for i, gene in enumerate(self.genes)}

    @cached_property
    def patterns(self) -> np.ndarray:
        """(S, k) orthonormal: what the expression of many genes has in common over the spots, strongest first.

        Left singular vectors of the standardised expression of the genes detected in a tenth of the spots.
        """
        known = self.expression[:, self.detected >= PATTERN_MIN_DETECTED]
        sd = known.std(axis=0)
        known = (known[:, sd > 0] - known[:, sd > 0].mean(axis=0)) / sd[sd > 0]
        return np.linalg.svd(known, full_matrices=False)[0][:, :MAX_PATTERNS].copy()

    def expression_of(self, genes: Sequence[str]) -> np.ndarray:
        """(S, G) float32 expression of the genes in the order given; NaN for those not measured here."""
        chosen = np.full((len(self.expression), len(genes)), np.nan, np.float32)
        for i, gene in enumerate(genes):
            if gene in self._column:
                chosen[:, i] = self.expression[:, self._column[gene]]
        return chosen


@dataclass(frozen=True)
class Windows:
    """The image of a section with the square windows around its spots."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB of the whole section at `mpp`."""
    bounds: np.ndarray
    """(S, 4) int64 pixel bounds x0, y0, x1, y1 of the windows; they may reach over the edge."""
    white_point: np.ndarray
    """(3,) intensity of the background, estimated from the image."""
    mpp: float
    notices: tuple[str, ...] = ()
    """What the user should know of how the image was taken, a sentence each."""

    @cached_property
    def stains(self) -> SlideStains | None:
        """Of the slide, as estimated from its image; None where too little is stained."""
        pixels = self.image[::2, ::2]
        pixels = unmarked_pixels(pixels, color_kinds(pixels, self.white_point))
        return estimate_stains(tissue_colors(pixels, self.white_point))

    @property
    def transfer(self) -> np.ndarray:
        """(3, 3) that brings the slide's stains to `nsl.stain_transfer.REFERENCE`."""
        return to_reference(self.stains)

    def painted(self, matrix: np.ndarray) -> Self:
        """The same windows on an image whose stains were brought over by a transfer's matrix."""
        return replace(self, image=paint(self.image, self.white_point, matrix))


def read_windows(image: SectionImage, centers_px: np.ndarray, window_um: float, mpp: float) -> Windows:
    """Read a section's image at `mpp`, or its own resolution if that is coarser.

    centers_px is (S, 2) in pixels of the image as stored.

    Raises
    ------
    SlideError, ScaleError : the image cannot be read, or its µm/px is unknown.
    SpotsError : a centre lies outside the image, or the image is shown turned against its pixels as stored.
    """
    with open_quietly(image.path, image.mpp) as slide:
        require_upright(f"section {image.section}: {image.path.name}", slide.is_turned)
        require_on_slide(centers_px, slide.size, of=f"section {image.section}: ")
        mpp = max(mpp, slide.require_mpp())
        pixels = slide.read(0, 0, *slide.size, mpp)
        bounds = pixel_bounds(centers_px, window_um, slide.mpp, mpp)
    return Windows(pixels, bounds, estimate_white_point(pixels).rgb, mpp, slide.notices)


def require_upright(name: str, is_turned: bool) -> None:
    """SpotsError at an image that is shown turned against its pixels as stored."""
    if is_turned:
        raise SpotsError(
            f"{name} is stored turned or mirrored, and which way round its spots were placed cannot be told; save it "
            "upright, with positions in pixels of that image"
        )


@dataclass(frozen=True)
class SpotColors:
    """What the image of a section shows around its S spots, in windows of one size at one resolution."""

    image: SectionImage
    window_um: float
    analysis_mpp: float
    """µm/px to read the image at; one that is coarser was read as it is."""
    read_mpp: float
    """µm/px it was read at."""
    colors: ColorCounts
    """In the stains of `nsl.stain_transfer.REFERENCE`."""
    tissue: np.ndarray
    """(S,) float32, share of the window that is tissue."""
    tissue_inside: np.ndarray
    """(S,) float32, the same of a window of half the side."""
    stains: SlideStains | None
    """Of the slide itself; None where too little is stained, and colours are as they are."""
    notices: tuple[str, ...]
    """What the user should know of how the image was taken, a sentence each."""

    @property
    def on_tissue(self) -> np.ndarray:
        """(S,) bool, whether enough of the window is tissue to count as a tile of tissue."""
        return self.tissue >= MIN_TISSUE

    @property
    def shows_tissue(self) -> np.ndarray:
        """(S,) bool, whether the window shows enough tissue to learn from or be judged by."""
        return np.minimum(self.tissue, self.tissue_inside) >= LEAST_TISSUE


def read_spot_colors(image: SectionImage, centers_px: np.ndarray, window_um: float, analysis_mpp: float) -> SpotColors:
    """Read a section's image into colour counts around its spots, (S, 2) in pixels of the image as stored.

    Raises
    ------
    SlideError, ScaleError : the image cannot be read, or its µm/px is unknown.
    SpotsError : spots lie outside the image, no window holds a pixel, or none is on tissue.
    """
    windows = read_windows(image, centers_px, window_um, analysis_mpp)
    colors = count_colors(windows.image, windows.bounds, windows.white_point, BITS)
    if not (colors.pixels > 0).any():
        raise SpotsError(
            f"section {image.section}: no spot's window of {window_um:g} µm holds a pixel at {windows.mpp:g} µm/px; "
            "check the window and the positions"
        )
    tissue = tissue_fraction(windows.image, windows.bounds, windows.white_point)
    if tissue.max() < MIN_TISSUE:
        raise SpotsError(
            f"none of the {len(tissue):,} spots of {image.section} lies on tissue; give positions in pixels of this "
            "very image, and check its scale"
        )
    return SpotColors(
        image=image,
        window_um=window_um,
        analysis_mpp=analysis_mpp,
        read_mpp=windows.mpp,
        colors=colors.transferred(windows.transfer),
        tissue=tissue,
        tissue_inside=tissue_fraction(windows.image, _inner(windows.bounds), windows.white_point),
        stains=windows.stains,
        notices=windows.notices,
    )


def _inner(bounds: np.ndarray) -> np.ndarray:
    """Windows (S, 4) of half the side about the same centres."""
    quarter = (bounds[:, 2:] - bounds[:, :2]) // 4
    return np.hstack([bounds[:, :2] + quarter, bounds[:, 2:] - quarter])


def detected_share(counts: np.ndarray | sparse.sparray) -> np.ndarray:
    """Return the share of the spots with at least one count, (genes,), of counts (S, genes)."""
    return np.asarray((counts > 0).mean(axis=0)).ravel()


def measure_section(section: Section, tile_um: float = TILE_UM, analysis_mpp: float = ANALYSIS_MPP) -> MeasuredSection:
    """Read a section's image and spots into colour counts and log-normalised expression.

    Raises what `read_section` raises.
    """
    return MeasuredSection.of(*read_section(section, tile_um, analysis_mpp), section.patient)


def read_section(section: Section, tile_um: float, analysis_mpp: float) -> tuple[anndata.AnnData, SpotColors]:
    """Read a section's raw counts, and what its image shows around the same spots.

    Raises
    ------
    SlideError, ScaleError : the image cannot be read, or its µm/px is unknown.
    SpotsError : the tables cannot be used, or spots lie outside the image.
    """
    measured = read_measured([section.counts, section.spots])
    image = SectionImage(section.name, section.image, section.mpp)
    return measured, read_spot_colors(image, measured.obsm["spatial"], tile_um, analysis_mpp)


def spatial_blocks(section: MeasuredSection) -> list[MeasuredSection]:
    """Cut the section into quarters of about as many spots each: left and right, each into upper and lower."""
    x, y = section.centers_px.T
    left = x <= np.median(x)
    blocks = []
    for side, half in (("left", left), ("right", ~left)):
        upper = y <= np.median(y[half])
        for level, quarter in (("upper", half & upper), ("lower", half & ~upper)):
            blocks.append(_spots_of(section, quarter, f"{section.name}, {level} {side}"))
    return blocks


def _spots_of(section: MeasuredSection, keep: np.ndarray, name: str) -> MeasuredSection:
    return replace(
        section,
        name=name,
        colors=ColorCounts(section.colors.moments[keep], section.colors.palette_od),
        expression=section.expression[keep],
        centers_px=section.centers_px[keep],
        spot_names=None if section.spot_names is None else section.spot_names[keep],
    )


def detected_genes(sections: Sequence[MeasuredSection | Detection], min_share: float = 0.1) -> list[str]:
    """List the genes counted at least once in `min_share` of the spots of every patient, in the tables' order."""
    kept = list(dict.fromkeys(gene for section in sections for gene in section.genes))
    for patient in {section.patient for section in sections}:
        spots: dict[str, float] = dict.fromkeys(kept, 0)
        own = [section for section in sections if section.patient == patient]
        for section in own:
            for gene, count in zip(section.genes, np.rint(section.detected * section.spots), strict=True):
                if gene in spots:
                    spots[gene] += count
        total = sum(section.spots for section in own)
        kept = [gene for gene in kept if spots[gene] >= min_share * total - 1e-9]
    return kept


def highest_mean(sections: Sequence[MeasuredSection], genes: Sequence[str], number: int) -> list[str]:
    """List those of the genes whose expression is highest, as the mean of the sections' means; highest first."""
    mean = np.mean([np.nan_to_num(section.expression_of(genes).mean(axis=0)) for section in sections], axis=0)
    return [genes[i] for i in np.argsort(-mean, kind="stable")[:number]]
