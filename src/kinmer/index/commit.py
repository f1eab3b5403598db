"""Changes of an index: rows to the end of the files first, then one commit of the table that tells of them.

One writer at a time. A killed one leaves rows that no commit tells of; the next one cuts them off."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, ProfileError
from kinmer.index.rows import GENOME, PIECE, ROW, WHOLE, row_checksum
from kinmer.index.table import FIXED, Block, Entry, EntryTable, holders_of, line_checksum, parts_of, quoted

__all__ = ["Change", "NewSequence"]


@dataclass(frozen=True)
class NewSequence:
    """A sequence to be added: vectors (m, dim), the first of the whole, the others of the pieces `spans`.

    letters : where its letters were kept (offset, bytes, CRC-32), None for nowhere.
    """

    id: str
    genome: str
    length: int | None
    gc: float | None
    values: Mapping[str, Any]
    vectors: NDArray[np.float32]
    spans: Sequence[tuple[int, int]] = ()
    letters: tuple[int, int, int] | None = None


@dataclass
class Change:
    """One commit in the making: `begin` it, change, and all of it or nothing is there afterwards."""

    table: EntryTable
    _state: dict[str, Any] = field(default_factory=dict)
    _vectors: list[NDArray[np.float32]] = field(default_factory=list)
    _records: list[NDArray[Any]] = field(default_factory=list)
    _dead: list[NDArray[np.int64]] = field(default_factory=list)
    _known_genomes: set[int] = field(default_factory=set)
    _bereft: set[int] = field(default_factory=set)

    @contextmanager
    def begin(self, *, derived: bool = False) -> Iterator[Change]:
        """Commit at the end of the block; nothing is changed where it raises.

        derived : only what follows from the entries is changed; else the note of the last request goes.
        """
        connection = self.table.connection
        with self.table.told():
            connection.execute("BEGIN IMMEDIATE")
        try:
            self.table.reload()
            self._state = dict(self.table.state)
            if not derived and "request" in self._state:
                self._state["request"] = None
            yield self
            with self.table.told():
                self._settle_bereft()
                self._write_dead()
                self._write_state()
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
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

    def add(
        self, sequences: Sequence[NewSequence], *, file: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Tell of new sequences; gives the vectors and records that must be on disk before the commit.

        Raises ProfileError where a genome has an id already.
        """
        before = int(self._state["next_genome"])
        self._note_equal([one.id for one in sequences])
        numbers = self._genome_numbers([one.genome for one in sequences])
        self._known_genomes = {number for number in numbers.values() if number < before}
        vectors, records, first = [], [], self.rows
        width = len(FIXED) + len(self.table.columns)
        insert = f"INSERT INTO entries VALUES ({', '.join('?' * width)})"
        for one in sequences:
            number, genome = self._next("next_entry"), numbers[one.genome]
            known = {name.lower(): value for name, value in one.values.items()}
            values = [known.get(name.lower()) for name in self.table.columns]
            new = Entry(
                number, one.id, one.length, one.gc, tuple(values), genome, first, len(one.vectors), file
            )
            line = (number, new.checksum(), one.id, genome, first, len(one.vectors), file, one.length, one.gc)
            self._insert(insert, (*line, *values), one)
            vectors.append(one.vectors)
            records.append(_records(one, number, genome))
            first += len(one.vectors)
            if one.letters is not None:
                self._execute("INSERT INTO letters VALUES (?, ?, ?, ?)", (number, *one.letters))
        self._state["entries"] += len(sequences)
        self.mark_stale(self._with_means(sequences, numbers))
        return self._append(vectors, records)

    def delete(self, entries: Iterable[Entry]) -> None:
        """Tell that entries are gone, and their genomes with the last of them.

        The mean vector of a genome that has others goes too: it is of what is not there any more.
        """
        gone = list(entries)
        for part in parts_of([one.number for one in gone]):
            marks = ",".join("?" * len(part))
            self._execute(f"DELETE FROM entries WHERE _entry IN ({marks})", part)
            self._execute(f"DELETE FROM letters WHERE entry IN ({marks})", part)
        self._dead.extend(np.arange(one.first, one.first + one.rows) for one in gone)
        self._state["entries"] -= len(gone)
        # Their files may be added again.
        for file in {one.file for one in gone if one.file is not None}:
            self.file_progress(file, 0)
        self._bereft.update(one.genome for one in gone)

    def set_values(self, entry: Entry, values: Sequence[Any]) -> None:
        """Replace the metadata of an entry, one value a column of the table."""
        crc = entry._replace(values=tuple(values)).checksum()
        names = "".join(f", {quoted(name)} = ?" for name in self.table.columns)
        self._execute(
            f"UPDATE entries SET _crc = ?{names} WHERE _entry = ?",
            (crc, *values, entry.number),
        )

    def rehome(
        self, moved: Sequence[tuple[Entry, int]], vectors: NDArray[np.float32], records: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Move entries to other genomes: their rows, (m, dim) and (m,), are written anew at the end.

        Gives vectors and records as `add`.
        """
        first, told = self.rows, records.copy()
        at = 0
        for entry, genome in moved:
            told["genome"][at : at + entry.rows] = genome
            self._dead.append(np.arange(entry.first, entry.first + entry.rows))
            line = entry._replace(genome=genome, first=first + at)
            values = (line.checksum(), genome, first + at, entry.number)
            try:
                self._execute("UPDATE entries SET _crc = ?, _genome = ?, _first = ? WHERE _entry = ?", values)
            except FormatError as error:
                if isinstance(error.__cause__, sqlite3.IntegrityError):
                    raise self._is_taken(entry, genome) from None
                raise
            at += entry.rows
            self._bereft.add(entry.genome)
            self.mark_stale((genome,))
        return self._append([vectors], [told])

    def add_file(self, path: str, sha256: str, genome: str | None, prefix: str = "") -> int:
        """Note a file that entries will come from; gives its number."""
        with self.table.told():
            sql = "INSERT INTO files (path, sha256, genome, whole, prefix) VALUES (?, ?, ?, 0, ?)"
            return int(self.table.connection.execute(sql, (path, sha256, genome, prefix)).lastrowid or 0)

    def file_progress(self, number: int, records: int) -> None:
        """Note how many records of a file are done, -1 for all."""
        self._execute("UPDATE files SET whole = ? WHERE file = ?", (records, number))

    def forget_file(self, number: int) -> None:
        """Take out the note of a file that no entry is of."""
        self._execute("DELETE FROM files WHERE file = ?", (number,))

    def add_columns(self, names: Iterable[str]) -> None:
        """Add columns of metadata; the lines of all entries have to be written anew (`set_values`)."""
        for name in names:
            self._execute(f"ALTER TABLE entries ADD COLUMN {quoted(name)}", ())
            self.table.columns = (*self.table.columns, name)

    def mark_stale(self, genomes: Iterable[int]) -> None:
        """Note that the mean vectors of genomes have to be computed anew."""
        for number in genomes:
            self._execute("INSERT OR IGNORE INTO stale VALUES (?)", (number,))

    def set_genomes(
        self, means: Mapping[int, NDArray[np.float32] | None]
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Replace the mean vectors of genomes (None: it has none) and note that they are fresh.

        A genome without entries is taken out. Gives vectors and records as `add`.
        """
        vectors, records = [], []
        label = self.rows
        for number, mean in means.items():
            (name, old) = self._one("SELECT name, label FROM genomes WHERE genome = ?", number)
            if old is not None:
                self._dead.append(np.array([old], dtype=np.int64))
            self._execute("DELETE FROM stale WHERE genome = ?", (number,))
            if not self._one("SELECT COUNT(*) FROM entries WHERE _genome = ?", number)[0]:
                self._execute("DELETE FROM genomes WHERE genome = ?", (number,))
                self._state["genomes"] -= 1
                continue
            new = None if mean is None else label
            told = (number, name, new)
            self._execute(
                "UPDATE genomes SET crc = ?, label = ? WHERE genome = ?", (line_checksum(*told), new, number)
            )
            if mean is not None:
                vectors.append(mean[None])
                records.append(np.array([(-1, number, 0, 0, GENOME)], dtype=ROW))
                label += 1
        return self._append(vectors, records)

    def _settle_bereft(self) -> None:
        """Take out genomes without an entry left, and mean vectors that count entries which are gone.

        With the commit, so that no reader meets a genome that is nothing, or a vector of what is deleted.
        """
        connection = self.table.connection
        for part in parts_of(sorted(self._bereft)):
            marks = ",".join("?" * len(part))
            sql = f"SELECT DISTINCT _genome FROM entries WHERE _genome IN ({marks})"
            left = {one for (one,) in connection.execute(sql, part)}
            sql = f"SELECT genome, name, label FROM genomes WHERE genome IN ({marks})"
            known = connection.execute(sql, part).fetchall()
            labels = [label for _, _, label in known if label is not None]
            self._dead.append(np.array(labels, dtype=np.int64))
            gone = [(number,) for number, _, _ in known if number not in left]
            connection.executemany("DELETE FROM genomes WHERE genome = ?", gone)
            connection.executemany("DELETE FROM stale WHERE genome = ?", gone)
            self._state["genomes"] -= len(gone)
            kept = [
                (line_checksum(number, name, None), number) for number, name, _ in known if number in left
            ]
            connection.executemany("UPDATE genomes SET crc = ?, label = NULL WHERE genome = ?", kept)
            self.mark_stale(left)

    def move_rows(self, new_label: NDArray[np.int64], blocks: Iterable[Block], generation: int) -> None:
        """Tell where all rows stand in the files of another generation; `new_label` (rows,): -1 for gone."""
        after = -1
        while page := self.table.page(after, 4096):
            for one in page:
                line = one._replace(first=int(new_label[one.first]))
                self._execute(
                    "UPDATE entries SET _crc = ?, _first = ? WHERE _entry = ?",
                    (line.checksum(), line.first, one.number),
                )
            after = page[-1].number
        for genome in self.table.genomes().values():
            if genome.label is not None:
                label = int(new_label[genome.label])
                crc = line_checksum(genome.number, genome.name, label)
                self._execute(
                    "UPDATE genomes SET crc = ?, label = ? WHERE genome = ?", (crc, label, genome.number)
                )
        self._execute("DELETE FROM blocks", ())
        rows = 0
        for block in blocks:
            self._execute("INSERT INTO blocks VALUES (?, ?, ?)", tuple(block))
            rows += block.rows
        self._execute("DELETE FROM dead", ())
        self._state |= {"dead": 0, "dead_crc": 0, "rows": rows, "generation": generation}

    def move_letters(self, places: Mapping[int, tuple[int, int, int]], end: int) -> None:
        """Tell where kept letters stand in the file of another generation, which has `end` bytes."""
        for number, place in places.items():
            self._execute(
                "UPDATE letters SET offset = ?, bytes = ?, crc = ? WHERE entry = ?", (*place, number)
            )
        self._state["letters"] = end

    def _append(
        self, vectors: list[NDArray[np.float32]], records: list[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        if not records:
            return np.empty((0, 0), np.float32), np.empty(0, ROW)
        block, told = np.concatenate(vectors), np.concatenate(records)
        self._execute(
            "INSERT INTO blocks VALUES (?, ?, ?)", (self.rows, len(told), row_checksum(block, told))
        )
        self._state["rows"] = self.rows + len(told)
        return block, told

    def _genome_numbers(self, names: Iterable[str]) -> dict[str, int]:
        wanted, known = list(dict.fromkeys(names)), dict[str, int]()
        for part in parts_of(wanted):
            sql = f"SELECT name, genome FROM genomes WHERE name IN ({','.join('?' * len(part))})"
            known.update(self.table.connection.execute(sql, part))
        for name in wanted:
            if name not in known:
                number = self._next("next_genome")
                told = (number, name, None)
                self._execute(
                    "INSERT INTO genomes VALUES (?, ?, ?, ?)", (number, line_checksum(*told), name, None)
                )
                self._state["genomes"] += 1
                known[name] = number
        return known

    def _with_means(self, sequences: Sequence[NewSequence], numbers: Mapping[str, int]) -> set[int]:
        """Genomes of several vectors: one of a single vector needs no mean."""
        vectors = Counter[int]()
        for one in sequences:
            vectors[numbers[one.genome]] += len(one.vectors)
        return self._known_genomes | {number for number, count in vectors.items() if count > 1}

    def genome_number(self, name: str) -> int:
        """The number of a genome, which is made where there is none of that name."""
        return self._genome_numbers([name])[name]

    def _next(self, counter: str) -> int:
        number = int(self._state[counter])
        self._state[counter] = number + 1
        return number

    def _note_equal(self, ids: list[str]) -> None:
        """Note where ids are not unique any more, so that names are looked at more closely from now on."""
        if self._state.get("equal_ids"):
            return
        equal = len(set(ids)) < len(ids)
        for part in parts_of(ids):
            sql = f"SELECT 1 FROM entries WHERE id IN ({','.join('?' * len(part))}) LIMIT 1"
            equal = equal or self.table.connection.execute(sql, part).fetchone() is not None
        if equal:
            self._state["equal_ids"] = True

    def _insert(self, sql: str, values: tuple[Any, ...], sequence: NewSequence) -> None:
        try:
            self.table.connection.execute(sql, values)
        except sqlite3.IntegrityError:
            raise self._is_there(sequence) from None

    def _is_taken(self, entry: Entry, genome: int) -> ProfileError:
        (name,) = self._one("SELECT name FROM genomes WHERE genome = ?", genome)
        return ProfileError(
            f"the genome {name!r} has a sequence {entry.id!r} already",
            "another one of that id is to move there",
            "is the genome of this id right in the metadata?",
        )

    def _is_there(self, sequence: NewSequence) -> ProfileError:
        held = holders_of(self.table, [sequence.id]).get(sequence.id, ())
        path = next((one.path for one in held if one.genome == sequence.genome), None)
        of = "" if sequence.genome == sequence.id else f" of the genome {sequence.genome!r}"
        return ProfileError(
            f"the id {sequence.id!r}{of} is in the index already" + (f", from {path}" if path else ""),
            "a genome has one sequence of an id",
            "another sample: --prefix or --sample-from-file; another genome: --genome; else kinmer db update",
        )

    def _execute(self, sql: str, values: Sequence[Any]) -> None:
        with self.table.told():
            self.table.connection.execute(sql, values)

    def _one(self, sql: str, value: Any) -> tuple[Any, ...]:
        with self.table.told():
            found: tuple[Any, ...] = self.table.connection.execute(sql, (value,)).fetchone()
        return found

    def _write_dead(self) -> None:
        new = np.concatenate(self._dead) if self._dead else np.empty(0, np.int64)
        if not new.size:
            return
        connection = self.table.connection
        connection.executemany("INSERT INTO dead VALUES (?)", ((one,) for one in new.tolist()))
        every = connection.execute("SELECT label FROM dead ORDER BY label").fetchall()
        labels = np.fromiter((one for (one,) in every), dtype=np.int64, count=len(every))
        self._state |= {"dead": len(labels), "dead_crc": zlib.crc32(labels.data)}

    def _write_state(self) -> None:
        self._state["epoch"] += 1
        for name, fact in self._state.items():
            text = json.dumps(fact)
            self.table.connection.execute(
                "INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (name, text, line_checksum(name, text))
            )


def _records(sequence: NewSequence, number: int, genome: int) -> NDArray[Any]:
    """Records of its rows: the whole, then the pieces."""
    records = np.zeros(len(sequence.vectors), dtype=ROW)
    records["entry"], records["genome"] = number, genome
    records["kind"] = PIECE
    records[0] = (number, genome, 0, sequence.length or 0, WHOLE)
    for at, (start, stop) in enumerate(sequence.spans, 1):
        records[at] = (number, genome, start, stop, PIECE)
    return records
