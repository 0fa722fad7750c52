"""What a prediction holds, read by name and type."""

from dataclasses import fields

import anndata
import numpy as np
import pytest

from nsl import load_weights, open_slide, predict
from nsl.errors import NslError
from nsl.result import (
    Provenance,
    SlidePicture,
    caveats,
    left_out,
    map_of,
    nearest_tiles,
    percentile_of,
    require_genes,
    stain_warning,
    tile_at,
    tile_beside,
    values_of,
    without_tiles,
)
from tests.made_maps import map_of as made_map


@pytest.fixture
def result(section_png, tiny_weights):
    with open_slide(section_png, mpp=0.5) as slide:
        return predict(slide, load_weights(tiny_weights), stride_um=50)


@pytest.fixture
def stored(result, tmp_path):
    """The result as a file gives it back."""
    result.write_h5ad(tmp_path / "result.h5ad")
    return anndata.read_h5ad(tmp_path / "result.h5ad")


def test_provenance_is_the_same_of_a_result_in_memory_and_of_one_from_a_file(result, stored):
    known, read = Provenance.of(result), Provenance.of(stored)
    for field in fields(Provenance):
        assert type(getattr(read, field.name)) is field.type
        np.testing.assert_array_equal(getattr(read, field.name), getattr(known, field.name))
    assert (known.mpp, known.tile_um, known.stride_um, known.complete) == (0.5, 100.0, 50.0, True)
    assert known.white_point.shape == (3,)
    assert known.slide_stain_vectors.shape == (2, 3)


def test_provenance_is_stored_key_by_key_without_what_prediction_cannot_know(result):
    assert list(Provenance.of(result).as_uns()) == list(result.uns["nsl"])
    assert "synthetic" not in result.uns["nsl"]
    assert not Provenance.of(result).synthetic
    result.uns["nsl"]["synthetic"] = True
    assert Provenance.of(result).synthetic


def test_the_picture_of_the_slide_has_its_scale(result, stored):
    picture = SlidePicture.of(stored)
    np.testing.assert_array_equal(picture.rgb, result.uns["spatial"]["slide"]["images"]["hires"])
    assert (picture.scale, picture.mpp) == (1.0, 0.5)
    np.testing.assert_array_equal(picture.size_um, [350, 300])
    factors = picture.as_uns(100.0)["slide"]["scalefactors"]
    assert factors == result.uns["spatial"]["slide"]["scalefactors"]


def test_maps_are_columns_of_the_result_by_gene(result):
    np.testing.assert_array_equal(map_of(result, "CD24"), result[:, "CD24"].X.ravel())
    np.testing.assert_array_equal(values_of(result, ["COX6C", "ERBB2"]), result[:, ["COX6C", "ERBB2"]].X)
    assert np.shares_memory(values_of(result, list(result.var_names)), result.X)
    with pytest.raises(KeyError, match="TP53"):
        map_of(result, "TP53")


def test_genes_are_all_those_of_the_result_or_each_of_a_list_once(result):
    assert require_genes(result, None) == ["ERBB2", "CD24", "COX6C"]
    assert require_genes(result, ["CD24", "ERBB2", "CD24"]) == ["CD24", "ERBB2"]
    with pytest.raises(NslError, match=r"^the map holds no gene TP53 \(and 1 more\); choose among its 3"):
        require_genes(result, ["TP53", "CD24", "EGFR"])


def test_a_whole_result_of_a_real_slide_needs_no_caveat(result):
    assert caveats(result) == []
    result.uns["nsl"] |= {"synthetic": True, "complete": False}
    assert [sentence.split()[-1] for sentence in caveats(result)] == ["patient.", "cancelled."]


def test_every_tile_is_found_where_it_is_drawn(result):
    for name in result.obs_names[::9]:
        x_mm, y_mm = result.obs.loc[name, ["x_um", "y_um"]] / 1000
        for dx, dy in [(0, 0), (0.024, -0.024), (-0.024, 0.024)]:
            assert tile_at(result, x_mm + dx, y_mm + dy) == name


@pytest.mark.parametrize("place", [(-1.0, 0.1), (0.0, 0.0), (9.0, 9.0)])
def test_where_no_tile_is_none_is_found(result, place):
    assert tile_at(result, *place) is None


def test_percentiles_run_from_the_lowest_tile_to_the_highest(result):
    values = result[:, "CD24"].X.ravel()
    lowest, highest = result.obs_names[values.argmin()], result.obs_names[values.argmax()]
    assert percentile_of(result, "CD24", highest) == 100
    assert percentile_of(result, "CD24", lowest) == pytest.approx(100 / result.n_obs)


def test_a_step_leads_to_the_next_tile_that_way_over_gaps_and_stops_at_the_edge():
    # 0 1 . 3
    # 4 . . 7
    result = made_map(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 3, 0, 3]), np.ones((5, 1)))
    assert tile_beside(result, "r0c1", 1, 0) == "r0c3"
    assert tile_beside(result, "r0c3", -1, 0) == "r0c1"
    assert tile_beside(result, "r0c3", 1, 0) == "r0c3"
    assert tile_beside(result, "r0c0", 0, 1) == "r1c0"
    assert tile_beside(result, "r1c3", 0, -1) == "r0c3"
    assert tile_beside(result, "r0c1", 0, 1) == "r0c1"
    assert tile_beside(result, None, 1, 0) == "r0c1"


def as_scanned(result, *angles: float):
    """A result whose stains were not brought over, at these angles to training slides that reached 5° and 10°."""
    angles, spread = np.array(angles), np.array([5.0, 10.0])
    result = result.copy()
    result.uns["nsl"] |= {
        "transfer": np.eye(3),
        "stain_angles_degrees": angles,
        "training_spread_degrees": spread,
        "stain_distance": float((angles / spread).max()),
    }
    return result


def test_a_slide_taken_as_scanned_that_is_stained_otherwise_is_told_by_how_much(result):
    assert stain_warning(as_scanned(result, 4.9, 9.9)) is None
    told = stain_warning(as_scanned(result, 3.0, 21.4))
    assert "hematoxylin by 3°, eosin by 21°" in told
    assert "was not brought to their stains" in told


def test_a_slide_too_pale_to_compare_says_so(result):
    assert "Too little of this slide is stained" in stain_warning(as_scanned(result, np.nan, np.nan))


def test_erased_tiles_are_gone_and_counted_and_the_result_stays_whole(result):
    before, values, by_checks = list(result.obs_names), result.X.copy(), dict(result.uns["nsl"]["left_out"])
    gone = [before[0], before[5]]
    left = without_tiles(without_tiles(result, [gone[0]]), [gone[1], "r999c999"])
    assert list(left.obs_names) == [tile for tile in before if tile not in gone]
    np.testing.assert_array_equal(left.X, np.delete(values, [0, 5], axis=0))
    np.testing.assert_array_equal(left.obsm["spatial"], np.delete(result.obsm["spatial"], [0, 5], axis=0))
    assert Provenance.of(left).left_out == by_checks | {"by_hand": 2}
    assert "2 tiles were left out by hand." in caveats(left)
    assert list(result.obs_names) == before
    assert Provenance.of(result).left_out == by_checks


def test_tiles_left_out_by_hand_are_told_apart_from_those_that_the_checks_left_out(result):
    result.uns["nsl"]["left_out"] = {}
    assert left_out(without_tiles(result, result.obs_names[:2])) == "2 tiles left out by hand"
    result.uns["nsl"]["left_out"] = {"ink": 3, "blur": 0}
    assert left_out(without_tiles(result, result.obs_names[:2])) == "5 tiles left out: 3 ink, 2 by hand"


def test_a_map_keeps_at_least_one_tile(result):
    assert without_tiles(result, result.obs_names[1:]).n_obs == 1
    with pytest.raises(NslError, match=f"erase all {result.n_obs} tiles"):
        without_tiles(result, result.obs_names)


def test_the_tile_nearest_to_a_finer_one_is_the_one_drawn_there(section_png, tiny_weights, result):
    with open_slide(section_png, mpp=0.5) as slide:
        finer = predict(slide, load_weights(tiny_weights), tile_um=25)
    nearest = nearest_tiles(result, finer.obsm["spatial"])
    at = [tile_at(result, *center) for center in finer.obs[["x_um", "y_um"]].to_numpy() / 1000]
    drawn = [(one, there) for one, there in zip(nearest, at, strict=True) if there]
    assert len(drawn) > 50
    assert all(one == there for one, there in drawn)
