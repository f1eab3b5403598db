"""Sequences of FASTA files as an index takes them: whole, and long ones also in overlapping pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import SequenceError, UsageError
from kinmer.fasta import read_records

if TYPE_CHECKING:
    from kinmer.encoder import Encoder
    from kinmer.kmers import KmerCounter

__all__ = ["Cut", "Embedder", "Pieces", "RecordBlock", "read_blocks_of"]

# Letters of the records that are counted, embedded and committed together: 16 MB, or one record.
BLOCK_LETTERS = 1 << 24
BLOCK_RECORDS = 4096
# A piece with fewer windows than this says nothing of its sequence.
LEAST_WINDOWS = 500


@dataclass(frozen=True)
class Pieces:
    """Sequences longer than `length` letters are also cut into pieces of about that length.

    Each overlaps the next by half, so that any stretch of half a piece's length lies whole in one of them.
    """

    length: int = 100_000

    def __post_init__(self) -> None:
        if self.length < 2000:
            raise UsageError(f"pieces have at least 2,000 letters, not {self.length:,}")

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    def tiles(self, letters: int) -> NDArray[np.int64]:
        """(t + 1,) edges of the tiles of a sequence; a piece is two neighbouring ones."""
        count = 1 if letters <= self.length else -(-letters // (self.length // 2))
        return np.linspace(0, letters, count + 1).astype(np.int64)


@dataclass(frozen=True)
class RecordBlock:
    """Some records of one file, with their numbers in it, from 1."""

    file: str
    first: int
    ids: list[str]
    letters: list[bytes]

    def place(self, row: int) -> str:
        """File and record, for an error."""
        return f"{self.file}, record {self.first + row} ({self.ids[row]!r})"


@dataclass(frozen=True)
class Cut:
    """What an index keeps of a sequence: vectors (m, dim), the whole first, spans of the pieces, GC share."""

    vectors: NDArray[np.float32]
    spans: list[tuple[int, int]]
    gc: float


def read_blocks_of(path: str | Path, *, skip: int = 0) -> Iterator[RecordBlock]:
    """The records of a file behind the first `skip`, in blocks. Memory: a block, or the longest record."""
    ids, letters, size, first = list[str](), list[bytes](), 0, skip + 1
    for number, (name, sequence) in enumerate(read_records(path), 1):
        if number <= skip:
            continue
        if ids and (size + len(sequence) > BLOCK_LETTERS or len(ids) >= BLOCK_RECORDS):
            yield RecordBlock(str(path), first, ids, letters)
            ids, letters, size, first = [], [], 0, number
        ids.append(name)
        letters.append(sequence)
        size += len(sequence)
    if ids:
        yield RecordBlock(str(path), first, ids, letters)


class Embedder:
    """Counts and embeds records by an encoder."""

    def __init__(self, encoder: Encoder, pieces: Pieces | None, threads: int | None = None) -> None:
        from kinmer.kmers import KmerCounter
        from kinmer.machine import available_cores

        self._encoder, self._pieces, self._threads = encoder, pieces, threads
        self._counter: KmerCounter = KmerCounter(encoder.layout, threads or available_cores())

    def cut(self, block: RecordBlock) -> list[Cut | None]:
        """The vectors of every record; None for one without a window of ACGT to count.

        Raises SequenceError for letters that are no nucleotide code.
        """
        from kinmer.devices import cpu_threads

        found: list[Cut | None] = []
        for row, letters in enumerate(block.letters):
            edges = self._edges(len(letters))
            counts = self._counts(block, row, letters, edges)
            found.append(None if counts is None else self._rows_of(counts, edges))
        rows = [one.vectors for one in found if one is not None]
        if not rows:
            return found
        with cpu_threads(self._threads):
            vectors = self._encoder.embed(np.concatenate(rows))
        at = 0
        for place, one in enumerate(found):
            if one is not None:
                found[place] = Cut(vectors[at : at + len(one.vectors)], one.spans, one.gc)
                at += len(one.vectors)
        return found

    def _edges(self, letters: int) -> NDArray[np.int64]:
        return np.array([0, letters]) if self._pieces is None else self._pieces.tiles(letters)

    def _counts(
        self, block: RecordBlock, row: int, letters: bytes, edges: NDArray[np.int64]
    ) -> NDArray[np.uint32] | None:
        counted = self._counter.count(np.frombuffer(letters, np.uint8), edges[:-1], edges[1:])
        bad = np.flatnonzero(counted.invalid >= 0)
        if bad.size:
            offset = int(counted.invalid[bad[0]])
            raise SequenceError(
                f"the letter {chr(letters[offset])!r} at position {offset + 1:,} is no nucleotide code",
                "only nucleotide sequences have k-mer profiles",
                "is it a protein, or is the file damaged?",
                place=block.place(row),
            )
        return counted.counts if counted.counts[:, self._columns].any() else None

    @property
    def _columns(self) -> slice:
        return self._encoder.layout.blocks[0].columns

    def _rows_of(self, tiles: NDArray[np.uint32], edges: NDArray[np.int64]) -> Cut:
        """The counts of the whole and of the pieces, in the place of their vectors."""
        letters = tiles[:, self._encoder.layout.bases.columns].sum(axis=0, dtype=np.int64)
        gc = float(letters[1] / max(1, letters.sum()))
        whole = tiles.sum(axis=0, dtype=np.uint64).astype(np.uint32)[None]
        if len(tiles) == 1:
            return Cut(whole, [], gc)
        pieces = tiles[:-1] + tiles[1:]
        windows = pieces[:, self._columns].sum(axis=1, dtype=np.int64)
        kept = np.flatnonzero(windows >= LEAST_WINDOWS)
        spans = [(int(edges[at]), int(edges[at + 2])) for at in kept]
        return Cut(np.concatenate([whole, pieces[kept]]), spans, gc)
