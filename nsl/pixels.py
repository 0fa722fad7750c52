"""The model applied to every pixel of every tile, exactly, in one compiled loop.

At the analysis resolution this costs about what prediction from colour counts costs (`benchmarks/slide.py`), and
nothing is approximated: a tile's value depends on its own pixels alone. Training needs the counts.
"""

import numpy as np
from numba import njit

from nsl.model import NeuralStain
from nsl.parallel import over_rows
from nsl.stains import od_table


def predict_pixels(model: NeuralStain, image: np.ndarray, bounds: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """Expression of tiles, as `NeuralStain.forward` defines it.

    Parameters
    ----------
    model : of G genes.
    image : (H, W, 3) uint8 RGB at the analysis resolution.
    bounds : (T, 4) pixel bounds x0, y0, x1, y1 (`nsl.tiles.pixel_bounds`); what reaches over the edge is left out.
    white_point : (3,) intensity of the background.

    Returns
    -------
    (T, G) float32; NaN for a tile of nothing but padding, which is pure black and never counts.
    """
    # Genes last, so that the innermost loop runs along memory: (stain, channel, gene) and (stain, gene).
    deconvolution = np.ascontiguousarray(model.deconvolution.detach().numpy().transpose(2, 1, 0))
    offset, effect = (np.ascontiguousarray(p.detach().numpy().T) for p in (model.offset, model.effect))
    total = np.empty((len(bounds), len(model.genes)))
    pixels = np.zeros((len(bounds), 1), np.int64)
    table = od_table(white_point)
    over_rows(_respond, len(bounds), image, bounds, table, deconvolution, offset, effect, total, pixels[:, 0])
    mean = total / np.where(pixels > 0, pixels, np.nan)
    return (mean + model.intercept.detach().numpy()).astype(np.float32)


# Finite inputs make finite sums, so the compiler may reorder them and fill the processor's vector units.
@njit(cache=True, nogil=True, fastmath=True)
def _respond(start, stop, image, bounds, table, deconvolution, offset, effect, total, pixels):
    height, width = image.shape[:2]
    genes = total.shape[1]
    row = np.empty(genes, np.float32)
    sums = np.empty(genes, np.float64)
    for t in range(start, stop):
        sums[:] = 0
        x0, y0, x1, y1 = bounds[t]
        for y in range(max(y0, 0), min(y1, height)):
            row[:] = 0
            for x in range(max(x0, 0), min(x1, width)):
                r, g, b = image[y, x]
                if r | g | b:
                    pixels[t] += 1
                    red, green, blue = table[0, r], table[1, g], table[2, b]
                    for s in range(2):
                        d, o, w = deconvolution[s], offset[s], effect[s]
                        for i in range(genes):
                            unmixed = red * d[0, i] + green * d[1, i] + blue * d[2, i] + o[i]
                            row[i] += w[i] * max(unmixed, np.float32(0))
            # Row by row in double precision: single precision drifts over the million pixels of a large tile.
            sums += row
        total[t] = sums
