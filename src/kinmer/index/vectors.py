"""The vectors of an index and what each is of: two files of little-endian rows, which only grow.

``vectors-N.f32`` holds float32 vectors, ``rows-N.bin`` a record of `ROW` for each. N is the generation: a
compaction writes new files and never touches the old ones.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from kinmer.errors import FormatError

__all__ = [
    "GENOME",
    "PIECE",
    "ROW",
    "WHOLE",
    "RowFiles",
    "map_rows",
    "map_vectors",
    "row_checksum",
    "row_files",
]

DTYPE = np.dtype("<f4")
# What a vector is of: a piece of a sequence (letters start to stop), a whole sequence, or a whole genome.
PIECE, WHOLE, GENOME = 0, 1, 2
# entry: number of the sequence, -1 for a genome's vector. genome: number of its genome.
ROW = np.dtype([("entry", "<i8"), ("genome", "<i8"), ("start", "<i8"), ("stop", "<i8"), ("kind", "<i8")])


def row_files(folder: Path, generation: int) -> tuple[Path, Path]:
    """The files of vectors and of records of a generation."""
    return folder / f"vectors-{generation}.f32", folder / f"rows-{generation}.bin"


class RowFiles:
    """Appends rows behind the committed ones; what a killed run left behind those is cut off at birth.

    `append` returns when the rows are on disk: whoever tells of them (the table of entries) does so after.
    """

    def __init__(self, folder: Path, generation: int, dim: int, rows: int) -> None:
        self._files = []
        sizes = (DTYPE.itemsize * dim, ROW.itemsize)
        for path, size in zip(row_files(folder, generation), sizes, strict=True):
            file = path.open("r+b" if path.exists() else "w+b")
            self._files.append(file)
            found = os.fstat(file.fileno()).st_size
            if found < rows * size:
                self.close()
                raise FormatError(f"the file holds fewer than {rows} rows", "it was cut short", place=path)
            if found > rows * size:
                file.truncate(rows * size)
            file.seek(rows * size)

    def append(self, vectors: NDArray[np.float32], records: NDArray[Any]) -> None:
        """Write vectors (m, dim) and records (m,) of `ROW`, and wait until they are on disk."""
        for file, block in zip(self._files, (vectors.astype(DTYPE), records.astype(ROW)), strict=True):
            file.write(np.ascontiguousarray(block).data.cast("B") if block.size else b"")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def map_vectors(path: Path, rows: int, dim: int) -> NDArray[np.float32]:
    """The committed vectors, (rows, dim), mapped read-only; FormatError where they are not all there."""
    return _mapped(path, DTYPE, (rows, dim))


def map_rows(path: Path, rows: int) -> NDArray[Any]:
    """The committed records, (rows,) of `ROW`, mapped read-only; FormatError where they are not all there."""
    return _mapped(path, ROW, (rows,))


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    wanted = dtype.itemsize * int(np.prod(shape))
    if not wanted:
        return np.empty(shape, dtype)
    try:
        size = path.stat().st_size
        if size < wanted:
            raise FormatError(
                f"the file has {size:,} bytes, the index tells of {wanted:,}",
                "it was cut short",
                "copy the index again, or build it again",
                place=path,
            )
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)
    except OSError as error:
        raise FormatError("the vectors cannot be read", error.strerror or str(error), place=path) from error


def row_checksum(vectors: NDArray[np.float32], records: NDArray[Any]) -> int:
    """CRC-32 of vectors and their records as they stand in the files."""
    first = isal_zlib.crc32(
        np.ascontiguousarray(vectors, dtype=DTYPE).data.cast("B") if vectors.size else b""
    )
    return isal_zlib.crc32(np.ascontiguousarray(records).view(np.uint8).data if records.size else b"", first)
