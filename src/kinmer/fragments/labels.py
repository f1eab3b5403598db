"""Labels of sequences: a table with tabs, a header line and one row a sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kinmer.errors import InputError, UsageError
from kinmer.inputs import described, read_lines
from kinmer.taxonomy import rank_columns, rule_of

__all__ = ["NO_LABELS", "Labels", "read_labels"]


class Labels(NamedTuple):
    """Columns without the key, and by key a row's fields ("": missing) and its line in the file (from 1)."""

    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]
    lines: Mapping[str, int]

    def of(self, key: str) -> tuple[str, ...]:
        """A row's fields; empty ones for a key without a row."""
        return self.rows.get(key, ("",) * len(self.columns))

    def value(self, key: str, column: str) -> str:
        """One field; "" where the column, the row or the value is missing."""
        return self.of(key)[self.columns.index(column)] if column in self.columns else ""

    def place_of(self, column: str) -> int:
        """Where a column stands; UsageError where there is none of that name."""
        if column not in self.columns:
            raise UsageError(f"the labels have no column {column!r}", f"they have {', '.join(self.columns)}")
        return self.columns.index(column)

    def joined(self, taken: Sequence[str]) -> list[str]:
        """The columns' names in a table that has those `taken`: ``length`` is ``sequence_length`` there."""
        return [
            "label_id" if name == "id" else f"sequence_{name}" if name in taken else name
            for name in self.columns
        ]


NO_LABELS = Labels((), {}, {})


def read_labels(path: str | Path, keys: Sequence[str] = ("sequence_id",)) -> Labels:
    """Read a table whose key is the first of the columns `keys` that it has.

    What is missing (`kinmer.taxonomy.missing`) is "". Columns of ranks are called as the ranks, whatever
    their case and synonym (``Species``, ``superkingdom``).

    Raises InputError with file and line: no key, a column twice, a key twice, another number of fields.
    """
    table = _fields(path)
    _, header = next(table, (1, []))
    name = next((one for one in keys if one in header), None)
    if name is None:
        what = described(path)
        raise InputError(
            f"the labels have no column {' or '.join(keys)}",
            f"this is {what}" if what != "a table" else f"the first line has {', '.join(header)}",
            "is the header line there, and are the columns parted by tabs?",
            place=path,
        )
    if len(set(header)) != len(header):
        twice = next(one for at, one in enumerate(header) if one in header[:at])
        raise InputError(f"the labels have the column {twice!r} twice", place=path)
    key = header.index(name)
    rules = [rule_of(one) for one in header]
    rows: dict[str, tuple[str, ...]] = {}
    lines: dict[str, int] = {}
    for number, row in table:
        place = f"{path}, line {number}"
        if len(row) != len(header):
            raise InputError(f"{len(row)} fields, {len(header)} in the header", place=place)
        if row[key] in rows:
            raise InputError(f"the sequence {row[key]!r} is labelled twice", place=place)
        known = [rule(one) or "" for rule, one in zip(rules, row, strict=True)]
        rows[row[key]] = (*known[:key], *known[key + 1 :])
        lines[row[key]] = number
    ranks = {column: rank for rank, column in rank_columns(header).items() if column != name}
    return Labels(tuple(ranks.get(one, one) for one in header if one != name), rows, lines)


def _fields(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Number and fields, as they are, of every line that is not empty."""
    for number, line in read_lines(path):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                "the labels cannot be read", str(error), place=f"{path}, line {number}"
            ) from error
        if text:
            yield number, text.split("\t")
