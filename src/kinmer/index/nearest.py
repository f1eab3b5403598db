"""The nearest rows of queries, and the nearest sequences or genomes that these are of.

An engine gives candidates; they and the rows that it does not cover are ordered by true distances. Where the
nearest rows are of too few groups, all rows are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kinmer.index.rows import GENOME, Rows
from kinmer.stores import Metric, VectorStore, distances_to, exact_search, sort_hits

if TYPE_CHECKING:
    from kinmer.index.database import Storage

__all__ = ["MEAN_BONUS", "MOST_ROWS", "Labels", "Merging", "first_of_each", "nearest_groups", "nearest_rows"]


Labels = NDArray[np.int64]
Vectors = NDArray[np.float32]
Bools = NDArray[np.bool_]

# A genome's mean vector counts as so much nearer than it is: it has less noise than a piece's. Measured on
# fragments of known genomes.
MEAN_BONUS = 0.01
# Where so few rows may be hits, looking at each is as fast as asking the engine.
FEW = 10_000
# The engine is asked again for so many times more where too few of its candidates may be hits.
WIDER, WIDEST = 4, 4096
# Numbers of candidates' vectors gathered together: 64 MB.
GATHERED = 1 << 24


class _Some:
    """Some rows of a mapped array, gathered as they are asked for."""

    def __init__(self, vectors: Vectors, rows: Labels) -> None:
        self._vectors, self._rows = vectors, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: Any) -> Vectors:
        return np.asarray(self._vectors[self._rows[which]])


def nearest_rows(
    rows: Rows,
    queries: Vectors,
    count: int,
    metric: Metric,
    usable: Bools,
    shut: Sequence[Labels] | None,
    *,
    store: VectorStore | None,
    covered: int,
) -> tuple[Labels, Vectors]:
    """The `count` nearest usable rows of every query (q, dim): rows and distances, by distance, then row.

    usable : (n,). shut : for every query rows that it does not get. store : an engine of the first `covered`
    rows, None to look at every row. Missing ones are -1 and inf.
    """
    more = 0 if shut is None else max(map(len, shut), default=0)
    asked = min(count + more, len(rows))
    found = np.full((len(queries), asked), -1, dtype=np.int64)
    far = np.full((len(queries), asked), np.inf, dtype=np.float32)
    # A query without direction is at cosine distance 1 from all: only looking at all gives their order.
    exact = np.zeros(len(queries), dtype=bool)
    if metric == "cosine":
        exact[:] = ~queries.any(axis=1)
    if store is None or int(usable.sum()) <= max(FEW, 2 * asked):
        exact[:] = True
    if asked and not exact.all():
        assert store is not None
        places = np.flatnonzero(~exact)
        found[places], far[places], short = _by_engine(
            rows, queries[places], asked, metric, usable, store, covered
        )
        exact[places[short]] = True
    if asked and exact.any():
        found[exact], far[exact] = _by_looking(rows, queries[exact], asked, metric, usable)
    if shut is not None:
        for place, barred in enumerate(shut):
            if barred.size:
                found[place][np.isin(found[place], barred)] = -1
        found, far = sort_hits(found, far, asked)
    return _widened(found[:, :count], far[:, :count], count)


def _by_looking(
    rows: Rows, queries: Vectors, count: int, metric: Metric, usable: Bools
) -> tuple[Labels, Vectors]:
    if usable.all():
        return exact_search(rows.vectors, None, queries, count, metric)
    some = np.flatnonzero(usable)
    return exact_search(_Some(rows.vectors, some), some, queries, count, metric)


def _by_engine(
    rows: Rows, queries: Vectors, count: int, metric: Metric, usable: Bools, store: VectorStore, covered: int
) -> tuple[Labels, Vectors, Bools]:
    """Rows, distances, and which queries found too few: for them every row has to be looked at."""
    found = np.full((len(queries), count), -1, dtype=np.int64)
    far = np.full((len(queries), count), np.inf, dtype=np.float32)
    late = np.flatnonzero(usable[covered:]) + covered
    behind = int(usable[:covered].sum())
    wide = min(len(store), max(2 * count, count + 16))
    left = np.arange(len(queries))
    while left.size:
        for start in range(0, len(left), max(1, GATHERED // (wide * queries.shape[1]))):
            part = left[start : start + max(1, GATHERED // (wide * queries.shape[1]))]
            found[part], far[part] = _candidates(
                rows, queries[part], count, metric, usable, store, covered, wide
            )
        lacking = (found[left] >= 0).sum(axis=1) < min(count, behind)
        left = left[lacking]
        if wide >= min(len(store), WIDEST):
            break
        wide = min(len(store), wide * WIDER)
    short = np.zeros(len(queries), dtype=bool)
    short[left] = True
    if late.size:
        new, new_far = exact_search(_Some(rows.vectors, late), late, queries, count, metric)
        found, far = np.concatenate([found, new], axis=1), np.concatenate([far, new_far], axis=1)
        found, far = sort_hits(found, far, count)
    return found, far, short


def _candidates(
    rows: Rows,
    asked: Vectors,
    count: int,
    metric: Metric,
    usable: Bools,
    store: VectorStore,
    covered: int,
    wide: int,
) -> tuple[Labels, Vectors]:
    """The usable ones among the engine's `wide` nearest, in order of their true distances."""
    labels, _ = store.search(asked, wide)
    # An engine may be ahead of what this reader knows, or of what a killed update has told.
    labels = np.where(labels < covered, labels, -1)
    labels = np.where((labels >= 0) & usable[labels], labels, -1)
    near = np.asarray(rows.vectors[labels.ravel()]).reshape(*labels.shape, -1)
    found, far = sort_hits(labels, distances_to(asked, near, metric), count)
    return _widened(found, np.where(found < 0, np.float32(np.inf), far), count)


def _widened(labels: Labels, far: Vectors, count: int) -> tuple[Labels, Vectors]:
    lacking = count - labels.shape[1]
    if lacking <= 0:
        return labels, far
    return (
        np.pad(labels, ((0, 0), (0, lacking)), constant_values=-1),
        np.pad(far, ((0, 0), (0, lacking)), constant_values=np.inf),
    )


def first_of_each(
    group: NDArray[np.int64], labels: Labels, far: Vectors, count: int
) -> tuple[NDArray[np.int64], Vectors, Labels]:
    """The nearest row of each group: groups, distances and rows (q, count), nearest first.

    group : (n,) of every row, -1 for none. labels, far : (q, c) rows in order of distance, -1 for none.
    """
    of = np.where(labels >= 0, group[labels], -1)
    # A group that came before in the same line is no news.
    order = np.argsort(of, axis=1, kind="stable")
    ranked = np.take_along_axis(of, order, axis=1)
    again = np.zeros_like(of, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    new = (of >= 0) & ~again
    place = np.argsort(~new, axis=1, kind="stable")[:, :count]
    there = np.take_along_axis(new, place, axis=1)
    shape = ((0, 0), (0, max(0, count - place.shape[1])))
    groups = np.where(there, np.take_along_axis(of, place, axis=1), -1)
    distances = np.where(there, np.take_along_axis(far, place, axis=1), np.float32(np.inf))
    rows = np.where(there, np.take_along_axis(labels, place, axis=1), -1)
    return (
        np.pad(groups, shape, constant_values=-1),
        np.pad(distances, shape, constant_values=np.inf),
        np.pad(rows, shape, constant_values=-1),
    )


# Above so many rows looking at each takes longer than anybody waits.
MOST_ROWS = 2_000_000
# Numbers held at once: 128 MB of cosines.
COSINES_AT_ONCE = 1 << 25
# Cosines in single precision are right to about so much; a group's rows within it are looked at again.
UNSURE = 1e-5
MARGIN = 8


def nearest_groups(
    rows: Rows,
    group: Labels,
    queries: Vectors,
    count: int,
    usable: NDArray[np.bool_],
    shut: Sequence[Labels] | None,
    favour: NDArray[np.float32],
) -> tuple[Labels, Vectors, Labels]:
    """The `count` nearest groups of every query (q, dim) by cosine: groups, distances, rows (q, count).

    group : (n,) of every row, -1 for none. usable : (n,). shut : rows that a query does not get.
    favour : (n,) what is taken off a row's distance. All usable rows are looked at. Missing ones are -1 and
    inf.
    """
    some = np.flatnonzero(usable & (group >= 0))
    some = some[np.argsort(group[some], kind="stable")]
    found = np.full((len(queries), count), -1, dtype=np.int64)
    far = np.full((len(queries), count), np.inf, dtype=np.float32)
    where = np.full((len(queries), count), -1, dtype=np.int64)
    if not len(some):
        return found, far, where
    starts = np.flatnonzero(np.r_[True, group[some][1:] != group[some][:-1]])
    block = max(1, COSINES_AT_ONCE // len(some))
    for start in range(0, len(queries), block):
        part = slice(start, start + block)
        barred = None if shut is None else shut[part]
        chosen = _near_rows(rows, some, starts, queries[part], count, barred, favour)
        for place, near in enumerate(chosen, start):
            asked = queries[place : place + 1]
            exact = distances_to(asked, np.asarray(rows.vectors[near])[None], "cosine")
            exact = np.maximum(exact - favour[near], 0)
            labels, exact = sort_hits(near[None], exact, len(near))
            found[place], far[place], where[place] = (
                one[0] for one in first_of_each(group, labels, exact, count)
            )
    return found, far, where


def _near_rows(
    rows: Rows,
    some: Labels,
    starts: NDArray[np.int64],
    queries: Vectors,
    count: int,
    shut: Sequence[Labels] | None,
    favour: NDArray[np.float32],
) -> Iterator[Labels]:
    """For every query rows among which the nearest ones of its nearest groups are."""
    cosines = _cosines(rows, some, queries, favour)
    if shut is not None:
        for line, barred in zip(cosines, shut, strict=True):
            line[np.isin(some, barred)] = -np.inf
    best = np.maximum.reduceat(cosines, starts, axis=1)
    stops = np.append(starts[1:], len(some))
    wanted = min(count + MARGIN, len(starts))
    least = -np.partition(-best, wanted - 1, axis=1)[:, wanted - 1]
    for line, tops, limit in zip(cosines, best, least, strict=True):
        near = np.flatnonzero((tops >= limit - UNSURE) & np.isfinite(tops))
        parts = [
            np.flatnonzero(line[starts[one] : stops[one]] >= tops[one] - UNSURE) + starts[one] for one in near
        ]
        yield some[np.concatenate([np.empty(0, np.int64), *parts])]


def _cosines(rows: Rows, some: Labels, queries: Vectors, favour: NDArray[np.float32]) -> NDArray[np.float32]:
    """(q, r) cosines in single precision, raised by what a row is favoured."""
    found = np.empty((len(queries), len(some)), dtype=np.float32)
    asked = _unit(queries)
    step = max(1, (1 << 24) // queries.shape[1])
    for start in range(0, len(some), step):
        part = some[start : start + step]
        found[:, start : start + step] = asked @ _unit(rows.vectors[part]).T + favour[part]
    return found


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1)[:, None], dtype=np.float32)


# Rows asked for at first where sequences have several each; so many times more where they do not suffice.
FEW_ROWS, WIDER_ROWS = 64, 4

Near = tuple[Labels, Vectors]


class Merging:
    """A search for sequences or genomes of one state of an index; see `KinIndex.search`."""

    def __init__(
        self,
        index: Storage,
        by: Literal["sequence", "genome"],
        metric: Metric,
        exclude: Labels | None,
        allowed: NDArray[np.bool_] | None,
    ) -> None:
        rows = index.rows
        if by == "sequence":
            allowed = rows.sequences if allowed is None else rows.sequences & allowed
        self._index, self._rows, self._by, self._metric = index, rows, by, metric
        self._exclude, self._allowed = exclude, allowed
        self._group = rows.entry if by == "sequence" else rows.genome
        self._groups = len(index) if by == "sequence" else int(index.table.state["genomes"])

    def search(self, queries: Vectors, k: int, begun: Near | None) -> tuple[Labels, Vectors, Labels]:
        """Numbers, distances and rows (q, k); begun : the nearest rows, where they are known already."""
        rows, most = self._rows, min(k, self._groups)
        count = most if rows.single else min(len(rows), max(FEW_ROWS, WIDER_ROWS * most))
        found = np.full((len(queries), k), -1, dtype=np.int64)
        far = np.full((len(queries), k), np.inf, dtype=np.float32)
        where = np.full((len(queries), k), -1, dtype=np.int64)
        left = np.arange(len(queries))
        while left.size:
            near = begun or self._nearest(queries[left], left, count)
            begun, count = None, near[0].shape[1]
            merged = first_of_each(self._group, *self._favoured(*near), most)
            found[left, :most], far[left, :most], where[left, :most] = merged
            # All rows have been given where one is missing.
            left = left[(merged[0] < 0).any(axis=1) & (near[0] >= 0).all(axis=1)]
            count = min(len(rows), count * WIDER_ROWS)
            if left.size and self._metric == "cosine" and len(rows) <= MOST_ROWS:
                found[left, :most], far[left, :most], where[left, :most] = self._all(
                    queries[left], left, most
                )
                break
        return found, far, where

    def _nearest(self, queries: Vectors, places: Labels, count: int) -> Near:
        shut = None if self._exclude is None else self._exclude[places]
        return self._index.nearest(queries, count, metric=self._metric, exclude=shut, allowed=self._allowed)

    def _favoured(self, near: Labels, distances: Vectors) -> Near:
        """Rows and distances anew, with those of genomes so much nearer as they count."""
        if self._by == "sequence" or self._metric != "cosine":
            return near, distances
        means = (near >= 0) & (self._rows.kinds[near] == GENOME)
        distances = np.where(means, np.maximum(distances - np.float32(MEAN_BONUS), 0), distances)
        order = np.argsort(distances, axis=1, kind="stable")
        return np.take_along_axis(near, order, 1), np.take_along_axis(distances, order, 1)

    def _all(self, queries: Vectors, places: Labels, count: int) -> tuple[Labels, Vectors, Labels]:
        """The nearest groups among all rows."""
        rows, shut = self._rows, None
        if self._exclude is not None:
            own = self._exclude[places]
            shut = rows.shut(own, self._index.entries(own))
        usable = rows.alive if self._allowed is None else rows.alive & self._allowed
        favour = np.where(rows.kinds == GENOME, np.float32(MEAN_BONUS), np.float32(0))
        return nearest_groups(rows, self._group, queries, count, usable, shut, favour)
