"""Kinds of molecule of species, and of plasmid units (PTUs), that the references lack.

    python benchmarks/molecules_unseen.py GENOMES WORK ENCODER SEED HALF

References: a half of the genera of `side_by_side_draw.py`, with plasmids, and half of the organelles and
eukaryotes of the collection, dealt anew. Queries: records of genomes whose species, and plasmids whose PTU,
the references do not have; contigs of 100 kb and more count as chromosomes; and the other organelles.
ENCODER has seen none of that half's genera. Two samples of these queries, drawn with replacement: kinds
alike frequent, and nine chromosomes to one plasmid beside a few of the others. Calls with default settings:
F1 of the likeliest kind, how many plasmids are found and how many calls are right, and the calibration error
of the five probabilities, their mean and that of plasmids. Protein families are made anew, without the
genomes of the queries, their species, PTUs and clusters.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import side_by_side_plasmids
from side_by_side_draw import STRAIN, Draw, Genomes, draw, plasmid_units, read_genomes

from kinmer.fasta import read_records
from kinmer.molecules import MOLECULES
from kinmer.proteins.odds import GENES, VARIABLE

LENGTHS = (1_000, 2_000, 5_000, 10_000)
# Fragments of a record and length, and records of a genome and kind.
EACH, RECORDS = {"chromosome": 3}, 3
# Contigs so long are hardly ever of plasmids.
CHROMOSOME = 100_000
ASKED = 80
# Genomes of a kind from which on it has a figure.
LEAST = 5
DRAWN = 4_000
SAMPLES = {
    "even": dict.fromkeys(("chromosome", "plasmid", "virus", "organelle"), 0.25),
    "usual": {"chromosome": 0.8, "plasmid": 0.09, "virus": 0.07, "organelle": 0.04},
}


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


def mixed(truth: pd.DataFrame, shares: dict[str, float], rng: np.random.Generator) -> pd.DataFrame:
    """`DRAWN` queries, kinds as frequent as `shares` at every length; none of those of too few genomes."""
    some = truth[truth.groupby("kind")["genome"].transform("nunique").ge(LEAST) & truth["kind"].isin(shares)]
    weight = some["kind"].map(shares) / some.groupby(["kind", "length"])["kind"].transform("size")
    rows = rng.choice(len(some), DRAWN, p=(weight / weight.sum()).to_numpy())
    drawn = some.iloc[rows].reset_index(drop=True)
    return drawn.assign(source=drawn["query_id"], query_id=[f"s{at}" for at in range(DRAWN)])


def write_sample(drawn: pd.DataFrame, queries: Path, path: Path) -> None:
    """The letters of drawn queries by their new names."""
    letters = {name.split()[0]: bytes(text) for name, text in read_records(queries)}
    with path.open("wb") as file:
        for name, source in zip(drawn["query_id"], drawn["source"], strict=True):
            file.write(b">%b\n%b\n" % (name.encode(), letters[source]))


def calibration_error(likely: pd.Series[float], right: pd.Series[bool]) -> float:
    """Mean gap of probability and share over ten bins."""
    bins = np.minimum((likely * 10).astype(int), 9)
    return float((likely - right).groupby(bins).sum().abs().sum() / len(likely))


def report(name: str, calls: pd.DataFrame) -> None:
    """How plasmids fare by length, F1 of the likeliest kinds, calibration errors."""
    likely = calls[[f"{kind}_p" for kind in MOLECULES]].set_axis(MOLECULES, axis=1)
    calls = calls.assign(best=likely.idxmax(axis=1))
    for length, own in calls.groupby("length"):
        plasmid, said = own["kind"].eq("plasmid"), own["molecule"].eq("plasmid")
        line = [
            f"{kind} {2 * (of & is_best).sum() / max(1, of.sum() + is_best.sum()):.2f}"
            for kind in sorted(set(own["kind"]))
            for of, is_best in [(own["kind"].eq(kind), own["best"].eq(kind))]
        ]
        errors = [calibration_error(likely.loc[own.index, kind], own["kind"].eq(kind)) for kind in MOLECULES]
        print(
            f"{name} {length:>6} F1 {' · '.join(line)} | plasmid: precision {plasmid[said].mean():.2f},"
            f" recall {said[plasmid].mean():.2f}; unsure {own['molecule'].eq('unsure').mean():.2f};"
            f" errors {np.mean(errors):.3f}, {errors[MOLECULES.index('plasmid')]:.3f}"
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
    truth.to_csv(work / "queries.tsv", sep="\t", index=False)
    tool = Path(__file__).parents[1] / "tools" / "make_genes.py"
    made_by = [sys.executable, tool, args.genomes, "--without", work / "queries.tsv", "--output", work]
    subprocess.run(list(map(str, made_by)), check=True)
    os.environ[VARIABLE] = str((work / f"{GENES}.safetensors").absolute())
    for name, shares in SAMPLES.items():
        rng = np.random.default_rng([args.seed, args.half, 9])
        drawn = mixed(truth, shares, rng)
        write_sample(drawn, work / "queries.fna", work / "sample.fna")
        calls = work / f"{name}.tsv"
        _kinmer("search", work / "sample.fna", "--db", work / "kin.db", "--format", "calls", "-o", calls)
        columns = ["query_id", "molecule", *(f"{kind}_p" for kind in MOLECULES)]
        report(name, drawn.merge(pd.read_csv(calls, sep="\t", usecols=columns), on="query_id"))


if __name__ == "__main__":
    main()
