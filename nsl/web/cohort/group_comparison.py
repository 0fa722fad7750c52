"""Groups of slides against each other, and one gene in all of them."""

import anndata
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from nsl.cohort import folder as cohort_folder
from nsl.cohort.folder import CohortFolder
from nsl.cohort.layout import COHORT
from nsl.cohort.summary import WHOLE
from nsl.figures.regions import LEAST_BOXED, class_boxes
from nsl.numerals import count_of, six_digits
from nsl.signatures import unit_of
from nsl.stats.groups import GROUP_CAVEAT, LEAST_SLIDES, compare_groups, observations
from nsl.web import chart, controls, downloads, gene_choice
from nsl.weights.reliability import has_held_up

# No group has it for a name.
_REST, _REST_TOLD = "", "all other slides"
_FIGURES = {"format": "%.2f"}
_COLUMNS = {
    "gene": st.column_config.TextColumn("Gene or signature"),
    "trust": st.column_config.TextColumn("Trust"),
    "mean_inside": None,  # called after the group
    "mean_outside": None,
    "effect_size": st.column_config.NumberColumn(
        "Effect", help="The difference in standard deviations between slides (Cohen's d)", **_FIGURES
    ),
    "effect_low": st.column_config.NumberColumn("from", help="Lower end of the effect's 95 % interval", **_FIGURES),
    "effect_high": st.column_config.NumberColumn("to", help="Upper end of the effect's 95 % interval", **_FIGURES),
    "q_value": st.column_config.NumberColumn(
        "q", format="%.2g", help="The share of false findings to expect among genes with a q as small as this"
    ),
    "r_heldout": st.column_config.NumberColumn("Held-out r", **_FIGURES),
}


def show(cohort: CohortFolder, slides: anndata.AnnData, gene: str) -> None:
    """The table of differences between two groups, and the chosen gene in every group: all over the slides, or inside
    annotated regions of one class."""
    with controls.part("Groups compared"):
        row = st.container(horizontal=True, vertical_alignment="bottom")
        with row:
            region = _choose_class(cohort, slides)
        if region != WHOLE:
            slides = _read_class(cohort, slides, region, _changed(cohort))
        _compare(cohort, slides, gene, region, row)


def _compare(cohort: CohortFolder, slides: anndata.AnnData, gene: str, region: str, row: DeltaGenerator) -> None:
    groups, observed = slides.obs["group"].astype(str), observations(slides)
    counts = observed[groups != ""].groupby(groups[groups != ""]).nunique()
    names = [one for one in counts.index[counts >= LEAST_SLIDES] if observed[groups != one].nunique() >= LEAST_SLIDES]
    if not names:
        of_class = f" that have tiles of {controls.escaped(region)}" if region != WHOLE else ""
        st.info(
            f"Groups of at least {LEAST_SLIDES} slides or patients{of_class} can be compared. Name the group of each "
            "slide in the column `group` of the list, and run the cohort again: no slide is predicted twice.",
            icon=":material/groups:",
        )
        return
    with row:
        one = controls.choose_name("Compare", names, "cohort_group")
        others = [_REST, *(name for name in names if name != one)]
        other = controls.choose_name("With", others, "cohort_against", _REST_TOLD)
        gene_choice.offer_unreliable(slides.var)
    with controls.shown_errors():
        _show_table(cohort, slides, groups, one, other)
    where = f" inside {region}" if region != WHOLE else ""
    chart.show(
        class_boxes(slides, gene, groups.to_numpy(), {}, "no group"),
        key=f"boxes of {cohort.name}",
        alt=f"{gene} in {len(counts)} groups of slides, the mean of each slide{where}, {unit_of(gene)}",
        file_name="cohort_groups",
    )
    st.caption(
        f"Dots are the means of slides; of {LEAST_BOXED} or more there is a box: from the lower to the upper quartile, "
        "the line inside is the median. After each name stands how many slides it has."
    )


def _choose_class(cohort: CohortFolder, slides: anndata.AnnData) -> str:
    """A class of annotated regions, or WHOLE; the choice is there where the list of slides names regions."""
    with controls.shown_errors():
        classes = _read_classes(cohort, slides, _changed(cohort))
        if classes:
            options = {WHOLE: "the whole slide"} | {name: f"{name} · {count:,}" for name, count in classes.items()}
            if st.session_state.get("cohort_class") not in options:
                st.session_state.cohort_class = WHOLE
            return st.selectbox(
                "Tiles of",
                list(options),
                key="cohort_class",
                persist_state="session",
                filter_mode=None,
                format_func=lambda name: controls.begun(options[name]) if name == WHOLE else options[name],
                width=controls.CONTROL_PX,
                help="Regions that were annotated in QuPath, which the column `regions` of the list of slides names. "
                "After each class stands how many slides have tiles of it.",
            )
    return WHOLE


def _changed(cohort: CohortFolder) -> int:
    return cohort.file(COHORT).stat().st_mtime_ns


@st.cache_data(max_entries=2, scope="session", show_spinner="Reading the regions")
def _read_classes(cohort: CohortFolder, _slides: anndata.AnnData, changed: int) -> dict[str, int]:
    return cohort_folder.region_classes(cohort, _slides)


@st.cache_data(max_entries=1, scope="session", show_spinner="Reading the regions")
def _read_class(cohort: CohortFolder, _slides: anndata.AnnData, region: str, changed: int) -> anndata.AnnData:
    return cohort_folder.in_class(cohort, _slides, region)


def _show_table(cohort: CohortFolder, slides: anndata.AnnData, groups: pd.Series, one: str, other: str) -> None:
    inside = (groups == one).to_numpy()
    among = (inside | (groups == other)).to_numpy() if other != _REST else inside | True
    outside = among & ~inside
    table = compare_groups(slides[among], inside[among])
    shown = table[gene_choice.are_shown(has_held_up(slides.var.loc[table.index]))]
    kind = "reliable and weak " if len(shown) < len(table) else ""
    st.caption(
        f"{inside.sum():,} slides{_of_patients(slides[inside])} of {controls.escaped(one)}, "
        f"{outside.sum():,}{_of_patients(slides[outside])} of {controls.escaped(other or _REST_TOLD)}. "
        f"{len(shown):,} {kind}genes and signatures, the largest effect first."
    )
    shown = shown.reset_index().reindex(columns=list(_COLUMNS))
    shown["gene"], shown["trust"] = controls.in_table(shown.gene), gene_choice.signed_tiers(shown.trust)
    means = {
        f"mean_{side}": st.column_config.NumberColumn(f"Mean, {name or _REST_TOLD}", **_FIGURES)
        for side, name in (("inside", one), ("outside", other))
    }
    controls.show_table(
        shown,
        _COLUMNS | means,
        height=280,
        key=f"groups of {cohort.name}",
        alt="Genes and signatures by how the groups differ",
    )
    st.caption(GROUP_CAVEAT)
    sides = {"group": one, "compared_with": other or _REST_TOLD}
    numbers = {
        "slides": inside.sum(),
        "slides_compared_with": outside.sum(),
        "observations": observations(slides[inside]).nunique(),
        "observations_compared_with": observations(slides[outside]).nunique(),
    }
    file = pd.DataFrame(sides | numbers, index=table.index).join(table)
    downloads.button("Download the comparison (CSV)", lambda: six_digits(file), "cohort_groups.csv")


def _of_patients(slides: anndata.AnnData) -> str:
    """Of how many patients they are, where some have several."""
    observed = observations(slides)
    return "" if observed.is_unique else f" ({count_of(observed.nunique(), 'patient')})"
