"""The entries of an index as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from kinmer.index import IndexRow
from kinmer.queries.fields import as_field, as_share, unique_names

__all__ = ["write_rows"]

FIELDS = ("id", "genome", "length", "gc", "vectors")


def write_rows(rows: Iterable[IndexRow], stream: TextIO) -> int:
    """Write a header line and a line an entry, as they come; gives their number.

    Columns: id, genome, length, gc, vectors (whole and pieces), and the metadata; empty for missing.
    """
    count = 0
    for row in rows:
        if not count:
            stream.write("\t".join([*FIELDS, *unique_names(FIELDS, list(row.metadata))]) + "\n")
        fields = [
            as_field(row.id),
            as_field(row.genome),
            as_field(row.length),
            as_share(row.gc),
            str(row.vectors),
            *map(as_field, row.metadata.values()),
        ]
        stream.write("\t".join(fields) + "\n")
        count += 1
    if not count:
        stream.write("\t".join(FIELDS) + "\n")
    return count
