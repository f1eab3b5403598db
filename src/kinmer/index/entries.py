"""The entries of an index: an SQLite table of label, id, length, GC and metadata. Its commit is the index's.

A vector exists when the committed ``state`` of this table counts its row; the blocks it was written in are
kept with their checksums.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, ProfileError

__all__ = ["Block", "Entry", "EntryTable", "column_list", "quoted"]

# Values bound at once: the smallest limit of an SQLite of these years is 999.
BOUND = 900


class Entry(NamedTuple):
    """One entry; `values`: its metadata in the order of the index's columns."""

    label: int
    id: str
    length: int | None
    gc: float | None
    values: tuple[Any, ...]


class Block(NamedTuple):
    """Rows that were committed together, and the CRC-32 of their vectors."""

    first: int
    rows: int
    checksum: int


class EntryTable:
    """The table in the file `path`; readers open it read-only.

    Raises FormatError where the file is missing or damaged, here and whenever it is read.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        if not path.is_file():
            raise FormatError("the table of entries is missing", "was the index copied whole?", place=path)
        uri = f"file:{quote(str(path.absolute()))}?mode={'rw' if writable else 'ro'}"
        # SQLite serialises calls itself; a search may come from any thread.
        self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        with self._told():
            if writable:
                self._connection.execute("PRAGMA synchronous = FULL")
            self.state = self._read_state()
            described = self._connection.execute('SELECT * FROM "entries" LIMIT 0').description
        self.columns = tuple(str(one[0]) for one in described)[4:]

    @classmethod
    def create(cls, path: Path, columns: Sequence[str], state: dict[str, Any]) -> EntryTable:
        """A new table with these metadata columns; `state`: JSON-able facts that are kept beside."""
        connection = sqlite3.connect(path)
        names = "".join(f", {quoted(name)}" for name in columns)
        with connection:
            connection.execute("CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
            connection.execute(
                "CREATE TABLE blocks "
                "(first INTEGER PRIMARY KEY, rows INTEGER NOT NULL, checksum INTEGER NOT NULL)"
            )
            connection.execute(
                "CREATE TABLE entries "
                f"(label INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, length INTEGER, gc REAL{names})"
            )
            facts = {"rows": 0, "epoch": 0, **state}
            connection.executemany(
                "INSERT INTO state VALUES (?, ?)", ((name, json.dumps(fact)) for name, fact in facts.items())
            )
        connection.close()
        return cls(path, writable=True)

    def __len__(self) -> int:
        return self.rows

    @property
    def rows(self) -> int:
        """Committed rows of the vector file."""
        return int(self.state["rows"])

    @property
    def epoch(self) -> int:
        """Number of commits: what was derived at another epoch lags behind."""
        return int(self.state["epoch"])

    def append(self, insert: str, rows: Iterable[Sequence[Any]], *, count: int, checksum: int) -> None:
        """Commit `count` rows, given as values of the statement `insert`, together with their block.

        Raises ProfileError where an id is there already.
        """
        first, connection = self.rows, self._connection
        changed = {"rows": first + count, "epoch": self.epoch + 1}
        with self._told():
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(insert, rows)
                connection.execute("INSERT INTO blocks VALUES (?, ?, ?)", (first, count, checksum))
                for name, fact in changed.items():
                    connection.execute("UPDATE state SET value = ? WHERE name = ?", (json.dumps(fact), name))
                connection.execute("COMMIT")
            except BaseException as error:
                connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.IntegrityError):
                    raise ProfileError(
                        f"an id from row {first + 1} on is in the index already", "ids must be unique"
                    ) from error
                raise
        self.state.update(changed)

    def fetch(self, labels: NDArray[np.int64]) -> dict[int, Entry]:
        """The entries of these labels, by label; FormatError where one is missing."""
        wanted = np.unique(labels).tolist()
        found: dict[int, Entry] = {}
        with self._told():
            for part in _parts(wanted):
                sql = f"SELECT * FROM entries WHERE label IN ({','.join('?' * len(part))})"
                for label, name, length, gc, *values in self._connection.execute(sql, part):
                    found[label] = Entry(label, name, length, gc, tuple(values))
        if len(found) != len(wanted):
            gone = next(label for label in wanted if label not in found)
            raise FormatError(f"the entry {gone} is missing", "the table is damaged", place=self.path)
        return found

    def labels_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Labels (n,) of ids, -1 for those that are no entry."""
        known: dict[str, int] = {}
        with self._told():
            for part in _parts(list(dict.fromkeys(ids))):
                sql = f"SELECT id, label FROM entries WHERE id IN ({','.join('?' * len(part))})"
                known.update(self._connection.execute(sql, part))
        return np.fromiter((known.get(one, -1) for one in ids), dtype=np.int64, count=len(ids))

    def blocks(self) -> list[Block]:
        """All committed blocks in order; FormatError where they do not cover the rows."""
        with self._told():
            found = [Block(*row) for row in self._connection.execute("SELECT * FROM blocks ORDER BY first")]
        edge = 0
        for block in found:
            if block.first != edge:
                break
            edge += block.rows
        if edge != self.rows:
            raise FormatError("blocks of entries are missing", "the table is damaged", place=self.path)
        return found

    def scan(self) -> Iterator[Entry]:
        """All entries by label."""
        with self._told():
            for label, name, length, gc, *values in self._connection.execute(
                "SELECT * FROM entries ORDER BY label"
            ):
                yield Entry(label, name, length, gc, tuple(values))

    def attach(self, path: Path, name: str) -> None:
        """Make the tables of another SQLite file readable in statements, as ``name.table``."""
        with self._told():
            self._connection.execute(f"ATTACH DATABASE ? AS {quoted(name)}", (str(path),))

    def count_staged(self) -> int:
        """Number of entries whose id is in the staged metadata that were attached."""
        with self._told():
            sql = "SELECT COUNT(*) FROM entries WHERE id IN (SELECT id FROM staged.metadata)"
            (count,) = self._connection.execute(sql).fetchone()
        return int(count)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _read_state(self) -> dict[str, Any]:
        state = {name: json.loads(fact) for name, fact in self._connection.execute("SELECT * FROM state")}
        if not {"rows", "epoch", "index"} <= state.keys():
            raise ValueError("its state is incomplete")
        return state

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite says of a damaged file into a FormatError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                raise OSError(28, "No space left on device", str(self.path)) from error
            raise FormatError("the table of entries cannot be used", str(error), place=self.path) from error
        except (sqlite3.DatabaseError, ValueError) as error:
            raise FormatError("the table of entries is damaged", str(error), place=self.path) from error


def quoted(name: str) -> str:
    """An SQL name, whatever its letters."""
    return '"' + name.replace('"', '""') + '"'


def column_list(names: Sequence[str]) -> str:
    """Quoted names with commas between."""
    return ", ".join(quoted(name) for name in names)


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    return (values[start : start + BOUND] for start in range(0, len(values), BOUND))
