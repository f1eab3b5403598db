"""What every vector engine offers, what a distance is, and the exact engine: a blocked matrix product."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, get_args

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, MismatchError, ProfileError, UsageError
from kinmer.files import write_json
from kinmer.inputs import read_json
from kinmer.stores.pairwise import Metric, distances_to, row_distances

Labels = NDArray[np.int64]
Vectors = NDArray[np.float32]

# Squares of longer vectors come near the end of float32.
LONGEST = 1e15
# No label that is sorted quickly is as large.
MISSING = 0xFFFFFFFF


class VectorStore(ABC):
    """Vectors under integer labels, in a folder of its own; knows nothing of ids and sequences.

    Metrics: ``cosine`` is 1 - cos, in [0, 2], and 1 where one of the two vectors is zero; ``l2`` is the
    Euclidean distance, not squared. An engine may look at rounded vectors: its distances are then good to
    `tolerance` times the sum of the two lengths (1 + 1 for cosine), and whoever holds the vectors can
    recompute them with `distances_to`.

    What is added, updated and deleted is on disk, for `open`, after `flush`. One writer at a time.
    """

    name: ClassVar[str]
    tolerance: ClassVar[float]

    def __init__(self, directory: Path, *, dim: int, metric: Metric, threads: int | None = None) -> None:
        check_metric(metric)
        if dim < 1:
            raise UsageError(f"vectors have at least 1 dimension, not {dim}")
        self.directory, self.dim, self.metric, self.threads = directory, dim, metric, threads

    @classmethod
    def create(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """An empty store in `directory`, a folder that exists and is empty. `threads`: None for all cores."""
        return cls(Path(directory), dim=dim, metric=metric, threads=threads)

    @classmethod
    @abstractmethod
    def open(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """The store that was flushed to `directory`.

        Raises FormatError where it is missing or damaged, MismatchError for another `dim` or `metric`,
        EngineError where the engine fails.
        """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def contains(self, labels: Labels) -> NDArray[np.bool_]:
        """Which of the labels (m,) are in the store, (m,)."""

    @abstractmethod
    def flush(self) -> None:
        """Bring everything to disk."""

    def checkpoint(self) -> None:  # noqa: B027
        """Bring what is there to disk where that is quick; more is to come, and a flush."""

    def renumber(self, new: Labels) -> bool:
        """Give the flushed store's labels others, and write it; False where it is better built again.

        new : (n,) by the old label, ascending; -1 for one that goes.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Let files and memory go, without flushing; the store cannot be used afterwards."""

    @abstractmethod
    def _add(self, labels: Labels, vectors: Vectors) -> None: ...

    @abstractmethod
    def _delete(self, labels: Labels) -> None: ...

    @abstractmethod
    def _search(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        """k ≤ len(self) labels and distances a query, in any order."""

    def add(self, labels: Labels, vectors: Vectors) -> None:
        """Add vectors (m, dim) under labels (m,), whole numbers from 0 that are not in the store yet.

        Raises MismatchError for another number of columns, ProfileError for a vector that holds no number,
        ValueError for labels that are negative, occur twice or are there already.
        """
        labels, vectors = self._checked(labels, vectors)
        if labels.size and self.contains(labels).any():
            raise ValueError("a label is in the store already")
        if labels.size:
            self._add(labels, vectors)

    def update(self, labels: Labels, vectors: Vectors) -> None:
        """Replace the vectors of labels that are in the store; KeyError for others, else raises as `add`."""
        labels, vectors = self._checked(labels, vectors)
        self._known(labels)
        if labels.size:
            self._update(labels, vectors)

    def delete(self, labels: Labels) -> None:
        """Take labels out; KeyError for one that is not in the store, ValueError for one given twice."""
        labels = np.asarray(labels, dtype=np.int64)
        if np.unique(labels).size != labels.size:
            raise ValueError("a label occurs twice")
        self._known(labels)
        if labels.size:
            self._delete(labels)

    def search(self, queries: Vectors, k: int, *, narrow: bool = False) -> tuple[Labels, Vectors]:
        """The k nearest of every query (q, dim): labels and distances, both (q, k), by distance, then label.

        Where the store holds fewer than k: label -1 and distance inf. Raises as `add`, UsageError for k < 1.

        narrow : an engine that approximates may spend less on large stores, which is enough for a map.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        queries = check_vectors(queries, self.dim)
        labels, distances = no_hits(len(queries), k)
        wanted = min(k, len(self))
        if wanted and len(queries):
            hits = (self._search_narrowly if narrow else self._search)(queries, wanted)
            labels[:, :wanted], distances[:, :wanted] = sort_hits(*hits, wanted)
        return labels, distances

    def _search_narrowly(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        return self._search(queries, k)

    def _update(self, labels: Labels, vectors: Vectors) -> None:
        self._delete(labels)
        self._add(labels, vectors)

    @staticmethod
    def _description(directory: Path, dim: int, metric: Metric) -> dict[str, Any]:
        """What ``store.json`` says; FormatError without one, MismatchError for another dim or metric."""
        known = read_json(directory / "store.json")
        if known.get("dim") != dim or known.get("metric") != metric:
            raise MismatchError("the store is of another dimension or metric", place=directory)
        return known

    def _known(self, labels: Labels) -> None:
        known = self.contains(labels) if labels.size else np.ones(0, dtype=bool)
        if not known.all():
            raise KeyError(f"label {int(labels[int(np.argmin(known))])} is not in the store")

    def _checked(self, labels: Any, vectors: Any) -> tuple[Labels, Vectors]:
        labels = np.asarray(labels, dtype=np.int64)
        vectors = check_vectors(vectors, self.dim)
        if labels.shape != (len(vectors),):
            raise ValueError(f"{labels.shape} labels for {len(vectors)} vectors")
        if labels.size and (labels.min() < 0 or np.unique(labels).size != labels.size):
            raise ValueError("a label is negative or occurs twice")
        return labels, vectors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_metric(metric: str) -> None:
    """UsageError unless the metric is one of ours."""
    if metric not in get_args(Metric):
        raise UsageError(f"the metric must be cosine or l2, not {metric!r}")


def check_vectors(given: Any, dim: int, *, first: int = 0) -> Vectors:
    """The vectors as (m, dim) float32; MismatchError for another shape, ProfileError for no numbers.

    `first`: number of the first row, from 0, for the message (which counts from 1).
    """
    vectors: Vectors = np.ascontiguousarray(given, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise MismatchError(
            f"vectors of shape {vectors.shape} do not fit {dim} dimensions",
            check="were they made by another encoder?",
        )
    sums = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    good = sums < LONGEST**2
    if not good.all():
        raise ProfileError(
            "a vector holds a value that is not a number, or too large",
            "it has no distance to any other",
            place=f"row {first + int(np.argmin(good)) + 1}",
        )
    return vectors


def unit_rows(vectors: Vectors) -> Vectors:
    """Rows (m, d) scaled to length 1; zero stays zero, so that 1 - dot product is the cosine distance."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    # Where a length is denormal its inverse is infinite in float32, so the division is done in double.
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return np.asarray(vectors * scale[:, None], dtype=np.float32)


def no_hits(queries: int, k: int) -> tuple[Labels, Vectors]:
    """Labels -1 and distances inf, both (queries, k): what a search starts from."""
    return np.full((queries, k), -1, np.int64), np.full((queries, k), np.inf, np.float32)


def sort_hits(labels: Labels, distances: Vectors, k: int) -> tuple[Labels, Vectors]:
    """The first k of every row (q, m) by distance, then label; missing ones (label -1) last."""
    distances = np.where(labels < 0, np.float32(np.inf), distances).astype(np.float32)
    if labels.size and labels.max() < MISSING and not np.signbit(distances).any():
        # In the order of numbers: bits of a distance, then label.
        keys = distances.view(np.uint32).astype(np.uint64) << np.uint64(32)
        keys |= np.where(labels < 0, MISSING, labels).astype(np.uint64)
        keys.sort(axis=-1)
        kept = np.ascontiguousarray(keys[:, :k])
        labels = (kept & np.uint64(MISSING)).astype(np.int64)
        labels[labels == MISSING] = -1
        return labels, (kept >> np.uint64(32)).astype(np.uint32).view(np.float32)
    order = np.lexsort((np.where(labels < 0, np.iinfo(np.int64).max, labels), distances), axis=-1)[:, :k]
    return np.take_along_axis(labels, order, axis=1), np.take_along_axis(distances, order, axis=1)


# Queries and rows that meet in one matrix product, 32 MB of products: as many queries as that allows, because
# a file of vectors is read once for every block of them.
QUERY_BLOCK, ROW_BLOCK = 1024, 1 << 13
# Candidates beyond k whose distances are computed again, exactly.
MARGIN = 16
# Rounding of the matrix product, per unit of squared length.
ROUNDING = 16 * float(np.finfo(np.float32).eps)


def exact_search(
    vectors: Any,
    labels: Labels | None,
    queries: Vectors,
    k: int,
    metric: Metric,
    *,
    excluded: tuple[Labels, Labels] | None = None,
) -> tuple[Labels, Vectors]:
    """The k nearest rows of `vectors` for every query (q, d): labels and distances (q, k), sorted.

    vectors : (n, d) float32 array, which may be mapped from a file; read in blocks of rows.
    labels : (n,) ascending; None where row number and label are the same.
    excluded : pairs that do not count, (e,) positions of queries, ascending, and (e,) rows of `vectors`.

    The same answer for a query whatever else is asked with it; equal distances in the order of labels. Where
    there are fewer than k: label -1 and distance inf.
    """
    wanted = min(k, len(vectors))
    nearest, distances = no_hits(len(queries), k)
    if not wanted:
        return nearest, distances
    center = np.zeros(queries.shape[1], dtype=np.float32)
    if metric == "l2":
        # Around a center the squares keep the digits that tell near vectors apart.
        center = np.asarray(vectors[:ROW_BLOCK]).mean(axis=0, dtype=np.float64).astype(np.float32)
    for start in range(0, len(queries), QUERY_BLOCK):
        asked = queries[start : start + QUERY_BLOCK]
        pairs = None
        if excluded is not None:
            part = slice(*np.searchsorted(excluded[0], (start, start + QUERY_BLOCK)))
            pairs = excluded[0][part] - start, excluded[1][part]
        rows, unsure = _candidates(vectors, asked, center, wanted, metric, pairs)
        exact = row_distances(asked, vectors, rows, metric)
        rows, exact = sort_hits(rows, exact, wanted)
        for row in np.flatnonzero(unsure):
            gone = None if pairs is None else pairs[1][pairs[0] == row]
            rows[row], exact[row] = _scan(vectors, asked[row], wanted, metric, gone)
        own = rows if labels is None else np.where(rows < 0, -1, labels[rows])
        nearest[start : start + len(asked), :wanted] = own
        distances[start : start + len(asked), :wanted] = exact
    return nearest, distances


def join_hits(hits: tuple[Labels, Vectors], more: tuple[Labels, Vectors], k: int) -> tuple[Labels, Vectors]:
    """The k nearest of two sets of hits."""
    labels = np.concatenate([hits[0], more[0]], axis=1)
    return sort_hits(labels, np.concatenate([hits[1], more[1]], axis=1), k)


def _candidates(
    vectors: Any,
    queries: Vectors,
    center: Vectors,
    k: int,
    metric: Metric,
    excluded: tuple[Labels, Labels] | None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows (q, m), m ≥ k, that hold the k nearest, and for which queries rounding may have lost one, (q,).

    Excluded ones are -1.
    """
    asked = unit_rows(queries) if metric == "cosine" else queries - center
    width = min(k + MARGIN, len(vectors))
    rough = np.empty((len(asked), 0), dtype=np.float32)
    rows = np.empty((len(asked), 0), dtype=np.int64)
    longest = 1.0 if metric == "cosine" else 0.0
    for start in range(0, len(vectors), ROW_BLOCK):
        block = np.asarray(vectors[start : start + ROW_BLOCK], dtype=np.float32)
        if metric == "cosine":
            new = -(asked @ unit_rows(block).T)
        else:
            block = block - center
            squares = np.einsum("ij,ij->i", block, block)
            longest = max(longest, float(squares.max()))
            new = squares - 2 * (asked @ block.T)
        if excluded is not None:
            here = (excluded[1] >= start) & (excluded[1] < start + len(block))
            new[excluded[0][here], excluded[1][here] - start] = np.inf
        few = min(width, new.shape[1])
        near = np.argpartition(new, few - 1, axis=1)[:, :few]
        rough = np.concatenate([rough, np.take_along_axis(new, near, axis=1)], axis=1)
        rows = np.concatenate([rows, near + start], axis=1)
        if rough.shape[1] > width:
            best = np.argpartition(rough, width - 1, axis=1)[:, :width]
            rough, rows = np.take_along_axis(rough, best, axis=1), np.take_along_axis(rows, best, axis=1)
    if excluded is not None:
        rows[np.isinf(rough)] = -1
    if width == len(vectors):
        return rows, np.zeros(len(asked), dtype=bool)
    rough.sort(axis=1)
    slack = ROUNDING * (longest + np.einsum("ij,ij->i", asked, asked))
    # Where fewer than k are not excluded, all of them are among the candidates.
    last = np.where(np.isinf(rough[:, k - 1]), -np.inf, rough[:, k - 1])
    return rows, rough[:, width - 1] - last <= slack


def _scan(
    vectors: Any, query: Vectors, k: int, metric: Metric, excluded: Labels | None
) -> tuple[Labels, Vectors]:
    """The k nearest rows of one query, every distance exact: for more ties than the margin holds."""
    hits = no_hits(1, 0)
    for start in range(0, len(vectors), ROW_BLOCK):
        block = np.asarray(vectors[start : start + ROW_BLOCK], dtype=np.float32)
        rows = np.arange(start, start + len(block))
        if excluded is not None:
            rows[np.isin(rows, excluded)] = -1
        hits = join_hits(hits, (rows[None], distances_to(query[None], block[None], metric)), k)
    return hits[0][0], hits[1][0]


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
    def open(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """The flushed store, its vectors mapped; see `VectorStore.open`."""
        store = cls(Path(directory), dim=dim, metric=metric, threads=threads)
        known = cls._description(store.directory, dim, metric)
        try:
            store._generation = int(known["generation"])
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
