"""Results to take home: each file is made when its button is clicked."""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.runtime import media_file_manager

from nsl.signatures import counted
from nsl.web import controls
from nsl.web.session import state

if TYPE_CHECKING:
    from nsl.slides.annotations.region import Region


_MIME = {
    ".csv": "text/csv",
    ".geojson": "application/geo+json",
    ".h5ad": "application/octet-stream",
    ".html": "text/html",
    ".png": "image/png",
    ".zip": "application/zip",
}


FETCHED_WITHIN_SECONDS = 60
"""How long a file that was made for a click is there at least for the browser that asked for it."""


class _KeptFile(media_file_manager.MediaFileMetadata):
    """What Streamlit knows of a file that no page holds on to, such as one made for a click.

    Its own lets such a file go when scripts have ended twice, whosever they are: on a server of many visitors that is
    before the browser comes for it.
    """

    _marked = math.inf

    def mark_for_delete(self) -> None:
        self._marked = min(self._marked, time.monotonic())

    @property
    def is_marked_for_delete(self) -> bool:
        return time.monotonic() - self._marked > FETCHED_WITHIN_SECONDS


@functools.cache
def _outlast_other_sessions() -> None:
    media_file_manager.MediaFileMetadata = _KeptFile


def button(label: str, make: Callable[[], str | bytes], file_name: str, *, icon: str = "download") -> None:
    """One download, of what the file's ending says; making it keeps the page as it is."""
    _outlast_other_sessions()
    mime = _MIME[Path(file_name).suffix]
    icon = "image" if mime == "image/png" else icon
    st.download_button(
        label,
        make,
        file_name=file_name,
        mime=mime,
        on_click="ignore",
        icon=f":material/{icon}:",
        key=f"get {file_name}",
    )


def tables(
    slide: state.SessionSlide,
    *,
    genes: Sequence[str] = (),
    extra: Callable[[], Mapping[str, tuple[str, str | bytes]]] | None = None,
) -> None:
    """The result as CSV at hand, and as everything else a click away.

    genes : that are looked at, and so go into the GeoJSON, which cannot hold all.
    extra : makes what else goes into the zip of everything, as `nsl.export.files.everything_zip` takes it; else it is
        the map of the most reliable gene.
    """
    from nsl.export import files

    result, stem = slide.result, controls.file_stem(slide)
    # What is on offer keeps no result in memory that was let go.
    made_of = slide.result_at_hand
    button("Download CSV", lambda: files.csv_text(made_of()), f"{stem}.csv")
    with st.popover("Other formats", icon=":material/download:"):
        button("CSV with provenance (zip)", lambda: files.csv_zip(made_of(), stem), f"{stem}.csv.zip")
        button("AnnData (h5ad)", lambda: files.h5ad_bytes(made_of()), f"{stem}.h5ad")
        some = files.genes_for_qupath(result, genes)
        button("QuPath (GeoJSON)", lambda: files.geojson_text(made_of(), some), f"{stem}.geojson")
        if len(some) < result.n_vars:
            looked_at = "the genes looked at, and " if genes else ""
            st.caption(f"GeoJSON holds {counted(some)}: {looked_at}the most reliable; predict a list for others.")
        button(
            "Everything (zip)",
            lambda: files.everything_zip(
                made_of(),
                stem,
                figure_genes=() if extra else some[:1],
                qupath_genes=some,
                extra=extra() if extra else None,
            ),
            f"{stem}.zip",
            icon="folder_zip",
        )


def prints(
    maps: Mapping[str, tuple[state.SessionSlide, str, tuple[float, float], Sequence["Region"]]],
    palette: str,
    opacity: float,
    stem: str,
) -> None:
    """Several maps at print size in one zip: by file name, which slide, gene, ends of the colour scale and regions."""

    def make() -> bytes:
        from nsl.export import files
        from nsl.export.print import map_png

        look = {"palette": palette, "opacity": opacity}
        return files.zipped(
            {
                name: map_png(slide.result_at_hand(), gene, limits=ends, slide_name=slide.name, regions=regions, **look)
                for name, (slide, gene, ends, regions) in maps.items()
            }
        )

    button("Maps to print (zip of PNG)", make, f"{stem}_maps.zip", icon="image")


def report(
    slide: state.SessionSlide,
    genes: Sequence[str],
    regions: Sequence["Region"],
    *,
    limits: Mapping[str, tuple[float, float]] | None = None,
    palette: str | None = None,
    opacity: float = 0.7,
) -> None:
    """The page for the meeting, as HTML that prints.

    genes : whose maps are on it; beside a single one, those of the most reliable that differ.
    limits : the ends of colour scales that the user has set, by gene.
    """

    def make() -> str:
        from nsl.export.report import genes_for_report, report_html

        result = slide.result_at_hand()
        return report_html(
            result,
            slide.name,
            genes=genes if len(genes) > 1 else genes_for_report(result, genes),
            limits=limits,
            palette=palette or "Viridis",
            opacity=opacity,
            slide=slide.seen,
            weights=slide.weights,
            regions=regions,
        )

    button("Report (HTML)", make, f"{controls.file_stem(slide)}_report.html", icon="summarize")
