"""Exact nearest neighbours of some rows among others, in blocks."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kinmer.progress import step

__all__ = ["Metric", "nearest"]

Metric = Literal["cosine", "l2"]
# Numbers held at a time: distances of a block of queries to the pool.
BLOCK_NUMBERS = 1 << 24


def nearest(
    asking: NDArray[np.float32],
    vectors: NDArray[np.float32],
    asked: NDArray[np.int64],
    pool: NDArray[np.int64],
    k: int,
    metric: Metric,
    *,
    barred: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places in the pool (q, k) of every query's nearest others, and their distances (q, k), ascending.

    asking: (q, d) vectors of the rows `asked` (q,); vectors: (n, d) of the rows `pool` (n,), ascending. As
    many neighbours for every query: k, or all the others of the pool where that is fewer. Of equal distances
    the earlier place comes first.

    barred: pairs that are no neighbours: places among the queries, ascending, and rows of the pool. A query
    that has fewer than k neighbours left has -1 and infinity in the places behind them.
    """
    if metric == "cosine":
        asking, vectors = _unit(asking), _unit(vectors)
    # Around their centre the rough distances keep the digits that tell near vectors apart.
    centre = vectors.mean(axis=0, keepdims=True)
    base = vectors - centre
    inside = np.isin(asked, pool)
    others = pool.size - int(inside.any())
    k = min(k, others)
    # A few more than k, so that float32 rounding cannot lose one; their exact distances decide.
    wide = min(k + 16, others)
    squares = np.einsum("ij,ij->i", base, base)
    if metric == "cosine":
        # Unit vectors at cosine distance 1 are √2 apart; zero vectors, 1 from all by definition, must be too.
        squares += ~vectors.any(axis=1)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    who, where = _barred_places(pool, barred)
    places = np.empty((asked.size, k), np.int64)
    distances = np.empty((asked.size, k))
    block = max(1, min(256, BLOCK_NUMBERS // max(pool.size, 1)))
    with step(f"neighbours ({metric})", asked.size) as progress:
        for start in range(0, asked.size, block):
            rows = slice(start, min(start + block, asked.size))
            rough = squares - 2 * ((asking[rows] - centre) @ base.T)
            own = np.searchsorted(pool, asked[rows])
            mine = np.flatnonzero(inside[rows])
            rough[mine, own[mine]] = np.inf
            pairs = slice(*np.searchsorted(who, (rows.start, rows.stop)))
            rough[who[pairs] - start, where[pairs]] = np.inf
            near = np.sort(np.argpartition(rough, wide - 1, axis=1)[:, :wide], axis=1)
            exact = _distances(asking[rows], vectors, lengths, near, metric)
            exact[np.isinf(np.take_along_axis(rough, near, axis=1))] = np.inf
            order = np.argsort(exact, axis=1, kind="stable")[:, :k]
            places[rows] = np.take_along_axis(near, order, axis=1)
            distances[rows] = np.take_along_axis(exact, order, axis=1)
            progress.advance(rows.stop - rows.start)
    places[np.isinf(distances)] = -1
    return places, distances


def _barred_places(
    pool: NDArray[np.int64], barred: tuple[NDArray[np.int64], NDArray[np.int64]] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs whose row is in the pool, with its place there."""
    if barred is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    kept = np.isin(barred[1], pool)
    return barred[0][kept], np.searchsorted(pool, barred[1][kept])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length 1; a zero vector stays one and is at cosine distance 1 from everything."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return unit


def _distances(
    asking: NDArray[np.float32],
    vectors: NDArray[np.float32],
    lengths: NDArray[np.float64],
    near: NDArray[np.int64],
    metric: Metric,
) -> NDArray[np.float64]:
    """(q, m) distances between (q, d) and the rows `near` (q, m) of (n, d), computed in double precision.

    lengths: (n,) of the vectors.
    """
    found = np.empty(near.shape)
    # One query at a time: its neighbours' coordinates stay in the cache.
    for row, places in enumerate(near):
        one, others = asking[row].astype(np.float64), vectors[places].astype(np.float64)
        if metric == "l2":
            others -= one
            found[row] = np.sqrt(np.einsum("ij,ij->i", others, others))
            continue
        product = math.sqrt(one @ one) * lengths[places]
        cosine = np.divide(others @ one, product, out=np.zeros(len(places)), where=product > 0)
        found[row] = np.clip(1 - cosine, 0, 2)
    return found
