"""Methods side by side on the same folds: the tables, the words and the figure of `python -m nsl evaluate`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nsl.errors import SpotsError
from nsl.evaluate import HeldOut, Method, Training, group_correlations, hidden, leave_one_group_out, reliability
from nsl.figures.methods import correlation_distributions
from nsl.spots.measured_section import MeasuredSection
from nsl.system.disk import write_whole
from nsl.system.progress import SILENT, Progress
from nsl.weights.reliability import USEFUL_R, has_held_up

OURS = "NSL-11"
CEILING = "colour histogram"
"""Methods of this name may learn any function of a window's colours, with thousands of weights per gene: they show what
colour itself holds in sections like those learned from, rather than what 11 weights are up against."""

COLUMNS = {
    "median r": "{:.3f}",
    "mean r": "{:.3f}",
    f"genes r > {USEFUL_R}": "{:.1f}",
    "genes beyond chance": "{:.1f}",
    "weights per gene": "{:,.0f}",
    "fit s": "{:.1f}",
    "spots/s": "{:,.0f}",
}
"""Columns of the table, and how each is written. Medians and counts are means over the groups left out."""
MEDIAN, MEAN, USEFUL, FOUND, PER_GENE, FIT, SPEED = COLUMNS


@dataclass(frozen=True)
class Comparison:
    """The results of holding groups out."""

    table: pd.DataFrame
    """A row a setting and method: setting, method, then `COLUMNS`."""
    correlations: pd.DataFrame
    """A row a setting, method, group left out and gene: pearson_r, mean over the seeds."""


def compare(
    sections: Sequence[MeasuredSection],
    methods: Sequence[Method],
    protocols: Sequence[str],
    genes: Sequence[str],
    *,
    seeds: int = 3,
    progress: Progress = SILENT,
) -> Comparison:
    """Hold out the same groups from every method.

    protocols : "patient" leaves out every patient in turn; "section" every section of a patient who has several,
        learning from that patient's others.
    seeds : repetitions, with seeds from 0, of methods that draw random numbers; their figures are means over them.
    progress : receives methods done and methods in all, with the name of the method in hand.

    Raises SpotsError: there is nothing to leave out.
    Raises Cancelled: `progress` was cancelled.
    """
    settings = {name: chosen for protocol in protocols for name, chosen in _settings(sections, protocol).items()}
    rows: dict[str, list[dict]] = {setting: [] for setting in settings}
    correlations = []
    for done, method in enumerate(methods):
        progress.check(done, len(methods), method.name)
        features, seconds = _timed_features(method, sections)
        for setting, (index, groups) in settings.items():
            part = Training([sections[i] for i in index], [features[i] for i in index], list(genes))
            runs = _runs(part, groups, method, seeds)
            found = [group_correlations(run, genes) for run in runs]
            reading = sum(seconds[i] for i in index)
            figures = [_figures(run, tables, reading) for run, tables in zip(runs, found, strict=True)]
            mean = {name: np.mean([figure[name] for figure in figures]) for name in figures[0]}
            rows[setting].append({"setting": setting, "method": method.name, PER_GENE: method.weights_per_gene} | mean)
            correlations += _correlation_tables(setting, method, found)
    table = pd.DataFrame([row for setting in settings for row in rows[setting]])
    order = ["setting", "method", *COLUMNS]
    return Comparison(table[order].astype({PER_GENE: float}), pd.concat(correlations, ignore_index=True))


def _runs(part: Training, groups: Sequence[str], method: Method, seeds: int) -> list[list[HeldOut]]:
    return [
        leave_one_group_out(part.sections, groups, method, part.genes, seed=seed, features=part.features)
        for seed in range(seeds if method.random else 1)
    ]


def _correlation_tables(setting: str, method: Method, found: Sequence[dict[Any, pd.DataFrame]]) -> list[pd.DataFrame]:
    """A table a group, with the mean r over the seeds of each gene."""
    return [
        pd.DataFrame(
            {
                "setting": setting,
                "method": method.name,
                "group": group,
                "gene": list(table.index),
                "pearson_r": np.mean([run[group].pearson_r for run in found], axis=0),
            }
        )
        for group, table in found[0].items()
    ]


def _settings(sections: Sequence[MeasuredSection], protocol: str) -> dict[str, tuple[list[int], list[str]]]:
    """Positions of the sections that take part and the group of each, by what is left out in words."""
    patients = list(dict.fromkeys(section.patient for section in sections))
    if protocol == "patient":
        if len(patients) < 2:
            raise SpotsError(f"there is one patient, {patients[0]}, so none can be left out; use --protocol section")
        return {"one patient left out": (list(range(len(sections))), [section.patient for section in sections])}
    settings = {}
    for patient in patients:
        own = [i for i, section in enumerate(sections) if section.patient == patient]
        if len(own) > 1:
            settings[f"one section of patient {patient} left out"] = (own, [sections[i].name for i in own])
    if not settings:
        raise SpotsError("every patient has one section, so none can be left out; use --protocol patient")
    return settings


def _timed_features(method: Method, sections: Sequence[MeasuredSection]) -> tuple[list[Any], list[float]]:
    features, seconds = [], []
    for section in sections:
        start = time.perf_counter()
        features.append(method.features(hidden(section)))
        seconds.append(time.perf_counter() - start)
    return features, seconds


def _figures(run: Sequence[HeldOut], groups: dict[Any, pd.DataFrame], reading_seconds: float) -> dict[str, float]:
    r = np.array([table.pearson_r for table in groups.values()])
    overall = reliability(groups, of_one_patient=len({part.section.patient for part in run}) == 1)
    spots = sum(len(part.predicted) for part in run)
    fits = {part.group: part.fit_seconds for part in run}
    return {
        MEDIAN: np.nanmedian(r, axis=1).mean(),
        MEAN: np.nanmean(r, axis=1).mean(),
        USEFUL: (r > USEFUL_R).sum(axis=1).mean(),
        FOUND: has_held_up(overall).sum(),
        FIT: np.mean(list(fits.values())),
        SPEED: spots / (reading_seconds + sum(part.predict_seconds for part in run)),
    }


def in_words(table: pd.DataFrame) -> list[str]:
    """Say in a sentence per setting how NSL stands beside the best of the others, the colour histogram apart."""
    return [_standing(setting, rows.set_index("method")) for setting, rows in table.groupby("setting", sort=False)]


def _standing(setting: str, rows: pd.DataFrame) -> str:
    others = rows[[name != OURS and not name.startswith(CEILING) for name in rows.index]]
    if OURS not in rows.index or others.empty:
        return ""
    ours, words = rows.loc[OURS], []
    for column, text in ((MEDIAN, "a median r of {}"), (USEFUL, f"{{}} genes with r above {USEFUL_R}")):
        best = others[column].idxmax()
        own, other = (COLUMNS[column].format(value) for value in (ours[column], others[column][best]))
        verdict = "ahead of" if ours[column] > others[column][best] else "behind"
        words.append(f"{text.format(own)}, {verdict} the best other, {best}, with {other}")
    return f"With {setting}, {OURS} reaches {'; and '.join(words)}."


def as_markdown(table: pd.DataFrame) -> str:
    """A Markdown table a setting, and the standing of NSL in words."""
    parts = []
    for (setting, rows), words in zip(table.groupby("setting", sort=False), in_words(table), strict=True):
        lines = [f"| method | {' | '.join(COLUMNS)} |", f"|---|{'---:|' * len(COLUMNS)}"]
        lines += [
            f"| {row['method']} | {' | '.join(_cell(row, name) for name in COLUMNS)} |" for _, row in rows.iterrows()
        ]
        parts.append("\n".join([f"### {setting[:1].upper()}{setting[1:]}", "", *lines, "", words]))
    return "\n\n".join(parts) + "\n"


def _cell(row: pd.Series, name: str) -> str:
    return COLUMNS[name].format(row[name]) if np.isfinite(row[name]) else "shared"


def card_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """The table as a model card shows it: written out, without times, which belong to the machine."""
    kept = [name for name in COLUMNS if name not in (FIT, SPEED)]
    return [
        {"left out": row["setting"].removesuffix(" left out"), "method": row["method"]}
        | {name: _cell(row, name) for name in kept}
        for _, row in table.iterrows()
    ]


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write evaluation.csv, evaluation.md, evaluation.html (distributions of r over genes) and correlations.csv."""
    figure = correlation_distributions(comparison.correlations)
    files = {
        folder / "evaluation.csv": lambda part: comparison.table.round(6).to_csv(part, index=False),
        folder / "correlations.csv": lambda part: comparison.correlations.round(4).to_csv(part, index=False),
        folder / "evaluation.md": lambda part: part.write_text(as_markdown(comparison.table), encoding="utf-8"),
        folder / "evaluation.html": figure.write_html,
    }
    write_whole(files, str(folder))
