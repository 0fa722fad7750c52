"""Pieces of the interface that pages share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from PIL import Image

from nsl.errors import NslError
from nsl.stains import HED_VECTORS, PAPER_WHITE, transmitted
from nsl.web import session

if TYPE_CHECKING:
    import anndata

RESEARCH_ONLY = "For research use only; not a diagnostic device."


def sidebar() -> bool:
    """Weights in use, the slide at hand, what the app is not for; False where there are no weights to go on with."""
    from nsl.web import sources

    with shown_errors(), st.sidebar:
        sources.show()
        st.caption("SLIDE")
        slide = session.get("slide")
        if slide is None:
            st.caption("None yet")
        else:
            st.markdown(f"**{escaped(slide.name)}**")
            finished = session.get("finished")
            if session.is_running():
                st.caption("Predicting")
            else:
                st.caption(f"{finished.result.n_obs:,} tiles predicted" if finished else "Not predicted yet")
        st.divider()
        st.caption(RESEARCH_ONLY)
        return True
    return False


def favicon() -> Image.Image:
    """A hematoxylin and an eosin square, overlapping. An icon's name would be fetched from afar."""
    od = np.zeros((32, 32, 3))
    od[2:21, 2:21] += 1.2 * HED_VECTORS[0]
    od[11:30, 11:30] += 0.9 * HED_VECTORS[1]
    return Image.fromarray(transmitted(od, PAPER_WHITE))


@contextmanager
def shown_errors() -> Iterator[None]:
    """Show what the user can mend as one sentence; everything they had stays."""
    try:
        yield
    except NslError as error:
        show_error(str(error))


def show_error(message: str) -> None:
    """One sentence, begun with a capital unless it begins with a file's name or a unit."""
    if "." not in message.split(" ")[0] and message[:1].isascii():
        message = message[:1].upper() + message[1:]
    st.error(escaped(message), icon=":material/error:")


@st.fragment(run_every=0.3)
def watch_job() -> None:
    """Progress of the running job until it ends, then the page anew."""
    job = session.get("job")
    share = job.done / job.total if job.total else 0.0
    seconds = time.perf_counter() - job.started
    tiles = f"{job.done:,} of {job.total:,} tiles" if job.total else "Reading the slide"
    st.progress(share, text=f"{tiles} · {seconds:.0f} s")
    if not job.is_running:
        st.rerun()


def stain_warning(result: "anndata.AnnData") -> None:
    """Say so where the slide's stains lie outside what training covered, which stain, and by how much."""
    from nsl import prediction

    told = prediction.stain_warning(result)
    if told:
        st.warning(f"{told} Predictions may mislead.", icon=":material/palette:")


def synthetic_badge(slide: session.OpenSlide) -> None:
    """Mark the demo slide wherever it appears."""
    if slide.synthetic:
        st.badge("Synthetic: made by this program, not from a patient", icon=":material/science:", color="orange")


def download_csv(result: "anndata.AnnData", slide: session.OpenSlide) -> None:
    """The table alone, or zipped with how it came to be; made when clicked."""
    from nsl import export

    stem = file_stem(slide)
    st.download_button(
        "Download CSV",
        lambda: export.csv_text(result),
        file_name=f"{stem}.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
    )
    st.download_button(
        "CSV with provenance (zip)",
        lambda: export.csv_zip(result, stem),
        file_name=f"{stem}.zip",
        mime="application/zip",
        on_click="ignore",
        icon=":material/folder_zip:",
    )


def file_stem(slide: session.OpenSlide) -> str:
    """The slide's name without its ending, as a file may be named."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(slide.name).stem)


def escaped(text: str) -> str:
    """A user's text as Markdown shows it letter by letter."""
    return "".join(f"\\{c}" if c in r"\`*_[]<$:~" else c for c in text)
