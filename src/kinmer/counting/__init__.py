"""FASTA to profiles: in batches for whoever needs them at once, or into a profile store, resumable."""

from kinmer.counting.batches import Batch, Position, bases_of, count_batches, counted_of
from kinmer.counting.runs import CountReport, count, count_files

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
