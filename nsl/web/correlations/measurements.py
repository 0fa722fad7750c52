"""Measured expression that a user brought for a slide: read, held for the session, compared; draws nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import anndata
import numpy as np
import pandas as pd
from streamlit.runtime.uploaded_file_manager import UploadedFile

from nsl.errors import NslError, SpotsError
from nsl.numerals import csv_table
from nsl.prediction import predict_spots
from nsl.result import SlidePicture, nearest_tiles
from nsl.signatures import LEAST_MEMBERS, Scoring, is_signature, signatures_of
from nsl.spots.checks import GeneMatch, check_on_slide, check_on_tissue, match_genes, on_tissue
from nsl.spots.measured_section import require_upright
from nsl.spots.tables import expression_of
from nsl.stats.agreement import agreement, signature_agreement
from nsl.web.session import state
from nsl.web.session.jobs import Job
from nsl.web.session.uploads import read_measured_uploads

# Files that stand for a section by themselves.
_WHOLE = (".zip", ".h5ad")


class Terms(NamedTuple):
    """What a comparison was made with."""

    weights_fingerprint: str
    mpp: float
    window_um: float
    analysis_mpp: float
    white_point: tuple[float, ...]
    genes: tuple[str, ...]
    scale: float  # that turned the positions into pixels of the slide
    erased: tuple[str, ...]  # tiles that were erased by hand


class CheckedData(NamedTuple):
    """Measured data that passed the checks against a slide and its prediction."""

    centers_px: np.ndarray
    is_kept: np.ndarray  # (S,) bool: of each spot whether it lies on predicted tissue that was not erased
    match: GeneMatch
    notices: list[str]
    terms: Terms


@dataclass(frozen=True)
class Comparison:
    """What came of comparing gene sets and genes, together G, at S spots."""

    table: pd.DataFrame
    """A row a set, then a row a gene: what `nsl.stats.agreement` gives, and the weights' r_heldout, heldout_r_low and
    heldout_q_value."""
    predicted: np.ndarray  # (S, G) float32, NaN for spots off the slide
    brought: anndata.AnnData  # what was measured, of all spots
    measured: anndata.AnnData  # raw counts of the S spots that are compared
    measured_as: dict[str, str]  # of each gene its name among the measured
    scores: np.ndarray  # (S, sets) as measured
    centers_px: np.ndarray
    label: str  # the files, as the user calls them
    terms: Terms

    def measured_expression(self, gene: str) -> np.ndarray:
        """(S,) log1p of counts per 10,000, or the mean z of a set."""
        if is_signature(gene):
            return self.scores[:, self.table.index.get_loc(gene)]
        return expression_of(self.measured, [self.measured_as[gene]])[:, 0]

    def predicted_expression(self, gene: str) -> np.ndarray:
        """(S,) in the same unit."""
        return self.predicted[:, self.table.index.get_loc(gene)]

    def spots_csv(self, gene: str) -> str:
        """A row a spot: spot, x_px, y_px of the slide, measured and predicted expression of one gene."""
        table = pd.DataFrame(
            {
                "x_px": self.centers_px[:, 0].round(2),
                "y_px": self.centers_px[:, 1].round(2),
                "measured": self.measured_expression(gene).round(4),
                "predicted": self.predicted_expression(gene).round(4),
            },
            self.measured.obs_names.rename("spot"),
        )
        return csv_table(table)

    def as_anndata(self, result: anndata.AnnData) -> anndata.AnnData:
        """Spots × genes for scanpy and squidpy: X is predicted, layers["measured"] measured, var the agreement.

        result : of the slide, which lends its picture and its provenance.
        """
        picture = SlidePicture.of(result).as_uns(self.terms.window_um / self.terms.mpp)
        names = [self.measured_as[gene] for gene in self.table.index if not is_signature(gene)]
        return anndata.AnnData(
            X=self.predicted,
            obs=pd.DataFrame(index=self.measured.obs_names),
            var=self.table,
            layers={"measured": np.column_stack([self.scores, expression_of(self.measured, names)])},
            obsm={"spatial": self.centers_px},
            uns={"spatial": picture, "nsl": dict(result.uns["nsl"])},
        )


@dataclass
class MeasuredData:
    """What was brought for one slide, and what came of it."""

    file_ids: tuple[str, ...] = ()  # of the files last seen in the uploader
    uploads: int = 0  # whose uploader is on the page: a new one is empty, and the files before are let go of
    error: str | None = None
    label: str = ""
    data: anndata.AnnData | None = None
    job: Job | None = None
    compared: Comparison | None = None
    checked: tuple = field(default=(), repr=False)  # what the last check was of, and what it gave

    @property
    def is_comparing(self) -> bool:
        """Whether a comparison goes on, or ended since `collect` last looked."""
        return self.job is not None and (self.job.is_running or self.job.result is not None)


def let_go(held: MeasuredData) -> None:
    """Forget the data and what they were compared to."""
    if held.job:
        held.job.is_cancelled = True
    held.label, held.data, held.job, held.compared = "", None, None, None
    held.error, held.file_ids = None, ()
    held.uploads += 1


def lacks_second_file(files: Sequence[UploadedFile]) -> bool:
    """Whether one table of two is there."""
    return len(files) == 1 and not files[0].name.lower().endswith(_WHOLE)


def take(held: MeasuredData, files: Sequence[UploadedFile]) -> bool:
    """Read files that have not been seen yet; what was there before stays where they cannot be read.

    Returns whether the page is to be drawn anew: the data are new, or the uploader is.
    """
    ids = tuple(file.file_id for file in files)
    if not files or ids == held.file_ids:
        return False
    held.file_ids, held.error = ids, None
    if lacks_second_file(files):
        return False
    try:
        data = read_measured_uploads(files)
    except NslError as error:
        held.error = f"{error}; then bring all files again"
        # An empty uploader, lest the files refused are read again with those that come in their place.
        held.uploads += 1
        return True
    let_go(held)
    held.data, held.label = data, " and ".join(file.name for file in files)
    return True


def terms_of(slide: state.SessionSlide, scale: float) -> Terms:
    """What a comparison made now would be made with: as the tiles of the slide's result were predicted."""
    info = slide.provenance
    return Terms(
        slide.weights.fingerprint,
        info.mpp,
        info.tile_um,
        info.analysis_mpp,
        tuple(info.white_point),
        tuple(gene for gene in slide.result.var_names if not is_signature(gene)),
        scale,
        slide.erased_tiles,
    )


def check(slide: state.SessionSlide, held: MeasuredData, scale: float) -> CheckedData:
    """The data where they are of this slide and of genes predicted on it; else the SpotsError of `nsl.spots.checks`."""
    terms = terms_of(slide, scale)
    if held.checked and held.checked[0] == (held.label, terms) and held.checked[1] is held.data:
        return held.checked[2]
    data = held.data
    require_upright(slide.name, slide.seen.is_turned)
    centers_px = check_on_slide(data, slide.seen.size, scale=scale)
    match = match_genes(data, list(terms.genes))
    off_tissue = check_on_tissue(centers_px, slide.whole, data.uns["image_scales"])
    # Beside tissue nothing is stained and little is counted, so that any gene would seem predicted.
    is_predicted = on_tissue(centers_px, slide.whole)
    is_erased = is_predicted & np.isin(nearest_tiles(slide.whole, centers_px), slide.erased_tiles)
    is_kept, left_out = is_predicted & ~is_erased, is_erased.sum()
    if not is_kept.any():
        raise SpotsError(
            f"all {left_out:,} spots on tissue lie on tiles that were erased by hand; restore some on Maps"
        )
    do = "lies on a tile erased by hand and takes" if left_out == 1 else "lie on tiles erased by hand and take"
    erased = f"{left_out:,} of them {do} no part." if left_out else ""
    notices = [notice for notice in (*data.uns["notices"], off_tissue, match.notice, erased) if notice]
    ready = CheckedData(centers_px, is_kept, match, notices, terms)
    held.checked = ((held.label, terms), data, ready)
    return ready


def start(slide: state.SessionSlide, held: MeasuredData, ready: CheckedData) -> None:
    """Compare in a thread of its own; what was compared before stays until it is done.

    A set is scored over those of its genes that were measured, where they are enough.
    """
    brought, label, weights = held.data, held.label, slide.weights
    data, centers_px = brought[ready.is_kept], ready.centers_px[ready.is_kept]
    held_out = slide.result.var[["r_heldout", "r_low", "q_value"]]
    terms, match, transfer = ready.terms, ready.match, slide.provenance.transfer
    measured_as = dict(zip(match.predicted, match.measured, strict=True))
    sets = {
        column: members
        for column, one in signatures_of(slide.result).items()
        if len(members := [gene for gene in one.members if gene in measured_as]) >= LEAST_MEMBERS
    }

    def work(job: Job) -> Comparison:
        with slide.open(terms.mpp) as opened:
            predicted = predict_spots(
                opened,
                weights,
                centers_px,
                genes=match.predicted,
                spot_window_um=terms.window_um,
                analysis_mpp=terms.analysis_mpp,
                white_point=np.array(terms.white_point),
                transfer=transfer,
                progress=job,
            )
        table = agreement(predicted, data, centers_px, match.predicted, progress=job)
        scores = np.empty((len(predicted), 0))
        if sets:
            known = weights.reliability
            scoring = Scoring.of(sets, known.expression_mean, known.expression_sd)
            scored = scoring.score(predicted[:, pd.Index(match.predicted).get_indexer(scoring.genes)])
            names = {column: [measured_as[gene] for gene in own] for column, own in sets.items()}
            of_sets, scores = signature_agreement(scored, data, centers_px, names)
            predicted, table = np.column_stack([scored, predicted]), pd.concat([of_sets, table])
        known = held_out.reindex(table.index)
        return Comparison(
            table=table.assign(r_heldout=known.r_heldout, heldout_r_low=known.r_low, heldout_q_value=known.q_value),
            predicted=predicted,
            brought=brought,
            measured=data,
            measured_as=measured_as,
            scores=scores,
            centers_px=centers_px,
            label=label,
            terms=terms,
        )

    held.job = Job().start(work)


def collect(held: MeasuredData) -> None:
    """Keep a comparison that has come to its end."""
    job = held.job
    if job is not None and not job.is_running and job.result is not None:
        held.compared, held.job = job.result, None
