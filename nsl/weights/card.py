"""The model card of a weights folder: its README.md, with the front matter the Hugging Face Hub reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nsl.numerals import count_of
from nsl.signatures import split_members
from nsl.stain_transfer import SCATTER_DEGREES
from nsl.stains import STAIN_NAMES
from nsl.weights.config import FitRecord, TrainingStains
from nsl.weights.reliability import LEAST_PATIENTS, RELIABLE, USEFUL_R, WEAK, has_held_up, trust_in
from nsl.weights.weights import Weights

CARD = "README.md"
_UNKNOWN = "not stated"


def model_card(weights: Weights) -> str:
    """What the weights are, what they were trained on, how far each gene can be trusted, and their limits."""
    config, data = weights.config, weights.config.training_data
    return _CARD.format(
        config=config,
        data=data,
        protocol=config.reliability,
        left_out=config.reliability.left_out,
        units=config.units,
        genes_count=len(weights.genes),
        per_gene=weights.model.trainable_per_gene,
        tissue=data.tissue or _UNKNOWN,
        patients=count_of(data.patients, "patient"),
        section_names=", ".join(data.sections) or f"({_UNKNOWN})",
        genes_rule=data.genes_rule or _UNKNOWN,
        source=data.source or _UNKNOWN,
        licence=data.licence or _UNKNOWN,
        failed_checks=_failed_checks(data.failed_checks),
        stain_rows=_stain_rows(config.stains),
        transfer=_transfer(config.stains),
        how_made=_how_made(config.fit),
        front_results=_front_results(weights),
        **_reliability_words(weights),
        signatures=_signatures_section(weights),
        evaluation=_evaluation_section(config.evaluation),
    )


def _failed_checks(failed: Sequence[str]) -> str:
    """What was found before the fit, which went on all the same; nothing where nothing was."""
    rows = "\n".join(f"- {sentence}" for sentence in failed)
    return (
        f"\n**These checks of the data failed, and the weights were fitted all the same:**\n\n{rows}\n" if rows else ""
    )


def _transfer(stains: TrainingStains) -> str:
    if stains.target_vectors is None:
        return (
            "Slides were learned from as scanned. `predict` brings a slide's own stain vectors to these means; how "
            "strongly the training slides were stained is not known."
        )
    rows = zip(STAIN_NAMES, stains.target_vectors, stains.target_strengths, strict=True)
    known = "; ".join(f"{stain} {' '.join(f'{od:.3f}' for od in one)}, {by:.2f} OD" for stain, one, by in rows)
    return (
        "Before it was learned from, every slide was brought to the same stains, and so is a slide that is predicted "
        f"(`nsl.stain_transfer`): {known}, the OD being the 99th percentile in stained pixels. A colour within "
        f"{SCATTER_DEGREES[0]:.0f}° of this hematoxylin or {SCATTER_DEGREES[1]:.0f}° of this eosin counts as the same, "
        "as slides of one laboratory differ so much by their tissue. Where a slide's stains cannot be told, or are "
        "hardly hematoxylin and eosin, `predict` says so."
    )


def _stain_rows(stains: TrainingStains) -> str:
    rows = zip(STAIN_NAMES, stains.reference, stains.spread_degrees, strict=True)
    return "\n".join(
        f"| {stain} | {' '.join(f'{od:.3f}' for od in vector)} | {spread:.1f}° |" for stain, vector, spread in rows
    )


def _how_made(fit: FitRecord | None) -> str:
    if fit is None:
        return f"How the weights were fitted is {_UNKNOWN}."
    patterns = f"the {fit.patterns} strongest patterns of each section's expression"
    learned_from = patterns if fit.patterns else "each gene as measured"
    command, version = fit.command or _UNKNOWN, fit.nsl_version or f"version {_UNKNOWN}"
    return _FIT.format(fit=fit, command=command, learned_from=learned_from, version=version)


def _reliability_words(weights: Weights) -> dict[str, Any]:
    table, protocol = weights.reliability, weights.config.reliability
    best = table.sort_values("r_heldout", ascending=False).head(10)
    tiers = trust_in(table, protocol.left_out, protocol.groups)
    return {
        "median_r": table.r_heldout.median(),
        "useful_genes": int((table.r_heldout > USEFUL_R).sum()),
        "useful_r": USEFUL_R,
        "significant_genes": int(has_held_up(table).sum()),
        "reliable": int((tiers == RELIABLE).sum()),
        "weak": int((tiers == WEAK).sum()),
        "least": LEAST_PATIENTS,
        "everywhere": int((table.patients_replicated == protocol.groups).sum()),
        "best_rows": "\n".join(
            f"| {gene} | {row.r_heldout:.2f} | {row.r_low:.2f} to {row.r_high:.2f} | {_next(row)} | {row.q_value:.1g} "
            f"| {row.patients_replicated:.0f} of {protocol.groups} | {tiers[gene].told} |"
            for gene, row in best.iterrows()
        ),
    }


def _next(row: Any) -> str:
    """Within which r the next group is to be expected."""
    return f"{row.r_next_low:.2f} to {row.r_next_high:.2f}" if row.r_next_low == row.r_next_low else _UNKNOWN


def _signatures_section(weights: Weights) -> str:
    table, protocol = weights.signatures.sort_values("r_heldout", ascending=False), weights.config.reliability
    if table.empty:
        return ""
    tiers = trust_in(table, protocol.left_out, protocol.groups)
    rows = [
        f"| {name} | {len(split_members(row.members))} | {row.r_heldout:.2f} | {_next(row)} | {row.q_value:.1g} "
        f"| {row.r_groups} | {f'{row.r_specific:.2f}' if row.r_specific == row.r_specific else _UNKNOWN} "
        f"| {tiers[name].told} |"
        for name, row in table.iterrows()
    ]
    return _SIGNATURES.format(left_out=protocol.left_out, rows="\n".join(rows)) + "\n"


def _front_results(weights: Weights) -> str:
    """The model-index of the front matter, as JSON, which is YAML too."""
    table, config = weights.reliability, weights.config
    metrics = (
        ("pearson_r", "median held-out Pearson r over genes", table.r_heldout.median()),
        ("count", f"genes with held-out r above {USEFUL_R}", (table.r_heldout > USEFUL_R).sum()),
    )
    dataset = (
        f"{config.training_data.source or f'source {_UNKNOWN}'}; every {config.reliability.left_out} left out in turn"
    )
    results = {
        "task": {"type": "other", "name": "gene expression from H&E colour"},
        "dataset": {"type": "spatial-transcriptomics", "name": dataset},
        "metrics": [{"type": kind, "name": name, "value": round(float(r), 3)} for kind, name, r in metrics],
    }
    return json.dumps([{"name": weights.name, "results": [results]}], ensure_ascii=False)


def _evaluation_section(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    columns = list(rows[0])
    lines = [
        "## Beside other methods",
        "",
        "The same folds, the same spots, the genes of highest mean expression, by `python -m nsl evaluate`. NSL learns",
        "from the strongest patterns of each section where nested validation says so; `on patterns` gives others the",
        "same targets.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(str(row[column]) for column in columns)} |" for row in rows),
        "",
    ]
    return "\n".join(lines) + "\n"


_CARD = """---
library_name: nsl
license: other
license_name: research-use
tags:
- histology
- spatial-transcriptomics
- gene-expression
- research-only
model-index: {front_results}
---
# {config.name}: Neural Stain Learning weights for {genes_count:,} genes

Predicts the expression of each gene, as {units}, from the colours of an H&E tile of {config.tile_um:g} µm read at
{config.analysis_mpp:g} µm/px, with {per_gene} weights per gene.

## Intended use

Research on H&E sections like those of the training data: to see where in a section a gene is likely to be high, and
to choose what to measure. **For research use only; not a diagnostic device.** No map replaces a stain, an assay or a
count: a map of a receptor's gene is no receptor test.

## How far to trust a gene

Each {left_out} was left out in turn, steps and patterns of the fit were chosen without it, and every gene of it was
predicted from its image. `reliability.csv` has, for each gene, the mean held-out Pearson r over spots (`r_heldout`)
with its 95 % interval, the interval within which the next {left_out} is to be expected, going by those left out
(`r_next_low` to `r_next_high`), the false discovery rate (`q_value`, which takes as known how far groups scatter), in
how many of {protocol.groups} groups left out it replicated, and what is left of r when the mean of all genes is taken
off prediction and measurement alike (`r_specific`).

- Median held-out r over the {genes_count:,} genes: {median_r:.3f}.
- Genes with held-out r above {useful_r}: {useful_genes:,}; that agreed beyond chance, with q < 0.05 and the interval
  of the mean above 0: {significant_genes:,}; replicated in all {protocol.groups}: {everywhere:,}.
- In the words that every result says: {reliable:,} reliable, {weak:,} weak; no gene is called reliable before {least}
  patients were left out.

| best genes | held-out r | 95 % interval of the mean | in the next {left_out} | q | replicated | trust |
|---|---|---|---|---|---|---|
{best_rows}

{signatures}{evaluation}## Training data

- Tissue: {tissue}.
- Spots: {data.spots:,}, in the sections {section_names} of {patients}.
- Genes: {genes_rule}.
- Source: {source}.
- Licence of the data: {licence}. Only weights derived from the data are here.
{failed_checks}
## Stain vectors of the training slides

| stain | mean optical density R G B | largest angle of a slide to the mean |
|---|---|---|
{stain_rows}

{transfer}

## How it was made

{how_made}

## Limits

Colour alone is a weak predictor for many genes. Predictions follow the amount and the hue of the stains: they
cannot see shape, and genes that share a colour share a map. What they say of a tissue, a laboratory or a scanner
outside the training data is untested; few patients were seen, so intervals are wide and still optimistic.

## Cite

Dawood M, Branson K, Rajpoot NM, Minhas FA. All You Need is Color: Image based Spatial Gene Expression Prediction
using Neural Stain Learning. arXiv:2108.10446, 2021.
"""

_SIGNATURES = """## Gene sets

The score of a set is the mean of its genes' z-scores; `signatures.csv` has the genes and the source of each. Held-out
r is that of measured with predicted scores over spots, as of a gene. Any set of genes follows how much tissue a spot
holds: "of its own" is the r that is left when the mean of all genes is taken off measured and predicted scores
alike, which is what the set tells of its own.

| set | genes | held-out r | in the next {left_out} | q | each {left_out} | of its own | trust |
|---|---:|---:|---|---|---|---:|---|
{rows}
"""

_FIT = """```
{command}
```

{fit.steps} steps of Adam at {fit.learning_rate:g} from the Ruifrok–Johnston matrix, every section alike, learning
{learned_from}; nsl {version}. The same data give the same weights."""
