"""The nearest groups of rows, such as genomes, of queries whose nearest rows are of too few groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kinmer.index.rows import Rows
from kinmer.index.scanning import first_of_each
from kinmer.stores import distances_to, sort_hits

__all__ = ["MOST_ROWS", "nearest_groups"]

# Above so many rows looking at each takes longer than anybody waits.
MOST_ROWS = 2_000_000
# Numbers held at once: 128 MB of cosines.
COSINES_AT_ONCE = 1 << 25
# Cosines in single precision are right to about so much; a group's rows within it are looked at again.
UNSURE = 1e-5
MARGIN = 8

Labels = NDArray[np.int64]
Vectors = NDArray[np.float32]


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
