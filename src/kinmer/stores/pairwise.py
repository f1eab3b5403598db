"""Distances of pairs of vectors, in double precision."""

# Numba's decorators carry no types.
# mypy: disallow-untyped-decorators=False

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

Metric = Literal["cosine", "l2"]
Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
Doubles = NDArray[np.float64]

# Numbers gathered at a time where vectors are not in one array: 4 MB, which stay in the cache.
GATHERED = 1 << 20


# Sums may be taken in any order, so that they are taken several at a time. Products and sums stay apart, and
# lengths of queries and of what they meet are of this one function, so that equal vectors are at 0.
@njit(nogil=True, cache=True, fastmath={"reassoc"})
def lengths_of(vectors: Vectors, rows: Labels, result: Doubles) -> None:
    """Write into result the Euclidean lengths of some vectors (n, d).

    rows : of the vectors, (q, m) as result; -1 for none.
    """
    for line in range(rows.shape[0]):
        for place in range(rows.shape[1]):
            row, total = rows[line, place], 0.0
            if row >= 0:
                for at in range(vectors.shape[1]):
                    total += np.float64(vectors[row, at]) * np.float64(vectors[row, at])
            result[line, place] = np.sqrt(total)


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def measure(
    queries: Vectors, vectors: Vectors, rows: Labels, own: Doubles, lengths: Doubles, result: Vectors
) -> None:
    """Write into result (q, m) the distances of queries (q, d) and of some vectors (n, d).

    rows : (q, m), or (1, m) for the same to all, of the vectors; -1 for none, which is at inf. own, lengths :
    (q, 1) and as rows, by `lengths_of`, for cosine distances; else of no line, and distances are Euclidean.
    """
    cosine, asked = len(own) > 0, np.empty(queries.shape[1])
    for query in range(len(queries)):
        line = query if len(rows) > 1 else 0
        scale = 1 / own[query, 0] if cosine and own[query, 0] > 0 else 1.0
        for at in range(len(asked)):
            asked[at] = np.float64(queries[query, at]) * scale
        for place in range(rows.shape[1]):
            row, scale, total = rows[line, place], 1.0, 0.0
            if row < 0:
                result[query, place] = np.inf
                continue
            if cosine:
                if own[query, 0] == 0 or lengths[line, place] == 0:
                    result[query, place] = 1
                    continue
                scale = 1 / lengths[line, place]
            for at in range(len(asked)):
                difference = np.float64(vectors[row, at]) * scale - asked[at]
                total += difference * difference
            # For unit vectors 1 - cos is half the squared distance.
            result[query, place] = min(total / 2, 2.0) if cosine else np.sqrt(total)


def distances_to(queries: Vectors, vectors: Vectors, metric: Metric) -> Vectors:
    """Distances (q, m) between queries (q, d) and vectors (q, m, d), or (1, m, d) for the same to all.

    Computed in double precision from differences, so that equal vectors are at 0 and near ones keep their
    digits; rounded to float32.
    """
    count = vectors.shape[0] * vectors.shape[1]
    rows = np.arange(count).reshape(vectors.shape[:2])
    return row_distances(queries, vectors.reshape(count, vectors.shape[2]), rows, metric)


def row_distances(queries: Vectors, vectors: Any, rows: Labels, metric: Metric) -> Vectors:
    """`distances_to` between queries (q, d) and rows (q, m), or (1, m), of vectors (n, d); -1 is at inf.

    vectors : float32, which may be mapped from a file and are read where they stand, or what gives them by
    number.
    """
    if not isinstance(vectors, np.ndarray):
        lines = max(1, GATHERED // max(1, rows.shape[1] * queries.shape[1]))
        if len(rows) > lines:
            parts = [slice(start, start + lines) for start in range(0, len(rows), lines)]
            return np.concatenate([row_distances(queries[a], vectors, rows[a], metric) for a in parts])
        vectors, known = vectors[np.maximum(rows, 0).ravel()], rows >= 0
        rows = np.where(known, np.arange(rows.size).reshape(rows.shape), -1)
    queries, vectors = (read_only(np.ascontiguousarray(each, np.float32)) for each in (queries, vectors))
    own, lengths = (np.empty((0, 0)) for _ in range(2))
    if metric == "cosine":
        own, lengths = np.empty((len(queries), 1)), np.empty(rows.shape)
        lengths_of(queries, np.arange(len(queries))[:, None], own)
        lengths_of(vectors, rows, lengths)
    distances = np.empty((len(queries), rows.shape[1]), dtype=np.float32)
    measure(queries, vectors, rows, own, lengths, distances)
    return distances


def read_only(array: Any) -> NDArray[Any]:
    """The same, not to be written to, as mapped ones are: a kernel is compiled for one kind."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view
