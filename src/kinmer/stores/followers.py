"""Entries that no edges of a graph lead to, each listed with the nearest one that edges do lead to."""

# Numba's decorators carry no types.
# mypy: disallow-untyped-decorators=False

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.progress import counted
from kinmer.resources import on_threads
from kinmer.stores.exact import Labels, Vectors, no_hits, unit_rows
from kinmer.stores.pairwise import Metric, read_only

# Unit vectors as whole numbers of 16 bits: Numba knows no float16, and these are as exact.
SCALE = np.iinfo(np.int16).max
# Vectors that are written together, and queries that one thread answers.
PAGE, QUERIES = 1 << 12, 1 << 8
# Followers of the same leader, before and after one, that it is compared with; and at how much less than the
# distance of the leader another one is so near that both may be of an island.
COMPARED, NEARER = 64, np.float32(0.5)


class Followers:
    """Rows (m,) of a graph that its edges do not lead to, sorted by their leaders, with their vectors.

    A node has room for so many edges. In many dimensions some are nearest to thousands of others (hubs;
    Radovanović, Nanopoulos and Ivanović 2010): here long contigs, near the middle of their genome. They keep
    the edges to the nearest of those, and nothing leads to the rest, which are short contigs. So each of
    these follows the nearest row that can be reached: a query that comes upon the leader is measured against
    its followers. A second graph of them misses as large a share of its own.

    Files of graph N: ``leaders-N.npy`` (2, m), int64, ascending leaders and their followers, and
    ``followers-N.npy`` (m, dim), int16 for cosine, float32 for l2. Leader -1 is that of every query.
    """

    def __init__(self, leaders: Labels, vectors: NDArray[Any], metric: Metric) -> None:
        self.leaders, self.rows = (read_only(part) for part in leaders)
        self._vectors, self.metric = read_only(vectors), metric

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def none(cls, dim: int, metric: Metric) -> Self:
        """No followers."""
        return cls(np.empty((2, 0), np.int64), np.empty((0, dim), _kind(metric)), metric)

    @classmethod
    def write(
        cls,
        files: tuple[Path, Path],
        leaders: Labels,
        rows: Labels,
        read: Callable[[Labels], NDArray[np.floating]],
        metric: Metric,
    ) -> Self:
        """Write rows (m,) under their leaders (m,), and give them as `open` does.

        read : gives the vectors (n, dim) of rows (n,).
        """
        order = np.lexsort((rows, leaders))
        leaders, rows = leaders[order], rows[order]
        np.save(files[0], np.stack([leaders, rows]), allow_pickle=False)
        dim = read(rows[:1]).shape[1]
        vectors = open_memmap(files[1], mode="w+", dtype=_kind(metric), shape=(len(rows), dim))
        for at in counted(range(0, len(rows), PAGE), "a block of followers"):
            block = np.asarray(read(rows[at : at + PAGE]), np.float32)
            vectors[at : at + PAGE] = np.rint(unit_rows(block) * SCALE) if metric == "cosine" else block
        vectors.flush()
        return cls.open(files, dim, metric)

    @classmethod
    def open(cls, files: tuple[Path, Path], dim: int, metric: Metric) -> Self:
        """Those that were written, mapped; FormatError where the files are not of one make."""
        leaders, vectors = (np.load(file, mmap_mode="r", allow_pickle=False) for file in files)
        if leaders.shape != (2, len(vectors)) or vectors.shape[1:] != (dim,):
            raise FormatError("a graph is damaged", "it is not the one described", place=files[1].parent)
        return cls(leaders, vectors, metric)

    def islands(self, distances: Vectors) -> Labels:
        """Rows of the followers that are far nearer to another one of their leader than to the leader.

        distances : (n,) from each row of the graph to its leader. Such followers may be a cluster that is
        joined among itself, and to nothing else.
        """
        near = np.zeros(len(self), dtype=bool)
        _compare(self.leaders, self._vectors, NEARER * distances[self.rows], self.metric == "cosine", near)
        return self.rows[near]

    def near(
        self, asked: NDArray[np.floating], met: Labels, k: int, dead: NDArray[np.bool_], threads: int
    ) -> tuple[Labels, Vectors]:
        """Rows and distances (q, k) of the nearest followers of what queries (q, dim) have met, (q, c) rows.

        dead : (n,) which rows of the graph are no answers. Missing ones are -1 and inf.
        """
        rows, distances = no_hits(len(asked), k)
        asked = asked.astype(np.float32)
        asked = unit_rows(asked) if self.metric == "cosine" else asked

        def answer(at: int) -> None:
            part = slice(at, at + QUERIES)
            _follow(
                asked[part],
                met[part],
                self.leaders,
                self.rows,
                self._vectors,
                read_only(dead),
                self.metric == "cosine",
                rows[part],
                distances[part],
            )

        blocks = range(0, len(asked), QUERIES)
        if len(blocks) == 1:
            answer(0)
        else:
            on_threads(answer, blocks, threads)
        return rows, distances


def _kind(metric: Metric) -> type[np.generic]:
    return np.int16 if metric == "cosine" else np.float32


# Sums may be taken in any order, so that they are taken several at a time.
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _distance(query: Any, vector: Any, cosine: bool) -> Any:
    product, square = np.float32(0), np.float32(0)
    if not cosine:
        for at in range(len(query)):
            difference = np.float32(vector[at]) - query[at]
            square += difference * difference
        return np.sqrt(square)
    for at in range(len(query)):
        number = np.float32(vector[at])
        product += number * query[at]
        square += number * number
    return np.float32(1) if square == 0 else max(np.float32(1) - product / np.sqrt(square), np.float32(0))


@njit(nogil=True, cache=True)
def _compare(leaders: Any, vectors: Any, distances: Any, cosine: bool, near: Any) -> None:
    """Write into near (m,) which followers have another one of their leader within their distance (m,)."""
    one = np.empty(vectors.shape[1], np.float32)
    for at in range(len(leaders)):
        length = np.float32(0)
        for number in range(len(one)):
            one[number] = vectors[at, number]
            length += one[number] * one[number]
        if cosine and length > 0:
            one /= np.sqrt(length)
        for other in range(at + 1, min(len(leaders), at + 1 + COMPARED)):
            if leaders[other] != leaders[at]:
                break
            distance = _distance(one, vectors[other], cosine)
            near[at] |= distance < distances[at]
            near[other] |= distance < distances[other]


@njit(nogil=True, cache=True)
def _follow(
    asked: Any,
    met: Any,
    leaders: Any,
    followers: Any,
    vectors: Any,
    dead: Any,
    cosine: bool,
    rows: Any,
    distances: Any,
) -> None:
    """Write into rows and distances (q, k) the nearest of followers, ascending; see `Followers.near`."""
    last = rows.shape[1] - 1
    for query in range(len(asked)):
        for place in range(-1, met.shape[1]):
            leader = -1 if place < 0 else met[query, place]
            if place >= 0 and leader < 0:
                continue
            at = np.searchsorted(leaders, leader)
            while at < len(leaders) and leaders[at] == leader:
                row = followers[at]
                if not dead[row]:
                    distance = _distance(asked[query], vectors[at], cosine)
                    to = last
                    if distance < distances[query, to]:
                        while to > 0 and distances[query, to - 1] > distance:
                            distances[query, to] = distances[query, to - 1]
                            rows[query, to] = rows[query, to - 1]
                            to -= 1
                        distances[query, to] = distance
                        rows[query, to] = row
                at += 1
