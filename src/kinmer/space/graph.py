"""The nearest others of every point: exact for few points, by the fast engine for many."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import UsageError
from kinmer.progress import step
from kinmer.space.points import BLOCK_ROWS, Space
from kinmer.stores import VectorStore, distances_to, engine, exact_search, sort_hits

__all__ = ["EXACT_BELOW", "Graph", "neighbour_graph"]

# Up to here every pair is looked at: seconds, and the graph is the true one.
EXACT_BELOW = 20_000
# Queries whose candidates' vectors are gathered together.
QUERY_BLOCK = 256
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
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}")
    wanted = np.arange(len(space)) if rows is None else np.asarray(rows, np.int64)
    everything = len(space) <= EXACT_BELOW if exact is None else exact
    near = np.full((wanted.size, k), -1, np.int32)
    far = np.full((wanted.size, k), np.inf, np.float32)
    few = min(k, len(space) - 1)
    graph = Graph(wanted, near, far, len(space), everything)
    if few < 1 or not wanted.size:
        return graph
    if everything:
        vectors = _all(space)
        for part, block in _asked(space, wanted):
            found, distances = exact_search(vectors, None, block, few + 1, space.metric)
            near[part, :few], far[part, :few] = _others(found, distances, wanted[part], few)
        return graph
    if space.index is not None and space.metric == space.index.metric and space.index.engine != "exact":
        numbers = space.index.numbers
        for part, block in _asked(space, wanted):
            found, distances, _ = space.index.search(block, few, exclude=numbers[wanted[part]])
            found = np.searchsorted(numbers, found)
            near[part, :few], far[part, :few] = found, distances
        return graph
    margin = MARGIN if true_distances else 0
    if true_distances:
        space = space.mapped()
    with tempfile.TemporaryDirectory() as folder:
        store = _built(space, Path(folder), threads)
        for part, block in _asked(space, wanted):
            found, distances = store.search(block, min(few + 1 + margin, len(space)))
            if true_distances:
                found, distances = _measured(space, block, found)
            near[part, :few], far[part, :few] = _others(found, distances, wanted[part], few)
        store.close()
    return graph


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


def _built(space: Space, folder: Path, threads: int | None) -> VectorStore:
    """An engine over all points, in memory."""
    store = engine("hnsw").create(folder, dim=space.dim, metric=space.metric, threads=threads)
    with step("Building the neighbour graph", len(space)) as progress:
        for start, block in space.blocks(1 << 16):
            store.add(np.arange(start, start + len(block)), block)
            progress.advance(len(block))
    return store
