"""Lineages: their ranks, how they are written down, and what the hits of a query agree on."""

from kinmer.taxonomy.ranks import RANKS, rank_columns
from kinmer.taxonomy.votes import WEIGHT_SCALE, RankCall, Vote, consensus, vote_weights

__all__ = ["RANKS", "WEIGHT_SCALE", "RankCall", "Vote", "consensus", "rank_columns", "vote_weights"]
