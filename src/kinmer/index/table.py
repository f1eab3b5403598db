"""The entries of an index: an SQLite file whose commit is the index's.

A row of the vector files exists when the committed ``state`` counts it and ``dead`` does not name it. The
blocks that rows were written in are kept with their checksums. Every line that an answer is made of carries
a checksum of its own, so that a damaged byte is an error and never another answer.

An entry is known by its genome and its id: contigs of two genomes may have one id. Where an id is of one
entry it is that entry's name, else the name is ``genome:id``.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, InputError
from kinmer.inputs import parse_json

__all__ = [
    "FIXED",
    "FORMAT",
    "SEPARATOR",
    "Block",
    "Entry",
    "EntryTable",
    "Genome",
    "Holder",
    "ambiguous",
    "create_table",
    "format_of",
    "holders_of",
    "line_checksum",
    "migrate",
    "names_of",
    "numbers_of",
    "parts_of",
    "quoted",
    "resolved",
]


# 3: an entry is known by its genome and its id, and a file by its prefix too; until 2 ids were unique.
FORMAT = 3
# Values bound at once: the smallest limit of an SQLite of these years is 999.
BOUND = 900
# Columns of ``entries`` before the metadata.
# Underscored, for a table of metadata may have columns of any name but the plain ones.
FIXED = ("_entry", "_crc", "id", "_genome", "_first", "_rows", "_file", "length", "gc")
_SCHEMA = """
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE blocks (first INTEGER PRIMARY KEY, rows INTEGER NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE dead (label INTEGER PRIMARY KEY);
CREATE TABLE genomes (
    genome INTEGER PRIMARY KEY, crc INTEGER NOT NULL, name TEXT NOT NULL UNIQUE, label INTEGER
);
CREATE TABLE stale (genome INTEGER PRIMARY KEY);
CREATE TABLE letters (
    entry INTEGER PRIMARY KEY, offset INTEGER NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE files (
    file INTEGER PRIMARY KEY, path TEXT NOT NULL, sha256 TEXT NOT NULL, genome TEXT, whole INTEGER NOT NULL,
    prefix TEXT NOT NULL DEFAULT ''
);
CREATE INDEX files_path ON files (path);
"""
_INDEXES = (
    "CREATE INDEX entries_genome ON entries (_genome)",
    "CREATE INDEX entries_file ON entries (_file)",
)


def create_table(path: Path, columns: Sequence[str], state: dict[str, Any]) -> None:
    """Make the file `path` with these metadata columns; `state`: JSON-able facts that are kept beside."""
    connection = sqlite3.connect(path)
    with connection:
        connection.executescript(_SCHEMA)
        connection.execute(_entries("entries", columns))
        for sql in _INDEXES:
            connection.execute(sql)
        facts = dict.fromkeys(
            (
                "rows",
                "epoch",
                "generation",
                "entries",
                "genomes",
                "dead",
                "next_entry",
                "next_genome",
                "letters",
            ),
            0,
        )
        for name, fact in {**facts, **state}.items():
            text = json.dumps(fact)
            connection.execute("INSERT INTO state VALUES (?, ?, ?)", (name, text, line_checksum(name, text)))
    connection.close()


def format_of(connection: sqlite3.Connection) -> int:
    """The format of a table, by its columns: 3, or 2."""
    names = {str(line[1]) for line in connection.execute("PRAGMA table_info(files)")}
    return FORMAT if "prefix" in names else 2


def migrate(connection: sqlite3.Connection, columns: Sequence[str]) -> None:
    """Turn a table of format 2 into one of today's, all of it in one transaction. No line is changed."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_entries("entries_3", columns))
        connection.execute("INSERT INTO entries_3 SELECT * FROM entries ORDER BY _entry")
        connection.execute("DROP TABLE entries")
        connection.execute("ALTER TABLE entries_3 RENAME TO entries")
        for sql in _INDEXES:
            connection.execute(sql)
        connection.execute("ALTER TABLE files ADD COLUMN prefix TEXT NOT NULL DEFAULT ''")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _entries(name: str, columns: Sequence[str]) -> str:
    metadata = "".join(f", {quoted(column)}" for column in columns)
    return (
        f"CREATE TABLE {name} (_entry INTEGER PRIMARY KEY, _crc INTEGER NOT NULL, id TEXT NOT NULL, "
        "_genome INTEGER NOT NULL, _first INTEGER NOT NULL, _rows INTEGER NOT NULL, _file INTEGER, "
        f"length INTEGER, gc REAL{metadata}, UNIQUE (id, _genome))"
    )


def line_checksum(*values: Any) -> int:
    """CRC-32 of some values of a line: texts, numbers and None."""
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))


def quoted(name: str) -> str:
    """An SQL name, whatever its letters."""
    return '"' + name.replace('"', '""') + '"'


def parts_of(values: list[Any]) -> Iterator[list[Any]]:
    """The values in parts that SQLite binds at once."""
    return (values[start : start + BOUND] for start in range(0, len(values), BOUND))


# As SemiBin writes sample and contig.
SEPARATOR = ":"
# A name is taken apart at so many separators at most, and so many genomes are listed in a message.
MOST_SPLITS, MOST_LISTED = 32, 5


class Holder(NamedTuple):
    """An entry that has an id: its number, its genome's name, the path of the file that it is from."""

    number: int
    id: str
    genome: str
    path: str | None


def holders_of(table: EntryTable, ids: Iterable[str]) -> dict[str, list[Holder]]:
    """By id the entries that have it, by number; ids of no entry are left out."""
    found: dict[str, list[Holder]] = {}
    with table.told():
        for part in parts_of(list(dict.fromkeys(ids))):
            sql = (
                "SELECT e._entry, e.id, g.name, f.path FROM entries AS e JOIN genomes AS g "
                "ON g.genome = e._genome LEFT JOIN files AS f ON f.file = e._file "
                f"WHERE e.id IN ({','.join('?' * len(part))}) ORDER BY e._entry"
            )
            for line in table.connection.execute(sql, part):
                found.setdefault(line[1], []).append(Holder(*line))
    return found


def numbers_of(
    table: EntryTable, names: Sequence[str], *, genomes: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Numbers (n,) of entries by name (``id``, or ``genome:id``), -1 for those that are no entry.

    genomes : only entries of these genomes, by their ids.

    Raises InputError for a name that several entries go by.
    """
    found = resolved(table, names) if genomes is None else holders_of(table, names)
    numbers = np.full(len(names), -1, dtype=np.int64)
    for at, name in enumerate(names):
        held = [one for one in found.get(name, ()) if genomes is None or one.genome in genomes]
        if len(held) > 1:
            raise ambiguous(table, name, held)
        if held:
            numbers[at] = held[0].number
    return numbers


def resolved(table: EntryTable, names: Sequence[str]) -> dict[str, list[Holder]]:
    """By name all entries that it may mean: those of that id, and ``genome:id`` taken apart."""
    found = holders_of(table, names)
    parts = {name: _splits(name) for name in dict.fromkeys(names) if SEPARATOR in name}
    if not parts:
        return found
    held = holders_of(table, (one for splits in parts.values() for _, one in splits))
    for name, splits in parts.items():
        known = {one.number for one in found.get(name, ())}
        more = [
            one
            for genome, part in splits
            for one in held.get(part, ())
            if one.genome == genome and one.number not in known
        ]
        if more:
            found.setdefault(name, []).extend(more)
    return found


def _splits(name: str) -> list[tuple[str, str]]:
    """Genome and id for every separator that a name may be taken apart at."""
    found, at = list[tuple[str, str]](), name.find(SEPARATOR)
    while at >= 0 and len(found) < MOST_SPLITS:
        found.append((name[:at], name[at + 1 :]))
        at = name.find(SEPARATOR, at + 1)
    return found


def names_of(table: EntryTable, entries: Iterable[Entry]) -> dict[int, str]:
    """By number the name of each entry: its id, or ``genome:id`` where other entries have that id too."""
    given = list(entries)
    if not table.state.get("equal_ids"):
        return {one.number: one.id for one in given}
    equal = set[str]()
    with table.told():
        for part in parts_of(list({one.id for one in given})):
            sql = f"SELECT id FROM entries WHERE id IN ({','.join('?' * len(part))}) GROUP BY id"
            equal.update(one for (one,) in table.connection.execute(f"{sql} HAVING COUNT(*) > 1", part))
    shared = [one for one in given if one.id in equal]
    genomes = table.genomes(np.array([one.genome for one in shared], dtype=np.int64)) if shared else {}
    names = {one.number: f"{genomes[one.genome].name}{SEPARATOR}{one.id}" for one in shared}
    # With separators within genomes and ids a name may be that of several: then the number tells them apart.
    meant = resolved(table, list(names.values()))
    names = {at: name if len(meant[name]) < 2 else f"{name}#{at}" for at, name in names.items()}
    return {one.number: names.get(one.number, one.id) for one in given}


def ambiguous(table: EntryTable, name: str, held: Sequence[Holder]) -> InputError:
    """What to raise for a name that several entries go by."""
    listed = ", ".join(repr(one.genome) for one in held[:MOST_LISTED])
    more = f" and {len(held) - MOST_LISTED:,} more" if len(held) > MOST_LISTED else ""
    return InputError(
        f"{name!r} is in {len(held):,} genomes: {listed}{more}",
        "it does not say which entry is meant",
        f"say {held[0].genome + SEPARATOR + held[0].id!r}, or give its genome and its id",
        place=table.path.parent,
    )


# Seconds that a reader waits for a writer's commit, and a commit for readers.
PATIENCE = 60.0


class Entry(NamedTuple):
    """One sequence. `values`: its metadata in the order of the index's columns. `genome`: a number.

    Its vectors are the rows first … first + rows - 1, that of the whole sequence first. `file`: the number of
    the file that it came from, None for none.
    """

    number: int
    id: str
    length: int | None
    gc: float | None
    values: tuple[Any, ...]
    genome: int
    first: int
    rows: int
    file: int | None = None

    def checksum(self) -> int:
        """Of its line in the table."""
        return line_checksum(
            *(self.number, self.id, self.genome, self.first, self.rows, self.file),
            *(self.length, self.gc, *self.values),
        )


class Genome(NamedTuple):
    """A genome; `label`: the row of its mean vector, None where its only vector is a sequence's."""

    number: int
    name: str
    label: int | None


class Block(NamedTuple):
    """Rows that were committed together, and their checksum (`kinmer.index.rows.row_checksum`)."""

    first: int
    rows: int
    checksum: int


class EntryTable:
    """The table in the file `path`.

    Raises FormatError where the file is missing or damaged, here and whenever it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise FormatError("the table of entries is missing", "was the index copied whole?", place=path)
        # Also for reading: what a killed writer left half done is rolled back by whoever comes next.
        uri = f"file:{quote(str(path.absolute()))}?mode=rw"
        # SQLite serialises calls itself; a search may come from any thread.
        self.connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=PATIENCE
        )
        self._lock, self._depth = threading.RLock(), 0
        try:
            self.reload()
        except BaseException:
            self.connection.close()
            raise

    @classmethod
    def create(cls, path: Path, columns: Sequence[str], state: dict[str, Any]) -> EntryTable:
        """A new table with these metadata columns; `state`: JSON-able facts that are kept beside."""
        create_table(path, columns, state)
        return cls(path)

    def __len__(self) -> int:
        return int(self.state["entries"])

    @property
    def rows(self) -> int:
        """Committed rows of the vector files, dead ones among them."""
        return int(self.state["rows"])

    @property
    def epoch(self) -> int:
        """Number of commits: what was derived at another epoch lags behind."""
        return int(self.state["epoch"])

    @property
    def generation(self) -> int:
        """Of the vector files."""
        return int(self.state["generation"])

    def reload(self) -> None:
        """Read again what another process may have changed: state and columns."""
        with self.told():
            self.state = self._read_state()
            described = self.connection.execute('SELECT * FROM "entries" LIMIT 0').description
        names = tuple(str(one[0]) for one in described)
        if names[: len(FIXED)] != FIXED:
            raise FormatError("the table of entries is damaged", "its columns are others", place=self.path)
        self.columns = names[len(FIXED) :]

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read inside is of one commit; a writer's next commit waits for the end of it."""
        with self._lock:
            if self._depth == 0 and not self.connection.in_transaction:
                with self.told():
                    self.connection.execute("BEGIN")
                opened = True
            else:
                opened = False
            self._depth += 1
            try:
                if opened:
                    self.reload()
                yield
            finally:
                self._depth -= 1
                if opened:
                    self.connection.execute("ROLLBACK")

    def prove(self) -> None:
        """Read all of the file; FormatError where its pages and indexes do not belong together.

        Without this a damaged index of ids could hide an entry that is there.
        """
        with self.told():
            (said,) = self.connection.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            raise FormatError(
                "the table of entries is damaged",
                str(said),
                "copy the index again, or build it again",
                place=self.path,
            )

    def fetch(self, numbers: NDArray[np.int64]) -> dict[int, Entry]:
        """The entries of these numbers; FormatError where one is missing."""
        wanted = np.unique(numbers).tolist()
        found: dict[int, Entry] = {}
        for part in parts_of(wanted):
            sql = f"SELECT * FROM entries WHERE _entry IN ({','.join('?' * len(part))})"
            found.update((one.number, one) for one in self._entries(sql, part))
        if len(found) != len(wanted):
            gone = next(number for number in wanted if number not in found)
            raise FormatError(f"the entry {gone} is missing", "the table is damaged", place=self.path)
        return found

    def numbers_of(self, names: Sequence[str], *, genomes: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Numbers (n,) of entries by name, -1 for no entry; see `kinmer.index.table.numbers_of`."""
        return numbers_of(self, names, genomes=genomes)

    def contains(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) whether there are entries of these numbers."""
        found = set[int]()
        with self.told():
            for part in parts_of(np.unique(numbers).tolist()):
                sql = f"SELECT _entry FROM entries WHERE _entry IN ({','.join('?' * len(part))})"
                found.update(one for (one,) in self.connection.execute(sql, part))
        return np.isin(numbers, list(found))

    def equal_ids(self) -> list[str]:
        """Ids that several entries have, in order."""
        if not self.state.get("equal_ids"):
            return []
        with self.told():
            sql = "SELECT id FROM entries GROUP BY id HAVING COUNT(*) > 1"
            return [one for (one,) in self.connection.execute(sql)]

    def select(self, where: str, values: Sequence[Any] = ()) -> NDArray[np.int64]:
        """Ascending numbers of the entries for which an SQL condition holds.

        The condition may name id, length, gc, the metadata, and ``genome``: the genome's name, unless the
        metadata have a column of that name.
        """
        named = "" if "genome" in {name.lower() for name in self.columns} else ", g.name AS genome"
        sql = (
            f"SELECT _entry FROM (SELECT e.*{named} FROM entries AS e "
            f"JOIN genomes AS g ON g.genome = e._genome) WHERE {where} ORDER BY _entry"
        )
        with self.told():
            found = self.connection.execute(sql, list(values)).fetchall()
        return np.fromiter((one for (one,) in found), dtype=np.int64, count=len(found))

    def genomes(self, numbers: NDArray[np.int64] | None = None) -> dict[int, Genome]:
        """Genomes of these numbers, or all; FormatError where one is missing."""
        found: dict[int, Genome] = {}
        asked: list[list[Any] | None] = (
            [None] if numbers is None else list(parts_of(np.unique(numbers).tolist()))
        )
        with self.told():
            for part in asked:
                sql = "SELECT * FROM genomes"
                sql += "" if part is None else f" WHERE genome IN ({','.join('?' * len(part))})"
                for number, crc, name, label in self.connection.execute(sql, part or []):
                    self._check_line(crc, f"genome {number}", number, name, label)
                    found[number] = Genome(number, name, label)
        lacking = set() if numbers is None else set(np.unique(numbers).tolist()) - found.keys()
        if lacking or (numbers is None and len(found) != self.state["genomes"]):
            raise FormatError("a genome is missing", "the table is damaged", place=self.path)
        return found

    def dead(self) -> NDArray[np.int64]:
        """Ascending labels of rows that are of no entry any more."""
        with self.told():
            found = self.connection.execute("SELECT label FROM dead ORDER BY label").fetchall()
        labels = np.fromiter((one for (one,) in found), dtype=np.int64, count=len(found))
        outside = labels.size and (labels[0] < 0 or labels[-1] >= self.rows)
        if (
            len(labels) != self.state["dead"]
            or outside
            or zlib.crc32(labels.data) != self.state.get("dead_crc", 0)
        ):
            raise FormatError("the list of deleted rows is damaged", place=self.path)
        return labels

    def blocks(self) -> list[Block]:
        """All committed blocks in order; FormatError where they do not cover the rows."""
        with self.told():
            found = [Block(*row) for row in self.connection.execute("SELECT * FROM blocks ORDER BY first")]
        edge = 0
        for block in found:
            if block.first != edge:
                break
            edge += block.rows
        if edge != self.rows:
            raise FormatError("blocks of entries are missing", "the table is damaged", place=self.path)
        return found

    def scan(self) -> Iterator[Entry]:
        """All entries by number; FormatError where their number is not the one that was committed."""
        count = 0
        for entry in self._entries("SELECT * FROM entries ORDER BY _entry", ()):
            count += 1
            yield entry
        if count != len(self):
            raise FormatError("entries are missing", "the table is damaged", place=self.path)

    def page(self, after: int, count: int, *, added: int = 0) -> list[Entry]:
        """The next `count` entries behind a number; the last `added` columns are in no checksum yet."""
        sql = "SELECT * FROM entries WHERE _entry > ? ORDER BY _entry LIMIT ?"
        return list(self._entries(sql, (after, count), added=added))

    def genome_number(self, name: str) -> int | None:
        """The number of the genome called so; None where there is none."""
        with self.told():
            found = self.connection.execute("SELECT genome FROM genomes WHERE name = ?", (name,)).fetchone()
        return None if found is None else int(found[0])

    def members(self, genome: int) -> list[Entry]:
        """The entries of a genome, by number."""
        return list(self._entries("SELECT * FROM entries WHERE _genome = ? ORDER BY _entry", (genome,)))

    def first_members(self, genomes: Sequence[int]) -> dict[int, Entry]:
        """The entry of the lowest number of each genome; FormatError where one has none."""
        found: dict[int, Entry] = {}
        for part in parts_of(list(genomes)):
            least = f"SELECT MIN(_entry) FROM entries WHERE _genome IN ({','.join('?' * len(part))})"
            sql = f"SELECT * FROM entries WHERE _entry IN ({least} GROUP BY _genome)"
            found.update((one.genome, one) for one in self._entries(sql, part))
        if len(found) != len(set(genomes)):
            raise FormatError("a genome has no entry", "the table is damaged", place=self.path)
        return found

    def orphans(self) -> NDArray[np.int64]:
        """Rows of mean vectors whose genomes have no entry left.

        A kinmer of format 2 that was killed behind the commit of a deletion left such for the next writer.
        """
        with self.told():
            found = self.connection.execute(
                "SELECT label FROM genomes JOIN stale USING (genome) WHERE label IS NOT NULL "
                "AND NOT EXISTS (SELECT 1 FROM entries WHERE _genome = genomes.genome)"
            ).fetchall()
        return np.fromiter((one for (one,) in found), dtype=np.int64, count=len(found))

    def emptied(self) -> list[str]:
        """Names of genomes that have no entry."""
        with self.told():
            found = self.connection.execute(
                "SELECT name FROM genomes WHERE NOT EXISTS "
                "(SELECT 1 FROM entries WHERE _genome = genomes.genome) ORDER BY genome"
            )
            return [name for (name,) in found]

    def stale(self, most: int) -> NDArray[np.int64]:
        """At most so many genomes whose mean vectors have to be computed anew."""
        with self.told():
            found = self.connection.execute(
                "SELECT genome FROM stale ORDER BY genome LIMIT ?", (most,)
            ).fetchall()
        return np.fromiter((one for (one,) in found), dtype=np.int64, count=len(found))

    def ids_of_file(self, file: int) -> dict[str, int]:
        """By id the numbers of the entries that came from a file, whose ids are its own."""
        with self.told():
            return dict(self.connection.execute("SELECT id, _entry FROM entries WHERE _file = ?", (file,)))

    def file_of(
        self, path: str, sha256: str, genome: str | None = None, prefix: str = ""
    ) -> tuple[int, int] | None:
        """Number of a source and how many of its records are done (-1: all); None where it is new."""
        with self.told():
            sql = (
                "SELECT file, whole FROM files WHERE path = ? AND sha256 = ? AND genome IS ? "
                f"AND {self._prefix} = ?"
            )
            told = (path, sha256, genome, prefix)
            found: tuple[int, int] | None = self.connection.execute(sql, told).fetchone()
        return found

    def files(self) -> list[tuple[int, str, str, str | None, int]]:
        """Number, path, SHA-256, genome and records done (-1: all) of the files that entries came from."""
        with self.told():
            sql = "SELECT file, path, sha256, genome, whole FROM files ORDER BY file"
            return self.connection.execute(sql).fetchall()

    def prefixes(self) -> dict[int, str]:
        """By number what stands before the ids of a file's own records, for files where anything does."""
        with self.told():
            sql = f"SELECT file, {self._prefix} FROM files WHERE {self._prefix} <> ''"
            return dict(self.connection.execute(sql))

    def known_as(self, path: str) -> tuple[str | None, str]:
        """Genome and prefix that all that came from a path has; None and empty where there are several."""
        with self.told():
            sql = f"SELECT DISTINCT genome, {self._prefix} FROM files WHERE path = ?"
            found: list[tuple[str | None, str]] = self.connection.execute(sql, (path,)).fetchall()
        return found[0] if len(found) == 1 else (None, "")

    @property
    def _prefix(self) -> str:
        """The column of prefixes, which a table of format 2 has not."""
        return "''" if format_of(self.connection) < 3 else "prefix"

    def migrate(self) -> bool:
        """Make it a table of today's format; gives whether it was another."""
        with self.told():
            old = format_of(self.connection) < 3
            if old:
                migrate(self.connection, self.columns)
        return old

    def begun(self) -> list[str]:
        """Paths of the files of which only the first records are in: a call that was cut off."""
        with self.told():
            found = self.connection.execute("SELECT path FROM files WHERE whole > 0 ORDER BY file")
            return [path for (path,) in found]

    def lettered(self) -> NDArray[np.int64]:
        """Numbers of the entries whose letters are kept, in the order of their letters."""
        with self.told():
            found = self.connection.execute("SELECT entry FROM letters ORDER BY offset").fetchall()
        return np.fromiter((one for (one,) in found), dtype=np.int64, count=len(found))

    def letters(self, numbers: NDArray[np.int64]) -> dict[int, tuple[int, int, int]]:
        """Offset, bytes and checksum of the kept letters of these entries; those without are left out."""
        found: dict[int, tuple[int, int, int]] = {}
        with self.told():
            for part in parts_of(np.unique(numbers).tolist()):
                sql = f"SELECT * FROM letters WHERE entry IN ({','.join('?' * len(part))})"
                found.update((one, tuple(rest)) for one, *rest in self.connection.execute(sql, part))
        return found

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def _entries(self, sql: str, values: Sequence[Any], *, added: int = 0) -> Iterator[Entry]:
        with self.told():
            for line in self.connection.execute(sql, values):
                number, crc, name, genome, first, rows, file, length, gc, *rest = line
                kept = tuple(rest[: len(rest) - added])
                entry = Entry(number, name, length, gc, kept, genome, first, rows, file)
                if entry.checksum() != crc:
                    raise self._damaged(f"entry {number}")
                yield entry

    def _check_line(self, crc: int, what: str, *values: Any) -> None:
        if line_checksum(*values) != crc:
            raise self._damaged(what)

    def _damaged(self, what: str) -> FormatError:
        return FormatError(
            f"what is told of {what} is damaged",
            "its checksum is another",
            "copy the index again, or build it again",
            place=self.path,
        )

    def _read_state(self) -> dict[str, Any]:
        state = {}
        for name, value, crc in self.connection.execute("SELECT * FROM state"):
            self._check_line(crc, "the state", name, value)
            state[name] = parse_json(value)
        if not {"rows", "epoch", "index", "entries", "dead", "generation"} <= state.keys():
            raise ValueError("its state is incomplete")
        return state

    def count_from(self, kind: str, number: int) -> int:
        """How many "genomes" or "entries" have this number or a higher one."""
        column = "genome" if kind == "genomes" else "_entry"
        with self.told():
            sql = f"SELECT COUNT(*) FROM {kind} WHERE {column} >= ?"
            (count,) = self.connection.execute(sql, (number,)).fetchone()
        return int(count)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what SQLite says of a damaged file into a FormatError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            # Python raises some of these itself, without a code, as for bytes that are no UTF-8.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                raise OSError(28, "No space left on device", str(self.path)) from error
            raise FormatError("the table of entries cannot be used", str(error), place=self.path) from error
        except (sqlite3.DatabaseError, ValueError, TypeError, OverflowError) as error:
            raise FormatError("the table of entries is damaged", str(error), place=self.path) from error
