"""What composition cannot tell: how much of a query aligns to a genome, and how alike it is there."""

from __future__ import annotations

from kinmer.evidence.aligners import ALIGNERS, Aligner, aligner
from kinmer.evidence.alignments import (
    HOMOLOGOUS,
    Alignment,
    Kind,
    homologous,
    kind_of,
    rank_by_both,
    strength,
)
from kinmer.evidence.measuring import GenomeAligner, measure

__all__ = [
    "ALIGNERS",
    "HOMOLOGOUS",
    "Aligner",
    "Alignment",
    "GenomeAligner",
    "Kind",
    "aligner",
    "homologous",
    "kind_of",
    "measure",
    "rank_by_both",
    "strength",
]
