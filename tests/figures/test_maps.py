"""What `nsl.figures` promises: the map lies where the tissue lies, and colours mean what the scale says."""

import base64
import io

import numpy as np
import pytest
import shapely
from PIL import Image

from nsl import load_weights, open_slide, predict
from nsl.figures.maps import PALETTES, expression_map, preview
from nsl.slides.annotations.region import Region
from nsl.tiles import grid_over


@pytest.fixture
def result(section_png, tiny_weights):
    with open_slide(section_png, mpp=2.0) as slide:
        return predict(slide, load_weights(tiny_weights), stride_um=50)


@pytest.fixture
def figure(result):
    return expression_map(result, "CD24", limits=(0.5, 1.5), palette="Cividis", opacity=0.4)


def test_each_tile_is_drawn_at_its_place_in_millimetres(result, figure):
    heat = figure.data[0]
    for name in result.obs_names[::7]:
        tile = result.obs.loc[name]
        x_mm, y_mm = heat.x0 + tile.array_col * heat.dx, heat.y0 + tile.array_row * heat.dy
        assert (x_mm * 1000, y_mm * 1000) == pytest.approx((tile.x_um, tile.y_um))
        assert heat.z[int(tile.array_row), int(tile.array_col)] == pytest.approx(result[name, "CD24"].X.item())


def test_places_without_a_tile_stay_bare(result, figure):
    assert np.isfinite(figure.data[0].z).sum() == result.n_obs
    assert figure.data[0].hoverongaps is False


def test_the_tissue_outline_follows_the_edge_of_the_tissue(result, section):
    outline = expression_map(result, "CD24", limits=(0, 1)).data[1]
    x_px, y_px = np.array(outline.x, float) * 500, np.array(outline.y, float) * 500  # 2 µm/px
    known = np.isfinite(x_px)
    density = section.stain.sum(axis=-1)[y_px[known].astype(int).clip(0, 599), x_px[known].astype(int).clip(0, 699)]
    assert np.median(density) == pytest.approx(0.17, abs=0.1)  # a mean OD of 0.1
    assert len(expression_map(result, "CD24", limits=(0, 1), outline=False).data) == 1


def test_a_chosen_tile_is_framed_and_a_drawn_region_closed(result):
    name = result.obs_names[10]
    region = {"kind": "lasso", "x": [0.1, 0.5, 0.5], "y": [0.1, 0.1, 0.6]}
    figure = expression_map(result, "CD24", limits=(0, 1), outline=False, tile=name, region=region)
    drawn, frame = figure.data[1:]
    assert (drawn.x[0], drawn.y[0]) == (drawn.x[-1], drawn.y[-1])
    place, side_mm = result.obs.loc[name], result.uns["nsl"]["tile_um"] / 1000
    assert max(frame.x) - min(frame.x) == pytest.approx(side_mm)
    assert np.mean([min(frame.y), max(frame.y)]) == pytest.approx(place.y_um / 1000)


def test_zoom_is_kept_over_genes_and_not_over_slides(result):
    by_gene = [expression_map(result, gene, limits=(0, 1)).layout.uirevision for gene in ("CD24", "ERBB2")]
    assert by_gene[0] == by_gene[1] == result.uns["nsl"]["slide_sha256"]


def test_the_slide_lies_under_the_map_at_its_own_size(figure, section):
    (image,) = figure.layout.images
    assert (image.sizex, image.sizey) == pytest.approx((1.4, 1.2))
    assert image.layer == "below"
    assert (image.x, image.y) == (0, 0)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.source.split(",")[1]))))
    assert np.abs(pixels.astype(int) - section.pixels).mean() < 3


def test_colour_scale_ends_where_it_was_told(figure):
    scale = figure.layout.coloraxis
    assert (scale.cmin, scale.cmax) == (0.5, 1.5)
    assert figure.data[0].opacity == 0.4
    assert "counts" in scale.colorbar.title.text
    assert tuple(scale.colorbar.ticktext) == ("0.50", "1.00", "1.50")


def test_a_narrow_colour_scale_tells_its_ends_apart(result):
    bar = expression_map(result, "CD24", limits=(-0.0102, -0.0099)).layout.coloraxis.colorbar
    assert tuple(bar.ticktext) == ("−0.0102", "−0.0100", "−0.0099")
    assert tuple(bar.tickvals) == pytest.approx((-0.0102, -0.01005, -0.0099))


def test_a_map_first_shows_all_tiles_and_little_else(figure, result):
    (left, right), (bottom, top) = figure.layout.xaxis.range, figure.layout.yaxis.range
    half = result.uns["nsl"]["tile_um"] / 2000
    x, y = (result.obs[axis] / 1000 for axis in ("x_um", "y_um"))
    assert 0 <= left <= x.min() - half < x.max() + half <= right <= 1.4
    assert 0 <= top <= y.min() - half < y.max() + half <= bottom <= 1.2
    corner = expression_map(result[(x < 0.5) & (y < 0.5)].copy(), "CD24", limits=(0, 1)).layout
    assert corner.xaxis.range[1] < 0.7
    assert corner.yaxis.range[0] < 0.7


def test_a_figure_is_as_high_as_the_shape_of_its_tiles_asks_and_the_map_keeps_to_its_scale(figure, result):
    layout = figure.layout
    map_px = layout.height - layout.margin.t - layout.margin.b
    (left, right), (bottom, top) = layout.xaxis.range, layout.yaxis.range
    assert map_px == pytest.approx(600 * (bottom - top) / (right - left), abs=1)
    assert layout.yaxis.constraintoward == "top"
    narrow = expression_map(result, "CD24", limits=(0, 1), width_px=320).layout
    assert layout.height - narrow.height == pytest.approx(map_px - 300, abs=1)


@pytest.mark.parametrize("palette", PALETTES)
def test_every_palette_offered_can_be_drawn(result, palette):
    assert len(expression_map(result, "CD24", limits=(0, 1), palette=palette).layout.coloraxis.colorscale) > 5


def test_preview_outlines_the_tiles_kept_and_pales_the_rest():
    white = np.full((100, 200, 3), 200, np.uint8)
    grid = grid_over((2000, 1000), 1.0, 500.0)
    keep = np.array([True, False, False, False, False, False, False, False])
    picture = preview(white, grid, keep, slide_width_px=2000)
    assert picture.shape == white.shape
    assert (picture[10:40, 10:40] == 200).all()
    assert (picture[0, :50] != 200).any(axis=1).all()
    assert (picture[60:, 60:] > 200).all()


def test_preview_marks_tiles_left_out_in_orange():
    white = np.full((100, 200, 3), 200, np.uint8)
    grid = grid_over((2000, 1000), 1.0, 500.0)
    left_out = np.arange(8) == 2
    picture = preview(white, grid, ~left_out, 2000, left_out).astype(int)
    assert (picture[10:40, 110:140, 0] > picture[10:40, 110:140, 2] + 50).all()
    assert (picture[10:40, 60:90] == 200).all()


def test_preview_outlines_regions_in_their_colours():
    white = np.full((100, 200, 3), 200, np.uint8)
    grid = grid_over((2000, 1000), 1.0, 500.0)[:0]
    hole = shapely.box(1300, 300, 1500, 500)
    regions = [
        Region("Tumour", "Tumor", (200, 0, 0), shapely.box(200, 200, 600, 800)),
        Region("Rim", "", None, shapely.box(1100, 100, 1700, 700) - hole),
    ]
    picture = preview(white, grid, np.ones(0, bool), 2000, regions=regions)
    paler = picture[5, 5]
    for x, y in ((20, 50), (60, 50), (40, 20), (40, 80)):
        assert tuple(picture[y, x]) == (200, 0, 0)
    for x, y in ((110, 40), (130, 40), (150, 40), (140, 30)):
        assert tuple(picture[y, x]) == (0, 160, 255)
    for x, y in ((40, 50), (140, 40), (120, 40), (80, 50)):
        assert (picture[y, x] == paler).all()


def test_preview_of_very_many_tiles_shades_them_without_lines():
    white = np.full((200, 200, 3), 200, np.uint8)
    grid = grid_over((2000, 2000), 1.0, 100.0, 10.0)
    assert len(grid) > 20_000
    picture = preview(white, grid, np.ones(len(grid), bool), slide_width_px=2000)
    assert (picture == 200).all()
