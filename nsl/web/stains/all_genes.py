"""The part of the Stains page on all genes: their stain vectors as a plot, as a table, and as QuPath takes them."""

import pandas as pd
import streamlit as st

from nsl.export.files import file_part
from nsl.figures.angles import angle_plot
from nsl.numerals import count_of, six_digits
from nsl.web import chart, controls, downloads, gene_choice
from nsl.web.stains.gene_stains import View, degrees
from nsl.weights.interpretation import qupath_stains, vectors_of
from nsl.weights.reliability import most_reliable_first


def show_all(view: View, gene: str) -> None:
    """Every gene by where its stains turned to; a click chooses one."""
    key = f"angles of {view.learned.fingerprint}"
    chart.show(
        angle_plot(view.table, gene),
        key=key,
        alt=f"Every gene by the angles of its two stain vectors to the published ones, coloured by held-out r; {gene} "
        f"lies at {degrees(view.table.h_angle_to_hed_degrees[gene])} and "
        f"{degrees(view.table.e_angle_to_hed_degrees[gene])}",
        file_name=f"{file_part(view.weights.name)}_stain_angles",
        on_click=lambda: _choose_clicked(key, view.table),
    )
    st.caption("Click a point to choose its gene; the wheel zooms. Angles are from where the fit starts.")


def _choose_clicked(key: str, table: pd.DataFrame) -> None:
    place = chart.clicked_place(key)
    if place:
        away = (table.h_angle_to_hed_degrees - place[0]) ** 2 + (table.e_angle_to_hed_degrees - place[1]) ** 2
        gene_choice.look_at(str(away.idxmin()))


def show_table(view: View) -> None:
    """Every vector, to search and to take along."""
    table = most_reliable_first(view.table)
    if view.slide is None:
        table = table.drop(columns=["h_angle_to_slide_degrees", "e_angle_to_slide_degrees"])
    first = ["r_heldout", "trust"]
    order = [*first, *table.columns.drop(first)]
    shown = table.assign(trust=gene_choice.signed_tiers(table.trust))
    look = {"height": 380, "hide_index": False, "column_order": order}
    controls.show_table(shown, _columns(), key="vector_table", alt="The stain vectors of all genes", **look)
    with st.container(horizontal=True, vertical_alignment="center"):
        stem = file_part(view.weights.name) if view.slide is None else controls.file_stem(view.slide)
        downloads.button("Download all vectors (CSV)", lambda: six_digits(table), f"{stem}_stain_vectors.csv")
        st.caption(
            f"{count_of(len(table), 'gene')}, the most reliable first. Search with the lens above the table.",
            width="stretch",
        )


def _columns() -> dict:
    number, check = st.column_config.NumberColumn, st.column_config.CheckboxColumn
    columns = {"gene": st.column_config.TextColumn("Gene", pinned=True)}
    for stain, letter in zip("he", "HE", strict=True):
        columns |= {f"{stain}_od_{c}": number(f"{letter} {c.upper()}", format="%.3f") for c in "rgb"}
        for name, of in (("hed", "published"), ("training", "training"), ("slide", "this slide")):
            columns[f"{stain}_angle_to_{name}_degrees"] = number(f"{letter} to {of}, °", format="%.1f")
        columns |= {
            f"{stain}_effect": number(f"{letter} effect w", format="%.3f"),
            f"{stain}_offset": number(f"{letter} offset o", format="%.3f"),
            f"{stain}_effect_per_od": number(f"{letter} effect per OD", format="%.2f"),
            f"{stain}_onset_od": number(f"{letter} onset, OD", format="%.2f"),
            f"{stain}_negative": check(f"{letter} negative", help="The vector has a component below 0"),
        }
    columns |= {
        "intercept": number("Intercept b", format="%.3f"),
        "r_heldout": number("Held-out r", format="%.2f"),
        "r_low": number("r, low", format="%.2f", help="Lower end of the 95 % interval"),
        "r_high": number("r, high", format="%.2f", help="Upper end of the 95 % interval"),
        "q_value": number("q", format="%.2g", help="False discovery rate"),
        "trust": st.column_config.TextColumn("Trust"),
    }
    return columns


def offer_qupath(view: View, gene: str) -> None:
    """The lines that set stains in QuPath."""
    st.markdown(
        "Open the slide as *Brightfield (H&E)*, choose **Automate → Script editor**, paste a line and run it: QuPath "
        "then separates the stains by these vectors."
    )
    st.caption(f"THE STAINS LEARNED FOR {controls.escaped(gene)}")
    with controls.shown_errors():
        line = qupath_stains(gene, vectors_of(view.table.loc[gene]), view.white_point)
        st.code(line, language="groovy", wrap_lines=True)
    if view.slide is None:
        st.caption("The background is paper white, 255; with a predicted slide it is that slide's own.")
    else:
        st.caption("THIS SLIDE'S OWN STAINS, AS ESTIMATED")
        with controls.shown_errors():
            st.code(
                qupath_stains("Estimated on the slide", view.slide_vectors, view.white_point),
                language="groovy",
                wrap_lines=True,
            )
    st.caption(
        "QuPath counts optical density to base 10, so its amounts are smaller by a factor of 2.30; its third stain is "
        "its own, so they come near to the model's concentrations and are not the same."
    )
