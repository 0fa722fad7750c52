"""The parts of the Predict page: choosing a slide, settings, preview, run, result."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from nsl.errors import NslError
from nsl.slide import checked_mpp
from nsl.web import controls, session

FILE_TYPES = ["jpg", "jpeg", "png", "tif", "tiff", "svs", "ndpi", "scn", "bif", "webp", "bmp"]
# Half a tile between tiles draws a finer map than tiles side by side, at four times the work.
STEPS = {"Side by side": 1.0, "Half a tile": 0.5, "A quarter of a tile": 0.25}
PREVIEW_HEIGHT_PX = 640


@dataclass(frozen=True)
class Settings:
    """What the user chose for a run."""

    mpp: float
    tile_um: float
    stride_um: float
    min_tissue: float
    genes: list[str] | None
    """None for all."""


def choose_slide() -> None:
    """Upload or demo; errors leave the earlier slide in place."""
    with st.container(border=True):
        st.subheader("1 · Slide")
        upload = st.file_uploader(
            "H&E image or whole-slide file",
            type=FILE_TYPES,
            help="JPEG, PNG, TIFF, OME-TIFF, SVS, NDPI, SCN, BIF. The file is deleted when you close the page.",
        )
        with controls.shown_errors():
            if upload is not None:
                session.take_upload(upload)
        if st.button("Use the demo slide", icon=":material/science:", help="A synthetic section, made on the spot"):
            with st.spinner("Staining the demo slide"), controls.shown_errors():
                session.take_demo()
                st.rerun()


def explain() -> None:
    """What a first-time visitor sees."""
    with st.container(border=True):
        st.subheader("How it works")
        st.markdown(
            "1. The image is cut into **tiles** of tissue, 150 µm wide.\n"
            "2. For each gene, a model of **11 numbers** reads how strongly each pixel absorbs two learned stains.\n"
            "3. You get a **map** of predicted expression for each gene, and a table to download.\n\n"
            "No graphics card is needed: a whole section takes seconds."
        )
        st.caption(
            "Colour alone is a weak predictor for many genes. The embedded weights were learned on HER2-positive "
            "breast cancer; other tissue has not been tested."
        )


def settings(slide: session.OpenSlide) -> Settings | None:
    """Facts of the slide and the choices for a run; None while the scale is unknown."""
    _show_facts(slide)
    with st.container(border=True):
        st.subheader("2 · Settings")
        mpp = st.number_input(
            "Scale, µm per pixel",
            value=slide.metadata_mpp,
            min_value=0.0,
            step=0.01,
            format="%.3f",
            placeholder="0.25 for a 40× scan, 0.5 for 20×",
            help="Read from the file where it says so; otherwise ask whoever made the image.",
            key=f"mpp of {slide.path.name}",
            persist_state="session",
        )
        if mpp is None:
            st.info("This file does not say its scale. Give it to go on: the tiles are measured in micrometres.")
            return None
        try:
            checked_mpp(mpp)
        except NslError as error:
            controls.show_error(str(error))
            return None
        tile_um = st.number_input(
            "Tile side, µm",
            value=150.0,
            min_value=10.0,
            step=10.0,
            format="%.0f",
            help="The weights were trained on windows of 150 µm.",
            key="tile_um",
            persist_state="session",
        )
        step = st.selectbox("Distance between tiles", list(STEPS), index=1, key="step", persist_state="session")
        min_tissue = st.slider(
            "Least tissue in a tile, %", 0, 100, 30, step=5, key="min_tissue", persist_state="session"
        )
        genes = _gene_choice()
    return Settings(mpp, tile_um, tile_um * STEPS[step], min_tissue / 100, genes)


def show_preview(slide: session.OpenSlide, chosen: Settings | None) -> None:
    """The slide, with its tiles once the scale is known."""
    with st.container(border=True):
        controls.synthetic_badge(slide)
        width = _image_width(slide.thumbnail)
        if chosen is None:
            st.image(slide.thumbnail, width=width, output_format="JPEG", alt="The slide")
            return
        with controls.shown_errors():
            picture, tiles = _preview(
                slide.path.name,
                slide.thumbnail,
                slide.size,
                chosen.mpp,
                chosen.tile_um,
                chosen.stride_um,
                chosen.min_tissue,
            )
            st.image(picture, width=width, output_format="JPEG", alt=f"The slide with {tiles} tissue tiles outlined")
            st.caption(f"About {tiles:,} tiles hold at least {chosen.min_tissue:.0%} tissue; the rest is left out.")


def run(slide: session.OpenSlide, chosen: Settings) -> None:
    """The button, the running job and its errors."""
    job = session.get("job")
    running = job is not None and job.is_running
    if st.button("Run", type="primary", width="stretch", disabled=running, icon=":material/play_arrow:"):
        with controls.shown_errors():
            _start(slide, chosen)
            st.rerun()
    if running:
        _watch()
    elif job is not None and job.error:
        controls.show_error(job.error)


def show_result(slide: session.OpenSlide) -> None:
    """What came out, and the way on: maps and the CSV."""
    finished = session.get("finished")
    if finished is None:
        return
    result = finished.result
    info = result.uns["nsl"]
    with st.container(border=True):
        st.subheader("Result")
        columns = st.columns(3)
        columns[0].metric("Tissue tiles", f"{result.n_obs:,}")
        columns[1].metric("Genes", f"{result.n_vars:,}")
        columns[2].metric("Time", f"{finished.seconds:.1f} s")
        if info["white_point_source"] == "background":
            red, green, blue = (round(x) for x in info["white_point"])
            st.caption(f"Background of the slide: red {red}, green {green}, blue {blue} of 255.")
        else:
            st.warning("No empty background was found on this slide, so pure white was taken for it.")
        with st.container(horizontal=True):
            st.page_link("pages/maps.py", label="See the maps", icon=":material/map:")
            controls.download_csv(result, slide)


def _image_width(image: np.ndarray) -> int:
    """Width in pixels at which a picture of any shape fits on the screen beside the settings."""
    height, width = image.shape[:2]
    return int(min(860, PREVIEW_HEIGHT_PX * width / height))


def _show_facts(slide: session.OpenSlide) -> None:
    width, height = slide.size
    scale = f"{slide.metadata_mpp:.4g} µm/px in the file" if slide.metadata_mpp else "no scale in the file"
    st.caption(f"{slide.format} · {width:,} × {height:,} px · {scale}")
    for notice in slide.notices:
        st.info(notice)


def _gene_choice() -> list[str] | None:
    which = st.radio("Genes", ["All", "A list"], horizontal=True, key="which_genes", persist_state="session")
    if which == "All":
        return None
    text = st.text_area(
        "Gene symbols",
        placeholder="ERBB2, CD24, COX6C",
        help="Separated by commas, spaces or line breaks",
        key="gene_list",
        persist_state="session",
    )
    return text.replace(",", " ").replace(";", " ").split()


@st.cache_data(max_entries=8, scope="session", show_spinner="Looking for tissue")
def _preview(
    slide_id: str,
    _thumbnail: np.ndarray,
    size: tuple[int, int],
    mpp: float,
    tile_um: float,
    stride_um: float,
    min_tissue: float,
) -> tuple[np.ndarray, int]:
    """The thumbnail with its tissue tiles, and how many; keyed by the session's own file name."""
    from nsl.figures import preview
    from nsl.stains import estimate_white_point
    from nsl.tiles import grid_over, pixel_bounds, tissue_fraction

    grid = grid_over(size, mpp, tile_um, stride_um)
    thumbnail_mpp = mpp * size[0] / _thumbnail.shape[1]
    bounds = pixel_bounds(grid.centers_px, tile_um, mpp, thumbnail_mpp)
    keep = tissue_fraction(_thumbnail, bounds, estimate_white_point(_thumbnail).rgb) >= min_tissue
    return preview(_thumbnail, grid, keep, size[0]), int(keep.sum())


def _start(slide: session.OpenSlide, chosen: Settings) -> None:
    weights = session.load_default_weights()

    def work(progress):
        from nsl.prediction import predict

        with session.reopen(slide, chosen.mpp) as opened:
            return predict(
                opened,
                weights,
                tile_um=chosen.tile_um,
                stride_um=chosen.stride_um,
                genes=chosen.genes,
                min_tissue=chosen.min_tissue,
                progress=progress,
            )

    if chosen.genes == []:
        raise NslError("the list of genes is empty; type at least one symbol")
    job = session.Job()
    session.put("job", job)
    job.start(work)


@st.fragment(run_every=0.3)
def _watch() -> None:
    """Look in on the running job until it ends, then draw the page anew."""
    job = session.get("job")
    share = job.done / job.total if job.total else 0.0
    st.progress(share, text=f"{job.done:,} of {job.total:,} tiles" if job.total else "Reading the slide")
    if not job.is_running:
        st.rerun()
