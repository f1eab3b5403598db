"""What every query gets out of its neighbours, rank by rank, and the most that the database allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.evaluate.labelled import MOLECULE, Rank

__all__ = ["DEPTH", "FEW", "Found", "curve_name", "limits", "measure", "measure_names", "nearest_labelled"]

Floats = NDArray[np.float64]
DEPTH, FEW = 100, 10
MEASURES = ("at_1", "vote_10", "at_10", "map_100", "recall_10", "recall_100", "any_10", "any_100")


@dataclass(frozen=True)
class Found:
    """Neighbours of m queries, nearest first.

    queries : (m,) their places. rows : (m, DEPTH) entries, -1 behind the last. weights : (m, DEPTH) in the
    vote. nearest_in : (draws, m) the nearest entry in every subsample of the database.
    """

    queries: NDArray[np.int64]
    rows: NDArray[np.int64]
    weights: Floats
    nearest_in: NDArray[np.int64]


def curve_name(fraction: float) -> str:
    """The measure `at_1` in subsamples of the database's genomes."""
    return f"at_1_of_1/{round(1 / fraction)}"


def measure_names(rank: Rank, fractions: tuple[float, ...]) -> tuple[str, ...]:
    """Columns of `measure` and `limits`."""
    return MEASURES if rank.name == MOLECULE else (*MEASURES, *map(curve_name, fractions))


def measure(rank: Rank, found: Found, relevant: NDArray[np.int64], draws: int) -> Floats:
    """(m, measures) figures of queries, in the order of `measure_names`.

    relevant : (q,) of all queries, entries with the right label. draws : subsamples of every fraction.

    at_1, at_10 : share of the nearest and of the ten nearest with the query's label; entries without a label
    are wrong. vote_10 : whether the label with the largest weight among the ten is right; entries without a
    label have no vote. map_100 : precision at every right entry of the first 100, summed and divided by how
    many there could be (average precision). recall_k : share of all right entries that are among the first
    k. any_k : whether one of the first k is right. Molecules are told for some entries only, so the others
    are passed over.
    """
    rows, weights = found.rows, found.weights
    if rank.name == MOLECULE:
        rows, weights = _passed_over(rank, rows, weights)
    right = rank.right(found.queries, rows)
    hits = np.cumsum(right, axis=1)
    there = relevant[found.queries]
    most = np.maximum(np.minimum(there, DEPTH), 1)
    precision = hits / np.arange(1, rows.shape[1] + 1)
    few = min(FEW, rows.shape[1]) - 1
    columns = [
        right[:, 0],
        _vote(rank, rows[:, :FEW], weights, right),
        hits[:, few] / FEW,
        (precision * right).sum(axis=1) / most,
        hits[:, few] / np.maximum(there, 1),
        hits[:, -1] / np.maximum(there, 1),
        hits[:, few] > 0,
        hits[:, -1] > 0,
    ]
    if rank.name != MOLECULE:
        drawn = rank.right(found.queries, found.nearest_in.T)
        columns += [drawn[:, at : at + draws].mean(axis=1) for at in range(0, drawn.shape[1], draws)]
    return np.stack(columns, axis=1).astype(float)


def limits(rank: Rank, relevant: NDArray[np.int64], inside: NDArray[np.bool_], draws: int) -> Floats:
    """(q, measures) the most that `measure` could give with a perfect order of the entries.

    inside : (draws of all fractions, n) the entries of every subsample.
    """
    can = relevant > 0
    some = np.maximum(relevant, 1)
    columns = [can, can, np.minimum(relevant, FEW) / FEW, can]
    columns += [np.minimum(relevant, k) / some for k in (FEW, DEPTH)] + [can, can]
    if rank.name != MOLECULE:
        could = np.array([rank.relevant(one) > 0 for one in inside])
        columns += [could[at : at + draws].mean(axis=0) for at in range(0, len(could), draws)]
    return np.stack(columns, axis=1).astype(float)


def nearest_labelled(rank: Rank, found: Found) -> NDArray[np.int64]:
    """(m,) the group of the nearest entry that has a label; -1 where none of them has."""
    rows, _ = _passed_over(rank, found.rows, found.weights)
    return np.where(rows[:, 0] >= 0, rank.groups[rows[:, 0]], -1)


def _passed_over(rank: Rank, rows: NDArray[np.int64], weights: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Neighbours and weights without the entries that have no label."""
    kept = (rows >= 0) & rank.labelled[rows]
    order = np.argsort(~kept, axis=1, kind="stable")
    ordered = np.where(np.take_along_axis(kept, order, axis=1), np.take_along_axis(rows, order, axis=1), -1)
    return ordered, np.take_along_axis(weights, order, axis=1)


def _vote(
    rank: Rank, rows: NDArray[np.int64], weights: Floats, right: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether the group with the largest weight is right; of equal ones the nearer wins."""
    groups = np.where(rows >= 0, rank.groups[rows], -1)
    weight = np.where(groups >= 0, weights[:, : rows.shape[1]], 0)
    behind = ((groups[:, :, None] == groups[:, None, :]) * weight[:, None, :]).sum(axis=2)
    behind[groups < 0] = -1
    first = behind.argmax(axis=1)
    return np.asarray(right[np.arange(len(rows)), first] & (groups[np.arange(len(rows)), first] >= 0))
