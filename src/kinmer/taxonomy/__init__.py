"""Lineages: their ranks, how they are written down, and what the hits of a query agree on."""

from kinmer.taxonomy.ranks import RANKS, rank_columns
from kinmer.taxonomy.strings import Lineage, is_lineage, normal_accession, parse_lineage
from kinmer.taxonomy.taxdump import Taxdump
from kinmer.taxonomy.votes import WEIGHT_SCALE, RankCall, consensus, vote_weights

__all__ = [
    "RANKS",
    "WEIGHT_SCALE",
    "Lineage",
    "RankCall",
    "Taxdump",
    "consensus",
    "is_lineage",
    "normal_accession",
    "parse_lineage",
    "rank_columns",
    "vote_weights",
]
