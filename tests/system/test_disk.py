"""What `disk` promises: files whole or not at all, however their writing ends."""

import pytest

from nsl.errors import NslError, WeightsError
from nsl.system.disk import remove_own, require_folder, require_names, write_whole


@pytest.mark.parametrize(
    ("stop", "told"), [(KeyboardInterrupt, KeyboardInterrupt), (OSError(28, "No space"), NslError), (ValueError,) * 2]
)
def test_files_written_together_are_all_new_or_all_as_they_were(tmp_path, stop, told):
    old, new = tmp_path / "a.txt", tmp_path / "more/b.txt"
    old.write_text("old")

    def half(part):
        part.write_text("half")
        raise stop

    with pytest.raises(told):
        write_whole({old: lambda part: part.write_text("new"), new: half})
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.txt"]
    assert old.read_text() == "old"
    write_whole({old: lambda part: part.write_text("new"), new: lambda part: part.write_text("b")})
    assert (old.read_text(), new.read_text()) == ("new", "b")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (
            OSError(28, "No space left on device"),
            "a.txt cannot be written (No space left on device); choose another folder",
        ),
        (OSError("it is full"), "a.txt cannot be written (it is full); choose another folder"),
    ],
)
def test_what_the_disk_does_not_take_is_one_sentence(tmp_path, failed, said):
    def write(part):
        raise failed

    with pytest.raises(WeightsError) as refused:
        write_whole({tmp_path / "a.txt": write}, error=WeightsError)
    assert str(refused.value) == said
    with pytest.raises(NslError, match=r"^mine cannot be written"):
        write_whole({tmp_path / "a.txt": write}, "mine")


def test_a_folder_that_stands_in_the_place_of_one_file_leaves_the_others_as_they_were(tmp_path):
    first, taken = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("old")
    taken.mkdir()
    with pytest.raises(NslError, match=r"^b\.txt cannot be written \(b\.txt is a folder\)"):
        write_whole({first: lambda part: part.write_text("new"), taken: lambda part: part.write_text("new")})
    assert first.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_a_file_of_an_earlier_run_is_removed_and_nobody_elses(tmp_path):
    own, foreign = tmp_path / "own.csv", tmp_path / "foreign.csv"
    own.write_text("slide,error\na,b\n")
    foreign.write_text("slides of mine\n")
    for path in (own, foreign, tmp_path / "none.csv", tmp_path):
        remove_own(path, "slide,error")
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.csv"]


def test_a_folder_that_may_not_be_entered_is_one_sentence(tmp_path, monkeypatch):
    def locked(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.is_dir", locked)
    with pytest.raises(NslError, match=r"^a\.txt cannot be written \(Permission denied\); choose another folder$"):
        write_whole({tmp_path / "in/a.txt": lambda part: part.write_text("new")})


def test_a_folder_for_results_is_refused_before_the_work_where_none_can_be(tmp_path, monkeypatch):
    require_folder(tmp_path / "not/yet")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "taken").write_text("a file")
    for folder in (tmp_path / "taken", tmp_path / "taken/below"):
        with pytest.raises(NslError, match=r"^taken is a file; name a folder for the results$"):
            require_folder(folder)
    with pytest.raises(NslError, match=r"^nnnnnnnnnnnnnnnnnnnnnnnn… is too long a name for a folder on this disk"):
        require_folder(tmp_path / ("n" * 300) / "below")
    monkeypatch.setattr("os.access", lambda path, mode: mode == 0 and path.exists())
    with pytest.raises(NslError, match=f"^{tmp_path.name} cannot be written to; choose another folder"):
        require_folder(tmp_path / "new")


def test_names_are_measured_in_bytes_with_what_stands_behind_them_meanwhile(tmp_path):
    require_names(tmp_path / "not/yet", ["n" * 250, "ä" * 125])
    with pytest.raises(NslError, match=r"shorten the slide's name by 2 bytes"):
        require_names(tmp_path / "not/yet", ["a", "ä" * 126])
