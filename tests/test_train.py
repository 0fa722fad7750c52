"""What `nsl.train` promises: genes driven by a stain are learned, in the data's units, and the same way twice."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from nsl import train as train_module
from nsl.errors import Cancelled, ScaleError, SpotsError
from nsl.histogram import ColorCounts
from nsl.model import NeuralStain
from nsl.signatures import Signature
from nsl.spots.measured_section import (
    ANALYSIS_MPP,
    LEAST_TISSUE,
    MeasuredSection,
    detected_genes,
    measure_section,
    read_section,
)
from nsl.spots.tables import read_manifest
from nsl.stains import HED_VECTORS, angle_degrees
from nsl.train import FitSettings, choose_settings, fit, held_out_groups, train, train_sections
from nsl.weights.config import HeldOutProtocol
from nsl.weights.folder import load_weights, save_weights
from tests.recording import Recording

GENES = ["H_GENE", "E_GENE", "NOISE"]
TILE_UM = 60.0
FEW = [FitSettings(patterns=10, steps=2)]


@pytest.fixture(scope="module")
def sections(paired) -> list[MeasuredSection]:
    """The two paired sections, read once."""
    return [measure_section(section, TILE_UM) for section in read_manifest(paired / "manifest.csv")]


def truth(section: MeasuredSection, gene: str) -> np.ndarray:
    return section.expression[:, section.genes.index(gene)]


def correlation(model, section: MeasuredSection, gene: str) -> float:
    predicted = model.from_counts(section.colors)[:, model.genes.index(gene)]
    return float(np.corrcoef(predicted, truth(section, gene))[0, 1])


def without(section: MeasuredSection, gene: str) -> MeasuredSection:
    keep = [i for i, name in enumerate(section.genes) if name != gene]
    return replace(
        section,
        genes=[section.genes[i] for i in keep],
        expression=section.expression[:, keep],
        detected=section.detected[keep],
    )


def tensors(model) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


# Measuring a section


def test_a_measured_section_holds_the_spots_of_the_tables(sections):
    for section in sections:
        assert len(section.colors) == len(section.expression) == 63
        assert section.detected[section.genes.index("RARE")] == pytest.approx(3 / 63)
        np.testing.assert_array_equal(section.colors.pixels, 20 * 20)  # 60 µm at 3 µm/px


def test_spots_outside_the_image_are_refused_with_their_number(paired, tmp_path):
    spots = pd.read_csv(paired / "S1_spots.csv")
    spots.loc[[4, 9], "x_px"] = [700.0, -0.5]
    spots.to_csv(tmp_path / "spots.csv", index=False)
    [first, _] = read_manifest(paired / "manifest.csv")
    told = r"section S1: 2 of 63 spots lie outside the slide: .* 700 × 600 px; give positions in pixels of this very"
    with pytest.raises(SpotsError, match=told):
        measure_section(replace(first, spots=tmp_path / "spots.csv"))


def test_a_section_whose_image_tells_no_scale_is_refused(paired):
    [first, _] = read_manifest(paired / "manifest.csv")
    with pytest.raises(ScaleError, match=r"S1\.png has no µm/px"):
        measure_section(replace(first, mpp=None))


def test_spots_on_black_padding_are_left_out(paired, tmp_path):
    [first, _] = read_manifest(paired / "manifest.csv")
    pixels = np.asarray(Image.open(first.image)).copy()
    pixels[:, :200] = 0  # the first two columns of spots, wholly
    Image.fromarray(pixels).save(tmp_path / "padded.png")
    measured = measure_section(replace(first, image=tmp_path / "padded.png"), TILE_UM)
    assert len(measured.colors) == len(measured.expression) == 63 - 2 * 7


def test_spots_on_glass_change_nothing_that_is_learned(paired, tmp_path):
    """They are counted little, so with them any gene would seem to follow the stain."""
    [first, _] = read_manifest(paired / "manifest.csv")
    pixels = np.asarray(Image.open(first.image)).copy()
    pixels[:, 615:] = pixels[0, 0]  # the last column of spots, wholly
    Image.fromarray(pixels).save(tmp_path / "cut.png")
    spots, counts = pd.read_csv(first.spots), pd.read_csv(first.counts, index_col=0)
    is_cut = spots.x_px == 650
    counts[is_cut.to_numpy()] //= 50
    on_tissue = []
    for name, rows in (("all", slice(None)), ("kept", (~is_cut).to_numpy())):
        spots[rows].to_csv(tmp_path / f"{name}_spots.csv", index=False)
        counts[rows].to_csv(tmp_path / f"{name}_counts.csv")
        files = {what: tmp_path / f"{name}_{what}.csv" for what in ("spots", "counts")}
        on_tissue.append(measure_section(replace(first, image=tmp_path / "cut.png", **files), TILE_UM))
    whole, kept = on_tissue
    assert list(whole.spot_names) == list(kept.spot_names) == list(counts.index[~is_cut.to_numpy()])
    np.testing.assert_array_equal(whole.expression, kept.expression)
    np.testing.assert_array_equal(whole.detected, kept.detected)
    # The colour of glass stays in the palette of the one, with no pixel.
    np.testing.assert_array_equal(whole.colors.od_sums.sum(axis=1), kept.colors.od_sums.sum(axis=1))


def test_spots_beside_an_edge_that_their_windows_reach_over_are_on_glass(paired, tmp_path):
    [first, _] = read_manifest(paired / "manifest.csv")
    pixels = np.asarray(Image.open(first.image)).copy()
    pixels[:, 610:] = pixels[0, 0]  # 40 µm beside the last column of spots
    Image.fromarray(pixels).save(tmp_path / "cut.png")
    measured, seen = read_section(replace(first, image=tmp_path / "cut.png"), 150.0, ANALYSIS_MPP)
    is_last = measured.obsm["spatial"][:, 0] == 650
    assert seen.tissue[is_last].min() > LEAST_TISSUE
    np.testing.assert_array_equal(seen.shows_tissue, ~is_last)


def test_spots_that_all_lie_on_glass_are_refused(paired, tmp_path):
    [first, _] = read_manifest(paired / "manifest.csv")
    Image.new("RGB", (700, 600), (240, 236, 240)).save(tmp_path / "glass.png")
    with pytest.raises(SpotsError, match=r"none of the 63 spots of S1 lies on tissue; give positions in pixels of"):
        measure_section(replace(first, image=tmp_path / "glass.png"), TILE_UM)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_spots_are_not_placed_on_an_image_that_is_shown_turned(paired, tmp_path, orientation):
    [first, _] = read_manifest(paired / "manifest.csv")
    exif, turned = Image.Exif(), tmp_path / "turned.jpg"
    exif[274] = orientation
    Image.open(first.image).save(turned, exif=exif, quality=95)
    if orientation == 1:
        assert measure_section(replace(first, image=turned), TILE_UM).spots == 63
        return
    with pytest.raises(SpotsError, match=r"^section S1: turned\.jpg is stored turned or mirrored, .*; save it upright"):
        measure_section(replace(first, image=turned), TILE_UM)


def test_a_pen_on_the_slide_is_not_taken_for_a_stain(paired, tmp_path):
    [first, _] = read_manifest(paired / "manifest.csv")
    clean = measure_section(first, TILE_UM).stains
    pixels = np.asarray(Image.open(first.image)).copy()
    for y in range(120, 480, 60):
        pixels[y : y + 12, 60:640] = (20, 120, 60)  # green strokes over tissue and glass
    Image.fromarray(pixels).save(tmp_path / "marked.png")
    marked = measure_section(replace(first, image=tmp_path / "marked.png"), TILE_UM).stains
    assert angle_degrees(marked.vectors, clean.vectors).max() < 2
    np.testing.assert_allclose(marked.strengths, clean.strengths, rtol=0.1)


def test_what_is_left_out_of_a_section_or_may_spoil_a_fit_is_told(paired, tmp_path):
    manifest = tmp_path / "manifest.csv"
    table = pd.read_csv(paired / "manifest.csv").head(1)
    pixels = np.asarray(Image.open(paired / table.image[0])).copy()
    pixels[:, :200] = 0  # the first two columns of spots, wholly
    Image.fromarray(pixels).save(tmp_path / "padded.png")
    for column in ("spots", "counts"):
        table[column] = [str(paired / name) for name in table[column]]
    table.assign(image="padded.png").to_csv(manifest, index=False)
    told: list[str] = []
    [section] = train_module.measure_all(manifest, TILE_UM, 3.0, told=told.append)
    assert section.spots == 49
    assert "S1: 14 spots left out, where the image shows no tissue." in told
    assert any(sentence.startswith("Only 7 genes of S1 are counted") for sentence in told)
    with pytest.warns(UserWarning, match="14 spots left out"):
        train_module.measure_all(manifest, TILE_UM, 3.0)


def test_genes_are_fitted_by_the_names_that_users_have_for_them(sections):
    [seen, other] = [
        replace(section, genes=["ERBB2" if gene == "H_GENE" else gene for gene in section.genes])
        for section in sections
    ]
    weights = train_sections([seen, other], name="mine", genes=["her2", "e_gene", "ERBB2"], candidates=FEW)
    assert weights.genes == ["ERBB2", "E_GENE"]


# Fitting


@pytest.mark.parametrize("gene", ["H_GENE", "E_GENE"])
def test_genes_driven_by_a_stain_are_predicted_on_a_section_held_out(sections, gene):
    seen, held_out = sections
    assert correlation(fit([seen], GENES), held_out, gene) >= 0.9


def test_each_driven_gene_follows_its_own_stain(sections):
    seen, held_out = sections
    predicted = fit([seen], GENES).from_counts(held_out.colors).numpy()
    own = [np.corrcoef(predicted[:, i], truth(held_out, gene))[0, 1] for i, gene in enumerate(GENES[:2])]
    other = [np.corrcoef(predicted[:, 1 - i], truth(held_out, gene))[0, 1] for i, gene in enumerate(GENES[:2])]
    assert min(own) > max(other) + 0.3


@pytest.mark.parametrize("gene", ["H_GENE", "E_GENE"])
def test_predictions_are_in_the_units_of_the_data(sections, gene):
    seen, held_out = sections
    predicted = fit([seen], GENES).from_counts(held_out.colors)[:, GENES.index(gene)].numpy()
    expected = truth(held_out, gene)
    assert predicted.mean() == pytest.approx(expected.mean(), rel=0.05)
    assert np.polyfit(predicted, expected, 1)[0] == pytest.approx(1, abs=0.2)


def test_a_gene_that_follows_nothing_is_predicted_near_its_mean(sections):
    seen, held_out = sections
    predicted = fit([seen], GENES).from_counts(held_out.colors)[:, GENES.index("NOISE")].numpy()
    expected = truth(held_out, "NOISE")
    assert predicted.mean() == pytest.approx(expected.mean(), rel=0.05)
    assert predicted.std() < 0.5 * expected.std()


def test_a_gene_never_counted_is_predicted_as_zero(sections):
    silent = [
        replace(
            s,
            genes=[*s.genes, "SILENT"],
            expression=np.pad(s.expression, ((0, 0), (0, 1))),
            detected=np.append(s.detected, 0),
        )
        for s in sections
    ]
    np.testing.assert_allclose(fit(silent, ["H_GENE", "SILENT"]).from_counts(silent[0].colors)[:, 1], 0, atol=1e-6)


def test_the_same_sections_give_the_same_bits(sections):
    first, again = (tensors(fit(sections, GENES)) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_gene_is_fitted_alike_whatever_other_genes_are(sections):
    together, alone = tensors(fit(sections, GENES)), tensors(fit(sections, ["E_GENE"]))
    for name in alone:
        torch.testing.assert_close(together[name][1], alone[name][0], rtol=1e-4, atol=1e-5)


def test_without_steps_a_fit_is_a_regression_on_the_published_stains(sections):
    model = fit(sections, GENES, FitSettings(patterns=0, steps=0))
    fresh = NeuralStain(GENES)
    torch.testing.assert_close(model.deconvolution, fresh.deconvolution.detach())
    [seen, _] = sections
    published = np.maximum(seen.colors.palette_od @ np.linalg.inv(HED_VECTORS)[:, :2], 0)
    concentrations = seen.colors.counts @ published / seen.colors.pixels[:, None]
    columns = np.column_stack([concentrations, np.ones(len(seen.colors))])
    best = columns @ np.linalg.lstsq(columns, truth(seen, "E_GENE"), rcond=None)[0]
    predicted = model.from_counts(seen.colors)[:, 1].numpy()
    assert np.corrcoef(best, predicted)[0, 1] > 0.97


def test_steps_away_from_the_published_stains_fit_better(sections):
    loss = [
        np.mean([(1 - correlation(fit(sections, GENES, FitSettings(10, steps)), s, "E_GENE")) for s in sections])
        for steps in (0, 50)
    ]
    assert loss[1] < loss[0]


# Choosing settings


def test_settings_are_chosen_by_the_sections_left_out(sections, monkeypatch):
    seen = []

    def spy(inside, genes, settings, **options):
        seen.append([section.name for section in inside])
        return fit(inside, genes, settings, **options)

    monkeypatch.setattr(train_module, "fit", spy)
    candidates = [FitSettings(1, 0), FitSettings(10, 50)]  # one pattern cannot hold two stains
    assert choose_settings(sections, GENES, candidates) == candidates[1]
    assert sorted(seen) == [["S1"], ["S1"], ["S2"], ["S2"]]


def test_one_section_alone_takes_the_first_candidate(sections):
    assert choose_settings(sections[:1], GENES, [FitSettings(3, 7), FitSettings(10, 50)]) == FitSettings(3, 7)


def test_what_is_left_out_is_patients_then_sections_then_quarters(sections):
    first, second = sections
    assert held_out_groups(sections)[1:] == ("patient", ["P1", "P2"])
    twins = [first, replace(second, patient="P1")]
    assert held_out_groups(twins)[1:] == ("section", ["S1", "S2"])
    quarters, left_out, groups = held_out_groups([first])
    assert left_out == "quarter of the section"
    assert len(set(groups)) == 4
    assert sum(len(quarter.colors) for quarter in quarters) == len(first.colors)


def test_a_gene_missing_from_one_section_is_learned_from_the_others(sections):
    seen, held_out = sections
    model = fit([without(held_out, "H_GENE"), seen], GENES)
    assert correlation(model, held_out, "H_GENE") >= 0.9
    predicted = model.from_counts(seen.colors)[:, 0].numpy()
    assert predicted.mean() == pytest.approx(truth(seen, "H_GENE").mean(), rel=0.05)


def test_a_section_has_no_say_in_a_gene_it_did_not_measure(sections):
    seen, held_out = sections
    both, alone = tensors(fit([seen, without(held_out, "H_GENE")], GENES)), tensors(fit([seen], GENES))
    for name in both:
        torch.testing.assert_close(both[name][0], alone[name][0], rtol=1e-3, atol=1e-4)


def test_gene_order_of_a_section_does_not_matter(sections):
    first, second = sections
    turned = replace(
        second, genes=second.genes[::-1], expression=second.expression[:, ::-1].copy(), detected=second.detected[::-1]
    )
    one, other = tensors(fit(sections, GENES)), tensors(fit([first, turned], GENES))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)


def test_order_of_spots_changes_nothing_but_their_order(paired, sections, tmp_path):
    [first, _] = read_manifest(paired / "manifest.csv")
    counts = pd.read_csv(first.counts, index_col=0).sample(frac=1, random_state=0)
    pd.read_csv(first.spots).sample(frac=1, random_state=1).to_csv(tmp_path / "spots.csv", index=False)
    counts.to_csv(tmp_path / "counts.csv")
    shuffled = measure_section(replace(first, spots=tmp_path / "spots.csv", counts=tmp_path / "counts.csv"), TILE_UM)
    order = pd.read_csv(first.counts, index_col=0).index.get_indexer(counts.index)
    np.testing.assert_array_equal(shuffled.expression, sections[0].expression[order])
    np.testing.assert_array_equal(shuffled.colors.counts, sections[0].colors.counts[order])
    shuffled_fit, straight_fit = fit([shuffled], GENES), fit(sections[:1], GENES)
    torch.testing.assert_close(
        shuffled_fit.from_counts(shuffled.colors),
        straight_fit.from_counts(sections[0].colors)[order],
        rtol=0,
        atol=2e-3,
    )


def test_progress_never_goes_back_and_reaches_its_total(sections, monkeypatch):
    monkeypatch.setattr(train_module, "GENES_AT_ONCE", 2)
    progress = Recording()
    fit(sections, GENES, FitSettings(10, 5), progress=progress)
    done, totals, _ = zip(*progress.reports, strict=True)
    assert len(set(totals)) == 1
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1]


def test_genes_fitted_in_several_batches_keep_their_order_and_their_fit(sections, monkeypatch):
    monkeypatch.setattr(train_module, "GENES_AT_ONCE", 2)
    model = fit(sections[:1], ["NOISE", "H_GENE", "FILLER1", "E_GENE"])
    assert model.genes == ["NOISE", "H_GENE", "FILLER1", "E_GENE"]
    assert min(correlation(model, sections[1], gene) for gene in ("H_GENE", "E_GENE")) >= 0.9


def test_cancelling_ends_the_fit(sections):
    progress = Recording(cancel_at=2)
    with pytest.raises(Cancelled):
        fit(sections, GENES, progress=progress)
    assert len(progress.reports) == 2


@pytest.mark.parametrize(
    ("genes", "said"),
    [(["H_GENE", "UNHEARD"], "no section measured the gene UNHEARD"), ([], "no gene to fit was left")],
)
def test_genes_that_no_section_measured_are_refused(sections, genes, said):
    with pytest.raises(SpotsError, match=said):
        fit(sections, genes)


def test_no_section_is_refused():
    with pytest.raises(SpotsError, match="no section to learn from"):
        fit([], GENES)


def renamed(section: MeasuredSection, **names: str) -> MeasuredSection:
    return replace(section, genes=[names.get(gene, gene) for gene in section.genes])


def test_genes_that_differ_in_capitals_alone_are_genes_of_their_own(sections):
    both = [renamed(section, NOISE="h_gene") for section in sections]
    fitted = train_sections(both, name="w", candidates=FEW).genes
    assert {"H_GENE", "h_gene"} <= set(fitted)
    assert train_sections(both, name="w", genes=["H_GENE", "E_GENE"], candidates=FEW).genes == ["H_GENE", "E_GENE"]
    assert train_sections(both, name="w", genes=["h_gene"], candidates=FEW).genes == ["h_gene"]
    assert train_sections(sections, name="w", genes=["h_gene"], candidates=FEW).genes == ["H_GENE"]


def test_a_gene_that_one_patient_has_cannot_be_held_out(sections):
    some = [sections[0], without(sections[1], "H_GENE")]
    with pytest.raises(SpotsError, match="the gene H_GENE was measured in one patient alone"):
        train_sections(some, name="w", genes=["E_GENE", "H_GENE"], candidates=FEW)


def test_a_section_that_tells_nothing_of_the_genes_leaves_the_choice_to_the_others(sections):
    third = replace(sections[0], name="S3", patient="P3")
    third = replace(third, expression=np.zeros_like(third.expression))
    fourth = replace(sections[1], name="S4", patient="P4")
    two = [FitSettings(patterns=10, steps=2), FitSettings(patterns=0, steps=2)]
    weights = train_sections([*sections, third, fourth], name="w", genes=["H_GENE"], candidates=two)
    assert weights.reliability.n_spots["H_GENE"] == 3 * 63


def test_more_sections_of_one_patient_do_not_make_a_gene_surer(sections):
    def width(patients):
        some = [replace(one, patient=p) for one, p in zip(sections, patients, strict=True)]
        table = train_sections(some, name="w", genes=["H_GENE", "NOISE"], candidates=FEW).reliability
        return (table.r_heldout - table.r_low)["NOISE"]

    assert width(["P1", "P1"]) > 1.4 * width(["P1", "P2"])


# Genes detected


def detections(patient: str, spots: int, **counted: int) -> MeasuredSection:
    """A section of so many spots, and of how many of them counted each gene."""
    colors = ColorCounts(np.ones((spots, 1, 4), np.float32), np.zeros((1, 3), np.float32))
    expression = np.zeros((spots, len(counted)), np.float32)
    detected = np.array([(np.arange(spots) < n).mean() for n in counted.values()])
    return MeasuredSection("S", patient, colors, list(counted), expression, detected, np.zeros((spots, 2)), None)


def test_detected_genes_have_a_tenth_of_the_spots_of_every_patient():
    sections = [
        detections("P1", 40, everywhere=40, edge=4, absent_in_one=40, below=3, not_in_second=40),
        detections("P2", 20, below=20, absent_in_one=1, edge=2, everywhere=20),
    ]
    assert detected_genes(sections) == ["everywhere", "edge"]


def test_sections_of_one_patient_are_counted_together():
    assert detected_genes([detections("P1", 40, A=0, B=1), detections("P1", 20, A=6, B=4)]) == ["A"]


def test_a_gene_that_one_table_lacks_may_be_detected_in_another_of_the_patient():
    assert detected_genes([detections("P1", 20, A=9), detections("P1", 20, A=9, B=9)]) == ["A", "B"]


def test_exactly_a_tenth_over_two_sections_is_enough():
    # 6 / 47 · 47 is a little under 6 in floating point.
    assert detected_genes([detections("P1", 13, A=0), detections("P1", 47, A=6)]) == ["A"]


def test_detected_share_can_be_chosen():
    section = detections("P1", 10, half=5, few=4)
    assert detected_genes([section], 0.5) == ["half"]
    assert detected_genes([section], 0.4) == ["half", "few"]


# From manifest to weights


def test_training_keeps_detected_genes_and_records_what_it_learned_from(paired):
    weights = train(paired / "manifest.csv", name="small", source="made in code", tile_um=TILE_UM, candidates=FEW)
    assert "H_GENE" in weights.genes
    assert "RARE" not in weights.genes
    data = weights.config.training_data
    assert (data.patients, data.sections, data.spots) == (2, ("S1", "S2"), 126)
    assert data.source == "made in code"
    assert weights.config.tile_um == TILE_UM
    chosen = {"patterns": 10, "steps": 2}
    assert weights.config.reliability == HeldOutProtocol(
        left_out="patient", groups=2, settings={"P1": chosen, "P2": chosen}
    )
    assert weights.config.fit.patterns == 10


def test_weights_record_the_resolution_that_a_coarse_image_was_read_at(paired):
    first = replace(read_manifest(paired / "manifest.csv")[0], mpp=4.5)
    section = measure_section(first, TILE_UM, analysis_mpp=3.0)
    assert section.read_mpp == 4.5
    weights = train_sections([section], name="coarse", genes=GENES, analysis_mpp=3.0, candidates=FEW)
    assert weights.config.analysis_mpp == 4.5
    fine = [measure_section(one, TILE_UM, analysis_mpp=3.0) for one in read_manifest(paired / "manifest.csv")]
    several = [replace(section, name="coarse", patient="P3"), *fine]
    assert train_sections(several, name="mixed", genes=GENES, candidates=FEW).config.analysis_mpp == 3.0


def test_training_tells_how_each_gene_was_predicted_where_it_was_held_out(paired):
    weights = train(paired / "manifest.csv", name="small", genes=GENES, tile_um=TILE_UM)
    table = weights.reliability
    assert list(table.index) == GENES
    assert table.r_heldout["H_GENE"] > 0.9
    assert table.r_heldout["E_GENE"] > 0.9
    assert abs(table.r_heldout["NOISE"]) < 0.3
    assert table.q_value["H_GENE"] < 0.05 < table.q_value["NOISE"]
    assert list(table.patients_replicated) == [2, 2, 0]
    assert set(table.n_spots) == {126}


def test_training_judges_gene_sets_and_the_weights_bring_them(paired, tmp_path):
    sets = [
        Signature("stains", ("H_GENE", "E_GENE", "FILLER1", "ABSENT"), "made in code"),
        Signature("hematoxylin", ("H_GENE",)),
    ]
    weights = train(paired / "manifest.csv", name="w", tile_um=TILE_UM, candidates=FEW, signatures=sets)
    judged = weights.signatures.loc["stains"]
    assert list(weights.signatures.index) == ["stains"]
    assert (judged.members, judged.source) == ("H_GENE;E_GENE;FILLER1", "made in code")
    assert judged.r_heldout > 0.5
    assert judged.r_next_low < judged.r_heldout < judged.r_next_high
    assert re.fullmatch(r"P1 0\.\d\d; P2 0\.\d\d", judged.r_groups)
    known = weights.reliability
    assert (known.expression_sd > 0).all()
    assert ((known.r_next_low <= known.r_heldout) & (known.r_heldout <= known.r_next_high)).all()
    save_weights(weights, tmp_path / "w")
    again = load_weights(tmp_path / "w")
    assert again.own_signatures == [replace(sets[0], members=("H_GENE", "E_GENE", "FILLER1"))]
    assert "| stains | 3 |" in (tmp_path / "w/README.md").read_text()


def test_genes_named_by_the_user_are_fitted_though_rarely_detected(paired):
    weights = train(paired / "manifest.csv", name="small", genes=["RARE", "H_GENE"], tile_um=TILE_UM, candidates=FEW)
    assert weights.genes == ["RARE", "H_GENE"]


def test_training_stains_are_those_of_the_slides(paired, section):
    weights = train(paired / "manifest.csv", name="small", genes=["H_GENE"], tile_um=TILE_UM, candidates=FEW)
    reference = weights.config.stains.reference
    cosine = (reference * section.stain_vectors).sum(axis=1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() <= 4


def test_training_reports_its_stages_one_after_the_other(paired):
    progress = Recording()
    train(paired / "manifest.csv", name="small", genes=GENES, tile_um=TILE_UM, candidates=FEW, progress=progress)
    stages = list(dict.fromkeys(stage for *_, stage in progress.reports))
    assert stages[0] == "reading sections"
    assert stages[-3:] == ["leaving out each patient", "comparing with what was measured", "fitting all sections"]
    for stage in stages:
        done = [done for done, total, of in progress.reports if of == stage]
        assert done == sorted(done)
    assert progress.reports[-1][0] == progress.reports[-1][1]


@pytest.mark.parametrize("value", [0.0, -3.0, float("nan"), float("inf")])
@pytest.mark.parametrize("length", ["tile_um", "analysis_mpp"])
def test_impossible_lengths_are_refused_before_anything_is_trained(paired, length, value):
    progress = Recording()
    with pytest.raises(ScaleError, match=rf"got {value:g}\b"):
        train(
            paired / "manifest.csv",
            name="small",
            genes=["H_GENE"],
            progress=progress,
            **{length: value},
        )
    assert not progress.reports
