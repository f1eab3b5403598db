"""Distances of pairs of vectors, in double precision."""

# Numba's decorators carry no types.
# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Doubles = NDArray[np.float64]


# Sums may be taken in any order, so that they are taken several at a time. Products and sums stay apart, so
# that equal vectors are at 0.
@njit(nogil=True, cache=True, fastmath={"reassoc"})
def lengths_of(vectors: Vectors) -> Doubles:
    """Euclidean lengths (v, m) of vectors (v, m, d)."""
    lines, count, d = vectors.shape
    result = np.empty((lines, count))
    for line in range(lines):
        for row in range(count):
            total = 0.0
            for at in range(d):
                total += np.float64(vectors[line, row, at]) * np.float64(vectors[line, row, at])
            result[line, row] = np.sqrt(total)
    return result


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def squares_between(
    queries: Vectors, vectors: Vectors, query_scales: Doubles, scales: Doubles, result: Doubles
) -> None:
    """Write into result (q, m) the squared distances of queries (q, d) and vectors (q or 1, m, d), each
    multiplied by its scale, (q,) and (q or 1, m).
    """
    count, d = vectors.shape[1], vectors.shape[2]
    asked = np.empty(d)
    for query in range(len(queries)):
        line = query if len(vectors) > 1 else 0
        for at in range(d):
            asked[at] = np.float64(queries[query, at]) * query_scales[query]
        for row in range(count):
            scale, total = scales[line, row], 0.0
            for at in range(d):
                difference = np.float64(vectors[line, row, at]) * scale - asked[at]
                total += difference * difference
            result[query, row] = total


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def measure(
    vectors: Vectors, queries: Vectors, rows: NDArray[np.int64], cosine: bool, result: Vectors
) -> None:
    """Write into result (q, m) the distances of queries (q, d) and rows (q, m) of vectors (n, d).

    Those of `kinmer.stores.distances_to`, without a copy of the vectors. Where a row is -1, none is written.
    """
    d = queries.shape[1]
    asked = np.empty(d)
    for query in range(len(queries)):
        scale = 1.0
        if cosine:
            scale = _scale(queries[query])
        for at in range(d):
            asked[at] = np.float64(queries[query, at]) * scale
        for place in range(rows.shape[1]):
            row = rows[query, place]
            if row < 0:
                continue
            own = 1.0
            if cosine:
                own = _scale(vectors[row])
            total = 0.0
            for at in range(d):
                difference = np.float64(vectors[row, at]) * own - asked[at]
                total += difference * difference
            if not cosine:
                result[query, place] = np.sqrt(total)
            elif scale == 0 or own == 0:
                result[query, place] = 1.0
            else:
                # For unit vectors 1 - cos is half the squared distance.
                result[query, place] = min(total / 2, 2.0)


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _scale(vector: Vectors) -> float:
    """What makes the vector one of length 1; 0 where it is zero."""
    total = 0.0
    for at in range(vector.size):
        total += np.float64(vector[at]) * np.float64(vector[at])
    return 1 / np.sqrt(total) if total > 0 else 0.0
