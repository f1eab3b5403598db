"""The nearest others of every point: exact for few points, by the fast engine for many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import UsageError
from kinmer.index import Storage
from kinmer.index.rows import PIECE, SHORT
from kinmer.index.rows import Rows as StoredRows
from kinmer.progress import step
from kinmer.resources import available_cores
from kinmer.stores import (
    VectorStore,
    distances_to,
    engine,
    exact_search,
    near_together,
    row_distances,
    sort_hits,
)
from kinmer.stores.exact import join_hits
from kinmer.vectors.points import BLOCK_ROWS, Vectors

# Up to here every pair is looked at: seconds, and the graph is the true one.
EXACT_BELOW = 20_000
# Queries whose candidates' vectors are gathered together.
QUERY_BLOCK = 256
# From so many searches on they are put in order.
ORDERED_FROM = 50_000
# Points that an engine takes in at once.
BUILD_BLOCK = 1 << 16
# Where fewer than this share of an engine's points may be neighbors, an engine of these alone is built.
REBUILD = 0.6
# The widest search for those that may be, and rows that are searched so together.
WIDEST, SIFT_BLOCK = 256, 1024
# Candidates beyond k: rounded distances may put the last ones in another order.
MARGIN = 16
# Candidates beyond those wanted where the engine of an index holds more than its points.
SPARE = 16
Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Graph:
    """The k nearest others of points `rows` (m,), among all n.

    indices : (m, k) int32 rows of the points, the nearest first, never the point itself; -1 where there are
        fewer others. distances : (m, k) float32, infinite there. exact : every pair was looked at.
    """

    rows: Rows
    indices: NDArray[np.int32]
    distances: Floats
    points: int
    exact: bool

    @property
    def k(self) -> int:
        """Neighbors of a point."""
        return int(self.indices.shape[1])

    def in_degree(self, k: int | None = None) -> Rows:
        """(points,) among how many of `rows`' k nearest every point is."""
        near = self.indices[:, :k]
        return np.bincount(near[near >= 0], minlength=self.points)


def neighbor_graph(
    points: Vectors,
    k: int,
    *,
    rows: Rows | None = None,
    exact: bool | None = None,
    true_distances: bool = True,
    threads: int | None = None,
) -> Graph:
    """The k nearest others of every point, or of `rows`, by the points' metric.

    exact : look at every pair; None: where there are at most `EXACT_BELOW` points. Else the engine of the
        index is asked, or one that is built for the purpose, whose memory is .6 to .9 kB a point at 384
        dimensions (HNSW over float16, Malkov and Yashunin 2018).
    true_distances : distances of the engine's candidates are computed again from the vectors, which are
        copied into an unnamed file where they are neither in memory nor mapped; without, they are the
        engine's there, and its graph is searched narrowly, which is enough for a map.

    Deterministic for few points; above 50,000 the engine's graph depends on the threads' timing.

    Raises UsageError for k < 1, and what reading the points raises.
    """
    with Neighbors(points, exact=exact, true_distances=true_distances, threads=threads) as neighbors:
        return neighbors.graph(k, rows=rows)


class Neighbors:
    """Searches for the nearest others of points, more than once; settings as of `neighbor_graph`.

    Keeps the vectors, or the engine that it built, between searches; a context manager.
    """

    def __init__(
        self,
        points: Vectors,
        *,
        exact: bool | None = None,
        true_distances: bool = True,
        threads: int | None = None,
    ) -> None:
        self.exact = len(points) <= EXACT_BELOW if exact is None else exact
        self._points, self._true, self._threads = points, true_distances, threads
        index = points.index
        # Points are whole sequences; an engine that holds pieces of them, or not all, is of no use.
        fits = index and points.metric == index.metric and not np.isin(index.rows.kinds, (PIECE, SHORT)).any()
        self._index = index if fits else None
        self._vectors: Floats | None = None
        self._store: VectorStore | _Indexed | None = None
        self._open = ExitStack()
        # Points that a search looks at.
        self._size = len(points)

    def __enter__(self) -> Neighbors:
        return self

    def __exit__(self, *error: object) -> None:
        self._forget()

    def _forget(self) -> None:
        self._open.close()
        self._store = self._vectors = None

    def graph(self, k: int, *, rows: Rows | None = None, among: NDArray[np.bool_] | None = None) -> Graph:
        """The k nearest others of every point, or of `rows`.

        among : (n,) bool, the points that may be neighbors; where the engine holds many others, a row whose
            `WIDEST` nearest are too few of these has fewer than k.

        Raises UsageError for k < 1, and what reading the points raises.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        wanted = np.arange(len(self._points)) if rows is None else np.asarray(rows, np.int64)
        near = np.full((wanted.size, k), -1, np.int32)
        distances = np.full((wanted.size, k), np.inf, np.float32)
        graph = Graph(wanted, near, distances, len(self._points), self.exact)
        if len(self._points) < 2 or not wanted.size:
            return graph
        if self.exact:
            self._compare_all(graph, among)
            return graph
        if among is not None and among.sum() < REBUILD * self._size:
            self._build(np.flatnonzero(among))
        elif self._store is None:
            self._store = self._of_index()
            if self._store is None:
                self._build(None)
        if among is None:
            few = min(k, self._size - 1)
            order = self._local(wanted)
            for part, block in self._asked(wanted[order]):
                hits = self._search(block, wanted[order[part]], few, few)
                near[order[part], :few], distances[order[part], :few] = hits
        else:
            self._sift(graph, among)
        return graph

    def _asked(self, rows: Rows) -> Iterator[tuple[slice, Floats]]:
        """Positions among `rows` and vectors of block after block."""
        with step("Neighbors", rows.size) as progress:
            for start in range(0, rows.size, BLOCK_ROWS):
                part = slice(start, min(start + BLOCK_ROWS, rows.size))
                yield part, self._points.take(rows[part])
                progress.advance(part.stop - start)

    def _local(self, rows: Rows) -> Rows:
        """Positions of rows (m,) in an order in which near ones follow one another: faster to search for."""
        held = self._points.array
        if held is None or rows.size < ORDERED_FROM:
            return np.arange(rows.size)
        return near_together(np.arange(rows.size), lambda at: held[rows[at]], self._points.metric)

    def _compare_all(self, graph: Graph, among: NDArray[np.bool_] | None) -> None:
        if self._vectors is None:
            self._vectors = np.empty((len(self._points), self._points.dim), np.float32)
            for start, block in self._points.blocks():
                self._vectors[start : start + len(block)] = block
        labels = None if among is None else np.flatnonzero(among)
        vectors = self._vectors if labels is None else self._vectors[labels]
        few = min(graph.k, len(vectors))
        for part, block in self._asked(graph.rows):
            near, distances = exact_search(vectors, labels, block, few + 1, self._points.metric)
            near, distances = _others(near, distances, graph.rows[part], few)
            graph.indices[part, :few], graph.distances[part, :few] = near, distances

    def _search(
        self, block: Floats, own: Rows, k: int, width: int, among: NDArray[np.bool_] | None = None
    ) -> tuple[Rows, Floats]:
        """The k nearest others (q, k) of points `own` (q,) with vectors `block`; -1 for none.

        width : so many others are looked at for those `among`.
        """
        assert self._store is not None
        measured = self._true or self._points.array is not None
        more = MARGIN if measured else 0
        near, distances = self._store.search(block, min(width + 1 + more, self._size), narrow=not self._true)
        barred = near == own[:, None]
        if among is not None:
            barred |= ~among[near]
        # Among many equal points the point itself may not be among those found.
        near, distances = _closed(np.where(barred, -1, near), distances, k + more)
        if not measured:
            return near, distances
        return sort_hits(near, _measured(self._points, block, near, self._threads or available_cores()), k)

    def _of_index(self) -> _Indexed | None:
        """The engine of the index, where it covers enough of it."""
        if self._index is None:
            return None
        with self._index.reading():
            store, covered = self._index.opened_engine()
            if store is None or covered < REBUILD * len(self._index.rows):
                return None
            return _Indexed(self._index)

    def _sift(self, graph: Graph, among: NDArray[np.bool_]) -> None:
        """Wider and wider searches, until k of every row's nearest are among those."""
        left, width = np.arange(graph.rows.size), graph.k
        while left.size:
            width = min(2 * width, WIDEST)
            for start in range(0, left.size, SIFT_BLOCK):
                part = left[start : start + SIFT_BLOCK]
                own = graph.rows[part]
                hits = self._search(self._points.take(own), own, graph.k, width, among)
                graph.indices[part], graph.distances[part] = hits
            if width == WIDEST or width >= self._size:
                return
            left = left[graph.indices[left, -1] < 0]

    def _build(self, rows: Rows | None) -> None:
        """An engine over all points, or over `rows`, in memory."""
        self._forget()
        if self._true:
            self._points = self._points.mapped()
        points = self._points
        labels = np.arange(len(points)) if rows is None else rows
        self._size = labels.size
        folder = self._open.enter_context(tempfile.TemporaryDirectory())
        store = engine("hnsw").create(folder, dim=points.dim, metric=points.metric, threads=self._threads)
        self._open.callback(store.close)
        with step("Building the neighbor graph", self._size) as progress:
            for start in range(0, self._size, BUILD_BLOCK):
                part = labels[start : start + BUILD_BLOCK]
                whole = rows is None
                store.add(part, points.read(start, start + part.size) if whole else points.take(part))
                progress.advance(part.size)
        self._store = store


def _others(near: Rows, distances: Floats, own: Rows, k: int) -> tuple[Rows, Floats]:
    """The first k that are not the point itself; among many equal points it may not be one of them."""
    return sort_hits(np.where(near == own[:, None], -1, near), distances, k)


class _Indexed:
    """The engine of an index of whole sequences, asked for points instead of rows.

    What it holds of genomes, and of entries deleted since it was brought up to date, is passed over; rows
    that it does not cover yet are looked at.
    """

    def __init__(self, index: Storage) -> None:
        self._index, self._numbers = index, index.numbers
        self._rows, self._covered = index.rows, -1

    def search(self, queries: Floats, k: int, *, narrow: bool) -> tuple[Rows, Floats]:
        """The k nearest points of every query (q, dim), and distances (q, k), sorted; -1 and inf for none.

        narrow : as of `VectorStore.search`.
        """
        index = self._index
        with index.reading():
            store, covered = index.opened_engine()
            if index.rows is not self._rows or covered != self._covered:
                self._know(index.rows, covered)
            if store is None:
                rows, distances = index.nearest(queries, k, allowed=self._point[:-1] >= 0)
                return self._point[rows], distances
            dead = max(0, len(store) - self._alive)
            spare = SPARE + k * dead // max(1, self._alive) if dead else 0
            rows, distances = store.search(queries, min(len(store), k + spare), narrow=narrow)
            # An engine may be ahead of what is known of its index.
            near = self._point[np.where(rows < covered, rows, -1)]
            near, distances = _closed(near, distances, k)
            if self._late.size:
                more = exact_search(self._vectors, self._late, queries, k, index.metric)
                near, distances = join_hits((near, distances), more, k)
            short = np.flatnonzero((near < 0).any(axis=1)) if dead else np.empty(0, np.int64)
            if short.size:
                rows, distances[short] = index.nearest(queries[short], k, allowed=self._point[:-1] >= 0)
                near[short] = self._point[rows]
            return near, distances

    def _know(self, rows: StoredRows, covered: int) -> None:
        """The point of every row, -1 for none and behind the last; those that the engine does not cover."""
        wholes = rows.wholes()
        numbers = rows.entry[wholes]
        at = np.minimum(np.searchsorted(self._numbers, numbers), len(self._numbers) - 1)
        self._point = np.full(len(rows) + 1, -1, np.int64)
        self._point[wholes] = np.where(self._numbers[at] == numbers, at, -1)
        late = np.flatnonzero(self._point[covered:] >= 0) + covered
        order = np.argsort(self._point[late])
        self._late, self._vectors = self._point[late[order]], np.asarray(rows.vectors[late[order]])
        self._alive = int((self._point >= 0).sum()) - late.size
        self._rows, self._covered = rows, covered


def _closed(near: Rows, distances: Floats, k: int) -> tuple[Rows, Floats]:
    """The first k of every row without those that are -1, which come last at an infinite distance."""
    order = np.argsort(near < 0, axis=1, kind="stable")[:, :k]
    near, distances = np.take_along_axis(near, order, 1), np.take_along_axis(distances, order, 1)
    distances[near < 0] = np.inf
    missing = ((0, 0), (0, max(0, k - near.shape[1])))
    return np.pad(near, missing, constant_values=-1), np.pad(distances, missing, constant_values=np.inf)


def _measured(points: Vectors, asked: Floats, near: Rows, threads: int) -> Floats:
    """True distances (q, m) of the candidates; of those that are -1 nothing is known."""
    distances = np.empty(near.shape, np.float32)
    held = points.array
    if held is None or held.dtype != np.float32:
        # Every point among the candidates is read once.
        for start in range(0, len(asked), QUERY_BLOCK):
            part = slice(start, start + QUERY_BLOCK)
            rows, position = np.unique(np.maximum(near[part], 0), return_inverse=True)
            theirs = points.take(rows)[position.ravel()].reshape(*near[part].shape, points.dim)
            distances[part] = distances_to(asked[part], theirs, points.metric)
        return distances
    vectors = np.asarray(held)

    def measured(start: int) -> None:
        part = slice(start, start + QUERY_BLOCK)
        distances[part] = row_distances(asked[part], vectors, near[part], points.metric)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(measured, range(0, len(asked), QUERY_BLOCK)))
    return distances
