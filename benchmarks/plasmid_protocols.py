"""Plasmids left out one by one: their unit (PTU) and their host, from the nearest plasmid that stays.

    python benchmarks/plasmid_protocols.py GENOMES WORK [ENCODER]

COPLA (Redondo-Salvo et al. 2021) takes 1,000 plasmids out of its references and finds the right PTU for 94 %
of them. Here it is the PTU of the nearest plasmid that has one. ML-DSP (Randhawa et al. 2019) tells the
phylum of the host of 95.5 % of plasmids, in cross-validation. Here it is that of the nearest plasmid. Both
are measured on whole plasmids and on fragments. References: all plasmids of the collection but the query.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from side_by_side_draw import plasmid_units, read_genomes

import kinmer
from kinmer.fasta import read_records

LENGTHS = (1_000, 2_000, 5_000, 10_000)
# So many hits always have one with a PTU, and one of another species.
HITS = 400


def write_plasmids(source: object, rows: pd.DataFrame, folder: Path) -> None:
    """The plasmids, and one fragment of each of every length, with the plasmid's id as theirs."""
    files = {name: (folder / f"{name}.fna").open("wb") for name in ("whole", *map(str, LENGTHS))}
    rng = np.random.default_rng(0)
    for file, own in rows.groupby("file", sort=False):
        wanted = set(own["sequence_id"])
        for name, letters in read_records(source.folder / file):  # type: ignore[attr-defined]
            if name.split()[0] in wanted:
                text = bytes(letters)
                wanted.discard(name.split()[0])
                files["whole"].write(b">%b\n%b\n" % (name.split()[0].encode(), text))
                for length in LENGTHS:
                    if len(text) >= length:
                        start = int(rng.integers(len(text) - length + 1))
                        piece = text[start : start + length]
                        files[str(length)].write(b">%b\n%b\n" % (name.split()[0].encode(), piece))
    for file in files.values():
        file.close()


def report(hits: pd.DataFrame, table: pd.DataFrame, name: str) -> None:
    """Shares that are right, of the queries that have a label which others have too."""
    hits = hits[hits["hit_id"] != hits["query_id"]]
    line = [name]
    for label, known in (("ptu", table["ptu"]), ("phylum", table["phylum"]), ("genus", table["genus"])):
        some = hits[hits["hit_id"].map(known).ne("")]
        nearest = some.drop_duplicates("query_id").set_index("query_id")["hit_id"].map(known)
        own = known[nearest.index]
        others = own.map(known.value_counts()) > 1
        right = nearest[own.ne("") & others] == own[own.ne("") & others]
        line.append(f"{label} {right.mean():.3f} of {len(right):,}")
    print(" · ".join(line))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("encoder", nargs="?", default="kin-1")
    args = parser.parse_args()
    source, work = read_genomes(args.genomes), args.work
    work.mkdir(parents=True, exist_ok=True)
    rows = source.sequences[source.sequences["molecule"].eq("plasmid")].drop_duplicates("sequence_id")
    units = plasmid_units(source.folder)
    table = rows.assign(ptu=rows["sequence_id"].map(units).fillna("")).set_index("sequence_id")
    table.reset_index()[["sequence_id", "molecule"]].to_csv(work / "plasmids.tsv", sep="\t", index=False)
    write_plasmids(source, rows, work)
    index = kinmer.build_index(
        work / "whole.fna", work / "plasmids.db", encoder=args.encoder, force=True, calibrate=False
    )
    for name in (*map(str, LENGTHS), "whole"):
        report(kinmer.search(work / f"{name}.fna", index, k=HITS).hits, table, name)


if __name__ == "__main__":
    main()
