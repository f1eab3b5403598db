"""Metadata joined to sequences: by ``genome:id``, else the id, else the genome's name; what does not fit."""

from __future__ import annotations

import math
import re
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.embedding import KEY
from kinmer.errors import InputError, MismatchError
from kinmer.index.names import SEPARATOR
from kinmer.index.table import EntryTable, parts_of
from kinmer.library.metadata import ID_NAMES, KNOWN, Metadata, stage_metadata
from kinmer.stores import Metric
from kinmer.taxonomy import RANKS, is_missing, normal_accession, rank_columns, taxon
from kinmer.vectors import Vectors, open_vectors

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

# Ids of either side that are looked at.
LOOKED_AT = 1000
# Ids asked for in one statement.
IDS_AT_ONCE = 500
# Texts of a table that are remembered, so that equal ones take room once.
KEPT_TEXTS = 1 << 16
# A file may be called genome.fna, and its genome so.
HEADERS = frozenset((*ID_NAMES, "genome", "genome_id", "assembly", "assembly_accession", "name", "accession"))
_VERSION = re.compile(r"\.\d+$")
_SUFFIX = re.compile(r"\.(?:fna|fa|fasta|fas|fsa)(?:\.(?:gz|zst|xz|bz2))?$", re.IGNORECASE)
# What may have been done to one side's ids, in words, and the same done to the other's.
_CHANGES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("quotation marks are part of the ids of one side", lambda one: one.strip("\"'")),
    ("upper and lower case differ", str.casefold),
    ("leading zeros are lost on one side, as spreadsheets lose them", lambda one: one.lstrip("0")),
    ("a number has become a fraction, as in spreadsheets", lambda one: one.removesuffix(".0")),
    ("the versions of accessions are missing on one side", lambda one: _VERSION.sub("", one)),
    ("one side has the names of files", lambda one: _SUFFIX.sub("", one)),
    ("one side has whole headers, ids are their first words", lambda one: (one.split() or [""])[0]),
    ("one side has a path in front", lambda one: one.rpartition("/")[2]),
)


def unmatched(staged: Metadata, ids: Iterable[str], what: str) -> MismatchError:
    """The error for staged metadata that have none of these ids; `what` is wrong."""
    with closing(sqlite3.connect(staged.database)) as connection:
        lines = connection.execute(f"SELECT id FROM metadata ORDER BY line LIMIT {LOOKED_AT}")
        theirs = [name for (name,) in lines]
    ours = list(islice(ids, LOOKED_AT))
    columns = 1 + len(staged.columns) + len(staged.left_out)
    return MismatchError(what, *reason_for(theirs, ours, staged.key, columns), place=staged.path)


def reason_for(theirs: Sequence[str], ours: Sequence[str], column: str, columns: int = 2) -> tuple[str, str]:
    """An id of a table's column and one of the sequences, and what makes them differ if that can be seen."""
    if not theirs or not ours:
        side = "the table has no lines" if not theirs else "there are no sequences"
        return side, "is it the right file?"
    shown = f"the table's column {column!r} has {theirs[0]!r}, the sequences are called {ours[0]!r}"
    if columns == 1 and any(sign in column for sign in ",;"):
        return shown, "its fields are parted by commas, where tabs are expected"
    for why, change in _CHANGES:
        if {change(one) for one in theirs} & {change(one) for one in ours}:
            return shown, why
    return shown, "is it the table of these, with their ids, or their genomes' names, in that column?"


def refuse_entry_as_header(staged: Metadata, names: Collection[str]) -> None:
    """Raise InputError where the first line of a table is that of one of these, which would be lost."""
    name = staged.key
    if name.lower() not in HEADERS and (name in names or normal_accession(name) in names):
        raise InputError(
            f"the table has no header: its first line is that of {name!r}",
            "what it says would be the columns' names",
            "put a line with names in front, such as id and genus",
            place=staged.path,
        )


# A column of one of these names says which genome a sequence is of.
GENOME_NAMES = ("genome", "genome_id", "assembly", "assembly_accession")


class Joined:
    """Looks lines of staged metadata up; nothing of them lies in memory."""

    def __init__(self, staged: Metadata | None) -> None:
        self._staged = staged
        self._connection = None if staged is None else sqlite3.connect(staged.database)
        self.columns = () if staged is None else staged.columns
        self.matched = 0
        self._examples: list[str] = []

    def lookup(self, keys: Sequence[tuple[str, str]]) -> list[Mapping[str, Any] | None]:
        """Values by column for pairs of a sequence's id and its genome's name; None where there are none."""
        if self._connection is None:
            return [None] * len(keys)
        asked = list(dict.fromkeys(one for key in keys for one in _names(key)))
        assert self._staged is not None
        refuse_entry_as_header(self._staged, asked)
        self._examples += [one for one, _ in keys[: LOOKED_AT - len(self._examples)]]
        width = ", ".join(["id", *(f"c{number}" for number in range(len(self.columns)))])
        known: dict[str, tuple[Any, ...]] = {}
        for part in parts_of(asked):
            sql = f"SELECT {width} FROM metadata WHERE id IN ({','.join('?' * len(part))})"
            known.update((name, tuple(values)) for name, *values in self._connection.execute(sql, part))
        lines = [next((known[one] for one in _names(key) if one in known), None) for key in keys]
        self.matched += sum(line is not None for line in lines)
        return [None if line is None else dict(zip(self.columns, line, strict=True)) for line in lines]

    def strange(self, what: str) -> MismatchError:
        """The error for a table none of whose lines was looked up; `what` is wrong."""
        assert self._staged is not None
        return unmatched(self._staged, self._examples, what)

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _names(key: tuple[str, str]) -> list[str]:
    sequence, genome = key
    return list(dict.fromkeys((f"{genome}{SEPARATOR}{sequence}", sequence, genome, normal_accession(genome))))


def genome_column(columns: Sequence[str]) -> str | None:
    """The column that says which genome a sequence is of; None where there is none."""
    by_name = {name.lower(): name for name in columns}
    return next((by_name[name] for name in GENOME_NAMES if name in by_name), None)


def plain_value(value: Any) -> Any:
    """A value as SQLite takes it: a whole number, a finite number, text; None where it is missing."""
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return int(value) if abs(value) < 1 << 63 else str(value)
    return str(value)


class Homonym(NamedTuple):
    """A name at `rank`, and the first two names at the rank `above` that it stands below."""

    rank: str
    name: str
    above: str
    first: str
    second: str


def homonyms(table: EntryTable) -> Iterator[Homonym]:
    """Every name that stands below two names of the next rank that the index has a column for, once.

    Memory grows with the number of taxa, not of entries.
    """
    columns = rank_columns(table.columns)
    if len(columns) < 2:
        return
    parents: dict[tuple[str, str], str] = {}
    reported = set[tuple[str, str]]()
    for line in table.distinct(list(columns.values())):
        names = [(rank, taxon(rank, value)) for rank, value in zip(columns, line, strict=True)]
        for (above, parent), (rank, name) in pairwise(names):
            if parent is None or name is None or (rank, name) in reported:
                continue
            first = parents.setdefault((rank, name), parent)
            if first != parent:
                reported.add((rank, name))
                yield Homonym(rank, name, above, first, parent)


def report_homonyms(table: EntryTable, log: Callable[[str], None]) -> None:
    """Log how many homonyms there are, the deepest of them as an example."""
    found = list(homonyms(table))
    if not found:
        return
    one = max(found, key=lambda each: RANKS.index(each.rank))
    more = f", and {len(found) - 1:,} more such names" if len(found) > 1 else ""
    log(
        f"warning: the {one.rank} {one.name!r} stands in two {_plural(one.above)}, {one.first!r} and"
        f" {one.second!r}{more} · a query gets the one that more of its nearest genomes have · correct the"
        " metadata, then kinmer db update --metadata"
    )


def _plural(rank: str) -> str:
    irregular = {"phylum": "phyla", "class": "classes", "family": "families", "genus": "genera"}
    return irregular.get(rank, f"{rank}s")


def open_labeled(
    source: Any,
    vectors: str | Path | Encoder = KEY,
    *,
    ids: str | Path | None = None,
    metric: Metric | None = None,
    metadata: str | Path | None = None,
) -> Vectors:
    """The vectors of a source, as `kinmer.vectors.open_vectors`, with the columns of a TSV joined by id."""
    points = open_vectors(source, vectors, ids=ids, metric=metric)
    return points if metadata is None else with_metadata(points, metadata)


def with_metadata(points: Vectors, path: str | Path) -> Vectors:
    """The vectors with the columns of a TSV joined by id; see `joined_metadata`."""
    return replace(points, obs=joined_metadata(points.ids, points.obs, path))


def joined_metadata(ids: NDArray[np.object_], obs: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """What is known (n rows) with the columns of a TSV joined by id. They replace columns of the same name.

    Length, GC and bases are taken from the table only where they are not known from the sequences. A column
    of numbers becomes float64, any other text; None or NaN where nothing is known.

    Raises InputError where no id of the table is among `ids`, and as `stage_metadata`.
    """
    with tempfile.TemporaryDirectory() as folder:
        # What was counted from the sequences is believed more than a table.
        counted = tuple(name for name in KNOWN if name in obs)
        # Nothing is searched here, so a table of verdicts, with its column rank, does as well.
        staged = stage_metadata(path, Path(folder) / "metadata.sqlite", known=counted, reserved=("id",))
        listed = ", ".join(["id", *(f"c{number}" for number in range(len(staged.columns)))])
        values = [np.full(len(ids), None, object) for _ in staged.columns]
        # A text that is met often is kept once.
        texts: dict[str | None, str | None] = {}
        matched = 0
        with closing(sqlite3.connect(staged.database)) as connection:
            for start in range(0, len(ids), IDS_AT_ONCE):
                some = [normal_accession(name) for name in ids[start : start + IDS_AT_ONCE].tolist()]
                asked = f"SELECT {listed} FROM metadata WHERE id IN ({', '.join('?' * len(some))})"
                known = {row[0]: row[1:] for row in connection.execute(asked, some)}
                matched += len(known)
                if len(texts) > KEPT_TEXTS:
                    texts.clear()
                for at, name in enumerate(some, start):
                    for column, text in zip(values, known.get(name, ()), strict=False):
                        column[at] = texts.setdefault(text, text)
        if not matched:
            raise unmatched(staged, ids.tolist(), "none of its ids is among the sequences")
        refuse_entry_as_header(staged, set(ids.tolist()))
    obs = obs.copy()
    for name, column in zip(staged.columns, values, strict=True):
        obs[name] = _typed(pd.Series(column, index=obs.index))
    return obs


def _typed(column: pd.Series) -> pd.Series:
    """Numbers where all that is known are numbers."""
    known = column.notna()
    try:
        numbers = column[known].astype(np.float64)
    except (TypeError, ValueError):
        return column
    return numbers.reindex(column.index) if known.any() else column
