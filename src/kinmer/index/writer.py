"""Changes of an index: add, replace, delete, new metadata, compaction; each is whole or absent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kinmer.files import remove
from kinmer.folders import LEAST_WAIT, Trust, Workshop
from kinmer.index.commit import Change, NewSequence, Progress
from kinmer.index.database import Storage
from kinmer.index.manifest import (
    BLOBS,
    ENTRIES,
    MAKING,
    Block,
    Entry,
    raise_format,
    read_manifest,
    write_calibration,
)
from kinmer.index.names import names_of, numbers_of
from kinmer.index.rows import (
    SHORT,
    WHOLE,
    BlobFile,
    RowFiles,
    Rows,
    blob_file,
    files_of,
    read_blobs,
    row_checksum,
    row_files,
)
from kinmer.index.sequences import letter_blob
from kinmer.index.table import EntryTable
from kinmer.progress import step
from kinmer.sketches import pack_sketch

# A piece counts by its letters, up to so many: short ones are noisy, long ones no better than this.
MEAN_LETTERS = 100_000


def genome_means(index: Storage, genomes: NDArray[np.int64]) -> dict[int, NDArray[np.float32] | None]:
    """The length-weighted mean vector (dim,) of each genome; None where it has a single vector, or none.

    A sequence with pieces counts by these, one without by its whole.
    """
    return {int(number): _mean(index, int(number)) for number in genomes}


def _mean(index: Storage, genome: int) -> NDArray[np.float32] | None:
    rows = [
        np.arange(one.first + (one.rows > 1), one.first + one.rows) for one in index.table.members(genome)
    ]
    labels = np.concatenate(rows) if rows else np.empty(0, np.int64)
    records = index.rows.records[labels]
    if labels.size < 2 and not (records["kind"] == SHORT).any():
        return None
    letters = np.minimum(records["stop"] - records["start"], MEAN_LETTERS).astype(np.float64)
    # Sequences of unknown length count alike.
    weights = np.where(letters > 0, letters, letters.max() or 1.0)
    weights = np.where(records["kind"] == WHOLE, np.maximum(weights, 1.0), weights)
    vectors = index.rows.vectors[labels].astype(np.float64)
    return np.asarray((weights[:, None] * vectors).sum(axis=0) / weights.sum(), dtype=np.float32)


BLOCK_ROWS = 1 << 13
BLOBS_AT_ONCE = 4096


def write_compacted(folder: Path, index: Storage, change: Change) -> NDArray[np.int64]:
    """Write the next generation's files into a begun `change`; gives (n,) rows' new numbers, -1 for gone."""
    old, generation = index.rows, index.table.generation + 1
    for path in files_of(folder, generation):
        remove(path)
    kept = np.flatnonzero(old.alive)
    new_label = np.full(len(old), -1, dtype=np.int64)
    new_label[kept] = np.arange(len(kept))
    blocks, state = [], {**index.table.state, "generation": generation}
    with RowFiles(folder, state, index.dim, 0) as files, step("Compacting", len(kept)) as progress:
        for start in range(0, len(kept), BLOCK_ROWS):
            part = kept[start : start + BLOCK_ROWS]
            vectors, records = np.asarray(old.vectors[part]), np.asarray(old.records[part])
            files.append(vectors, records)
            blocks.append(Block(start, len(part), row_checksum(vectors, records)))
            progress.advance(len(part))
    change.move_rows(new_label, blocks, generation)
    for kind in BLOBS:
        _write_blobs(folder, kind, index, change, generation)
    return new_label


def _write_blobs(folder: Path, kind: str, index: Storage, change: Change, generation: int) -> None:
    source = blob_file(folder, kind, index.table.generation)
    if not source.is_file():
        return
    numbers = change.table.with_blobs(kind)
    with BlobFile(blob_file(folder, kind, generation), 0) as target:
        for start in range(0, len(numbers), BLOBS_AT_ONCE):
            part = change.table.blobs(kind, numbers[start : start + BLOBS_AT_ONCE])
            moved = target.append(read_blobs(source, part.values()))
            change.move_blobs(kind, dict(zip(part, moved, strict=True)), target.size)
        change.state(kind, target.size)


# An engine is brought up to date when it lacks more rows than this, or this share of all.
LATE_ROWS, LATE_SHARE = 4096, 0.02
# Where metadata are staged while they are taken in.
STAGED = ".metadata.sqlite"
GENOMES_AT_ONCE, ENTRIES_AT_ONCE = 4096, 4096

Log = Callable[[str], None]
Lookup = Callable[[Sequence[tuple[str, str]]], list[Mapping[str, Any] | None]]


class IndexWriter:
    """The one writer of the index at `path`; readers keep what they have and see every commit.

    Each method is one or several commits, each reported to `committed` with the ids that it is about. What a
    killed writer left uncommitted is cut off by the next.

    wait : seconds to wait for another writer. Raises UsageError where it is still there then, FormatError
    where the index is damaged.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        log: Log | None = None,
        threads: int | None = None,
        wait: float = LEAST_WAIT,
        lock: Workshop | None = None,
        committed: Callable[[str, list[str]], None] | None = None,
    ) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self.log, self.threads = log or (lambda line: None), threads
        self._committed = committed or (lambda what, ids: None)
        self._lock = lock or Workshop(self.path, wait=wait)
        self._own_lock = lock is None
        try:
            self.table = EntryTable(self.path / ENTRIES)
            self.table.write_through()
            self._drop_leftovers()
            # What is built upon is whole.
            with Storage.open(self.path) as index:
                index.prove()
            self.manifest = raise_format(self.path, self.manifest)
            self.table.migrate()
            # What a killed writer has committed and not finished.
            self._renew_means()
        except BaseException:
            self._release()
            raise

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.manifest["dim"])

    def add(
        self,
        sequences: Sequence[NewSequence],
        *,
        letters: Sequence[bytes] | None = None,
        sketches: Sequence[NDArray[np.uint64]] | None = None,
        blobs: Mapping[str, Iterable[bytes]] | None = None,
        replace: Collection[int] | NDArray[np.int64] = (),
        file: Progress | None = None,
    ) -> int | None:
        """Add sequences in one commit; gives the number of their file.

        letters, sketches : kept beside the index, one for each. blobs : the same by kind, as they are kept.
        replace : numbers of entries that go with the commit. file : the source that they come from, and how
        many of its records are in with them.

        Raises ProfileError where a genome has an id already, in an entry that is not to be replaced.
        """
        ends, given = dict[str, int](), dict(blobs or {})
        if letters is not None:
            given["letters"] = map(letter_blob, letters)
        if sketches is not None:
            given["sketches"] = map(pack_sketch, sketches)
        for kind, each in given.items():
            sequences, ends[kind] = self._keep(kind, sequences, each)
        change = Change(self.table)
        with change.begin():
            if len(replace):
                change.delete(self.table.fetch(np.array(list(replace), dtype=np.int64)).values())
            rows, of = self.table.rows, None if file is None else change.file_progress(file)
            vectors, records = change.add(sequences, file=of)
            for kind, end in ends.items():
                change.state(kind, end)
            self._write(rows, vectors, records)
        self._committed("add", [one.id for one in sequences])
        return of

    def add_file(self, path: str, sha256: str, genome: str | None, prefix: str = "") -> int:
        """Note a file that sequences will come from; gives its number."""
        change = Change(self.table)
        with change.begin():
            return change.add_file(path, sha256, genome, prefix)

    def take_back(self, file: int, *, keep: Collection[str] = ()) -> None:
        """Delete in one commit what came from a file but the ids of `keep`; without any its note too."""
        gone = {name: number for name, number in self.table.ids_of_file(file).items() if name not in keep}
        change = Change(self.table)
        with change.begin():
            change.delete(self.table.fetch(np.array(list(gone.values()), dtype=np.int64)).values())
            if not keep:
                change.forget_file(file)
        self._committed("delete", sorted(gone))

    def delete(self, numbers: NDArray[np.int64], *, request: str | None = None) -> int:
        """Delete the entries of these numbers in one commit; gives how many there were.

        request : what was asked for, noted with the commit: see `done_by`.
        """
        if not numbers.size:
            return 0
        gone = list(self.table.fetch(np.unique(numbers)).values())
        change = Change(self.table)
        with change.begin():
            change.delete(gone)
            if request is not None:
                change.state("request", {"of": request, "entries": len(gone)})
        self._committed("delete", [one.id for one in gone])
        return len(gone)

    def done_by(self, request: str) -> int | None:
        """How many entries this very request has changed, where none has changed since; None for another.

        A call that was killed behind its commit has never reported it, and is given again.
        """
        noted = self.table.state.get("request") or {}
        return int(noted["entries"]) if noted.get("of") == request else None

    def set_metadata(
        self,
        columns: Sequence[str],
        lookup: Lookup,
        *,
        genome_column: str | None = None,
        request: str | None = None,
    ) -> int:
        """Replace metadata in one commit, without embedding anything; gives how many entries had some.

        columns : of the new metadata; those that the index lacks are added. lookup : gives for pairs of id
        and genome's name the new values by column, None for what keeps its own. genome_column : the column
        that holds the genome's name; an entry of another one is moved there. request : as of `delete`.
        """
        changed = 0
        change = Change(self.table)
        with Storage.open(self.path) as index:
            old = index.rows
        with change.begin(), step("Metadata", len(self.table)) as progress:
            change.state("labels", int(self.table.state.get("labels", 0)) + 1)
            known = {name.lower() for name in self.table.columns}
            missing = [name for name in columns if name.lower() not in known]
            change.add_columns(missing)
            with RowFiles(self.path, self.table.state, self.dim, self.table.rows) as files:
                for page in self._pages(added=len(missing)):
                    changed += self._renew(change, page, lookup, genome_column, len(missing), old, files)
                    progress.advance(len(page))
            if request is not None:
                change.state("request", {"of": request, "entries": changed})
        self._committed("metadata", [])
        return changed

    def compact(self) -> None:
        """Write the rows alive and kept letters into new files, without those of deleted entries."""
        with Storage.open(self.path, log=self.log, threads=self.threads) as index:
            index.rows.check_blocks(index.table.blocks())
            old = self.table.generation
            change = Change(self.table)
            engine = index.engine_files()
            with change.begin(derived=True):
                new_label = write_compacted(self.path, index, change)
        engine.renumber(new_label, self.table.generation)
        self._remove_files(old)
        self._committed("compact", [])

    def finish(self, *, behind: int | None = None) -> None:
        """Bring what is derived up to date: the mean vectors of genomes, and an engine that is far behind.

        behind : rows that the engine may lack; None for some thousands, or some hundredths of all.
        """
        self._renew_means()
        if len(self.table):
            with Storage.open(self.path, log=self.log, threads=self.threads) as index:
                most = max(LATE_ROWS, int(LATE_SHARE * len(index.rows)))
                index.prepare(behind=most if behind is None else behind)
                index.homology.prepare(behind=behind)

    def _renew_means(self) -> None:
        while (numbers := self.table.stale(GENOMES_AT_ONCE)).size:
            with Storage.open(self.path, log=self.log) as index:
                means = genome_means(index, numbers)
            self.set_means(means)

    def set_means(self, means: Mapping[int, NDArray[np.float32] | None]) -> None:
        """Set the mean vectors (dim,) of genomes by number, None for none, in one commit."""
        change = Change(self.table)
        with change.begin(derived=True):
            rows = self.table.rows
            vectors, records = change.set_genomes(means)
            self._write(rows, vectors, records)

    def keep_calibration(self, body: dict[str, Any]) -> None:
        """Keep what `kinmer.confidence` has learned; from now on it is missed where it is gone."""
        write_calibration(self.path, self.manifest["index"], body)
        change = Change(self.table)
        with change.begin(derived=True):
            change.state("calibrated", True)

    @contextmanager
    def watched(self, committed: Callable[[str, list[str]], None]) -> Iterator[None]:
        """Report every commit inside to `committed`, too."""
        before = self._committed

        def both(what: str, ids: list[str]) -> None:
            before(what, ids)
            committed(what, ids)

        self._committed = both
        try:
            yield
        finally:
            self._committed = before

    def numbers_of(self, names: Sequence[str], *, genomes: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Numbers (n,) of entries by name, -1 for no entry; see `kinmer.index.names.numbers_of`."""
        return numbers_of(self.table, names, genomes=genomes)

    def names(self) -> Iterator[list[tuple[str, str]]]:
        """Names (`kinmer.index.table`) and genomes' names of all entries, some at a time."""
        for page in self._pages(added=0):
            genomes = self.table.genomes(np.array([one.genome for one in page]))
            ids = names_of(self.table, page)
            yield [(ids[entry.number], genomes[entry.genome].name) for entry in page]

    def close(self) -> None:
        """Let others write. What was whole and was added to by this writer is whole."""
        self.table.close()
        Trust(self.path).note([*row_files(self.path, self.table.generation), self.table.path])
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()

    def _release(self) -> None:
        if self._own_lock:
            self._lock.release()

    def _write(self, rows: int, vectors: NDArray[np.float32], records: NDArray[Any]) -> None:
        if len(records):
            with RowFiles(self.path, self.table.state, self.dim, rows) as files:
                files.append(vectors, records)

    def _keep(
        self, kind: str, sequences: Sequence[NewSequence], blobs: Iterable[bytes]
    ) -> tuple[list[NewSequence], int]:
        """The sequences with the places of their blobs, and the size of the file then."""
        path = blob_file(self.path, kind, self.table.generation)
        with BlobFile(path, int(self.table.state[kind])) as kept:
            pairs = zip(sequences, kept.append(blobs), strict=True)
            return [dataclasses.replace(one, blobs={**one.blobs, kind: at}) for one, at in pairs], kept.size

    def _pages(self, *, added: int) -> Iterator[list[Entry]]:
        """All entries, some at a time; `added` columns are not yet part of their checksums."""
        last = -1
        while page := self.table.page(last, ENTRIES_AT_ONCE, added=added):
            yield page
            last = page[-1].number

    def _renew(
        self,
        change: Change,
        page: Sequence[Entry],
        lookup: Lookup,
        genome_column: str | None,
        added: int,
        old: Rows,
        files: RowFiles,
    ) -> int:
        """Write the new metadata of some entries; gives how many have some."""
        genomes = self.table.genomes(np.array([entry.genome for entry in page]))
        names = names_of(self.table, page)
        rows = lookup([(names[entry.number], genomes[entry.genome].name) for entry in page])
        moved = []
        for entry, values in zip(page, rows, strict=True):
            if values is None and not added:
                continue
            given = {name.lower(): value for name, value in (values or {}).items()}
            before = zip(self.table.columns, [*entry.values, *[None] * added], strict=True)
            new = tuple(given.get(name.lower(), value) for name, value in before)
            change.set_values(entry, new)
            home = given.get((genome_column or "").lower())
            if home is not None and str(home) != genomes[entry.genome].name:
                moved.append((entry._replace(values=new), change.genome_number(str(home))))
        if moved:
            which = np.concatenate([np.arange(one.first, one.first + one.rows) for one, _ in moved])
            records = np.asarray(old.records[which])
            files.append(*change.rehome(moved, np.asarray(old.vectors[which]), records))
        return sum(values is not None for values in rows)

    def _drop_leftovers(self) -> None:
        """Take away what killed writers left: files of other generations, and what was to take a name."""
        current = {path.name for path in files_of(self.path, self.table.generation)}
        for pattern in ("vectors-*", "rows-*.bin", *(f"{kind}-*.bin" for kind in BLOBS)):
            for path in self.path.glob(pattern):
                if path.name not in current:
                    remove(path)
        # A reader may be writing one of the second just now; it does without. The last are of engines' files.
        patterns: tuple[str, ...] = (
            ".engine-*.*-*",
            ".homology.*-*",
            "homology/.late.*-*",
            *(f".{name}.json.*" for name in ("checked", "index", "calibration")),
            f"{STAGED}*",
            "engine-*/.*.*",
        )
        if self._own_lock:
            # It is not being built: from now on it holds more than was noted.
            patterns = (*patterns, MAKING)
        for pattern in patterns:
            for path in self.path.glob(pattern):
                remove(path)

    def _remove_files(self, generation: int) -> None:
        for path in files_of(self.path, generation):
            remove(path)
