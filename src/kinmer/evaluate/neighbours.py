"""Exact nearest neighbours of some rows among others, in blocks."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kinmer.progress import step

__all__ = ["Metric", "nearest"]

Metric = Literal["cosine", "l2"]
# Numbers held at a time: distances of a block of queries to the pool, and coordinates of their neighbours.
BLOCK_NUMBERS = 1 << 24


def nearest(
    asking: NDArray[np.float32],
    vectors: NDArray[np.float32],
    asked: NDArray[np.int64],
    pool: NDArray[np.int64],
    k: int,
    metric: Metric,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places in the pool (q, k) of every query's nearest others, and their distances (q, k), ascending.

    asking: (q, d) vectors of the rows `asked` (q,); vectors: (n, d) of the rows `pool` (n,), ascending. As
    many neighbours for every query: k, or all the others of the pool where that is fewer.
    """
    if metric == "cosine":
        asking, vectors = _unit(asking), _unit(vectors)
    # Around their centre the rough distances keep the digits that tell near vectors apart.
    centre = vectors.mean(axis=0, keepdims=True)
    base = vectors - centre
    inside = np.isin(asked, pool)
    k = min(k, pool.size - int(inside.any()))
    # A few more than k, so that float32 rounding cannot lose one; their exact distances decide.
    wide = min(k + 16, pool.size - int(inside.any()))
    squares = np.einsum("ij,ij->i", base, base)
    if metric == "cosine":
        # Unit vectors at cosine distance 1 are √2 apart; zero vectors, 1 from all by definition, must be too.
        squares += ~vectors.any(axis=1)
    places = np.empty((asked.size, k), np.int64)
    distances = np.empty((asked.size, k))
    block = max(1, min(256, BLOCK_NUMBERS // max(pool.size, wide * vectors.shape[1])))
    with step(f"neighbours ({metric})", asked.size) as progress:
        for start in range(0, asked.size, block):
            rows = slice(start, min(start + block, asked.size))
            rough = squares - 2 * ((asking[rows] - centre) @ base.T)
            own = np.searchsorted(pool, asked[rows])
            mine = np.flatnonzero(inside[rows])
            rough[mine, own[mine]] = np.inf
            near = np.sort(np.argpartition(rough, wide - 1, axis=1)[:, :wide], axis=1)
            exact = _distances(asking[rows], vectors[near], metric)
            order = np.argsort(exact, axis=1, kind="stable")[:, :k]
            places[rows] = np.take_along_axis(near, order, axis=1)
            distances[rows] = np.take_along_axis(exact, order, axis=1)
            progress.advance(rows.stop - rows.start)
    return places, distances


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length 1; a zero vector stays one and is at cosine distance 1 from everything."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return unit


def _distances(
    block: NDArray[np.float32], others: NDArray[np.float32], metric: Metric
) -> NDArray[np.float64]:
    """(q, m) distances between (q, d) and (q, m, d), computed in double precision."""
    wide = block[:, None].astype(np.float64)
    if metric == "l2":
        return np.asarray(np.sqrt(((others - wide) ** 2).sum(axis=2)))
    lengths = np.sqrt((wide**2).sum(axis=2) * (others.astype(np.float64) ** 2).sum(axis=2))
    cosine = np.divide((others * wide).sum(axis=2), lengths, out=np.zeros(lengths.shape), where=lengths > 0)
    return np.asarray(np.clip(1 - cosine, 0, 2))
