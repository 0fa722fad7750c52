"""What `nsl.predict` promises: the AnnData of the design, whatever the slide, and errors that say what to do."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.spatial import cKDTree

from nsl import open_slide, predict
from nsl.errors import Cancelled, NslError, ScaleError, SlideError, WeightsError
from nsl.prediction import PATCH_PX, fine_map, patch, predict_spots
from nsl.quality import KINDS, LIMITS
from nsl.result import Provenance, left_out
from nsl.slides.slide import Slide
from nsl.stains import optical_density
from nsl.system.progress import Progress
from nsl.tiles import overview_tissue, pixel_bounds, tile_grid
from tests.recording import Recording

GENES = ["ERBB2", "CD24", "COX6C"]


@pytest.fixture
def result(slide, weights):
    return predict(slide, weights)


def test_result_has_the_shape_every_consumer_relies_on(result):
    assert result.X.dtype == np.float32
    assert list(result.var_names) == ["ERBB2", "CD24", "COX6C"]
    assert list(result.obs) == ["array_row", "array_col", "x_um", "y_um", "tissue_fraction", *KINDS]
    assert result.obs_names[0] == f"r{result.obs.array_row.iloc[0]}c{result.obs.array_col.iloc[0]}"
    assert result.obs.tissue_fraction.between(0.3, 1).all()
    np.testing.assert_allclose(result.obsm["spatial"], result.obs[["x_um", "y_um"]])
    image = result.uns["spatial"]["slide"]["images"]["hires"]
    scale = result.uns["spatial"]["slide"]["scalefactors"]
    assert image.shape == (600, 700, 3)
    assert scale == {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 100.0}


def test_every_value_is_the_model_applied_to_the_pixels_of_its_tile(slide, weights, result):
    pixels = slide.read(0, 0, *slide.size, 2.0)
    grid = tile_grid(slide, 100.0)
    bounds = pixel_bounds(grid.centers_px, 100.0, 1.0, 2.0)
    place = {(row, column): box for row, column, box in zip(grid.array_row, grid.array_col, bounds, strict=True)}
    boxes = [place[key] for key in zip(result.obs.array_row, result.obs.array_col, strict=True)]
    seen = np.stack([pixels[y0:y1, x0:x1].reshape(-1, 3) for x0, y0, x1, y1 in boxes])
    od = optical_density(seen, result.uns["nsl"]["white_point"]) @ result.uns["nsl"]["transfer"]
    exact = weights.model(torch.from_numpy(od).float()).numpy()
    np.testing.assert_allclose(result.X, exact, atol=1e-4)


def test_provenance_tells_how_the_result_came_to_be_but_no_file_name(result, section_png, slide):
    info = result.uns["nsl"]
    assert info["weights_id"] == "tiny"
    assert info["slide_sha256"] == slide.sha256
    assert (info["mpp"], info["tile_um"], info["stride_um"], info["analysis_mpp"]) == (1.0, 100.0, 100.0, 2.0)
    np.testing.assert_allclose(info["white_point"], [240, 236, 240], atol=1)
    assert info["white_point_source"] == "background"
    assert section_png.name not in repr(result.uns)
    assert str(section_png.parent) not in repr(result.uns)


def test_slide_stain_vectors_are_those_the_section_was_stained_with(result, section):
    info = result.uns["nsl"]
    cosines = (info["slide_stain_vectors"] * section.stain_vectors).sum(axis=1)
    assert (np.degrees(np.arccos(cosines)) < 5).all()
    # The weights' reference is these very vectors with a spread of 5 degrees.
    assert info["stain_distance"] < 1


def test_every_gene_carries_its_held_out_reliability(slide, weights):
    var = predict(slide, weights, genes=["COX6C", "ERBB2"]).var
    known = ["r_heldout", "r_low", "r_high", "r_next_low", "r_next_high", "q_value", "patients_replicated"]
    assert list(var.columns) == [*known, "r_specific", "trust"]
    assert list(var.trust) == ["unreliable", "weak"]
    assert list(var.r_heldout) == [-0.03, 0.41]
    assert list(var.r_next_high) == [0.3, 0.7]
    assert list(var.patients_replicated) == [0, 2]


def steps_of(slide, weights):
    """How often a run of a small slide reports its progress."""
    progress = Recording()
    predict(slide, weights, progress=progress)
    return len(progress.reports)


def test_reading_in_many_strips_changes_no_bit(slide, weights, result, monkeypatch):
    monkeypatch.setattr("nsl.tiles._STRIP_PIXELS", 20_000)
    assert steps_of(slide, weights) > 3
    progress = Recording()
    in_strips = predict(slide, weights, progress=progress)
    assert len(progress.reports) == 6  # rows of tiles
    done, total, _ = zip(*progress.reports, strict=True)
    assert sorted(done) == list(done)
    assert done[-1] == total[-1]
    # By the overview, which is coarser than what is read.
    assert total[-1] == pytest.approx(in_strips.n_obs, rel=0.1)
    assert list(in_strips.obs_names) == list(result.obs_names)
    np.testing.assert_array_equal(in_strips.obs.tissue_fraction, result.obs.tissue_fraction)
    np.testing.assert_array_equal(in_strips.X, result.X)


def test_more_tiles_than_the_overview_shows_have_room(slide, weights, result, monkeypatch):
    seen = []

    def first_none(grid, *overview):
        seen.append(overview_tissue(grid, *overview))
        return seen[-1] * (len(seen) > 1)  # the second time, it is asked where to look at the stains

    monkeypatch.setattr("nsl.prediction.overview_tissue", first_none)
    monkeypatch.setattr("nsl.tiles._STRIP_PIXELS", 20_000)
    grown = predict(slide, weights)
    assert len(seen) == 2
    assert list(grown.obs_names) == list(result.obs_names)
    np.testing.assert_array_equal(grown.X, result.X)


@pytest.mark.parametrize("stride_um", [100, 50])
def test_glass_between_pieces_of_tissue_is_not_read_and_changes_no_bit(
    section, weights, tmp_path, monkeypatch, stride_um
):
    glass = np.full((600, 900, 3), [240, 236, 240], np.uint8)
    Image.fromarray(np.concatenate([section.pixels, glass, section.pixels], axis=1)).save(tmp_path / "pieces.png")
    read = []

    def predicted():
        with open_slide(tmp_path / "pieces.png", mpp=1.0) as slide:
            monkeypatch.setattr(slide, "read", lambda *region: read.append(region) or Slide.read(slide, *region))
            return predict(slide, weights, stride_um=stride_um)

    result = predicted()
    assert not any(x < 1100 and x + width > 1200 for x, y, width, height, mpp in read if height > 100)
    monkeypatch.setattr("nsl.prediction.may_hold_tissue", lambda grid, *_: np.ones(len(grid), bool))
    whole = predicted()
    assert any(x < 1100 and x + width > 1200 for x, y, width, height, mpp in read)
    assert list(result.obs_names) == list(whole.obs_names)
    np.testing.assert_array_equal(result.X, whole.X)
    np.testing.assert_array_equal(result.obs.tissue_fraction, whole.obs.tissue_fraction)


def test_pieces_side_by_side_that_hold_tissue_at_other_heights_come_in_the_grids_order(section, weights, tmp_path):
    glass = np.full_like(section.pixels, [240, 236, 240])
    half = len(glass) // 2
    above = np.concatenate([section.pixels[:half], glass[half:]])
    below = np.concatenate([glass[:half], section.pixels[half:]])
    pieces = [part for piece in (above, below, above) for part in (piece, glass)]
    Image.fromarray(np.concatenate(pieces, axis=1)).save(tmp_path / "pieces.png")
    with pytest.MonkeyPatch.context() as patch, open_slide(tmp_path / "pieces.png", mpp=1.0) as slide:
        patch.setattr("nsl.tiles._LEAST_STRIPS", 1)
        patch.setattr("nsl.prediction._REORDERED_AT_ONCE", 2)
        at_once = predict(slide, weights)
        patch.setattr("nsl.prediction.may_hold_tissue", lambda grid, *_: np.ones(len(grid), bool))
        whole = predict(slide, weights)
    places = at_once.obs.array_row.to_numpy() * 1000 + at_once.obs.array_col.to_numpy()
    assert (np.diff(places) > 0).all()
    assert list(at_once.obs_names) == list(whole.obs_names)
    np.testing.assert_array_equal(at_once.X, whole.X)


def test_overlapping_tiles_agree_with_the_tiles_they_coincide_with(slide, weights, result):
    finer = predict(slide, weights, stride_um=50)
    at = {tuple(xy): i for i, xy in enumerate(finer.obs[["x_um", "y_um"]].to_numpy())}
    shared = [at[tuple(xy)] for xy in result.obs[["x_um", "y_um"]].to_numpy()]
    assert finer.n_obs > 3 * result.n_obs
    # Their pixels are added up in other blocks.
    np.testing.assert_allclose(finer.X[shared], result.X, rtol=1e-6)


def test_chosen_genes_come_in_the_order_asked_for(slide, weights, result):
    chosen = predict(slide, weights, genes=["COX6C", "ERBB2", "COX6C"])
    assert list(chosen.var_names) == ["COX6C", "ERBB2"]
    np.testing.assert_allclose(chosen.X, result[:, ["COX6C", "ERBB2"]].X, rtol=1e-5)


def test_a_slide_coarser_than_the_analysis_is_read_as_it_is(section_png, weights):
    with open_slide(section_png, mpp=4.0) as slide:
        assert predict(slide, weights).uns["nsl"]["analysis_mpp"] == 4.0


def test_black_padding_around_a_section_changes_no_tile(section, weights, tmp_path, result):
    padded = np.zeros((800, 900, 3), np.uint8)
    padded[100:700, 100:800] = section.pixels
    Image.fromarray(padded).save(tmp_path / "padded.png")
    with open_slide(tmp_path / "padded.png", mpp=1.0) as slide:
        padded_result = predict(slide, weights)
    np.testing.assert_allclose(padded_result.uns["nsl"]["white_point"], result.uns["nsl"]["white_point"], atol=1)
    assert padded_result.n_obs == result.n_obs
    assert (np.abs(padded_result.X - result.X).max(axis=0) <= 0.05 * result.X.std(axis=0)).all()


def test_padding_has_no_tile_however_little_tissue_is_asked_for(section, weights, tmp_path):
    padded = np.zeros((800, 700, 3), np.uint8)
    padded[200:] = section.pixels
    Image.fromarray(padded).save(tmp_path / "padded.png")
    with open_slide(tmp_path / "padded.png", mpp=1.0) as slide:
        result = predict(slide, weights, min_tissue=0)
    assert result.n_obs == 6 * 7
    assert np.isfinite(result.X).all()


def test_a_large_tile_is_as_exact_as_a_small_one(section, weights, tmp_path):
    Image.fromarray(np.tile(section.pixels, (4, 3, 1))).save(tmp_path / "large.png")
    with open_slide(tmp_path / "large.png", mpp=2.0) as slide:
        result = predict(slide, weights, tile_um=4200, min_tissue=0.1)
        pixels = slide.read(0, 0, 2100, 2100).reshape(-1, 3)
    od = optical_density(pixels, result.uns["nsl"]["white_point"]) @ result.uns["nsl"]["transfer"]
    exact = weights.model.double()(torch.from_numpy(od)[None]).numpy()[0]
    np.testing.assert_allclose(result.X[0], exact, atol=1e-5)


def test_a_result_survives_h5ad(result, tmp_path):
    result.write_h5ad(tmp_path / "result.h5ad")
    back = anndata.read_h5ad(tmp_path / "result.h5ad")
    np.testing.assert_array_equal(back.X, result.X)
    assert back.uns["nsl"]["tile_um"] == 100.0


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"genes": ["ERBB"]}, WeightsError, "hold no gene ERBB; did you mean ERBB2"),
        ({"tile_um": 0}, ScaleError, "tile must be a positive number of µm, got 0"),
        ({"tile_um": 5000}, SlideError, "700 × 600 µm, smaller than one tile of 5,000 µm"),
        ({"stride_um": float("nan")}, ScaleError, "step between tiles must be a positive number of µm, got nan"),
        ({"analysis_mpp": -1}, ScaleError, "analysis resolution must be a positive number of µm/px, got -1"),
        ({"tile_um": 3}, ScaleError, "3 µm is less than two pixels wide at 2 µm/px"),
        ({"min_tissue": 1.5}, SlideError, "between 0 and 1, got 1.5"),
        ({"stride_um": 0.02}, SlideError, "a step of 0.02 µm makes more than 5,000,000 tiles of this slide"),
        ({"stride_um": 1e-310}, SlideError, "a step of 1e-310 µm makes more than 5,000,000 tiles of this slide"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_value_seen(slide, weights, options, kind, says):
    with pytest.raises(kind, match=says):
        predict(slide, weights, **options)


def test_a_slide_without_tissue_says_so(weights, tmp_path):
    Image.new("RGB", (400, 400), (240, 238, 241)).save(tmp_path / "blank.png")
    with open_slide(tmp_path / "blank.png", mpp=1.0) as slide, pytest.raises(SlideError, match="fullest has 0%"):
        predict(slide, weights)


@pytest.fixture
def inked_slide(section, tmp_path):
    pixels = section.pixels.copy()
    pixels[200:300, 200:300] = section.white_point * (0.1, 0.55, 0.3)  # one tile of 100 µm
    Image.fromarray(pixels).save(tmp_path / "inked.png")
    with open_slide(tmp_path / "inked.png", mpp=1.0) as slide:
        yield slide


def test_a_tile_of_ink_is_left_out_and_counted_and_the_others_tell_their_shares(inked_slide, weights, result):
    inked = predict(inked_slide, weights)
    assert set(result.obs_names) - set(inked.obs_names) == {"r2c2"}
    assert Provenance.of(inked).left_out == {"ink": 1, "pigment": 0, "blur": 0, "fold": 0, "surround": 0}
    assert left_out(inked) == "1 tile left out: 1 ink"
    assert (inked.obs.ink <= LIMITS["ink"]).all()


def test_without_the_checks_of_quality_ink_is_predicted(inked_slide, weights):
    inked = predict(inked_slide, weights, quality=False)
    assert "r2c2" in inked.obs_names
    assert "ink" not in inked.obs
    assert (Provenance.of(inked).quality, left_out(inked)) == (False, "")


def test_counts_of_tiles_left_out_come_back_from_a_file(inked_slide, weights, tmp_path):
    inked = predict(inked_slide, weights)
    inked.write_h5ad(tmp_path / "inked.h5ad")
    assert Provenance.of(anndata.read_h5ad(tmp_path / "inked.h5ad")).left_out == inked.uns["nsl"]["left_out"]


def test_a_slide_of_nothing_but_ink_says_so(section, weights, tmp_path):
    Image.fromarray((section.pixels * (0.1, 0.55, 0.3)).astype(np.uint8)).save(tmp_path / "ink.png")
    with (
        open_slide(tmp_path / "ink.png", mpp=1.0) as slide,
        pytest.raises(SlideError, match="colours that H&E has not"),
    ):
        predict(slide, weights)


def test_progress_may_end_the_run(slide, weights):
    class Stopped(NslError):
        pass

    class Stop(Progress):
        def report(self, done, total, stage=""):
            raise Stopped

    with pytest.raises(Stopped):
        predict(slide, weights, progress=Stop())


def test_a_result_larger_than_memory_is_refused_before_it_is_made(slide, weights, monkeypatch):
    monkeypatch.setattr("nsl.prediction.MAX_VALUES", 50)
    with pytest.raises(SlideError, match=r"^\d+ tiles of 3 genes are more than memory may hold"):
        predict(slide, weights)


def test_a_slide_that_is_refused_is_not_read_for_its_checksum(slide, weights, monkeypatch):
    asked = []
    monkeypatch.setattr(Slide, "sha256", property(lambda one: asked.append(one) or "0"))
    monkeypatch.setattr("nsl.prediction.MAX_VALUES", 50)
    with pytest.raises(SlideError, match="more than memory"):
        predict(slide, weights)
    assert asked == []
    monkeypatch.undo()
    assert predict(slide, weights).uns["nsl"]["slide_sha256"] == slide.sha256


@pytest.mark.parametrize(
    ("section_name", "least_r"),
    [("B4", 0.5), ("C5", 0.2)],
)
def test_tumour_genes_map_onto_the_tumour_of_real_sections(data_folder, embedded, section_name, least_r):
    # The weights saw these sections in training: this tests the way from file to map (positions, scale, white
    # point), not how well colour predicts expression.
    positions, epithelial = _measured_epithelium(data_folder / "her2st", section_name)
    with open_slide(data_folder / f"her2st/images/{section_name}_full.jpg", mpp=0.69) as slide:
        predicted = predict(slide, embedded, genes=["ERBB2", "CD24", "COX6C"], stride_um=50)
    distance, nearest = cKDTree(predicted.obsm["spatial"]).query(positions)
    is_on_map = distance * 0.69 < 50
    for gene in predicted.var_names:
        values = predicted[nearest[is_on_map], gene].X.ravel()
        assert np.corrcoef(values, epithelial[is_on_map])[0, 1] > least_r


def _measured_epithelium(folder, section_name):
    """Spot positions, and the mean standardised expression of genes that mark epithelial cells."""
    counts = pd.read_csv(folder / f"counts/{section_name}.tsv.gz", sep="\t", index_col=0)
    spots = pd.read_csv(folder / f"spots/{section_name}_selection.tsv", sep="\t")
    spots.index = [f"{x}x{y}" for x, y in zip(spots.x, spots.y, strict=True)]
    counts = counts.loc[counts.index.intersection(spots.index)]
    expression = np.log1p(counts.div(counts.sum(axis=1), axis=0) * 10_000)[["EPCAM", "KRT8", "KRT18", "KRT19", "CDH1"]]
    score = ((expression - expression.mean()) / expression.std()).mean(axis=1)
    return spots.loc[counts.index, ["pixel_x", "pixel_y"]].to_numpy(), score.to_numpy()


def test_a_cancelled_run_keeps_the_tiles_it_came_to(slide, weights, result):
    part = predict(slide, weights, progress=Recording(cancel_at=2))
    assert 0 < part.n_obs < result.n_obs
    assert not part.uns["nsl"]["complete"]
    assert result.uns["nsl"]["complete"]
    np.testing.assert_array_equal(part.X, result[part.obs_names].X)
    assert part.obs.array_row.max() < result.obs.array_row.max()


def test_a_run_cancelled_before_any_tissue_says_so(section_png, weights):
    with open_slide(section_png, mpp=1.0) as slide, pytest.raises(Cancelled, match="cancelled before it came to any"):
        predict(slide, weights, progress=Recording(cancel_at=0))


# Around spots


def test_a_spot_at_the_centre_of_a_tile_gets_its_value(slide, weights):
    tiles = predict(slide, weights, stride_um=37)
    spots = predict_spots(slide, weights, tiles.obsm["spatial"], genes=weights.genes)
    assert spots.dtype == np.float32
    # Their pixels are added up in other blocks.
    np.testing.assert_allclose(spots, tiles.X, rtol=1e-6)


def test_a_spot_on_a_real_slide_gets_the_value_of_its_tile(data_folder, embedded):
    genes = ["ERBB2", "CD24"]
    with open_slide(data_folder / "slides/cmu_small_region.svs") as slide:
        tiles = predict(slide, embedded, genes=genes)
        spots = predict_spots(slide, embedded, tiles.obsm["spatial"], genes=genes)
    np.testing.assert_allclose(spots, tiles.X, atol=1e-5)


def test_spots_do_not_depend_on_how_the_slide_is_read_nor_on_their_order(slide, weights, monkeypatch):
    rng = np.random.default_rng(3)
    centers = rng.uniform(50, 550, (40, 2))
    whole = predict_spots(slide, weights, centers, genes=GENES)
    monkeypatch.setattr("nsl.tiles._STRIP_PIXELS", 1)
    order = rng.permutation(40)
    np.testing.assert_array_equal(predict_spots(slide, weights, centers[order], genes=GENES), whole[order])


def test_genes_of_spots_come_in_the_order_asked_for(slide, weights):
    centers = np.array([[240.0, 300.0]])
    whole = predict_spots(slide, weights, centers, genes=GENES)
    np.testing.assert_array_equal(predict_spots(slide, weights, centers, genes=["COX6C", "ERBB2"]), whole[:, [2, 0]])


def test_the_window_may_be_another_than_in_training(slide, weights):
    tiles = predict(slide, weights, tile_um=60)
    spots = predict_spots(slide, weights, tiles.obsm["spatial"], genes=weights.genes, spot_window_um=60)
    # Their pixels are added up in other blocks.
    np.testing.assert_allclose(spots, tiles.X, rtol=1e-6)


def test_a_given_white_point_is_used(slide, section, weights):
    centers = np.array([[240.0, 300.0]])
    found = predict_spots(slide, weights, centers, genes=GENES)
    np.testing.assert_allclose(
        predict_spots(slide, weights, centers, genes=GENES, white_point=section.white_point), found, atol=0.02
    )
    paper = predict_spots(slide, weights, centers, genes=GENES, white_point=np.full(3, 255.0))
    assert (np.abs(paper - found) > 0.02).any()


def test_windows_that_hold_nothing_are_nan_and_change_no_other(section, weights, tmp_path):
    padded = np.zeros((900, 700, 3), np.uint8)
    padded[300:] = section.pixels
    Image.fromarray(padded).save(tmp_path / "padded.png")
    with open_slide(tmp_path / "padded.png", mpp=1.0) as slide:
        centers = np.array([[240.0, 600.0], [300, 100], [5000, 5000], [-400, 300]])
        spots = predict_spots(slide, weights, centers, genes=GENES)
        alone = predict_spots(slide, weights, centers[:1], genes=GENES)
        nothing = predict_spots(slide, weights, centers[2:], genes=GENES)
    assert np.isfinite(spots).all(axis=1).tolist() == [True, False, False, False]
    np.testing.assert_array_equal(spots[:1], alone)
    assert np.isnan(nothing).all()


def test_a_window_over_the_edge_is_predicted_from_what_lies_inside(slide, weights):
    edge = predict_spots(slide, weights, np.array([[0.0, 300.0]]), genes=GENES, spot_window_um=100)
    inside = predict_spots(slide, weights, np.array([[25.0, 300.0]]), genes=GENES, spot_window_um=50)
    assert np.isfinite(edge).all()
    np.testing.assert_allclose(edge, inside, atol=0.05)


def test_progress_reaches_all_spots_and_may_end_their_prediction(slide, weights):
    centers, progress = np.array([[x, y] for x in (200.0, 400.0) for y in (100.0, 300.0, 500.0)]), Recording()
    predict_spots(slide, weights, centers, genes=GENES, progress=progress)
    assert progress.reports[-1] == (6, 6, "predicting the spots")
    assert len(progress.reports) > 1
    with pytest.raises(Cancelled):
        predict_spots(slide, weights, centers, genes=GENES, progress=Recording(cancel_at=1))


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"spot_window_um": 0}, ScaleError, "window around a spot must be a positive number of µm, got 0"),
        ({"analysis_mpp": float("nan")}, ScaleError, "analysis resolution must be a positive number of µm/px, got nan"),
        ({"spot_window_um": 3}, ScaleError, "window of 3 µm is less than two pixels wide at 2 µm/px"),
        ({"genes": ["ERBB"]}, WeightsError, "hold no gene ERBB"),
    ],
)
def test_spots_that_cannot_be_predicted_are_refused_with_the_value_seen(slide, weights, options, kind, says):
    with pytest.raises(kind, match=says):
        predict_spots(slide, weights, np.array([[240.0, 300.0]]), **({"genes": GENES} | options))


# A closer look


@pytest.fixture
def fine_slide(section_png):
    with open_slide(section_png, mpp=0.5) as slide:
        yield slide


@pytest.fixture
def fine_result(fine_slide, weights):
    return predict(fine_slide, weights, stride_um=50)


def test_a_patch_is_the_slide_under_the_tile(fine_slide, fine_result, section):
    name = fine_result.obs_names[10]
    seen = patch(fine_slide, fine_result, name)
    x, y = fine_result[name].obsm["spatial"][0]
    np.testing.assert_array_equal(seen.rgb, section.pixels[int(y) - 100 : int(y) + 100, int(x) - 100 : int(x) + 100])
    assert seen.mpp == 0.5
    assert seen.analysed.shape == (50, 50, 3)


def test_the_patch_of_a_large_tile_is_no_finer_than_a_screen(data_folder, weights):
    with open_slide(data_folder / "slides/cmu_small_region.svs") as slide:
        result = predict(slide, weights, tile_um=900, min_tissue=0.1)
        seen = patch(slide, result, result.obs_names[0])
    assert max(seen.rgb.shape) <= PATCH_PX + 1


def test_squares_of_a_fine_map_average_to_the_tile(fine_slide, weights):
    coarse = predict(fine_slide, weights, genes=["CD24"], min_tissue=0)
    fine = fine_map(fine_slide, weights, "CD24", 20, min_tissue=0, analysis_mpp=2.0)
    for name in coarse.obs_names:
        place = coarse.obs.loc[name]
        inside = (fine.obs[["x_um", "y_um"]] - place[["x_um", "y_um"]]).abs().max(axis=1) < 50
        assert inside.sum() == 25
        assert fine.X[inside].mean() == pytest.approx(coarse[name].X.item(), abs=1e-4)


def test_a_fine_map_reads_the_slide_fine_enough_for_its_squares(fine_slide, weights):
    assert fine_map(fine_slide, weights, "CD24", 10, min_tissue=0.3, analysis_mpp=8.0).uns["nsl"]["analysis_mpp"] == 5.0


def test_a_slide_that_has_gone_is_told(fine_slide, fine_result):
    fine_slide.close()
    with pytest.raises(SlideError, match="is closed"):
        patch(fine_slide, fine_result, fine_result.obs_names[0])
