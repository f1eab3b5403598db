"""An index: entries, their vectors, the encoder that made them and a vector engine, in one folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from kinmer.box import version_note
from kinmer.box.reference import located_index
from kinmer.errors import EngineError, FormatError, MismatchError, UsageError
from kinmer.files import remove
from kinmer.folders import Trust, Workshop
from kinmer.index.engine import EngineFiles, Homology, Log, rebuilt
from kinmer.index.manifest import (
    ENCODER,
    ENTRIES,
    Entry,
    Genome,
    read_calibration,
    read_manifest,
    save_manifest,
)
from kinmer.index.names import frame_of, names_of, numbers_of, selves_of
from kinmer.index.nearest import Groups, Labels, Near, Scan
from kinmer.index.rows import Rows, map_rows, map_vectors, row_files
from kinmer.index.table import EntryTable
from kinmer.inputs import read_json
from kinmer.sketches.postings import Shared
from kinmer.stores import ENGINES, Metric, VectorStore, check_metric, check_vectors

if TYPE_CHECKING:
    import pandas as pd

    from kinmer.encoder import Encoder


class Storage:
    """The files of an index, opened for searching; `kinmer.KinIndex` is one that can also be changed.

    Vectors, entries and encoder are the truth; the engine is derived from them and is opened by the first
    search that needs it. One that is missing, damaged or too far behind is built again (`rebuilt`, and
    logged); where the folder cannot be written, the vectors are searched exactly instead. What a writer
    commits meanwhile is seen by the next search.

    Attributes
    ----------
    engine, metric : names, such as "hnsw" and "cosine".
    dim : length of a vector.
    encoder_fingerprint : of the encoder whose vectors these are.
    known : what verdicts rest on in this state, for `kinmer.confidence` to keep; None where it changed.
    """

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Any],
        table: EntryTable,
        *,
        log: Log | None = None,
        threads: int | None = None,
        proved: bool = False,
    ) -> None:
        self.path, self._proved = path, proved
        self.engine: str = manifest["engine"]
        self.metric: Metric = manifest["metric"]
        self.dim: int = manifest["dim"]
        self.encoder_fingerprint: str = manifest["encoder_fingerprint"]
        self.rebuilt = False
        self.table = table
        self.manifest, self._log, self._threads = manifest, log, threads
        self._trust = Trust(path)
        self._store: VectorStore | None = None
        self._covered, self._unwritable = 0, False
        self.known: Any = None
        with table.snapshot():
            self._load()

    @classmethod
    def open(
        cls, path: str | Path, *, log: Log | None = None, threads: int | None = None, proved: bool = False
    ) -> Self:
        """Open the index at `path`, in milliseconds where its files were found whole before.

        log : receives what had to be repaired. threads : of the engine; None for all cores. proved : the
        caller proves its files, which are not read through here.

        Raises FormatError: no index, unfinished, damaged, another version; MismatchError: parts of two.
        """
        path = located_index(path, log)
        manifest = read_manifest(path)
        table = EntryTable(path / ENTRIES)
        try:
            if table.state["index"] != manifest["index"]:
                raise MismatchError(
                    "entries.sqlite is of another index", check="copy the whole folder", place=path
                )
            recorded = read_json(path / ENCODER / "config.json").get("fingerprint")
            if recorded != manifest["encoder_fingerprint"]:
                raise MismatchError(
                    "the encoder in the index is not the one of its vectors",
                    "queries would be placed wrongly",
                    "copy the index again",
                    place=path / ENCODER,
                )
            return cls(path, manifest, table, log=log, threads=threads, proved=proved)
        except BaseException:
            table.close()
            raise

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        about = f"{len(self)} entries × {self.dim}, {self.engine}, {self.metric}"
        return f"{type(self).__name__}({str(self.path)!r}: {about})"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metadata."""
        return self.table.columns

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What is searched and read inside is of one commit, the newest; a writer waits with its next."""
        with self.table.snapshot():
            if self.table.epoch != self._epoch:
                self._load()
            yield

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that made the vectors, loaded and checked."""
        from kinmer.encoder import Encoder

        found = Encoder.load(self.path / ENCODER)
        if found.fingerprint != self.encoder_fingerprint:
            raise MismatchError("the encoder is not the one of the vectors", place=self.path / ENCODER)
        if self._log is not None and (note := version_note(found.name)):
            self._log(note)
        return found

    @property
    def rows(self) -> Rows:
        """All rows: of pieces, whole sequences and genomes."""
        return self._rows

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors of whole sequences, (n, dim), in the order of their numbers; mapped where possible."""
        wholes = self._rows.wholes()
        if np.array_equal(wholes, np.arange(len(self._rows))):
            return np.asarray(self._rows.vectors)
        return np.asarray(self._rows.vectors[wholes])

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Ascending numbers of all entries; a number stays with its entry and is never given again."""
        return np.asarray(self._rows.entry[self._rows.wholes()])

    @property
    def ids(self) -> NDArray[np.object_]:
        """All names by number, (n,) str: ids, and ``genome:id`` where several genomes have an id."""
        return np.array(list(self.names(self.table.scan()).values()), dtype=object)

    @property
    def metadata(self) -> pd.DataFrame:
        """All that is known of the entries by number, index = `ids`: length, gc and the metadata."""
        return frame_of(self.table)

    def entries(self, numbers: Labels) -> dict[int, Entry]:
        """The entries of these numbers (any shape; -1 is passed over)."""
        return self.table.fetch(numbers[numbers >= 0])

    def genomes(self, numbers: Labels) -> dict[int, Genome]:
        """The genomes of these numbers (any shape; -1 is passed over)."""
        return self.table.genomes(numbers[numbers >= 0])

    def numbers_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Numbers (n,) of ``id`` or ``genome:id``; -1 where there is no such entry.

        Raises InputError for an id that several genomes have.
        """
        return numbers_of(self.table, ids)

    def names(self, entries: Iterable[Entry]) -> dict[int, str]:
        """By number what each entry is called: its id, or ``genome:id`` where several genomes have it."""
        return names_of(self.table, entries)

    def remaining(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers (n,) with -1 for entries that have been deleted meanwhile."""
        return np.where(self.table.contains(numbers), numbers, -1)

    def selves(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Numbers (n,) of the entries that queries of these ids and vectors (n, dim) are, -1 for none.

        Of several genomes that have an id it is the entry whose vector as a whole is nearest.
        """
        return selves_of(self.table, self._rows, ids, vectors, self.metric)

    def stored_calibration(self) -> dict[str, Any] | None:
        """The kept calibration, for `kinmer.confidence` to read; None where the index was never calibrated.

        Raises FormatError where it is damaged or gone.
        """
        stored = read_calibration(self.path, self.manifest["index"])
        if stored is None and self.table.state.get("calibrated"):
            raise FormatError(
                "the calibration is gone", check="make it again: kinmer db calibrate", place=self.path
            )
        return stored

    def select(self, where: str, lacking: Sequence[str] = ()) -> NDArray[np.int64]:
        """Ascending numbers of the entries for which a condition holds, such as ``length > 50000``.

        Columns: id, genome, length, gc, metadata, `lacking` (missing here); see `kinmer.where`. UsageError.
        """
        from kinmer.where import compile_where

        columns = ("id", "genome", "length", "gc", *self.columns, *lacking)
        return self.table.select(*compile_where(where, columns), lacking)

    def rows_where(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(rows,) which rows are of sequences of these ascending numbers, and alive."""
        return self._rows.alive & np.isin(self._rows.entry, numbers)

    def search(
        self,
        vectors: NDArray[np.float32],
        k: int = 10,
        *,
        by: Literal["sequence", "genome"] = "sequence",
        metric: Metric | None = None,
        exclude: NDArray[np.int64] | None = None,
        allowed: NDArray[np.bool_] | None = None,
        candidates: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None,
    ) -> Groups:
        """The k nearest entries, or genomes, of every vector (q, dim): numbers, distances and rows (q, k).

        A sequence is as near as the nearest of its vectors, which is the row given; a genome as the nearest
        of its sequences' and its own, whose cosine distance counts `MEAN_BONUS` less. In order of distance
        and row; missing ones (k above the number of entries) are -1 and inf. Distances are computed from the
        kept vectors, in every engine alike. A metric other than the index's is searched exactly.

        exclude : (q,) an entry that is no hit of its query, or -1. allowed : (rows,) rows that may be hits.
        candidates : what `nearest` gave for the same; more are looked for only where that does not suffice.

        Raises MismatchError, ProfileError and UsageError as `VectorStore.search`.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        queries = check_vectors(vectors, self.dim)
        with self.reading():
            usable = self._rows.sequences if by == "sequence" else self._rows.searched
            most = len(self) if by == "sequence" else int(self.table.state["genomes"])
            near = None if candidates is None else Near(*candidates)
            scan = self._scan(usable if allowed is None else usable & allowed, metric, exclude)
            return scan.groups(by, queries, k, most, near)

    def nearest(
        self,
        queries: NDArray[np.float32],
        count: int,
        *,
        metric: Metric | None = None,
        exclude: NDArray[np.int64] | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> Near:
        """The nearest rows of every query (q, dim), whatever they are of: rows and distances (q, count).

        exclude : (q,) an entry none of whose rows, nor its genome's vector, is given. allowed : (rows,) bool.
        """
        with self.reading():
            usable = self._rows.searched if allowed is None else self._rows.searched & allowed
            return self._scan(usable, metric, exclude).nearest(queries, count)

    def _scan(
        self, usable: NDArray[np.bool_], metric: Metric | None, exclude: NDArray[np.int64] | None
    ) -> Scan:
        metric = metric or self.metric
        check_metric(metric)
        excluded = None if exclude is None else self._rows.excluded(exclude, self.entries(exclude))
        store, covered = self.opened_engine() if metric == self.metric else (None, 0)
        return Scan(self._rows, metric, usable, excluded, store, covered)

    def opened_engine(self) -> tuple[VectorStore | None, int]:
        """The engine, and how many rows it covers; None where every row is to be looked at."""
        return self._engine(), self._covered

    @property
    def has_sketches(self) -> bool:
        """Whether there are sketches (`kinmer.sketches`), and of every entry whose length is known."""
        with self.reading():
            return self.homology.complete

    def shared(self, sketches: Sequence[NDArray[np.uint64]]) -> Shared:
        """How many hashes of each query's sketch the genomes have; what several entries have counts once.

        A hash that more than `kinmer.sketches.postings.MOST_POSTINGS` entries have counts for none: such
        words are of everything. Entries without sketches share nothing. Raises FormatError for damage.
        """
        with self.reading():
            return self.homology.shared(sketches)

    def entry_sketches(self, numbers: Labels) -> dict[int, NDArray[np.uint64]]:
        """The sketches of entries of these numbers, ascending hashes; those without are left out."""
        with self.reading():
            return self.homology.sketches(numbers)

    def genome_sketch_sizes(self, genomes: Labels) -> NDArray[np.int64]:
        """(n,) how many hashes the entries of genomes of these numbers (n,) have, one by one."""
        with self.reading():
            return self.homology.sizes(genomes)

    def rebuild(self, *, engine: str | None = None, metric: Metric | None = None) -> None:
        """Build the engine again from the kept vectors; with `engine` or `metric` another one from now on.

        Raises UsageError for an unknown engine or metric, or while another process builds; FormatError where
        the vectors are damaged; EngineError where the engine fails. The index then stays as it is.
        """
        name, measure = engine or self.engine, metric or self.metric
        if name not in ENGINES:
            raise UsageError(f"the engine must be one of {', '.join(ENGINES)}, not {name!r}")
        check_metric(measure)
        lock = Workshop(self.path)
        try:
            with self.reading():
                self._close_engine()
                self._build(name, measure)
                if (name, measure) != (self.engine, self.metric):
                    manifest = save_manifest(self.path, {**self.manifest, "engine": name, "metric": measure})
                    old, self.engine, self.metric, self.manifest = self.engine, name, measure, manifest
                    if old != name:
                        remove(self.engine_files(name=old).folder)
        finally:
            lock.release()

    def prove(self) -> None:
        """FormatError where rows or table are damaged; what was found whole before is not read again."""
        files = row_files(self.path, self._rows.generation)
        if not self._trust.has([self.table.path]):
            self.table.prove()
        if not self._trust.has(files):
            self._rows.check_blocks(self.table.blocks())
        self._trust.note([*files, self.table.path])

    def prepare(self, *, behind: int = 0) -> None:
        """Have the engine cover all but at most `behind` rows. The caller has the lock."""
        if self.engine == "exact":
            return
        with self.reading():
            try:
                if self._store is None:
                    self._open_engine()
            except (FormatError, EngineError):
                self._build(self.engine, self.metric)
                self._open_engine()
            late = len(self._rows) - self._covered
            died = int((~self._rows.alive[: self._covered]).sum())
            if self._store is not None and late + died > behind:
                self.engine_files().update(self._store, self._rows, self._covered)
                self._close_engine()

    def close(self) -> None:
        """Close the engine and the files."""
        self._close_engine()
        self.table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self) -> None:
        """Take over what the table records now."""
        busy = self._proved or Workshop.is_busy(self.path)
        table, files = self.table, row_files(self.path, self.table.generation)
        alive = np.ones(table.rows, dtype=bool)
        alive[table.dead()] = False
        alive[table.orphans()] = False
        vectors, records = map_vectors(files[0], table.rows, self.dim), map_rows(files[1], table.rows)
        self._rows = Rows(self.path, table.generation, vectors, records, alive)
        if not busy:
            self.prove()
        self._epoch, self.known = self.table.epoch, None
        self.homology = Homology(self, self._trust, self._log)
        self._unwritable = False
        self._close_engine()

    def _close_engine(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
        self._covered = 0

    def engine_files(self, name: str | None = None, metric: Metric | None = None) -> EngineFiles:
        """The files of the engine, or of another one, and what it must have been built from to be used."""
        stamp = {
            "index": self.manifest["index"],
            "generation": self.table.generation,
            "metric": metric or self.metric,
            "dim": self.dim,
        }
        return EngineFiles(self.path, name or self.engine, stamp, self._threads)

    def _build(self, name: str, metric: Metric) -> None:
        if name != "exact":
            self._rows.check_blocks(self.table.blocks())
            self.engine_files(name, metric).build(self._rows)

    def _open_engine(self) -> None:
        self._store, self._covered = self.engine_files().open(len(self._rows), self._trust)

    def _engine(self) -> VectorStore | None:
        """The engine, open; built again where it has to be. None where all vectors are to be looked at."""
        if self.engine == "exact" or self._unwritable:
            return None
        if self._store is None:
            try:
                self._open_engine()
            except (FormatError, EngineError) as error:
                self._mend(error)
        return self._store

    def _mend(self, reason: Exception) -> None:
        instead = "every vector is looked at"
        with rebuilt(self.path, "the engine", reason, instead, self._log) as may_write:
            self._unwritable = not may_write
            if not may_write:
                return
            try:
                self._build(self.engine, self.metric)
                self._open_engine()
                self.rebuilt = True
            except FormatError as error:
                if not isinstance(error, MismatchError) and error.place and "vectors-" in error.place:
                    raise
                again = "the engine was built again and still cannot be opened"
                raise EngineError(again, str(error)) from error
