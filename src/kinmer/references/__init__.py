"""Genome files of a reference: found in folders, packages and manifests, fetched, checked by their sums."""

from kinmer.references.checksums import verify_genome
from kinmer.references.fetching import fetch
from kinmer.references.finding import find_genomes
from kinmer.references.genomes import GenomeFile
from kinmer.references.manifests import read_table
from kinmer.references.packages import is_report, is_taxonomy, read_reports

__all__ = [
    "GenomeFile",
    "fetch",
    "find_genomes",
    "is_report",
    "is_taxonomy",
    "read_reports",
    "read_table",
    "verify_genome",
]
