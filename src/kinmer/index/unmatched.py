"""Why a table of metadata and the sequences do not meet: what both call things, and what looks wrong."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from itertools import islice

from kinmer.errors import InputError, MismatchError
from kinmer.index.metadata import Metadata
from kinmer.index.metadata_tables import ID_NAMES
from kinmer.taxonomy import normal_accession

__all__ = ["reason_for", "refuse_entry_as_header", "unmatched"]

# Ids of either side that are looked at.
LOOKED_AT = 1000
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
