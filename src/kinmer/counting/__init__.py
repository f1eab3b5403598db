"""FASTA to profiles: in batches for whoever needs them at once, or into a profile store, resumable."""

from kinmer.counting.bases import bases_of, counted_of
from kinmer.counting.batches import Batch, Position, count_batches
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
