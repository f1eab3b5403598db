"""What a search gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kinmer.taxonomy import RANKS

__all__ = ["NO_PROFILE", "Evidence", "Hit", "Homology", "MoleculeCall", "QueryResult", "RankCall"]

NO_PROFILE = "no profile"
Homology = Literal["homologous", "composition only", "both"]


@dataclass(frozen=True)
class RankCall:
    """The name at one rank that the nearest genomes' votes give, and its share of all votes.

    probability : that the name is right, by the index's calibration; None where there is none.
    """

    name: str
    share: float
    probability: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What an alignment says of a hit.

    ani : average nucleotide identity of what aligns, a share; None where nothing does.
    aligned_fraction : of the query's letters that align, a share. kind : what the hit rests on.
    """

    ani: float | None
    aligned_fraction: float
    kind: Homology


@dataclass(frozen=True)
class Hit:
    """One relative.

    rank : from 1. length : in letters, and `gc`, a share; None where unknown. genome : that the sequence
    belongs to. start, stop : the part of the sequence that is nearest, letters from 0, stop excluded; None
    where it is the whole sequence or genome. name : the id, or ``genome:id`` where several genomes of the
    index have that id: what the entry can be asked for by.
    """

    rank: int
    id: str
    distance: float
    length: int | None
    gc: float | None
    metadata: dict[str, object]
    genome: str | None = None
    start: int | None = None
    stop: int | None = None
    evidence: Evidence | None = None
    name: str = ""


@dataclass(frozen=True)
class MoleculeCall:
    """What kind of molecule a query is: the likeliest one, its probability and those of all kinds."""

    name: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class QueryResult:
    """A query and its nearest relatives, nearest first.

    length, bases : of the query: all its letters, and A, C, G, T among them; None where unknown.
    consensus : by rank, what the nearest genomes agree on; see `kinmer.confidence`.
    verdict : the answer in words, such as ``new species of genus Vibrio``; empty where none was asked for.
    rank, name : the deepest rank whose probability reaches the threshold; None for nothing near.
    facets : by kind of molecule, the nearest relatives of that kind.
    no_profile : the query has nothing to compare, and the verdict says why: ``no profile: …``.
    columns : of the index's metadata, where there are no hits to tell them.
    """

    id: str
    length: int | None
    hits: tuple[Hit, ...]
    consensus: Mapping[str, RankCall]
    verdict: str = ""
    rank: str | None = None
    name: str | None = None
    molecule: MoleculeCall | None = None
    facets: dict[str, tuple[Hit, ...]] = field(default_factory=dict)
    no_profile: bool = False
    columns: tuple[str, ...] = ()
    bases: int | None = field(default=None, compare=False)

    @property
    def lineage(self) -> tuple[tuple[str, str], ...]:
        """Rank and name from domain down to the assigned rank; empty where none is assigned."""
        if self.rank is None or self.name is None:
            return ()
        above = RANKS[: RANKS.index(self.rank)]
        names = [(rank, self.consensus[rank].name) for rank in above if rank in self.consensus]
        return (*names, (self.rank, self.name))
