"""What the model learned of a gene: its stain vectors and effects as a table, as colours, and on pixels.

Everything here is the equation of `nsl.model` for one gene at a time. Two genes' weights compare only after their
scale is taken out: with D, o multiplied by a number and w divided by it, the model predicts the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nsl.errors import SlideError, WeightsError
from nsl.stains import HED_VECTORS, PAPER_WHITE, angle_degrees, is_shown, optical_density, transmitted
from nsl.weights.reliability import with_trust
from nsl.weights.weights import Weights

if TYPE_CHECKING:
    from nsl.model import NeuralStain

STAINS = ("hematoxylin-like", "eosin-like")
"""The two learned stains, in the model's order; the columns of a table begin with `h_` and `e_`."""
CHANNELS = ("red", "green", "blue")
# QuPath copies the name unescaped into the JSON, within a Groovy string, that it logs and reads back.
_TYPOGRAPHIC = str.maketrans({"'": "’", '"': "”", "\\": "⧵"})


def vector_table(
    weights: Weights, slide_vectors: np.ndarray | None = None, transfer: np.ndarray | None = None
) -> pd.DataFrame:
    """A row a gene: its two learned stains, what they say of its expression, and how it was predicted held out.

    Along its own unit vector v a stain's concentration rises by κ = v · D[:, s] for each unit of optical density,
    and the other's stays, because the vectors are dual to D (`NeuralStain.stain_vectors`). So `effect_per_od`, w κ,
    is what the expression of a tile changes by when all its pixels absorb 1 OD more along v where the relu lets
    them through; it does not depend on the scale of D, as w does, and compares between genes and stains.

    slide_vectors : (2, 3) hematoxylin and eosin as estimated on a slide; None or NaN where they could not be.
    transfer : (3, 3) by which the weights are brought to that slide's stains (`NeuralStain.transferred`). The table is
        then of what predicted the slide, but for the angles to the published and the training slides' vectors: they
        say what was learned, and stay.

    Returns a DataFrame indexed by gene. For each stain, after `h_` or `e_`:

    - od_r, od_g, od_b: the vector, unit length;
    - angle_to_hed_degrees (Ruifrok and Johnston's), angle_to_training_degrees (to `TrainingStains.known_vectors`),
      angle_to_slide_degrees;
    - effect (w) and offset (o), in the gene's own scale of D;
    - effect_per_od: expression per OD, natural logarithm, in the weights' units;
    - onset_od: OD along the vector, from clear glass, over which the stain counts; below 0 where glass does already;
    - negative: whether the vector has a component below 0, though no dye absorbs negatively.

    Then intercept, r_heldout, r_low, r_high, q_value and trust, a word (`nsl.weights.reliability.trust_in`).
    """
    learned = weights.model.stain_vectors().detach().numpy().astype(float)
    model = weights.model if transfer is None else weights.model.transferred(transfer)
    vectors = model.stain_vectors().detach().numpy().astype(float)
    deconvolution, offset, effect, intercept = (
        getattr(model, name).detach().numpy().astype(float) for name in model.shapes
    )
    per_od = np.einsum("gsc,gcs->gs", vectors, deconvolution)
    onset = np.divide(-offset, per_od, out=np.full(offset.shape, np.nan), where=per_od > 0)
    unknown = np.full((2, 3), np.nan)
    references = {
        "hed": (learned, HED_VECTORS[:2]),
        "training": (learned, weights.config.stains.known_vectors),
        "slide": (vectors, unknown if slide_vectors is None else np.asarray(slide_vectors, float)),
    }
    columns = {}
    for s, stain in enumerate("he"):
        columns |= {f"{stain}_od_{channel}": vectors[:, s, c] for c, channel in enumerate("rgb")}
        for name, (those, reference) in references.items():
            with np.errstate(invalid="ignore"):  # a D of zeros has no vectors
                columns[f"{stain}_angle_to_{name}_degrees"] = angle_degrees(those[:, s], reference[s])
        columns[f"{stain}_effect"] = effect[:, s]
        columns[f"{stain}_offset"] = offset[:, s]
        columns[f"{stain}_effect_per_od"] = effect[:, s] * per_od[:, s]
        columns[f"{stain}_onset_od"] = onset[:, s]
        columns[f"{stain}_negative"] = (vectors[:, s] < 0).any(axis=1)
    table = pd.DataFrame(columns | {"intercept": intercept}, index=pd.Index(model.genes, name="gene"))
    held_out, protocol = weights.reliability, weights.config.reliability
    for column in ("r_heldout", "r_low", "r_high", "q_value"):
        table[column] = held_out[column].to_numpy()
    table["trust"] = with_trust(held_out, protocol.left_out, protocol.groups).trust
    return table


def vectors_of(row: pd.Series) -> np.ndarray:
    """The learned stain vectors (2, 3) in a row of `vector_table`."""
    return row[[f"{stain}_od_{channel}" for stain in "he" for channel in "rgb"]].to_numpy(float).reshape(2, 3)


def onset_in_words(od: float) -> str:
    """From how much stain on it counts: an `onset_od` of `vector_table`."""
    if not np.isfinite(od):
        return "from an unknown OD on"
    return f"from {od:.2f} OD on" if od > 0 else "from clear glass on"


def qupath_stains(gene: str, vectors: np.ndarray, white_point: np.ndarray) -> str:
    """The line that sets a gene's stain vectors, pasted in QuPath's script editor.

    QuPath takes optical density to base 10, so its amounts of stain are those along our unit vectors divided by
    ln 10; directions are the same. It scales vectors to unit length, keeps a negative component in its calculation
    and clips it only in the colour it shows the stain by. For a third stain it takes the direction at right angles
    to both, where the model has its own, so the amounts are the model's for colours that mix the two vectors and
    near them for others: on pixels of three slides the median reliable gene's r is 0.97 or more, the least 0.87.
    Sources: ColorDeconvolutionStains, StainVector and ColorDeconvolutionHelper of qupath-core.

    gene : for the name of the stains; quotes and backslashes become look-alikes, since QuPath itself writes the
        name on without escaping it.
    vectors : (2, 3) hematoxylin-like, eosin-like.
    white_point : (3,) intensity of the slide's background.

    Raises SlideError: the vectors are not known.
    """
    _require_known(vectors)
    name = "".join(c if c.isprintable() else " " for c in f"{gene} (NSL)".translate(_TYPOGRAPHIC))
    hematoxylin, eosin = (" ".join(_decimal(value) for value in vector) for vector in vectors)
    entries = {
        "Name": name,
        "Stain 1": "Hematoxylin",
        "Values 1": hematoxylin,
        "Stain 2": "Eosin",
        "Values 2": eosin,
        "Background": " ".join(f"{value:.5g}" for value in white_point),
    }
    return f"setColorDeconvolutionStains('{json.dumps(entries, ensure_ascii=False, separators=(', ', ' : '))}')"


def _decimal(value: float) -> str:
    """Five decimals, as QuPath writes vectors; it reads no exponents, and −0 would look like a mistake."""
    return f"{round(float(value), 5) + 0.0:.5f}"


def display_colors(vectors: np.ndarray, white_point: np.ndarray, concentrations: Sequence[float]) -> np.ndarray:
    """Colours of stains at K concentrations over glass, uint8.

    vectors is (..., 3), the result (..., K, 3). A negative component brightens its channel, up to 255.
    """
    amounts = np.asarray(concentrations, float)[:, None]
    return transmitted(amounts * np.asarray(vectors, float)[..., None, :], white_point)


def stain_amounts(od: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Amounts (N, 2), in OD along two vectors (2, 3), that explain N optical densities (N, 3) best (least squares)."""
    _require_known(vectors)
    return np.asarray(od, float) @ np.linalg.pinv(np.asarray(vectors, float))


def amount_images(rgb: np.ndarray, vectors: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """Amounts of two stains in every pixel, in OD along their vectors (2, 3).

    rgb is (H, W, 3) uint8, the result (H, W, 2) float32, at least 0; NaN for padding, which is pure black.
    """
    od = optical_density(rgb, white_point)
    amounts = np.maximum(stain_amounts(od.reshape(-1, 3), vectors), 0).reshape(*rgb.shape[:2], 2).astype(np.float32)
    amounts[~is_shown(rgb)] = np.nan
    return amounts


def concentration_images(model: NeuralStain, gene: str, rgb: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """The two learned stains' concentrations c_s of every pixel, in the gene's own scale of D.

    rgb is (H, W, 3) uint8, the result (H, W, 2) float32, at least 0; NaN for padding, which is pure black. The model
    was trained on pixels of the weights' `analysis_mpp`: at another resolution means stay, and pixels spread
    differently.

    Raises WeightsError: the model does not hold the gene.
    """
    deconvolution, offset, _, _ = _weights_of(model, gene)
    concentration = optical_density(rgb, white_point) @ deconvolution
    concentration += offset
    np.maximum(concentration, 0, out=concentration)
    concentration[(rgb[..., 0] | rgb[..., 1] | rgb[..., 2]) == 0] = np.nan
    return concentration


def tile_concentrations(model: NeuralStain, gene: str, rgb: np.ndarray, white_point: np.ndarray) -> np.ndarray:
    """Mean concentrations (2,) of a tile's pixels; NaN where it is nothing but padding.

    The arguments and errors are those of `concentration_images`.
    """
    concentration = concentration_images(model, gene, rgb, white_point)
    seen = concentration[np.isfinite(concentration[..., 0])]
    return seen.mean(axis=0, dtype=float) if len(seen) else np.full(2, np.nan)


@dataclass(frozen=True)
class ResponseSurface:
    """What a gene's model makes of every mixture of two stains."""

    gene: str
    vectors: np.ndarray
    """(2, 3) unit optical densities of the hematoxylin and the eosin that are mixed."""
    amounts_od: np.ndarray
    """(steps,) amounts of either, in OD along its vector."""
    expression: np.ndarray
    """(steps, steps) predicted for a tile of that one colour; a row an amount of eosin, a column one of hematoxylin."""
    colors: np.ndarray
    """(steps, steps, 3) uint8 RGB of the mixtures over glass."""


def response_surface(
    model: NeuralStain,
    gene: str,
    *,
    vectors: np.ndarray,
    white_point: np.ndarray = PAPER_WHITE,
    max_od: float = 1.5,
    steps: int = 61,
) -> ResponseSurface:
    """Predicted expression of a tile of one colour, over amounts of hematoxylin and eosin from 0 to `max_od`.

    model, gene : one of the model's genes.
    vectors : (2, 3) the stains to mix: those of the training slides, or of a slide.
    white_point : (3,) of the glass the colours are seen over.

    Raises WeightsError: the model does not hold the gene.
    Raises SlideError: the vectors are not known.
    """
    _require_known(vectors)
    deconvolution, offset, effect, intercept = _weights_of(model, gene)
    amounts = np.linspace(0, max_od, steps)
    eosin, hematoxylin = np.meshgrid(amounts, amounts, indexing="ij")
    vectors = np.asarray(vectors, float)
    # No pixel is brighter than glass to the model.
    od = np.maximum(np.stack([hematoxylin, eosin], axis=-1) @ vectors, 0)
    expression = np.maximum(od @ deconvolution + offset, 0) @ effect + intercept
    return ResponseSurface(gene, vectors, amounts, expression, transmitted(od, white_point))


def _weights_of(model: NeuralStain, gene: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Deconvolution (3, 2), offset (2,), effect (2,) and intercept of one gene."""
    if gene not in model.genes:
        raise WeightsError(f"the weights hold no gene {gene}; choose one of their {len(model.genes):,} genes")
    one = model.select([gene])
    return tuple(getattr(one, name).detach().numpy()[0] for name in model.shapes)


def _require_known(vectors: np.ndarray) -> None:
    if not np.isfinite(vectors).all():
        raise SlideError(
            f"the stain vectors hold {np.isnan(vectors).sum()} unknown values: too little of the slide is stained to "
            "estimate its own; use those of the training slides"
        )
