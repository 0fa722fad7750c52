"""What `nsl.slides.folder` promises: the slides of a folder, each once, and no file outside it."""

import os
from pathlib import Path

import pytest

from nsl import open_slide
from nsl.errors import NslError, SlideError
from nsl.slides import folder as folder_module
from nsl.slides.folder import resolve, slide_dir, slides_in
from tests.slides.test_archive import painted, write_dicom, write_dicom_level, write_mirax, write_png, write_vms


@pytest.fixture
def slides(tmp_path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    return folder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")


def names(folder: Path) -> list[str]:
    return [slide.name for slide in slides_in(folder)]


# What is listed


def test_slides_are_listed_by_their_suffix(slides):
    slide_names = "a.jpg b.jpeg c.png d.tif e.tiff f.svs g.ndpi h.scn i.bif j.mrxs k.vms l.webp m.bmp n.svslide o.czi"
    touch(slides, *slide_names.split(), "p.SVS", "notes.txt", "q.csv", "svs")
    assert names(slides) == [*slide_names.split(), "p.SVS"]
    assert {slide.size_bytes for slide in slides_in(slides)} == {5}


def test_folders_are_searched_and_names_sort_as_one_counts(slides):
    touch(slides, "case 10/s.svs", "case 2/s10.svs", "case 2/s9.svs", "Case 3.svs", "b.svs", "A.svs")
    assert names(slides) == ["A.svs", "b.svs", "case 2/s9.svs", "case 2/s10.svs", "Case 3.svs", "case 10/s.svs"]


def test_hidden_files_and_folders_are_not_listed(slides):
    touch(slides, ".a.svs", "._b.svs", ".cache/c.svs", "d.svs")
    assert names(slides) == ["d.svs"]


def test_names_that_cannot_be_shown_are_not_listed(slides):
    touch(slides, "a\nb.svs", "at 3.04\u202fPM.png", "größe.svs")
    (slides / os.fsdecode(b"\xff.svs")).write_bytes(b"1")
    assert names(slides) == ["at 3.04\u202fPM.png", "größe.svs"]


def test_a_mirax_slide_is_one_with_the_size_of_its_data(slides):
    mrxs = write_mirax(slides / "case/s.mrxs", painted(), 0.25)
    [slide] = slides_in(slides)
    assert (slide.name, slide.path) == ("case/s.mrxs", mrxs)
    data = mrxs.with_suffix("")
    assert slide.size_bytes == sum(
        os.path.getsize(path)  # noqa: PTH202
        for path in (mrxs, data / "Slidedat.ini", data / "Index.dat", data / "Data0000.dat")
    )
    with open_slide(slide.path) as opened:
        assert opened.mpp == 0.25


def test_a_vms_slide_hides_its_images_and_no_others(slides):
    write_vms(slides / "s.vms", painted(256, 256), 0.46)
    touch(slides, "s(1,0).jpg", "s2.jpg", "t.jpg")
    assert names(slides) == ["s.vms", "s2.jpg", "t.jpg"]
    assert slides_in(slides)[0].size_bytes == sum(path.stat().st_size for path in slides.glob("s[._(]*"))


def test_a_folder_of_one_dicom_slide_is_one_entry_under_its_own_name(slides):
    files = write_dicom(slides / "case 1/series", painted(), 0.5)
    [slide] = slides_in(slides)
    assert (slide.name, slide.path) == ("case 1/series", files[2])
    assert slide.size_bytes == sum(file.stat().st_size for file in files)


def test_several_dicom_slides_of_a_folder_are_an_entry_each(slides):
    write_dicom(slides / "all", painted(), 0.5)
    write_dicom_level(slides / "all/other.dcm", painted(), 0.5, "1.2.3")
    touch(slides, "all/ct.dcm")
    assert names(slides) == ["all/IM0003.dcm", "all/other.dcm"]


def test_no_more_than_two_thousand_are_listed(slides):
    touch(slides, *(f"{number}.svs" for number in range(2_005)))
    assert names(slides) == [f"{number}.svs" for number in range(2_000)]


def test_folders_are_followed_down_to_a_depth(slides):
    inside = "/".join("abcdefgh")
    touch(slides, f"{inside}/s.svs", f"{inside}/i/s.svs")
    assert names(slides) == [f"{inside}/s.svs"]


def test_an_empty_folder_lists_nothing(slides):
    assert slides_in(slides) == []


# What is not


def test_links_out_of_the_folder_are_not_listed(slides, tmp_path):
    touch(tmp_path / "outside", "secret.svs", "m/Slidedat.ini")
    touch(slides, "inside/a.svs", "m.mrxs")
    (slides / "file.svs").symlink_to(tmp_path / "outside/secret.svs")
    (slides / "folder").symlink_to(tmp_path / "outside")
    (slides / "m").symlink_to(tmp_path / "outside/m")
    (slides / "gone.svs").symlink_to(tmp_path / "nothing")
    (slides / "loop.svs").symlink_to(slides / "loop.svs")
    (slides / "inside/up").symlink_to(slides)
    (slides / "again.svs").symlink_to(slides / "inside/a.svs")
    assert names(slides) == ["again.svs", "inside/a.svs"]


@pytest.mark.parametrize("kind", ["mirax", "vms", "dicom"])
@pytest.mark.parametrize("what", ["link out", "pipe", "link within"])
def test_a_slide_of_several_files_is_listed_only_if_all_lie_in_the_folder(slides, tmp_path, kind, what):
    if kind == "mirax":
        part = write_mirax(slides / "case/s.mrxs", painted(), 0.25).with_suffix("") / "Data0000.dat"
    elif kind == "vms":
        part = write_vms(slides / "case/s.vms", painted(256, 256), 0.46).with_name("s_map2.jpg")
    else:
        part = write_dicom(slides / "case", painted(), 0.5)[0]
    [listed] = slides_in(slides)
    if what == "pipe":
        part.unlink()
        os.mkfifo(part)
    else:
        elsewhere = (tmp_path if what == "link out" else slides) / "elsewhere.dat"
        part.rename(elsewhere)
        part.symlink_to(elsewhere)
    assert (listed.name in names(slides)) == (what == "link within")


def test_a_folder_that_is_itself_a_link_is_listed(slides, tmp_path):
    touch(slides, "a.svs")
    (tmp_path / "link").symlink_to(slides)
    assert names(tmp_path / "link") == ["a.svs"]
    assert resolve(tmp_path / "link", "a.svs") == slides / "a.svs"


def test_a_folder_that_cannot_be_read_hides_no_others(slides, monkeypatch):
    touch(slides, "a/1.svs", "b/2.svs")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(folder_module.os, "scandir", refuse)
    assert names(slides) == ["b/2.svs"]


# Choosing


def test_a_listed_name_is_the_file_that_opens(slides):
    png = write_png(slides / "case/a.png")
    assert resolve(slides, "case/a.png") == png


@pytest.mark.parametrize(
    "choice",
    ["../outside.svs", "/etc/passwd", "case/../case/a.svs", "case", "./case/a.svs", "link.svs", ".a.svs", "", None],
)
def test_a_forged_name_is_refused(slides, tmp_path, choice):
    touch(slides, "case/a.svs", ".a.svs")
    touch(tmp_path, "outside.svs")
    (slides / "link.svs").symlink_to(tmp_path / "outside.svs")
    with pytest.raises(SlideError, match="is not among the slides of the server's folder; choose one from the list"):
        resolve(slides, choice)


# The variable


def test_without_the_variable_there_is_no_folder(monkeypatch):
    monkeypatch.delenv("NSL_SLIDE_DIR", raising=False)
    assert slide_dir() is None
    monkeypatch.setenv("NSL_SLIDE_DIR", "  ")
    assert slide_dir() is None


def test_the_variable_names_the_folder(monkeypatch, slides):
    monkeypatch.setenv("NSL_SLIDE_DIR", f"{slides} ")
    assert slide_dir() == slides


@pytest.mark.parametrize(("name", "reason"), [("nothing", "No such file or directory"), ("a.svs", "Not a directory")])
def test_a_variable_that_names_no_folder_is_told(monkeypatch, slides, name, reason):
    touch(slides, "a.svs")
    monkeypatch.setenv("NSL_SLIDE_DIR", str(slides / name))
    with pytest.raises(NslError) as caught:
        slide_dir()
    wanted = f"NSL_SLIDE_DIR is {slides / name}, which cannot be listed ({reason}); set it to a folder of slides"
    assert str(caught.value).startswith(wanted)
