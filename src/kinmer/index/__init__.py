"""The index: entries with their vectors, the encoder that made them and a vector engine, in one folder.

`build_index` and `build_reference` make one, `open_index` opens it, `add_to_index` and its like change it,
`check_index` proves it whole.
"""

from kinmer.index.build import build_index
from kinmer.index.changing import (
    add_to_index,
    calibrate_index,
    compact_index,
    delete_from_index,
    update_index,
)
from kinmer.index.checking import CheckReport, check_index
from kinmer.index.database import KinIndex, open_index
from kinmer.index.describing import IndexInfo, IndexRow, describe_index, index_rows
from kinmer.index.entries import Entry, Genome
from kinmer.index.living import IndexWriter
from kinmer.index.reference import build_reference

__all__ = [
    "CheckReport",
    "Entry",
    "Genome",
    "IndexInfo",
    "IndexRow",
    "IndexWriter",
    "KinIndex",
    "add_to_index",
    "build_index",
    "build_reference",
    "calibrate_index",
    "check_index",
    "compact_index",
    "delete_from_index",
    "describe_index",
    "index_rows",
    "open_index",
    "update_index",
]
