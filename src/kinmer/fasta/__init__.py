"""FASTA, plain or compressed, in blocks of bytes or whole records."""

from kinmer.fasta.bases import base_count
from kinmer.fasta.blocks import BLOCK_BYTES, FastaBlock, read_blocks, read_records

__all__ = ["BLOCK_BYTES", "FastaBlock", "base_count", "read_blocks", "read_records"]
