"""Files that are made for a click, on a server where others look at pages too."""

from types import SimpleNamespace

import pytest
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.testing.v1 import AppTest

from nsl.web import downloads


def _page() -> None:
    from nsl.web import downloads

    downloads.button("Download CSV", lambda: "tile,ERBB2\n", "slide.csv")


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(downloads, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_file_waits_for_its_browser_while_others_look_at_pages(apptest, clock):
    assert not AppTest.from_function(_page).run().exception
    files = MediaFileManager(MemoryMediaFileStorage("/media"))
    made = files.execute_deferred(files.add_deferred(lambda: "tile,ERBB2\n", "text/csv", "1.0"))
    name = made.removeprefix("/media/")
    for _ in range(100):  # what ends with every run of anybody's script
        files.remove_orphaned_files()
        clock.now += 0.5
    assert files.read_file(name).content == b"tile,ERBB2\n"
    clock.now += downloads.FETCHED_WITHIN_SECONDS
    files.remove_orphaned_files()
    assert files.read_file(name) is None
