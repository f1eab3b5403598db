"""UMAP from neighbours that are already found."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from kinmer.vectors import Graph

__all__ = ["umap_points"]


def umap_points(graph: Graph, start: NDArray[np.float64], *, seed: int) -> NDArray[np.float64]:
    """(n, 2) coordinates by umap-learn (McInnes et al. 2018), seeded, hence on one thread."""
    from umap import UMAP

    # To UMAP the first neighbour of a point is the point itself.
    own = np.arange(graph.points, dtype=np.int32)[:, None]
    near = np.hstack([own, np.where(graph.indices < 0, own, graph.indices)])
    far = np.where(np.isfinite(graph.distances), graph.distances, 0)
    far = np.hstack([np.zeros((graph.points, 1), np.float32), far.astype(np.float32)])
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # That new points cannot be transformed: they are placed on t-SNE maps.
        model = UMAP(
            n_neighbors=near.shape[1],
            precomputed_knn=(near, far),
            force_approximation_algorithm=True,
            init=start.astype(np.float32),
            random_state=seed,
            n_jobs=1,
        )
        # The vectors themselves are not looked at.
        return np.asarray(model.fit_transform(start.astype(np.float32)), np.float64)
