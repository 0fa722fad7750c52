"""What a cluster promises: the results of one slide after another, whatever becomes of a worker."""

import dask
import pytest
from distributed import Client

from nsl.cohort.cluster import cluster_of, outcomes_on
from nsl.cohort.layout import DONE, FAILED, SKIPPED
from nsl.cohort.run import run_cohort
from nsl.cohort.slide_list import slides_of_cohort
from nsl.errors import NslError
from nsl.weights.folder import load_weights
from tests.cohort.made_cohort import made_slides, results_of, settings_of

# Run by every worker as it starts: one slide ends its worker each time, another the first time.
_PRELOAD = """
import os, pathlib, signal
from nsl.cohort import slide_run

def ended(slide, *args, **more):
    marker = pathlib.Path({marker!r})
    if slide._path.name == "s1.png" or (slide._path.name == "s3.png" and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return slide_run.own_predict(slide, *args, **more)

if not hasattr(slide_run, "own_predict"):  # a worker may run this twice
    slide_run.own_predict, slide_run.prediction.predict = slide_run.prediction.predict, ended
"""


def _run(slides, settings, tiny_weights, out, **more):
    return run_cohort(slides, settings, load_weights(tiny_weights), out, **more)


def test_workers_give_what_one_slide_after_another_gives(tiny_weights, tmp_path, monkeypatch):
    listed, settings = made_slides(tmp_path, 3, corrupt=1), settings_of(tiny_weights)
    slides = slides_of_cohort(listed, tmp_path / "one")
    serial = _run(slides, settings, tiny_weights, tmp_path / "one")
    monkeypatch.setattr("nsl.cohort.run.cluster_of", lambda *_: Client(processes=False, dashboard_address=None))
    shared = _run(slides, settings, tiny_weights, tmp_path / "two", scheduler="inproc")
    assert [one.status for one in shared] == [one.status for one in serial] == [DONE, FAILED, DONE]
    assert shared[1].reason == serial[1].reason
    assert results_of(tmp_path / "one") == results_of(tmp_path / "two")
    again = _run(slides, settings, tiny_weights, tmp_path / "two", scheduler="inproc")
    assert [one.status for one in again] == [SKIPPED, FAILED, SKIPPED]
    assert again[0].seconds == shared[0].seconds  # that it once took, not that it took to find it there


def test_a_worker_with_other_weights_is_told(tiny_weights, tmp_path):
    slides = slides_of_cohort(made_slides(tmp_path, 1), tmp_path / "out")
    settings = settings_of(tiny_weights)
    settings = type(settings)(**vars(settings) | {"weights_fingerprint": "0" * 64})
    with Client(processes=False, dashboard_address=None) as client:
        [outcome] = outcomes_on(client, slides, settings, tmp_path / "out")
    assert outcome.status == FAILED
    assert "this worker has other weights in tiny than the run began with" in outcome.reason


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr("nsl.cohort.cluster._CONNECT_SECONDS", 0.2)
    with (
        pytest.raises(NslError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        cluster_of(0, "tcp://127.0.0.1:9"),
    ):
        pass


def test_a_scheduler_with_another_nsl_is_told_before_any_slide_is_sent(monkeypatch):
    with Client(processes=False, dashboard_address=None) as client:
        address = client.scheduler.address
        monkeypatch.setattr("nsl.cohort.cluster._version", lambda: "0.0.9")
        with pytest.raises(NslError, match=r"has NSL 0\.0\.9, and here is NSL"), cluster_of(0, address):
            pass


@pytest.mark.evaluation
def test_a_lost_workers_slide_runs_elsewhere_and_one_that_ends_every_worker_is_named(tiny_weights, tmp_path):
    settings, slides = (
        settings_of(tiny_weights),
        slides_of_cohort(made_slides(tmp_path, 6, corrupt=5), tmp_path / "one"),
    )
    serial = _run(slides, settings, tiny_weights, tmp_path / "one")
    preload = tmp_path / "preload.py"
    preload.write_text(_PRELOAD.format(marker=str(tmp_path / "lost once")), encoding="utf-8")
    with dask.config.set({"distributed.worker.preload": [str(preload)]}):
        shared = _run(slides, settings, tiny_weights, tmp_path / "two", workers=2)
    assert (tmp_path / "lost once").exists()
    assert [one.status for one in serial] == [*[DONE] * 5, FAILED]
    assert [one.status for one in shared] == [DONE, FAILED, DONE, DONE, DONE, FAILED]
    assert "the worker that ran it was lost each time" in shared[1].reason
    before, after = results_of(tmp_path / "one"), results_of(tmp_path / "two")
    assert {name for name in before if name not in after} == {"s1.h5ad", "s1.summary.npz"}
    assert all(before[name] == content for name, content in after.items() if name != "cohort.parquet")
    assert not list((tmp_path / "two/slides").glob("*.part"))
