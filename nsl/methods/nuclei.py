"""Nuclei in windows of H&E: how many, how large, of what shape and how dark; classical image analysis throughout.

Ruifrok and Johnston's hematoxylin is thresholded half by the slide and half by the surroundings, and touching nuclei
are parted by a watershed. Lengths are in µm, so the same rules hold at every resolution; nuclei are outlined up to
about 1 µm/px, while at 3 µm/px a nucleus is a few pixels and its shape means little.
"""

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.feature import graycomatrix, graycoprops
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops_table
from skimage.morphology import reconstruction, remove_small_holes
from skimage.segmentation import watershed

from nsl.spots.measured_section import Windows
from nsl.stains import HED_VECTORS, TISSUE_OD, is_shown, optical_density

NUCLEI_MPP = 1.0
"""µm/px at which nuclei are looked for, where the image allows."""

# Sd of the Gaussians that even out chromatin, and that take the mean of the surroundings of a nucleus.
_SMOOTHING_UM = 1.0
_SURROUNDINGS_UM = 10.0
# Largest pale centre that is filled.
_HOLE_UM2 = 20.0
# The radius of a small lymphocyte's nucleus: farther inside, edges hardly tell nuclei apart.
_RADIUS_UM = 3.0
# Share of the slide's threshold that parts two tops: by eye, crowded nuclei come apart and spindles stay whole.
_PROMINENCE = 0.015
# Nuclei are 4 to 22 µm across: a lymphocyte's about 7, those of high-grade carcinoma 10 to 18.
_MIN_AREA_UM2, _MAX_AREA_UM2 = 12.0, 400.0
# Circles of 7.6 and 10.1 µm across.
_SMALL_UM2, _LARGE_UM2 = 45.0, 80.0
# Eccentricity of a spindle more than twice as long as wide.
_ELONGATED = 0.9
# Times the slide's threshold from which a nucleus is dark; about the median nucleus of seven sections.
_DARK = 1.25
_TEXTURE_UM = 2.0
_TEXTURE_LEVELS = 16

_OF_NUCLEI = (
    "per_mm2",
    "area_mean_um2",
    "area_sd_um2",
    "eccentricity_mean",
    "eccentricity_sd",
    "solidity_mean",
    "hematoxylin_mean",
    "hematoxylin_sd",
    "hematoxylin_grain",  # sd of hematoxylin within a nucleus, mean over nuclei
    "covered_share",
    "neighbour_um",  # from a nucleus to the nearest other, mean over nuclei
    "small_dark_share",  # of nuclei; lymphocytes for the most part
    "elongated_share",  # stroma
    "large_pale_share",  # tumour with open chromatin
    "large_dark_share",  # tumour with dense chromatin
)
_TEXTURE = ("contrast", "dissimilarity", "entropy", "std")
FEATURES = (
    *_OF_NUCLEI,
    "eosin_outside",
    "hematoxylin_outside",
    "tissue_share",
    *(f"texture_{name}" for name in _TEXTURE),
)
"""Names of what `nuclei_features` gives, in order."""

_UNMIXING = np.linalg.inv(HED_VECTORS).astype(np.float32)


def measure_nuclei(windows: Windows) -> np.ndarray:
    """Features of the windows of a section: (S, F) float32, the slide's own threshold for all of them."""
    threshold = hematoxylin_threshold(windows.image, windows.white_point)
    crops = (windows.image[max(y0, 0) : y1, max(x0, 0) : x1] for x0, y0, x1, y1 in windows.bounds)
    return np.stack([nuclei_features(crop, windows.white_point, windows.mpp, threshold) for crop in crops])


def hematoxylin_threshold(image: np.ndarray, white_point: np.ndarray) -> float:
    """Otsu's threshold between the hematoxylin of nuclei and of other tissue, for a whole slide.

    image is (H, W, 3) uint8 RGB, of which every fourth pixel of every fourth row is looked at. Infinite where no
    tissue is seen.
    """
    stains, od = _unmixed(image[::4, ::4], white_point)
    hematoxylin = stains[..., 0][od > TISSUE_OD]
    return float(threshold_otsu(hematoxylin)) if len(hematoxylin) else np.inf


def nuclei_features(image: np.ndarray, white_point: np.ndarray, mpp: float, threshold: float) -> np.ndarray:
    """Nuclei and tissue of one window in numbers.

    image : (H, W, 3) uint8 RGB, at least one pixel; pure black is padding and is taken for glass.
    white_point : (3,) intensity of the background.
    mpp : µm/px of `image`.
    threshold : hematoxylin of the slide's nuclei, from `hematoxylin_threshold`.

    Returns (F,) float32 in the order of `FEATURES`; 0 for what a window without nuclei, or without two, does not show.
    """
    stains, od = _unmixed(image, white_point)
    hematoxylin, eosin = stains[..., 0], stains[..., 1]
    nuclei = find_nuclei(hematoxylin, mpp, threshold)
    tissue = od > TISSUE_OD
    outside = tissue & (nuclei == 0)
    around = [channel[outside].mean() if outside.any() else 0 for channel in (eosin, hematoxylin)]
    texture = _texture(hematoxylin, mpp, threshold)
    return np.array([*_of_nuclei(nuclei, hematoxylin, mpp, threshold), *around, tissue.mean(), *texture], np.float32)


def find_nuclei(hematoxylin: np.ndarray, mpp: float, threshold: float) -> np.ndarray:
    """Nuclei of a hematoxylin channel (H, W), numbered from 1: int32 (H, W), 0 where there is none.

    The threshold gives way halfway to the mean around: pale nuclei of stroma and nuclei crowded in a duct are both
    told from what surrounds them.
    """
    smooth = ndimage.gaussian_filter(hematoxylin, _SMOOTHING_UM / mpp)
    around = ndimage.gaussian_filter(hematoxylin, _SURROUNDINGS_UM / mpp)
    mask = remove_small_holes(smooth > (around + threshold) / 2, max_size=int(_HOLE_UM2 / mpp**2))
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    # Near an edge a nucleus is told by its distance to it; inside a crowd, where edges are lost, by its darkness.
    distance_um = ndimage.distance_transform_edt(mask).astype(np.float32) * mpp
    height = ndimage.gaussian_filter(distance_um / (distance_um + _RADIUS_UM) * smooth, _SMOOTHING_UM / mpp) * mask
    # A top that stands out by less is a part of the same nucleus.
    prominence = _PROMINENCE * threshold
    standing_out = height - reconstruction(height - prominence, height)
    seeds = label((standing_out > 0.999 * prominence) & mask)
    parts = watershed(-height, seeds, mask=mask)
    area_um2 = np.bincount(parts.ravel()) * mpp**2
    kept = (area_um2 >= _MIN_AREA_UM2) & (area_um2 <= _MAX_AREA_UM2)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[parts]


def _unmixed(image: np.ndarray, white_point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hematoxylin and eosin (H, W, 2), and the mean optical density of the channels (H, W).

    Eosin is below 0 where a colour is bluer than the published hematoxylin, and its mean is kept so.
    """
    od = optical_density(image, white_point)
    od[~is_shown(image)] = 0
    return od @ _UNMIXING[:, :2], od.mean(axis=-1)


def _of_nuclei(nuclei: np.ndarray, hematoxylin: np.ndarray, mpp: float, threshold: float) -> np.ndarray:
    if not nuclei.any():
        return np.zeros(len(_OF_NUCLEI))
    properties = ("area", "eccentricity", "solidity", "intensity_mean", "intensity_std", "centroid")
    table = regionprops_table(nuclei, hematoxylin, properties=properties)
    area_um2 = table["area"] * mpp**2
    eccentricity, darkness = table["eccentricity"], table["intensity_mean"]
    elongated, dark = eccentricity > _ELONGATED, darkness > _DARK * threshold
    kinds = [
        (area_um2 < _SMALL_UM2) & dark & ~elongated,
        elongated,
        (area_um2 > _LARGE_UM2) & ~dark & ~elongated,
        (area_um2 > _LARGE_UM2) & dark & ~elongated,
    ]
    return np.array(
        [
            len(area_um2) / (nuclei.size * mpp**2) * 1e6,
            *(area_um2.mean(), area_um2.std()),
            *(eccentricity.mean(), eccentricity.std()),
            table["solidity"].mean(),
            *(darkness.mean(), darkness.std()),
            table["intensity_std"].mean(),
            area_um2.sum() / (nuclei.size * mpp**2),
            _neighbour_px(np.stack([table["centroid-0"], table["centroid-1"]], axis=1)) * mpp,
            *np.mean(kinds, axis=1),
        ]
    )


def _neighbour_px(centers: np.ndarray) -> float:
    """Mean distance to the nearest other of the points (N, 2); 0 for a single one."""
    return float(cKDTree(centers).query(centers, k=2)[0][:, 1].mean()) if len(centers) > 1 else 0.0


def _texture(hematoxylin: np.ndarray, mpp: float, threshold: float) -> list[float]:
    """Haralick's measures of neighbouring grey levels, mean over four directions; 0 for an even window."""
    # Twice the threshold is about the hematoxylin of the darkest nuclei.
    levels = np.clip(hematoxylin / (2 * threshold) * _TEXTURE_LEVELS, 0, _TEXTURE_LEVELS - 1).astype(np.uint8)
    distance = [max(round(_TEXTURE_UM / mpp), 1)]
    matrix = graycomatrix(levels, distance, np.arange(4) * np.pi / 4, _TEXTURE_LEVELS, symmetric=True, normed=True)
    return [float(graycoprops(matrix, name).mean()) for name in _TEXTURE]
