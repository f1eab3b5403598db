"""Queries against their candidate genomes: every genome is sketched once, and kept while there is room."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from kinmer.errors import UsageError
from kinmer.evidence.aligners import Aligner, aligner
from kinmer.evidence.alignments import Alignment
from kinmer.machine import available_cores

__all__ = ["MEMORY", "GenomeAligner", "measure"]

MEMORY = 1 << 30
# Of a sketch, whatever it is of.
_LEAST = 4096

References = Callable[[int], Sequence[bytes]]
# A sketch, the bytes it holds, the alignments to it.
_Done = tuple[Any, int, list[Alignment]]


class _Shelf:
    """Sketches by number, the least lately used gone first when they hold more than `room` bytes."""

    def __init__(self, room: int) -> None:
        self._room, self._held = room, 0
        self._sketches: OrderedDict[int, tuple[Any, int]] = OrderedDict()

    def __contains__(self, number: int) -> bool:
        return number in self._sketches

    def get(self, number: int) -> Any:
        """A sketch that is held."""
        self._sketches.move_to_end(number)
        return self._sketches[number][0]

    def put(self, number: int, sketch: Any, size: int) -> None:
        """Hold a sketch that is not held, as long as there is room."""
        self._sketches[number] = sketch, size
        self._held += size
        while self._held > self._room:
            self._held -= self._sketches.popitem(last=False)[1][1]


class GenomeAligner:
    """Alignments of queries to genomes that are known by their numbers.

    Parameters
    ----------
    references : gives the sequences of a genome, ACGTN; called in the thread that calls `measure`, and once
        for a genome unless its sketch had to make room meanwhile.
    engine : ``auto``, ``skani`` or ``fastani``; see `kinmer.evidence.aligner`.
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
        self._references, self._shelf = references, _Shelf(memory)
        self._threads = threads or available_cores()
        self.aligner: Aligner = aligner(engine)

    def holds(self, genome: int) -> bool:
        """Whether its sketch is held, so that `references` is not called for it if it comes first."""
        return genome in self._shelf

    def measure(self, queries: Sequence[bytes], candidates: Sequence[Sequence[int]]) -> list[list[Alignment]]:
        """Of every query the alignments to its candidates, in their order.

        queries : n sequences. candidates : n lists of numbers of genomes. Raises what `references` raises.
        """
        if len(queries) != len(candidates):
            raise UsageError(f"there are {len(queries)} queries and candidates for {len(candidates)}")
        letters, numbers = [_upper(one) for one in queries], [[int(one) for one in row] for row in candidates]
        asked: dict[int, list[int]] = {}
        for query, row in enumerate(numbers):
            for genome in dict.fromkeys(row):
                asked.setdefault(genome, []).append(query)
        found: dict[tuple[int, int], Alignment] = {}
        for genome, alignments in self._aligned(asked, letters):
            found |= {(query, genome): one for query, one in zip(asked[genome], alignments, strict=True)}
        return [[found[query, genome] for genome in row] for query, row in enumerate(numbers)]

    def _aligned(
        self, asked: Mapping[int, Sequence[int]], letters: Sequence[bytes]
    ) -> Iterator[tuple[int, list[Alignment]]]:
        """Every genome with the alignments of the queries that ask for it."""
        running: deque[tuple[int, bool, Future[_Done]]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            # What is held comes first: later it might have made room for the others.
            for genome in sorted(asked, key=lambda one: one not in self._shelf):
                held = genome in self._shelf
                job = self._job(genome, held, [letters[query] for query in asked[genome]])
                running.append((genome, held, pool.submit(job)))
                if len(running) > self._threads:
                    yield self._collected(*running.popleft())
            while running:
                yield self._collected(*running.popleft())

    def _job(self, genome: int, held: bool, queries: Sequence[bytes]) -> Callable[[], _Done]:
        sketch = self._shelf.get(genome) if held else None
        sequences = () if held else [_upper(one) for one in self._references(genome)]

        def work() -> _Done:
            made = sketch if held else self.aligner.sketch(sequences)
            size = _LEAST + self.aligner.bytes_per_letter * sum(map(len, sequences))
            return made, size, [self.aligner.align(one, made) for one in queries]

        return work

    def _collected(self, genome: int, held: bool, job: Future[_Done]) -> tuple[int, list[Alignment]]:
        sketch, size, alignments = job.result()
        if not held:
            self._shelf.put(genome, sketch, size)
        return genome, alignments


def measure(
    queries: Sequence[bytes],
    candidates: Sequence[Sequence[int]],
    references: References,
    *,
    engine: str = "auto",
    memory: int = MEMORY,
    threads: int | None = None,
) -> list[list[Alignment]]:
    """`GenomeAligner.measure` of one batch; for several keep a `GenomeAligner`, which keeps the sketches."""
    return GenomeAligner(references, engine=engine, memory=memory, threads=threads).measure(
        queries, candidates
    )


def _upper(letters: bytes) -> bytes:
    return bytes(letters).upper().replace(b"U", b"T")
