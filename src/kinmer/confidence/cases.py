"""Pools of an index's own fragments, as they would be if their species, genus or family were not in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pool import CASES, HIDDEN, NO_KIN, POOL, LabeledPool, LineageBook, pool_of
from kinmer.confidence.probes import TURNS, Probes
from kinmer.index import Storage
from kinmer.index.rows import GENOME
from kinmer.progress import step

ROWS_AT_ONCE, QUERIES_AT_ONCE = 1 << 15, 256
FAMILY, GENUS, SPECIES = 4, 5, 6
# One query of so many of species with one genome is of what other strains do not have.
ACCESSORY = 5

Bools = NDArray[np.bool_]
Labels = NDArray[np.int64]
Floats = NDArray[np.float32]


def masked_samples(index: Storage, book: LineageBook, probes: Probes) -> list[LabeledPool]:
    """Samples of every case, with the fragments that it is possible for.

    known : the query's own genome is hidden where its species has another one. Where it has none, the query
    is changed as another strain's would be, and nothing is hidden; of a fifth of such queries what overlaps
    them, their whole sequence and their genome's mean are, as strains also differ in what they have.
    new species, genus, family : all that has the query's name at that rank is hidden, where something of the
    rank above is left, or where the rank above of a genus is unknown.
    new order, class, phylum, domain : all of that name is hidden, for every `TURNS`-th query.
    no kin : random sequences in the place of queries, and nothing is hidden.
    """
    rows = _Rows(index, book)
    truth = book.codes(probes.genome)
    samples: list[LabeledPool] = []
    with step("Calibrating", len(probes)) as progress:
        for start in range(0, len(probes), QUERIES_AT_ONCE):
            part = np.arange(start, min(len(probes), start + QUERIES_AT_ONCE))
            batch = _Batch(rows, probes, truth, part)
            for case, (labels, distances) in zip(CASES, _nearest(index, rows, batch), strict=True):
                able = np.flatnonzero(batch.possible(case) & (labels >= 0).any(axis=1))
                if able.size:
                    own = part[able]
                    pool = pool_of(index, book, labels[able], distances[able], probes.bases[own])
                    samples.append(LabeledPool(case, pool, truth[own], book.molecules(probes.entry[own])))
            progress.advance(len(part))
    return samples


class _Rows:
    """The rows that are alive: their labels, and what they are of."""

    def __init__(self, index: Storage, book: LineageBook) -> None:
        self.labels = np.flatnonzero(index.rows.alive)
        records = index.rows.records[self.labels]
        self.genome = index.rows.genome[self.labels]
        self.entry = index.rows.entry[self.labels]
        self.start, self.stop = np.ascontiguousarray(records["start"]), np.ascontiguousarray(records["stop"])
        self.mean = index.rows.kinds[self.labels] == GENOME
        unique, inverse = np.unique(self.genome, return_inverse=True)
        # (g, 7) of the genomes.
        self.genomes = book.codes(unique)
        names = self.genomes[inverse].astype(np.int64)
        self._of_genome = _Groups(self.genome)
        self._of_name = [_Groups(names[:, rank]) for rank in range(names.shape[1])]

    def __len__(self) -> int:
        return len(self.labels)

    def of_genome(self, genome: int) -> Labels:
        """The rows of a genome, ascending."""
        return self._of_genome.members(genome)

    def of_name(self, rank: int, name: int) -> Labels:
        """The rows that have a name at a rank, ascending."""
        return self._of_name[rank].members(name)


class _Groups:
    """Positions (n,) by value."""

    def __init__(self, values: Labels) -> None:
        self._values = values

    @cached_property
    def _sorted(self) -> tuple[Labels, Labels, Labels]:
        order = np.argsort(self._values, kind="stable")
        unique, starts = np.unique(self._values[order], return_index=True)
        return order, unique, np.append(starts, len(order))

    def members(self, value: int) -> Labels:
        """The positions of a value, ascending."""
        order, unique, starts = self._sorted
        at = int(np.searchsorted(unique, value))
        known = at < len(unique) and unique[at] == value
        return order[starts[at] : starts[at + 1]] if known else order[:0]


class _Batch:
    """Some fragments: which cases are possible for them, and which rows each case hides from them."""

    def __init__(self, rows: _Rows, probes: Probes, truth: NDArray[np.int32], part: Labels) -> None:
        self._rows, self._part, self._names = rows, part, truth[part]
        own = [rows.of_genome(genome) for genome in probes.genome[part].tolist()]
        overlapping = []
        for at, members in zip(part.tolist(), own, strict=True):
            within = (rows.start[members] < probes.stop[at]) & (rows.stop[members] > probes.start[at])
            overlapping.append(rows.mean[members] | ((rows.entry[members] == probes.entry[at]) & within))
        # Whether the species has other genomes, and whether something of the own genome does not overlap.
        others = self._left(SPECIES, None, least=2)
        remains = np.array([not near.all() for near in overlapping], dtype=bool)
        # By the fragment's number: the same whatever comes together.
        strains = ~others & (part % ACCESSORY != 0) & (probes.strains is not None)
        self._known = others | strains | remains
        self._own = own
        self._own_known = [
            members[:0] if strain else members if other else members[near]
            for members, near, strain, other in zip(own, overlapping, strains, others, strict=True)
        ]
        vectors = probes.vectors[part]
        changed = vectors if probes.strains is None else probes.strains[part]
        self.queries = _unit(vectors)
        self.strains = _unit(np.where(strains[:, None], changed, vectors))
        self._has_random = np.zeros(len(part), dtype=bool)
        self.random = self.queries
        if probes.random is not None:
            self._has_random = np.asarray(probes.random[part].any(axis=1))
            self.random = _unit(probes.random[part])

    def __len__(self) -> int:
        return len(self._part)

    def possible(self, case: str) -> Bools:
        """(q,) whether a case can be made of the fragment."""
        has = self._names >= 0
        if case == "known":
            return np.asarray(has[:, SPECIES] & self._known)
        if case == "new species":
            return np.asarray(has[:, SPECIES] & (self._left(GENUS, SPECIES) | ~has[:, GENUS]))
        if case == "new genus":
            return has[:, GENUS]
        if case == "new family":
            return np.asarray(has[:, FAMILY] & has[:, GENUS] & self._left(FAMILY, GENUS))
        if case == NO_KIN:
            return self._has_random
        rank = HIDDEN[case]
        assert rank is not None
        return np.asarray(has[:, rank] & (self._part % TURNS == rank % TURNS))

    def hidden(self, query: int, rank: int | None) -> list[Labels]:
        """Rows that a query does not get where its name at a rank is new; None: its species is known."""
        if rank is None:
            return [self._own_known[query]]
        name = int(self._names[query, rank])
        return [self._own[query], *([self._rows.of_name(rank, name)] if name >= 0 else [])]

    def _left(self, rank: int, below: int | None, *, least: int = 1) -> Bools:
        """(q,) whether so many genomes of the query's name at a rank have another name below."""
        names, known = self._names, self._rows.genomes
        result = np.zeros(len(names), dtype=bool)
        for row, name in enumerate(names.tolist()):
            if name[rank] >= 0:
                same = known[:, rank] == name[rank]
                if below is not None:
                    same &= known[:, below] != name[below]
                result[row] = int(same.sum()) >= least
        return result


@dataclass
class _Best:
    """The best candidates so far: positions (q, c) in the rows, -1 for none, and cosines."""

    rows: Labels
    cosines: Floats

    def merge(self, cosines: Floats, first: int, queries: Labels) -> None:
        """Take in a block (q, r) of cosines, -inf for none, of some queries (q,) and rows from `first`."""
        width = self.rows.shape[1]
        for row, line in zip(queries.tolist(), cosines, strict=True):
            better = np.flatnonzero(line > self.cosines[row, -1])
            if not better.size:
                continue
            if better.size > width:
                better = better[np.argpartition(-line[better], width - 1)[:width]]
            rows = np.concatenate([self.rows[row], better + first])
            values = np.concatenate([self.cosines[row], line[better]])
            order = np.lexsort((rows, -values))[:width]
            self.rows[row], self.cosines[row] = rows[order], values[order]


def _nearest(index: Storage, rows: _Rows, batch: _Batch) -> list[tuple[Labels, Floats]]:
    """For every case the labels (q, POOL) of the nearest rows, and their cosine distances."""
    shape = (len(batch), min(POOL, len(rows)))
    best = {case: _Best(np.full(shape, -1), np.full(shape, -np.inf, np.float32)) for case in CASES}
    able = {case: np.flatnonzero(batch.possible(case)) for case in CASES}
    for start in range(0, len(rows), ROWS_AT_ONCE):
        stop = min(len(rows), start + ROWS_AT_ONCE)
        here = _unit(index.rows.vectors[rows.labels[start:stop]])
        for case in CASES:
            rank, which = HIDDEN[case], able[case]
            if case == NO_KIN:
                best[case].merge(batch.random[which] @ here.T, start, which)
                continue
            if rank in (None, SPECIES):
                cosines = (batch.strains if rank is None else batch.queries) @ here.T
            if rank is None or rank >= FAMILY:
                # Each case hides what the one before it does, and more.
                _hide(cosines, batch, rank, range(len(batch)), start, stop)
                best[case].merge(cosines[which], start, which)
            else:
                few = cosines[which]
                _hide(few, batch, rank, which.tolist(), start, stop)
                best[case].merge(few, start, which)
    return [_with_labels(one, rows) for one in best.values()]


def _hide(
    cosines: Floats, batch: _Batch, rank: int | None, queries: Sequence[int], start: int, stop: int
) -> None:
    """Make -inf what of the rows from `start` to `stop` is hidden; cosines (m, r) of some queries (m,)."""
    for line, query in zip(cosines, queries, strict=True):
        for hidden in batch.hidden(query, rank):
            first, last = np.searchsorted(hidden, [start, stop])
            line[hidden[first:last] - start] = -np.inf


def _with_labels(best: _Best, rows: _Rows) -> tuple[Labels, Floats]:
    valid = best.rows >= 0
    distances = np.where(valid, np.maximum(1 - best.cosines, 0), np.float32(np.inf))
    return np.where(valid, rows.labels[best.rows], -1), distances


def _unit(vectors: Floats) -> Floats:
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)).astype(np.float32)
    return np.asarray(vectors / np.where(norms > 0, norms, 1)[:, None], dtype=np.float32)
