"""The parts of the Predict page that follow the slide: settings, preview, run, result."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import streamlit as st
from PIL import Image

from nsl.errors import SlideError
from nsl.genes import parse_gene_list, plain_text
from nsl.numerals import count_of, some_of
from nsl.result import Provenance, left_out, left_out_in_words, transfer_in_words
from nsl.signatures import LEAST_MEMBERS, Signature, parse_gmt, signatures_of, split_members
from nsl.slides.annotations.region import Region
from nsl.web import controls, downloads, regions, runs, sources
from nsl.web.session import server, state
from nsl.weights.config import WeightsConfig
from nsl.weights.reliability import has_held_up
from nsl.weights.weights import Weights

if TYPE_CHECKING:
    import pandas as pd

LEAST_TILE_UM = 10.0
ALL_GENES, RELIABLE_GENES, LISTED_GENES = "All", "All but unreliable", "A list"
PREVIEW_HEIGHT_PX = 640
# Four stand in a row beside the settings on a laptop.
_METRIC_PX = 112
NAMED_UNKNOWN = 5
GENE_FILE_MB = 5


@dataclass
class BroughtFiles:
    """Names and texts of files with genes or sets, by the uploader, which a visit to another page empties."""

    by_key: dict[str, tuple[str, str]] = field(default_factory=dict)

    def forget(self, key: str) -> None:
        """Let go of the file of an uploader."""
        self.by_key.pop(key, None)


def settings(slide: state.SessionSlide) -> runs.Settings | None:
    """The choices for a run; None while they cannot be run."""
    from nsl.tiles import MIN_TISSUE, USUAL_STEP

    with controls.part("2 · Settings"):
        mpp = controls.choose_scale(slide)
        if mpp is None:
            return None
        config = sources.config_in_use()
        tile_um = st.number_input(
            "Tile side, µm",
            value=max(float(config.tile_um), LEAST_TILE_UM),
            min_value=LEAST_TILE_UM,
            step=10.0,
            format="%.0f",
            help=f"The weights were trained on windows of {config.tile_um:g} µm.",
            key=f"tile_um of {_trained(config)}",
            persist_state="session",
        )
        step = st.selectbox(
            "Step between tiles",
            list(runs.STEPS),
            index=list(runs.STEPS.values()).index(USUAL_STEP),
            key="step",
            persist_state="session",
        )
        min_tissue = st.slider(
            "Least tissue in a tile, %",
            0,
            100,
            round(100 * MIN_TISSUE),
            step=5,
            key="min_tissue",
            persist_state="session",
        )
        quality = st.checkbox(
            "Checks of quality: leave out ink, folds and blur",
            True,
            key="quality",
            persist_state="session",
            help="Tiles of pen ink, pigment, folded tissue, tissue out of focus, and the black or grey of a frame are "
            "not predicted, and a slide that is not H&E is refused.",
        )
        with st.expander("Stains and resolution"):
            transfer = st.checkbox(
                "Bring the slide's stains to those of the weights",
                True,
                key="transfer",
                persist_state="session",
                help="Every laboratory stains a little differently, and weights hold in the stain they were learned "
                "in. The slide's own hematoxylin and eosin are told from its tissue. Leave it on for H&E.",
            )
            profile = slide.seen.foreign_profile
            to_srgb = profile is not None and st.checkbox(
                "Bring its colours to sRGB",
                key=f"to_srgb {slide.key}",
                persist_state="session",
                help=f"The file says that its colours are “{controls.escaped(profile)}”. Weights were "
                "learned from colours as scanners store them, and the slide's stains are told either way.",
            )
            analysis_mpp = st.number_input(
                "The slide is read at, µm per pixel",
                value=float(config.analysis_mpp),
                min_value=0.1,
                step=0.5,
                format="%.1f",
                help="Leave it as it is: the weights were trained at this resolution, and finer takes longer without "
                "predicting better.",
                key=f"analysis_mpp of {_trained(config)}",
                persist_state="session",
            )
        with st.container():  # what follows stays in its place, and open, where a list of genes is asked for
            genes = _choose_genes()
        brought = _bring_signatures()
        inside = _choose_regions(slide)
    return runs.Settings(
        mpp=mpp,
        tile_um=tile_um,
        stride_um=tile_um * runs.STEPS[step],
        analysis_mpp=analysis_mpp,
        min_tissue=min_tissue / 100,
        genes=genes,
        brought=brought,
        scores_own=st.session_state["which_genes"] != LISTED_GENES,
        transfer=transfer,
        inside=inside,
        quality=quality,
        to_srgb=to_srgb,
    )


def _trained(config: WeightsConfig) -> str:
    """Tells a window and a resolution from those of other weights: with each, their own are proposed."""
    return f"{config.name} {config.tile_um:g} {config.analysis_mpp:g}"


def _choose_genes() -> list[str] | None:
    """None for all; none at all where a list is still to come."""
    which = st.radio(
        "Genes", [ALL_GENES, RELIABLE_GENES, LISTED_GENES], horizontal=True, key="which_genes", persist_state="session"
    )
    if which == ALL_GENES:
        return None
    if which == RELIABLE_GENES:
        table = sources.in_use().reliability
        genes = list(table.index[has_held_up(table)])
        st.caption(f"{len(genes):,} of {len(table):,} genes were predicted beyond chance where they were held out.")
        return genes
    return _listed_genes()


def _listed_genes() -> list[str]:
    text = controls.type_genes("gene_list")
    weights = sources.in_use()
    genes, unknown = [], []
    with controls.shown_errors():
        brought = _bring_text("or a file with them", "gene_file", ["txt", "csv", "tsv"])
        text = state.typed_text(text) if brought is None else brought
        if text.strip():
            genes, unknown = weights.find_genes(parse_gene_list(text))
    if genes:
        first = controls.escaped(", ".join(genes[:6])) + (", …" if len(genes) > 6 else "")
        st.caption(f"{count_of(len(genes), 'gene')}: {first}")
    if unknown:
        _say_unknown(weights, unknown)
    return genes


def _bring_text(label: str, key: str, types: list[str]) -> str | None:
    """The text of a file that is brought, now or before the page was left; None where there is none."""
    brought = state.of_session(BroughtFiles)
    changed = {"on_change": brought.forget, "args": [key]}
    upload = st.file_uploader(label, type=types, max_upload_size=GENE_FILE_MB, key=key, **changed)
    if upload is not None:
        server.check_upload(upload.name, upload.size, GENE_FILE_MB)
        brought.by_key[key] = (upload.name, plain_text(upload.getvalue()))
    if key not in brought.by_key:
        return None
    name, text = brought.by_key[key]
    if upload is None:
        controls.offer_removal(f"{controls.escaped(name)} is still in use; let go of it", brought.forget, key)
    return text


def _bring_signatures() -> tuple[Signature, ...]:
    """Gene sets of the user's that the weights can score."""
    with st.expander("Gene sets of your own"):
        st.caption(
            "The weights bring sets such as epithelium or proliferation. Others are scored beside them: a line a set, "
            "of its name, its source and its genes, separated by tabs (GMT)."
        )
        text = st.text_area(
            "Gene sets", key="gmt_text", persist_state="session", height=90, max_chars=controls.LONGEST_GENE_LIST
        )
        with controls.shown_errors():
            brought_text = _bring_text("or a GMT file", "gmt_file", ["gmt", "txt"])
            text = state.typed_text(text) if brought_text is None else brought_text
            if not text.strip():
                return ()
            brought = parse_gmt(text)
            found = sources.in_use().match_signatures(brought)
            _say_matched(brought, found)
            return tuple(one for one in brought if one.name in found.index)
    return ()


def _choose_regions(slide: state.SessionSlide) -> tuple[Region, ...]:
    """The regions that the run is kept to; none for the whole slide."""
    with st.expander("Annotated regions"):
        st.caption("Every tile says its region and class. Compare tells how they differ, gene by gene.")
        regions.bring(slide)
        kept = regions.kept(slide)
        if not kept:
            return ()
        st.caption(f"{count_of(len(kept), 'region')} on this slide.")
        inside = st.checkbox("Predict inside them alone", key=f"inside regions of {slide.key}", persist_state="session")
        return kept if inside else ()


def _say_matched(brought: Sequence[Signature], found: "pd.DataFrame") -> None:
    counts = [
        f"{one.name} ({len(split_members(found.members[one.name])):,} of {len(one.members):,} genes)"
        for one in brought
        if one.name in found.index
    ]
    st.caption(f"To be scored: {controls.escaped(some_of(counts, NAMED_UNKNOWN))}.")
    left_out = [one.name for one in brought if one.name not in found.index]
    if left_out:
        st.warning(
            f"Left out, because the weights hold fewer than {LEAST_MEMBERS} of their genes: "
            f"{controls.escaped(some_of(left_out, NAMED_UNKNOWN))}."
        )


def _say_unknown(weights: Weights, unknown: list[str]) -> None:
    """Which names of a list the weights do not hold, and what they may have been meant for."""
    told = []
    for gene in unknown[:NAMED_UNKNOWN]:
        near = weights.near_names(gene)
        told.append(f"{gene} (did you mean {', '.join(near)}?)" if near else gene)
    more = f" and {len(unknown) - NAMED_UNKNOWN:,} more" if len(unknown) > NAMED_UNKNOWN else ""
    st.warning(
        f"Left out, because the weights {controls.escaped(weights.name)} do not hold them: "
        f"{controls.escaped(', '.join(told))}{more}. Weights hold only genes that were detected often enough where "
        "they were learned."
    )


def run(slide: state.SessionSlide, chosen: runs.Settings, tiles: int | None) -> None:
    """How long it will take and the button; in its place how far a run is, and then the way to the maps."""
    if slide.is_running:
        with st.container(border=True):
            controls.watch_job(slide.job)
        from nsl.web import chart  # Plotly, for which no first page waits

        chart.load_ahead()
        return
    genes = len(sources.config_in_use().genes) if chosen.genes is None else len(chosen.genes)
    can_run, is_done = bool(genes), slide.result is not None and chosen.gave(slide)
    with st.container(border=True):
        row = st.container(horizontal=True, vertical_alignment="center")
        if not genes:
            row.caption("Name the genes to predict.", width="stretch")
        elif tiles:
            can_run = _fits(tiles, genes) and can_run
            row.caption(_expected(slide, chosen, tiles, genes), width="stretch")
        with row:
            if slide.result is not None:
                st.page_link("pages/maps.py", label="**See the maps**", icon=":material/map:", width="content")
            kind = "secondary" if is_done else "primary"
            if st.button("Run", type=kind, disabled=not can_run, icon=":material/play_arrow:"):
                runs.start(slide, chosen)
                st.rerun()
    controls.show_failure(slide)


def _expected(slide: state.SessionSlide, chosen: runs.Settings, tiles: int, genes: int) -> str:
    mpp = max(chosen.analysis_mpp, chosen.mpp)
    work = runs.responses(tiles, chosen.tile_um, chosen.stride_um, mpp, genes)
    wait = controls.duration(runs.expected_seconds(slide.seen.seconds, work))
    return f"About {count_of(tiles, 'tile')} and {count_of(genes, 'gene')}: about {wait}."


def _fits(tiles: int, genes: int) -> bool:
    """Whether memory may hold the result; says so where it may not."""
    from nsl.prediction import check_memory

    with controls.shown_errors():
        check_memory(tiles, genes)
        return True
    return False


def show_result(slide: state.SessionSlide, chosen: runs.Settings | None) -> None:
    """What came out, and the downloads."""
    result = slide.result
    if result is None or slide.is_running:
        return
    regions.refresh(slide)
    info = Provenance.of(result)
    with controls.part("Result"):
        with st.container(horizontal=True):
            st.metric("Tissue tiles", f"{result.n_obs:,}", width=_METRIC_PX)
            sets = len(signatures_of(result))
            st.metric("Genes", f"{result.n_vars - sets:,}", width=_METRIC_PX)
            if sets:
                st.metric("Signatures", f"{sets:,}", width=_METRIC_PX)
            st.metric("Time", f"{slide.finished.seconds:.1f} s", width=_METRIC_PX)
        st.caption(
            f"Run with the weights {controls.escaped(info.weights_id)} at {info.mpp:g} µm/px: tiles of "
            f"{info.tile_um:g} µm every {info.stride_um:g} µm, read at {info.analysis_mpp:g} µm/px."
        )
        if not info.complete:
            st.warning("The run was cancelled: the tiles below the last one reached are missing.")
        if chosen and not chosen.gave(slide):
            st.info("The settings or the weights have changed since. Run again to use them.")
        if info.white_point_source != "background":
            st.warning("No empty background was found on this slide, so pure white was taken for it.")
        st.caption(" ".join(filter(None, [left_out(result) and f"{left_out(result)}.", transfer_in_words(result)])))
        controls.show_cautions(controls.stain_cautions(result))
        with st.container(horizontal=True, vertical_alignment="center"):
            downloads.tables(slide)


def show_preview(slide: state.SessionSlide, chosen: runs.Settings | None) -> int | None:
    """The slide, with its tiles once the scale is known; how many of them hold tissue."""
    with st.container(border=True, key=controls.PREVIEW):
        controls.synthetic_badge(slide)
        # At which a picture of any shape fits on the screen beside the settings.
        thumbnail = slide.seen.thumbnail
        height, width = thumbnail.shape[:2]
        width = int(min(860, PREVIEW_HEIGHT_PX * width / height))
        if chosen is None:
            st.image(_plain(slide.key, thumbnail, width), width=width, output_format="JPEG", alt="The slide")
            return None
        with controls.shown_errors():
            place = (chosen.mpp, chosen.tile_um, chosen.stride_um, chosen.min_tissue, chosen.quality)
            held = slide.of_slide(regions.SlideRegions)
            annotated = held.regions
            within = (bool(chosen.inside), held.changes, annotated)
            seen = _preview(slide.key, thumbnail, width, slide.seen.size, *place, *within)
            tiles = seen.tiles
            st.image(
                seen.picture,
                width=width,
                output_format="JPEG",
                alt=f"The slide with {count_of(tiles, 'tissue tile')} outlined"
                + (f", and {count_of(len(annotated), 'annotated region')}" if annotated else ""),
            )
            if seen.refused:
                controls.show_error(seen.refused)
            elif tiles and slide.result is not None and chosen.gave(slide):
                st.caption("As the overview shows it before a run, which looks closer.")
            elif tiles:
                st.caption(
                    f"About {count_of(tiles, 'tile')} {'holds' if tiles == 1 else 'hold'} at least "
                    f"{chosen.min_tissue:.0%} tissue. Paler areas are left out, as is a margin on the right and below "
                    "that holds no whole tile."
                    f"{_left_out_beforehand(seen.left_out)}"
                )
            else:
                st.warning("No tissue was found. Check the image, or lower the least share of tissue.")
            return tiles
        return None


def _left_out_beforehand(counts: dict[str, int]) -> str:
    """What of these tiles will be left out for what it shows, as far as the overview tells."""
    told = left_out_in_words(counts).replace(" left out:", " to be left out:")
    unknown = "" if "blur" in counts else "; what is out of focus is found in the run"
    return f" In orange, about {told}{unknown}." if told else ""


@st.cache_data(max_entries=8, scope="session", show_spinner=False)
def _plain(slide_key: str, _thumbnail: np.ndarray, width: int) -> bytes:
    return _jpeg(_thumbnail, width)


class _Preview(NamedTuple):
    """A slide as a run would find it, as far as its overview tells."""

    picture: bytes
    tiles: int
    left_out: dict[str, int]
    """How many of the tiles by kind."""
    refused: str
    """Why a run will refuse the slide as no H&E, or empty."""


@st.cache_data(max_entries=8, scope="session", show_spinner="Looking for tissue")
def _preview(
    slide_key: str,
    _thumbnail: np.ndarray,
    width: int,
    size: tuple[int, int],
    mpp: float,
    tile_um: float,
    stride_um: float,
    min_tissue: float,
    quality: bool,
    inside_only: bool,
    regions_changes: int,
    _regions: tuple[Region, ...],
) -> _Preview:
    """The thumbnail with its tissue tiles; keyed by the session's own name for the slide."""
    from nsl.figures.maps import preview
    from nsl.prediction import overview_quality
    from nsl.quality import KINDS, color_kinds, left_out_counts, over_limits, slide_doubt
    from nsl.slides.annotations.tiles import tiles_inside
    from nsl.tiles import grid_over, overview_tissue
    from nsl.white_point import estimate_white_point

    grid = grid_over(size, mpp, tile_um, stride_um)
    if inside_only:
        grid = grid[tiles_inside(grid.centers_px, tile_um / mpp, _regions)]
    white_point, thumbnail_mpp = estimate_white_point(_thumbnail).rgb, mpp * size[0] / _thumbnail.shape[1]
    grid = grid[overview_tissue(grid, _thumbnail, thumbnail_mpp, white_point) >= min_tissue]
    left_out, counts, refused = np.zeros(len(grid), bool), {}, ""
    if quality:
        try:
            slide_doubt(_thumbnail, white_point, color_kinds(_thumbnail, white_point))
        except SlideError as error:
            refused = str(error)
    if quality and len(grid):
        shares = overview_quality(_thumbnail, thumbnail_mpp, grid, white_point)
        left_out, counts = over_limits(shares).any(axis=1), left_out_counts(shares)
        if np.isnan(shares[:, KINDS.index("blur")]).all():
            counts.pop("blur")
    picture = _jpeg(preview(_thumbnail, grid, ~left_out, size[0], left_out, _regions), width)
    return _Preview(picture, len(grid), counts, refused)


def _jpeg(image: np.ndarray, width: int) -> bytes:
    """As wide as it is shown: Streamlit would encode it, read it, shrink it and encode it again at every run."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if picture.width > width:
        height = max(1, picture.height * width // picture.width)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
