"""Edges of the neighbour graph that clusters are made of: near enough, and not of hubs alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.space import Graph

__all__ = ["Edges", "edges_of", "usual_distance"]

# How many interquartile ranges above the upper quartile a distance is still usual; benchmarks/clusters.py.
FENCE = 1.5


@dataclass(frozen=True)
class Edges:
    """Undirected edges between n points, each pair once.

    pairs : (m, 2) int32, the smaller row first. weights : (m,) float64, exp(-distance / scale), above 0.
    max_distance : above it there is no edge. scale : the median distance to the nearest other.
    """

    points: int
    pairs: NDArray[np.int32]
    weights: NDArray[np.float64]
    max_distance: float
    scale: float


def usual_distance(graph: Graph, fence: float = FENCE) -> float:
    """The distance up to which a nearest neighbour is usual: Tukey's upper fence of the log distances.

    Sequences beyond it have nobody near. 0 where all nearest neighbours are at 0 or there are none.
    """
    nearest = graph.distances[:, 0].astype(np.float64)
    told = nearest[np.isfinite(nearest) & (nearest > 0)]
    if not told.size:
        return 0.0
    lower, upper = np.quantile(np.log(told), (0.25, 0.75))
    return float(np.exp(min(upper + fence * (upper - lower), np.log(told.max()))))


def edges_of(
    graph: Graph, *, max_distance: float | None = None, max_in_degree: int, mutual: bool = False
) -> Edges:
    """The edges of a graph of all points.

    max_distance : the longest edge; None: `usual_distance`. max_in_degree : a point that more others name
    as a neighbour keeps the edges from the nearest of them: hubs would glue strangers together (its own
    neighbours it keeps). mutual : both ends must name each other.
    """
    longest = usual_distance(graph) if max_distance is None else max_distance
    nearest = graph.distances[:, 0]
    scale = float(np.median(nearest[np.isfinite(nearest)])) if np.isfinite(nearest).any() else 0.0
    near = (graph.indices >= 0) & (graph.distances <= longest)
    start, _ = np.nonzero(near)
    end, far = graph.indices[near], graph.distances[near].astype(np.float64)
    kept = _uncrowded(start, end, far, graph.points, max_in_degree)
    start, end, far = start[kept].astype(np.int32), end[kept], far[kept]
    key = np.minimum(start, end).astype(np.int64) * graph.points + np.maximum(start, end)
    _, first, times = np.unique(key, return_index=True, return_counts=True)
    if mutual:
        first = first[times == 2]
    pairs = np.stack([np.minimum(start, end)[first], np.maximum(start, end)[first]], axis=1)
    # Equal points have a scale of 0; all their edges then weigh the same.
    weights = np.exp(-far[first] / scale) if scale > 0 else np.ones(len(first))
    return Edges(graph.points, pairs, np.maximum(weights, np.finfo(float).tiny), longest, scale)


def _uncrowded(
    start: NDArray[np.int64], end: NDArray[np.int32], far: NDArray[np.float64], points: int, most: int
) -> NDArray[np.int64]:
    """Places of the edges (m,) that are among the `most` shortest into their end."""
    if start.size == 0 or np.bincount(end, minlength=points).max() <= most:
        return np.arange(start.size)
    order = np.lexsort((start, far, end))
    sorted_ends = end[order]
    rank = np.arange(order.size) - np.searchsorted(sorted_ends, sorted_ends)
    return np.sort(order[rank < most])
