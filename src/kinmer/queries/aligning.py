"""Evidence for hits: queries are aligned to the sequences of the index that composition puts first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from kinmer.errors import UsageError
from kinmer.evidence import Alignment, GenomeAligner, kind_of, rank_by_both
from kinmer.evidence.measuring import MEMORY
from kinmer.index import KinIndex
from kinmer.index.lettering import EntryLetters
from kinmer.queries.results import Evidence, Hit

__all__ = ["IndexAligner", "evidence_of", "with_evidence"]

# Letters that are read together, so that a file of many sequences is not read again for each: 128 MB.
LETTERS_AT_ONCE = 1 << 27

Log = Callable[[str], None]


class _Reference(NamedTuple):
    """What is aligned to: a number, that of the file of its first entry, its entries, their letters."""

    number: int
    file: int
    entries: list[int]
    size: int


class IndexAligner:
    """Aligns queries to entries or genomes of an index; one for a whole run, for it keeps sketches.

    Parameters
    ----------
    index : its letters come from the index where it keeps them, else from the files that it was made of.
    by : what the candidates' numbers are of.
    threads : None for all cores. engine, memory : see `kinmer.evidence.GenomeAligner`.
    log : is told by `close` what was done and how long it took.

    Besides the sketches `LETTERS_AT_ONCE` letters are held, or those of the largest genome. Raises UsageError
    where the index has no letters and no files, a file is gone, or no aligner is installed.
    """

    def __init__(
        self,
        index: KinIndex,
        *,
        by: Literal["sequence", "genome"],
        threads: int | None = None,
        engine: str = "auto",
        memory: int = MEMORY,
        log: Log | None = None,
    ) -> None:
        self._index, self._by, self._log = index, by, log
        self._threads, self._engine, self._memory = threads, engine, memory
        self._letters = EntryLetters(index)
        if lacking := self._letters.lacking():
            raise UsageError(
                "there are no sequences to align with",
                lacking,
                "build the index of FASTA files with --keep-sequences, or ask for no evidence",
                place=index.path,
            )
        self._read: dict[int, list[bytes]] = {}
        self._queries = self._pairs = self._sketches = 0
        self._seconds = 0.0
        self._aligner, self._epoch = self._begin(), index.table.epoch

    def measure(self, queries: Sequence[bytes], candidates: Sequence[Sequence[int]]) -> list[list[Alignment]]:
        """Of every query the alignments to its candidates, in their order.

        queries : n sequences. candidates : n lists of numbers of entries or genomes. To be called inside
        `index.reading`. What is measured of a pair depends on the two alone. Raises InputError for a file
        that is gone or changed since the index was made of it, FormatError for damaged letters.
        """
        began = time.perf_counter()
        self._refresh()
        rows = [[int(one) for one in row] for row in candidates]
        found: list[dict[int, Alignment]] = [{} for _ in rows]
        for part in self._parts(list(dict.fromkeys(one for row in rows for one in row))):
            wanted = [[one for one in dict.fromkeys(row) if one in part] for row in rows]
            for known, row, got in zip(found, wanted, self._aligner.measure(queries, wanted), strict=True):
                known.update(zip(row, got, strict=True))
                self._pairs += len(row)
        self._queries += len(queries)
        self._seconds += time.perf_counter() - began
        return [[known[one] for one in row] for known, row in zip(found, rows, strict=True)]

    def close(self) -> None:
        """Let the sketches go, and tell once what they cost."""
        if self._log is not None and self._queries:
            self._log(
                f"evidence by {self._aligner.aligner.name}: {self._pairs:,} pairs aligned, "
                f"{self._sketches:,} sketches made, {self._seconds:.1f} s, "
                f"{1000 * self._seconds / self._queries:.1f} ms a query"
            )
        self._aligner, self._queries = self._begin(), 0

    def _begin(self) -> GenomeAligner:
        return GenomeAligner(self._taken, engine=self._engine, memory=self._memory, threads=self._threads)

    def _refresh(self) -> None:
        """Forget the genomes after a commit, which may have changed their members; entries never change."""
        if self._by == "genome" and self._epoch != self._index.table.epoch:
            self._aligner = self._begin()
        self._epoch = self._index.table.epoch

    def _parts(self, numbers: list[int]) -> Iterator[set[int]]:
        """The numbers in parts: those whose sketches are held, then others, their letters ready to take."""
        held = {one for one in numbers if self._aligner.holds(one)}
        if held:
            yield held
        waiting: list[_Reference] = []
        for one in self._references([one for one in numbers if one not in held]):
            if waiting and sum(other.size for other in waiting) + one.size > LETTERS_AT_ONCE:
                yield self._fetched(waiting)
                waiting = []
            waiting.append(one)
        if waiting:
            yield self._fetched(waiting)

    def _references(self, numbers: list[int]) -> list[_Reference]:
        """What the numbers are of, those of one file together."""
        if self._by == "genome":
            members = {one: self._index.table.members(one) for one in numbers}
        else:
            known = self._index.entries(np.array(numbers, dtype=np.int64))
            members = {one: [known[one]] for one in numbers}
        found = []
        for number, entries in members.items():
            file = entries[0].file if entries else None
            size = sum(one.length or 0 for one in entries)
            own = [one.number for one in entries]
            found.append(_Reference(number, -1 if file is None else file, own, size))
        return sorted(found, key=lambda one: (one.file, one.number))

    def _fetched(self, references: Sequence[_Reference]) -> set[int]:
        """Have the letters of these ready; every file is read once."""
        letters = dict(self._letters.each([entry for one in references for entry in one.entries]))
        # In the order of the entries: what is measured must not depend on where letters lie.
        self._read = {one.number: [letters[entry] for entry in one.entries] for one in references}
        return set(self._read)

    def _taken(self, number: int) -> list[bytes]:
        self._sketches += 1
        return self._read.pop(number)


def evidence_of(alignment: Alignment, near: bool) -> Evidence:
    """What an alignment says of a hit; `near`: composition alone would have put it among the hits."""
    return Evidence(alignment.ani, alignment.aligned_fraction, kind_of(alignment, near))


def with_evidence(
    aligner: IndexAligner,
    letters: Sequence[bytes],
    hits: Sequence[tuple[Hit, ...]],
    numbers: Sequence[Sequence[int]],
    k: int,
    *,
    rerank: bool,
) -> list[tuple[Hit, ...]]:
    """The first k hits of every query, with evidence.

    letters : n queries. hits : n times candidates, nearest first; numbers : what they are of, as `aligner`
    is told. rerank : all candidates are aligned, and those that are homologous come first
    (`kinmer.evidence.rank_by_both`); otherwise the first k are, and stay in their order.
    """
    most = None if rerank else k
    asked = [one[:most] for one in hits]
    measured = aligner.measure(letters, [one[:most] for one in numbers])
    found = []
    for row, alignments in zip(asked, measured, strict=True):
        order = rank_by_both(np.arange(len(row)), alignments).tolist() if rerank else range(len(row))
        found.append(
            tuple(
                replace(row[place], rank=rank, evidence=evidence_of(alignments[place], place < k))
                for rank, place in enumerate(list(order)[:k], 1)
            )
        )
    return found
