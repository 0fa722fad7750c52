"""The parts of the Predict page: choosing a slide, settings, preview, run, result."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from nsl.errors import NslError
from nsl.slide import checked_mpp
from nsl.web import controls, downloads, folder, limits, pace, session, sources
from nsl.web.jobs import Job
from nsl.weights import is_reliable

FILE_TYPES = [
    *("jpg", "jpeg", "png", "tif", "tiff", "svs", "ndpi", "scn", "bif", "webp", "bmp", "svslide", "czi", "zip"),
]
# Half a tile between tiles draws a finer map than tiles side by side, at four times the work.
STEPS = {"Side by side": 1.0, "Half a tile": 0.5, "A quarter of a tile": 0.25}
USUAL_STEP, USUAL_TISSUE = 1, 30
ALL_GENES, RELIABLE_GENES, LISTED_GENES = "All", "Reliable only", "A list"
PREVIEW_HEIGHT_PX = 640


@dataclass(frozen=True)
class Settings:
    """What the user chose for a run."""

    mpp: float
    tile_um: float
    stride_um: float
    analysis_mpp: float
    min_tissue: float
    genes: list[str] | None
    """None for all."""

    @property
    def as_run(self) -> tuple[float, ...]:
        """What a result says of its settings, in the order of `_settings_of`."""
        return (self.mpp, self.tile_um, self.stride_um, max(self.analysis_mpp, self.mpp), self.min_tissue)


def _settings_of(result) -> tuple[float, ...]:
    info = result.uns["nsl"]
    return tuple(info[key] for key in ("mpp", "tile_um", "stride_um", "analysis_mpp", "min_tissue"))


def choose_slide() -> None:
    """Upload, a slide of the server's folder, or the demo; errors leave the slides that are there."""
    with st.container(border=True), controls.shown_errors():
        st.subheader("1 · Slide")
        upload = st.file_uploader(
            "H&E image or whole-slide file",
            type=FILE_TYPES,
            max_upload_size=limits.read().max_upload_mb,
            help="JPEG, PNG, TIFF, OME-TIFF, SVS, NDPI, SCN, BIF; MRXS and DICOM as a zip of slide and folder. "
            "Each upload is one more slide. Slides are deleted within minutes of closing the page.",
        )
        if upload is not None:
            try:
                if session.take_upload(upload):
                    st.rerun()
            except NslError as error:
                controls.show_error(str(error))
                if session.slide():
                    st.caption("The slide you had stays open.")
        with controls.shown_errors():
            _offer_server_folder()
        demo()


def demo(label: str = "Use the demo slide") -> None:
    """The button that makes the synthetic slide."""
    if st.button(label, icon=":material/science:", help="A synthetic section, made on the spot"):
        with st.spinner("Staining the demo slide"), controls.shown_errors():
            session.take_demo()
            st.rerun()


def _offer_server_folder() -> None:
    where = folder.slide_dir()
    if where is None:
        return
    found = {slide.name: slide for slide in _server_slides(where)}
    name = st.selectbox(
        "A slide on the server",
        list(found),
        index=None,
        placeholder=f"{len(found):,} slides" if found else "No slides there yet",
        format_func=lambda name: f"{name} · {controls.file_size(found[name].size_bytes)}",
        disabled=not found,
        key="server_slide",
    )
    if st.button("Open it", disabled=name is None, icon=":material/folder_open:"):
        session.take_server_file(folder.resolve(where, name), name)
        st.rerun()


@st.cache_data(ttl=30, max_entries=1, show_spinner="Looking for slides")
def _server_slides(where: Path) -> list[folder.FolderSlide]:
    """Looked up for all sessions at once: a folder of archives takes long to walk."""
    return folder.slides_in(where)


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
    """Facts of the slide and the choices for a run; None while they cannot be run."""
    _show_facts(slide)
    with st.container(border=True):
        st.subheader("2 · Settings")
        mpp = _scale(slide)
        if mpp is None:
            return None
        config = sources.config_in_use()
        tile_um = st.number_input(
            "Tile side, µm",
            value=float(config["tile_um"]),
            min_value=10.0,
            step=10.0,
            format="%.0f",
            help=f"The weights were trained on windows of {config['tile_um']:g} µm.",
            key="tile_um",
            persist_state="session",
        )
        step = st.selectbox("Step between tiles", list(STEPS), index=USUAL_STEP, key="step", persist_state="session")
        min_tissue = st.slider(
            "Least tissue in a tile, %", 0, 100, USUAL_TISSUE, step=5, key="min_tissue", persist_state="session"
        )
        with st.expander("Analysis resolution"):
            analysis_mpp = st.number_input(
                "The slide is read at, µm per pixel",
                value=float(config["analysis_mpp"]),
                min_value=0.1,
                step=0.5,
                format="%.1f",
                help="Leave it as it is: the weights were trained at this resolution, and finer takes longer without "
                "predicting better.",
                key="analysis_mpp",
                persist_state="session",
            )
        try:
            genes = _choose_genes()
        except NslError as error:
            controls.show_error(str(error))
            return None
    return Settings(mpp, tile_um, tile_um * STEPS[step], analysis_mpp, min_tissue / 100, genes)


def _scale(slide: session.OpenSlide) -> float | None:
    """µm per pixel, from the file or the user; never guessed."""
    mpp = st.number_input(
        "Scale, µm per pixel",
        value=slide.metadata_mpp,
        min_value=0.0,
        step=0.01,
        format="%.3f",
        placeholder="0.25 for a 40× scan, 0.5 for 20×",
        help="Read from the file where it says so; otherwise ask whoever made the image.",
        key=f"mpp of {slide.key}",
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
    return mpp


def _choose_genes() -> list[str] | None:
    """None for all; WeightsError names one that the weights do not hold."""
    which = st.radio(
        "Genes", [ALL_GENES, RELIABLE_GENES, LISTED_GENES], horizontal=True, key="which_genes", persist_state="session"
    )
    if which == ALL_GENES:
        return None
    if which == RELIABLE_GENES:
        table = sources.in_use().reliability
        genes = list(table.index[is_reliable(table)])
        st.caption(f"{len(genes):,} of {len(table):,} genes were predicted beyond chance where they were held out.")
        return genes
    return _listed_genes()


def _listed_genes() -> list[str]:
    from nsl.aliases import parse_gene_list

    text = st.text_area(
        "Gene symbols",
        placeholder="ERBB2, CD24, COX6C",
        help="Separated by commas, spaces or line breaks; common names such as HER2 are understood.",
        key="gene_list",
        persist_state="session",
    )
    upload = st.file_uploader("or a file with them", type=["txt", "csv", "tsv"], max_upload_size=5, key="gene_file")
    if upload is not None:
        text = upload.getvalue().decode("utf-8", errors="replace")
    if not text.strip():
        raise NslError("the list of genes is empty; type at least one symbol")
    genes = sources.in_use().require_genes(parse_gene_list(text))
    st.caption(
        f"{len(genes):,} gene{'s' if len(genes) > 1 else ''}: {', '.join(genes[:6])}{', …' if len(genes) > 6 else ''}"
    )
    return genes


def run(slide: session.OpenSlide, chosen: Settings, tiles: int | None) -> None:
    """How long it will take, the button, and why the last run failed if it did."""
    genes = len(sources.config_in_use()["genes"]) if chosen.genes is None else len(chosen.genes)
    if tiles:
        work = pace.responses(tiles, chosen.tile_um, max(chosen.analysis_mpp, chosen.mpp), genes)
        wait = controls.duration(pace.seconds(slide.open_seconds, work))
        st.caption(f"About {tiles:,} tiles and {genes:,} genes: about {wait} on this computer.")
    if st.button("Run", type="primary", width="stretch", disabled=slide.is_running, icon=":material/play_arrow:"):
        start(slide, chosen)
        st.rerun()
    if not slide.is_running and slide.job is not None and slide.job.error:
        controls.show_error(slide.told(slide.job.error))


def show_result(slide: session.OpenSlide, chosen: Settings | None) -> None:
    """The running job, or what came out and the way on: maps and the downloads."""
    if slide.is_running:
        with st.container(border=True):
            controls.watch_job(slide.job)
        return
    result = slide.result
    if result is None:
        return
    info = result.uns["nsl"]
    with st.container(border=True):
        st.subheader("Result")
        with st.container(horizontal=True):
            st.metric("Tissue tiles", f"{result.n_obs:,}", width=120)
            st.metric("Genes", f"{result.n_vars:,}", width=120)
            st.metric("Time", f"{slide.finished.seconds:.1f} s", width=120)
        st.caption(
            f"Run with {info['mpp']:g} µm/px and tiles of {info['tile_um']:g} µm every {info['stride_um']:g} µm, "
            f"read at {info['analysis_mpp']:g} µm/px."
        )
        if not info["complete"]:
            st.warning("The run was cancelled: the tiles below the last one reached are missing.")
        if chosen and not np.allclose(_settings_of(result), chosen.as_run):
            st.info("The settings have changed since. Run again to use them.")
        if info["white_point_source"] != "background":
            st.warning("No empty background was found on this slide, so pure white was taken for it.")
        controls.stain_warning(result)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link("pages/maps.py", label="See the maps", icon=":material/map:")
            downloads.tables(slide)


def show_preview(slide: session.OpenSlide, chosen: Settings | None) -> int | None:
    """The slide, with its tiles once the scale is known; how many of them hold tissue."""
    with st.container(border=True):
        controls.synthetic_badge(slide)
        width = _image_width(slide.thumbnail)
        if chosen is None:
            st.image(slide.thumbnail, width=width, output_format="JPEG", alt="The slide")
            return None
        with controls.shown_errors():
            place = (chosen.mpp, chosen.tile_um, chosen.stride_um, chosen.min_tissue)
            picture, tiles = _preview(slide.key, slide.thumbnail, slide.size, *place)
            st.image(picture, width=width, output_format="JPEG", alt=f"The slide with {tiles} tissue tiles outlined")
            if tiles:
                st.caption(
                    f"About {tiles:,} tiles hold at least {chosen.min_tissue:.0%} tissue. Paler areas are left out, as "
                    "is a margin on the right and below that holds no whole tile."
                )
            else:
                st.warning("No tissue was found. Check the image, or lower the least share of tissue.")
            return tiles
        return None


def _image_width(image: np.ndarray) -> int:
    """Width in pixels at which a picture of any shape fits on the screen beside the settings."""
    height, width = image.shape[:2]
    return int(min(860, PREVIEW_HEIGHT_PX * width / height))


def _show_facts(slide: session.OpenSlide) -> None:
    width, height = slide.size
    scale = f"{slide.metadata_mpp:.4g} µm/px in the file" if slide.metadata_mpp else "no scale in the file"
    levels = f"{len(slide.levels)} resolutions" if len(slide.levels) > 1 else "one resolution"
    st.caption(f"{controls.escaped(slide.name)} · {slide.format} · {width:,} × {height:,} px · {levels} · {scale}")
    for notice in slide.notices:
        st.info(notice)


@st.cache_data(max_entries=8, scope="session", show_spinner="Looking for tissue")
def _preview(
    slide_key: str,
    _thumbnail: np.ndarray,
    size: tuple[int, int],
    mpp: float,
    tile_um: float,
    stride_um: float,
    min_tissue: float,
) -> tuple[np.ndarray, int]:
    """The thumbnail with its tissue tiles, and how many; keyed by the session's own name for the slide."""
    from nsl.figures import preview
    from nsl.stains import estimate_white_point
    from nsl.tiles import grid_over, pixel_bounds, tissue_fraction

    grid = grid_over(size, mpp, tile_um, stride_um)
    thumbnail_mpp = mpp * size[0] / _thumbnail.shape[1]
    bounds = pixel_bounds(grid.centers_px, tile_um, mpp, thumbnail_mpp)
    keep = tissue_fraction(_thumbnail, bounds, estimate_white_point(_thumbnail).rgb) >= min_tissue
    return preview(_thumbnail, grid, keep, size[0]), int(keep.sum())


def _learn_pace(slide: session.OpenSlide, result, seconds: float) -> None:
    info = result.uns["nsl"]
    pace.learn(
        slide.open_seconds,
        pace.responses(result.n_obs, info["tile_um"], info["analysis_mpp"], result.n_vars),
        seconds,
    )


def usual_settings(slide: session.OpenSlide) -> Settings:
    """What the page proposes for a slide whose file says its scale."""
    config = sources.config_in_use()
    tile_um = float(config["tile_um"])
    stride_um = tile_um * list(STEPS.values())[USUAL_STEP]
    return Settings(slide.metadata_mpp, tile_um, stride_um, float(config["analysis_mpp"]), USUAL_TISSUE / 100, None)


def start(slide: session.OpenSlide, chosen: Settings) -> None:
    """Predict in a thread of its own; what was predicted before stays until it is done."""
    weights = sources.in_use()

    def work(job: Job):
        from nsl.prediction import predict

        with slide.open(chosen.mpp) as opened:
            result = predict(
                opened,
                weights,
                tile_um=chosen.tile_um,
                stride_um=chosen.stride_um,
                analysis_mpp=chosen.analysis_mpp,
                genes=chosen.genes,
                min_tissue=chosen.min_tissue,
                progress=job.progress,
                cancelled=lambda: job.is_cancelled,
            )
        result.uns["nsl"]["synthetic"] = slide.synthetic
        job.weights = weights
        _learn_pace(slide, result, time.perf_counter() - job.started)
        return result

    slide.job = Job()
    slide.job.start(work)
