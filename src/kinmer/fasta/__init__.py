"""FASTA, plain or compressed, in blocks of bytes or whole records."""

from kinmer.fasta.blocks import BLOCK_BYTES, FastaBlock, read_blocks, read_records
from kinmer.fasta.sources import is_stream, nonempty, spooled

__all__ = [
    "BLOCK_BYTES",
    "FastaBlock",
    "is_stream",
    "nonempty",
    "read_blocks",
    "read_records",
    "spooled",
]
