"""FASTA to profiles: in batches for whoever needs them at once, or into a profile store, resumable."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinmer.counting.batches import Batch as Batch
    from kinmer.counting.batches import Position as Position
    from kinmer.counting.batches import bases_of as bases_of
    from kinmer.counting.batches import count_batches as count_batches
    from kinmer.counting.batches import counted_of as counted_of
    from kinmer.counting.runs import CountReport as CountReport
    from kinmer.counting.runs import count as count
    from kinmer.counting.runs import count_files as count_files

__all__ = [
    "Batch",
    "CountReport",
    "Position",
    "bases_of",
    "count",
    "count_batches",
    "count_files",
    "counted_of",
]

# Read when a name is first used: a search needs little of this room, and much of it is slow to import.
_FILES = {
    "batches": ("Batch", "Position", "bases_of", "count_batches", "counted_of"),
    "runs": ("CountReport", "count", "count_files"),
}


def __getattr__(name: str) -> Any:
    for file, names in _FILES.items():
        if name in names:
            return getattr(import_module(f"kinmer.counting.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
