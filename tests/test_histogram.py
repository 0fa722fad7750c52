"""What `nsl.histogram` promises: prediction from counts equals the pixel-by-pixel model."""

import numpy as np
import pytest
import torch

from nsl import NeuralStain, count_colors, load_weights, open_slide
from nsl.pixels import predict_pixels
from nsl.stains import estimate_stains, optical_density, tissue_colors
from nsl.tiles import pixel_bounds, tile_grid, tissue_fraction
from nsl.white_point import estimate_white_point

WHITE = np.array([240.0, 235.0, 238.0])


@pytest.fixture
def speckled() -> np.ndarray:
    return np.random.default_rng(3).integers(1, 256, (40, 60, 3), dtype=np.uint8)


def _pixels_of(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = box
    return image[max(y0, 0) : y1, max(x0, 0) : x1].reshape(-1, 3)


@pytest.mark.parametrize("bits", [1, 4, 5, 8])
def test_every_pixel_is_counted_once_with_its_optical_density(speckled, bits):
    grid = np.array([[0, 0, 20, 40], [20, 0, 60, 40]])
    colors = count_colors(speckled, grid, WHITE, bits)
    assert colors.pixels.tolist() == [800, 1600]
    for tile, box in enumerate(grid):
        total = optical_density(_pixels_of(speckled, box), WHITE).sum(axis=0)
        np.testing.assert_allclose(colors.od_sums[tile].sum(axis=0), total, rtol=1e-4)


def test_only_occupied_bins_are_kept_with_their_mean_colour():
    image = np.empty((10, 10, 3), np.uint8)
    image[:, :6] = (200, 100, 150)
    image[:, 6:] = (90, 60, 130)
    colors = count_colors(image, np.array([[0, 0, 10, 10]]), WHITE)
    assert sorted(colors.counts[0].tolist()) == [40, 60]
    expected = optical_density(np.array([[90, 60, 130], [200, 100, 150]], np.uint8), WHITE)
    np.testing.assert_allclose(colors.palette_od[np.argsort(colors.counts[0])], expected, rtol=1e-5)


def test_black_padding_and_what_lies_outside_the_image_are_left_out(speckled):
    speckled[:10] = 0
    colors = count_colors(speckled, np.array([[-5, 0, 20, 20], [50, 30, 70, 50], [0, 0, 60, 10]]), WHITE)
    assert colors.pixels.tolist() == [200, 100, 0]


def test_overlapping_tiles_each_get_all_their_pixels(speckled):
    grid = np.array([[0, 0, 30, 30], [10, 10, 40, 40], [0, 0, 30, 30]])
    colors = count_colors(speckled, grid, WHITE)
    assert colors.pixels.tolist() == [900, 900, 900]
    np.testing.assert_array_equal(colors.moments[0], colors.moments[2])


def test_bits_out_of_range_are_refused(speckled):
    with pytest.raises(ValueError, match="between 1 and 8, got 9"):
        count_colors(speckled, np.array([[0, 0, 9, 9]]), WHITE, bits=9)


def test_a_model_without_kinks_is_predicted_exactly(speckled):
    model = NeuralStain(["A", "B"]).requires_grad_(False)
    model.offset += 50  # far from the relu's kink, so every bin's linear piece is the model itself
    grid = np.array([[0, 0, 30, 40], [30, 0, 60, 40]])
    pixels = torch.from_numpy(np.stack([optical_density(_pixels_of(speckled, box), WHITE) for box in grid]))
    from_counts = model.from_counts(count_colors(speckled, grid, WHITE, bits=2))
    torch.testing.assert_close(from_counts, model(pixels), rtol=1e-4, atol=1e-4)


def test_a_tile_without_pixels_has_no_prediction(speckled):
    speckled[:, :20] = 0
    colors = count_colors(speckled, np.array([[0, 0, 20, 40], [20, 0, 60, 40]]), WHITE)
    predicted = NeuralStain(["A"]).from_counts(colors).detach()
    assert predicted[:, 0].isnan().tolist() == [True, False]


def test_compiled_prediction_is_the_definition(speckled):
    speckled[:, :7] = 0
    model = load_weights().model.select(["ERBB2", "CD24", "COX6C"])
    grid = np.array([[0, 0, 20, 40], [20, 0, 60, 40], [50, 30, 70, 50], [0, 0, 7, 9]])
    predicted = predict_pixels(model, speckled, grid, WHITE)
    for tile, box in enumerate(grid[:3]):
        pixels = _pixels_of(speckled, box)
        od = torch.from_numpy(optical_density(pixels[pixels.any(axis=1)], WHITE))
        np.testing.assert_allclose(predicted[tile], model(od[None])[0].numpy(), rtol=1e-4)
    assert np.isnan(predicted[3]).all()


@pytest.mark.parametrize(("bits", "median_error"), [(5, 0.06), (7, 0.01)])
def test_prediction_from_counts_equals_pixel_by_pixel_on_real_tissue(data_folder, bits, median_error):
    weights = load_weights()
    some = weights.model.select(weights.genes[:: len(weights.genes) // 250][:250])
    with open_slide(data_folder / "her2st/images/C5_full.jpg", mpp=0.69) as slide:
        image = slide.read(0, 0, *slide.size, 3.0)
        grid = tile_grid(slide, 150.0)
    white = estimate_white_point(image).rgb
    stains = estimate_stains(tissue_colors(image, white))
    model = some.transferred(weights.config.stains.transfer_of(stains).matrix)
    bounds = pixel_bounds(grid.centers_px, 150.0, 0.69, 3.0)
    bounds = bounds[tissue_fraction(image, bounds, white) >= 0.3]
    chosen = bounds[np.linspace(0, len(bounds) - 1, 64).astype(int)]
    from_counts = model.from_counts(count_colors(image, chosen, white, bits)).numpy()
    by_pixel = np.concatenate(
        [model(torch.from_numpy(optical_density(_pixels_of(image, box), white))[None]).numpy() for box in chosen]
    )

    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(from_counts.T, by_pixel.T, strict=True)]
    error = np.abs(from_counts - by_pixel).max(axis=0) / by_pixel.std(axis=0)
    assert min(r) >= 0.999
    assert np.median(error) <= median_error
    assert np.mean(error <= 0.10) >= 0.9
