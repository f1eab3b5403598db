"""Ingestion: indexes are made of sequences, their files and their metadata, and changed.

KinIndex : an index that can be searched and changed
open_index : opens one
build_index : of embedded sequences, or of FASTA files
build_reference : of genome files, each a genome
add_to_index : more sequences
update_index : replaces sequences, or metadata alone
delete_from_index : by id, genome or condition
compact_index : leaves out what was deleted
check_index : proves one whole
describe_index : its figures
calibrate_index : learns how far answers can be trusted
find_genomes, verify_genome : the files of a reference
"""

from kinmer.library.build import build_index, build_reference
from kinmer.library.check import CheckReport, IndexInfo, IndexRow, index_rows
from kinmer.library.genomes import GenomeFile, verify_genome
from kinmer.library.join import open_labeled
from kinmer.library.packages import find_genomes
from kinmer.library.update import (
    KinIndex,
    add_to_index,
    calibrate_index,
    check_index,
    compact_index,
    delete_from_index,
    describe_index,
    open_index,
    update_index,
)

__all__ = [
    "CheckReport",
    "GenomeFile",
    "IndexInfo",
    "IndexRow",
    "KinIndex",
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
    "open_index",
    "open_labeled",
    "update_index",
    "verify_genome",
]
