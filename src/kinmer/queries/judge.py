"""From the vectors of queries to their answers: hits, lineage, verdict, molecule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence import TOO_SHORT, Calibration, Judgements, Lineages, calibration_of, judge, verdicts
from kinmer.confidence.pool import MOLECULES, POOL, LineageBook, molecule_column, pool_of
from kinmer.errors import UsageError
from kinmer.index import Entry, Storage
from kinmer.index.manifest import quoted
from kinmer.index.rows import PIECE
from kinmer.queries.evidence import Alignment, IndexAligner, strength, with_evidence
from kinmer.queries.results import NO_PROFILE, Hit, MoleculeCall, Queries, QueryResult, RankCall
from kinmer.stores import Metric, distances_to, sort_hits
from kinmer.taxonomy import RANKS, rank_columns, taxon

__all__ = ["Asked", "Judge", "Judgement", "Merge", "answers", "with_proof"]


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

    def __init__(self, index: Storage, min_probability: float | None, log: Log) -> None:
        self._index, self._least, self._log = index, min_probability, log
        self._epoch, self._warned = -1, ""
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
        sizes = queries.counted or queries.bases or queries.lengths
        lengths = np.array([size or 0 for size in sizes], dtype=np.int64)
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
        told = calibration_of(self._index)
        self._calibration = None if told is None else told.calibration
        if told is not None and (line := told.warning(self._index.table)) and line != self._warned:
            self._warned = line
            self._log(line)


def with_proof(judged: Judgement, hits: Sequence[Hit], ranks: Mapping[str, str]) -> Judgement:
    """The judgement, or what an alignment proves in its place.

    Of the hit that aligns best (`kinmer.queries.evidence.strength`), at least half of the query has to align.
    Then an average nucleotide identity of 95 %, the usual boundary of species (Jain et al. 2018,
    doi:10.1038/s41467-018-07641-9; Parks et al. 2020, doi:10.1038/s41587-020-0501-8), proves that species.
    One of less than 92 % disproves a species that composition would name; strains are not far below 95 in
    what an aligner of sparse k-mers tells of a contig. Names that composition does not share have no share of
    its votes. ranks : the metadata column of every rank.
    """
    told = [(one, Alignment(one.evidence.ani, one.evidence.aligned_fraction)) for one in hits if one.evidence]
    hit, best = max(told, key=lambda one: strength(one[1]), default=(None, Alignment(None, 0.0)))
    if (
        hit is None
        or best.ani is None
        or best.aligned_fraction < LEAST_ALIGNED
        or judged.verdict == TOO_SHORT
    ):
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


Merge = Literal["sequence", "genome"]

# Candidates that are aligned where the order is to be by both.
ALIGNED = 50


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is wanted of every query; see `kinmer.search`."""

    k: int
    metric: Metric
    merge: Merge = "sequence"
    where: str | None = None
    facets: Sequence[str] = ()
    max_distance: float | None = None
    min_probability: float | None = None
    evidence: bool = False
    rank_by_evidence: bool = False
    exclude_self: bool = False
    threads: int | None = None
    log: Callable[[str], None] = field(default=lambda line: None)


def answers(blocks: Iterator[Queries], index: Storage, asked: Asked, *, close: bool) -> Iterator[QueryResult]:
    """The answers to all queries, in their order; the index is closed at the end if so wanted."""
    aligner = None
    try:
        judge = Judge(index, asked.min_probability, asked.log)
        if asked.evidence:
            aligner = IndexAligner(index, by=asked.merge, threads=asked.threads, log=asked.log)
        for block in blocks:
            for part in block.parts():
                known = part.known()
                found: list[QueryResult] = []
                if known.ids:
                    with index.reading():
                        found = _Answerer(index, asked, judge, aligner).answer(known)
                yield from _in_order(part, found, asked, tuple(index.columns))
    finally:
        if aligner is not None:
            aligner.close()
        if close:
            index.close()


def _in_order(
    asked_of: Queries, found: list[QueryResult], asked: Asked, columns: tuple[str, ...]
) -> Iterator[QueryResult]:
    """The answers in the order of the queries, those that have no profile among them."""
    if asked_of.reasons is None:
        yield from found
        return
    answered = iter(found)
    rows = zip(asked_of.ids, asked_of.lengths, asked_of.reasons, strict=True)
    for name, length, reason in rows:
        if reason:
            facets: dict[str, tuple[Hit, ...]] = dict.fromkeys(asked.facets, ())
            told = f"{NO_PROFILE}: {reason}"
            yield QueryResult(name, length, (), {}, told, facets=facets, no_profile=True, columns=columns)
        else:
            yield next(answered)


# Rows of candidates (q, c), and their distances.
_Near = tuple[NDArray[np.int64], NDArray[np.float32]]
# Hits of a query, and the numbers of what they are.
_Hits = tuple[tuple[Hit, ...], list[int]]


class _Answerer:
    """Answers some queries, all of one state of the index."""

    def __init__(self, index: Storage, asked: Asked, judge: Judge, aligner: IndexAligner | None) -> None:
        self._index, self._asked, self._judge, self._aligner = index, asked, judge, aligner
        self._molecule, self._ranks = molecule_column(index.columns), rank_columns(index.columns)
        self._allowed: NDArray[np.bool_] | None = None
        if asked.where is not None:
            self._allowed = index.rows_where(index.select(asked.where))
        # Arrays are as wide as k: a k beyond the number of entries must not take more memory than these.
        wanted = max(asked.k, ALIGNED) if asked.rank_by_evidence else asked.k
        self._k = min(wanted, max(1, len(index)))

    def answer(self, queries: Queries) -> list[QueryResult]:
        index, asked = self._index, self._asked
        own = None if queries.numbers is None else index.remaining(queries.numbers)
        if own is None and asked.exclude_self:
            own = index.selves(queries.ids, queries.vectors)
        pool = index.nearest(
            queries.vectors, min(len(index.rows), max(POOL, 2 * self._k)), metric=asked.metric, exclude=own
        )
        judged = self._judge.judge(queries, pool[0][:, :POOL], pool[1][:, :POOL], asked.metric)
        hits = self._proved(queries, self._hits(queries, own, self._allowed, pool))
        if self._aligner is not None:
            pairs = zip(judged, hits, strict=True)
            judged = [with_proof(one, near, self._ranks) for one, near in pairs]
        facets = {
            kind: self._proved(queries, self._hits(queries, own, self._of_kind(kind), None))
            for kind in asked.facets
        }
        return [
            QueryResult(
                name,
                queries.lengths[row],
                hits[row],
                one.consensus,
                one.verdict,
                one.rank,
                one.name,
                one.molecule,
                {kind: found[row] for kind, found in facets.items()},
                bases=None if queries.bases is None else queries.bases[row],
            )
            for row, (name, one) in enumerate(zip(queries.ids, judged, strict=True))
        ]

    def _of_kind(self, kind: str) -> NDArray[np.bool_]:
        """(rows,) which are of sequences of a kind of molecule; contigs count as chromosome."""
        if self._molecule is None:
            return np.zeros(len(self._index.rows), dtype=bool)
        kinds = ("chromosome", "contig") if kind == "chromosome" else (kind,)
        marks = ", ".join("?" * len(kinds))
        sql = f"lower({quoted(self._molecule)}) IN ({marks})"
        rows = self._index.rows_where(self._index.table.select(sql, kinds))
        return rows if self._allowed is None else rows & self._allowed

    def _proved(self, queries: Queries, found: list[_Hits]) -> list[tuple[Hit, ...]]:
        """The hits that are asked for, with evidence where that is."""
        hits, k = [one for one, _ in found], self._asked.k
        if self._aligner is None or queries.letters is None:
            return [one[:k] for one in hits]
        numbers = [one for _, one in found]
        return with_evidence(
            self._aligner, queries.letters, hits, numbers, k, rerank=self._asked.rank_by_evidence
        )

    def _hits(
        self,
        queries: Queries,
        own: NDArray[np.int64] | None,
        allowed: NDArray[np.bool_] | None,
        pool: _Near | None,
    ) -> list[_Hits]:
        """The hits of every query, nearest first. pool : the candidates where all rows may be hits."""
        candidates = None if allowed is not None else pool
        numbers, far, rows = self._index.search(
            queries.vectors,
            self._k,
            by=self._asked.merge,
            metric=self._asked.metric,
            exclude=own,
            allowed=allowed,
            candidates=candidates,
        )
        name = self._names(numbers, rows)
        found = []
        for line, distances, places in zip(numbers.tolist(), far.tolist(), rows.tolist(), strict=True):
            near = self._near(line, distances)
            hits = [
                self._hit(at + 1, *name(line[at], places[at]), distances[at], places[at])
                for at in range(near)
            ]
            found.append((tuple(hits), line[:near]))
        return found

    def _names(
        self, numbers: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> Callable[[int, int], tuple[str, str, Entry, str]]:
        """Gives for a hit's number and row its id, its name, the entry that speaks for it, and its genome."""
        if self._asked.merge == "genome":
            entries = self._members(numbers, rows)
        else:
            known = self._index.entries(numbers)
            pairs = zip(numbers[numbers >= 0].tolist(), rows[numbers >= 0].tolist(), strict=True)
            entries = {(number, row): known[number] for number, row in pairs}
        genomes = self._index.genomes(np.array([one.genome for one in entries.values()], dtype=np.int64))

        names = self._index.names(entries.values()) if self._asked.merge == "sequence" else {}

        def name(number: int, row: int) -> tuple[str, str, Entry, str]:
            entry = entries[number, row]
            genome = genomes[entry.genome].name
            if self._asked.merge == "genome":
                return genome, genome, entry, genome
            return entry.id, names[entry.number], entry, genome

        return name

    def _near(self, numbers: list[int], distances: list[float]) -> int:
        """How many of the hits count: those that are there, and near enough."""
        most = self._asked.max_distance
        count = 0
        for number, distance in zip(numbers, distances, strict=True):
            if number < 0 or (most is not None and distance > most):
                break
            count += 1
        return count

    def _members(self, groups: NDArray[np.int64], rows: NDArray[np.int64]) -> dict[tuple[int, int], Entry]:
        """For every genome and nearest row the sequence that speaks for it: the row's, else its first."""
        pairs = np.unique(np.stack([groups[groups >= 0], rows[groups >= 0]], axis=1), axis=0)
        entry = self._index.rows.entry[pairs[:, 1]]
        known = self._index.entries(entry)
        first = self._index.table.first_members(np.unique(pairs[entry < 0, 0]).tolist())
        return {
            (group, row): known[number] if number >= 0 else first[group]
            for (group, row), number in zip(pairs.tolist(), entry.tolist(), strict=True)
        }

    def _hit(
        self, rank: int, own: str, name: str, entry: Entry, genome: str, distance: float, row: int
    ) -> Hit:
        record = self._index.rows.records[row]
        piece = int(record["kind"]) == PIECE
        return Hit(
            rank,
            own,
            distance,
            entry.length,
            entry.gc,
            dict(zip(self._index.columns, entry.values, strict=True)),
            genome,
            int(record["start"]) if piece else None,
            int(record["stop"]) if piece else None,
            name=name,
        )
