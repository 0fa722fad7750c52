"""The demo slide: physically what it says, tissue-like in its parts, repeatable, and readable from its file."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from nsl.errors import SlideError
from nsl.slides.demo.slide import EXPRESSION_NOISE_SD, GENES, DemoSlide, demo_expression, demo_slide

WINDOW_UM = 100.0


@pytest.fixture(scope="module")
def slide() -> DemoSlide:
    return demo_slide()


@pytest.fixture(scope="module")
def small() -> DemoSlide:
    return demo_slide(seed=1, side_px=600)


@pytest.fixture(scope="module")
def centers() -> np.ndarray:
    return np.random.default_rng(5).uniform(60, 2940, (600, 2))


def blocks(field: np.ndarray, side: int) -> np.ndarray:
    """Means over side × side pixels."""
    n = len(field) // side
    return field[: n * side, : n * side].reshape(n, side, n, side, -1).mean(axis=(1, 3)).squeeze()


def test_shapes_types_and_scale(slide):
    assert slide.image.shape == (3000, 3000, 3)
    assert slide.image.dtype == np.uint8
    assert slide.hematoxylin.shape == slide.eosin.shape == (3000, 3000)
    assert slide.hematoxylin.dtype == slide.eosin.dtype == np.float32
    assert slide.mpp == 1.0
    np.testing.assert_allclose(np.linalg.norm(slide.stain_vectors, axis=1), 1)


def test_concentrations_are_finite_and_never_negative(slide):
    for field in (slide.hematoxylin, slide.eosin):
        assert np.isfinite(field).all()
        assert field.min() >= 0


def test_same_seed_same_bytes(small):
    again = demo_slide(seed=1, side_px=600)
    assert again.image.tobytes() == small.image.tobytes()
    assert again.hematoxylin.tobytes() == small.hematoxylin.tobytes()


def test_other_seed_other_bytes(small):
    assert demo_slide(seed=2, side_px=600).image.tobytes() != small.image.tobytes()


@pytest.mark.parametrize("side_px", [0, 392, 1001])
def test_impossible_side_is_refused_with_the_value(side_px):
    with pytest.raises(SlideError, match=str(side_px)):
        demo_slide(side_px=side_px)


def test_unmixing_the_image_gives_back_the_concentrations(slide):
    density = -np.log((slide.image[:1600].astype(np.float64) + 1) / (slide.white_point + 1))
    unmixed = np.linalg.lstsq(slide.stain_vectors.T, density.reshape(-1, 3).T, rcond=None)[0]
    for found, made in zip(unmixed, (slide.hematoxylin, slide.eosin), strict=True):
        found, made = blocks(found.reshape(1600, 3000)[:, :1600], 8), blocks(made[:1600, :1600], 8)
        assert np.corrcoef(found.ravel(), made.ravel())[0, 1] > 0.98
        assert np.median(np.abs(found - made)) < 0.02


def test_empty_glass_has_the_white_point(slide):
    for corner in (slide.image[:150, :150], slide.image[-150:, -150:]):
        np.testing.assert_allclose(corner.mean(axis=(0, 1)), slide.white_point, atol=4)
        assert 0.3 < corner.std(axis=(0, 1)).max() < 4


def test_a_section_lies_on_empty_glass(slide):
    stained = blocks(slide.hematoxylin + slide.eosin, 10) > 0.1
    tissue = ndimage.binary_fill_holes(ndimage.binary_closing(stained, iterations=3))
    assert 0.15 < 1 - tissue.mean() < 0.60
    edge = np.concatenate([tissue[0], tissue[-1], tissue[:, 0], tissue[:, -1]])
    assert not edge.any()
    sizes = np.bincount(ndimage.label(tissue)[0].ravel())[1:]
    assert sizes.max() > 0.95 * sizes.sum()


def test_fat_and_lumens_are_holes_in_the_tissue(slide):
    stained = blocks(slide.hematoxylin + slide.eosin, 4) > 0.1
    holes, count = ndimage.label(ndimage.binary_fill_holes(stained) & ~stained)
    area_um2 = np.bincount(holes.ravel())[1:] * 16.0
    assert (area_um2 > 1500).sum() > 60, f"{count} holes"
    right = ndimage.center_of_mass(holes > 0, holes, np.flatnonzero(area_um2 > 1500) + 1)
    assert np.mean([x > 750 / 2 for _, x in right]) > 0.6, "most large holes are fat, on the right"


def test_nuclei_are_crowded_in_places_and_sparse_in_others(slide):
    nuclear = blocks((slide.hematoxylin > 0.7).astype(np.float32), 60)
    stroma = (blocks(slide.eosin, 60) > 0.25) & (nuclear < 0.15)
    assert (nuclear > 0.45).sum() > 100
    assert stroma.sum() > 300


def test_nuclei_are_the_size_of_nuclei_and_soft_edged(slide):
    nuclei, count = ndimage.label(slide.hematoxylin[400:1400, 300:1300] > 0.7)
    diameter_um = 2 * np.sqrt(np.bincount(nuclei.ravel())[1:] / np.pi)
    assert count > 500
    assert 4 < np.median(diameter_um) < 12
    h = slide.hematoxylin
    edges = ((h[:, :-2] < 0.4) & (h[:, 2:] > 1.2)).sum()
    stairs = ((h[:, :-1] < 0.4) & (h[:, 1:] > 1.2)).sum()
    assert stairs < 0.15 * edges, "a drawing without anti-aliasing has a stair for every second pair"


def test_genes_follow_their_stain_and_noise_genes_follow_nothing(slide, centers):
    table = demo_expression(slide, centers, WINDOW_UM)
    assert list(table.columns) == list(GENES)
    assert len(table) == len(centers)
    darkness = 255 - slide.image.astype(np.float32)
    windows = [darkness[y - 50 : y + 50, x - 50 : x + 50].mean(axis=(0, 1)) for x, y in centers.astype(int)]
    design = np.column_stack([windows, np.ones(len(centers))])
    fitted, held = slice(0, 300), slice(300, None)
    weights = np.linalg.lstsq(design[fitted], table.to_numpy()[fitted], rcond=None)[0]
    predicted = design[held] @ weights
    r = {gene: np.corrcoef(predicted[:, k], table[gene][held])[0, 1] for k, gene in enumerate(GENES)}
    assert min(r[gene] for gene in GENES[:4]) > 0.95, r
    assert max(abs(r[gene]) for gene in GENES[4:]) < 0.15, r


def test_hematoxylin_genes_peak_in_nuclei_and_eosin_genes_do_not(slide, centers):
    table = demo_expression(slide, centers, WINDOW_UM)
    order = np.argsort(
        [slide.hematoxylin[int(y) - 50 : int(y) + 50, int(x) - 50 : int(x) + 50].mean() for x, y in centers]
    )
    densest, empty = order[-20:], order[:20]
    for gene in ("HEMA1", "HEMA2"):
        assert table[gene].iloc[densest].mean() > table[gene].iloc[empty].mean() + 10 * EXPRESSION_NOISE_SD
    assert table["EOSI1"].idxmax() not in densest


def test_measurement_noise_has_the_stated_spread_and_its_own_seed(slide, centers):
    first, second = (demo_expression(slide, centers, WINDOW_UM, seed=s) for s in (0, 1))
    assert (first - second)["HEMA1"].std() == pytest.approx(EXPRESSION_NOISE_SD * np.sqrt(2), rel=0.15)
    assert first.equals(demo_expression(slide, centers, WINDOW_UM, seed=0))


@pytest.mark.parametrize("center", [(49, 300), (300, 551), (-10, 300), (300, 601)])
def test_a_window_that_leaves_the_image_is_refused_with_its_place(small, center):
    with pytest.raises(SlideError, match=rf"\({center[0]}, {center[1]}\)"):
        demo_expression(small, np.array([(300, 300), center]), WINDOW_UM)


def test_windows_flush_with_the_edges_are_taken(small):
    assert len(demo_expression(small, np.array([(50, 50), (550, 550)]), WINDOW_UM)) == 2


@pytest.mark.parametrize("centers", [[300, 300], [(300, 300, 1)], [(np.nan, 300)]])
def test_centres_that_are_not_places_are_refused(small, centers):
    with pytest.raises(SlideError, match="finite x, y"):
        demo_expression(small, np.array(centers), WINDOW_UM)


@pytest.mark.parametrize("name", ["demo.tif", "demo µ.TIFF"])
def test_saved_tiff_gives_back_pixels_and_scale_and_says_synthetic(small, tmp_path, name):
    small.save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert np.array_equal(np.asarray(image), small.image)
        assert image.tag_v2[296] == 3, "centimetres"
        assert 10_000 / float(image.tag_v2[282]) == pytest.approx(small.mpp)
        assert 10_000 / float(image.tag_v2[283]) == pytest.approx(small.mpp)
        assert "ynthetic" in image.tag_v2[270]


def test_saved_tiff_opens_in_tifffile(small, tmp_path):
    small.save(tmp_path / "demo.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "demo.tif"), small.image)


def test_saved_png_gives_back_pixels_and_scale(small, tmp_path):
    small.save(tmp_path / "demo.png")
    with Image.open(tmp_path / "demo.png") as image:
        assert np.array_equal(np.asarray(image), small.image)
        assert 25_400 / image.info["dpi"][0] == pytest.approx(small.mpp, rel=1e-3)


def test_saving_as_jpeg_is_refused_by_name(small, tmp_path):
    with pytest.raises(SlideError, match=r"demo\.jpg"):
        small.save(tmp_path / "demo.jpg")
