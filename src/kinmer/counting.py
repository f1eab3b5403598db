"""FASTA to profiles: in batches for whoever needs them at once, or into a profile store, resumable."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError, MismatchError, ProfileError, SequenceError, UsageError
from kinmer.fasta import BLOCK_BYTES, FastaBlock, read_blocks
from kinmer.kmers import MAX_LETTERS, KmerCounter, RecordCount
from kinmer.layout import Layout, kmer_layout
from kinmer.machine import available_cores
from kinmer.profiles import ProfileStore, ProfileWriter
from kinmer.progress import Step, step

if TYPE_CHECKING:
    from anndata import AnnData  # type: ignore[import-untyped]

__all__ = ["Batch", "CountReport", "Position", "count", "count_batches", "count_files"]

# Rows of a batch: 4,096 at 2,772 features, and fewer where they are wider.
BATCH_BYTES = 48 << 20


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
    int64, their numbers in the file, from 1. too_short : records left out since the batch before, shorter
    than the least length. position : behind the last of them. consumed : bytes of the file as it is stored.
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
) -> Iterator[Batch]:
    """Profiles of all sequences of at least `min_length` letters, batch by batch, behind `start`.

    Memory does not depend on the input. Raises SequenceError, with file and record, for what is no nucleotide
    FASTA, and MismatchError where the records before `start` are not those that were counted before.
    """
    start = start or Position()
    counter = KmerCounter(layout, threads or available_cores())
    for number, file in enumerate(files):
        if number >= start.file:
            skipped = start if number == start.file else Position(number)
            yield from _FileCounter(counter, min_length, number, skipped).batches(file, block_bytes)


class _FileCounter:
    """Counts one file; the record that goes on in the next block is kept open between blocks."""

    def __init__(self, counter: KmerCounter, min_length: int, number: int, skipped: Position) -> None:
        self._counter, self._min_length, self._number = counter, min_length, number
        self._skipped = skipped
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
                self._go_on(block, 0)
                if not alone:
                    yield from self._close(block)
            first, last = int(block.continues), spans - int(block.continued)
            for at in range(first, last, self._batch_rows):
                yield from self._count(block, at, min(at + self._batch_rows, last))
            if block.continued and not alone:
                self._open = self._counter.open_record()
                self._go_on(block, spans - 1)
            consumed = block.consumed
        if self._skipped.records > self._records:
            raise self._changed(str(file))
        none = np.zeros((0, self._counter.layout.width), dtype=np.uint32)
        yield self._batch([], none, np.zeros(0, np.int64), [], _name(file), 0, consumed)

    def _go_on(self, block: FastaBlock, span: int) -> None:
        record = self._records + 1
        if self._open is None or record <= self._skipped.records:
            return
        before = self._open.letters
        self._open.add(block.buffer, int(block.starts[span]), int(block.ends[span]))
        if self._open.invalid >= 0:
            place = f"{block.file}, record {record} ({block.ids[span]!r})"
            raise _invalid(block.buffer[self._open.invalid], max(before, self._open.letters), place)

    def _close(self, block: FastaBlock) -> Iterator[Batch]:
        opened, self._open = self._open, None
        if opened is None or self._skip(block, block.ids[:1]):
            return
        letters, row = opened.letters, opened.finish()
        if letters > MAX_LETTERS:
            raise SequenceError(
                f"{letters:,} letters",
                f"counts are exact up to {MAX_LETTERS:,}",
                "cut the sequence",
                place=f"{block.file}, record {self._records} ({block.ids[0]!r})",
            )
        kept = letters >= self._min_length
        yield self._batch(
            block.ids[:1] if kept else [],
            row[None] if kept else row[None][:0],
            np.array([letters] if kept else [], dtype=np.int64),
            [self._records] if kept else [],
            block.file,
            int(not kept),
            block.consumed,
        )

    def _skip(self, block: FastaBlock, ids: Sequence[str]) -> int:
        """Note that these records are done; how many of them were counted by an earlier run."""
        skipped = min(len(ids), max(0, self._skipped.records - self._records))
        self._note(ids[:skipped])
        if (
            skipped
            and self._records == self._skipped.records
            and self._digest.hexdigest() != self._skipped.ids
        ):
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
            (int(which[i]), int(one.invalid[i]), int(one.lengths[i]))
            for which, one in ((brief, measured), (rows, counted))
            for i in np.flatnonzero(one.invalid >= 0)
        ]
        if bad:
            row, offset, letters = min(bad)
            place = f"{block.file}, record {numbers[row]} ({ids[row]!r})"
            raise _invalid(block.buffer[offset], letters, place)
        kept = np.flatnonzero(counted.lengths >= self._min_length)
        counts = counted.counts if len(kept) == len(rows) else counted.counts[kept]
        rows = rows[kept]
        yield self._batch(
            [ids[row] for row in rows],
            counts,
            counted.lengths[kept],
            numbers[rows].tolist(),
            block.file,
            stop - at - len(rows),
            block.consumed,
        )

    def _batch(
        self,
        ids: list[str],
        counts: NDArray[np.uint32],
        lengths: NDArray[np.int64],
        records: list[int],
        file: str,
        too_short: int,
        consumed: int,
    ) -> Batch:
        position = Position(self._number, self._records, self._digest.hexdigest())
        numbers = np.array(records, dtype=np.int64)
        return Batch(ids, counts, lengths, numbers, file, too_short, position, consumed)


def _invalid(byte: int, letters: int, place: str) -> SequenceError:
    letter = chr(byte) if 32 < byte < 127 else f"\\x{byte:02x}"
    return SequenceError(
        f"the letter {letter!r} at position {letters + 1:,} is no nucleotide code",
        "only nucleotide sequences have k-mer profiles",
        "is it a protein, or is the file damaged?",
        place=place,
    )


@dataclass
class CountReport:
    """What a run counted, what it left out, and how long it took.

    letters : of the counted sequences. too_short, without_bases : sequences left out. seconds : of this run.
    resumed : rows that an earlier, unfinished run had committed.
    """

    path: str
    sequences: int = 0
    letters: int = 0
    too_short: int = 0
    without_bases: int = 0
    seconds: float = 0.0
    resumed: int = 0
    position: Position = field(default_factory=Position)

    def summary(self) -> str:
        """One line for a person."""
        left = {"too short": self.too_short, "without a base": self.without_bases}
        out = ", ".join(f"{number:,} {why}" for why, number in left.items() if number)
        rate = self.letters / max(self.seconds, 1e-9) / 1e6
        speed = "" if self.resumed else f" in {self.seconds:.1f} s ({rate:,.0f} Mbp/s)"
        going_on = f" · went on behind {self.resumed:,} of an unfinished run" if self.resumed else ""
        left_out = f" · left out: {out}" if out else ""
        return f"{self.sequences:,} sequences, {self.letters / 1e6:,.1f} Mbp{speed}{left_out}{going_on}"


@overload
def count(files: Sequence[str | Path] | str | Path, output: None = None, **settings: Any) -> AnnData: ...
@overload
def count(files: Sequence[str | Path] | str | Path, output: str | Path, **settings: Any) -> ProfileStore: ...
def count(
    files: Sequence[str | Path] | str | Path, output: str | Path | None = None, **settings: Any
) -> AnnData | ProfileStore:
    """Count canonical k-mers of FASTA files into the store `output`, or into AnnData in memory.

    Settings are those of `count_files`; in memory there is no `append` and no `force`.
    """
    if output is not None:
        count_files(files, output, **settings)
        return ProfileStore.open(output)
    return _count_in_memory(_listed(files), **settings)


def count_files(
    files: Sequence[str | Path] | str | Path,
    output: str | Path,
    *,
    max_k: int = 6,
    min_length: int = 1000,
    threads: int | None = None,
    append: bool = False,
    force: bool = False,
    block_bytes: int = BLOCK_BYTES,
) -> CountReport:
    """Count canonical k-mers of FASTA `files` (``-``: stdin) into the profile store `output`.

    A killed run goes on when it is called again with the same files and settings. Sequences shorter than
    `min_length` letters, or without one of A, C, G, T, are left out and reported.

    Raises SequenceError for bad input, with file and record (a new store is then removed, one appended to is
    as before); UsageError where the output exists; MismatchError where a store appended to has another
    layout, or where an unfinished one was begun with other sequences.
    """
    paths, started = _listed(files), time.monotonic()
    layout = kmer_layout(max_k)
    if min_length < 0:
        raise UsageError(f"the least length must be at least 0, not {min_length}")
    settings = {"max_k": max_k, "min_length": min_length}
    signature = {"command": "count", "files": [_stamp(path) for path in paths], **settings}
    with ProfileWriter.create(output, layout, signature=signature, append=append, force=force) as writer:
        run = _Run(writer, CountReport(str(output)))
        try:
            run.count(paths, layout, min_length=min_length, threads=threads, block_bytes=block_bytes)
            made = {"command": "count", "files": [_name(path) for path in paths], **settings}
            writer.finish({**made, "left_out": [run.report.too_short, run.report.without_bases]})
        except InputError as error:
            if not isinstance(error, MismatchError):
                writer.abandon()
            raise
    run.report.seconds = time.monotonic() - started
    return run.report


class _Run:
    """Counts into a writer; a batch is written while the next one is counted."""

    def __init__(self, writer: ProfileWriter, report: CountReport) -> None:
        self._writer, self.report = writer, report
        if writer.state is not None:
            saved = dict(writer.state)
            self.report = CountReport(
                **{**saved, "path": report.path, "position": Position(**saved["position"])}
            )
            self.report.resumed = writer.rows - writer.base
        self._first_rows = [(writer.rows, "")]

    def count(
        self,
        files: list[str | Path],
        layout: Layout,
        *,
        min_length: int,
        threads: int | None,
        block_bytes: int,
    ) -> None:
        """Count all that is left to count."""
        total = (
            None
            if any(str(file) == "-" for file in files)
            else sum(Path(file).stat().st_size for file in files)
        )
        batches = count_batches(
            files,
            layout,
            min_length=min_length,
            threads=threads,
            start=self.report.position,
            block_bytes=block_bytes,
        )
        writing: Future[None] | None = None
        with step("Counting", total) as bar, ThreadPoolExecutor(1, "profile-writer") as writers:
            meter = _Meter(bar)
            for batch in batches:
                meter.show(batch)
                rows = np.flatnonzero(batch.counts[:, layout.blocks[-1].columns].any(axis=1))
                without = len(batch.ids) - len(rows)
                chosen = batch.take(rows) if without else batch
                if writing is not None:
                    writing.result()
                writing = writers.submit(self._write, chosen, without)
            if writing is not None:
                writing.result()
        if self._writer.rows == self._writer.base:
            out = f"{self.report.too_short:,} too short, {self.report.without_bases:,} without a base"
            raise SequenceError(
                "no sequence is left to count", f"left out: {out}", f"--min-length is {min_length}"
            )

    def _write(self, batch: Batch, without: int) -> None:
        report = self.report
        if batch.file != self._first_rows[-1][1]:
            self._first_rows.append((self._writer.rows, batch.file))
        try:
            self._writer.append(batch.ids, batch.counts, lengths=batch.lengths, sources=_name(batch.file))
        except ProfileError as error:
            raise self._explained(error, batch) from error
        report.sequences += len(batch.ids)
        report.letters += int(batch.lengths.sum())
        report.too_short += batch.too_short
        report.without_bases += without
        report.position = batch.position
        self._writer.commit(asdict(report))

    def _explained(self, error: ProfileError, batch: Batch) -> Exception:
        """A double id, told with both places."""
        at = self._writer.first_known(batch.ids)
        if at is None:
            return error
        one = batch.ids[at]
        first = f"record {batch.records[batch.ids.index(one)]} of the same file"
        if batch.ids.index(one) == at:
            first = self._stored_place(one)
        return SequenceError(
            f"the id {one!r} occurs twice; first in {first}",
            "hits could not be told apart",
            "rename one of them, or leave one file out",
            place=batch.place(at),
        )

    def _stored_place(self, one: str) -> str:
        writer, size = self._writer, 1 << 16
        for start in range(0, writer.rows, size):
            found = np.flatnonzero(writer.ids(start, min(start + size, writer.rows)) == one)
            if len(found):
                row = start + int(found[0])
                file = [name for first, name in self._first_rows if first <= row]
                return file[-1] if file and file[-1] else "the rows that the store held before"
        return "the store"


class _Meter:
    """Tells the progress bar bytes read and Mbp a second."""

    def __init__(self, bar: Step) -> None:
        self._bar, self._started, self._letters = bar, time.monotonic(), 0
        self._file, self._consumed = -1, 0

    def show(self, batch: Batch) -> None:
        if batch.position.file != self._file:
            self._file, self._consumed = batch.position.file, 0
        self._letters += int(batch.lengths.sum())
        rate = self._letters / max(time.monotonic() - self._started, 1e-3) / 1e6
        self._bar.advance(batch.consumed - self._consumed, f"{rate:,.0f} Mbp/s")
        self._consumed = batch.consumed


def _count_in_memory(
    files: list[str | Path], *, max_k: int = 6, min_length: int = 1000, threads: int | None = None
) -> AnnData:
    import tempfile

    from anndata import read_zarr

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profiles.zarr"
        count_files(files, path, max_k=max_k, min_length=min_length, threads=threads)
        return read_zarr(path)


def _listed(files: Sequence[str | Path] | str | Path) -> list[str | Path]:
    listed = [files] if isinstance(files, str | Path) else list(files)
    if not listed:
        raise UsageError("no sequence file is given")
    if sum(str(file) == "-" for file in listed) > 1:
        raise UsageError("stdin (-) can be read only once")
    for file in listed:
        if str(file) != "-" and (Path(file).is_dir() or not Path(file).exists()):
            what = "this is a folder" if Path(file).is_dir() else "no such file"
            raise SequenceError(what, check="is the path right?", place=file)
    return listed


def _is_stream(file: str | Path) -> bool:
    return str(file) == "-" or not Path(file).is_file()


def _name(file: str | Path) -> str:
    return "stdin" if str(file) in ("-", "stdin") else Path(file).name


def _stamp(file: str | Path) -> list[Any]:
    if _is_stream(file):
        return ["-"]
    state = Path(file).stat()
    return [str(Path(file).absolute()), state.st_size, state.st_mtime_ns]
