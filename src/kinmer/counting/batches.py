"""Profiles of the sequences of FASTA files, batch by batch, in memory that does not depend on the input."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import MismatchError, SequenceError
from kinmer.fasta import BLOCK_BYTES, FastaBlock, read_blocks
from kinmer.files import hash_ids
from kinmer.inputs import text_of, unnamed_array
from kinmer.kmers import MAX_LETTERS, KmerCounter, RecordCount
from kinmer.layout import Layout
from kinmer.resources import available_cores

# Rows of a batch: 2,048 at 2,772 features, and fewer where they are wider. Memory of more than 32 MB is given
# back to the system each time, and its pages are got anew.
BATCH_BYTES = 24 << 20


def bases_of(counts: NDArray[Any], layout: Layout) -> NDArray[np.int64]:
    """(n,) A, C, G, T of sequences, from their profiles of counts (n, width)."""
    return np.asarray(counts[:, layout.bases.columns].sum(axis=1, dtype=np.int64))


def counted_of(counts: NDArray[Any], layout: Layout) -> NDArray[np.int64]:
    """(n,) bases of the gapless sequence that would have as many k-mers of the largest k; 0 without any.

    The bases themselves, less what stands in runs too short for a k-mer, and k - 1 for every gap.
    """
    block = layout.blocks[0]
    windows = counts[:, block.columns].sum(axis=1, dtype=np.int64)
    return np.where(windows > 0, windows + block.k - 1, 0)


def source_of(file: str | Path) -> str:
    """What a store calls a file: its name."""
    return "stdin" if str(file) in ("-", "stdin") else text_of(Path(file).name)


@dataclass(frozen=True)
class Position:
    """How far a run has come: `records` of file number `file` (from 0), and a SHA-256 over their ids."""

    file: int = 0
    records: int = 0
    ids: str = ""


@dataclass(frozen=True)
class Batch:
    """Profiles of whole records of one file, in order.

    ids : of n sequences. counts : (n, width) uint32. lengths : (n,) int64, every letter. records : (n,)
    int64, their numbers in the file, from 1. too_short : records left out since the batch before, of fewer
    bases than the least length. position : behind the last of them. consumed : bytes read of the stored file.
    """

    ids: list[str]
    counts: NDArray[np.uint32]
    lengths: NDArray[np.int64]
    records: NDArray[np.int64]
    file: str
    too_short: int
    position: Position
    consumed: int

    def place(self, row: int) -> str:
        """File and record of a row, for an error."""
        return f"{self.file}, record {self.records[row]} ({self.ids[row]!r})"

    def take(self, rows: NDArray[np.intp]) -> Batch:
        """The batch with some of its rows."""
        ids = [self.ids[row] for row in rows]
        return replace(
            self, ids=ids, counts=self.counts[rows], lengths=self.lengths[rows], records=self.records[rows]
        )


def count_batches(
    files: Sequence[str | Path],
    layout: Layout,
    *,
    min_length: int = 0,
    threads: int | None = None,
    start: Position | None = None,
    block_bytes: int = BLOCK_BYTES,
    prefixes: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """Profiles of all sequences of at least `min_length` bases (A, C, G, T), batch by batch, behind `start`.

    Sequences of so many letters without any base come too, with counts of 0. The caller decides about them.

    prefixes : what stands before the ids of each file; None for nothing.

    Raises SequenceError, with file and record, for what is not nucleotide FASTA, and MismatchError where the
    records before `start` are not those that were counted before.
    """
    start = start or Position()
    counter = KmerCounter(layout, threads or available_cores())
    for number, file in enumerate(files):
        if number >= start.file:
            done = start if number == start.file else Position(number)
            prefix = "" if prefixes is None else prefixes[number]
            yield from _FileCounter(counter, min_length, done, prefix).batches(file, block_bytes)


class _FileCounter:
    """Counts one file; a record that continues in the next block is kept open between blocks.

    done : records that an earlier run has counted.
    """

    def __init__(self, counter: KmerCounter, min_length: int, done: Position, prefix: str) -> None:
        self._counter, self._min_length, self._done, self._prefix = counter, min_length, done, prefix
        self._batch_rows = max(1, BATCH_BYTES // (4 * counter.layout.width))
        self._open: RecordCount | None = None
        self._records = 0
        self._digest = hashlib.sha256()

    def batches(self, file: str | Path, block_bytes: int) -> Iterator[Batch]:
        consumed = 0
        for block in read_blocks(file, block_bytes=block_bytes):
            spans = len(block.ids)
            alone = spans == 1 and block.continues and block.continued
            if block.continues:
                self._extend(block, 0)
                if not alone:
                    yield from self._close(block)
            first, last = int(block.continues), spans - int(block.continued)
            for at in range(first, last, self._batch_rows):
                yield from self._count(block, at, min(at + self._batch_rows, last))
            if block.continued and not alone:
                self._open = self._counter.open_record()
                self._extend(block, spans - 1)
            consumed = block.consumed
        if self._done.records > self._records:
            raise self._changed("stdin" if str(file) == "-" else str(file))
        none = np.zeros((0, self._counter.layout.width), dtype=np.uint32)
        empty = np.zeros(0, np.int64)
        yield Batch([], none, empty, empty, source_of(file), 0, self._position(), consumed)

    def _position(self) -> Position:
        return Position(self._done.file, self._records, self._digest.hexdigest())

    def _extend(self, block: FastaBlock, span: int) -> None:
        """Add a span of the block to the open record."""
        record = self._records + 1
        if self._open is None or record <= self._done.records:
            return
        before = self._open.letters
        self._open.add(block.buffer, int(block.starts[span]), int(block.ends[span]))
        if self._open.invalid >= 0:
            place = f"{block.file}, record {record} ({block.ids[span]!r})"
            raise _invalid(block.buffer[self._open.invalid], max(before, self._open.letters), place)

    def _close(self, block: FastaBlock) -> Iterator[Batch]:
        record, self._open = self._open, None
        if record is None or self._skip(block, block.ids[:1]):
            return
        letters, row = record.letters, record.finish()
        if letters > MAX_LETTERS:
            raise SequenceError(
                f"{letters:,} letters",
                f"counts are exact up to {MAX_LETTERS:,}",
                "cut the sequence",
                place=f"{block.file}, record {self._records} ({block.ids[0]!r})",
            )
        numbers = np.array([self._records])
        yield self._batch(block, block.ids[:1], row[None], np.array([letters], dtype=np.int64), numbers, 0)

    def _skip(self, block: FastaBlock, ids: Sequence[str]) -> int:
        """Note that these records are done; how many of them were counted by an earlier run."""
        skipped = min(len(ids), max(0, self._done.records - self._records))
        self._note(ids[:skipped])
        if skipped and self._records == self._done.records and self._digest.hexdigest() != self._done.ids:
            raise self._changed(block.file)
        self._note(ids[skipped:])
        return skipped

    def _note(self, ids: Sequence[str]) -> None:
        if ids:
            self._digest.update("\n".join(ids).encode() + b"\n")
            self._records += len(ids)

    def _changed(self, file: str) -> MismatchError:
        return MismatchError(
            "the sequences are not those that the unfinished store was begun with",
            check="give the same input again, or --force to start afresh",
            place=file,
        )

    def _count(self, block: FastaBlock, at: int, stop: int) -> Iterator[Batch]:
        """Count the whole records in the spans at … stop."""
        at += self._skip(block, block.ids[at:stop])
        if at == stop:
            return
        numbers = np.arange(self._records - (stop - at) + 1, self._records + 1)
        starts, ends, ids = block.starts[at:stop], block.ends[at:stop], block.ids[at:stop]
        # What has too few bytes has too few letters: its letters are looked at, but not counted.
        long = ends - starts >= self._min_length
        brief, rows = np.flatnonzero(~long), np.flatnonzero(long)
        measured = self._counter.measure(block.buffer, starts[brief], ends[brief])
        counted = self._counter.count(block.buffer, starts[rows], ends[rows])
        bad = [
            (int(which[i]), int(counts.invalid[i]), int(counts.lengths[i]))
            for which, counts in ((brief, measured), (rows, counted))
            for i in np.flatnonzero(counts.invalid >= 0)
        ]
        if bad:
            row, offset, letters = min(bad)
            place = f"{block.file}, record {numbers[row]} ({ids[row]!r})"
            raise _invalid(block.buffer[offset], letters, place)
        names = [ids[row] for row in rows] if len(brief) else ids
        yield self._batch(block, names, counted.counts, counted.lengths, numbers[rows], len(brief))

    def _batch(
        self,
        block: FastaBlock,
        ids: list[str],
        counts: NDArray[np.uint32],
        lengths: NDArray[np.int64],
        numbers: NDArray[np.int64],
        too_short: int,
    ) -> Batch:
        """The batch of those that have enough bases; letters without any base are for others to name."""
        bases = bases_of(counts, self._counter.layout)
        enough = (bases >= self._min_length) | ((bases == 0) & (lengths >= self._min_length))
        too_short += int((~enough).sum())
        ids = [self._prefix + name for name in ids] if self._prefix else ids
        whole = Batch(ids, counts, lengths, numbers, block.file, too_short, self._position(), block.consumed)
        return whole if enough.all() else whole.take(np.flatnonzero(enough))


def _invalid(byte: int, letters: int, place: str) -> SequenceError:
    letter = chr(byte) if 32 < byte < 127 else f"\\x{byte:02x}"
    return SequenceError(
        f"the letter {letter!r} at position {letters + 1:,} is not a nucleotide code",
        "only nucleotide sequences have k-mer profiles",
        "is it a protein, or is the file damaged?",
        place=place,
    )


class CountedFasta:
    """The sequences of a FASTA file as profiles, counted into an unnamed file."""

    values: Literal["counts", "frequencies"] = "counts"
    chunk_rows = 4096

    def __init__(self, path: str | Path, layout: Layout, *, threads: int | None = None) -> None:
        import pandas as pd

        from kinmer.profiles.protocol import gc_of

        self.layout = layout
        names = fasta_ids(path)
        self._counts = unnamed_array(np.uint32, len(names), layout.width)
        lengths, start = np.zeros(len(names), np.int64), 0
        for batch in count_batches([path], layout, threads=threads):
            stop = start + len(batch.ids)
            self._counts[start:stop], lengths[start:stop] = batch.counts, batch.lengths
            start = stop
        self.ids = np.array(names, dtype=object)
        gc = gc_of(self._counts, layout) if names else np.empty(0)
        self.obs = pd.DataFrame({"length": lengths, "gc": gc}, index=pd.Index(self.ids))
        self.fingerprint = hash_ids(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop, (stop - start, width)."""
        return self._counts[start:stop]

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Any rows in any order, (len(rows), width)."""
        return self._counts[rows]


def fasta_ids(path: str | Path) -> list[str]:
    """Ids of the sequences of a FASTA file, in their order."""
    return [name for block in read_blocks(path) for name in block.ids[int(block.continues) :]]
