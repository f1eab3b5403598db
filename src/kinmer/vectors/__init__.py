"""Vectors of any source through one door, the nearest others of each, and near-duplicates among them.

What looks at vectors (evaluations, analyses, maps, clusters, the making of an index) starts from here.
"""

from kinmer.vectors.duplicates import Contracted, Search, contracted
from kinmer.vectors.knn import Graph, Neighbors, neighbor_graph
from kinmer.vectors.points import (
    RAW,
    Embedder,
    Transform,
    Vectors,
    open_embedded,
    open_vectors,
)

__all__ = [
    "RAW",
    "Contracted",
    "Embedder",
    "Graph",
    "Neighbors",
    "Search",
    "Transform",
    "Vectors",
    "contracted",
    "neighbor_graph",
    "open_embedded",
    "open_vectors",
]
