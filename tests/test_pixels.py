"""What `nsl.pixels` promises: the model's own values, however many genes there are and however tiles overlap."""

import numpy as np
import pytest
import torch

from nsl import NeuralStain, load_weights, open_slide
from nsl import pixels as loops
from nsl.pixels import PLANES, PixelModel
from nsl.slides.demo.slide import demo_slide
from nsl.stain_transfer import StainTransfer
from nsl.stains import SlideStains, estimate_stains, optical_density, tissue_colors
from nsl.tiles import grid_over, pixel_bounds, tissue_fraction
from nsl.white_point import estimate_white_point

WHITE = np.array([240.0, 236.0, 240.0])


def tissue_of(data_folder, name, mpp):
    """A section at 3 µm/px, 64 of its tiles, its white point, and the matrix of its stain transfer."""
    with open_slide(data_folder / name, mpp=mpp) as slide:
        image, scale, size = slide.read(0, 0, *slide.size, 3.0), slide.mpp, slide.size
    white = estimate_white_point(image).rgb
    bounds = pixel_bounds(grid_over(size, scale, 150).centers_px, 150, scale, 3.0)
    bounds = bounds[tissue_fraction(image, bounds, white) >= 0.3]
    stains = estimate_stains(tissue_colors(image, white))
    chosen = bounds[np.unique(np.linspace(0, len(bounds) - 1, 64).astype(int))]
    return image, chosen, white, load_weights().config.stains.transfer_of(stains).matrix


@pytest.mark.parametrize(
    ("name", "mpp"),
    [("her2st/images/C5_full.jpg", 0.69), ("her2st/images/B4_full.jpg", 0.69), ("slides/tcga_small.svs", 0.5)],
)
def test_thousands_of_genes_are_answered_as_each_by_itself(data_folder, name, mpp):
    image, tiles, white, matrix = tissue_of(data_folder, name, mpp)
    model = load_weights().model
    together = PixelModel.of(model, matrix).predict(image, tiles, white)
    groups = [model.genes[i : i + PLANES] for i in range(0, len(model.genes), PLANES)]
    alone = np.concatenate(
        [PixelModel.of(model.select(genes), matrix).predict(image, tiles, white) for genes in groups], axis=1
    )
    varies = alone.std(axis=0) > 1e-6
    error = np.abs(together - alone).max(axis=0)[varies] / alone.std(axis=0)[varies]
    # The contract of the design between what is fast and the definition.
    assert min(np.corrcoef(a, b)[0, 1] for a, b in zip(together.T[varies], alone.T[varies], strict=True)) >= 0.999
    assert np.median(error) <= 0.01
    assert np.mean(error <= 0.10) >= 0.95
    np.testing.assert_allclose(together[:, ~varies], alone[:, ~varies], atol=1e-5)


def test_images_are_answered_by_one_compiled_loop_however_they_lie_in_memory():
    image = np.random.default_rng(0).integers(1, 256, (40, 40, 3)).astype(np.uint8)
    frozen = image.copy()
    frozen.flags.writeable = False
    framed = np.pad(image, ((2, 2), (2, 2), (0, 0)))[2:-2, 2:-2]
    model, bounds = NeuralStain(["A", "B"]), np.array([[0, 0, 20, 20], [20, 10, 40, 40]])
    expected = PixelModel.of(model).predict(image, bounds, WHITE)
    compiled = len(loops._answer_genes.signatures)
    for same, windows in ((frozen, bounds), (framed, bounds), (image, np.asfortranarray(bounds))):
        np.testing.assert_array_equal(PixelModel.of(model).predict(same, windows, WHITE), expected)
    assert len(loops._answer_genes.signatures) == compiled


@pytest.fixture(scope="module")
def alike():
    """More genes than there are planes, whose stains begin at two planes of colour between them."""
    genes = 2 * PLANES
    model, rng = NeuralStain([f"G{i}" for i in range(genes)]).requires_grad_(False), np.random.default_rng(0)
    scales = torch.from_numpy(rng.uniform(0.5, 2, (genes, 2))).float()
    model.deconvolution *= scales[:, None]
    model.offset -= 0.2 * scales
    model.effect += torch.from_numpy(rng.normal(size=(genes, 2))).float()
    model.intercept += 1
    return model


def test_genes_that_share_their_planes_lose_nothing(alike):
    demo = demo_slide(side_px=400)
    tiles = np.array([[x, y, x + 60, y + 50] for x in range(0, 360, 60) for y in range(0, 400, 50)])
    matrix = StainTransfer(
        SlideStains(np.array([[0.65, 0.70, 0.29], [0.27, 0.68, 0.68]]), np.array([1.2, 0.9])),
        SlideStains(np.array([[0.75, 0.58, 0.32], [0.42, 0.80, 0.43]]), np.array([2.5, 1.05])),
    ).matrix
    model = PixelModel.of(alike, matrix)
    pixels = np.stack([demo.image[y0:y1, x0:x1].reshape(-1, 3) for x0, y0, x1, y1 in tiles])
    exact = alike(torch.from_numpy(optical_density(pixels, WHITE) @ matrix).float()).numpy()
    assert len(np.unique(model.planes.of_stain[0])) == len(np.unique(model.planes.of_stain[1])) == 1
    np.testing.assert_allclose(model.predict(demo.image, tiles, WHITE), exact, rtol=1e-4, atol=1e-4)


def test_few_genes_are_answered_each_by_itself(alike):
    assert PixelModel.of(alike.select(alike.genes[:PLANES])).planes is None
    assert PixelModel.of(alike).planes.affine.shape == (4, PLANES)


@pytest.mark.parametrize("genes", [3, 2 * PLANES])
@pytest.mark.parametrize("stride_um", [50, 37, 120])
def test_tiles_that_share_pixels_are_answered_as_each_by_itself(alike, genes, stride_um, monkeypatch):
    demo = demo_slide(side_px=400)
    demo.image[:40] = 0  # padding
    bounds = pixel_bounds(grid_over((400, 400), 1.0, 100, stride_um).centers_px, 100, 1.0, 1.0)
    edges = np.unique(bounds[:, ::2]), np.unique(bounds[:, 1::2])
    model = PixelModel.of(alike.select(alike.genes[:genes]))
    some = bounds[::3]
    together = model.predict(demo.image, some, WHITE, edges)
    np.testing.assert_allclose(together, model.predict(demo.image, some, WHITE), rtol=1e-5, atol=1e-5)
    monkeypatch.setattr("nsl.pixels._BLOCK_VALUES", 1)
    np.testing.assert_array_equal(model.predict(demo.image, some, WHITE, edges), together)


def test_a_window_of_padding_has_no_value_among_many_genes(alike):
    demo = demo_slide(side_px=400)
    demo.image[:, :50] = 0
    predicted = PixelModel.of(alike).predict(demo.image, np.array([[0, 0, 50, 100], [0, 0, 51, 100]]), WHITE)
    assert np.isnan(predicted[0]).all()
    assert np.isfinite(predicted[1]).all()
