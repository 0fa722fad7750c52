"""What a list of slides promises: paths from where it lies, a name for each, and one sentence for what is wrong."""

from pathlib import Path

import pytest

from nsl.cohort.slide_list import list_slides, slides_of_cohort
from nsl.errors import NslError
from tests.fixtures import stained_section
from tests.slides.test_archive import painted, write_dicom


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """Lists what a CSV says; the working folder is another one."""
    (tmp_path / "lists").mkdir()
    monkeypatch.chdir(tmp_path)

    def read(text: str, mpp: float | None = None):
        path = Path("lists/slides.csv")
        path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
        return slides_of_cohort(path, tmp_path / "out", mpp)

    return read


def test_paths_are_relative_to_the_list_and_empty_cells_are_not_said(listed, tmp_path):
    here, there = listed(
        "\ufeffslide, MPP ,group,regions,note\n\na/one.svs,0.5,HER2+,a/one.geojson,x\n/data/two.svs,,,\n", mpp=0.25
    )
    lists = tmp_path / "lists"
    assert (here.path, here.mpp, here.group) == (lists / "a/one.svs", 0.5, "HER2+")
    assert here.regions == lists / "a/one.geojson"
    assert (there.path, there.mpp, there.group, there.regions) == (Path("/data/two.svs"), 0.25, "", None)
    assert [here.listed, there.listed] == ["a/one.svs", "/data/two.svs"]


def test_slides_of_one_name_have_results_of_their_own(listed):
    slides = listed("slide\na/s.svs\nb/s.svs\nb/S.tif\ns-2.svs\n")
    assert [slide.name for slide in slides] == ["s", "s-2", "S-3", "s-2-2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"slides\.csv has no column slide \(its first line is nothing\)"),
        ("name,mpp\na.svs,1\n", r"has no column slide \(its first line is name, mpp\); separate the columns"),
        (
            "slide,mpp,Slide \na.svs,1,b.svs\n",
            r"slides\.csv has 2 columns called slide; keep one of them",
        ),
        ("slide\n\n", "lists no slide"),
        ("slide,mpp\na.svs,1\n,0.5\n", "names no slide on line 3"),
        ("slide,mpp\na.svs,20x\n", r'the mpp "20x" on line 2; write µm/px as a number such as 0\.25'),
        ("slide,mpp\na.svs,0\n", 'the mpp "0" on line 2'),
        ("slide\na.svs\nx/../a.svs\n", r"x/\.\./a\.svs is the same slide as a\.svs"),
        (b"slide\na\0.svs\n", r"slides\.csv is no plain text \(line 2\)"),
    ],
)
def test_a_bad_list_is_one_sentence(listed, text, said):
    with pytest.raises(NslError, match=said):
        listed(text)


def test_what_is_neither_list_nor_folder_is_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, said in (("no.csv", "cannot be read"), ("no", "does not exist; it must be"), ("empty", "holds no slide")):
        with pytest.raises(NslError, match=said):
            slides_of_cohort(tmp_path / name, tmp_path / "out")


def test_a_folder_gives_its_slides_but_not_the_results_in_it(tmp_path):
    for name in ("b.png", "a/2.svs", "out/slides/b.ERBB2.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    slides = slides_of_cohort(tmp_path, tmp_path / "out", 0.5)
    assert [(slide.listed, slide.name, slide.mpp) for slide in slides] == [("a/2.svs", "2", 0.5), ("b.png", "b", 0.5)]


def test_files_lists_and_folders_can_be_named_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("more").mkdir()
    Path("more/c.png").write_bytes(b"1")
    Path("l.tsv").write_text("slide\tmpp\nb.svs\t0.3\n", encoding="utf-8")
    found = list_slides([Path("a.svs"), Path("l.tsv"), Path("more")], Path("out"), 1.0)
    assert [(slide.path.name, slide.mpp) for slide in found] == [("a.svs", 1.0), ("b.svs", 0.3), ("c.png", 1.0)]


def test_a_dicom_slide_of_a_folder_is_called_by_it(tmp_path):
    (tmp_path / "case 4.1").mkdir()
    write_dicom(tmp_path / "case 4.1", painted(512, 768), 0.5)
    [slide] = slides_of_cohort(tmp_path, tmp_path / "out")
    assert (slide.listed, slide.name) == ("case 4.1", "case 4.1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_lists_are_read_as_spreadsheets_save_them(listed, encoding):
    [slide] = listed("slide,group\r\nMüller 1.svs,größer\r\n".encode(encoding))
    assert (slide.path.name, slide.group) == ("Müller 1.svs", "größer")


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nslide;mpp;group\na, b.svs;0,25;x;y\n",
        "slide\tmpp\tgroup\r\na, b.svs\t0,25\tx\r\n",
        'slide,mpp\n"a, b.svs","0,25"\n',
    ],
    ids=["semicolons", "tabs", "commas"],
)
def test_columns_are_separated_as_the_first_line_is(listed, text):
    [slide] = listed(text)
    assert (slide.path.name, slide.mpp) == ("a, b.svs", 0.25)


@pytest.fixture
def folder_of_two(tmp_path) -> None:
    """Two slides in the folder `ins`."""
    (tmp_path / "ins/slides").mkdir(parents=True)
    for name in "ab":
        (tmp_path / f"ins/slides/{name}.png").write_bytes(stained_section(1).png)


def test_slides_that_a_list_names_are_run_wherever_the_results_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("list.csv").write_text("slide\none.svs\nruns/two.svs\n../three.svs\n")
    slides = slides_of_cohort(Path("list.csv"), Path())
    assert [one.listed for one in slides] == ["one.svs", "runs/two.svs", "../three.svs"]


def test_slides_of_a_folder_beside_the_results_are_run(folder_of_two, tmp_path):
    for out in (tmp_path, tmp_path / "ins/run", tmp_path / "elsewhere"):
        assert [one.name for one in slides_of_cohort(tmp_path / "ins", out)] == ["a", "b"]
        assert [one.name for one in list_slides([tmp_path / "ins/slides"], out)] == ["a", "b"]
    assert [one.name for one in list_slides([tmp_path / "ins/slides"], tmp_path / "ins")] == ["a", "b"]


@pytest.mark.parametrize(("given", "out"), [("ins", "ins"), ("ins/slides", "ins"), (".", ".")])
def test_results_do_not_come_to_lie_among_the_slides_of_a_folder(folder_of_two, tmp_path, monkeypatch, given, out):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NslError, match=r"^the results would lie among the slides of [^;]+; name another folder"):
        slides_of_cohort(Path(given), Path(out))
