"""What reading a cohort back promises: nothing that its files say has a file elsewhere read."""

import json
import os

import h5py
import pytest

from nsl.cohort.folder import (
    cohorts_in,
    in_class,
    read_cohort,
    read_map,
    read_result,
    read_status,
    region_classes,
    slide_file,
)
from nsl.cohort.run import run_cohort
from nsl.cohort.slide_list import slides_of_cohort
from nsl.errors import NslError
from nsl.weights.folder import load_weights
from tests.cohort.made_cohort import made_slides, settings_of


@pytest.fixture
def cohort(tiny_weights, tmp_path):
    """A finished cohort of two slides in a server's folder."""
    root = tmp_path / "server"
    slides = slides_of_cohort(made_slides(root, 2), root / "a/run")
    run_cohort(slides, settings_of(tiny_weights), load_weights(tiny_weights), root / "a/run")
    [found] = cohorts_in(root)
    return found


def test_a_cohort_is_found_and_read_as_it_was_written(cohort):
    assert cohort.name == "a/run"
    assert read_status(cohort).status.tolist() == ["done", "done"]
    slides = read_cohort(cohort)
    assert slides.var_names.tolist() == ["ERBB2", "CD24", "COX6C"]
    tiles = read_map(cohort, "s1", "CD24")
    whole = read_result(cohort, "s1")
    assert tiles.X.ravel().tolist() == whole[:, "CD24"].X.ravel().tolist()
    assert slides["s1", "CD24"].X.item() == pytest.approx(tiles.X.mean(), abs=1e-5)
    assert slide_file(cohort, "s1") == "slides/s1.png"


def test_the_means_inside_a_class_are_those_of_its_tiles(tiny_weights, tmp_path):
    root = tmp_path / "server"
    slides = slides_of_cohort(made_slides(root, 2, annotated=1), root / "run")
    run_cohort(slides, settings_of(tiny_weights), load_weights(tiny_weights), root / "run")
    [cohort] = cohorts_in(root)
    whole = read_cohort(cohort)
    assert region_classes(cohort, whole) == {"Tumor": 1}
    inside = in_class(cohort, whole, "Tumor")
    assert inside.obs_names.tolist() == ["s0"]
    tiles = read_result(cohort, "s0")
    expected = tiles[tiles.obs["region_class"] == "Tumor", inside.var_names].X.mean(axis=0)
    assert inside.X[0] == pytest.approx(expected, abs=1e-5)
    (cohort.path / "slides/s0.summary.npz").write_bytes(b"no zip")
    for read in (lambda: region_classes(cohort, whole), lambda: in_class(cohort, whole, "Tumor")):
        with pytest.raises(NslError, match=r"s0\.summary\.npz cannot be read"):
            read()


def test_hidden_and_linked_folders_are_not_listed(cohort, tmp_path):
    (cohort.root / "a").rename(tmp_path / "outside")
    (cohort.root / "link").symlink_to(tmp_path / "outside")
    assert cohorts_in(cohort.root) == []
    (tmp_path / "outside").rename(cohort.root / ".hidden")
    assert cohorts_in(cohort.root) == []


@pytest.mark.parametrize("name", ["../s0", "/etc/passwd", "..", "a\0b", "no", "../../../secret"])
def test_a_name_of_a_slide_is_no_path(cohort, tmp_path, name):
    (tmp_path / "secret.h5ad").write_bytes((cohort.path / "slides/s0.h5ad").read_bytes())
    for read in (lambda: read_map(cohort, name, "CD24"), lambda: read_result(cohort, name)):
        with pytest.raises(NslError, match=r"has no file .* that can be read"):
            read()


def test_a_link_out_of_the_servers_folder_is_not_followed(cohort, tmp_path):
    for name in ("slides/s0.h5ad", "status.csv", "cohort.h5ad"):
        path = cohort.path / name
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    for read in (lambda: read_map(cohort, "s0", "CD24"), lambda: read_status(cohort), lambda: read_cohort(cohort)):
        with pytest.raises(NslError, match=r"has no file .* that can be read"):
            read()


@pytest.mark.parametrize(
    "told", ["/etc/passwd", "../../../../outside.svs", "../../../slides/../../outside.svs", 5, None]
)
def test_a_slides_own_file_lies_in_the_servers_folder_or_is_none(cohort, told):
    record = cohort.path / "slides/s0.run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"slide_file": told}), encoding="utf-8")
    with pytest.raises(NslError, match="does not lie in the server's folder"):
        slide_file(cohort, "s0")


def test_a_file_that_would_have_others_read_is_refused(cohort, tmp_path):
    os.link(cohort.path / "slides/s1.h5ad", tmp_path / "secret.h5ad")
    with h5py.File(cohort.path / "slides/s0.h5ad", "a") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink(str(tmp_path / "secret.h5ad"), "X")
    for read in (lambda: read_map(cohort, "s0", "CD24"), lambda: read_result(cohort, "s0")):
        with pytest.raises(NslError):
            read()


@pytest.mark.parametrize("name", ["status.csv", "cohort.h5ad", "slides/s0.h5ad"])
def test_a_damaged_file_is_one_sentence(cohort, name):
    (cohort.path / name).write_bytes(b"\xff\x00 no such file")
    with pytest.raises(NslError, match="cannot be read"):
        {"status.csv": read_status, "cohort.h5ad": read_cohort}.get(name, lambda one: read_map(one, "s0", "CD24"))(
            cohort
        )


def test_a_file_that_lacks_what_maps_are_drawn_with_is_one_sentence(cohort):
    with h5py.File(cohort.path / "slides/s0.h5ad", "a") as file:
        del file["uns/spatial/slide"]
    with h5py.File(cohort.path / "cohort.h5ad", "a") as file:
        del file["var/scale_low"]
        order = [name for name in file["var"].attrs["column-order"] if name != "scale_low"]
        file["var"].attrs["column-order"] = order
    for read in (
        lambda: read_map(cohort, "s0", "CD24"),
        lambda: read_result(cohort, "s0"),
        lambda: read_cohort(cohort),
    ):
        with pytest.raises(NslError, match=r"cannot be read|lacks scale_low; run the cohort again"):
            read()


def test_a_slide_named_like_a_formula_is_text_in_the_table_and_itself_when_read_back(tiny_weights, tmp_path):
    root = tmp_path / "server"
    listed = made_slides(root, 1)
    (root / "slides/s0.png").rename(root / "slides/=1+1.png")
    listed.write_text("slide,mpp\nslides/=1+1.png,1\n")
    run_cohort(
        slides_of_cohort(listed, root / "run"), settings_of(tiny_weights), load_weights(tiny_weights), root / "run"
    )
    [found] = cohorts_in(root)
    assert ",=1+1," not in (root / "run/status.csv").read_text()
    assert read_status(found).index.tolist() == read_cohort(found).obs_names.tolist() == ["=1+1"]
