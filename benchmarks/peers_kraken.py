"""Kraken2's library and taxonomy out of a benchmark's labels, and its answers as database entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from peers_bench import Bench

from kinmer.fasta import read_records

# From the root down, with their names in nodes.dmp.
RANKS = {
    "domain": "superkingdom",
    "phylum": "phylum",
    "class": "class",
    "order": "order",
    "family": "family",
    "genus": "genus",
    "species": "species",
}
ROOT = 1
# Nodes of single database entries, where these have no species.
ENTRY = "no rank"


@dataclass(frozen=True)
class Taxonomy:
    """A tree of labels: taxid -> (parent, rank, name), and every database entry's taxid."""

    nodes: dict[int, tuple[int, str, str]]
    leaves: list[int]

    def lineage(self, taxid: int) -> Iterator[int]:
        """A node and those above it, the root left out."""
        while taxid != ROOT:
            yield taxid
            taxid = self.nodes[taxid][0]

    def entries(self) -> dict[int, tuple[int, int]]:
        """Entries that stand for every taxid's species and genus; -1 where it has none.

        An entry without a species stands for itself.
        """
        first: dict[int, int] = {}
        for row, leaf in enumerate(self.leaves):
            for taxid in self.lineage(leaf):
                first.setdefault(taxid, row)
        found = {0: (-1, -1), ROOT: (-1, -1)}
        for taxid in first:
            at = {self.nodes[one][1]: first[one] for one in self.lineage(taxid)}
            species = at.get("species", at.get(ENTRY, -1))
            found[taxid] = (species, at.get("genus", species))
        return found


def taxonomy_of(table: pd.DataFrame) -> Taxonomy:
    """The tree of a database's labels; blank ranks are passed over, a label hangs where it came first."""
    nodes: dict[int, tuple[int, str, str]] = {ROOT: (ROOT, ENTRY, "root")}
    known: dict[tuple[str, str], int] = {}
    leaves = []
    ranks = [rank for rank in RANKS if rank in table]
    for row, names in enumerate(table[ranks].itertuples(index=False, name=None)):
        at = ROOT
        for label in zip(ranks, names, strict=True):
            if label[1]:
                if label not in known:
                    known[label] = len(nodes) + 1
                    nodes[known[label]] = (at, *label)
                at = known[label]
        if nodes[at][1] != "species":
            nodes[len(nodes) + 1] = (at, ENTRY, f"entry {row}")
            at = len(nodes)
        leaves.append(at)
    return Taxonomy(nodes, leaves)


def write_nodes(taxonomy: Taxonomy, folder: Path) -> None:
    """``nodes.dmp`` and ``names.dmp`` in a new folder."""
    folder.mkdir(parents=True)
    with (folder / "nodes.dmp").open("w") as nodes, (folder / "names.dmp").open("w") as names:
        for taxid, (parent, rank, name) in taxonomy.nodes.items():
            nodes.write(f"{taxid}\t|\t{parent}\t|\t{RANKS.get(rank, rank)}\t|\t-\t|\n")
            names.write(f"{taxid}\t|\t{name}\t|\t\t|\tscientific name\t|\n")


def write_library(bench: Bench, work: Path) -> None:
    """``library.fna`` with a taxid in every header, and ``kraken/taxonomy``."""
    taxonomy = taxonomy_of(bench.database_table)
    write_nodes(taxonomy, work / "kraken" / "taxonomy")
    with (work / "library.fna").open("wb") as file:
        for (number, letters), taxid in zip(read_records(bench.database), taxonomy.leaves, strict=True):
            file.write(b">%b|kraken:taxid|%d\n%b\n" % (number.encode(), taxid, letters))
