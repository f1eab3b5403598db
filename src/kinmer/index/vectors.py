"""The vectors of an index: raw little-endian float32 rows in one file, row = label, which only grows."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError

__all__ = ["VectorFile", "map_vectors", "row_checksum"]

DTYPE = np.dtype("<f4")


class VectorFile:
    """Appends rows behind the committed ones; what a killed run left behind those is cut off at birth.

    `append` returns when the rows are on disk: whoever tells of them (the table of entries) does so after.
    """

    def __init__(self, path: Path, dim: int, rows: int) -> None:
        self._row_bytes = DTYPE.itemsize * dim
        self._file = path.open("r+b" if path.exists() else "w+b")
        if os.fstat(self._file.fileno()).st_size < rows * self._row_bytes:
            self._file.close()
            raise FormatError(f"the file holds fewer than {rows} vectors", "it was cut short", place=path)
        self._file.truncate(rows * self._row_bytes)
        self._file.seek(rows * self._row_bytes)

    def append(self, vectors: NDArray[np.float32]) -> None:
        """Write rows (m, dim) and wait until they are on disk."""
        self._file.write(np.ascontiguousarray(vectors, dtype=DTYPE).data)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def map_vectors(path: Path, rows: int, dim: int) -> NDArray[np.float32]:
    """The committed rows, (rows, dim), mapped read-only; FormatError where they are not all there."""
    try:
        size = path.stat().st_size
        if size < rows * dim * DTYPE.itemsize:
            raise FormatError(
                f"the file holds {size // (dim * DTYPE.itemsize)} vectors, the index has {rows} entries",
                "it was cut short",
                "copy the index again, or build it again",
                place=path,
            )
        return np.memmap(path, dtype=DTYPE, mode="r", shape=(rows, dim))
    except OSError as error:
        raise FormatError("the vectors cannot be read", error.strerror or str(error), place=path) from error


def row_checksum(vectors: NDArray[np.float32]) -> int:
    """CRC-32 of rows as they stand in the file."""
    return zlib.crc32(np.ascontiguousarray(vectors, dtype=DTYPE).data)
