"""Protein families: what a sequence's genes say of its kind of molecule."""

from kinmer.proteins.families import Families
from kinmer.proteins.odds import GENES, GeneOdds, gene_log_odds

__all__ = ["GENES", "Families", "GeneOdds", "gene_log_odds"]
