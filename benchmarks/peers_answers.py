"""The best answer of a tool to every query, out of the file that it has written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from peers_bench import Bench
from peers_kraken import taxonomy_of

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """(q,) database entries that stand for the species and the genus of the answer, -1 for none."""

    species: Rows
    genus: Rows


def best(hits: Iterable[tuple[int, int, float]], queries: int) -> Answers:
    """Of (query, entry, score) the entry with the largest score; of equal ones the first that is told."""
    rows, scores = np.full(queries, -1, np.int64), np.full(queries, -np.inf)
    for query, entry, score in hits:
        if score > scores[query]:
            rows[query], scores[query] = entry, score
    return Answers(rows, rows)


def _fields(path: Path) -> Iterator[list[str]]:
    with path.open() as lines:
        for line in lines:
            yield line.rstrip("\n").split("\t")


def from_paf(path: Path, bench: Bench) -> Answers:
    """minimap2: the alignment with the largest score."""
    hits = (
        (int(one[0]), int(one[5]), next(float(tag[5:]) for tag in one[12:] if tag.startswith("AS:i:")))
        for one in _fields(path)
    )
    return best(hits, len(bench.query_table))


def from_blast(path: Path, bench: Bench) -> Answers:
    """BLAST: the largest bit score."""
    hits = ((int(query), int(entry), float(bits)) for query, entry, bits in _fields(path))
    return best(hits, len(bench.query_table))


def from_mash(path: Path, bench: Bench) -> Answers:
    """Mash: the least distance."""
    hits = ((int(query), int(entry), -float(distance)) for entry, query, distance, *_ in _fields(path))
    return best(hits, len(bench.query_table))


def from_pairs(path: Path, bench: Bench) -> Answers:
    """Lines of a query and its answer."""
    hits = ((int(query), int(entry), 0.0) for query, entry in _fields(path))
    return best(hits, len(bench.query_table))


def from_kraken(path: Path, bench: Bench) -> Answers:
    """Kraken2: the taxon of a query's classification; one above a rank is no answer at that rank."""
    entries = taxonomy_of(bench.database_table).entries()
    rows = np.full((len(bench.query_table), 2), -1, np.int64)
    for one in _fields(path):
        rows[int(one[1])] = entries[int(one[2])]
    return Answers(rows[:, 0], rows[:, 1])
