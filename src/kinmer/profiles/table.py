"""Profiles of an old file: a ``.npy`` table, memory-mapped, and a text file of ids beside it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.arrays import map_array
from kinmer.errors import ProfileError
from kinmer.files import hash_ids
from kinmer.layout import Layout, kmer_layout
from kinmer.profiles.base import Values, check_rows, gc_of
from kinmer.profiles.ids import read_ids

__all__ = ["NpyProfiles"]

LENGTH_COLUMN, ROW_COLUMN = 2773, 10965
CHECK_BYTES = 32 << 20


class NpyProfiles:
    """A table of 2,773 columns (sequence length, 6- to 1-mers) or 10,965 (row index, 7- to 1-mers).

    Values are frequencies, float32. Ids stand one a line in `ids`, in the order of the rows; without it in a
    file beside the table: same stem and ``.txt``, ``.ids``, ``.ids.txt`` or ``_ids.txt``. Every value is
    checked at birth, in blocks; the table is never loaded as a whole.

    Raises ProfileError: no such file, no ``.npy`` table, wrong columns or type, ids missing, too few, too
    many or twice, and (with the row, counted from 1) values that are no frequencies.
    """

    values: Values = "frequencies"
    chunk_rows = 512

    def __init__(self, path: str | Path, ids: str | Path | None = None) -> None:
        self.path = Path(path)
        self._table = _map_table(self.path)
        self.has_lengths = self._table.shape[1] == LENGTH_COLUMN
        self.layout: Layout = kmer_layout(6 if self.has_lengths else 7)
        self.ids_path = _find_ids(self.path) if ids is None else Path(ids)
        self.ids: NDArray[np.object_] = _read_ids(self.ids_path, len(self), self.path)
        self._gc = np.empty(len(self))
        rows = max(1, CHECK_BYTES // (4 * self._table.shape[1]))
        for start in range(0, len(self), rows):
            block = np.asarray(self._table[start : start + rows])
            profiles = block[:, 1:]
            check_rows(profiles, self.layout, self.values, place=self.path, first=start)
            if self.has_lengths:
                self._check_lengths(block[:, 0], start)
            self._gc[start : start + rows] = gc_of(profiles, self.layout)

    def __len__(self) -> int:
        return int(self._table.shape[0])

    def __repr__(self) -> str:
        return f"NpyProfiles({str(self.path)!r}: {len(self)} × {self.layout.width} frequencies)"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the ids in order."""
        return hash_ids(self.ids)

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Index = ids; ``length`` (int64; only where the table has it), ``gc``, ``source``.

        Lengths above 16,777,216 are as exact as float32 holds them.
        """
        columns: dict[str, Any] = {}
        if self.has_lengths:
            columns["length"] = np.asarray(self._table[:, 0]).astype(np.int64)
        columns["gc"] = self._gc
        columns["source"] = pd.Categorical([self.path.name] * len(self))
        return pd.DataFrame(columns, index=pd.Index(self.ids))

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start … stop, (stop - start, width)."""
        return np.array(self._table[start:stop, 1:], dtype=np.float32)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Any rows in any order, (len(rows), width)."""
        return np.array(self._table[np.asarray(rows, dtype=np.int64), 1:], dtype=np.float32)

    def _check_lengths(self, lengths: NDArray[Any], first: int) -> None:
        bad = ~(np.isfinite(lengths) & (lengths >= 1) & (lengths == np.rint(lengths)))
        if bad.any():
            row = int(np.argmax(bad))
            raise ProfileError(
                f"column 0 holds {lengths[row]}, which is no sequence length",
                f"a table of {LENGTH_COLUMN:,} columns has the length of the sequence there",
                place=f"{self.path}, row {first + row + 1}",
            )


def _map_table(path: Path) -> NDArray[Any]:
    table = map_array(path)
    if table.ndim != 2:
        raise ProfileError("this is no table of rows and columns", place=path)
    if table.shape[1] not in (LENGTH_COLUMN, ROW_COLUMN):
        raise ProfileError(
            f"the table has {table.shape[1]:,} columns",
            f"not {LENGTH_COLUMN:,} (length, 6- to 1-mers) or {ROW_COLUMN:,} (row index, 7- to 1-mers)",
            place=path,
        )
    if table.dtype.kind != "f":
        raise ProfileError(f"the table holds {table.dtype}", "frequencies are floats", place=path)
    if not len(table):
        raise ProfileError("the table has no rows", place=path)
    return table


def _find_ids(path: Path) -> Path:
    stem = path.with_suffix("")
    candidates = [stem.with_name(stem.name + ending) for ending in (".txt", ".ids", ".ids.txt", "_ids.txt")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = ", ".join(candidate.name for candidate in candidates)
    raise ProfileError(
        "no file of ids is beside the table",
        "the rows have no names without it",
        f"give it with --ids, or name it one of {names}",
        place=path,
    )


def _read_ids(path: Path, rows: int, table: Path) -> NDArray[np.object_]:
    return read_ids(path, rows, table.name)
