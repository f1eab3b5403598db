"""Metadata of sequences as an index takes them: by ``genome:id``, else the id, else the genome's name."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from kinmer.index.metadata import Metadata
from kinmer.index.names import SEPARATOR
from kinmer.index.schema import parts_of
from kinmer.taxonomy import is_missing, normal_accession

__all__ = ["GENOME_NAMES", "Joined", "genome_column", "plain_value"]

# A column of one of these names says which genome a sequence is of.
GENOME_NAMES = ("genome", "genome_id", "assembly", "assembly_accession")


class Joined:
    """Looks lines of staged metadata up; nothing of them lies in memory."""

    def __init__(self, staged: Metadata | None) -> None:
        self._staged = staged
        self._connection = None if staged is None else sqlite3.connect(staged.database)
        self.columns = () if staged is None else staged.columns
        self.found = 0

    def lookup(self, keys: Sequence[tuple[str, str]]) -> list[Mapping[str, Any] | None]:
        """Values by column for pairs of a sequence's id and its genome's name; None where there are none."""
        if self._connection is None:
            return [None] * len(keys)
        asked = list(dict.fromkeys(one for key in keys for one in _names(key)))
        width = ", ".join(["id", *(f"c{number}" for number in range(len(self.columns)))])
        known: dict[str, tuple[Any, ...]] = {}
        for part in parts_of(asked):
            sql = f"SELECT {width} FROM metadata WHERE id IN ({','.join('?' * len(part))})"
            known.update((name, tuple(values)) for name, *values in self._connection.execute(sql, part))
        lines = [next((known[one] for one in _names(key) if one in known), None) for key in keys]
        self.found += sum(line is not None for line in lines)
        return [None if line is None else dict(zip(self.columns, line, strict=True)) for line in lines]

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
