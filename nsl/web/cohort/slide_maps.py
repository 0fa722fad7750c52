"""One gene or signature on all slides of a cohort, on one scale; a slide opens in Maps."""

from typing import NamedTuple

import anndata
import pandas as pd
import streamlit as st

from nsl.cohort import folder as cohort_folder
from nsl.cohort.folder import CohortFolder
from nsl.errors import NslError
from nsl.figures.maps import apart
from nsl.figures.thumbnails import map_thumbnail, scale_bar, with_small_picture
from nsl.numerals import signed
from nsl.result import map_of
from nsl.signatures import unit_of
from nsl.slides import folder as server_folder
from nsl.slides.slide import open_slide
from nsl.web import controls, sources
from nsl.web.session import state, uploads
from nsl.web.session.jobs import Job

A_PAGE = 12
# A card is as wide as a thumbnail, the scale as its bar with the numbers at both ends.
_CARD_PX, _SCALE_PX = 240, 360
_ORDERS = ("As listed", "Highest first", "By group")


class Style(NamedTuple):
    """How the maps are drawn, and which comes first."""

    opacity: float
    palette: str
    order: str


def choose_style() -> Style:
    """What opens beside the gene."""
    with controls.display_part():
        return Style(
            controls.choose_opacity(),
            controls.choose_palette(),
            controls.choose_one("Order", _ORDERS, "cohort_order"),
        )


def show(cohort: CohortFolder, slides: anndata.AnnData, gene: str, style: Style) -> None:
    """A page of small maps, with a way to each slide."""
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center")
        head.subheader("On every slide", width="content")
        names = _in_order(slides, gene, style.order)
        pages = -(-len(names) // A_PAGE)
        number = 1
        if pages > 1:
            number = st.number_input("Page", 1, pages, key="cohort_page", width=controls.CONTROL_PX)
        limits = apart(*slides.var.loc[gene, ["scale_low", "scale_high"]].astype(float))
        with head:
            # The numbers stay at the ends of their bar where the row wraps.
            with st.container(horizontal=True, vertical_alignment="center", width=_SCALE_PX, gap="small"):
                st.caption(signed(limits[0]), width="content")
                st.image(scale_bar(style.palette), alt=f"Colour scale {style.palette}", output_format="PNG")
                st.caption(signed(limits[1]), width="content")
            st.caption(unit_of(gene), width="content")
        with st.container(horizontal=True, key=controls.CARDS):
            for name in names[(number - 1) * A_PAGE : number * A_PAGE]:
                with st.container(width=_CARD_PX, border=True):
                    _show_slide(cohort, slides, name, gene, limits, style)
        st.caption(
            "The scale is one for all slides: it runs from the lowest 2nd percentile of a slide to the highest 98th. "
            "Slides that were stained or scanned differently differ in it for that reason too: compare the patterns "
            "before the levels."
        )


def _in_order(slides: anndata.AnnData, gene: str, order: str) -> list[str]:
    table = pd.DataFrame({"group": slides.obs["group"].astype(str), "mean": map_of(slides, gene)})
    if order == _ORDERS[1]:
        table = table.sort_values("mean", ascending=False, kind="stable")
    elif order == _ORDERS[2]:
        table = table.sort_values(["group", "mean"], ascending=[True, False], kind="stable")
    return list(table.index)


def _show_slide(
    cohort: CohortFolder,
    slides: anndata.AnnData,
    name: str,
    gene: str,
    limits: tuple[float, float],
    style: Style,
) -> None:
    row, mean = slides.obs.loc[name], map_of(slides[name], gene).item()
    tiles = _map_of(cohort, name, gene)
    if tiles is None:
        st.caption("Its map cannot be read; run the cohort again.")
    else:
        picture = map_thumbnail(tiles, gene, limits, style.palette, style.opacity)
        st.image(picture, alt=f"{gene} on {name}, mean {signed(mean)}", output_format="JPEG")
    group = f" · {controls.escaped(str(row['group']))}" if row["group"] else ""
    st.caption(f"**{controls.escaped(name)}**{group} · mean {signed(mean)}")
    if st.button("Open in Maps", key=f"open {cohort.name} {name}", icon=":material/map:", type="tertiary"):
        with controls.shown_errors():
            _open(cohort, name)
            st.switch_page("pages/maps.py")


def _map_of(cohort: CohortFolder, name: str, gene: str) -> anndata.AnnData | None:
    """The tiles of a slide; None where they cannot be read, which hides no other slide."""
    try:
        changed = cohort.file(cohort_folder.SLIDES, f"{name}.h5ad").stat().st_mtime_ns
        return _read_map(cohort, name, gene, changed)
    except NslError:
        return None


@st.cache_data(max_entries=64, scope="session", show_spinner="Reading the maps")
def _read_map(cohort: CohortFolder, name: str, gene: str, changed: int) -> anndata.AnnData:
    return with_small_picture(cohort_folder.read_map(cohort, name, gene))


def _open(cohort: CohortFolder, name: str) -> None:
    """Hold the slide with its result in this session, as if it had been predicted here.

    Raises NslError: the slide is not in the server's folder or is another one by now, or other weights are in use.
    """
    result = cohort_folder.read_result(cohort, name)
    told = result.uns["nsl"]
    weights = sources.in_use()
    if told.get("weights_sha256") != weights.sha256:
        raise NslError(
            f"{name} was predicted with the weights {told.get('weights_id', 'of another name')}; choose these in the "
            "sidebar to open it"
        )
    listed = cohort_folder.slide_file(cohort, name)
    path = server_folder.resolve(cohort.root, _listed_as(cohort, listed))
    with st.spinner("Checking that it is the slide that was predicted"), open_slide(path) as slide:
        if slide.sha256 != told.get("slide_sha256"):
            raise NslError(f"{listed} is another slide than the one that was predicted; run the cohort again")
    uploads.take_server_file(path, listed)
    held = state.slide()
    held.job = Job(result=result, weights=weights)
    held.take(held.job)
    st.session_state[f"mpp of {held.key}"] = held.provenance.mpp


def _listed_as(cohort: CohortFolder, within: str) -> str:
    """The name under which the server's folder lists a file: of the only DICOM slide of a folder, that folder."""
    for slide in server_folder.slides_in(cohort.root):
        if slide.path.relative_to(cohort.root).as_posix() == within:
            return slide.name
    raise NslError(f"{within} is not among the slides of the server's folder; put it back there")
