"""Several indexes searched as one: hits of all by distance, and of the verdicts the one that says most.

Every index judges each query on its own, by its own calibration and its own estimate of the sample. Queries
are read and embedded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby, tee

import numpy as np

from kinmer.confidence import NOTHING_NEAR, TOO_SHORT, UNSURE, calibration_of
from kinmer.errors import InputError, MismatchError, UsageError
from kinmer.index import Storage
from kinmer.index.names import SEPARATOR
from kinmer.index.sequences import EntryLetters
from kinmer.queries.evidence import Alignment, evidence_of, rank_by_both
from kinmer.queries.intake import BATCH_ROWS, Queries
from kinmer.queries.judge import ALIGNED, SearchSettings, results_of
from kinmer.queries.results import Hit, QueryResult
from kinmer.taxonomy import RANKS

# From the least telling on; a verdict with a name tells more than these, one that is empty less.
NAMELESS = ("", TOO_SHORT, NOTHING_NEAR, UNSURE)
# The hits of a query in every index.
_Lists = Sequence[Sequence[Hit]]


def check_union(indexes: Sequence[Storage], settings: SearchSettings) -> None:
    """Raise where indexes cannot be searched together.

    UsageError : none, one given twice, or different metrics and none asked for. MismatchError : different
    encoders.
    """
    if not indexes:
        raise UsageError("there is no index to search", check="give one or more")
    for one, other in combinations(indexes, 2):
        if one.path.resolve() == other.path.resolve():
            raise UsageError("the index is given twice", check="give each once", place=one.path)
        if one.encoder_fingerprint != other.encoder_fingerprint:
            raise MismatchError(
                f"the encoder is not the one of {one.path}",
                "distances to both cannot be compared",
                "search them one by one, or build one again with the encoder of the other",
                place=other.path,
            )
        if settings.metric is None and one.metric != other.metric:
            raise UsageError(
                f"the metric is {other.metric}, that of {one.path} is {one.metric}",
                "distances to both cannot be compared",
                "ask for one of them (--metric)",
                place=other.path,
            )


def union_of(
    blocks: Iterator[Queries], indexes: Sequence[Storage], settings: SearchSettings, *, close: Sequence[bool]
) -> Iterator[QueryResult]:
    """The results of all queries by several indexes, in the order of the queries.

    close : which indexes to close at the end. Memory holds what every index alone would take.
    """
    runs: list[Iterator[QueryResult]] = []
    try:
        names, columns = _names(indexes), _columns(indexes)
        judging = [_is_calibrated(index) for index in indexes]
        aligning = [settings.evidence and not EntryLetters(index).lacking() for index in indexes]
        # No run is ahead of another by more than a block, or the sample, which each of them holds anyhow.
        for at, copy in enumerate(tee(blocks, len(indexes))):
            index = indexes[at]
            own = _settings_of(settings, names[at], index, columns)
            if any(judging) and not judging[at]:
                settings.log(f"{index.path} has no calibration: it gives hits, and no verdicts")
                own = replace(own, min_probability=None, fdr=None, prior="sample")
            if any(aligning) and not aligning[at]:
                settings.log(f"{index.path} has no sequences: its hits are not aligned")
                own = replace(own, evidence=False)
            runs.append(results_of(_as_entries(copy, index), index, own, close=False))
        union = _Union(names, columns, settings)
        yield from map(union.joined, zip(*runs, strict=True))
    finally:
        for run in runs:
            run.close()  # type: ignore[attr-defined]
        for index, wanted in zip(indexes, close, strict=True):
            if wanted:
                index.close()


def owners_of(indexes: Sequence[Storage], ids: Sequence[str]) -> Iterator[tuple[Storage, list[str]]]:
    """Consecutive ids with the first index that has them as entries, in their order.

    Raises InputError for one that is no entry, or that is entries of several genomes.
    """
    held = [_keys_of(index, ids) for index in indexes]
    found = list[int]()
    for at, name in enumerate(ids):
        having = [number for number, keys in enumerate(held) if at in keys]
        if not having:
            place = indexes[0].path if len(indexes) == 1 else None
            which = "the index has" if len(indexes) == 1 else "the indexes have"
            raise InputError(f"{which} no entry {name!r}", check="ids are case-sensitive", place=place)
        genomes = sorted({held[number][at][0] for number in having})
        if len(genomes) > 1:
            raise InputError(
                f"{name!r} is in several genomes: {', '.join(map(repr, genomes))}",
                "it does not say which entry is meant",
                f"say {SEPARATOR.join((genomes[0], held[having[0]][at][1]))!r}",
            )
        found.append(having[0])
    for number, places in groupby(range(len(ids)), key=found.__getitem__):
        yield indexes[number], [ids[at] for at in places]


def _keys_of(index: Storage, ids: Sequence[str]) -> dict[int, tuple[str, str]]:
    """By place in `ids` the genome and id of each that is an entry of the index."""
    found: dict[int, tuple[str, str]] = {}
    for start in range(0, len(ids), BATCH_ROWS):
        with index.reading():
            numbers = index.numbers_of(ids[start : start + BATCH_ROWS])
            entries = index.entries(numbers)
            genomes = index.genomes(np.array([one.genome for one in entries.values()], dtype=np.int64))
        for at, number in enumerate(numbers.tolist(), start):
            if number >= 0:
                entry = entries[number]
                found[at] = genomes[entry.genome].name, entry.id
    return found


def _as_entries(blocks: Iterator[Queries], index: Storage) -> Iterator[Queries]:
    """The same; those that are entries of some index have their numbers in this one."""
    for block in blocks:
        yield block if block.numbers is None else replace(block, numbers=index.numbers_of(block.ids))


def _names(indexes: Sequence[Storage]) -> list[str]:
    """What the indexes are called: their folders, with the whole path where two have one name."""
    short = [index.path.name for index in indexes]
    return [name if short.count(name) == 1 else str(indexes[at].path) for at, name in enumerate(short)]


def _columns(indexes: Sequence[Storage]) -> list[str]:
    """The metadata of all indexes, as an index merged from them has it."""
    columns: dict[str, str] = {}
    for name in (name for index in indexes for name in index.columns):
        columns.setdefault(name.lower(), name)
    return list(columns.values())


def _is_calibrated(index: Storage) -> bool:
    kept = calibration_of(index)
    return kept is not None and kept.calibration is not None


def _settings_of(
    settings: SearchSettings, name: str, index: Storage, columns: Sequence[str]
) -> SearchSettings:
    """What is asked of one of several indexes: all candidates where they are put in another order here."""
    own = {column.lower() for column in index.columns}
    return replace(
        settings,
        k=max(settings.k, ALIGNED) if settings.rank_by_evidence else settings.k,
        rank_by_evidence=False,
        lacking=tuple(column for column in columns if column.lower() not in own),
        log=lambda line: settings.log(f"{name}: {line}"),
    )


@dataclass(frozen=True)
class _Union:
    """Makes one result of those of all indexes. columns : of all indexes."""

    names: Sequence[str]
    columns: Sequence[str]
    settings: SearchSettings

    def joined(self, results: Sequence[QueryResult]) -> QueryResult:
        """The result of a query, of its results by every index."""
        best = results[at := _most_telling(results)]
        others = sorted(results, key=lambda one: one is not best)
        kind = next((one for one in others if one.molecule is not None), best)
        return replace(
            best,
            hits=self._hits([one.hits for one in results]),
            facets={name: self._hits([one.facets[name] for one in results]) for name in best.facets},
            molecule=kind.molecule,
            windows=kind.windows,
            ptu=max(
                (one.ptu for one in results if one.ptu is not None),
                key=lambda unit: unit.probability,
                default=None,
            ),
            columns=tuple(self.columns),
            db=self.names[at] if best.rank is not None or best.consensus else "",
        )

    def _hits(self, lists: _Lists) -> tuple[Hit, ...]:
        """The nearest of all; of equal ones that of the first index. An entry is there once."""
        pairs = [(name, hit) for name, some in zip(self.names, lists, strict=True) for hit in some]
        found: dict[tuple[str | None, str], Hit] = {}
        for name, hit in sorted(pairs, key=lambda pair: pair[1].distance):
            found.setdefault((hit.genome, hit.id), replace(hit, metadata=self._row(hit.metadata), db=name))
        hits = self._in_order(list(found.values()))[: self.settings.k]
        return tuple(replace(hit, rank=rank) for rank, hit in enumerate(hits, 1))

    def _row(self, metadata: Mapping[str, object]) -> dict[str, object]:
        known = {name.lower(): value for name, value in metadata.items()}
        return {name: known.get(name.lower()) for name in self.columns}

    def _in_order(self, hits: list[Hit]) -> list[Hit]:
        """By distance, or by both where that is wanted; `kinmer.queries.evidence.with_evidence` says how."""
        if not self.settings.rank_by_evidence:
            return hits
        hits = hits[: max(self.settings.k, ALIGNED)]
        proofs = [hit.evidence for hit in hits]
        aligned = [
            Alignment(one.ani, one.aligned_fraction) if one else Alignment(None, 0.0) for one in proofs
        ]
        return [
            replace(hits[at], evidence=evidence_of(aligned[at], at < self.settings.k))
            if proofs[at]
            else hits[at]
            for at in rank_by_both(np.arange(len(hits)), aligned).tolist()
        ]


def _most_telling(results: Sequence[QueryResult]) -> int:
    """Which result has the deepest rank, of equal ones the likeliest name.

    Nothing is new as long as another index may have it: of results that name the same, one that is unsure of
    what is below stands.
    """
    best = max(range(len(results)), key=lambda at: _telling(results[at]))
    name = results[best].rank, results[best].name
    doubting = [
        at
        for at, one in enumerate(results)
        if one.verdict and one.name and (one.rank, one.name) == name and not one.verdict.startswith("new ")
    ]
    if results[best].verdict.startswith("new ") and doubting:
        return max(doubting, key=lambda at: _telling(results[at]))
    return best


def _telling(result: QueryResult) -> tuple[int, int, float, float]:
    """How much a result says, the more the greater: rank, what it is without one, probability, nearness."""
    rank = -1 if result.rank is None else RANKS.index(result.rank)
    call = result.consensus.get(result.rank or RANKS[0])
    sure = 0.0 if call is None else call.share if call.probability is None else call.probability
    if result.verdict.endswith("by alignment"):
        sure = 1.0
    nearest = result.hits[0].distance if result.hits else np.inf
    if not result.verdict:
        return -2, rank, sure, -nearest
    nameless = NAMELESS.index(result.verdict) if result.verdict in NAMELESS else len(NAMELESS)
    return rank, nameless, sure, -nearest
