"""A slide that is stained unlike its cohort stands out, and one among alike slides does not."""

import numpy as np
import pandas as pd
import pytest

from nsl.cohort.layout import STAIN_COLUMNS, STRENGTH_COLUMNS
from nsl.cohort.stain_outliers import stain_outliers
from nsl.stain_transfer import REFERENCE


def _slides(number: int) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    vectors = REFERENCE.vectors[None] + rng.normal(0, 0.01, (number, 2, 3))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    strengths = np.exp(rng.normal(0, 0.05, (number, 2)))
    return pd.DataFrame(
        np.column_stack([vectors.reshape(number, 6), strengths]),
        index=[f"s{i}" for i in range(number)],
        columns=[*STAIN_COLUMNS, *STRENGTH_COLUMNS],
    )


def test_slides_of_one_staining_run_do_not_stand_out():
    assert not stain_outliers(_slides(40)).is_outlier.any()


def _turned(vector: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """The vector, turned in any direction by so many degrees as a root mean square."""
    vector = vector / np.linalg.norm(vector)
    away = np.radians(degrees / np.sqrt(2)) * rng.normal(size=3)
    turned = vector + away - (away @ vector) * vector
    return turned / np.linalg.norm(turned)


@pytest.mark.parametrize("number", [5, 12, 20])
def test_slides_of_one_laboratory_seldom_stand_out(number):
    rng, warned = np.random.default_rng(3), 0
    for _ in range(200):
        slides = _slides(number)
        pairs = [[_turned(v, s, rng) for v, s in zip(REFERENCE.vectors, (2, 7), strict=True)] for _ in range(number)]
        slides[list(STAIN_COLUMNS)] = np.reshape(pairs, (number, 6))
        slides[list(STRENGTH_COLUMNS)] = np.exp(0.15 * rng.normal(size=(number, 2)))
        warned += stain_outliers(slides).is_outlier.any()
    assert warned / 200 < 0.1


def test_another_eosin_and_a_strong_hematoxylin_stand_out_with_the_reason():
    slides = _slides(20)
    turned = np.array([0.2, 0.95, 0.24])
    slides.loc["s3", ["eosin_r", "eosin_g", "eosin_b"]] = turned / np.linalg.norm(turned)
    slides.loc["s7", "hematoxylin_strength"] = 2.0
    told = stain_outliers(slides)
    assert told.index[told.is_outlier].tolist() == ["s3", "s7"]
    assert told.why["s3"].startswith("its eosin has another colour, 1")
    assert told.why["s7"] == "its hematoxylin is 2.0 times as strong as usual in the cohort"
    assert told.eosin_degrees["s3"] == pytest.approx(17, abs=2)


def test_few_slides_and_stains_that_could_not_be_told_are_no_outliers():
    slides = _slides(3)
    slides.loc["s0", "hematoxylin_strength"] = 9
    assert not stain_outliers(slides).is_outlier.any()
    slides = _slides(6)
    slides.loc["s0"] = np.nan
    told = stain_outliers(slides)
    assert not told.is_outlier.any()
    assert told.loc["s0", ["hematoxylin_degrees", "eosin_times"]].isna().all()
