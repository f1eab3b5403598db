"""Vector engines behind one interface: integer labels and vectors in, the nearest labels out.

``exact`` looks at every vector, ``hnsw`` is the fast default, ``chroma`` that of the original pipeline.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from kinmer.errors import UsageError
from kinmer.stores.exact import (
    ExactStore,
    VectorStore,
    check_metric,
    check_vectors,
    exact_search,
    sort_hits,
    unit_rows,
)
from kinmer.stores.order import near_together, skeleton
from kinmer.stores.pairwise import Metric, distances_to, row_distances

__all__ = [
    "ENGINES",
    "ExactStore",
    "Metric",
    "VectorStore",
    "check_metric",
    "check_vectors",
    "distances_to",
    "engine",
    "exact_search",
    "near_together",
    "row_distances",
    "skeleton",
    "sort_hits",
    "unit_rows",
]

_CLASSES = {"exact": "exact.ExactStore", "hnsw": "graph.HnswStore", "chroma": "chroma.ChromaStore"}
ENGINES = tuple(_CLASSES)


def engine(name: str) -> type[VectorStore]:
    """The engine called so; its room is imported now. UsageError where there is none, or not here."""
    if name not in _CLASSES:
        raise UsageError(f"the engine must be one of {', '.join(ENGINES)}, not {name!r}")
    if name == "chroma" and find_spec("chromadb") is None:
        raise UsageError(
            "ChromaDB is not installed",
            "the engine chroma needs it",
            "pip install 'kinmer[chroma]', or rebuild the index with --engine hnsw",
        )
    module, _, cls = _CLASSES[name].partition(".")
    chosen: type[VectorStore] = getattr(import_module(f"kinmer.stores.{module}"), cls)
    return chosen
