"""Embeddings as points of a space: of any store, index or table, and their neighbours among themselves.

What looks at the space (analyses, maps, clusters) starts from here.
"""

from kinmer.space.graph import Graph, neighbour_graph
from kinmer.space.labels import space_of, with_metadata
from kinmer.space.points import Space, open_space

__all__ = ["Graph", "Space", "neighbour_graph", "open_space", "space_of", "with_metadata"]
