"""Slides that are stained unlike the others of their cohort."""

import numpy as np
import pandas as pd

from nsl.cohort.layout import STAIN_COLUMNS, STRENGTH_COLUMNS
from nsl.stain_transfer import SCATTER_DEGREES
from nsl.stains import STAIN_NAMES, angle_degrees

LEAST_SLIDES = 4
"""Of a cohort in which a slide can be unlike the others."""
# Iglewicz and Hoaglin (How to detect and handle outliers, 1993): a modified z-score beyond 3.5 is an outlier.
_MOST_Z, _MAD_TO_SD = 3.5, 1.4826
# Slides of one laboratory are so much further off than the middle one by how the estimate falls: where they scatter as
# told, and by 15 % in strength, 2 to 5 % of cohorts of up to 20 slides have one that stands out.
LEAST_DEGREES, LEAST_TIMES = 2 * SCATTER_DEGREES, 1.6


def stain_outliers(obs: pd.DataFrame) -> pd.DataFrame:
    """How far each slide's stains are from the usual ones of its cohort, and whether that is far.

    obs : a row a slide, with the columns of `cohort.h5ad`.

    Returns, with the same rows: hematoxylin_degrees and eosin_degrees, the angle to the cohort's median vector;
    hematoxylin_times and eosin_times, how strong the stain is beside the cohort's median; is_outlier; and why, a clause
    for each that is far. NaN, and no outlier, where a slide's stains could not be told.
    """
    vectors = obs[list(STAIN_COLUMNS)].to_numpy(float).reshape(-1, 2, 3)
    strengths = obs[list(STRENGTH_COLUMNS)].to_numpy(float)
    known = np.isfinite(vectors).all(axis=(1, 2))
    told = pd.DataFrame(index=obs.index)
    why = [[] for _ in range(len(obs))]
    for number, stain in enumerate(STAIN_NAMES):
        degrees = np.full(len(obs), np.nan)
        times = np.full(len(obs), np.nan)
        if known.any():
            usual = np.median(vectors[known, number], axis=0)
            degrees[known] = angle_degrees(vectors[known, number], usual)
        measured = np.isfinite(strengths[:, number]) & (strengths[:, number] > 0)
        if measured.any():
            times[measured] = strengths[measured, number] / np.median(strengths[measured, number])
        told[f"{stain}_degrees"], told[f"{stain}_times"] = degrees, times
        for row in np.flatnonzero(_far(degrees, LEAST_DEGREES[number], one_sided=True)):
            why[row].append(f"its {stain} has another colour, {degrees[row]:.0f}° from the cohort's usual one")
        for row in np.flatnonzero(_far(np.log(times), np.log(LEAST_TIMES))):
            why[row].append(f"its {stain} is {times[row]:.1f} times as strong as usual in the cohort")
    told["is_outlier"] = [bool(reasons) for reasons in why]
    told["why"] = ["; ".join(reasons) for reasons in why]
    return told


def _far(values: np.ndarray, least: float, *, one_sided: bool = False) -> np.ndarray:
    """(N,) whether each value is an outlier among all, and away from the middle by more than `least`."""
    if np.isfinite(values).sum() < LEAST_SLIDES:
        return np.zeros(len(values), bool)
    away = values - np.nanmedian(values)
    spread = _MAD_TO_SD * np.nanmedian(np.abs(away))
    reach = np.maximum(_MOST_Z * spread, least)
    return np.nan_to_num(away if one_sided else np.abs(away)) > reach
