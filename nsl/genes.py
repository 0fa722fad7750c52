"""What pathologists call genes: names of proteins and antibodies as HGNC symbols, and lists as people paste them.

A stain is asked for by its protein (HER2, Ki-67, CK7); weights hold gene symbols (ERBB2, MKI67, KRT7).
"""

from __future__ import annotations

import codecs
import csv
import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from nsl.errors import NslError

# Each cytokeratin by its number; the antibodies to CK6 see the products of KRT6A, KRT6B and KRT6C.
_CYTOKERATINS = {str(n): f"KRT{n}" for n in (4, 5, 7, 8, 10, 13, 14, 15, 16, 17, 18, 19, 20)} | {"6": "KRT6A"}

ALIASES: dict[str, str] = {
    # Breast panel and receptors
    "HER1": "EGFR", "ErbB1": "EGFR", "HER2": "ERBB2", "HER2/neu": "ERBB2", "c-erbB-2": "ERBB2", "CD340": "ERBB2",
    "HER3": "ERBB3", "HER4": "ERBB4",
    "ER": "ESR1", "ER alpha": "ESR1", "ERA": "ESR1", "estrogen receptor": "ESR1", "oestrogen receptor": "ESR1",
    "ER beta": "ESR2", "PR": "PGR", "progesterone receptor": "PGR", "androgen receptor": "AR",
    "mammaglobin": "SCGB2A2", "mammaglobin A": "SCGB2A2", "GCDFP-15": "PIP", "GATA-3": "GATA3", "TRPS-1": "TRPS1",
    "Trop-2": "TACSTD2", "nectin-4": "NECTIN4", "c-MET": "MET", "c-KIT": "KIT", "CD117": "KIT",
    # Proliferation, cell cycle, apoptosis, tumour suppressors
    "Ki-67": "MKI67", "cyclin B1": "CCNB1", "cyclin D1": "CCND1", "cyclin E": "CCNE1", "cyclin E1": "CCNE1",
    "topoisomerase II alpha": "TOP2A", "aurora kinase A": "AURKA", "survivin": "BIRC5", "BCL-2": "BCL2",
    "BCL-6": "BCL6", "c-MYC": "MYC", "N-MYC": "MYCN", "p16": "CDKN2A", "p21": "CDKN1A", "p27": "CDKN1B",
    "p53": "TP53", "p63": "TP63", "RB": "RB1",
    # Immune cells and checkpoints. CD3 is a complex: its epsilon chain, to which the antibodies are raised.
    "CD3": "CD3E", "CD8": "CD8A", "CD10": "MME", "CD11b": "ITGAM", "CD11c": "ITGAX", "CD16": "FCGR3A", "CD20": "MS4A1",
    "CD21": "CR2", "CD23": "FCER2", "CD25": "IL2RA", "CD30": "TNFRSF8", "CD43": "SPN", "CD45": "PTPRC", "LCA": "PTPRC",
    "CD57": "B3GAT1", "CD61": "ITGB3", "CD103": "ITGAE", "CD138": "SDC1", "CD204": "MSR1", "CD206": "MRC1",
    "CD34": "CD34", "CD68": "CD68", "CD163": "CD163", "FOXP3": "FOXP3", "PD-1": "PDCD1", "CD279": "PDCD1",
    "PD-L1": "CD274", "B7-H1": "CD274", "PD-L2": "PDCD1LG2", "B7-H3": "CD276", "CTLA-4": "CTLA4", "CD152": "CTLA4",
    "LAG-3": "LAG3", "TIM-3": "HAVCR2", "IDO": "IDO1", "OX40": "TNFRSF4", "4-1BB": "TNFRSF9",
    "granzyme B": "GZMB", "perforin": "PRF1", "lysozyme": "LYZ", "myeloperoxidase": "MPO", "HLA-DR": "HLA-DRA",
    "beta-2 microglobulin": "B2M", "IFN-gamma": "IFNG", "TNF-alpha": "TNF", "TGF-beta": "TGFB1", "IL-8": "CXCL8",
    "MCP-1": "CCL2", "SDF-1": "CXCL12",
    # Epithelium, adhesion, mucins
    "E-cadherin": "CDH1", "N-cadherin": "CDH2", "P-cadherin": "CDH3", "VE-cadherin": "CDH5", "beta-catenin": "CTNNB1",
    "p120 catenin": "CTNND1", "claudin 3": "CLDN3", "claudin 4": "CLDN4", "claudin 7": "CLDN7", "occludin": "OCLN",
    "EpCAM": "EPCAM", "CD326": "EPCAM", "EMA": "MUC1", "MUC-1": "MUC1", "CD227": "MUC1", "CA 15-3": "MUC1",
    "CA 125": "MUC16", "CEA": "CEACAM5", "GLUT1": "SLC2A1", "CAIX": "CA9", "HIF-1 alpha": "HIF1A", "villin": "VIL1",
    # CK5/6 and CK8/18 are one antibody to a pair: the first of the two.
    "CK5/6": "KRT5", "CK8/18": "KRT8",
    **{f"{name} {n}": symbol for name in ("CK", "cytokeratin", "keratin") for n, symbol in _CYTOKERATINS.items()},
    # Stroma, vessels, muscle
    "vimentin": "VIM", "SMA": "ACTA2", "alpha-SMA": "ACTA2", "ASMA": "ACTA2", "smooth muscle actin": "ACTA2",
    "desmin": "DES", "calponin": "CNN1", "caldesmon": "CALD1", "h-caldesmon": "CALD1", "myogenin": "MYOG",
    "SMMHC": "MYH11", "CD29": "ITGB1", "CD31": "PECAM1", "CD49f": "ITGA6", "CD54": "ICAM1", "CD73": "NT5E",
    "CD105": "ENG", "CD146": "MCAM", "CD39": "ENTPD1", "CD71": "TFRC", "podoplanin": "PDPN", "D2-40": "PDPN",
    "VEGF": "VEGFA", "VEGFR2": "KDR", "PDGFR alpha": "PDGFRA", "PDGFR beta": "PDGFRB", "fibronectin": "FN1",
    "collagen I": "COL1A1", "collagen III": "COL3A1", "collagen IV": "COL4A1", "osteopontin": "SPP1",
    "periostin": "POSTN", "tenascin C": "TNC",
    # Neuroendocrine, nerve, melanocyte. The antibodies to S100 see S100B before all other S100 proteins.
    "CD56": "NCAM1", "synaptophysin": "SYP", "chromogranin": "CHGA", "chromogranin A": "CHGA", "INSM-1": "INSM1",
    "NSE": "ENO2", "S100": "S100B", "SOX-10": "SOX10", "Melan-A": "MLANA", "MART-1": "MLANA", "HMB-45": "PMEL",
    "gp100": "PMEL", "NeuN": "RBFOX3", "Iba1": "AIF1", "nestin": "NES",
    # Other organs
    "PSA": "KLK3", "PSMA": "FOLH1", "P504S": "AMACR", "racemase": "AMACR", "NKX3.1": "NKX3-1", "napsin A": "NAPSA",
    "thyroglobulin": "TG", "calcitonin": "CALCA", "calretinin": "CALB2", "mesothelin": "MSLN", "DOG1": "ANO1",
    "OCT4": "POU5F1", "OCT3/4": "POU5F1", "inhibin": "INHA", "HepPar-1": "CPS1", "arginase-1": "ARG1",
    "glypican-3": "GPC3", "glutamine synthetase": "GLUL", "uroplakin II": "UPK2", "insulin": "INS", "glucagon": "GCG",
    "gastrin": "GAST",
}  # fmt: skip
"""HGNC symbol by common name. Left out because they name two genes: TTF-1 (NKX2-1, and the symbol TTF1), MIB-1 (a
Ki-67 antibody, and the symbol MIB1), MUM1 (IRF4, and an earlier symbol of PWWP3A), p40 (a form of TP63, and NCF4),
PSAP and PAP, pan-cytokeratins; and carbohydrates, which no one gene makes: CD15, CA 19-9."""

_GREEK = str.maketrans(
    {"α": "ALPHA", "Α": "ALPHA", "β": "BETA", "Β": "BETA", "γ": "GAMMA", "Γ": "GAMMA", "κ": "KAPPA", "λ": "LAMBDA"}
)
_MARKS = "\"'`´“”„‘’«»[](){} \t"
_HEADINGS = frozenset({"gene", "genes", "symbol", "symbols", "gene_symbol", "gene symbol", "gene_name", "gene name"})
_MISSING = frozenset({"", "na", "n/a", "null", "none"})


def _bare(name: str) -> str:
    """A name without what people spell differently: case, hyphens, spaces and other marks, Greek letters."""
    return re.sub(r"[\W_]+", "", name.translate(_GREEK)).upper()


_SYMBOLS = {_bare(alias): symbol for alias, symbol in ALIASES.items()}
_LIKE_A_SYMBOL = re.compile(r"(?=.*\d|[A-Z.-]+$)[A-Za-z][A-Za-z0-9.-]{1,19}")


# Of several names of a gene the one that stands first.
_NAMES = {symbol: alias for alias, symbol in reversed(ALIASES.items()) if _bare(alias) != symbol}


# Lists of all genes are named at every look at a page.
@functools.lru_cache(maxsize=50_000)
def common_name(symbol: str) -> str | None:
    """What the gene of a symbol or an Ensembl id is better known by: HER2 for ERBB2, SEPTIN9 for SEPT9."""
    today = _names(symbol)[:1]
    return _NAMES.get(symbol) or next((name for name in today if name != symbol), None)


@functools.cache
def _genes() -> dict[str, tuple[str, ...]]:
    """All names of a gene by each of them: its symbol of today, previous symbols, and Ensembl id."""
    with (Path(__file__).parent / "gene_symbols.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    genes = [(symbol, *filter(None, previous.split("|")), ensembl_id) for ensembl_id, symbol, previous in rows]
    return {name.upper(): names for names in genes for name in names}


def _names(name: str) -> tuple[str, ...]:
    """All names of a gene (`docs/make_gene_symbols.py`), its symbol of today first; none for one that is not known."""
    name = name.strip().upper()
    # Versions of an Ensembl id name the same gene.
    return _genes().get(name.partition(".")[0] if name.startswith("ENSG") else name, ())


def canonical(symbol: str) -> str:
    """The HGNC symbol of a common name such as "HER-2" or "cyclin d1"; any other name as it is."""
    return _SYMBOLS.get(_bare(symbol), symbol.strip())


def symbol_of(name: str) -> str | None:
    """The symbol of today of a gene that a name stands for; else the name itself if it is written like a symbol."""
    symbol = canonical(name)
    return next(iter(_names(symbol)), None) or (symbol if _LIKE_A_SYMBOL.fullmatch(symbol) else None)


def is_known(name: str) -> bool:
    """Whether a name is a gene's symbol, of today or before, or its Ensembl id."""
    return bool(_names(name))


def by_capitals(symbols: Iterable[str]) -> dict[str, str]:
    """Symbols by their spelling in capitals, for `resolve`."""
    return {symbol.upper(): symbol for symbol in symbols}


def resolve(gene: str, known: Mapping[str, str]) -> str | None:
    """The symbol that a model holds for what a user calls a gene, None where it holds none.

    gene : a symbol of today or before, a common name or an Ensembl id; case, hyphens and spaces do not matter. What the
        model holds under the very name comes before what that name may also mean.
    known : the model's symbols, of `by_capitals`.
    """
    if (as_written := gene.strip().upper()) in known:
        return known[as_written]
    symbol = canonical(gene)
    spellings = (_bare(gene), symbol.upper(), *map(str.upper, _names(symbol)))
    return next((known[spelling] for spelling in spellings if spelling in known), None)


def plain_text(content: bytes) -> str:
    """What a list in a file says: in UTF-8, in UTF-16 as spreadsheets save "Unicode text", or in Windows-1252."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def separator_of(header: str, usual: str = ",") -> str:
    """What separates the columns of a table, by its first line: the usual, where it holds any, or what it has most of.

    Spreadsheets write semicolons where the comma is for decimals, and tabs in Unicode text.
    """
    unquoted = re.sub(r'"[^"]*"', "", header)
    return usual if usual in unquoted else max((usual, ",", ";", "\t"), key=unquoted.count)


def parse_gene_list(text: str) -> list[str]:
    """Gene names out of a pasted text or an uploaded file, once each, in their order, as they are written.

    Names are separated by commas, semicolons, tabs, spaces or line breaks, with or without quotes or brackets; a
    common name of several words ("cyclin D1") holds together between commas or on a line of its own. In a table, they
    are the column headed gene, genes, symbol, gene_symbol or gene_name, or the first where all others hold numbers.
    Numbers on their own are no genes, and from a "#" on a line is a comment.

    Raises NslError: there is no name in it, or it is a table with two such columns of one name.
    """
    lines = [re.sub(r"(^|\s)#.*", "", line).strip(" \r\f\v") for line in text.removeprefix("\ufeff").splitlines()]
    lines = [line for line in lines if line.strip()]
    names = _column(lines)
    if names is None:
        pieces = [piece.strip() for line in lines for piece in re.split(r"[,;\t]", line)]
        names = [name for piece in pieces for name in ([piece] if _bare(piece) in _SYMBOLS else piece.split())]
    genes: dict[str, str] = {}
    for name in names:
        name = name.strip(_MARKS)
        if not _is_number(name.rstrip(".")):
            genes.setdefault(name.upper(), name)
    if not genes:
        raise NslError("the list holds no gene names; write them with commas or a line each, such as ERBB2, ESR1")
    return list(genes.values())


def _column(lines: list[str]) -> list[str] | None:
    """The names in a table, as written; None where the lines are no table."""
    separator = next((mark for mark in "\t;," if lines and mark in lines[0]), ",")
    try:
        # Line by line: a quote that nobody closed must not swallow the lines after it.
        rows = [next(csv.reader([line], delimiter=separator, skipinitialspace=True)) for line in lines]
    except csv.Error:
        return None
    if not rows:
        return None
    heading = [cell.strip(_MARKS).lower() for cell in rows[0]]
    columns = [number for number, cell in enumerate(heading) if cell in _HEADINGS]
    if columns:
        name, times = heading[columns[0]], heading.count(heading[columns[0]])
        if times > 1:
            raise NslError(f"the list has {times} columns headed {name}; keep one of them")
        return [row[columns[0]] for row in rows[1:] if len(row) > columns[0]]
    others = [row[1:] for row in rows]
    if len(rows) < 2 or not all(others) or not all(_is_number(cell) for row in others[1:] for cell in row):
        return None
    has_heading = not all(_is_number(cell) for cell in others[0])
    return [row[0] for row in rows[has_heading:]]


def _is_number(cell: str) -> bool:
    """Whether a cell is a number or stands for a missing one."""
    try:
        float(cell)
    except ValueError:
        return cell.strip().lower() in _MISSING
    return True
