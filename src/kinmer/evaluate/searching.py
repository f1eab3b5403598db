"""The nearest entries of a trial's queries by one encoder, in the whole database and in parts of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError, MismatchError
from kinmer.evaluate.measures import DEPTH, Found
from kinmer.evaluate.neighbours import Metric, nearest
from kinmer.evaluate.sources import Embedder, Encoders
from kinmer.evaluate.trials import Pool, Trial

__all__ = ["search_trial"]

# Cosine distance behind the nearest at which a vote's weight falls to 1/e.
WEIGHT_SCALE = 0.03

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def search_trial(
    pool: Pool, at: int, encoders: Encoders, inside: NDArray[np.bool_], metric: Metric
) -> list[Found]:
    """Neighbours of the queries of trial `at`: at once, or fold by fold, by the encoder of each.

    inside : (draws, n) subsamples of the pool's entries.
    """
    trial = pool.trials[at]
    found = []
    for fold, members in _folds(trial, encoders):
        embedder = encoders.of(fold)
        vectors = trial.database.vectors(embedder)
        asking = _asking(trial, embedder, vectors, members)
        if asking.shape[1] != vectors.shape[1]:
            raise MismatchError(f"queries of {asking.shape[1]} dimensions, entries of {vectors.shape[1]}")
        part = _search(
            asking,
            vectors,
            _among(trial.barred, members),
            inside[:, pool.first_entry[at] : pool.first_entry[at + 1]],
            metric,
        )
        rows = np.where(part.rows >= 0, part.rows + pool.first_entry[at], -1)
        drawn = np.where(part.nearest_in >= 0, part.nearest_in + pool.first_entry[at], -1)
        found.append(Found(members + pool.first_query[at], rows, part.weights, drawn))
    return found


def _folds(trial: Trial, encoders: Encoders) -> list[tuple[str, NDArray[np.int64]]]:
    """Folds and their queries; one without a name where one encoder does for all."""
    everyone = np.arange(len(trial.query_table))
    if not encoders.by_fold:
        return [("", everyone)]
    folds = trial.query_table.get("fold")
    if folds is None or (folds == "").any():
        raise InputError(
            "queries without a fold",
            f"{encoders.name} is an encoder for every fold",
            "have the query labels a column fold?",
        )
    return [(str(name), everyone[folds == name]) for name in sorted(folds.unique())]


def _asking(
    trial: Trial, embedder: Embedder | None, vectors: NDArray[np.float32], members: NDArray[np.int64]
) -> NDArray[np.float32]:
    return vectors[members] if trial.queries is None else trial.queries.vectors(embedder, members)


def _among(barred: Pairs, queries: NDArray[np.int64]) -> Pairs:
    """The pairs of some queries (ascending), which are counted from 0."""
    kept = np.isin(barred[0], queries)
    return np.searchsorted(queries, barred[0][kept]), barred[1][kept]


def _search(
    asking: NDArray[np.float32],
    vectors: NDArray[np.float32],
    barred: Pairs,
    inside: NDArray[np.bool_],
    metric: Metric,
) -> Found:
    """All places count from 0 in what is given."""
    everyone, entries = np.arange(len(asking)), np.arange(len(vectors))
    # No query is a row of the pool: what it may not meet is in `barred`.
    outside = np.full(len(asking), -1)
    rows, distances = nearest(asking, vectors, outside, entries, DEPTH, metric, barred=barred)
    drawn = np.empty((len(inside), len(asking)), np.int64)
    for number, mask in enumerate(inside):
        seen = (rows >= 0) & mask[rows]
        drawn[number] = rows[everyone, seen.argmax(axis=1)]
        # None of the first neighbours is in the subsample: it has to be searched.
        left = np.flatnonzero(~seen.any(axis=1))
        if left.size:
            some = entries[mask]
            places, _ = nearest(
                asking[left], vectors[mask], outside[left], some, 1, metric, barred=_among(barred, left)
            )
            drawn[number, left] = np.where(places[:, 0] >= 0, some[places[:, 0]], -1)
    return Found(everyone, rows, _vote_weights(asking, distances, metric), drawn)


def _vote_weights(
    asking: NDArray[np.float32], distances: NDArray[np.float64], metric: Metric
) -> NDArray[np.float64]:
    """(m, k) weights exp(-(d - nearest) / 0.03); an l2 distance stands for the cosine one it would be."""
    far = distances
    if metric == "l2":
        square = 2 * (asking.astype(np.float64) ** 2).sum(axis=1, keepdims=True)
        far = np.divide(distances**2, square, out=np.zeros_like(distances), where=square > 0)
    first = np.where(np.isfinite(far[:, :1]), far[:, :1], 0)
    return np.asarray(np.exp(-(far - first) / WEIGHT_SCALE))
