"""FASTA, plain or compressed, in blocks of bytes or whole records."""

from kinmer.fasta.blocks import BLOCK_BYTES, FastaBlock, read_blocks, read_records
from kinmer.fasta.samples import prefixes_of
from kinmer.fasta.sources import is_stream, nonempty, spooled

__all__ = [
    "BLOCK_BYTES",
    "FastaBlock",
    "is_stream",
    "nonempty",
    "prefixes_of",
    "read_blocks",
    "read_records",
    "spooled",
]
