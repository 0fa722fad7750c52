"""A small map has the colours of the large one, where its tiles are."""

import numpy as np
from plotly.colors import sample_colorscale

from nsl import predict
from nsl.figures.thumbnails import map_thumbnail, scale_bar
from nsl.result import map_of


def _rgb(share: float, palette: str) -> np.ndarray:
    [color] = sample_colorscale(palette, [share])
    return np.array([int(float(part)) for part in color[4:-1].split(",")])


def test_each_tile_has_its_colour_and_what_lies_beside_stays_the_slides(slide, weights):
    result = predict(slide, weights)
    low, high = 1.0, 2.0
    small = map_thumbnail(result, "CD24", (low, high), "Viridis", 1.0, side_px=350)
    assert small.shape == (300, 350, 3)
    for number in (0, 7, result.n_obs - 1):
        x, y = (result.obsm["spatial"][number] / 2).astype(int)
        share = np.clip((map_of(result, "CD24")[number] - low) / (high - low), 0, 1)
        assert np.abs(small[y, x].astype(int) - _rgb(float(share), "Viridis")).max() <= 2
    bare = map_thumbnail(result, "CD24", (low, high), "Viridis", 0.0, side_px=350)
    occupied = np.zeros(small.shape[:2], bool)
    for x, y in (result.obsm["spatial"] / 2).astype(int):
        occupied[max(y - 26, 0) : y + 26, max(x - 26, 0) : x + 26] = True
    np.testing.assert_array_equal(small[~occupied], bare[~occupied])


def test_the_bar_runs_from_the_low_end_to_the_high_one():
    bar = scale_bar("Magma")
    assert np.abs(bar[3, 0].astype(int) - _rgb(0, "Magma")).max() <= 1
    assert np.abs(bar[3, -1].astype(int) - _rgb(1, "Magma")).max() <= 1
