"""The index: entries with their vectors, the encoder that made them and a vector engine, in one folder.

`open_index` opens one. `kinmer.library` makes, checks and changes them.
"""

from kinmer.index.database import KinIndex, open_index
from kinmer.index.table import Entry, Genome
from kinmer.index.writer import IndexWriter

__all__ = [
    "Entry",
    "Genome",
    "IndexWriter",
    "KinIndex",
    "open_index",
]
