"""The nearest others of every point: exact for few points, by the fast engine for many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import UsageError
from kinmer.progress import step
from kinmer.stores import VectorStore, distances_to, engine, exact_search, sort_hits
from kinmer.vectors.points import BLOCK_ROWS, Space

__all__ = ["EXACT_BELOW", "Graph", "Neighbors", "neighbour_graph"]


# Up to here every pair is looked at: seconds, and the graph is the true one.
EXACT_BELOW = 20_000
# Queries whose candidates' vectors are gathered together.
QUERY_BLOCK = 256
# Points that an engine takes in at once.
BUILD_BLOCK = 1 << 16
# Where fewer than this share of an engine's points may be neighbors, an engine of these alone is built.
REBUILD = 0.6
# The widest search for those that may be, and rows that are searched so together.
WIDEST, SIFT_BLOCK = 256, 1024
# Candidates beyond k: rounded distances may put the last ones in another order.
MARGIN = 8


@dataclass(frozen=True)
class Graph:
    """The k nearest others of points `rows` (m,), among all n.

    indices : (m, k) int32 rows of the points, the nearest first, never the point itself; -1 where there are
        fewer others. distances : (m, k) float32, infinite there. exact : every pair was looked at.
    """

    rows: NDArray[np.int64]
    indices: NDArray[np.int32]
    distances: NDArray[np.float32]
    points: int
    exact: bool

    @property
    def k(self) -> int:
        """Neighbours of a point."""
        return int(self.indices.shape[1])

    def in_degree(self, k: int | None = None) -> NDArray[np.int64]:
        """(points,) among how many of `rows`' k nearest every point is."""
        found = self.indices[:, :k]
        return np.bincount(found[found >= 0], minlength=self.points)


def neighbour_graph(
    space: Space,
    k: int,
    *,
    rows: NDArray[np.int64] | None = None,
    exact: bool | None = None,
    true_distances: bool = True,
    threads: int | None = None,
) -> Graph:
    """The k nearest others of every point, or of `rows`, by the space's metric.

    exact : look at every pair; None: where there are at most `EXACT_BELOW` points. Else the engine of the
        index is asked, or one that is built for the purpose, whose memory is about 1.1 kB a point at 384
        dimensions (HNSW over float16, Malkov and Yashunin 2018).
    true_distances : distances of the engine's candidates are computed anew from the vectors; without, they
        are those of vectors rounded to float16 (l2: float32), which is enough for a map.

    Deterministic for few points; above 50,000 the engine's graph depends on the threads' timing.

    Raises UsageError for k < 1, and what reading the points raises.
    """
    with Neighbors(space, exact=exact, true_distances=true_distances, threads=threads) as neighbors:
        return neighbors.graph(k, rows=rows)


class Neighbors:
    """Searches for the nearest others of points, more than once; settings as of `neighbour_graph`.

    Keeps the vectors, or the engine that it built, between searches; a context manager.
    """

    def __init__(
        self,
        space: Space,
        *,
        exact: bool | None = None,
        true_distances: bool = True,
        threads: int | None = None,
    ) -> None:
        self.exact = len(space) <= EXACT_BELOW if exact is None else exact
        self._space, self._true, self._threads = space, true_distances, threads
        index = space.index
        self._index = index if index and space.metric == index.metric and index.engine != "exact" else None
        self._vectors: NDArray[np.float32] | None = None
        self._store: VectorStore | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        # Points that a search looks at.
        self._points = len(space)

    def __enter__(self) -> Neighbors:
        return self

    def __exit__(self, *error: object) -> None:
        self._forget()

    def graph(
        self, k: int, *, rows: NDArray[np.int64] | None = None, among: NDArray[np.bool_] | None = None
    ) -> Graph:
        """The k nearest others of every point, or of `rows`.

        among : (n,) bool, the points that may be neighbors; where the engine holds many others, a row whose
            `WIDEST` nearest are too few of these has fewer than k.

        Raises UsageError for k < 1, and what reading the points raises.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        wanted = np.arange(len(self._space)) if rows is None else np.asarray(rows, np.int64)
        near = np.full((wanted.size, k), -1, np.int32)
        far = np.full((wanted.size, k), np.inf, np.float32)
        graph = Graph(wanted, near, far, len(self._space), self.exact)
        if len(self._space) < 2 or not wanted.size:
            return graph
        if self.exact:
            self._look_at_all(graph, among)
            return graph
        if among is not None and among.sum() < REBUILD * self._points:
            self._build(np.flatnonzero(among))
        elif self._index is None and self._store is None:
            self._build(None)
        if among is None:
            few = min(k, self._points - 1)
            for part, block in _asked(self._space, wanted):
                near[part, :few], far[part, :few] = self._search(block, wanted[part], few)
        else:
            self._sift(graph, among)
        return graph

    def _look_at_all(self, graph: Graph, among: NDArray[np.bool_] | None) -> None:
        if self._vectors is None:
            self._vectors = _all(self._space)
        labels = None if among is None else np.flatnonzero(among)
        vectors = self._vectors if labels is None else self._vectors[labels]
        few = min(graph.k, len(vectors))
        for part, block in _asked(self._space, graph.rows):
            found, distances = exact_search(vectors, labels, block, few + 1, self._space.metric)
            near, far = _others(found, distances, graph.rows[part], few)
            graph.indices[part, :few], graph.distances[part, :few] = near, far

    def _search(
        self, block: NDArray[np.float32], own: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k nearest others (q, k) of points `own` (q,) with vectors `block`; -1 for none."""
        if self._store is None:
            assert self._index is not None
            numbers = self._index.numbers
            found, distances, _ = self._index.search(block, k, exclude=numbers[own])
            return np.where(found < 0, -1, np.searchsorted(numbers, found)), distances
        margin = MARGIN if self._true else 0
        found, distances = self._store.search(block, min(k + 1 + margin, self._points))
        if self._true:
            found, distances = _measured(self._space, block, found)
        found, distances = _others(found, distances, own, k)
        if found.shape[1] < k:
            missing = ((0, 0), (0, k - found.shape[1]))
            found = np.pad(found, missing, constant_values=-1)
            distances = np.pad(distances, missing, constant_values=np.inf)
        return found, distances

    def _sift(self, graph: Graph, among: NDArray[np.bool_]) -> None:
        """Wider and wider searches, until k of every row's nearest are among those."""
        left, width = np.arange(graph.rows.size), graph.k
        while left.size:
            width = min(2 * width, WIDEST)
            for start in range(0, left.size, SIFT_BLOCK):
                part = left[start : start + SIFT_BLOCK]
                own = graph.rows[part]
                found, distances = self._search(self._space.take(own), own, width)
                found = np.where((found >= 0) & among[np.maximum(found, 0)], found, -1)
                graph.indices[part], graph.distances[part] = sort_hits(found, distances, graph.k)
            if width == WIDEST or width >= self._points:
                return
            left = left[graph.indices[left, -1] < 0]

    def _build(self, rows: NDArray[np.int64] | None) -> None:
        """An engine over all points, or over `rows`, in memory."""
        self._forget()
        if self._true:
            self._space = self._space.mapped()
        space, self._scratch = self._space, tempfile.TemporaryDirectory()
        self._points = len(space) if rows is None else rows.size
        store = engine("hnsw").create(
            self._scratch.name, dim=space.dim, metric=space.metric, threads=self._threads
        )
        with step("Building the neighbour graph", self._points) as progress:
            for start in range(0, self._points, BUILD_BLOCK):
                stop = min(start + BUILD_BLOCK, self._points)
                block = space.read(start, stop) if rows is None else space.take(rows[start:stop])
                store.add(np.arange(start, stop) if rows is None else rows[start:stop], block)
                progress.advance(stop - start)
        self._store = store

    def _forget(self) -> None:
        if self._store is not None:
            self._store.close()
        if self._scratch is not None:
            self._scratch.cleanup()
        self._store = self._scratch = self._vectors = None


def _all(space: Space) -> NDArray[np.float32]:
    vectors = np.empty((len(space), space.dim), np.float32)
    for start, block in space.blocks():
        vectors[start : start + len(block)] = block
    return vectors


def _asked(space: Space, rows: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Places among `rows` and vectors of block after block."""
    with step("Neighbours", rows.size) as progress:
        for start in range(0, rows.size, BLOCK_ROWS):
            part = slice(start, min(start + BLOCK_ROWS, rows.size))
            yield part, space.take(rows[part])
            progress.advance(part.stop - start)


def _others(
    found: NDArray[np.int64], distances: NDArray[np.float32], own: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The first k that are not the point itself; among many equal points it may not have been found."""
    return sort_hits(np.where(found == own[:, None], -1, found), distances, k)


def _measured(
    space: Space, asked: NDArray[np.float32], found: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The candidates (q, m) with their true distances; every point among them is read once."""
    distances = np.empty(found.shape, np.float32)
    for start in range(0, len(asked), QUERY_BLOCK):
        part = slice(start, start + QUERY_BLOCK)
        points, where = np.unique(np.maximum(found[part], 0), return_inverse=True)
        near = space.take(points)[where.ravel()].reshape(*found[part].shape, space.dim)
        distances[part] = distances_to(asked[part], near, space.metric)
    return found, distances
