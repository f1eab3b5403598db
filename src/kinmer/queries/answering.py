"""From the vectors of queries to their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.index import Entry, KinIndex
from kinmer.index.scanning import first_of_each
from kinmer.index.vectors import GENOME, PIECE
from kinmer.queries.results import Hit, QueryResult
from kinmer.queries.sources import Queries
from kinmer.stores import Metric
from kinmer.taxonomy import consensus, rank_columns, vote_weights

__all__ = ["Asked", "answers"]

# A genome's mean vector counts as so much nearer than it is: it has less noise than a piece's. Measured on
# fragments of known genomes.
MEAN_BONUS = 0.01


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is wanted of every query; see `kinmer.search`."""

    k: int
    metric: Metric
    merge: str = "sequence"
    where: str | None = None
    facets: Sequence[str] = ()
    max_distance: float | None = None
    min_probability: float | None = None
    evidence: bool = False
    rank_by_evidence: bool = False
    exclude_self: bool = False
    threads: int | None = None
    log: Callable[[str], None] = field(default=lambda line: None)


def answers(
    blocks: Iterator[Queries], index: KinIndex, asked: Asked, *, close: bool
) -> Iterator[QueryResult]:
    """The answers to all queries, in their order; the index is closed at the end if so wanted."""
    try:
        for block in blocks:
            for part in block.parts():
                if part.ids:
                    with index.reading():
                        found = _Answerer(index, asked).answer(part)
                    yield from found
    finally:
        if close:
            index.close()


class _Answerer:
    """Answers some queries, all of one state of the index."""

    def __init__(self, index: KinIndex, asked: Asked) -> None:
        self._index, self._asked = index, asked
        self._ranks = rank_columns(index.columns)
        self._molecule = next((name for name in index.columns if name.lower() == "molecule"), None)
        self._allowed: NDArray[np.bool_] | None = None
        if asked.where is not None:
            self._allowed = index.rows_where(index.select(asked.where))

    def answer(self, queries: Queries) -> list[QueryResult]:
        index, asked = self._index, self._asked
        own = index.numbers_of(queries.ids) if asked.exclude_self else None
        hits = self._hits(queries, own, self._allowed)
        facets = {kind: self._hits(queries, own, self._of_kind(kind)) for kind in asked.facets}
        return [
            QueryResult(
                name,
                queries.lengths[row],
                hits[row],
                self._consensus(hits[row], queries.vectors[row]),
                facets={kind: found[row] for kind, found in facets.items()},
            )
            for row, name in enumerate(queries.ids)
        ]

    def _of_kind(self, kind: str) -> NDArray[np.bool_]:
        """(rows,) which are of sequences of a kind of molecule; contigs count as chromosome."""
        if self._molecule is None:
            return np.zeros(len(self._index.rows), dtype=bool)
        kinds = ("chromosome", "contig") if kind == "chromosome" else (kind,)
        quoted = '"' + self._molecule.replace('"', '""') + '"'
        marks = ", ".join("?" * len(kinds))
        rows = self._index.rows_where(self._index.table.select(f"lower({quoted}) IN ({marks})", kinds))
        return rows if self._allowed is None else rows & self._allowed

    def _hits(
        self, queries: Queries, own: NDArray[np.int64] | None, allowed: NDArray[np.bool_] | None
    ) -> list[tuple[Hit, ...]]:
        """The hits of every query, nearest first."""
        # Arrays are as wide as k: a k beyond the number of entries must not take more memory than these.
        k = min(self._asked.k, max(1, len(self._index)))
        if self._asked.merge == "genome":
            return self._genome_hits(queries, own, allowed, k)
        numbers, far, rows = self._index.search(
            queries.vectors, k, metric=self._asked.metric, exclude=own, allowed=allowed
        )
        entries = self._index.entries(numbers)
        names = self._index.genomes(np.array([one.genome for one in entries.values()], dtype=np.int64))
        found = []
        for line, distances, places in zip(numbers.tolist(), far.tolist(), rows.tolist(), strict=True):
            near = [
                self._hit(rank, entries[number].id, distance, row, entries[number], names)
                for rank, (number, distance, row) in enumerate(zip(line, distances, places, strict=True), 1)
                if number >= 0 and self._is_near(distance)
            ]
            found.append(tuple(near))
        return found

    def _genome_hits(
        self,
        queries: Queries,
        own: NDArray[np.int64] | None,
        allowed: NDArray[np.bool_] | None,
        k: int,
    ) -> list[tuple[Hit, ...]]:
        rows = self._index.rows
        count = min(len(rows), max(256, 8 * k))
        places, far = self._index.nearest(
            queries.vectors, count, metric=self._asked.metric, exclude=own, allowed=allowed
        )
        if self._asked.metric == "cosine":
            means = (places >= 0) & (rows.kinds[places] == GENOME)
            far = np.where(means, np.maximum(far - np.float32(MEAN_BONUS), 0), far)
            order = np.argsort(far, axis=1, kind="stable")
            places, far = np.take_along_axis(places, order, 1), np.take_along_axis(far, order, 1)
        groups, far, places = first_of_each(rows.genome, places, far, k)
        names = self._index.genomes(groups)
        members = self._members(groups, places)
        found = []
        for line, distances, near in zip(groups.tolist(), far.tolist(), places.tolist(), strict=True):
            hits = [
                self._hit(rank, names[number].name, distance, row, members[number, row], names)
                for rank, (number, distance, row) in enumerate(zip(line, distances, near, strict=True), 1)
                if number >= 0 and self._is_near(distance)
            ]
            found.append(tuple(hits))
        return found

    def _members(self, groups: NDArray[np.int64], rows: NDArray[np.int64]) -> dict[tuple[int, int], Entry]:
        """For every genome and nearest row the sequence that speaks for it: the row's, else its first."""
        pairs = np.unique(np.stack([groups[groups >= 0], rows[groups >= 0]], axis=1), axis=0)
        entry = self._index.rows.entry[pairs[:, 1]]
        known = self._index.entries(entry)
        found = {}
        for (group, row), number in zip(pairs.tolist(), entry.tolist(), strict=True):
            found[group, row] = known[number] if number >= 0 else self._index.table.members(group)[0]
        return found

    def _hit(
        self, rank: int, name: str, distance: float, row: int, entry: Entry, genomes: dict[int, Any]
    ) -> Hit:
        record = self._index.rows.records[row]
        piece = int(record["kind"]) == PIECE
        return Hit(
            rank,
            name,
            distance,
            entry.length,
            entry.gc,
            dict(zip(self._index.columns, entry.values, strict=True)),
            genomes[entry.genome].name,
            int(record["start"]) if piece else None,
            int(record["stop"]) if piece else None,
        )

    def _is_near(self, distance: float) -> bool:
        return self._asked.max_distance is None or distance <= self._asked.max_distance

    def _consensus(self, hits: tuple[Hit, ...], vector: NDArray[np.float32]) -> dict[str, Any]:
        far = np.array([hit.distance for hit in hits], dtype=np.float32)
        weights = vote_weights(far, self._asked.metric, float(np.linalg.norm(vector)))
        lineages = [{rank: hit.metadata[column] for rank, column in self._ranks.items()} for hit in hits]
        return consensus(lineages, weights.tolist())
