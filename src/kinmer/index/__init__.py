"""The index: entries with their vectors, the encoder that made them and a vector engine, in one folder.

`open_index` opens one, `check_index` proves it whole. `kinmer.library` makes and changes them.
"""

from kinmer.index.check import CheckReport, IndexInfo, IndexRow, check_index, describe_index, index_rows
from kinmer.index.database import KinIndex, open_index
from kinmer.index.table import Entry, Genome
from kinmer.index.writer import IndexWriter

__all__ = [
    "CheckReport",
    "Entry",
    "Genome",
    "IndexInfo",
    "IndexRow",
    "IndexWriter",
    "KinIndex",
    "check_index",
    "describe_index",
    "index_rows",
    "open_index",
]
