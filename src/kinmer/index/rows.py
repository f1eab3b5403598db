"""The rows of an index as they are read: vectors, records, and which of them are alive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.index.entries import Block, Entry, EntryTable
from kinmer.index.trust import Trust
from kinmer.index.vectors import GENOME, WHOLE, map_rows, map_vectors, row_checksum, row_files

__all__ = ["Rows"]


@dataclass(frozen=True)
class Rows:
    """All committed rows. vectors : (n, dim), mapped. records : (n,) of `ROW`, mapped. alive : (n,)."""

    folder: Path
    generation: int
    vectors: NDArray[np.float32]
    records: NDArray[Any]
    alive: NDArray[np.bool_]

    @classmethod
    def open(cls, folder: Path, table: EntryTable, dim: int, trust: Trust, *, busy: bool) -> Rows:
        """The rows that the table tells of; they and the table are proved whole unless they were before.

        busy : somebody is writing behind them, so that the files' times tell nothing.

        Raises FormatError where they are not all there or damaged.
        """
        files = row_files(folder, table.generation)
        vectors, records = map_vectors(files[0], table.rows, dim), map_rows(files[1], table.rows)
        alive = np.ones(table.rows, dtype=bool)
        alive[table.dead()] = False
        alive[table.orphans()] = False
        found = cls(folder, table.generation, vectors, records, alive)
        if not busy:
            found.prove(table, trust)
        return found

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def kinds(self) -> NDArray[np.int8]:
        """(n,) what every row is of."""
        return self.records["kind"].astype(np.int8)

    @cached_property
    def entry(self) -> NDArray[np.int64]:
        """(n,) number of every row's sequence, -1 for a genome's."""
        return np.ascontiguousarray(self.records["entry"])

    @cached_property
    def genome(self) -> NDArray[np.int64]:
        """(n,) number of every row's genome."""
        return np.ascontiguousarray(self.records["genome"])

    @cached_property
    def sequences(self) -> NDArray[np.bool_]:
        """(n,) which rows are alive and of sequences."""
        return np.asarray(self.alive & (self.kinds != GENOME))

    @cached_property
    def single(self) -> bool:
        """Whether every row is of a whole sequence."""
        return bool((self.kinds == WHOLE).all())

    @cached_property
    def means(self) -> dict[int, int]:
        """The row of every genome that has a vector of its own."""
        rows = np.flatnonzero(self.alive & (self.kinds == GENOME))
        return dict(zip(self.genome[rows].tolist(), rows.tolist(), strict=True))

    def wholes(self) -> NDArray[np.int64]:
        """Rows of whole sequences that are alive, by the number of their entry."""
        rows = np.flatnonzero(self.alive & (self.kinds == WHOLE))
        return np.asarray(rows[np.argsort(self.entry[rows], kind="stable")])

    def shut(self, exclude: NDArray[np.int64], entries: Mapping[int, Entry]) -> list[NDArray[np.int64]]:
        """For every excluded entry (-1: none) its rows, and that of its genome's vector."""
        nothing, found = np.empty(0, dtype=np.int64), []
        for number in exclude.tolist():
            if number < 0:
                found.append(nothing)
                continue
            one = entries[number]
            own = np.arange(one.first, one.first + one.rows)
            mean = self.means.get(one.genome)
            found.append(own if mean is None else np.append(own, mean))
        return found

    def prove(self, table: EntryTable, trust: Trust) -> None:
        """FormatError where rows or table are damaged; what was found whole before is not read again."""
        files = row_files(self.folder, self.generation)
        if not trust.has([table.path]):
            table.prove()
        if not trust.has(files):
            self.check_blocks(table.blocks())
        trust.note([*files, table.path])

    def check_blocks(self, blocks: Iterable[Block]) -> None:
        """FormatError where rows are not those that were committed."""
        for block in blocks:
            part = slice(block.first, block.first + block.rows)
            if row_checksum(self.vectors[part], self.records[part]) != block.checksum:
                raise FormatError(
                    f"the rows {part.start} to {part.stop - 1} are damaged",
                    "their checksum is another",
                    "copy the index again, or build it again",
                    place=row_files(self.folder, self.generation)[0],
                )
