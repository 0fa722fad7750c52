"""What `print` promises: a map that prints at its size, tiles where they lie, and words that say its worth."""

import datetime
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from shapely.geometry import box

from nsl.errors import NslError
from nsl.export.print import difference_png, map_png
from nsl.figures.compare import DIFFERENCES
from nsl.figures.maps import PALETTES, percentile_limits, window_mm
from nsl.prediction import predict
from nsl.slides.annotations.region import Region
from nsl.slides.slide import open_slide
from nsl.weights.folder import load_weights

GLASS = (10, 200, 120)
DPI = 120  # Enough to look at, where the resolution is not what is promised.


@pytest.fixture
def result(section_png, tiny_weights) -> anndata.AnnData:
    """The small section, 700 × 600 µm, in tiles of 100 µm every 50 µm; COX6C is unreliable."""
    with open_slide(section_png, mpp=1) as slide:
        return predict(slide, load_weights(tiny_weights), stride_um=50)


@pytest.fixture
def on_glass(result) -> anndata.AnnData:
    """`result` over a picture of one colour, in which the map can be told from the slide."""
    result.uns["spatial"]["slide"]["images"]["hires"] = np.full((600, 700, 3), GLASS, np.uint8)
    return result


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """All that is written into figures, in order."""
    texts, text = [], Figure.text

    def spy(self, x, y, s, **style):
        texts.append(s)
        return text(self, x, y, s, **style)

    monkeypatch.setattr(Figure, "text", spy)
    return texts


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


def slide_box(result: anndata.AnnData) -> tuple[slice, slice]:
    """Where in the picture the part with tiles lies: of the same map, see-through, what has the colour of the glass."""
    seen = (pixels(map_png(result, "ERBB2", limits=(0, 1), opacity=0, dpi=DPI)) == GLASS).all(axis=2)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def at_centres(result: anndata.AnnData, slide: np.ndarray) -> np.ndarray:
    """(T, 3) colours at the centres of the tiles."""
    low, high = window_px(result)
    x, y = ((result.obsm["spatial"] - low) / (high - low) * slide.shape[1::-1]).astype(int).T
    return slide[y, x]


def window_px(result: anndata.AnnData) -> tuple[np.ndarray, np.ndarray]:
    """Top left and bottom right of what maps show."""
    low, high = window_mm(result).T * 1000 / result.uns["nsl"]["mpp"]
    return low, high


@pytest.mark.parametrize(("dpi", "width_mm"), [(300, 180), (150, 85)])
def test_the_picture_prints_as_wide_as_asked(result, dpi, width_mm):
    picture = Image.open(io.BytesIO(map_png(result, "ERBB2", limits=(0, 3), dpi=dpi, width_mm=width_mm)))
    assert picture.mode == "RGB"
    assert picture.info["dpi"] == pytest.approx((dpi, dpi), abs=0.1)
    assert picture.width / dpi * 25.4 == pytest.approx(width_mm, abs=0.2)


@pytest.mark.parametrize("palette", PALETTES)
def test_every_tile_has_the_colour_of_its_value_where_it_lies(on_glass, palette):
    values = on_glass[:, "ERBB2"].X.ravel()
    low, high = percentile_limits(values)
    drawn = pixels(map_png(on_glass, "ERBB2", limits=(low, high), palette=palette, opacity=1, dpi=DPI))[
        slide_box(on_glass)
    ]
    expected = colormaps[palette.lower()]((values - low) / (high - low))[:, :3] * 255
    assert np.abs(at_centres(on_glass, drawn) - expected).max() < 3
    # Tiles overlap, so that each is drawn as one step of the grid.
    on_map = (drawn != GLASS).any(axis=2).mean()
    assert on_map == pytest.approx(on_glass.n_obs * 50 * 50 / np.prod(np.subtract(*window_px(on_glass))), rel=0.02)


def test_the_slide_shines_through_by_the_opacity(on_glass):
    box, limits = slide_box(on_glass), percentile_limits(on_glass[:, "ERBB2"].X)
    full, half = (
        at_centres(on_glass, pixels(map_png(on_glass, "ERBB2", limits=limits, opacity=opacity, dpi=DPI))[box])
        for opacity in (1, 0.5)
    )
    assert np.abs(half - (full + np.array(GLASS)) / 2).max() < 3


def test_the_h_and_e_lies_under_the_map(result, section):
    box = slide_box(_over(result, np.full((600, 700, 3), GLASS, np.uint8)))
    seen = pixels(map_png(_over(result, section.pixels), "ERBB2", limits=(0, 1), opacity=0, dpi=DPI))[box]
    (left, top), (right, bottom) = np.rint(window_px(result)).astype(int)
    shown = section.pixels[top:bottom, left:right]
    small = np.asarray(Image.fromarray(seen.astype(np.uint8)).resize((70, 60), Image.Resampling.BOX)).astype(int)
    source = np.asarray(Image.fromarray(shown).resize((70, 60), Image.Resampling.BOX)).astype(int)
    assert np.abs(small - source).mean() < 2


def _over(result: anndata.AnnData, image: np.ndarray) -> anndata.AnnData:
    result.uns["spatial"]["slide"]["images"]["hires"] = image
    return result


@pytest.mark.parametrize(("mpp", "label"), [(1.0, "100 µm"), (0.3, "50 µm"), (13.0, "2 mm")])
def test_the_scale_bar_is_as_long_as_it_says(on_glass, written, mpp, label):
    for key in ("mpp", "tile_um", "stride_um"):
        on_glass.uns["nsl"][key] *= mpp
    on_glass.obs[["x_um", "y_um"]] *= mpp
    rows, columns = slide_box(on_glass)
    written.clear()
    below = pixels(map_png(on_glass, "ERBB2", limits=(0, 1), dpi=DPI))[rows.stop :, columns]
    left = below[:, : below.shape[1] // 3]  # of which the colour bar and its unit keep clear
    bar_px = (left == 0).all(axis=2).sum(axis=1).max()
    (left, _), (right, _) = window_px(on_glass)
    length_um = bar_px / (columns.stop - columns.start) * (right - left) * mpp
    number, unit = label.split()
    assert label in written
    assert length_um == pytest.approx(float(number) * {"µm": 1, "mm": 1000}[unit], rel=0.01)


def test_regions_are_outlined_in_their_colours_with_their_names(on_glass, monkeypatch):
    names, text = [], Axes.text
    monkeypatch.setattr(
        Axes, "text", lambda self, x, y, s, **look: (names.append((x, y, s)), text(self, x, y, s, **look))[1]
    )
    left, right = (
        Region("left $x$", "Tumor", (200, 0, 0), box(200, 200, 300, 300)),
        Region("right", "", None, box(350, 200, 450, 400)),
    )
    plain, outlined = (
        pixels(map_png(on_glass, "ERBB2", limits=(0, 3), opacity=0, dpi=DPI, regions=regions))[slide_box(on_glass)]
        for regions in ((), (left, right))
    )
    assert [name for _, _, name in names] == ["left $x$", "right"]
    np.testing.assert_allclose([place[:2] for place in names], [(250, 200), (400, 200)], atol=5)
    assert (plain == GLASS).all()
    low, high = window_px(on_glass)
    for (x, y), color in (((200, 250), (200, 0, 0)), ((450, 300), (0, 160, 255))):
        column, row = (([x, y] - low) / (high - low) * plain.shape[1::-1]).astype(int)
        near = outlined[row, column - 3 : column + 4]
        assert np.abs(near - color).max(axis=-1).min() < 60, (x, y)


def test_the_picture_says_gene_unit_reliability_and_purpose(result, written):
    map_png(result, "CD24", limits=(0, 3), dpi=DPI)
    assert written[:2] == ["CD24", "held-out r 0.52, in the next patient 0.20 to 0.80 (95 %) · ● reliable"]
    assert "ln(1 + counts per 10,000)" in written
    footer = written[-1].replace("\n", " ")
    assert footer.startswith(
        "Research use only; no map replaces a receptor test. Predicted from colour. Slide SHA-256 "
    )


@pytest.mark.parametrize(
    ("revision", "told"),
    [("tiny", "tiny"), ("0123456789abcdef", "tiny (org/name at 0123456789ab")],
    ids=["a folder of the same name", "the Hub"],
)
def test_every_print_says_its_slide_weights_and_date(result, written, revision, told):
    result.uns["nsl"] |= {"slide_sha256": "a1" * 32, "weights_sha256": "b2" * 32, "weights_revision": revision}
    result.uns["nsl"]["weights_source"] = "tiny" if revision == "tiny" else "org/name"
    own = {"dpi": DPI, "slide_name": "C5_full.jpg", "made_on": datetime.date(2026, 3, 9)}
    map_png(result, "CD24", limits=(0, 3), **own)
    one = written[-1].replace("\n", " ")
    difference_png(result, "ERBB2", "CD24", **own)
    assert written[-1].replace("\n", " ") == one
    weights = f"{told}{' (' if told == 'tiny' else ', '}SHA-256 b2b2b2b2b2b2)"
    assert one.endswith(f"Slide C5_full.jpg (SHA-256 a1a1a1a1a1a1), weights {weights}, NSL 0.1.0, 9 March 2026.")


def test_an_unreliable_gene_is_marked_in_words(result, written):
    map_png(result, "COX6C", limits=(0, 3), dpi=DPI)
    assert written[1] == "held-out r −0.03, in the next patient −0.40 to 0.30 (95 %) · ○ unreliable"


def test_a_gene_whose_reliability_is_unknown_is_no_reliable_one(result, written):
    result.var.loc["CD24", ["r_heldout", "r_low", "r_high", "q_value"]] = np.nan
    map_png(result, "CD24", limits=(0, 3), dpi=DPI)
    assert written[1] == "held-out r unknown · not tested"


def test_a_cancelled_run_and_a_synthetic_slide_are_said_in_the_footer(result, written):
    result.uns["nsl"] |= {"complete": False, "synthetic": True}
    map_png(result, "CD24", limits=(0, 3), dpi=DPI)
    footer = written[-1].replace("\n", " ")
    assert "part of the slide: the run was cancelled" in footer
    assert "synthetic" in footer


@pytest.mark.parametrize("by", DIFFERENCES)
def test_a_difference_is_printed_in_the_colours_of_its_sign_with_both_genes_reliability(on_glass, written, by):
    x = on_glass.obs.x_um.to_numpy()
    on_glass.X[:, :2] = 1.5
    left, right = x <= np.percentile(x, 30), x >= np.percentile(x, 70)
    on_glass.X[left, :2], on_glass.X[right, :2] = [1.0, 2.0], [2.0, 1.0]
    box = slide_box(on_glass)
    written.clear()
    a, b = on_glass.var_names[:2]
    drawn = at_centres(on_glass, pixels(difference_png(on_glass, a, b, by=by, opacity=1, dpi=DPI))[box])
    # Brown has more red than blue, teal more blue than red.
    assert (drawn[right, 2] > drawn[right, 0]).all()
    assert (drawn[left, 0] > drawn[left, 2]).all()
    assert written[0] == f"{a} less {b}"
    assert f"{a}: held-out r" in written[1]
    assert f"{b}: held-out r" in written[1]
    assert any(by in text for text in written[2:])


def test_a_difference_with_a_gene_that_is_the_same_everywhere_is_told(result):
    result.X[:, 0] = 1
    with pytest.raises(NslError, match="is the same on all"):
        difference_png(result, *result.var_names[:2])


@pytest.mark.parametrize("width_mm", [60, 85, 110, 180])
def test_words_stay_inside_a_narrow_picture(result, width_mm):
    result.uns["nsl"] |= {"complete": False, "synthetic": True, "slide_sha256": "8" * 64, "weights_sha256": "8" * 64}
    result.var_names = ["A_NAME_AS_LONG_AS_NOBODY_GAVE_A_GENE_BEFORE_ME", "CD24", "COX6C"]
    made_on = datetime.date(2026, 11, 28)
    drawn = pixels(map_png(result, result.var_names[0], limits=(0, 3), width_mm=width_mm, made_on=made_on))
    edge = np.concatenate([drawn[:, -12:].reshape(-1, 3), drawn[-12:].reshape(-1, 3)])
    assert (edge == 255).all()


def test_a_name_with_dollar_signs_is_no_formula(result, written):
    result.var_names = ["$x^2$", "$\\broken{", "COX6C"]
    for gene in result.var_names[:2]:
        map_png(result, gene, limits=(0, 3), dpi=DPI)
        assert gene in written


@pytest.mark.parametrize(
    ("reach", "extend"), [((0.0, 0.0), "neither"), ((0.1, 0.0), "min"), ((0.0, 0.1), "max"), ((0.1, 0.1), "both")]
)
def test_the_colour_bar_is_pointed_where_values_lie_beyond_it(result, monkeypatch, reach, extend):
    seen, colorbar = [], Figure.colorbar
    monkeypatch.setattr(
        Figure,
        "colorbar",
        lambda self, *a, **options: (seen.append(options["extend"]), colorbar(self, *a, **options))[1],
    )
    values = result[:, "ERBB2"].X
    map_png(result, "ERBB2", limits=(values.min() + reach[0], values.max() - reach[1]), dpi=DPI)
    assert seen == [extend]


def test_a_tall_slide_stays_on_a_page(result):
    image = result.uns["spatial"]["slide"]["images"]["hires"]
    picture = Image.open(io.BytesIO(map_png(_over(result, np.vstack([image] * 5)), "ERBB2", limits=(0, 3), dpi=DPI)))
    assert picture.height / DPI * 25.4 < 265


def test_limits_are_percentiles_and_rise_also_where_a_gene_is_the_same_everywhere():
    values = np.concatenate([np.linspace(0, 1, 101), [50.0]])
    assert percentile_limits(values) == pytest.approx((0.0202, 0.9898))
    assert percentile_limits(np.full(9, 2.5, np.float32)) == (2.0, 3.0)


def test_threads_draw_what_one_thread_draws(result):
    def draw(gene: str) -> bytes:
        return map_png(result, gene, limits=(0, 3), dpi=DPI)

    genes = list(result.var_names) * 2
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(draw, genes)) == [draw(gene) for gene in genes]


def test_pyplot_with_its_global_state_is_never_imported():
    code = "import nsl.export.print, sys; print('matplotlib.pyplot' in sys.modules)"
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("gene", "options", "said"),
    [
        ("ERB2", {}, "ERB2 is not among the 3 genes of this result"),
        ("ERBB2", {"palette": "Rainbow"}, "no palette 'Rainbow'; choose from Viridis"),
        ("ERBB2", {"limits": (1, 1)}, "cannot run from 1 to 1"),
        ("ERBB2", {"limits": (0, np.nan)}, "cannot run from 0 to nan"),
        ("ERBB2", {"opacity": 70}, "opacity must lie between 0 and 1, got 70"),
        ("ERBB2", {"width_mm": 18}, "18 mm wide"),
    ],
)
def test_what_cannot_be_drawn_is_told(result, gene, options, said):
    with pytest.raises(NslError, match=said):
        map_png(result, gene, **({"limits": (0, 3)} | options))
