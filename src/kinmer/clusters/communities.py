"""From edges or coordinates to clusters: Leiden, Infomap, HDBSCAN, all of them other people's work."""

from __future__ import annotations

import random
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kinmer.clusters.edges import Edges
from kinmer.errors import UsageError
from kinmer.space.duplicates import Search
from kinmer.space.graph import Graph
from kinmer.stores import sort_hits

__all__ = ["DENSE_SAMPLE", "Method", "by_density", "check_method", "communities", "numbered", "on_map"]

Method = Literal["leiden", "infomap", "hdbscan"]
# Infomap keeps the best of some trials; a million points take minutes each, and are less a matter of luck.
ITERATIONS, TRIALS, MANY = 10, 5, 200_000
# HDBSCAN takes time by the square of the points: half a minute for so many.
DENSE_SAMPLE = 100_000


def check_method(method: str) -> None:
    """UsageError where there is no such method, or its library is missing."""
    if method not in get_args(Method):
        raise UsageError(f"the method must be one of {', '.join(get_args(Method))}, not {method!r}")
    module = "sklearn" if method == "hdbscan" else "igraph"
    if find_spec(module) is None:
        raise UsageError(f"{module} is not installed", "clusters need it", "pip install 'kinmer[explore]'")


def communities(edges: Edges, method: Method, *, resolution: float, seed: int) -> NDArray[np.int64]:
    """The community (n,) of every point, numbered anyhow; a point without an edge is one of its own.

    ``leiden``: modularity at `resolution` (Traag et al. 2019, Sci Rep 9:5233). ``infomap``: the map equation
    of a random walk (Rosvall and Bergstrom 2008, PNAS 105:1118), which like MCL follows the flow and has no
    resolution to set. Both by igraph.
    """
    import igraph

    network = igraph.Graph(n=edges.points, edges=edges.pairs)
    igraph.set_random_number_generator(random.Random(seed))
    try:
        found: Any
        if method == "leiden":
            found = network.community_leiden(
                "modularity", weights=edges.weights, resolution=resolution, n_iterations=ITERATIONS
            )
        else:
            trials = TRIALS if edges.points <= MANY else 1
            found = network.community_infomap(edge_weights=edges.weights, trials=trials)
    finally:
        igraph.set_random_number_generator(random)
    return np.asarray(found.membership, np.int64)


def by_density(
    coordinates: NDArray[np.float32], *, min_size: int, seed: int = 0, sample: int = DENSE_SAMPLE
) -> NDArray[np.int64]:
    """Dense places of a map (n, 2) by HDBSCAN (Campello et al. 2013); -1 for points of none.

    Of more than `sample` points so many are drawn and clustered; each of the others goes with the nearest of
    them, so that places of fewer than min_size × n / sample points are not found.
    """
    points = coordinates.astype(np.float64)
    if len(points) <= sample:
        return _dense(points, min_size)
    from scipy.spatial import KDTree

    drawn = np.sort(np.random.default_rng(seed).choice(len(points), sample, replace=False))
    _, nearest = KDTree(points[drawn]).query(points)
    return np.asarray(_dense(points[drawn], min_size)[nearest])


def on_map(coordinates: NDArray[np.float32]) -> Search:
    """A search for the nearest on a map (n, 2)."""
    from scipy.spatial import KDTree

    points = coordinates.astype(np.float64)

    def search(
        k: int, *, rows: NDArray[np.int64] | None = None, among: NDArray[np.bool_] | None = None
    ) -> Graph:
        asked = np.arange(len(points)) if rows is None else rows
        usable = np.arange(len(points)) if among is None else np.flatnonzero(among)
        far, near = KDTree(points[usable]).query(points[asked], k=np.arange(1, k + 2))
        missing = near == len(usable)
        near = np.where(missing, -1, usable[np.where(missing, 0, near)])
        near, far = sort_hits(np.where(near == asked[:, None], -1, near), far.astype(np.float32), k)
        return Graph(asked, near.astype(np.int32), far, len(points), True)

    return search


def _dense(points: NDArray[np.float64], min_size: int) -> NDArray[np.int64]:
    if len(points) < max(2, min_size):
        return np.full(len(points), -1)
    from sklearn.cluster import HDBSCAN

    return np.asarray(HDBSCAN(min_cluster_size=max(2, min_size), copy=True).fit_predict(points), np.int64)


def numbered(community: NDArray[np.int64], min_size: int) -> NDArray[np.int64]:
    """Clusters (n,) from 1, the largest first, of equal size the one with the earlier point; 0 for the points
    of communities smaller than `min_size`, and of none (-1)."""
    names, first, inverse, sizes = np.unique(
        community, return_index=True, return_inverse=True, return_counts=True
    )
    kept = (sizes >= min_size) & (names >= 0)
    order = np.lexsort((first, -sizes))
    order = order[kept[order]]
    number = np.zeros(len(names), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    return np.asarray(number[inverse])
