"""The model applied to every pixel of every tile, in compiled loops.

A tile's value is the mean of its pixels' answers, so tiles that overlap share them: their pixels are answered once, in
blocks between the tiles' edges, and blocks are added up. Up to `PLANES` genes are answered pixel by pixel, and nothing
is approximated; more are answered together, through the planes of colour at which their stains begin (`Planes`).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit

from nsl.model import NeuralStain
from nsl.stain_transfer import REFERENCE
from nsl.stains import od_table
from nsl.system.parallel import kernel, over_rows, read_only
from nsl.tiles import Blocks

PLANES = 512
"""So many planes stand for those of thousands of genes. Against the model itself, over the tiles of a section: r above
0.9999 for every gene; the median gene's largest error is 0.9 % of its standard deviation (`benchmarks/slide.py`)."""
# Sums of blocks held at once: 128 MB.
_BLOCK_VALUES = 32_000_000
# Pixels added up in single precision.
_CHUNK = 256
# Numbers of single precision in the widest vectors of a processor.
_LANES = 16
# Concentrations a stain, spread as they are over tissue: few pixels are strong, by an exponential distribution.
_SHADES = 8


def predict_pixels(model: NeuralStain, image: np.ndarray, bounds: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """Expression of windows of an image, as `NeuralStain.forward` defines it; see `PixelModel.predict`."""
    return PixelModel.of(model).predict(image, bounds, white_point)


@dataclass(frozen=True)
class Planes:
    """Planes of colour, a few for the stains of many genes.

    A stain of a gene is a relu: it answers the colours on one side of a plane, linearly. So its sum over pixels is that
    linear function of four numbers, how many pixels lie on its side and the sums of their optical densities. Stains
    whose planes lie so close that few pixels come between, and those with little to say, take these numbers from one
    plane.
    """

    affine: np.ndarray
    """(4, M) float32: what optical density of red, green and blue, and 1, are multiplied by; beyond 0 is their side."""
    of_stain: np.ndarray
    """(2, G) uint32: the plane that each gene's stain takes its numbers from."""

    @classmethod
    def of(cls, model: NeuralStain) -> Self:
        """The planes of a model of G genes: one after another, that of the stain whose error is largest so far.

        The error of a stain that borrows another's plane grows with the angle between the two, measured in colours of
        tissue in the reference stains, and with the stain's share of what its gene varies by.
        """
        affine, effect = _weights(model)
        colors = _tissue_colors()
        stains = affine.transpose(0, 2, 1).reshape(-1, 4)
        spread = np.linalg.cholesky(colors.T @ colors / len(colors))
        directions = stains @ spread
        sizes = np.linalg.norm(directions, axis=1)
        directions /= np.where(sizes > 0, sizes, 1)[:, None]
        varies = (np.maximum(colors @ affine, 0) * effect[:, None]).sum(axis=0).std(axis=0)
        share = np.abs(effect).ravel() * sizes / np.tile(np.where(varies > 0, varies, np.inf), 2)
        chosen, of_stain = _spread_out(directions, share, PLANES)
        return cls(np.ascontiguousarray(stains[chosen].T, np.float32), of_stain.reshape(2, -1))

    def transferred(self, matrix: np.ndarray) -> Self:
        """The planes of `model.transferred(matrix)`."""
        return type(self)(_transferred(self.affine, matrix), self.of_stain)


def _tissue_colors() -> np.ndarray:
    """Optical densities of tissue in the reference stains, each with a 1 behind it: (K, 4)."""
    shades = -np.log1p(-(np.arange(_SHADES) + 0.5) / _SHADES) / np.log(100)  # as strong as the 99th percentile: 1
    concentrations = np.stack(np.meshgrid(*(shades * strength for strength in REFERENCE.strengths)), axis=-1)
    od = concentrations.reshape(-1, 2) @ REFERENCE.vectors
    # What neither stain explains, on either side of their plane.
    beside = 0.03 * np.cross(*REFERENCE.vectors)
    od = np.concatenate([od + beside, od - beside])
    return np.concatenate([od, np.ones((len(od), 1))], axis=1).astype(np.float32)


@dataclass(frozen=True)
class PixelModel:
    """The weights of G genes as the loops over pixels take them, genes last."""

    affine: np.ndarray
    """(2, 4, ≥ G) float32: of each stain, what optical density in red, green and blue, and 1, are multiplied by."""
    effect: np.ndarray
    """(2, ≥ G) float32."""
    intercept: np.ndarray
    """(G,) float32."""
    planes: Planes | None
    """None where every gene is answered by itself."""

    @classmethod
    def of(cls, model: NeuralStain, transfer: np.ndarray | None = None) -> Self:
        """Of a model, or, with a matrix (3, 3), of `model.transferred(matrix)`."""
        affine, effect = _weights(model)
        planes = Planes.of(model) if len(model.genes) > PLANES else None
        if transfer is not None:
            affine = _transferred(affine, transfer)
            planes = planes and planes.transferred(transfer)
        # Genes of no weight, to the width of the widest vector: fewer than fill one are answered one by one.
        rest = [(0, -affine.shape[2] % _LANES)]
        affine, effect = np.pad(affine, [(0, 0), (0, 0), *rest]), np.pad(effect, [(0, 0), *rest])
        return cls(affine, effect, model.intercept.detach().numpy(), planes)

    def predict(
        self,
        image: np.ndarray,
        bounds: np.ndarray,
        white_point: np.ndarray,
        edges: tuple[np.ndarray, np.ndarray] | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Expression of windows of an image.

        Parameters
        ----------
        image : (H, W, 3) uint8 RGB at the analysis resolution.
        bounds : (T, 4) pixel bounds x0, y0, x1, y1 (`nsl.tiles.pixel_bounds`); what reaches over the image's edge is
            left out.
        white_point : (3,) intensity of the background.
        edges : sorted x and sorted y of all edges of a grid's tiles, among which those of `bounds` are: pixels that
            several windows share are then answered once. Each window by itself, if not given.
        out : (T, G) float32 to be written to, and returned.

        Returns
        -------
        (T, G) float32; NaN for a window of nothing but padding, which is pure black and never counts.
        """
        out = np.empty((len(bounds), len(self.intercept)), np.float32) if out is None else out
        self._answer(read_only(image), bounds, od_table(white_point), edges, out)
        return out

    def _answer(self, image, bounds, table, edges, expression) -> None:
        """`predict` into an array."""
        blocks = Blocks.of(bounds, edges)
        planes = self.planes
        shape = self.effect.shape[1:] if planes is None else planes.affine.shape
        if len(blocks.bounds) * np.prod(shape) > _BLOCK_VALUES and len(bounds) > 1:
            half = len(bounds) // 2
            for part in (slice(half), slice(half, None)):
                self._answer(image, bounds[part], table, edges, expression[part])
            return
        sums = np.empty((len(blocks.bounds), *shape), np.float32)
        pixels = np.zeros((len(blocks.bounds), 1), np.int64)
        windows = (blocks.spans, blocks.numbers, sums, pixels, self.intercept, expression)
        if planes is None:
            over_rows(_answer_genes, len(sums), image, blocks.bounds, table, self.affine, self.effect, sums, pixels)
            over_rows(_add_genes, len(expression), *windows)
        else:
            over_rows(_answer_planes, len(sums), image, blocks.bounds, table, planes.affine, sums, pixels)
            over_rows(_add_planes, len(expression), *windows, self.affine, self.effect, planes.of_stain)


def _weights(model: NeuralStain) -> tuple[np.ndarray, np.ndarray]:
    """Of a model: deconvolution and offset (2, 4, G), and effect (2, G)."""
    affine = np.concatenate([model.deconvolution.detach(), model.offset.detach()[:, None]], axis=1)
    return np.ascontiguousarray(affine.transpose(2, 1, 0)), np.ascontiguousarray(model.effect.detach().numpy().T)


def _transferred(affine: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(..., 4, N) that answers optical densities od as `affine` answers od · matrix."""
    complete = np.eye(4)
    complete[:3, :3] = matrix
    return np.ascontiguousarray(complete @ affine, np.float32)


@kernel
def _gather(image, bounds, table, colors):
    """Write the optical densities of a block's pixels to `colors` (N, 3); return how many there are."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = bounds
    found = 0
    for y in range(max(y0, 0), min(y1, height)):
        for x in range(max(x0, 0), min(x1, width)):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            if r | g | b:
                colors[found, 0], colors[found, 1], colors[found, 2] = table[0, r], table[1, g], table[2, b]
                found += 1
    return found


# In both loops four pixels share one reading of the weights, and a chunk of pixels is added up in single precision,
# chunks in double: single drifts over a million pixels. Finite inputs make finite sums, so the compiler may reorder
# them and fill the processor's vector units. Arrays are added element by element: whole ones take the compiler longer
# than all else, for the words of an error that cannot be.


@njit(cache=True, nogil=True, fastmath=True)
def _answer_genes(start, stop, image, blocks, table, affine, effect, sums, pixels):
    genes, none = sums.shape[1], np.float32(0)
    chunk, total = np.empty(genes, np.float32), np.empty(genes, np.float64)
    for block in range(start, stop):
        colors = np.empty((_most_pixels(blocks[block]), 3), np.float32)
        found = pixels[block, 0] = _gather(image, blocks[block], table, colors)
        total[:] = 0
        for first in range(0, found, _CHUNK):
            chunk[:] = 0
            end = min(first + _CHUNK, found)
            fours = first + (end - first) // 4 * 4
            for j in range(first, fours, 4):
                r0, g0, b0 = colors[j, 0], colors[j, 1], colors[j, 2]
                r1, g1, b1 = colors[j + 1, 0], colors[j + 1, 1], colors[j + 1, 2]
                r2, g2, b2 = colors[j + 2, 0], colors[j + 2, 1], colors[j + 2, 2]
                r3, g3, b3 = colors[j + 3, 0], colors[j + 3, 1], colors[j + 3, 2]
                for i in range(genes):
                    red, green, blue, offset = affine[0, 0, i], affine[0, 1, i], affine[0, 2, i], affine[0, 3, i]
                    c0 = max(r0 * red + g0 * green + b0 * blue + offset, none)
                    c1 = max(r1 * red + g1 * green + b1 * blue + offset, none)
                    c2 = max(r2 * red + g2 * green + b2 * blue + offset, none)
                    c3 = max(r3 * red + g3 * green + b3 * blue + offset, none)
                    red, green, blue, offset = affine[1, 0, i], affine[1, 1, i], affine[1, 2, i], affine[1, 3, i]
                    d0 = max(r0 * red + g0 * green + b0 * blue + offset, none)
                    d1 = max(r1 * red + g1 * green + b1 * blue + offset, none)
                    d2 = max(r2 * red + g2 * green + b2 * blue + offset, none)
                    d3 = max(r3 * red + g3 * green + b3 * blue + offset, none)
                    chunk[i] += effect[0, i] * ((c0 + c1) + (c2 + c3)) + effect[1, i] * ((d0 + d1) + (d2 + d3))
            for j in range(fours, end):
                r0, g0, b0 = colors[j, 0], colors[j, 1], colors[j, 2]
                for s in range(2):
                    a, w = affine[s], effect[s]
                    for i in range(genes):
                        chunk[i] += w[i] * max(r0 * a[0, i] + g0 * a[1, i] + b0 * a[2, i] + a[3, i], none)
            for i in range(genes):
                total[i] += chunk[i]
        for i in range(genes):
            sums[block, i] = total[i]


@njit(cache=True, nogil=True, fastmath=True)
def _answer_planes(start, stop, image, blocks, table, affine, sums, pixels):
    planes, one, none = sums.shape[2], np.float32(1), np.float32(0)
    chunk, total = np.empty((4, planes), np.float32), np.empty((4, planes), np.float64)
    for block in range(start, stop):
        colors = np.empty((_most_pixels(blocks[block]), 3), np.float32)
        found = pixels[block, 0] = _gather(image, blocks[block], table, colors)
        total[:] = 0
        for first in range(0, found, _CHUNK):
            chunk[:] = 0
            end = min(first + _CHUNK, found)
            fours = first + (end - first) // 4 * 4
            for j in range(first, fours, 4):
                r0, g0, b0 = colors[j, 0], colors[j, 1], colors[j, 2]
                r1, g1, b1 = colors[j + 1, 0], colors[j + 1, 1], colors[j + 1, 2]
                r2, g2, b2 = colors[j + 2, 0], colors[j + 2, 1], colors[j + 2, 2]
                r3, g3, b3 = colors[j + 3, 0], colors[j + 3, 1], colors[j + 3, 2]
                for i in range(planes):
                    red, green, blue, offset = affine[0, i], affine[1, i], affine[2, i], affine[3, i]
                    c0 = one if r0 * red + g0 * green + b0 * blue + offset > 0 else none
                    c1 = one if r1 * red + g1 * green + b1 * blue + offset > 0 else none
                    c2 = one if r2 * red + g2 * green + b2 * blue + offset > 0 else none
                    c3 = one if r3 * red + g3 * green + b3 * blue + offset > 0 else none
                    chunk[0, i] += (c0 * r0 + c1 * r1) + (c2 * r2 + c3 * r3)
                    chunk[1, i] += (c0 * g0 + c1 * g1) + (c2 * g2 + c3 * g3)
                    chunk[2, i] += (c0 * b0 + c1 * b1) + (c2 * b2 + c3 * b3)
                    chunk[3, i] += (c0 + c1) + (c2 + c3)
            for j in range(fours, end):
                r0, g0, b0 = colors[j, 0], colors[j, 1], colors[j, 2]
                for i in range(planes):
                    side = r0 * affine[0, i] + g0 * affine[1, i] + b0 * affine[2, i] + affine[3, i]
                    c0 = one if side > 0 else none
                    chunk[0, i] += c0 * r0
                    chunk[1, i] += c0 * g0
                    chunk[2, i] += c0 * b0
                    chunk[3, i] += c0
            for k in range(4):
                for i in range(planes):
                    total[k, i] += chunk[k, i]
        for k in range(4):
            for i in range(planes):
                sums[block, k, i] = total[k, i]


@kernel
def _most_pixels(bounds):
    return max(bounds[2] - bounds[0], 0) * max(bounds[3] - bounds[1], 0)


@kernel
def _add_up(span, numbers, sums, pixels, total):
    """Write the sums of a window's blocks, rows of `sums`, to `total`; return how many pixels they are of."""
    x0, y0, x1, y1 = span
    total[:] = 0
    seen = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            block = numbers[y, x]
            for i in range(len(total)):
                total[i] += sums[block, i]
            seen += pixels[block, 0]
    return seen


@kernel
def _add_genes(start, stop, spans, numbers, sums, pixels, intercept, expression):
    total = np.empty(sums.shape[1], np.float64)
    for window in range(start, stop):
        seen = _add_up(spans[window], numbers, sums, pixels, total)
        for i in range(len(intercept)):
            expression[window, i] = total[i] / seen + intercept[i] if seen else np.nan


@kernel
def _add_planes(start, stop, spans, numbers, sums, pixels, intercept, expression, affine, effect, of_stain):
    planes, none = sums.shape[2], np.float32(0)
    rows, total = sums.reshape(len(sums), 4 * planes), np.empty(4 * planes, np.float64)
    # As many windows at once as fill a vector: those of one would have to be gathered for every gene.
    mean, seen = np.zeros((planes, 4, _LANES), np.float32), np.zeros(_LANES, np.int64)
    values = np.empty(_LANES, np.float32)
    for first in range(start, stop, _LANES):
        windows = min(_LANES, stop - first)
        for w in range(windows):
            seen[w] = _add_up(spans[first + w], numbers, rows, pixels, total)
            for m in range(planes):
                for k in range(4):
                    mean[m, k, w] = total[k * planes + m] / seen[w]
        for i in range(len(intercept)):
            one, other = mean[of_stain[0, i]], mean[of_stain[1, i]]
            a, b = affine[0, :, i], affine[1, :, i]
            for w in range(_LANES):
                stain = one[0, w] * a[0] + one[1, w] * a[1] + one[2, w] * a[2] + one[3, w] * a[3]
                value = intercept[i] + effect[0, i] * max(stain, none)
                stain = other[0, w] * b[0] + other[1, w] * b[1] + other[2, w] * b[2] + other[3, w] * b[3]
                values[w] = value + effect[1, i] * max(stain, none)
            for w in range(windows):
                expression[first + w, i] = values[w]
        for w in range(windows):
            if not seen[w]:
                expression[first + w] = np.nan


@kernel
def _spread_out(directions, share, most):
    """Of unit vectors (N, 4): the positions of `most`, each the one worst served by those before, and whom each has."""
    chosen, of = np.zeros(most, np.int64), np.zeros(len(share), np.uint32)
    nearest = np.full(len(share), np.float32(-1))
    worst = np.argmax(share)
    for number in range(most):
        chosen[number] = worst
        a, b, c, d = directions[worst]
        most_wrong = np.float32(-1)
        for i in range(len(share)):
            closeness = directions[i, 0] * a + directions[i, 1] * b + directions[i, 2] * c + directions[i, 3] * d
            if closeness > nearest[i]:
                nearest[i], of[i] = closeness, number
            if share[i] * (1 - nearest[i]) > most_wrong:
                worst, most_wrong = i, share[i] * (1 - nearest[i])
    return chosen, of
