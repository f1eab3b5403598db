"""The tables of ``entries.sqlite``, how they are made, and how those of an older format become today's."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["FIXED", "FORMAT", "create_table", "format_of", "line_checksum", "migrate", "parts_of", "quoted"]

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
