"""Embeddings as points of a space: of any store, index or table, and their neighbours among themselves.

What looks at the space (analyses, maps, clusters) starts from here."""

from __future__ import annotations

from kinmer.vectors.duplicates import Contracted, contracted
from kinmer.vectors.neighbor_graph import Graph, Neighbors, neighbour_graph
from kinmer.vectors.points import Space, open_space, space_of, with_metadata

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
