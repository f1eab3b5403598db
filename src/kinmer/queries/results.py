"""The records of a search: the result of every query, and the rows of tables that results make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kinmer.molecules import MOLECULES
from kinmer.taxonomy import RANKS

NO_PROFILE = "no profile"

Homology = Literal["homologous", "composition only", "both"]


@dataclass(frozen=True)
class RankCall:
    """The name at one rank that most of the nearest genomes have, and its share of their votes.

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
    """An entry of the index near a query, or a genome.

    Parameters
    ----------
    rank : int
        From 1. length : in letters, and `gc`, a share; None where unknown. genome : that the sequence
    belongs to. start, stop : the part of the sequence that is nearest, letters from 0, stop excluded; None
    where it is the whole sequence or genome. name : the id, or ``genome:id`` where several genomes of the
    Notes
    -----
    index have that id; the entry can be asked for by it. db : the index, where several were searched.
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
    db: str | None = None


@dataclass(frozen=True)
class MoleculeCall:
    """The kind of molecule of a query or "unsure", the likeliest one's probability and those of all kinds."""

    name: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class UnitCall:
    """The plasmid taxonomic unit (PTU) of a query, and the probability that it is a plasmid of this unit."""

    name: str
    probability: float


@dataclass(frozen=True)
class Stretch:
    """A part of a query that is of another kind of molecule than the whole.

    start, stop : letters from 0, stop excluded. probability : the mean of its windows'.
    """

    start: int
    stop: int
    molecule: str
    probability: float

    def __str__(self) -> str:
        """Such as ``virus 120001-160000 (0.97)``: the positions as samtools and BLAST count them."""
        return f"{self.molecule} {self.start + 1}-{self.stop} ({self.probability:.2f})"


@dataclass(frozen=True)
class QueryResult:
    """A query and its nearest relatives, nearest first.

    Parameters
    ----------
    length, bases : int | None
        Of the query: all its letters, and A, C, G, T among them; None where unknown.
    consensus : Mapping[str, RankCall]
        By rank, the names that the nearest genomes agree on; see `kinmer.confidence`.
    verdict : str
        The answer in words, such as ``new species of genus Vibrio``; empty without a calibration.
    rank, name : str | None
        The deepest rank whose probability reaches the threshold; None for nothing near.
    facets : dict[str, tuple[Hit, ...]]
        By kind of molecule, the nearest relatives of that kind.
    no_profile : bool
        The query has nothing to compare, and the verdict says why: ``no profile: …``.
    why : str
        What the names rest on: composition, homology (shared k-mers) or both; empty without names.
    ptu : UnitCall | None
        Where the index's metadata have a column ``ptu`` and one is likelier right than wrong.
    columns : tuple[str, ...]
        Of the index's metadata, where there are no hits that have them.
    db : str | None
        The index whose verdict it is where several were searched, empty for none; None for a single one.
    windows : tuple[Stretch, ...] | None
        Where windows of the query are of another kind of molecule than the whole; None where not asked for.
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
    why: str = ""
    ptu: UnitCall | None = None
    db: str | None = None
    windows: tuple[Stretch, ...] | None = None

    @property
    def lineage(self) -> tuple[tuple[str, str], ...]:
        """Rank and name from domain to the assigned rank; empty where none is assigned."""
        if self.rank is None or self.name is None:
            return ()
        above = RANKS[: RANKS.index(self.rank)]
        names = [(rank, self.consensus[rank].name) for rank in above if rank in self.consensus]
        return (*names, (self.rank, self.name))

    def every_hit(self) -> Iterator[tuple[str | None, Hit]]:
        """All hits with the name of their facet, None for those of all kinds."""
        yield from ((None, hit) for hit in self.hits)
        for name, hits in self.facets.items():
            yield from ((name, hit) for hit in hits)


CALL_COLUMNS = (
    *("query_id", "length", "verdict", "rank", "name"),
    *(column for rank in RANKS for column in (rank, f"{rank}_p")),
    *("molecule", "molecule_p", *(f"{kind}_p" for kind in MOLECULES), "nearest", "nearest_distance", "why"),
    *("ptu", "ptu_p"),
)


def call_columns(db: bool, windows: bool = False) -> tuple[str, ...]:
    """The columns of a table of calls. db : several indexes were searched. windows : were asked for."""
    return (*CALL_COLUMNS, *(["db"] if db else []), *(["windows"] if windows else []))


def call_values(result: QueryResult) -> list[Any]:
    """The values of `call_columns` for a query; None where there is none."""
    values: list[Any] = [result.id, result.length, result.verdict, result.rank, result.name]
    for rank in RANKS:
        call = result.consensus.get(rank)
        values += [None, None] if call is None else [call.name, call.probability]
    kind = result.molecule
    values += [None, None] if kind is None else [kind.name, kind.probability]
    values += [None if kind is None else kind.probabilities.get(name) for name in MOLECULES]
    nearest = result.hits[0] if result.hits else None
    values += [None, None] if nearest is None else [nearest.name or nearest.id, nearest.distance]
    unit = result.ptu
    values += [result.why or None, *((None, None) if unit is None else (unit.name, unit.probability))]
    values += [] if result.db is None else [result.db or None]
    return values if result.windows is None else [*values, "; ".join(map(str, result.windows)) or None]


def hit_columns(evidence: bool, facets: bool, db: bool) -> list[str]:
    """The columns of a table of hits, but for the metadata. db : several indexes were searched."""
    columns = ["query_id", "rank", "hit_id", "distance", "length", "gc", "genome", "start", "stop"]
    aligned = ["ani", "aligned_fraction", "homology"] if evidence else []
    return [*columns, *aligned, *(["facet"] if facets else []), *(["db"] if db else [])]


def hit_values(result: QueryResult, hit: Hit, facet: str | None) -> dict[str, Any]:
    """The value of every one of `hit_columns` for a hit; None where there is none."""
    proof = hit.evidence
    return {
        "query_id": result.id,
        "rank": hit.rank,
        "hit_id": hit.id,
        "distance": hit.distance,
        "length": hit.length,
        "gc": hit.gc,
        "genome": hit.genome,
        "start": hit.start,
        "stop": hit.stop,
        "ani": None if proof is None else proof.ani,
        "aligned_fraction": None if proof is None else proof.aligned_fraction,
        "homology": None if proof is None else proof.kind,
        "facet": facet,
        "db": hit.db,
    }
