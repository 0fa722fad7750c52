"""The parts of the Predict page: choosing a slide, settings, preview, run, result."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from nsl.errors import NslError
from nsl.slide import checked_mpp
from nsl.web import controls, limits, session, sources

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
    with st.container(border=True), controls.shown_errors():
        st.subheader("1 · Slide")
        upload = st.file_uploader(
            "H&E image or whole-slide file",
            type=FILE_TYPES,
            max_upload_size=limits.read().max_upload_mb,
            help="JPEG, PNG, TIFF, OME-TIFF, SVS, NDPI, SCN, BIF. It is deleted within minutes of closing the page.",
        )
        if upload is not None:
            try:
                if session.take_upload(upload):
                    st.rerun()
            except NslError as error:
                controls.show_error(str(error))
                if session.get("slide"):
                    st.caption("The slide you had stays open.")
        if st.button("Use the demo slide", icon=":material/science:", help="A synthetic section, made on the spot"):
            with st.spinner("Staining the demo slide"), controls.shown_errors():
                session.take_demo()
                st.rerun()


def explain() -> None:
    """What a first-time visitor sees."""
    config = sources.config_in_use()
    with st.container(border=True):
        st.subheader("How it works")
        st.markdown(
            f"1. The image is cut into **tiles** of tissue, {config['tile_um']:g} µm wide.\n"
            "2. For each gene, a model of **11 numbers** reads how strongly each pixel absorbs two learned stains.\n"
            "3. You get a **map** of predicted expression for each gene, and a table to download.\n\n"
            "No graphics card is needed: a whole section takes seconds."
        )
        st.caption(
            "Colour alone is a weak predictor for many genes, so every gene comes with how it was predicted in a "
            f"{config['reliability']['left_out']} it had not seen. The weights were learned on "
            f"{controls.escaped(sources.tissue(config))}; other tissue has not been tested."
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
        width_mm, height_mm = (side * mpp / 1000 for side in slide.size)
        st.caption(f"The image then shows {width_mm:.2f} × {height_mm:.2f} mm.")
        trained_um = float(sources.config_in_use()["tile_um"])
        tile_um = st.number_input(
            "Tile side, µm",
            value=trained_um,
            min_value=10.0,
            step=10.0,
            format="%.0f",
            help=f"The weights were trained on windows of {trained_um:g} µm.",
            key="tile_um",
            persist_state="session",
        )
        step = st.selectbox("Step between tiles", list(STEPS), index=1, key="step", persist_state="session")
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
            if tiles:
                st.caption(
                    f"About {tiles:,} tiles hold at least {chosen.min_tissue:.0%} tissue. Paler areas are left out, as "
                    "is a margin on the right and below that holds no whole tile."
                )
            else:
                st.warning("No tissue was found. Check the image, or lower the least share of tissue.")


def run(slide: session.OpenSlide, chosen: Settings) -> None:
    """The button, and why the last run failed if it did."""
    job = session.get("job")
    running = session.is_running()
    if st.button("Run", type="primary", width="stretch", disabled=running, icon=":material/play_arrow:"):
        with controls.shown_errors():
            _start(slide, chosen)
            st.rerun()
    if not running and job is not None and job.error:
        controls.show_error(slide.told(job.error))


def show_result(slide: session.OpenSlide, chosen: Settings | None) -> None:
    """The running job, or what came out and the way on: maps and the CSV."""
    if session.is_running():
        with st.container(border=True):
            if session.get("job").ahead:
                _watch_line()
            else:
                controls.watch_job()
        return
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
        used = (info["mpp"], info["tile_um"], info["stride_um"], info["min_tissue"])
        st.caption(f"Run with {used[0]:g} µm/px and tiles of {used[1]:g} µm every {used[2]:g} µm.")
        if chosen and used != (chosen.mpp, chosen.tile_um, chosen.stride_um, chosen.min_tissue):
            st.info("The settings have changed since. Run again to use them.")
        if info["white_point_source"] != "background":
            st.warning("No empty background was found on this slide, so pure white was taken for it.")
        controls.stain_warning(result)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link("pages/maps.py", label="See the maps", icon=":material/map:")
            controls.download_csv(result, slide)


@st.fragment(run_every=0.5)
def _watch_line() -> None:
    """How many runs of others come first, until none does."""
    ahead = session.get("job").ahead
    if not ahead:
        st.rerun()
    st.progress(0.0, text=f"Waiting for {ahead:,} other run{'s' if ahead > 1 else ''} to end")


def _image_width(image: np.ndarray) -> int:
    """Width in pixels at which a picture of any shape fits on the screen beside the settings."""
    height, width = image.shape[:2]
    return int(min(860, PREVIEW_HEIGHT_PX * width / height))


def _show_facts(slide: session.OpenSlide) -> None:
    width, height = slide.size
    scale = f"{slide.metadata_mpp:.4g} µm/px in the file" if slide.metadata_mpp else "no scale in the file"
    st.caption(f"{controls.escaped(slide.name)} · {slide.format} · {width:,} × {height:,} px · {scale}")
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
    weights = sources.in_use()

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
