"""The order in which vectors go into a graph of neighbors, and in which it is searched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kinmer.progress import counted
from kinmer.stores.exact import Labels, Vectors, unit_rows
from kinmer.stores.pairwise import Metric

# Vectors are sorted by the nearest of so many of them, or of fewer, each for so many.
PIVOTS, CELL = 1024, 16
# Share of a graph that grows in a random order, before near ones follow one another.
SKELETON = 1 / 8
# Vectors that are read together.
PAGE = 1 << 12


def near_together(
    rows: Labels,
    read: Callable[[Labels], NDArray[np.floating]],
    metric: Metric,
    *,
    first: int = 0,
) -> Labels:
    """The rows (n,) in an order in which near ones follow one another; the first so many stay where they are.

    read : gives the vectors (m, dim) of ascending rows (m,). What one search of a graph has read the next one
    then finds in the processor's cache. A graph must not grow so from its beginning: sequences come genome by
    genome, and few edges would lead into each cluster. Once it has a skeleton of rows in a random order,
    near ones may follow one another, in half of the CPU and with the same recall.
    """
    random = np.random.Generator(np.random.PCG64(len(rows)))
    some = np.sort(random.permutation(rows)[: min(PIVOTS, 1 + len(rows) // CELL)])
    pivots = np.asarray(read(some), np.float32)
    pivots = unit_rows(pivots) if metric == "cosine" else pivots
    rest = rows[first:]
    ascending = np.argsort(rest, kind="stable")
    cell = np.empty(len(rest), np.int16)
    for start in counted(range(0, len(rest), PAGE), "a block of the order"):
        part = ascending[start : start + PAGE]
        cell[part] = nearest_pivot(np.asarray(read(rest[part]), np.float32), pivots, metric)
    return np.concatenate([rows[:first], rest[np.argsort(cell, kind="stable")]])


def skeleton(rows: int, held: int) -> int:
    """How many of so many rows go first into a graph that holds others, in a random order."""
    return max(0, int(SKELETON * rows) - held)


def nearest_pivot(vectors: Vectors, pivots: Vectors, metric: Metric) -> NDArray[np.int16]:
    """(n,) which of the pivots (p, d) is nearest to each vector (n, d). pivots : of length 1 for cosine."""
    bias = 0 if metric == "cosine" else (pivots**2).sum(axis=1) / 2
    return np.asarray((vectors @ pivots.T - bias).argmax(axis=1), np.int16)
