"""A slide's own stains into the weights, so that weights hold for any laboratory's slide.

The model is linear in optical density before its relu. So where a slide's pixels are multiplied by a 3×3 matrix A that
brings them to the stains that the weights know, the same comes of multiplying every gene's D by it: no pixel changes,
and a gene still has 11 numbers.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from nsl.stains import STAIN_NAMES, SlideStains, angle_degrees, completed, optical_density, transmitted

REFERENCE = SlideStains(np.array([[0.745, 0.585, 0.321], [0.420, 0.800, 0.428]]), np.array([2.5, 1.05]))
"""The stains that every training slide is brought to, whichever laboratory it comes from.

Any would do, were it not that a fit starts from Ruifrok and Johnston's matrix: from there it does best on colours like
these, about the median of seven published breast sections, and 2 % worse on colours in Ruifrok and Johnston's own
vectors (`benchmarks/ablation.py`, under Stains).
"""

SCATTER_DEGREES = np.array([2.0, 7.0])
"""How far hematoxylin and eosin lie from the usual where they are told from slides of one laboratory.

The root mean square over three patients is 1.7° and 6.7°: eosin is told from the pinkest tissue, which is another on
each slide. `benchmarks/ablation.py`, under Stains, has what it is worth.
"""
# Outside these a slide is hardly H&E: the vectors of ten published sources keep well inside (benchmarks/RESULTS.md).
_LEAST_APART_DEGREES, _MOST_APART_DEGREES = 10, 60
_MOST_FROM_REFERENCE_DEGREES = 40
# Times the usual. Where the hematoxylin is too weak to be told it is found at 0.3 and less, and genes are predicted as
# before from 0.39 up; as they are up to 3.3 times, where the next is a fluorescence scan's 6 (benchmarks/doubts.py).
_LEAST_STRENGTH, _MOST_STRENGTH = 1 / 3, 4
# Of red: green ink, drawn or real, takes a quarter, and the hematoxylin of the ten sources 0.7 and more.
_LEAST_GREEN = 0.5
_MOST_RESIDUAL = 0.12


@dataclass(frozen=True)
class StainTransfer:
    """How the stains of a slide become those that weights know."""

    source: SlideStains
    """Of the slide, as far as its tissue does not explain them (`likely_stains`)."""
    target: SlideStains
    """Of the weights."""

    @classmethod
    def between(cls, slide: SlideStains | None, target: SlideStains) -> Self:
        """The transfer of a slide; none, which leaves every colour as it is, where its stains are not known."""
        return cls(target if slide is None else likely_stains(slide, target.vectors), target)

    @property
    def strengths(self) -> np.ndarray:
        """(2,) what a unit of the slide's hematoxylin and eosin is in the target's."""
        return self.target.strengths / self.source.strengths

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) A = B⁻¹ S B₀, which brings optical densities (..., 3) of the slide to those of the target, as od · A.

        B and B₀ are the stain vectors of the slide and of the target, each with the vector at right angles to both, and
        S is diagonal: the strengths, and 1 for what neither stain explains.
        """
        if self.source is self.target:
            return np.eye(3)
        scale = np.append(self.strengths, 1.0)[:, None]
        return np.linalg.inv(completed(self.source.vectors)) @ (scale * completed(self.target.vectors))


def likely_stains(told: SlideStains, usual: np.ndarray) -> SlideStains:
    """What a slide was stained with, given the stains told from its pixels and the vectors (2, 3) that are usual.

    Told from tissue, a stain's vector is off by what tissue there is. Of its distance d from the usual, 1 - (s / d)² is
    kept, where s is the scatter within a laboratory, and nothing where d is less than s: a shrinkage of the form of
    James and Stein's (1961), positive part. A strength is what a stain's strongest pixel holds along its new vector.
    """
    far = np.maximum(angle_degrees(told.vectors, usual), SCATTER_DEGREES)
    own = (1 - (SCATTER_DEGREES / far) ** 2)[:, None]
    vectors = own * told.vectors + (1 - own) * usual
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    held = told.vectors @ np.linalg.inv(completed(vectors))
    return told._replace(vectors=vectors, strengths=told.strengths * held.diagonal())


def to_reference(slide: SlideStains | None) -> np.ndarray:
    """(3, 3) that brings a measured slide's stains to `REFERENCE`; it changes nothing where they are not known."""
    return StainTransfer.between(slide, REFERENCE).matrix


def transfer_doubts(vectors: np.ndarray, strengths: np.ndarray, residual: float) -> list[str]:
    """Why a slide may not be H&E that can be transferred, a clause each; empty where nothing speaks against it.

    vectors are the slide's (2, 3), strengths and residual those of its transfer.
    """
    doubts = []
    # The colour of a stain that is hardly there cannot be told.
    is_told = 1 / strengths >= _LEAST_STRENGTH
    apart = angle_degrees(*vectors)
    if not _LEAST_APART_DEGREES <= apart <= _MOST_APART_DEGREES:
        doubts.append(
            f"its two stains differ in colour by {apart:.0f}°, where hematoxylin and eosin differ by 15° to 45°"
        )
    if is_told[0] and vectors[0, 1] < _LEAST_GREEN * vectors[0, 0]:
        doubts.append(
            "its first stain takes far less green than red from the light, as green ink does and hematoxylin does not"
        )
    if is_told[1] and vectors[1, 2] > vectors[1, 1]:
        doubts.append(
            "its second stain takes more blue than green from the light, as brown DAB does and eosin does not"
        )
    far = angle_degrees(vectors, REFERENCE.vectors)
    for stain, angle, ratio in zip(STAIN_NAMES, far, strengths, strict=True):
        if angle > _MOST_FROM_REFERENCE_DEGREES:
            doubts.append(f"its {stain} is {angle:.0f}° from the usual one")
        if not _LEAST_STRENGTH <= 1 / ratio <= _MOST_STRENGTH:
            doubts.append(f"its {stain} is {1 / ratio:.1f} times as strong as usual")
    if residual > _MOST_RESIDUAL:
        doubts.append(f"{residual:.0%} of its colour is of neither stain")
    return doubts


def paint(image: np.ndarray, white_point: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 RGB in the stains that a transfer brings it to; padding stays black."""
    painted = np.zeros_like(image)
    for row, pixels in zip(painted, image, strict=True):
        inside = pixels.any(axis=1)
        row[inside] = transmitted(optical_density(pixels[inside], white_point) @ matrix, white_point)
    return painted
