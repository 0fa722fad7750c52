"""Tables over all slides of a run: what became of each, and their genes and signatures.

They are made of the slides' summaries, one at a time: what is held grows by one number a slide and gene.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd

from nsl.cohort.layout import (
    COHORT,
    COHORT_ROWS,
    DONE,
    SHARE,
    SKIPPED,
    SLIDES,
    SPREAD,
    STAIN_COLUMNS,
    STATUS,
    STATUS_COLUMNS,
    STRENGTH_COLUMNS,
    SUMMARY,
)
from nsl.cohort.slide_run import SlideOutcome
from nsl.cohort.summary import SlideSummary
from nsl.numerals import csv_cell
from nsl.signatures import PREFIX, Signature, is_signature
from nsl.system.disk import write_whole

if TYPE_CHECKING:
    import pyarrow

    from nsl.weights.weights import Weights


def write_status(outcomes: Sequence[SlideOutcome], folder: Path) -> None:
    """Write `status.csv`, one row a slide; NslError where it cannot be written."""

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(STATUS_COLUMNS)
            rows.writerows(map(csv_cell, _status_row(one)) for one in outcomes)

    write_whole({folder / STATUS: write})


def _status_row(one: SlideOutcome) -> tuple:
    slide, done = one.slide, one.record
    told = (slide.listed, slide.name, slide.group, slide.patient, one.status, one.reason)
    if done is None:
        return (*told, f"{one.seconds:.2f}", 0, "", "")
    warnings = " ".join(text if text.endswith(".") else f"{text}." for text in done.warnings)
    return (*told, f"{one.seconds:.2f}", done.tiles, done.stain_transfer, warnings)


def write_cohort(
    outcomes: Sequence[SlideOutcome], weights: Weights, signatures: Sequence[Signature], folder: Path
) -> None:
    """Write `cohort.parquet` and `cohort.h5ad` of the slides that have a result.

    Where there is none, tables of an earlier run go: they are of other slides or settings.

    `cohort.parquet` has a row a slide, region and gene or signature (`signature:NAME`); region is empty for the whole
    slide. `share_above_median` is the share of its tiles above the cohort's median: the median over slides of the
    median over a slide's tiles, so that a large slide counts no more than a small one. `cohort.h5ad` has an
    observation a slide: X is the mean over its tiles, layers `spread` (sd over tiles) and `share_above_median`, and
    signatures likewise in `obsm["signatures"]`, `obsm["signatures_spread"]` and
    `obsm["signatures_share_above_median"]`. `var` has each gene's reliability, `cohort_median`, and `scale_low` and
    `scale_high`, the lowest 2nd and the highest 98th percentile of a slide: a colour scale that holds for all.

    Raises NslError: a summary cannot be read, or a table cannot be written.
    """
    of_run = [one for one in outcomes if one.status in (DONE, SKIPPED)]
    if not of_run:
        for name in (COHORT_ROWS, COHORT):
            (folder / name).unlink(missing_ok=True)
        return
    medians, low, high = [], np.inf, -np.inf
    for one in of_run:
        summary = _summary(one, folder)
        medians.append(summary.percentile(50))
        low, high = np.minimum(low, summary.percentile(2)), np.maximum(high, summary.percentile(98))
    columns, thresholds = summary.columns, np.median(medians, axis=0)
    of_genes = pd.DataFrame({"cohort_median": thresholds, "scale_low": low, "scale_high": high}, columns)
    tables = {name: np.empty((len(of_run), len(columns)), np.float32) for name in ("mean", SPREAD, SHARE)}
    obs = []

    def write_rows(part: Path) -> None:
        from pyarrow.parquet import ParquetWriter

        with ParquetWriter(part, _schema()) as rows:
            for number, one in enumerate(of_run):
                summary = _summary(one, folder)
                shares = summary.share_above(thresholds).astype(np.float32)
                rows.write_table(_rows(one, summary, shares))
                for table, values in zip(tables.values(), (summary.mean, summary.sd, shares), strict=True):
                    table[number] = values[0]
                obs.append(_observation(one, summary))

    write_whole({folder / COHORT_ROWS: write_rows})
    cohort = _as_anndata(obs, tables, of_genes, weights, signatures)
    write_whole({folder / COHORT: lambda part: cohort.write_h5ad(part)})


def _summary(one: SlideOutcome, folder: Path) -> SlideSummary:
    return SlideSummary.read(folder / SLIDES / f"{one.slide.name}.{SUMMARY}")


def _observation(one: SlideOutcome, summary: SlideSummary) -> dict:
    return {
        "name": one.slide.name,
        "slide": one.slide.listed,
        "group": one.slide.group,
        "patient": one.slide.patient,
        "tiles": int(summary.tiles[0]),
        "tissue_mm2": float(summary.tissue_mm2[0]),
        **dict(zip(STAIN_COLUMNS, summary.stain_vectors.ravel().tolist(), strict=True)),
        **dict(zip(STRENGTH_COLUMNS, summary.stain_strengths.tolist(), strict=True)),
        "stain_residual": float(summary.residual),
    }


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    text, number = pa.dictionary(pa.int32(), pa.string()), pa.float32()
    return pa.schema(
        [
            *((name, text) for name in ("slide", "group", "patient", "region", "gene")),
            *((name, number) for name in ("mean", SPREAD, SHARE)),
            ("tiles", pa.int32()),
            *((name, number) for name in ("tissue_mm2", *STAIN_COLUMNS)),
        ]
    )


def _rows(one: SlideOutcome, summary: SlideSummary, shares: np.ndarray) -> pyarrow.Table:
    import pyarrow as pa

    regions, columns = summary.mean.shape
    vectors = summary.stain_vectors.ravel()
    of_rows = {
        "slide": np.full(regions * columns, one.slide.name),
        "group": np.full(regions * columns, one.slide.group),
        "patient": np.full(regions * columns, one.slide.patient),
        "region": np.repeat(summary.regions, columns),
        "gene": np.tile(summary.columns, regions),
        "mean": summary.mean.ravel(),
        SPREAD: summary.sd.ravel(),
        SHARE: shares.ravel(),
        "tiles": np.repeat(summary.tiles, columns),
        "tissue_mm2": np.repeat(summary.tissue_mm2, columns),
        **{name: np.full(regions * columns, value) for name, value in zip(STAIN_COLUMNS, vectors, strict=True)},
    }
    # Text goes through plain text: an array of numpy's is none that a dictionary is made of.
    arrays = [
        pa.array(of_rows[field.name]).cast(pa.string()).dictionary_encode()
        if pa.types.is_dictionary(field.type)
        else pa.array(of_rows[field.name]).cast(field.type, safe=False)
        for field in _schema()
    ]
    return pa.Table.from_arrays(arrays, schema=_schema())


def _as_anndata(
    obs: list[dict],
    tables: dict[str, np.ndarray],
    of_genes: pd.DataFrame,
    weights: Weights,
    signatures: Sequence[Signature],
) -> anndata.AnnData:
    is_set = np.array([is_signature(name) for name in of_genes.index])
    var = weights.reliability_of(of_genes.index[~is_set])
    observations = pd.DataFrame(obs).set_index("name")
    cohort = anndata.AnnData(
        X=tables["mean"][:, ~is_set],
        obs=observations,
        var=var.join(of_genes),
        layers={name: tables[name][:, ~is_set] for name in (SPREAD, SHARE)},
        uns={"nsl": {"weights_id": weights.name, "weights_sha256": weights.sha256}},
    )
    if is_set.any():
        names = of_genes.index[is_set].str.removeprefix(PREFIX)
        sets = weights.match_signatures(signatures).loc[names]
        cohort.uns["nsl"]["signatures"] = sets.join(of_genes[is_set].set_axis(names))
        for key, values in tables.items():
            place = "signatures" if key == "mean" else f"signatures_{key}"
            cohort.obsm[place] = pd.DataFrame(values[:, is_set], index=observations.index, columns=names)
    return cohort
