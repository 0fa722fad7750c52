"""Results to take home: each file is made when its button is clicked."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import streamlit as st

from nsl.web import controls, session

if TYPE_CHECKING:
    from nsl.web.mapping import Style


def button(label: str, make: Callable[[], str | bytes], file_name: str, mime: str, *, icon: str = "download") -> None:
    """One download; making it keeps the page as it is."""
    st.download_button(
        label,
        make,
        file_name=file_name,
        mime=mime,
        on_click="ignore",
        icon=f":material/{icon}:",
        key=f"get {file_name}",
    )


def csv(label: str, make: Callable[[], str | bytes], file_name: str) -> None:
    """A table."""
    button(label, make, file_name, "text/csv")


def tables(
    slide: session.OpenSlide, *, gene: str | None = None, extra: Callable[[], Mapping[str, str | bytes]] | None = None
) -> None:
    """The result as CSV at hand, and as everything else a click away.

    gene : whose map goes into the zip of everything.
    extra : further files for that zip.
    """
    from nsl import export

    result, stem = slide.result, controls.file_stem(slide)
    csv("Download CSV", lambda: export.csv_text(result), f"{stem}.csv")
    with st.popover("Other formats", icon=":material/download:"):
        button("CSV with provenance (zip)", lambda: export.csv_zip(result, stem), f"{stem}.csv.zip", "application/zip")
        button("AnnData (h5ad)", lambda: export.h5ad_bytes(result), f"{stem}.h5ad", "application/octet-stream")
        some = export.genes_for_qupath(result)
        button(
            "QuPath (GeoJSON)",
            lambda: export.geojson_text(result, some),
            f"{stem}.geojson",
            "application/geo+json",
        )
        if len(some) < result.n_vars:
            st.caption(
                f"GeoJSON holds the {len(some)} reliable genes of highest held-out r; predict a list for others."
            )
        button(
            "Everything (zip)",
            lambda: export.everything_zip(
                result, stem, figure_genes=[gene] if gene else some[:1], extra=extra() if extra else None
            ),
            f"{stem}.zip",
            "application/zip",
            icon="folder_zip",
        )


def of_gene(slide: session.OpenSlide, gene: str, style: "Style") -> None:
    """One gene's table, small where that of all genes is many megabytes, and its map at print size."""
    from nsl import export

    result, stem = slide.result, f"{controls.file_stem(slide)}_{export.file_part(gene)}"
    csv(f"CSV of {gene} alone", lambda: export.csv_text(result[:, [gene]]), f"{stem}.csv")
    button(
        "Map to print (PNG)",
        lambda: _to_print(slide, gene, style),
        f"{stem}.png",
        "image/png",
        icon="image",
    )


def _to_print(slide: session.OpenSlide, gene: str, style: "Style") -> bytes:
    from nsl.picture import map_png  # Matplotlib, which takes half a second to import

    return map_png(slide.result, gene, limits=style.limits, palette=style.palette, opacity=style.opacity)
