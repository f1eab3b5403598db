"""The entries of an index: an SQLite file whose commit is the index's.

A row of the vector files exists when the committed ``state`` counts it and ``dead`` does not name it. The
blocks that rows were written in are kept with their checksums. Every line that an answer is made of carries
a checksum of its own, so that a damaged byte is an error and never another answer.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.index.manifest import (
    FIXED,
    Blob,
    Block,
    Entry,
    Genome,
    Holder,
    SourceFile,
    create_table,
    format_of,
    line_checksum,
    migrate,
    quoted,
)
from kinmer.inputs import parse_json

# Values bound at once: the smallest limit of an SQLite of these years is 999.
BOUND = 900
# Seconds that a reader waits for a writer's commit and a commit for readers; kB that a writer keeps.
PATIENCE, WRITER_CACHE = 60.0, 65536
# Of genomes: it has no entry.
_EMPTY = "NOT EXISTS (SELECT 1 FROM entries WHERE _genome = genomes.genome)"


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
        # SQLite serializes calls itself; a search may come from any thread.
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

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def reload(self) -> None:
        """Read again what another process may have changed: state and columns."""
        with self.guarded():
            self.state = self._read_state()
            described = self.connection.execute('SELECT * FROM "entries" LIMIT 0').description
        names = tuple(str(column[0]) for column in described)
        if names[: len(FIXED)] != FIXED:
            raise FormatError("the table of entries is damaged", "its columns are others", place=self.path)
        self.columns = names[len(FIXED) :]

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read inside is of one commit; a writer's next commit waits for the end of it."""
        with self._lock:
            opened = self._depth == 0 and not self.connection.in_transaction
            if opened:
                self._read("BEGIN")
            self._depth += 1
            try:
                if opened:
                    self.reload()
                yield
            finally:
                self._depth -= 1
                if opened:
                    self.connection.execute("ROLLBACK")

    def write_through(self) -> None:
        """Have commits wait for the disk, and readers only for their end: for the writer."""
        # Pages written before a commit lock out readers until it: all that it changes stays in memory.
        for setting in ("synchronous = FULL", f"cache_size = -{WRITER_CACHE}", "cache_spill = OFF"):
            self.connection.execute(f"PRAGMA {setting}")

    def migrate(self) -> bool:
        """Make it a table of today's format; gives whether it was another."""
        with self.guarded():
            old, sketches = format_of(self.connection) < 3, "sketches" not in self.state
            if old or sketches:
                migrate(self.connection, self.columns, old=old, sketches=sketches)
        self.reload()
        return old

    def prove(self) -> None:
        """Read all of the file; FormatError where its pages and indexes do not belong together.

        Without this a damaged index of ids could hide an entry that is there.
        """
        if problems := self.problems(most=1):
            raise FormatError(
                "the table of entries is damaged",
                problems[0],
                "copy the index again, or build it again",
                place=self.path,
            )

    def problems(self, most: int = 100) -> list[str]:
        """What SQLite finds wrong in the file."""
        lines = [str(line) for (line,) in self._read(f"PRAGMA integrity_check({most})")]
        return [line for line in lines if line != "ok"]

    def fetch(self, numbers: NDArray[np.int64]) -> dict[int, Entry]:
        """The entries of these numbers; FormatError where one is missing."""
        wanted = np.unique(numbers).tolist()
        lines = self._read_in("SELECT * FROM entries WHERE _entry IN ({})", wanted)
        entries = {line[0]: self._entry(line) for line in lines}
        if len(entries) != len(wanted):
            gone = next(number for number in wanted if number not in entries)
            raise FormatError(f"the entry {gone} is missing", "the table is damaged", place=self.path)
        return entries

    def contains(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) whether there are entries of these numbers."""
        wanted = np.unique(numbers).tolist()
        lines = self._read_in("SELECT _entry FROM entries WHERE _entry IN ({})", wanted)
        return np.isin(numbers, [number for (number,) in lines])

    def scan(self) -> Iterator[Entry]:
        """All entries by number; FormatError where their number is not the one that was committed."""
        count = 0
        with self.guarded():
            for line in self.connection.execute("SELECT * FROM entries ORDER BY _entry"):
                count += 1
                yield self._entry(line)
        if count != len(self):
            raise FormatError("entries are missing", "the table is damaged", place=self.path)

    def page(self, after: int, count: int, *, added: int = 0) -> list[Entry]:
        """The next `count` entries behind a number; the last `added` columns are in no checksum yet."""
        sql = "SELECT * FROM entries WHERE _entry > ? ORDER BY _entry LIMIT ?"
        return [self._entry(line, added) for line in self._read(sql, (after, count))]

    def members(self, genome: int) -> list[Entry]:
        """The entries of a genome, by number."""
        sql = "SELECT * FROM entries WHERE _genome = ? ORDER BY _entry"
        return [self._entry(line) for line in self._read(sql, (genome,))]

    def first_members(self, genomes: Sequence[int]) -> dict[int, Entry]:
        """The entry of the lowest number of each genome; FormatError where one has none."""
        least = "SELECT MIN(_entry) FROM entries WHERE _genome IN ({}) GROUP BY _genome"
        lines = self._read_in(f"SELECT * FROM entries WHERE _entry IN ({least})", genomes)
        entries = [self._entry(line) for line in lines]
        if len(entries) != len(set(genomes)):
            raise FormatError("a genome has no entry", "the table is damaged", place=self.path)
        return {entry.genome: entry for entry in entries}

    def members_left(self, genomes: Iterable[int]) -> set[int]:
        """Which of these genomes have an entry."""
        sql = "SELECT DISTINCT _genome FROM entries WHERE _genome IN ({})"
        return {number for (number,) in self._read_in(sql, genomes)}

    def holders(self, ids: Iterable[str]) -> dict[str, list[Holder]]:
        """By id the entries that have it, by number; ids of no entry are left out."""
        sql = (
            "SELECT e._entry, e.id, g.name, f.path FROM entries AS e JOIN genomes AS g "
            "ON g.genome = e._genome LEFT JOIN files AS f ON f.file = e._file "
            "WHERE e.id IN ({}) ORDER BY e._entry"
        )
        holders: dict[str, list[Holder]] = {}
        for line in self._read_in(sql, dict.fromkeys(ids)):
            holders.setdefault(line[1], []).append(Holder(*line))
        return holders

    def shared_ids(self, ids: Iterable[str]) -> set[str]:
        """Which of these ids several entries have."""
        sql = "SELECT id FROM entries WHERE id IN ({}) GROUP BY id HAVING COUNT(*) > 1"
        return {name for (name,) in self._read_in(sql, set(ids))}

    def has_id(self, ids: Iterable[str]) -> bool:
        """Whether any entry has one of these ids."""
        return bool(self._read_in("SELECT 1 FROM entries WHERE id IN ({}) LIMIT 1", ids))

    def equal_ids(self) -> list[str]:
        """Ids that several entries have, in order."""
        if not self.state.get("equal_ids"):
            return []
        return [name for (name,) in self._read("SELECT id FROM entries GROUP BY id HAVING COUNT(*) > 1")]

    def select(
        self, where: str, values: Sequence[Any] = (), lacking: Sequence[str] = ()
    ) -> NDArray[np.int64]:
        """Ascending numbers of the entries for which an SQL condition holds.

        The condition may name id, length, gc, the metadata, `lacking`, which are missing here, and
        ``genome``: the genome's name, unless the metadata have a column of that name.
        """
        named = "" if "genome" in {name.lower() for name in self.columns} else ", g.name AS genome"
        named += "".join(f", NULL AS {quoted(name)}" for name in lacking)
        return self._numbers(
            f"SELECT _entry FROM (SELECT e.*{named} FROM entries AS e "
            f"JOIN genomes AS g ON g.genome = e._genome) WHERE {where} ORDER BY _entry",
            values,
        )

    def distinct(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The different lines that genomes' first entries have in these columns of the metadata, in order."""
        listed, first = ", ".join(map(quoted, columns)), "SELECT MIN(_entry) FROM entries GROUP BY _genome"
        sql = f"SELECT DISTINCT {listed} FROM entries WHERE _entry IN ({first}) ORDER BY {listed}"
        yield from self._read(sql)

    def count_from(self, rows: str, number: int) -> int:
        """How many "entries" or "genomes" have this number or a higher one."""
        column = "genome" if rows == "genomes" else "_entry"
        ((count,),) = self._read(f"SELECT COUNT(*) FROM {rows} WHERE {column} >= ?", (number,))
        return int(count)

    def letters_in_all(self) -> int:
        """The sum of the lengths of all entries."""
        ((letters,),) = self._read("SELECT TOTAL(length) FROM entries")
        return int(letters)

    def genomes(self, numbers: NDArray[np.int64] | None = None, *, amid: bool = False) -> dict[int, Genome]:
        """Genomes of these numbers, or all; FormatError where one is missing.

        amid : a change is in the making, so that some may be gone already.
        """
        if numbers is None:
            wanted, lines = None, self._read("SELECT * FROM genomes")
        else:
            wanted = np.unique(numbers).tolist()
            lines = self._read_in("SELECT * FROM genomes WHERE genome IN ({})", wanted)
        genomes = {}
        for number, crc, name, label in lines:
            self._check_line(crc, f"genome {number}", number, name, label)
            genomes[number] = Genome(number, name, label)
        if not amid and len(genomes) != (self.state["genomes"] if wanted is None else len(wanted)):
            raise FormatError("a genome is missing", "the table is damaged", place=self.path)
        return genomes

    def genome_numbers(self, names: Iterable[str]) -> dict[str, int]:
        """Numbers of genomes by name; names of none are left out."""
        return dict(self._read_in("SELECT name, genome FROM genomes WHERE name IN ({})", names))

    def genome_number(self, name: str) -> int | None:
        """The number of the genome called so; None where there is none."""
        return self.genome_numbers([name]).get(name)

    def dead(self, *, amid: bool = False) -> NDArray[np.int64]:
        """Ascending labels of rows that are of no entry any more; `amid`: within a change, unproved."""
        labels = self._numbers("SELECT label FROM dead ORDER BY label")
        outside = labels.size and (labels[0] < 0 or labels[-1] >= self.rows)
        noted = (self.state["dead"], self.state.get("dead_crc", 0))
        if not amid and (outside or (len(labels), zlib.crc32(labels.data)) != noted):
            raise FormatError("the list of deleted rows is damaged", place=self.path)
        return labels

    def blocks(self) -> list[Block]:
        """All committed blocks in order; FormatError where they do not cover the rows."""
        blocks = [Block(*line) for line in self._read("SELECT * FROM blocks ORDER BY first")]
        edges = list(accumulate((block.rows for block in blocks), initial=0))
        if [block.first for block in blocks] != edges[:-1] or edges[-1] != self.rows:
            raise FormatError("blocks of entries are missing", "the table is damaged", place=self.path)
        return blocks

    def orphans(self) -> NDArray[np.int64]:
        """Rows of mean vectors whose genomes have no entry left.

        A kinmer of format 2 that was killed behind the commit of a deletion left such for the next writer.
        """
        return self._numbers(
            f"SELECT label FROM genomes JOIN stale USING (genome) WHERE label IS NOT NULL AND {_EMPTY}"
        )

    def emptied(self) -> list[str]:
        """Names of genomes that have no entry."""
        lines = self._read(f"SELECT name FROM genomes WHERE {_EMPTY} ORDER BY genome")
        return [name for (name,) in lines]

    def stale(self, most: int) -> NDArray[np.int64]:
        """At most so many genomes whose mean vectors have to be computed again."""
        return self._numbers("SELECT genome FROM stale ORDER BY genome LIMIT ?", (most,))

    def files(self) -> list[SourceFile]:
        """The files that entries came from."""
        return self._files("1")

    def file_of(self, path: str, sha256: str, genome: str | None, prefix: str) -> SourceFile | None:
        """A source as it was noted; None where it is new."""
        condition = f"path = ? AND sha256 = ? AND genome IS ? AND {self._prefix} = ?"
        return next(iter(self._files(condition, path, sha256, genome, prefix)), None)

    def known_as(self, path: str) -> tuple[str | None, str]:
        """Genome and prefix that all that came from a path has; None and empty where there are several."""
        known = {(file.genome, file.prefix) for file in self._files("path = ?", path)}
        return known.pop() if len(known) == 1 else (None, "")

    def ids_of_file(self, file: int) -> dict[str, int]:
        """By id the numbers of the entries that came from a file, whose ids are its own."""
        return dict(self._read("SELECT id, _entry FROM entries WHERE _file = ?", (file,)))

    def with_blobs(self, kind: str, start: int = 0) -> NDArray[np.int64]:
        """Numbers, from `start`, of the entries with a blob of a kind, in the order of these."""
        if kind not in self.state:
            return np.empty(0, np.int64)
        return self._numbers(f"SELECT entry FROM {kind} WHERE entry >= ? ORDER BY offset, entry", (start,))

    def blobs(self, kind: str, numbers: NDArray[np.int64]) -> dict[int, Blob]:
        """Where the blobs of a kind of these entries lie; those without are left out."""
        if kind not in self.state:
            return {}
        wanted = np.unique(numbers).tolist()
        lines = self._read_in(f"SELECT * FROM {kind} WHERE entry IN ({{}}) ORDER BY offset, entry", wanted)
        return {number: Blob(*rest) for number, *rest in lines}

    def blob_bytes(self, kind: str, start: int = 0) -> int:
        """The size of all blobs of a kind of entries from number `start`."""
        if kind not in self.state:
            return 0
        ((size,),) = self._read(f"SELECT TOTAL(bytes) FROM {kind} WHERE entry >= ?", (start,))
        return int(size)

    def genome_blob_bytes(self, kind: str, genomes: Iterable[int]) -> dict[int, int]:
        """The size of all blobs of a kind by genome; genomes without are left out."""
        sql = f"SELECT _genome, SUM(bytes) FROM entries JOIN {kind} ON entry = _entry "
        sql += "WHERE _genome IN ({}) GROUP BY _genome"
        return dict(self._read_in(sql, genomes)) if kind in self.state else {}

    def has_blobs(self, kind: str) -> bool:
        """Whether there are blobs of a kind, and no entry of known length lacks one."""
        if kind not in self.state:
            return False
        ((count,),) = self._read(f"SELECT COUNT(*) FROM {kind}")
        lacking = "SELECT 1 FROM entries WHERE length IS NOT NULL AND NOT EXISTS "
        lacking += f"(SELECT 1 FROM {kind} WHERE entry = _entry) LIMIT 1"
        return bool(count and (count == len(self) or not self._read(lacking)))

    @property
    def _prefix(self) -> str:
        """The column of prefixes, which a table of format 2 has not."""
        return "''" if format_of(self.connection) < 3 else "prefix"

    def _files(self, condition: str, *values: Any) -> list[SourceFile]:
        columns = f"file, path, sha256, genome, {self._prefix}, max(whole, 0), whole < 0"
        lines = self._read(f"SELECT {columns} FROM files WHERE {condition} ORDER BY file", values)
        return [SourceFile._make((*line[:6], bool(line[6]))) for line in lines]

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self.guarded():
            return self.connection.execute(sql, values).fetchall()

    def _read_in(self, sql: str, values: Iterable[Any]) -> list[Any]:
        """The lines for some values, any number of them, which stand for ``{}`` in `sql`."""
        lines: list[Any] = []
        for part in parts_of(list(values)):
            lines += self._read(sql.format(",".join("?" * len(part))), part)
        return lines

    def _numbers(self, sql: str, values: Sequence[Any] = ()) -> NDArray[np.int64]:
        lines = self._read(sql, list(values))
        return np.fromiter((number for (number,) in lines), dtype=np.int64, count=len(lines))

    def _entry(self, line: Sequence[Any], added: int = 0) -> Entry:
        number, crc, name, genome, first, rows, file, length, gc, *rest = line
        kept = tuple(rest[: len(rest) - added])
        entry = Entry(number, name, length, gc, kept, genome, first, rows, file)
        self._check_line(crc, f"entry {number}", entry)
        return entry

    def _check_line(self, crc: int, what: str, *values: Any) -> None:
        if (values[0].checksum() if isinstance(values[0], Entry) else line_checksum(*values)) != crc:
            raise FormatError(
                f"the line of {what} is damaged",
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

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn what SQLite says of a damaged file into a FormatError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            # Python raises some of these itself, without a code, as for bytes that are not UTF-8.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                raise OSError(28, "No space left on device", str(self.path)) from error
            raise FormatError("the table of entries cannot be used", str(error), place=self.path) from error
        except (sqlite3.DatabaseError, ValueError, TypeError, OverflowError) as error:
            raise FormatError("the table of entries is damaged", str(error), place=self.path) from error


def parts_of(values: list[Any]) -> Iterator[list[Any]]:
    """The values in parts that SQLite binds at once."""
    return (values[start : start + BOUND] for start in range(0, len(values), BOUND))
