"""The vectors that a classifier keeps, and which of them are nearest, one of every group."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.stores import VectorStore, distances_to, engine, exact_search, sort_hits

__all__ = ["MANY", "Neighbours"]

# Up to this many vectors looking at all of them is faster than building a graph pays back.
MANY = 50_000
QUERY_BLOCK = 256
# Candidates for every group wanted, at first; four times as many where those are of too few groups.
PER_GROUP = 4

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


class Neighbours:
    """Vectors (n, d) and the groups (n,) they belong to (None: each its own), searched by cosine distance.

    engine : "exact", "hnsw", or "auto": hnsw from `MANY` vectors on.
    """

    def __init__(self, vectors: Vectors, groups: Rows | None, engine: str, threads: int | None) -> None:
        if vectors.ndim != 2 or (groups is not None and groups.shape != vectors.shape[:1]):
            raise ValueError("vectors and groups do not fit")
        self.vectors, self.groups = vectors, groups
        self._engine, self._threads = engine, threads
        self._number = len(vectors) if groups is None else np.unique(groups).size
        self._store = self._build()

    def nearest(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        """Rows and distances (q, k) of the nearest, at most one a group, by distance and row.

        Where there are fewer: -1 and inf.
        """
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        far = np.full((len(queries), k), np.inf, dtype=np.float32)
        few = min(k, self._number)
        for start in range(0, len(queries), QUERY_BLOCK):
            part = slice(start, start + QUERY_BLOCK)
            rows[part, :few], far[part, :few] = self._of_groups(queries[part], few)
        return rows, far

    def _of_groups(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        if self.groups is None:
            return self._ask(queries, k)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        far = np.full((len(queries), k), np.inf, dtype=np.float32)
        left = np.arange(len(queries))
        wide = PER_GROUP * k
        while left.size:
            wide = min(wide, len(self.vectors))
            found, away = self._ask(queries[left], wide)
            short = []
            for query, near, distances in zip(left.tolist(), found, away, strict=True):
                # The first of every group is its nearest; np.unique tells where it stands.
                firsts = np.sort(np.unique(self.groups[near], return_index=True)[1])[:k]
                if len(firsts) < k:
                    short.append(query)
                    continue
                rows[query], far[query] = near[firsts], distances[firsts]
            left = np.array(short, dtype=np.int64)
            wide *= 4
        return rows, far

    def _ask(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        store = self._store
        # A query without direction is at distance 1 from all: only looking at all gives their order.
        exact = ~queries.any(axis=1) if store is not None else np.ones(len(queries), dtype=bool)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        far = np.full((len(queries), k), np.inf, dtype=np.float32)
        if exact.any():
            rows[exact], far[exact] = exact_search(self.vectors, None, queries[exact], k, "cosine")
        if store is not None and not exact.all():
            asked = queries[~exact]
            labels, _ = store.search(asked, min(len(self.vectors), max(2 * k, k + 16)))
            near = self.vectors[labels.ravel()].reshape(*labels.shape, -1)
            rows[~exact], far[~exact] = sort_hits(labels, distances_to(asked, near, "cosine"), k)
        return rows, far

    def _build(self) -> VectorStore | None:
        if self._engine == "exact" or (self._engine == "auto" and len(self.vectors) < MANY):
            return None
        # The store mends its graph as it is written; searched, it stays in memory.
        with TemporaryDirectory(prefix="kinmer-") as folder:
            store = engine("hnsw").create(
                folder, dim=self.vectors.shape[1], metric="cosine", threads=self._threads
            )
            store.add(np.arange(len(self.vectors)), self.vectors)
            store.flush()
        return store

    def __getstate__(self) -> dict[str, Any]:
        """All but the graph, which is built again."""
        return {**self.__dict__, "_store": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._store = self._build()
