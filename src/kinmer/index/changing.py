"""Changes of an index by one call each: add, update, delete, compact; a killed one is gone on with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError, UsageError
from kinmer.files import remove
from kinmer.index.database import KinIndex
from kinmer.index.embedded import open_embedded
from kinmer.index.feeding import FastaFile, Feed, from_embedded, from_fasta, is_fasta
from kinmer.index.joining import Joined, genome_column
from kinmer.index.living import IndexWriter
from kinmer.index.manifest import ENCODER
from kinmer.index.metadata import staged_metadata
from kinmer.index.pieces import pieces_of
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

STAGED = ".metadata.sqlite"

Log = Callable[[str], None]


@dataclass(frozen=True)
class FeedSettings:
    """How FASTA files are taken in: sequences of at least `min_length` letters, by so many threads."""

    min_length: int = 1000
    threads: int | None = None


def add_to_index(
    db: str | Path,
    source: str | Path | Sequence[str | Path] | AnnData | Profiles,
    *,
    metadata: str | Path | None = None,
    taxdump: str | Path | None = None,
    ids: str | Path | None = None,
    min_length: int = 1000,
    calibrate: bool = True,
    wait: float = 0.2,
    threads: int | None = None,
    log: Log | None = None,
) -> int:
    """Add sequences to an index; gives how many came in. Files that are in already are passed over.

    source : FASTA files, which are cut as those of the index were; or what `kinmer.build_index` takes,
        embedded by the index's encoder or to be embedded by it. metadata, taxdump : as there.
    wait : seconds to wait for another writer.

    A killed call leaves what was committed; the same call goes on from there.

    Raises UsageError (another writer), ProfileError (an id is in already), MismatchError (another encoder),
    and what reading the source raises.
    """
    tell = log or (lambda line: None)
    with IndexWriter(db, log=tell, threads=threads, wait=wait) as writer:
        before = len(writer.table)
        feed = _feed(writer, source, ids, FeedSettings(min_length, threads), tell)
        pour_into(writer, feed, metadata, taxdump, log=tell)
        writer.finish()
        if calibrate:
            writer.calibrate()
        return len(writer.table) - before


def update_index(
    db: str | Path,
    source: str | Path | Sequence[str | Path] | AnnData | Profiles | None = None,
    *,
    metadata: str | Path | None = None,
    taxdump: str | Path | None = None,
    ids: str | Path | None = None,
    min_length: int = 1000,
    calibrate: bool = True,
    wait: float = 0.2,
    threads: int | None = None,
    log: Log | None = None,
) -> int:
    """Replace entries by sequences of the same ids, which are added where there are none; gives their number.

    Without a source only metadata are replaced, such as the taxonomy; nothing is embedded again. Rows of the
    table are found by the sequence's id, else by its genome's name; values that the table has not stay, and
    columns that the index has not are added.

    Raises as `add_to_index`; UsageError where neither source nor metadata are given, MismatchError where the
    metadata are of no entry.
    """
    tell = log or (lambda line: None)
    if source is None and metadata is None:
        raise UsageError("there is nothing to update with", check="give sequences, --metadata, or both")
    with IndexWriter(db, log=tell, threads=threads, wait=wait) as writer:
        if source is None:
            changed = _renew_metadata(writer, metadata, taxdump)
        else:
            feed = _feed(writer, source, ids, FeedSettings(min_length, threads), tell)
            changed = pour_into(writer, feed, metadata, taxdump, replace=True, log=tell)
        writer.finish()
        if calibrate:
            writer.calibrate()
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

    All go in one commit. Their vectors leave the files with the next `compact_index`.

    Raises InputError for an id or genome that is not in the index, UsageError for nothing to delete.
    """
    if not ids and not genomes and where is None:
        raise UsageError("there is nothing to delete", check="give ids, --genome or --where")
    with IndexWriter(db, log=log, wait=wait) as writer:
        numbers = _numbers(writer, ids, genomes)
        if where is not None:
            with KinIndex.open(db) as index:
                numbers = np.concatenate([numbers, index.select(where)])
        gone = writer.delete(np.unique(numbers))
        writer.finish()
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
        writer.calibrate(anew=True)


def pour_into(
    writer: IndexWriter,
    feed: Feed,
    metadata: str | Path | None,
    taxdump: str | Path | None,
    *,
    replace: bool = False,
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
    finally:
        if staged is not None:
            remove(staged.database)
    return written


def _feed(writer: IndexWriter, source: Any, ids: str | Path | None, settings: FeedSettings, log: Log) -> Feed:
    """The source, embedded by the index's encoder and cut as its sequences were."""
    if not is_fasta(source):
        from kinmer.encoder import Encoder

        encoder = Encoder.load(writer.path / ENCODER)
        return from_embedded(open_embedded(source, encoder=encoder, ids=ids))
    given = [source] if isinstance(source, str | Path) else source
    return feed_of_files(writer, [Path(str(one)) for one in given], settings, log)


def feed_of_files(
    writer: IndexWriter, files: Sequence[Path | FastaFile], settings: FeedSettings, log: Log
) -> Feed:
    """FASTA files, embedded by the index's encoder and cut and kept as its sequences were."""
    told = writer.manifest.get("pieces", {})
    return from_fasta(
        files,
        writer.path / ENCODER,
        pieces=pieces_of(told.get("lengths", ())),
        keep=bool(told.get("letters", False)),
        min_length=settings.min_length,
        threads=settings.threads,
        log=log,
    )


def _renew_metadata(writer: IndexWriter, metadata: Any, taxdump: str | Path | None) -> int:
    staged = staged_metadata(writer.path / STAGED, metadata, taxdump)
    assert staged is not None
    try:
        with Joined(staged) as joined:
            if not any(line is not None for page in writer.names() for line in joined.lookup(page)):
                raise joined.strange("the metadata have none of the index's ids")
            return writer.set_metadata(
                staged.columns, joined.lookup, genome_column=genome_column(staged.columns)
            )
    finally:
        remove(staged.database)


def _numbers(writer: IndexWriter, ids: Sequence[str], genomes: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of entries by id and by genome; InputError for what is not there."""
    found = writer.table.numbers_of(list(ids))
    for number, name in zip(found.tolist(), ids, strict=True):
        if number < 0:
            raise InputError(
                f"the index has no entry {name!r}", check="ids are case-sensitive", place=writer.path
            )
    parts = [found]
    for name in genomes:
        number = writer.table.genome_number(name)
        if number is None:
            raise InputError(
                f"the index has no genome {name!r}", check="names are case-sensitive", place=writer.path
            )
        parts.append(np.array([one.number for one in writer.table.members(number)], dtype=np.int64))
    return np.concatenate(parts)
