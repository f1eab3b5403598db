"""From the vectors of queries to their results: hits, lineage, verdict, molecule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence import TOO_SHORT
from kinmer.confidence.pool import POOL, molecule_column
from kinmer.errors import UsageError
from kinmer.index import Entry, Storage
from kinmer.index.manifest import quoted
from kinmer.index.rows import PIECE
from kinmer.molecules import MOLECULES
from kinmer.queries.evidence import Alignment, IndexAligner, strength, with_evidence
from kinmer.queries.intake import Queries, window_spans
from kinmer.queries.results import NO_PROFILE, Hit, QueryResult, RankCall, Stretch
from kinmer.queries.sample import SAMPLE, Judge, Judgement, Prior, Scored, check_prior
from kinmer.queries.windows import LEAST_WINDOW, stretches
from kinmer.stores import Metric, check_metric
from kinmer.taxonomy import rank_columns, taxon

By = Literal["sequence", "genome"]
Log = Callable[[str], None]
# Rows of candidates (q, c), and their distances.
_Nearest = tuple[NDArray[np.int64], NDArray[np.float32]]
# Hits of a query, and the numbers of what they are.
_Hits = tuple[tuple[Hit, ...], list[int]]

# Candidates that are aligned where the order is to be by both.
ALIGNED = 50
# Letters of queries that wait for a sample to be known.
HELD = 1 << 27
# Bytes that the scores of a window take as long as the sample is not known.
WINDOW_BYTES = 1024
SAME_SPECIES, OTHER_SPECIES, LEAST_ALIGNED = 0.95, 0.92, 0.5


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What is wanted of every query; see `kinmer.search`. UsageError for values that cannot be."""

    k: int = 10
    metric: Metric | None = None
    by: By = "sequence"
    where: str | None = None
    facets: Sequence[str] = ()
    max_distance: float | None = None
    min_probability: float | None = None
    prior: Prior = "sample"
    fdr: float | None = None
    evidence: bool = False
    rank_by_evidence: bool = False
    exclude_self: bool = False
    n_jobs: int | None = None
    # Columns that the index lacks and another one of the search has: missing in all its entries.
    lacking: Sequence[str] = ()
    windows: int | None = None
    log: Log = field(default=lambda line: None)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"k must be at least 1, not {self.k}")
        if self.metric is not None:
            check_metric(self.metric)
        if self.by not in ("sequence", "genome"):
            raise UsageError(f"hits are sequences or genomes: by must be one of these, not {self.by!r}")
        if self.fdr is not None and not 0 < self.fdr < 1:
            raise UsageError(f"a false-discovery rate is above 0 and below 1, not {self.fdr}")
        if self.fdr is not None and self.min_probability is not None:
            raise UsageError("a false-discovery rate and a least probability exclude each other")
        check_prior(self.prior)
        if strange := [kind for kind in self.facets if kind not in MOLECULES]:
            raise UsageError(f"a facet is one of {', '.join(MOLECULES)}, not {strange[0]!r}")
        if self.windows is not None and self.windows < LEAST_WINDOW:
            raise UsageError(f"a window has at least {LEAST_WINDOW:,} bases, not {self.windows:,}")


def with_proof(judged: Judgement, hits: Sequence[Hit], ranks: Mapping[str, str]) -> Judgement:
    """The judgement, or what an alignment proves in its place.

    Of the hit that aligns best (`kinmer.queries.evidence.strength`), at least half of the query has to align.
    Then an average nucleotide identity of 95 %, the usual boundary of species (Jain et al. 2018,
    doi:10.1038/s41467-018-07641-9; Parks et al. 2020, doi:10.1038/s41587-020-0501-8), proves that species.
    One of less than 92 % disproves a species that composition would name; an aligner of sparse k-mers gives
    strains of one species not far below 95 for a contig. Names that composition does not share have no share
    of its votes. ranks : the metadata column of every rank.
    """
    aligned = [
        (hit, Alignment(hit.evidence.ani, hit.evidence.aligned_fraction)) for hit in hits if hit.evidence
    ]
    if not aligned or judged.verdict == TOO_SHORT:
        return judged
    hit, best = max(aligned, key=lambda pair: strength(pair[1]))
    if best.ani is None or best.aligned_fraction < LEAST_ALIGNED:
        return judged
    values = {rank: taxon(rank, hit.metadata.get(column)) for rank, column in ranks.items()}
    names = {rank: name for rank, name in values.items() if name is not None}
    species, genus = names.get("species"), judged.consensus.get("genus")
    if best.ani >= SAME_SPECIES and species is not None:
        calls = {rank: _call(judged.consensus.get(rank), name) for rank, name in names.items()}
        verdict = f"species {species}, by alignment"
        return replace(judged, consensus=calls, verdict=verdict, rank="species", name=species)
    if best.ani < OTHER_SPECIES and judged.rank == "species" and genus is not None:
        verdict = f"new species of genus {genus.name}, by alignment"
        return replace(judged, verdict=verdict, rank="genus", name=genus.name)
    return judged


def _call(call: RankCall | None, name: str) -> RankCall:
    return call if call is not None and call.name == name else RankCall(name, 0.0)


def results_of(
    blocks: Iterator[Queries], index: Storage, settings: SearchSettings, *, close: bool
) -> Iterator[QueryResult]:
    """The results of all queries, in their order; the index is closed at the end if so wanted.

    The first `SAMPLE` queries are judged together: they say how many queries are of known species. They are
    fewer where their sequences, which alignment needs, would take more than `HELD` bytes.
    """
    aligner = None
    try:
        judge = Judge(
            index,
            min_probability=settings.min_probability,
            prior=settings.prior,
            fdr=settings.fdr,
            log=settings.log,
            threads=settings.n_jobs,
        )
        if settings.evidence:
            aligner = IndexAligner(index, by=settings.by, threads=settings.n_jobs, log=settings.log)
        parts = (part for block in blocks for part in block.parts())
        waiting: list[_Prepared] = []
        count = held = 0
        for part in parts:
            waiting.append(_prepared(part, index, settings, judge))
            count += len(part.ids)
            held += sum(map(len, part.letters or ()))
            held += WINDOW_BYTES * sum(len(one.ids) for one in part.windows or ())
            if count >= SAMPLE or held >= HELD:
                break
        judge.settle([one.scored for one in waiting if one.scored is not None])
        for prepared in chain(waiting, (_prepared(part, index, settings, judge) for part in parts)):
            found = _found(prepared, index, settings, judge, aligner)
            yield from _in_order(prepared.part, found, settings, tuple(index.columns))
    finally:
        if aligner is not None:
            aligner.close()
        if close:
            index.close()


@dataclass(frozen=True)
class _Prepared:
    """Queries whose nearest rows are known and scored, in the state of the index that `epoch` numbers."""

    part: Queries
    known: Queries
    epoch: int
    own: NDArray[np.int64] | None = None
    nearest: _Nearest | None = None
    scored: Scored | None = None
    windows: _WindowScores | None = None


@dataclass(frozen=True)
class _WindowScores:
    """Windows of queries. counts : of every query. told : (w,) those that have a profile. scored : these."""

    counts: Sequence[int]
    told: NDArray[np.bool_]
    scored: Sequence[Scored]


def _prepared(part: Queries, index: Storage, settings: SearchSettings, judge: Judge) -> _Prepared:
    known = part.known()
    if not known.ids:
        return _Prepared(part, known, index.table.epoch)
    with index.reading():
        metric: Metric = settings.metric or index.metric
        own = None if known.numbers is None else index.remaining(known.numbers)
        if own is None and settings.exclude_self:
            own = index.selves(known.ids, known.vectors)
        width = min(len(index.rows), max(POOL, 2 * _hits_wanted(index, settings)))
        nearest = index.nearest(known.vectors, width, metric=metric, exclude=own)
        scored = judge.score(known, nearest[0][:, :POOL], nearest[1][:, :POOL], metric, own)
        windows = _windows_scored(known, index, judge, metric, own)
        # Windows and letters are not kept: what they say does not change.
        part, known = (replace(one, windows=None, genes=None) for one in (part, known))
        return _Prepared(part, known, index.table.epoch, own, nearest, scored, windows)


def _windows_scored(
    queries: Queries, index: Storage, judge: Judge, metric: Metric, own: NDArray[np.int64] | None
) -> _WindowScores | None:
    """The windows of queries, scored as queries are; None where none are wanted."""
    if queries.windows is None:
        return None
    counts = [len(one.ids) for one in queries.windows]
    every = Queries.joined(queries.windows)
    told = np.array([not reason for reason in every.reasons or [""] * len(every.ids)], dtype=bool)
    owner, scored = np.repeat(np.arange(len(counts)), counts)[told], list[Scored]()
    start = 0
    for part in every.known().parts():
        stop = start + len(part.ids)
        mine = None if own is None else own[owner[start:stop]]
        labels, distances = index.nearest(part.vectors, POOL, metric=metric, exclude=mine)
        scored.append(judge.score(part, labels, distances, metric, mine))
        start = stop
    return _WindowScores(counts, told, scored)


def _found(
    prepared: _Prepared, index: Storage, settings: SearchSettings, judge: Judge, aligner: IndexAligner | None
) -> list[QueryResult]:
    if not prepared.known.ids:
        return []
    with index.reading():
        if prepared.epoch != index.table.epoch:
            # Rows may have moved since.
            again = _prepared(prepared.part, index, settings, judge)
            prepared = replace(again, windows=prepared.windows, scored=_same_kinds(again, prepared))
        return _Search(index, settings, judge, aligner).results(prepared)


def _same_kinds(again: _Prepared, before: _Prepared) -> Scored | None:
    """The new scores with the kinds of before: the letters that spoke for these are gone."""
    if again.scored is None or before.scored is None:
        return again.scored
    old = before.scored.scores
    scores = replace(again.scored.scores, molecule=old.molecule, plasmid_limit=old.plasmid_limit)
    return replace(again.scored, scores=scores)


def _hits_wanted(index: Storage, settings: SearchSettings) -> int:
    """Arrays are as wide: a k beyond the number of entries must not take more memory than these."""
    wanted = max(settings.k, ALIGNED) if settings.rank_by_evidence else settings.k
    return min(wanted, max(1, len(index)))


def _in_order(
    queries: Queries, found: list[QueryResult], settings: SearchSettings, columns: tuple[str, ...]
) -> Iterator[QueryResult]:
    """The results in the order of the queries, those that have no profile among them."""
    if queries.reasons is None:
        yield from found
        return
    coming = iter(found)
    for name, length, reason in zip(queries.ids, queries.lengths, queries.reasons, strict=True):
        if reason:
            facets: dict[str, tuple[Hit, ...]] = dict.fromkeys(settings.facets, ())
            verdict = f"{NO_PROFILE}: {reason}"
            result = QueryResult(
                name, length, (), {}, verdict, facets=facets, no_profile=True, columns=columns
            )
            yield result if settings.windows is None else replace(result, windows=())
        else:
            yield next(coming)


class _Search:
    """Searches for some queries, all in one state of the index."""

    def __init__(
        self, index: Storage, settings: SearchSettings, judge: Judge, aligner: IndexAligner | None
    ) -> None:
        self._index, self._settings, self._judge, self._aligner = index, settings, judge, aligner
        self._metric: Metric = settings.metric or index.metric
        self._molecule, self._ranks = molecule_column(index.columns), rank_columns(index.columns)
        self._allowed: NDArray[np.bool_] | None = None
        if settings.where is not None:
            self._allowed = index.rows_where(index.select(settings.where, settings.lacking))
        self._k = _hits_wanted(index, settings)

    def results(self, prepared: _Prepared) -> list[QueryResult]:
        """The results of queries that have a profile."""
        queries, own, nearest = prepared.known, prepared.own, prepared.nearest
        assert prepared.scored is not None
        judged = self._judge.judgements(prepared.scored)
        hits = self._aligned(queries, self._hits(queries, own, self._allowed, nearest))
        if self._aligner is not None:
            pairs = zip(judged, hits, strict=True)
            judged = [with_proof(judgement, some, self._ranks) for judgement, some in pairs]
        facets = {
            kind: self._aligned(queries, self._hits(queries, own, self._of_kind(kind), None))
            for kind in self._settings.facets
        }
        windows = self._windows(prepared, judged)
        return [
            QueryResult(
                name,
                queries.lengths[row],
                hits[row],
                judgement.consensus,
                judgement.verdict,
                judgement.rank,
                judgement.name,
                judgement.molecule,
                {kind: found[row] for kind, found in facets.items()},
                bases=None if queries.bases is None else queries.bases[row],
                why=judgement.why,
                ptu=judgement.ptu,
                windows=windows[row],
            )
            for row, (name, judgement) in enumerate(zip(queries.ids, judged, strict=True))
        ]

    def _windows(
        self, prepared: _Prepared, judged: Sequence[Judgement]
    ) -> Sequence[tuple[Stretch, ...] | None]:
        """For every query where its windows are of another kind than it likeliest is."""
        scores, size = prepared.windows, self._settings.windows
        if scores is None or size is None:
            return [None] * len(judged)
        likely = np.full((len(scores.told), len(MOLECULES)), np.nan)
        calls = [one.molecule for scored in scores.scored for one in self._judge.judgements(scored)]
        for row, call in zip(np.flatnonzero(scores.told).tolist(), calls, strict=True):
            if call is not None:
                likely[row] = [call.probabilities[kind] for kind in MOLECULES]
        found: list[tuple[Stretch, ...]] = []
        ends = np.cumsum(scores.counts, dtype=np.int64).tolist()
        lines = zip(judged, prepared.known.lengths, scores.counts, ends, strict=True)
        for judgement, length, count, end in lines:
            kinds = {} if judgement.molecule is None else judgement.molecule.probabilities
            spans = window_spans(length or 0, size)
            own = max(kinds, key=kinds.__getitem__, default=None)
            found.append(() if own is None else stretches(spans, likely[end - count : end], own))
        return found

    def _of_kind(self, kind: str) -> NDArray[np.bool_]:
        """(rows,) which are of sequences of a kind of molecule; contigs count as chromosome."""
        if self._molecule is None:
            return np.zeros(len(self._index.rows), dtype=bool)
        kinds = ("chromosome", "contig") if kind == "chromosome" else (kind,)
        marks = ", ".join("?" * len(kinds))
        sql = f"lower({quoted(self._molecule)}) IN ({marks})"
        rows = self._index.rows_where(self._index.table.select(sql, kinds))
        return rows if self._allowed is None else rows & self._allowed

    def _aligned(self, queries: Queries, found: list[_Hits]) -> list[tuple[Hit, ...]]:
        """The first k hits, with evidence where that is wanted."""
        hits, k = [some for some, _ in found], self._settings.k
        if self._aligner is None or queries.letters is None:
            return [some[:k] for some in hits]
        numbers, rerank = [some for _, some in found], self._settings.rank_by_evidence
        return with_evidence(self._aligner, queries.letters, hits, numbers, k, rerank=rerank)

    def _hits(
        self,
        queries: Queries,
        own: NDArray[np.int64] | None,
        allowed: NDArray[np.bool_] | None,
        nearest: _Nearest | None,
    ) -> list[_Hits]:
        """The hits of every query, nearest first. nearest : the candidates where all rows may be hits."""
        numbers, distances, rows = self._index.search(
            queries.vectors,
            self._k,
            by=self._settings.by,
            metric=self._metric,
            exclude=own,
            allowed=allowed,
            candidates=None if allowed is not None else nearest,
        )
        most = np.inf if self._settings.max_distance is None else self._settings.max_distance
        # Distances ascend, and what is missing is at the end.
        counts = ((numbers >= 0) & (distances.astype(np.float64) <= most)).sum(axis=1).tolist()
        hit = self._maker(numbers, rows)
        found: list[_Hits] = []
        lines = zip(numbers.tolist(), distances.tolist(), rows.tolist(), counts, strict=True)
        for line, far, places, count in lines:
            some = [hit(at + 1, line[at], far[at], places[at]) for at in range(count)]
            found.append((tuple(some), line[:count]))
        return found

    def _maker(
        self, numbers: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> Callable[[int, int, float, int], Hit]:
        """Makes a hit of its rank, its number (of a sequence or genome), distance and row."""
        index, columns, by_genome = self._index, self._index.columns, self._settings.by == "genome"
        valid = numbers >= 0
        if by_genome:
            entries = self._members(numbers, rows)
        else:
            known = index.entries(numbers)
            pairs = zip(numbers[valid].tolist(), rows[valid].tolist(), strict=True)
            entries = {(number, row): known[number] for number, row in pairs}
        genomes = index.genomes(np.array([entry.genome for entry in entries.values()], dtype=np.int64))
        names = {} if by_genome else index.names(entries.values())
        metadata = {entry.number: dict(zip(columns, entry.values, strict=True)) for entry in entries.values()}
        some = np.unique(rows[valid])
        records = index.rows.records[some]
        spans: dict[int, tuple[int | None, int | None]] = dict.fromkeys(some.tolist(), (None, None))
        for at in np.flatnonzero(records["kind"] == PIECE).tolist():
            spans[int(some[at])] = int(records["start"][at]), int(records["stop"][at])

        def hit(rank: int, number: int, distance: float, row: int) -> Hit:
            entry = entries[number, row]
            genome, (start, stop) = genomes[entry.genome].name, spans[row]
            return Hit(
                rank,
                genome if by_genome else entry.id,
                distance,
                entry.length,
                entry.gc,
                metadata[entry.number],
                genome,
                start,
                stop,
                name=genome if by_genome else names[entry.number],
            )

        return hit

    def _members(self, groups: NDArray[np.int64], rows: NDArray[np.int64]) -> dict[tuple[int, int], Entry]:
        """For every genome and nearest row a sequence that stands for it: the row's, else its first."""
        pairs = np.unique(np.stack([groups[groups >= 0], rows[groups >= 0]], axis=1), axis=0)
        entry = self._index.rows.entry[pairs[:, 1]]
        known = self._index.entries(entry)
        first = self._index.table.first_members(np.unique(pairs[entry < 0, 0]).tolist())
        return {
            (group, row): known[number] if number >= 0 else first[group]
            for (group, row), number in zip(pairs.tolist(), entry.tolist(), strict=True)
        }
