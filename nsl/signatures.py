"""Gene sets and their scores: how high a set's genes stand together, where a single one is mostly noise.

The score of a tile or spot is the mean over the set's members of their z-scores: expression less the gene's mean over
the spots that the weights were learned from, over its standard deviation within a section of these. It is linear in
the members' predictions, so it costs no more than they do.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsl.errors import NslError
from nsl.genes import plain_text
from nsl.numerals import count_of

if TYPE_CHECKING:
    import anndata
    import pandas as pd

PREFIX = "signature:"
"""What tells a signature from a gene where both are columns of one table."""
LEAST_MEMBERS = 3
"""Of a set that can be scored: fewer genes are no set."""
EXPRESSION_UNIT = "ln(1 + counts per 10,000)"
SCORE_UNIT = "mean z of the set's genes"
SHORT_SCORE_UNIT = "mean z"
# Of names people give to sets; those of Enrichr's libraries of Gene Ontology reach 160.
_LONGEST_NAME = 200
_MOST_SETS = 2_000
# Of a file of gene sets: all of the Molecular Signatures Database is a third of it.
_GMT_BYTES = 64_000_000
_SEPARATOR = ";"


@dataclass(frozen=True)
class Signature:
    """A named set of genes."""

    name: str
    members: tuple[str, ...]
    source: str = ""
    """Where the set was published, in words."""

    @property
    def column(self) -> str:
        """Its name in a table of genes."""
        return PREFIX + self.name


def parse_gmt(text: str) -> list[Signature]:
    """Gene sets from the text of a GMT file: a line a set, of its name, where it comes from, and its genes, by tabs.

    Empty lines, and lines that begin with "#", say nothing; a gene that is named twice counts once; "-" stands for "/"
    in a name.

    Raises NslError: there is no set in it, a line is not of that form, or two sets have one name.
    """
    sets: dict[str, Signature] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, *rest = (cell.strip().strip('"') for cell in line.split("\t"))
        genes = tuple(dict.fromkeys(gene for gene in rest[1:] if gene))
        if not (name and genes):
            raise NslError(
                f"line {number} of the gene sets is not GMT ({line.strip()[:40]!r}); write a set's name, its source "
                "and its genes on one line, separated by tabs"
            )
        name = name.replace("/", "-")  # h5ad, where names are paths, has no "/" in a column's
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise NslError(
                f"line {number} of the gene sets has no usable name; give one of at most {_LONGEST_NAME} letters"
            )
        if name in sets:
            raise NslError(f"two gene sets are named {name} (line {number}); give each a name of its own")
        sets[name] = Signature(name, genes, rest[0])
    if not sets:
        raise NslError("the gene sets hold no set; write a name, a source and genes on one line, separated by tabs")
    if len(sets) > _MOST_SETS:
        raise NslError(f"{len(sets):,} gene sets are too many for one run; bring at most {_MOST_SETS:,}")
    return list(sets.values())


def read_gmt(path: Path) -> list[Signature]:
    """`parse_gmt` of a file; NslError also where it cannot be read, or is larger than any file of gene sets."""
    try:
        size = path.stat().st_size
        if size > _GMT_BYTES:
            raise NslError(f"{path.name} has {size:,} bytes; a file of gene sets has at most {_GMT_BYTES:,}")
        return parse_gmt(plain_text(path.read_bytes()))
    except OSError as error:
        raise NslError(
            f"{path.name} cannot be read ({error.strerror or error}); give a text file in GMT format"
        ) from None


def joined_members(genes: Iterable[str]) -> str:
    """Genes in one cell of a table."""
    return _SEPARATOR.join(genes)


def split_members(cell: str) -> tuple[str, ...]:
    """The genes of one cell of a table."""
    return tuple(gene for gene in cell.split(_SEPARATOR) if gene)


def sets_of(table: "pd.DataFrame") -> list[Signature]:
    """The sets of a table with a row a set, by its name, of its source and its members."""
    return [Signature(name, split_members(row.members), row.source) for name, row in table.iterrows()]


@dataclass(frozen=True)
class Scoring:
    """From the expression of genes to the scores of sets, all at once."""

    names: list[str]
    genes: list[str]
    """(G,) the members of all sets, once each."""
    loadings: np.ndarray
    """(G, sets) by which a unit of a gene's expression raises each score."""
    offset: np.ndarray
    """(sets,) the scores of no expression at all."""

    @classmethod
    def of(cls, members: Mapping[str, Sequence[str]], mean: "pd.Series", sd: "pd.Series") -> "Scoring":
        """Scoring of sets.

        Parameters
        ----------
        members : the genes of each set by its name, each one in `mean` and `sd`.
        mean, sd : of the expression of a gene over the spots learned from; an sd is above 0.
        """
        genes = list(dict.fromkeys(gene for own in members.values() for gene in own))
        row = {gene: i for i, gene in enumerate(genes)}
        loadings = np.zeros((len(genes), len(members)))
        for column, own in enumerate(members.values()):
            for gene in own:
                loadings[row[gene], column] = 1 / sd[gene] / len(own)
        return cls(list(members), genes, loadings, -(mean[genes].to_numpy() @ loadings))

    def score(self, expression: np.ndarray) -> np.ndarray:
        """(N, sets) float32 scores of expression (N, G), its genes in the order of `genes`."""
        return (expression @ self.loadings + self.offset).astype(np.float32)


def as_columns(result: "anndata.AnnData") -> "anndata.AnnData":
    """A result whose signatures stand before its genes as columns of `X`, so that they are used like any gene.

    A result without signatures is returned as it is, and so is one that has them as columns already.
    """
    if "signatures" not in result.obsm:
        return result
    import anndata
    import pandas as pd

    scores, table = result.obsm["signatures"], result.uns["nsl"]["signatures"]
    # What is known of genes alone (Moran's I, of a result read from a file) is unknown of sets.
    # Results of earlier versions tell what is predicted beyond what all genes have in common of sets alone.
    columns = dict.fromkeys([*result.var.columns, "r_specific"])
    own, of_genes = table.loc[scores.columns].reindex(columns=columns), result.var.reindex(columns=columns)
    obsm = {name: value for name, value in result.obsm.items() if name != "signatures"}
    return anndata.AnnData(
        X=np.column_stack([scores.to_numpy(np.float32), result.X]),
        obs=result.obs,
        var=pd.concat([own.set_axis(PREFIX + own.index), of_genes]),
        obsm=obsm,
        uns=dict(result.uns),
    )


def as_table(result: "anndata.AnnData") -> "anndata.AnnData":
    """The contrary: the genes in `X`, and `obsm["signatures"]` a table of those signatures that were columns."""
    is_score = result.var_names.str.startswith(PREFIX)
    if not is_score.any():
        return result
    import pandas as pd

    genes, scores = result[:, ~is_score].copy(), result[:, is_score]
    names = scores.var_names.str.removeprefix(PREFIX)
    genes.obsm["signatures"] = pd.DataFrame(np.asarray(scores.X), index=result.obs_names, columns=names)
    return genes


def signatures_of(result: "anndata.AnnData") -> dict[str, Signature]:
    """The signatures that a result was scored for, by their names as columns, with the members that were found."""
    table = result.uns["nsl"].get("signatures")
    return {} if table is None else {one.column: one for one in sets_of(table)}


def is_signature(name: str) -> bool:
    """Whether a column's name is that of a signature."""
    return name.startswith(PREFIX)


def spoken(name: str) -> str:
    """A column's name as it stands in a sentence."""
    return f"signature {name.removeprefix(PREFIX)}" if is_signature(name) else name


def counted(names: Iterable[str]) -> str:
    """How many genes and how many signatures these columns are, in words."""
    names = list(names)
    sets = sum(map(is_signature, names))
    counts = {"gene": len(names) - sets, "signature": sets}
    told = [count_of(number, what) for what, number in counts.items() if number]
    return " and ".join(told) or "no gene"


def short_name(name: str, most_letters: int) -> str:
    """A column's name where there is little room: of a set its own, cut where it has more letters than that."""
    name = str(name).removeprefix(PREFIX)
    return name if len(name) <= most_letters else f"{name[: most_letters - 1]}…"


def short_names(names: Sequence[str], most_letters: int) -> list[str]:
    """`short_name` of several, cut in the middle where they begin alike, and numbered where they also end alike."""
    known = dict.fromkeys(str(name).removeprefix(PREFIX) for name in names)
    begins = Counter(short_name(name, most_letters) for name in known)
    half, told = most_letters // 2, Counter()
    for name in known:
        short = short_name(name, most_letters)
        if begins[short] > 1 and len(name) > most_letters:
            short = f"{name[: half - 1]}…{name[-half:]}"
        told[short] += 1
        known[name] = short if told[short] == 1 else f"{short} {told[short]}"
    return [known[str(name).removeprefix(PREFIX)] for name in names]


def unit_of(*names: str) -> str:
    """What the values of genes or signatures, by their names as columns, are counted in."""
    units = {SCORE_UNIT if is_signature(name) else EXPRESSION_UNIT for name in names}
    return units.pop() if len(units) == 1 else "each in its own unit"
