"""Metadata of sequences and genomes, staged in SQLite with their ranks; rows never lie in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kinmer.errors import InputError, UsageError
from kinmer.index.metadata_ranks import Ranks, ranks_of
from kinmer.index.metadata_tables import Table, open_table
from kinmer.taxonomy import normal_accession, rule_of

__all__ = ["KNOWN", "RESERVED", "Metadata", "stage_metadata", "staged_metadata"]

# Columns that an index has from counting, and names that its own output uses.
KNOWN = ("length", "gc", "bases")
RESERVED = ("label", "id", "query_id", "rank", "hit_id", "distance")
# SQLite's own limit is 2,000 columns.
MOST_COLUMNS = 1000


@dataclass(frozen=True)
class Metadata:
    """A staged table: table ``metadata`` of the SQLite file `database`, with the columns id, line, c0, c1, …

    ``path`` and ``key``: the table that was read, and its name for the ids.
    ``columns``: what c0, c1, … are called; all but the id and those that are known (`left_out`): an index
    takes them from the sequences themselves. Ids are as `kinmer.taxonomy.normal_accession` gives them.
    """

    database: Path
    columns: tuple[str, ...]
    left_out: tuple[str, ...]
    rows: int
    path: Path
    key: str

    def matches(self, ids: Sequence[str]) -> bool:
        """Whether the table has any of these ids."""
        with closing(sqlite3.connect(self.database)) as connection:
            sql = "SELECT 1 FROM metadata WHERE id = ?"
            return any(connection.execute(sql, (normal_accession(one),)).fetchone() for one in ids)


def staged_metadata(database: Path, path: str | Path | None, taxdump: str | Path | None) -> Metadata | None:
    """`stage_metadata` where there is a table; UsageError for a taxdump without one."""
    if path is not None:
        return stage_metadata(path, database, taxdump=None if taxdump is None else Path(taxdump))
    if taxdump is not None:
        raise UsageError("a taxdump is of no use without metadata", check="give --metadata with taxids")
    return None


def stage_metadata(
    path: str | Path, database: Path, *, known: Sequence[str] = KNOWN, taxdump: Path | None = None
) -> Metadata:
    """Read the table `path` into a new SQLite file `database`; columns of `known` are left out.

    The table: see `kinmer.index.metadata_tables.open_table`. Ids are of sequences or of genomes; what GTDB
    puts before an accession (``RS_``, ``GB_``) goes. Which values are missing: see `kinmer.taxonomy.lineage`;
    so are fields that a line lacks at its end.

    Ranks that the table has no column for are added, with `taxdump` (the folder of NCBI's) from its column of
    taxids, else from its column of lineages; see `kinmer.index.metadata_ranks.ranks_of`.

    Raises InputError with the line: no file, no header, two columns of one name, too many fields, an id that
    is missing or occurs twice, a lineage that is none, a taxid that the taxdump has not; for a taxdump
    without a column of taxids.
    """
    path = Path(path)
    table = open_table(path)
    _check_header(table, path)
    names, key = table.names, table.key
    kept = [at for at, name in enumerate(names) if at != key and name.lower() not in known]
    left_out = tuple(name for at, name in enumerate(names) if at != key and name.lower() in known)
    ranks = ranks_of(names, key, taxdump, path)
    database.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as connection:
        rows = _fill(connection, table, kept, ranks, path)
    columns = (*(names[at] for at in kept), *ranks.found())
    return Metadata(database, columns, left_out, rows, path, names[key])


def _fill(connection: sqlite3.Connection, table: Table, kept: list[int], ranks: Ranks, path: Path) -> int:
    """Write all rows; gives how many."""
    # Nothing here must outlive a crash: the next run stages the table again.
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    # Numbered names: the table's own may be any, `line` among them.
    width = len(kept) + len(ranks.missing)
    listed = "".join(f", c{number}" for number in range(width))
    connection.execute(f"CREATE TABLE metadata (id TEXT PRIMARY KEY, line INTEGER{listed}) WITHOUT ROWID")
    insert = f"INSERT INTO metadata VALUES ({', '.join('?' * (width + 2))})"
    rules = [rule_of(name) for name in table.names]
    rows = 0
    for number, fields in table.rows:
        place = f"{path}, line {number}"
        if len(fields) > len(table.names):
            what = f"{len(fields)} fields, the header has {len(table.names)}"
            raise InputError(what, check="is it separated by tabs?", place=place)
        row: list[str | None] = [rule(one) for rule, one in zip(rules, fields, strict=False)]
        row += [None] * (len(table.names) - len(row))
        name = fields[table.key] if table.key < len(fields) else ""
        if not name:
            raise InputError("the id is missing", place=place)
        name = normal_accession(name)
        values = [row[at] for at in kept]
        try:
            connection.execute(insert, (name, number, *values, *ranks.of(row, place)))
        except sqlite3.IntegrityError:
            raise _twice(connection, name, place) from None
        rows += 1
    connection.commit()
    return rows


def _twice(connection: sqlite3.Connection, name: str, place: str) -> InputError:
    (first,) = connection.execute("SELECT line FROM metadata WHERE id = ?", (name,)).fetchone()
    return InputError(
        f"the id {name!r} occurs twice (first in line {first})",
        "it is not clear which line to believe",
        place=place,
    )


def _check_header(table: Table, path: Path) -> None:
    names, place = table.names, f"{path}, line {table.header}"
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
    taken = [name for at, name in enumerate(names) if at != table.key and name.lower() in RESERVED]
    if taken:
        raise InputError(
            f"the column name {taken[0]!r} is taken",
            "hits have a column of that name",
            "rename it",
            place=place,
        )
