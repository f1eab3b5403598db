"""How far the members of clusters lie from their middle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinmer.progress import step
from kinmer.space import Space
from kinmer.stores.base import distances_to, unit_rows

__all__ = ["mean_distances"]

Floats = NDArray[np.float64]


def mean_distances(space: Space, cluster: NDArray[np.int64]) -> Floats:
    """(clusters,) mean distance of members to the mean of the cluster's vectors, cluster 1 first.

    By the space's metric; cosine: to the mean of the directions. cluster : (n,) from 1, 0 for none. Reads the
    points twice, block after block; memory: a vector of float32 for every cluster.
    """
    number = int(cluster.max(initial=0))
    sizes = np.bincount(cluster, minlength=number + 1)
    centres = np.zeros((number + 1, space.dim), np.float32)
    far = np.zeros(number + 1)
    if not number:
        return far[1:]
    with step("Clusters' middles", 2 * len(space)) as progress:
        for start, block in space.blocks():
            members, sums = _summed(_directed(block, space), cluster[start : start + len(block)])
            centres[members] += (sums / sizes[members][:, None]).astype(np.float32)
            progress.advance(len(block))
        for start, block in space.blocks():
            mine = cluster[start : start + len(block)]
            far += np.bincount(
                mine, distances_to(block, centres[mine][:, None], space.metric)[:, 0], number + 1
            )
            progress.advance(len(block))
    return far[1:] / sizes[1:]


def _directed(block: NDArray[np.float32], space: Space) -> Floats:
    return (unit_rows(block) if space.metric == "cosine" else block).astype(np.float64)


def _summed(vectors: Floats, cluster: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """The clusters that occur, and the sums of their vectors."""
    order = np.argsort(cluster, kind="stable")
    first = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    return cluster[order][first], np.add.reduceat(vectors[order], first, axis=0)
