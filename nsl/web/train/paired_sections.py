"""The session's measured sections to train on: a slide each, with its spots, and what was found on looking at them."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nsl.errors import SlideError, SpotsError
from nsl.slides.demo.slide import demo_expression, demo_slide
from nsl.slides.slide import checked_mpp
from nsl.web.session import state

if TYPE_CHECKING:
    import anndata

    from nsl.spots.checks import SectionReport
    from nsl.spots.measured_section import MeasuredSection, SpotColors

# Each keeps its counts and the colours around its spots in memory.
MAX_SECTIONS = 12
LONGEST_LABEL = 40
# Of the demo slide: distance of spots, mean hematoxylin and eosin where one lies on tissue, how many genes of each of
# its six kinds, and counts of a spot.
_DEMO_STEP_UM, _DEMO_LEAST_STAIN, _DEMO_REPEATS, _DEMO_DEPTH = 120.0, 0.08, 25, (3_000, 9_000)


@dataclass
class PairedSection:
    """A slide of the session with what was measured on it."""

    key: str
    name: str
    patient: str
    slide: state.SessionSlide
    mpp: float
    measured: "anndata.AnnData"  # counts stay sparse; obsm["spatial"] is in level-0 pixels of the slide
    last: "SpotColors | None" = field(default=None, repr=False)  # what was last read of the image
    report: "SectionReport | None" = field(default=None, repr=False)  # of the same look

    def look(self, window_um: float, analysis_mpp: float) -> "SpotColors":
        """Read the image around the spots; the last look is kept. NslError where the section cannot be used so."""
        from nsl.spots.checks import report_on
        from nsl.spots.measured_section import SectionImage, read_spot_colors

        if self.last is None or (self.last.window_um, self.last.analysis_mpp) != (window_um, analysis_mpp):
            if not self.slide.path.exists():
                raise SlideError(
                    f"the slide of {self.name} was removed from this session; remove {self.name} too, or bring the "
                    "slide and add it again"
                )
            image = SectionImage(self.name, self.slide.path, self.mpp)
            try:
                self.last = read_spot_colors(image, self.measured.obsm["spatial"], window_um, analysis_mpp)
            except (SlideError, SpotsError) as error:
                raise type(error)(self.slide.by_users_name(str(error))) from None
            self.report = report_on(self.name, self.measured, self.last)
        return self.last


@dataclass
class PairedSections:
    """Those of a session."""

    by_key: dict[str, PairedSection] = field(default_factory=dict)  # the first added first
    added: int = 0  # how many were ever added


def sections() -> list[PairedSection]:
    """Those of the session, the first added first."""
    return list(state.of_session(PairedSections).by_key.values())


def added() -> int:
    """How many were ever added: default names and keys of widgets count on."""
    return state.of_session(PairedSections).added


def free_label(prefix: str, taken: set[str]) -> str:
    """S1, S2, … or P1, P2, …: the first that is not taken."""
    return next(label for i in range(1, len(taken) + 2) if (label := f"{prefix}{i}") not in taken)


def add(
    slide: state.SessionSlide,
    mpp: float,
    measured: "anndata.AnnData",
    *,
    name: str,
    patient: str,
    positions_scale: float,
    window_um: float,
    analysis_mpp: float,
) -> PairedSection:
    """Check a section and keep it.

    measured : of `nsl.spots.measured.read_measured`.
    positions_scale : turns its positions into pixels of the slide.

    Raises SlideError, ScaleError, SpotsError: it cannot be used; the others stay.
    """
    from nsl.spots.checks import check_on_slide

    name, patient = _label("section", name), _label("patient", patient)
    others = sections()
    if len(others) >= MAX_SECTIONS:
        raise SpotsError(f"this session holds {MAX_SECTIONS} measured sections, as many as it can; remove one first")
    if name in {other.name for other in others}:
        raise SpotsError(f"there is a section {name} already; give each section its own name")
    measured.obsm["spatial"] = check_on_slide(measured, slide.seen.size, scale=positions_scale)
    spots = measured.obsm["spatial"]
    here = (other for other in others if other.slide is slide)
    twin = next((other for other in here if np.array_equal(other.measured.obsm["spatial"], spots)), None)
    if twin:
        raise SpotsError(f"these spots of {slide.name} are section {twin.name} already; a section counts once")
    number = added() + 1
    section = PairedSection(f"section {number}", name, patient, slide, checked_mpp(mpp), measured)
    section.look(window_um, analysis_mpp)
    kept = state.of_session(PairedSections)
    kept.by_key[section.key], kept.added = section, number
    return section


def remove(key: str) -> None:
    """Let go of a section; its slide stays."""
    state.of_session(PairedSections).by_key.pop(key, None)


def _label(what: str, text: str) -> str:
    label = " ".join(text.split())
    if not label:
        raise SpotsError(f"the {what} has no name; type one, such as {what[0].upper()}1")
    if len(label) > LONGEST_LABEL:
        raise SpotsError(f"the name of the {what} has {len(label)} letters; use at most {LONGEST_LABEL}")
    return label


def detected_genes(sections: Sequence[PairedSection], share: float) -> list[str]:
    """Genes counted in at least `share` of the spots of every patient: those that would be fitted."""
    from nsl.spots import measured_section
    from nsl.spots.measured_section import Detection, detected_share

    # Which genes are detected takes no expression, and that of all genes would be dense.
    detections = []
    for section in sections:
        counts = section.measured.X[section.last.shows_tissue]
        names = list(section.measured.var_names)
        detections.append(Detection(section.patient, names, detected_share(counts), counts.shape[0]))
    return measured_section.detected_genes(detections, share)


def to_train_on(
    sections: Sequence[PairedSection], window_um: float, analysis_mpp: float, share: float
) -> list["MeasuredSection"]:
    """The sections as a fit needs them, with the genes that it may look at.

    A gene detected in so many of a patient's spots is so in one of its sections, so none is missed; tens of thousands
    that no fit looks at are never made dense.
    """
    from nsl.spots.measured_section import PATTERN_MIN_DETECTED, MeasuredSection, detected_share

    looks = [section.look(window_um, analysis_mpp) for section in sections]
    wanted: set[str] = set()
    for section, look in zip(sections, looks, strict=True):
        is_detected = detected_share(section.measured.X[look.shows_tissue]) >= min(share, PATTERN_MIN_DETECTED)
        wanted |= set(section.measured.var_names[is_detected])
    return [
        MeasuredSection.of(section.measured, look, section.patient, wanted)
        for section, look in zip(sections, looks, strict=True)
    ]


def demo_measured() -> "anndata.AnnData":
    """Made-up counts of made-up genes over the demo slide: 50 follow its hematoxylin, 50 its eosin, 50 nothing."""
    return _demo_counts().copy()


@functools.cache
def _demo_counts() -> "anndata.AnnData":
    """Made once a server, as the demo slide is."""
    import anndata
    import pandas as pd
    from scipy import sparse

    from nsl.spots.tables import COUNTS_PER_SPOT

    demo, rng = demo_slide(), np.random.default_rng(1)
    step = round(_DEMO_STEP_UM / demo.mpp)
    stain = (demo.hematoxylin + demo.eosin).reshape(len(demo.image) // step, step, -1, step).mean(axis=(1, 3))
    row, column = np.nonzero(stain > _DEMO_LEAST_STAIN)
    centers_px = (np.stack([column, row], axis=1) + 0.5) * step
    repeats = [demo_expression(demo, centers_px, _DEMO_STEP_UM, seed=i) for i in range(_DEMO_REPEATS)]
    per_spot = np.expm1(pd.concat([genes.add_suffix(f"-{i}") for i, genes in enumerate(repeats, start=1)], axis=1))
    per_spot["OTHER"] = COUNTS_PER_SPOT - per_spot.sum(axis=1)
    depth = rng.uniform(*_DEMO_DEPTH, (len(per_spot), 1)) / COUNTS_PER_SPOT
    return anndata.AnnData(
        X=sparse.csr_array(rng.poisson(per_spot.to_numpy() * depth).astype(np.float32)),
        obs=pd.DataFrame(index=[f"{c}x{r}" for r, c in zip(row, column, strict=True)]),
        var=pd.DataFrame(index=per_spot.columns),
        obsm={"spatial": centers_px},
        uns={"notices": [], "image_scales": {}},
    )
