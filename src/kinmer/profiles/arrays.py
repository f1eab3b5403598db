"""Zarr arrays as AnnData writes them, and arrays that grow by rows. Every chunk ends in its CRC-32C."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from kinmer.errors import FormatError
from kinmer.files import read_json, remove, write_json
from kinmer.profiles.checksums import NodeSums, chunk_sums, document_sum, rows_sum

__all__ = ["COLUMN_ROWS", "TEXT", "RowArray", "create_rows", "restore_document", "sync_files", "write_array"]

TEXT = np.dtypes.StringDType()
# One flush writes the last chunk of every column again, so column chunks stay small; 65,536 rows are 512 kB.
COLUMN_ROWS = 1 << 16
Codec = Literal["profiles", "columns", "none"]

# Integer counts: bit shuffling gathers the zero bits of small counts; lz4 then writes 1.5 times the rows a
# second of zstd at about the same size.
# The checksum comes last, over what lies on disk: damage is noticed before anything is unpacked.
_COMPRESSORS: dict[str, Any] = {
    "profiles": [BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle", typesize=4), Crc32cCodec()],
    "columns": [ZstdCodec(level=3), Crc32cCodec()],
    "none": [Crc32cCodec()],
}
# A chunk that holds only zeros is written too: a missing chunk file always means damage.
_CONFIG: Any = {"write_empty_chunks": True}


def create_rows(
    folder: Path,
    *,
    dtype: Any,
    chunk_rows: int = COLUMN_ROWS,
    width: int | None = None,
    codec: Codec = "columns",
) -> RowArray:
    """An empty array of rows (of `width` numbers where given) in `folder`, which must not hold one yet."""
    shape: tuple[int, ...] = (0,) if width is None else (0, width)
    chunks: tuple[int, ...] = (chunk_rows,) if width is None else (chunk_rows, width)
    text = np.dtype(dtype) == TEXT
    zarr.create_array(
        str(folder),
        shape=shape,
        chunks=chunks,
        dtype=np.dtype(dtype),
        compressors=_COMPRESSORS[codec],
        attributes={"encoding-type": "string-array" if text else "array", "encoding-version": "0.2.0"},
        zarr_format=3,
        config=_CONFIG,
        overwrite=True,
    )
    return RowArray(folder, 0)


class RowArray:
    """An array in `folder` that grows by rows; the rows of the last, partly filled chunk are kept in memory.

    Full chunks go to disk as soon as they are full, the rest with `flush`. Opening one at fewer `rows` than
    it holds drops the rows behind. Memory: one chunk.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self._array = zarr.open_array(str(folder), mode="r+").with_config(_CONFIG)
        self.chunk_rows = int(self._array.chunks[0])
        self._touched: set[int] = set()
        self._tail = np.zeros(self._array.chunks, dtype=self._array.dtype)
        self._drop_behind()
        filled = rows % self.chunk_rows
        if filled:
            self._tail[:filled] = self._array[rows - filled : rows]

    def append(self, block: NDArray[Any]) -> None:
        """Add the rows of `block`."""
        block = np.asarray(block, dtype=self._array.dtype)
        done = 0
        while done < len(block):
            filled = self.rows % self.chunk_rows
            left = len(block) - done
            if filled == 0 and left >= self.chunk_rows:
                whole = left - left % self.chunk_rows
                self._write(self.rows, block[done : done + whole])
                self.rows, done = self.rows + whole, done + whole
                continue
            taken = min(left, self.chunk_rows - filled)
            self._tail[filled : filled + taken] = block[done : done + taken]
            if filled + taken == self.chunk_rows:
                # Before the rows count as done: interrupted here, a flush still writes those before them.
                self._write(self.rows - filled, self._tail)
            self.rows, done = self.rows + taken, done + taken

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The rows start … stop, those not yet written among them."""
        edge = self.rows - self.rows % self.chunk_rows
        written = self._array[start : min(stop, edge)] if start < edge else self._tail[:0]
        tail = self._tail[max(start - edge, 0) : max(stop - edge, 0)]
        return np.concatenate([np.asarray(written), tail])

    def flush(self) -> None:
        """Write the last, partly filled chunk; its unused rows are zero, which take no room."""
        filled = self.rows % self.chunk_rows
        if filled:
            self._tail[filled:] = np.zeros(1, dtype=self._tail.dtype)[0]
            self._write(self.rows - filled, self._tail)

    def finish(self) -> None:
        """Flush, and set the array's shape to its rows."""
        self.flush()
        self._array.resize((self.rows, *self._array.shape[1:]))

    def sums(self, kept: NodeSums | None = None, rows: int = 0) -> NodeSums:
        """Checksums of the finished array.

        kept, rows : those of the first `rows` rows, which readers see: their full chunks have not been
        written since, and are not taken on trust from the disk.
        """
        document = read_json(self.folder / "zarr.json")
        full, filled = divmod(self.rows, self.chunk_rows)
        known = "" if kept is None else kept.chunks[: 8 * (rows // self.chunk_rows)]
        chunks = known + chunk_sums(self.folder, document, first=len(known) // 8, stop=full)
        return NodeSums(document_sum(document), chunks, rows_sum(self._tail[:filled]) if filled else "")

    def touched(self) -> list[Path]:
        """Files written since the last call."""
        inner = "/".join("0" for _ in self._array.shape[1:])
        files = [self.folder / "c" / str(chunk) / inner for chunk in sorted(self._touched)]
        self._touched.clear()
        return [*files, self.folder / "zarr.json"] if files else []

    def _drop_behind(self) -> None:
        """Remove what a killed run has left behind the rows: whole chunks, and files that zarr had begun."""
        chunks = -(-self.rows // self.chunk_rows)
        folder = self.folder / "c"
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            chunk = int(entry.name.partition(".")[0])
            if chunk >= chunks or entry.suffix == ".partial":
                remove(entry)
            elif chunk == chunks - 1 and entry.is_dir():
                for begun in entry.glob("*.partial"):
                    begun.unlink()
        # While rows come the shape on disk is whole chunks: a chunk is then written without being read.
        self._array.resize((chunks * self.chunk_rows, *self._array.shape[1:]))

    def _write(self, start: int, rows: NDArray[Any]) -> None:
        stop = start + len(rows)
        if stop > self._array.shape[0]:
            self._array.resize((stop, *self._array.shape[1:]))
        self._array[start:stop] = rows
        self._touched.update(range(start // self.chunk_rows, stop // self.chunk_rows))


def sync_files(files: Iterable[Path]) -> None:
    """Make written files durable, several at a time: the file system then commits them together."""

    def sync(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(sync, files))


def write_array(folder: Path, values: Any) -> None:
    """A whole scalar or 1-D array of numbers or text in `folder`, encoded as AnnData does."""
    data = np.asarray(values)
    if data.dtype.kind in "OUT":
        data = data.astype(TEXT)
    text = data.dtype == TEXT
    encoding = ("string-array" if text else "array") if data.ndim else "string" if text else "numeric-scalar"
    array = zarr.create_array(
        str(folder),
        shape=data.shape,
        chunks=tuple(max(1, min(COLUMN_ROWS, size)) for size in data.shape),
        dtype=data.dtype,
        compressors=_COMPRESSORS["columns"],
        attributes={"encoding-type": encoding, "encoding-version": "0.2.0"},
        zarr_format=3,
        config=_CONFIG,
        overwrite=True,
    )
    array[...] = data


def restore_document(folder: Path, document: Mapping[str, Any]) -> None:
    """Write the metadata of the array in `folder` again where they are not `document`."""
    try:
        same = document_sum(read_json(folder / "zarr.json")) == document_sum(document)
    except FormatError:
        same = False
    if not same:
        write_json(folder / "zarr.json", document)
