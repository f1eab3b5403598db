"""What an alignment says, when it is a proof, and the order of hits by composition and alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["HOMOLOGOUS", "Alignment", "Kind", "homologous", "kind_of", "rank_by_both", "strength"]

Kind = Literal["homologous", "composition only", "both"]

# Chosen on two draws of a benchmark of genomes, tried on three others: benchmarks/evidence.py.
HOMOLOGOUS = 0.5
_WORD = 10


@dataclass(frozen=True)
class Alignment:
    """A query against a genome.

    ani : average nucleotide identity of what aligns, 0 to 1; None where nothing does. aligned_fraction : the
    share of the query's letters that align, 0 to 1.
    """

    ani: float | None
    aligned_fraction: float


def strength(alignment: Alignment) -> float:
    """ANI to the tenth, times the aligned fraction: the share of the query's 10-mers that the genome has.

    0 to 1. The power weighs a difference in identity as much as it tells of kinship: of 95 % and 97 %
    identity, which tell a species from a sister, it makes .60 and .74.
    """
    return 0.0 if alignment.ani is None else alignment.ani**_WORD * alignment.aligned_fraction


def homologous(alignment: Alignment) -> bool:
    """Whether an alignment is believed before composition: its `strength` is `HOMOLOGOUS` or more.

    That is an identity of 93.3 % over the whole query, 96 % over three quarters, 99 % over 55 %.
    """
    return strength(alignment) >= HOMOLOGOUS


def kind_of(alignment: Alignment, near: bool) -> Kind:
    """What a hit rests on; `near`: composition alone would have put it among the hits."""
    if not homologous(alignment):
        return "composition only"
    return "both" if near else "homologous"


def rank_by_both(distances: ArrayLike, alignments: Sequence[Alignment]) -> NDArray[np.int64]:
    """The order of a query's candidates: homologous ones by `strength`, then all others by distance.

    distances : (n,) of composition. alignments : n. Gives (n,) places in them, the first to show first. Of
    what is alike the one that came first stays first, so that without a homologue the order is that of the
    distances.
    """
    given = np.asarray(distances, np.float64)
    strengths = np.array([strength(one) for one in alignments], np.float64)
    found = np.where(strengths >= HOMOLOGOUS, strengths, 0.0)
    return np.lexsort((given, -found)).astype(np.int64)
