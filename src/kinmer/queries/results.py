"""The records of a search: queries as they come, and what is found for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from kinmer.taxonomy import RANKS

__all__ = [
    "BATCH_ROWS",
    "NO_PROFILE",
    "Evidence",
    "Hit",
    "Homology",
    "MoleculeCall",
    "Queries",
    "QueryResult",
    "RankCall",
]

NO_PROFILE = "no profile"
# Queries embedded and searched together; the answers do not depend on it.
BATCH_ROWS = 1024

_T = TypeVar("_T")
Homology = Literal["homologous", "composition only", "both"]


@dataclass(frozen=True)
class Queries:
    """Some queries: ids, lengths (None: unknown), vectors (q, dim), and their letters where wanted.

    numbers : (q,) of the entries that they are, None where they are of no index. reasons : why a query has no
    profile, and so no vector that means anything; empty for one that has. None: all have one. bases : of A,
    C, G, T; counted : `kinmer.counting.counted_of`, by which it is judged; None: unknown.
    """

    ids: list[str]
    lengths: Sequence[int | None]
    vectors: NDArray[np.float32]
    letters: Sequence[bytes] | None = None
    numbers: NDArray[np.int64] | None = None
    reasons: Sequence[str] | None = None
    bases: Sequence[int] | None = None
    counted: Sequence[int] | None = None

    def parts(self) -> Iterator[Queries]:
        """The same, at most `BATCH_ROWS` at a time."""
        for start in range(0, len(self.ids), BATCH_ROWS):
            yield self._taken(range(start, min(start + BATCH_ROWS, len(self.ids))))

    def known(self) -> Queries:
        """Those that have a profile."""
        if self.reasons is None:
            return self
        return self._taken([row for row, reason in enumerate(self.reasons) if not reason])

    def _taken(self, rows: Sequence[int]) -> Queries:
        def taken(values: Sequence[_T] | None) -> list[_T] | None:
            return None if values is None else [values[row] for row in rows]

        return Queries(
            [self.ids[row] for row in rows],
            [self.lengths[row] for row in rows],
            self.vectors[list(rows)],
            taken(self.letters),
            None if self.numbers is None else self.numbers[list(rows)],
            taken(self.reasons),
            taken(self.bases),
            taken(self.counted),
        )


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
