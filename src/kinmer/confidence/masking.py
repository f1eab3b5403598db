"""Pools of an index's own fragments, as they would be if their species, genus or family were not in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pool import CASES, HIDDEN, NO_KIN, POOL, LabeledPool, LineageBook, pool_of
from kinmer.confidence.probes import TURNS, Probes
from kinmer.index.database import Storage
from kinmer.index.rows import GENOME
from kinmer.progress import step

__all__ = ["masked_samples"]


ROWS_AT_ONCE, QUERIES_AT_ONCE = 1 << 15, 256
FAMILY, GENUS, SPECIES = 4, 5, 6
OF_GENOME = -1
# One query of so many of species with one genome is of what other strains do not have.
ACCESSORY = 5

Bools = NDArray[np.bool_]
Labels = NDArray[np.int64]
Floats = NDArray[np.float32]


def masked_samples(index: Storage, book: LineageBook, fragments: Probes) -> list[LabeledPool]:
    """A sample for every case, with the fragments that it is possible for.

    known : the query's own genome is taken out where its species has another one. Where it has none, the
    query is changed as another strain's would be, and nothing is taken out; of a fifth of such queries what
    overlaps them, their sequence as a whole and their genome's mean, as strains also differ in what they
    have. new species, genus, family : all that bears the
    query's name at that rank is taken out, where something of the rank above is left, or where for a genus
    nobody knows what is above. new order, class, phylum, domain: all of that name is taken out, for every
    `TURNS`-th query, where anything is left. no kin: random letters in the query's place, and nothing is
    taken out.
    """
    rows = _Rows(index, book)
    truth = book.codes(fragments.genome)
    found: list[LabeledPool] = []
    with step("Calibrating", len(fragments)) as progress:
        for start in range(0, len(fragments), QUERIES_AT_ONCE):
            part = np.arange(start, min(len(fragments), start + QUERIES_AT_ONCE))
            asked = _Asked(rows, fragments, truth, part)
            strains = None if fragments.strains is None else fragments.strains[part]
            random = None if fragments.random is None else fragments.random[part]
            for case, labels, far in _nearest(index, rows, asked, fragments.vectors[part], strains, random):
                able = np.flatnonzero(asked.possible(case) & (labels >= 0).any(axis=1))
                if not able.size:
                    continue
                own = part[able]
                pool = pool_of(index, book, labels[able], far[able], fragments.bases[own])
                found.append(LabeledPool(case, pool, truth[own], book.molecules(fragments.entry[own])))
            progress.advance(len(part))
    return found


class _Rows:
    """The rows that are alive: places in the files, and what they are of."""

    def __init__(self, index: Storage, book: LineageBook) -> None:
        self.labels = np.flatnonzero(index.rows.alive)
        records = index.rows.records[self.labels]
        self.genome = index.rows.genome[self.labels]
        self.entry = index.rows.entry[self.labels]
        self.start, self.stop = np.ascontiguousarray(records["start"]), np.ascontiguousarray(records["stop"])
        self.mean = index.rows.kinds[self.labels] == GENOME
        unique, back = np.unique(self.genome, return_inverse=True)
        # (g, 7) of the genomes, and (n, 7) of the rows.
        self.genomes = book.codes(unique)
        self._sorted: dict[int, tuple[Labels, Labels, Labels]] = {}
        self._names = self.genomes[back]

    def within(self, rank: int, value: int, block: slice) -> Labels:
        """The rows of a block, ascending from its start, that have a name at a rank, or are of a genome."""
        if rank not in self._sorted:
            values = self.genome if rank == OF_GENOME else self._names[:, rank].astype(np.int64)
            order = np.argsort(values, kind="stable")
            unique, starts = np.unique(values[order], return_index=True)
            self._sorted[rank] = order, unique, np.append(starts, len(order))
        order, unique, starts = self._sorted[rank]
        at = int(np.searchsorted(unique, value))
        if at == len(unique) or unique[at] != value:
            return order[:0]
        rows = order[starts[at] : starts[at + 1]]
        first, last = np.searchsorted(rows, [block.start, block.stop])
        return np.asarray(rows[first:last] - block.start)

    def __len__(self) -> int:
        return len(self.labels)


class _Asked:
    """Some fragments: which cases they are possible for, and what each takes out."""

    def __init__(
        self, rows: _Rows, fragments: Probes, truth: NDArray[np.int32], part: NDArray[np.int64]
    ) -> None:
        self._rows = rows
        self._genome, self._entry = fragments.genome[part], fragments.entry[part]
        self._start, self._stop = fragments.start[part], fragments.stop[part]
        self._names = truth[part]
        self._others = self._left(SPECIES, None, least=2)
        self._parts = np.zeros(len(part), dtype=bool)
        self._part = part
        self._random: Bools = np.zeros(len(part), dtype=bool)
        if fragments.random is not None:
            self._random = np.asarray(fragments.random[part].any(axis=1))
        letters = fragments.strains is not None
        # By the fragment's number: the same whatever is asked together.
        self._strains = ~self._others & (part % ACCESSORY != 0) & letters

    def _left(self, rank: int, below: int | None, *, least: int = 1) -> Bools:
        """(q,) whether so many genomes of the query's name at a rank have another name below."""
        names, known = self._names, self._rows.genomes
        found = np.zeros(len(names), dtype=bool)
        for row, name in enumerate(names.tolist()):
            if name[rank] >= 0:
                same = known[:, rank] == name[rank]
                if below is not None:
                    same &= known[:, below] != name[below]
                found[row] = int(same.sum()) >= least
        return found

    def possible(self, case: str) -> Bools:
        """(q,) whether a case can be made of the fragment; "known" after all that it takes out."""
        has = self._names >= 0
        if case == "known":
            return np.asarray(has[:, SPECIES] & (self._others | self._strains | self._parts))
        if case == "new species":
            return np.asarray(has[:, SPECIES] & (self._left(GENUS, SPECIES) | ~has[:, GENUS]))
        if case == "new genus":
            return has[:, GENUS]
        if case == "new family":
            return np.asarray(has[:, FAMILY] & has[:, GENUS] & self._left(FAMILY, GENUS))
        if case == NO_KIN:
            return self._random
        rank = HIDDEN[case]
        assert rank is not None
        return np.asarray(has[:, rank] & (self._part % TURNS == rank % TURNS))

    def take_out(self, cosines: Floats, rank: int | None, block: slice, queries: Labels) -> None:
        """Make -inf what of a block is not in the index of a case; cosines (m, r) of some queries (m,)."""
        for line, query in zip(cosines, queries.tolist(), strict=True):
            own = self._rows.within(OF_GENOME, int(self._genome[query]), block)
            if rank is None:
                own = self._known(query, own, block)
            elif (name := int(self._names[query, rank])) >= 0:
                line[self._rows.within(rank, name, block)] = -np.inf
            line[own] = -np.inf

    def _known(self, query: int, own: Labels, block: slice) -> Labels:
        """Of the rows of a query's own genome those that go where its species is known."""
        rows, places = self._rows, own + block.start
        near = (rows.entry[places] == self._entry[query]) & (
            (rows.start[places] < self._stop[query]) & (rows.stop[places] > self._start[query])
        )
        near |= rows.mean[places]
        self._parts[query] |= bool((~near).any())
        if self._strains[query]:
            return own[:0]
        return own if self._others[query] else own[near]

    def changed(self, vectors: Floats, strains: Floats | None) -> Floats:
        """The queries (q, dim) of known species."""
        return vectors if strains is None else np.where(self._strains[:, None], strains, vectors)


@dataclass
class _Best:
    """The best candidates so far: places (q, c) in the rows, -1 for none, and cosines."""

    places: Labels
    cosines: Floats

    def merge(self, cosines: Floats, first: int, queries: Labels) -> None:
        """Take in a block (q, r) of cosines, -inf for none, of some queries (q,) and rows from `first`."""
        width = self.places.shape[1]
        for row, line in zip(queries.tolist(), cosines, strict=True):
            better = np.flatnonzero(line > self.cosines[row, -1])
            if not better.size:
                continue
            if better.size > width:
                better = better[np.argpartition(-line[better], width - 1)[:width]]
            places = np.concatenate([self.places[row], better + first])
            values = np.concatenate([self.cosines[row], line[better]])
            order = np.lexsort((places, -values))[:width]
            self.places[row], self.cosines[row] = places[order], values[order]


def _nearest(
    index: Storage,
    rows: _Rows,
    asked: _Asked,
    vectors: Floats,
    strains: Floats | None,
    random: Floats | None,
) -> Iterator[tuple[str, Labels, Floats]]:
    """For every case the rows (q, POOL) nearest to the queries, and their cosine distances."""
    shape = (len(vectors), min(POOL, len(rows)))
    best = [_Best(np.full(shape, -1), np.full(shape, -np.inf, np.float32)) for _ in CASES]
    queries, known = _unit(vectors), _unit(asked.changed(vectors, strains))
    everybody = np.arange(len(vectors))
    drawn = queries if random is None else _unit(random)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = slice(start, min(len(rows), start + ROWS_AT_ONCE))
        here = _unit(index.rows.vectors[rows.labels[block]])
        for case, one in zip(CASES, best, strict=True):
            rank = HIDDEN[case]
            which = everybody if rank is None or rank >= FAMILY else np.flatnonzero(asked.possible(case))
            if rank in (None, SPECIES):
                cosines = (known if rank is None else queries) @ here.T
            # Each case takes out what the one before it has, and more.
            if case == NO_KIN:
                one.merge(drawn[which] @ here.T, start, which)
                continue
            part = cosines if len(which) == len(vectors) else cosines[which]
            asked.take_out(part, rank, block, which)
            one.merge(part, start, which)
    for case, one in zip(CASES, best, strict=True):
        there = one.places >= 0
        labels = np.where(there, rows.labels[one.places], -1)
        yield case, labels, np.where(there, np.maximum(1 - one.cosines, 0), np.float32(np.inf))


def _unit(vectors: Floats) -> Floats:
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)).astype(np.float32)
    return np.asarray(vectors / np.where(norms > 0, norms, 1)[:, None], dtype=np.float32)
