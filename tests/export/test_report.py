"""What the report promises: a page that needs nothing beside it, says what a map is worth, and tells text from HTML."""

import base64
import datetime
import io
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import anndata
import numpy as np
import pytest
from PIL import Image
from shapely.geometry import box

from nsl.errors import NslError
from nsl.export.print import PURPOSE, overview_png, panel_png
from nsl.export.report import MOST_MAPS, genes_for_report, report_html
from nsl.prediction import predict
from nsl.signatures import Signature
from nsl.slides.annotations.region import Region
from nsl.slides.annotations.tiles import annotate
from nsl.slides.slide import open_slide
from nsl.stats.regions import ANNOTATION_CAVEAT, compare_classes

HOSTILE = "</style></title><script src='https://x.invalid'>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"
DAY = datetime.date(2026, 3, 9)


@pytest.fixture
def result(section_png, weights) -> anndata.AnnData:
    """The small section, 700 × 600 µm, in tiles of 100 µm every 50 µm; COX6C is unreliable."""
    with open_slide(section_png, mpp=1) as slide:
        return predict(slide, weights, stride_um=50)


@dataclass
class Page(HTMLParser):
    """What a browser makes of a report."""

    html: str
    tags: list[tuple[str, dict]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def pictures(self) -> dict[str, str]:
        """By what they show."""
        return {attrs["alt"]: attrs["src"] for tag, attrs in self.tags if tag == "img"}


def page(result: anndata.AnnData, name: str = "Section 7", **options) -> Page:
    return Page(report_html(result, name, made_on=DAY, **options))


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


# A file of its own


def test_the_page_holds_its_pictures_and_loads_nothing(result, slide, weights):
    seen = page(result, slide=slide, weights=weights)
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    for _, attrs in seen.tags:
        assert not [name for name in attrs if name.startswith("on") or name in ("href", "srcset", "data", "action")]
    assert len(seen.pictures) == 4
    for source in seen.pictures.values():
        kind, _, held = source.partition(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(held, validate=True))).format == "PNG"
    assert "http:" not in seen.html
    assert "https:" not in seen.html
    assert not re.search(r"url\(|@import", seen.html)
    policy = next(attrs["content"] for tag, attrs in seen.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_whatever_is_in_files_and_weights_stands_there_letter_by_letter(result, slide, weights):
    regions = [
        Region(HOSTILE, HOSTILE, (1, 2, 3), box(0, 0, 350, 600)),
        Region("right", "right", None, box(350, 0, 700, 600)),
    ]
    annotate(result, regions)
    tame = page(result, genes=["CD24"], slide=slide, weights=weights, regions=regions)
    result.uns["nsl"] |= {"weights_id": HOSTILE, "weights_source": HOSTILE, "heldout_left_out": HOSTILE}
    result.var_names = ["ERBB2", HOSTILE, "COX6C"]
    slide.format = slide.scanner = HOSTILE
    slide.notices = (HOSTILE,)
    seen = page(result, HOSTILE, genes=[HOSTILE], slide=slide, weights=weights, regions=regions)
    # The notice is a paragraph in a box of its own.
    own, expected = ([tag for tag, _ in one.tags if tag not in ("p", "div")] for one in (seen, tame))
    assert own == expected
    assert seen.text.count(HOSTILE) >= 9


def test_the_same_result_gives_the_same_page(result):
    assert page(result).html == page(result).html


# What it says


def test_slide_weights_settings_date_and_purpose_are_told(result, slide, weights):
    slide.scanner, slide.objective_power = "Maker Model 3", 20.0
    said = page(result, slide=slide, weights=weights).text
    known = result.uns["nsl"]
    for part in (
        "Section 7",
        "9 March 2026, NSL 0.1.0",
        PURPOSE,
        "0.70 × 0.60 mm, 700 × 600 px",
        "1 µm/px, read at 2 µm/px",
        "PNG, Maker Model 3, 20×",
        f"{result.n_obs} tiles of 100 µm, every 50 µm",
        "less than 30 % tissue",
        "Hematoxylin and eosin were told from this slide's own tissue",
        f"SHA-256 {known['slide_sha256'][:12]}",
        f"tiny (SHA-256 {known['weights_sha256'][:12]})",
        "paint: 189 spots of 3 patients",
        "leaving out each patient in turn, 3 in all",
    ):
        assert part in said, part


def test_without_slide_and_weights_the_result_says_what_it_knows(result):
    said = page(result).text
    assert "0.70 × 0.60 mm, 700 × 600 px" in said
    assert "tiny" in said
    assert "Learned on" not in said


def test_each_map_says_how_far_to_trust_it(result):
    result.var.loc["ERBB2", ["r_heldout", "r_next_low", "r_next_high"]] = [0.21, np.nan, np.nan]
    seen = page(result)
    assert "ERBB2 (HER2) Weak: held-out r 0.21 (95 % interval 0.22 to 0.60), replicated in 2 of 3." in seen.text
    told = (
        "held-out r 0.52 (in the next patient 0.20 to 0.80 is to be expected, 95 % by these 3), replicated in 3 of 3."
    )
    assert f"Reliable: {told}" in seen.text
    assert "COX6C Unreliable: held-out r −0.03" in seen.text
    assert "it did not agree beyond chance" in seen.text
    kinds = [attrs["class"] for tag, attrs in seen.tags if attrs.get("class") in ("reliable", "weak", "unreliable")]
    assert kinds == ["weak", "reliable", "unreliable"]


def test_a_signature_says_its_genes_and_that_it_was_not_tested(section_png, weights):
    mine = [Signature("mine", ("ERBB2", "CD24", "COX6C"))]
    with open_slide(section_png, mpp=1) as slide:
        result = predict(slide, weights, signatures=mine)
    said = page(result, genes=["signature:mine"]).text
    assert "Signature mine Not tested: nothing is known of how well it is predicted." in said
    assert "Of 3 genes: ERBB2, CD24, COX6C." in said


def test_a_clean_slide_has_no_warnings_and_a_doubtful_one_all_of_them(result, slide):
    assert "warnings" not in [attrs.get("class") for _, attrs in page(result, slide=slide).tags]
    result.uns["nsl"] |= {"complete": False, "synthetic": True, "transfer_residual": 0.3, "white_point_source": "paper"}
    slide.notices = ("the scale was taken from elsewhere",)
    seen = page(result, slide=slide)
    assert "warnings" in [attrs.get("class") for _, attrs in seen.tags]
    for part in (
        "may not be hematoxylin and eosin: 30% of its colour is of neither stain. Predictions may mislead.",
        "the run was cancelled",
        "synthetic",
        "pure white was taken for it",
        "the scale was taken from elsewhere.",
    ):
        assert part in seen.text, part


# Its maps


def test_maps_have_the_colours_asked_for(result):
    own, wide = ({"CD24": ends} for ends in [(0.0, 1.0), (0.0, 50.0)])
    one, other = (page(result, genes=["CD24"], limits=limits).pictures for limits in (own, wide))
    assert "CD24 over the tissue, from 0.00 to 50.00 ln(1 + counts per 10,000)" in other
    assert set(one.values()) != set(other.values())
    expected = panel_png(result, "CD24", limits=(0, 50), palette="Magma", opacity=0.4)
    drawn = page(result, genes=["CD24"], limits=wide, palette="Magma", opacity=0.4).pictures
    assert f"data:image/png;base64,{base64.b64encode(expected).decode()}" in drawn.values()


def test_a_panel_shows_the_tiles_and_a_tall_slide_keeps_to_its_height(result):
    few = result[:6].copy()
    panel = pixels(panel_png(few, "CD24", limits=(0, 1), opacity=1, dpi=100))
    dark = (panel[10:100] != 255).any(axis=2)
    assert dark.any(axis=0).mean() > 0.9  # a row of tiles fills the width, which is a third of the slide's
    image = few.uns["spatial"]["slide"]["images"]["hires"]
    few.uns["spatial"]["slide"]["images"]["hires"] = np.vstack([image] * 9)
    assert pixels(overview_png(few, dpi=100, most_mm=70)).shape[0] < 90 / 25.4 * 100


def test_the_overview_is_paler_where_no_tile_was_predicted(result):
    result.uns["spatial"]["slide"]["images"]["hires"] = np.full((600, 700, 3), 100, np.uint8)
    left = result[result.obs.x_um < 350].copy()
    drawn = pixels(overview_png(left, dpi=100)).mean(axis=2)
    middle = drawn[drawn.shape[0] // 2 - 20]
    slide = middle[middle < 254]
    assert np.median(slide[: len(slide) // 3]) == pytest.approx(100, abs=25)
    assert np.median(slide[-len(slide) // 3 :]) == pytest.approx(255 - 155 * 0.45, abs=2)


def test_regions_are_outlined_in_their_colours(result):
    region = Region("", "", (250, 0, 250), box(100, 100, 600, 500))
    drawn = pixels(overview_png(result, regions=[region]))
    assert (np.abs(drawn - [250, 0, 250]).max(axis=2) < 20).sum() > 500
    assert not (np.abs(pixels(overview_png(result)) - [250, 0, 250]).max(axis=2) < 20).any()


def test_without_a_choice_the_page_shows_what_is_reliable_and_differs_here(result):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, result.n_obs))
    maps = {"A": first, "LIKE_A": first + 0.01 * second, "FLAT": 0 * first, "B": second, "POOR": first * second}
    many = anndata.AnnData(
        np.column_stack(list(maps.values())).astype(np.float32),
        result.obs,
        result.var.iloc[[1] * 5].set_axis(list(maps)).assign(r_heldout=[0.5, 0.49, 0.48, 0.4, 0.6]),
        uns=result.uns,
        obsm=result.obsm,
    )
    many.var.loc["POOR", "q_value"] = 0.5
    assert genes_for_report(many) == ["A", "B"]
    assert genes_for_report(many, ["LIKE_A"]) == ["LIKE_A", "B"]
    assert genes_for_report(many, ["POOR"]) == ["POOR", "A", "B"]
    many.var["q_value"] = 0.5
    assert genes_for_report(many) == ["POOR", "A", "B"]
    many.var.loc["POOR", "r_heldout"] = np.nan
    assert genes_for_report(many) == ["A", "B", "POOR"]
    many.var_names = ["A", "LIKE_A", "FLAT", "B", "signature:MINE"]
    assert genes_for_report(many) == ["signature:MINE"]
    many.var["q_value"] = 1e-3
    assert genes_for_report(many) == ["signature:MINE", "A", "B"]


def test_a_short_list_is_shown_whole(result):
    assert genes_for_report(result) == ["ERBB2", "CD24", "COX6C"]
    assert genes_for_report(result, ["COX6C"]) == ["COX6C", "ERBB2", "CD24"]


def test_signatures_stand_before_genes(slide, embedded):
    result = predict(slide, embedded)
    chosen = genes_for_report(result)
    assert len(chosen) == MOST_MAPS
    assert [name.startswith("signature:") for name in chosen] == [True, True, False, False]


@pytest.mark.parametrize(
    ("genes", "said"),
    [([], "one to 4 maps, and 0 are asked for"), (["ESR1"], "the map holds no gene ESR1")],
)
def test_what_cannot_be_shown_is_told(result, genes, said):
    with pytest.raises(NslError, match=said):
        report_html(result, "Section 7", genes=genes)


# Its regions


def test_classes_are_tabled_against_all_other_tiles_in_their_colours(result):
    regions = [
        Region("a", "Tumor", (200, 0, 0), box(0, 0, 300, 600)),
        Region("b", "Stroma", None, box(300, 0, 700, 300)),
        Region("c", "Speck", (0, 200, 0), box(690, 590, 700, 600)),
    ]
    annotate(result, regions)
    seen = page(result, genes=["CD24"], regions=regions)
    row = compare_classes(result, result.obs.region_class.to_numpy(str)).loc["Tumor", "CD24"]
    told = f"Tumor {row.tiles_inside:.0f} {row.effect_size:+.2f}, q {row.q_value:.2g}"
    assert f"{told}{row.effect_low:.2f} to {row.effect_high:.2f}".replace("-", "−") in seen.text
    assert "Speck 0 –" in seen.text
    assert "among 3 genes and signatures" in seen.text
    assert ANNOTATION_CAVEAT in seen.text
    marks = [attrs["style"] for tag, attrs in seen.tags if tag == "span" and "style" in attrs]
    assert {
        "background: rgb(200, 0, 0); color: rgb(200, 0, 0)",
        "background: rgb(0, 160, 255); color: rgb(0, 160, 255)",
    } <= set(marks)


def test_regions_that_cannot_be_compared_are_listed_with_the_reason(result):
    annotate(result, [Region("all of it", "Tumor", None, box(0, 0, 700, 600))])
    said = page(result, genes=["CD24"]).text
    assert f"Tumor {result.n_obs} –" in said
    assert "They cannot be compared: what was annotated has not 3 tiles inside and 3 outside to compare" in said


def test_without_regions_there_is_no_table(result):
    assert "Annotated regions" not in page(result).text
