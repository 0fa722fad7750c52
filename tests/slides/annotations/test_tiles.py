"""What `annotations` promises of tiles: each is in the region that covers it, and in the inner one where they nest."""

import numpy as np
import pytest
import shapely
from shapely.geometry import Polygon, box

from nsl import predict
from nsl.errors import AnnotationsError
from nsl.slides.annotations.region import Region
from nsl.slides.annotations.tiles import annotate, regions_of_tiles


def region(geometry, name="a", class_name="") -> Region:
    return Region(name, class_name, None, geometry)


def grid(columns: int, rows: int, side: float) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * side + side / 2


def test_a_tile_is_in_a_region_that_covers_at_least_half_of_it():
    row = grid(4, 1, 10.0)
    assert regions_of_tiles(row, 10.0, [region(box(0, 0, 15, 10))]).tolist() == [0, 0, -1, -1]
    assert regions_of_tiles(row, 10.0, [region(box(0, 0, 14.9, 10))]).tolist() == [0, -1, -1, -1]


def test_of_two_regions_the_one_that_covers_more_has_the_tile():
    assert regions_of_tiles(grid(1, 1, 10.0), 10.0, [region(box(0, 0, 6, 10)), region(box(1, 0, 99, 10))]).tolist() == [
        1
    ]


@pytest.mark.parametrize("turn", [1, -1])
def test_a_region_inside_another_goes_before_it(turn):
    outer, inner = region(box(0, 0, 100, 100)), region(box(20, 20, 47, 50))
    found = regions_of_tiles(grid(10, 10, 10.0), 10.0, [outer, inner][::turn])
    inside = (found == [outer, inner][::turn].index(inner)).reshape(10, 10)
    expected = np.zeros((10, 10), bool)
    expected[2:5, 2:5] = True  # the last column by 7 tenths
    np.testing.assert_array_equal(inside, expected)
    assert (found >= 0).all()


def test_of_two_equal_regions_the_later_has_the_tiles_and_what_lies_within_both_goes_before():
    equal, inner = (region(box(0, 0, 50, 50)) for _ in range(2)), region(box(20, 20, 30, 30))
    found = regions_of_tiles(grid(5, 5, 10.0), 10.0, [*equal, inner])
    assert found[12] == 2
    assert set(np.delete(found, 12)) == {1}


def test_a_hole_is_outside():
    ring = Polygon(box(0, 0, 50, 50).exterior, [box(20, 20, 30, 30).exterior])
    assert (regions_of_tiles(grid(5, 5, 10.0), 10.0, [region(ring)]) == -1).nonzero()[0].tolist() == [12]


def test_no_regions_or_no_tiles_are_no_trouble():
    assert regions_of_tiles(grid(2, 1, 10.0), 10.0, []).tolist() == [-1, -1]
    assert regions_of_tiles(np.empty((0, 2)), 10.0, [region(box(0, 0, 1, 1))]).shape == (0,)


def test_shares_are_those_of_each_tile_cut_out_by_itself():
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    blobs = []
    for x, y in rng.uniform(100, 900, (12, 2)):
        radius = 120 + 20 * np.cumsum(rng.normal(0, 0.1, 3000)) * np.sin(angle / 2)
        outline = Polygon(np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1))
        blobs.append(region(shapely.make_valid(outline, method="structure", keep_collapsed=False)))
    centers = grid(50, 50, 20.0)
    for one in blobs:
        found = regions_of_tiles(centers, 20.0, [one])
        boxes = shapely.box(*(centers - 10).T, *(centers + 10).T)
        share = shapely.area(shapely.intersection(boxes, one.geometry)) / 400
        clear = np.abs(share - 0.5) > 1e-5
        np.testing.assert_array_equal((found == 0)[clear], (share >= 0.5)[clear])


def test_many_tiles_are_looked_at_as_few_are():
    centers = grid(120, 100, 10.0)  # more than are looked at at once
    regions = [region(box(100, 100, 900, 900)), region(box(300, 300, 500, 500))]
    found = regions_of_tiles(centers, 10.0, regions)
    np.testing.assert_array_equal(found[:300], regions_of_tiles(centers[:300], 10.0, regions))
    assert [(found == place).sum() for place in (0, 1)] == [6400 - 400, 400]


def test_tiles_of_a_result_say_their_region_and_class(slide, weights):
    result = predict(slide, weights)
    annotate(result, [region(box(0, 0, 350, 600), "left", "Tumor"), region(box(350, 0, 700, 300), "above")])
    x, y = result.obsm["spatial"].T
    assert (result.obs.region[x < 350] == "left").all()
    assert (result.obs.region_class[x < 350] == "Tumor").all()
    assert set(result.obs.region[(x > 350) & (y < 300)]) == {"above"}
    assert set(result.obs.region_class[x > 350]) == {""}
    assert set(result.obs.region[(x > 350) & (y > 300)]) == {""}


def test_tiles_predicted_inside_regions_alone_are_those_among_all(slide, weights):
    inside = [region(box(100, 200, 300, 400), "a", "Tumor"), region(box(500, 300, 600, 400), "b")]
    every, some = predict(slide, weights, regions=inside), predict(slide, weights, regions=inside, inside_only=True)
    expected = every[every.obs.region != ""]
    assert sorted(expected.obs_names) == ["r2c1", "r2c2", "r3c1", "r3c2", "r3c5"]
    assert some.obs_names.tolist() == expected.obs_names.tolist()
    np.testing.assert_array_equal(some.X, expected.X)
    assert some.obs.region_class.tolist() == expected.obs.region_class.tolist()
    assert (some.uns["nsl"]["complete"], some.uns["nsl"]["inside_only"]) == (True, True)
    assert not every.uns["nsl"]["inside_only"]


def test_regions_that_cover_no_tile_are_told_where_only_they_are_predicted(slide, weights):
    with pytest.raises(AnnotationsError, match="none of the 1 regions covers half of a tile of 100 px"):
        predict(slide, weights, regions=[region(box(90, 90, 110, 110))], inside_only=True)
    with pytest.raises(AnnotationsError, match="region 1 lies off the slide"):
        predict(slide, weights, regions=[region(box(9000, 90, 9900, 110))])
