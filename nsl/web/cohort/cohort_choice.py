"""Which of the server's cohorts is looked at, and what became of its slides."""

import anndata
import pandas as pd
import streamlit as st

from nsl.cohort import folder as cohort_folder
from nsl.cohort.folder import CohortFolder
from nsl.errors import NslError
from nsl.numerals import count_of, csv_table
from nsl.slides.folder import slide_dir
from nsl.web import controls, downloads

_COLUMNS = {
    "name": st.column_config.TextColumn("Slide"),
    "group": st.column_config.TextColumn("Group"),
    "status": st.column_config.TextColumn("Status"),
    "tiles": st.column_config.NumberColumn("Tiles", format="localized"),
    "tissue_mm2": st.column_config.NumberColumn("Tissue, mm²", format="%.1f"),
    "reason": st.column_config.TextColumn("Why it failed", width="large"),
    "warnings": st.column_config.TextColumn("To know of it", width="large"),
    "seconds": st.column_config.NumberColumn("Seconds", format="%.1f"),
}


def choose() -> CohortFolder | None:
    """One of the cohorts in the server's folder; None where there is none, which the page then says."""
    with controls.shown_errors():
        where = slide_dir()
        found = {one.name: one for one in cohort_folder.cohorts_in(where)} if where else {}
        if found:
            name = st.selectbox("Cohort", list(found), key="cohort", persist_state="session", filter_mode=None)
            return found[name]
        st.info(
            "There is no cohort in the server's folder yet. Whoever runs the server makes one of a list of slides with "
            "`python -m nsl cohort slides.csv --out` and a folder there.",
            icon=":material/folder_open:",
        )
    return None


def read(cohort: CohortFolder) -> tuple[pd.DataFrame, anndata.AnnData | None]:
    """What became of each slide, and slides × genes; None for these where no slide has a result yet."""
    status = cohort_folder.read_status(cohort)
    try:
        path = cohort.file(cohort_folder.COHORT)
    except NslError:
        return status, None
    return status, _read(cohort, path.stat().st_mtime_ns)


@st.cache_data(max_entries=2, scope="session", show_spinner="Reading the cohort")
def _read(cohort: CohortFolder, changed: int) -> anndata.AnnData:
    return cohort_folder.read_cohort(cohort)


def show_status(status: pd.DataFrame, slides: anndata.AnnData | None) -> None:
    """How many slides are done; opened, each of them in a table."""
    counts = status.status.value_counts()
    done = int(counts.get("done", 0) + counts.get("skipped", 0))
    told = [f"{done:,} of {count_of(len(status), 'slide')} {'has' if done == 1 else 'have'} a result"]
    told += [f"{counts[word]:,} {word}" for word in ("failed", "not run") if word in counts]
    tissue = slides.obs.tissue_mm2 if slides is not None else pd.Series(dtype=float)
    table = status.assign(tissue_mm2=tissue.reindex(status.index)).reset_index()
    table["status"] = table.status.replace({"skipped": "done"})
    with st.expander(f"{', '.join(told)}.", expanded=done < len(status)):
        controls.show_table(table[list(_COLUMNS)], _COLUMNS, height="auto", alt="The slides of the cohort")
        downloads.button("Download the table (CSV)", lambda: csv_table(table, index=False), "cohort_slides.csv")
