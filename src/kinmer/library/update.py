"""Changes of an index by one call each: add, update, delete, compact; a killed one is gone on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence import refresh_calibration, warn_stale
from kinmer.errors import InputError, UsageError
from kinmer.files import hash_file, remove
from kinmer.index.database import KinIndex
from kinmer.index.manifest import ENCODER
from kinmer.index.pieces import pieces_of
from kinmer.index.table import ambiguous, holders_of
from kinmer.index.writer import ENTRIES_AT_ONCE, STAGED, IndexWriter
from kinmer.library.embedded import open_embedded
from kinmer.library.feed import (
    FastaFile,
    Feed,
    Replace,
    files_at_hand,
    from_embedded,
    from_fasta,
    is_fasta,
    named_files,
)
from kinmer.library.join import Joined, genome_column, report_homonyms
from kinmer.library.metadata import staged_metadata
from kinmer.profiles import Profiles

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "FeedSettings",
    "add_to_index",
    "calibrate_index",
    "compact_index",
    "delete_from_index",
    "pour_into",
    "update_index",
]


Log = Callable[[str], None]


@dataclass(frozen=True)
class FeedSettings:
    """How FASTA files are taken in: sequences of at least `min_length` letters, by so many threads.

    genome : of all their sequences, None for each its own or what metadata say. prefix, sample_from_file :
    what stands before their ids; see `kinmer.fasta.prefixes_of`.
    """

    min_length: int = 1000
    threads: int | None = None
    genome: str | None = None
    prefix: str = ""
    sample_from_file: bool = False


def add_to_index(
    db: str | Path,
    source: str | Path | Sequence[str | Path] | AnnData | Profiles,
    *,
    metadata: str | Path | None = None,
    taxdump: str | Path | None = None,
    ids: str | Path | None = None,
    min_length: int = 1000,
    genome: str | None = None,
    prefix: str = "",
    sample_from_file: bool = False,
    calibrate: bool = True,
    wait: float = 0.2,
    threads: int | None = None,
    log: Log | None = None,
) -> int:
    """Add sequences to an index; gives how many came in. Files that are in already are passed over.

    source : FASTA files, which are cut as those of the index were; or what `kinmer.build_index` takes,
        embedded by the index's encoder or to be embedded by it. metadata, taxdump : as there.
    genome : of all sequences of FASTA files; None for each its own, or what the metadata say. Within an index
        a sequence is known by its genome and its id. prefix, sample_from_file : as there.
    wait : seconds to wait for another writer.

    A killed call leaves what was committed; the same call goes on from there.

    Raises UsageError (another writer), ProfileError (a genome has an id already), MismatchError (another
    encoder), and what reading the source raises.
    """
    tell = log or (lambda line: None)
    with IndexWriter(db, log=tell, threads=threads, wait=wait) as writer:
        before = len(writer.table)
        settings = FeedSettings(min_length, threads, genome, prefix, sample_from_file)
        with _feed(writer, source, ids, settings, tell) as feed:
            pour_into(writer, feed, metadata, taxdump, log=tell)
        writer.finish()
        if calibrate:
            refresh_calibration(writer)
        else:
            warn_stale(writer)
        return len(writer.table) - before


def update_index(
    db: str | Path,
    source: str | Path | Sequence[str | Path] | AnnData | Profiles | None = None,
    *,
    metadata: str | Path | None = None,
    taxdump: str | Path | None = None,
    ids: str | Path | None = None,
    min_length: int = 1000,
    genome: str | None = None,
    prefix: str = "",
    sample_from_file: bool = False,
    by_id: bool = False,
    calibrate: bool = True,
    wait: float = 0.2,
    threads: int | None = None,
    log: Log | None = None,
) -> int:
    """Replace entries by sequences of the same ids, which are added where there are none; gives their number.

    A file replaces what came from the file of its path, and keeps its genome; with `genome` sequences of that
    one, whatever file they came from; and with `by_id` entries of the same ids wherever they came from. Never
    are sequences of another genome replaced. What lies in memory has only its ids.

    Without a source only metadata are replaced, such as the taxonomy; nothing is embedded again. Rows of the
    table are found by the sequence's id, else by its genome's name; values that the table has not stay, and
    columns that the index has not are added.

    Raises as `add_to_index`; InputError for an id of another file, or of several genomes; UsageError where
    neither source nor metadata are given, MismatchError where the metadata are of no entry.
    """
    tell = log or (lambda line: None)
    if source is None and metadata is None:
        raise UsageError("there is nothing to update with", check="give sequences, --metadata, or both")
    with IndexWriter(db, log=tell, threads=threads, wait=wait) as writer:
        if source is None:
            changed = _renew_metadata(writer, metadata, taxdump, tell)
            report_homonyms(writer.table, tell)
        else:
            settings = FeedSettings(min_length, threads, genome, prefix, sample_from_file)
            by: Replace = "id" if by_id else "own"
            with _feed(writer, source, ids, settings, tell) as feed:
                changed = pour_into(writer, feed, metadata, taxdump, replace=by, log=tell)
        writer.finish()
        if calibrate:
            refresh_calibration(writer)
        else:
            warn_stale(writer)
        return changed


def delete_from_index(
    db: str | Path,
    *,
    ids: Sequence[str] = (),
    genomes: Sequence[str] = (),
    where: str | None = None,
    wait: float = 0.2,
    log: Log | None = None,
) -> int:
    """Delete entries by id, by genome, and by a condition (see `KinIndex.select`); gives how many.

    ids : as ``id``, or ``genome:id``. genomes : all of their sequences; with `ids` only those of these ids.
    What a condition holds for goes besides.

    All go in one commit. Their vectors leave the files with the next `compact_index`. The same call given
    again right after, as after a kill, deletes nothing more and gives the same number.

    Raises InputError for an id or genome that is not in the index, and for an id that several genomes have;
    UsageError for nothing to delete.
    """
    if not ids and not genomes and where is None:
        raise UsageError("there is nothing to delete", check="give ids, --genome or --where")
    request = _request("delete", sorted(ids), sorted(genomes), where)
    with IndexWriter(db, log=log, wait=wait) as writer:
        done = writer.done_by(request)
        if done is not None:
            (log or (lambda line: None))("the same call has deleted these entries before")
            return done
        numbers = _numbers(writer, ids, genomes)
        if where is not None:
            with KinIndex.open(db) as index:
                numbers = np.concatenate([numbers, index.select(where)])
        gone = writer.delete(np.unique(numbers), request=request)
        warn_stale(writer)
        return gone


def compact_index(
    db: str | Path, *, wait: float = 0.2, threads: int | None = None, log: Log | None = None
) -> None:
    """Write the index's files anew without what was deleted, and build the engine of what is left."""
    with IndexWriter(db, log=log, threads=threads, wait=wait) as writer:
        writer.finish(behind=1 << 62)
        writer.compact()
        writer.finish(behind=0)


def calibrate_index(
    db: str | Path, *, wait: float = 0.2, threads: int | None = None, log: Log | None = None
) -> None:
    """Learn anew from an index's own sequences how far its answers can be trusted."""
    with IndexWriter(db, log=log, threads=threads, wait=wait) as writer:
        writer.finish()
        refresh_calibration(writer, force=True)


def _request(*asked: Any) -> str:
    """What is the same where the same is asked for."""
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def pour_into(
    writer: IndexWriter,
    feed: Feed,
    metadata: str | Path | None,
    taxdump: str | Path | None,
    *,
    replace: Replace | None = None,
    log: Log,
) -> int:
    """Add, or replace, what a feed gives, with its metadata; gives how many entries were written."""
    staged = staged_metadata(writer.path / STAGED, metadata, taxdump)
    own, _ = feed.own_columns(staged)
    known = {name.lower() for name in writer.table.columns}
    new = [name for name in (*(staged.columns if staged else ()), *own) if name.lower() not in known]
    if new:
        writer.set_metadata(new, lambda keys: [None] * len(keys))
    written = 0

    def count(what: str, ids: list[str]) -> None:
        nonlocal written
        written += len(ids) if what == "add" else 0

    try:
        with Joined(staged) as joined, writer.watched(count):
            feed.pour(writer, joined, replace=replace)
            if staged is not None:
                log(f"metadata for {joined.found:,} of {written:,} entries")
        report_homonyms(writer.table, log)
    finally:
        if staged is not None:
            remove(staged.database)
    return written


@contextmanager
def _feed(
    writer: IndexWriter, source: Any, ids: str | Path | None, settings: FeedSettings, log: Log
) -> Iterator[Feed]:
    """The source, embedded by the index's encoder and cut as its sequences were."""
    if not is_fasta(source):
        if settings.genome is not None or settings.prefix or settings.sample_from_file:
            raise UsageError(
                "genome, prefix and sample are told of FASTA files",
                "a profile store has its ids",
                "give --sample-from-file or --prefix to kinmer count",
            )
        from kinmer.encoder import Encoder

        encoder = Encoder.load(writer.path / ENCODER)
        yield from_embedded(open_embedded(source, encoder=encoder, ids=ids))
        return
    with files_at_hand(source, writer.path) as files:
        yield feed_of_files(writer, files, settings, log)


def feed_of_files(
    writer: IndexWriter, files: Sequence[Path | FastaFile], settings: FeedSettings, log: Log
) -> Feed:
    """FASTA files, embedded by the index's encoder and cut and kept as its sequences were."""
    told = writer.manifest.get("pieces", {})
    return from_fasta(
        named_files(
            files,
            genome=settings.genome,
            prefix=settings.prefix,
            sample_from_file=settings.sample_from_file,
        ),
        writer.path / ENCODER,
        pieces=pieces_of(told.get("lengths", ())),
        keep=bool(told.get("letters", False)),
        min_length=settings.min_length,
        threads=settings.threads,
        log=log,
    )


def _renew_metadata(writer: IndexWriter, metadata: Any, taxdump: str | Path | None, log: Log) -> int:
    dumped = () if taxdump is None else sorted(Path(taxdump).glob("*.dmp"))
    stamps = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in dumped]
    staged = staged_metadata(writer.path / STAGED, metadata, taxdump)
    assert staged is not None
    request = _request("metadata", hash_file(metadata), stamps)
    try:
        done = writer.done_by(request)
        if done is not None:
            log("the same call has replaced these metadata before")
            return done
        with Joined(staged) as joined:
            _refuse_ambiguous(writer, joined)
            if not any(line is not None for page in writer.names() for line in joined.lookup(page)):
                raise joined.strange("the metadata have none of the index's ids")
            return writer.set_metadata(
                staged.columns,
                joined.lookup,
                genome_column=genome_column(staged.columns),
                request=request,
            )
    finally:
        remove(staged.database)


def _refuse_ambiguous(writer: IndexWriter, joined: Joined) -> None:
    """InputError where a line of metadata is of an id that several genomes have."""
    table = writer.table
    ids = table.equal_ids()
    for start in range(0, len(ids), ENTRIES_AT_ONCE):
        part = ids[start : start + ENTRIES_AT_ONCE]
        for name, line in zip(part, joined.lookup([(one, one) for one in part]), strict=True):
            if line is not None:
                raise ambiguous(table, name, holders_of(table, [name])[name])


def _numbers(writer: IndexWriter, ids: Sequence[str], genomes: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of entries by id and by genome; InputError for what is not there."""
    members = []
    for name in genomes:
        number = writer.table.genome_number(name)
        if number is None:
            raise InputError(
                f"the index has no genome {name!r}", check="names are case-sensitive", place=writer.path
            )
        members += [] if ids else [one.number for one in writer.table.members(number)]
    found = writer.table.numbers_of(list(ids), genomes=genomes or None)
    for number, name in zip(found.tolist(), ids, strict=True):
        if number < 0:
            of = f" of {', '.join(map(repr, genomes))}" if genomes else ""
            raise InputError(
                f"the index has no entry {name!r}{of}", check="ids are case-sensitive", place=writer.path
            )
    return np.concatenate([found, np.array(members, dtype=np.int64)])
