"""Tables of metadata, as users have them and as NCBI and GTDB write them, staged in SQLite with their ranks.

Rows never lie in memory.
"""

from __future__ import annotations

import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from kinmer.errors import InputError, UsageError
from kinmer.library.genomes import read_table
from kinmer.library.packages import is_report, is_taxonomy, read_reports
from kinmer.taxonomy import (
    RANKS,
    Lineage,
    Taxdump,
    is_lineage,
    normal_accession,
    parse_lineage,
    rank_columns,
    rule_of,
)

# The first of these that holds lineages is taken.
LINEAGE_NAMES = ("gtdb_taxonomy", "gtdb_classification", "classification", "taxonomy", "lineage")
TAXID_NAMES = ("taxid", "tax_id", "ncbi_taxid", "taxonomy_id", "organism taxonomic id")
_NONE: Lineage = (None,) * len(RANKS)
# What GTDB-Tk writes of a genome that it placed nowhere, such as "Unclassified Bacteria".
_UNCLASSIFIED = re.compile(r"unclassified.*", re.IGNORECASE)
# Tables made by way of floating-point columns have a point in whole numbers.
_TAXID = re.compile(r"(\d+)(?:\.0)?", re.ASCII)

Row = Sequence[str | None]


class Ranks(ABC):
    """Gives the ranks of lines that a table has no column for: ``missing``, at these places of RANKS."""

    def __init__(self, names: Sequence[str]) -> None:
        there = rank_columns(names)
        self.places = [at for at, rank in enumerate(RANKS) if rank not in there]
        self.missing = tuple(RANKS[at] for at in self.places)

    def of(self, row: Row, place: str) -> list[str | None]:
        """Names at the missing ranks in a line, which stands at `place`."""
        lineage = self.lineage(row, place) if self.places else _NONE
        return [lineage[at] for at in self.places]

    @abstractmethod
    def lineage(self, row: Row, place: str) -> Lineage:
        """Names at all ranks in a line."""

    def found(self) -> tuple[str, ...]:
        """The missing ranks, if the lines so far had any."""
        return self.missing


def ranks_of(names: Sequence[str], key: int, taxdump: Path | None, path: Path) -> Ranks:
    """What gives the ranks of a table with these columns, the id at `key`.

    With a taxdump its taxids do, in a column called taxid, tax_id, ncbi_taxid or taxonomy_id. Without, the
    first column does that is called gtdb_taxonomy, gtdb_classification, classification, taxonomy or lineage
    and holds lineages in GTDB's form; other texts in such columns are texts.

    Raises InputError for a taxdump where there is no column of taxids, and as `Taxdump`.
    """
    if taxdump is None:
        return _Lineages(names, key)
    column = taxid_column(names)
    if column is None:
        raise InputError(
            "the metadata have no column of taxids",
            "the taxdump would be of no use",
            f"it may be called {', '.join(TAXID_NAMES[:-1])}",
            place=path,
        )
    return _Taxids(names, column, Taxdump(taxdump))


def taxid_column(names: Sequence[str]) -> int | None:
    """Which column holds NCBI's taxids; None for none."""
    lower = [name.lower() for name in names]
    return next((lower.index(name) for name in TAXID_NAMES if name in lower), None)


def taxid_of(text: str, place: str | None) -> int:
    """A taxid as tables have it; InputError where it is none."""
    found = _TAXID.fullmatch(text)
    if found is None or len(found[1]) > 18:
        raise InputError(f"{text[:80]!r} is not a taxid", "NCBI's are whole numbers", place=place)
    return int(found[1])


class _Taxids(Ranks):
    def __init__(self, names: Sequence[str], column: int, taxdump: Taxdump) -> None:
        super().__init__(names)
        self._column, self._taxdump = column, taxdump

    def lineage(self, row: Row, place: str) -> Lineage:
        text = row[self._column]
        return _NONE if text is None else self._taxdump.lineage(taxid_of(text, place), place=place)


class _Lineages(Ranks):
    """Which column it is shows the first lineage that is met."""

    def __init__(self, names: Sequence[str], key: int) -> None:
        super().__init__(names)
        lower = [name.lower() for name in names]
        places = [lower.index(name) for name in LINEAGE_NAMES if name in lower]
        self._candidates = [at for at in places if at != key]
        self._column: int | None = None
        self._odd: dict[int, tuple[str, str]] = {}
        self._parsed = lru_cache(1 << 14)(parse_lineage)

    def found(self) -> tuple[str, ...]:
        return () if self._column is None else self.missing

    def lineage(self, row: Row, place: str) -> Lineage:
        if self._column is None:
            self._decide(row, place)
            if self._column is None:
                return _NONE
        text = row[self._column]
        if text is None or _UNCLASSIFIED.fullmatch(text):
            return _NONE
        try:
            return self._parsed(text)
        except InputError as error:
            raise InputError(error.what, error.why, error.check, place=place) from None

    def _decide(self, row: Row, place: str) -> None:
        for at in self._candidates:
            text = row[at]
            if text is None:
                continue
            if is_lineage(text):
                if at in self._odd:
                    odd, where = self._odd[at]
                    raise InputError(
                        f"{odd[:80]!r} is not a lineage",
                        f"others of its column are, as in {place}",
                        place=where,
                    )
                self._column = at
                return
            if not _UNCLASSIFIED.fullmatch(text):
                self._odd.setdefault(at, (text, place))


ID_NAMES = ("id", "sequence_id", "assembly accession")
# What `dataformat tsv genome` calls the columns that a package's own report gives.
NCBI_NAMES = {
    "organism name": "organism",
    "organism taxonomic id": "taxid",
    "organism infraspecific names strain": "strain",
    "assembly level": "assembly_level",
}
REPORT_NAMES = ("organism", "taxid", "strain", "assembly_level")
# NCBI's assembly_summary files begin with such, and their header with a mark.
_REMARK = re.compile(r"##|#\s")

Rows = Iterator[tuple[int, list[str]]]


class Table(NamedTuple):
    """Names of the columns, which of them is the id, number and fields of every line, the header's number."""

    names: list[str]
    key: int
    rows: Rows
    header: int = 1


def open_table(path: Path) -> Table:
    """The table in a file, plain or gzip.

    - A table: UTF-8, fields between tabs, a header line. Ids stand in the column ``id``, else
      ``sequence_id``, else ``Assembly Accession``, else the first. Lines before the header that begin with
      ``##`` or ``# `` are remarks; a ``#`` before its first name is none of it.
    - What NCBI's ``dataformat tsv genome`` writes: its columns Organism Name, Organism Taxonomic ID, Organism
      Infraspecific Names Strain and Assembly Level are called organism, taxid, strain and assembly_level.
    - ``assembly_data_report.jsonl`` of NCBI Datasets: the same columns by accession.
    - GTDB's taxonomies, which have no header: accession and lineage.

    Raises InputError where there is no file, no text or no header, FormatError for a damaged report; so do
    the rows, with the line.
    """
    if is_taxonomy(path):
        return Table(["id", "gtdb_taxonomy"], 0, read_table(path))
    if is_report(path):
        return Table(["id", *REPORT_NAMES], 0, _reports(path))
    lines = read_table(path)
    first = next((line for line in lines if not _REMARK.match(line[1][0])), None)
    if first is None or not any(first[1]):
        raise InputError("the metadata are empty", "a header line is expected", place=path)
    number, names = first
    if names[0].startswith(">"):
        raise InputError(
            "this is FASTA, not a table of metadata",
            "a header line is expected",
            "were files exchanged?",
            place=path,
        )
    names[0] = names[0].removeprefix("#")
    lower = [name.lower() for name in names]
    key = next((lower.index(name) for name in ID_NAMES if name in lower), 0)
    if lower[key] == "assembly accession":
        names = [NCBI_NAMES.get(one, name) for one, name in zip(lower, names, strict=True)]
    return Table(names, key, lines, number)


def _reports(path: Path) -> Rows:
    for number, accession, values in read_reports(path):
        yield number, [accession, *(values.get(name, "") for name in REPORT_NAMES)]


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
    path: str | Path,
    database: Path,
    *,
    known: Sequence[str] = KNOWN,
    taxdump: Path | None = None,
    reserved: Sequence[str] = RESERVED,
) -> Metadata:
    """Read the table `path` into a new SQLite file `database`; columns of `known` are left out.

    `reserved` : names that no column may have.

    The table: see `kinmer.library.metadata.open_table`. Ids are of sequences or of genomes; what GTDB
    puts before an accession (``RS_``, ``GB_``) goes. Which values are missing: see `kinmer.taxonomy.lineage`;
    so are fields that a line lacks at its end.

    Ranks that the table has no column for are added, with `taxdump` (the folder of NCBI's) from its column of
    taxids, else from its column of lineages; see `kinmer.library.metadata.ranks_of`.

    Raises InputError with the line: no file, no header, two columns of one name, too many fields, an id that
    is missing or occurs twice, a lineage that is none, a taxid that the taxdump has not; for a taxdump
    without a column of taxids.
    """
    path = Path(path)
    table = open_table(path)
    _check_header(table, path, reserved)
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


def _check_header(table: Table, path: Path, reserved: Sequence[str]) -> None:
    names, place = table.names, f"{path}, line {table.header}"
    if len(names) > MOST_COLUMNS:
        raise InputError(f"{len(names)} columns, {MOST_COLUMNS} are possible", place=place)
    seen: set[str] = set()
    for name in names:
        if not name:
            raise InputError("a column has no name", check="is the first line the header?", place=place)
        # SQLite, where the columns go, takes upper and lower case as the same.
        if name.lower() in seen:
            raise InputError(f"the column {name!r} occurs twice", "case does not count", place=place)
        seen.add(name.lower())
    taken = [name for at, name in enumerate(names) if at != table.key and name.lower() in reserved]
    if taken:
        raise InputError(
            f"the column name {taken[0]!r} is taken",
            "hits have a column of that name",
            "rename it",
            place=place,
        )
