"""Sequences of FASTA files as an index takes them: whole, and long ones also in overlapping pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.counting import bases_of, counted_of
from kinmer.errors import SequenceError, UsageError
from kinmer.fasta import read_measured
from kinmer.kmers import MAX_LETTERS, KmerCounter

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

# Letters of the records that are counted, embedded and committed together: 16 MB, or one record.
BLOCK_LETTERS = 1 << 24
BLOCK_RECORDS = 4096
# A piece with fewer windows than this says nothing of its sequence.
LEAST_WINDOWS = 500
# Of the sets of lengths tried, this one parted present from absent species best at every length of fragments:
# 340 vectors for a million letters.
PIECE_LENGTHS = (10_000, 20_000, 50_000)
# Of a compact index: 5 vectors for a million letters.
COMPACT_PIECES = (400_000,)
# It does not search contigs of a chromosome one by one that are shorter than this and than the `LONGEST` of
# their genome, where that has at least `DRAFT_LETTERS`: its mean vector and the sketches have them.
SHORT_LETTERS, LONGEST, DRAFT_LETTERS = 30_000, 8, 1_000_000
# Tiles counted together, and rows embedded together, whose counts take some tens of MB.
TILES_AT_ONCE, ROWS_AT_ONCE = 2048, 4096


@dataclass(frozen=True)
class Pieces:
    """Sequences are also cut into pieces of about each of these `lengths` that is below their own.

    Each overlaps the next by half, so that any stretch of half a piece's length lies whole in one of them. A
    fragment resembles pieces of its own length most. Tiles, of half the shortest length, are counted once;
    every piece is a sum of tiles. The whole is not: it is counted as a query of the same sequence is.

    Raises UsageError: no length, one below 2,000 letters, or none but a multiple of the shortest.
    """

    lengths: tuple[int, ...] = PIECE_LENGTHS

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", tuple(sorted(set(self.lengths))))
        shortest = self.lengths[0] if self.lengths else 0
        if shortest < 2000:
            raise UsageError(f"pieces have at least 2,000 letters, not {shortest:,}")
        odd = [one for one in self.lengths if one % shortest]
        if odd:
            raise UsageError(f"pieces of {odd[0]:,} letters are not a multiple of the shortest, {shortest:,}")

    def tiles(self, letters: int) -> NDArray[np.int64]:
        """(t + 1,) edges of the tiles of a sequence."""
        count = 1 if letters <= self.lengths[0] else -(-letters // (self.lengths[0] // 2))
        return np.linspace(0, letters, count + 1).astype(np.int64)

    def starts(self, tiles: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """For every length that a sequence of so many tiles exceeds: tiles of a piece, first tiles (m,)."""
        for length in self.lengths:
            width = 2 * (length // self.lengths[0])
            if tiles > width:
                last = tiles - width
                firsts = np.arange(0, last + 1, width // 2)
                yield width, firsts if firsts[-1] == last else np.append(firsts, last)


def pieces_of(lengths: Sequence[int]) -> Pieces | None:
    """Pieces of these lengths; None for none, and where the only one is 0."""
    return Pieces(tuple(lengths)) if any(lengths) else None


def least_searched(lengths: Sequence[int]) -> int:
    """The length below which contigs of a genome are not searched one by one. lengths : of all of them."""
    return min(SHORT_LETTERS, *sorted(lengths)[-LONGEST:]) if sum(lengths) >= DRAFT_LETTERS else 0


def settings_of(pieces: Pieces | None, *, letters: bool) -> dict[str, Any]:
    """What the manifest of a new index says of how its sequences are cut; `letters`: they are kept."""
    lengths = [] if pieces is None else list(pieces.lengths)
    return {"lengths": lengths, "letters": letters, "whole": "exact"}


def has_exact_wholes(settings: Mapping[str, Any]) -> bool:
    """Whether whole sequences have the vectors of queries in an index of these settings.

    kinmer 0.1.0 added them up from tiles where it cut sequences. Its settings lack ``whole``.
    """
    return not settings.get("lengths") or settings.get("whole") == "exact"


@dataclass(frozen=True)
class RecordBlock:
    """Some records of one file, with their numbers in it, from 1. consumed : bytes of the file until here."""

    file: str
    first: int
    ids: list[str]
    letters: list[bytes]
    consumed: int = 0

    def place(self, row: int) -> str:
        """File and record, for an error."""
        return f"{self.file}, record {self.first + row} ({self.ids[row]!r})"


@dataclass(frozen=True)
class Cut:
    """What an index keeps of a sequence: vectors (m, dim), the whole first, spans of the pieces, GC share.

    bases, counted : as of `kinmer.counting.bases_of` and `counted_of`.
    """

    vectors: NDArray[np.float32]
    spans: list[tuple[int, int]]
    gc: float
    bases: int = 0
    counted: int = 0


def read_blocks_of(path: str | Path, *, skip: int = 0, records: int | None = None) -> Iterator[RecordBlock]:
    """The records of a file behind the first `skip`, in blocks of at most `records`, or `BLOCK_RECORDS`.

    Memory: a block, or the longest record.
    """
    ids, letters, size, first, consumed = list[str](), list[bytes](), 0, skip + 1, 0
    for number, (name, sequence, read) in enumerate(read_measured(path), 1):
        if number <= skip:
            continue
        if ids and (size + len(sequence) > BLOCK_LETTERS or len(ids) >= (records or BLOCK_RECORDS)):
            yield RecordBlock(str(path), first, ids, letters, consumed)
            ids, letters, size, first = [], [], 0, number
        ids.append(name)
        letters.append(sequence)
        size += len(sequence)
        consumed = read
    if ids:
        yield RecordBlock(str(path), first, ids, letters, consumed)


class Embedder:
    """Counts and embeds records by an encoder."""

    def __init__(self, encoder: Encoder, pieces: Pieces | None, threads: int | None = None) -> None:
        from kinmer.resources import available_cores

        self._encoder, self._pieces, self._threads = encoder, pieces, threads
        self._counter = KmerCounter(encoder.layout, threads or available_cores())

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._encoder.dim

    def cut(self, block: RecordBlock) -> list[Cut | None]:
        """The vectors of every record; None for one without a window of ACGT to count.

        Raises SequenceError for letters that are no nucleotide code.
        """
        self._check_lengths(block)
        if self._pieces is None:
            return self._wholes(block)
        plans = [_Plan(self._pieces, len(letters)) for letters in block.letters]
        waiting: list[NDArray[np.uint32]] = []
        vectors: list[NDArray[np.float32]] = []
        for row, plan in enumerate(plans):
            for counts in self._rows_of(block, row, plan):
                waiting.append(counts)
                if sum(map(len, waiting)) >= ROWS_AT_ONCE:
                    vectors.append(self._embed(waiting))
        if waiting:
            vectors.append(self._embed(waiting))
        every = np.concatenate(vectors) if vectors else np.empty((0, self._encoder.dim), np.float32)
        found: list[Cut | None] = []
        at = 0
        for plan in plans:
            rows = len(plan.spans) + 1
            own = every[at : at + rows] if plan.counted else None
            found.append(None if own is None else Cut(own, plan.spans, plan.gc, plan.bases, plan.windows))
            at += rows if plan.counted else 0
        return found

    def _wholes(self, block: RecordBlock) -> list[Cut | None]:
        """The vectors of records that are not cut, all counted together."""
        counted = self._counter.count_sequences(block.letters)
        bad = np.flatnonzero(counted.invalid >= 0)
        if bad.size:
            row = int(bad[0])
            raise _no_code(block, row, block.letters[row], int(counted.invalid[row]))
        layout, counts = self._encoder.layout, counted.counts
        rows = np.flatnonzero(counts[:, self._columns].any(axis=1))
        found: list[Cut | None] = [None] * len(counts)
        bases, windows = bases_of(counts, layout), counted_of(counts, layout)
        letters = counts[:, layout.bases.columns]
        shares = letters[:, 1] / np.maximum(1, letters.sum(axis=1, dtype=np.int64))
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            vectors = self._embed([counts[part]])
            for at, row in enumerate(part.tolist()):
                own = vectors[at : at + 1]
                found[row] = Cut(own, [], float(shares[row]), int(bases[row]), int(windows[row]))
        return found

    def _embed(self, waiting: list[NDArray[np.uint32]]) -> NDArray[np.float32]:
        from kinmer.resources import cpu_threads

        with cpu_threads(self._threads):
            vectors = self._encoder.embed(np.concatenate(waiting))
        waiting.clear()
        return vectors

    def _check_lengths(self, block: RecordBlock) -> None:
        for row, letters in enumerate(block.letters):
            if len(letters) > MAX_LETTERS:
                raise SequenceError(
                    f"{len(letters):,} letters",
                    f"counts are exact up to {MAX_LETTERS:,}",
                    "cut the sequence",
                    place=block.place(row),
                )

    def _rows_of(self, block: RecordBlock, row: int, plan: _Plan) -> Iterator[NDArray[np.uint32]]:
        """The counts of a record, then those of its pieces; notes in the plan what they are of."""
        # The kernels take arrays that could be written to: one copy here, or one with every call.
        letters = np.frombuffer(bytearray(block.letters[row]), np.uint8)
        # Counted for itself, not summed from tiles: these lose the k-mers across their edges and break the
        # reading frames there, and a query of the same sequence would not have the same vector.
        whole = self._counts(block, row, letters, np.array([0, len(letters)]))
        layout = self._encoder.layout
        bases = whole[0, layout.bases.columns]
        plan.gc = float(bases[1] / max(1, int(bases.sum(dtype=np.int64))))
        plan.bases, plan.windows = int(bases_of(whole, layout)[0]), int(counted_of(whole, layout)[0])
        plan.counted = bool(whole[:, self._columns].any())
        if plan.counted:
            yield whole
            yield from self._pieces_of(block, row, letters, plan)

    def _pieces_of(
        self, block: RecordBlock, row: int, letters: NDArray[np.uint8], plan: _Plan
    ) -> Iterator[NDArray[np.uint32]]:
        """The counts of a record's pieces, sums of tiles; those with too few windows are left out."""
        for first, stop, more in plan.parts():
            tiles = self._counts(block, row, letters, plan.edges[first : more + 1])
            sums = np.concatenate([np.zeros((1, tiles.shape[1]), np.uint64), np.cumsum(tiles, 0, np.uint64)])
            for width, starts in plan.starts:
                here = starts[(starts >= first) & (starts < stop)] - first
                counts = (sums[here + width] - sums[here]).astype(np.uint32)
                kept = counts[:, self._columns].sum(axis=1, dtype=np.int64) >= LEAST_WINDOWS
                plan.note(here[kept] + first, width)
                if kept.any():
                    yield counts[kept]

    def _counts(
        self, block: RecordBlock, row: int, letters: NDArray[np.uint8], edges: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        """Counts (t, width) of what lies between neighboring edges (t + 1,) of a record."""
        counted = self._counter.count(letters, edges[:-1], edges[1:])
        bad = np.flatnonzero(counted.invalid >= 0)
        if bad.size:
            raise _no_code(block, row, letters.tobytes(), int(counted.invalid[bad[0]]))
        return counted.counts

    @property
    def _columns(self) -> slice:
        return self._encoder.layout.blocks[0].columns


def _no_code(block: RecordBlock, row: int, letters: bytes, offset: int) -> SequenceError:
    return SequenceError(
        f"the letter {chr(letters[offset])!r} at position {offset + 1:,} is not a nucleotide code",
        "only nucleotide sequences have k-mer profiles",
        "is it a protein, or is the file damaged?",
        place=block.place(row),
    )


class _Plan:
    """How a record is cut, and what was found of it. spans : of the pieces kept, in order of their rows."""

    def __init__(self, pieces: Pieces | None, letters: int) -> None:
        self.edges = np.array([0, letters]) if pieces is None else pieces.tiles(letters)
        count = len(self.edges) - 1
        self.starts = [] if pieces is None else list(pieces.starts(count))
        self.spans: list[tuple[int, int]] = []
        self.gc, self.counted = 0.0, False
        self.bases = self.windows = 0

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """First tile and stop of what is counted together, and the stop with what its last pieces need."""
        if not self.starts:
            return
        count = len(self.edges) - 1
        widest = max(width for width, _ in self.starts)
        for first in range(0, count, TILES_AT_ONCE):
            stop = min(count, first + TILES_AT_ONCE)
            yield first, stop, min(count, stop + widest - 1)

    def note(self, firsts: NDArray[np.int64], width: int) -> None:
        """Note pieces of so many tiles."""
        begins, ends = self.edges[firsts].tolist(), self.edges[firsts + width].tolist()
        self.spans += list(zip(begins, ends, strict=True))
