"""Counts of canonical k-mers, every k from the layout's largest down to 1, in one pass over the letters."""

from kinmer.kmers.counter import MAX_LETTERS, Counts, KmerCounter, RecordCount

__all__ = ["MAX_LETTERS", "Counts", "KmerCounter", "RecordCount"]
