"""Embeddings as points of a space: of any store, index or table, and their neighbours among themselves.

What looks at the space (analyses, maps, clusters) starts from here.
"""

from kinmer.space.duplicates import Contracted, contracted
from kinmer.space.graph import Graph, Neighbors, neighbour_graph
from kinmer.space.labels import space_of, with_metadata
from kinmer.space.points import Space, open_space

__all__ = [
    "Contracted",
    "Graph",
    "Neighbors",
    "Space",
    "contracted",
    "neighbour_graph",
    "open_space",
    "space_of",
    "with_metadata",
]
