"""An index that can be changed: add, update, delete, compact, calibrate; a killed call is given again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from kinmer.box.reference import REFERENCE
from kinmer.confidence import Calibrated, calibration_of, refresh_calibration, warn_stale
from kinmer.errors import InputError, UsageError
from kinmer.files import hash_file, remove
from kinmer.index.database import Storage
from kinmer.index.manifest import ENCODER
from kinmer.index.names import ambiguous
from kinmer.index.pieces import pieces_of
from kinmer.index.writer import ENTRIES_AT_ONCE, STAGED, IndexWriter
from kinmer.library.check import CheckReport, IndexInfo, check_storage, describe_storage
from kinmer.library.feed import Feed, Replace, from_embedded, from_fasta
from kinmer.library.join import Joined, genome_column, report_homonyms
from kinmer.library.metadata import staged_metadata
from kinmer.library.sources import (
    AddOptions,
    FastaFile,
    Log,
    Settings,
    files_at_hand,
    is_fasta,
    named_files,
)
from kinmer.profiles import Profiles
from kinmer.taxonomy import RANKS
from kinmer.vectors import open_embedded

if TYPE_CHECKING:
    from anndata import AnnData


class KinIndex(Storage):
    """An index: searched, changed, checked and described; `kinmer.build_index` makes one.

    A change is committed whole or not at all, and is seen by the next search, here and in other processes.
    """

    def add(
        self,
        source: str | Path | Sequence[str | Path] | AnnData | Profiles,
        **options: Unpack[AddOptions],
    ) -> int:
        """Add sequences; files that are in already are passed over.

        A killed call leaves what was committed, and the same call resumes.

        Parameters
        ----------
        source : str | Path | Sequence[str | Path] | AnnData | Profiles
            FASTA files, which are cut as those of the index were; or what `kinmer.build_index` takes,
            embedded by the index's encoder or to be embedded by it.
        metadata, taxdump, ids, min_length, prefix, sample_from_file : as in `kinmer.build_index`.
        genome : of all sequences of FASTA files; None for each its own, or what the metadata say. Within an
            index a sequence is known by its genome and its id.
        calibrate : calibrate again where much has changed.
        wait : seconds to wait for another writer.
        threads : for counting, embedding and the engine; None for all cores.
        log : receives a line on what was left out.

        Returns
        -------
        How many entries came in.

        Raises
        ------
        UsageError : another writer is at work.
        ProfileError : a genome has an id already.
        MismatchError : another encoder.
        KinmerError : what reading the source raises.
        """
        settings = Settings.of(options, AddOptions)
        with self._writer(settings.wait, settings.log, settings.threads) as writer:
            before = len(writer.table)
            with _feed(writer, source, settings) as feed:
                pour_into(writer, feed, settings)
            conclude(writer, settings.calibrate)
            return len(writer.table) - before

    def update(
        self,
        source: str | Path | Sequence[str | Path] | AnnData | Profiles | None = None,
        *,
        by_id: bool = False,
        **options: Unpack[AddOptions],
    ) -> int:
        """Replace entries by sequences of the same ids, which are added where there are none.

        A file replaces what came from the file of its path, and keeps its genome; with `genome` sequences of
        that one, whatever file they came from; and with `by_id` entries of the same ids wherever they came
        from. Never are sequences of another genome replaced. What lies in memory has only its ids.

        Without a source only metadata are replaced, such as the taxonomy; nothing is embedded again. Rows of
        the table are found by the sequence's id, else by its genome's name. Values that the table lacks
        stay, and columns that the index lacks are added.

        Parameters
        ----------
        source, and all options : as in `add`.
        by_id : bool
            Replace entries of the same ids.

        Returns
        -------
        How many entries were written.

        Raises
        ------
        InputError : an id of another file, or of several genomes.
        UsageError : neither source nor metadata are given.
        MismatchError : the metadata are of no entry.
        KinmerError : as `add`.
        """
        settings = Settings.of(options, AddOptions)
        if source is None and settings.metadata is None:
            raise UsageError("there is nothing to update with", check="give sequences, --metadata, or both")
        with self._writer(settings.wait, settings.log, settings.threads) as writer:
            if source is None:
                changed = _renew_metadata(writer, settings)
                report_homonyms(writer.table, writer.log)
            else:
                with _feed(writer, source, settings) as feed:
                    changed = pour_into(writer, feed, settings, replace="id" if by_id else "own")
            conclude(writer, settings.calibrate)
            return changed

    def delete(
        self,
        *,
        ids: Sequence[str] = (),
        genomes: Sequence[str] = (),
        where: str | None = None,
        wait: float = 0.2,
        log: Log | None = None,
    ) -> int:
        """Delete entries by id, by genome, and by a condition, all in one commit.

        Their vectors leave the files with the next `compact`. The same call given again right after, as
        after a kill, deletes nothing more and gives the same number.

        Parameters
        ----------
        ids : Sequence[str]
            As ``id``, or ``genome:id``.
        genomes : Sequence[str]
            All of their sequences; with `ids` only those of these ids.
        where : str | None
            A condition; what it holds for goes besides. See `select`.
        wait : float
            Seconds to wait for another writer.
        log : Log | None
            Receives what there is to say.

        Returns
        -------
        How many entries were deleted.

        Raises
        ------
        InputError : an id or genome that is not in the index, or an id that several genomes have.
        UsageError : there is nothing to delete.
        """
        if not ids and not genomes and where is None:
            raise UsageError("there is nothing to delete", check="give ids, --genome or --where")
        request = _request("delete", sorted(ids), sorted(genomes), where)
        with self._writer(wait, log) as writer:
            done = writer.done_by(request)
            if done is not None:
                writer.log("the same call has deleted these entries before")
                return done
            numbers = _numbers(writer, ids, genomes)
            if where is not None:
                with Storage.open(self.path) as index:
                    numbers = np.concatenate([numbers, index.select(where)])
            gone = writer.delete(np.unique(numbers), request=request)
            warn_stale(writer)
            return gone

    def compact(self, *, wait: float = 0.2, threads: int | None = None, log: Log | None = None) -> None:
        """Write new files without what was deleted, and build the engine of what is left."""
        with self._writer(wait, log, threads) as writer:
            writer.finish(behind=1 << 62)
            writer.compact()
            writer.finish(behind=0)

    def calibrate(self, *, wait: float = 0.2, threads: int | None = None, log: Log | None = None) -> None:
        """Learn again from the index's own sequences how far its answers can be trusted."""
        with self._writer(wait, log, threads) as writer:
            writer.finish()
            refresh_calibration(writer, force=True)

    def calibrated(self) -> Calibrated | None:
        """How far answers can be trusted, None where it was not learned. FormatError for damage."""
        return calibration_of(self)

    def check(self) -> CheckReport:
        """Read all of the index and compare it with its checksums and with itself; nothing is changed.

        A damaged engine is reported too, though a search would build it again. One that a killed call has
        left behind the entries is no problem, but noted.

        Raises FormatError where it cannot be opened at all.
        """
        return check_storage(self.path)

    def info(self) -> IndexInfo:
        """Figures of the index; it is read, not searched."""
        return describe_storage(self)

    @contextmanager
    def _writer(self, wait: float, log: Log | None, threads: int | None = None) -> Iterator[IndexWriter]:
        """The writer; afterwards this index is what it made of it."""
        if self.manifest["index"] == REFERENCE:
            raise UsageError(
                f"{REFERENCE} comes with kinmer, and stays as it is",
                check="search it beside your own index (--db twice), or merge both into a new one",
            )
        threads = self._threads if threads is None else threads
        with IndexWriter(self.path, log=log or self._log, threads=threads, wait=wait) as writer:
            yield writer
        with self.reading():
            pass


def open_index(path: str | Path, *, log: Log | None = None, threads: int | None = None) -> KinIndex:
    """Open an index; see `KinIndex.open`."""
    return KinIndex.open(path, log=log, threads=threads)


def add_to_index(
    db: str | Path,
    source: str | Path | Sequence[str | Path] | AnnData | Profiles,
    **options: Unpack[AddOptions],
) -> int:
    """Add sequences to the index at `db`; see `KinIndex.add`."""
    with KinIndex.open(db, proved=True) as index:
        return index.add(source, **options)


def update_index(
    db: str | Path,
    source: str | Path | Sequence[str | Path] | AnnData | Profiles | None = None,
    *,
    by_id: bool = False,
    **options: Unpack[AddOptions],
) -> int:
    """Replace entries of the index at `db`, or their metadata alone; see `KinIndex.update`."""
    with KinIndex.open(db, proved=True) as index:
        return index.update(source, by_id=by_id, **options)


def delete_from_index(
    db: str | Path,
    *,
    ids: Sequence[str] = (),
    genomes: Sequence[str] = (),
    where: str | None = None,
    wait: float = 0.2,
    log: Log | None = None,
) -> int:
    """Delete entries of the index at `db`; see `KinIndex.delete`."""
    with KinIndex.open(db, proved=True) as index:
        return index.delete(ids=ids, genomes=genomes, where=where, wait=wait, log=log)


def compact_index(
    db: str | Path, *, wait: float = 0.2, threads: int | None = None, log: Log | None = None
) -> None:
    """Leave deleted entries out of the files of the index at `db`; see `KinIndex.compact`."""
    with KinIndex.open(db, proved=True) as index:
        index.compact(wait=wait, threads=threads, log=log)


def calibrate_index(
    db: str | Path, *, wait: float = 0.2, threads: int | None = None, log: Log | None = None
) -> None:
    """Learn again how far answers of the index at `db` can be trusted; see `KinIndex.calibrate`."""
    with KinIndex.open(db, proved=True) as index:
        index.calibrate(wait=wait, threads=threads, log=log)


def check_index(path: str | Path) -> CheckReport:
    """Prove the index at `path` whole; see `KinIndex.check`."""
    with KinIndex.open(path, proved=True) as index:
        return index.check()


def describe_index(path: str | Path) -> IndexInfo:
    """Figures of the index at `path`; see `KinIndex.info`."""
    with KinIndex.open(path) as index:
        return index.info()


def conclude(writer: IndexWriter, calibrate: bool) -> None:
    """Bring an index up to date behind a change: what is derived, its calibration if asked for."""
    writer.finish()
    if calibrate:
        refresh_calibration(writer)
    else:
        warn_stale(writer)


def _request(*asked: Any) -> str:
    """What is the same where the same is asked for."""
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def pour_into(writer: IndexWriter, feed: Feed, settings: Settings, *, replace: Replace | None = None) -> int:
    """Add, or replace, what a feed gives, with its metadata; gives how many entries were written."""
    staged = staged_metadata(writer.path / STAGED, settings.metadata, settings.taxdump)
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
                writer.log(f"metadata for {joined.matched:,} of {written:,} entries")
            elif written and not replace and not own and known.intersection(RANKS):
                writer.log("the new sequences have no taxonomy, so no name comes from them: give --metadata")
        report_homonyms(writer.table, writer.log)
    finally:
        if staged is not None:
            remove(staged.database)
    return written


@contextmanager
def _feed(writer: IndexWriter, source: Any, settings: Settings) -> Iterator[Feed]:
    """The source, embedded by the index's encoder and cut as its sequences were."""
    if is_fasta(source):
        with files_at_hand(source, writer.path) as files:
            yield feed_of_files(writer, files, settings)
        return
    settings.refuse_names()
    from kinmer.encoder import Encoder

    encoder = Encoder.load(writer.path / ENCODER)
    yield from_embedded(open_embedded(source, encoder=encoder, ids=settings.ids))


def feed_of_files(writer: IndexWriter, files: Sequence[Path | FastaFile], settings: Settings) -> Feed:
    """FASTA files, embedded by the index's encoder and cut and kept as its sequences were."""
    cut = writer.manifest.get("pieces", {})
    return from_fasta(
        named_files(files, settings),
        writer.path / ENCODER,
        pieces=pieces_of(cut.get("lengths", ())),
        keep=bool(cut.get("letters", False)),
        min_length=settings.min_length,
        threads=settings.threads,
        log=writer.log,
    )


def _renew_metadata(writer: IndexWriter, settings: Settings) -> int:
    """Replace metadata by those of a table; gives how many entries it is of."""
    assert settings.metadata is not None
    dumped = () if settings.taxdump is None else sorted(Path(settings.taxdump).glob("*.dmp"))
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in dumped]
    staged = staged_metadata(writer.path / STAGED, settings.metadata, settings.taxdump)
    assert staged is not None
    request = _request("metadata", hash_file(settings.metadata), stamps)
    try:
        done = writer.done_by(request)
        if done is not None:
            writer.log("the same call has replaced these metadata before")
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
        for name, line in zip(part, joined.lookup([(each, each) for each in part]), strict=True):
            if line is not None:
                raise ambiguous(table, name, table.holders([name])[name])


def _numbers(writer: IndexWriter, ids: Sequence[str], genomes: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of entries by id and by genome; InputError for what is not there."""
    members = []
    for name in genomes:
        number = writer.table.genome_number(name)
        if number is None:
            raise InputError(
                f"the index has no genome {name!r}", check="names are case-sensitive", place=writer.path
            )
        members += [] if ids else [entry.number for entry in writer.table.members(number)]
    named = writer.numbers_of(list(ids), genomes=genomes or None)
    for number, name in zip(named.tolist(), ids, strict=True):
        if number < 0:
            of = f" of {', '.join(map(repr, genomes))}" if genomes else ""
            raise InputError(
                f"the index has no entry {name!r}{of}", check="ids are case-sensitive", place=writer.path
            )
    return np.concatenate([named, np.array(members, dtype=np.int64)])
