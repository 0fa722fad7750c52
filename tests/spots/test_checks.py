"""What `checks` promises: misplaced spots, foreign gene names and thin sections are told, each with its remedy."""

from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

from nsl import open_slide
from nsl.errors import SpotsError
from nsl.prediction import predict
from nsl.spots.checks import check_on_slide, check_on_tissue, match_genes, report_on
from nsl.spots.measured_section import ANALYSIS_MPP, TILE_UM, SectionImage, read_section, read_spot_colors
from nsl.spots.tables import Section, read_manifest, read_spots
from nsl.weights.folder import load_weights


def measured_at(xy, image_scales=None, genes=("A",), gene_id=None) -> anndata.AnnData:
    """Spots at these positions, of these genes, as a reader gives them."""
    xy = np.asarray(xy, float)
    var = pd.DataFrame(index=list(genes))
    if gene_id is not None:
        var["gene_id"] = gene_id
    return anndata.AnnData(
        X=sparse.csr_array(np.ones((len(xy), len(genes)), np.float32)),
        obs=pd.DataFrame(index=[f"s{i}" for i in range(len(xy))]),
        var=var,
        obsm={"spatial": xy},
        uns={"notices": [], "image_scales": image_scales or {}},
    )


def refusal(check, *args, **options) -> str:
    with pytest.raises(SpotsError) as caught:
        check(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Positions on the slide

SIZE = (1000, 800)


def test_spots_on_the_slide_keep_their_positions():
    xy = [[0, 0], [999.5, 799.5]]
    np.testing.assert_array_equal(check_on_slide(measured_at(xy), SIZE), xy)


def test_positions_of_a_larger_original_are_scaled():
    np.testing.assert_allclose(check_on_slide(measured_at([[3000, 1500]]), SIZE, scale=0.25), [[750, 375]])


def test_spots_off_the_slide_are_counted_with_both_extents():
    said = refusal(check_on_slide, measured_at([[500, 400], [2000, 300], [100, 1600]]), SIZE)
    assert said.startswith(
        "2 of 3 spots lie outside the slide: positions reach from x 100 to 2,000 and y 300 to 1,600 px, and the slide "
        "is 1,000 × 800 px; "
    )


def test_positions_of_a_larger_original_are_told_the_largest_scale_that_fits():
    measured = measured_at([[500, 400], [2000, 300], [100, 1600]])
    assert "scale them by its width over the original's, which is 0.5 or less" in refusal(
        check_on_slide, measured, SIZE
    )
    check_on_slide(measured, SIZE, scale=0.499)


def test_a_slide_that_is_the_smaller_image_of_the_section_is_told_its_scale():
    measured = measured_at([[6000, 4000], [500, 300]], {"hires": 0.1638, "lowres": 0.0491})
    said = refusal(check_on_slide, measured, SIZE)
    assert said.endswith("if the slide is the hires image of this section: scale the positions by 0.1638")
    check_on_slide(measured, SIZE, scale=0.1638)


def test_exchanged_x_and_y_are_told():
    assert "fit with x and y exchanged" in refusal(check_on_slide, measured_at([[750, 990], [100, 200]]), SIZE)


def test_negative_positions_and_spots_at_the_edge_are_not_told_to_scale():
    assert "counted from its top left corner" in refusal(check_on_slide, measured_at([[-5, 10], [2000, 10]]), SIZE)
    assert "from x −5 to 2,000" in refusal(check_on_slide, measured_at([[-5, 10], [2000, 10]]), SIZE)
    assert "leave out the spots beyond the edge" in refusal(check_on_slide, measured_at([[1003, 10], [5, 5]]), SIZE)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_an_impossible_scale_is_refused(scale):
    assert f"must be a positive number, got {scale:g}" in refusal(
        check_on_slide, measured_at([[1, 1]]), SIZE, scale=scale
    )


def test_published_positions_do_not_fit_the_smaller_image_and_say_so(data_folder):
    folder = data_folder / "her2st"
    measured = read_spots(folder / "counts/A1.tsv.gz", folder / "spots/A1_selection.tsv")
    with open_slide(folder / "images/A1_HE_image_dark.png", 3.2) as slide:
        assert "a larger original of this image" in refusal(check_on_slide, measured, slide.size)
        assert (check_on_slide(measured, slide.size, scale=2000 / 6954) < slide.size).all()


# Positions on the tissue


@pytest.fixture
def result(section_png, tiny_weights):
    """A prediction of 100 µm tiles at 1 µm/px; glass surrounds the tissue."""
    with open_slide(section_png, mpp=1.0) as slide:
        return predict(slide, load_weights(tiny_weights))


def test_spots_on_tissue_need_no_word(result):
    assert check_on_tissue(result.obsm["spatial"] + 40, result) is None


def test_spots_partly_off_tissue_are_counted(result):
    glass = np.full((len(result), 2), 5.0)
    said = check_on_tissue(np.concatenate([result.obsm["spatial"], glass]), result)
    assert said.startswith(f"Only {len(result)} of {2 * len(result)} spots lie on predicted tissue")


def test_spots_beside_the_tissue_are_refused_with_both_extents(result):
    (left, top), (right, bottom) = result.obsm["spatial"].min(axis=0), result.obsm["spatial"].max(axis=0)
    said = refusal(check_on_tissue, np.array([[690.0, 590.0], [695.0, 595.0]]), result)
    assert said.startswith(
        "none of the 2 spots lies on the slide's predicted tissue: positions reach from x 690 to 695"
    )
    assert f"tissue from x {left:.0f} to {right:.0f} and y {top:.0f} to {bottom:.0f} px" in said


@pytest.mark.parametrize(
    ("meant", "said"),
    [
        (lambda xy: [700, 0] + xy * [-1, 1], "x counted from the right"),
        (lambda xy: [0, 600] + xy * [1, -1], "y counted from the bottom"),
        (lambda xy: xy[:, ::-1], "x and y exchanged"),
        (lambda xy: xy * 0.25, "pixels of the hires image, so multiply the positions by 4"),
        (lambda xy: xy * 0.5, "as µm, so multiply the positions by 2"),
    ],
    ids=["mirrored across", "mirrored down", "exchanged", "of a smaller image", "µm"],
)
def test_positions_meant_in_another_way_are_told_how(result, meant, said):
    # Tissue of no symmetry: an L along the left and the top.
    x, y = result.obsm["spatial"].T
    corner = result[(x < 300) | (y < 200)].copy()
    corner.uns["nsl"]["mpp"] = 0.5
    corner.uns["nsl"]["tile_um"] = corner.uns["nsl"]["stride_um"] = 30.0
    tiles = corner.obsm["spatial"]
    assert check_on_tissue(tiles, corner) is None
    try:
        told = check_on_tissue(meant(tiles), corner, {"hires": 0.25})
    except SpotsError as error:
        told = str(error)
    assert said in told


def test_array_positions_are_told_from_pixels(result):
    said = refusal(check_on_tissue, np.array([[1.0, 2.0], [20.0, 33.0]]), result)
    assert said.endswith("not array positions, µm or pixels of a smaller image")


# Genes

GENES = ["ERBB2", "KRT8", "C1orf112", "TP53", "ESR1"]
IDS = ["ENSG00000141736", "ENSG00000170421", "ENSG00000000460", "ENSG00000141510", "ENSG00000091831"]


def genes_of(genes, gene_id=None) -> anndata.AnnData:
    return measured_at([[1, 1]], genes=genes, gene_id=gene_id)


def test_shared_genes_come_in_the_order_of_the_predicted():
    match = match_genes(genes_of(["TP53", "OTHER", "ERBB2", "KRT8"]), GENES)
    assert match.measured == match.predicted == ["ERBB2", "KRT8", "TP53"]
    assert match.number_measured == 4
    assert match.notice is None


def test_a_gene_in_other_capitals_is_found_after_exact_names():
    match = match_genes(genes_of(["erbb2", "ERBB2", "C1ORF112", "KRT8"]), GENES)
    assert match.predicted == ["ERBB2", "KRT8", "C1orf112"]
    assert match.measured == ["ERBB2", "KRT8", "C1ORF112"]
    assert match.notice is None


def test_one_measured_gene_stands_for_one_predicted():
    match = match_genes(genes_of(["ABC"]), ["abc", "Abc"])
    assert match.predicted == ["abc"]


def test_genes_are_found_by_ensembl_id_where_the_weights_name_them_so():
    match = match_genes(genes_of(["KRT8", "ERBB2"], [IDS[1], f"{IDS[0]}.14"]), IDS)
    assert match.predicted == IDS[:2]
    assert match.measured == ["ERBB2", "KRT8"]


def test_mouse_genes_are_matched_and_told():
    match = match_genes(genes_of(["Erbb2", "Krt8", "Trp53", "Esr1"]), GENES)
    assert match.measured == ["Erbb2", "Krt8", "Esr1"]
    assert match.notice.startswith(
        "3 of 5 predicted genes were measured, most only with other capitals (Erbb2 for ERBB2): the two may be of "
        "different species"
    )


def test_a_small_panel_is_told_with_its_size():
    genes = [f"G{i}" for i in range(20)]
    match = match_genes(genes_of(["G3", "X"]), genes)
    assert match.predicted == ["G3"]
    assert match.notice.startswith("Only 1 of 20 predicted genes was measured: the table holds 2 genes (G3, X in the")


@pytest.mark.parametrize(
    ("measured", "predicted", "said"),
    [
        (IDS, GENES, "the table names genes by Ensembl id (ENSG00000141736, ENSG00000170421"),
        (["ENSMUSG00000062312"], GENES, "the table names genes by Ensembl id of mouse (ENSMUSG00000062312 in"),
        (GENES, IDS, "the weights name genes by Ensembl id (ERBB2, KRT8"),
        (["a1", "a2", "a3"], GENES, "the first of each are a1, a2, a3 in the table, ERBB2, KRT8, C1orf112 in the"),
    ],
    ids=["ids", "mouse ids", "weights by id", "unknown"],
)
def test_tables_without_a_predicted_gene_are_told_how_names_differ(measured, predicted, said):
    message = refusal(match_genes, genes_of(measured), predicted)
    assert message.startswith("none of the 5 predicted genes was measured: ")
    assert said in message


# Before a fit


@pytest.fixture
def paired_section(paired):
    """The first section of two made in code: 63 spots of 8 genes, all on the image."""
    return read_manifest(paired / "manifest.csv")[0]


def reported(section):
    """What is said of a section when its windows are those of a fit."""
    measured = read_spots(section.counts, section.spots)
    image = SectionImage(section.name, section.image, section.mpp)
    seen = read_spot_colors(image, measured.obsm["spatial"], TILE_UM, ANALYSIS_MPP)
    return report_on(section.name, measured, seen)


def test_a_section_is_reported_as_its_tables_hold_it(paired_section):
    counts = pd.read_csv(paired_section.counts, index_col=0)
    report = reported(paired_section)
    assert (report.name, report.spots) == ("S1", 63)
    assert report.median_counts == counts.sum(axis=1).median()
    assert report.genes_detected == 7  # RARE is counted in 3 of 63 spots
    assert report.spots_on_tissue == 63
    assert report.notices == []


@pytest.mark.parametrize(("on_glass", "is_warned"), [(1, False), (12, False), (13, True)])
def test_spots_on_glass_are_told_before_a_fit_and_count_for_nothing(paired_section, tmp_path, on_glass, is_warned):
    pixels = np.asarray(Image.open(paired_section.image))
    glass = np.broadcast_to(pixels[0, 0], (len(pixels), 200, 3))
    Image.fromarray(np.concatenate([pixels, glass], axis=1)).save(tmp_path / "wide.png")
    positions = pd.read_csv(paired_section.spots)
    positions.loc[: on_glass - 1, "x_px"] = pixels.shape[1] + 100
    positions.to_csv(tmp_path / "spots.csv", index=False)
    report = reported(replace(paired_section, image=tmp_path / "wide.png", spots=tmp_path / "spots.csv"))
    counts = pd.read_csv(paired_section.counts, index_col=0)[on_glass:]
    assert report.median_counts == counts.sum(axis=1).median()
    told = f"{on_glass} spot{'s' if on_glass > 1 else ''} left out, where the image shows no tissue."
    assert report.notices == [told]
    assert any(line.startswith(f"Only {63 - on_glass} of the 63 spots") for line in report.warnings) is is_warned


def test_spots_on_a_little_tissue_are_said_to_take_part(paired_section, tmp_path):
    pixels = np.asarray(Image.open(paired_section.image))
    glass = np.broadcast_to(pixels[0, 0], (len(pixels), 200, 3)).copy()
    # A fifth of the window of 150 px around (100, 100) there, and all of the middle.
    glass[67:134, 67:134] = pixels[100:167, 100:167]
    Image.fromarray(np.concatenate([pixels, glass], axis=1)).save(tmp_path / "wide.png")
    positions = pd.read_csv(paired_section.spots)
    positions.loc[:1, ["x_px", "y_px"]] = pixels.shape[1] + 100, 100
    positions.to_csv(tmp_path / "spots.csv", index=False)
    report = reported(replace(paired_section, image=tmp_path / "wide.png", spots=tmp_path / "spots.csv"))
    assert report.spots_on_tissue == 61
    assert report.notices == ["2 spots of less than 30% tissue take part too."]


def test_sparse_counts_are_reported_as_dense_ones_are(paired_section):
    measured, seen = read_section(paired_section, TILE_UM, ANALYSIS_MPP)
    thin = measured.copy()
    thin.X = sparse.csr_array(measured.X)
    assert report_on("S1", thin, seen) == report_on("S1", measured, seen)


def test_a_thin_section_is_warned_of_in_plain_sentences(paired_section, tmp_path):
    few, shallow = tmp_path / "spots.csv", tmp_path / "counts.csv"
    positions = pd.read_csv(paired_section.spots).head(40)
    positions.loc[:15, ["x_px", "y_px"]] = 5  # glass
    positions.to_csv(few, index=False)
    counts = pd.read_csv(paired_section.counts, index_col=0)
    (counts // 100).to_csv(shallow)
    thin = Section("S1", "P1", paired_section.image, 1.0, few, shallow)
    said = reported(thin).warnings
    assert said[0].startswith("S1 has 40 spots; from fewer than 50")
    assert any(line.startswith("Only ") and "of the 40 spots of S1 lie on tissue" in line for line in said)
    assert any(line.startswith("The median spot of S1 has ") for line in said)
    assert any(line.startswith("Only ") and "genes of S1 are counted" in line for line in said)
    assert reported(thin).notices[0].startswith("23 of 63 spots of counts.csv were left out")


def test_a_real_section_has_nothing_to_warn_of(data_folder):
    folder = data_folder / "her2st"
    section = Section(
        "C5", "C", folder / "images/C5_full.jpg", 0.69, folder / "spots/C5_selection.tsv", folder / "counts/C5.tsv.gz"
    )
    report = reported(section)
    assert report.spots == 181
    assert report.median_counts == 10015
    assert report.genes_detected == 10069
    assert report.warnings == []


def test_shifted_positions_of_a_real_section_are_warned_of(data_folder, tmp_path):
    folder = data_folder / "her2st"
    table = pd.read_csv(folder / "spots/C5_selection.tsv", sep="\t")
    table["pixel_x"] -= table.pixel_x.min()
    table["pixel_y"] -= table.pixel_y.min()
    table.to_csv(tmp_path / "shifted.tsv", sep="\t", index=False)
    section = Section(
        "C5", "C", folder / "images/C5_full.jpg", 0.69, tmp_path / "shifted.tsv", folder / "counts/C5.tsv.gz"
    )
    [warning] = reported(section).warnings
    assert "of the 181 spots of C5 lie on tissue; the positions may be shifted" in warning
