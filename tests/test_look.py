"""A closer look at a result: places, tissue, a finer grid."""

import numpy as np
import pytest

from nsl import load_weights, open_slide, predict
from nsl.errors import SlideError
from nsl.look import PATCH_PX, fine_map, patch, percentile_of, tile_at


@pytest.fixture
def weights(tiny_weights):
    return load_weights(tiny_weights)


@pytest.fixture
def slide(section_png):
    with open_slide(section_png, mpp=0.5) as slide:
        yield slide


@pytest.fixture
def result(slide, weights):
    return predict(slide, weights, stride_um=50)


def test_every_tile_is_found_where_it_is_drawn(result):
    for name in result.obs_names[::9]:
        x_mm, y_mm = result.obs.loc[name, ["x_um", "y_um"]] / 1000
        for dx, dy in [(0, 0), (0.024, -0.024), (-0.024, 0.024)]:
            assert tile_at(result, x_mm + dx, y_mm + dy) == name


@pytest.mark.parametrize("place", [(-1.0, 0.1), (0.0, 0.0), (9.0, 9.0)])
def test_where_no_tile_is_none_is_found(result, place):
    assert tile_at(result, *place) is None


def test_a_patch_is_the_slide_under_the_tile(slide, result, section):
    name = result.obs_names[20]
    seen = patch(slide, result, name)
    x, y = result[name].obsm["spatial"][0]
    np.testing.assert_array_equal(seen.rgb, section.pixels[int(y) - 100 : int(y) + 100, int(x) - 100 : int(x) + 100])
    assert seen.mpp == 0.5
    assert seen.analysed.shape == (50, 50, 3)


def test_the_patch_of_a_large_tile_is_no_finer_than_a_screen(data_folder, weights):
    with open_slide(data_folder / "slides/cmu_small_region.svs") as slide:
        result = predict(slide, weights, tile_um=900, min_tissue=0.1)
        seen = patch(slide, result, result.obs_names[0])
    assert max(seen.rgb.shape) <= PATCH_PX + 1


def test_percentiles_run_from_the_lowest_tile_to_the_highest(result):
    values = result[:, "CD24"].X.ravel()
    lowest, highest = result.obs_names[values.argmin()], result.obs_names[values.argmax()]
    assert percentile_of(result, "CD24", highest) == 100
    assert percentile_of(result, "CD24", lowest) == pytest.approx(100 / result.n_obs)


def test_squares_of_a_fine_map_average_to_the_tile(slide, weights):
    coarse = predict(slide, weights, genes=["CD24"], min_tissue=0)
    fine = fine_map(slide, weights, "CD24", 20, min_tissue=0, analysis_mpp=2.0)
    for name in coarse.obs_names:
        place = coarse.obs.loc[name]
        inside = (fine.obs[["x_um", "y_um"]] - place[["x_um", "y_um"]]).abs().max(axis=1) < 50
        assert inside.sum() == 25
        assert fine.X[inside].mean() == pytest.approx(coarse[name].X.item(), abs=1e-4)


def test_a_fine_map_reads_the_slide_fine_enough_for_its_squares(slide, weights):
    assert fine_map(slide, weights, "CD24", 10, min_tissue=0.3, analysis_mpp=8.0).uns["nsl"]["analysis_mpp"] == 5.0


def test_a_slide_that_has_gone_is_told(slide, result):
    slide.close()
    with pytest.raises(SlideError, match="is closed"):
        patch(slide, result, result.obs_names[0])
