"""What every vector engine offers, and what a distance is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import MismatchError, ProfileError, UsageError

__all__ = ["Metric", "VectorStore", "check_metric", "check_vectors", "distances_to", "sort_hits", "unit_rows"]

Metric = Literal["cosine", "l2"]
Labels = NDArray[np.int64]
Vectors = NDArray[np.float32]

# Squares of longer vectors come near the end of float32.
LONGEST = 1e15
# Numbers of double precision held at a time while distances are computed: 64 MB.
BLOCK_NUMBERS = 1 << 23


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
    @abstractmethod
    def create(cls, directory: str | Path, *, dim: int, metric: Metric, threads: int | None = None) -> Self:
        """An empty store in `directory`, a folder that exists and is empty. `threads`: None for all cores."""

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

    def search(self, queries: Vectors, k: int) -> tuple[Labels, Vectors]:
        """The k nearest of every query (q, dim): labels and distances, both (q, k), by distance, then label.

        Where the store holds fewer than k: label -1 and distance inf. Raises as `add`, UsageError for k < 1.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        queries = check_vectors(queries, self.dim)
        labels = np.full((len(queries), k), -1, dtype=np.int64)
        distances = np.full((len(queries), k), np.inf, dtype=np.float32)
        wanted = min(k, len(self))
        if wanted and len(queries):
            found, far = self._search(queries, wanted)
            labels[:, :wanted], distances[:, :wanted] = sort_hits(found, far, wanted)
        return labels, distances

    def _update(self, labels: Labels, vectors: Vectors) -> None:
        self._delete(labels)
        self._add(labels, vectors)

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
            "a vector holds a value that is no number, or too large",
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


def distances_to(queries: Vectors, vectors: Vectors, metric: Metric) -> Vectors:
    """Distances (q, m) between queries (q, d) and vectors (q, m, d), or (1, m, d) for the same to all.

    Computed in double precision from differences, so that equal vectors are at 0 and near ones keep their
    digits; rounded to float32.
    """
    count, d = vectors.shape[1], vectors.shape[2]
    result = np.empty((len(queries), count), dtype=np.float32)
    block = max(1, BLOCK_NUMBERS // max(1, count * d))
    for start in range(0, len(queries), block):
        asked = queries[start : start + block, None].astype(np.float64)
        theirs = (vectors if len(vectors) == 1 else vectors[start : start + block]).astype(np.float64)
        if metric == "cosine":
            asked, no_direction = _unit(asked)
            theirs, none_either = _unit(theirs)
        theirs = theirs - asked
        squares = np.einsum("qmd,qmd->qm", theirs, theirs)
        if metric == "cosine":
            # For unit vectors 1 - cos is half the squared distance.
            far = np.where(no_direction | none_either, 1.0, np.minimum(squares / 2, 2.0))
        else:
            far = np.sqrt(squares)
        result[start : start + block] = far
    return result


def _unit(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Unit vectors along the last axis, and which have no direction, (q, m)."""
    lengths = np.sqrt(np.einsum("qmd,qmd->qm", vectors, vectors))
    zero = lengths == 0
    return vectors / np.where(zero, 1.0, lengths)[..., None], zero


def sort_hits(labels: Labels, distances: Vectors, k: int) -> tuple[Labels, Vectors]:
    """The first k of every row (q, m) by distance, then label; missing ones (label -1) last."""
    far = np.where(labels < 0, np.float32(np.inf), distances).astype(np.float32)
    order = np.lexsort((np.where(labels < 0, np.iinfo(np.int64).max, labels), far), axis=-1)[:, :k]
    return np.take_along_axis(labels, order, axis=1), np.take_along_axis(far, order, axis=1)
