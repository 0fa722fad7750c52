"""What `nsl.genes` promises: genes are found by what pathologists call them, and lists read as people write them."""

import gzip

import pytest

from nsl.errors import NslError
from nsl.genes import ALIASES, canonical, common_name, is_known, parse_gene_list, plain_text, resolve, symbol_of


def held(*symbols: str) -> dict[str, str]:
    return {symbol.upper(): symbol for symbol in symbols}


@pytest.fixture(scope="module")
def measured_genes(data_folder) -> set[str]:
    """Symbols of a real table, annotated with the Ensembl release of its day."""
    tables = (data_folder / "her2st/counts").glob("*.tsv.gz")
    return {gene for table in tables for gene in gzip.open(table, "rt").readline().rstrip("\n").split("\t")[1:]}


# Names


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("HER2", "ERBB2"),
        ("her-2", "ERBB2"),
        ("HER-2/neu", "ERBB2"),
        ("ER", "ESR1"),
        ("PR", "PGR"),
        ("Ki67", "MKI67"),
        ("KI-67", "MKI67"),
        ("ki 67", "MKI67"),
        ("PD-L1", "CD274"),
        ("PDL1", "CD274"),
        ("CD20", "MS4A1"),
        ("CD3", "CD3E"),
        ("CK7", "KRT7"),
        ("ck 20", "KRT20"),
        ("cytokeratin 19", "KRT19"),
        ("CK5/6", "KRT5"),
        ("e-cadherin", "CDH1"),
        ("α-SMA", "ACTA2"),
        ("β-catenin", "CTNNB1"),
        ("Cyclin D1", "CCND1"),
        ("collagen I", "COL1A1"),
        ("GCDFP15", "PIP"),
        ("S100", "S100B"),
    ],
)
def test_a_common_name_is_its_hgnc_symbol(name, symbol):
    assert canonical(name) == symbol


@pytest.mark.parametrize("symbol", ["ERBB2", "COX6C", "C1orf159", "HLA-DRA", "S100A9", "KRT7"])
def test_a_symbol_stays_as_it_is(symbol):
    assert canonical(symbol) == symbol


@pytest.mark.parametrize("name", ["TTF-1", "MIB-1", "MUM1", "p40", "CD15", "CK"])
def test_a_name_of_two_genes_or_none_is_not_guessed_at(name):
    assert canonical(name) == name


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("er", "ESR1"),
        ("esr1", "ESR1"),
        ("MS4A1", "MS4A1"),
        ("CD4", "CD4"),
        ("C1orf159", "C1orf159"),
        ("HLA-A", "HLA-A"),
    ],
)
def test_a_name_of_the_table_or_one_written_like_a_symbol_is_a_gene(name, symbol):
    assert symbol_of(name) == symbol


def test_a_symbol_is_known_by_what_it_was_called_before_and_by_its_ensembl_id():
    assert resolve("SEPTIN9", held("SEPT9")) == "SEPT9"
    assert resolve("CTGF", held("CCN2")) == resolve("ccn2", held("CCN2")) == "CCN2"
    assert resolve("TCEB2", held("ELOB")) == "ELOB"
    assert resolve("HER2", held("ENSG00000141736")) == "ENSG00000141736"
    assert resolve("ENSG00000141736.14", held("ERBB2")) == "ERBB2"
    assert [symbol_of(name) for name in ("SEPT9", "ctgf", "ENSG00000141736")] == ["SEPTIN9", "CCN2", "ERBB2"]
    assert [is_known(name) for name in ("SEPT9", "septin9", "ENSG00000141736", "ERBB22")] == [True, True, True, False]


@pytest.mark.parametrize("name", ["MUM1", "PAP", "CD15", "TTF-1x"])
def test_what_pathologists_call_another_gene_finds_none(name):
    # MUM1 is IRF4 to them, and was PWWP3A's symbol; PAP is ACP3, and was REG3A's; CD15 is a sugar, and was FUT4's.
    assert resolve(name, held("PWWP3A", "REG3A", "FUT4", "IRF4", "ACP3", "TTF1")) is None


def test_a_gene_is_shown_by_the_name_it_is_better_known_by():
    assert [common_name(gene) for gene in ("ERBB2", "SEPT9", "ENSG00000115306", "COX6C", "AL513523.2")] == [
        "HER2",
        "SEPTIN9",
        "SPTBN1",
        None,
        None,
    ]


def test_every_common_name_stands_for_a_symbol_of_today():
    assert [symbol for symbol in ALIASES.values() if symbol_of(symbol) != symbol or not is_known(symbol)] == []


@pytest.mark.parametrize("name", ["hello", "my gene 1", "A", "", "<b>", "3.1"])
def test_another_word_is_none(name):
    assert symbol_of(name) is None


def test_a_symbol_that_is_held_comes_before_what_its_name_may_mean():
    assert resolve("SMA", held("SMA", "ACTA2")) == "SMA"
    assert resolve("sma", held("ACTA2")) == "ACTA2"
    assert resolve("IL-8", held("IL8", "CXCL8")) == "IL8"


def test_case_hyphens_and_spaces_do_not_matter():
    known = held("C1orf159", "GATA3", "CD34", "HLA-DRA")
    asked = ["c1ORF159", "GATA-3", "cd 34", " hla-dra ", "HLA DR"]
    assert [resolve(name, known) for name in asked] == ["C1orf159", "GATA3", "CD34", "HLA-DRA", "HLA-DRA"]


def test_what_is_not_held_is_not_found():
    assert resolve("HER2", held("ESR1")) is None
    assert resolve("???", held("ESR1")) is None
    assert resolve("", held("ESR1")) is None


def test_no_common_name_is_the_symbol_of_another_gene(measured_genes):
    symbols = held(*measured_genes)
    taken = {name: symbol for name, symbol in ALIASES.items() if resolve(name, symbols) not in (symbol, None)}
    assert taken == {}


def test_the_symbols_are_those_that_real_tables_use(measured_genes):
    # Of tissues that are not breast: thyroid, stomach, pancreas, marrow, striated muscle.
    assert set(ALIASES.values()) - measured_genes == {"CALCA", "GAST", "INS", "MPO", "MYOG"}


# Lists


@pytest.mark.parametrize(
    "text",
    [
        "ERBB2, ESR1, PGR",
        "ERBB2;ESR1;PGR",
        "ERBB2 ESR1\tPGR",
        "ERBB2\nESR1\nPGR\n",
        "ERBB2\r\nESR1\r\n\r\nPGR",
        "\ufeffERBB2\nESR1\nPGR",
        '"ERBB2", "ESR1", “PGR”',
        "['ERBB2', 'ESR1', 'PGR']",
        "# my panel\nERBB2\n  # receptors\nESR1 # by IHC\nPGR",
        "1. ERBB2\n2. ESR1\n3. PGR",
        "ERBB2,\nESR1,\nPGR,",
        "ERBB2, ESR1\nPGR, ERBB2",
        "gene\nERBB2\nESR1\nPGR",
    ],
)
def test_a_list_is_read_however_it_is_separated(text):
    assert parse_gene_list(text) == ["ERBB2", "ESR1", "PGR"]


@pytest.mark.parametrize(
    "text",
    [
        "gene,logFC,p\nERBB2,2.1,0.01\nESR1,-1,0.2",
        "logFC\tGene_Symbol\n2.1\tERBB2\n-1\tESR1",
        '"","symbol","note"\n"1","ERBB2","amplified, often"\n"2","ESR1",""',
        ",logFC,p\nERBB2,2.1,0.01\nESR1,NA,",
        "ERBB2;2.1;0.01\nESR1;-1;0.2",
        "Ensembl,Gene name\nENSG00000141736,ERBB2\nENSG00000091831,ESR1",
    ],
)
def test_a_table_gives_its_column_of_genes(text):
    assert parse_gene_list(text) == ["ERBB2", "ESR1"]


def test_a_name_of_several_words_holds_together():
    assert parse_gene_list("cyclin D1\nHER2 ESR1\nHLA DR, beta catenin; GATA 3") == [
        "cyclin D1",
        "HER2",
        "ESR1",
        "HLA DR",
        "beta catenin",
        "GATA 3",
    ]


def test_a_gene_named_twice_comes_once_where_it_came_first():
    assert parse_gene_list("ESR1, ERBB2, esr1, PGR, ERBB2") == ["ESR1", "ERBB2", "PGR"]


def test_an_open_quote_swallows_nothing():
    assert parse_gene_list('"ERBB2\nESR1\nPGR"') == ["ERBB2", "ESR1", "PGR"]
    assert len(parse_gene_list('"' + "\n".join(f"GENE{n}" for n in range(20_000)))) == 20_000


@pytest.mark.parametrize("text", ["", " \n\t\n", "\ufeff", "# only a comment", "gene\n", ", ; ,", "1, 2, 3"])
def test_a_list_without_genes_is_refused(text):
    with pytest.raises(NslError, match="the list holds no gene names; write them with commas or a line each"):
        parse_gene_list(text)


def test_a_table_with_two_columns_of_genes_is_refused():
    with pytest.raises(NslError, match="the list has 2 columns headed gene; keep one of them"):
        parse_gene_list("gene,Gene,logFC\nERBB2,ESR1,2.1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_list_is_read_in_the_encodings_of_spreadsheets(encoding):
    text = plain_text("Größe\tGene\r\n1\tERBB2\r\n2\tESR1\r\n".encode(encoding))
    assert parse_gene_list(text) == ["ERBB2", "ESR1"]
