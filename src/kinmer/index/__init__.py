"""The index: entries with their vectors, the encoder that made them and a vector engine, in one folder.

`build_index` makes one, `open_index` opens it, `IndexWriter` changes it.
"""

from kinmer.index.build import build_index
from kinmer.index.database import KinIndex, open_index
from kinmer.index.entries import Entry, Genome
from kinmer.index.living import IndexWriter

__all__ = ["Entry", "Genome", "IndexWriter", "KinIndex", "build_index", "open_index"]
