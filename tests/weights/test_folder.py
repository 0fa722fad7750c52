"""What `folder` promises: a folder reads back bit for bit, a bad one is refused, nothing in it can run code."""

import hashlib
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nsl.errors import WeightsError
from nsl.weights.config import WeightsConfig
from nsl.weights.folder import load_weights, save_weights


def refusal(folder: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_weights(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit_config(**values) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))

    return edit


def edit_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "model.safetensors"
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata=metadata)

    return edit


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str, part: float) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * part)])

    return edit


def drop_key(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        del config[name]
        (folder / "config.json").write_text(json.dumps(config))

    return edit


# Reading back


SETS = (
    "name,source,members,r_heldout,r_low,r_high,r_next_low,r_next_high,p_value,q_value,patients_replicated,n_spots,"
    "r_specific,r_groups\n"
)
GROWTH = "growth,made in code,ERBB2;CD24,0.5,0.2,0.7,0.1,0.9,0.01,0.02,2,126,0.3,P1 0.40; P2 0.60\n"


def test_gene_sets_read_back_bit_for_bit(tiny_weights, tmp_path):
    (tiny_weights / "signatures.csv").write_text(SETS + GROWTH)
    first = load_weights(tiny_weights)
    assert first.signatures.loc["growth", ["members", "r_heldout", "r_specific", "r_groups"]].to_list() == [
        "ERBB2;CD24",
        0.5,
        0.3,
        "P1 0.40; P2 0.60",
    ]
    save_weights(first, tmp_path / "again")
    assert (tmp_path / "again/signatures.csv").read_text() == SETS + GROWTH
    save_weights(replace(first, signatures=first.signatures[:0]), tmp_path / "again")
    assert not (tmp_path / "again/signatures.csv").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,source\nx,y\n", "tiny/signatures.csv lacks the column members"),
        (SETS.replace("source", "members"), "tiny/signatures.csv has 2 columns called members; keep one of them"),
        (SETS + GROWTH + GROWTH, "names a set twice or not at all"),
        (SETS + GROWTH.replace("CD24", "ESR1"), "the set growth has the gene ESR1, which the weights lack"),
        (SETS + GROWTH.replace("ERBB2;CD24", ""), "the set growth has no gene"),
        (SETS + GROWTH.replace("0.5", "1.5", 1), "r_heldout of growth is 1.5"),
        (SETS + GROWTH.replace("0.3,P1", "much,P1"), "r_specific of growth is much"),
    ],
)
def test_gene_sets_that_cannot_be_are_refused(tiny_weights, text, told):
    (tiny_weights / "signatures.csv").write_text(text)
    assert told in refusal(tiny_weights)


@pytest.mark.parametrize("column", ["gene", "r_heldout", "r_next_low"])
def test_a_figure_that_stands_twice_is_refused(tiny_weights, column):
    path = tiny_weights / "reliability.csv"
    text = path.read_text()
    path.write_text("".join(f"{line},{'0' if number else column}\n" for number, line in enumerate(text.splitlines())))
    assert refusal(tiny_weights) == f"tiny/reliability.csv has 2 columns called {column}; keep one of them"


def test_tables_of_before_lack_what_was_not_known_then(tiny_weights):
    path = tiny_weights / "reliability.csv"
    later = ("r_next_low", "r_next_high", "expression_mean", "expression_sd")
    table = pd.read_csv(path, index_col=0)
    table.drop(columns=list(later)).to_csv(path)
    read = load_weights(tiny_weights).reliability
    assert read[list(later)].isna().all(axis=None)
    assert read.r_heldout.to_list() == [0.41, 0.52, -0.03]


def test_saved_weights_read_back_bit_for_bit(tiny_weights, tmp_path):
    first = load_weights(tiny_weights)
    save_weights(first, tmp_path / "again")
    second = load_weights(tmp_path / "again")
    assert second.genes == first.genes == ["ERBB2", "CD24", "COX6C"]
    assert second.config == first.config
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name


def test_same_weights_are_the_same_bytes_and_sha256(tiny_weights, tmp_path):
    first = load_weights(tiny_weights)
    save_weights(first, tmp_path / "again")
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (tiny_weights / name).read_bytes(), name
    assert load_weights(tmp_path / "again").sha256 == first.sha256


def test_sha256_is_that_of_the_tensor_file(tiny_weights):
    digest = hashlib.sha256((tiny_weights / "model.safetensors").read_bytes()).hexdigest()
    assert load_weights(tiny_weights).sha256 == digest


def test_saving_replaces_what_the_folder_held(tiny_weights):
    weights = load_weights(tiny_weights)
    with torch.no_grad():
        weights.model.intercept += 1
    save_weights(weights, tiny_weights)
    torch.testing.assert_close(load_weights(tiny_weights).model.intercept, torch.tensor([1.5, 2.0, 2.5]))


def test_config_alone_reads_like_the_weights_config(tiny_weights):
    assert WeightsConfig.read(tiny_weights) == load_weights(tiny_weights).config


def test_tensor_file_names_its_genes(tiny_weights):
    with safe_open(tiny_weights / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["genes"]) == ["ERBB2", "CD24", "COX6C"]


# The embedded weights


def test_embedded_weights_are_finite_and_name_each_gene_once(embedded):
    assert embedded.source == "embedded"
    assert len(set(embedded.genes)) == len(embedded.genes) > 1000
    assert {"ERBB2", "CD24", "COX6C"} <= set(embedded.genes)
    assert all(tensor.isfinite().all() for tensor in embedded.model.state_dict().values())


def test_embedded_weights_have_eleven_numbers_a_gene(embedded):
    numbers = sum(tensor.numel() for tensor in embedded.model.state_dict().values())
    assert numbers == 11 * len(embedded.genes)


def test_embedded_weights_state_their_training_stains(embedded):
    reference = embedded.config.stains.reference
    assert reference.shape == (2, 3)
    assert reference[0, 0] > reference[1, 0]  # hematoxylin, the stronger absorber of red, comes first
    assert min(embedded.config.stains.spread_degrees) > 0


# Bad folders


BAD_FOLDERS = {
    "no config": (remove("config.json"), "tiny has no config.json"),
    "no tensors": (remove("model.safetensors"), "tiny has no model.safetensors"),
    "cut config": (cut("config.json", 0.5), "tiny/config.json cannot be read as JSON"),
    "empty config": (write("config.json", b""), "tiny/config.json cannot be read as JSON"),
    "config in another encoding": (write("config.json", b"\xff\xfe{"), "tiny/config.json cannot be read as JSON"),
    "config of a list": (write("config.json", b"[1]"), "tiny/config.json has schema version None"),
    "no schema version": (drop_key("schema_version"), "tiny/config.json has schema version None, this program reads 2"),
    "later schema": (edit_config(schema_version=3), "tiny/config.json has schema version 3, this program reads 2"),
    "no genes": (drop_key("genes"), "tiny/config.json lacks genes"),
    "no tile": (drop_key("tile_um"), "tiny/config.json lacks tile_um"),
    "no stains": (drop_key("stains"), "tiny/config.json lacks stains"),
    "repeated gene": (edit_config(genes=["ERBB2", "CD24", "ERBB2"]), "tiny/config.json names the gene ERBB2 more than"),
    "genes as text": (edit_config(genes="ERBB2"), "tiny/config.json: genes must be a list of names"),
    "genes as numbers": (edit_config(genes=[1, 2, 3]), "tiny/config.json: genes must be a list of names"),
    "empty list of genes": (edit_config(genes=[]), "tiny/config.json: genes must be a list of names"),
    "missing tensor": (edit_tensors(lambda t: t.pop("effect")), "tiny/model.safetensors has no tensor effect"),
    "wrong shape": (
        edit_tensors(lambda t: t.update(offset=torch.zeros(3, 3))),
        "tiny/model.safetensors: offset has the shape (3, 3)",
    ),
    "integers": (
        edit_tensors(lambda t: t.update(intercept=torch.ones(3, dtype=torch.int32))),
        "tiny/model.safetensors: intercept holds torch.int32",
    ),
    "nan": (
        edit_tensors(lambda t: t["intercept"].__setitem__(1, torch.nan)),
        "tiny/model.safetensors: intercept of gene number 2 is not a finite number",
    ),
    "inf": (
        edit_tensors(lambda t: t["deconvolution"].__setitem__((2, 1, 0), torch.inf)),
        "tiny/model.safetensors: deconvolution of gene number 3 is not a finite number",
    ),
    "giant": (
        edit_tensors(lambda t: t["effect"].__setitem__((1, 0), 1e38)),
        "tiny/model.safetensors: effect of gene number 2 is not a finite number up to 1,000,000",
    ),
    "cut tensors": (cut("model.safetensors", 0.5), "tiny/model.safetensors is damaged"),
    "tensors without their last byte": (cut("model.safetensors", 0.9999), "tiny/model.safetensors is damaged"),
    "empty tensors": (write("model.safetensors", b""), "tiny/model.safetensors is damaged"),
}


@pytest.mark.parametrize(("spoil", "said"), BAD_FOLDERS.values(), ids=BAD_FOLDERS.keys())
def test_bad_folder_is_refused_with_the_file_and_what_was_seen(tiny_weights, spoil, said):
    spoil(tiny_weights)
    assert said in refusal(tiny_weights)


def test_missing_folder_is_refused_with_its_path(tmp_path):
    assert f"there is no weights folder {tmp_path / 'none'}" in refusal(tmp_path / "none")


def test_a_file_in_place_of_the_folder_is_refused(tiny_weights):
    assert "there is no weights folder" in refusal(tiny_weights / "config.json")


@pytest.mark.parametrize(
    "genes",
    [["COX6C", "CD24", "ERBB2"], ["ERBB2", "CD24", "KRT7"], ["ERBB2", "CD24"]],
    ids=["other order", "other gene", "fewer genes"],
)
def test_genes_that_differ_between_the_two_files_are_refused(tiny_weights, genes):
    edit_config(genes=genes)(tiny_weights)
    assert "config.json" in refusal(tiny_weights)


@pytest.mark.parametrize(
    "values",
    [
        {"name": None},
        {"name": " "},
        {"name": "x" * 10**6},
        {"schema_version": True},
        {"units": 3},
        {"training_data": {"spots": 9, "patients": 1, "tissue": None}},
        {"tile_um": "wide"},
        {"tile_um": None},
        {"tile_um": -1},
        {"tile_um": True},
        {"tile_um": 1e-9},
        {"analysis_mpp": [3]},
        {"analysis_mpp": 0},
        {"stains": {}},
        {"stains": {"reference": [[1, 0, 0]], "spread_degrees": [1]}},
        {"stains": {"reference": [[1, 0, 0], [0, 1, 0]], "spread_degrees": [0, 0]}},
    ],
    ids=lambda values: "-".join(f"{key} {str(value)[:30]}" for key, value in values.items()),
)
def test_values_of_the_config_that_cannot_be_are_refused_with_their_name(tiny_weights, values):
    edit_config(**values)(tiny_weights)
    [key] = values
    said = refusal(tiny_weights)
    assert key.replace("_", " ") in said.replace("_", " ")
    assert len(said) < 400


class _Trap:
    """Unpickling it makes a file."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


@pytest.mark.parametrize("save", [pickle.dump, torch.save], ids=["pickle", "torch.save"])
def test_a_pickle_under_the_name_of_the_tensor_file_is_refused_and_never_run(tiny_weights, tmp_path, save):
    proof = tmp_path / "the pickle ran"
    with (tiny_weights / "model.safetensors").open("wb") as file:
        save(_Trap(proof), file)
    assert "tiny/model.safetensors is damaged" in refusal(tiny_weights)
    assert not proof.exists()


def test_the_trap_of_the_pickle_test_does_spring_when_unpickled(tmp_path):
    pickle.loads(pickle.dumps(_Trap(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()


# Asking for genes


def test_genes_asked_for_come_once_each_in_the_order_given(embedded):
    assert embedded.require_genes(["CD24", "ERBB2", "CD24"]) == ["CD24", "ERBB2"]


def test_genes_are_found_however_they_are_capitalised(embedded):
    assert embedded.require_genes(["erbb2", "Cd24", "c1ORF159", "ERBB2"]) == ["ERBB2", "CD24", "C1orf159"]


@pytest.mark.parametrize(("asked", "near"), [("ERB2", "ERBB2"), ("erb2", "ERBB2"), ("COX6", "COX6C")])
def test_unknown_gene_is_refused_with_near_names(embedded, asked, near):
    with pytest.raises(WeightsError, match=rf"her2-breast hold no gene {asked}; did you mean .*\b{near}\b"):
        embedded.require_genes(["CD24", asked])


@pytest.mark.parametrize("asked", ["stroma", "signature:stroma"])
def test_a_set_that_is_asked_for_as_a_gene_is_called_one(embedded, asked):
    with pytest.raises(WeightsError, match=r"^stroma is no gene but one of the gene sets of the weights her2-breast"):
        embedded.require_genes(["CD24", asked])


@pytest.mark.parametrize("gene", ["ESR1", "PGR", "BRCA1"])
def test_another_gene_is_not_taken_for_one_spelled_like_it(embedded, gene):
    assert embedded.near_names(gene) == []


def test_unknown_gene_like_no_other_is_refused_without_a_guess(embedded):
    with pytest.raises(
        WeightsError, match=r"hold no gene \?{6} \(and 1 more\); its model card says which genes they are"
    ):
        embedded.require_genes(["??????", "!!!!!!"])


# The model card


@pytest.fixture(params=["tiny", "embedded"])
def card(request, tiny_weights) -> str:
    """README.md of a folder just saved, and of the embedded weights in the checkout."""
    folder = tiny_weights if request.param == "tiny" else Path(__file__).parents[2] / "weights/her2-breast"
    return (folder / "README.md").read_text(encoding="utf-8")


def test_model_card_has_front_matter_that_the_hub_can_parse(card):
    _, front_matter, _ = card.split("---\n", 2)
    assert card.startswith("---\n")
    fields = yaml.safe_load(front_matter)
    assert fields["library_name"] == "nsl"
    assert "gene-expression" in fields["tags"]


def test_model_card_says_research_use_only_and_how_it_was_trained(card):
    text = " ".join(card.split())
    assert "research use only" in text.lower()
    assert "not a diagnostic device" in text
    assert "Licence of the data" in text


def test_model_card_shows_the_evaluation_where_there_was_one(tiny_weights, tmp_path):
    weights = load_weights(tiny_weights)
    assert "Beside other methods" not in (tiny_weights / "README.md").read_text()
    rows = ({"method": "NSL-11", "median r": "0.182"}, {"method": "nuclei", "median r": "0.151"})
    save_weights(replace(weights, config=replace(weights.config, evaluation=rows)), tmp_path / "again")
    assert "| NSL-11 | 0.182 |\n| nuclei | 0.151 |\n" in (tmp_path / "again/README.md").read_text()
    assert load_weights(tmp_path / "again").config.evaluation == rows


def test_model_card_leaves_no_field_unfilled(card):
    assert not re.search(r"\{[a-z_]*\}", card)
