"""FASTA, plain or compressed, in blocks of bytes or whole records."""

from kinmer.fasta.peek import FastaLook, look_into
from kinmer.fasta.records import (
    BLOCK_BYTES,
    FastaBlock,
    base_count,
    prefixes_of,
    read_blocks,
    read_measured,
    read_records,
)
from kinmer.fasta.streams import nonempty, spooled
from kinmer.inputs import is_stream

__all__ = [
    "BLOCK_BYTES",
    "FastaBlock",
    "FastaLook",
    "base_count",
    "is_stream",
    "look_into",
    "nonempty",
    "prefixes_of",
    "read_blocks",
    "read_measured",
    "read_records",
    "spooled",
]
