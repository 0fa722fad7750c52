"""One protocol for long work: it is silent unless a subclass shows it, and a check ends work that is cancelled."""

import pytest

from nsl.errors import Cancelled, NslError
from nsl.system.progress import SILENT
from tests.recording import Recording


def test_silent_progress_takes_reports_and_never_cancels():
    SILENT.report(1, 2, "reading")
    SILENT.check(2, 2)
    assert not SILENT.cancelled


def test_a_check_reports_first_and_then_ends_work_that_is_cancelled():
    progress = Recording(cancel_at=2)
    progress.check(0, 3, "fitting")
    with pytest.raises(Cancelled, match=r"^the run was cancelled; run again$"):
        progress.check(1, 3, "fitting")
    assert progress.reports == [(0, 3, "fitting"), (1, 3, "fitting")]
    assert issubclass(Cancelled, NslError)
