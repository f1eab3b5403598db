"""What composition cannot tell: how much of a query aligns to a hit, and how similar it is there.

skani (Shaw and Yu, Nature Methods 2023) chains sparse k-mers; FastANI (Jain et al., Nature Communications
2018) maps fragments by their minimizers. skani is much faster and the default; FastANI is for the Pythons
that skani has no wheels for.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinmer.errors import UsageError
from kinmer.index import Storage
from kinmer.index.sequences import EntryLetters
from kinmer.queries.results import Evidence, Hit, Homology
from kinmer.resources import available_cores

# Chosen on two draws of a benchmark of genomes, tried on three others: benchmarks/evidence.py.
HOMOLOGOUS = 0.5
_WORD = 10
# Bytes of sketches that are kept, and of a sketch whatever it is of.
MEMORY, LEAST_SIZE = 1 << 30, 4096
_MODULES = {"skani": "pyskani", "fastani": "pyfastani"}
ALIGNERS = tuple(_MODULES)
# Letters that are read together, so that a file of many sequences is not read again for each: 128 MB.
LETTERS_AT_ONCE = 1 << 27

Log = Callable[[str], None]
References = Callable[[int], Sequence[bytes]]
# A sketch, the bytes it holds, the alignments to it.
_Done = tuple[Any, int, list["Alignment"]]


@dataclass(frozen=True)
class Alignment:
    """A query against a genome.

    ani : average nucleotide identity of what aligns, 0 to 1; None where nothing does. aligned_fraction : the
    share of the query's letters that align, 0 to 1.
    """

    ani: float | None
    aligned_fraction: float


_NOTHING = Alignment(None, 0.0)


def strength(alignment: Alignment) -> float:
    """ANI to the tenth, times the aligned fraction: the share of the query's 10-mers that the genome has.

    0 to 1. The power weighs a difference in identity as much as it says about kinship: of 95 % and 97 %
    identity, which separate a species from a sister, it makes .60 and .74.
    """
    return 0.0 if alignment.ani is None else alignment.ani**_WORD * alignment.aligned_fraction


def homologous(alignment: Alignment) -> bool:
    """Whether an alignment is believed before composition: its `strength` is `HOMOLOGOUS` or more.

    That is an identity of 93.3 % over the whole query, 96 % over three quarters, 99 % over 55 %.
    """
    return strength(alignment) >= HOMOLOGOUS


def kind_of(alignment: Alignment, near: bool) -> Homology:
    """What a hit rests on; `near`: composition alone would have put it among the hits."""
    if not homologous(alignment):
        return "composition only"
    return "both" if near else "homologous"


def evidence_of(alignment: Alignment, near: bool) -> Evidence:
    """What an alignment says of a hit; `near` as in `kind_of`."""
    return Evidence(alignment.ani, alignment.aligned_fraction, kind_of(alignment, near))


def rank_by_both(distances: ArrayLike, alignments: Sequence[Alignment]) -> NDArray[np.int64]:
    """The order of a query's candidates: homologous ones by `strength`, then all others by distance.

    distances : (n,) of composition. alignments : n. Gives (n,) positions in them, the first to show first. Of
    equal ones the one that came first stays first, so that without a homologue the order is that of the
    distances.
    """
    strengths = np.array([strength(alignment) for alignment in alignments], np.float64)
    homologues = np.where(strengths >= HOMOLOGOUS, strengths, 0.0)
    return np.lexsort((np.asarray(distances, np.float64), -homologues)).astype(np.int64)


class Aligner(Protocol):
    """Makes a sketch of a genome's sequences, and aligns queries to it; both from several threads at once.

    bytes_per_letter : what a sketch holds in memory, for each letter that it is of.
    """

    name: str
    bytes_per_letter: int

    def sketch(self, sequences: Sequence[bytes]) -> Any:
        """What queries are aligned to; sequences: upper-case ACGTN."""

    def align(self, query: bytes, sketch: Any) -> Alignment:
        """A query, upper-case ACGTN, against a genome; depends on these two alone."""


class Skani:
    """skani, with sketches dense enough for a thousand letters; queries below 500 align to nothing."""

    name = "skani"
    bytes_per_letter = 4
    # One k-mer of 10 is kept for the chains and one of 50 to see whether chains are worth the effort; skani's
    # own 125 and 1000 are meant for genomes.
    DENSITY = (10, 50)

    def sketch(self, sequences: Sequence[bytes]) -> Any:
        """A database of one genome."""
        import pyskani

        seeds, markers = self.DENSITY
        database = pyskani.Database(compression=seeds, marker_compression=markers)
        database.sketch("genome", *sequences, seed=True)
        return database

    def align(self, query: bytes, sketch: Any) -> Alignment:
        """The mean identity of the chains, as it is: no regression, no trimming."""
        hits = sketch.query("query", query, seed=True, learned_ani=False, cutoff=0.0)
        return _alignment(hits[0].identity, hits[0].query_fraction) if hits else _NOTHING


class FastAni:
    """FastANI with fragments of a thousand letters; shorter queries align to nothing."""

    name = "fastani"
    bytes_per_letter = 12
    _FRAGMENT = 1000

    def sketch(self, sequences: Sequence[bytes]) -> Any:
        """A mapper of one genome; None where no sequence has a fragment with anything to map to."""
        import pyfastani

        # The library warns of each one that is too short.
        long = [sequence for sequence in sequences if len(sequence) >= self._FRAGMENT]
        sketch = pyfastani.Sketch(fragment_length=self._FRAGMENT, minimum_fraction=0.0)
        sketch.add_draft("genome", long)
        # Without minimizers, as of nothing but N, the library's index() reads outside its memory.
        return sketch.index() if len(sketch.minimizers) else None

    def align(self, query: bytes, sketch: Any) -> Alignment:
        """The mean identity of the fragments that map."""
        if sketch is None or len(query) < self._FRAGMENT:
            return _NOTHING
        hits = sketch.query_genome(query, threads=1)
        return _alignment(hits[0].identity / 100, hits[0].matches / hits[0].fragments) if hits else _NOTHING


def _alignment(ani: float, fraction: float) -> Alignment:
    return Alignment(min(float(ani), 1.0), min(float(fraction), 1.0)) if fraction > 0 else _NOTHING


def aligner(name: str = "auto") -> Aligner:
    """The aligner called so; ``auto``: skani, or FastANI where skani is not installed.

    Raises UsageError where there is none called so, or it is not installed.
    """
    if name not in ("auto", *ALIGNERS):
        raise UsageError(f"the aligner must be auto, {' or '.join(ALIGNERS)}, not {name!r}")
    wanted = ALIGNERS if name == "auto" else (name,)
    installed = [known for known in wanted if find_spec(_MODULES[known]) is not None]
    if not installed:
        raise UsageError(
            f"{' and '.join(_MODULES[known] for known in wanted)} cannot be imported",
            f"evidence by alignment needs {'it' if len(wanted) == 1 else 'one of them'}",
            "pip install 'kinmer[evidence]'",
        )
    return Skani() if installed[0] == "skani" else FastAni()


class GenomeAligner:
    """Alignments of queries to genomes that are known by their numbers.

    Every genome is sketched once. The sketches used least recently make room for others.

    Parameters
    ----------
    references : gives the sequences of a genome, ACGTN; called in the thread that calls `measure`, and once
        for a genome unless its sketch had to make room meanwhile.
    engine : ``auto``, ``skani`` or ``fastani``; see `kinmer.queries.evidence.aligner`.
    memory : bytes that sketches kept for later may hold. Besides those, the letters and the sketches of as
        many genomes as there are threads, and one, are held.
    threads : None: as many as there are cores.

    What is measured of a query and a genome depends on these two alone: not on the batch, the threads or the
    memory. Raises UsageError for settings that do not go together and where no aligner is installed.
    """

    def __init__(
        self,
        references: References,
        *,
        engine: str = "auto",
        memory: int = MEMORY,
        threads: int | None = None,
    ) -> None:
        if memory < 0 or (threads is not None and threads < 1):
            raise UsageError("memory must not be negative, and there is at least one thread")
        self._references, self._memory = references, memory
        self._threads = threads or available_cores()
        # By genome, the most recently used last: the sketch and the bytes that it holds.
        self._sketches: OrderedDict[int, tuple[Any, int]] = OrderedDict()
        self._size = 0
        self.aligner: Aligner = aligner(engine)

    def holds(self, genome: int) -> bool:
        """Whether its sketch is held, so that `references` is not called for it if it comes first."""
        return genome in self._sketches

    def measure(self, queries: Sequence[bytes], candidates: Sequence[Sequence[int]]) -> list[list[Alignment]]:
        """Of every query the alignments to its candidates, in their order.

        queries : n sequences. candidates : n lists of numbers of genomes. Raises what `references` raises.
        """
        if len(queries) != len(candidates):
            raise UsageError(f"there are {len(queries)} queries and candidates for {len(candidates)}")
        sequences, numbers = list(map(_upper, queries)), [list(map(int, row)) for row in candidates]
        asked: dict[int, list[int]] = {}
        for query, row in enumerate(numbers):
            for genome in dict.fromkeys(row):
                asked.setdefault(genome, []).append(query)
        found: dict[tuple[int, int], Alignment] = {}
        for genome, alignments in self._aligned(asked, sequences):
            found |= {(query, genome): known for query, known in zip(asked[genome], alignments, strict=True)}
        return [[found[query, genome] for genome in row] for query, row in enumerate(numbers)]

    def _aligned(
        self, asked: Mapping[int, Sequence[int]], sequences: Sequence[bytes]
    ) -> Iterator[tuple[int, list[Alignment]]]:
        """Every genome with the alignments of the queries that ask for it."""
        running: deque[tuple[int, bool, Future[_Done]]] = deque()
        with ThreadPoolExecutor(self._threads) as executor:
            # What is held comes first: later it might have made room for the others.
            for genome in sorted(asked, key=lambda number: not self.holds(number)):
                job = self._job(genome, [sequences[query] for query in asked[genome]])
                running.append((genome, self.holds(genome), executor.submit(job)))
                if len(running) > self._threads:
                    yield self._collected(*running.popleft())
            while running:
                yield self._collected(*running.popleft())

    def _job(self, genome: int, queries: Sequence[bytes]) -> Callable[[], _Done]:
        held = self._sketches.get(genome)
        if held is not None:
            self._sketches.move_to_end(genome)
        references = [] if held is not None else list(map(_upper, self._references(genome)))

        def work() -> _Done:
            sketch = self.aligner.sketch(references) if held is None else held[0]
            size = LEAST_SIZE + self.aligner.bytes_per_letter * sum(map(len, references))
            return sketch, size, [self.aligner.align(query, sketch) for query in queries]

        return work

    def _collected(self, genome: int, held: bool, job: Future[_Done]) -> tuple[int, list[Alignment]]:
        sketch, size, alignments = job.result()
        if not held:
            self._sketches[genome] = sketch, size
            self._size += size
            while self._size > self._memory:
                self._size -= self._sketches.popitem(last=False)[1][1]
        return genome, alignments


def _upper(letters: bytes) -> bytes:
    return bytes(letters).upper().replace(b"U", b"T")


class _Reference(NamedTuple):
    """What is aligned to. file : number of that of its first entry. size : in letters."""

    number: int
    file: int
    entries: list[int]
    size: int


class IndexAligner:
    """Aligns queries to entries or genomes of an index; one for a whole run, for it keeps sketches.

    Parameters
    ----------
    index : its sequences come from the index where it keeps them, else from the files that it was made of.
    by : what the candidates' numbers are of.
    threads : None for all cores. engine, memory : see `kinmer.queries.evidence.GenomeAligner`.
    log : gets a line from `close` on what was done and how long it took.

    Besides the sketches `LETTERS_AT_ONCE` letters are held, or those of the largest genome. Raises UsageError
    where the index has no sequences and no files, a file is gone, or no aligner is installed.
    """

    def __init__(
        self,
        index: Storage,
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
        self._queries, self._pairs, self._sketches, self._seconds = 0, 0, 0, 0.0
        self._aligner, self._epoch = self._begin(), index.table.epoch

    def measure(self, queries: Sequence[bytes], candidates: Sequence[Sequence[int]]) -> list[list[Alignment]]:
        """Of every query the alignments to its candidates, in their order.

        queries : n sequences. candidates : n lists of numbers of entries or genomes. To be called inside
        `index.reading`. What is measured of a pair depends on the two alone. Raises InputError for a file
        that is gone or changed since the index was made of it, FormatError for damaged sequences.
        """
        began = time.perf_counter()
        if self._by == "genome" and self._epoch != self._index.table.epoch:
            # A commit may have changed the members of genomes. Entries never change.
            self._aligner = self._begin()
        self._epoch = self._index.table.epoch
        rows = [list(map(int, row)) for row in candidates]
        found: list[dict[int, Alignment]] = [{} for _ in rows]
        for part in self._parts(list(dict.fromkeys(number for row in rows for number in row))):
            wanted = [[number for number in dict.fromkeys(row) if number in part] for row in rows]
            for known, row, got in zip(found, wanted, self._aligner.measure(queries, wanted), strict=True):
                known.update(zip(row, got, strict=True))
                self._pairs += len(row)
        self._queries += len(queries)
        self._seconds += time.perf_counter() - began
        return [[known[number] for number in row] for known, row in zip(found, rows, strict=True)]

    def close(self) -> None:
        """Let the sketches go, and log once what they cost."""
        if self._log is not None and self._queries:
            self._log(
                f"evidence by {self._aligner.aligner.name}: {self._pairs:,} pairs aligned, "
                f"{self._sketches:,} sketches made, {self._seconds:.1f} s, "
                f"{1000 * self._seconds / self._queries:.1f} ms a query"
            )
        self._aligner, self._queries = self._begin(), 0

    def _begin(self) -> GenomeAligner:
        return GenomeAligner(self._taken, engine=self._engine, memory=self._memory, threads=self._threads)

    def _parts(self, numbers: list[int]) -> Iterator[set[int]]:
        """The numbers in parts: those whose sketches are held, then others, their sequences ready to take."""
        held = {number for number in numbers if self._aligner.holds(number)}
        if held:
            yield held
        waiting: list[_Reference] = []
        for reference in self._references([number for number in numbers if number not in held]):
            if waiting and sum(other.size for other in waiting) + reference.size > LETTERS_AT_ONCE:
                yield self._fetched(waiting)
                waiting = []
            waiting.append(reference)
        if waiting:
            yield self._fetched(waiting)

    def _references(self, numbers: list[int]) -> list[_Reference]:
        """What the numbers are of, those of one file together."""
        if self._by == "genome":
            members = {number: self._index.table.members(number) for number in numbers}
        else:
            known = self._index.entries(np.array(numbers, dtype=np.int64))
            members = {number: [known[number]] for number in numbers}
        found = []
        for number, entries in members.items():
            file = entries[0].file if entries else None
            own, sizes = [entry.number for entry in entries], [entry.length or 0 for entry in entries]
            found.append(_Reference(number, -1 if file is None else file, own, sum(sizes)))
        return sorted(found, key=lambda reference: (reference.file, reference.number))

    def _fetched(self, references: Sequence[_Reference]) -> set[int]:
        """Have the sequences of these ready; every file is read once."""
        letters = dict(self._letters.each([entry for each in references for entry in each.entries]))
        # In the order of the entries: what is measured must not depend on where letters lie.
        self._read = {each.number: [letters[entry] for entry in each.entries] for each in references}
        return set(self._read)

    def _taken(self, number: int) -> list[bytes]:
        self._sketches += 1
        return self._read.pop(number)


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
    takes them. rerank : all candidates are aligned, and those that are homologous come first
    (`rank_by_both`); otherwise the first k are, and stay in their order.
    """
    most = None if rerank else k
    rows = [some[:most] for some in hits]
    result = []
    for row, alignments in zip(
        rows, aligner.measure(letters, [some[:most] for some in numbers]), strict=True
    ):
        order = rank_by_both(np.arange(len(row)), alignments).tolist() if rerank else list(range(len(row)))
        result.append(
            tuple(
                replace(row[at], rank=rank, evidence=evidence_of(alignments[at], at < k))
                for rank, at in enumerate(list(order)[:k], 1)
            )
        )
    return result
