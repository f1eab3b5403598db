"""The nearest rows of queries, and the nearest sequences or genomes that these are of.

An engine gives candidates. They and the rows that it does not cover are ordered by true distances. Where the
nearest rows are of too few groups, all rows are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinmer.index.rows import GENOME, KeptVectors, Rows, scales_of
from kinmer.stores import Metric, VectorStore, exact_search, row_distances, sort_hits

Labels = NDArray[np.int64]
Vectors = NDArray[np.float32]
Bools = NDArray[np.bool_]

# A genome's mean vector counts as so much nearer than it is: it has less noise than a piece's. Measured on
# fragments of known genomes.
MEAN_BONUS = 0.01
# Where so few rows may be hits, looking at each is as fast as asking the engine.
FEW = 10_000
# Queries that are near enough to each other to be asked in any order.
ALIKE = 16
# The engine is asked again for so many times more where too few of its candidates may be hits.
WIDER, WIDEST = 4, 4096
# Candidates that are asked for together.
TOGETHER = 1 << 22
# Rows asked for at first where sequences have several each; so many times more where they do not suffice.
FEW_ROWS, WIDER_ROWS = 64, 4
# Up to so many rows looking at each is faster than asking an engine for many more of them, and above so many
# it takes longer than anybody waits.
QUICK_ROWS, MOST_ROWS = 1 << 17, 2_000_000
# Numbers held at once: 128 MB of cosines.
COSINES_AT_ONCE = 1 << 25
# Cosines in single precision are right to about so much; a group's rows within it are looked at again.
UNSURE = 1e-5
MARGIN = 8


class Near(NamedTuple):
    """Rows (q, c) by distance, then row, and distances (q, c); -1 and inf where there are none."""

    rows: Labels
    distances: Vectors


class Groups(NamedTuple):
    """Groups (q, k), nearest first, their distances and nearest rows (q, k); -1 and inf for none."""

    groups: Labels
    distances: Vectors
    rows: Labels


class _Some:
    """Some rows of a mapped array, gathered as they are asked for."""

    def __init__(self, vectors: KeptVectors, rows: Labels) -> None:
        self._vectors, self._rows = vectors, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: Any) -> Vectors:
        return np.asarray(self._vectors[self._rows[which]])


@dataclass(frozen=True)
class Scan:
    """One search among the rows of one state of an index.

    usable : (n,) rows that may be hits. excluded : for every query rows that it does not get. store : an
    engine of the first `covered` rows, None to look at every row.
    """

    rows: Rows
    metric: Metric
    usable: Bools
    excluded: Sequence[Labels] | None = None
    store: VectorStore | None = None
    covered: int = 0

    def nearest(self, queries: Vectors, count: int) -> Near:
        """The `count` nearest usable rows of every query (q, dim)."""
        more = 0 if self.excluded is None else max(map(len, self.excluded), default=0)
        asked = min(count + more, len(self.rows))
        near = _nothing(len(queries), asked)
        # A query without direction is at cosine distance 1 from all: only looking at all gives their order.
        exact = np.zeros(len(queries), dtype=bool)
        if self.metric == "cosine":
            exact[:] = ~queries.any(axis=1)
        if self.store is None or int(self.usable.sum()) <= max(FEW, 2 * asked):
            exact[:] = True
        if asked and not exact.all():
            some = np.flatnonzero(~exact)
            # One after the other such queries meet the same rows, which are at hand then: .8 of the time.
            some = some[alike_first(queries[some])]
            near.rows[some], near.distances[some], short = self._by_engine(queries[some], asked)
            exact[some[short]] = True
        if asked and exact.any():
            near.rows[exact], near.distances[exact] = self._by_looking(queries[exact], asked)
        if self.excluded is not None:
            for line, barred in zip(near.rows, self.excluded, strict=True):
                line[np.isin(line, barred)] = -1
            near = Near(*sort_hits(*near, asked))
        return _widened(near.rows[:, :count], near.distances[:, :count], count)

    def groups(
        self, by: Literal["sequence", "genome"], queries: Vectors, k: int, most: int, near: Near | None
    ) -> Groups:
        """The k nearest sequences or genomes, of which there are `most`; `near`: nearest rows, if known."""
        rows, most = self.rows, min(k, most)
        group = rows.entry if by == "sequence" else rows.genome
        favored = by == "genome" and self.metric == "cosine"
        count = most if rows.single else min(len(rows), max(FEW_ROWS, WIDER_ROWS * most))
        result = Groups(*_nothing(len(queries), k), np.full((len(queries), k), -1, dtype=np.int64))
        left = np.arange(len(queries))
        while left.size:
            near = near or self._of(left).nearest(queries[left], count)
            merged = first_of_each(group, *(self._favored(near) if favored else near), most)
            _put(result, left, merged)
            # All rows have been given where one is missing.
            left = left[(merged.groups < 0).any(axis=1) & (near.rows >= 0).all(axis=1)]
            count, near = min(len(rows), near.rows.shape[1] * WIDER_ROWS), None
            most_rows = MOST_ROWS if count > WIDEST else QUICK_ROWS
            if left.size and self.metric == "cosine" and len(rows) <= most_rows:
                bonus = np.where(rows.kinds == GENOME, np.float32(MEAN_BONUS), np.float32(0))
                excluded = self._of(left).excluded
                _put(
                    result,
                    left,
                    nearest_groups(rows, group, queries[left], most, self.usable, excluded, bonus),
                )
                break
        return result

    def _of(self, queries: Labels) -> Scan:
        """The same search of some of the queries."""
        excluded = None if self.excluded is None else [self.excluded[query] for query in queries]
        return replace(self, excluded=excluded)

    def _by_looking(self, queries: Vectors, count: int) -> tuple[Labels, Vectors]:
        if self.usable.all():
            return exact_search(self.rows.vectors, None, queries, count, self.metric)
        some = np.flatnonzero(self.usable)
        return exact_search(_Some(self.rows.vectors, some), some, queries, count, self.metric)

    def _by_engine(self, queries: Vectors, count: int) -> tuple[Labels, Vectors, Bools]:
        """Rows, distances, and which queries got too few: for them every row has to be looked at."""
        assert self.store is not None
        near = _nothing(len(queries), count)
        late = np.flatnonzero(self.usable[self.covered :]) + self.covered
        behind = int(self.usable[: self.covered].sum())
        wide = min(len(self.store), max(2 * count, count + 16))
        left = np.arange(len(queries))
        while left.size:
            at_once = max(1, TOGETHER // wide)
            for start in range(0, len(left), at_once):
                part = left[start : start + at_once]
                near.rows[part], near.distances[part] = self._candidates(queries[part], count, wide)
            left = left[(near.rows[left] >= 0).sum(axis=1) < min(count, behind)]
            if wide >= min(len(self.store), WIDEST):
                break
            wide = min(len(self.store), wide * WIDER)
        short = np.zeros(len(queries), dtype=bool)
        short[left] = True
        if late.size:
            new = exact_search(_Some(self.rows.vectors, late), late, queries, count, self.metric)
            rows, distances = (np.concatenate([near[at], new[at]], axis=1) for at in (0, 1))
            near = Near(*sort_hits(rows, distances, count))
        return *near, short

    def _candidates(self, queries: Vectors, count: int, wide: int) -> Near:
        """The usable ones among the engine's `wide` nearest, in order of their true distances."""
        assert self.store is not None
        labels, _ = self.store.search(queries, wide)
        # An engine may be ahead of what this reader knows, or of what a killed update has noted.
        labels = np.where(labels < self.covered, labels, -1)
        labels = np.where((labels >= 0) & self.usable[labels], labels, -1)
        distances = row_distances(queries, self.rows.vectors, labels, self.metric)
        labels, distances = sort_hits(labels, distances, count)
        return _widened(labels, np.where(labels < 0, np.float32(np.inf), distances), count)

    def _favored(self, near: Near) -> Near:
        """Rows in the order of the distances that count, those of genomes' vectors being so much nearer."""
        means = (near.rows >= 0) & (self.rows.kinds[near.rows] == GENOME)
        nearer = np.maximum(near.distances - np.float32(MEAN_BONUS), 0)
        distances = np.where(means, nearer, near.distances)
        order = np.argsort(distances, axis=1, kind="stable")
        return Near(np.take_along_axis(near.rows, order, 1), np.take_along_axis(distances, order, 1))


def alike_first(vectors: Vectors) -> Labels:
    """An order of vectors (n, dim) in which those that are alike follow each other.

    Halves by the number that varies most, and halves of these.
    """
    if len(vectors) <= ALIKE:
        return np.arange(len(vectors))
    order = np.argsort(vectors[:, vectors.var(axis=0).argmax()], kind="stable")
    halves = np.array_split(order, 2)
    return np.concatenate([half[alike_first(vectors[half])] for half in halves])


def _nothing(queries: int, count: int) -> Near:
    return Near(
        np.full((queries, count), -1, dtype=np.int64), np.full((queries, count), np.inf, dtype=np.float32)
    )


def _put(result: Groups, which: Labels, some: Groups) -> None:
    """Write the groups of some queries into those of all."""
    width = some.groups.shape[1]
    result.groups[which, :width], result.distances[which, :width] = some.groups, some.distances
    result.rows[which, :width] = some.rows


def _widened(labels: Labels, distances: Vectors, count: int) -> Near:
    shape = ((0, 0), (0, max(0, count - labels.shape[1])))
    return Near(np.pad(labels, shape, constant_values=-1), np.pad(distances, shape, constant_values=np.inf))


def first_of_each(group: Labels, labels: Labels, distances: Vectors, count: int) -> Groups:
    """The nearest row of each group, nearest first.

    group : (n,) of every row, -1 for none. labels, distances : (q, c) rows in order of distance, -1 for none.
    """
    of = np.where(labels >= 0, group[labels], -1)
    # A group that came before in the same line is no news.
    order = np.argsort(of, axis=1, kind="stable")
    ranked = np.take_along_axis(of, order, axis=1)
    again = np.zeros_like(of, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    new = (of >= 0) & ~again
    columns = np.argsort(~new, axis=1, kind="stable")[:, :count]
    there = np.take_along_axis(new, columns, axis=1)
    shape = ((0, 0), (0, max(0, count - columns.shape[1])))

    def kept(values: NDArray[Any], nothing: Any) -> NDArray[Any]:
        some = np.where(there, np.take_along_axis(values, columns, axis=1), nothing)
        return np.pad(some, shape, constant_values=nothing)

    return Groups(kept(of, -1), kept(distances, np.float32(np.inf)), kept(labels, -1))


def nearest_groups(
    rows: Rows,
    group: Labels,
    queries: Vectors,
    count: int,
    usable: Bools,
    excluded: Sequence[Labels] | None,
    bonus: Vectors,
) -> Groups:
    """The `count` nearest groups of every query (q, dim) by cosine, all usable rows being looked at.

    group : (n,) of every row, -1 for none. usable : (n,). excluded : rows that a query does not get.
    bonus : (n,) what is taken off a row's distance.
    """
    some = np.flatnonzero(usable & (group >= 0))
    some = some[np.argsort(group[some], kind="stable")]
    result = Groups(*_nothing(len(queries), count), np.full((len(queries), count), -1, dtype=np.int64))
    if not len(some):
        return result
    starts = np.flatnonzero(np.r_[True, group[some][1:] != group[some][:-1]])
    block = max(1, COSINES_AT_ONCE // len(some))
    for start in range(0, len(queries), block):
        part = slice(start, start + block)
        cosines = _cosines(rows, some, queries[part], bonus)
        for line, barred in zip(cosines, excluded[part] if excluded is not None else (), strict=False):
            line[np.isin(some, barred)] = -np.inf
        lists = list(_near_rows(cosines, some, starts, count))
        near = np.full((len(lists), max(map(len, lists))), -1, dtype=np.int64)
        for line, own in zip(near, lists, strict=True):
            line[: len(own)] = own
        exact = np.maximum(row_distances(queries[part], rows.vectors, near, "cosine") - bonus[near], 0)
        near, exact = sort_hits(near, exact, near.shape[1])
        _put(result, np.arange(start, start + len(near)), first_of_each(group, near, exact, count))
    return result


def _near_rows(cosines: Vectors, some: Labels, starts: Labels, count: int) -> Iterator[Labels]:
    """For every query rows among which the nearest ones of its nearest groups are.

    cosines : (q, r) of the rows `some` (r,), which stand group by group from `starts` on.
    """
    best = np.maximum.reduceat(cosines, starts, axis=1)
    stops = np.append(starts[1:], len(some))
    wanted = min(count + MARGIN, len(starts))
    least = -np.partition(-best, wanted - 1, axis=1)[:, wanted - 1]
    for line, tops, limit in zip(cosines, best, least, strict=True):
        near = np.flatnonzero((tops >= limit - UNSURE) & np.isfinite(tops))
        parts = [
            np.flatnonzero(line[starts[at] : stops[at]] >= tops[at] - UNSURE) + starts[at] for at in near
        ]
        yield some[np.concatenate([np.empty(0, np.int64), *parts])]


def _cosines(rows: Rows, some: Labels, queries: Vectors, bonus: Vectors) -> Vectors:
    """(q, r) cosines in single precision, raised by a row's bonus."""
    cosines = np.empty((len(queries), len(some)), dtype=np.float32)
    unit = _unit(queries)
    step = max(1, (1 << 22) // queries.shape[1])
    for start in range(0, len(some), step):
        part = some[start : start + step]
        # Rows in a row are read where they stand.
        ahead = part[-1] - part[0] == len(part) - 1 and (np.diff(part) == 1).all()
        vectors = rows.vectors[part[0] : part[-1] + 1] if ahead else rows.vectors[part]
        cosines[:, start : start + step] = unit @ vectors.T * rows.scales[part] + bonus[part]
    return cosines


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors * scales_of(vectors)[:, None], dtype=np.float32)
