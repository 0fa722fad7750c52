"""What `disk` promises: files whole or not at all, however their writing ends."""

import pytest

from nsl.errors import NslError
from nsl.system.disk import require_names, write_whole


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError, ValueError])
def test_files_written_together_are_all_new_or_all_as_they_were(tmp_path, stop):
    old, new = tmp_path / "a.txt", tmp_path / "more/b.txt"
    old.write_text("old")

    def half(part):
        part.write_text("half")
        raise stop

    with pytest.raises(stop):
        write_whole({old: lambda part: part.write_text("new"), new: half})
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.txt"]
    assert old.read_text() == "old"
    write_whole({old: lambda part: part.write_text("new"), new: lambda part: part.write_text("b")})
    assert (old.read_text(), new.read_text()) == ("new", "b")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_names_are_measured_in_bytes_with_what_stands_behind_them_meanwhile(tmp_path):
    require_names(tmp_path / "not/yet", ["n" * 250, "ä" * 125])
    with pytest.raises(NslError, match=r"shorten the slide's name by 2 bytes"):
        require_names(tmp_path / "not/yet", ["a", "ä" * 126])
