"""Lineages: their ranks, and how they are written down."""

from kinmer.taxonomy.missing import LABEL_COLUMNS, is_missing, known_rows, known_values, rule_of, taxon
from kinmer.taxonomy.ranks import RANKS, rank_columns, rank_of
from kinmer.taxonomy.strings import Lineage, is_lineage, normal_accession, parse_lineage
from kinmer.taxonomy.taxdump import Taxdump

__all__ = [
    "LABEL_COLUMNS",
    "RANKS",
    "Lineage",
    "Taxdump",
    "is_lineage",
    "is_missing",
    "known_rows",
    "known_values",
    "normal_accession",
    "parse_lineage",
    "rank_columns",
    "rank_of",
    "rule_of",
    "taxon",
]
