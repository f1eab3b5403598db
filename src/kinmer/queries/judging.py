"""What the candidates of a query say of it: lineage, verdict and molecule, by the index's calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence import Calibration, Judgements, Lineages, judge, verdicts
from kinmer.errors import UsageError
from kinmer.evidence import Alignment, strength
from kinmer.index import KinIndex
from kinmer.index.pooling import MOLECULES, LineageBook, pool_of
from kinmer.queries.results import Hit, MoleculeCall, RankCall
from kinmer.queries.sources import Queries
from kinmer.stores import Metric, distances_to, sort_hits
from kinmer.taxonomy import RANKS, taxon

__all__ = ["Judge", "Judgement", "with_proof"]

SAME_SPECIES, OTHER_SPECIES, LEAST_ALIGNED = 0.95, 0.92, 0.5

Log = Callable[[str], None]


@dataclass(frozen=True)
class Judgement:
    """What is said of one query; see `kinmer.queries.results.QueryResult`."""

    consensus: Mapping[str, RankCall] = field(default_factory=dict)
    verdict: str = ""
    rank: str | None = None
    name: str | None = None
    molecule: MoleculeCall | None = None


class Judge:
    """Judges the queries of one run; lineages that it has read it keeps until the index changes.

    Raises UsageError where a least probability is asked for and the index has no calibration.
    """

    def __init__(self, index: KinIndex, min_probability: float | None, log: Log) -> None:
        self._index, self._least, self._log = index, min_probability, log
        self._epoch = -1
        self._book = LineageBook(index)
        self._calibration: Calibration | None = None
        self._refresh()
        if min_probability is not None and self._calibration is None:
            raise UsageError(
                "the index has no calibration, and so there are no probabilities",
                check="give the index a taxonomy (kinmer db update --metadata), then kinmer db calibrate",
            )

    def judge(
        self, queries: Queries, places: NDArray[np.int64], far: NDArray[np.float32], metric: Metric
    ) -> list[Judgement]:
        """What candidates say of queries: rows (q, c), -1 for none, and distances by `metric`."""
        self._refresh()
        if not len(queries.ids):
            return []
        if metric != "cosine":
            near = np.asarray(self._index.rows.vectors[places.ravel()]).reshape(*places.shape, -1)
            places, far = sort_hits(
                places, distances_to(queries.vectors, near, "cosine"), max(1, places.shape[1])
            )
        lengths = np.array([length or 0 for length in queries.lengths], dtype=np.int64)
        pool = pool_of(self._index, self._book, places, far, lengths)
        lineages = self._book.lineages()
        found = judge(pool, lineages, self._calibration)
        told = verdicts(found, lineages, self._least)
        return [
            Judgement(
                _consensus(found, lineages, row),
                told[row].text if self._calibration is not None else "",
                told[row].rank,
                told[row].name,
                _molecule(found, row),
            )
            for row in range(len(queries.ids))
        ]

    def _refresh(self) -> None:
        """Begin anew where the index is another than it was."""
        if self._epoch == self._index.table.epoch:
            return
        self._epoch = self._index.table.epoch
        self._book = LineageBook(self._index)
        told = self._index.calibrated()
        self._calibration = None if told is None else told.calibration
        if told is not None and told.is_stale(len(self._index), self._index.labels):
            self._log("the index has changed since it was calibrated: kinmer db calibrate")


def with_proof(judged: Judgement, hits: Sequence[Hit], ranks: Mapping[str, str]) -> Judgement:
    """The judgement, or what an alignment proves in its place.

    Of the hit that aligns best (`kinmer.evidence.strength`), at least half of the query has to align. Then an
    average nucleotide identity of 95 %, the usual boundary of species (Jain et al. 2018,
    doi:10.1038/s41467-018-07641-9; Parks et al. 2020, doi:10.1038/s41587-020-0501-8), proves that species.
    One of less than 92 % disproves a species that composition would name; strains are not far below 95 in
    what an aligner of sparse k-mers tells of a contig. Names that composition does not share have no share of
    its votes. ranks : the metadata column of every rank.
    """
    told = [(one, Alignment(one.evidence.ani, one.evidence.aligned_fraction)) for one in hits if one.evidence]
    hit, best = max(told, key=lambda one: strength(one[1]), default=(None, Alignment(None, 0.0)))
    if hit is None or best.ani is None or best.aligned_fraction < LEAST_ALIGNED:
        return judged
    names = {
        rank: name
        for rank, column in ranks.items()
        if (name := taxon(rank, hit.metadata.get(column))) is not None
    }
    species, genus = names.get("species"), judged.consensus.get("genus")
    if best.ani >= SAME_SPECIES and species is not None:
        calls = {rank: _call(judged.consensus.get(rank), name) for rank, name in names.items()}
        return replace(
            judged, consensus=calls, verdict=f"species {species}, by alignment", rank="species", name=species
        )
    if best.ani < OTHER_SPECIES and judged.rank == "species" and genus is not None:
        verdict = f"new species of genus {genus.name}, by alignment"
        return replace(judged, verdict=verdict, rank="genus", name=genus.name)
    return judged


def _call(call: RankCall | None, name: str) -> RankCall:
    return call if call is not None and call.name == name else RankCall(name, 0.0)


def _consensus(found: Judgements, lineages: Lineages, row: int) -> dict[str, RankCall]:
    calls: dict[str, RankCall] = {}
    for place, rank in enumerate(RANKS):
        code = int(found.names[row, place])
        if code >= 0:
            probability = float(found.probability[row, place])
            calls[rank] = RankCall(
                lineages.names[place][code],
                float(found.share[row, place]),
                None if np.isnan(probability) else probability,
            )
    return calls


def _molecule(found: Judgements, row: int) -> MoleculeCall | None:
    given = found.molecule[row].astype(float).tolist()
    if np.isnan(given).any():
        return None
    best = int(np.argmax(given))
    return MoleculeCall(MOLECULES[best], given[best], dict(zip(MOLECULES, given, strict=True)))
