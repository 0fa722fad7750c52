"""Neural Stain Learning: gene expression from stain absorption, 11 weights per gene.

Dawood, Branson, Rajpoot, Minhas 2021, "All You Need is Color: Image based Spatial Gene Expression Prediction
using Neural Stain Learning", arXiv:2108.10446. For a pixel of optical density od, gene g has

    c_s(od) = relu(od · D_g[:, s] + o_g[s])              s = hematoxylin-like, eosin-like
    y_g     = b_g + Σ_s w_g[s] · mean over pixels of c_s(od)

The abstract gives the number of weights and the learned stain deconvolution matrix, not the layers; the
reading above is ours.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nsl.histogram import ColorCounts
from nsl.stains import HED_VECTORS


class NeuralStain(nn.Module):
    """The model of G genes, each with 11 weights of its own.

    A new model unmixes hematoxylin and eosin as Ruifrok and Johnston did and predicts 0: effects, offsets and
    intercepts are 0, and a fit sets the effects before the first gradient needs them.

    `genes` are names, in the order of every array the model takes or returns.
    """

    shapes = {"deconvolution": (3, 2), "offset": (2,), "effect": (2,), "intercept": ()}  # noqa: RUF012
    """Shape of each weight for one gene."""
    trainable_per_gene = sum(math.prod(shape) for shape in shapes.values())

    def __init__(self, genes: Sequence[str]):
        super().__init__()
        self.genes = list(genes)
        start = {name: torch.zeros(len(self.genes), *shape) for name, shape in self.shapes.items()}
        start["deconvolution"] += torch.from_numpy(np.linalg.inv(HED_VECTORS)[:, :2]).float()
        for name, value in start.items():
            self.register_parameter(name, nn.Parameter(value))
        # D leaves one direction of colour open; see `stain_vectors`.
        self._open = torch.from_numpy(np.linalg.inv(HED_VECTORS)[:, 2:]).float()

    def forward(self, od: Tensor, weight: Tensor | None = None) -> Tensor:
        """Expression of N tiles from the optical densities of their pixels: the definition.

        od is (N, P, 3); weight (N, P), 0 for pixels to leave out, 1 each if not given; the result (N, G).
        Takes N · P · G · 8 bytes on the way.
        """
        unmixed = torch.einsum("npc,gcs->npgs", od, self.deconvolution) + self.offset
        weight = torch.ones_like(od[..., 0]) if weight is None else weight
        weight = weight / weight.sum(dim=1, keepdim=True)
        concentration = torch.einsum("np,npgs->ngs", weight, unmixed.relu())
        return self.intercept + (concentration * self.effect).sum(dim=-1)

    def concentrations(self, colors: ColorCounts) -> Tensor:
        """Mean of each c_s over the pixels of T tiles: (T, G, 2), to first order around the bins as `from_counts`."""
        moments = torch.from_numpy(colors.moments).flatten(1)
        affine, active = self._unmixing(torch.from_numpy(colors.palette_od))
        stains = [moments @ (active[s, :, None] * affine[s]).flatten(0, 1) for s in (0, 1)]
        return torch.stack(stains, dim=-1) / torch.from_numpy(colors.pixels)[:, None, None]

    def from_counts(self, colors: ColorCounts) -> Tensor:
        """Expression of T tiles from their colour counts: (T, G).

        Each colour bin answers with the linear piece that is active at its mean, so only bins that a relu's
        kink cuts through are approximated. A tile without a counted pixel gets NaN.
        """
        moments = torch.from_numpy(colors.moments).flatten(1)
        affine, active = self._unmixing(torch.from_numpy(colors.palette_od))
        stains = affine * self.effect.T[:, None]
        pieces = active[0, :, None] * stains[0] + active[1, :, None] * stains[1]  # (K, 4, G)
        return self.intercept + moments @ pieces.flatten(0, 1) / torch.from_numpy(colors.pixels)[:, None]

    def stain_vectors(self) -> Tensor:
        """Learned stain vectors (G, 2, 3), unit length: the colours that D takes for one stain and none of the other.

        D alone leaves a direction of colour open, and its pseudo-inverse fills it with negative absorption even
        for the published vectors. The third column of Ruifrok and Johnston's deconvolution closes it, as it does
        there: an untrained model answers with their hematoxylin and eosin.
        """
        complete = torch.cat([self.deconvolution, self._open.expand(len(self.genes), 3, 1)], dim=2)
        return nn.functional.normalize(torch.linalg.pinv(complete)[:, :2], dim=-1)

    def select(self, genes: Sequence[str]) -> "NeuralStain":
        """A model of some of the genes, in the order given, with weights of its own."""
        place = {gene: i for i, gene in enumerate(self.genes)}
        index = [place[gene] for gene in genes]
        chosen = NeuralStain(genes)
        chosen._open = self._open
        with torch.no_grad():
            for name, parameter in chosen.named_parameters():
                parameter.copy_(getattr(self, name)[index])
        return chosen.requires_grad_(self.intercept.requires_grad)

    def transferred(self, matrix: np.ndarray) -> "NeuralStain":
        """The model that answers optical densities od as this one answers od · A, for a matrix A (3, 3).

        Effects, offsets and intercepts stay, and D becomes A D (`nsl.stain_transfer`).
        """
        own, matrix = self.select(self.genes), torch.from_numpy(np.asarray(matrix)).float()
        with torch.no_grad():
            own.deconvolution.copy_(matrix @ own.deconvolution)
        own._open = matrix @ self._open
        return own

    def _unmixing(self, od: Tensor) -> tuple[Tensor, Tensor]:
        """Offset and deconvolution of each stain (2, 4, G), and 1 where the relu lets a colour through (2, K, G)."""
        affine = torch.cat([self.offset[:, None], self.deconvolution], dim=1).permute(2, 1, 0)
        with torch.no_grad():
            unmixed = torch.einsum("kc,scg->skg", od, affine[:, 1:]) + affine[:, :1]
            return affine, (unmixed > 0).to(od.dtype)
