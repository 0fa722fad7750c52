"""Bringing a slide: an upload, a slide of the server's folder, or the demo."""

from pathlib import Path

import streamlit as st

from nsl.errors import NslError
from nsl.numerals import count_of
from nsl.slides import folder as server_folder
from nsl.web import controls, sources
from nsl.web.session import server, state, uploads

FILE_TYPES = [
    *("jpg", "jpeg", "png", "tif", "tiff", "svs", "ndpi", "scn", "bif", "webp", "bmp", "svslide", "czi", "zip"),
]


def choose_slide() -> None:
    """Upload, a slide of the server's folder, or the demo; errors leave the slides that are there."""
    with controls.part("1 · Slide"), controls.shown_errors():
        upload = st.file_uploader(
            "H&E image or whole-slide file",
            type=FILE_TYPES,
            max_upload_size=server.limits().max_upload_mb,
            key=f"slide_upload {state.shared().uploads}",
            help="JPEG, PNG, TIFF, OME-TIFF, SVS, NDPI, SCN, BIF; MRXS and DICOM as a zip of slide and folder. "
            "Each upload is one more slide. Slides are deleted within minutes of closing the page.",
        )
        if upload is not None:
            try:
                uploads.take_upload(upload)
                st.rerun()
            except NslError as error:
                controls.show_error(str(error))
                if state.slide():
                    st.caption("The slide you had stays open.")
        with controls.shown_errors():
            _offer_server_folder()
        if st.button("Use the demo slide", icon=":material/science:", help="A synthetic section, made on the spot"):
            with st.spinner("Staining the demo slide"):
                uploads.take_demo()
                st.rerun()


def _offer_server_folder() -> None:
    where = server_folder.slide_dir()
    if where is None:
        return
    found = {slide.name: slide for slide in _server_slides(where)}
    row = st.container(horizontal=True, vertical_alignment="bottom")
    name = row.selectbox(
        "A slide on the server",
        list(found),
        index=None,
        placeholder=count_of(len(found), "slide") if found else "No slides there yet",
        format_func=lambda name: f"{name} · {controls.file_size(found[name].size_bytes)}",
        disabled=not found,
        key="server_slide",
    )
    if row.button("Open it", disabled=name is None, icon=":material/folder_open:"):
        uploads.take_server_file(server_folder.resolve(where, name), name)
        st.rerun()


@st.cache_data(ttl=30, max_entries=1, show_spinner="Looking for slides")
def _server_slides(where: Path) -> list[server_folder.FolderSlide]:
    """Looked up for all sessions at once: a folder of archives takes long to walk."""
    return server_folder.slides_in(where)


def explain() -> None:
    """What a first-time visitor sees."""
    config = sources.config_in_use()
    with controls.part("How it works"):
        st.markdown(
            f"1. The image is cut into **tiles** of tissue, {config.tile_um:g} µm wide.\n"
            "2. For each gene, a model of **11 numbers** reads how strongly each pixel absorbs two learned stains.\n"
            "3. You get a **map** of predicted expression for each gene, and a table to download.\n\n"
            "No graphics card is needed: a whole section takes seconds."
        )
        st.caption(
            "Colour alone is a weak predictor for many genes, so every gene comes with how it was predicted in a "
            f"{config.reliability.left_out} it had not seen. The weights were learned on "
            f"{controls.escaped(sources.tissue(config))}; other tissue has not been tested."
        )


def show_facts(slide: state.SessionSlide) -> None:
    """What the file says of itself, and how it had to be altered."""
    seen = slide.seen
    width, height = seen.size
    facts = [
        controls.escaped(slide.name),
        seen.format,
        controls.escaped(seen.scanner) if seen.scanner else None,
        f"scanned at {seen.objective_power:g}×" if seen.objective_power else None,
        f"{width:,} × {height:,} px",
        # A JPEG has but one; the others are quick ways to decode it.
        f"{len(seen.levels)} resolutions" if len(seen.levels) > 1 and seen.format != "JPEG" else "one resolution",
        f"{seen.mpp:.4g} µm/px in the file" if seen.mpp else "no scale in the file",
    ]
    st.caption(" · ".join(fact for fact in facts if fact))
    for notice in seen.notices:
        st.info(controls.escaped(notice))
