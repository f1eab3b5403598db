"""The nearest rows of queries: the engine's candidates and what it does not cover, by true distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.index.rows import Rows
from kinmer.stores import Metric, VectorStore, distances_to, exact_search, sort_hits

__all__ = ["Labels", "first_of_each", "nearest_rows"]

Labels = NDArray[np.int64]
Vectors = NDArray[np.float32]
Bools = NDArray[np.bool_]

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
