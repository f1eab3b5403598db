"""Kinds of molecule of species, and of plasmid units (PTUs), that the references lack.

    python benchmarks/molecules_unseen.py GENOMES WORK ENCODER SEED HALF

References: a half of the genera of `side_by_side_draw.py`, with plasmids, and half of the organelles and
eukaryotes of the collection, dealt anew. Queries: records of genomes whose species, and plasmids whose PTU,
the references do not have; contigs of 100 kb and more count as chromosomes; and the other organelles.
ENCODER has seen none of that half's genera. Calls with default settings; F1 of the likeliest kind, all kinds
alike frequent, and how often "plasmid" is right where there are nine chromosomes to one plasmid.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import side_by_side_plasmids
from side_by_side_draw import STRAIN, Draw, Genomes, draw, plasmid_units, read_genomes

from kinmer.fasta import read_records
from kinmer.molecules import MOLECULES

LENGTHS = (1_000, 2_000, 5_000, 10_000)
# Fragments of a record and length, and records of a genome and kind.
EACH, RECORDS = {"chromosome": 3}, 3
# Contigs so long are hardly ever of plasmids.
CHROMOSOME = 100_000
ASKED = 80
# Genomes of a kind from which on it has a figure.
LEAST = 5


def chosen(source: Genomes, half: int, seed: int) -> tuple[Draw, pd.Index, pd.Index]:
    """The draw with plasmids, and the organelles and eukaryotes that are known and asked for."""
    side_by_side_plasmids.ASKED = ASKED
    made = side_by_side_plasmids.with_plasmids(source, draw(source.genomes, half, seed), half, seed)
    others = source.genomes.index[source.genomes["domain"].eq("Eukaryota")]
    others = others[np.random.default_rng([seed, 5]).permutation(len(others)) % 2 == half]
    asked = np.random.default_rng([seed, half, 77]).random(len(others)) < 0.45
    return made, others[~asked], others[asked]


def asked_records(source: Genomes, made: Draw, references: set[str], others: pd.Index) -> pd.DataFrame:
    """A row for every record that is cut into queries: its genome and kind."""
    table, units = source.sequences, plasmid_units(source.folder)
    known = {
        units[name] for name in table.loc[table["genome_id"].isin(references), "sequence_id"] if name in units
    }
    new = [one for one, case in made.cases.items() if case != STRAIN and one not in references]
    rows = table[table["genome_id"].isin([*new, *others])].drop_duplicates("sequence_id")
    long = rows["length"].astype(int) >= CHROMOSOME
    kind = rows["molecule"].mask(rows["molecule"].eq("contig") & long, "chromosome")
    rows = rows.assign(kind=kind)[kind.isin(MOLECULES) & ~rows["sequence_id"].map(units).isin(known)]
    return rows.groupby(["genome_id", "kind"]).head(RECORDS)


def write_references(source: Genomes, references: list[str], path: Path) -> None:
    """All records of some entries, each once."""
    seen = set[str]()
    with path.open("wb") as file:
        for one in source.files(references):
            for name, letters in read_records(one):
                if name.split()[0] not in seen:
                    seen.add(name.split()[0])
                    file.write(b">%b\n%b\n" % (name.split()[0].encode(), bytes(letters)))


def write_queries(source: Genomes, rows: pd.DataFrame, path: Path, rng: np.random.Generator) -> pd.DataFrame:
    """Fragments of the records, and a table of what they are."""
    told = []
    with path.open("wb") as file:
        for genome, own in rows.groupby("genome_id", sort=False):
            kinds = dict(zip(own["sequence_id"], own["kind"], strict=True))
            for name, letters in read_records(source.folder / source.entries.loc[genome, "file"]):
                kind, text = kinds.get(name.split()[0]), bytes(letters).upper()
                for length in LENGTHS if kind else ():
                    for _ in range(EACH.get(str(kind), 2) if len(text) >= length else 0):
                        start = int(rng.integers(len(text) - length + 1))
                        file.write(b">q%d\n%b\n" % (len(told), text[start : start + length]))
                        told.append((f"q{len(told)}", length, genome, kind))
    return pd.DataFrame(told, columns=["query_id", "length", "genome", "kind"])


def report(calls: pd.DataFrame) -> None:
    """F1 of kinds of `LEAST` genomes or more, by length; how plasmids fare among nine times as many
    chromosomes.
    """
    calls = calls[calls.groupby("kind")["genome"].transform("nunique") >= LEAST]
    for length, own in calls.groupby("length"):
        weight = 1 / own.groupby("kind")["kind"].transform("size")
        line = []
        for kind in own["kind"].unique():
            is_kind, said = own["kind"].eq(kind), own["molecule"].eq(kind)
            found = 2 * weight[is_kind & said].sum() / (weight[is_kind].sum() + weight[said].sum())
            line.append(f"{kind} {found:.2f}")
        plasmid, said = own["kind"].eq("plasmid"), own["molecule"].eq("plasmid")
        right = weight[plasmid & said].sum()
        wrong = 9 * weight[own["kind"].eq("chromosome") & said].sum()
        print(
            f"{length:>6}",
            " · ".join(line),
            f"| 9 : 1 precision {right / (right + wrong):.2f}, recall {right:.2f}",
        )


def _kinmer(*argv: object) -> None:
    subprocess.run(["kinmer", *map(str, argv), "--force"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("half", type=int, choices=(0, 1))
    args = parser.parse_args()
    source, work = read_genomes(args.genomes), args.work
    work.mkdir(parents=True, exist_ok=True)
    made, known, others = chosen(source, args.half, args.seed)
    cells = [one for one in made.references if source.entries.loc[one, "domain"] != "Eukaryota"]
    references = [*cells, *known]
    rows = asked_records(source, made, set(references), others)
    truth = write_queries(source, rows, work / "queries.fna", np.random.default_rng([args.seed, args.half]))
    table = source.sequences[source.sequences["genome_id"].isin(references)].drop_duplicates("sequence_id")
    table.to_csv(work / "references.tsv", sep="\t", index=False)
    write_references(source, references, work / "references.fna")
    _kinmer(
        "index",
        work / "references.fna",
        "-o",
        work / "kin.db",
        "-e",
        args.encoder,
        "--keep-sequences",
        "--metadata",
        work / "references.tsv",
    )
    _kinmer(
        "search", work / "queries.fna", "--db", work / "kin.db", "--format", "calls", "-o", work / "calls.tsv"
    )
    calls = pd.read_csv(work / "calls.tsv", sep="\t", usecols=["query_id", "molecule"])
    report(truth.merge(calls, on="query_id", how="left"))


if __name__ == "__main__":
    main()
