"""A result on one or two sheets of A4 for the meeting: one HTML file that needs nothing beside it."""

import base64
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anndata
import jinja2
import numpy as np
import pandas as pd

from nsl.errors import NslError
from nsl.export.print import PURPOSE, date_in_words, overview_png, panel_png, slide_in_words, weights_in_words
from nsl.figures.maps import percentile_limits
from nsl.figures.regions import color_of
from nsl.genes import common_name
from nsl.numerals import count_of, signed, some_of
from nsl.result import (
    Provenance,
    SlidePicture,
    caveats,
    left_out,
    map_of,
    require_genes,
    stain_warning,
    transfer_in_words,
    values_of,
)
from nsl.signatures import PREFIX, as_columns, is_signature, signatures_of, unit_of
from nsl.slides.annotations.region import Region
from nsl.slides.annotations.tiles import classes_of
from nsl.stats.correlation import SAME_R
from nsl.stats.pearson import pearson_matrix
from nsl.stats.regions import ANNOTATION_CAVEAT, compare_classes
from nsl.weights.reliability import (
    UNRELIABLE,
    UNTESTED,
    Trust,
    has_held_up,
    held_out_in_words,
    most_reliable_first,
    trust_in_map,
    why_unreliable,
)
from nsl.weights.weights import Weights

MOST_MAPS = 4
"""Of a report: more would not fit on two pages."""
_MOST_SIGNATURES = 2
# So many of the most reliable are looked through for maps that differ.
_LOOKED_AT = 200
# How high maps are, and how high where the page begins with more warnings than so many.
_MAP_MM, _LOW_MAP_MM, _FEW_WARNINGS = 70, 56, 3
# Of a table that leaves room for the rest on its page.
_MOST_CLASSES = 8
_MEMBERS = 6
_TEMPLATE = Path(__file__).with_name("report.html")


class SlideFacts(Protocol):
    """What a file says of its slide and a result does not: an open `Slide` has it."""

    size: tuple[int, int]
    format: str
    scanner: str | None
    objective_power: float | None
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """How far a map can be trusted."""

    tier: Trust
    figures: str


def report_html(
    result: anndata.AnnData,
    name: str,
    *,
    genes: Sequence[str] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    palette: str = "Viridis",
    opacity: float = 0.7,
    slide: SlideFacts | None = None,
    weights: Weights | None = None,
    regions: Sequence[Region] = (),
    made_on: datetime.date | None = None,
) -> str:
    """Lay out the slide, some maps with their verdicts, and the regions of a result as HTML that prints on A4.

    The file holds its pictures and loads nothing. Text from files and weights stands in it letter by letter.

    name : of the slide, as its user knows it.
    genes : at most four genes or signatures to map; of `genes_for_report` if not given.
    limits : the ends of colour scales by gene; others run from the 2nd to the 98th percentile of their tiles.
    slide, weights : say more of both than the result does.
    regions : to outline; how their classes differ is told where `obs["region_class"]` has them.
    made_on : the date on the page; today if not given.

    Raises NslError: no gene or more than four, a gene that the result does not hold, or what `map_png` refuses.
    """
    result = as_columns(result)
    genes = genes_for_report(result) if genes is None else require_genes(result, genes)
    if not 0 < len(genes) <= MOST_MAPS:
        raise NslError(f"a report has one to {MOST_MAPS} maps, and {len(genes)} are asked for; choose some of them")
    known, warnings = Provenance.of(result), _warnings(result, slide)
    most_mm = _MAP_MM if len(warnings) <= _FEW_WARNINGS else _LOW_MAP_MM
    drawn = {"palette": palette, "opacity": opacity, "most_mm": most_mm, "regions": regions}
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        name=name,
        purpose=PURPOSE,
        date=date_in_words(made_on),
        version=known.version,
        warnings=warnings,
        overview=_data_uri(overview_png(result, regions=regions)),
        facts=_facts(result, slide, weights),
        maps=[_map(result, gene, (limits or {}).get(gene), drawn) for gene in genes],
        left_out=known.heldout_left_out,
        groups=known.heldout_groups,
        regions=_compared_regions(result, genes, regions),
    )


def genes_for_report(result: anndata.AnnData, first: Sequence[str] = ()) -> list[str]:
    """Up to four genes or signatures: those of `first`, then the most reliable whose maps differ on this slide.

    Signatures that cannot be judged go first, as the user brought them; then two signatures at most, then genes. All of
    a result that holds no more than four.
    """
    result = as_columns(result)
    chosen = list(dict.fromkeys(first))[:MOST_MAPS]
    if result.n_vars <= MOST_MAPS:
        return list(dict.fromkeys([*chosen, *result.var_names]))
    table = result.var.assign(is_set=result.var_names.str.startswith(PREFIX))
    table["is_own"] = table.is_set & table.r_heldout.isna()
    worthy = has_held_up(table) | table.is_own
    ranked = most_reliable_first(table[worthy | ~worthy.any()]).sort_values("is_own", ascending=False, kind="stable")
    for is_set, most in ((True, _MOST_SIGNATURES), (False, MOST_MAPS)):
        for gene in ranked.index[ranked.is_set == is_set][:_LOOKED_AT]:
            of_kind = sum(is_signature(one) == is_set for one in chosen)
            if len(chosen) < MOST_MAPS and of_kind < most and _is_another(result, gene, chosen):
                chosen.append(gene)
    return chosen or list(ranked.index[:1])


def _is_another(result: anndata.AnnData, gene: str, chosen: list[str]) -> bool:
    """Whether a gene's map varies, and looks like none of those chosen."""
    maps = values_of(result, [gene, *chosen])
    own, *alike = np.abs(pearson_matrix(maps[:, :1], maps)[0])
    # A map that is the same everywhere has no r.
    return not np.isnan(own) and not any(r >= SAME_R for r in alike)


def _warnings(result: anndata.AnnData, slide: SlideFacts | None) -> list[str]:
    stains = stain_warning(result)
    said = [f"{stains} Predictions may mislead."] if stains else []
    if Provenance.of(result).white_point_source != "background":
        said.append("No empty background was found on this slide, so pure white was taken for it.")
    return [*said, *caveats(result), *(f"{notice.removesuffix('.')}." for notice in (slide.notices if slide else ()))]


def _facts(result: anndata.AnnData, slide: SlideFacts | None, weights: Weights | None) -> dict[str, str]:
    """Of the slide, of how it was predicted, and of the weights: what is told by what it is called."""
    known, picture = Provenance.of(result), SlidePicture.of(result)
    width, height = slide.size if slide else (round(side / picture.scale) for side in picture.rgb.shape[1::-1])
    mm = " × ".join(f"{side * known.mpp / 1000:.2f}" for side in (width, height))
    facts = {
        "Size": f"{mm} mm, {width:,} × {height:,} px",
        "Scale": f"{known.mpp:.4g} µm/px, read at {known.analysis_mpp:.4g} µm/px",
    }
    if slide:
        power = f", {slide.objective_power:g}×" if slide.objective_power else ""
        facts["File"] = f"{slide.format}{f', {slide.scanner}' if slide.scanner else ''}{power}"
    step = "side by side" if known.stride_um == known.tile_um else f"every {known.stride_um:g} µm"
    facts["Predicted"] = f"{count_of(result.n_obs, 'tile')} of {known.tile_um:g} µm, {step}"
    others = left_out(result)
    facts["Left out"] = f"tiles with less than {100 * known.min_tissue:.0f} % tissue{f'; {others}' if others else ''}"
    facts["Stains"] = transfer_in_words(result)
    facts["Checksum"] = slide_in_words(known, None)
    facts["Weights"] = weights_in_words(known)
    if weights:
        data = weights.config.training_data
        patients = count_of(data.patients, "patient")
        facts["Learned on"] = (
            f"{data.tissue or 'tissue that is not stated'}: {count_of(data.spots, 'spot')} of {patients}"
        )
    return facts


def _map(
    result: anndata.AnnData, gene: str, ends: tuple[float, float] | None, drawn: Mapping[str, Any]
) -> dict[str, Any]:
    ends = ends or percentile_limits(map_of(result, gene))
    return {
        "title": _title(gene),
        "about": _about(result, gene),
        "verdict": verdict(result, gene),
        "picture": _data_uri(panel_png(result, gene, limits=ends, **drawn)),
        "told": f"{gene} over the tissue, from {signed(ends[0])} to {signed(ends[1])} {unit_of(gene)}",
    }


def _title(gene: str) -> str:
    if is_signature(gene):
        return f"Signature {gene.removeprefix(PREFIX)}"
    return f"{gene} ({known})" if (known := common_name(gene)) else gene


def _about(result: anndata.AnnData, gene: str) -> str:
    """Of what genes a signature is."""
    if not is_signature(gene):
        return ""
    members = signatures_of(result)[gene].members
    return f"Of {len(members):,} genes: {some_of(members, _MEMBERS)}."


def verdict(result: anndata.AnnData, gene: str) -> Verdict:
    """How far the map of a gene or signature can be trusted: how it was predicted where it was held out."""
    row, known = result.var.loc[gene], Provenance.of(result)
    if pd.isna(row.r_heldout):
        return Verdict(UNTESTED, "nothing is known of how well it is predicted.")
    figures = held_out_in_words(row, known.heldout_left_out, known.heldout_groups)
    tier = trust_in_map(result, gene)
    because = f" {why_unreliable(row)}" if tier == UNRELIABLE else ""
    return Verdict(tier, f"{figures}.{because}")


def _compared_regions(
    result: anndata.AnnData, genes: Sequence[str], regions: Sequence[Region]
) -> dict[str, Any] | None:
    """How the classes of regions, or the regions where none has a class, differ from all other tiles."""
    if "region_class" not in result.obs:
        return None
    groups = classes_of(result)
    tiles = pd.Series(groups[groups != ""]).value_counts()
    colors = {name: color_of(one) for one in regions for name in (one.name, one.class_name) if name}
    # A region too small for a tile is outlined too, and wants its name.
    classes = [one.class_name for one in regions if one.class_name]
    has_classes = bool(classes) or (result.obs.region_class != "").any()
    named = classes or [one.name for one in regions]
    tiles = tiles.reindex(dict.fromkeys([*tiles.index, *named]), fill_value=0)
    try:
        # Of all genes: q-values are over as many as were compared.
        compared, why_not = compare_classes(result, groups), ""
    except NslError as error:
        compared, why_not = pd.DataFrame(), f"They cannot be compared: {error}."
    rows = [
        {
            "name": name,
            "color": colors.get(name),
            "tiles": f"{number:,}",
            "cells": [_effect(compared.loc[name, gene]) if (name, gene) in compared.index else None for gene in genes],
        }
        for name, number in tiles.items()
    ]
    return {
        "why_not": why_not,
        "kind": "Class" if has_classes else "Region",
        "genes": [_title(gene) for gene in genes],
        "rows": rows[:_MOST_CLASSES],
        "more": len(rows[_MOST_CLASSES:]),
        "tested": result.n_vars,
        "caveat": ANNOTATION_CAVEAT,
    }


def _effect(row: pd.Series) -> dict[str, str] | None:
    if pd.isna(row.effect_size):
        return None
    if pd.isna(row.q_value):
        return {"size": signed(row.effect_size, plus=True), "interval": "", "q": "too little tissue for a q"}
    interval = f"{signed(row.effect_low)} to {signed(row.effect_high)}"
    q = "q < 0.001" if row.q_value < 0.001 else f"q {row.q_value:.2g}"
    return {"size": signed(row.effect_size, plus=True), "interval": interval, "q": q}


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
