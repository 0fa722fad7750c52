"""Write nsl/gene_symbols.csv: what human genes are called now, and what they were called before.

    python docs/make_gene_symbols.py HGNC_COMPLETE_SET GENCODE_GENES

HGNC_COMPLETE_SET is HGNC's table of approved symbols (tab separated; genenames.org, CC0), with their previous symbols.
GENCODE_GENES is a table without a header whose first columns are Ensembl id and symbol, from any later GENCODE release:
what a gene of HGNC's table is called in it is its symbol now. A previous symbol is left out where two genes had it, or
where it is another gene's symbol today.
"""

import argparse
from collections import Counter
from pathlib import Path

import pandas as pd

# What pathologists call something else (`nsl.genes.ALIASES`).
ELSE = {"CD15", "PAP"}
OUT = Path(__file__).resolve().parent.parent / "nsl" / "gene_symbols.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hgnc", type=Path)
    parser.add_argument("gencode", type=Path)
    args = parser.parse_args()
    text = {"dtype": str, "keep_default_na": False}
    gencode = pd.read_csv(args.gencode, header=None, usecols=[0, 1], index_col=0, **text)[1]
    gencode = gencode[~gencode.index.duplicated()]
    hgnc = pd.read_csv(args.hgnc, sep="\t", **text)
    hgnc = hgnc[(hgnc.locus_group == "protein-coding gene") & hgnc.ensembl_gene_id.isin(gencode.index)]
    hgnc = hgnc.assign(now=gencode[hgnc.ensembl_gene_id].to_numpy())
    hgnc.loc[hgnc.now.str.startswith("ENSG"), "now"] = hgnc.symbol
    before = [
        [name for name in dict.fromkeys([row.symbol, *row.prev_symbol.split("|")]) if name not in ("", row.now)]
        for row in hgnc.itertuples()
    ]
    times, taken = Counter(name for names in before for name in names), {*hgnc.now, *gencode, *ELSE}
    previous = ["|".join(name for name in names if times[name] == 1 and name not in taken) for names in before]
    table = pd.DataFrame({"ensembl_id": hgnc.ensembl_gene_id, "symbol": hgnc.now, "previous": previous})
    table = table.drop_duplicates("symbol").sort_values("symbol")
    table.to_csv(OUT, index=False, lineterminator="\n")
    print(f"{OUT.name}: {len(table):,} genes, {sum(bool(names) for names in table.previous):,} with previous symbols")


if __name__ == "__main__":
    main()
