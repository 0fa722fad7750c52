"""What a server's environment limits: sizes, and runs at the same time."""

import functools
import os
import threading
import time

import numpy as np
import pytest
import streamlit as st
import tifffile
from PIL import Image
from streamlit.testing.v1 import AppTest

from nsl.errors import NslError, SlideError
from nsl.slides.overview import overview_of
from nsl.slides.slide import open_slide
from nsl.web.session import jobs, server, state
from nsl.web.session.server import Limits, Line
from tests.app_driver import opened, session_held, slide

VARIABLES = ("NSL_MAX_PIXELS", "NSL_MAX_UPLOAD_MB", "NSL_MAX_CONCURRENT_RUNS", "NSL_MAX_RESULTS_MB")
SECONDS = 20


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No limits, and nothing remembered of other tests' limits; returns how to set one."""

    def forget():
        server.limits.cache_clear()
        server.line.cache_clear()

    def limit(variable: str, value: str) -> None:
        monkeypatch.setenv(variable, value)
        forget()

    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.01)
    forget()
    yield limit
    forget()


@pytest.fixture
def app(environment, apptest):
    """The app in a browser's stead; start it with .run() once the limits are set."""
    return opened()


class Work:
    """Work that begins and ends when the test says so."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self, job):
        self.begun.set()
        deadline = time.monotonic() + 3 * SECONDS
        while not self.may_end.wait(0.01) and time.monotonic() < deadline:
            job.report(1, 2)
        return "result"


def _started(*, count: int) -> list[tuple[jobs.Job, Work]]:
    runs = [(jobs.Job(), Work()) for _ in range(count)]
    for job, work in runs:
        job.start(work)
    return runs


def _end(*runs: tuple[jobs.Job, Work]) -> None:
    for job, work in runs:
        work.may_end.set()
        job.thread.join(SECONDS)
        assert not job.is_running


def _run_behind(app: AppTest, environment, *, count: int) -> list[tuple[jobs.Job, Work]]:
    """Ask for a run of the demo slide where one goes on at a time, behind so many of others, which are returned."""
    environment("NSL_MAX_CONCURRENT_RUNS", "1")
    others = _started(count=count)
    app.run()
    _click(app, "Use the demo slide")
    _click(app, "Run")
    return others


# What the environment says


def test_only_pixels_and_memory_are_limited_where_nothing_is_set(environment, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 4 * 2**20}.get)
    assert server.limits() == Limits(40_000_000_000, None, None, 8 * 1024)
    for variable in VARIABLES:
        environment(variable, "")
    assert server.limits() == Limits(None, None, None, None)


def test_limits_come_from_the_environment_and_an_empty_one_is_none(environment):
    environment("NSL_MAX_PIXELS", "4000000000")
    environment("NSL_MAX_UPLOAD_MB", " 500 ")
    environment("NSL_MAX_CONCURRENT_RUNS", "")
    environment("NSL_MAX_RESULTS_MB", "2000")
    assert server.limits() == Limits(4_000_000_000, 500, None, 2000)


def test_limits_are_read_once(environment, monkeypatch):
    environment("NSL_MAX_PIXELS", "100")
    server.limits()
    monkeypatch.setenv("NSL_MAX_PIXELS", "200")
    assert server.limits().max_pixels == 100


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "1e9", "500 MB", "inf"])
def test_a_bad_value_is_told_with_its_variable_and_the_remedy(environment, variable, value):
    environment(variable, value)
    with pytest.raises(NslError) as told:
        server.limits()
    assert str(told.value) == (
        f'{variable} must be a whole number above 0, got "{value}"; leave it unset for the usual limit'
    )


# Sizes


def test_a_slide_of_as_many_pixels_as_allowed_is_taken_and_one_more_is_not(tmp_path):
    Image.fromarray(np.full((100, 101, 3), 240, np.uint8)).save(tmp_path / "a.png")
    assert overview_of(tmp_path / "a.png", 10_100).size == (101, 100)
    with pytest.raises(SlideError, match=r"a\.png has 101 × 100 px, 10,100 in all") as told:
        overview_of(tmp_path / "a.png", 10_099)
    assert "at most 10,099 are taken here; crop it" in str(told.value)


def test_a_slide_of_too_many_pixels_is_refused_before_any_is_decoded(tmp_path, monkeypatch):
    """Of 16 bits, whose depth only pixels tell."""
    tifffile.imwrite(tmp_path / "a.tif", np.full((100, 101, 3), 9, np.uint16), photometric="rgb", tile=(16, 16))
    decoded = []
    monkeypatch.setattr(tifffile.TiffPage, "decode", lambda *args, **options: decoded.append(args))
    with pytest.raises(SlideError, match=r"a\.tif has 101 × 100 px"):
        open_slide(tmp_path / "a.tif", most_pixels=10_099)
    assert decoded == []


def test_a_slide_too_large_is_told_by_the_users_name_for_it_and_the_slide_before_stays(app, environment, tmp_path):
    environment("NSL_MAX_PIXELS", str(3000 * 3000))
    app.run()
    _click(app, "Use the demo slide")
    Image.fromarray(np.full((3001, 3000, 3), 240, np.uint8)).save(tmp_path / "large.png")
    app.file_uploader[0].upload("patient7.png", (tmp_path / "large.png").read_bytes())
    app.run()
    assert not app.exception
    assert "patient7.png has 3,000 × 3,001 px" in app.error[0].value
    assert slide(app).synthetic
    assert [path.name for path in slide(app).path.parent.iterdir()] == ["demo.tif"]


@pytest.mark.parametrize(("value", "shown"), [("500", 500), (None, st.get_option("server.maxUploadSize"))])
def test_the_uploader_offers_what_the_server_takes(app, environment, value, shown):
    if value:
        environment("NSL_MAX_UPLOAD_MB", value)
    app.run()
    assert app.main.get("file_uploader")[0].proto.max_upload_size_mb == shown


def test_a_bad_value_is_told_on_the_page_instead_of_an_unlimited_upload(app, environment):
    environment("NSL_MAX_CONCURRENT_RUNS", "two")
    app.run()
    assert not app.exception
    assert 'must be a whole number above 0, got "two"' in app.error[0].value
    assert not app.main.get("file_uploader")
    assert not app.button


# Memory of results


def _predicted(app: AppTest) -> AppTest:
    _click(app.run(), "Use the demo slide")
    app.radio(key="which_genes").set_value("A list").run()
    app.text_area(key="gene_list").set_value("ERBB2 COX6C").run()
    _click(app, "Run")
    slide(app).job.thread.join(60)
    return app.run()


@pytest.fixture
def other_app(app) -> AppTest:
    """Another session with the same server."""
    return opened()


def _keep_results_to(monkeypatch, most_mb: float) -> None:
    monkeypatch.setattr(server, "limits", functools.cache(lambda: Limits(None, None, None, most_mb)))


def test_the_result_looked_at_longest_ago_makes_room_and_can_be_had_again(app, other_app, monkeypatch):
    _predicted(app)
    _predicted(other_app)
    size_mb = slide(app).result.X.nbytes / 2**20
    _keep_results_to(monkeypatch, 2 * size_mb)
    app.run()
    assert slide(other_app).result is not None
    _keep_results_to(monkeypatch, 1.5 * size_mb)
    app.run()
    assert slide(app).result is not None
    assert slide(other_app).result is None
    other_app.switch_page("pages/maps.py").run()
    assert not other_app.exception
    assert "was let go to make room for others" in " ".join(info.value for info in other_app.info)
    _click(other_app, "Run it now")
    slide(other_app).job.thread.join(60)
    other_app.run()
    assert "was let go" not in " ".join(info.value for info in other_app.info)
    assert slide(app).result is None


def test_no_result_is_let_go_under_a_page_that_is_being_made(app, other_app, monkeypatch):
    _predicted(app)
    _predicted(other_app)
    _keep_results_to(monkeypatch, 0.001)
    session_held(app, state.SessionState).scripts = 1
    other_app.run()
    assert slide(app).result is not None
    session_held(app, state.SessionState).scripts = 0
    other_app.run()
    assert slide(app).result is None
    assert slide(other_app).result is not None


@pytest.mark.parametrize("is_fragment", [False, True])
@pytest.mark.parametrize("is_overtaken", [False, True])
def test_what_a_run_stumbles_over_that_the_next_has_overtaken_is_no_fault(apptest, is_fragment, is_overtaken, capfd):
    def page(is_fragment, is_overtaken):
        from streamlit.runtime.scriptrunner import get_script_run_ctx

        from nsl.web.session import state

        def draw():
            looked_at = state.slide()
            if is_overtaken:
                get_script_run_ctx().script_requests.request_stop()  # as a click does, from the server's own thread
            looked_at.open()  # removed by that click

        (state.fragment() if is_fragment else state.looking())(draw)()

    app = AppTest.from_function(page, kwargs={"is_fragment": is_fragment, "is_overtaken": is_overtaken}).run()
    printed = "".join(capfd.readouterr())
    assert ("AttributeError" in printed) == (not is_overtaken)
    assert len(app.exception) == (not is_overtaken)
    assert session_held(app, state.SessionState).scripts == 0


def test_a_download_of_a_result_that_is_gone_says_so(app):
    _predicted(app)
    held = slide(app)
    held.crowd_out()
    with pytest.raises(NslError, match=r"the result of Demo slide \(synthetic\) is no longer in memory; run it again"):
        held.result_at_hand()


# Runs at the same time


def test_without_a_limit_as_many_runs_go_on_as_there_are_cores(environment, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    environment("NSL_MAX_CONCURRENT_RUNS", "")
    first, second, third = _started(count=3)
    assert all(work.begun.wait(SECONDS) for _, work in (first, second))
    assert [job.ahead for job, _ in (first, second, third)] == [0, 0, 1]
    _end(first)
    assert third[1].begun.wait(SECONDS)
    _end(second, third)


def test_a_run_beyond_the_limit_waits_and_then_runs(environment):
    environment("NSL_MAX_CONCURRENT_RUNS", "1")
    first, second = _started(count=2)
    assert first[1].begun.wait(SECONDS)
    assert not second[1].begun.wait(0.2)
    assert second[0].is_running
    assert (first[0].ahead, second[0].ahead) == (0, 1)
    _end(first)
    assert second[1].begun.wait(SECONDS)
    assert second[0].ahead == 0
    _end(second)
    assert (first[0].result, second[0].result) == ("result", "result")
    assert second[0].error is None


def test_the_time_of_a_run_leaves_out_its_waiting(environment):
    environment("NSL_MAX_CONCURRENT_RUNS", "1")
    first, second = _started(count=2)
    assert not second[1].begun.wait(0.5)
    _end(first, second)
    assert second[0].seconds < first[0].seconds


def test_runs_begin_in_the_order_they_were_asked_for(environment):
    environment("NSL_MAX_CONCURRENT_RUNS", "2")
    runs = _started(count=5)
    assert [job.ahead for job, _ in runs] == [0, 0, 1, 2, 3]
    for number, run in enumerate(runs):
        assert run[1].begun.wait(SECONDS)
        assert [work.begun.is_set() for _, work in runs[number + 2 :]] == [False] * len(runs[number + 2 :])
        _end(run)


@pytest.mark.parametrize("error", [NslError("no tissue"), MemoryError(), KeyError("fault")], ids=repr)
def test_a_run_that_fails_gives_its_place_back(environment, error):
    environment("NSL_MAX_CONCURRENT_RUNS", "1")

    def fail(job):
        raise error

    first = jobs.Job()
    first.start(fail)
    second = _started(count=1)[0]
    assert second[1].begun.wait(SECONDS)
    _end(second)
    assert first.error
    assert second[0].result == "result"


def test_a_stopped_run_gives_its_place_to_the_next(environment):
    environment("NSL_MAX_CONCURRENT_RUNS", "1")
    first, second = _started(count=2)
    assert first[1].begun.wait(SECONDS)
    first[0].is_stopped = True
    assert second[1].begun.wait(SECONDS)
    assert first[0].result is None
    _end(second)


def test_a_run_stopped_while_it_waits_lets_those_behind_it_move_up(environment):
    environment("NSL_MAX_CONCURRENT_RUNS", "1")
    first, second, third = _started(count=3)
    assert third[0].ahead == 2
    second[0].is_stopped = True
    second[0].thread.join(SECONDS)
    assert not second[1].begun.is_set()
    assert third[0].ahead == 1
    _end(first, third)


@pytest.mark.parametrize("closed", [0, 1], ids=["running", "waiting"])
def test_a_run_whose_page_was_closed_gives_its_place_back(environment, monkeypatch, closed):
    environment("NSL_MAX_CONCURRENT_RUNS", "1")
    monkeypatch.setattr(jobs, "FORGOTTEN_SECONDS", 0.1)
    monkeypatch.setattr(jobs, "is_connected", lambda session_id: session_id != "closed")
    runs = _started(count=3)
    runs[closed][0].session_id = "closed"
    runs[closed][0].thread.join(SECONDS)
    assert "its page was closed" in runs[closed][0].error
    left = [run for number, run in enumerate(runs) if number != closed]
    _end(*left)
    assert [job.result for job, _ in left] == ["result", "result"]


def test_a_page_that_is_away_for_a_moment_keeps_its_place(environment, monkeypatch):
    environment("NSL_MAX_CONCURRENT_RUNS", "1")
    looks = iter([True, False, False])
    monkeypatch.setattr(jobs, "is_connected", lambda session_id: next(looks, True))
    first, second = _started(count=2)
    first[0].session_id = None
    second[0].session_id = "on a train"
    assert not second[1].begun.wait(0.2)
    _end(first, second)
    assert second[0].result == "result"
    assert second[0].away_since is None


def test_leaving_the_line_twice_does_no_harm():
    turn = Line(1).join()
    turn.leave()
    turn.leave()
    assert turn.ahead == 0


def test_the_page_says_how_many_runs_come_first_and_shows_the_result_when_its_turn_has_come(app, environment):
    others = _run_behind(app, environment, count=2)
    assert not app.exception
    assert _waiting(app) == ["Waiting for 2 other runs to end"]
    _end(others[0])
    app.run()
    assert _waiting(app) == ["Waiting for 1 other run to end"]
    _end(others[1])
    slide(app).job.thread.join(60)
    app.run()
    assert not app.exception
    assert _waiting(app) == []
    assert "Tissue tiles" in [metric.label for metric in app.metric]


def test_a_removed_slide_takes_its_waiting_run_out_of_the_line(app, environment):
    (other,) = _run_behind(app, environment, count=1)
    job = slide(app).job
    _click(app, "Remove this slide")
    job.thread.join(SECONDS)
    assert job.error == "the run was stopped"
    assert not app.error
    _end(other)


def test_a_run_cancelled_while_it_waits_gives_its_place_up_and_says_so(app, environment):
    (other,) = _run_behind(app, environment, count=1)
    assert "waiting for its turn" in " ".join(caption.value for caption in app.sidebar.caption)
    _click(app, "Cancel")
    slide(app).job.thread.join(SECONDS)
    app.run()
    assert "The run was cancelled before it began" in app.info[-1].value
    assert not app.error
    _end(other)


def _click(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label == label).click()
    app.run()


def _waiting(app: AppTest) -> list[str]:
    """What progress bars say of waiting."""
    texts = [bar.proto.text for bar in app.get("progress")]
    return [text for text in texts if text.startswith("Waiting")]
