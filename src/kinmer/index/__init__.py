"""The index: entries with their vectors, the encoder that made them and a vector engine, in one folder.

Storage : an index opened for searching
IndexWriter : its one writer

`kinmer.library` has what is made of sequences: `kinmer.KinIndex`, `kinmer.build_index` and their like.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kinmer.index.database import Storage
from kinmer.index.manifest import Entry, Genome

if TYPE_CHECKING:
    from kinmer.index.writer import IndexWriter

__all__ = ["Entry", "Genome", "IndexWriter", "Storage"]

# What was here until kinmer 0.1.0.
_MOVED = frozenset(
    (
        "CheckReport",
        "IndexInfo",
        "IndexRow",
        "index_rows",
        "KinIndex",
        "add_to_index",
        "build_index",
        "build_reference",
        "calibrate_index",
        "check_index",
        "compact_index",
        "delete_from_index",
        "describe_index",
        "open_index",
        "update_index",
    )
)


def __getattr__(name: str) -> Any:
    # A search needs no writer.
    if name == "IndexWriter":
        return import_module("kinmer.index.writer").IndexWriter
    if name not in _MOVED:
        raise AttributeError(f"module 'kinmer.index' has no attribute {name!r}")
    warnings.warn(f"kinmer.index.{name} is kinmer.library.{name} now", DeprecationWarning, stacklevel=2)
    return getattr(import_module("kinmer.library"), name)
