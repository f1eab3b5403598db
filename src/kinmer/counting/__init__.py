"""FASTA to profiles: in batches for whoever needs them at once, or into a profile store, resumable.

Memory does not depend on the input. A killed run resumes from its last commit when it is called again.
"""

from __future__ import annotations

import errno
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np

from kinmer.counting.batches import (
    Batch,
    CountedFasta,
    Position,
    bases_of,
    count_batches,
    counted_of,
    fasta_ids,
    source_of,
)
from kinmer.errors import InputError, KinmerError, MismatchError, ProfileError, SequenceError, UsageError
from kinmer.fasta import BLOCK_BYTES, is_stream, nonempty, prefixes_of, read_blocks
from kinmer.layout import GeneticCode, profile_layout
from kinmer.progress import step

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.profiles import ProfileStore, ProfileWriter

__all__ = [
    "Batch",
    "CountReport",
    "CountedFasta",
    "Position",
    "bases_of",
    "count",
    "count_batches",
    "count_files",
    "counted_of",
    "fasta_ids",
]

Files = Sequence[str | Path] | str | Path


@dataclass
class CountReport:
    """What a run counted, what it left out, and how long it took.

    letters : of the counted sequences. too_short, without_bases : sequences left out. seconds : of this run.
    resumed : rows that an earlier, unfinished run had committed. empty : files passed over that hold nothing.
    """

    path: str
    sequences: int = 0
    letters: int = 0
    too_short: int = 0
    without_bases: int = 0
    seconds: float = 0.0
    resumed: int = 0
    empty: tuple[str, ...] = ()
    position: Position = field(default_factory=Position)

    def summary(self) -> str:
        """One line for a person."""
        left = {"too short": self.too_short, "without a base": self.without_bases}
        out = ", ".join(f"{number:,} {why}" for why, number in left.items() if number)
        rate = self.letters / max(self.seconds, 1e-9) / 1e6
        speed = "" if self.resumed else f" in {self.seconds:.1f} s ({rate:,.0f} Mbp/s)"
        resumed = f" · went on behind {self.resumed:,} of an unfinished run" if self.resumed else ""
        left_out = f" · left out: {out}" if out else ""
        more = f" and {len(self.empty) - 5:,} more" if len(self.empty) > 5 else ""
        empty = f" · empty files passed over: {', '.join(self.empty[:5])}{more}" if self.empty else ""
        return f"{self.sequences:,} sequences, {self.letters / 1e6:,.1f} Mbp{speed}{left_out}{empty}{resumed}"


class CountSettings(TypedDict, total=False):
    """The settings of `count` and `count_files`, with their defaults' types."""

    max_k: int
    coding: bool
    genetic_code: GeneticCode
    min_length: int
    prefix: str
    sample_from_file: bool
    threads: int | None


@overload
def count(files: Files, output: None = None, **settings: Unpack[CountSettings]) -> AnnData: ...
@overload
def count(
    files: Files,
    output: str | Path,
    *,
    append: bool = False,
    force: bool = False,
    **settings: Unpack[CountSettings],
) -> ProfileStore: ...
def count(
    files: Files,
    output: str | Path | None = None,
    *,
    max_k: int = 6,
    coding: bool = False,
    genetic_code: GeneticCode = "auto",
    min_length: int = 1000,
    prefix: str = "",
    sample_from_file: bool = False,
    threads: int | None = None,
    append: bool = False,
    force: bool = False,
) -> AnnData | ProfileStore:
    """Count k-mers of FASTA files into the store `output`, or into AnnData in memory.

    Settings and errors are those of `count_files`; in memory there is nothing to append to.
    """
    settings: CountSettings = {
        "max_k": max_k,
        "coding": coding,
        "genetic_code": genetic_code,
        "min_length": min_length,
        "prefix": prefix,
        "sample_from_file": sample_from_file,
        "threads": threads,
    }
    if output is not None:
        from kinmer.profiles import ProfileStore

        count_files(files, output, append=append, force=force, **settings)
        return ProfileStore.open(output)
    if append or force:
        raise UsageError("append and force go with an output", check="give one")
    from anndata import read_zarr

    # By way of a store: what is in memory then is what would have been on disk, to the last column.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profiles.zarr"
        count_files(files, path, **settings)
        return read_zarr(path)


def count_files(
    files: Files,
    output: str | Path,
    *,
    max_k: int = 6,
    coding: bool = False,
    genetic_code: GeneticCode = "auto",
    min_length: int = 1000,
    prefix: str = "",
    sample_from_file: bool = False,
    threads: int | None = None,
    append: bool = False,
    force: bool = False,
    block_bytes: int = BLOCK_BYTES,
) -> CountReport:
    """Count canonical k-mers of FASTA `files` (``-``: stdin) into the profile store `output`.

    A killed run resumes when it is called again with the same files and settings. Sequences of fewer than
    `min_length` bases (A, C, G, T), or none, are left out and reported.

    Parameters
    ----------
    coding : count codons and 4-mers by codon position in the sequences' reading frames too (see
        `kinmer.layout.profile_layout`), found by `genetic_code`: 11, 4, or "auto", chosen for every
        sequence.
    prefix, sample_from_file : what stands before every id, or ``SAMPLE:`` with the name of each file, for
        contigs of several samples with equal names (`kinmer.fasta.prefixes_of`).

    Raises
    ------
    SequenceError : bad input, with file and record. A new store then goes, one appended to is as before.
    UsageError : the output exists, or an unfinished run of other files or settings is there.
    MismatchError, KinmerError : a store of another layout; a full disk.
    """
    from kinmer.profiles import ProfileWriter  # A search counts too, and needs no store.

    paths, started = _listed(files), time.monotonic()
    layout = profile_layout(max_k, coding=coding, genetic_code=genetic_code)
    _check_least(min_length, threads)
    before = prefixes_of(paths, prefix=prefix, sample_from_file=sample_from_file)
    settings: dict[str, Any] = {"max_k": max_k, "min_length": min_length}
    settings |= {"prefixes": before} if any(before) else {}
    settings |= {"coding": True, "genetic_code": genetic_code} if coding else {}
    signature = {"command": "count", "files": [_stamp(path) for path in paths], **settings}
    with (
        _full_disk(output),
        ProfileWriter.create(output, layout, signature=signature, append=append, force=force) as writer,
    ):
        run = _Run(writer, CountReport(str(output)), paths, before)
        try:
            run.count(min_length=min_length, threads=threads, block_bytes=block_bytes)
            left_out = [run.report.too_short, run.report.without_bases]
            names = [source_of(path) for path in paths]
            writer.finish({"command": "count", "files": names, **settings, "left_out": left_out})
        except InputError as error:
            if not isinstance(error, MismatchError):
                writer.abandon()
            raise
    run.report.seconds = time.monotonic() - started
    return run.report


@contextmanager
def _full_disk(output: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise KinmerError(
            "the disk is full",
            "what was committed is kept",
            "free some space and give the same command again",
            place=output,
        ) from error


class _Run:
    """Counts into a writer; a batch is written while the next one is counted."""

    def __init__(
        self, writer: ProfileWriter, report: CountReport, paths: list[str | Path], prefixes: list[str]
    ) -> None:
        self._writer, self.report, self.files = writer, report, nonempty(paths)
        there, prefix_of = set(self.files), dict(zip(paths, prefixes, strict=True))
        self._prefixes = [prefix_of[file] for file in self.files]
        self._streamed = any(map(is_stream, self.files))
        if writer.state is not None:
            saved = {**writer.state, "path": report.path, "position": Position(**writer.state["position"])}
            saved.pop("empty", None)
            self.report = CountReport(**saved)
            self.report.resumed = writer.rows - writer.base
        self.report.empty = tuple(source_of(path) for path in paths if path not in there)

    def count(self, *, min_length: int, threads: int | None, block_bytes: int) -> None:
        """Count all that is left to count."""
        layout = self._writer.layout
        batches = count_batches(
            self.files,
            layout,
            min_length=min_length,
            threads=threads,
            start=self.report.position,
            block_bytes=block_bytes,
            prefixes=self._prefixes,
        )
        total = None if self._streamed else sum(Path(file).stat().st_size for file in self.files)
        writing: Future[None] | None = None
        began, letters, file, consumed = time.monotonic(), 0, -1, 0
        with step("Counting", total) as bar, ThreadPoolExecutor(1, "profile-writer") as writers:
            for batch in batches:
                if batch.position.file != file:
                    file, consumed = batch.position.file, 0
                letters += int(batch.lengths.sum())
                rate = letters / max(time.monotonic() - began, 1e-3) / 1e6
                bar.advance(batch.consumed - consumed, f"{rate:,.0f} Mbp/s")
                consumed = batch.consumed
                rows = np.flatnonzero(batch.counts[:, layout.bases.columns].any(axis=1))
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
        try:
            self._writer.append(batch.ids, batch.counts, lengths=batch.lengths, sources=source_of(batch.file))
        except ProfileError as error:
            raise self._explained(error, batch) from error
        report.sequences += len(batch.ids)
        report.letters += int(batch.lengths.sum())
        report.too_short += batch.too_short
        report.without_bases += without
        report.position = batch.position
        self._writer.commit(asdict(report))

    def _explained(self, error: ProfileError, batch: Batch) -> KinmerError:
        """A duplicate id, reported with both locations."""
        at = self._writer.first_known(batch.ids)
        if at is None:
            return error
        return SequenceError(
            f"the id {batch.ids[at]!r} occurs twice; first in {self._first_place(batch, at)}",
            "hits could not be told apart",
            "of another sample: --sample-from-file or --prefix; else rename one, or leave one file out",
            place=batch.place(at),
        )

    def _first_place(self, batch: Batch, at: int) -> str:
        # Locations are not kept for millions of ids: the files are looked through once more.
        until = batch.position.file + 1
        for file, prefix in zip(self.files[:until], self._prefixes[:until], strict=True):
            name = batch.ids[at].removeprefix(prefix)
            if is_stream(file) or not batch.ids[at].startswith(prefix):
                continue
            for block in read_blocks(file):
                if name in block.ids:
                    record = block.first_record + block.ids.index(name)
                    if (str(file), record) != (batch.file, int(batch.records[at])):
                        return f"{file}, record {record}"
                    break
        if self._streamed:
            return "what came through the pipe"
        return "the store that is appended to, which has it already"


def _listed(files: Files) -> list[str | Path]:
    listed = [files] if isinstance(files, str | Path) else list(files)
    if not listed:
        raise UsageError("no sequence file is given")
    if sum(str(file) == "-" for file in listed) > 1:
        raise UsageError("stdin (-) can be read only once")
    known: dict[tuple[int, int], str | Path] = {}
    for file in listed:
        if str(file) != "-" and (Path(file).is_dir() or not Path(file).exists()):
            what = "this is a folder" if Path(file).is_dir() else "no such file"
            raise SequenceError(what, check="is the path right?", place=file)
        if not is_stream(file):
            state = Path(file).stat()
            if (first := known.setdefault((state.st_dev, state.st_ino), file)) is not file:
                again = "" if str(first) == str(file) else f", as {first} too"
                raise SequenceError(f"the file is given twice{again}", check="leave it out once", place=file)
    return listed


def _check_least(min_length: int, threads: int | None) -> None:
    for name, value, least in (("least length", min_length, 0), ("number of threads", threads, 1)):
        if value is not None and value < least:
            raise UsageError(f"the {name} must be at least {least}, not {value}")


def _stamp(file: str | Path) -> list[Any]:
    """What makes an input the same one for the run that resumes."""
    if is_stream(file):
        return ["-"]
    state = Path(file).stat()
    return [str(Path(file).absolute()), state.st_size, state.st_mtime_ns]
