"""What is derived of an index: its engine from the vectors, its homology from the sketches; each is stamped.

An engine covers the rows 0 … covered - 1 that were searched when it was brought up to date. Rows behind them
are looked at one by one, and rows that have died since are passed over, so that a change of the index costs
nothing here until there are many of them. So it is with the entries that the homology covers.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import EngineBehindError, EngineError, FormatError, UsageError
from kinmer.files import built_aside, file_checksum, remove, settle, take_name, write_json
from kinmer.folders import Trust, Workshop
from kinmer.index.rows import Rows, blob_file, mapped, read_blobs
from kinmer.index.table import EntryTable
from kinmer.inputs import is_sealed, read_json, sealed
from kinmer.progress import step
from kinmer.sketches import HASH_BYTES, unpack_sketch
from kinmer.sketches.postings import (
    AT_ONCE,
    PREFIXES,
    Block,
    Part,
    Postings,
    Shared,
    arranged,
    count_prefixes,
    count_shared,
    merged,
)
from kinmer.stores import VectorStore, engine, near_together, skeleton

STAMP = "stamp.json"
# Rows handed to the engine together: 100 MB at 384 dimensions.
ENGINE_ROWS = 1 << 16
# Neighboring rows, 100 kB, that go into a graph together.
RUN = 1 << 6
# Seconds of a build that a kill may cost, beside those that saving takes.
CHECKPOINT = 600.0

# More late hashes than this, 13 Mbp, are written, for they are read from the sketches at every opening. Where
# they are a larger share of all than this, too, the base is written again.
LATE_HASHES, LATE_SHARE = 1 << 18, 0.02

# Places of sketches that are looked up together.
SKETCHES_AT_ONCE = 4096

Log = Callable[[str], None]


@dataclass(frozen=True)
class EngineFiles:
    """The files of one engine of the index in the folder `index`.

    stamp : what the engine must have been built from, its metric and dim among it. threads : None for all
    cores.
    """

    index: Path
    name: str
    stamp: Mapping[str, Any]
    threads: int | None = None

    @property
    def folder(self) -> Path:
        """Where they stand."""
        return self.index / f"engine-{self.name}"

    def open(self, rows: int, trust: Trust) -> tuple[VectorStore, int]:
        """The engine, and how many of the `rows` of the index it covers.

        Raises EngineBehindError, FormatError or EngineError where it has to be built again.
        """
        folder = self.folder
        derived = "it is derived from the vectors, and the next search builds it"
        again = f"or build it now: kinmer index --rebuild {self.index}"
        if not (folder / STAMP).is_file():
            raise EngineBehindError("the engine is not built yet", derived, again, place=folder)
        stamp = read_json(folder / STAMP)
        covered = stamp.pop("covered", None)
        if stamp != self.stamp or not isinstance(covered, int) or not 0 <= covered <= rows:
            raise EngineBehindError("the engine is behind the entries", place=folder)
        if not (folder / "store.json").is_file():
            raise FormatError("the engine is damaged: store.json is missing", derived, again, place=folder)
        _check_files(folder / "store.json", trust)
        dim, metric = self.stamp["dim"], self.stamp["metric"]
        return engine(self.name).open(folder, dim=dim, metric=metric, threads=self.threads), covered

    def build(self, rows: Rows) -> None:
        """Build the engine from the rows searched, in a folder aside that takes its name when it is whole.

        A build that was killed is gone on with from its last checkpoint.
        """
        settle(self.folder)
        aside = self.folder.with_name(f"{self.folder.name}.growing")
        with self._begun(aside) as store:
            self._fill(store, f"Building {self.name}", rows, 0, CHECKPOINT)
        self._note(aside, len(rows))
        take_name(aside, self.folder)

    def update(self, store: VectorStore, rows: Rows, covered: int) -> None:
        """Bring the open engine up to date: rows behind the covered ones come in, dead ones go."""
        self._fill(store, f"Updating {self.name}", rows, covered, np.inf)
        self._note(self.folder, len(rows))

    def renumber(self, new: NDArray[np.int64], generation: int) -> None:
        """Go on with the engine where the rows have other numbers in another generation of their files.

        new : (n,) by the old number, ascending; -1 for what is gone. Where it cannot, or is killed, the
        engine is of another generation, and built again.
        """
        try:
            store, covered = self.open(len(new), Trust(self.index))
            with store:
                if store.renumber(new):
                    later = replace(self, stamp={**self.stamp, "generation": generation})
                    later._note(self.folder, int((new[:covered] >= 0).sum()))
        except (FormatError, EngineError, OSError):
            pass

    def _begun(self, aside: Path) -> VectorStore:
        """What a killed build has left of an engine of these rows, or an empty one."""
        dim, metric = self.stamp["dim"], self.stamp["metric"]
        try:
            stamp = read_json(aside / STAMP)
            stamp.pop("covered", None)
            if stamp == self.stamp:
                _check_files(aside / "store.json", Trust(self.index, blind=True))
                return engine(self.name).open(aside, dim=dim, metric=metric, threads=self.threads)
        except (FormatError, EngineError):
            pass
        remove(aside)
        aside.mkdir()
        write_json(aside / STAMP, dict(self.stamp))
        return engine(self.name).create(aside, dim=dim, metric=metric, threads=self.threads)

    def _fill(self, store: VectorStore, what: str, rows: Rows, first: int, pause: float) -> None:
        """Bring in the rows searched from `first` on, take out dead ones; a checkpoint every `pause` s."""
        new, dead = np.flatnonzero(rows.searched[first:]) + first, np.flatnonzero(~rows.alive)
        if len(store):
            # What a killed run has brought in already is not brought in twice.
            new, dead = new[~store.contains(new)], dead[store.contains(dead)]
            store.delete(dead)
        saved, new, metric = time.monotonic(), _shuffled(new), self.stamp["metric"]
        if len(new) > ENGINE_ROWS:
            first = skeleton(len(new) + len(store), len(store))
            new = near_together(new, rows.vectors.__getitem__, metric, first=first)
        with step(what, len(new)) as progress:
            for start in range(0, len(new), ENGINE_ROWS):
                part = np.sort(new[start : start + ENGINE_ROWS])
                store.add(part, np.asarray(rows.vectors[part]))
                progress.advance(len(part))
                if time.monotonic() - saved > pause:
                    store.checkpoint()
                    saved = time.monotonic()
            store.flush()

    def _note(self, folder: Path, covered: int) -> None:
        write_json(folder / STAMP, {**self.stamp, "covered": covered})


def _shuffled(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows in a random order of runs of `RUN`: from later clusters fewer edges lead into a graph.

    Runs, because rows are read from the disk.
    """
    runs = -(-rows.size // RUN)
    order = np.random.Generator(np.random.PCG64(rows.size)).permutation(runs)
    at = (order[:, None] * RUN + np.arange(RUN)).ravel()
    return np.asarray(rows[at[at < rows.size]])


def _check_files(described: Path, trust: Trust) -> None:
    """Compare files with the checksums that stand beside them, unless they were found whole before."""
    folder, sums = described.parent, read_json(described).get("files", {})
    if not isinstance(sums, dict):
        raise FormatError("the engine is damaged", "its description is another", place=described)
    files = {folder / str(name): crc for name, crc in sums.items()}
    unknown = [path for path in files if not trust.has([path])]
    for path in unknown:
        if not path.is_file() or file_checksum(path) != files[path]:
            raise FormatError("the engine is damaged", "the checksum of its file is another", place=path)
    if unknown:
        trust.note(files)


@contextmanager
def rebuilt(folder: Path, what: str, reason: object, instead: str, log: Log | None) -> Iterator[bool]:
    """Whether something derived may be built again here: the block has the lock of the index then."""
    tell = log or (lambda line: None)
    tell(f"{what} is built again: {reason}")
    try:
        lock = Workshop(folder)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        tell(f"{folder} cannot be written: {instead} instead")
        yield False
        return
    except UsageError:
        tell(f"another process is writing it: {instead} meanwhile")
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


class _Index(Protocol):
    """What the homology needs of an index."""

    path: Path
    table: EntryTable
    manifest: dict[str, Any]

    @property
    def rows(self) -> Rows: ...


class Homology:
    """Which genomes share k-mers with queries, by the sketches of the entries of `index` at one commit.

    The folder ``homology`` has the postings of the entries below a number that were alive when it was built,
    and the folder ``late`` in it those of later ones, so that an addition writes what is late and not all.
    Those of the last entries are made of their sketches when they are first needed. Postings that are
    missing, damaged or far behind are built again (and logged); where that cannot be written, they are made
    in memory.
    """

    STARTS, LOW, ENTRY, LATE = "starts.i8", "low.u4", "entry.u4", "late"

    def __init__(self, index: _Index, trust: Trust, log: Log | None) -> None:
        self._index, self._trust, self._log = index, trust, log
        self._sizes: dict[int, int] = {}
        self.folder = index.path / "homology"

    @cached_property
    def complete(self) -> bool:
        """Whether there are sketches, and of every entry whose length is known."""
        return self._index.table.has_blobs("sketches")

    def shared(self, sketches: Sequence[NDArray[np.uint64]]) -> Shared:
        """See `Storage.shared`."""
        return count_shared(sketches, self._postings, *self._homes)

    def sketches(self, numbers: NDArray[np.int64]) -> dict[int, NDArray[np.uint64]]:
        """See `Storage.entry_sketches`."""
        places = self._index.table.blobs("sketches", numbers)
        return dict(zip(places, map(unpack_sketch, read_blobs(self._blobs, places.values())), strict=True))

    def sizes(self, genomes: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Storage.genome_sketch_sizes`."""
        unknown = set(genomes.tolist()) - self._sizes.keys()
        found = self._index.table.genome_blob_bytes("sketches", unknown)
        self._sizes |= {genome: found.get(genome, 0) // HASH_BYTES for genome in unknown}
        return np.array([self._sizes[genome] for genome in genomes.tolist()], np.int64)

    def open(self, trust: Trust) -> tuple[Postings, Postings, int]:
        """The postings in the files, those of late entries, and the number below which entries are in them.

        Raises EngineBehindError or FormatError where they have to be built again.
        """
        base, stamp = self._opened(self.folder, trust)
        try:
            late, later = self._opened(self.folder / self.LATE, trust, behind=stamp)
        except EngineBehindError:
            return base, Postings.none(), stamp["covered"]
        return base, late, later["covered"]

    def _opened(
        self, folder: Path, trust: Trust, behind: dict[str, Any] | None = None
    ) -> tuple[Postings, dict[str, Any]]:
        """Postings and what is noted of them. behind : of those that they go on from."""
        stamp_file, derived = folder / STAMP, "it is derived from the sketches"
        if not stamp_file.is_file():
            raise EngineBehindError("the homology is not built yet", derived, place=folder)
        stamp = read_json(stamp_file)
        # One of another file is sealed too.
        if not is_sealed(stamp) or not stamp.keys() >= {"index", "covered", "hashes", "files"}:
            raise FormatError("the homology is damaged", "its description is another", place=stamp_file)
        known = stamp["index"] == self._index.manifest["index"] and stamp["covered"] <= self._next
        if not known or stamp.get("behind") != (None if behind is None else behind["crc"]):
            raise EngineBehindError("the homology is of another state", place=folder)
        _check_files(stamp_file, trust)
        starts = mapped(folder / self.STARTS, np.dtype("<i8"), (PREFIXES + 1,))
        low, entry = (
            mapped(folder / name, np.dtype("<u4"), (stamp["hashes"],)) for name in (self.LOW, self.ENTRY)
        )
        return Postings(starts, low, entry), stamp

    def prepare(self, *, behind: int | None = 0) -> None:
        """Have the base lack at most so many hashes; None: a share of all. The caller has the lock.

        What it lacks is in `LATE` then, but for some.
        """
        total = self._hashes()
        if not total:
            remove(self.folder)
            return
        try:
            base, late, covered = self.open(self._trust)
        except FormatError:
            self.build()
            return
        tail = self._hashes(covered)
        most = _most_late(base) if behind is None else behind
        dead = len(base) + len(late) - (total - tail)
        if tail > max(AT_ONCE, len(base)):
            self.build()
        elif len(late) + tail + dead > most:
            self._write(self.folder, merged((base, late, self._tail(covered)), self._alive))
        elif tail > LATE_HASHES:
            of = read_json(self.folder / STAMP)["crc"]
            more = (Postings.none(), late, self._tail(covered))
            self._write(self.folder / self.LATE, merged(more, self._alive), behind=of)

    def build(self) -> None:
        """Build the postings of all entries from their sketches."""
        starts = count_prefixes(self._blocks(0))
        self._write(self.folder, arranged(lambda: self._blocks(0), starts))

    def _write(self, folder: Path, lines: Iterable[Part], **more: Any) -> None:
        """Write postings in a folder aside that is renamed when it is whole."""
        counts = [np.zeros(1, np.int64)]
        with built_aside(folder) as aside, step("Building homology"):
            with (aside / self.LOW).open("wb") as lows, (aside / self.ENTRY).open("wb") as entries:
                for part in lines:
                    lows.write(part.low.astype("<u4").data)
                    entries.write(part.entry.astype("<u4").data)
                    counts.append(part.counts)
            starts = np.cumsum(np.concatenate(counts))
            (aside / self.STARTS).write_bytes(starts.astype("<i8").tobytes())
            sums = {name: file_checksum(aside / name) for name in (self.STARTS, self.LOW, self.ENTRY)}
            stamp = {"index": self._index.manifest["index"], "covered": self._next, "hashes": int(starts[-1])}
            write_json(aside / STAMP, sealed({**stamp, **more, "files": sums}))

    def check(self) -> Iterator[str]:
        """What is wrong with the files, all of which are read; raises as `open`."""
        base, late, covered = self.open(Trust(self._index.path, blind=True))
        counts = np.zeros(covered, np.int64)
        for part in (base, late):
            # Counting takes 8 bytes a hash.
            for first in range(0, len(part), AT_ONCE):
                counts += np.bincount(part.entry[first : first + AT_ONCE], minlength=covered)
        numbers = self._entries(0)
        numbers = np.sort(numbers[numbers < covered])
        for first in range(0, len(numbers), SKETCHES_AT_ONCE):
            places = self._index.table.blobs("sketches", numbers[first : first + SKETCHES_AT_ONCE])
            for number, place in places.items():
                if counts[number] != place.bytes // HASH_BYTES:
                    yield f"{self.folder}: it lacks hashes of entry {number}"

    @cached_property
    def _postings(self) -> tuple[Postings, Postings, Postings]:
        """Those in the files, and those of entries that they lack."""
        base, late, covered = self._base()
        return base, late, self._tail(covered)

    def _base(self) -> tuple[Postings, Postings, int]:
        reason = FormatError("it lacks many entries", place=self.folder)
        try:
            found = self.open(self._trust)
            if self._hashes(found[-1]) <= _most_late(found[0]):
                return found
        except FormatError as error:
            reason = error
        nothing = Postings.none(), Postings.none(), 0
        if not self._hashes():
            return nothing
        instead = "sketches are read"
        # Where there never was any nothing is wrong.
        log = self._log if self.folder.exists() else None
        with rebuilt(self._index.path, "the homology", reason, instead, log) as may_write:
            if may_write:
                self.prepare()
                return self.open(self._trust)
        return nothing

    def _tail(self, covered: int) -> Postings:
        return Postings.of(lambda: self._blocks(covered))

    @property
    def _alive(self) -> NDArray[np.bool_]:
        """(n,) which entries are there, by number."""
        return np.asarray(self._homes[1] >= 0)

    @cached_property
    def _homes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers (g,) of the genomes, and by number of entry (n,) the position of its own, -1 for none."""
        rows, wholes = self._index.rows, self._index.rows.wholes()
        genomes, positions = np.unique(rows.genome[wholes], return_inverse=True)
        home = np.full(self._next, -1, np.int64)
        home[rows.entry[wholes]] = positions
        return genomes, home

    @property
    def _next(self) -> int:
        return int(self._index.table.state["next_entry"])

    @property
    def _blobs(self) -> Path:
        return blob_file(self._index.path, "sketches", self._index.table.generation)

    def _hashes(self, start: int = 0) -> int:
        """How many hashes the entries from number `start` have."""
        return self._index.table.blob_bytes("sketches", start) // HASH_BYTES

    def _entries(self, start: int) -> NDArray[np.int64]:
        return self._index.table.with_blobs("sketches", start)

    def _blocks(self, start: int) -> Iterator[Block]:
        """The sketches of the entries from number `start`."""
        numbers = self._entries(start)
        for first in range(0, len(numbers), SKETCHES_AT_ONCE):
            places = self._index.table.blobs("sketches", numbers[first : first + SKETCHES_AT_ONCE])
            for number, blob in zip(places, read_blobs(self._blobs, places.values()), strict=True):
                yield unpack_sketch(blob), number


def _most_late(base: Postings) -> int:
    return max(LATE_HASHES, int(LATE_SHARE * len(base)))
