"""What the files of a cohort are called, and the columns of its tables."""

from nsl.stains import STAIN_NAMES

DONE, SKIPPED, FAILED, NOT_RUN = "done", "skipped", "failed", "not run"
"""What can become of a slide; one is skipped that an earlier run has done."""
STATUS, COHORT, COHORT_ROWS, SLIDES = "status.csv", "cohort.h5ad", "cohort.parquet", "slides"
"""What a cohort's folder holds; the last is the folder of the results of each slide."""
RECORD, SUMMARY = "run.json", "summary.npz"
"""Endings of the files that tell what a run came to, beside the results of a slide."""
STATUS_COLUMNS = (
    *("slide", "name", "group", "patient", "status", "reason"),
    *("seconds", "tiles", "stain_transfer", "warnings"),
)
STAIN_COLUMNS = tuple(f"{stain}_{color}" for stain in STAIN_NAMES for color in ("r", "g", "b"))
"""The slide's stain vectors, of unit length."""
STRENGTH_COLUMNS = tuple(f"{stain}_strength" for stain in STAIN_NAMES)
"""Beside those that the weights know."""
SPREAD, SHARE = "spread", "share_above_median"
