"""Compaction: what is alive goes into new files, in the old order; deleted entries leave no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.files import remove
from kinmer.index.database import KinIndex
from kinmer.index.entries import Block
from kinmer.index.letters import LetterFile, read_letters
from kinmer.index.vectors import RowFiles, row_checksum, row_files
from kinmer.index.writing import Change
from kinmer.progress import step

__all__ = ["letters_file", "write_compacted"]

BLOCK_ROWS = 1 << 13
LETTERS_AT_ONCE = 256


def letters_file(index: Path, generation: int) -> Path:
    """Where the kept letters of an index stand."""
    return index / f"letters-{generation}.bin"


def write_compacted(folder: Path, index: KinIndex, change: Change) -> None:
    """Write the files of the next generation, and tell of them in `change`, which has begun."""
    old, generation = index.rows, index.table.generation + 1
    for path in (*row_files(folder, generation), letters_file(folder, generation)):
        remove(path)
    kept = np.flatnonzero(old.alive)
    new_label = np.full(len(old), -1, dtype=np.int64)
    new_label[kept] = np.arange(len(kept))
    blocks = []
    with RowFiles(folder, generation, index.dim, 0) as files, step("Compacting", len(kept)) as progress:
        for start in range(0, len(kept), BLOCK_ROWS):
            part = kept[start : start + BLOCK_ROWS]
            vectors, records = np.asarray(old.vectors[part]), np.asarray(old.records[part])
            files.append(vectors, records)
            blocks.append(Block(start, len(part), row_checksum(vectors, records)))
            progress.advance(len(part))
    change.move_rows(new_label, blocks, generation)
    _write_letters(folder, index, change, generation)


def _write_letters(folder: Path, index: KinIndex, change: Change, generation: int) -> None:
    source = letters_file(folder, index.table.generation)
    if not source.is_file():
        return
    places: dict[int, tuple[int, int, int]] = {}
    numbers: NDArray[Any] = index.table.lettered()
    target = LetterFile(letters_file(folder, generation), 0)
    end = 0
    try:
        for start in range(0, len(numbers), LETTERS_AT_ONCE):
            part = index.table.letters(numbers[start : start + LETTERS_AT_ONCE])
            written = target.append([read_letters(source, *place) for place in part.values()])
            places |= dict(zip(part, written, strict=True))
            end += sum(size for _, size, _ in written)
    finally:
        target.close()
    change.move_letters(places, end)
