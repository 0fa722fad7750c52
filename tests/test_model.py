"""What `nsl.model` promises: the equation of the design, 11 weights a gene, and stain vectors from D."""

import math

import numpy as np
import pytest
import torch

from nsl import NeuralStain
from nsl.stains import HED_VECTORS, angle_degrees


def _random_model(genes: int, seed: int = 0) -> NeuralStain:
    model = NeuralStain([f"G{i}" for i in range(genes)])
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.4 * torch.randn(parameter.shape, generator=generator)
    return model.requires_grad_(False)


def test_each_gene_has_exactly_11_trainable_weights():
    model = NeuralStain(["A", "B", "C"])
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == 3 * 11
    assert NeuralStain.trainable_per_gene == 11


def test_forward_is_the_equation_of_the_model():
    model = _random_model(2)
    rng = np.random.default_rng(0)
    od = rng.uniform(0, 1.5, (3, 5, 3)).astype(np.float32)
    predicted = model(torch.from_numpy(od)).numpy()
    for tile in range(3):
        for g in range(2):
            expected = float(model.intercept[g])
            for s in range(2):
                concentrations = []
                for pixel in od[tile]:
                    projection = sum(float(pixel[c] * model.deconvolution[g, c, s]) for c in range(3))
                    concentrations.append(max(projection + float(model.offset[g, s]), 0.0))
                expected += float(model.effect[g, s]) * math.fsum(concentrations) / 5
            assert predicted[tile, g] == pytest.approx(expected, abs=1e-5)


def test_a_pixel_of_weight_zero_does_not_count():
    model = _random_model(4)
    od = torch.rand(2, 6, 3)
    weight = torch.ones(2, 6)
    weight[:, 4:] = 0
    torch.testing.assert_close(model(od, weight), model(od[:, :4]))


def test_a_new_model_knows_hematoxylin_and_eosin_as_published():
    vectors = NeuralStain(["A"]).stain_vectors().detach().numpy()[0]
    assert (angle_degrees(vectors, HED_VECTORS[:2]) < 0.1).all()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1])


def test_stain_vectors_undo_the_deconvolution():
    model = _random_model(5)
    product = model.stain_vectors() @ model.deconvolution
    off_diagonal = product[:, [0, 1], [1, 0]]
    assert off_diagonal.abs().max() < 1e-4
    assert (product[:, [0, 1], [0, 1]] > 0).all()


def test_selected_genes_predict_as_before():
    model = _random_model(6)
    od = torch.rand(2, 9, 3)
    chosen = model.select(["G4", "G1"])
    assert chosen.genes == ["G4", "G1"]
    torch.testing.assert_close(chosen(od), model(od)[:, [4, 1]])
