"""Results to take home: each file is made when its button is clicked."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import streamlit as st

from nsl.web import controls, state

if TYPE_CHECKING:
    import anndata
    import pandas as pd

    from nsl.web.compare.gene_comparison import Look
    from nsl.web.maps.gene_map import Style


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
    slide: state.OpenSlide,
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
    csv("Download CSV", lambda: files.csv_text(result), f"{stem}.csv")
    with st.popover("Other formats", icon=":material/download:"):
        button("CSV with provenance (zip)", lambda: files.csv_zip(result, stem), f"{stem}.csv.zip", "application/zip")
        button("AnnData (h5ad)", lambda: files.h5ad_bytes(result), f"{stem}.h5ad", "application/octet-stream")
        some = files.genes_for_qupath(result, genes)
        button(
            "QuPath (GeoJSON)",
            lambda: files.geojson_text(result, some),
            f"{stem}.geojson",
            "application/geo+json",
        )
        if len(some) < result.n_vars:
            looked_at = "the genes looked at, and " if genes else ""
            st.caption(
                f"GeoJSON holds {len(some)} genes: {looked_at}the reliable ones of highest held-out r; predict a list "
                "for others."
            )
        button(
            "Everything (zip)",
            lambda: files.everything_zip(
                result,
                stem,
                figure_genes=() if extra else some[:1],
                qupath_genes=some,
                extra=extra() if extra else None,
            ),
            f"{stem}.zip",
            "application/zip",
            icon="folder_zip",
        )


def of_gene(slide: state.OpenSlide, gene: str, style: "Style") -> None:
    """One gene's table, small where that of all genes is many megabytes, and its map at print size."""
    from nsl.export import files

    result, stem = slide.result, f"{controls.file_stem(slide)}_{files.file_part(gene)}"
    csv(f"CSV of {controls.escaped(gene)} alone", lambda: files.csv_text(result[:, [gene]]), f"{stem}.csv")
    print_png("Map to print (PNG)", lambda: _to_print(result, gene, style, style.limits), f"{stem}.png")


def of_page(
    slide: state.OpenSlide, gene: str, style: "Style", region: "pd.DataFrame | None"
) -> dict[str, tuple[str, str | bytes]]:
    """What the Maps page shows, for the zip of everything: the map as it is drawn, and the region drawn on it."""
    from nsl.export.files import file_part
    from nsl.stats.regions import REGION_CAVEAT

    stem = controls.file_stem(slide)
    files = {
        f"{stem}.{file_part(gene)}.png": (
            f"the map of {gene}, to print, its colours from {style.limits[0]:.4g} to {style.limits[1]:.4g}",
            _to_print(slide.result, gene, style, style.limits),
        )
    }
    if region is not None:
        what = f"the region drawn on the map against the rest, gene by gene. {REGION_CAVEAT}"
        files[f"{stem}.region.csv"] = (what, region_csv(region))
    return files


def region_csv(table: "pd.DataFrame") -> str:
    """Of `nsl.stats.correlation.compare_region`, to six significant digits."""
    return table.to_csv(float_format="%.6g", lineterminator="\n")


def of_fine_map(slide: state.OpenSlide, fine: "anndata.AnnData", style: "Style") -> None:
    """The finer map of a gene as table, for scanpy and squidpy, and to print."""
    from nsl.export import files
    from nsl.figures.maps import percentile_limits

    [gene] = fine.var_names
    stem = f"{controls.file_stem(slide)}_{files.file_part(gene)}_{fine.uns['nsl']['tile_um']:g}um"
    csv("CSV of the finer map", lambda: files.csv_text(fine), f"{stem}.csv")
    button("AnnData of it (h5ad)", lambda: files.h5ad_bytes(fine), f"{stem}.h5ad", "application/octet-stream")
    print_png(
        "Finer map to print (PNG)",
        lambda: _to_print(fine, gene, style, percentile_limits(fine.X.ravel())),
        f"{stem}.png",
    )


def print_png(label: str, make: Callable[[], bytes], file_name: str) -> None:
    """A map at print size."""
    button(label, make, file_name, "image/png", icon="image")


def prints(maps: Mapping[str, tuple["anndata.AnnData", str, tuple[float, float]]], look: "Look", stem: str) -> None:
    """Several maps at print size in one zip: by file name, whose result, which gene, the ends of its colour scale."""
    button(
        "Maps to print (zip of PNG)",
        lambda: _zip_of_prints(maps, look),
        f"{stem}_maps.zip",
        "application/zip",
        icon="image",
    )


def _zip_of_prints(maps: Mapping[str, tuple["anndata.AnnData", str, tuple[float, float]]], look: "Look") -> bytes:
    from nsl.export import files

    return files.zipped({name: _to_print(result, gene, look, ends) for name, (result, gene, ends) in maps.items()})


def _to_print(result: "anndata.AnnData", gene: str, style: "Style | Look", limits: tuple[float, float]) -> bytes:
    from nsl.export.print import map_png  # Matplotlib, which takes half a second to import

    return map_png(result, gene, limits=limits, palette=style.palette, opacity=style.opacity)
