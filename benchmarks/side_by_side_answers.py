"""What a tool answers, out of the file that it has written: a lineage for every query."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from peers_kraken import Taxonomy, taxonomy_of
from side_by_side_draw import RANKS

# Names from the domain to the species, blank where nothing is said.
Lineage = tuple[str, ...]
NOTHING: Lineage = ("",) * len(RANKS)


@dataclass(frozen=True)
class Known:
    """The references: ``table`` has a row for every sequence; ``lineages`` by its id."""

    table: pd.DataFrame
    taxonomy: Taxonomy
    lineages: Mapping[str, Lineage]

    @classmethod
    def read(cls, path: Path) -> Known:
        """Out of ``references.tsv``."""
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        rows = table[list(RANKS)].itertuples(index=False, name=None)
        return cls(table, taxonomy_of(table), dict(zip(table["sequence_id"], map(tuple, rows), strict=True)))

    def of_taxid(self, taxid: int) -> Lineage:
        """Names of a node and those above it; none for what is not in the tree."""
        if taxid not in self.taxonomy.nodes:
            return NOTHING
        found = {
            self.taxonomy.nodes[one][1]: self.taxonomy.nodes[one][2] for one in self.taxonomy.lineage(taxid)
        }
        return tuple(found.get(rank, "") for rank in RANKS)


Answers = Iterator[tuple[str, Lineage]]
Reader = Callable[[Path, Known], Answers]


class Hit(NamedTuple):
    """An alignment, or all of a query with an entry; `identity` a share."""

    entry: str
    identity: float
    score: float


def _fields(path: Path) -> Iterator[list[str]]:
    with path.open() as lines:
        for line in lines:
            yield line.rstrip("\n").split("\t")


def from_kraken(path: Path, known: Known) -> Answers:
    """Kraken2: the taxon that a query is classified as."""
    for one in _fields(path):
        yield one[1], known.of_taxid(int(one[2]))


def from_mmseqs(path: Path, known: Known) -> Answers:
    """``mmseqs createtsv`` of a result of ``mmseqs taxonomy``: query, taxid, rank, name."""
    for one in _fields(path):
        yield one[0], known.of_taxid(int(one[1]))


def blast_hits(path: Path) -> dict[str, list[Hit]]:
    """By query, of ``-outfmt '6 qseqid sseqid pident bitscore'``."""
    found = defaultdict(list)
    for query, entry, identity, score in _fields(path):
        found[query].append(Hit(entry, float(identity) / 100, float(score)))
    return found


def from_blast(path: Path, known: Known) -> Answers:
    """BLAST's best hit, whatever its identity."""
    for query, hits in blast_hits(path).items():
        yield query, known.lineages[max(hits, key=lambda hit: hit.score).entry]


def from_blast_lca(path: Path, known: Known, near: float = 0.9, same: float = 0.95) -> Answers:
    """What all hits have in common whose score is at least `near` of the best one's.

    A species is named if the best hit's identity is at least `same`, the usual boundary of species (Jain et
    al. 2018, doi:10.1038/s41467-018-07641-9). Nine tenths of the best score: MEGAN's top percent of 10
    (Huson et al. 2007, doi:10.1101/gr.5969107).
    """
    for query, hits in blast_hits(path).items():
        yield query, _near(hits, known, near, same)


def _near(hits: Sequence[Hit], known: Known, near: float, same: float) -> Lineage:
    best = max(hits, key=lambda hit: hit.score)
    lineage = common(known.lineages[hit.entry] for hit in hits if hit.score >= near * best.score)
    return lineage if best.identity >= same else (*lineage[:-1], "")


def from_minimap(path: Path, known: Known, same: float = 0.9, cover: float = 0.3) -> Answers:
    """minimap2's PAF: what all genomes have in common that match within 5 % of the best one's letters.

    A species is named if the best one's identity is at least `same`. Only hits over at least `cover` of the
    query count. A genome's alignments are taken together, as far as they do not overlap on the query.
    """
    genomes = dict(zip(known.table["sequence_id"], known.table["genome_id"], strict=True))
    spans: dict[str, dict[str, list[tuple[int, int, int, int, str]]]] = defaultdict(lambda: defaultdict(list))
    sizes: dict[str, int] = {}
    for one in _fields(path):
        begin, end, matches, columns = (int(one[at]) for at in (2, 3, 9, 10))
        spans[one[0]][genomes[one[5]]].append((matches, columns, begin, end, one[5]))
        sizes[one[0]] = int(one[1])
    for query, found in spans.items():
        hits = []
        for parts in found.values():
            kept: list[tuple[int, int, int, int, str]] = []
            for part in sorted(parts, reverse=True):
                if all(part[3] <= other[2] or part[2] >= other[3] for other in kept):
                    kept.append(part)
            matches, columns, covered = (
                sum(values)
                for values in zip(*((one[0], one[1], one[3] - one[2]) for one in kept), strict=True)
            )
            if covered >= cover * sizes[query]:
                hits.append(Hit(kept[0][4], matches / columns, matches))
        if hits:
            yield query, _near(hits, known, 0.95, same)


def common(lineages: Iterable[Lineage]) -> Lineage:
    """The lowest common ancestor: names down to the first that are not all the same.

    A rank that has no name is passed over: it says nothing of the ranks below.
    """
    shared: list[str] = []
    for names in zip(*lineages, strict=True):
        told = set(names) - {""}
        if len(told) > 1:
            break
        shared.append(told.pop() if len(told) == 1 and "" not in names else "")
    return tuple(shared) + ("",) * (len(RANKS) - len(shared))


def from_sourmash(path: Path, known: Known) -> Answers:
    """``sourmash tax genome``: rank and lineage of every query; those below the threshold have no answer."""
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["status"] == "match":
                names = row["lineage"].split(";")
                yield row["query_name"], tuple(names) + ("",) * (len(RANKS) - len(names))


def from_kinmer(path: Path, known: Known) -> Answers:
    """kinmer's JSON Lines: the assigned rank, and what the hits agree on above it."""
    for one in results_of(path):
        yield one["query_id"], kinmer_lineage(one)


def results_of(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of JSON Lines."""
    with path.open() as lines:
        yield from map(json.loads, lines)


def kinmer_lineage(result: Mapping[str, Any]) -> Lineage:
    """Names from the domain down to the assigned rank."""
    rank, consensus = result.get("rank"), result.get("consensus")
    if rank not in RANKS or not isinstance(consensus, Mapping):
        return NOTHING
    told = RANKS[: RANKS.index(str(rank)) + 1]
    names = [str((consensus.get(one) or {}).get("name") or "") for one in told]
    names[-1] = str(result["name"])
    return (*names, *("" for _ in RANKS[len(told) :]))


def table_of(answers: Answers, queries: Sequence[str]) -> pd.DataFrame:
    """A row for every query, in their order; blank names where there is no answer."""
    found = dict(answers)
    rows = [found.get(query, NOTHING) for query in queries]
    return pd.DataFrame(rows, columns=list(RANKS), index=pd.Index(queries, name="query"))
