"""Lineages: their ranks, and how they are written down."""

from kinmer.taxonomy.lineage import (
    LABEL_COLUMNS,
    RANKS,
    Lineage,
    is_lineage,
    is_missing,
    known_rows,
    known_values,
    normal_accession,
    parse_lineage,
    rank_columns,
    rank_of,
    rule_of,
    taxon,
)
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
