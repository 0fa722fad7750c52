"""The part of the Train page on what was found on looking at measured sections, before anything is fitted to them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from nsl.web import controls
from nsl.web.train import paired_sections
from nsl.web.train.paired_sections import PairedSection

_PICTURE_PX = 330

_COLUMNS = {
    "Slide": st.column_config.TextColumn(width=130),
    "Scale": st.column_config.NumberColumn(format="%.3g", help="µm per pixel"),
    "Spots": st.column_config.NumberColumn(format="localized", help="With counts and a position"),
    "On tissue": st.column_config.NumberColumn(format="localized", help="Spots whose window is at least 30 % tissue"),
    "Depth": st.column_config.NumberColumn(
        format="localized", help="Counts of all genes in the median of the spots that take part"
    ),
    "Genes": st.column_config.NumberColumn(format="localized", help="Counted in a tenth of the spots or more"),
}


def show(sections: Sequence[PairedSection]) -> None:
    """What was found on looking at each section, before anything is fitted to it."""
    with controls.part("Checks"):
        looked_at = [section for section in sections if section.last is not None]
        controls.show_table(_figures(looked_at), _COLUMNS, alt="What was found on looking at each section")
        st.caption(
            "Rings are spots on tissue, crosses spots beside it. Look whether the rings follow the tissue's edge and "
            "holes: shifted positions teach nothing."
        )
        for section in looked_at:
            _show_section(section)


def _figures(sections: Sequence[PairedSection]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Section": section.name,
            "Patient": section.patient,
            "Slide": section.slide.name,
            "Scale": section.mpp,
            "Spots": section.report.spots,
            "On tissue": section.report.spots_on_tissue,
            "Depth": round(section.report.median_counts),
            "Genes": section.report.genes_detected,
        }
        for section in sections
    )


def _show_section(section: PairedSection) -> None:
    look, report = section.last, section.report
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**{controls.escaped(section.name)}** · patient {controls.escaped(section.patient)}", width="content"
        )
        controls.synthetic_badge(section.slide)
    with st.container(horizontal=True, gap="medium"):
        picture = _picture(section.key, look.window_um, look.analysis_mpp, section)
        height, width = picture.shape[:2]
        off = report.spots - report.spots_on_tissue
        st.image(
            picture,
            width=round(min(_PICTURE_PX, _PICTURE_PX * width / height)),
            output_format="JPEG",
            alt=f"{section.name}: the slide with {report.spots_on_tissue:,} spots on tissue and {off:,} beside it",
        )
        with st.container(width="stretch"):
            for warning in report.warnings:
                st.warning(controls.escaped(warning), icon=":material/error_outline:")
            if not report.warnings:
                st.success("Spots, depth and genes look sound.", icon=":material/check_circle:")
            for notice in report.notices:
                st.caption(controls.escaped(notice))
            controls.offer_removal(
                f"Remove {section.name}", paired_sections.remove, section.key, key=f"remove {section.key}"
            )


@st.cache_data(max_entries=2 * paired_sections.MAX_SECTIONS, scope="session", show_spinner="Drawing the spots")
def _picture(section_key: str, window_um: float, analysis_mpp: float, _section: PairedSection) -> np.ndarray:
    from nsl.figures.spots_picture import spots_on_slide

    slide = _section.slide
    centers_px = _section.measured.obsm["spatial"]
    return spots_on_slide(slide.seen.thumbnail, centers_px, _section.last.on_tissue, slide.seen.size[0])
