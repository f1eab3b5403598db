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

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinmer.library.build import build_index as build_index
    from kinmer.library.build import build_reference as build_reference
    from kinmer.library.check import CheckReport as CheckReport
    from kinmer.library.check import IndexInfo as IndexInfo
    from kinmer.library.check import IndexRow as IndexRow
    from kinmer.library.check import index_rows as index_rows
    from kinmer.library.genomes import GenomeFile as GenomeFile
    from kinmer.library.genomes import verify_genome as verify_genome
    from kinmer.library.join import open_labeled as open_labeled
    from kinmer.library.packages import find_genomes as find_genomes
    from kinmer.library.update import KinIndex as KinIndex
    from kinmer.library.update import add_to_index as add_to_index
    from kinmer.library.update import calibrate_index as calibrate_index
    from kinmer.library.update import check_index as check_index
    from kinmer.library.update import compact_index as compact_index
    from kinmer.library.update import delete_from_index as delete_from_index
    from kinmer.library.update import describe_index as describe_index
    from kinmer.library.update import open_index as open_index
    from kinmer.library.update import update_index as update_index

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

# Read when a name is first used: a search needs little of this room, and much of it is slow to import.
_FILES = {
    "build": ("build_index", "build_reference"),
    "check": ("CheckReport", "IndexInfo", "IndexRow", "index_rows"),
    "genomes": ("GenomeFile", "verify_genome"),
    "join": ("open_labeled",),
    "packages": ("find_genomes",),
    "update": (
        "KinIndex",
        "add_to_index",
        "calibrate_index",
        "check_index",
        "compact_index",
        "delete_from_index",
        "describe_index",
        "open_index",
        "update_index",
    ),
}


def __getattr__(name: str) -> Any:
    for file, names in _FILES.items():
        if name in names:
            return getattr(import_module(f"kinmer.library.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
