"""Ingestion: indexes are made of sequences, their files and their metadata, and changed.

build_index : of embedded sequences, or of FASTA files
build_reference : of genome files, each a genome
add_to_index : more sequences
update_index : replaces sequences, or metadata alone
delete_from_index : by id, genome or condition
compact_index : leaves out what was deleted
calibrate_index : learns how far answers can be trusted
check_index, describe_index : whether an index is whole, and what it holds
find_genomes, verify_genome : the files of a reference
"""

from kinmer.library.build import build_index, build_reference
from kinmer.library.check import CheckReport, IndexInfo, IndexRow, check_index, describe_index, index_rows
from kinmer.library.genomes import GenomeFile, verify_genome
from kinmer.library.packages import find_genomes
from kinmer.library.update import (
    add_to_index,
    calibrate_index,
    compact_index,
    delete_from_index,
    update_index,
)

__all__ = [
    "CheckReport",
    "GenomeFile",
    "IndexInfo",
    "IndexRow",
    "add_to_index",
    "build_index",
    "build_reference",
    "calibrate_index",
    "check_index",
    "compact_index",
    "delete_from_index",
    "describe_index",
    "find_genomes",
    "index_rows",
    "update_index",
    "verify_genome",
]
