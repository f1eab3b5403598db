"""Changes of an index: rows to the end of the files first, then one commit of the table that records them.

One writer at a time. A killed one leaves rows that no commit records; the next one cuts them off. What
changes the table is here, what reads it in `kinmer.index.table`.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, ProfileError
from kinmer.index.manifest import BLOBS, Blob, Block, Entry, line_checksum, quoted
from kinmer.index.rows import GENOME, PIECE, ROW, SHORT, WHOLE, rounded, row_checksum
from kinmer.index.table import EntryTable

# The column that numbers the lines of each table.
_KEYS = {
    "entries": "_entry",
    "genomes": "genome",
    "letters": "entry",
    "sketches": "entry",
    "files": "file",
    "stale": "genome",
    "dead": "label",
    "blocks": "first",
}


class Progress(NamedTuple):
    """How many records of a file are in with a commit; None for all.

    new : path, SHA-256, genome and prefix of a file that is noted with the commit, and has no number before.
    """

    file: int
    records: int | None = None
    new: tuple[str, str, str | None, str] | None = None


class NewRows(NamedTuple):
    """Vectors (m, dim) and records (m,) of `ROW` that must be on disk before the commit."""

    vectors: NDArray[np.float32]
    records: NDArray[Any]


@dataclass(frozen=True)
class NewSequence:
    """A sequence to be added: vectors (m, dim), the first of the whole, the others of the pieces `spans`.

    blobs : where what is kept of it lies, by kind. file : the number of the file that it came from, where
    that is not said for all of a commit. short : it is not searched but with its genome.
    """

    id: str
    genome: str
    length: int | None
    gc: float | None
    values: Mapping[str, Any]
    vectors: NDArray[np.float32]
    spans: Sequence[tuple[int, int]] = ()
    blobs: Mapping[str, Blob] = field(default_factory=dict)
    file: int | None = None
    short: bool = False

    def records(self, number: int, genome: int) -> NDArray[Any]:
        """Records of its rows: the whole, then the pieces."""
        records = np.zeros(len(self.vectors), dtype=ROW)
        records["entry"], records["genome"], records["kind"] = number, genome, PIECE
        records[0] = (number, genome, 0, self.length or 0, SHORT if self.short else WHOLE)
        if len(self.spans):
            records["start"][1:], records["stop"][1:] = np.array(self.spans).T
        return records


@dataclass
class Change:
    """One commit in the making: `begin` it, change, and all of it or nothing is there afterwards."""

    table: EntryTable
    _state: dict[str, Any] = field(default_factory=dict)
    _dead: list[NDArray[np.int64]] = field(default_factory=list)
    _bereft: set[int] = field(default_factory=set)

    @contextmanager
    def begin(self, *, derived: bool = False) -> Iterator[Change]:
        """Commit at the end of the block; nothing is changed where it raises.

        derived : only what follows from the entries is changed; else the note of the last request goes.
        """
        self._run("BEGIN IMMEDIATE")
        try:
            self.table.reload()
            self._state = dict(self.table.state)
            if not derived and "request" in self._state:
                self._state["request"] = None
            yield self
            self._settle_bereft()
            self._write_dead()
            self._write_state()
            self._run("COMMIT")
        except BaseException:
            if self.table.connection.in_transaction:
                self.table.connection.execute("ROLLBACK")
            self.table.reload()
            raise
        self.table.state = self._state

    @property
    def rows(self) -> int:
        """Rows of the vector files at the end of the change."""
        return int(self._state["rows"])

    def state(self, name: str, fact: Any) -> None:
        """Set a fact of the state."""
        self._state[name] = fact

    def add(self, sequences: Sequence[NewSequence], *, file: int | None = None) -> NewRows:
        """Record new sequences; gives the rows to write. ProfileError where a genome has an id already."""
        before = int(self._state["next_genome"])
        self._note_equal([sequence.id for sequence in sequences])
        numbers = self._genome_numbers([sequence.genome for sequence in sequences])
        vectors, records, first = [], [], self.rows
        for sequence in sequences:
            number, genome = self._next("next_entry"), numbers[sequence.genome]
            known = {name.lower(): value for name, value in sequence.values.items()}
            values = tuple(known.get(name.lower()) for name in self.table.columns)
            rows, of = len(sequence.vectors), sequence.file if file is None else file
            new = Entry(number, sequence.id, sequence.length, sequence.gc, values, genome, first, rows, of)
            line = (number, new.checksum(), new.id, genome, first, rows, of, new.length, new.gc, *values)
            try:
                self._insert("entries", *line)
            except FormatError as error:
                raise self._is_there(sequence) if _exists(error) else error from None
            for kind, blob in sequence.blobs.items():
                self._insert(kind, number, *blob)
            vectors.append(sequence.vectors)
            records.append(sequence.records(number, genome))
            first += rows
        self._state["entries"] += len(sequences)
        # A genome of a single vector needs no mean, if that is searched.
        count = Counter[int]()
        for sequence in sequences:
            count[numbers[sequence.genome]] += len(sequence.vectors) + sequence.short
        self.mark_stale({number for number in count if number < before or count[number] > 1})
        return self._append(vectors, records)

    def delete(self, entries: Iterable[Entry]) -> None:
        """Record that entries are gone, and their genomes with the last of them.

        The mean vector of a genome that has others goes too: it is of what is not there any more.
        """
        gone = list(entries)
        numbers = [entry.number for entry in gone]
        for table in ("entries", *BLOBS):
            self._remove(table, numbers)
        self._dead.extend(np.arange(entry.first, entry.first + entry.rows) for entry in gone)
        self._state["entries"] -= len(gone)
        # Their files may be added again.
        for file in {entry.file for entry in gone if entry.file is not None}:
            self.file_progress(Progress(file, 0))
        self._bereft.update(entry.genome for entry in gone)

    def set_values(self, entry: Entry, values: Sequence[Any]) -> None:
        """Replace the metadata of an entry, one value a column of the table."""
        crc = entry._replace(values=tuple(values)).checksum()
        named = dict(zip(self.table.columns, values, strict=True))
        self._set("entries", entry.number, {"_crc": crc, **named})

    def rehome(
        self, moved: Sequence[tuple[Entry, int]], vectors: NDArray[np.float32], records: NDArray[Any]
    ) -> NewRows:
        """Move entries to other genomes: their rows, (m, dim) and (m,), are written again at the end."""
        first, records, at = self.rows, records.copy(), 0
        for entry, genome in moved:
            records["genome"][at : at + entry.rows] = genome
            self._dead.append(np.arange(entry.first, entry.first + entry.rows))
            line = entry._replace(genome=genome, first=first + at)
            values = {"_crc": line.checksum(), "_genome": genome, "_first": line.first}
            try:
                self._set("entries", entry.number, values)
            except FormatError as error:
                raise self._is_taken(entry, genome) if _exists(error) else error from None
            at += entry.rows
            self._bereft.add(entry.genome)
            self.mark_stale((genome,))
        return self._append([vectors], [records])

    def add_file(self, path: str, sha256: str, genome: str | None, prefix: str = "") -> int:
        """Note a file that entries will come from; gives its number."""
        return self._insert("files", None, path, sha256, genome, 0, prefix)

    def file_progress(self, progress: Progress) -> int:
        """Note how many records of a file are in; gives its number."""
        records = -1 if progress.records is None else progress.records
        number = progress.file if progress.new is None else self.add_file(*progress.new)
        self._set("files", number, {"whole": records})
        return number

    def forget_file(self, number: int) -> None:
        """Take out the note of a file that no entry is of."""
        self._remove("files", [number])

    def add_columns(self, names: Iterable[str]) -> None:
        """Add columns of metadata; the lines of all entries have to be written again (`set_values`)."""
        for name in names:
            self._run(f"ALTER TABLE entries ADD COLUMN {quoted(name)}")
            self.table.columns = (*self.table.columns, name)

    def mark_stale(self, genomes: Iterable[int]) -> None:
        """Note that the mean vectors of genomes have to be computed again."""
        for number in genomes:
            self._insert("stale", number, verb="INSERT OR IGNORE")

    def set_genomes(self, means: Mapping[int, NDArray[np.float32] | None]) -> NewRows:
        """Replace the mean vectors of genomes (None: it has none) and note that they are fresh.

        A genome without entries is taken out.
        """
        vectors, records = list[NDArray[np.float32]](), list[NDArray[Any]]()
        known = self.table.genomes(np.array(list(means), dtype=np.int64), amid=True)
        left = self.table.members_left(means)
        self._remove("stale", means)
        self._drop_genomes(means.keys() - left)
        self._dead.append(np.array([one.label for one in known.values() if one.label is not None], np.int64))
        for number, mean in means.items():
            if number not in left:
                continue
            new = None if mean is None else self.rows + len(vectors)
            self._label(number, known[number].name, new)
            if mean is not None:
                vectors.append(mean[None])
                records.append(np.array([(-1, number, 0, 0, GENOME)], dtype=ROW))
        return self._append(vectors, records)

    def genome_number(self, name: str) -> int:
        """The number of a genome, which is made where there is none of that name."""
        return self._genome_numbers([name])[name]

    def move_rows(self, new_label: NDArray[np.int64], blocks: Iterable[Block], generation: int) -> None:
        """Record where all rows stand in the files of another generation; `new_label`: -1 for gone."""
        after = -1
        while page := self.table.page(after, 4096):
            for entry in page:
                line = entry._replace(first=int(new_label[entry.first]))
                self._set("entries", entry.number, {"_crc": line.checksum(), "_first": line.first})
            after = page[-1].number
        for genome in self.table.genomes().values():
            if genome.label is not None:
                self._label(genome.number, genome.name, int(new_label[genome.label]))
        self._run("DELETE FROM blocks")
        rows = 0
        for block in blocks:
            self._insert("blocks", *block)
            rows += block.rows
        self._run("DELETE FROM dead")
        self._state |= {"dead": 0, "dead_crc": 0, "rows": rows, "generation": generation}

    def move_blobs(self, kind: str, blobs: Mapping[int, Blob], end: int) -> None:
        """Record where blobs of a kind lie in the file of another generation, which has `end` bytes."""
        for number, blob in blobs.items():
            self._set(kind, number, blob._asdict())
        self._state[kind] = end

    def _append(self, vectors: list[NDArray[np.float32]], records: list[NDArray[Any]]) -> NewRows:
        if not records:
            return NewRows(np.empty((0, 0), np.float32), np.empty(0, ROW))
        joined = np.concatenate(vectors)
        rows = NewRows(rounded(joined) if self._state.get("rounded") else joined, np.concatenate(records))
        self._insert("blocks", self.rows, len(rows.records), row_checksum(*rows))
        self._state["rows"] = self.rows + len(rows.records)
        return rows

    def _genome_numbers(self, names: Iterable[str]) -> dict[str, int]:
        wanted = list(dict.fromkeys(names))
        known = self.table.genome_numbers(wanted)
        for name in wanted:
            if name not in known:
                known[name] = number = self._next("next_genome")
                self._insert("genomes", number, line_checksum(number, name, None), name, None)
                self._state["genomes"] += 1
        return known

    def _label(self, genome: int, name: str, label: int | None) -> None:
        """Set the row of a genome's mean vector."""
        self._set("genomes", genome, {"crc": line_checksum(genome, name, label), "label": label})

    def _drop_genomes(self, numbers: Iterable[int]) -> None:
        gone = list(numbers)
        self._remove("genomes", gone)
        self._remove("stale", gone)
        self._state["genomes"] -= len(gone)

    def _settle_bereft(self) -> None:
        """Take out genomes without an entry left, and mean vectors that count entries which are gone.

        With the commit, so that no reader meets a genome that is nothing, or a vector of what is deleted.
        """
        if not self._bereft:
            return
        known = self.table.genomes(np.array(sorted(self._bereft)), amid=True)
        left = self.table.members_left(known)
        self._dead.append(np.array([one.label for one in known.values() if one.label is not None], np.int64))
        self._drop_genomes(known.keys() - left)
        for number in sorted(left):
            self._label(number, known[number].name, None)
        self.mark_stale(left)

    def _next(self, counter: str) -> int:
        number = int(self._state[counter])
        self._state[counter] = number + 1
        return number

    def _note_equal(self, ids: list[str]) -> None:
        """Note where ids are not unique any more, so that names are looked at more closely from now on."""
        if not self._state.get("equal_ids") and (len(set(ids)) < len(ids) or self.table.has_id(ids)):
            self._state["equal_ids"] = True

    def _is_taken(self, entry: Entry, genome: int) -> ProfileError:
        name = self.table.genomes(np.array([genome]), amid=True)[genome].name
        return ProfileError(
            f"the genome {name!r} has a sequence {entry.id!r} already",
            "another one of that id is to move there",
            "is the genome of this id right in the metadata?",
        )

    def _is_there(self, sequence: NewSequence) -> ProfileError:
        held = self.table.holders([sequence.id]).get(sequence.id, ())
        path = next((holder.path for holder in held if holder.genome == sequence.genome), None)
        of = "" if sequence.genome == sequence.id else f" of the genome {sequence.genome!r}"
        return ProfileError(
            f"the id {sequence.id!r}{of} is in the index already" + (f", from {path}" if path else ""),
            "a genome has one sequence of an id",
            "another sample: --prefix or --sample-from-file; another genome: --genome; else kinmer db update",
        )

    def _run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run a statement; gives the number of the line that it wrote."""
        with self.table.guarded():
            return int(self.table.connection.execute(sql, values).lastrowid or 0)

    def _insert(self, table: str, *values: Any, verb: str = "INSERT") -> int:
        """Write a line; gives its number."""
        return self._run(f"{verb} INTO {table} VALUES ({','.join('?' * len(values))})", values)

    def _set(self, table: str, number: int, values: Mapping[str, Any]) -> None:
        """Set columns of a line."""
        columns = ", ".join(f"{quoted(name)} = ?" for name in values)
        self._run(f"UPDATE {table} SET {columns} WHERE {_KEYS[table]} = ?", (*values.values(), number))

    def _remove(self, table: str, numbers: Iterable[int]) -> None:
        """Take out lines."""
        with self.table.guarded():
            sql = f"DELETE FROM {table} WHERE {_KEYS[table]} = ?"
            self.table.connection.executemany(sql, [(number,) for number in numbers])

    def _write_dead(self) -> None:
        new = np.concatenate(self._dead) if self._dead else np.empty(0, np.int64)
        if new.size:
            with self.table.guarded():
                lines = ((label,) for label in new.tolist())
                self.table.connection.executemany("INSERT INTO dead VALUES (?)", lines)
            labels = self.table.dead(amid=True)
            self._state |= {"dead": len(labels), "dead_crc": zlib.crc32(labels.data)}

    def _write_state(self) -> None:
        self._state["epoch"] += 1
        for name, fact in self._state.items():
            text = json.dumps(fact)
            self._insert("state", name, text, line_checksum(name, text), verb="INSERT OR REPLACE")


def _exists(error: FormatError) -> bool:
    """Whether a line could not be written because there is one with its key."""
    return isinstance(error.__cause__, sqlite3.IntegrityError)
