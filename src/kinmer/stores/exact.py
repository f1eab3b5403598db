"""The exact engine: a blocked matrix product over all vectors. What the others are measured against."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, MismatchError
from kinmer.files import read_json, write_json
from kinmer.stores.base import (
    BLOCK_NUMBERS,
    Labels,
    Metric,
    Vectors,
    VectorStore,
    distances_to,
    sort_hits,
    unit_rows,
)

__all__ = ["ExactStore", "exact_search", "search_pages"]

# Queries and rows that meet in one matrix product, 32 MB of products: as many queries as that allows, because
# a file of vectors is read once for every block of them.
QUERY_BLOCK, ROW_BLOCK = 1024, 1 << 13
# Candidates beyond k whose distances are computed again, exactly.
MARGIN = 16
# Rounding of the matrix product, per unit of squared length.
ROUNDING = 16 * float(np.finfo(np.float32).eps)


def exact_search(
    vectors: Any, labels: Labels | None, queries: Vectors, k: int, metric: Metric
) -> tuple[Labels, Vectors]:
    """The k nearest rows of `vectors` for every query (q, d): labels and distances (q, k), sorted.

    vectors : (n, d) float32 array, which may be mapped from a file; read in blocks of rows.
    labels : (n,) ascending; None where row number and label are the same.

    The same answer for a query whatever else is asked with it; equal distances in the order of labels.
    """
    wanted = min(k, len(vectors))
    found = np.full((len(queries), k), -1, dtype=np.int64)
    far = np.full((len(queries), k), np.inf, dtype=np.float32)
    if not wanted:
        return found, far
    centre = np.zeros(queries.shape[1], dtype=np.float32)
    if metric == "l2":
        # Around a centre the squares keep the digits that tell near vectors apart.
        centre = np.asarray(vectors[:ROW_BLOCK]).mean(axis=0, dtype=np.float64).astype(np.float32)
    block = max(1, min(QUERY_BLOCK, BLOCK_NUMBERS // ((wanted + MARGIN) * queries.shape[1])))
    for start in range(0, len(queries), block):
        asked = queries[start : start + block]
        rows, unsure = _candidates(vectors, asked, centre, wanted, metric)
        exact = distances_to(asked, np.asarray(vectors[rows.ravel()]).reshape(*rows.shape, -1), metric)
        rows, exact = sort_hits(rows, exact, wanted)
        for place in np.flatnonzero(unsure):
            rows[place], exact[place] = _scan(vectors, asked[place], wanted, metric)
        found[start : start + len(asked), :wanted] = rows if labels is None else labels[rows]
        far[start : start + len(asked), :wanted] = exact
    return found, far


def search_pages(
    pages: Iterable[tuple[Labels, Vectors]], queries: Vectors, k: int, metric: Metric
) -> tuple[Labels, Vectors]:
    """`exact_search` of vectors that come page by page: ascending labels (m,) and vectors (m, d)."""
    labels = np.full((len(queries), k), -1, dtype=np.int64)
    far = np.full((len(queries), k), np.inf, dtype=np.float32)
    for own, vectors in pages:
        new, distances = exact_search(vectors, own, queries, k, metric)
        labels, far = sort_hits(
            np.concatenate([labels, new], axis=1), np.concatenate([far, distances], axis=1), k
        )
    return labels, far


def _candidates(
    vectors: Any, queries: Vectors, centre: Vectors, k: int, metric: Metric
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows (q, m), m ≥ k, that hold the k nearest, and for which queries rounding may have lost one, (q,)."""
    asked = unit_rows(queries) if metric == "cosine" else queries - centre
    width = min(k + MARGIN, len(vectors))
    rough = np.empty((len(asked), 0), dtype=np.float32)
    rows = np.empty((len(asked), 0), dtype=np.int64)
    longest = 1.0 if metric == "cosine" else 0.0
    for start in range(0, len(vectors), ROW_BLOCK):
        block = np.asarray(vectors[start : start + ROW_BLOCK], dtype=np.float32)
        if metric == "cosine":
            new = -(asked @ unit_rows(block).T)
        else:
            block = block - centre
            squares = np.einsum("ij,ij->i", block, block)
            longest = max(longest, float(squares.max()))
            new = squares - 2 * (asked @ block.T)
        few = min(width, new.shape[1])
        near = np.argpartition(new, few - 1, axis=1)[:, :few]
        rough = np.concatenate([rough, np.take_along_axis(new, near, axis=1)], axis=1)
        rows = np.concatenate([rows, near + start], axis=1)
        if rough.shape[1] > width:
            best = np.argpartition(rough, width - 1, axis=1)[:, :width]
            rough, rows = np.take_along_axis(rough, best, axis=1), np.take_along_axis(rows, best, axis=1)
    if width == len(vectors):
        return rows, np.zeros(len(asked), dtype=bool)
    rough.sort(axis=1)
    slack = ROUNDING * (longest + np.einsum("ij,ij->i", asked, asked))
    return rows, rough[:, width - 1] - rough[:, k - 1] <= slack


def _scan(vectors: Any, query: Vectors, k: int, metric: Metric) -> tuple[Labels, Vectors]:
    """The k nearest rows of one query, every distance exact: for more ties than the margin holds."""
    rows = np.empty((1, 0), dtype=np.int64)
    far = np.empty((1, 0), dtype=np.float32)
    for start in range(0, len(vectors), ROW_BLOCK):
        block = np.asarray(vectors[start : start + ROW_BLOCK], dtype=np.float32)
        new = distances_to(query[None], block[None], metric)
        rows = np.concatenate([rows, np.arange(start, start + len(block))[None]], axis=1)
        rows, far = sort_hits(rows, np.concatenate([far, new], axis=1), k)
    return rows[0], far[0]


class ExactStore(VectorStore):
    """Vectors in memory or mapped from a file, searched one and all. Ties are in the order of labels.

    Files: ``vectors-N.npy`` and ``labels-N.npy`` (ascending labels); ``store.json`` holds N and comes last.
    """

    name = "exact"
    tolerance = 1e-6

    def __init__(self, directory: Path, *, dim: int, metric: Metric, threads: int | None = None) -> None:
        super().__init__(directory, dim=dim, metric=metric, threads=threads)
        self._labels: Labels = np.empty(0, dtype=np.int64)
        self._vectors: Any = np.empty((0, dim), dtype=np.float32)
        self._generation = 0

    @classmethod
    def create(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """An empty store; see `VectorStore.create`."""
        return cls(Path(directory), dim=dim, metric=metric, threads=threads)

    @classmethod
    def open(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """The flushed store, its vectors mapped; see `VectorStore.open`."""
        store = cls(Path(directory), dim=dim, metric=metric, threads=threads)
        told = read_json(store.directory / "store.json")
        if told.get("dim") != dim or told.get("metric") != metric:
            raise MismatchError("the store is of another dimension or metric", place=store.directory)
        try:
            store._generation = int(told["generation"])
            vectors, labels = store._files()
            store._vectors = np.load(vectors, mmap_mode="r", allow_pickle=False)
            store._labels = np.load(labels, allow_pickle=False)
        except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
            raise FormatError("the store is damaged", str(error), place=store.directory) from error
        if store._vectors.shape != (len(store._labels), dim):
            raise FormatError("the store is damaged", "vectors and labels do not fit", place=store.directory)
        return store

    def __len__(self) -> int:
        return len(self._labels)

    def contains(self, labels: Labels) -> NDArray[np.bool_]:
        """Which labels are in the store."""
        return np.isin(labels, self._labels)

    def flush(self) -> None:
        """Write both arrays under new names, then the file that names them."""
        old = self._files()
        self._generation += 1
        for path, array in zip(self._files(), (self._vectors, self._labels), strict=True):
            np.save(path, array, allow_pickle=False)
        write_json(
            self.directory / "store.json",
            {"dim": self.dim, "metric": self.metric, "generation": self._generation},
        )
        for path in old:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the arrays go."""
        self._vectors = np.empty((0, self.dim), dtype=np.float32)
        self._labels = np.empty(0, dtype=np.int64)

    def _files(self) -> tuple[Path, Path]:
        names = (f"vectors-{self._generation}.npy", f"labels-{self._generation}.npy")
        return self.directory / names[0], self.directory / names[1]

    def _add(self, labels: Labels, vectors: Vectors) -> None:
        order = np.argsort(np.concatenate([self._labels, labels]))
        self._labels = np.concatenate([self._labels, labels])[order]
        self._vectors = np.concatenate([self._vectors, vectors])[order]

    def _delete(self, labels: Labels) -> None:
        kept = ~np.isin(self._labels, labels)
        self._labels, self._vectors = self._labels[kept], self._vectors[kept]

    def _search(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        return exact_search(self._vectors, self._labels, queries, k, self.metric)
