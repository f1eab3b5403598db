"""From points to clusters: edges of the neighbor graph, their communities, and dense parts of a map."""

from __future__ import annotations

import random
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import UsageError
from kinmer.progress import step
from kinmer.stores import distances_to, sort_hits, unit_rows
from kinmer.vectors import Graph, Search, Vectors

Method = Literal["leiden", "infomap", "hdbscan"]
# How many interquartile ranges above the upper quartile a distance is still usual; benchmarks/clusters.py.
FENCE = 1.5
# Infomap keeps the best of some trials; a million points take minutes each, and are less a matter of luck.
ITERATIONS, TRIALS, MANY = 10, 5, 200_000
# HDBSCAN takes time by the square of the points: half a minute for so many.
DENSE_SAMPLE = 100_000
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Indices = NDArray[np.int32]


@dataclass(frozen=True)
class Edges:
    """Undirected edges between n points, each pair once.

    pairs : (m, 2) int32, the smaller row first. weights : (m,) float64, exp(-distance / scale), above 0.
    max_distance : the longest edge that may be. scale : the median distance to the nearest other.
    """

    points: int
    pairs: NDArray[np.int32]
    weights: Floats
    max_distance: float
    scale: float


def check_method(method: str) -> None:
    """UsageError where there is no such method, or its library is missing."""
    if method not in get_args(Method):
        raise UsageError(f"the method must be one of {', '.join(get_args(Method))}, not {method!r}")
    module = "sklearn" if method == "hdbscan" else "igraph"
    if find_spec(module) is None:
        raise UsageError(f"{module} is not installed", "clusters need it", "pip install 'kinmer[explore]'")


def usual_distance(graph: Graph, fence: float = FENCE) -> float:
    """The distance up to which a nearest neighbor is usual: Tukey's upper fence of the log distances.

    Sequences beyond it have no near neighbor. 0 where all nearest neighbors are at 0 or there are none.
    """
    nearest = graph.distances[:, 0].astype(np.float64)
    apart = nearest[np.isfinite(nearest) & (nearest > 0)]
    if not apart.size:
        return 0.0
    lower, upper = np.quantile(np.log(apart), (0.25, 0.75))
    return float(np.exp(min(upper + fence * (upper - lower), np.log(apart.max()))))


def edges_of(
    graph: Graph, *, max_distance: float | None = None, max_in_degree: int, mutual: bool = False
) -> Edges:
    """The edges of a graph of all points.

    max_distance : the longest edge; None: `usual_distance`. max_in_degree : a point that is a neighbor of
    more others keeps the edges from the nearest of them: hubs would join strangers (its own neighbors it
    keeps). mutual : each end must be a neighbor of the other.
    """
    longest = usual_distance(graph) if max_distance is None else max_distance
    nearest = graph.distances[:, 0]
    scale = float(np.median(nearest[np.isfinite(nearest)])) if np.isfinite(nearest).any() else 0.0
    near = (graph.indices >= 0) & (graph.distances <= longest)
    start = np.repeat(np.arange(graph.points, dtype=np.int32), near.sum(axis=1))
    end, distances = graph.indices[near], graph.distances[near]
    kept = _uncrowded(start, end, distances, graph.points, max_in_degree)
    start, end, distances = start[kept], end[kept], distances[kept]
    low, high = np.minimum(start, end), np.maximum(start, end)
    _, first, times = np.unique(
        low.astype(np.int64) * graph.points + high, return_index=True, return_counts=True
    )
    if mutual:
        first = first[times == 2]
    # Equal points have a scale of 0; all their edges then weigh the same.
    weights = np.exp(-distances[first].astype(np.float64) / scale) if scale > 0 else np.ones(len(first))
    pairs = np.stack([low[first], high[first]], axis=1)
    return Edges(graph.points, pairs, np.maximum(weights, np.finfo(float).tiny), longest, scale)


def _uncrowded(
    start: Indices, end: Indices, distances: NDArray[np.float32], points: int, most: int
) -> NDArray[np.bool_]:
    """Which of the edges (m,) are among the `most` shortest into their end."""
    kept = np.ones(start.size, np.bool_)
    into = np.bincount(end, minlength=points)
    # Only edges into crowded ends have to be ordered.
    crowded = np.flatnonzero((into > most)[end])
    order = crowded[np.lexsort((start[crowded], distances[crowded], end[crowded]))]
    ends = end[order]
    kept[order[np.arange(order.size) - np.searchsorted(ends, ends) >= most]] = False
    return kept


def communities(edges: Edges, method: Method, *, resolution: float, seed: int) -> Rows:
    """The community (n,) of every point, in no order; a point without an edge is one of its own.

    ``leiden``: modularity at `resolution` (Traag et al. 2019, Sci Rep 9:5233). ``infomap``: the map equation
    of a random walk (Rosvall and Bergstrom 2008, PNAS 105:1118), which like MCL follows the flow and has no
    resolution to set. Both by igraph.
    """
    import igraph

    network = igraph.Graph(n=edges.points, edges=edges.pairs)
    igraph.set_random_number_generator(random.Random(seed))
    try:
        result: Any
        if method == "leiden":
            result = network.community_leiden(
                "modularity", weights=edges.weights, resolution=resolution, n_iterations=ITERATIONS
            )
        else:
            trials = TRIALS if edges.points <= MANY else 1
            result = network.community_infomap(edge_weights=edges.weights, trials=trials)
    finally:
        igraph.set_random_number_generator(random)
    return np.asarray(result.membership, np.int64)


def by_density(
    coordinates: NDArray[np.float32], *, min_size: int, seed: int = 0, sample: int = DENSE_SAMPLE
) -> Rows:
    """Dense parts of a map (n, 2) by HDBSCAN (Campello et al. 2013); -1 for points of none.

    Of more than `sample` points so many are drawn and clustered; each of the others goes with the nearest of
    them, so that parts of fewer than min_size × n / sample points are missed.
    """
    points = coordinates.astype(np.float64)
    if len(points) <= sample:
        return _dense(points, min_size)
    from scipy.spatial import KDTree

    drawn = np.sort(np.random.default_rng(seed).choice(len(points), sample, replace=False))
    _, nearest = KDTree(points[drawn]).query(points)
    return np.asarray(_dense(points[drawn], min_size)[nearest])


def _dense(points: Floats, min_size: int) -> Rows:
    if len(points) < max(2, min_size):
        return np.full(len(points), -1)
    from sklearn.cluster import HDBSCAN

    return np.asarray(HDBSCAN(min_cluster_size=max(2, min_size), copy=True).fit_predict(points), np.int64)


def on_map(coordinates: NDArray[np.float32]) -> Search:
    """A search for the nearest on a map (n, 2)."""
    from scipy.spatial import KDTree

    points = coordinates.astype(np.float64)

    def search(k: int, *, rows: Rows | None = None, among: NDArray[np.bool_] | None = None) -> Graph:
        asked = np.arange(len(points)) if rows is None else rows
        usable = np.arange(len(points)) if among is None else np.flatnonzero(among)
        distances, near = KDTree(points[usable]).query(points[asked], k=np.arange(1, k + 2))
        missing = near == len(usable)
        near = np.where(missing, -1, usable[np.where(missing, 0, near)])
        near = np.where(near == asked[:, None], -1, near)
        near, distances = sort_hits(near, distances.astype(np.float32), k)
        return Graph(asked, near.astype(np.int32), distances, len(points), True)

    return search


def numbered(community: Rows, min_size: int) -> Rows:
    """Clusters (n,) from 1, the largest first, of equal size the one with the earlier point.

    0 for the points of communities smaller than `min_size`, and of none (-1).
    """
    names, first, inverse, sizes = np.unique(
        community, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -sizes))
    order = order[((sizes >= min_size) & (names >= 0))[order]]
    number = np.zeros(len(names), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    return np.asarray(number[inverse])


def mean_distances(points: Vectors, cluster: Rows) -> Floats:
    """(clusters,) mean distance of members to the mean of the cluster's vectors, cluster 1 first.

    By the points' metric; cosine: to the mean of the directions. cluster : (n,) from 1, 0 for none. Reads the
    points twice, block after block; memory: a float32 vector for every cluster.
    """
    number = int(cluster.max(initial=0))
    sizes = np.bincount(cluster, minlength=number + 1)
    centers = np.zeros((number + 1, points.dim), np.float32)
    total = np.zeros(number + 1)
    if not number:
        return total[1:]
    with step("Cluster centers", 2 * len(points)) as progress:
        for start, block in points.blocks():
            own = cluster[start : start + len(block)]
            directed = (unit_rows(block) if points.metric == "cosine" else block).astype(np.float64)
            order = np.argsort(own, kind="stable")
            first = np.flatnonzero(np.diff(own[order], prepend=-1))
            members, sums = own[order][first], np.add.reduceat(directed[order], first, axis=0)
            centers[members] += (sums / sizes[members][:, None]).astype(np.float32)
            progress.advance(len(block))
        for start, block in points.blocks():
            own = cluster[start : start + len(block)]
            distances = distances_to(block, centers[own][:, None], points.metric)[:, 0]
            total += np.bincount(own, distances, number + 1)
            progress.advance(len(block))
    return total[1:] / sizes[1:]
