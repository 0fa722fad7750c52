"""The Correlations page: genes with each other, and predictions against what was measured, in each of their states."""

import csv
import io
import threading
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
import streamlit as st

from nsl.association import GeneCorrelations
from nsl.errors import SlideError, SpotsError
from nsl.web import correlating, measurements
from tests.app_driver import chart, charts, click, finish, metrics, png_bytes, predict_demo, said, slide, upload

PAGE = "pages/correlations.py"
GENES = "ERBB2 CD24 COX6C KRT19 EPCAM GAPDH ACTB SCD IGKC COL1A1 TMSB4X CDH1"


@pytest.fixture
def page(app):
    """The page with a small section predicted, for twelve genes."""
    return _predicted_section(app)


@pytest.fixture
def against(page):
    """The half of the page that compares with measurement."""
    return _against(page)


@pytest.fixture
def section_pixels(section):
    return section.pixels


@pytest.fixture(autouse=True)
def _pixels(section, monkeypatch):
    monkeypatch.setattr("tests.test_correlations_page.SECTION", section.pixels, raising=False)


def _predicted_section(app):
    upload(app, "my section.png", png_bytes(SECTION))  # noqa: F821
    app.number_input[0].set_value(1.0).run()
    app.radio[0].set_value("A list")
    app.run()
    app.text_area[0].set_value(GENES).run()
    finish(click(app, "Run"))
    return app.switch_page(PAGE).run()
