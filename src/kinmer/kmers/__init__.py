"""Counts of canonical k-mers, every k from the layout's largest down to 1, in one pass over the letters.

Any number of threads; a sequence may come in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import UsageError
from kinmer.kmers.frames import CODES, WINDOW, FrameRecord, frames_of_spans, make_room
from kinmer.kmers.kernels import CLASSES, WHITESPACE, count_span, count_spans, fold, measure_spans, raw_size
from kinmer.layout import Block, Layout

__all__ = ["MAX_LETTERS", "Counts", "KmerCounter", "RecordCount"]


# Counts are 32 bits wide: they are exact in sequences of up to this many letters.
MAX_LETTERS = (1 << 32) - 1

# Bytes of one work unit: small enough that two threads share one chromosome, large enough that handing it
# over costs nothing beside counting it.
_UNIT = 1 << 20
# Letters at the edges of a piece are looked for in steps of this many bytes.
_EDGE_STEP = 4096

Buffer = NDArray[np.uint8]
Table = NDArray[np.uint32]


@dataclass(frozen=True)
class Counts:
    """Counts of n sequences.

    counts : (n, width) uint32. lengths : (n,) int64, letters of every sequence, N and the like among them.
    invalid : (n,) int64, offset in the buffer of the first byte that is not a nucleotide code, or -1; then
    `lengths` has the letters before it, and the row means nothing.
    """

    counts: Table
    lengths: NDArray[np.int64]
    invalid: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass
class _Piece:
    """A counted piece of a sequence; head, tail: its first and last k - 1 letters."""

    raw: Table
    letters: int
    head: bytes
    tail: bytes
    invalid: int


class KmerCounter:
    """Counts canonical k-mers of sequences in bytes and, where the layout has them, what their frames hold.

    ACGT in either case, U as T; whitespace is skipped; a window that holds an IUPAC code, ``X``, ``-`` or
    ``.`` is not counted, and a reading frame ends there. All other bytes are invalid. The result does not
    depend on `threads`.

    Raises UsageError for less than one thread.
    """

    def __init__(self, layout: Layout, threads: int = 1) -> None:
        if threads < 1:
            raise UsageError(f"the number of threads must be at least 1, not {threads}")
        self.layout, self.threads = layout, threads
        self._k = max(layout.ks)
        self._features = _feature_words(layout.kmer_blocks)
        self._kmers = layout.bases.stop
        self._code = -1 if layout.genetic_code == "auto" else CODES.index(layout.genetic_code)
        self._pool = ThreadPoolExecutor(threads, "kmers") if threads > 1 else None

    def count(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Counts:
        """Count the sequences buffer[starts[i]:ends[i]]; raises ValueError for spans outside the buffer."""
        buffer, spans = _checked(buffer, starts, ends)
        counts = np.empty((len(spans), self.layout.width), dtype=np.uint32)
        found = np.empty((len(spans), 2), dtype=np.int64)
        sizes = spans[:, 1] - spans[:, 0]
        long = sizes >= 2 * _UNIT if self._pool else np.zeros(len(spans), dtype=bool)
        # Long sequences first: their pieces fill all threads, and the rest follows without a gap.
        records = {int(i): RecordCount(self) for i in np.flatnonzero(long)}
        for i, record in records.items():
            record.begin(buffer, *spans[i].tolist())
        jobs = [
            self._submit(self._count_group, buffer, spans[a:b], counts[a:b], found[a:b])
            for a, b in _groups(sizes, long)
        ]
        for i, record in records.items():
            record.settle()
            found[i] = record.letters, record.invalid
            counts[i] = record.finish()
        for job in jobs:
            job.result()
        return Counts(counts, found[:, 0].copy(), found[:, 1].copy())

    def measure(
        self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> Counts:
        """Only `lengths` and `invalid` of the sequences; the counts have no columns."""
        buffer, spans = _checked(buffer, starts, ends)
        found = np.empty((len(spans), 2), dtype=np.int64)
        measure_spans(buffer, spans, CLASSES, found)
        return Counts(np.empty((len(spans), 0), np.uint32), found[:, 0].copy(), found[:, 1].copy())

    def count_sequences(self, sequences: Sequence[bytes]) -> Counts:
        """Count whole sequences; offsets in `invalid` are within the sequence."""
        ends = np.cumsum([len(sequence) for sequence in sequences], dtype=np.int64)
        starts = ends - np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        buffer = np.frombuffer(bytearray().join(sequences), dtype=np.uint8)
        done = self.count(buffer, starts, ends)
        return Counts(done.counts, done.lengths, np.where(done.invalid < 0, -1, done.invalid - starts))

    def open_record(self) -> RecordCount:
        """Begin a record that comes in several pieces."""
        return RecordCount(self)

    def _submit(self, work: Any, *arguments: Any) -> Future[Any]:
        if self._pool:
            return self._pool.submit(work, *arguments)
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done

    def _count_group(
        self, buffer: Buffer, spans: NDArray[np.int64], counts: Table, found: NDArray[np.int64]
    ) -> None:
        count_spans(buffer, spans, CLASSES, self._k, self._features, counts, found)
        if self.layout.coding:
            frames_of_spans(buffer, spans, make_room(WINDOW), self._code, self._kmers, counts)

    def _submit_pieces(self, buffer: Buffer, start: int, end: int) -> list[Future[_Piece]]:
        number = max(1, (end - start) // _UNIT) if self._pool else 1
        cuts = [start + (end - start) * i // number for i in range(number + 1)]
        return [self._submit(self._count_piece, buffer, a, b) for a, b in pairwise(cuts)]

    def _count_piece(self, buffer: Buffer, start: int, end: int) -> _Piece:
        raw = np.zeros(raw_size(self._k), dtype=np.uint32)
        letters, invalid = count_span(buffer, start, end, CLASSES, self._k, raw)
        if invalid >= 0:
            end = invalid
        head, tail = _edges(buffer, start, end, self._k - 1)
        return _Piece(raw, letters, head, tail, invalid)


class RecordCount:
    """One sequence counted piece by piece, cut anywhere; made by `KmerCounter.open_record`.

    ``letters``: so far. ``invalid``: offset, in the buffer last added, of the first byte that is not a
    nucleotide code, or -1; `letters` then stays at those before it and further pieces are ignored.
    """

    def __init__(self, counter: KmerCounter) -> None:
        self._counter, self._k = counter, counter._k
        self._raw: Table | None = None
        self._tail = b""
        self.letters, self.invalid = 0, -1
        self._pieces: list[Future[_Piece]] = []
        self._frames = FrameRecord(counter._submit, counter._code, WINDOW) if counter.layout.coding else None

    def add(self, buffer: NDArray[np.uint8], start: int, end: int) -> None:
        """Go on with buffer[start:end]; the buffer may change afterwards."""
        buffer, _ = _checked(buffer, np.array([start]), np.array([end]))
        self.begin(buffer, int(start), int(end))
        self.settle()

    def begin(self, buffer: Buffer, start: int, end: int) -> None:
        """Start on buffer[start:end]; `settle` waits until it is counted."""
        self._pieces = self._counter._submit_pieces(buffer, start, end)
        if self._frames:
            self._frames.begin(buffer, start, end, _UNIT if self._counter._pool else None)

    def settle(self) -> None:
        """Wait until what was started is counted."""
        for piece in self._pieces:
            self._join(piece.result())
        self._pieces = []
        if self._frames:
            self._frames.settle()

    def _join(self, piece: _Piece) -> None:
        """Go on with a counted piece: count(A + B) = count(A) + count(B) + what differs around the cut."""
        if self.invalid >= 0:
            return
        if self._raw is None:
            self._raw = piece.raw
        else:
            self._raw += piece.raw
            joined = self._tail + piece.head
            # Differences are taken modulo 2**32: the sums are exact wherever the counts fit 32 bits.
            self._raw += self._raw_of(joined) - self._raw_of(self._tail) - self._raw_of(piece.head)
        short = len(piece.tail) < self._k - 1
        joined = self._tail + piece.tail if short else piece.tail
        self._tail = joined[max(0, len(joined) - self._k + 1) :]
        self.letters += piece.letters
        self.invalid = piece.invalid

    def finish(self) -> Table:
        """The counts, (width,) uint32; only once."""
        row = np.zeros(self._counter.layout.width, dtype=np.uint32)
        if self._raw is not None:
            fold(self._raw, self._k, *self._counter._features, row)
            self._raw = None
        if self._frames:
            self._frames.finish(row[self._counter._kmers :])
        return row

    def _raw_of(self, letters: bytes) -> Table:
        return self._counter._count_piece(np.frombuffer(bytearray(letters), np.uint8), 0, len(letters)).raw


@lru_cache(maxsize=8)
def _feature_words(
    blocks: tuple[Block, ...],
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32]]:
    """`sizes`, `words` and `mates` of `fold`."""
    sizes, words, mates = [], [], []
    for block in blocks:
        word = np.arange(4**block.k)
        mate, rest = np.zeros_like(word), word.copy()
        for _ in range(block.k):
            mate, rest = (mate << 2) | (3 - (rest & 3)), rest >> 2
        canonical = word <= mate
        sizes.append(block.size)
        words.append(word[canonical])
        mates.append(np.where(word == mate, 4**block.k, mate)[canonical])
    return (
        np.array(sizes, dtype=np.int64),
        np.concatenate(words).astype(np.uint32),
        np.concatenate(mates).astype(np.uint32),
    )


def _checked(
    buffer: Buffer, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[Buffer, NDArray[np.int64]]:
    """The buffer, writable (kernels are compiled for one type), and the spans as (n, 2) int64."""
    spans = np.stack([starts, ends], axis=1).astype(np.int64)
    if len(spans) and (spans[:, 0].min() < 0 or spans[:, 1].max() > len(buffer)):
        raise ValueError("spans outside the buffer")
    return np.require(buffer, dtype=np.uint8, requirements=["C", "W"]), spans


def _groups(sizes: NDArray[np.int64], apart: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Ranges of consecutive sequences that make about one work unit each, those marked `apart` left out."""
    groups: list[tuple[int, int]] = []
    edges = np.flatnonzero(np.diff(apart, prepend=True, append=True))
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        units = (np.cumsum(sizes[first:last]) - sizes[first:last]) // _UNIT
        starts = first + np.flatnonzero(np.diff(units, prepend=-1))
        groups += list(zip(starts.tolist(), [*starts[1:].tolist(), last], strict=True))
    return groups


def _edges(buffer: Buffer, start: int, end: int, n: int) -> tuple[bytes, bytes]:
    """The first and the last n letters (fewer where there are no more) of buffer[start:end]."""
    head, tail = b"", b""
    for at in range(start, end, _EDGE_STEP):
        if len(head) >= n:
            break
        head += buffer[at : min(end, at + _EDGE_STEP)].tobytes().translate(None, WHITESPACE)
    for at in range(end, start, -_EDGE_STEP):
        if len(tail) >= n:
            break
        tail = buffer[max(start, at - _EDGE_STEP) : at].tobytes().translate(None, WHITESPACE) + tail
    return head[:n], tail[max(0, len(tail) - n) :]
