"""How long a training is said to take: longer for more work, and corrected by what trainings took."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import streamlit as st

from nsl.web.train import fit_duration


@pytest.fixture(autouse=True)
def fresh_computer(monkeypatch):
    """One of which nothing is known yet, and whose trial step always takes as long."""
    st.cache_resource.clear()
    monkeypatch.setattr(fit_duration, "step_seconds", lambda: 0.01)
    yield
    st.cache_resource.clear()


def section(name: str, patient: str, spots: int = 300, colors: int = 1500):
    """As much of a measured section as the estimate looks at."""
    moments = np.broadcast_to(np.float32(0), (spots, colors, 4))
    return SimpleNamespace(name=name, patient=patient, last=SimpleNamespace(colors=SimpleNamespace(moments=moments)))


def seconds(sections, genes: int, is_choosing: bool) -> float:
    """What the page says of a training on this computer."""
    return fit_duration.on_this_computer(fit_duration.usual_seconds(sections, genes, is_choosing))


ONE = [section("S1", "P1")]
TWO_PATIENTS = [section("S1", "P1"), section("S2", "P2")]


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ((ONE, 100, False), (ONE, 1000, False)),
        ((ONE, 100, False), ([section("S1", "P1", spots=1200)], 100, False)),
        ((ONE, 100, False), ([section("S1", "P1", colors=6000)], 100, False)),
        ((TWO_PATIENTS, 100, False), ([*TWO_PATIENTS, section("S3", "P3")], 100, False)),
        ((ONE, 100, False), (ONE, 100, True)),
        # Of three sections of one patient three are left out in turn, of two patients two.
        (
            ([section("S1", "P1"), section("S2", "P1"), section("S3", "P2")], 100, False),
            ([section(f"S{i}", "P1") for i in range(3)], 100, False),
        ),
    ],
    ids=["genes", "spots", "colours", "patients", "choosing", "groups"],
)
def test_more_work_is_said_to_take_longer(less, more):
    assert 0 < seconds(*less) < seconds(*more)


def test_choosing_settings_takes_many_times_as_long():
    plain, choosing = (seconds(TWO_PATIENTS, 2000, is_choosing) for is_choosing in (False, True))
    # With each of two patients left out, the other is one group and nothing to choose by.
    assert choosing > 1.5 * plain
    three = [*TWO_PATIENTS, section("S3", "P3")]
    assert seconds(three, 200, True) > 5 * seconds(three, 200, False)


def test_the_estimate_comes_to_what_trainings_take_here():
    begin = seconds(ONE, 1000, False)
    for times_slower in (8, 0.5):
        taken = times_slower * max(begin, 10)
        before = abs(np.log(seconds(ONE, 1000, False) / taken))
        fit_duration.learn(seconds(ONE, 1000, False), taken)
        # One training is not believed altogether: another may have run beside it.
        assert 0 < abs(np.log(seconds(ONE, 1000, False) / taken)) < before
        for _ in range(12):
            fit_duration.learn(seconds(ONE, 1000, False), taken)
        assert seconds(ONE, 1000, False) == pytest.approx(taken, rel=0.01)


def test_a_training_that_is_over_at_once_teaches_nothing():
    before = seconds(ONE, 1000, False)
    fit_duration.learn(1000.0, 1.0)
    assert seconds(ONE, 1000, False) == before


def test_a_computer_that_is_slow_just_now_is_said_to_take_longer_from_the_first(monkeypatch):
    usual = seconds(ONE, 1000, False)
    st.cache_resource.clear()
    monkeypatch.setattr(fit_duration, "step_seconds", lambda: 0.04)
    assert seconds(ONE, 1000, False) == pytest.approx(4 * usual)


def test_the_trial_step_is_timed_on_this_computer(monkeypatch):
    monkeypatch.undo()
    # Of five steps the third is the least disturbed.
    clock = iter([0, 9, 10, 13, 20, 22, 30, 35, 40, 90])
    monkeypatch.setattr(fit_duration.time, "perf_counter", lambda: next(clock))
    assert fit_duration.step_seconds() == 2


def test_the_first_training_of_a_server_waits_for_what_must_be_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch._dynamo", sys)
    later = seconds(ONE, 1000, False)
    monkeypatch.delitem(sys.modules, "torch._dynamo")
    assert seconds(ONE, 1000, False) > later
