"""Lineages: their ranks, and how they are written down."""

from kinmer.taxonomy.ranks import RANKS, rank_columns
from kinmer.taxonomy.strings import Lineage, is_lineage, normal_accession, parse_lineage
from kinmer.taxonomy.taxdump import Taxdump

__all__ = [
    "RANKS",
    "Lineage",
    "Taxdump",
    "is_lineage",
    "normal_accession",
    "parse_lineage",
    "rank_columns",
]
