"""Metadata of sequences from a table with tabs, staged in SQLite: millions of rows never lie in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinmer.errors import InputError

__all__ = ["KNOWN", "MISSING", "RESERVED", "Metadata", "stage_metadata"]

# Columns that an index has from counting, and names that its own output uses.
KNOWN = ("length", "gc", "bases")
RESERVED = ("label", "id", "query_id", "rank", "hit_id", "distance")
MISSING = frozenset(("", "."))
ID_NAMES = ("id", "sequence_id")
# SQLite's own limit is 2,000 columns.
MOST_COLUMNS = 1000


@dataclass(frozen=True)
class Metadata:
    """A staged table: table ``metadata`` of the SQLite file `database`, with the columns id, line, c0, c1, …

    ``columns``: what c0, c1, … are called; all but the id and those that are known (`left_out`): an index
    takes them from the sequences themselves.
    """

    database: Path
    columns: tuple[str, ...]
    left_out: tuple[str, ...]
    rows: int

    def matches(self, ids: Sequence[str]) -> bool:
        """Whether the table has any of these ids."""
        connection = sqlite3.connect(self.database)
        try:
            return any(
                connection.execute("SELECT 1 FROM metadata WHERE id = ?", (one,)).fetchone() for one in ids
            )
        finally:
            connection.close()


def stage_metadata(path: str | Path, database: Path, *, known: Sequence[str] = KNOWN) -> Metadata:
    """Read the table `path` into a new SQLite file `database`; columns of `known` are left out.

    The table: UTF-8, fields between tabs, a header line. Ids stand in the column ``id``, else
    ``sequence_id``, else the first. Empty fields and ``.`` are missing values, as are fields that a line
    lacks at its end.

    Raises InputError with the line: no file, no header, two columns of one name, too many fields, an id that
    is missing or occurs twice.
    """
    path = Path(path)
    lines = _lines(path)
    header = next(lines, None)
    if header is None or len(header[1]) < 1 or not any(header[1]):
        raise InputError("the metadata are empty", "a header line is expected", place=path)
    names = header[1]
    lower = [name.lower() for name in names]
    key = next((lower.index(name) for name in ID_NAMES if name in lower), 0)
    _check_header(names, key, path)
    kept = [place for place, name in enumerate(names) if place != key and lower[place] not in known]
    columns = tuple(names[place] for place in kept)
    database.unlink(missing_ok=True)
    connection = sqlite3.connect(database)
    try:
        # Nothing here must outlive a crash: the next run stages the table again.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        # Numbered names: the table's own may be any, `line` among them.
        listed = "".join(f", c{number}" for number in range(len(columns)))
        connection.execute(f"CREATE TABLE metadata (id TEXT PRIMARY KEY, line INTEGER{listed}) WITHOUT ROWID")
        insert = f"INSERT INTO metadata VALUES ({', '.join('?' * (len(columns) + 2))})"
        rows = 0
        for number, fields in lines:
            _insert(connection, insert, number, fields, key, kept, len(names), path)
            rows += 1
        connection.commit()
    finally:
        connection.close()
    left_out = tuple(name for place, name in enumerate(names) if place != key and lower[place] in known)
    return Metadata(database, columns, left_out, rows)


def _insert(
    connection: sqlite3.Connection,
    insert: str,
    number: int,
    fields: list[str],
    key: int,
    kept: list[int],
    width: int,
    path: Path,
) -> None:
    place = f"{path}, line {number}"
    if len(fields) > width:
        raise InputError(
            f"{len(fields)} fields, the header has {width}", check="is it separated by tabs?", place=place
        )
    name = fields[key] if key < len(fields) else ""
    if not name:
        raise InputError("the id is missing", place=place)
    values = [fields[at] if at < len(fields) and fields[at] not in MISSING else None for at in kept]
    try:
        connection.execute(insert, (name, number, *values))
    except sqlite3.IntegrityError:
        (first,) = connection.execute("SELECT line FROM metadata WHERE id = ?", (name,)).fetchone()
        raise InputError(
            f"the id {name!r} occurs twice (first in line {first})",
            "it is not clear which line to believe",
            place=place,
        ) from None


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of every line that is not blank."""
    try:
        # Lines end with a line feed only: fields may hold any other of Unicode's line ends.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                text = line.removesuffix("\n").removesuffix("\r")
                if "\x00" in text:
                    raise InputError("the file is no text", place=f"{path}, line {number}")
                if text.strip():
                    yield number, [field.strip() for field in text.split("\t")]
    except UnicodeDecodeError as error:
        raise InputError("the file is no UTF-8 text", str(error), place=path) from error
    except FileNotFoundError:
        raise InputError("no such file", check="is the path right?", place=path) from None
    except IsADirectoryError:
        raise InputError("this is a folder", "metadata are a table in a file", place=path) from None


def _check_header(names: list[str], key: int, path: Path) -> None:
    place = f"{path}, line 1"
    if len(names) > MOST_COLUMNS:
        raise InputError(f"{len(names)} columns, {MOST_COLUMNS} are possible", place=place)
    seen: set[str] = set()
    for name in names:
        if not name:
            raise InputError("a column has no name", check="is the first line the header?", place=place)
        # SQLite, where the columns go, does not tell upper case from lower case.
        if name.lower() in seen:
            raise InputError(f"the column {name!r} occurs twice", "case does not count", place=place)
        seen.add(name.lower())
    taken = [name for at, name in enumerate(names) if at != key and name.lower() in RESERVED]
    if taken:
        raise InputError(
            f"the column name {taken[0]!r} is taken",
            "hits have a column of that name",
            "rename it",
            place=place,
        )
